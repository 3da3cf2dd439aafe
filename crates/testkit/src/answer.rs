//! What an [`crate::Origin`] answers: a list of steps.

use crate::{Gate, Received};
use std::time::Duration;

/// One thing a scripted backend does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes as they are.
    Bytes(Vec<u8>),
    /// Sends so many bytes of [`pattern`].
    Pattern(u64),
    /// Does nothing for a while.
    Wait(Duration),
    /// Does nothing until the test opens the gate.
    Until(Gate),
    /// Holds the connection without a word until the other side closes it.
    Hang,
    /// Closes the connection with FIN.
    Close,
    /// Closes the connection with RST.
    Reset,
}

/// What a scripted backend does with one request. Unless a step ends the connection, it waits for the next
/// request on it.
///
/// ```
/// use portcullis_testkit::{Answer, Origin, get};
///
/// let origin = Origin::answering(Answer::status(201).header("x-a", "b").body("made"));
/// let response = get(origin.address(), "/x");
/// assert_eq!((response.status(), response.body.as_slice()), (201, &b"made"[..]));
/// assert_eq!(response.header("X-A"), Some("b"));
/// assert_eq!(origin.requests()[0].target(), "/x");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub(crate) steps: Vec<Step>,
}

impl Answer {
    /// Exactly these steps.
    #[must_use]
    pub fn steps(steps: impl IntoIterator<Item = Step>) -> Self {
        Answer { steps: steps.into_iter().collect() }
    }

    /// These bytes, whatever they are.
    #[must_use]
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::steps([Step::Bytes(bytes.as_ref().to_vec())])
    }

    /// A well-formed answer with that status; see [`Head`] for what can be added.
    #[must_use]
    pub fn status(status: u16) -> Head {
        Head { text: format!("HTTP/1.1 {status} Scripted\r\n") }
    }

    /// 200 with this text.
    #[must_use]
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200).header("content-type", "text/plain").body(body)
    }

    /// 200 with this JSON.
    #[must_use]
    pub fn json(body: impl AsRef<[u8]>) -> Self {
        Self::status(200).header("content-type", "application/json").body(body)
    }

    /// 200 with the request's body, and its head as base for assertions in `x-echo-target`.
    #[must_use]
    pub fn echo(request: &Received) -> Self {
        Self::status(200)
            .header("content-type", "application/octet-stream")
            .header("x-echo-target", request.target())
            .body(&request.body)
    }

    /// 200 with `length` bytes of [`pattern`].
    #[must_use]
    pub fn pattern(length: u64) -> Self {
        let head = Self::status(200).header("content-length", &length.to_string()).end();
        Self::steps([Step::Bytes(head), Step::Pattern(length)])
    }

    /// Holds the connection without a word.
    #[must_use]
    pub fn hang() -> Self {
        Self::steps([Step::Hang])
    }

    /// Closes the connection without a word.
    #[must_use]
    pub fn close() -> Self {
        Self::steps([Step::Close])
    }

    /// Resets the connection without a word.
    #[must_use]
    pub fn reset() -> Self {
        Self::steps([Step::Reset])
    }

    /// These steps after all others.
    #[must_use]
    pub fn then(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// Waits before all other steps.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.steps.insert(0, Step::Wait(delay));
        self
    }

    /// The same bytes one by one with a pause between them.
    #[must_use]
    pub fn dripping(self, gap: Duration) -> Self {
        let drip = |step| match step {
            Step::Bytes(bytes) => {
                bytes.into_iter().flat_map(|byte| [Step::Bytes(vec![byte]), Step::Wait(gap)]).collect()
            }
            other => vec![other],
        };
        Self::steps(self.steps.into_iter().flat_map(drip))
    }
}

/// The head of a well-formed answer.
#[derive(Clone, Debug)]
pub struct Head {
    text: String,
}

impl Head {
    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.text.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The head as bytes.
    #[must_use]
    pub fn end(self) -> Vec<u8> {
        format!("{}\r\n", self.text).into_bytes()
    }

    /// With this body and its `Content-Length`.
    #[must_use]
    pub fn body(self, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let mut bytes = self.header("content-length", &body.len().to_string()).end();
        bytes.extend_from_slice(body);
        Answer::raw(bytes)
    }

    /// Promises `length` bytes of body, sends these, and closes.
    #[must_use]
    pub fn cut_short(self, length: u64, body: impl AsRef<[u8]>) -> Answer {
        let mut bytes = self.header("content-length", &length.to_string()).end();
        bytes.extend_from_slice(body.as_ref());
        Answer::steps([Step::Bytes(bytes), Step::Close])
    }

    /// In the chunked coding, with `between` before every chunk but the first.
    #[must_use]
    pub fn chunks(self, chunks: impl IntoIterator<Item = impl AsRef<[u8]>>, between: Option<Step>) -> Answer {
        let mut answer = Answer::raw(self.header("transfer-encoding", "chunked").end());
        for (index, part) in chunks.into_iter().enumerate() {
            answer.steps.extend(between.clone().filter(|_| index > 0));
            answer.steps.push(Step::Bytes(chunk(part.as_ref())));
        }
        answer.steps.push(Step::Bytes(chunk(b"")));
        answer
    }

    /// Server-sent events, each in a chunk of its own, with `between` before every one but the first.
    #[must_use]
    pub fn events(self, events: &[&str], between: Option<Step>) -> Answer {
        let events = events.iter().map(|event| format!("data: {event}\n\n"));
        self.header("content-type", "text/event-stream").chunks(events, between)
    }
}

/// One chunk of the chunked coding; of nothing, the last one.
#[must_use]
pub fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Length of the block that [`pattern`] repeats: prime, so that nothing that is lost or sent twice in blocks
/// of a usual size goes unseen.
const PERIOD: usize = 65_521;

/// The block that large bodies repeat.
pub(crate) fn pattern_block() -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(PERIOD).collect()
}

/// Calls `send` with block after block of the pattern until `length` bytes are through or it says `false`.
pub fn pattern(length: u64, mut send: impl FnMut(&[u8]) -> bool) {
    let block = pattern_block();
    let mut left = length;
    while left > 0 {
        let now = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        if !send(&block[..now]) {
            return;
        }
        left -= now as u64;
    }
}

/// The SHA-256 of `length` bytes of [`pattern`], in hexadecimal.
#[must_use]
pub fn pattern_digest(length: u64) -> String {
    let mut digest = Digest::default();
    pattern(length, |block| {
        digest.update(block);
        true
    });
    digest.finish()
}

/// A running SHA-256.
pub struct Digest(aws_lc_rs::digest::Context);

impl Default for Digest {
    fn default() -> Self {
        Digest(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }
}

impl Digest {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest in hexadecimal.
    #[must_use]
    pub fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
