//! Folding: expressions are reduced while they are read, until five tokens are left that tell what the value does.
//!
//! A window of two, then three tokens moves over the tokens kept so far; a rule that applies takes tokens away or
//! changes them, and the window goes back to look at what now stands together.

use super::fingerprint::{Fingerprint, LONGEST};
use super::lexer::{Dialect, Lexer};
use super::token::{Kind, Token};
use super::words;

/// A value folded, or being folded.
#[derive(Debug)]
pub(super) struct Folded<'a> {
    lexer: Lexer<'a>,
    kept: [Token<'a>; SLOTS],
    /// How many tokens are kept: where the next one goes.
    end: usize,
    /// Where the window begins; tokens before it are done.
    left: usize,
    more: bool,
    /// The last token, if it was a comment: these are not kept, except at the very end.
    comment: Option<Token<'a>>,
}

/// One more than a fingerprint needs: the sixth token tells what the fifth is.
const SLOTS: usize = LONGEST + 1;

/// How the folder goes on after the rules for pairs.
enum Next {
    /// The pair has changed: look at it again.
    Again,
    /// Look at three tokens.
    Third,
    /// No engine agrees with another on this.
    Evil,
}

impl<'a> Folded<'a> {
    /// Reads and folds an input, as if the quote `inside` stood before it.
    pub(super) fn read(input: &'a [u8], inside: Option<u8>, dialect: Dialect) -> Self {
        let lexer = Lexer::new(input, inside, dialect);
        let mut folded =
            Self { lexer, kept: [Token::NONE; SLOTS], end: 0, left: 0, more: true, comment: None };
        folded.run();
        folded
    }

    /// What is left.
    pub(super) fn tokens(&self) -> &[Token<'a>] {
        self.kept.get(..self.end).unwrap_or_default()
    }

    /// How many tokens were read, those folded away included.
    pub(super) fn count(&self) -> usize {
        self.lexer.count
    }

