//! What proves that both sides of a WebSocket handshake mean WebSocket (RFC 6455 §4), and where its frames end.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a server appends to the client's key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key before they are encoded (RFC 6455 §4.1).
const KEY: usize = 16;

/// Whether a client's `Sec-WebSocket-Key` is one: 16 bytes in base64.
#[must_use]
pub fn is_key(value: &[u8]) -> bool {
    STANDARD.decode(value).is_ok_and(|key| key.len() == KEY)
}

/// A key for a handshake of ours, on behalf of a client whose protocol has none (RFC 8441 §5). It proves that the
/// other side read this request; it need not be secret.
#[must_use]
pub fn new_key() -> String {
    STANDARD.encode(fastrand::u128(..).to_be_bytes())
}

/// The `Sec-WebSocket-Accept` by which a server says that it has read this key.
///
/// ```
/// // RFC 6455 §1.3
/// let accept = portcullis_wire::websocket::accept(b"dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[must_use]
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

/// Where frames begin and end in one direction of a WebSocket (RFC 6455 §5.2), so that one of ours can be put between two
/// of theirs. What they hold is not looked at.
#[derive(Debug, Default)]
pub struct Frames {
    /// Whether a frame's head has begun.
    begun: bool,
    /// Whether its second byte has been seen: what is left of the head is known.
    known: bool,
    /// Bytes of the extended length that are to come.
    extended: u8,
    /// Bytes of the mask that are to come.
    mask: u8,
    length: u64,
    /// Bytes of the frame's payload that are to come.
    left: u64,
    closed: bool,
}

impl Frames {
    /// Follows bytes that pass, however they are cut.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skipped as u64;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            bytes = rest;
            self.head(first);
        }
    }

    /// Takes a byte of a frame's head.
    fn head(&mut self, byte: u8) {
        if !self.begun {
            self.begun = true;
            self.closed |= byte & 0x0f == CLOSE;
            return;
        }
        if !self.known {
            self.known = true;
            self.mask = if byte & MASKED == 0 { 0 } else { 4 };
            (self.extended, self.length) = match byte & !MASKED {
                126 => (2, 0),
                127 => (8, 0),
                short => (0, u64::from(short)),
            };
        } else if self.extended > 0 {
            self.extended -= 1;
            self.length = self.length << 8 | u64::from(byte);
        } else {
            self.mask = self.mask.saturating_sub(1);
        }
        if self.extended == 0 && self.mask == 0 {
            (self.begun, self.known, self.left) = (false, false, self.length);
        }
    }

    /// Whether the next byte begins a frame. A control frame may stand there, also between the frames of one message.
    #[must_use]
    pub fn between(&self) -> bool {
        !self.begun && self.left == 0
    }

    /// Whether a Close frame has passed: nothing may follow it.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }
}

const CLOSE: u8 = 0x8;
const MASKED: u8 = 0x80;
const FINAL: u8 = 0x80;

/// The status of an endpoint that goes away (RFC 6455 §7.4.1).
pub const GOING_AWAY: u16 = 1001;

/// A Close frame with a status. What goes to a server is masked (RFC 6455 §5.3).
///
/// ```
/// use portcullis_wire::websocket::{GOING_AWAY, close};
/// assert_eq!(close(GOING_AWAY, false), [0x88, 2, 0x03, 0xe9]);
/// ```
#[must_use]
pub fn close(status: u16, masked: bool) -> Vec<u8> {
    let status = status.to_be_bytes();
    let head = FINAL | CLOSE;
    if !masked {
        return [&[head, 2], &status[..]].concat();
    }
    let mask = fastrand::u32(..).to_be_bytes();
    let payload: Vec<u8> = status.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    [&[head, MASKED | 2], &mask[..], &payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as RFC 6455 §5.2 writes it.
    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut out = vec![FINAL | opcode];
        match length {
            0..126 => out.push(mask | length as u8),
            126..=65535 => {
                out.push(mask | 126);
                out.extend((length as u16).to_be_bytes());
            }
            _ => {
                out.push(mask | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            out.extend([1, 2, 3, 4]);
        }
        // Looks like heads of frames.
        out.resize(out.len() + length, 0x81);
        out
    }

    proptest! {
        #[test]
        fn the_ends_of_frames_are_known_however_they_are_cut(
            sizes in prop::collection::vec((0u8..8, any::<bool>(), prop_oneof![0usize..300, 65_000usize..66_000]), 1..5),
            piece in 1usize..5000,
        ) {
            let stream: Vec<Vec<u8>> = sizes.iter().map(|(opcode, masked, length)| frame(*opcode, *masked, *length)).collect();
            let mut ends = vec![0];
            for frame in &stream {
                ends.push(ends[ends.len() - 1] + frame.len());
            }
            let (bytes, mut frames, mut passed) = (stream.concat(), Frames::default(), 0);
            for piece in bytes.chunks(piece) {
                frames.pass(piece);
                passed += piece.len();
                prop_assert_eq!(frames.between(), ends.contains(&passed), "after {}", passed);
                prop_assert!(!frames.closed());
            }
        }
    }

    #[test]
    fn a_close_frame_is_seen_and_ours_is_one() {
        for masked in [false, true] {
            let mut frames = Frames::default();
            frames.pass(&frame(1, masked, 200));
            assert!(frames.between() && !frames.closed());
            frames.pass(&close(GOING_AWAY, masked));
            assert!(frames.between() && frames.closed());
        }
    }
}
