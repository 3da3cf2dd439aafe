//! HTTP/2 frames as text, for corpora of either side: the forms that `tests/data/http2/README.md` describes.

use crate::cases::{bytes, unescape};
use crate::h2client::{PREFACE, integer};

/// Error codes by name (RFC 9113 §7).
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// An error code's name; its number where it has none.
#[must_use]
pub fn code_name(code: u32) -> String {
    CODES.get(code as usize).map_or_else(|| code.to_string(), |name| (*name).to_owned())
}

/// One thing that a script does.
#[derive(Clone, Debug)]
pub enum FrameStep {
    /// Sends these bytes: frames, whole or not.
    Send(Vec<u8>),
    /// Any other line, for the corpus's own runner.
    Other(String),
}

/// Reads a script: lines of frames become the bytes that they stand for, neighbours in one piece.
///
/// # Panics
/// At a frame that is not said as it should be.
#[must_use]
pub fn frame_steps<'a>(lines: impl IntoIterator<Item = &'a str>, scheme: &str) -> Vec<FrameStep> {
    let mut steps: Vec<FrameStep> = Vec::new();
    let mut frame: Option<Frame> = None;
    let mut repeat = 1;
    for line in lines {
        if let Some(head) = line.strip_prefix("> ") {
            finish(frame.take(), &mut steps);
            frame = Some(Frame::read(head, std::mem::replace(&mut repeat, 1)));
        } else if let Some(count) = line.strip_prefix("repeat ") {
            finish(frame.take(), &mut steps);
            repeat = count.parse().unwrap_or_else(|_| panic!("no count: {line}"));
        } else if !frame.as_mut().is_some_and(|frame| frame.take(line, scheme)) {
            finish(frame.take(), &mut steps);
            steps.push(FrameStep::Other(line.to_owned()));
        }
    }
    finish(frame, &mut steps);
    steps
}

fn finish(frame: Option<Frame>, steps: &mut Vec<FrameStep>) {
    let Some(frame) = frame else { return };
    let bytes = frame.bytes();
    match steps.last_mut() {
        Some(FrameStep::Send(before)) => before.extend(bytes),
        _ => steps.push(FrameStep::Send(bytes)),
    }
}

struct Frame {
    /// `None` for bytes that are no frame.
    kind: Option<u8>,
    stream: u32,
    flags: u8,
    length: Option<u32>,
    payload: Vec<u8>,
    repeat: usize,
}

impl Frame {
    fn read(head: &str, repeat: usize) -> Self {
        let mut words = head.split_whitespace();
        let kind = words.next().unwrap_or_default();
        if kind == "RAW" || kind == "PREFACE" {
            let payload = if kind == "RAW" { Vec::new() } else { PREFACE.to_vec() };
            return Frame { kind: None, stream: 0, flags: 0, length: None, payload, repeat };
        }
        let kinds = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        let known = kinds.iter().position(|known| *known == kind);
        let kind = known.map_or_else(|| number(kind) as u8, |kind| kind as u8);
        let stream = number(words.next().unwrap_or("0"));
        let flag = |word: &str| match word {
            "ES" | "ACK" => 1,
            "EH" => 4,
            "PAD" => 8,
            "PRI" => 0x20,
            other => number(other) as u8,
        };
        let flags = words.map(flag).fold(0, |flags, flag| flags | flag);
        Frame { kind: Some(kind), stream, flags, length: None, payload: Vec::new(), repeat }
    }

    /// Takes a line of payload; false where it is none.
    fn take(&mut self, line: &str, scheme: &str) -> bool {
        if let Some(bytes) = bytes(line) {
            self.payload.extend(bytes);
        } else if let Some(length) = line.strip_prefix("length ") {
            self.length = Some(number(length));
        } else if let Some((method, path)) = line
            .split_once(' ')
            .filter(|(method, _)| ["get", "post", "head", "put", "delete", "options"].contains(method))
        {
            for (name, value) in [
                (":method", method.to_uppercase().as_str()),
                (":scheme", scheme),
                (":authority", "a.test"),
                (":path", path),
            ] {
                self.field(name, value, scheme);
            }
        } else if let Some((name, value)) = line.split_once(" =").filter(|_| !line.starts_with('=')) {
            self.field(name, value.strip_prefix(' ').unwrap_or(value), scheme);
        } else {
            return false;
        }
        true
    }

    fn field(&mut self, name: &str, value: &str, scheme: &str) {
        self.payload.push(0);
        for text in [name, &value.replace("{scheme}", scheme)] {
            let text = unescape(text);
            integer(text.len(), &mut self.payload);
            self.payload.extend(text);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(kind) = self.kind {
            let length = self.length.unwrap_or(self.payload.len() as u32).to_be_bytes();
            bytes.extend_from_slice(&length[1..]);
            bytes.extend_from_slice(&[kind, self.flags]);
            bytes.extend_from_slice(&self.stream.to_be_bytes());
        }
        bytes.extend_from_slice(&self.payload);
        bytes.repeat(self.repeat)
    }
}

fn number(word: &str) -> u32 {
    let number = match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    number.unwrap_or_else(|| panic!("no number: {word}"))
}
