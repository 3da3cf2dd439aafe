//! The streaming side of leak prevention.

use super::patterns::{Anchors, Found, Outcome, Patterns, is_host_byte};
use super::table::Then;
use super::{Kind, Kinds, LeakMode, Leaked, cards};
use std::fmt;
use std::sync::Arc;

/// The most bytes a [`Masker`] holds back between two calls: the longest beginning of a leak that is not yet
/// decided (a token's header).
pub const MAX_HELD: usize = 2048;

/// Bytes already given out that a decision may look back at.
const CONTEXT: usize = 16;

/// A trailing host name is held whole, in case an internal suffix follows: the longest name and the suffix.
const MAX_HOST_HELD: usize = 253 + 16;

/// Digits of a card number that stay, as on a receipt.
const SHOWN_DIGITS: usize = 4;

/// Masks one body as it streams.
///
/// However the body is cut into chunks, the output is the same, as long as the input, and [`Masker::push`] holds
/// back nothing but a tail that may yet turn out to be part of a leak: a few digits, the beginning of a key, a
/// host name whose end has not come; never more than [`MAX_HELD`] bytes. A line feed ends all but a key, a card
/// number never crosses one, so lines and server-sent events go out when they come.
pub struct Masker {
    patterns: Arc<Patterns>,
    mode: LeakMode,
    found: Kinds,
    /// Some context, then what is held.
    buffer: Vec<u8>,
    /// Where what is held begins.
    given: usize,
    /// Where the last leak ended.
    floor: usize,
    then: Then,
    blocked: Option<Kind>,
}

impl fmt::Debug for Masker {
    /// Without the bytes it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker")
            .field("mode", &self.mode)
            .field("found", &self.found)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

/// How a scan of the buffer ended.
enum Stop {
    /// All is decided up to the end.
    Done,
    /// From here on it is not.
    At(usize),
}

impl Masker {
    pub(super) fn new(patterns: Arc<Patterns>, mode: LeakMode) -> Self {
        Masker {
            patterns,
            mode,
            found: Kinds::default(),
            buffer: Vec::new(),
            given: 0,
            floor: 0,
            then: Then::Nothing,
            blocked: None,
        }
    }

    /// Takes a chunk of which all that is decided may pass as it is: of most it is all, and they need not be copied.
    /// Says how many of its bytes those are; what follows is held back. `None` where bytes of other chunks are held
    /// back or something is to be masked: nothing is taken then, and [`Masker::push`] is the way.
    pub fn pass(&mut self, chunk: &[u8]) -> Option<usize> {
        if self.blocked.is_some() || self.then != Then::Nothing || self.held() > 0 {
            return None;
        }
        // All in the buffer was given out: it is there to be looked back at.
        let mut joined = std::mem::take(&mut self.buffer);
        let context = joined.len();
        let text = if context == 0 {
            chunk
        } else {
            joined.extend_from_slice(chunk);
            &joined
        };
        let found = Candidates::new(&self.patterns, text, context).next(text, self.floor, false);
        let until = match found {
            Next::Leak(_) => {
                joined.truncate(context);
                self.buffer = joined;
                return None;
            }
            Next::Stop(Stop::Done) => self.undecided_tail(text, context),
            Next::Stop(Stop::At(at)) => self.host_start(text, context, at),
        };
        let dropped = until.saturating_sub(CONTEXT);
        self.buffer = text.get(dropped..).unwrap_or_default().to_vec();
        self.given = until - dropped;
        self.floor = self.floor.saturating_sub(dropped);
        Some(until - context)
    }

    /// Takes a chunk and appends to `out` what is decided.
    ///
    /// # Errors
    /// [`Leaked`] in block mode, once a leak is found and ever after: nothing of it has been given out, and
    /// nothing more will be.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Leaked> {
        if self.blocked.is_none() {
            self.buffer.extend_from_slice(chunk);
        }
        self.advance(out, false)
    }

