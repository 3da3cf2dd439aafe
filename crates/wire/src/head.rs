//! Strict readers of HTTP/1 heads (RFC 9112 §2 to §6), without IO.
//!
//! What two recipients could read in two ways is refused, not repaired: a bare LF or CR, folded lines, white space
//! around a field's name, a length given twice or in two ways, any transfer coding but `chunked`.

use crate::framing::Seen;
use portcullis_http::{
    Fields, Framing, Malformed, Method, Rejection, RequestHead, ResponseHead, Upgrade, UpstreamFailure,
    Version, is_token, is_value, leading_text, leading_token, leading_value,
};
use std::ops::Range;

/// Caps on a head.
#[derive(Clone, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, request line included.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

/// Bytes of a method; the longest that is registered has 17.
const MAX_METHOD: usize = 32;

impl Default for HeadLimits {
    /// 32 KiB, 100 fields, a target of 8 KiB.
    fn default() -> Self {
        HeadLimits { bytes: 32 * 1024, fields: 100, target: 8 * 1024 }
    }
}

/// What a response's head breaks; the upstream's connection must not be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadResponse;

impl From<BadResponse> for UpstreamFailure {
    fn from(_: BadResponse) -> Self {
        UpstreamFailure::Protocol
    }
}

/// Finds the end of one head in bytes that may come in any pieces, then reads it. Lines already found sound are not
/// scanned again.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Where the line begins whose end has not been seen.
    line: usize,
    /// Behind the request line, once that has been found sound.
    judged: usize,
}

impl HeadReader {
    /// Reads a request's head from the start of `bytes`; `None` while it is not whole. On success the number of
    /// bytes it took, and the reader is ready for the next one.
    ///
    /// # Errors
    /// The [`Rejection`] to answer with; the connection must be closed after any.
    pub fn request(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
        head: &mut RequestHead,
    ) -> Result<Option<usize>, Rejection> {
        if self.line == 0
            && let Some(end) = whole_request(bytes, limits, head)
        {
            return Ok(Some(end));
        }
        let end = match self.end_of_head(bytes, limits) {
            Ok(Some(end)) => end,
            unfinished => {
                self.judge_request_line(bytes, limits, head)?;
                unfinished.map_err(|_| Rejection::Malformed(Malformed::LineEnding))?;
                return if bytes.len() >= limits.bytes { Err(too_large(bytes, limits)) } else { Ok(None) };
            }
        };
        let text = bytes.get(..end).unwrap_or_default();
        *self = HeadReader::default();
        head.clear();
        let mut lines = Lines { text, at: 0 };
        request_line(lines.next().and_then(|line| text.get(line)).unwrap_or_default(), limits, head)?;
        request_fields(&mut lines, limits, head)?;
        Ok(Some(end))
    }

    /// Refuses a request line that is whole as soon as it is, and before what is wrong behind it: a sender of HTTP/0.9
    /// sends no more, and the verdict must not depend on how many bytes came at once.
    fn judge_request_line(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
        head: &mut RequestHead,
    ) -> Result<(), Rejection> {
        if self.line == 0 || self.judged > 0 {
            return Ok(());
        }
        let text = bytes.get(..self.line).unwrap_or_default();
        let line = Lines { text, at: 0 }.next().and_then(|line| text.get(line)).unwrap_or_default();
        head.clear();
        request_line(line, limits, head)?;
        self.judged = self.line;
        Ok(())
    }

    /// Reads a response's head likewise. `to_head` says that the request was HEAD, whose answers have no body.
    ///
    /// # Errors
    /// [`BadResponse`]: the upstream does not speak HTTP/1 as it should, or its head is over the caps.
    pub fn response(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
        to_head: bool,
        head: &mut ResponseHead,
    ) -> Result<Option<usize>, BadResponse> {
        if self.line == 0
            && let Some(end) = whole_response(bytes, limits, to_head, head)
        {
            return Ok(Some(end));
        }
        let Some(end) = self.end_of_head(bytes, limits)? else {
            return if bytes.len() >= limits.bytes { Err(BadResponse) } else { Ok(None) };
        };
        *self = HeadReader::default();
        let text = bytes.get(..end).unwrap_or_default();
        let mut lines = Lines { text, at: 0 };
        head.clear();
        status_line(lines.next().and_then(|line| text.get(line)).unwrap_or_default(), head)?;
        response_fields(&mut lines, limits, to_head, head)?;
        Ok(Some(end))
    }

