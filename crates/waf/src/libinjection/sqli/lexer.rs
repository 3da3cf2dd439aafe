//! The lexer: bytes to tokens, in a tolerant mixture of all SQL dialects.
//!
//! Each form is read by a function that takes the rest of the input, beginning with the form's first byte, and returns
//! the token and how many bytes it took. Anything is a token of some kind; there are no errors.

use memchr::{memchr, memmem};

use super::token::{Kind, Token};
use super::{literals, words};

/// How comments are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `--` opens a comment, `#` is an operator.
    Ansi,
    /// `--` opens a comment only before white space, `#` always does.
    Mysql,
}

/// A token ([`Token::NONE`] for what is skipped) and the number of bytes it took.
pub(super) type Lexed<'a> = (Token<'a>, usize);

/// The tokens of an input.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
    dialect: Dialect,
    /// The quote before the input: it begins inside a string.
    inside: Option<u8>,
    /// How many tokens there were so far.
    pub(super) count: usize,
    /// Whether something was read that the MySQL dialect reads otherwise.
    pub(super) ambiguous: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(input: &'a [u8], inside: Option<u8>, dialect: Dialect) -> Self {
        Self { rest: input, dialect, inside, count: 0, ambiguous: false }
    }

    fn read(&mut self, first: u8) -> Lexed<'a> {
        let rest = self.rest;
        match first {
            0..=b' ' | 0x7f | 0xa0 => (Token::NONE, 1),
            b'\'' | b'"' => literals::string(rest, first, 1),
            b'#' => self.hash(),
            b'-' => self.dash(),
            b'/' => slash(rest),
            b'\\' => backslash(rest),
            b'$' => literals::dollar(rest),
            b'.' | b'0'..=b'9' => literals::number(rest),
            b'@' => literals::variable(rest),
            b'`' => literals::back_quoted(rest),
            b'[' => words::bracketed(rest),
            b'%' | b'+' | b'^' | b'~' => sign(rest, Kind::Operator),
            b'!' | b'&' | b'*' | b':' | b'<' | b'=' | b'>' | b'|' => operator(rest),
            b'(' => sign(rest, Kind::LeftParen),
            b')' => sign(rest, Kind::RightParen),
            b'{' => sign(rest, Kind::LeftBrace),
            b'}' => sign(rest, Kind::RightBrace),
            b',' => sign(rest, Kind::Comma),
            b';' => sign(rest, Kind::Semicolon),
            b'?' | b']' => sign(rest, Kind::Unknown),
            b'B' | b'b' | b'X' | b'x' => literals::digits_in_quotes(rest),
            b'E' | b'e' => literals::prefixed_string(rest),
            b'N' | b'n' => literals::national_string(rest),
            b'Q' | b'q' => literals::oracle_string(rest, 0),
            b'U' | b'u' => literals::unicode_string(rest),
            _ => words::word(rest),
        }
    }

    fn hash(&mut self) -> Lexed<'a> {
        self.ambiguous = true;
        match self.dialect {
            Dialect::Mysql => line_comment(self.rest),
            Dialect::Ansi => sign(self.rest, Kind::Operator),
        }
    }

    fn dash(&mut self) -> Lexed<'a> {
        match self.rest {
            [_, b'-'] => line_comment(self.rest),
            [_, b'-', next, ..] if is_white(*next) => line_comment(self.rest),
            [_, b'-', ..] if self.dialect == Dialect::Ansi => {
                self.ambiguous = true;
                line_comment(self.rest)
            }
            _ => sign(self.rest, Kind::Operator),
        }
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        while let Some(first) = self.rest.first() {
            let (token, length) = match self.inside.take() {
                Some(quote) => literals::string(self.rest, quote, 0),
                None => self.read(*first),
            };
            self.rest = self.rest.get(length.max(1)..).unwrap_or_default();
            if token.kind != Kind::None {
                self.count += 1;
                return Some(token);
            }
        }
        None
    }
}

/// White space as the lexer tells words and numbers apart by it: with NUL (Oracle) and Latin-1's no-break space.
pub(super) const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13 | 0 | 0xa0)
}

/// The first `length` bytes as a token.
pub(super) fn take(rest: &[u8], length: usize, kind: Kind) -> Lexed<'_> {
    (Token::new(kind, rest.get(..length).unwrap_or(rest)), length)
}

/// The first byte as a token.
pub(super) fn sign(rest: &[u8], kind: Kind) -> Lexed<'_> {
    take(rest, 1, kind)
}

/// To the end of the line, which is taken but is not part of the token.
fn line_comment(rest: &[u8]) -> Lexed<'_> {
    match memchr(b'\n', rest) {
        Some(end) => (Token::new(Kind::Comment, rest.get(..end).unwrap_or(rest)), end + 1),
        None => take(rest, rest.len(), Kind::Comment),
    }
}

/// `/* */`. A comment inside it ends with it or not, depending on the engine; `/*!` is run by MySQL: both are evil.
fn slash(rest: &[u8]) -> Lexed<'_> {
    let [_, b'*', body @ ..] = rest else { return sign(rest, Kind::Operator) };
    let end = memmem::find(body, b"*/");
    // The star of the end may be that of an inner beginning: `/* /*/`.
    let nested = end.and_then(|end| body.get(..=end)).is_some_and(|body| memmem::find(body, b"/*").is_some());
    let kind = if nested || body.first() == Some(&b'!') { Kind::Evil } else { Kind::Comment };
    take(rest, end.map_or(rest.len(), |end| end + 4), kind)
}

/// `\N` is MySQL's NULL.
fn backslash(rest: &[u8]) -> Lexed<'_> {
    match rest {
        [_, b'N', ..] => take(rest, 2, Kind::Number),
        _ => sign(rest, Kind::Backslash),
    }
}

/// Operators of two signs are in the table of keywords; one has three.
fn operator(rest: &[u8]) -> Lexed<'_> {
    if rest.starts_with(b"<=>") {
        return take(rest, 3, Kind::Operator);
    }
    let known = rest.get(..2).and_then(words::find);
    match (known, rest) {
        (Some(word), _) => take(rest, 2, word.kind),
        (None, [b':', _, ..]) => sign(rest, Kind::Colon),
        (None, _) => sign(rest, Kind::Operator),
    }
}
