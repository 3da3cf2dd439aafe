//! Header fields as spans of one growing buffer.

mod block;
mod lines;

pub use block::Block;

use crate::syntax::{is_token, is_value, leading_token};
use crate::write::ValueWriter;
use std::cell::RefCell;
use std::fmt;

/// A run of bytes within a [`Fields`] buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// A head is capped far below 4 GiB, so that nothing that a parser let through is beyond; the end saturates all the
    /// same.
    fn new(start: usize, len: usize) -> Self {
        Span { start: u32::try_from(start).unwrap_or(u32::MAX), len: u32::try_from(len).unwrap_or(u32::MAX) }
    }

    fn start(self) -> usize {
        self.start as usize
    }

    fn end(self) -> usize {
        self.start() + self.len as usize
    }

    /// With the one right behind it.
    pub(crate) fn joined(self, next: Span) -> Span {
        debug_assert_eq!(self.start + self.len, next.start);
        Span { start: self.start, len: self.len.saturating_add(next.len) }
    }
}

#[derive(Clone, Copy)]
struct Item {
    name: Span,
    value: Span,
    /// It stands in the buffer as the line that it would be written as; one that was read may not.
    line: bool,
}

/// An ordered multimap of header fields (RFC 9110 §5), in wire order.
///
/// Names and values are spans of one buffer, which comes from a few that each thread keeps and goes back to them:
/// message after message is read and written without allocating, and a connection that waits holds none. Names compare
/// without case and keep the case they came in. Most fields stand in the buffer as lines, as they do on the wire, so that
/// neighbours are copied and sent together.
///
/// ```
/// use portcullis_http::Fields;
///
/// let mut fields = Fields::default();
/// fields.append("Accept", "text/html").unwrap();
/// assert_eq!(fields.get("accept"), Some(&b"text/html"[..]));
/// assert!(fields.append("X-Evil", "a\r\nX: y").is_err());
/// ```
#[derive(Default)]
pub struct Fields {
    buffer: Vec<u8>,
    items: Vec<Item>,
    /// The bits of all names that were ever here ([`bit`]): what is asked for is seldom there, and this says so at once.
    names: u64,
}

/// The bit beside those of names: there may be a name with others than letters, digits and hyphens.
const ODD: u64 = 1 << 63;

/// One of 63 bits for each name, the same for all its spellings.
#[inline]
pub(crate) const fn bit(name: &[u8]) -> u64 {
    // Setting this bit makes letters small. What it does to others it does to all of them.
    let (first, last) = match (name.first(), name.last()) {
        (Some(first), Some(last)) => (*first | 0x20, *last | 0x20),
        _ => (0, 0),
    };
    let place = ((name.len() as u64).wrapping_mul(11) ^ first as u64 ^ (last as u64).wrapping_mul(5)) & 63;
    1 << if place < 63 { place } else { 0 }
}

/// Buffers that a thread keeps for the messages to come.
const KEPT: usize = 32;
/// What is larger than this goes back to the allocator: one large head must not be paid for ever after.
const KEPT_BYTES: usize = 8 * 1024;
/// The same for the number of fields.
const KEPT_ITEMS: usize = 128;
/// A buffer's room at the beginning, which is all that most messages need.
const FIRST_BYTES: usize = 1024;
/// The same for the number of fields.
const FIRST_ITEMS: usize = 24;
/// What stands between a name and its value, and behind that (RFC 9112 §5).
const BETWEEN: &[u8; 2] = b": ";
const END: &[u8; 2] = b"\r\n";
/// Room made for a value that is written where it stands, and for what is around it.
const WRITTEN: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<(Vec<u8>, Vec<Item>)>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Fields {
    fn drop(&mut self) {
        let fits = self.buffer.capacity() <= KEPT_BYTES && self.items.capacity() <= KEPT_ITEMS;
        if self.buffer.capacity() == 0 || !fits {
            return;
        }
        // A thread that ends keeps none.
        let _ = SPARE.try_with(|spare| {
            if let Ok(mut spare) = spare.try_borrow_mut()
                && spare.len() < KEPT
            {
                self.clear();
                spare.push((std::mem::take(&mut self.buffer), std::mem::take(&mut self.items)));
            }
        });
    }
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        let mut copy = Fields::default();
        if !self.buffer.is_empty() {
            copy.make_room(self.buffer.len());
            copy.buffer.extend_from_slice(&self.buffer);
            copy.items.extend_from_slice(&self.items);
            copy.names = self.names;
        }
        copy
    }
}

