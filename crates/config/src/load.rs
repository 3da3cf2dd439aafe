//! From text to [`Config`]: parse, walk, deserialize, check.

use std::path::Path;

use portcullis_diag::{Diagnostic, Diagnostics, SourceId, SourceMap, Span};
use toml::de::DeTable;

use crate::check::check;
use crate::codes;
use crate::env::Env;
use crate::model::Config;
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
    let bytes = std::fs::read(path).map_err(|error| {
        let message = format!("cannot read the configuration `{}`: {error}", path.display());
        Diagnostics::from_iter([Diagnostic::error(codes::UNREADABLE, message)])
    })?;
    let id = sources.add_bytes(path.display().to_string(), &bytes);
    let base = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read(id, sources, env, Some(base))
}

/// Reads a configuration from a text. Files that it names are not looked for, and stay relative to the
/// current folder.
///
/// # Errors
/// As for [`load`].
pub fn parse(name: &str, text: &str, sources: &mut SourceMap, env: &dyn Env) -> Result<Loaded, Diagnostics> {
    let id = sources.add(name, text);
    read(id, sources, env, None)
}

fn read(
    id: SourceId,
    sources: &SourceMap,
    env: &dyn Env,
    base: Option<&Path>,
) -> Result<Loaded, Diagnostics> {
    let Some(source) = sources.get(id) else { return Err(Diagnostics::new()) };
    if let Some(offset) = source.invalid_utf8() {
        let offset = offset as usize;
        let diagnostic = Diagnostic::error(codes::UNREADABLE, "the file is not UTF-8");
        return Err(Diagnostics::from_iter([diagnostic.at(Span::new(id, offset, offset + 1))]));
    }
    let (document, errors) = DeTable::parse_recoverable(source.text());
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| syntax(id, error)).collect());
    }
    let mut walked = walk(&document, id, source.text(), env);
    let mut found = std::mem::take(&mut walked.found);
    let json = std::mem::take(&mut walked.json);
    match serde_json::from_value::<Config>(json) {
        Ok(mut config) => {
            if let Some(base) = base {
                base.clone_into(&mut config.base);
            }
            found.append(check(&config, &walked, base.is_some()));
            found.sort();
            if found.has_errors() {
                return Err(found);
            }
            Ok(Loaded { config, spans: walked.spans, warnings: found })
        }
        Err(error) => {
            // The walk has checked all that serde checks; what is left is a field whose schema says too little.
            found.push(Diagnostic::error(
                codes::BAD_VALUE,
                format!("the configuration does not fit: {error}"),
            ));
            Err(found)
        }
    }
}

fn syntax(id: SourceId, error: &toml::de::Error) -> Diagnostic {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let diagnostic = Diagnostic::error(codes::SYNTAX, message);
    match error.span() {
        Some(range) => diagnostic.at(Span::new(id, range.start, range.end)),
        None => diagnostic,
    }
}
