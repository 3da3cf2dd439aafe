//! Percent-encoding, with the `%u` form of old browsers and servers.

/// The value of one hexadecimal digit.
#[inline]
pub(crate) fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The byte that two hexadecimal digits stand for.
#[inline]
pub(super) fn hex_pair(high: u8, low: u8) -> Option<u8> {
    Some(hex_value(high)? << 4 | hex_value(low)?)
}

/// Decodes `%HH` and `+`; says whether an invalid `%` was met (it stays as it is).
pub(crate) fn decode(mut input: &[u8], out: &mut Vec<u8>) {
    loop {
        let plain = memchr::memchr2(b'%', b'+', input).unwrap_or(input.len());
        out.extend_from_slice(input.get(..plain).unwrap_or_default());
        let Some((&first, rest)) = input.get(plain..).and_then(<[u8]>::split_first) else { return };
        input = rest;
        match first {
            b'+' => out.push(b' '),
            _ => match rest {
                [high, low, tail @ ..] if let Some(byte) = hex_pair(*high, *low) => {
                    out.push(byte);
                    input = tail;
                }
                _ => out.push(b'%'),
            },
        }
    }
}

/// As [`decode`], and `%uHHHH` folded to one byte.
pub(super) fn decode_uni(mut input: &[u8], out: &mut Vec<u8>) {
    loop {
        let plain = memchr::memchr2(b'%', b'+', input).unwrap_or(input.len());
        out.extend_from_slice(input.get(..plain).unwrap_or_default());
        let Some((&first, rest)) = input.get(plain..).and_then(<[u8]>::split_first) else { return };
        input = rest;
        match first {
            b'+' => out.push(b' '),
            _ => match rest {
                [b'u' | b'U', a, b, c, d, tail @ ..]
                    if let (Some(high), Some(low)) = (hex_pair(*a, *b), hex_pair(*c, *d)) =>
                {
                    out.push(best_fit(high, low));
                    input = tail;
                }
                [high, low, tail @ ..] if let Some(byte) = hex_pair(*high, *low) => {
                    out.push(byte);
                    input = tail;
                }
                _ => out.push(b'%'),
            },
        }
    }
}

pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for &byte in input {
        match byte {
            b' ' => out.push(b'+'),
            b'*' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(byte),
            _ => {
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
}

/// Code points that servers with a US-ASCII best-fit map (code page 20127) read as an ASCII byte. Ranges map to one
/// byte each, or to a run of bytes when the third field's run is as long as the range.
const BEST_FIT: &[(u16, u16, &[u8])] = &[
    (0x00a0, 0x00a2, b" !c"),
    (0x00a4, 0x00a6, b"$Y|"),
    (0x00a9, 0x00ab, b"Ca<"),
    (0x00ad, 0x00ae, b"-R"),
    (0x00b2, 0x00b3, b"23"),
    (0x00b7, 0x00bb, b".,1o>"),
    (0x00c0, 0x00c5, b"A"),
    (0x00c6, 0x00c7, b"AC"),
    (0x00c8, 0x00cb, b"E"),
    (0x00cc, 0x00cf, b"I"),
    (0x00d0, 0x00d1, b"DN"),
    (0x00d2, 0x00d6, b"O"),
    (0x00d8, 0x00d8, b"O"),
    (0x00d9, 0x00dc, b"U"),
    (0x00dd, 0x00dd, b"Y"),
    (0x00e0, 0x00e6, b"a"),
    (0x00e7, 0x00e7, b"c"),
    (0x00e8, 0x00eb, b"e"),
    (0x00ec, 0x00ef, b"i"),
    (0x00f1, 0x00f1, b"n"),
    (0x00f2, 0x00f6, b"o"),
    (0x00f8, 0x00f8, b"o"),
    (0x00f9, 0x00fc, b"u"),
    (0x00fd, 0x00fd, b"y"),
    (0x00ff, 0x00ff, b"y"),
    (0x0100, 0x0117, b"AaAaAaCcCcCcCcDdDdEeEeEe"),
    (0x0118, 0x0131, b"EeEeGgGgGgGgHhHhIiIiIiIiIi"),
    (0x2000, 0x2006, b" "),
    (0x2010, 0x2015, b"-"),
    (0x2018, 0x201b, b"'',`"),
    (0x201c, 0x201f, b"\"\"\"\""),
    (0x2022, 0x2022, b"."),
    (0x2024, 0x2024, b"."),
    (0x2026, 0x2026, b"."),
    (0x2032, 0x2032, b"'"),
    (0x2033, 0x2033, b"\""),
    (0x2035, 0x2035, b"`"),
    (0x2039, 0x203a, b"<>"),
    (0x2044, 0x2044, b"/"),
    (0x2212, 0x2212, b"-"),
    (0x2215, 0x2216, b"/\\"),
    (0x2217, 0x2217, b"*"),
    (0x2223, 0x2223, b"|"),
    (0x2236, 0x2236, b":"),
    (0x223c, 0x223c, b"~"),
    (0x2329, 0x232a, b"<>"),
    (0x3000, 0x3000, b" "),
    (0x3008, 0x300b, b"<><>"),
    (0xff01, 0xff5e, b""),
];

/// Folds a code point to one byte: full-width forms and what [`BEST_FIT`] lists, otherwise the low byte.
pub(super) fn best_fit(high: u8, low: u8) -> u8 {
    let code = u16::from_be_bytes([high, low]);
    let entry = BEST_FIT.iter().find(|(from, to, _)| (*from..=*to).contains(&code));
    match entry {
        Some((_, _, [])) => low.wrapping_add(0x20),
        Some((_, _, [one])) => *one,
        Some((from, _, run)) => run.get(usize::from(code - from)).copied().unwrap_or(low),
        None => low,
    }
}
