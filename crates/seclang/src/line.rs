//! Logical lines: physical lines without comments, joined where a backslash ends them.

use std::borrow::Cow;

use portcullis_diag::{SourceId, Span};

use crate::ast::Text;

/// One logical line that is neither empty nor a comment.
pub(crate) struct Line<'a> {
    pub(crate) text: Cow<'a, str>,
    source: SourceId,
    /// (offset in `text`, offset in the source) of each joined piece; never empty.
    pieces: Vec<(usize, usize)>,
    /// The last physical line ended in a backslash and the file ended there.
    pub(crate) cut_short: bool,
}

impl Line<'_> {
    pub(crate) fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or("")
    }

    /// Offset in the source of a byte of the line.
    fn origin(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|(start, _)| *start <= at);
        match after.checked_sub(1).and_then(|index| self.pieces.get(index)) {
            Some((start, origin)) => origin + (at - start),
            None => at,
        }
    }

    /// The place of `start..end` in the source. The end belongs to the last byte covered, so that
    /// a span never runs into the next physical line.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let last = end.checked_sub(1).filter(|last| *last >= start);
        let from = match last {
            Some(_) => self.origin(start),
            // An empty span at the end of the line sits right after its last byte.
            None => start.checked_sub(1).map_or_else(|| self.origin(0), |before| self.origin(before) + 1),
        };
        Span::new(self.source, from, last.map_or(from, |last| self.origin(last) + 1))
    }

    /// The bytes `start..end` with the backslash dropped before each of the `quotes`. A backslash
    /// before a backslash keeps both: only quotes are escaped in SecLang, the rest belongs to the
    /// regex.
    pub(crate) fn text(&self, start: usize, end: usize, quotes: &[u8]) -> Text {
        let raw = self.slice(start, end);
        let span = self.span(start, end);
        let joined = self.origin(end.saturating_sub(1).max(start))
            != self.origin(start) + (end.max(start + 1) - start - 1);
        if !joined && (quotes.is_empty() || !raw.contains('\\')) {
            return Text::new(raw, span);
        }
        let mut value = String::with_capacity(raw.len());
        let mut cuts = Vec::new();
        let mut left_out = 0;
        let mut bytes = raw.char_indices().peekable();
        while let Some((at, character)) = bytes.next() {
            let mut shown = (at, character);
            if character == '\\'
                && let Some(quote) =
                    bytes.next_if(|(_, next)| u8::try_from(*next).is_ok_and(|next| quotes.contains(&next)))
            {
                shown = quote;
            }
            let hidden = (self.origin(start + shown.0) - span.start as usize).saturating_sub(value.len());
            if hidden != left_out {
                left_out = hidden;
                cuts.push((as_u32(value.len()), as_u32(hidden)));
            }
            value.push(shown.1);
            if shown.1 == '\\'
                && let Some((_, second)) = bytes.next_if(|(_, next)| *next == '\\')
            {
                value.push(second);
            }
        }
        Text::with_cuts(value, span, cuts)
    }
}

fn as_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Iterates over the logical lines of a text.
pub(crate) struct Lines<'a> {
    text: &'a str,
    source: SourceId,
    at: usize,
}

impl<'a> Lines<'a> {
    pub(crate) const fn new(text: &'a str, source: SourceId) -> Self {
        Self { text, source, at: 0 }
    }

    /// The next physical line without the white space around it, and its offset.
    fn physical(&mut self) -> Option<(&'a str, usize)> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let (line, length) = match rest.split_once('\n') {
            Some((line, _)) => (line, line.len() + 1),
            None => (rest, rest.len()),
        };
        let start = self.at;
        self.at += length;
        let trimmed = line.trim_ascii_start();
        let indent = line.len() - trimmed.len();
        Some((trimmed.trim_ascii_end(), start + indent))
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let mut text: Option<Cow<'a, str>> = None;
        let mut pieces = Vec::new();
        let mut open = false;
        while let Some((line, at)) = self.physical() {
            // A comment is dropped even inside a continued line, and does not end it.
            if line.starts_with('#') || (line.is_empty() && !open) {
                continue;
            }
            let piece = line.strip_suffix('\\');
            open = piece.is_some();
            let piece = piece.unwrap_or(line);
            pieces.push((text.as_ref().map_or(0, |text| text.len()), at));
            match &mut text {
                None => text = Some(Cow::Borrowed(piece)),
                Some(text) => text.to_mut().push_str(piece),
            }
            if !open {
                break;
            }
        }
        let text = text?;
        let line = Line { text, source: self.source, pieces, cut_short: open };
        // A lone backslash, or several: nothing was said.
        if line.text.trim_ascii().is_empty() && !line.cut_short { self.next() } else { Some(line) }
    }
}
