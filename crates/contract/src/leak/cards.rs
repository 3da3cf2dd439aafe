//! Payment card numbers (ISO/IEC 7812).

use super::Kind;
use super::patterns::{Found, Outcome, in_word, is_word};
use super::table::Then;

/// The digits of the first group: less than this is no beginning of a card number, grouped or not.
const FIRST_GROUP: usize = 4;

const MIN_DIGITS: usize = 13;
const MAX_DIGITS: usize = 19;

/// The first run of four digits or more that begins at or after `from` and may be the beginning of a card number.
pub(super) fn next_run(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += without_cards(text.get(at..)?);
        let until = (at + BLOCK).min(text.len());
        match run_in(text, from.max(at.saturating_sub(MIN_DIGITS)), until) {
            Ok(run) => return Some(run),
            Err(_) if until == text.len() => return None,
            Err(looked_at) => at = looked_at.max(at + STRIDE),
        }
    }
}

/// As [`next_run`], of those that begin between two places. Looks at every fourth byte only. Where there is none, says up
/// to where none begins.
fn run_in(text: &[u8], from: usize, until: usize) -> Result<usize, usize> {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    // Beyond the end we do not know.
    let fits = |at: usize| text.get(at).is_none_or(|byte| is_card_byte(*byte));
    let mut hit = from + FIRST_GROUP - 1;
    while hit < until + FIRST_GROUP - 1 {
        // The first of these in a card number is one of its first four digits: there are at least nine bytes behind it.
        if !(digit(hit) && fits(hit + 4) && fits(hit + 8)) {
            hit += FIRST_GROUP;
            continue;
        }
        let before = text.get(from..hit).unwrap_or_default();
        let start = hit - before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let is_start = start > from || start.checked_sub(1).is_none_or(|before| !digit(before));
        let end = run_end(text, hit);
        if is_start && end - start >= FIRST_GROUP && !is_short(text, start, end) {
            return Ok(start);
        }
        hit = end + FIRST_GROUP;
    }
    Err(hit + 1 - FIRST_GROUP)
}

/// Whether a byte may stand in a card number.
fn is_card_byte(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b' ' | b'-')
}

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// How far apart such blocks begin: two words at the border of one are within another.
const STRIDE: usize = BLOCK - 4;

/// Bytes at the beginning that belong to no card number, as a multiple of [`STRIDE`], but for what may be the beginning of
/// one: within its first 13 bytes are two words of four bytes one after the other, wherever words begin.
fn without_cards(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>)
        && !has_two_words(block)
    {
        at += STRIDE;
    }
    at
}

/// Whether two words one after the other are of bytes that a card number may have, or a few others. Written so that it
/// becomes vector instructions.
fn has_two_words(block: &[u8; BLOCK]) -> bool {
    // `-`, `.`, `/` and the digits follow one another.
    let fits =
        block.map(|byte| if byte.wrapping_sub(b'-') <= b'9' - b'-' || byte == b' ' { u8::MAX } else { 0 });
    let (words, _) = fits.as_chunks::<4>();
    let words: [u32; BLOCK / 4] =
        std::array::from_fn(|at| words.get(at).map_or(0, |word| u32::from_le_bytes(*word)));
    let both = |(one, other): (&u32, &u32)| one & other == u32::MAX;
    words.iter().zip(words.iter().skip(1)).fold(false, |any, pair| any | both(pair))
}

/// Whether a run of digits is too short for a card number and, as far as the text goes, no group of one.
fn is_short(text: &[u8], start: usize, end: usize) -> bool {
    end - start < MIN_DIGITS && text.get(end).is_some_and(|next| !matches!(next, b' ' | b'-'))
}

/// Where the run of digits at `start` ends.
pub(super) fn run_end(text: &[u8], start: usize) -> usize {
    start + text.get(start..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count()
}

/// Where the run of digits that `text` ends with begins.
pub(super) fn tail_run(text: &[u8]) -> usize {
    text.len() - text.iter().rev().take_while(|b| b.is_ascii_digit()).count()
}

/// Decides whether a card number begins with the run of digits at `start`: 13 to 19 digits, in one run or in
/// groups of four or more (the last may be shorter) parted by single spaces or single hyphens; not next to a
/// letter, not part of a decimal number, a longer hyphenated number or a telephone number; of an issuer's range
/// and length; with a right Luhn sum. Of several that could end at different groups, the longest.
pub(super) fn decide(text: &[u8], start: usize, last: bool) -> Outcome {
    if !may_begin(text, start) {
        return Outcome::No;
    }
    let mut digits = [0u8; MAX_DIGITS];
    let (mut count, mut at) = (0, start);
    let mut separator = None;
    let mut best = None;
    loop {
        let end = run_end(text, at);
        if end == text.len() && !last {
            // Only where the run can still become a group's end.
            return if count + (end - at) > MAX_DIGITS { verdict(start, best) } else { Outcome::More };
        }
        let group = text.get(at..end).unwrap_or_default();
        let Some(slots) = digits.get_mut(count..count + group.len()) else { return verdict(start, best) };
        slots.iter_mut().zip(group).for_each(|(slot, byte)| *slot = byte - b'0');
        count += group.len();
        let number = digits.get(..count).unwrap_or_default();
        if is_card(number) {
            match may_end(text, end, last) {
                None => return Outcome::More,
                Some(true) => best = Some(end),
                Some(false) => {}
            }
        }
        let next = text.get(end).copied();
        let parts = matches!(next, Some(b' ' | b'-')) && (separator.is_none() || separator == next);
        if !parts || group.len() < FIRST_GROUP {
            return verdict(start, best);
        }
        match text.get(end + 1) {
            Some(byte) if byte.is_ascii_digit() => {}
            None if !last => return Outcome::More,
            _ => return verdict(start, best),
        }
        separator = next;
        at = end + 1;
    }
}

fn verdict(start: usize, end: Option<usize>) -> Outcome {
    end.map_or(Outcome::No, |end| {
        Outcome::Yes(Found { kind: Kind::PaymentCard, start, end, then: Then::Nothing })
    })
}

fn may_begin(text: &[u8], start: usize) -> bool {
    let byte = |back: usize| start.checked_sub(back).and_then(|i| text.get(i)).copied();
    let joined = match byte(1) {
        Some(b'+') => true,
        Some(b'.') => byte(2).is_some_and(|b| b.is_ascii_digit()),
        Some(b'-') => byte(2).is_some_and(is_word),
        _ => false,
    };
    !joined && !in_word(start, text)
}

fn may_end(text: &[u8], end: usize, last: bool) -> Option<bool> {
    let Some(&next) = text.get(end) else { return last.then_some(true) };
    if is_word(next) {
        return Some(false);
    }
    if !matches!(next, b'.' | b'-') {
        return Some(true);
    }
    let Some(&second) = text.get(end + 1) else { return last.then_some(true) };
    Some(if next == b'.' { !second.is_ascii_digit() } else { !is_word(second) })
}

fn is_card(digits: &[u8]) -> bool {
    (MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) && is_issued(digits) && luhn(digits)
}

/// ISO/IEC 7812-1 annex B.
fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| u32::from(if place % 2 == 1 { doubled(digit) } else { digit }))
        .sum();
    sum.is_multiple_of(10)
}

