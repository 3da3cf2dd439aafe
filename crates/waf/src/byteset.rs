//! A set of byte values, 256 bits wide: which bytes occur in a value, which bytes a range allows.

use std::fmt;

/// A set of byte values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ByteSet([u64; 4]);

impl ByteSet {
    /// No byte.
    pub const EMPTY: Self = Self([0; 4]);
    /// Every byte.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// The bytes listed.
    pub const fn of(mut bytes: &[u8]) -> Self {
        let mut set = Self::EMPTY;
        while let Some((first, rest)) = bytes.split_first() {
            set = set.with_range(*first, *first);
            bytes = rest;
        }
        set
    }

    /// This set and the inclusive range `from..=to`; nothing is added when `from > to`.
    #[must_use]
    pub const fn with_range(self, from: u8, to: u8) -> Self {
        let [mut a, mut b, mut c, mut d] = self.0;
        let mut byte = from as u16;
        while byte <= to as u16 {
            let bit = 1u64 << (byte & 63);
            match byte >> 6 {
                0 => a |= bit,
                1 => b |= bit,
                2 => c |= bit,
                _ => d |= bit,
            }
            byte += 1;
        }
        Self([a, b, c, d])
    }

    /// The set of the bytes that occur in `value`.
    pub fn occurring(value: &[u8]) -> Self {
        if value.len() < 48 {
            let mut set = Self::EMPTY;
            for &byte in value {
                set.insert(byte);
            }
            return set;
        }
        // Bits of one word wait for each other; bytes of a table do not.
        let mut seen = [0u8; 256];
        for &byte in value {
            if let Some(seen) = seen.get_mut(usize::from(byte)) {
                *seen = 1;
            }
        }
        // Eight bytes of 0 or 1 become eight bits: the multiplication moves each to its place in the highest byte.
        let (groups, _) = seen.as_chunks::<8>();
        let mut words = [0u64; 4];
        for (word, groups) in words.iter_mut().zip(groups.chunks(8)) {
            for (place, group) in groups.iter().enumerate() {
                let bits = u64::from_le_bytes(*group).wrapping_mul(0x0102_0408_1020_4080) >> 56;
                *word |= bits << (place * 8);
            }
        }
        Self(words)
    }

    /// Adds one byte.
    #[inline]
    pub fn insert(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
            *word |= 1u64 << (byte & 63);
        }
    }

    /// Whether the byte is in the set.
    #[inline]
    pub const fn contains(&self, byte: u8) -> bool {
        let [a, b, c, d] = self.0;
        let word = match byte >> 6 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        word & (1u64 << (byte & 63)) != 0
    }

    /// Whether the two sets share a byte.
    #[inline]
    pub const fn intersects(&self, other: &Self) -> bool {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = other.0;
        (a & e) | (b & f) | (c & g) | (d & h) != 0
    }

    /// The bytes in either set.
    #[must_use]
    pub const fn union(&self, other: &Self) -> Self {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = other.0;
        Self([a | e, b | f, c | g, d | h])
    }

    /// The bytes not in this set.
    #[must_use]
    pub const fn complement(&self) -> Self {
        let [a, b, c, d] = self.0;
        Self([!a, !b, !c, !d])
    }

    /// How many bytes the set holds.
    pub const fn len(&self) -> u32 {
        let [a, b, c, d] = self.0;
        a.count_ones() + b.count_ones() + c.count_ones() + d.count_ones()
    }

    /// Whether the set holds no byte.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        [0, 64, 128, 192].into_iter().zip(self.0).flat_map(|(first, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                word &= word.wrapping_sub(1);
                (bit < 64).then(|| first + bit as u8)
            })
        })
    }
}

impl fmt::Debug for ByteSet {
    /// Ranges in decimal, as `@validateByteRange` takes them: `9-10,13,32-126`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut run: Option<(u8, u8)> = None;
        let mut put = |f: &mut fmt::Formatter<'_>, (from, to): (u8, u8)| {
            if !std::mem::take(&mut first) {
                f.write_str(",")?;
            }
            if from == to { write!(f, "{from}") } else { write!(f, "{from}-{to}") }
        };
        for byte in self.iter() {
            run = match run {
                Some((from, to)) if to.checked_add(1) == Some(byte) => Some((from, byte)),
                Some(done) => {
                    put(f, done)?;
                    Some((byte, byte))
                }
                None => Some((byte, byte)),
            };
        }
        if let Some(done) = run {
            put(f, done)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_members() {
        let set = ByteSet::of(b"a").with_range(0x80, 0xff);
        assert!(set.contains(b'a') && set.contains(0x80) && set.contains(0xff) && !set.contains(b'b'));
        assert_eq!(set.len(), 129);
        assert_eq!(format!("{set:?}"), "97,128-255");
        assert!(set.intersects(&ByteSet::occurring(b"cab")));
        assert!(!set.intersects(&ByteSet::occurring(b"xyz")));
        assert_eq!(ByteSet::ALL.complement(), ByteSet::EMPTY);
        let long = b"xyz\xff".repeat(300);
        assert_eq!(ByteSet::occurring(&long), ByteSet::of(b"xyz\xff"));
        assert_eq!(format!("{:?}", ByteSet::of(b"").with_range(9, 10).with_range(13, 13)), "9-10,13");
    }
}
