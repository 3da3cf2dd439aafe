//! Tokens of SQL and the kinds fingerprints are written in.

use std::ops::Deref;

use super::words;

/// How much of its text a token keeps, bytes. No keyword is longer, so that cut text equals none.
pub(super) const KEPT: usize = 31;

/// What a token is; the value is the letter that stands for it in fingerprints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// No token: white space and what SQL engines ignore.
    None = 0,
    Bareword = b'n',
    Backslash = b'\\',
    /// `COLLATE`
    Collate = b'A',
    Colon = b':',
    Comma = b',',
    Comment = b'c',
    Dot = b'.',
    /// What engines read in different ways: an attack in itself.
    Evil = b'X',
    /// `SELECT` and what else opens an expression.
    Expression = b'E',
    Function = b'f',
    /// `GROUP BY`, `LIMIT`, `HAVING`.
    Group = b'B',
    Keyword = b'k',
    LeftBrace = b'{',
    LeftParen = b'(',
    /// `AND`, `OR`, `&&`, `||`.
    LogicOperator = b'&',
    Number = b'1',
    Operator = b'o',
    RightBrace = b'}',
    RightParen = b')',
    Semicolon = b';',
    /// The name of a type or an adverb like it.
    SqlType = b't',
    String = b's',
    /// What begins a statement, mostly of Transact-SQL.
    Statement = b'T',
    Union = b'U',
    Unknown = b'?',
    Variable = b'v',
}

impl Kind {
    /// The letter in fingerprints; NUL for [`Kind::None`].
    pub(super) const fn letter(self) -> u8 {
        self as u8
    }
}

/// The text of a token, at most [`KEPT`] bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Text<'a> {
    /// As it stands in the input.
    Cut(&'a [u8]),
    /// That of a phrase: of several tokens, with a blank between them, as far as the length goes.
    Joined([u8; words::LONGEST], u8),
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Cut(text) => text,
            Self::Joined(bytes, length) => bytes.get(..usize::from(*length)).unwrap_or(bytes),
        }
    }
}

/// A token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// Without quotes and `@`.
    pub(super) text: Text<'a>,
    /// The quote a string begins with, NUL without one (the value is read as if it stood inside quotes).
    pub(super) open: u8,
    /// The quote it ends with, NUL if the input ends first.
    pub(super) close: u8,
    /// How many `@` stand before a variable.
    pub(super) at_signs: u8,
}

impl<'a> Token<'a> {
    pub(super) const NONE: Self = Self::new(Kind::None, &[]);

    pub(super) const fn new(kind: Kind, text: &'a [u8]) -> Self {
        let kept = match text.split_at_checked(KEPT) {
            Some((kept, _)) => kept,
            None => text,
        };
        Self { kind, text: Text::Cut(kept), open: 0, close: 0, at_signs: 0 }
    }

    /// Two tokens as one, which is a phrase of the table.
    pub(super) fn joined(kind: Kind, first: &Self, second: &Self) -> Self {
        let (mut bytes, mut length) = ([0; words::LONGEST], 0);
        let text = first.text.iter().chain(b" ").chain(second.text.iter());
        for (slot, byte) in bytes.iter_mut().zip(text) {
            *slot = *byte;
            length += 1;
        }
        Self { text: Text::Joined(bytes, length), ..Self::new(kind, &[]) }
    }

    pub(super) const fn quoted(text: &'a [u8], open: u8, close: u8) -> Self {
        Self { open, close, ..Self::new(Kind::String, text) }
    }

    /// Whether the text is the word, which is written in upper case.
    pub(super) fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word.as_bytes())
    }

    pub(super) fn is_arithmetic(&self) -> bool {
        self.kind == Kind::Operator && matches!(*self.text, [b'*' | b'/' | b'-' | b'+' | b'%'])
    }

    /// Whether it is an operator that may stand before one operand.
    pub(super) fn is_unary(&self) -> bool {
        self.kind == Kind::Operator
            && (matches!(*self.text, [b'+' | b'-' | b'!' | b'~'] | [b'!', b'!']) || self.is("NOT"))
    }

    /// The token as a line of a trace: kind, a blank, the text with its quotes and `@`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend([self.kind.letter(), b' ']);
        let quotes = matches!(self.kind, Kind::String | Kind::Variable);
        let shown = |quote: u8| (quotes && quote != 0).then_some(quote);
        if self.kind == Kind::Variable {
            out.extend(std::iter::repeat_n(b'@', usize::from(self.at_signs)));
        }
        out.extend(shown(self.open));
        out.extend(self.text.iter());
        out.extend(shown(self.close));
        out.push(b'\n');
    }
}
