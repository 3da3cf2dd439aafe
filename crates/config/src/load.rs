//! From text to [`Config`]: parse, walk, deserialize, check.

use std::path::Path;

use portcullis_diag::{Diagnostic, Diagnostics, SourceId, SourceMap, Span};
use toml::de::DeTable;

use crate::check::check;
use crate::codes;
use crate::env::Env;
use crate::model::Config;
use crate::redact::redact;
use crate::spans::Spans;
use crate::walk::walk;

/// A configuration that holds.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each of its fields stands, for findings that only come up later.
    pub spans: Spans,
    /// What is odd but not wrong.
    pub warnings: Diagnostics,
}

/// Reads a configuration file and all that it says. Files that it names (certificates, keys, rules) must
/// exist; nothing is opened beyond that. The text is added to `sources`, by which findings are printed.
///
/// # Errors
/// Everything that is wrong with the file, and the warnings, in the order of the file.
pub fn load(path: &Path, sources: &mut SourceMap, env: &dyn Env) -> Result<Loaded, Diagnostics> {
    let unreadable = |problem: String| {
        let message = format!("cannot read the configuration `{}`: {problem}", path.display());
        Diagnostics::from_iter([Diagnostic::error(codes::UNREADABLE, message)])
    };
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        unreadable(format!("line {line} is not UTF-8"))
    })?;
    let base = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read(&path.display().to_string(), &text, sources, env, Some(base))
}

/// Reads a configuration from a text. Files that it names are not looked for, and stay relative to the
/// current folder.
///
/// # Errors
/// As for [`load`].
pub fn parse(name: &str, text: &str, sources: &mut SourceMap, env: &dyn Env) -> Result<Loaded, Diagnostics> {
    read(name, text, sources, env, None)
}

fn read(
    name: &str,
    text: &str,
    sources: &mut SourceMap,
    env: &dyn Env,
    base: Option<&Path>,
) -> Result<Loaded, Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    let id = sources.add(name, redact(text, document.get_ref(), !errors.is_empty()));
    if !errors.is_empty() {
        let mut found: Diagnostics = errors.iter().map(|error| syntax(id, error)).collect();
        found.sort();
        return Err(found);
    }
    let mut walked = walk(&document, id, text, env);
    let mut found = std::mem::take(&mut walked.found);
    let json = std::mem::take(&mut walked.json);
    let mut config = serde_json::from_value::<Config>(json).map_err(|error| {
        // The walk has checked all that serde checks; what is left is a field whose schema says too little.
        let message = format!("the configuration does not fit: {error}");
        found.push(Diagnostic::error(codes::BAD_VALUE, message));
        std::mem::take(&mut found)
    })?;
    if let Some(base) = base {
        base.clone_into(&mut config.base);
    }
    found.append(check(&config, &walked, base.is_some()));
    found.sort();
    if found.has_errors() { Err(found) } else { Ok(Loaded { config, spans: walked.spans, warnings: found }) }
}

fn syntax(id: SourceId, error: &toml::de::Error) -> Diagnostic {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let diagnostic = Diagnostic::error(codes::SYNTAX, message);
    match error.span() {
        Some(range) => diagnostic.at(Span::new(id, range.start, range.end)),
        None => diagnostic,
    }
}