    /// The index behind the empty line that ends the head. Fails at the first line that does not end in CRLF, so
    /// that a head of bare LFs is answered at once instead of never. What lies beyond the cap is not looked at: it may
    /// be there or not yet, and the answer must be the same.
    fn end_of_head(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, BadResponse> {
        let bytes = bytes.get(..limits.bytes).unwrap_or(bytes);
        loop {
            let rest = bytes.get(self.line..).unwrap_or_default();
            let Some(at) = memchr::memchr2(b'\n', 0, rest) else { return Ok(None) };
            let line = rest.get(..at).unwrap_or_default();
            if rest.get(at) == Some(&0) || line.last() != Some(&b'\r') {
                return Err(BadResponse);
            }
            if line.len() == 1 {
                // A head that begins with its end.
                if self.line == 0 {
                    return Err(BadResponse);
                }
                self.line += at + 1;
                return Ok(Some(self.line));
            }
            self.line += at + 1;
        }
    }
}

/// 414 where the request line alone is too long, else 431.
fn too_large(bytes: &[u8], limits: &HeadLimits) -> Rejection {
    let bytes = bytes.get(..limits.bytes).unwrap_or(bytes);
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    if line > limits.target { Rejection::TargetTooLong } else { Rejection::HeadTooLarge }
}

/// The lines of a head, each without its CRLF, up to the empty one that ends it or to one that is not whole or does not
/// end in CRLF.
struct Lines<'a> {
    text: &'a [u8],
    /// Behind the last line that was yielded, or behind the empty one.
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.text.get(self.at..)?;
        let length = memchr::memchr(b'\n', rest)?.checked_sub(1)?;
        if rest.get(length) != Some(&b'\r') {
            return None;
        }
        let start = self.at;
        self.at += length + 2;
        (length > 0).then_some(start..start + length)
    }
}

impl Lines<'_> {
    /// Whether the empty line was read.
    fn ended(&self) -> bool {
        let read = self.text.get(..self.at).unwrap_or_default();
        read.ends_with(b"\r\n\r\n")
    }
}

/// Reads a request's head that is whole and sound: what most are, in one pass. Of any other `None`; its verdict takes
/// [`HeadReader::request`], which reads by the same functions.
fn whole_request(bytes: &[u8], limits: &HeadLimits, head: &mut RequestHead) -> Option<usize> {
    let text = bytes.get(..limits.bytes).unwrap_or(bytes);
    let mut lines = Lines { text, at: 0 };
    head.clear();
    request_line(text.get(lines.next()?)?, limits, head).ok()?;
    request_fields(&mut lines, limits, head).ok()?;
    lines.ended().then_some(lines.at)
}

/// The same of a response.
fn whole_response(
    bytes: &[u8],
    limits: &HeadLimits,
    to_head: bool,
    head: &mut ResponseHead,
) -> Option<usize> {
    let text = bytes.get(..limits.bytes).unwrap_or(bytes);
    let mut lines = Lines { text, at: 0 };
    head.clear();
    status_line(text.get(lines.next()?)?, head).ok()?;
    response_fields(&mut lines, limits, to_head, head).ok()?;
    lines.ended().then_some(lines.at)
}

