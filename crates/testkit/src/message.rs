//! HTTP/1 messages as bytes, read leniently: what a peer really sent, not what it should have.

use std::io::{self, Read};

/// How the body of a message is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    None,
    Length(u64),
    Chunked,
    Close,
}

/// The value of the first field of that name in a head.
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|b| *b == b'\n').skip(1).find_map(|line| {
        let line = std::str::from_utf8(line).ok()?.trim_end_matches('\r');
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// How the body after this head ends; `otherwise` where the head does not say.
pub(crate) fn body_end(head: &[u8], otherwise: BodyEnd) -> BodyEnd {
    if field(head, "transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return BodyEnd::Chunked;
    }
    match field(head, "content-length").map(str::parse) {
        Some(Ok(length)) => BodyEnd::Length(length),
        _ => otherwise,
    }
}

/// A stream with what was read of it too early.
pub(crate) struct Buffered<S> {
    pub(crate) stream: S,
    ahead: Vec<u8>,
}

impl<S: Read> Buffered<S> {
    pub(crate) fn new(stream: S) -> Self {
        Buffered { stream, ahead: Vec::new() }
    }

    /// Reads more into the buffer; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut block = [0; 64 * 1024];
        let count = self.stream.read(&mut block)?;
        self.ahead.extend_from_slice(&block[..count]);
        Ok(count > 0)
    }

    /// Up to and including `mark`; `None` when the stream ends first, in which case what there was stays.
    pub(crate) fn until(&mut self, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.ahead.windows(mark.len()).position(|window| window == mark) {
                let rest = self.ahead.split_off(at + mark.len());
                return Ok(Some(std::mem::replace(&mut self.ahead, rest)));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Hands `length` bytes to `sink`; whether the stream held so many.
    fn exactly(&mut self, mut length: u64, sink: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        while length > 0 {
            if self.ahead.is_empty() && !self.fill()? {
                return Ok(false);
            }
            let now = usize::try_from(length).map_or(self.ahead.len(), |length| length.min(self.ahead.len()));
            sink(&self.ahead[..now]);
            self.ahead.drain(..now);
            length -= now as u64;
        }
        Ok(true)
    }

    /// Hands a body to `sink` as it comes, its chunked coding removed; whether it was whole.
    pub(crate) fn body(&mut self, end: BodyEnd, sink: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        match end {
            BodyEnd::None => Ok(true),
            BodyEnd::Length(length) => self.exactly(length, sink),
            BodyEnd::Close => loop {
                sink(&std::mem::take(&mut self.ahead));
                if !self.fill()? {
                    return Ok(true);
                }
            },
            BodyEnd::Chunked => self.chunks(sink),
        }
    }

    fn chunks(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        loop {
            let Some(line) = self.until(b"\r\n")? else { return Ok(false) };
            let text = String::from_utf8_lossy(&line);
            let size = text.trim_end().split(';').next().unwrap_or_default();
            let Ok(size) = u64::from_str_radix(size, 16) else { return Ok(false) };
            if size == 0 {
                return self.trailers();
            }
            if !self.exactly(size, sink)? || self.until(b"\r\n")?.is_none() {
                return Ok(false);
            }
        }
    }

    fn trailers(&mut self) -> io::Result<bool> {
        while let Some(line) = self.until(b"\r\n")? {
            if line == b"\r\n" {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All that comes until the stream ends.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut all = std::mem::take(&mut self.ahead);
        self.stream.read_to_end(&mut all)?;
        Ok(all)
    }

    /// What was read and not taken yet.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }
}

/// `Sec-WebSocket-Accept` of a handshake with this key (RFC 6455 §4.2.2).
pub(crate) fn websocket_accept(key: &str) -> String {
    use base64::Engine as _;
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn sha256(data: &[u8]) -> String {
    let mut digest = crate::Digest::default();
    digest.update(data);
    digest.finish()
}