    /// Whether the MySQL dialect would read it otherwise.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.lexer.ambiguous
    }

    /// Makes the last corrections, after which the kinds of what is left are the fingerprint.
    pub(super) fn settle(&mut self) {
        if self.tokens().iter().any(|token| token.kind == Kind::Evil) {
            self.end = 1;
            self.set(0, Token::new(Kind::Evil, b"X"));
        }
        // PHP passes a back quote on that MySQL reads as the beginning of a comment.
        if self.end > 2
            && let Some(last) = self.kept.get_mut(self.end - 1)
            && last.kind == Kind::Bareword
            && (last.open, last.close, last.text.len()) == (b'`', 0, 0)
        {
            last.kind = Kind::Comment;
        }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.tokens().iter().map(|token| token.kind))
    }

    fn run(&mut self) {
        // What may stand before an operand says nothing.
        let first = self.lexer.find(|token| {
            !matches!(token.kind, Kind::Comment | Kind::LeftParen | Kind::SqlType) && !token.is_unary()
        });
        let Some(first) = first else { return };
        self.push(first);
        loop {
            self.full_house();
            if !self.more || self.left >= LONGEST {
                return self.finish();
            }
            if !self.fill(2) {
                continue;
            }
            match self.fold_pair() {
                Next::Again => continue,
                Next::Evil => return,
                Next::Third => {}
            }
            if self.fill(3) && !self.fold_triple() {
                self.left += 1;
            }
        }
    }

    /// Reads until the window holds so many tokens. Without them the input is at its end, or enough is kept.
    fn fill(&mut self, wanted: usize) -> bool {
        while self.more && self.end <= LONGEST && self.end - self.left < wanted {
            match self.lexer.next() {
                Some(token) if token.kind == Kind::Comment => self.comment = Some(token),
                Some(token) => {
                    self.comment = None;
                    self.push(token);
                }
                None => self.more = false,
            }
        }
        let filled = self.end - self.left >= wanted;
        if !filled {
            self.left = self.end;
        }
        filled
    }

    fn push(&mut self, token: Token<'a>) {
        self.set(self.end, token);
        self.end += 1;
    }

    fn at(&self, index: usize) -> &Token<'a> {
        self.kept.get(index).unwrap_or(&Token::NONE)
    }

    fn set(&mut self, index: usize, token: Token<'a>) {
        if let Some(slot) = self.kept.get_mut(index) {
            *slot = token;
        }
    }

    fn set_kind(&mut self, index: usize, kind: Kind) {
        if let Some(slot) = self.kept.get_mut(index) {
            slot.kind = kind;
        }
    }

    /// Takes away the last tokens and looks at everything again.
    fn drop(&mut self, tokens: usize) {
        self.end = self.end.saturating_sub(tokens);
        self.left = 0;
    }

    /// Five tokens that are just one operand make room for more.
    fn full_house(&mut self) {
        if self.end < LONGEST {
            return;
        }
        let [a, b, c, d, e, next] = &self.kept;
        if !is_operand([a, b, c, d, e].map(|token| token.kind)) {
            return;
        }
        self.left = 0;
        if self.end > LONGEST {
            let next = *next;
            self.set(1, next);
            self.end = 2;
        } else {
            self.end = 1;
        }
    }

    fn finish(&mut self) {
        if self.end < LONGEST
            && let Some(comment) = self.comment.take()
        {
            self.push(comment);
        }
        self.end = self.end.min(LONGEST);
    }

    /// Takes away the last of the kept tokens, and moves the window back by one.
    fn drop_and_step_back(&mut self) {
        self.end = self.end.saturating_sub(1);
        self.left = self.left.saturating_sub(1);
    }

    /// Puts the third token of the window in the second's place.
    fn drop_second(&mut self) {
        let third = *self.at(self.left + 2);
        self.set(self.left + 1, third);
        self.drop(1);
    }

    fn fold_pair(&mut self) -> Next {
        let (a, b) = (self.at(self.left), self.at(self.left + 1));
        match (a.kind, b.kind) {
            // Engines join neighbouring strings.
            (Kind::String, Kind::String) | (Kind::Semicolon, Kind::Semicolon) => self.end -= 1,
            (Kind::Operator | Kind::LogicOperator, _) if b.is_unary() || b.kind == Kind::SqlType => {
                self.drop(1)
            }
            (Kind::LeftParen, _) if b.is_unary() => self.drop_and_step_back(),
            _ => match merged(a, b) {
                Some(phrase) => {
                    self.set(self.left, phrase);
                    self.drop_and_step_back();
                }
                None => return self.fold_pair_by_meaning(),
            },
        }
        Next::Again
    }

    /// What a token is depends on its neighbour.
    fn fold_pair_by_meaning(&mut self) -> Next {
        let left = self.left;
        let (a, b) = (self.at(left), self.at(left + 1));
        let before_paren = b.kind == Kind::LeftParen;
        match (a.kind, b.kind) {
            // `IF` is a function, but a statement in Transact-SQL.
            (Kind::Semicolon, Kind::Function) if starts_with_if(&b.text) => {
                self.set_kind(left + 1, Kind::Statement);
            }
            (Kind::Bareword | Kind::Variable, Kind::LeftParen) if FUNCTIONS.iter().any(|name| a.is(name)) => {
                self.set_kind(left, Kind::Function);
            }
            (Kind::Keyword, _) if a.is("IN") || a.is("NOT IN") => {
                self.set_kind(left, if before_paren { Kind::Operator } else { Kind::Bareword });
            }
            (Kind::Operator, _) if a.is("LIKE") || a.is("NOT LIKE") => {
                if before_paren {
                    self.set_kind(left, Kind::Function);
                }
                return Next::Third;
            }
            (Kind::SqlType, second) if second == Kind::SqlType || before_paren || is_value(second) => {
                let second = *b;
                self.set(left, second);
                self.drop(1);
            }
            (Kind::Collate, Kind::Bareword) => {
                // There are too many collations for a table; all have an underscore.
                let mut name = b.text.iter().take_while(|&&byte| byte != 0);
                if name.any(|&byte| byte == b'_') {
                    self.set_kind(left + 1, Kind::SqlType);
                    self.left = 0;
                }
                return Next::Third;
            }
            // Transact-SQL reads `\1` as 1 and `\%1` as 0 % 1.
            (Kind::Backslash, _) if b.is_arithmetic() => {
                self.set_kind(left, Kind::Number);
                self.left = 0;
            }
            (Kind::Backslash, _) => {
                let second = *b;
                self.set(left, second);
                self.drop(1);
            }
            (Kind::LeftParen, Kind::LeftParen) | (Kind::RightParen, Kind::RightParen) => self.drop(1),
            // MySQL accepts ``{``.``.id}``, and hardly anyone writes it.
            (Kind::LeftBrace, Kind::Bareword) if b.text.is_empty() => {
                self.set_kind(left + 1, Kind::Evil);
                self.end = left + 2;
                return Next::Evil;
            }
            // ODBC's `{name expression}` is the expression.
            (Kind::LeftBrace, Kind::Bareword) => self.drop(2),
            (_, Kind::RightBrace) => self.drop(1),
            _ => return Next::Third,
        }
        Next::Again
    }

    /// Whether the three tokens of the window were folded.
    fn fold_triple(&mut self) -> bool {
        use Kind::{
            Bareword, Comma, Dot, Expression, Function, Group, Keyword, LeftParen, LogicOperator, Number,
            Operator, RightParen, SqlType, String, Variable,
        };
        let (a, b, c) = (self.at(self.left), self.at(self.left + 1), self.at(self.left + 2));
        match (a.kind, b.kind, c.kind) {
            (Number | Bareword, Operator, Number | Bareword)
            | (Variable, Operator, Variable | Number | Bareword)
            | (LogicOperator, _, LogicOperator)
            | (Bareword | Number | String | Variable, Comma, Bareword | Number | String | Variable)
            | (Bareword, Dot, Bareword) => self.drop(2),
            (Operator, second, Operator) if second != LeftParen => self.drop(2),
            (Bareword | Number | String | Variable, Operator, SqlType) if *b.text == *b"::" => self.drop(2),
            (Expression | Group | Comma, _, LeftParen) if b.is_unary() => self.drop_second(),
            (Keyword | Expression | Group, _, third) if is_value(third) && b.is_unary() => self.drop_second(),
            (Comma, _, Function) if b.is_unary() => self.drop_second(),
            // `1, -1` is `1, 1`, which folds on: also the comma goes, to be read as if it had not been there.
            (Comma, _, third) if is_value(third) && b.is_unary() => {
                let third = *c;
                self.set(self.left + 1, third);
                self.drop(3);
            }
            (Expression, Dot, Bareword) => self.drop_second(),
            (Function, LeftParen, third) if third != RightParen && a.is("USER") => {
                // With an argument, it is none of the functions.
                self.set_kind(self.left, Bareword);
                return false;
            }
            _ => return false,
        }
        true
    }
}

