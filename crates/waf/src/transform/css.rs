//! CSS 2 escapes.

use super::is_space;
use super::url::hex_value;

/// `\` and one to six hexadecimal digits give the code point, as browsers read it: one byte up to 255, UTF-8 above, full-width
/// forms of ASCII as what they look like. One white space after them is swallowed; `\` and a newline vanish; `\c` gives
/// `c`.
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
        match u8::try_from(code) {
            Ok(byte) => out.push(byte),
            Err(_) if full_width => out.push(low + 0x20),
            Err(_) => {
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        input = rest.get(digits..).unwrap_or_default();
        if let Some((&next, tail)) = input.split_first()
            && is_space(next)
        {
            input = tail;
        }
    }
}
