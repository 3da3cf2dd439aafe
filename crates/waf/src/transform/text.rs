//! White space, NUL bytes, comments, shell evasions, parity.

/// White space as C's `isspace`: space, TAB, LF, VT, FF, CR.
#[inline]
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d)
}

/// White space and the two bytes of a no-break space in UTF-8.
#[inline]
pub(super) fn is_wide_space(byte: u8) -> bool {
    is_space(byte) || byte == 0xa0 || byte == 0xc2
}

pub(super) fn trim_left(mut input: &[u8]) -> &[u8] {
    while let Some((first, rest)) = input.split_first()
        && is_space(*first)
    {
        input = rest;
    }
    input
}

pub(super) fn trim_right(mut input: &[u8]) -> &[u8] {
    while let Some((last, rest)) = input.split_last()
        && is_space(*last)
    {
        input = rest;
    }
    input
}

/// The bytes before the first one that stops, and the rest: runs are copied faster than single bytes.
#[inline]
fn run(input: &[u8], stops: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = input.iter().position(|&byte| stops(byte)).unwrap_or(input.len());
    input.split_at_checked(end).unwrap_or((input, &[]))
}

/// Appends what `keep` makes of each byte, without those it says are not to stay. Every byte is written and the next one
/// takes its place if it goes, so that nothing has to be guessed where words of text end.
#[inline]
fn sift(input: &[u8], out: &mut Vec<u8>, mut keep: impl FnMut(u8) -> (u8, bool)) {
    let start = out.len();
    out.resize(start + input.len(), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let mut at = 0;
    for &byte in input {
        let (byte, stays) = keep(byte);
        if let Some(place) = room.get_mut(at) {
            *place = byte;
        }
        at += usize::from(stays);
    }
    out.truncate(start + at);
}

/// Deletes the bytes that `delete` names.
pub(super) fn remove(input: &[u8], out: &mut Vec<u8>, delete: impl Fn(u8) -> bool) {
    sift(input, out, |byte| (byte, !delete(byte)));
}

pub(super) fn compress_whitespace(input: &[u8], out: &mut Vec<u8>) {
    let mut after_blank = false;
    sift(input, out, |byte| {
        let blank = is_space(byte) || byte == 0xa0;
        let stays = !(blank && after_blank);
        after_blank = blank;
        (if blank { b' ' } else { byte }, stays)
    });
}

pub(super) fn cmd_line(mut input: &[u8], out: &mut Vec<u8>) {
    let is_deleted = |byte| matches!(byte, b'\\' | b'"' | b'\'' | b'^');
    let is_blank = |byte| matches!(byte, b' ' | b',' | b';' | b'\t' | b'\r' | b'\n');
    let mut pending_space = false;
    loop {
        let (plain, rest) = run(input, |byte| is_deleted(byte) || is_blank(byte));
        if let Some(&first) = plain.first() {
            if std::mem::take(&mut pending_space) && first != b'/' && first != b'(' {
                out.push(b' ');
            }
            out.extend(plain.iter().map(u8::to_ascii_lowercase));
        }
        let Some((&byte, rest)) = rest.split_first() else { break };
        pending_space |= is_blank(byte);
        input = rest;
    }
    if pending_space {
        out.push(b' ');
    }
}

/// As PHP's `php_register_variable_ex` reads a name: spaces in front are dropped, other spaces and dots are `_`, `[…]` at
/// the end stay as they are, a `[` that is not closed is `_`, what follows the last `]` is dropped.
pub(super) fn php_args_names(input: &[u8], out: &mut Vec<u8>) {
    if matches!(input, [b'[' | b'=', ..]) {
        return;
    }
    let start = input.iter().position(|&byte| byte != b' ').unwrap_or(input.len());
    let mut rest = input.get(start..).unwrap_or_default();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'[' && memchr::memchr(b']', tail).is_some() {
            break;
        }
        out.push(if matches!(byte, b' ' | b'.' | b'[') { b'_' } else { byte });
        rest = tail;
    }
    while rest.starts_with(b"[")
        && let Some(end) = memchr::memchr(b']', rest)
        && let Some((index, tail)) = rest.split_at_checked(end + 1)
    {
        out.extend_from_slice(index);
        rest = tail;
    }
}

/// Sets bit 8 so that the number of set bits is odd or even.
pub(super) fn parity(byte: u8, odd: bool) -> u8 {
    let low = byte & 0x7f;
    let is_odd = low.count_ones() % 2 == 1;
    if is_odd == odd { low } else { low | 0x80 }
}

