//! What one side says, read before hyper reads it.
//!
//! A [`Filter`] finds the frames in a stream of bytes and hands on what hyper is to read. Frames of header blocks it holds
//! back until they are whole, and reads the block. A block that is malformed in a way that hyper does not see is made
//! malformed in one that it does. Whose side it is, and what that side may say, a [`Judge`] knows.

use super::frames::{
    COMPRESSION_ERROR, CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, Frames,
    HAS_PRIORITY, HEADERS, Head, MAX_PAYLOAD, PADDED, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, Piece,
    RST_STREAM,
};
use super::hpack::{Block, Decoder};
use bytes::BytesMut;

/// A header block in all its frames. hyper ends a connection for less; this bounds what is kept until it has.
const MAX_BLOCK: usize = 128 * 1024;
/// What makes any block malformed: a field of HTTP/1's connections (RFC 9113 §8.2.2), as a literal without indexing.
const MALFORMED: &[u8] = b"\x00\x0aconnection\x05close";

/// A header block that has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    pub(crate) stream: u32,
    /// Nothing follows it.
    pub(crate) ends: bool,
    /// How much there is of it, in the code.
    pub(crate) length: usize,
    /// What it says.
    pub(crate) block: Block,
}

/// What becomes of a header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is as hyper will see it.
    Pass,
    /// hyper must see this too: one field more, as a literal without indexing (RFC 7541 §6.2.2), so that the tables stay as
    /// they are.
    With(Vec<u8>),
    /// hyper must reset the stream.
    Malformed,
}

/// What one side may say. All errors are codes with which the connection ends.
pub(crate) trait Judge {
    /// Any frame's head.
    fn frame(&mut self, head: &Head) -> Result<(), u32>;
    /// The first frame of a header block.
    fn begins(&mut self, head: &Head) -> Result<(), u32>;
    /// A stream is reset; whether all of its message had come.
    fn resets(&mut self, stream: u32) -> bool;
    /// A header block.
    fn section(&mut self, section: &Section) -> Result<Verdict, u32>;
}

/// A header block of which more is to come.
#[derive(Debug)]
struct Open {
    stream: u32,
    ends: bool,
    /// It depends on itself (RFC 9113 §5.3.1).
    malformed: bool,
    block: Vec<u8>,
}

/// What one side says, as hyper is to read it.
#[derive(Debug)]
pub(crate) struct Filter<J> {
    pub(crate) judge: J,
    frames: Frames,
    /// The frame that is held back until it is whole.
    held: Option<(Head, Vec<u8>)>,
    open: Option<Open>,
    decoder: Decoder,
    /// What hyper is to read next.
    pub(crate) ready: BytesMut,
    /// The kind of frame that is read now.
    kind: u8,
}

impl<J: Judge> Filter<J> {
    /// Passes so many bytes over first.
    pub(crate) fn new(judge: J, preface: u64) -> Self {
        Filter {
            judge,
            frames: Frames::new(preface),
            held: None,
            open: None,
            decoder: Decoder::new(),
            ready: BytesMut::new(),
            kind: 0,
        }
    }

    /// Whether what has come so far ends with a whole frame, and no header block is begun.
    pub(crate) fn is_between(&self) -> bool {
        self.frames.is_between() && self.open.is_none()
    }

    /// The kind of frame of which a part is still to come; that of its first one for a header block.
    pub(crate) fn kind(&self) -> u8 {
        if self.open.is_some() { HEADERS } else { self.kind }
    }

