//! Backslash escapes of JavaScript and of ANSI C.

use super::url::hex_pair;

/// Up to three octal digits; the count read and the value, at most 0o377 where `max_377`.
fn octal(input: &[u8], max_377: bool) -> (usize, u8) {
    let mut value = 0u32;
    let mut count = 0;
    for &byte in input.iter().take(3) {
        if !(b'0'..=b'7').contains(&byte) {
            break;
        }
        let next = value * 8 + u32::from(byte - b'0');
        if max_377 && next > 0xff {
            break;
        }
        value = next;
        count += 1;
    }
    (count, value as u8)
}

fn control(byte: u8) -> u8 {
    match byte {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        other => other,
    }
}

pub(super) fn js(mut input: &[u8], out: &mut Vec<u8>) {
    while let Some((&first, rest)) = input.split_first() {
        input = rest;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        match rest {
            [b'u', a, b, c, d, tail @ ..]
                if let (Some(high), Some(low)) = (hex_pair(*a, *b), hex_pair(*c, *d)) =>
            {
                // Full-width forms of ASCII are read as what they look like.
                let full_width = high == 0xff && (0x01..0x5f).contains(&low);
                out.push(if full_width { low + 0x20 } else { low });
                input = tail;
            }
            [b'x', high, low, tail @ ..] if let Some(byte) = hex_pair(*high, *low) => {
                out.push(byte);
                input = tail;
            }
            [b'0'..=b'7', ..] => {
                let (count, value) = octal(rest, true);
                out.push(value);
                input = rest.get(count..).unwrap_or_default();
            }
            [escaped, tail @ ..] => {
                out.push(control(*escaped));
                input = tail;
            }
            [] => out.push(b'\\'),
        }
    }
}

pub(super) fn escape_seq(mut input: &[u8], out: &mut Vec<u8>) {
    while let Some((&first, rest)) = input.split_first() {
        input = rest;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        match rest {
            [b'x' | b'X', high, low, tail @ ..] if let Some(byte) = hex_pair(*high, *low) => {
                out.push(byte);
                input = tail;
            }
            // Not two digits: the escape stays, so that what follows is still seen as written.
            [b'x' | b'X', ..] | [] => out.push(b'\\'),
            [b'0'..=b'7', ..] => {
                let (count, value) = octal(rest, false);
                out.push(value);
                input = rest.get(count..).unwrap_or_default();
            }
            [escaped, tail @ ..] => {
                out.push(control(*escaped));
                input = tail;
            }
        }
    }
}