/// Whether an issuer has numbers that begin so and are so long. Ranges of the first six digits.
fn is_issued(digits: &[u8]) -> bool {
    const RANGES: &[(u32, u32, &[usize])] = &[
        // Mir
        (220_000, 220_499, &[16, 17, 18, 19]),
        // Mastercard
        (222_100, 272_099, &[16]),
        (510_000, 559_999, &[16]),
        // Diners Club
        (300_000, 305_999, &[14, 16, 19]),
        (309_500, 309_599, &[14, 16, 19]),
        (360_000, 369_999, &[14, 16, 19]),
        (380_000, 399_999, &[14, 16, 19]),
        // American Express
        (340_000, 349_999, &[15]),
        (370_000, 379_999, &[15]),
        // JCB
        (352_800, 358_999, &[16, 17, 18, 19]),
        // Visa
        (400_000, 499_999, &[13, 16, 19]),
        // Maestro, RuPay, Dankort
        (500_000, 509_999, &[13, 14, 15, 16, 17, 18, 19]),
        (560_000, 589_999, &[13, 14, 15, 16, 17, 18, 19]),
        // Discover
        (601_100, 601_199, &[16, 17, 18, 19]),
        (644_000, 659_999, &[16, 17, 18, 19]),
        // RuPay
        (606_900, 608_999, &[16]),
        // UnionPay
        (620_000, 629_999, &[16, 17, 18, 19]),
        (810_000, 817_199, &[16, 17, 18, 19]),
        // Maestro, InstaPayment
        (630_400, 630_499, &[13, 14, 15, 16, 17, 18, 19]),
        (637_000, 639_999, &[16]),
        (670_000, 677_999, &[13, 14, 15, 16, 17, 18, 19]),
        // Troy
        (979_200, 979_299, &[16]),
    ];
    let prefix = digits.iter().take(6).fold(0, |sum, &digit| sum * 10 + u32::from(digit));
    RANGES
        .iter()
        .any(|(from, to, lengths)| (*from..=*to).contains(&prefix) && lengths.contains(&digits.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Looking at every fourth byte finds the runs that looking at each does, but those that are none of a card.
        #[test]
        fn no_run_is_missed(
            text in "[0-9a ]{0,60}([a -]{0,60}([0-9]{0,20}|[0-9]{4}[ -][0-9]{4}[ -][0-9]{4,7})){0,4}",
            card in "()|4111111111111111|4111 1111 1111 1111|4222222222222|5018 0000 0000 9",
            after in "[a .]{0,40}",
            from in 0usize..60,
        ) {
            let text = [text, card, after].concat();
            let text = text.as_bytes();
            let begins = |at: &usize| {
                let end = run_end(text, *at);
                (*at == 0 || !text[at - 1].is_ascii_digit())
                    && end - at >= FIRST_GROUP
                    && (end - at >= 13 || end == text.len() || matches!(text[end], b' ' | b'-'))
            };
            let runs: Vec<usize> = (from..text.len()).filter(begins).collect();
            let next = |at: &usize| next_run(text, run_end(text, *at));
            let found: Vec<usize> = std::iter::successors(next_run(text, from), next).collect();
            for run in &found {
                prop_assert!(runs.contains(run));
            }
            for run in runs {
                let is_none = |last| decide(text, run, last) == Outcome::No;
                prop_assert!(found.contains(&run) || is_none(false) && is_none(true), "{run} {found:?}");
            }
        }
    }

    #[test]
    fn luhn_sums() {
        let digits = |text: &str| text.bytes().map(|b| b - b'0').collect::<Vec<u8>>();
        assert!(luhn(&digits("79927398713")) && luhn(&digits("0")) && !luhn(&digits("79927398710")));
    }
}
