//! Scripts of faults, as text.

use crate::cases::bytes;
use std::time::Duration;

/// What happens to whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Nobody listens.
    Refuses,
    /// Somebody listens whose queue is full: no answer to SYN.
    Ignores,
    /// The connection is reset at once.
    Resets,
    /// The connection is closed at once.
    Closes,
    /// Nothing is read and nothing is said.
    Hangs,
}

/// Up to where of the origin's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Byte(usize),
    Head,
    End,
}

/// Which frame of HTTP/2 is withheld, and what follows it in place of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The request's HEADERS: the origin never hears of it.
    Request,
    /// The answer's HEADERS.
    Answer,
    /// The answer's first DATA.
    Data,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    /// The origin's answer, up to there.
    Answer(Until),
    /// What is left of the origin's answer, so many bytes at a time with a pause behind each.
    Drip(usize, Duration),
    Bytes(Vec<u8>),
    /// Lines of frames; `{n}` is the stream.
    Frames(Vec<String>),
    Pause(Duration),
    Close,
    Reset,
    /// Says nothing more.
    Hang,
    /// Says that no more will be sent, and reads on.
    HalfClose,
}

/// What a [`FaultProxy`](super::FaultProxy) does while it is not well, read from the lines of
/// `tests/data/faults/README.md`.
#[derive(Clone, Debug, Default)]
pub struct FaultScript {
    pub(super) door: Option<Door>,
    /// Every so many exchanges (or connections, where bytes or frames are looked at) one is harmed.
    pub(super) every: usize,
    /// Exchanges that are harmed only on a connection that has served so many.
    pub(super) served: usize,
    /// The request's body is not read.
    pub(super) early: bool,
    /// The origin gets nothing of the request.
    pub(super) unpassed: bool,
    /// The origin gets so many bytes of the request and no more.
    pub(super) cut_request: Option<usize>,
    /// By how much the answer's `Content-Length` is wrong.
    pub(super) length: i64,
    /// The backend that is asked in place of the first.
    pub(super) to: Option<String>,
    /// What happens behind so many bytes of a stream.
    pub(super) at: Option<(Way, usize)>,
    /// What happens in place of a frame.
    pub(super) mark: Option<Mark>,
    pub(super) acts: Vec<Act>,
}

impl FaultScript {
    /// Reads a script.
    ///
    /// # Panics
    /// With `place`, at a line that is none of a script's.
    #[must_use]
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>, place: &str) -> Self {
        let mut script = FaultScript { every: 1, ..FaultScript::default() };
        let mut frames: Vec<String> = Vec::new();
        for line in lines {
            let is_frame = line.starts_with("> ") || line.starts_with(':') || line.contains(" = ");
            if is_frame || (!frames.is_empty() && bytes(line).is_some()) {
                frames.push(line.to_owned());
                continue;
            }
            if !frames.is_empty() {
                script.acts.push(Act::Frames(std::mem::take(&mut frames)));
            }
            if let Some(bytes) = bytes(line) {
                script.acts.push(Act::Bytes(bytes));
            } else if !script.setting(line) && !script.act(line) {
                panic!("{place}: what is `{line}`?");
            }
        }
        if !frames.is_empty() {
            script.acts.push(Act::Frames(frames));
        }
        script
    }

    /// A line that is true of the whole script.
    fn setting(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            ["refuse"] => self.door = Some(Door::Refuses),
            ["ignore"] => self.door = Some(Door::Ignores),
            ["accept", "reset"] => self.door = Some(Door::Resets),
            ["accept", "close"] => self.door = Some(Door::Closes),
            ["accept", "hang"] => self.door = Some(Door::Hangs),
            ["every", count] => self.every = number(count),
            ["served", count] => self.served = number(count),
            ["early"] => (self.early, self.unpassed) = (true, true),
            ["unpassed"] => self.unpassed = true,
            ["pass", count] => self.cut_request = Some(number(count)),
            ["length", by] => self.length = by.parse().unwrap_or_else(|_| panic!("no number: {by}")),
            ["to", backend] => self.to = Some(backend.to_owned()),
            ["up", count] => self.at = Some((Way::Up, number(count))),
            ["down", count] => self.at = Some((Way::Down, number(count))),
            ["for", "request"] => self.mark = Some(Mark::Request),
            ["for", "answer"] => self.mark = Some(Mark::Answer),
            ["for", "data"] => self.mark = Some(Mark::Data),
            _ => return false,
        }
        true
    }

    fn act(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.acts.push(match *words {
            ["answer"] => Act::Answer(Until::End),
            ["answer", "head"] => Act::Answer(Until::Head),
            ["answer", count] => Act::Answer(Until::Byte(number(count))),
            ["drip", size, gap] => Act::Drip(number(size), millis(gap)),
            ["pause", time] => Act::Pause(millis(time)),
            ["close"] => Act::Close,
            ["reset"] => Act::Reset,
            ["hang"] => Act::Hang,
            ["half-close"] => Act::HalfClose,
            _ => return false,
        });
        true
    }

    /// Whether a proxy that follows it meets anybody: not where nobody gets a connection.
    #[must_use]
    pub fn is_met(&self) -> bool {
        !matches!(self.door, Some(Door::Refuses | Door::Ignores))
    }

    /// Whether connections that stand when the fault begins would hide it.
    pub(super) fn cuts(&self) -> bool {
        self.door.is_some() || self.at.is_some() || self.mark.is_some() || self.to.is_some()
    }
}

fn number(word: &str) -> usize {
    word.parse().unwrap_or_else(|_| panic!("no number: {word}"))
}

fn millis(word: &str) -> Duration {
    Duration::from_millis(number(word) as u64)
}
