//! Strings, numbers and variables: everything with a form of its own that is not a plain word.

use memchr::{memchr, memmem};

use super::lexer::{Lexed, is_white, sign, take};
use super::token::{Kind, Token};
use super::words;
use crate::byteset::ByteSet;

/// What ends the name of a variable.
const VARIABLE_END: ByteSet = ByteSet::of(b"\0\t\n\x0b\x0c\r !\"#%&'()*+,-/:;<=>?@\\^`|~");

/// A string whose first `skip` bytes are its prefix and quote. Doubled quotes and quotes after an odd number of
/// backslashes are part of it; without an end it goes to the end of the input.
pub(super) fn string(rest: &[u8], quote: u8, skip: usize) -> Lexed<'_> {
    let body = rest.get(skip..).unwrap_or_default();
    let open = if skip > 0 { quote } else { 0 };
    match closing(body, quote) {
        Some(end) => (Token::quoted(body.get(..end).unwrap_or(body), open, quote), skip + end + 1),
        None => (Token::quoted(body, open, 0), rest.len()),
    }
}

fn closing(body: &[u8], quote: u8) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr(quote, body.get(from..)?)?;
        // Stops at the quote before, if there is one: no byte is looked at twice.
        let backslashes = body.get(..at)?.iter().rev().take_while(|&&byte| byte == b'\\').count();
        if backslashes % 2 == 1 {
            from = at + 1;
        } else if body.get(at + 1) == Some(&quote) {
            from = at + 2;
        } else {
            return Some(at);
        }
    }
}

/// A string between marks of one or more bytes, `body` being behind the first. Nothing escapes in it.
fn marked<'a>(rest: &'a [u8], body: &'a [u8], end: &[u8], shown: u8) -> Lexed<'a> {
    match memmem::find(body, end) {
        Some(at) => {
            let length = rest.len() - body.len() + at + end.len();
            (Token::quoted(body.get(..at).unwrap_or(body), shown, shown), length)
        }
        None => (Token::quoted(body, shown, 0), rest.len()),
    }
}

/// `` `name` ``: the name of a function, or else a bareword, whatever it says.
pub(super) fn back_quoted(rest: &[u8]) -> Lexed<'_> {
    let (mut token, length) = string(rest, b'`', 1);
    let function = words::find(&token.text).is_some_and(|word| word.kind == Kind::Function);
    token.kind = if function { Kind::Function } else { Kind::Bareword };
    (token, length)
}

/// `e'…'` of PostgreSQL.
pub(super) fn prefixed_string(rest: &[u8]) -> Lexed<'_> {
    match rest {
        [_, b'\'', _, ..] => string(rest, b'\'', 2),
        _ => words::word(rest),
    }
}

/// `n'…'`, or `nq'…'` of Oracle.
pub(super) fn national_string(rest: &[u8]) -> Lexed<'_> {
    match rest {
        [_, b'\'', _, ..] => string(rest, b'\'', 2),
        _ => oracle_string(rest, 1),
    }
}

/// `u&'…'`
pub(super) fn unicode_string(rest: &[u8]) -> Lexed<'_> {
    let [_, b'&', quoted @ ..] = rest else { return words::word(rest) };
    if quoted.first() != Some(&b'\'') {
        return words::word(rest);
    }
    let (mut token, length) = string(quoted, b'\'', 1);
    token.open = b'u';
    if token.close != 0 {
        token.close = b'u';
    }
    (token, length + 2)
}

/// `q'[…]'`: behind the quote stands a byte of one's choice, whose counterpart ends the string. `prefix` bytes stand
/// before the `q`.
pub(super) fn oracle_string(rest: &[u8], prefix: usize) -> Lexed<'_> {
    let Some([b'q' | b'Q', b'\'', mark @ b'!'..=0x7f, body @ ..]) = rest.get(prefix..) else {
        return words::word(rest);
    };
    let counterpart = match mark {
        b'(' => b')',
        b'[' => b']',
        b'{' => b'}',
        b'<' => b'>',
        other => *other,
    };
    marked(rest, body, &[counterpart, b'\''], b'q')
}

