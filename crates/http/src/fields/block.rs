//! Fields that are read of a text all at once.

use super::{BETWEEN, END, Fields, Item, ODD, Span, bit};
use std::ops::Range;

/// Fields that are lines of one text, while they are read of it.
#[must_use = "unless it is ended a block adds no field"]
pub struct Block<'a, 't> {
    fields: &'a mut Fields,
    text: &'t [u8],
    /// Fields before the block.
    before: usize,
    /// Where its text will stand.
    base: usize,
    names: u64,
}

impl Block<'_, '_> {
    /// Appends a field that a parser has found to be valid, by where its name and value stand in the text. `plain` says
    /// that the name is of letters, digits and hyphens.
    pub fn append(&mut self, name: Range<usize>, value: Range<usize>, plain: bool) {
        self.names |= bit(self.text.get(name.clone()).unwrap_or_default());
        self.names |= if plain { 0 } else { ODD };
        let part = |at: usize| self.text.get(at..).and_then(<[u8]>::first_chunk);
        let line =
            value.start == name.end + 2 && part(name.end) == Some(BETWEEN) && part(value.end) == Some(END);
        let span = |range: Range<usize>| Span::new(self.base + range.start, range.len());
        let item = Item { name: span(name), value: span(value), line };
        self.fields.items.push(item);
    }

    /// How many fields there are, those before the block included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Ends the block; so much of the text belongs to it.
    pub fn end(mut self, length: usize) {
        let text = self.text.get(..length).unwrap_or(self.text);
        self.fields.make_room(text.len());
        self.fields.buffer.extend_from_slice(text);
        self.fields.names |= self.names;
        self.before = self.fields.items.len();
    }
}

impl Drop for Block<'_, '_> {
    fn drop(&mut self) {
        self.fields.items.truncate(self.before);
    }
}

impl Fields {
    /// Begins to append fields that are lines of this text.
    pub fn block<'t>(&mut self, text: &'t [u8]) -> Block<'_, 't> {
        self.make_room(0);
        let (before, base) = (self.items.len(), self.buffer.len());
        Block { fields: self, text, before, base, names: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_not_ended_adds_nothing() {
        let mut fields = Fields::default();
        fields.append("a", "1").unwrap();
        let mut block = fields.block(b"b: 2\r\n");
        block.append(0..1, 3..4, true);
        drop(block);
        assert!(!fields.contains("b"));
        let mut block = fields.block(b"b: 2\r\nmore");
        block.append(0..1, 3..4, true);
        block.end(6);
        assert_eq!(fields.iter().collect::<Vec<_>>(), [(&b"a"[..], &b"1"[..]), (b"b", b"2")]);
    }
}
