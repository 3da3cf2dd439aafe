//! What a client may say besides requests: a budget on frames that cost us work and it nearly nothing.
//!
//! hyper bounds streams, header lists, CONTINUATION and small DATA, but answers any number of PING, SETTINGS, PRIORITY
//! and WINDOW_UPDATE frames (CVE-2019-9512, -9513, -9515), and refuses any number of streams.

use super::frames::{CONTINUATION, DATA, END_STREAM, HEADERS, Head, PADDED, PING, RST_STREAM};
use std::time::{Duration, Instant};

/// Frames beyond requests and their bodies that a client may send at once; as many pings again.
const BURST: u32 = 500;
/// So many more in each of these.
const PERIOD: Duration = Duration::from_secs(10);
/// For so many bytes that we send it may say one frame more: who reads much opens windows often.
const BYTES_FOR_FRAME: u64 = 1024;
/// For each head of an answer as many more: clients open two windows and ping for answers of a few bytes too.
const FRAMES_FOR_ANSWER: u32 = 4;
/// For each piece of an answer's body: both its windows opened again. Some clients do so for every piece, be it one
/// event or one message of a call.
const FRAMES_FOR_DATA: u32 = 2;
/// Clients measure the way to us by a ping for each piece that comes (gRPC does).
const PINGS_FOR_DATA: u32 = 1;
/// A piece smaller than any message earns nothing, or a client that opens its window byte by byte would live on what it
/// makes of one answer (CVE-2019-9511).
const LEAST_DATA: u32 = 5;
/// Streams that we reset before the connection ends, if they are also more than those we answered: those that a client
/// opens beyond its limit, and those that it makes us reset (CVE-2025-8671).
const MAX_RESETS: u32 = 1000;

/// Whether a frame of DATA may hold hardly any: less than the smallest message of a call (five bytes in gRPC), and not a
/// body's last (CVE-2019-9518).
fn is_petty(frame: &Head) -> bool {
    /// What padding can take of a frame: its length in one byte, and as many as that can say.
    const PADDING: u32 = 256;
    let padding = if frame.flags & PADDED == 0 { 0 } else { PADDING };
    frame.length < LEAST_DATA + padding && frame.flags & END_STREAM == 0
}

/// So many of one sort of frame.
#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    fn new() -> Self {
        Allowance { left: BURST, since: Instant::now() }
    }

    /// Takes one; false when nothing is left.
    fn take(&mut self) -> bool {
        if self.left == 0 && self.since.elapsed() >= PERIOD {
            *self = Allowance::new();
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }

    /// What was earned long ago is no leave to flood now.
    fn earn(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(BURST.max(self.left));
    }
}

/// What a client may still say.
#[derive(Debug)]
pub(crate) struct Budget {
    frames: Allowance,
    pings: Allowance,
    /// Bytes sent that have earned nothing yet.
    sent: u64,
    answers: u32,
    resets: u32,
}

impl Budget {
    pub(crate) fn new() -> Self {
        let (frames, pings) = (Allowance::new(), Allowance::new());
        Budget { frames, pings, sent: 0, answers: 0, resets: 0 }
    }

    /// Whether the client may send this frame, and goes on after what it made us do.
    pub(crate) fn admits(&mut self, frame: &Head) -> bool {
        let is_allowed = match frame.kind {
            HEADERS => true,
            DATA => !is_petty(frame) || self.frames.take(),
            PING => self.pings.take(),
            _ => self.frames.take(),
        };
        is_allowed && (self.resets <= MAX_RESETS || self.resets <= self.answers)
    }

    /// We send this frame.
    pub(crate) fn sends(&mut self, frame: &Head) {
        match frame.kind {
            HEADERS => {
                self.answers = self.answers.saturating_add(1);
                self.frames.earn(FRAMES_FOR_ANSWER);
                self.pings.earn(FRAMES_FOR_ANSWER);
            }
            DATA if frame.length >= LEAST_DATA => {
                self.frames.earn(FRAMES_FOR_DATA);
                self.pings.earn(PINGS_FOR_DATA);
            }
            RST_STREAM => self.resets = self.resets.saturating_add(1),
            _ => {}
        }
        if matches!(frame.kind, DATA | HEADERS | CONTINUATION) {
            self.sent += u64::from(frame.length);
            self.frames.earn(u32::try_from(self.sent / BYTES_FOR_FRAME).unwrap_or(u32::MAX));
            self.sent %= BYTES_FOR_FRAME;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u32) -> Head {
        Head { length, kind, flags: 0, stream: 1 }
    }

    #[test]
    fn frames_that_ask_for_nothing_are_few_unless_we_send() {
        let (window, ping) = (frame(8, 4), frame(PING, 8));
        let mut budget = Budget::new();
        let many =
            |budget: &mut Budget, frame: &Head| (0..2 * BURST).take_while(|_| budget.admits(frame)).count();
        assert_eq!(many(&mut budget, &window), 500);
        assert_eq!(many(&mut budget, &ping), 500);
        budget.sends(&frame(DATA, 3 * 1024));
        assert_eq!((many(&mut budget, &window), many(&mut budget, &ping)), (5, 1));
        budget.sends(&frame(HEADERS, 13));
        assert_eq!((many(&mut budget, &window), many(&mut budget, &ping)), (4, 4));
        // A window opened byte by byte earns its next opening by nothing but the bytes.
        for _ in 0..1000 {
            budget.sends(&frame(DATA, 1));
        }
        assert_eq!((many(&mut budget, &window), many(&mut budget, &ping)), (0, 0));
        // Requests and their bodies are no part of it.
        assert!((0..2000).all(|_| budget.admits(&frame(HEADERS, 1)) && budget.admits(&frame(DATA, 5))));
    }

    #[test]
    fn b15_pieces_of_a_body_that_hold_hardly_anything_are_few() {
        let mut budget = Budget::new();
        let mut many = |frame: Head| (0..2 * BURST).take_while(|_| budget.admits(&frame)).count();
        assert_eq!(many(Head { flags: END_STREAM, ..frame(DATA, 0) }), 1000);
        assert_eq!(many(frame(DATA, 5)), 1000);
        assert_eq!(many(Head { flags: PADDED, ..frame(DATA, 300) }), 1000);
        assert_eq!(many(Head { flags: PADDED, ..frame(DATA, 255) }), 500);
        assert_eq!((many(frame(DATA, 4)), many(frame(DATA, 0))), (0, 0));
    }

    #[test]
    fn streams_that_we_reset_are_few_or_fewer_than_those_we_answer() {
        let mut budget = Budget::new();
        for _ in 0..MAX_RESETS {
            budget.sends(&frame(RST_STREAM, 4));
            assert!(budget.admits(&frame(HEADERS, 1)));
        }
        budget.sends(&frame(RST_STREAM, 4));
        assert!(!budget.admits(&frame(HEADERS, 1)));
        for _ in 0..=MAX_RESETS {
            budget.sends(&frame(HEADERS, 1));
        }
        assert!(budget.admits(&frame(HEADERS, 1)));
    }
}
