//! A client that speaks HTTP/2 frame by frame, so that it can break every rule of it.

use crate::RawClient;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const DEFAULT_WINDOW: i64 = 65_535;
/// The largest frame that may be sent unasked.
const MAX_FRAME: usize = 16_384;

/// A frame as it came in.
#[derive(Clone, Debug)]
pub struct H2Frame {
    /// Its type (RFC 9113 §6).
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// What a stream has brought.
#[derive(Clone, Debug, Default)]
pub struct H2Stream {
    /// `:status`, once there is one.
    pub status: Option<u16>,
    /// The body so far.
    pub body: Vec<u8>,
    /// Whether the answer came to its end.
    pub ended: bool,
    /// The error code with which it was reset.
    pub reset: Option<u32>,
}

/// One HTTP/2 connection. Answers' fields other than `:status` are not read.
///
/// ```
/// use portcullis_testkit::{H2Client, H2Origin, RawClient};
///
/// let origin = H2Origin::start(None, |_| http::Response::new(bytes::Bytes::from("hi")));
/// let mut client = H2Client::start(RawClient::connect(origin.address()).unwrap()).unwrap();
/// let answer = client.get("a.test", "/x").unwrap();
/// assert_eq!((answer.status, answer.body.as_slice(), answer.ended), (Some(200), &b"hi"[..], true));
/// ```
pub struct H2Client {
    raw: RawClient,
    streams: HashMap<u32, H2Stream>,
    next: u32,
    connection_window: i64,
    initial_window: i64,
    windows: HashMap<u32, i64>,
    /// Whether windows are opened again as data comes in.
    pub reads: bool,
    /// Whether pings are answered.
    pub pongs: bool,
    /// Whether the server's settings have come.
    pub settled: bool,
    /// The last stream that the server will serve, once it said so (GOAWAY), and the error code.
    pub goaway: Option<(u32, u32)>,
}

impl H2Client {
    /// Opens HTTP/2 with windows as the protocol has them.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn start(mut raw: RawClient) -> io::Result<Self> {
        raw.send(PREFACE)?;
        Self::resume(raw)
    }

