//! Header fields as spans of one growing buffer.

use std::cell::RefCell;
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;

/// A run of bytes within a [`Fields`] buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
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
}

/// An ordered multimap of header fields (RFC 9110 §5), in wire order.
///
/// Names and values are spans of one buffer, which comes from a few that each thread keeps and goes back to them:
/// message after message is read and written without allocating, and a connection that waits holds none. Names compare
/// without case and keep the case they came in.
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

/// Whether a byte may stand in a token (RFC 9110 §5.6.2).
static TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0u8;
    while at < 128 {
        #[expect(clippy::indexing_slicing, reason = "beyond the end it would be an error at compile time")]
        {
            table[at as usize] = at.is_ascii_alphanumeric()
                || matches!(
                    at,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
        }
        at += 1;
    }
    table
};

fn is_tchar(b: u8) -> bool {
    TCHAR.get(usize::from(b)).copied().unwrap_or(false)
}

/// How many bytes at the beginning may stand in a token (RFC 9110 §5.6.2).
#[must_use]
pub fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| !is_tchar(b)).unwrap_or(bytes.len())
}

/// Whether `bytes` is a non-empty token (RFC 9110 §5.6.2), as methods and field names must be.
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_tchar(b))
}

/// Whether `bytes` is an acceptable field value: visible bytes, spaces, tabs and `obs-text`, with no
/// white space at either end (RFC 9110 §5.5).
#[must_use]
pub fn is_value(bytes: &[u8]) -> bool {
    let edge = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let sound = |b: &u8| (*b >= 0x20 && *b != 0x7f) || *b == b'\t';
    let (eights, rest) = bytes.as_chunks::<8>();
    eights.iter().all(|eight| is_visible(*eight) || eight.iter().all(sound))
        && rest.iter().all(sound)
        && !edge(bytes.first())
        && !edge(bytes.last())
}

/// Whether none of eight bytes is a control character, all looked at together: the high bit of a byte is set by
/// subtracting 0x20 where it is below that, and by subtracting 1 from what differs from 0x7f where nothing does.
fn is_visible(eight: [u8; 8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = 0x80 * EACH;
    let text = u64::from_ne_bytes(eight);
    let deleted = text ^ (0x7f * EACH);
    let below = text.wrapping_sub(0x20 * EACH) & !text;
    let zero = deleted.wrapping_sub(EACH) & !deleted;
    (below | zero) & HIGH == 0
}

/// Writes a field's value into the buffer it is to stand in. The caller answers for its being one ([`is_value`]).
pub struct ValueWriter<'a>(&'a mut Vec<u8>);

impl ValueWriter<'_> {
    /// Writes text.
    pub fn text(&mut self, text: impl AsRef<[u8]>) {
        self.0.extend_from_slice(text.as_ref());
    }

    /// Writes a number.
    pub fn decimal(&mut self, number: u64) {
        push_decimal(number, self.0);
    }

    /// Writes an address, without brackets.
    pub fn address(&mut self, address: IpAddr) {
        push_address(address, self.0);
    }
}

/// Appends a number as text. What the formatter of the standard library does in general costs ten times as much.
pub fn push_decimal(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut rest = number;
    let mut length = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
}

/// Appends an address as text, an IPv6 one without brackets.
pub fn push_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                push_decimal(u64::from(octet), out);
            }
        }
        // Writing to a buffer cannot fail.
        IpAddr::V6(address) => {
            let _ = write!(out, "{address}");
        }
    }
}

impl fmt::Write for ValueWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

/// Fields that are parts of one text, while they are read of it.
#[must_use = "without its text a block adds no field"]
pub struct Block<'a> {
    fields: &'a mut Fields,
    /// Fields before the block.
    before: usize,
    /// Where its text will stand.
    base: usize,
}

impl Block<'_> {
    /// Appends a field that a parser has found to be valid, by where its name and value stand in the text.
    pub fn append(&mut self, name: Range<usize>, value: Range<usize>) {
        let span = |range: Range<usize>| Span {
            start: u32::try_from(self.base + range.start).unwrap_or(u32::MAX),
            len: u32::try_from(range.len()).unwrap_or(u32::MAX),
        };
        let item = Item { name: span(name), value: span(value) };
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

    /// Ends the block; `text` is what the fields are parts of.
    pub fn end(mut self, text: &[u8]) {
        self.fields.make_room(text.len());
        self.fields.buffer.extend_from_slice(text);
        self.before = self.fields.items.len();
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        self.fields.items.truncate(self.before);
    }
}

impl Fields {
    /// Appends a field after checking its name and value.
    ///
    /// # Errors
    /// [`InvalidField`] where RFC 9110 §5 does not allow it; nothing is appended then.
    pub fn append(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        let (name, value) = (name.as_ref(), value.as_ref());
        if !is_token(name) || !is_value(value) {
            return Err(InvalidField);
        }
        self.append_parsed(name, value);
        Ok(())
    }

    /// Appends a field that a parser has already found to be valid.
    pub fn append_parsed(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(is_token(name) && is_value(value));
        self.make_room(name.len() + value.len());
        let name = self.intern(name);
        let value = self.intern(value);
        self.items.push(Item { name, value });
    }

    /// Appends a field whose value is written where it stands. It must be one ([`is_value`]), and the name a token.
    pub fn append_written(&mut self, name: &[u8], write: impl FnOnce(&mut ValueWriter<'_>)) {
        debug_assert!(is_token(name));
        self.make_room(name.len());
        let name = self.intern(name);
        let start = self.buffer.len();
        write(&mut ValueWriter(&mut self.buffer));
        debug_assert!(self.buffer.get(start..).is_some_and(is_value));
        let value = Span {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            len: u32::try_from(self.buffer.len() - start).unwrap_or(u32::MAX),
        };
        self.items.push(Item { name, value });
    }

    /// Begins to append fields that are parts of one text.
    pub fn block(&mut self) -> Block<'_> {
        self.make_room(0);
        Block { before: self.items.len(), base: self.buffer.len(), fields: self }
    }

