//! Fingerprints: the kinds of a value's first tokens after folding, and which of them are known from attacks.

use std::fmt;

use super::fingerprint_data::{COUNT, FINGERPRINTS};
use super::token::Kind;

/// The most tokens a fingerprint has.
pub(super) const LONGEST: usize = 5;

/// The kinds of up to five tokens, one letter each, by which an SQL injection is known: `sUEnk` is a string, `UNION`,
/// `SELECT`, a word and a keyword.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    letters: [u8; LONGEST],
    length: usize,
}

impl Fingerprint {
    /// Of the first five kinds.
    pub(super) fn of(kinds: impl Iterator<Item = Kind>) -> Self {
        let mut fingerprint = Self { letters: [0; LONGEST], length: 0 };
        for (slot, kind) in fingerprint.letters.iter_mut().zip(kinds) {
            *slot = kind.letter();
            fingerprint.length += 1;
        }
        fingerprint
    }

    /// The letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The letters; all are ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.letters.get(..self.length).unwrap_or_default()
    }

    /// Whether attacks are known that have it. Case does not count here.
    pub(super) fn is_known(&self) -> bool {
        let packed = self.as_bytes().iter().try_fold(0, |packed, letter| pack(packed, *letter));
        packed.is_some_and(|packed| PACKED.binary_search(&align(packed, self.length)).is_ok())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The known ones, six bits a letter, left-aligned, ascending like their texts.
static PACKED: [u32; COUNT] = packed();

/// Appends a letter; `None` for braces, which no known fingerprint has.
const fn pack(packed: u32, letter: u8) -> Option<u32> {
    match letter.to_ascii_uppercase() {
        upper @ b' '..=b'_' => Some(packed << 6 | (upper - b' ') as u32),
        _ => None,
    }
}

const fn align(packed: u32, length: usize) -> u32 {
    packed << (6 * (LONGEST - length))
}

#[expect(clippy::indexing_slicing, reason = "run by the compiler only, where a wrong index is an error")]
const fn packed() -> [u32; COUNT] {
    let mut all = [0; COUNT];
    let mut count = 0;
    let mut text = FINGERPRINTS.as_bytes();
    while !text.is_empty() {
        let (mut packed, mut length) = (0, 0);
        while let [letter, rest @ ..] = text {
            text = rest;
            match pack(packed, *letter) {
                Some(more) if *letter != b' ' => packed = more,
                _ => break,
            }
            length += 1;
        }
        all[count] = align(packed, length);
        assert!(count == 0 || all[count - 1] < all[count]);
        count += 1;
    }
    assert!(count == COUNT);
    all
}