    /// As [`H2Client::start`], where the preface has been sent already.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn resume(raw: RawClient) -> io::Result<Self> {
        let mut client = Self::bare(raw);
        // HEADER_TABLE_SIZE 0: what a status is must not depend on the answer before it.
        client.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])?;
        Ok(client)
    }

    /// A client that has said nothing yet.
    #[must_use]
    pub fn bare(raw: RawClient) -> Self {
        H2Client {
            raw,
            streams: HashMap::new(),
            next: 1,
            connection_window: DEFAULT_WINDOW,
            initial_window: DEFAULT_WINDOW,
            windows: HashMap::new(),
            reads: true,
            pongs: true,
            settled: false,
            goaway: None,
        }
    }

    /// Sends a frame, whatever it says.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.raw.send(bytes)
    }

    /// Sends bytes, frames or not.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw.send(bytes)
    }

    /// Whether something has come, or comes within that time; also when it is the connection's end. In clear.
    #[must_use]
    pub fn hears(&self, within: Duration) -> bool {
        self.raw.hears(within)
    }

    /// The streams that brought anything so far.
    #[must_use]
    pub fn seen(&self) -> Vec<u32> {
        let mut streams: Vec<u32> = self.streams.keys().copied().collect();
        streams.sort_unstable();
        streams
    }

    /// The next stream to be opened; none below it may be any more.
    pub fn skip_to(&mut self, stream: u32) {
        self.next = self.next.max(stream);
    }

    /// Opens a stream with exactly these fields, pseudo fields among them; its number.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn open(&mut self, fields: &[(&str, &str)], end: bool) -> io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        let block = header_block(fields);
        let end_headers = 4;
        self.frame(HEADERS, end_headers | (u8::from(end) * END_STREAM), stream, &block)?;
        self.windows.insert(stream, self.initial_window);
        Ok(stream)
    }

    /// Opens a stream with a well-formed head.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn request(
        &mut self,
        method: &str,
        authority: &str,
        path: &str,
        fields: &[(&str, &str)],
        end: bool,
    ) -> io::Result<u32> {
        let mut all = vec![
            (":method", method),
            (":scheme", self.raw.scheme),
            (":authority", authority),
            (":path", path),
        ];
        all.extend_from_slice(fields);
        self.open(&all, end)
    }

    /// One GET, its answer whole.
    ///
    /// # Errors
    /// When the connection is gone before the answer has ended.
    pub fn get(&mut self, authority: &str, path: &str) -> io::Result<H2Stream> {
        let stream = self.request("GET", authority, path, &[], true)?;
        self.answer(stream)
    }

    /// Sends a piece of a body, as fast as the server's windows allow.
    ///
    /// # Errors
    /// When the connection is gone, or the server has reset the stream or ended its answer without taking more.
    pub fn data(&mut self, stream: u32, mut bytes: &[u8], end: bool) -> io::Result<()> {
        loop {
            let room = self.window(stream).min(self.connection_window);
            let now = usize::try_from(room).unwrap_or(0).min(MAX_FRAME).min(bytes.len());
            let (piece, rest) = bytes.split_at(now);
            if now == 0 && !bytes.is_empty() {
                let seen = self.stream(stream);
                if seen.reset.is_some() || seen.ended {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                self.next_frame()?;
                continue;
            }
            bytes = rest;
            let last = bytes.is_empty();
            self.frame(DATA, u8::from(end && last) * END_STREAM, stream, piece)?;
            self.connection_window -= now as i64;
            *self.windows.entry(stream).or_insert(self.initial_window) -= now as i64;
            if last {
                return Ok(());
            }
        }
    }

    /// Bytes that may be sent on a stream now.
    #[must_use]
    pub fn window(&self, stream: u32) -> i64 {
        self.windows.get(&stream).copied().unwrap_or(self.initial_window)
    }

    /// Resets a stream with CANCEL.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn reset(&mut self, stream: u32) -> io::Result<()> {
        self.frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())
    }

    /// What a stream has brought so far.
    #[must_use]
    pub fn stream(&self, stream: u32) -> H2Stream {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Reads until `done` says so of a stream.
    ///
    /// # Errors
    /// When the connection is gone first.
    pub fn until(&mut self, stream: u32, done: impl Fn(&H2Stream) -> bool) -> io::Result<H2Stream> {
        loop {
            if let Some(state) = self.streams.get(&stream).filter(|state| done(state)) {
                return Ok(state.clone());
            }
            self.next_frame()?;
        }
    }

    /// Reads a stream to its end or reset.
    ///
    /// # Errors
    /// When the connection is gone first.
    pub fn answer(&mut self, stream: u32) -> io::Result<H2Stream> {
        self.until(stream, |state| state.ended || state.reset.is_some())
    }

    /// Reads a stream to its end or reset and hands its body on, so that it need not be kept.
    ///
    /// # Errors
    /// When the connection is gone first.
    pub fn drain(&mut self, stream: u32, mut sink: impl FnMut(&[u8])) -> io::Result<H2Stream> {
        loop {
            if let Some(state) = self.streams.get_mut(&stream) {
                sink(&std::mem::take(&mut state.body));
                if state.ended || state.reset.is_some() {
                    return Ok(state.clone());
                }
            }
            self.next_frame()?;
        }
    }

    /// Whether the server closes the connection without another answer; waits for half a minute.
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.next_frame() {
                Ok(_) => {}
                Err(error) => {
                    return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                }
            }
        }
    }

    /// Reads the next frame, notes what it says and answers what must be answered.
    ///
    /// # Errors
    /// When the connection ends ([`io::ErrorKind::UnexpectedEof`]) or nothing comes for half a minute.
    pub fn next_frame(&mut self) -> io::Result<H2Frame> {
        let head = self.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.exactly(u64::from(length))?;
        let frame = H2Frame { kind: head[3], flags: head[4], stream, payload };
        self.note(&frame);
        Ok(frame)
    }

    fn exactly(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.raw.take(length, |data| bytes.extend_from_slice(data))? {
            Ok(bytes)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Answers a frame. What the server sent before it closed can be read on, and then shows that it did.
    fn reply(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let _ = self.frame(kind, flags, stream, payload);
    }

    fn note(&mut self, frame: &H2Frame) {
        let number = |at: usize| {
            let bytes = frame.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_be_bytes(bytes.unwrap_or_default())
        };
        match frame.kind {
            DATA => {
                let state = self.streams.entry(frame.stream).or_default();
                state.body.extend_from_slice(&frame.payload);
                state.ended |= frame.flags & END_STREAM != 0;
                if self.reads && !frame.payload.is_empty() {
                    let more = u32::try_from(frame.payload.len()).unwrap_or_default().to_be_bytes();
                    self.reply(WINDOW_UPDATE, 0, 0, &more);
                    self.reply(WINDOW_UPDATE, 0, frame.stream, &more);
                }
            }
            HEADERS => {
                let state = self.streams.entry(frame.stream).or_default();
                state.status = state.status.or_else(|| status(&frame.payload));
                state.ended |= frame.flags & END_STREAM != 0;
            }
            RST_STREAM => self.streams.entry(frame.stream).or_default().reset = Some(number(0)),
            SETTINGS if frame.flags & ACK == 0 => {
                for setting in frame.payload.chunks_exact(6).filter(|setting| setting[..2] == [0, 4]) {
                    let window = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                    let change = i64::from(window) - self.initial_window;
                    self.initial_window = i64::from(window);
                    self.windows.values_mut().for_each(|window| *window += change);
                }
                self.settled = true;
                self.reply(SETTINGS, ACK, 0, &[]);
            }
            PING if frame.flags & ACK == 0 && self.pongs => self.reply(PING, ACK, 0, &frame.payload),
            GOAWAY => self.goaway = Some((number(0) & 0x7fff_ffff, number(4))),
            WINDOW_UPDATE if frame.stream == 0 => self.connection_window += i64::from(number(0)),
            WINDOW_UPDATE => {
                *self.windows.entry(frame.stream).or_insert(self.initial_window) += i64::from(number(0));
            }
            _ => {}
        }
    }
}

/// The fields as HPACK literals without indexing (RFC 7541 §6.2.2): any bytes can be said so.
fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A length with a prefix of seven bits (RFC 7541 §5.1).
pub(crate) fn integer(mut value: usize, block: &mut Vec<u8>) {
    if value < 127 {
        block.push(value as u8);
        return;
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push((value % 128) as u8 | 128);
        value /= 128;
    }
    block.push(value as u8);
}

/// `:status`, which stands first: indexed, or a literal of digits, perhaps in the Huffman code.
fn status(block: &[u8]) -> Option<u16> {
    // Behind a change of the table's size, if there is one.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    let (first, rest) = block[start..].split_first()?;
    if first & 0x80 != 0 {
        let indexed = [200, 204, 206, 304, 400, 404, 500];
        return indexed.get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    let (length, text) = rest.split_first()?;
    let text = text.get(..usize::from(length & 0x7f))?;
    let digits: String = if length & 0x80 == 0 {
        text.iter().copied().map(char::from).collect()
    } else {
        huffman_digits(text)
    };
    digits.parse().ok()
}

/// Three digits in the Huffman code (RFC 7541 appendix B): 0 to 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let value = |bits: &[u8]| bits.iter().fold(0u8, |value, bit| value << 1 | bit);
    let mut digits = String::new();
    let mut at = 0;
    while digits.len() < 3 && at + 5 <= bits.len() {
        let short = value(&bits[at..at + 5]);
        if short <= 2 {
            digits.push(char::from(b'0' + short));
            at += 5;
        } else if at + 6 <= bits.len() {
            digits.push(char::from(b'3' + value(&bits[at..at + 6]).saturating_sub(0b01_1001)));
            at += 6;
        } else {
            break;
        }
    }
    digits
}
