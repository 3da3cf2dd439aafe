//! The table, compiled for the kinds a route wants.

use super::table::{After, Before, Entry, INTERNAL_SUFFIXES, Masked, TABLE, Then};
use super::{Kind, Kinds};
use portcullis_scan::{Cursor, Sieve};
use regex_automata::dfa::{Automaton, dense};
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind as DfaMatchKind};
use smallvec::SmallVec;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The built-in patterns do not compile: a defect of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakSetupError(String);

impl fmt::Display for LeakSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a built-in leak pattern does not compile, please report it: {}", self.0)
    }
}

impl std::error::Error for LeakSetupError {}

/// Whether a candidate is what it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    No,
    /// The bytes at hand do not tell.
    More,
    Yes(Found),
}

/// A leak in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: Kind,
    /// The first byte to mask.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) then: Then,
}

pub(super) struct Patterns {
    kinds: Kinds,
    /// Finds the anchors; none where there are none.
    sieve: Option<Sieve>,
    /// By anchor: its text, and what may start with it.
    targets: Vec<(&'static str, Target)>,
    rules: Vec<Rule>,
    longest_anchor: usize,
    /// By the byte that they begin with: all anchors.
    by_head: Vec<Vec<&'static str>>,
}

/// The candidates of one text, in the order in which they begin.
pub(super) struct Anchors<'a> {
    cursor: Option<Cursor<'a>>,
    /// How far behind its beginning an anchor may be found.
    reach: usize,
    /// Those that begin in front of this are not found any more.
    complete: usize,
    /// Where anchors count.
    least: usize,
    /// Those that were found and are still to be decided: where, and which.
    found: SmallVec<[(usize, usize); 4]>,
}

impl<'a> Anchors<'a> {
    pub(super) fn new(patterns: &'a Patterns, text: &[u8], from: usize) -> Self {
        let sieve = patterns.sieve.as_ref();
        let mut anchors = Anchors {
            cursor: sieve.map(|sieve| Cursor::new(sieve, text, from)),
            reach: sieve.map_or(0, Sieve::reach),
            complete: from,
            least: from,
            found: SmallVec::new(),
        };
        anchors.fill(text);
        anchors
    }

    /// Which, and where.
    pub(super) fn first(&self) -> Option<(usize, usize)> {
        self.found.first().map(|(at, which)| (*which, *at))
    }

    /// Goes on to the first at or after `from`.
    pub(super) fn advance(&mut self, text: &[u8], from: usize) {
        self.least = self.least.max(from);
        self.found.retain(|(at, _)| *at >= from);
        if let Some(cursor) = &mut self.cursor {
            cursor.skip_to(text, from);
        }
        self.fill(text);
    }

    /// Looks on until nothing can be found any more that begins in front of the first that was found.
    fn fill(&mut self, text: &[u8]) {
        while let Some(cursor) = &mut self.cursor {
            if self.found.first().is_some_and(|(at, _)| *at < self.complete) {
                return;
            }
            let Some(here) = cursor.next(text) else {
                self.cursor = None;
                return;
            };
            self.complete = here.at().saturating_sub(self.reach);
            for (which, at) in here.needles(text).filter(|(_, at)| *at >= self.least) {
                let place = self.found.partition_point(|(other, _)| *other < at);
                self.found.insert(place, (at, which));
            }
        }
    }
}

/// What an anchor leads to.
enum Target {
    Rules(Vec<usize>),
    HostSuffix,
}

struct Rule {
    entry: &'static Entry,
    dfa: dense::DFA<Vec<u32>>,
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patterns").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

/// What has been compiled, by set of kinds: the table is the same for all routes and reloads.
static COMPILED: [OnceLock<Arc<Patterns>>; 1 << Kind::ALL.len()] =
    [const { OnceLock::new() }; 1 << Kind::ALL.len()];

impl Patterns {
    /// The patterns for these kinds, compiled once per process.
    pub(super) fn shared(kinds: Kinds) -> Result<Arc<Self>, LeakSetupError> {
        let Some(place) = COMPILED.get(kinds.index()) else { return Patterns::compile(kinds).map(Arc::new) };
        if let Some(compiled) = place.get() {
            return Ok(Arc::clone(compiled));
        }
        let compiled = Patterns::compile(kinds)?;
        Ok(Arc::clone(place.get_or_init(|| Arc::new(compiled))))
    }

