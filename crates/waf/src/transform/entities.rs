//! HTML character references.

use super::url::hex_value;

/// Names that stand for ASCII, and the no-break space, longest first where one is another's beginning.
const NAMES: &[(&[u8], u8)] = &[
    (b"quot", b'"'),
    (b"amp", b'&'),
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"nbsp", 0xa0),
    (b"apos", b'\''),
    (b"tab", b'\t'),
    (b"newline", b'\n'),
    (b"excl", b'!'),
    (b"num", b'#'),
    (b"dollar", b'$'),
    (b"percnt", b'%'),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"ast", b'*'),
    (b"midast", b'*'),
    (b"plus", b'+'),
    (b"comma", b','),
    (b"period", b'.'),
    (b"sol", b'/'),
    (b"colon", b':'),
    (b"semi", b';'),
    (b"equals", b'='),
    (b"quest", b'?'),
    (b"commat", b'@'),
    (b"lsqb", b'['),
    (b"lbrack", b'['),
    (b"bsol", b'\\'),
    (b"rsqb", b']'),
    (b"rbrack", b']'),
    (b"hat", b'^'),
    (b"lowbar", b'_'),
    (b"underbar", b'_'),
    (b"grave", b'`'),
    (b"diacriticalgrave", b'`'),
    (b"lcub", b'{'),
    (b"lbrace", b'{'),
    (b"verbar", b'|'),
    (b"vert", b'|'),
    (b"verticalline", b'|'),
    (b"rcub", b'}'),
    (b"rbrace", b'}'),
];

/// The names browsers accept without a semicolon, which are also matched as a prefix of a longer run.
const BARE: usize = 5;

pub(super) fn decode(mut input: &[u8], out: &mut Vec<u8>) {
    while let Some((&first, rest)) = input.split_first() {
        input = rest;
        if first != b'&' {
            out.push(first);
            continue;
        }
        let decoded = match rest {
            [b'#', b'x' | b'X', digits @ ..] => numeric(digits, 16),
            [b'#', digits @ ..] => numeric(digits, 10),
            _ => named(rest),
        };
        match decoded {
            Some((code, tail)) => {
                match u8::try_from(code) {
                    Ok(byte) => out.push(byte),
                    Err(_) => {
                        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
                input = tail.strip_prefix(b";").unwrap_or(tail);
            }
            None => out.push(b'&'),
        }
    }
}

/// A byte up to 255, a code point (written as UTF-8) above.
///
/// A run of digits of any length: a limit on it would let `&#0000058;` through undecoded.
fn numeric(input: &[u8], radix: u32) -> Option<(u32, &[u8])> {
    let digit = |&byte: &u8| hex_value(byte).map(u32::from).filter(|&value| value < radix);
    let count = input.iter().take_while(|byte| digit(byte).is_some()).count();
    if count == 0 {
        return None;
    }
    let digits = input.iter().take(count).filter_map(digit);
    let code = digits.fold(0u32, |code, value| code.saturating_mul(radix).saturating_add(value));
    Some((code, input.get(count..)?))
}

fn named(input: &[u8]) -> Option<(u32, &[u8])> {
    let run = input.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let word = input.get(..run)?;
    let terminated = input.get(run) == Some(&b';');
    for (index, (name, byte)) in NAMES.iter().enumerate() {
        if terminated && word.eq_ignore_ascii_case(name) {
            return Some((u32::from(*byte), input.get(run..)?));
        }
        let bare = index < BARE && word.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
        if bare && !terminated {
            return Some((u32::from(*byte), input.get(name.len()..)?));
        }
    }
    // A bare name followed by more letters and a semicolon (`&ltfoo;`) still starts with the reference.
    NAMES.iter().take(BARE).find_map(|(name, byte)| {
        let head = word.get(..name.len())?;
        head.eq_ignore_ascii_case(name).then(|| Some((u32::from(*byte), input.get(name.len()..)?)))?
    })
}
