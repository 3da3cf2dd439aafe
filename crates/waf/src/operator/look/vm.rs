//! The machine that runs a pattern with assertions: all alternatives side by side, in the order a backtracking engine
//! would try them, each state at most once for each remembered word.

use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::look::{Look, LookMatcher};
use regex_automata::util::primitives::StateID;

use super::super::pattern::Groups;
use super::{Assertion, LookRegex, PLACEHOLDERS, is_word_byte};

/// Where the groups begin and end; `UNSET` where they did not take part.
type Slots = [u32; 20];

const UNSET: u32 = u32::MAX;

/// A pattern and a value, with what the look-arounds say about each of its places.
pub(super) struct Search<'a> {
    regex: &'a LookRegex,
    value: &'a [u8],
    /// For each look-around, and each place from before the first byte to after the last, whether it holds.
    tables: Vec<Vec<bool>>,
    matcher: LookMatcher,
}

#[derive(Clone, Copy)]
struct Thread {
    state: StateID,
    slots: Slots,
}

/// What remains to be done while a state's empty steps are followed.
enum Frame {
    Explore(StateID),
    Restore(usize, u32),
}

impl<'a> Search<'a> {
    pub(super) fn new(regex: &'a LookRegex, value: &'a [u8]) -> Self {
        let mut search = Self { regex, value, tables: Vec::new(), matcher: LookMatcher::new() };
        for assertion in &regex.assertions {
            let table = match assertion {
                Assertion::Look { nfa, ahead, negative } => search.table(nfa, *ahead, *negative),
                Assertion::Word { .. } => Vec::new(),
            };
            search.tables.push(table);
        }
        search
    }

    /// At which places a look-around holds: its automaton runs once over the value and may begin anywhere.
    fn table(&self, nfa: &NFA, ahead: bool, negative: bool) -> Vec<bool> {
        let last = self.value.len();
        let mut table = vec![negative; last + 1];
        let mut states = Set::new(nfa);
        let mut stack = Vec::new();
        for step in 0..=last {
            let at = if ahead { last - step } else { step };
            stack.push(nfa.start_anchored());
            if self.close(nfa, &mut stack, &mut states, at, ahead)
                && let Some(place) = table.get_mut(at)
            {
                *place = !negative;
            }
            let byte =
                if ahead { at.checked_sub(1) } else { Some(at) }.and_then(|index| self.value.get(index));
            let Some(byte) = byte else { break };
            for &state in &states.members {
                stack.extend(step_over(nfa, state, *byte));
            }
            // The states reached are closed at the next place, with the automaton's beginning.
            states.clear();
        }
        table
    }

    /// Follows empty steps; whether the automaton has matched.
    fn close(&self, nfa: &NFA, stack: &mut Vec<StateID>, set: &mut Set, at: usize, reversed: bool) -> bool {
        let mut matched = false;
        while let Some(id) = stack.pop() {
            if !set.insert(id) {
                continue;
            }
            match nfa.state(id) {
                State::Look { look, next } => {
                    let look = if reversed { look.reversed() } else { *look };
                    if self.holds(look, at, None) {
                        stack.push(*next);
                    }
                }
                State::Union { alternates } => stack.extend(alternates),
                State::BinaryUnion { alt1, alt2 } => stack.extend([alt1, alt2]),
                State::Capture { next, .. } => stack.push(*next),
                State::Match { .. } => matched = true,
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) | State::Fail => {}
            }
        }
        matched
    }

    /// Whether an assertion holds; `word` is where the remembered word begins and ends.
    fn holds(&self, look: Look, at: usize, word: Option<(u32, u32)>) -> bool {
        let Some(index) = PLACEHOLDERS.iter().position(|(_, placeholder)| *placeholder == look) else {
            return self.matcher.matches(look, self.value, at);
        };
        match self.regex.assertions.get(index) {
            Some(Assertion::Word { ignore_case, negative }) => {
                word.is_some_and(|word| self.same_word(at, word, *ignore_case)) != *negative
            }
            _ => self.tables.get(index).and_then(|table| table.get(at)).copied().unwrap_or(false),
        }
    }

    /// Whether the word that begins here is the remembered one.
    fn same_word(&self, at: usize, (start, end): (u32, u32), ignore_case: bool) -> bool {
        let is_word = |index: usize| self.value.get(index).copied().is_some_and(is_word_byte);
        let begins = !at.checked_sub(1).is_some_and(is_word);
        let word = self.value.get(start as usize..end as usize).unwrap_or_default();
        let here = self.value.get(at..at + word.len());
        let same = |here: &[u8]| if ignore_case { here.eq_ignore_ascii_case(word) } else { here == word };
        begins && here.is_some_and(same) && !is_word(at + word.len())
    }

    /// The leftmost match that begins at `from` or after, preferring what is written first; any match if `earliest`.
    pub(super) fn find(&self, from: usize, earliest: bool) -> Option<Groups> {
        let nfa = &self.regex.nfa;
        let (mut now, mut next) = (Threads::new(nfa), Threads::new(nfa));
        let mut stack = Vec::new();
        let mut found: Option<Slots> = None;
        for at in from..=self.value.len() {
            if found.is_none() {
                let start = Thread { state: nfa.start_anchored(), slots: [UNSET; 20] };
                self.follow(start, &mut now, at, &mut stack);
            } else if now.list.is_empty() {
                break;
            }
            let byte = self.value.get(at).copied();
            for thread in &now.list {
                if matches!(nfa.state(thread.state), State::Match { .. }) {
                    found = Some(thread.slots);
                    if earliest {
                        return found.map(|slots| groups(&slots));
                    }
                    // What comes after it in the list would have been tried later.
                    break;
                }
                if let Some(state) = byte.and_then(|byte| step_over(nfa, thread.state, byte)) {
                    self.follow(Thread { state, slots: thread.slots }, &mut next, at + 1, &mut stack);
                }
            }
            now.clear();
            std::mem::swap(&mut now, &mut next);
        }
        found.map(|slots| groups(&slots))
    }

    /// Adds a thread and all that its empty steps lead to, in order.
    fn follow(&self, thread: Thread, threads: &mut Threads, at: usize, stack: &mut Vec<Frame>) {
        let nfa = &self.regex.nfa;
        let mut slots = thread.slots;
        stack.push(Frame::Explore(thread.state));
        while let Some(frame) = stack.pop() {
            let id = match frame {
                Frame::Explore(id) => id,
                Frame::Restore(slot, old) => {
                    if let Some(place) = slots.get_mut(slot) {
                        *place = old;
                    }
                    continue;
                }
            };
            let word = self.word(&slots);
            if !threads.visit(id, word) {
                continue;
            }
            match nfa.state(id) {
                State::Look { look, next } => {
                    if self.holds(*look, at, word.filter(|(_, end)| *end != UNSET)) {
                        stack.push(Frame::Explore(*next));
                    }
                }
                State::Union { alternates } => {
                    stack.extend(alternates.iter().rev().map(|next| Frame::Explore(*next)));
                }
                State::BinaryUnion { alt1, alt2 } => {
                    stack.extend([Frame::Explore(*alt2), Frame::Explore(*alt1)]);
                }
                State::Capture { next, slot, .. } => {
                    if let Some(place) = slots.get_mut(slot.as_usize()) {
                        stack.push(Frame::Restore(slot.as_usize(), *place));
                        *place = at as u32;
                    }
                    stack.push(Frame::Explore(*next));
                }
                State::Fail => {}
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) | State::Match { .. } => {
                    threads.list.push(Thread { state: id, slots });
                }
            }
        }
    }

    /// Where the remembered word begins and ends.
    fn word(&self, slots: &Slots) -> Option<(u32, u32)> {
        let first = self.regex.word? as usize * 2;
        Some((*slots.get(first)?, *slots.get(first + 1)?)).filter(|(start, _)| *start != UNSET)
    }
}

