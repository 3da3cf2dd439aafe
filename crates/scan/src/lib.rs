//! Where in a text one of many short texts occurs, found by vector instructions: for texts that are long and seldom hold
//! any of them.
//!
//! Of each text that is looked for, four bytes are enough to look at first. [`Sieve`] chooses them so that they are rare
//! in what people write and shared by as many of the texts as can be, and hands them to the searcher Teddy of the crate
//! `aho-corasick`, which looks at 32 bytes in some 30 instructions (16 where the machine has no AVX2). Teddy sorts what it
//! looks for into eight buckets, and one that holds things of many kinds is deceived often; so they are sorted here.
#![forbid(unsafe_code)]

mod buckets;
mod commonness;
mod windows;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind, Span, packed};
use windows::{Window, Windows, choose};

/// At what share of the places of an ordinary text these bytes stand, roughly, as if each were there by chance.
#[must_use]
pub fn frequency(text: &[u8]) -> f64 {
    text.iter().map(|byte| commonness::share(*byte)).product()
}

/// Finds needles in texts.
#[derive(Debug)]
pub struct Sieve {
    /// Those for needles of four bytes and more, and one for the others.
    nets: Vec<Net>,
    needles: Vec<Box<[u8]>>,
    reach: usize,
}

/// Finds windows of one width.
#[derive(Debug)]
struct Net {
    searcher: Searcher,
    /// For each of the searcher's patterns the needles that it stands for.
    places: Vec<Vec<Place>>,
}

/// Where a window is in a needle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    needle: usize,
    offset: usize,
}

#[derive(Debug)]
enum Searcher {
    Packed(packed::Searcher),
    /// For machines without such instructions.
    Automaton(AhoCorasick),
}

/// A searcher that has more windows than this is deceived too often: another one costs less.
const CROWDED: usize = 60;

/// More windows of a width than this are too many to be told apart quickly.
const MOST_WINDOWS: usize = 100;

/// For as many as that, of both widths.
const MOST_NETS: usize = 2 * MOST_WINDOWS.div_ceil(CROWDED);

impl Sieve {
    /// `None` where a needle has less than two bytes, where they are too many, and where there are none.
    #[must_use]
    pub fn new<'a>(needles: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let needles: Vec<Box<[u8]>> = needles.into_iter().map(Box::from).collect();
        let mut nets = Vec::new();
        let mut reach = 0;
        for windows in choose(&needles, MOST_WINDOWS)?.into_iter().filter(|windows| !windows.is_empty()) {
            let places = windows.iter().flat_map(|(_, places)| places);
            reach = places.map(|place| place.offset).fold(reach, usize::max);
            if windows.len() > MOST_WINDOWS {
                return None;
            }
            for order in buckets::arrange(&windows, windows.len().div_ceil(CROWDED)) {
                nets.push(Net::new(&windows, &order)?);
            }
        }
        (!nets.is_empty()).then_some(Sieve { nets, needles, reach })
    }

    /// A needle that begins at some place is found before anything that looks like needles more than this behind it.
    #[must_use]
    pub fn reach(&self) -> usize {
        self.reach
    }
}

impl Net {
    fn new(windows: &Windows, order: &[usize]) -> Option<Self> {
        let in_order = || order.iter().filter_map(|number| windows.get(*number));
        let texts: Vec<&Window> = in_order().map(|(window, _)| window).collect();
        let packed = packed::Config::new()
            // What Teddy would choose for so many looks at half as much at once.
            .only_teddy_fat(Some(false))
            .heuristic_pattern_limits(false)
            .builder()
            .extend(&texts)
            .build();
        let searcher = match packed {
            Some(searcher) => Searcher::Packed(searcher),
            None => Searcher::Automaton(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostFirst)
                    .kind(Some(AhoCorasickKind::DFA))
                    .build(&texts)
                    .ok()?,
            ),
        };
        Some(Net { searcher, places: in_order().map(|(_, places)| places.clone()).collect() })
    }

    /// The first window at or after `from`: what it stands for, and where.
    #[inline]
    fn find(&self, text: &[u8], from: usize) -> Option<(&[Place], usize)> {
        if from >= text.len() {
            return None;
        }
        let (pattern, at) = match &self.searcher {
            Searcher::Packed(searcher) => {
                let found = searcher.find_in(text, Span { start: from, end: text.len() })?;
                (found.pattern(), found.start())
            }
            Searcher::Automaton(automaton) => {
                let found = automaton.find(Input::new(text).range(from..))?;
                (found.pattern(), found.start())
            }
        };
        Some((self.places.get(pattern.as_usize())?, at))
    }
}

