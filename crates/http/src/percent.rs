//! Percent-encoding (RFC 3986 §2.1): reading it, and writing each byte in one way.

use std::borrow::Cow;

/// The byte that two hexadecimal digits stand for, and what follows them.
pub(crate) fn decode_pair(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (pair, rest) = bytes.split_first_chunk::<2>()?;
    let [high, low] = pair.map(|b| char::from(b).to_digit(16));
    u8::try_from(high? * 16 + low?).ok().map(|byte| (byte, rest))
}

/// Percent-decodes; in a form, `+` is a space. A `%` without two digits stands for itself, as the WHATWG URL standard
/// has it: the result is encoded again, so no second reading comes of it.
pub(crate) fn form_decode(text: &str, form: bool) -> Cow<'_, [u8]> {
    if !text.bytes().any(|b| b == b'%' || (form && b == b'+')) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = match first {
            b'%' => decode_pair(tail).unwrap_or((b'%', tail)),
            b'+' if form => (b' ', tail),
            _ => (first, tail),
        };
        out.push(byte);
        rest = tail;
    }
    Cow::Owned(out)
}

/// RFC 3986 `pchar` less `;`, which [`Target`](crate::Target) refuses.
pub(crate) const fn is_pchar(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
        )
}

/// Writes one byte as `%HH`, in upper case.
pub(crate) fn push_encoded(byte: u8, out: &mut String) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.push('%');
    for nibble in [byte >> 4, byte & 15] {
        out.push(DIGITS.get(usize::from(nibble)).copied().unwrap_or('0'));
    }
}

/// Writes a segment so that it is one, each byte in its one spelling.
pub(crate) fn encode_segment(segment: &[u8], out: &mut String) {
    for &byte in segment {
        if is_pchar(byte) { out.push(char::from(byte)) } else { push_encoded(byte, out) }
    }
}

/// Percent-encodes text so that it is one path segment and nothing else, appending it to `out`. A segment
/// that is nothing but dots would be one of RFC 3986's dot segments; the caller must refuse it
/// ([`Template`](crate::Template) does).
pub fn percent_encode_segment(text: &[u8], out: &mut String) {
    encode_segment(text, out);
}

/// Percent-encodes text so that it is one query name or value and nothing else, appending it to `out`.
pub fn percent_encode_query(text: &[u8], out: &mut String) {
    for &byte in text {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            push_encoded(byte, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_segment_stays_one_segment(text in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut out = String::new();
            percent_encode_segment(&text, &mut out);
            prop_assert!(!out.contains(['/', '?', '#', '\\', ';']));
        }
    }
}
