//! Words: the table of keywords, functions and phrases, and how a word is cut out of the input.

use super::keyword_data::{COUNT, KEYWORDS};
use super::lexer::{Lexed, take};
use super::token::{KEPT, Kind, Token};
use crate::byteset::ByteSet;

/// What ends a word. Not `.` and `` ` ``: what stands before them is looked up by itself.
const WORD_END: ByteSet = ByteSet::of(b"\0\t\n\x0b\x0c\r !\"#%&'()*+,-/:;<=>?@[\\]^{|}~\xa0");

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// In upper case; phrases with one blank between words.
    pub(super) text: &'static [u8],
    pub(super) kind: Kind,
}

/// A word: a keyword or function of the table, a bareword if it is not there. `SELECT.1` and ``SELECT`a` `` are
/// `SELECT` and what follows.
pub(super) fn word(rest: &[u8]) -> Lexed<'_> {
    let end = |bytes: &[u8]| bytes.iter().position(|&byte| WORD_END.contains(byte)).unwrap_or(bytes.len());
    // Only what a token keeps can be split. To look for the word's end before that is known would read a long word
    // again for each of its pieces.
    let head = rest.get(..KEPT).unwrap_or(rest);
    let text = head.get(..end(head)).unwrap_or(head);
    for (at, _) in text.iter().enumerate().filter(|(_, byte)| matches!(byte, b'.' | b'`')) {
        let before = text.get(..at).and_then(find);
        if let Some(word) = before.filter(|word| word.kind != Kind::Bareword) {
            return take(rest, at, word.kind);
        }
    }
    let length = if text.len() < KEPT { text.len() } else { end(rest) };
    let (mut token, _) = take(rest, length, Kind::Bareword);
    if text.len() == length
        && let Some(word) = find(text)
    {
        token.kind = word.kind;
    }
    (token, length)
}

/// `[name]` of Transact-SQL.
pub(super) fn bracketed(rest: &[u8]) -> Lexed<'_> {
    let length = memchr::memchr(b']', rest).map_or(rest.len(), |end| end + 1);
    take(rest, length, Kind::Bareword)
}

/// The phrase that two words make: `UNION` and `ALL`.
pub(super) fn phrase<'a>(first: &Token<'a>, second: &Token<'a>) -> Option<Token<'a>> {
    let letter = first.text.first()?.to_ascii_uppercase().checked_sub(b'A')?;
    let lengths = OPENERS.get(usize::from(letter))?;
    if lengths >> first.text.len() & 1 == 0 {
        return None;
    }
    let word = find_joined([&*first.text, b" ", &*second.text])?;
    Some(Token::joined(word.kind, first, second))
}

/// The entry of a word, in any case.
pub(super) fn find(word: &[u8]) -> Option<&'static Word> {
    find_joined([word])
}

fn find_joined<const N: usize>(parts: [&[u8]; N]) -> Option<&'static Word> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    if !(SHORTEST..=LONGEST).contains(&length) {
        return None;
    }
    let bytes = || parts.iter().copied().flatten().map(u8::to_ascii_uppercase);
    let mut slot = slot_of(bytes().fold(HASH_START, mix));
    loop {
        // Slots hold 1 + the index of a word, 0 where none is: some always are.
        let index = SLOTS.get(slot)?.checked_sub(1)?;
        let word = WORDS.get(usize::from(index))?;
        if word.text.len() == length && word.text.iter().copied().eq(bytes()) {
            return Some(word);
        }
        slot = (slot + 1) % SLOTS.len();
    }
}

/// The lengths of words, bytes.
const SHORTEST: usize = 2;
pub(super) const LONGEST: usize = 29;

/// The table, in the order of its source.
static WORDS: [Word; COUNT] = words();
/// A hash table of open addressing over it, about half full.
static SLOTS: [u16; 2048] = slots();

/// By the letter they begin with, how long the texts are that something may be added to: a bit for each length. Most
/// pairs of words are no phrase, and need no look at the table then.
static OPENERS: [u32; 26] = openers();

/// FNV-1a.
const HASH_START: u32 = 0x811c_9dc5;

const fn mix(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(0x0100_0193)
}

const fn slot_of(hash: u32) -> usize {
    (hash ^ hash >> 15) as usize % SLOTS.len()
}

#[expect(clippy::indexing_slicing, reason = "run by the compiler only, where a wrong index is an error")]
const fn words() -> [Word; COUNT] {
    let mut words = [Word { text: b"", kind: Kind::None }; COUNT];
    let mut count = 0;
    let mut groups = KEYWORDS;
    while let [(kind, list), others @ ..] = groups {
        groups = others;
        let mut list = list.as_bytes();
        while !list.is_empty() {
            let mut length = 0;
            while length < list.len() && list[length] != b',' {
                length += 1;
            }
            let (text, rest) = list.split_at(length);
            assert!(SHORTEST <= text.len() && text.len() <= LONGEST);
            words[count] = Word { text, kind: *kind };
            count += 1;
            list = match rest {
                [_comma, rest @ ..] => rest,
                [] => rest,
            };
        }
    }
    assert!(count == COUNT);
    words
}

#[expect(clippy::indexing_slicing, reason = "run by the compiler only, where a wrong index is an error")]
const fn slots() -> [u16; 2048] {
    let words = words();
    let mut slots = [0; 2048];
    let mut index = 0;
    while index < COUNT {
        let mut hash = HASH_START;
        let mut text = words[index].text;
        while let [byte, rest @ ..] = text {
            hash = mix(hash, *byte);
            text = rest;
        }
        let mut slot = slot_of(hash);
        while slots[slot] != 0 {
            slot = (slot + 1) % slots.len();
        }
        index += 1;
        slots[slot] = index as u16;
    }
    slots
}

#[expect(clippy::indexing_slicing, reason = "run by the compiler only, where a wrong index is an error")]
const fn openers() -> [u32; 26] {
    let words = words();
    let mut openers = [0; 26];
    let mut index = 0;
    while index < COUNT {
        let text = words[index].text;
        let mut length = 0;
        while length < text.len() {
            if text[length] == b' ' {
                openers[(text[0] - b'A') as usize] |= 1 << length;
            }
            length += 1;
        }
        index += 1;
    }
    openers
}