/// Reads the field lines of a request, and what follows from them.
fn request_fields(
    lines: &mut Lines<'_>,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<(), Rejection> {
    let mut seen = Seen::default();
    fields(lines, &mut head.fields, |count, name, value| {
        if count == limits.fields {
            return Err(Rejection::HeadTooLarge);
        }
        seen.note(name, value)
    })
    .map_err(|error| error.unwrap_or(Rejection::Malformed(Malformed::Field)))?;
    if seen.is_over_cookies() {
        return Err(Rejection::HeadTooLarge);
    }
    head.framing = seen.request_framing(head.version)?;
    head.accepts_trailers = seen.accepts_trailers() && head.version == Version::Http11;
    let may_switch =
        head.method == Method::Get && head.version == Version::Http11 && head.framing == Framing::None;
    head.upgrade = (seen.asks_for_websocket() && may_switch).then_some(Upgrade::WebSocket);
    Ok(())
}

/// The same of a response.
fn response_fields(
    lines: &mut Lines<'_>,
    limits: &HeadLimits,
    to_head: bool,
    head: &mut ResponseHead,
) -> Result<(), BadResponse> {
    let mut seen = Seen::default();
    fields(lines, &mut head.fields, |count, name, value| {
        if count == limits.fields {
            return Err(BadResponse);
        }
        seen.note(name, value).map_err(|_| BadResponse)
    })
    .map_err(|error| error.unwrap_or(BadResponse))?;
    head.framing = seen.response_framing(head, to_head)?;
    Ok(())
}

/// Reads field lines to the last. `judge` gets the number of fields before, the name and the value of each.
///
/// # Errors
/// What `judge` says; `None` for a line that is no field's.
fn fields<E>(
    lines: &mut Lines<'_>,
    fields: &mut Fields,
    mut judge: impl FnMut(usize, &[u8], &[u8]) -> Result<(), E>,
) -> Result<(), Option<E>> {
    let text = lines.text.get(lines.at..).unwrap_or_default();
    let mut block = fields.block(text);
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(b"\r\n") {
            at += 2;
            break;
        }
        let line = FieldLine::read(rest).ok_or(None)?;
        let part = |range: &Range<usize>| rest.get(range.clone()).unwrap_or_default();
        judge(block.len(), part(&(0..line.name)), part(&line.value)).map_err(Some)?;
        block.append(at..at + line.name, at + line.value.start..at + line.value.end, line.plain);
        at += line.length;
    }
    block.end(at);
    lines.at += at;
    Ok(())
}

/// What stands where in a field line.
struct FieldLine {
    /// Bytes of the name.
    name: usize,
    /// The name is of letters, digits and hyphens.
    plain: bool,
    value: Range<usize>,
    /// Bytes of the whole line.
    length: usize,
}

impl FieldLine {
    /// Reads the line that `text` begins with; `None` where RFC 9112 §5 does not allow it, or it is not whole.
    fn read(text: &[u8]) -> Option<Self> {
        let (name, plain) = leading_token(text);
        if name == 0 || text.get(name) != Some(&b':') {
            return None;
        }
        let value = text.get(name + 1..)?;
        let (value, end) = value.split_at_checked(leading_value(value))?;
        if end.first_chunk() != Some(b"\r\n") {
            return None;
        }
        let start = name + 1;
        let length = start + value.len() + 2;
        let is_blank = |b: &u8| matches!(*b, b' ' | b'\t');
        // As nearly all write it.
        if let [b' ', first, .., last] = value
            && !is_blank(first)
            && !is_blank(last)
        {
            return Some(FieldLine { name, plain, value: start + 1..start + value.len(), length });
        }
        let before = value.iter().take_while(|b| is_blank(b)).count();
        let behind = value.get(before..)?.iter().rev().take_while(|b| is_blank(b)).count();
        Some(FieldLine { name, plain, value: start + before..start + value.len() - behind, length })
    }
}

