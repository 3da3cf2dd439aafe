//! Which of thousands of literals occur in a text, in one pass: the automaton of Aho and Corasick ("Efficient string
//! matching: an aid to bibliographic search", CACM 1975) as a complete table, over bytes folded to lower case.
//!
//! It differs from a general one in what it need not do. It reports no positions: each state has the set of patterns
//! its literals belong to, ready to be joined to a candidate set. It may report too much: when the table would grow too
//! large, literals are cut short. And since the order of reports does not matter, a long text is read in four places at
//! once, because reading it in one waits for memory at each byte.

use std::collections::VecDeque;

/// States and therefore memory are bounded: a state takes about 128 bytes.
const MAX_STATES: usize = 24 << 10;
/// Longer literals reject hardly better, but cost states and make the four readers overlap for longer.
const LONGEST: usize = 24;
/// Texts shorter than this are read in one place.
const LONG_TEXT: usize = 256;

/// Some patterns of one word of a candidate set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    word: u16,
    mask: u64,
}

impl Bits {
    /// These patterns as masks of words, each word once.
    pub(super) fn of(patterns: &[u16]) -> Vec<Self> {
        let mut bits = Vec::new();
        append(patterns, &mut bits);
        bits
    }

    /// Adds them to a candidate set.
    #[inline]
    pub(super) fn join(self, set: &mut [u64]) {
        if let Some(word) = set.get_mut(usize::from(self.word)) {
            *word |= self.mask;
        }
    }
}

/// The compiled literals.
#[derive(Debug)]
pub(super) struct Automaton {
    /// The class of each byte; 0: occurs in no literal.
    classes: Box<[u8; 256]>,
    /// The number of classes is below two to the power of this.
    shift: u32,
    /// Next state by state and class.
    next: Vec<u16>,
    /// States from this one on have literals that end there.
    first_match: u16,
    /// For those: where their patterns begin in `bits`; one more than there are states.
    starts: Vec<u32>,
    bits: Vec<Bits>,
    /// Bytes of the longest literal.
    longest: usize,
}

impl Automaton {
    /// `literals` (lower case, not empty) with the patterns each belongs to, as bit numbers.
    pub(super) fn new(literals: &[(&[u8], Vec<u16>)]) -> Self {
        let (classes, count) = classes(literals);
        let shift = usize::from(count).next_power_of_two().trailing_zeros();
        let mut longest = LONGEST;
        let trie = loop {
            match Trie::new(literals, &classes, shift, longest) {
                Some(trie) => break trie,
                // Two bytes cannot make more states than there are.
                None => longest = (longest * 3 / 4).max(2),
            }
        };
        trie.complete(classes, shift, longest)
    }

    /// Adds the patterns whose literals occur in the text.
    pub(super) fn scan(&self, text: &[u8], set: &mut [u64]) {
        let overlap = self.longest.saturating_sub(1);
        if text.len() < LONG_TEXT.max(4 * overlap) {
            self.read(0, text, set);
            return;
        }
        // Each reader begins so far before its part that literals across the border are whole for one of them.
        let part = text.len().div_ceil(4);
        let of = |number: usize| {
            let end = (part * (number + 1)).min(text.len());
            text.get((part * number).saturating_sub(overlap)..end).unwrap_or_default()
        };
        let parts = [of(0), of(1), of(2), of(3)];
        let common = parts.iter().map(|part| part.len()).min().unwrap_or(0);
        let heads = parts.map(|part| part.get(..common).unwrap_or_default());
        let states = self.read_four(heads, set);
        for (state, part) in states.into_iter().zip(parts) {
            self.read(state, part.get(common..).unwrap_or_default(), set);
        }
    }

    #[inline]
    fn step(&self, state: u16, byte: u8) -> u16 {
        let class = self.classes.get(usize::from(byte)).copied().unwrap_or(0);
        let place = usize::from(state) << self.shift | usize::from(class);
        self.next.get(place).copied().unwrap_or(0)
    }

    fn read(&self, mut state: u16, text: &[u8], set: &mut [u64]) {
        for &byte in text {
            state = self.step(state, byte);
            if state >= self.first_match {
                self.report(state, set);
            }
        }
    }

