//! Writing what clients sent into a log line, so that it can neither begin a line of its own nor move the
//! reader's cursor, and stays readable.

/// Bytes of one value that a log line keeps.
pub(crate) const MAX_VALUE: usize = 1024;

/// Whether a character does something to a terminal or to the reading order instead of showing itself.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Appends `bytes` as the inside of a JSON string: at most `limit` bytes of it and then `…`, active characters
/// as `\uXXXX`, bytes that are no UTF-8 as U+FFFD.
pub(crate) fn json_text(bytes: &[u8], limit: usize, out: &mut Vec<u8>) {
    let (kept, cut) = cut(bytes, limit);
    // Most values are plain, and a byte is cheaper to judge than a character.
    if is_plain(kept) {
        out.extend_from_slice(kept);
    } else {
        escape(kept, out);
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
}

/// Whether a text stands in JSON as it is.
fn is_plain(bytes: &[u8]) -> bool {
    let plain = |b: &u8| matches!(b, b' '..=b'~') && *b != b'"' && *b != b'\\';
    let (eights, rest) = bytes.as_chunks::<8>();
    eights.iter().all(|eight| are_plain(*eight)) && rest.iter().all(plain)
}

/// The same of eight bytes, looked at together: of each the high bit is set by subtracting 0x20 where it is below that, by
/// adding 1 where it is beyond `~`, and by subtracting 1 from what it differs from `"` and `\` by where that is nothing.
fn are_plain(eight: [u8; 8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = 0x80 * EACH;
    let text = u64::from_ne_bytes(eight);
    let is = |byte: u8| {
        let differs = text ^ (u64::from(byte) * EACH);
        differs.wrapping_sub(EACH) & !differs
    };
    let below = text.wrapping_sub(0x20 * EACH) & !text;
    (text | text.wrapping_add(EACH) | below | is(b'"') | is(b'\\')) & HIGH == 0
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        let mut plain = chunk.valid();
        while let Some(at) = plain.find(|c| matches!(c, '"' | '\\') || is_active(c)) {
            let (before, rest) = plain.split_at(at);
            out.extend_from_slice(before.as_bytes());
            let mut chars = rest.chars();
            match chars.next() {
                Some(c @ ('"' | '\\')) => out.extend_from_slice(&[b'\\', c as u8]),
                Some(c) => unicode_escape(c, out),
                None => {}
            }
            plain = chars.as_str();
        }
        out.extend_from_slice(plain.as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends `bytes` as a JSON string.
pub(crate) fn json_string(bytes: &[u8], limit: usize, out: &mut Vec<u8>) {
    out.push(b'"');
    json_text(bytes, limit, out);
    out.push(b'"');
}

/// Neutralizes a finished line of JSON that another formatter wrote: active characters beyond ASCII can only
/// stand inside its strings, so that escaping them there keeps it JSON of the same meaning.
pub(crate) fn json_line(line: &str, out: &mut Vec<u8>) {
    for c in line.chars() {
        if is_active(c) && c != '\n' {
            unicode_escape(c, out);
        } else {
            let mut utf8 = [0; 4];
            out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
        }
    }
}

/// The colours and weights that the formatter of lines for people uses.
const STYLES: [&str; 10] = ["0", "1", "2", "3", "31", "32", "33", "34", "35", "36"];

/// Neutralizes a finished line for people: a line feed inside it is followed by blanks, so that what comes
/// after it cannot pass for a line of its own. With `colours`, escape sequences stay that do no more than the
/// formatter's own; the formatter lets others pass from values that display themselves.
pub(crate) fn human_line(line: &str, colours: bool, out: &mut Vec<u8>) {
    let (mut rest, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
    while let Some(c) = rest.chars().next() {
        let style = if colours { style_at(rest) } else { None };
        if let Some(style) = style {
            let (sequence, after) = rest.split_at_checked(style.len() + 3).unwrap_or((rest, ""));
            out.extend_from_slice(sequence.as_bytes());
            rest = after;
            continue;
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '\n' => out.extend_from_slice(b"\n    "),
            '\t' => out.push(b'\t'),
            c if is_active(c) => unicode_escape(c, out),
            c => {
                let mut utf8 = [0; 4];
                out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
            }
        }
    }
    out.extend_from_slice(end.as_bytes());
}

/// The style that an escape sequence at the start of `text` sets, if it is one of the formatter's.
fn style_at(text: &str) -> Option<&'static str> {
    let after = text.strip_prefix("\x1b[")?;
    STYLES.into_iter().find(|style| after.strip_prefix(style).is_some_and(|after| after.starts_with('m')))
}

/// `\uXXXX`, or two of them (RFC 8259 §7).
fn unicode_escape(c: char, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut units = [0_u16; 2];
    for unit in c.encode_utf16(&mut units) {
        out.extend_from_slice(b"\\u");
        for shift in [12, 8, 4, 0] {
            let digit = usize::from(*unit >> shift & 15);
            out.extend(HEX.get(digit));
        }
    }
}

/// The first `limit` bytes, or fewer where the cut would fall into a character; and whether that is a cut.
fn cut(bytes: &[u8], limit: usize) -> (&[u8], bool) {
    let Some((kept, _)) = bytes.split_at_checked(limit).filter(|(_, rest)| !rest.is_empty()) else {
        return (bytes, false);
    };
    // A character has at most three bytes after its first.
    let whole = (0..4).find_map(|back| {
        let (kept, next) = bytes.split_at_checked(limit.checked_sub(back)?)?;
        next.first().is_some_and(|b| b & 0xc0 != 0x80).then_some(kept)
    });
    (whole.unwrap_or(kept), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        json_string(bytes, MAX_VALUE, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn j3_what_hurts_is_escaped() {
        for (given, expected) in [
            (&b"a\r\nb"[..], r#""a\u000d\u000ab""#),
            (b"\x1b[2J", r#""\u001b[2J""#),
            (b"\"\\", r#""\"\\""#),
            (b"\x7f\x00", r#""\u007f\u0000""#),
            ("\u{9b}2J".as_bytes(), r#""\u009b2J""#),
            ("a\u{2028}b\u{2029}".as_bytes(), r#""a\u2028b\u2029""#),
            ("\u{202e}gpj.exe\u{2066}".as_bytes(), r#""\u202egpj.exe\u2066""#),
            ("\u{e0041}".as_bytes(), r#""\udb40\udc41""#),
            (b"a\xff\xfeb", "\"a\u{fffd}\u{fffd}b\""),
            ("é €".as_bytes(), "\"é €\""),
        ] {
            assert_eq!(json(given), expected);
        }
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(json(&vec![b'a'; 1 << 20]).len(), 2 + MAX_VALUE + "…".len());
        assert_eq!(json(&[b'a'; MAX_VALUE]).len(), 2 + MAX_VALUE);
        let euros = json("€".repeat(500).as_bytes());
        assert_eq!(euros, format!("\"{}…\"", "€".repeat(MAX_VALUE / 3)));
    }

    #[test]
    fn a_line_for_people_stays_one_entry() {
        let mut out = Vec::new();
        human_line("a\nERROR forged\u{202e}\r\u{8}\n", false, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\n    ERROR forged\\u202e\\u000d\\u0008\n");
        let mut out = Vec::new();
        human_line("\x1b[32mINFO\x1b[0m \x1b[2J\x1b[8mhidden\x1b[", true, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[32mINFO\x1b[0m \\u001b[2J\\u001b[8mhidden\\u001b[");
    }

    #[test]
    fn one_byte_among_eight_that_is_not_plain_shows() {
        for byte in 0..=255u8 {
            for at in 0..8 {
                let mut eight = *b"~ab z!#[";
                eight[at] = byte;
                let plain = matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
                assert_eq!(are_plain(eight), plain, "{byte} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn json_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let text = json(&bytes);
            prop_assert!(!text.chars().any(is_active));
            let back: String = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_line_of_json_keeps_its_meaning(value in any::<String>()) {
            let line = serde_json::to_string(&value).unwrap();
            let mut out = Vec::new();
            json_line(&line, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), value);
        }
    }
}