fn request_line(line: &[u8], limits: &HeadLimits, head: &mut RequestHead) -> Result<(), Rejection> {
    let malformed = Rejection::Malformed(Malformed::RequestLine);
    let part = |text| memchr::memchr(b' ', text).and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?)));
    let Some((method, rest)) = part(line) else { return Err(malformed) };
    let Some((target, version)) = part(rest) else { return Err(malformed) };
    // Methods are case-sensitive and all registered ones are upper case: `get` is a probe or a bug.
    let is_method = Method::from_bytes(method) != Method::Other
        || is_token(method) && method.len() <= MAX_METHOD && !method.iter().any(u8::is_ascii_lowercase);
    if !is_method || target.is_empty() {
        return Err(malformed);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Rejection::VersionNotSupported);
        }
        _ => return Err(malformed),
    };
    if target.len() > limits.target {
        return Err(Rejection::TargetTooLong);
    }
    // There is no space in it. What else may stand in a target is for its reader to say.
    if leading_text(target) != target.len() {
        return Err(malformed);
    }
    head.set_line(method, target, version);
    if matches!(head.method, Method::Connect | Method::Trace) || method == b"TRACK" {
        return Err(Rejection::MethodNotAllowed {
            allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned(),
        });
    }
    Ok(())
}

fn status_line(line: &[u8], head: &mut ResponseHead) -> Result<(), BadResponse> {
    let (version, rest) = line.split_first_chunk::<9>().ok_or(BadResponse)?;
    head.version = match version {
        b"HTTP/1.1 " => Version::Http11,
        b"HTTP/1.0 " => Version::Http10,
        _ => return Err(BadResponse),
    };
    let (digits, reason) = rest.split_first_chunk::<3>().ok_or(BadResponse)?;
    if !digits.iter().all(u8::is_ascii_digit)
        || !matches!(reason, [] | [b' ', ..])
        || !is_value(trim_ows(reason))
    {
        return Err(BadResponse);
    }
    head.status = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    if (100..=599).contains(&head.status) { Ok(()) } else { Err(BadResponse) }
}

/// The fields of a trailer section whose lines are whole; `None` where one is no field line.
#[must_use]
pub fn read_trailers(text: &[u8]) -> Option<Fields> {
    let mut trailers = Fields::default();
    let read = fields(&mut Lines { text, at: 0 }, &mut trailers, |_, _, _| Ok::<_, BadResponse>(()));
    read.is_ok().then_some(trailers)
}