/// `b'0101'` and `x'c0de'`.
pub(super) fn digits_in_quotes(rest: &[u8]) -> Lexed<'_> {
    let [first, b'\'', digits @ ..] = rest else { return words::word(rest) };
    let length = match first {
        b'b' | b'B' => span(digits, is_binary),
        _ => span(digits, is_hexadecimal),
    };
    match digits.get(length) {
        Some(b'\'') => take(rest, length + 3, Kind::Number),
        _ => words::word(rest),
    }
}

/// `$1,000.00`, `$$…$$` and `$tag$…$tag$` of PostgreSQL, or just a `$`.
pub(super) fn dollar(rest: &[u8]) -> Lexed<'_> {
    let tail = rest.get(1..).unwrap_or_default();
    match span(tail, |byte| matches!(byte, b'0'..=b'9' | b'.' | b',' | 0)) {
        0 => dollar_quoted(rest, tail),
        1 if tail.first() == Some(&b'.') => words::word(rest),
        length => take(rest, length + 1, Kind::Number),
    }
}

fn dollar_quoted<'a>(rest: &'a [u8], tail: &'a [u8]) -> Lexed<'a> {
    let tag = span(tail, |byte| byte.is_ascii_alphabetic() || byte == 0);
    match (tail.get(tag), tail.get(tag + 1..), rest.get(..tag + 2)) {
        (Some(b'$'), Some(body), Some(mark)) => marked(rest, body, mark, b'$'),
        _ => sign(rest, Kind::Bareword),
    }
}

/// `@name`, `@@name`, or either with a quoted name.
pub(super) fn variable(rest: &[u8]) -> Lexed<'_> {
    let at_signs = if rest.starts_with(b"@@") { 2 } else { 1 };
    let name = rest.get(usize::from(at_signs)..).unwrap_or_default();
    let (token, length) = match name {
        [b'`', ..] => back_quoted(name),
        [quote @ (b'\'' | b'"'), ..] => string(name, *quote, 1),
        _ => take(name, span(name, |byte| !VARIABLE_END.contains(byte)), Kind::Variable),
    };
    (Token { kind: Kind::Variable, at_signs, ..token }, length + usize::from(at_signs))
}

/// A number, also `0x1f`, `0b01`, `1.5e-3` and `1.5f`. With an exponent that has no digits it is a bareword: MySQL
/// ignores `1.e` before a name or a parenthesis.
pub(super) fn number(rest: &[u8]) -> Lexed<'_> {
    match rest {
        [b'0', b'x' | b'X', digits @ ..] => return radix(rest, span(digits, is_hexadecimal)),
        [b'0', b'b' | b'B', digits @ ..] => return radix(rest, span(digits, is_binary)),
        _ => {}
    }
    let digits_from = |at: usize| span(rest.get(at..).unwrap_or_default(), |byte| byte.is_ascii_digit());
    let mut end = digits_from(0);
    if rest.get(end) == Some(&b'.') {
        end += 1 + digits_from(end + 1);
        if end == 1 {
            return sign(rest, Kind::Dot);
        }
    }
    let mut empty_exponent = false;
    if matches!(rest.get(end), Some(b'e' | b'E')) {
        end += 1;
        if matches!(rest.get(end), Some(b'+' | b'-')) {
            end += 1;
        }
        let digits = digits_from(end);
        empty_exponent = digits == 0;
        end += digits;
    }
    if has_suffix(rest.get(end..).unwrap_or_default()) {
        end += 1;
    }
    take(rest, end, if empty_exponent { Kind::Bareword } else { Kind::Number })
}

fn radix(rest: &[u8], digits: usize) -> Lexed<'_> {
    take(rest, digits + 2, if digits == 0 { Kind::Bareword } else { Kind::Number })
}

/// Oracle's mark of a float or double; `1fUNION` is `1f UNION`, but `1FROM` is `1 FROM`.
fn has_suffix(rest: &[u8]) -> bool {
    match rest {
        [b'd' | b'D' | b'f' | b'F'] => true,
        [b'd' | b'D' | b'f' | b'F', next, ..] => is_white(*next) || matches!(next, b';' | b'u' | b'U'),
        _ => false,
    }
}

/// The reference's sets of digits, letters and signs all hold NUL, too.
fn is_binary(byte: u8) -> bool {
    matches!(byte, b'0' | b'1' | 0)
}

fn is_hexadecimal(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == 0
}

/// How many bytes at the beginning are of a sort.
fn span(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !belongs(byte)).unwrap_or(bytes.len())
}
