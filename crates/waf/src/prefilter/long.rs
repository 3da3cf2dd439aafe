//! Which of some hundred literals occur in a long text, which seldom holds any of them: answers of upstreams.
//!
//! The automaton reads every byte; the sieve looks at 32 at a time for what the literals have that is rare, so that an
//! ordinary text costs it a fifth. It is worse where much is found, and goes out of the way then.

use portcullis_scan::{Cursor, Sieve};

use super::automaton::Bits;

/// Texts shorter than this are not worth it.
pub(super) const LONG: usize = 1024;

/// Looked at in one go: so much is put into lower case on the stack.
const PIECE: usize = 4096;

/// More places than one for so many bytes are better left to the automaton.
const SPARSE: usize = 128;

/// What more literals have in common is not looked for.
const MOST: usize = 500;

/// The literals, for long texts.
#[derive(Debug)]
pub(super) struct LongTexts {
    sieve: Sieve,
    /// For each literal the patterns it belongs to.
    bits: Vec<Vec<Bits>>,
    /// Bytes of the longest literal but one: what a piece has in common with the next.
    overlap: usize,
}

impl LongTexts {
    /// `literals` as for the automaton. `None` where they are too many, or too short.
    pub(super) fn new(literals: &[(&[u8], Vec<u16>)]) -> Option<Self> {
        if literals.len() > MOST {
            return None;
        }
        let longest = literals.iter().map(|(literal, _)| literal.len()).max()?;
        // Half of what fits into a piece is new at least.
        let overlap = Some(longest - 1).filter(|overlap| *overlap <= PIECE / 2)?;
        let sieve = Sieve::new(literals.iter().map(|(literal, _)| *literal))?;
        let bits = literals.iter().map(|(_, patterns)| Bits::of(patterns)).collect();
        Some(Self { sieve, bits, overlap })
    }

    /// Adds the patterns whose literals occur in the text. Returns from where on it has not been read, if much was found
    /// up to there.
    pub(super) fn scan(&self, text: &[u8], set: &mut [u64]) -> Option<usize> {
        let mut lower = [0; PIECE];
        let (mut at, mut left) = (0, 2 + text.len() / SPARSE);
        while at < text.len() {
            let end = (at + PIECE).min(text.len());
            let mut piece = text.get(at..end).unwrap_or_default();
            if piece.iter().fold(false, |any, byte| any | byte.is_ascii_uppercase())
                && let Some(room) = lower.get_mut(..piece.len())
            {
                room.copy_from_slice(piece);
                room.make_ascii_lowercase();
                piece = room;
            }
            let mut cursor = Cursor::new(&self.sieve, piece, 0);
            while let Some(found) = cursor.next(piece) {
                for (literal, _) in found.needles(piece) {
                    self.bits.get(literal).into_iter().flatten().for_each(|bits| bits.join(set));
                }
                left -= 1;
                if left == 0 {
                    return Some(at);
                }
            }
            if end == text.len() {
                return None;
            }
            at = end - self.overlap;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(literals: &[&[u8]]) -> LongTexts {
        let listed: Vec<_> = (0u16..).zip(literals).map(|(at, literal)| (*literal, vec![at])).collect();
        LongTexts::new(&listed).unwrap()
    }

    proptest! {
        #[test]
        fn finds_what_occurs(
            literals in prop::collection::btree_set("[ab0-]{2,6}|[a-z =<]{4,9}", 1..30),
            filler in prop::sample::select(b"axZ \xe9".to_vec()),
            size in 0usize..3 * PIECE,
            held in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 0..6),
        ) {
            let literals: Vec<Vec<u8>> = literals.into_iter().map(String::into_bytes).collect();
            let mut text = vec![filler; size];
            for (place, which, upper) in held {
                let mut literal = literals[which.index(literals.len())].clone();
                if upper {
                    literal.make_ascii_uppercase();
                }
                let at = place.index(text.len() + 1);
                text.splice(at..at, literal);
            }
            let slices: Vec<&[u8]> = literals.iter().map(Vec::as_slice).collect();
            let mut set = [0];
            let stopped = texts(&slices).scan(&text, &mut set);
            let occurs = |text: &[u8]| {
                let text = text.to_ascii_lowercase();
                let found = literals.iter().enumerate().filter(|(_, literal)| memchr::memmem::find(&text, literal).is_some());
                found.fold(0u64, |set, (at, _)| set | 1 << at)
            };
            match stopped {
                None => prop_assert_eq!(set[0], occurs(&text)),
                Some(at) => prop_assert_eq!(set[0] | occurs(&text[at..]), occurs(&text)),
            }
        }
    }

    #[test]
    fn where_much_is_found_it_gives_way() {
        let texts = texts(&[b"warning:"]);
        let mut set = [0];
        let at = texts.scan(&b"Warning: ".repeat(5_000), &mut set).unwrap();
        assert!(set == [1] && at < 8_000, "{at}");
        assert_eq!(texts.scan(&vec![b'w'; 50_000], &mut set), None);
    }
}
