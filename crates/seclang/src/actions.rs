//! Action lists: `id:1,phase:2,deny,msg:'a, b',setvar:'tx.score=+5'`.

use portcullis_diag::{Diagnostic, Severity};

use crate::ast::{Action, Actions};
use crate::codes;
use crate::lexer::{Cursor, Word, find_close};

impl Cursor<'_, '_> {
    /// The actions of a list. Elements with an error are left out.
    pub(crate) fn actions(&mut self, word: Word) -> Actions {
        let mut items = Vec::new();
        let mut at = word.start;
        while at < word.end {
            let (action, end) = self.action(word, at);
            items.extend(action);
            at = end + 1;
        }
        Actions { span: self.line.span(word.start, word.end), items }
    }

    /// No action at all, at the end of what has been read.
    pub(crate) fn no_actions(&self) -> Actions {
        let end = self.line.len();
        Actions { span: self.line.span(end, end), items: Vec::new() }
    }

    fn action_error(&mut self, start: usize, end: usize, message: impl Into<String>, label: &str) {
        let span = self.line.span(start, end);
        self.report(Diagnostic::error(codes::ACTION_SYNTAX, message).at(span).label(label));
    }

    fn skip_in(&self, at: usize, end: usize) -> usize {
        let text = self.line.slice(at, end);
        at + (text.len() - text.trim_ascii_start().len())
    }

    /// The action at `at`, and the offset of the comma (or end) after it.
    fn action(&mut self, word: Word, at: usize) -> (Option<Action>, usize) {
        let start = self.skip_in(at, word.end);
        let mut end = start;
        while end < word.end && !matches!(self.line.byte(end), None | Some(b',' | b':')) {
            end += 1;
        }
        let name = self.line.slice(start, end).trim_ascii_end();
        let name_end = start + name.len();
        let has_value = end < word.end && self.line.byte(end) == Some(b':');
        if name.is_empty() {
            if has_value {
                self.action_error(
                    start,
                    end + 1,
                    "an action name is missing",
                    "expected a name before the colon",
                );
                return (None, self.value_end(word, end + 1));
            }
            // Harmless, but a sign of an action that got lost.
            let span = self.line.span(at, (end + 1).min(word.end));
            self.report(
                Diagnostic::warning(codes::ACTION_SYNTAX, "empty element in the action list")
                    .at(span)
                    .label("nothing between the commas"),
            );
            return (None, end);
        }
        if let Some(odd) = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-') {
            let message = format!("`{name}` is no action name");
            self.action_error(start + odd, name_end, message, "expected `,`, `:` or the end of the list");
            let end = if has_value { self.value_end(word, end + 1) } else { end };
            return (None, end);
        }
        let name = self.line.text(start, name_end, b"");
        if !has_value {
            return (Some(Action { span: name.span, name, value: None }), end);
        }
        let value_start = self.skip_in(end + 1, word.end);
        if self.line.byte(value_start).filter(|_| value_start < word.end) == Some(b'\'') {
            return self.quoted_value(word, start, name, value_start);
        }
        let end = self.value_end(word, value_start);
        let value = self.line.slice(value_start, end).trim_ascii_end();
        let value_end = value_start + value.len();
        let value = self.line.text(value_start, value_end, word.escapes());
        (
            Some(Action {
                span: self.line.span(start, value_end.max(name_end + 1)),
                name,
                value: Some(value),
            }),
            end,
        )
    }

    /// `'…'`: commas and colons inside do not count.
    fn quoted_value(
        &mut self,
        word: Word,
        start: usize,
        name: crate::ast::Text,
        open: usize,
    ) -> (Option<Action>, usize) {
        let Some(close) = find_close(self.line, open + 1, word.end, b'\'') else {
            let message = format!("unclosed quote in the value of `{}`", &*name);
            let rest = self.line.slice(open + 1, word.end);
            // Without a comma no other action can have been swallowed: what is meant is plain.
            let harmless = !rest.contains(',') && word.quote.is_some();
            let severity = if harmless { Severity::Warning } else { Severity::Error };
            let span = self.line.span(open, open + 1);
            self.report(
                Diagnostic::new(severity, codes::UNCLOSED_QUOTE, message)
                    .at(span)
                    .label("opened here")
                    .help("a `'` inside of the quotes is written `\\'`"),
            );
            let value = self.line.text(open + 1, word.end, b"\"");
            let action = Action { span: self.line.span(start, word.end), name, value: Some(value) };
            return (harmless.then_some(action), word.end);
        };
        let escapes: &[u8] = if word.quote == Some(b'"') { b"'\"" } else { b"'" };
        let value = self.line.text(open + 1, close, escapes);
        let after = self.skip_in(close + 1, word.end);
        if after < word.end && self.line.byte(after) != Some(b',') {
            let end = self.value_end(word, after);
            let message = format!("text after the quoted value of `{}`", &*name);
            self.action_error(after, end, message, "expected `,` or the end of the list");
            return (None, end);
        }
        (Some(Action { span: self.line.span(start, close + 1), name, value: Some(value) }), after)
    }

    /// The comma (or end) after an unquoted value. A quote that opens after `=` or `:` groups as
    /// well, as in `setvar:tx.list='a,b'`.
    fn value_end(&self, word: Word, start: usize) -> usize {
        let mut at = start;
        let mut previous = b':';
        while at < word.end {
            let Some(byte) = self.line.byte(at) else { break };
            if byte == b',' {
                return at;
            }
            if byte == b'\'' && matches!(previous, b'=' | b':') {
                at = find_close(self.line, at + 1, word.end, b'\'').unwrap_or(at);
            }
            previous = byte;
            at += 1;
        }
        word.end
    }
}