    pub(super) fn compile(kinds: Kinds) -> Result<Self, LeakSetupError> {
        let mut targets: Vec<(&'static str, Target)> = Vec::new();
        let mut rules = Vec::new();
        for entry in TABLE.iter().filter(|entry| kinds.contains(entry.kind)) {
            for &anchor in entry.anchors {
                match targets.iter_mut().find(|(text, _)| *text == anchor) {
                    Some((_, Target::Rules(list))) => list.push(rules.len()),
                    _ => targets.push((anchor, Target::Rules(vec![rules.len()]))),
                }
            }
            rules.push(Rule { entry, dfa: automaton(entry.regex)? });
        }
        if kinds.contains(Kind::InternalAddress) {
            targets.extend(INTERNAL_SUFFIXES.map(|suffix| (suffix, Target::HostSuffix)));
        }
        let mut by_head = vec![Vec::new(); 256];
        for (text, _) in &targets {
            if let Some(list) = text.bytes().next().and_then(|byte| by_head.get_mut(usize::from(byte))) {
                list.push(*text);
            }
        }
        let longest_anchor = targets.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        let sieve = Sieve::new(targets.iter().map(|(text, _)| text.as_bytes()));
        if sieve.is_none() && !targets.is_empty() {
            return Err(LeakSetupError("its anchors are too short or too many".to_owned()));
        }
        Ok(Patterns { kinds, sieve, targets, rules, longest_anchor, by_head })
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(kind)
    }

    /// Where a tail of `text` begins that may be the beginning of an anchor; `text.len()` where there is none.
    pub(super) fn partial_anchor(&self, text: &[u8], from: usize) -> usize {
        let earliest = from.max((text.len() + 1).saturating_sub(self.longest_anchor));
        let begins = |at: &usize| {
            let tail = text.get(*at..).unwrap_or_default();
            let anchors = tail.first().and_then(|byte| self.by_head.get(usize::from(*byte)));
            anchors.is_some_and(|anchors| anchors.iter().any(|anchor| anchor.as_bytes().starts_with(tail)))
        };
        (earliest..text.len()).find(begins).unwrap_or(text.len())
    }

    /// Decides what stands at an anchor. `floor` is the end of the last leak: nothing before it belongs to this
    /// one. `last` says that no more bytes come.
    pub(super) fn decide(&self, which: usize, at: usize, text: &[u8], floor: usize, last: bool) -> Outcome {
        match self.targets.get(which) {
            Some((_, Target::Rules(list))) => {
                let mut outcome = Outcome::No;
                for rule in list.iter().filter_map(|&index| self.rules.get(index)) {
                    match rule.decide(at, text, last) {
                        // All rules of an anchor wait until each can tell, so that the order in which bytes
                        // come does not decide which of them wins.
                        Outcome::More => return Outcome::More,
                        Outcome::Yes(found) if outcome == Outcome::No => outcome = Outcome::Yes(found),
                        _ => {}
                    }
                }
                outcome
            }
            Some((suffix, Target::HostSuffix)) => host(suffix, at, text, floor, last),
            None => Outcome::No,
        }
    }
}

fn automaton(regex: &str) -> Result<dense::DFA<Vec<u32>>, LeakSetupError> {
    dense::Builder::new()
        .configure(
            dense::Config::new()
                .start_kind(regex_automata::dfa::StartKind::Anchored)
                // All matches, so that the automaton goes on until no longer one is possible.
                .match_kind(DfaMatchKind::All),
        )
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .thompson(regex_automata::nfa::thompson::Config::new().utf8(false))
        .build(regex)
        .map_err(|error| LeakSetupError(format!("{regex}: {error}")))
}

impl Rule {
    fn decide(&self, at: usize, text: &[u8], last: bool) -> Outcome {
        let entry = self.entry;
        if !may_begin(entry.before, at, text) {
            return Outcome::No;
        }
        let Some(end) = (match self.longest(at, text, last) {
            Ok(end) => end,
            Err(Undecided) => return Outcome::More,
        }) else {
            return Outcome::No;
        };
        match may_end(entry.after, end, text, last) {
            None => Outcome::More,
            Some(false) => Outcome::No,
            Some(true) => {
                let start = match entry.masked {
                    Masked::Whole => at,
                    Masked::Last(count) => end.saturating_sub(count),
                };
                Outcome::Yes(Found { kind: entry.kind, start, end, then: entry.then })
            }
        }
    }

