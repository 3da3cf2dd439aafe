//! Findings as text, in the shape people know from rustc.

use std::fmt::Write as _;

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{Source, SourceId, SourceMap, Span};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// Whether to write ANSI colours; off by default, so that files and pipes stay clean.
    pub colour: bool,
    /// Widest part of a source line shown, in characters; longer lines are cut around the marked
    /// place. At least 20 is used.
    pub width: usize,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self { colour: false, width: 120 }
    }
}

/// Display cells of a tab.
const TAB: &str = "    ";

/// Prints the findings one after the other, an empty line between two.
///
/// Control characters of the marked lines are shown as U+FFFD, so that a hostile file cannot
/// drive the terminal.
#[must_use]
pub fn render<'a>(
    diagnostics: impl IntoIterator<Item = &'a Diagnostic>,
    sources: &SourceMap,
    options: RenderOptions,
) -> String {
    let mut out = String::new();
    for (index, diagnostic) in diagnostics.into_iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        Renderer { out: &mut out, sources, options }.diagnostic(diagnostic);
    }
    out
}

/// One marked place of a line.
struct Mark<'a> {
    line: u32,
    span: Span,
    text: &'a str,
    primary: bool,
}

/// The part of a line that is shown: its characters made printable, and where the mark falls.
struct Window {
    text: String,
    mark_at: usize,
    mark_len: usize,
}

struct Renderer<'a> {
    out: &'a mut String,
    sources: &'a SourceMap,
    options: RenderOptions,
}