    /// Reads four texts of the same length at once.
    fn read_four(&self, texts: [&[u8]; 4], set: &mut [u64]) -> [u16; 4] {
        let [mut a, mut b, mut c, mut d] = [0; 4];
        let [ta, tb, tc, td] = texts;
        for (((&byte_a, &byte_b), &byte_c), &byte_d) in ta.iter().zip(tb).zip(tc).zip(td) {
            a = self.step(a, byte_a);
            b = self.step(b, byte_b);
            c = self.step(c, byte_c);
            d = self.step(d, byte_d);
            if a.max(b).max(c.max(d)) >= self.first_match {
                for state in [a, b, c, d] {
                    if state >= self.first_match {
                        self.report(state, set);
                    }
                }
            }
        }
        [a, b, c, d]
    }

    #[inline]
    fn report(&self, state: u16, set: &mut [u64]) {
        let index = usize::from(state - self.first_match);
        let [start, end] =
            [index, index + 1].map(|index| self.starts.get(index).map_or(0, |at| *at as usize));
        for bits in self.bits.get(start..end).unwrap_or_default() {
            bits.join(set);
        }
    }
}

/// A class for each byte that occurs (letters of both cases share one), and how many classes there are.
fn classes(literals: &[(&[u8], Vec<u16>)]) -> (Box<[u8; 256]>, u16) {
    let mut occurs = [false; 256];
    for byte in literals.iter().flat_map(|(literal, _)| literal.iter().take(LONGEST)) {
        if let Some(occurs) = occurs.get_mut(usize::from(byte.to_ascii_lowercase())) {
            *occurs = true;
        }
    }
    let mut classes = Box::new([0u8; 256]);
    let mut count = 1u16;
    for (byte, _) in (0..=255u8).zip(occurs).filter(|(_, occurs)| *occurs) {
        for byte in [byte, byte.to_ascii_uppercase()] {
            if let Some(class) = classes.get_mut(usize::from(byte)) {
                *class = u8::try_from(count).unwrap_or(0);
            }
        }
        count += 1;
    }
    (classes, count)
}

/// The literals as a tree; the root is 0, which nothing leads to.
struct Trie {
    next: Vec<u16>,
    /// The patterns of each state's own literal.
    patterns: Vec<Vec<u16>>,
}

impl Trie {
    /// `None`: too many states.
    fn new(literals: &[(&[u8], Vec<u16>)], classes: &[u8; 256], shift: u32, longest: usize) -> Option<Self> {
        let mut trie = Self { next: vec![0; 1 << shift], patterns: vec![Vec::new()] };
        for (literal, patterns) in literals {
            let mut state = 0usize;
            for byte in literal.iter().take(longest) {
                let class = usize::from(*classes.get(usize::from(*byte))?);
                let place = trie.next.get_mut(state << shift | class)?;
                if *place == 0 {
                    if longest > 2 && trie.patterns.len() >= MAX_STATES {
                        return None;
                    }
                    *place = u16::try_from(trie.patterns.len()).ok()?;
                    state = usize::from(*place);
                    trie.patterns.push(Vec::new());
                    trie.next.resize(trie.next.len() + (1 << shift), 0);
                } else {
                    state = usize::from(*place);
                }
            }
            trie.patterns.get_mut(state)?.extend_from_slice(patterns);
        }
        Some(trie)
    }

    /// Fills in where each state goes on when its literals do not: to the longest end of what was read that begins a
    /// literal. States come off the queue in the order of their depth, so that end's row is complete already.
    fn complete(mut self, classes: Box<[u8; 256]>, shift: u32, longest: usize) -> Automaton {
        let width = 1usize << shift;
        let mut fail = vec![0u16; self.patterns.len()];
        let mut queue = VecDeque::from([0u16]);
        while let Some(state) = queue.pop_front() {
            let row = usize::from(state) << shift;
            let back = fail.get(usize::from(state)).copied().unwrap_or(0);
            if back != 0 {
                let inherited = self.patterns.get(usize::from(back)).cloned().unwrap_or_default();
                if let Some(own) = self.patterns.get_mut(usize::from(state)) {
                    own.extend(inherited);
                }
            }
            for class in 0..width {
                let from_back = self.next.get((usize::from(back) << shift) + class).copied().unwrap_or(0);
                let Some(place) = self.next.get_mut(row + class) else { continue };
                if *place == 0 {
                    *place = if state == 0 { 0 } else { from_back };
                    continue;
                }
                queue.push_back(*place);
                if let Some(fail) = fail.get_mut(usize::from(*place)) {
                    *fail = if state == 0 { 0 } else { from_back };
                }
            }
        }
        self.arrange(classes, shift, longest)
    }