/// Names that are functions only when they are called.
const FUNCTIONS: [&str; 11] = [
    "USER_ID",
    "USER_NAME",
    "DATABASE",
    "PASSWORD",
    "USER",
    "CURRENT_USER",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "LOCALTIME",
    "LOCALTIMESTAMP",
];

/// What stands for a value, or begins to.
fn is_value(kind: Kind) -> bool {
    matches!(kind, Kind::Bareword | Kind::Number | Kind::Function | Kind::Variable | Kind::String)
}

/// Whether all five are one operand: arithmetic on a number or a name.
fn is_operand(kinds: [Kind; LONGEST]) -> bool {
    use Kind::{Bareword, Comma, LeftParen, Number, Operator, RightParen};
    matches!(
        kinds,
        [Number, Operator | Comma, LeftParen, Number, RightParen]
            | [Bareword, Operator, LeftParen, Bareword | Number, RightParen]
            | [Number, RightParen, Comma, LeftParen, Number]
            | [Bareword, RightParen, Operator, LeftParen, Bareword]
    )
}

fn starts_with_if(text: &[u8]) -> bool {
    matches!(text, [b'I' | b'i', b'F' | b'f', ..])
}

/// What two words are together.
fn merged<'a>(a: &Token<'a>, b: &Token<'a>) -> Option<Token<'a>> {
    let may = joins(a.kind) && (joins(b.kind) || b.kind == Kind::LogicOperator);
    may.then(|| words::phrase(a, b))?
}

fn joins(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Keyword
            | Kind::Bareword
            | Kind::Operator
            | Kind::Union
            | Kind::Function
            | Kind::Expression
            | Kind::Statement
            | Kind::SqlType
    )
}