fn groups(slots: &Slots) -> Groups {
    let mut groups: Groups = [None; 10];
    let (pairs, _) = slots.as_chunks::<2>();
    for (group, [start, end]) in groups.iter_mut().zip(pairs) {
        if *start != UNSET && *end != UNSET {
            *group = Some((*start, *end));
        }
    }
    groups
}

fn step_over(nfa: &NFA, state: StateID, byte: u8) -> Option<StateID> {
    match nfa.state(state) {
        State::ByteRange { trans } if trans.matches_byte(byte) => Some(trans.next),
        State::Sparse(sparse) => sparse.matches_byte(byte),
        State::Dense(dense) => dense.matches_byte(byte),
        _ => None,
    }
}

/// A set of states that remembers its order.
struct Set {
    bits: Vec<u64>,
    members: Vec<StateID>,
}

impl Set {
    fn new(nfa: &NFA) -> Self {
        Self { bits: vec![0; nfa.states().len().div_ceil(64)], members: Vec::new() }
    }

    /// Whether it was not there yet.
    fn insert(&mut self, state: StateID) -> bool {
        let Some(word) = self.bits.get_mut(state.as_usize() / 64) else { return false };
        let bit = 1 << (state.as_usize() % 64);
        let new = *word & bit == 0;
        if new {
            *word |= bit;
            self.members.push(state);
        }
        new
    }

    fn clear(&mut self) {
        for state in self.members.drain(..) {
            if let Some(word) = self.bits.get_mut(state.as_usize() / 64) {
                *word = 0;
            }
        }
    }
}

/// The alternatives that are alive at a place, in order.
struct Threads {
    list: Vec<Thread>,
    /// States seen, for each remembered word; the first `used` are in use.
    seen: Vec<(Option<(u32, u32)>, Set)>,
    used: usize,
    states: usize,
}

impl Threads {
    fn new(nfa: &NFA) -> Self {
        Self { list: Vec::new(), seen: Vec::new(), used: 0, states: nfa.states().len() }
    }

    fn visit(&mut self, state: StateID, word: Option<(u32, u32)>) -> bool {
        let known = self.seen.iter().take(self.used).position(|(other, _)| *other == word);
        let index = known.unwrap_or_else(|| {
            if self.used == self.seen.len() {
                let bits = vec![0; self.states.div_ceil(64)];
                self.seen.push((word, Set { bits, members: Vec::new() }));
            } else if let Some(entry) = self.seen.get_mut(self.used) {
                entry.0 = word;
            }
            self.used += 1;
            self.used - 1
        });
        self.seen.get_mut(index).is_some_and(|(_, set)| set.insert(state))
    }

    fn clear(&mut self) {
        self.list.clear();
        for (_, set) in self.seen.iter_mut().take(self.used) {
            set.clear();
        }
        self.used = 0;
    }
}