    /// Ends the body: appends to `out` what was held.
    ///
    /// # Errors
    /// As [`Masker::push`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Leaked> {
        self.advance(out, true)
    }

    /// The kinds found so far, for log and metrics; what it was is nowhere kept.
    #[must_use]
    pub fn found(&self) -> Kinds {
        self.found
    }

    /// Bytes held back now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.len() - self.given
    }

    fn advance(&mut self, out: &mut Vec<u8>, last: bool) -> Result<(), Leaked> {
        if let Some(kind) = self.blocked {
            return Err(Leaked(kind));
        }
        out.reserve(self.held());
        let stop = match self.scan(out, last) {
            Ok(stop) => stop,
            Err(leaked) => {
                self.blocked = Some(leaked.0);
                self.buffer.clear();
                self.given = 0;
                return Err(leaked);
            }
        };
        let until = match stop {
            _ if last => self.buffer.len(),
            Stop::Done => self.undecided_tail(&self.buffer, self.given),
            Stop::At(at) => self.host_start(&self.buffer, self.given, at),
        };
        self.give(until, out);
        let dropped = self.given.saturating_sub(CONTEXT);
        self.buffer.drain(..dropped);
        self.given -= dropped;
        self.floor = self.floor.saturating_sub(dropped);
        Ok(())
    }

    /// Gives out what is decided to be clean.
    fn give(&mut self, until: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.buffer.get(self.given..until).unwrap_or_default());
        self.given = self.given.max(until);
    }

    /// Goes through the candidates in the order in which they begin, decides each and masks what leaks.
    fn scan(&mut self, out: &mut Vec<u8>, last: bool) -> Result<Stop, Leaked> {
        if let Some(stop) = self.mask_rest(out, last) {
            return Ok(stop);
        }
        let patterns = Arc::clone(&self.patterns);
        let mut candidates = Candidates::new(&patterns, &self.buffer, self.given);
        loop {
            match candidates.next(&self.buffer, self.floor, last) {
                Next::Stop(stop) => return Ok(stop),
                Next::Leak(found) => {
                    self.mask(found, out)?;
                    if let Some(stop) = self.mask_rest(out, last) {
                        return Ok(stop);
                    }
                    candidates.skip_to(&self.buffer, self.given);
                }
            }
        }
    }

    fn mask(&mut self, found: Found, out: &mut Vec<u8>) -> Result<(), Leaked> {
        self.found.insert(found.kind);
        if self.mode == LeakMode::Block {
            return Err(Leaked(found.kind));
        }
        self.give(found.start, out);
        let leak = self.buffer.get(self.given..found.end).unwrap_or_default();
        if found.kind == Kind::PaymentCard {
            let mut hidden = leak.iter().filter(|b| b.is_ascii_digit()).count().saturating_sub(SHOWN_DIGITS);
            out.extend(leak.iter().map(|&b| {
                let hide = hidden > 0 && b.is_ascii_digit();
                hidden -= usize::from(hide);
                if hide { b'*' } else { b }
            }));
        } else {
            out.extend(leak.iter().map(|&b| masked(b)));
        }
        self.given = found.end;
        self.floor = found.end;
        self.then = found.then;
        Ok(())
    }

    /// Masks what belongs to the last leak and comes after it.
    fn mask_rest(&mut self, out: &mut Vec<u8>, last: bool) -> Option<Stop> {
        let rest = self.buffer.get(self.given..).unwrap_or_default();
        let (length, goes_on) = match self.then {
            Then::Nothing => return None,
            Then::Token => {
                let length = rest.iter().take_while(|&&b| is_host_byte(b)).count();
                (length, length == rest.len())
            }
            Then::Pem => pem_rest(rest, last),
        };
        out.extend(rest.iter().take(length).map(|&b| masked(b)));
        self.given += length;
        self.floor = self.given;
        if goes_on {
            return Some(Stop::At(self.given));
        }
        self.then = Then::Nothing;
        None
    }

    /// Where the tail begins that more bytes could make a leak of. All before `given` is given out.
    fn undecided_tail(&self, text: &[u8], given: usize) -> usize {
        let mut at = self.patterns.partial_anchor(text, given);
        if self.patterns.has(Kind::PaymentCard) {
            at = at.min(cards::tail_run(text));
        }
        self.host_start(text, given, at).max(given)
    }

    /// `at`, or the beginning of the host name that it stands in.
    fn host_start(&self, text: &[u8], given: usize, at: usize) -> usize {
        if !self.patterns.has(Kind::InternalAddress) {
            return at;
        }
        let before = text.get(self.floor.max(given)..at).unwrap_or_default();
        at - before.iter().rev().take(MAX_HOST_HELD).take_while(|&&b| is_host_byte(b)).count()
    }
}

