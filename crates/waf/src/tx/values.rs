//! The values of a transaction: every distinct text once, in one arena, with what was found out about it.
//!
//! Values are interned by content, so equal texts (a parameter that occurs twice, a transformation that changed nothing
//! new) share their transformed forms and their prefilter scans. Nothing here allocates once the buffers have grown to
//! the size of the traffic, because transactions on one thread hand them on.

use std::cell::OnceCell;
use std::sync::LazyLock;

use crate::byteset::ByteSet;
use crate::prefilter::Prefilter;
use crate::transform::{Changed, Transform, apply, identities};

/// A value of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ValueId(u32);

impl ValueId {
    /// No value: an unset scalar, an entry without key.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) fn is_some(self) -> bool {
        self != Self::NONE
    }
}

/// A range of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Span {
    fn range(self) -> std::ops::Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }
}

#[derive(Debug)]
struct Value {
    span: Span,
    hash: u64,
    /// The bytes that occur in it, and the transformations that therefore leave it as it is: found out when somebody asks.
    outline: OnceCell<(ByteSet, u64)>,
    /// Further transformations known to leave it as it is.
    identities: u64,
    /// Head of the list of remembered steps.
    steps: u32,
    /// Head of the forms by chain, in `forms`.
    forms: u32,
    /// Where the candidate sets of the two prefilters start in the pool.
    scans: [u32; 2],
    /// Where they stand as they were found, for the twin.
    found: [u32; 2],
    /// A value that differs in the case of ASCII letters alone, so that the same literals occur in it.
    twin: ValueId,
    /// The detectors that found nothing, as bits.
    cleared: u8,
}

/// What one transformation makes of one value.
#[derive(Debug)]
struct Step {
    transform: Transform,
    result: ValueId,
    next: u32,
}

const NIL: u32 = u32::MAX;
/// What would be found out about all of a text is put off for those that are at least this long, as bodies are.
const LONG: u32 = 16 << 10;
/// Shorter values are scanned sooner than their twins' candidates are copied.
const TWIN_MIN: u32 = 64;

#[derive(Debug)]
pub(crate) struct Values {
    arena: Vec<u8>,
    list: Vec<Value>,
    /// Open addressing over `list`; the length is a power of two.
    table: Vec<u32>,
    steps: Vec<Step>,
    /// For values that some chain changes: what each chain makes of them, once it is known.
    forms: Vec<ValueId>,
    /// How many chains there are.
    chains: usize,
    /// Candidate sets.
    pool: Vec<u64>,
    /// Width of a candidate set in words.
    words: usize,
    output: Vec<u8>,
    seed: u64,
    /// Most bytes the arena may hold.
    limit: usize,
    overflowed: bool,
}

/// Unpredictable, so that nobody can choose parameters that collide.
static SEED: LazyLock<u64> = LazyLock::new(|| fastrand::u64(..) | 1);

const TABLE_MIN: usize = 256;
/// Bytes of all values and their transformed forms together; far above what a body limit of some MiB can lead to.
const ARENA_MAX: usize = 1 << 30;

impl Default for Values {
    fn default() -> Self {
        Self {
            arena: Vec::new(),
            list: Vec::new(),
            table: vec![NIL; TABLE_MIN],
            steps: Vec::new(),
            forms: Vec::new(),
            chains: 0,
            pool: Vec::new(),
            words: 0,
            output: Vec::new(),
            seed: *SEED,
            limit: ARENA_MAX,
            overflowed: false,
        }
    }
}

impl Values {
    /// Forgets everything; memory beyond `keep` bytes is given back.
    pub(crate) fn reset(&mut self, keep: usize, words: usize, chains: usize) {
        self.arena.clear();
        self.arena.shrink_to(keep);
        self.list.clear();
        self.list.shrink_to(keep / 64);
        if self.table.len() > keep / 16 {
            self.table = vec![NIL; TABLE_MIN];
        } else {
            self.table.fill(NIL);
        }
        self.steps.clear();
        self.steps.shrink_to(keep / 16);
        self.forms.clear();
        self.forms.shrink_to(keep / 4);
        self.chains = chains;
        self.pool.clear();
        self.pool.shrink_to(keep / 8);
        self.output.shrink_to(keep);
        self.words = words;
        self.overflowed = false;
    }

