//! CSS 2 escapes.

use super::is_space;
use super::url::hex_value;

/// `\` and one to six hexadecimal digits give one byte (the last two digits; full-width forms of ASCII give what they
/// look like), one white space after them is swallowed; `\` and a newline vanish; `\c` gives `c`.
pub(super) fn decode(mut input: &[u8], out: &mut Vec<u8>) {
    while let Some((&first, rest)) = input.split_first() {
        input = rest;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        let digits = rest.iter().take(6).map_while(|&byte| hex_value(byte)).count();
        if digits == 0 {
            match rest {
                [b'\n', tail @ ..] => input = tail,
                [escaped, tail @ ..] => {
                    out.push(*escaped);
                    input = tail;
                }
                [] => {}
            }
            continue;
        }
        let code = rest.iter().take(digits).filter_map(|&byte| hex_value(byte));
        let code = code.fold(0u32, |code, digit| code << 4 | u32::from(digit));
        let low = (code & 0xff) as u8;
        // With four or more digits, FF01..FF5E (leading zeros allowed) are the full-width forms.
        let full_width = digits >= 4 && code >> 8 == 0xff && (0x01..0x5f).contains(&low);
        out.push(if full_width { low + 0x20 } else { low });
        input = rest.get(digits..).unwrap_or_default();
        if let Some((&next, tail)) = input.split_first()
            && is_space(next)
        {
            input = tail;
        }
    }
}