    /// The end of the longest match from `at`, once more bytes cannot make it longer.
    fn longest(&self, at: usize, text: &[u8], last: bool) -> Result<Option<usize>, Undecided> {
        let dfa = &self.dfa;
        let begin = start::Config::new().anchored(Anchored::Yes);
        let Ok(mut state) = dfa.start_state(&begin) else { return Ok(None) };
        let mut end = None;
        for (offset, &byte) in text.get(at..).unwrap_or_default().iter().enumerate() {
            state = dfa.next_state(state, byte);
            if dfa.is_special_state(state) {
                if dfa.is_match_state(state) {
                    // Reported one byte late.
                    end = Some(at + offset);
                } else if dfa.is_dead_state(state) || dfa.is_quit_state(state) {
                    return Ok(end);
                }
            }
        }
        if !last {
            return Err(Undecided);
        }
        state = dfa.next_eoi_state(state);
        Ok(if dfa.is_match_state(state) { Some(text.len()) } else { end })
    }
}

struct Undecided;

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether the byte before `at` belongs to a word that goes on at `at`. The last letter of a JSON escape (`\n`,
/// `\u003e`) is no part of the word after it.
pub(super) fn in_word(at: usize, text: &[u8]) -> bool {
    if at.checked_sub(6).and_then(|from| text.get(from..at)).is_some_and(|escape| escape.starts_with(b"\\u"))
    {
        return false;
    }
    let byte = |back: usize| at.checked_sub(back).and_then(|i| text.get(i)).copied();
    match byte(1) {
        Some(b'n' | b't' | b'r' | b'b' | b'f') => byte(2) != Some(b'\\'),
        Some(other) => is_word(other),
        None => false,
    }
}

fn may_begin(before: Before, at: usize, text: &[u8]) -> bool {
    let joined = || {
        let byte = |back: usize| at.checked_sub(back).and_then(|i| text.get(i)).copied();
        matches!(byte(1), Some(b'.' | b'-' | b':')) && byte(2).is_some_and(is_word)
    };
    match before {
        Before::Anything => true,
        Before::NoWord => !in_word(at, text),
        Before::NoAddress => !in_word(at, text) && !joined(),
    }
}

/// Whether a match may end at `end`; `None` where the bytes at hand do not tell.
fn may_end(after: After, end: usize, text: &[u8], last: bool) -> Option<bool> {
    if after == After::Anything {
        return Some(true);
    }
    let Some(&next) = text.get(end) else { return last.then_some(true) };
    if is_word(next) || (after == After::NoWord && next == b'-') {
        return Some(false);
    }
    if after == After::NoAddress && matches!(next, b'.') {
        let Some(&second) = text.get(end + 1) else { return last.then_some(true) };
        return Some(!second.is_ascii_digit());
    }
    Some(true)
}

pub(super) fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// The longest name (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// A host name that ends in an internal suffix at `at`: all of the name goes. What reads like program text
/// (`this.local`, `a.internal(`) is let be.
fn host(suffix: &str, at: usize, text: &[u8], floor: usize, last: bool) -> Outcome {
    let end = at + suffix.len();
    let before = text.get(..at).unwrap_or_default();
    let length = before.iter().rev().take(MAX_NAME + 1).take_while(|&&b| is_host_byte(b)).count();
    let start = (at - length).max(floor);
    let name = text.get(start..at).unwrap_or_default();
    if length > MAX_NAME || matches!(name, b"" | b"this" | b"self") {
        return Outcome::No;
    }
    let rest = text.get(end..).unwrap_or_default();
    let follows = match rest {
        [] if last => true,
        [] => return Outcome::More,
        [b'(' | b'[' | b'=' | b';' | b'&' | b'|' | b'?' | b'{' | b'}' | b'!' | b'+' | b'*', ..] => false,
        [b'.'] if !last => return Outcome::More,
        [b'.', next, ..] => !is_word(*next),
        [b'-', ..] => false,
        [next, ..] => !is_word(*next),
    };
    if !follows {
        return Outcome::No;
    }
    Outcome::Yes(Found { kind: Kind::InternalAddress, start, end, then: Then::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The masker relies on it that of two anchors the one that begins first is also decided first, though it be
    /// complete only later: so none may hold another.
    #[test]
    fn no_anchor_holds_another() {
        let patterns = Patterns::compile(Kinds::ALL).unwrap();
        for (one, _) in &patterns.targets {
            for (other, _) in &patterns.targets {
                assert!(one == other || !one.contains(other), "`{one}` holds `{other}`");
            }
        }
    }

    /// Each rule's anchors are what its expression begins with: a candidate at any of them is not dead at once.
    #[test]
    fn every_anchor_begins_its_rule() {
        for entry in TABLE {
            let rule = Rule { entry, dfa: automaton(entry.regex).unwrap() };
            for anchor in entry.anchors {
                assert!(rule.longest(0, anchor.as_bytes(), false).is_err(), "{anchor} of {}", entry.regex);
            }
        }
    }

    /// Whatever follows an anchor, the decision is not further away than what a masker may hold.
    #[test]
    fn every_decision_is_bounded() {
        for entry in TABLE {
            let rule = Rule { entry, dfa: automaton(entry.regex).unwrap() };
            for anchor in entry.anchors {
                for filler in 0..=u8::MAX {
                    let mut text = anchor.as_bytes().to_vec();
                    text.resize(crate::MAX_HELD - MAX_NAME, filler);
                    assert!(rule.longest(0, &text, false).is_ok(), "{anchor} of {}", entry.regex);
                }
            }
        }
    }
}