    /// Whether something was too much to be stored, so that the rules did not see all there was.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Bytes held in buffers.
    pub(crate) fn footprint(&self) -> usize {
        self.arena.capacity()
            + self.output.capacity()
            + self.pool.capacity() * 8
            + self.list.capacity() * size_of::<Value>()
    }

    pub(crate) fn span_bytes(&self, span: Span) -> &[u8] {
        self.arena.get(span.range()).unwrap_or_default()
    }

    pub(crate) fn span(&self, id: ValueId) -> Span {
        self.list.get(id.0 as usize).map_or(Span::default(), |value| value.span)
    }

    /// The value's bytes; empty for [`ValueId::NONE`].
    pub(crate) fn get(&self, id: ValueId) -> &[u8] {
        self.span_bytes(self.span(id))
    }

    /// The bytes that occur in the value.
    pub(crate) fn byte_set(&self, id: ValueId) -> ByteSet {
        self.outline(id).1
    }

    /// The value's length, its bytes, and the transformations known to leave it alone.
    pub(crate) fn outline(&self, id: ValueId) -> (u32, ByteSet, u64) {
        let Some(value) = self.list.get(id.0 as usize) else { return (0, ByteSet::EMPTY, u64::MAX) };
        let (bytes, unchanged) = value.outline.get_or_init(|| {
            let bytes = ByteSet::occurring(self.span_bytes(value.span));
            (bytes, identities(&bytes))
        });
        (value.span.len, *bytes, *unchanged | value.identities)
    }

    fn is_unchanged(&self, id: ValueId, by: u64) -> bool {
        // What bytes a long text has is dearer to find out than to put it into lower case.
        let untold = |value: &&Value| value.span.len >= LONG && value.outline.get().is_none();
        if by == Transform::Lowercase.bit()
            && let Some(value) = self.list.get(id.0 as usize).filter(untold)
        {
            return value.identities & by != 0;
        }
        self.outline(id).2 & by == by
    }

    /// A seeded hash of the value's bytes, the same for all transactions of the process.
    pub(crate) fn hash(&self, id: ValueId) -> u64 {
        self.list.get(id.0 as usize).map_or(0, |value| value.hash)
    }

    /// Whether a detector (a bit of one's choice) is known to find nothing in the value.
    pub(crate) fn is_cleared(&self, id: ValueId, detector: u8) -> bool {
        self.list.get(id.0 as usize).is_some_and(|value| value.cleared & detector != 0)
    }

    /// Remembers that a detector finds nothing in the value.
    pub(crate) fn clear(&mut self, id: ValueId, detector: u8) {
        if let Some(value) = self.list.get_mut(id.0 as usize) {
            value.cleared |= detector;
        }
    }

    /// Appends bytes to the arena without interning them.
    pub(crate) fn store(&mut self, bytes: &[u8]) -> Span {
        if self.arena.len() + bytes.len() > self.limit {
            self.overflowed = true;
            return Span::default();
        }
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }

