//! What a thread remembers of the values it has seen: which questions about them are open.
//!
//! Clients say the same of themselves in each request (their name, what they accept, their cookies, their token), and ask
//! for the same places. Whether a condition holds for a value depends on nothing but the condition and the value's bytes,
//! so an answer holds for as long as the program does. Only such answers are kept here: what a rule that matches then
//! does, and what `ctl`s, exclusions and the other conditions of its chain make of it, is found out for each request
//! anew. Values are told apart by all their bytes; the hash only says where to look.

use crate::rule::Phase;
use crate::variable::Var;

/// Values remembered: more than the fields of the clients that a thread serves at a time.
const SLOTS: usize = 1024;
/// Of those whose hashes lead to the same place, so many are.
const BUCKET: usize = 8;
/// Longer ones are not remembered.
const LONGEST: usize = 2048;
/// Bytes of all of them together; beyond that everything is forgotten.
const MOST: usize = 256 << 10;

/// A question about a value to which the answer is not no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open(u32);

impl Open {
    pub(crate) fn new(question: u32) -> Self {
        Self(question << 1)
    }

    /// Index in [`crate::nominations::Nominations::questions`].
    pub(crate) fn question(self) -> u32 {
        self.0 >> 1
    }

    /// Whether the answer is known to be yes.
    pub(crate) fn holds(self) -> bool {
        self.0 & 1 != 0
    }

    fn settled(self) -> Self {
        Self(self.0 | 1)
    }
}

/// A value and where in a message it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) phase: Phase,
    pub(crate) part: Var,
    /// The entry's name; empty for what has none.
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Seeded, of key and value.
    pub(crate) hash: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// Another value in the same slot has another stamp.
    stamp: u32,
    phase: u8,
    part: u8,
    /// Whether the answers to all open questions are known.
    settled: bool,
    key_len: u32,
    /// Key and value.
    text: Vec<u8>,
    open: Vec<Open>,
}

impl Slot {
    fn is(&self, seen: &Seen<'_>) -> bool {
        self.phase == seen.phase.number()
            && self.part == seen.part as u8
            && self.text.split_at_checked(self.key_len as usize) == Some((seen.key, seen.value))
    }
}

/// Values among which one is looked for.
#[derive(Debug, Default)]
struct Bucket {
    /// 0: empty.
    hashes: [u64; BUCKET],
    /// Those that were asked for since all were, one bit each.
    recent: u8,
    /// Where the next value goes, if what is there was not asked for: what came together is not to drive one another out.
    hand: u8,
    slots: [Option<Box<Slot>>; BUCKET],
}

/// Where a value is remembered, for as long as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    slot: u32,
    stamp: u32,
}

impl Place {
    /// Nowhere.
    pub(crate) const NONE: Self = Self { slot: u32::MAX, stamp: 0 };
}

/// The values that a thread remembers for one program.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// None until a value is kept.
    buckets: Vec<Bucket>,
    stamp: u32,
    /// Bytes of all texts.
    held: usize,
}

impl Memo {
    /// The value, if it is remembered.
    pub(crate) fn find(&mut self, seen: &Seen<'_>) -> Option<Place> {
        let first = bucket_of(seen);
        let bucket = self.buckets.get_mut(first)?;
        for (at, (hash, slot)) in bucket.hashes.iter().zip(&bucket.slots).enumerate() {
            if *hash == seen.hash
                && let Some(slot) = slot.as_deref().filter(|slot| slot.is(seen))
            {
                bucket.recent |= 1 << at;
                return Some(Place { slot: (first * BUCKET + at) as u32, stamp: slot.stamp });
            }
        }
        None
    }

    fn slot(&self, place: Place) -> Option<&Slot> {
        let slot = place.slot as usize;
        self.buckets.get(slot / BUCKET)?.slots.get(slot % BUCKET)?.as_deref()
    }

    fn slot_mut(&mut self, place: Place) -> Option<&mut Slot> {
        let slot = place.slot as usize;
        let slot = self.buckets.get_mut(slot / BUCKET)?.slots.get_mut(slot % BUCKET)?.as_deref_mut();
        slot.filter(|slot| slot.stamp == place.stamp)
    }

    /// The questions about a value that are open.
    pub(crate) fn open(&self, place: Place) -> &[Open] {
        self.slot(place).map_or(&[], |slot| &slot.open)
    }

    /// Whether there are questions whose answers are not known; there will not be.
    pub(crate) fn unsettled(&mut self, place: Place) -> bool {
        self.slot_mut(place).is_some_and(|slot| !std::mem::replace(&mut slot.settled, true))
    }