    /// Takes what came in.
    ///
    /// # Errors
    /// The code with which the connection ends.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<(), u32> {
        while let Some(piece) = self.frames.next(&mut bytes) {
            match piece {
                Piece::Passed(payload) => match &mut self.held {
                    Some((_, held)) => held.extend_from_slice(payload),
                    None => self.ready.extend_from_slice(payload),
                },
                Piece::Head(head) => self.take_head(head)?,
            }
            if self.frames.is_whole()
                && let Some((head, payload)) = self.held.take()
            {
                self.take_held(head, payload)?;
            }
        }
        Ok(())
    }

    fn take_head(&mut self, head: Head) -> Result<(), u32> {
        self.judge.frame(&head)?;
        self.kind = head.kind;
        match head.kind {
            // Neither side takes any (RFC 9113 §8.4), and its block would have to be read.
            PUSH_PROMISE => return Err(PROTOCOL_ERROR),
            HEADERS | CONTINUATION | RST_STREAM if head.length > MAX_PAYLOAD => return Err(FRAME_SIZE_ERROR),
            HEADERS | CONTINUATION | RST_STREAM => {
                self.held = Some((head, Vec::with_capacity(head.length as usize)));
            }
            _ => self.emit(head, &[]),
        }
        Ok(())
    }

    fn take_held(&mut self, head: Head, payload: Vec<u8>) -> Result<(), u32> {
        if head.kind != RST_STREAM {
            return self.take_block(head, &payload);
        }
        // To hyper NO_ERROR is a body's proper end, also where there was none; CANCEL is none.
        const NO_ERROR: &[u8] = &[0, 0, 0, 0];
        const CANCEL: &[u8] = &[0, 0, 0, 8];
        let has_ended = self.judge.resets(head.stream);
        self.emit(head, if payload == NO_ERROR && !has_ended { CANCEL } else { &payload });
        Ok(())
    }

    pub(crate) fn emit(&mut self, head: Head, payload: &[u8]) {
        self.ready.extend_from_slice(&head.to_bytes());
        self.ready.extend_from_slice(payload);
    }

    fn take_block(&mut self, mut head: Head, payload: &[u8]) -> Result<(), u32> {
        let fragment = match (&mut self.open, head.kind) {
            (Some(open), CONTINUATION) if open.stream == head.stream => payload,
            (None, HEADERS) => {
                let (fragment, depends) = strip(&head, payload).ok_or(PROTOCOL_ERROR)?;
                self.judge.begins(&head)?;
                let (stream, ends) = (head.stream, head.flags & END_STREAM != 0);
                self.open = Some(Open { stream, ends, malformed: depends, block: Vec::new() });
                head.flags &= !(PADDED | HAS_PRIORITY);
                fragment
            }
            _ => return Err(PROTOCOL_ERROR),
        };
        let Some(open) = &mut self.open else { return Err(PROTOCOL_ERROR) };
        if open.block.len() + fragment.len() > MAX_BLOCK {
            return Err(ENHANCE_YOUR_CALM);
        }
        head.length = fragment.len() as u32;
        if head.flags & END_HEADERS == 0 {
            open.block.extend_from_slice(fragment);
            self.emit(head, fragment);
            return Ok(());
        }
        let Some(open) = self.open.take() else { return Err(PROTOCOL_ERROR) };
        let length = open.block.len() + fragment.len();
        let block = if open.block.is_empty() {
            self.decoder.read(fragment)
        } else {
            self.decoder.read(&[&open.block, fragment].concat())
        };
        let block = block.map_err(|_| COMPRESSION_ERROR)?;
        let section = Section { stream: open.stream, ends: open.ends, length, block };
        let verdict = self.judge.section(&section)?;
        let appendix = match verdict {
            _ if open.malformed => MALFORMED,
            Verdict::Malformed => MALFORMED,
            Verdict::Pass => &[],
            Verdict::With(ref literal) => literal,
        };
        self.emit_last(head, fragment, appendix);
        Ok(())
    }

    /// Hands on the last frame of a block with something appended to the block, in a frame of its own if need be.
    fn emit_last(&mut self, mut head: Head, fragment: &[u8], appendix: &[u8]) {
        let length = fragment.len() + appendix.len();
        if length <= MAX_PAYLOAD as usize {
            head.length = length as u32;
            self.emit(head, fragment);
            self.ready.extend_from_slice(appendix);
            return;
        }
        head.flags &= !END_HEADERS;
        self.emit(head, fragment);
        let length = appendix.len() as u32;
        let last = Head { length, kind: CONTINUATION, flags: END_HEADERS, stream: head.stream };
        self.emit(last, appendix);
    }

    /// Has hyper reset a stream: by a frame for which it must (RFC 9113 §5.3.1). Only between frames.
    pub(crate) fn reset(&mut self, stream: u32) {
        let head = Head { length: 5, kind: PRIORITY, flags: 0, stream };
        let [a, b, c, d] = stream.to_be_bytes();
        self.emit(head, &[a, b, c, d, 0]);
    }
}

/// The header block's part of a HEADERS frame, and whether its stream depends on itself; `None` where there is more
/// padding than frame.
fn strip<'a>(head: &Head, mut payload: &'a [u8]) -> Option<(&'a [u8], bool)> {
    let mut padding = 0;
    if head.flags & PADDED != 0 {
        let (first, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*first), rest);
    }
    let mut depends = false;
    if head.flags & HAS_PRIORITY != 0 {
        let (priority, rest) = payload.split_first_chunk::<5>()?;
        let [a, b, c, d, _] = *priority;
        depends = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff == head.stream;
        payload = rest;
    }
    let fragment = payload.get(..payload.len().checked_sub(padding)?)?;
    Some((fragment, depends))
}