    /// Room for so many more bytes. The first comes from what the thread keeps.
    fn make_room(&mut self, bytes: usize) {
        if self.buffer.capacity() == 0 {
            let spare = SPARE.try_with(|spare| spare.try_borrow_mut().ok().and_then(|mut spare| spare.pop()));
            (self.buffer, self.items) = match spare {
                Ok(Some(spare)) => spare,
                _ => (Vec::with_capacity(FIRST_BYTES), Vec::with_capacity(FIRST_ITEMS)),
            };
        }
        self.buffer.reserve(bytes);
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
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.find(name.as_ref()).map(|item| self.text(item.value))
    }

    /// The first value of this name, if it is UTF-8.
    #[must_use]
    pub fn get_str(&self, name: impl AsRef<[u8]>) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of this name, in wire order.
    pub fn get_all<'a, N: AsRef<[u8]> + 'a>(&'a self, name: N) -> impl Iterator<Item = &'a [u8]> + 'a {
        let named = move |item: &&Item| self.is_named(item, name.as_ref());
        self.items.iter().filter(named).map(|item| self.text(item.value))
    }

    /// Whether a field of this name is there.
    #[must_use]
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.find(name.as_ref()).is_some()
    }

    /// Removes every field of this name; says whether there was one.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        let (before, buffer) = (self.items.len(), &self.buffer);
        self.items.retain(|item| !is_named(buffer, item, name));
        self.items.len() != before
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
    }

    fn find(&self, name: &[u8]) -> Option<&Item> {
        self.items.iter().find(|item| self.is_named(item, name))
    }

    fn is_named(&self, item: &Item, name: &[u8]) -> bool {
        is_named(&self.buffer, item, name)
    }

    /// Copies bytes into the buffer, to be found again by their span. A head is capped far below 4 GiB,
    /// so the conversion cannot fail for any that a parser let through; the end saturates all the same.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> Span {
        if self.buffer.capacity() == 0 {
            self.make_room(bytes.len());
        }
        let start = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(bytes);
        Span { start, len }
    }

    pub(crate) fn text(&self, span: Span) -> &[u8] {
        text(&self.buffer, span)
    }
}

/// Most names differ in length already.
fn is_named(buffer: &[u8], item: &Item, name: &[u8]) -> bool {
    item.name.len as usize == name.len() && text(buffer, item.name).eq_ignore_ascii_case(name)
}

fn text(buffer: &[u8], span: Span) -> &[u8] {
    let start = span.start as usize;
    buffer.get(start..start.saturating_add(span.len as usize)).unwrap_or_default()
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

    proptest::proptest! {
        #[test]
        fn values_are_judged_byte_by_byte(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            let sound = bytes.iter().all(|b| *b == b'\t' || (*b >= 0x20 && *b != 0x7f));
            let trimmed = !matches!(bytes.first(), Some(b' ' | b'\t')) && !matches!(bytes.last(), Some(b' ' | b'\t'));
            proptest::prop_assert_eq!(is_value(&bytes), sound && trimmed);
        }

        #[test]
        fn one_bad_byte_among_eight_shows(good in proptest::array::uniform8(0x20u8..=0xff), at in 0usize..8, bad in 0u8..0x20) {
            let mut eight = good.map(|b| if b == 0x7f { 0x7e } else { b });
            proptest::prop_assert!(is_visible(eight));
            eight[at] = bad;
            proptest::prop_assert!(!is_visible(eight));
            eight[at] = 0x7f;
            proptest::prop_assert!(!is_visible(eight));
        }
    }

    #[test]
    fn values_are_written_as_they_are_displayed() {
        let mut fields = Fields::default();
        for number in [0, 9, 10, 12_345, u64::MAX] {
            fields.append_written(b"n", |out| out.decimal(number));
            assert_eq!(fields.get_all("n").last().unwrap(), number.to_string().as_bytes());
        }
        for address in ["0.0.0.0", "203.0.113.7", "255.255.255.255", "::1", "2001:db8::1"] {
            fields.append_written(b"a", |out| out.address(address.parse().unwrap()));
            assert_eq!(fields.get_all("a").last().unwrap(), address.as_bytes());
        }
    }

    #[test]
    fn a_block_that_is_not_ended_adds_nothing() {
        let mut fields = Fields::default();
        fields.append("a", "1").unwrap();
        let mut block = fields.block();
        block.append(0..1, 3..4);
        drop(block);
        let mut block = fields.block();
        block.append(0..1, 3..4);
        block.end(b"b: 2\r\n");
        assert_eq!(fields.iter().collect::<Vec<_>>(), [(&b"a"[..], &b"1"[..]), (b"b", b"2")]);
    }

    #[test]
    fn a_buffer_comes_back_empty() {
        let mut fields = Fields::default();
        fields.append("a", "1").unwrap();
        drop(fields);
        let mut fields = Fields::default();
        let _ = fields.block();
        assert!(fields.is_empty() && fields.buffer.is_empty() && fields.buffer.capacity() > 0);
    }

    #[test]
    fn debug_shows_no_value() {
        let mut fields = Fields::default();
        fields.append("authorization", "Bearer secret").unwrap();
        assert!(!format!("{fields:?}").contains("secret"));
    }
}