impl Renderer<'_> {
    fn diagnostic(&mut self, diagnostic: &Diagnostic) {
        self.header(diagnostic);
        let groups = self.groups(diagnostic);
        let widest = groups.iter().flat_map(|(_, marks)| marks).map(|mark| mark.line).max().unwrap_or(0);
        let gutter = if widest == 0 { 1 } else { widest.to_string().len() };
        for (index, (id, marks)) in groups.iter().enumerate() {
            if let Some(source) = self.sources.get(*id) {
                self.group(source, marks, gutter, index == 0);
            }
        }
        for note in &diagnostic.notes {
            self.remark(gutter, "note", note);
        }
        if let Some(help) = &diagnostic.help {
            self.remark(gutter, "help", help);
        }
        if let Some(suggestion) = &diagnostic.suggestion {
            self.remark(gutter, "help", &format!("did you mean `{}`?", printable(suggestion)));
        }
    }

    fn header(&mut self, diagnostic: &Diagnostic) {
        let colour = match diagnostic.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
        };
        let head = format!("{}[{}]", diagnostic.severity, diagnostic.code);
        let head = self.paint(colour, &head);
        let message = self.paint("1", &printable(&diagnostic.message));
        self.line(&format!("{head}: {message}"));
    }

    /// The marks by source, the finding's own source first, and by line within a source.
    fn groups<'d>(&self, diagnostic: &'d Diagnostic) -> Vec<(SourceId, Vec<Mark<'d>>)> {
        let own = diagnostic.span.map(|span| (span, diagnostic.label.as_str(), true));
        let others = diagnostic.labels.iter().map(|label| (label.span, label.text.as_str(), false));
        let mut groups: Vec<(SourceId, Vec<Mark<'d>>)> = Vec::new();
        for (span, text, primary) in own.into_iter().chain(others) {
            let Some(position) = self.sources.position(span) else { continue };
            let mark = Mark { line: position.line, span, text, primary };
            match groups.iter_mut().find(|(id, _)| *id == span.source) {
                Some((_, marks)) => marks.push(mark),
                None => groups.push((span.source, vec![mark])),
            }
        }
        for (_, marks) in &mut groups {
            marks.sort_by_key(|mark| (mark.line, !mark.primary));
        }
        groups
    }

    fn group(&mut self, source: &Source, marks: &[Mark<'_>], gutter: usize, first: bool) {
        let Some(anchor) = marks.iter().find(|mark| mark.primary).or_else(|| marks.first()) else { return };
        let position = source.position(anchor.span.start);
        let arrow = self.paint("1;34", if first { "-->" } else { ":::" });
        let place = format!("{}:{}:{}", printable(source.name()), position.line, position.column);
        self.line(&format!("{:gutter$}{arrow} {place}", ""));
        self.bar(gutter, "", "");
        let mut shown: Option<u32> = None;
        for mark in marks {
            let line = source.line(mark.line).unwrap_or("");
            let window = self.window(source, line, mark);
            // Several marks of one short line share its printing; a cut line differs by mark.
            if shown != Some(mark.line) || line.chars().count() > self.options.width.max(20) {
                if shown.is_some_and(|last| last + 1 < mark.line) {
                    self.line("...");
                }
                self.bar(gutter, &mark.line.to_string(), &window.text);
                shown = Some(mark.line);
            }
            self.carets(gutter, mark, &window);
        }
        self.bar(gutter, "", "");
    }

    fn carets(&mut self, gutter: usize, mark: &Mark<'_>, window: &Window) {
        let sign = if mark.primary { "^" } else { "-" };
        let mut carets = sign.repeat(window.mark_len.max(1));
        if !mark.text.is_empty() {
            carets.push(' ');
            carets.push_str(&printable(mark.text));
        }
        let carets = self.paint(if mark.primary { "1;31" } else { "1;34" }, &carets);
        self.bar(gutter, "", &format!("{:at$}{carets}", "", at = window.mark_at));
    }

    /// Cuts the line around its mark and makes it printable. A mark that goes on over the end of
    /// the line is shown up to that end.
    fn window(&self, source: &Source, line: &str, mark: &Mark<'_>) -> Window {
        let width = self.options.width.max(20);
        let start = source.line_start(mark.line).unwrap_or(0);
        let offset = |at: u32| (at.saturating_sub(start) as usize).min(line.len());
        let (from, to) = (offset(mark.span.start), offset(mark.span.end));
        let marked = line.get(..from).map_or(0, |before| before.chars().count());
        let long = line.char_indices().filter(|(at, _)| (from..to).contains(at)).count();
        let total = line.chars().count();
        let first = if total <= width { 0 } else { marked.saturating_sub(width / 3).min(total - width) };
        let mut out = Window { text: String::new(), mark_at: 0, mark_len: 0 };
        let mut cells = 0;
        if first > 0 {
            out.text.push('…');
            cells += 1;
        }
        out.mark_at = cells;
        for (index, character) in line.chars().enumerate().skip(first).take(width) {
            let before = cells;
            cells += push_printable(&mut out.text, character);
            if index < marked {
                out.mark_at = cells;
            } else if index < marked + long {
                out.mark_len += cells - before;
            }
        }
        if first + width < total {
            out.text.push('…');
        }
        out
    }

    fn bar(&mut self, gutter: usize, number: &str, text: &str) {
        let margin = self.paint("1;34", &format!("{number:>gutter$} |"));
        let gap = if text.is_empty() { "" } else { " " };
        self.line(&format!("{margin}{gap}{text}"));
    }

    fn remark(&mut self, gutter: usize, kind: &str, text: &str) {
        let sign = self.paint("1;34", "=");
        let kind = self.paint("1", kind);
        self.line(&format!("{:gutter$} {sign} {kind}: {}", "", printable(text)));
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn paint(&self, style: &str, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 12);
        if self.options.colour {
            // Writing to a String cannot fail.
            let _ = write!(out, "\u{1b}[{style}m{text}\u{1b}[0m");
        } else {
            out.push_str(text);
        }
        out
    }
}

/// Appends a character so that it takes the returned number of cells and does nothing else.
fn push_printable(out: &mut String, character: char) -> usize {
    match character {
        '\t' => {
            out.push_str(TAB);
            TAB.len()
        }
        // Bidirectional controls could make a line read other than it is.
        character
            if character.is_control()
                || matches!(character, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}') =>
        {
            out.push('\u{FFFD}');
            1
        }
        character => {
            out.push(character);
            1
        }
    }
}

fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        push_printable(&mut out, character);
    }
    out
}