/// A field that RFC 9110 §5 does not allow: a name that is no token, or a value with CR, LF, NUL or
/// another control character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidField;

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name must be a token and a value free of control characters (RFC 9110 §5)")
    }
}

impl std::error::Error for InvalidField {}

impl Fields {
    /// Appends a field after checking its name and value.
    ///
    /// # Errors
    /// [`InvalidField`] where RFC 9110 §5 does not allow it; nothing is appended then.
    pub fn append(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let (length, plain) = leading_token(name);
        if name.is_empty() || length != name.len() || !is_value(value) {
            return Err(InvalidField);
        }
        self.append_line(name, value);
        self.names |= if plain { 0 } else { ODD };
        Ok(())
    }

    /// Appends a field that a parser has already found to be valid.
    #[inline]
    pub fn append_parsed(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(is_token(name) && is_value(value));
        self.append_line(name, value);
        self.names |= ODD;
    }

    #[inline]
    fn append_line(&mut self, name: &[u8], value: &[u8]) {
        self.make_room(name.len() + value.len() + BETWEEN.len() + END.len());
        let start = self.buffer.len();
        self.buffer.extend_from_slice(name);
        self.buffer.extend_from_slice(BETWEEN);
        self.buffer.extend_from_slice(value);
        self.buffer.extend_from_slice(END);
        self.push(start, name, value.len());
    }

    /// Appends a field whose value is written where it stands. It must be one ([`is_value`]), and the name a token.
    #[inline]
    pub fn append_written(&mut self, name: &[u8], write: impl FnOnce(&mut ValueWriter<'_>)) {
        debug_assert!(is_token(name));
        self.make_room(name.len() + WRITTEN);
        let start = self.buffer.len();
        self.buffer.extend_from_slice(name);
        self.buffer.extend_from_slice(BETWEEN);
        let value = self.buffer.len();
        write(&mut ValueWriter(&mut self.buffer));
        debug_assert!(self.buffer.get(value..).is_some_and(is_value));
        let length = self.buffer.len() - value;
        self.buffer.extend_from_slice(END);
        self.push(start, name, length);
        self.names |= ODD;
    }

    /// Takes note of a line at the end of the buffer.
    #[inline]
    fn push(&mut self, start: usize, name: &[u8], value: usize) {
        self.names |= bit(name);
        let behind = start + name.len() + BETWEEN.len();
        let (name, value) = (Span::new(start, name.len()), Span::new(behind, value));
        self.items.push(Item { name, value, line: true });
    }

    /// Room for so many more bytes. The first comes from what the thread keeps.
    #[inline]
    fn make_room(&mut self, bytes: usize) {
        if self.buffer.capacity() == 0 {
            self.begin();
        }
        self.buffer.reserve(bytes);
    }

    fn begin(&mut self) {
        let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok().and_then(|mut spare| spare.pop()));
        (self.buffer, self.items) = match spare {
            Ok(Some(spare)) => spare,
            _ => (Vec::with_capacity(FIRST_BYTES), Vec::with_capacity(FIRST_ITEMS)),
        };
    }

