//! A diagnostic without references to sources, ready for JSON.

use crate::diagnostic::Diagnostic;
use crate::source::SourceMap;

/// Longest text of a marked place kept in a record, in characters.
const MAX_TEXT: usize = 200;

/// One finding as plain values: what `check --json` and the admin listener print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Stable code, such as `SEC0012`.
    pub code: &'static str,
    /// `error` or `warning`.
    pub severity: &'static str,
    /// Name of the file; `None` when the finding has no place.
    pub file: Option<String>,
    /// Line of the first marked character, from 1.
    pub line: Option<u32>,
    /// Column of the first marked character, from 1, in characters.
    pub column: Option<u32>,
    /// Line just after the last marked character.
    pub end_line: Option<u32>,
    /// Column just after the last marked character.
    pub end_column: Option<u32>,
    /// The marked text, at most 200 characters of it.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// Text that should probably stand there instead.
    pub suggestion: Option<String>,
    /// The label, notes and help, in this order.
    pub notes: Vec<String>,
}

impl Record {
    /// Resolves a finding against the sources its spans belong to.
    #[must_use]
    pub fn new(diagnostic: &Diagnostic, sources: &SourceMap) -> Self {
        let place = diagnostic.span.and_then(|span| Some((span, sources.get(span.source)?)));
        let start = place.map(|(span, source)| source.position(span.start));
        let end = place.map(|(span, source)| source.position(span.end));
        let mut notes = Vec::new();
        if !diagnostic.label.is_empty() {
            notes.push(diagnostic.label.clone());
        }
        notes.extend(diagnostic.notes.iter().cloned());
        notes.extend(diagnostic.help.clone());
        Self {
            code: diagnostic.code.as_str(),
            severity: diagnostic.severity.as_str(),
            file: place.map(|(_, source)| source.name().to_owned()),
            line: start.map(|at| at.line),
            column: start.map(|at| at.column),
            end_line: end.map(|at| at.line),
            end_column: end.map(|at| at.column),
            text: diagnostic.span.map_or("", |span| sources.text(span)).chars().take(MAX_TEXT).collect(),
            message: diagnostic.message.clone(),
            suggestion: diagnostic.suggestion.clone(),
            notes,
        }
    }
}
