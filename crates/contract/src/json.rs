//! A strict reading of JSON that keeps nothing.

use portcullis_http::ContractFailure;
use smallvec::SmallVec;

/// What to do with an object that names a key twice. Parsers differ in which of the two they see (RFC 8259 §4),
/// so a guard that reads one and a backend that reads the other judge different documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DuplicateKeys {
    /// Refuse the document. Keys are compared after unescaping: `"a"` and `"\u0061"` are one.
    #[default]
    Reject,
    /// Let it pass.
    Allow,
}

/// What a JSON document may look like. [`JsonShape::check`] is a validator of RFC 8259, stricter where the RFC
/// leaves a choice that parsers make differently: UTF-8 only, no byte order mark, no lone surrogate escapes.
///
/// It reads once, from left to right, without recursion; it allocates for keys while it looks for duplicates,
/// and for the stack of a document nested deeper than 32.
///
/// ```
/// use portcullis_contract::JsonShape;
/// use portcullis_http::ContractFailure;
///
/// let shape = JsonShape { max_depth: 2, ..JsonShape::default() };
/// assert_eq!(shape.check(br#"{"a":[1,2]}"#), Ok(()));
/// assert_eq!(shape.check(br#"{"a":[[1]]}"#), Err(ContractFailure::Depth));
/// assert_eq!(shape.check(br#"{"a":1,"\u0061":2}"#), Err(ContractFailure::DuplicateKey));
/// assert_eq!(shape.check(br#"{"a":1,}"#), Err(ContractFailure::Syntax));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonShape {
    /// Arrays and objects nested in each other; `[]` is 1 deep.
    pub max_depth: usize,
    /// Members of one object.
    pub max_keys: usize,
    /// Elements of one array.
    pub max_elements: usize,
    /// Bytes of one string or key as written, between its quotes.
    pub max_string: usize,
    /// Bytes of one number as written. Longer ones are of no use but to make a parser slow.
    pub max_number: usize,
    /// Values in the whole document, arrays and objects included.
    pub max_values: usize,
    /// What to do with duplicate keys.
    pub duplicate_keys: DuplicateKeys,
}

impl Default for JsonShape {
    /// Depth 64, 1,000 keys, 10,000 elements, strings of 256 KiB, numbers of 64 bytes, 100,000 values, and no
    /// duplicate keys.
    fn default() -> Self {
        JsonShape {
            max_depth: 64,
            max_keys: 1_000,
            max_elements: 10_000,
            max_string: 256 * 1024,
            max_number: 64,
            max_values: 100_000,
            duplicate_keys: DuplicateKeys::Reject,
        }
    }
}

impl JsonShape {
    /// Checks that `document` is one JSON value of this shape, with nothing but white space around it.
    ///
    /// # Errors
    /// The first [`ContractFailure`] from the left: `Syntax`, `Depth`, `Size`, or `DuplicateKey` (found where
    /// its object ends).
    pub fn check(&self, document: &[u8]) -> Result<(), ContractFailure> {
        std::str::from_utf8(document).map_err(|_| ContractFailure::Syntax)?;
        Reader {
            shape: self,
            text: document,
            at: 0,
            values: 0,
            stack: SmallVec::new(),
            keys: Keys::default(),
        }
        .document()
    }
}

/// An array or object that is open.
enum Open {
    Array {
        elements: usize,
    },
    Object {
        members: usize,
        /// How many keys are kept of the objects around it.
        keys_below: usize,
    },
}

struct Reader<'a> {
    shape: &'a JsonShape,
    text: &'a [u8],
    at: usize,
    values: usize,
    stack: SmallVec<[Open; 32]>,
    keys: Keys,
}

