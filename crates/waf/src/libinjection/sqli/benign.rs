//! What has the fingerprint of an attack but is more often ordinary text: `1 -- 2`, `rock and roll`.

use super::fold::Folded;
use super::token::Kind;

/// Whether the value is to be let through although its fingerprint is known.
pub(super) fn is_benign(input: &[u8], folded: &Folded<'_>) -> bool {
    let tokens = folded.tokens();
    let ends_in_comment = tokens.len() > 1 && tokens.last().is_some_and(|token| token.kind == Kind::Comment);
    // SQL Server's log hides statements that name its procedure for passwords.
    if ends_in_comment && memchr::memmem::find(input, b"sp_password").is_some() {
        return false;
    }
    match tokens.len() {
        2 => pair(input, folded),
        3 => triple(folded),
        _ => false,
    }
}

fn pair(input: &[u8], folded: &Folded<'_>) -> bool {
    let [first, second] = folded.tokens() else { return false };
    let sign = second.text.first().copied().unwrap_or_default();
    if second.kind == Kind::Union {
        // `1 union` alone; with something folded away or behind it, it is an attack.
        return folded.count() == 2;
    }
    if sign == b'#' {
        return true;
    }
    match (first.kind, second.kind, sign) {
        (Kind::Bareword, Kind::Comment, sign) if sign != b'/' => true,
        (Kind::Number, Kind::Comment, b'/') => false,
        (Kind::Number, Kind::Comment, _) => folded.count() <= 2 && !comment_follows(input, first.text.len()),
        _ => sign == b'-' && second.text.len() > 2,
    }
}

/// Whether white space or a comment stands where a number of this length ends, if it begins the input. It is all that
/// is asked of a number and a comment alone; one that stands elsewhere, or is longer than what tokens keep, passes.
fn comment_follows(input: &[u8], number: usize) -> bool {
    match input.get(number..).unwrap_or_default() {
        // Bytes above ASCII are negative in the reference and so count as white space.
        [0..=b' ' | 0x80.., ..] => true,
        [b'/', b'*', ..] | [b'-', b'-', ..] => true,
        _ => false,
    }
}

fn triple(folded: &Folded<'_>) -> bool {
    let [first, second, third] = folded.tokens() else { return false };
    match (first.kind, second.kind, third.kind) {
        // `foo' + 'bar` breaks out of a quoted value; anything else are two strings.
        (Kind::String, Kind::Operator | Kind::LogicOperator, Kind::String) => {
            !(first.open == 0 && third.close == 0 && first.close == third.open)
        }
        // `sexy and 17`, but not `sexy and 17<18`.
        (Kind::String, Kind::LogicOperator, Kind::Bareword)
        | (Kind::Bareword, Kind::LogicOperator, Kind::Number)
        | (Kind::Number, Kind::LogicOperator, Kind::Number | Kind::Variable | Kind::String) => {
            folded.count() == 3
        }
        // Of keywords in the middle, only `INTO OUTFILE` and `INTO DUMPFILE` are no English.
        (_, Kind::Keyword, _) => {
            let into = second
                .text
                .split_at_checked(4)
                .is_some_and(|(word, rest)| word.eq_ignore_ascii_case(b"INTO") && !rest.is_empty());
            !into
        }
        _ => false,
    }
}