    /// Replaces every field of this name by one.
    ///
    /// # Errors
    /// [`InvalidField`] as for [`Fields::append`]; the old fields stay then.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        let (name, value) = (name.as_ref(), value.as_ref());
        if !is_token(name) || !is_value(value) {
            return Err(InvalidField);
        }
        self.remove(name);
        self.append_parsed(name, value);
        Ok(())
    }

    /// The first value of this name.
    #[must_use]
    #[inline]
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        if self.may_have(name) { self.find(name).map(|item| self.text(item.value)) } else { None }
    }

    /// The first value of this name, if it is UTF-8.
    #[must_use]
    #[inline]
    pub fn get_str(&self, name: impl AsRef<[u8]>) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of this name, in wire order.
    #[inline]
    pub fn get_all<'a, N: AsRef<[u8]> + 'a>(&'a self, name: N) -> impl Iterator<Item = &'a [u8]> + 'a {
        let items = if self.may_have(name.as_ref()) { self.items.as_slice() } else { &[] };
        let named = move |item: &&Item| is_named(&self.buffer, item, name.as_ref());
        items.iter().filter(named).map(|item| self.text(item.value))
    }

    /// Whether a field of this name is there.
    #[must_use]
    #[inline]
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.get(name).is_some()
    }

    /// Removes every field of this name; says whether there was one.
    #[inline]
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        self.may_have(name) && self.remove_named(name)
    }

    fn remove_named(&mut self, name: &[u8]) -> bool {
        let (before, buffer) = (self.items.len(), &self.buffer);
        self.items.retain(|item| !is_named(buffer, item, name));
        self.items.len() != before
    }

    /// Whether a field of this name could be there: seldom, where there is none.
    #[inline]
    fn may_have(&self, name: &[u8]) -> bool {
        self.names & bit(name) != 0
    }

    /// The bits of the names that may be here.
    pub(crate) fn names(&self) -> u64 {
        self.names
    }

    /// Whether it is known that all names are of letters, digits and hyphens.
    #[must_use]
    pub fn is_plainly_named(&self) -> bool {
        self.names & ODD == 0
    }

    /// Keeps only the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let buffer = &self.buffer;
        self.items.retain(|item| keep(text(buffer, item.name), text(buffer, item.value)));
    }

    /// Name and value of each field, in wire order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.items.iter().map(|item| (self.text(item.name), self.text(item.value)))
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.items.iter().fold(0, |size, item| size + item.name.len as usize + item.value.len as usize)
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Removes every field and keeps the buffer for the next message.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.items.clear();
        self.names = 0;
    }

    fn find(&self, name: &[u8]) -> Option<&Item> {
        self.items.iter().find(|item| is_named(&self.buffer, item, name))
    }

    /// Copies bytes into the buffer, to be found again by their span.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> Span {
        self.make_room(bytes.len());
        let span = Span::new(self.buffer.len(), bytes.len());
        self.buffer.extend_from_slice(bytes);
        span
    }

    pub(crate) fn text(&self, span: Span) -> &[u8] {
        text(&self.buffer, span)
    }
}

/// Most names differ in length already.
#[inline]
fn is_named(buffer: &[u8], item: &Item, name: &[u8]) -> bool {
    item.name.len as usize == name.len() && text(buffer, item.name).eq_ignore_ascii_case(name)
}

#[inline]
fn text(buffer: &[u8], span: Span) -> &[u8] {
    buffer.get(span.start()..span.end()).unwrap_or_default()
}

impl fmt::Debug for Fields {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_wire_order_and_case_and_finds_without_case() {
        let mut fields = Fields::default();
        for (name, value) in [("A", "1"), ("b", "2"), ("a", "3")] {
            fields.append(name, value).unwrap();
        }
        assert_eq!(fields.get_all("a").collect::<Vec<_>>(), [&b"1"[..], b"3"]);
        assert_eq!(fields.iter().map(|(n, _)| n).collect::<Vec<_>>(), [&b"A"[..], b"b", b"a"]);
        fields.set("A", "9").unwrap();
        assert_eq!(fields.iter().collect::<Vec<_>>(), [(&b"b"[..], &b"2"[..]), (b"A", b"9")]);
        assert!(fields.remove("B"));
        assert!(!fields.contains("b"));
    }

    #[test]
    fn refuses_what_would_split_a_message() {
        let mut fields = Fields::default();
        for (name, value) in
            [("", "x"), ("a b", "x"), ("a:", "x"), ("a", "x\ny"), ("a", "x\ry"), ("a", "\0"), ("a", " x")]
        {
            assert_eq!(fields.append(name, value), Err(InvalidField), "{name:?}: {value:?}");
        }
        assert!(fields.is_empty());
    }

    #[test]
    fn a_buffer_comes_back_empty() {
        let mut fields = Fields::default();
        fields.append("a", "1").unwrap();
        drop(fields);
        let mut fields = Fields::default();
        let _ = fields.block(b"");
        assert!(fields.is_empty() && fields.buffer.is_empty() && fields.buffer.capacity() > 0);
    }

    #[test]
    fn debug_shows_no_value() {
        let mut fields = Fields::default();
        fields.append("authorization", "Bearer secret").unwrap();
        assert!(!format!("{fields:?}").contains("secret"));
    }
}