impl Reader<'_> {
    fn document(mut self) -> Result<(), ContractFailure> {
        self.white_space();
        self.value()?;
        while let Some(open) = self.stack.last_mut() {
            self.at = skip_white_space(self.text, self.at);
            let next = self.text.get(self.at).copied();
            match (open, next) {
                (Open::Array { elements: 0 }, Some(b']')) | (Open::Object { members: 0, .. }, Some(b'}')) => {
                    self.close();
                }
                (Open::Array { elements }, _) => {
                    if *elements > 0 {
                        match next {
                            Some(b',') => self.at += 1,
                            Some(b']') => {
                                self.close();
                                continue;
                            }
                            _ => return Err(ContractFailure::Syntax),
                        }
                    }
                    *elements += 1;
                    if *elements > self.shape.max_elements {
                        return Err(ContractFailure::Size);
                    }
                    self.white_space();
                    self.value()?;
                }
                (Open::Object { members, keys_below }, _) => {
                    if *members > 0 {
                        match next {
                            Some(b',') => self.at += 1,
                            Some(b'}') => {
                                self.keys.close(*keys_below, self.text)?;
                                self.close();
                                continue;
                            }
                            _ => return Err(ContractFailure::Syntax),
                        }
                    }
                    *members += 1;
                    if *members > self.shape.max_keys {
                        return Err(ContractFailure::Size);
                    }
                    self.member()?;
                }
            }
        }
        self.white_space();
        if self.at == self.text.len() { Ok(()) } else { Err(ContractFailure::Syntax) }
    }

    fn close(&mut self) {
        self.stack.pop();
        self.at += 1;
    }

    /// A key, its colon, and the value (or its beginning).
    fn member(&mut self) -> Result<(), ContractFailure> {
        self.white_space();
        self.expect(b'"')?;
        let start = self.at;
        let escaped = self.string()?;
        if self.shape.duplicate_keys == DuplicateKeys::Reject {
            self.keys.push(self.text, start, self.at - 1, escaped)?;
        }
        self.white_space();
        self.expect(b':')?;
        self.white_space();
        self.value()
    }

    /// A scalar, or the beginning of an array or object.
    fn value(&mut self) -> Result<(), ContractFailure> {
        self.values += 1;
        if self.values > self.shape.max_values {
            return Err(ContractFailure::Size);
        }
        match self.text.get(self.at) {
            Some(b'{') => self.open(Open::Object { members: 0, keys_below: self.keys.len() }),
            Some(b'[') => self.open(Open::Array { elements: 0 }),
            Some(b'"') => {
                self.at += 1;
                self.string().map(|_| ())
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => Err(ContractFailure::Syntax),
        }
    }

    fn open(&mut self, open: Open) -> Result<(), ContractFailure> {
        if self.stack.len() >= self.shape.max_depth {
            return Err(ContractFailure::Depth);
        }
        self.stack.push(open);
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), ContractFailure> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(ContractFailure::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    /// RFC 8259 §6.
    fn number(&mut self) -> Result<(), ContractFailure> {
        let start = self.at;
        self.skip_if(|b| b == b'-');
        if !self.skip_if(|b| b == b'0') {
            self.digits()?;
        }
        if self.skip_if(|b| b == b'.') {
            self.digits()?;
        }
        if self.skip_if(|b| matches!(b, b'e' | b'E')) {
            self.skip_if(|b| matches!(b, b'+' | b'-'));
            self.digits()?;
        }
        if self.at - start > self.shape.max_number { Err(ContractFailure::Size) } else { Ok(()) }
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), ContractFailure> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(ContractFailure::Syntax) }
    }

    /// The rest of a string, after its opening quote; says whether it holds escapes.
    fn string(&mut self) -> Result<bool, ContractFailure> {
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            self.at += plain_length(rest);
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    let (_, used) = unescape(self.text.get(self.at..).unwrap_or_default())
                        .ok_or(ContractFailure::Syntax)?;
                    self.at += used;
                }
                _ => return Err(ContractFailure::Syntax),
            }
        }
        if self.at - start > self.shape.max_string {
            return Err(ContractFailure::Size);
        }
        self.at += 1;
        Ok(escaped)
    }

    fn white_space(&mut self) {
        self.at = skip_white_space(self.text, self.at);
    }

    fn expect(&mut self, byte: u8) -> Result<(), ContractFailure> {
        if self.skip_if(|b| b == byte) { Ok(()) } else { Err(ContractFailure::Syntax) }
    }

    fn skip_if(&mut self, wanted: impl Fn(u8) -> bool) -> bool {
        let found = self.text.get(self.at).is_some_and(|&b| wanted(b));
        self.at += usize::from(found);
        found
    }
}

/// How many bytes at the beginning neither end a string nor begin an escape, and are no control characters.
fn plain_length(text: &[u8]) -> usize {
    let plain = |b: &u8| !matches!(b, b'"' | b'\\') && *b >= 0x20;
    let (eights, _) = text.as_chunks::<8>();
    let skipped = 8 * eights.iter().take_while(|eight| is_plain(**eight)).count();
    let rest = text.get(skipped..).unwrap_or_default();
    skipped + rest.iter().take_while(|b| plain(b)).count()
}

