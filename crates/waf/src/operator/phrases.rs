//! The phrase lists of `@pm` and `@pmFromFile`.

use crate::transform::hex_value;

/// The phrases of an `@pm` argument: words, where `|41 42|` writes bytes in hexadecimal.
pub(crate) fn from_argument(argument: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut phrases = Vec::new();
    let mut phrase = Vec::new();
    let mut rest = argument.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'|' if let Some((bytes, after)) = hex_block(tail)? => {
                phrase.extend(bytes);
                rest = after;
            }
            _ if byte.is_ascii_whitespace() => {
                if !phrase.is_empty() {
                    phrases.push(std::mem::take(&mut phrase));
                }
            }
            _ => phrase.push(byte),
        }
    }
    if !phrase.is_empty() {
        phrases.push(phrase);
    }
    Ok(phrases)
}

type Block<'a> = Option<(Vec<u8>, &'a [u8])>;

/// The bytes up to the closing `|`; none when there is no closing one (the bar is then a byte of its own).
fn hex_block(input: &[u8]) -> Result<Block<'_>, String> {
    let Some(end) = memchr::memchr(b'|', input) else { return Ok(None) };
    let inner = input.get(..end).unwrap_or_default();
    let digits: Vec<u8> = inner.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let values: Option<Vec<u8>> = digits.iter().map(|&digit| hex_value(digit)).collect();
    let text = String::from_utf8_lossy(inner);
    let Some(values) = values else {
        return Err(format!("`|{text}|` is not a block of hexadecimal bytes; write `|7c|` for a bar"));
    };
    let (pairs, odd) = values.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(format!("`|{text}|` has an odd number of hexadecimal digits"));
    }
    let bytes = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    Ok(Some((bytes, input.get(end + 1..).unwrap_or_default())))
}

/// The phrases of a data file: one a line, bytes as they are, surrounding white space trimmed, `#` comments.
pub(crate) fn from_file(content: &[u8]) -> Vec<Vec<u8>> {
    let lines = content.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_hexadecimal_blocks() {
        let show = |argument: &str| from_argument(argument).unwrap();
        assert_eq!(show("( )"), [b"(", b")"]);
        assert_eq!(show(" abc  a|42 43|d "), [b"abc".to_vec(), b"aBCd".to_vec()]);
        assert_eq!(show("a|b"), [b"a|b"]);
        assert!(from_argument("|4x|").is_err());
        assert!(from_argument("|4|").is_err());
    }

    #[test]
    fn files_are_bytes() {
        let content = b"# comment\r\nfirst line\r\n\r\n  \xff|41|\n";
        assert_eq!(from_file(content), [b"first line".to_vec(), b"\xff|41|".to_vec()]);
    }
}