    /// Remembers a value that is not remembered yet, in the place of one that was not asked for lately.
    pub(crate) fn keep(&mut self, seen: &Seen<'_>, open: &[Open]) -> Place {
        let length = seen.key.len() + seen.value.len();
        if length > LONGEST {
            return Place::NONE;
        }
        if self.held + length > MOST {
            self.buckets.clear();
            self.held = 0;
        }
        if self.buckets.is_empty() {
            self.buckets.resize_with(SLOTS / BUCKET, Bucket::default);
        }
        self.stamp = self.stamp.wrapping_add(1);
        let first = bucket_of(seen);
        let Some(bucket) = self.buckets.get_mut(first) else { return Place::NONE };
        let empty = bucket.hashes.iter().position(|hash| *hash == 0);
        let at = empty.unwrap_or_else(|| {
            if bucket.recent == u8::MAX {
                bucket.recent = 0;
            }
            let hand = u32::from(bucket.hand);
            let from_hand = bucket.recent.rotate_right(hand).trailing_ones();
            (from_hand + hand) as usize % BUCKET
        });
        bucket.hand = (at as u8 + 1) % BUCKET as u8;
        let (Some(hash), Some(slot)) = (bucket.hashes.get_mut(at), bucket.slots.get_mut(at)) else {
            return Place::NONE;
        };
        let slot = slot.get_or_insert_default();
        self.held = (self.held + length).saturating_sub(slot.text.len());
        slot.text.clear();
        slot.text.extend_from_slice(seen.key);
        slot.text.extend_from_slice(seen.value);
        slot.open.clear();
        slot.open.extend_from_slice(open);
        (slot.stamp, slot.settled, *hash) = (self.stamp, open.is_empty(), seen.hash);
        (slot.phase, slot.part, slot.key_len) = (seen.phase.number(), seen.part as u8, seen.key.len() as u32);
        Place { slot: (first * BUCKET + at) as u32, stamp: self.stamp }
    }

    /// Remembers the answer to a question.
    pub(crate) fn answer(&mut self, place: Place, question: u32, holds: bool) {
        let Some(slot) = self.slot_mut(place) else { return };
        if holds {
            let asked = slot.open.iter_mut().filter(|open| open.question() == question);
            asked.for_each(|open| *open = open.settled());
        } else {
            slot.open.retain(|open| open.question() != question);
        }
    }
}

fn bucket_of(seen: &Seen<'_>) -> usize {
    (seen.hash >> 32) as usize % (SLOTS / BUCKET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(key: &'a [u8], value: &'a [u8], hash: u64) -> Seen<'a> {
        Seen { phase: Phase::RequestHeaders, part: Var::RequestHeaders, key, value, hash }
    }

    #[test]
    fn values_are_told_apart_by_all_there_is_to_them() {
        let mut memo = Memo::default();
        let place = memo.keep(&seen(b"ab", b"c", 7), &[Open::new(3), Open::new(5)]);
        assert_eq!(memo.find(&seen(b"ab", b"c", 7)), Some(place));
        assert_eq!(memo.find(&seen(b"a", b"bc", 7)), None);
        assert_eq!(memo.find(&seen(b"ab", b"d", 7)), None);
        assert_eq!(memo.find(&Seen { part: Var::ArgsGet, ..seen(b"ab", b"c", 7) }), None);
        assert_eq!(memo.find(&Seen { phase: Phase::RequestBody, ..seen(b"ab", b"c", 7) }), None);
        memo.answer(place, 3, false);
        memo.answer(place, 5, true);
        assert_eq!(memo.open(place), [Open::new(5).settled()]);
        assert!(memo.open(place)[0].holds() && memo.open(place)[0].question() == 5);
        assert_eq!([memo.unsettled(place), memo.unsettled(place)], [true, false]);
    }

    #[test]
    fn what_is_asked_for_stays_and_answers_about_what_went_are_dropped() {
        let mut memo = Memo::default();
        let kept = memo.keep(&seen(b"", b"kept", 8), &[]);
        let first = memo.keep(&seen(b"", b"0", 8), &[]);
        for value in 1..100u8 {
            assert_eq!(memo.find(&seen(b"", b"kept", 8)), Some(kept));
            memo.keep(&seen(b"", &[value], 8), &[Open::new(1)]);
        }
        memo.answer(first, 1, false);
        let last = memo.find(&seen(b"", &[99], 8)).unwrap();
        assert_eq!(memo.open(last), [Open::new(1)]);
        assert_eq!(memo.keep(&seen(b"", &[0; LONGEST + 1], 8), &[]), Place::NONE);
    }

    #[test]
    fn what_came_together_stays_together() {
        let mut memo = Memo::default();
        for value in 0..50u8 {
            memo.keep(&seen(b"once", &[value], 8), &[]);
        }
        let mut kept = 0;
        for request in 0..10 {
            for name in [b"a", b"b", b"c"] {
                match memo.find(&seen(name, b"again", 8)) {
                    Some(_) => kept += 1,
                    None => _ = memo.keep(&seen(name, b"again", 8), &[]),
                }
            }
            memo.keep(&seen(b"once", &[100 + request], 8), &[]);
        }
        assert_eq!(kept, 27);
    }

    #[test]
    fn memory_is_bounded() {
        let mut memo = Memo::default();
        for value in 0..2000u64 {
            let text = [&value.to_le_bytes()[..], &[b'x'; 1000]].concat();
            memo.keep(&seen(b"", &text, value << 32), &[]);
            let slots = memo.buckets.iter().flat_map(|bucket| &bucket.slots).flatten();
            let held: usize = slots.map(|slot| slot.text.len()).sum();
            assert!(held <= MOST && held == memo.held, "{held}");
        }
    }
}