/// Whether none of eight bytes is a quote, a backslash or a control character, all looked at together: subtracting sets
/// the high bit of a byte that is less than what is subtracted, and of a lower one at most where that is so already.
fn is_plain(eight: [u8; 8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = 0x80 * EACH;
    let text = u64::from_ne_bytes(eight);
    let below = |text: u64, limit: u64| text.wrapping_sub(limit * EACH) & !text;
    let is = |byte: u8| below(text ^ (u64::from(byte) * EACH), 1);
    (below(text, 0x20) | is(b'"') | is(b'\\')) & HIGH == 0
}

fn skip_white_space(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count()
}

/// The character that the escape at the start of `text` stands for, and how many bytes it takes (RFC 8259 §7).
/// Surrogates must come as a pair.
fn unescape(text: &[u8]) -> Option<(char, usize)> {
    let plain = match text.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let high = code_unit(text.get(2..6)?)?;
            if let Some(plain) = char::from_u32(high) {
                return Some((plain, 6));
            }
            let low = text.get(6..12).filter(|low| low.starts_with(b"\\u"))?;
            let low = code_unit(low.get(2..)?)?;
            if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
                return None;
            }
            let pair = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return char::from_u32(pair).map(|pair| (pair, 12));
        }
        _ => return None,
    };
    Some((plain, 2))
}

fn code_unit(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, &b| Some(sum * 16 + char::from(b).to_digit(16)?))
}

/// The keys of the objects that are open. They are compared when their object closes, sorted by what they are
/// and not by a hash: nobody can choose keys that make it slow.
#[derive(Default)]
struct Keys {
    keys: Vec<KeySpan>,
    /// The text of keys that were written with escapes.
    unescaped: Vec<u8>,
}

#[derive(Clone, Copy)]
struct KeySpan {
    start: u32,
    end: u32,
    unescaped: bool,
}

/// So many keys are compared with each other sooner than sorted.
const FEW: usize = 8;

impl Keys {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn push(&mut self, text: &[u8], start: usize, end: usize, escaped: bool) -> Result<(), ContractFailure> {
        let span = |start: usize, end: usize| {
            // A document of 4 GiB is no API call.
            let start = u32::try_from(start).map_err(|_| ContractFailure::Size)?;
            let end = u32::try_from(end).map_err(|_| ContractFailure::Size)?;
            Ok(KeySpan { start, end, unescaped: escaped })
        };
        if !escaped {
            self.keys.push(span(start, end)?);
            return Ok(());
        }
        let begin = self.unescaped.len();
        let mut rest = text.get(start..end).unwrap_or_default();
        while let Some((&first, tail)) = rest.split_first() {
            if first == b'\\' {
                let (letter, used) = unescape(rest).ok_or(ContractFailure::Syntax)?;
                self.unescaped.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                rest = rest.get(used..).unwrap_or_default();
            } else {
                self.unescaped.push(first);
                rest = tail;
            }
        }
        self.keys.push(span(begin, self.unescaped.len())?);
        Ok(())
    }

    /// Ends the innermost object, whose keys are all but the first `below`.
    fn close(&mut self, below: usize, text: &[u8]) -> Result<(), ContractFailure> {
        let unescaped = &self.unescaped;
        let name = |key: &KeySpan| {
            let from = if key.unescaped { unescaped.as_slice() } else { text };
            from.get(key.start as usize..key.end as usize).unwrap_or_default()
        };
        let own = self.keys.get_mut(below..).unwrap_or_default();
        let twice = if own.len() <= FEW {
            // Each with each before it; most differ in length already.
            own.iter().enumerate().any(|(at, a)| own.iter().take(at).any(|b| name(a) == name(b)))
        } else {
            own.sort_unstable_by(|a, b| name(a).cmp(name(b)));
            own.iter().zip(own.iter().skip(1)).any(|(a, b)| name(a) == name(b))
        };
        self.keys.truncate(below);
        if twice { Err(ContractFailure::DuplicateKey) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_text_ends_where_it_ends_byte_by_byte(text in prop::collection::vec(any::<u8>(), 0..40), at in 0usize..40, end in prop::sample::select(&b"\"\\\n\x1f\x00"[..])) {
            let mut text: Vec<u8> = text.into_iter().map(|b| if b < 0x20 || b == b'"' || b == b'\\' { b'x' } else { b }).collect();
            prop_assert_eq!(plain_length(&text), text.len());
            if let Some(byte) = text.get_mut(at) {
                *byte = end;
                prop_assert_eq!(plain_length(&text), at);
            }
        }
    }
}