pub(super) fn replace_comments(mut input: &[u8], out: &mut Vec<u8>) {
    loop {
        let Some(start) = memchr::memmem::find(input, b"/*") else {
            out.extend_from_slice(input);
            return;
        };
        out.extend(input.iter().take(start));
        out.push(b' ');
        let inner = input.get(start + 2..).unwrap_or_default();
        let Some(end) = memchr::memmem::find(inner, b"*/") else { return };
        input = inner.get(end + 2..).unwrap_or_default();
    }
}

/// Deletes comments. An unterminated one leaves a space, and a value of nothing but a comment a NUL: the vectors
/// of the other engines, whose rules were written against it, say so.
pub(super) fn remove_comments(mut input: &[u8], out: &mut Vec<u8>) {
    let whole = !input.is_empty();
    while let Some((&first, rest)) = input.split_first() {
        let close: &[u8] = match input {
            [b'/', b'*', ..] => b"*/",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'-', b'-', ..] | [b'#', ..] => {
                out.push(b' ');
                return;
            }
            _ => {
                out.push(first);
                input = rest;
                continue;
            }
        };
        let open = if close.len() == 2 { 2 } else { 4 };
        let inner = input.get(open..).unwrap_or_default();
        let Some(end) = memchr::memmem::find(inner, close) else {
            out.push(b' ');
            return;
        };
        input = inner.get(end + close.len()..).unwrap_or_default();
    }
    if whole && out.is_empty() {
        out.push(0);
    }
}

pub(super) fn remove_comments_char(mut input: &[u8], out: &mut Vec<u8>) {
    while let Some((&first, rest)) = input.split_first() {
        input = match input {
            [b'/', b'*', rest @ ..] | [b'*', b'/', rest @ ..] => rest,
            [b'<', b'!', b'-', b'-', rest @ ..] | [b'-', b'-', b'>', rest @ ..] | [b'-', b'-', rest @ ..] => {
                rest
            }
            [b'#', rest @ ..] => rest,
            _ => {
                out.push(first);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the documentation of the transformations has it, byte by byte.
    fn compress_bytes(input: &[u8]) -> Vec<u8> {
        let blank = |byte: u8| is_space(byte) || byte == 0xa0;
        let mut out: Vec<u8> = input.iter().map(|&byte| if blank(byte) { b' ' } else { byte }).collect();
        out.dedup_by(|a, b| *a == b' ' && *b == b' ');
        out
    }

    fn cmd_line_bytes(input: &[u8]) -> Vec<u8> {
        let kept = input.iter().filter(|byte| !b"\\\"'^".contains(byte));
        let mut out: Vec<u8> = kept
            .map(|byte| if b",;\t\r\n".contains(byte) { b' ' } else { byte.to_ascii_lowercase() })
            .collect();
        out.dedup_by(|a, b| *a == b' ' && *b == b' ');
        let mut next = out.get(1..).unwrap_or_default().to_vec().into_iter();
        out.retain(|byte| {
            let next = next.next();
            *byte != b' ' || !matches!(next, Some(b'/' | b'('))
        });
        out
    }

    proptest! {
        #[test]
        fn runs_are_copied_as_bytes_would_be(
            input in prop::collection::vec(prop::sample::select(b"aZ /(,;\t\x0b\"'^\\\xa0\xc2".to_vec()), 0..24),
        ) {
            let mut out = Vec::new();
            compress_whitespace(&input, &mut out);
            prop_assert_eq!(&out, &compress_bytes(&input));
            out.clear();
            cmd_line(&input, &mut out);
            prop_assert_eq!(&out, &cmd_line_bytes(&input));
            out.clear();
            remove(&input, &mut out, is_wide_space);
            let kept: Vec<u8> = input.into_iter().filter(|byte| !is_wide_space(*byte)).collect();
            prop_assert_eq!(out, kept);
        }
    }

    #[test]
    fn names_as_php_reads_them() {
        for (name, read) in [
            ("  a b.c", "a_b_c"),
            ("a.b[c.d][ e]", "a_b[c.d][ e]"),
            ("a[b.c", "a_b_c"),
            ("a[b]c.d", "a[b]"),
            ("a[b][c", "a[b]"),
            ("[a]", ""),
            ("=a", ""),
            ("", ""),
            ("plain", "plain"),
        ] {
            let mut out = Vec::new();
            php_args_names(name.as_bytes(), &mut out);
            assert_eq!(out, read.as_bytes(), "{name:?}");
        }
    }
}