/// Without the optional white space (space and tab) at both ends.
fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Option<usize>, u16> {
        HeadReader::default()
            .request(bytes, &HeadLimits::default(), &mut RequestHead::default())
            .map_err(|r| r.status())
    }

    fn with(lines: &str) -> Result<Option<usize>, u16> {
        read(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes())
    }

    #[test]
    fn accepts_what_is_sound() {
        for lines in [
            "",
            "Content-Length: 0\r\n",
            "Content-Length: 010\r\n",
            "Transfer-Encoding: Chunked\r\n",
            "X:\r\n",
            "X:  a b \t\r\n",
            "X: \u{e9}\r\n",
        ] {
            assert!(matches!(with(lines), Ok(Some(_))), "{lines:?}");
        }
        assert!(matches!(read(b"GET / HTTP/1.0\r\n\r\n"), Ok(Some(_))));
    }

    #[test]
    fn a1_to_a12_framing() {
        for (lines, status) in [
            ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", 400),
            ("Transfer-Encoding: xchunked\r\n", 501),
            ("Transfer-Encoding: \"chunked\"\r\n", 400),
            ("Transfer-Encoding: chunked;q=1\r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 400),
            ("Transfer-Encoding: ,chunked\r\n", 400),
            ("Transfer-Encoding: chunked,\r\n", 400),
            ("Transfer-Encoding: chunked, chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding:\r\n", 400),
            ("Transfer-Encoding: \x0bchunked\r\n", 400),
            ("Content-Length: +10\r\n", 400),
            ("Content-Length: -10\r\n", 400),
            ("Content-Length: 0xa\r\n", 400),
            ("Content-Length: 1_0\r\n", 400),
            ("Content-Length: 1 0\r\n", 400),
            ("Content-Length:\r\n", 400),
            ("Content-Length: 10,5\r\n", 400),
            ("Content-Length: 10, 10\r\n", 400),
            ("Content-Length: 10\r\nContent-Length: 10\r\n", 400),
            ("Content-Length: 10\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: 18446744073709551626\r\n", 400),
            ("Content-Length: 9223372036854775808\r\n", 400),
        ] {
            assert_eq!(with(lines), Err(status), "{lines:?}");
        }
        assert_eq!(read(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(400));
    }

    #[test]
    fn a15_to_a20_lines_and_fields() {
        for lines in [
            "X: a\rb\r\n",
            "X: a\nY: b\r\n",
            " X: a\r\n",
            "X: a\r\n b\r\n",
            "X : a\r\n",
            "X\r\n",
            ": a\r\n",
            "X Y: a\r\n",
            "X\u{e9}: a\r\n",
            "X: a\0b\r\n",
            "X: a\x01b\r\n",
            "X: a\x7f\r\n",
            "\tX: a\r\n",
        ] {
            assert_eq!(with(lines), Err(400), "{lines:?}");
        }
        assert_eq!(read(b"GET / HTTP/1.1\nHost: a\n\n"), Err(400));
        assert_eq!(read(b"GET / HTTP/1.1\n"), Err(400), "at the first line, not after the last");
    }

    #[test]
    fn a30_to_a38_request_line() {
        for (bytes, status) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
            (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
            (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /x y HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"G=T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            (b"PRI * HTTP/2.0\r\n\r\n", 505),
            (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /\r\n", 400),
            (b"GET / HTTP/2.0\r\nX: \0", 505),
        ] {
            assert_eq!(read(bytes), Err(status), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(read(format!("GET /{} HTTP/1.1", "a".repeat(9000)).as_bytes()), Ok(None));
        assert_eq!(
            read(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000)).as_bytes()),
            Err(414)
        );
        assert_eq!(read("x".repeat(40_000).as_bytes()), Err(414));
        assert_eq!(with(&format!("X: {}\r\n", "a".repeat(40_000))), Err(431));
        assert_eq!(with(&"X: a\r\n".repeat(100)), Err(431));
        assert!(matches!(with(&format!("Cookie: {}a=b\r\n", "a=b; ".repeat(499))), Ok(Some(_))));
        assert_eq!(with(&format!("Cookie: {}a=b\r\nCookie: c=d\r\n", "a=b; ".repeat(499))), Err(431));
    }

    #[test]
    fn c1_c3_c8_responses() {
        let read = |text: &str| {
            HeadReader::default().response(
                text.as_bytes(),
                &HeadLimits::default(),
                false,
                &mut ResponseHead::default(),
            )
        };
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 999 X\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nX: a\n\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            "HTTP/1.1 200OK\r\n\r\n",
            "HTTP/1.1 200 \rOK\r\n\r\n",
            "HTTP/1.1 200 OK\r\r\n\r\n",
            "garbage\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(read(text), Err(BadResponse), "{text:?}");
        }
        assert!(matches!(read("HTTP/1.1 200\r\n\r\n"), Ok(Some(_))));
        assert!(matches!(read("HTTP/1.1 204 No Content\r\n\r\n"), Ok(Some(_))));
    }

    proptest! {
        #[test]
        fn a40_any_split_gives_the_same_verdict(bytes in proptest::collection::vec(proptest::sample::select(&b"GET / HTTP/1.1\r\n\r\nHost: a:\n\x00 "[..]), 0..80)) {
            let mut bytes = bytes;
            bytes.splice(0..0, b"GET / HTTP/1.1\r\nHost: a\r\n".iter().copied());
            let limits = HeadLimits { bytes: 60, ..HeadLimits::default() };
            let mut head = RequestHead::default();
            let whole = HeadReader::default().request(&bytes, &limits, &mut head);
            let mut reader = HeadReader::default();
            let mut pieces = Ok(None);
            for end in 1..=bytes.len() {
                pieces = reader.request(&bytes[..end], &limits, &mut head);
                if !matches!(pieces, Ok(None)) { break; }
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = HeadReader::default().response(&bytes, &HeadLimits::default(), false, &mut ResponseHead::default());
        }
    }
}