    /// The value with these bytes.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> ValueId {
        let hash = hash(bytes, self.seed);
        if let Some(known) = self.find(hash, bytes) {
            return known;
        }
        let span = self.store(bytes);
        self.insert(hash, span)
    }

    /// The value with the bytes of a range of the arena.
    pub(crate) fn intern_span(&mut self, span: Span) -> ValueId {
        let bytes = self.span_bytes(span);
        let hash = hash(bytes, self.seed);
        match self.find(hash, bytes) {
            Some(known) => known,
            None => self.insert(hash, span),
        }
    }

    /// Interns what `write` produces.
    pub(crate) fn intern_with(&mut self, write: impl FnOnce(&Self, &mut Vec<u8>)) -> ValueId {
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        write(self, &mut output);
        let id = self.intern(&output);
        self.output = output;
        id
    }

    fn find(&self, hash: u64, bytes: &[u8]) -> Option<ValueId> {
        let mask = self.table.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let index = self.table.get(slot).copied().filter(|&index| index != NIL)?;
            let value = self.list.get(index as usize)?;
            if value.hash == hash && self.span_bytes(value.span) == bytes {
                return Some(ValueId(index));
            }
            slot = (slot + 1) & mask;
        }
    }

    fn insert(&mut self, hash: u64, span: Span) -> ValueId {
        if self.list.len() * 2 >= self.table.len() {
            self.grow();
        }
        let index = self.list.len() as u32;
        self.list.push(Value {
            span,
            hash,
            outline: OnceCell::new(),
            identities: 0,
            steps: NIL,
            forms: NIL,
            scans: [NIL; 2],
            found: [NIL; 2],
            twin: ValueId::NONE,
            cleared: 0,
        });
        place(&mut self.table, hash, index);
        ValueId(index)
    }

    fn grow(&mut self) {
        let size = self.table.len() * 2;
        self.table.clear();
        self.table.resize(size, NIL);
        for (index, value) in (0u32..).zip(&self.list) {
            place(&mut self.table, value.hash, index);
        }
    }

    /// The value after one transformation, remembered.
    pub(crate) fn step(&mut self, id: ValueId, transform: Transform) -> ValueId {
        if self.is_unchanged(id, transform.bit()) {
            return id;
        }
        let Some(value) = self.list.get(id.0 as usize) else { return id };
        let mut next = value.steps;
        while let Some(step) = self.steps.get(next as usize) {
            if step.transform == transform {
                return step.result;
            }
            next = step.next;
        }
        let mut output = std::mem::take(&mut self.output);
        let changed = apply(transform, self.get(id), &mut output);
        let result = match changed {
            Changed::Yes => self.intern(&output),
            Changed::No => id,
        };
        self.output = output;
        let head = self.steps.len() as u32;
        if let Some(value) = self.list.get_mut(id.0 as usize) {
            if changed == Changed::No {
                value.identities |= transform.bit();
                return result;
            }
            self.steps.push(Step { transform, result, next: value.steps });
            value.steps = head;
        }
        if matches!(transform, Transform::Lowercase | Transform::Uppercase) {
            self.make_twins(id, result);
        }
        result
    }

    fn make_twins(&mut self, one: ValueId, other: ValueId) {
        for (one, other) in [(one, other), (other, one)] {
            if let Some(value) = self.list.get_mut(one.0 as usize)
                && !value.twin.is_some()
            {
                value.twin = other;
            }
        }
    }

    /// The value after a chain, which the program knows by `number`.
    pub(crate) fn transformed(
        &mut self,
        id: ValueId,
        number: u16,
        chain: &[Transform],
        mask: u64,
    ) -> ValueId {
        if self.is_unchanged(id, mask) {
            return id;
        }
        let Some(value) = self.list.get_mut(id.0 as usize) else { return id };
        if value.forms == NIL {
            value.forms = self.forms.len() as u32;
            self.forms.resize(self.forms.len() + self.chains, ValueId::NONE);
        }
        let place = value.forms as usize + usize::from(number);
        if let Some(known) = self.forms.get(place).filter(|known| known.is_some()) {
            return *known;
        }
        let result = chain.iter().fold(id, |id, transform| self.step(id, *transform));
        if let Some(place) = self.forms.get_mut(place) {
            *place = result;
        }
        result
    }

    /// Where in the pool the set of patterns that may match the value starts; scanned on first use.
    pub(crate) fn row(&mut self, id: ValueId, side: usize, filter: &Prefilter) -> u32 {
        let Some(value) = self.list.get(id.0 as usize) else { return NIL };
        let known = value.scans.get(side).copied().unwrap_or(NIL);
        if known != NIL {
            return known;
        }
        let span = value.span;
        let twin = self.list.get(value.twin.0 as usize).and_then(|twin| twin.found.get(side)).copied();
        let start = self.pool.len();
        match twin.filter(|found| *found != NIL).map(|found| found as usize) {
            Some(found) => self.pool.extend_from_within(found..found + self.words),
            None => filter.scan(self.arena.get(span.range()).unwrap_or_default(), &mut self.pool),
        }
        let mut found = NIL;
        if span.len >= TWIN_MIN {
            found = self.pool.len() as u32;
            self.pool.extend_from_within(start..start + self.words);
        }
        if let Some(value) = self.list.get_mut(id.0 as usize)
            && let (Some(scan), Some(kept)) = (value.scans.get_mut(side), value.found.get_mut(side))
        {
            (*scan, *kept) = (start as u32, found);
        }
        start as u32
    }

    /// The patterns that may match a value, one bit each, from where [`Values::row`] said.
    pub(crate) fn candidates(&self, row: u32) -> &[u64] {
        let start = row as usize;
        self.pool.get(start..start.saturating_add(self.words)).unwrap_or_default()
    }

    /// The first of the rows that has the pattern.
    pub(crate) fn position(&self, rows: &[u32], pattern: crate::operator::PatternId) -> Option<usize> {
        let (word, mask) = (usize::from(pattern.0 >> 6), 1u64 << (pattern.0 & 63));
        let has = |row: u32| self.pool.get(row as usize + word).is_some_and(|word| word & mask != 0);
        rows.iter().position(|row| has(*row))
    }

    /// Notes that a pattern does not match the value, so that no other rule asks again.
    pub(crate) fn rule_out(&mut self, id: ValueId, side: usize, pattern: crate::operator::PatternId) {
        let scan =
            self.list.get(id.0 as usize).and_then(|value| value.scans.get(side)).copied().unwrap_or(NIL);
        let word = scan as usize + usize::from(pattern.0 >> 6);
        if scan != NIL
            && let Some(word) = self.pool.get_mut(word)
        {
            *word &= !(1 << (pattern.0 & 63));
        }
    }
}

