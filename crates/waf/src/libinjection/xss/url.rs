//! URLs of schemes that run scripts or hide content, however they are spelled.

/// The beginnings of such URLs, in upper case. `JAVA` covers `javascript:`.
const SCHEMES: [&[u8]; 4] = [b"DATA", b"VIEW-SOURCE", b"JAVA", b"VBSCRIPT"];

/// The greatest character a reference may stand for; beyond, it is read as the text it is.
const LAST: u32 = 0x10_00ff;

/// Whether an attribute's value begins with such a scheme, character references resolved.
pub(super) fn is_banned(value: &[u8]) -> bool {
    // Old browsers skip control characters and bytes of multi-byte white space.
    let start = value.iter().position(|byte| matches!(byte, 33..=126));
    let url = start.and_then(|start| value.get(start..)).unwrap_or_default();
    SCHEMES.iter().any(|scheme| begins_with(url, scheme))
}

fn begins_with(mut url: &[u8], mut scheme: &[u8]) -> bool {
    let mut at_start = true;
    while let [wanted, others @ ..] = scheme {
        let Some((character, length)) = character(url) else { return false };
        url = url.get(length..).unwrap_or_default();
        let ignored = matches!(character, 0 | 10) || (at_start && character <= 32);
        if ignored {
            continue;
        }
        at_start = false;
        let upper = if matches!(character, 97..=122) { character - 32 } else { character };
        // The reference compares the lowest eight bits.
        if upper & 0xff != u32::from(*wanted) {
            return false;
        }
        scheme = others;
    }
    true
}

/// The first character and how many bytes it takes. Only numeric references count, also without a semicolon.
fn character(text: &[u8]) -> Option<(u32, usize)> {
    match text {
        [b'&', b'#', b'x' | b'X', digits @ ..] => Some(reference(digits, 16, 3)),
        [b'&', b'#', digits @ ..] => Some(reference(digits, 10, 2)),
        [first, ..] => Some((u32::from(*first), 1)),
        [] => None,
    }
}

/// The character a reference stands for, whose digits begin behind `prefix` bytes.
fn reference(digits: &[u8], radix: u32, prefix: usize) -> (u32, usize) {
    let plain = (u32::from(b'&'), 1);
    let mut value = 0;
    for (index, &byte) in digits.iter().enumerate() {
        match char::from(byte).to_digit(radix) {
            Some(digit) => value = value * radix + digit,
            None if index == 0 => return plain,
            None => return (value, prefix + index + usize::from(byte == b';')),
        }
        if value > LAST {
            return plain;
        }
    }
    if digits.is_empty() { plain } else { (value, prefix + digits.len()) }
}
