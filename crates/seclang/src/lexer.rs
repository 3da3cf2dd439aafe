//! Words of a logical line: quoted or not, separated by white space.

use portcullis_diag::{Diagnostic, Diagnostics, Span};

use crate::ast::Text;
use crate::codes;
use crate::line::Line;

/// Most findings of one file that are kept: a file that is no rule file at all has one per line.
const MAX_FINDINGS: usize = 500;

/// A word of a line: the bytes `start..end` between the quotes, if there are any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// The quote around it.
    pub(crate) quote: Option<u8>,
}

impl Word {
    /// The characters that a backslash escapes in this word.
    pub(crate) const fn escapes(&self) -> &'static [u8] {
        match self.quote {
            Some(b'"') => b"\"",
            Some(_) => b"'",
            None => b"",
        }
    }
}

/// Reads a line word by word and keeps what it finds wrong.
pub(crate) struct Cursor<'l, 'd> {
    pub(crate) line: &'l Line<'l>,
    pub(crate) diagnostics: &'d mut Diagnostics,
    pub(crate) at: usize,
}

impl<'l, 'd> Cursor<'l, 'd> {
    pub(crate) const fn new(line: &'l Line<'l>, diagnostics: &'d mut Diagnostics) -> Self {
        Self { line, diagnostics, at: 0 }
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        report(self.diagnostics, diagnostic);
    }

    pub(crate) fn skip_space(&mut self) {
        while self.line.byte(self.at).is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// The place right after the last byte of the line.
    pub(crate) fn end_span(&self) -> Span {
        self.line.span(self.line.len(), self.line.len())
    }

    pub(crate) fn at_end(&mut self) -> bool {
        self.skip_space();
        self.at >= self.line.len()
    }

    /// The next word; `None` at the end of the line.
    pub(crate) fn word(&mut self) -> Option<Word> {
        self.skip_space();
        match self.line.byte(self.at)? {
            quote @ (b'"' | b'\'') => Some(self.quoted(quote)),
            _ => Some(self.bare()),
        }
    }

    fn bare(&mut self) -> Word {
        let start = self.at;
        while self.line.byte(self.at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
            self.at += 1;
        }
        Word { start, end: self.at, quote: None }
    }

    fn quoted(&mut self, quote: u8) -> Word {
        let open = self.at;
        let Some(close) = find_close(self.line, open + 1, self.line.len(), quote) else {
            let message = format!("unclosed quote: no closing `{}` on this line", quote as char);
            let diagnostic = Diagnostic::error(codes::UNCLOSED_QUOTE, message)
                .at(self.line.span(open, open + 1))
                .label("opened here")
                .note("a rule goes on in the next line only when this one ends in a backslash");
            self.report(diagnostic);
            self.at = self.line.len();
            return Word { start: open + 1, end: self.line.len(), quote: Some(quote) };
        };
        self.at = close + 1;
        if self.line.byte(self.at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
            let rest = self.bare();
            let diagnostic = Diagnostic::error(codes::TEXT_AFTER_QUOTE, "text right after a closing quote")
                .at(self.line.span(rest.start, rest.end))
                .also(self.line.span(close, close + 1), "the quote closes here")
                .help(format!("a `{0}` inside of the quotes is written `\\{0}`", quote as char));
            self.report(diagnostic);
            // One finding is enough: the rest of this line is off by a quote.
            self.at = self.line.len();
        }
        Word { start: open + 1, end: close, quote: Some(quote) }
    }

    /// The word's text with its escapes resolved.
    pub(crate) fn text(&self, word: Word) -> Text {
        self.line.text(word.start, word.end, word.escapes())
    }

    /// A word that must be there; reports its absence. `what` names it: "a variable list".
    pub(crate) fn required(&mut self, directive: &str, what: &str) -> Option<Word> {
        let word = self.word();
        if word.is_none() {
            let span = self.end_span();
            self.report(
                Diagnostic::error(codes::MISSING_ARGUMENT, format!("`{directive}` lacks {what}"))
                    .at(span)
                    .label(format!("expected {what}")),
            );
        }
        word
    }

    /// Reports whatever is left of the line.
    pub(crate) fn finish(&mut self, directive: &str) {
        if self.at_end() {
            return;
        }
        let span = self.line.span(self.at, self.line.len());
        self.report(
            Diagnostic::error(codes::EXTRA_ARGUMENT, format!("`{directive}` takes no further argument"))
                .at(span)
                .label("not expected")
                .help("an argument with spaces needs quotes around it"),
        );
        self.at = self.line.len();
    }
}

pub(crate) fn report(diagnostics: &mut Diagnostics, diagnostic: Diagnostic) {
    match diagnostics.len() {
        count if count < MAX_FINDINGS => diagnostics.push(diagnostic),
        MAX_FINDINGS => diagnostics.push(
            Diagnostic::error(
                codes::TOO_MANY_FINDINGS,
                format!("more than {MAX_FINDINGS} findings in this file; the rest is left out"),
            )
            .note("is this a rule file?"),
        ),
        _ => {}
    }
}

/// Offset of the next `quote` in `from..to` that no backslash escapes.
pub(crate) fn find_close(line: &Line<'_>, from: usize, to: usize, quote: u8) -> Option<usize> {
    let mut at = from;
    while at < to {
        match line.byte(at)? {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at),
            _ => at += 1,
        }
    }
    None
}