    /// Moves the states with literals behind the others, so that one comparison tells them.
    fn arrange(self, classes: Box<[u8; 256]>, shift: u32, longest: usize) -> Automaton {
        let width = 1usize << shift;
        let matching = |patterns: &Vec<u16>| !patterns.is_empty();
        let first_match = self.patterns.iter().filter(|patterns| !matching(patterns)).count() as u16;
        let (mut plain, mut found) = (0u16, first_match);
        let places: Vec<u16> = self
            .patterns
            .iter()
            .map(|patterns| {
                let counter = if matching(patterns) { &mut found } else { &mut plain };
                *counter += 1;
                *counter - 1
            })
            .collect();
        let mut next = vec![0u16; self.next.len()];
        for (row, place) in self.next.chunks_exact(width).zip(&places) {
            let start = usize::from(*place) << shift;
            let moved = next.get_mut(start..start + width).unwrap_or_default();
            for (to, from) in moved.iter_mut().zip(row) {
                *to = places.get(usize::from(*from)).copied().unwrap_or(0);
            }
        }
        let (mut starts, mut bits) = (vec![0u32], Vec::new());
        for patterns in self.patterns.iter().filter(|patterns| matching(patterns)) {
            append(patterns, &mut bits);
            starts.push(bits.len() as u32);
        }
        let longest = longest.min(LONGEST);
        Automaton { classes, shift, next, first_match, starts, bits, longest }
    }
}

/// Patterns as masks of words, each word once.
fn append(patterns: &[u16], bits: &mut Vec<Bits>) {
    let begin = bits.len();
    for &pattern in patterns {
        let (word, mask) = (pattern >> 6, 1u64 << (pattern & 63));
        let mine = bits.get_mut(begin..).unwrap_or_default();
        match mine.iter_mut().find(|bits| bits.word == word) {
            Some(bits) => bits.mask |= mask,
            None => bits.push(Bits { word, mask }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(literals: &[Vec<u8>], text: &[u8]) -> u64 {
        let text = text.to_ascii_lowercase();
        let occurs = |literal: &&Vec<u8>| memchr::memmem::find(&text, literal).is_some();
        literals
            .iter()
            .enumerate()
            .filter(|(_, literal)| occurs(literal))
            .fold(0, |set, (at, _)| set | 1 << at)
    }

    fn scan(literals: &[Vec<u8>], text: &[u8]) -> u64 {
        let listed: Vec<_> =
            (0u16..).zip(literals).map(|(at, literal)| (literal.as_slice(), vec![at])).collect();
        let mut set = [0];
        Automaton::new(&listed).scan(text, &mut set);
        set[0]
    }

    proptest! {
        #[test]
        fn finds_what_occurs(
            literals in prop::collection::vec("[ab0\\-]{1,6}", 1..12),
            text in "[abAB0\\-x\u{e9}]{0,40}",
            times in prop::sample::select(vec![1usize, 20]),
        ) {
            let literals: Vec<_> = literals.into_iter().map(String::into_bytes).collect();
            // Long texts are read in four places.
            let text = text.repeat(times).into_bytes();
            prop_assert_eq!(scan(&literals, &text), naive(&literals, &text));
        }
    }

    #[test]
    fn literals_across_the_borders_of_the_four_parts() {
        let literals = [b"needle in the haystack".to_vec()];
        for at in 0..380 {
            let mut text = vec![b'.'; 402];
            text[at..at + 22].copy_from_slice(b"NEEDLE in the haystack");
            assert_eq!(scan(&literals, &text), 1, "{at}");
        }
    }

    #[test]
    fn too_many_literals_are_cut_and_still_found() {
        let literals: Vec<String> = (0..20_000u32).map(|number| format!("{:x}", number * 7919)).collect();
        let listed: Vec<_> = literals.iter().map(|literal| (literal.as_bytes(), vec![0])).collect();
        let automaton = Automaton::new(&listed);
        assert!(automaton.next.len() <= (MAX_STATES + 1) << automaton.shift);
        for literal in &literals {
            let mut set = [0];
            automaton.scan(literal.as_bytes(), &mut set);
            assert_eq!(set, [1], "{literal}");
        }
    }
}