/// Goes through a text, which it has to be given each time.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    sieve: &'a Sieve,
    /// For each net what it finds next.
    next: [Option<(&'a [Place], usize)>; MOST_NETS],
}

/// Where needles may be.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    sieve: &'a Sieve,
    places: &'a [Place],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Begins at `from`; needles that begin in front of it may be found, too.
    #[must_use]
    pub fn new(sieve: &'a Sieve, text: &[u8], from: usize) -> Self {
        let mut next = [None; MOST_NETS];
        for (next, net) in next.iter_mut().zip(&sieve.nets) {
            *next = net.find(text, from);
        }
        Cursor { sieve, next }
    }

    /// The next place at which something looks like needles.
    pub fn next(&mut self, text: &[u8]) -> Option<Found<'a>> {
        let found = self.next.iter().enumerate().filter_map(|(net, next)| next.map(|(_, at)| (at, net)));
        let (_, first) = found.min()?;
        let (places, at) = self.next.get(first).copied().flatten()?;
        if let (Some(next), Some(net)) = (self.next.get_mut(first), self.sieve.nets.get(first)) {
            *next = net.find(text, at + 1);
        }
        Some(Found { sieve: self.sieve, places, at })
    }

    /// Leaves out what is in front of `from`.
    pub fn skip_to(&mut self, text: &[u8], from: usize) {
        for (next, net) in self.next.iter_mut().zip(&self.sieve.nets) {
            if next.is_some_and(|(_, at)| at < from) {
                *next = net.find(text, from);
            }
        }
    }
}

impl<'a> Found<'a> {
    /// Where it was.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The needles that do stand here, by their numbers, and where each begins. Each occurrence of a needle is told
    /// once, at whichever place.
    pub fn needles(self, text: &[u8]) -> impl Iterator<Item = (usize, usize)> {
        let stands = move |place: &Place| {
            let start = self.at.checked_sub(place.offset)?;
            let needle = self.sieve.needles.get(place.needle)?;
            text.get(start..)?.starts_with(needle).then_some((place.needle, start))
        };
        self.places.iter().filter_map(stands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(sieve: &Sieve, text: &[u8], from: usize) -> Vec<(usize, usize)> {
        let (mut found, mut at) = (Vec::new(), from);
        let mut cursor = Cursor::new(sieve, text, from);
        while let Some(here) = cursor.next(text) {
            assert!(here.at() >= at, "in order");
            at = here.at();
            for (needle, start) in here.needles(text) {
                assert!(start <= at && at <= start + sieve.reach());
                found.push((start, needle));
            }
        }
        found.retain(|(start, _)| *start >= from);
        found.sort_unstable();
        found
    }

    fn naive(needles: &[Vec<u8>], text: &[u8], from: usize) -> Vec<(usize, usize)> {
        let starts = |start: usize| {
            let here =
                needles.iter().enumerate().filter(move |(_, needle)| text[start..].starts_with(needle));
            here.map(move |(needle, _)| (start, needle))
        };
        (from..text.len()).flat_map(starts).collect()
    }

    proptest! {
        #[test]
        fn finds_each_occurrence_once(
            needles in prop::collection::btree_set("[ab.]{2,6}|[a-z ]{2,9}|[a-z\\x00\u{fc}]{3,5}", 1..40),
            text in prop::collection::vec("[ab.]{0,9}|[a-z ]{0,40}", 0..12),
            held in any::<prop::sample::Index>(),
            times in 1usize..4,
            from in 0usize..50,
        ) {
            let needles: Vec<Vec<u8>> = needles.into_iter().map(String::into_bytes).collect();
            let mut text = text.concat().repeat(times).into_bytes();
            text.extend_from_slice(&needles[held.index(needles.len())]);
            let sieve = Sieve::new(needles.iter().map(Vec::as_slice)).unwrap();
            let from = from.min(text.len());
            prop_assert_eq!(all(&sieve, &text, from), naive(&needles, &text, from));
            let mut cursor = Cursor::new(&sieve, &text, 0);
            cursor.next(&text);
            cursor.skip_to(&text, from);
            prop_assert!(cursor.next(&text).is_none_or(|found| found.at() >= from));
        }
    }

    #[test]
    fn too_short_too_many_and_none() {
        assert!(Sieve::new([]).is_none());
        assert!(Sieve::new([b"abc".as_slice(), b"a"]).is_none());
        let many: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte, byte, byte]).collect();
        assert!(Sieve::new(many.iter().map(Vec::as_slice)).is_none());
    }
}
