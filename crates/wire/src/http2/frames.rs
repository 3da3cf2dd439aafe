//! The heads of HTTP/2's frames (RFC 9113 §4.1).

pub(crate) const HEAD: usize = 9;
pub(crate) const PREFACE: u64 = 24;
/// The largest payload that we let a client send: the protocol's own (RFC 9113 §6.5.2).
pub(crate) const MAX_PAYLOAD: u32 = 16_384;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const HAS_PRIORITY: u8 = 0x20;

/// RFC 9113 §7.
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn read(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = bytes;
        let length = u32::from_be_bytes([0, a, b, c]);
        Head { length, kind, flags, stream: u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff }
    }

    pub(crate) fn to_bytes(self) -> [u8; HEAD] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }
}

/// What comes next in a stream of bytes.
pub(crate) enum Piece<'a> {
    /// Bytes to pass over: the preface, or payload.
    Passed(&'a [u8]),
    /// A frame's head, whole.
    Head(Head),
}

/// Finds the heads of the frames in a stream of bytes that comes in any pieces.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Bytes to pass over: the preface, or the rest of a payload.
    skip: u64,
    head: [u8; HEAD],
    have: usize,
}

impl Frames {
    pub(crate) fn new(skip: u64) -> Self {
        Frames { skip, head: [0; HEAD], have: 0 }
    }

    /// What the bytes begin with, taken off them; `None` once nothing is left but perhaps the beginning of a head, which
    /// is kept.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        if self.skip > 0 {
            let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at_checked(passed)?;
            (*bytes, self.skip) = (rest, self.skip - passed as u64);
            return (!payload.is_empty()).then_some(Piece::Passed(payload));
        }
        while self.have < HEAD {
            let (byte, rest) = bytes.split_first()?;
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *byte;
            }
            (*bytes, self.have) = (rest, self.have + 1);
        }
        let head = Head::read(self.head);
        (self.have, self.skip) = (0, u64::from(head.length));
        Some(Piece::Head(head))
    }

    /// Whether the bytes so far end with a whole frame.
    pub(crate) fn is_between(&self) -> bool {
        self.have == 0 && self.skip == 0
    }

    /// Whether a head was read and all of its payload.
    pub(crate) fn is_whole(&self) -> bool {
        self.skip == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_are_found_in_any_pieces(
            sent in prop::collection::vec((any::<u8>(), any::<u8>(), 0u32..0x7fff_ffff, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut bytes = vec![b'P'; 24];
            let (mut expected, mut payloads) = (Vec::new(), vec![b'P'; 24]);
            for (kind, flags, stream, payload) in &sent {
                let head = Head { length: payload.len() as u32, kind: *kind, flags: *flags, stream: *stream };
                bytes.extend_from_slice(&head.to_bytes());
                bytes.extend_from_slice(payload);
                expected.push(head);
                payloads.extend_from_slice(payload);
            }
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let (mut frames, mut heads, mut passed) = (Frames::new(PREFACE), Vec::new(), Vec::new());
            for pair in at.windows(2) {
                let mut piece = &bytes[pair[0]..pair[1]];
                while let Some(next) = frames.next(&mut piece) {
                    match next {
                        Piece::Head(head) => heads.push(head),
                        Piece::Passed(bytes) => passed.extend_from_slice(bytes),
                    }
                }
                prop_assert!(piece.is_empty());
            }
            prop_assert!(frames.is_between());
            prop_assert_eq!((heads, passed), (expected, payloads));
        }
    }
}
