//! Variable lists: `ARGS|!ARGS:id|&REQUEST_HEADERS:Host|REQUEST_COOKIES:/^s_/|XML:/*`.

use portcullis_diag::Diagnostic;

use crate::ast::{Selector, Text, Variable};
use crate::codes;
use crate::lexer::{Cursor, Word, find_close};

/// Collections whose selector is a path of the document, not a key: `XML:/*` is no regex.
const DOCUMENTS: [&str; 4] = ["XML", "JSON", "RESPONSE_XML", "RESPONSE_JSON"];

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Cursor<'_, '_> {
    /// The next word as a variable list. Without quotes around the list, it ends at white space
    /// outside of its regex and quoted selectors.
    pub(crate) fn variable_word(&mut self) -> Option<Word> {
        self.skip_space();
        if matches!(self.line.byte(self.at)?, b'"' | b'\'') {
            return self.word();
        }
        let start = self.at;
        let mut element = start;
        let mut at = start;
        while let Some(byte) = self.line.byte(at).filter(|byte| !byte.is_ascii_whitespace()) {
            at += 1;
            if byte == b'|' {
                element = at;
            } else if byte == b':'
                && self.line.slice(element, at - 1).bytes().all(|b| is_name(b) || b == b'!' || b == b'&')
            {
                let document = is_document(self.line.slice(element, at - 1));
                if let Some(quote @ (b'\'' | b'/')) = self.line.byte(at).filter(|_| !document) {
                    at = find_close(self.line, at + 1, self.line.len(), quote).map_or(at, |close| close + 1);
                }
            }
        }
        self.at = at;
        Some(Word { start, end: at, quote: None })
    }

    /// The variables of a list. Elements with an error are left out.
    pub(crate) fn variables(&mut self, word: Word) -> Vec<Variable> {
        let mut variables = Vec::new();
        let mut at = word.start;
        loop {
            let (variable, end) = self.variable(word, at);
            variables.extend(variable);
            if end >= word.end {
                return variables;
            }
            at = end + 1;
        }
    }

    fn variable_error(&mut self, start: usize, end: usize, message: impl Into<String>, label: &str) {
        let span = self.line.span(start, end);
        self.report(Diagnostic::error(codes::VARIABLE_SYNTAX, message).at(span).label(label));
    }

    /// The element at `at`, and where it ends: at a `|` or at the end of the word.
    fn variable(&mut self, word: Word, at: usize) -> (Option<Variable>, usize) {
        let mut start = at;
        while start < word.end && self.line.byte(start).is_some_and(|byte| byte.is_ascii_whitespace()) {
            start += 1;
        }
        let (mut excluded, mut counted) = (false, false);
        let mut at = start;
        loop {
            match self.line.byte(at).filter(|_| at < word.end) {
                Some(b'!') if !excluded => excluded = true,
                Some(b'&') if !counted => counted = true,
                _ => break,
            }
            at += 1;
        }
        let name_start = at;
        while at < word.end && self.line.byte(at).is_some_and(is_name) {
            at += 1;
        }
        let name_end = at;
        let (selector, end) = match self.line.byte(at).filter(|_| at < word.end) {
            Some(b':') => self.selector(word, name_start, at),
            _ => (Ok(None), self.element_end(word, at)),
        };
        let Ok(selector) = selector else { return (None, end) };
        if name_start == name_end {
            let message = if end == start {
                "empty element in the variable list"
            } else {
                "a variable name is missing"
            };
            self.variable_error(start, end, message, "expected a variable such as `ARGS`");
            return (None, end);
        }
        let rest = self.line.slice(name_end, end).trim_ascii_end();
        if selector.is_none() && !rest.is_empty() {
            let rest_end = name_end + rest.len();
            self.variable_error(
                name_end,
                rest_end,
                format!("`{rest}` does not belong into a variable name"),
                "expected `|`, `:` or the end of the list",
            );
            return (None, end);
        }
        let last = if selector.is_some() { end } else { name_end };
        let variable = Variable {
            span: self.line.span(start, last),
            name: self.line.text(name_start, name_end, b""),
            excluded,
            counted,
            selector,
        };
        (Some(variable), end)
    }

    /// The next `|` from `at` on, or the word's end.
    fn element_end(&self, word: Word, at: usize) -> usize {
        let found = self.line.slice(at, word.end).find('|');
        found.map_or(word.end, |offset| at + offset)
    }

    /// The selector after the colon at `colon`. `Err` when its error has been reported.
    fn selector(&mut self, word: Word, name: usize, colon: usize) -> (Result<Option<Selector>, ()>, usize) {
        let start = colon + 1;
        let document = is_document(self.line.slice(name, colon));
        let first = self.line.byte(start).filter(|_| start < word.end);
        match first {
            Some(b'/') if !document => self.regex_selector(word, start),
            Some(b'\'') if word.quote != Some(b'\'') => self.quoted_selector(word, start, document),
            _ => {
                let end = self.element_end(word, start);
                let key = self.line.slice(start, end);
                if key.trim_ascii().is_empty() {
                    self.variable_error(colon, end, "empty selector", "expected a key after the colon");
                    return (Err(()), end);
                }
                let key = self.line.text(start, start + key.trim_ascii_end().len(), word.escapes());
                (Ok(Some(if document { Selector::Path(key) } else { Selector::Key(key) })), end)
            }
        }
    }

    fn unclosed(&mut self, word: Word, start: usize, what: &str, closing: char) {
        let span = self.line.span(start, word.end);
        self.report(
            Diagnostic::error(codes::UNCLOSED_SELECTOR, format!("unclosed {what} in the variable list"))
                .at(span)
                .label(format!("expected a closing `{closing}`")),
        );
    }

    /// What follows a closed selector must be `|` or the end.
    fn close_selector(
        &mut self,
        word: Word,
        at: usize,
        selector: Selector,
    ) -> (Result<Option<Selector>, ()>, usize) {
        let end = self.element_end(word, at);
        let rest = self.line.slice(at, end);
        if rest.trim_ascii().is_empty() {
            return (Ok(Some(selector)), end);
        }
        let message = format!("`{}` follows a closed selector", rest.trim_ascii());
        self.variable_error(at, end, message, "expected `|` or the end of the list");
        (Err(()), end)
    }

    fn regex_selector(&mut self, word: Word, start: usize) -> (Result<Option<Selector>, ()>, usize) {
        let Some(close) = find_close(self.line, start + 1, word.end, b'/') else {
            self.unclosed(word, start, "regex", '/');
            return (Err(()), word.end);
        };
        let pattern = self.pattern(word, start + 1, close);
        self.close_selector(word, close + 1, Selector::Regex(pattern))
    }

    fn pattern(&self, word: Word, start: usize, end: usize) -> Text {
        match word.quote {
            Some(b'"') => self.line.text(start, end, b"/\""),
            Some(_) => self.line.text(start, end, b"/'"),
            None => self.line.text(start, end, b"/"),
        }
    }

    /// `'…'`, with a key or a `/regex/` inside.
    fn quoted_selector(
        &mut self,
        word: Word,
        start: usize,
        document: bool,
    ) -> (Result<Option<Selector>, ()>, usize) {
        let Some(close) = find_close(self.line, start + 1, word.end, b'\'') else {
            self.unclosed(word, start, "quote", '\'');
            return (Err(()), word.end);
        };
        let inside = self.line.slice(start + 1, close);
        let regex = !document && inside.len() >= 2 && inside.starts_with('/') && inside.ends_with('/');
        let escapes: &[u8] = if word.quote == Some(b'"') { b"'\"" } else { b"'" };
        let selector = if regex {
            Selector::Regex(self.line.text(start + 2, close - 1, &[b"/", escapes].concat()))
        } else if document {
            Selector::Path(self.line.text(start + 1, close, escapes))
        } else {
            Selector::Key(self.line.text(start + 1, close, escapes))
        };
        if inside.is_empty() {
            self.variable_error(start, close + 1, "empty selector", "expected a key between the quotes");
            return (Err(()), self.element_end(word, close + 1));
        }
        self.close_selector(word, close + 1, selector)
    }
}

fn is_document(name: &str) -> bool {
    let name = name.trim_start_matches(['!', '&']);
    DOCUMENTS.iter().any(|document| name.eq_ignore_ascii_case(document))
}