fn place(table: &mut [u32], hash: u64, index: u32) {
    let mask = table.len() - 1;
    let mut slot = hash as usize & mask;
    while let Some(entry) = table.get_mut(slot) {
        if *entry == NIL {
            *entry = index;
            return;
        }
        slot = (slot + 1) & mask;
    }
}

/// A seeded hash: of long texts that of some parts, because there are only few, and they are compared in full.
fn hash(bytes: &[u8], seed: u64) -> u64 {
    const PART: usize = 256;
    if bytes.len() < LONG as usize {
        return hash_all(bytes, seed);
    }
    let part = |at: usize| bytes.get(at..at + PART).unwrap_or_default();
    let last = bytes.len() - PART;
    let parts = [0, last / 4, last / 2, last / 4 * 3, last].map(part);
    parts.into_iter().fold(bytes.len() as u64, |state, part| hash_all(part, seed ^ state))
}

/// Folded multiplication, eight bytes a step.
fn hash_all(bytes: &[u8], seed: u64) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = seed ^ bytes.len() as u64;
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), 0x9e37_79b9_7f4a_7c15 ^ seed.rotate_left(32));
    }
    // The last eight bytes, some of which may have been taken in already.
    let last = match (bytes.last_chunk::<8>(), rest) {
        (_, []) => 0,
        (Some(last), _) => u64::from_le_bytes(*last),
        (None, rest) => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    fold(state ^ last, 0xd6e8_feb8_6659_fd93 ^ seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_value_and_steps_are_remembered() {
        let mut values = Values::default();
        let a = values.intern(b"A%41");
        assert_eq!(values.intern(b"A%41"), a);
        let chain = [Transform::UrlDecodeUni, Transform::Lowercase];
        let mask = chain.iter().fold(0, |mask, step| mask | step.bit());
        values.reset(1 << 20, 0, 1);
        let a = values.intern(b"A%41");
        let b = values.transformed(a, 0, &chain, mask);
        assert_eq!(values.get(b), b"aa");
        let before = values.list.len();
        assert_eq!(values.transformed(a, 0, &chain, mask), b);
        assert_eq!(values.list.len(), before);
        assert_eq!(values.transformed(b, 0, &chain, mask), b);
        assert_eq!(values.get(ValueId::NONE), b"");
    }

    #[test]
    fn too_much_is_noticed() {
        let mut values = Values { limit: 10, ..Values::default() };
        values.intern(b"0123456789");
        assert!(!values.overflowed());
        let lost = values.intern(b"x");
        assert!(values.overflowed() && values.get(lost).is_empty());
        values.reset(1 << 20, 0, 0);
        assert!(!values.overflowed());
    }

    #[test]
    fn the_table_grows() {
        let mut values = Values::default();
        let ids: Vec<_> = (0..1000).map(|number: u32| values.intern(&number.to_le_bytes())).collect();
        for (number, id) in (0u32..).zip(ids) {
            assert_eq!(values.intern(&number.to_le_bytes()), id);
        }
        values.reset(1 << 20, 0, 0);
        assert_eq!(values.intern(b"x"), ValueId(0));
    }
}
