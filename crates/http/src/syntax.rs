//! Which bytes may stand where in a field (RFC 9110 §5), judged quickly.

/// What a byte is to a token (RFC 9110 §5.6.2): nothing, a part of one, or a letter, digit or hyphen.
static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0u8;
    while at < 128 {
        #[expect(clippy::indexing_slicing, reason = "beyond the end it would be an error at compile time")]
        {
            table[at as usize] = match at {
                b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => PART | PLAIN,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'.' | b'^' | b'_' | b'`' | b'|'
                | b'~' => PART,
                _ => 0,
            };
        }
        at += 1;
    }
    table
};
const PART: u8 = 1;
const PLAIN: u8 = 2;

fn class(byte: u8) -> u8 {
    CLASS.get(usize::from(byte)).copied().unwrap_or(0)
}

/// How many bytes at the beginning may stand in a token (RFC 9110 §5.6.2), and whether all of those are letters, digits
/// and hyphens.
#[must_use]
pub fn leading_token(bytes: &[u8]) -> (usize, bool) {
    let mut length = 0;
    // Eight at a time, up to the first that is not plain: nearly always what ends the token.
    while let Some(eight) = bytes.get(length..).and_then(|rest| rest.first_chunk()) {
        let others = !plain(*eight) & HIGH;
        if others == 0 {
            length += 8;
            continue;
        }
        length += (others.trailing_zeros() / 8) as usize;
        if bytes.get(length).is_some_and(|byte| class(*byte) == 0) {
            return (length, true);
        }
        break;
    }
    let mut all = PLAIN;
    for byte in bytes.get(length..).unwrap_or_default() {
        let class = class(*byte);
        if class == 0 {
            break;
        }
        all &= class;
        length += 1;
    }
    (length, all != 0)
}

/// Whether `bytes` is a non-empty token (RFC 9110 §5.6.2), as methods and field names must be.
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| class(b) != 0)
}

/// Whether `bytes` is an acceptable field value: visible bytes, spaces, tabs and `obs-text`, with no
/// white space at either end (RFC 9110 §5.5).
#[must_use]
pub fn is_value(bytes: &[u8]) -> bool {
    let edge = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    leading_value(bytes) == bytes.len() && !edge(bytes.first()) && !edge(bytes.last())
}

/// How many bytes at the beginning may stand in a field value: all but control characters, of which a tab may.
#[must_use]
pub fn leading_value(bytes: &[u8]) -> usize {
    let mut length = 0;
    loop {
        length += leading_text(bytes.get(length..).unwrap_or_default());
        if bytes.get(length) != Some(&b'\t') {
            return length;
        }
        length += 1;
    }
}

/// How many bytes at the beginning are no control characters.
#[must_use]
pub fn leading_text(bytes: &[u8]) -> usize {
    let (eights, rest) = bytes.as_chunks::<8>();
    for (at, eight) in eights.iter().enumerate() {
        let controls = controls(*eight);
        if controls != 0 {
            return at * 8 + (controls.trailing_zeros() / 8) as usize;
        }
    }
    let text = rest.iter().take_while(|b| **b >= 0x20 && **b != 0x7f).count();
    bytes.len() - rest.len() + text
}

/// A bit in each of eight bytes that are looked at together, the first byte being the lowest.
const EACH: u64 = u64::from_le_bytes([1; 8]);
/// Their high bits. Without those, adding carries from no byte into another: what is added reaches the high bit where a
/// byte is at least so much.
const HIGH: u64 = 0x80 * EACH;

/// The high bits of those that are at least `first` and at most `last`, of bytes without high bits.
fn within(low: u64, first: u8, last: u8) -> u64 {
    let at_least = |least: u8| low + (0x80 - u64::from(least)) * EACH;
    at_least(first) & !at_least(last + 1)
}

/// The high bits of those that are letters, digits or hyphens; what the others bits are says nothing.
fn plain(eight: [u8; 8]) -> u64 {
    let text = u64::from_le_bytes(eight);
    let low = text & !HIGH;
    let letter = within(low | (0x20 * EACH), b'a', b'z');
    (letter | within(low, b'0', b'9') | within(low, b'-', b'-')) & !text
}

/// The high bits of those that are control characters: below 0x20, or 0x7f.
fn controls(eight: [u8; 8]) -> u64 {
    let text = u64::from_le_bytes(eight);
    let low = text & !HIGH;
    let sound = ((low + 0x60 * EACH) & !(low + EACH)) | text;
    !sound & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_control(byte: u8) -> bool {
        byte < 0x20 || byte == 0x7f
    }

    #[test]
    fn every_byte_has_its_class() {
        for byte in 0..=255u8 {
            let mark = b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(&[byte]), byte.is_ascii_alphanumeric() || mark, "{byte}");
            let is_plain = byte.is_ascii_alphanumeric() || byte == b'-';
            assert_eq!(leading_token(&[b'a', byte]) == (2, true), is_plain, "{byte}");
            for at in 0..8 {
                let mut eight = *b"\xffabc d\x80e";
                eight[at] = byte;
                let expected = if is_control(byte) { 0x80 << (8 * at) } else { 0 };
                assert_eq!(controls(eight), expected, "{byte} at {at}");
                let mut eight = *b"aZ09-zA5";
                eight[at] = byte;
                let others = if is_plain { 0 } else { 0x80 << (8 * at) };
                assert_eq!(!plain(eight) & HIGH, others, "{byte} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_are_judged_one_by_one(bytes in proptest::collection::vec(prop_oneof![1 => Just(b'\t'), 8 => Just(b'a'), 1 => Just(b'_'), 1 => any::<u8>()], 0..40)) {
            let until = |bad: &dyn Fn(u8) -> bool| bytes.iter().position(|b| bad(*b)).unwrap_or(bytes.len());
            prop_assert_eq!(leading_text(&bytes), until(&is_control));
            let value = until(&|b| is_control(b) && b != b'\t');
            prop_assert_eq!(leading_value(&bytes), value);
            let trimmed = !matches!(bytes.first(), Some(b' ' | b'\t')) && !matches!(bytes.last(), Some(b' ' | b'\t'));
            prop_assert_eq!(is_value(&bytes), value == bytes.len() && trimmed);
            let (token, plain) = leading_token(&bytes);
            prop_assert_eq!(token, until(&|b| !is_token(&[b])));
            prop_assert_eq!(plain, bytes[..token].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-'));
        }
    }
}
