//! Header fields as spans of one growing buffer.

use std::fmt;

/// A run of bytes within a [`Fields`] buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy)]
struct Item {
    name: Span,
    value: Span,
}

/// An ordered multimap of header fields (RFC 9110 §5), in wire order.
///
/// Names and values are spans of one buffer that [`Fields::clear`] keeps, so a connection parses
/// request after request without allocating. Names compare without case and keep the case they came in.
///
/// ```
/// use portcullis_http::Fields;
///
/// let mut fields = Fields::default();
/// fields.append("Accept", "text/html").unwrap();
/// assert_eq!(fields.get("accept"), Some(&b"text/html"[..]));
/// assert!(fields.append("X-Evil", "a\r\nX: y").is_err());
/// ```
#[derive(Clone, Default)]
pub struct Fields {
    buffer: Vec<u8>,
    items: Vec<Item>,
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

/// Whether `b` may stand in a token (RFC 9110 §5.6.2).
const fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
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
        )
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
    !edge(bytes.first())
        && !edge(bytes.last())
        && bytes.iter().all(|&b| b == b'\t' || (b >= 0x20 && b != 0x7f))
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
        let name = self.intern(name);
        let value = self.intern(value);
        self.items.push(Item { name, value });
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
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_ref())).map(|(_, v)| v)
    }

    /// Whether a field of this name is there.
    #[must_use]
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.find(name.as_ref()).is_some()
    }

    /// Removes every field of this name; says whether there was one.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        let before = self.items.len();
        self.retain(|n, _| !n.eq_ignore_ascii_case(name));
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
        self.items.iter().find(|item| self.text(item.name).eq_ignore_ascii_case(name))
    }

    /// Copies bytes into the buffer, to be found again by their span. A head is capped far below 4 GiB,
    /// so the conversion cannot fail for any that a parser let through; the end saturates all the same.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> Span {
        let start = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(bytes);
        Span { start, len }
    }

    pub(crate) fn text(&self, span: Span) -> &[u8] {
        text(&self.buffer, span)
    }
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

    #[test]
    fn debug_shows_no_value() {
        let mut fields = Fields::default();
        fields.append("authorization", "Bearer secret").unwrap();
        assert!(!format!("{fields:?}").contains("secret"));
    }
}