/// What comes next in a text.
enum Next {
    Leak(Found),
    Stop(Stop),
}

/// Where in a text leaks may begin.
struct Candidates<'a> {
    patterns: &'a Patterns,
    anchors: Anchors<'a>,
    /// The next run of digits, where those matter.
    run: Option<usize>,
}

impl<'a> Candidates<'a> {
    fn new(patterns: &'a Patterns, text: &[u8], from: usize) -> Self {
        let run = patterns.has(Kind::PaymentCard).then(|| cards::next_run(text, from)).flatten();
        Candidates { patterns, anchors: Anchors::new(patterns, text, from), run }
    }

    /// Decides one candidate after the other, up to the first that is a leak or cannot be decided yet.
    fn next(&mut self, text: &[u8], floor: usize, last: bool) -> Next {
        loop {
            let (at, outcome) = match (self.anchors.first(), self.run) {
                (Some((which, at)), run) if run.is_none_or(|run| at < run) => {
                    self.anchors.advance(text, at + 1);
                    (at, self.patterns.decide(which, at, text, floor, last))
                }
                (_, Some(run)) => {
                    self.run = cards::next_run(text, cards::run_end(text, run));
                    (run, cards::decide(text, run, last))
                }
                (_, None) => return Next::Stop(Stop::Done),
            };
            match outcome {
                Outcome::More => return Next::Stop(Stop::At(at)),
                Outcome::No => {}
                Outcome::Yes(found) => return Next::Leak(found),
            }
        }
    }

    /// Nothing before `from` counts any more.
    fn skip_to(&mut self, text: &[u8], from: usize) {
        self.anchors.advance(text, from);
        if self.run.is_some_and(|run| run < from) {
            self.run = cards::next_run(text, from);
        }
    }
}

/// Line ends stay, so that what comes after is still where it was.
fn masked(byte: u8) -> u8 {
    if matches!(byte, b'\r' | b'\n') { byte } else { b'*' }
}

/// How much of `rest` belongs to a PEM block (RFC 7468) whose first line has been read, and whether it may go on
/// after that. It ends with its last line, or where a byte comes that no PEM block holds.
fn pem_rest(rest: &[u8], last: bool) -> (usize, bool) {
    const END: &[u8] = b"-----END ";
    const MAX_END: usize = 80;
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        let tail = rest.get(at..).unwrap_or_default();
        match byte {
            b'-' if tail.starts_with(END) => {
                let label = tail.get(END.len()..).unwrap_or_default();
                let length = label
                    .iter()
                    .take(MAX_END)
                    .take_while(|b| b.is_ascii_uppercase() || matches!(b, b' ' | b'0'..=b'9'));
                let line = END.len() + length.count();
                let dashes =
                    tail.get(line..).unwrap_or_default().iter().take(5).take_while(|&&b| b == b'-').count();
                if line + dashes == tail.len() && dashes < 5 && !last {
                    return (at, true);
                }
                return (at + line + dashes, false);
            }
            b'-' if END.starts_with(tail) && !last => return (at, true),
            b'\\' => match tail.get(1) {
                Some(b'n' | b'r' | b't' | b'/') => at += 2,
                None if !last => return (at, true),
                _ => return (at, false),
            },
            b'+' | b'/' | b'=' | b'\r' | b'\n' | b' ' | b'\t' | b':' | b',' | b'-' | b'.' => at += 1,
            _ if byte.is_ascii_alphanumeric() => at += 1,
            _ => return (at, false),
        }
    }
    (at, true)
}
