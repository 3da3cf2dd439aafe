//! The Huffman code of HPACK (RFC 7541 appendix B).
//!
//! It is canonical: codes of one length follow each other in the order of their symbols, so that a row for each length
//! says all of it.

/// Length in bits, the first code of that length, and its symbols.
const ROWS: [(u32, u64, &[u8]); 21] = [
    (5, 0x0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
    (10, 0x3f8, b"!\"()?"),
    (11, 0x7fa, b"'+|"),
    (12, 0xffa, b"#>"),
    (13, 0x1ff8, b"\x00$@[]~"),
    (14, 0x3ffc, b"^}"),
    (15, 0x7ffc, b"<`{"),
    (19, 0x7fff0, b"\\\xc3\xd0"),
    (20, 0xfffe6, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, 0x1f_ffdc, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (
        22,
        0x3f_ffd2,
        b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    ),
    (
        23,
        0x7f_ffd8,
        b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\
          \xc5\xe7\xef",
    ),
    (24, 0xff_ffea, b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, 0x1ff_ffec, b"\xc7\xcf\xea\xeb"),
    (26, 0x3ff_ffe0, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, 0x7ff_ffde, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (
        28,
        0xfff_ffe2,
        b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\
          \x7f\xdc\xf9",
    ),
    // The fourth of these is EOS, which no string may hold.
    (30, 0x3fff_fffc, b"\n\r\x16"),
];

/// By the next eight bits: the symbol that they begin with, and its length. 0 where it is longer; few that are in use are.
static SHORT: [(u8, u8); 256] = {
    let mut table = [(0, 0); 256];
    let mut row = 0;
    #[expect(clippy::indexing_slicing, reason = "beyond the end it would be an error at compile time")]
    while row < ROWS.len() && ROWS[row].0 <= 8 {
        let (length, start, symbols) = ROWS[row];
        let mut at = 0;
        while at < symbols.len() {
            let begin = (start as usize + at) << (8 - length);
            let mut rest = 0;
            while rest < 1 << (8 - length) {
                table[begin + rest] = (symbols[at], length as u8);
                rest += 1;
            }
            at += 1;
        }
        row += 1;
    }
    table
};

/// Calls `each` with every byte that a string in the code stands for; `None` where it is none: it holds EOS, or ends in
/// anything but less than eight one bits (RFC 7541 §5.2).
pub(crate) fn decode(text: &[u8], mut each: impl FnMut(u8)) -> Option<()> {
    let (mut bits, mut have) = (0u64, 0u32);
    let mut text = text.iter();
    loop {
        while have <= 32
            && let Some(byte) = text.next()
        {
            bits = bits << 8 | u64::from(*byte);
            have += 8;
        }
        let mut short = 0;
        while let Some(rest) = have.checked_sub(8)
            && let Some((symbol, length @ 1..)) = SHORT.get(low_byte(bits >> rest))
        {
            each(*symbol);
            have -= u32::from(*length);
            short += 1;
        }
        if short > 0 {
            continue;
        }
        let Some((symbol, length)) = first(bits, have) else { break };
        each(symbol?);
        have -= length;
    }
    let padding = bits & ((1 << have) - 1);
    (have < 8 && padding == (1 << have) - 1).then_some(())
}

fn low_byte(bits: u64) -> usize {
    let [low, ..] = bits.to_le_bytes();
    usize::from(low)
}

/// The first symbol of the last `have` bits, and its length; `None` where they hold no whole one.
fn first(bits: u64, have: u32) -> Option<(Option<u8>, u32)> {
    let rows = ROWS.iter().take_while(|(length, ..)| *length <= have);
    for (length, start, symbols) in rows {
        let code = (bits >> (have - length)) & ((1 << length) - 1);
        // Codes of this length end where those of the next begin; only the last row has none after it.
        let place = code.checked_sub(*start).and_then(|place| usize::try_from(place).ok())?;
        if place < symbols.len() || *length == 30 {
            return Some((symbols.get(place).copied(), *length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits: Vec<bool> = Vec::new();
        for byte in text {
            let (length, start, symbols) = ROWS.iter().find(|row| row.2.contains(byte)).unwrap();
            let code = start + symbols.iter().position(|symbol| symbol == byte).unwrap() as u64;
            bits.extend((0..*length).rev().map(|at| code >> at & 1 == 1));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push(true);
        }
        bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | u8::from(*bit))).collect()
    }

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        decode(text, |byte| bytes.push(byte)).map(|()| bytes)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// RFC 7541 appendix C.4 and C.6.
    #[test]
    fn the_rfc_s_own_strings() {
        for (code, text) in [
            ("f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"),
            ("a8eb 1064 9cbf", "no-cache"),
            ("25a8 49e9 5ba9 7d7f", "custom-key"),
            ("25a8 49e9 5bb8 e8b4 bf", "custom-value"),
            ("aec3 771a 4b", "private"),
            ("d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3", "https://www.example.com"),
        ] {
            assert_eq!(decoded(&hex(code)).unwrap(), text.as_bytes());
            assert_eq!(encode(text.as_bytes()), hex(code));
        }
    }

    /// RFC 7541 §5.2.
    #[test]
    fn what_is_no_string() {
        for (what, code) in [
            ("EOS behind a symbol", "07 ff ff ff ff"),
            ("EOS alone", "ff ff ff ff"),
            ("padding of zeros", "1c 64 00"),
            ("padding of eight bits", "00 ff ff"),
            ("padding that is no prefix of EOS", "00"),
        ] {
            assert_eq!(decoded(&hex(code)), None, "{what}");
        }
        assert_eq!(decoded(b"").unwrap(), b"");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encode(&text)), Some(text));
        }
    }
}
