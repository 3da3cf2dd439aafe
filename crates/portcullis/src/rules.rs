//! The firewall's rules: from the files that the configuration names to a program.

use crate::inputs::Inputs;
use portcullis_config::{Config, FirewallMode};
use portcullis_diag::{Code, Diagnostic, Diagnostics, SourceMap};
use portcullis_waf::{BuildOptions, Program};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NO_FILES: Code = Code::new("CFG9001");

/// Rules, read and compiled.
pub(crate) struct Rules {
    /// `None` where the firewall is off everywhere and names no rules.
    pub(crate) program: Option<Arc<Program>>,
    /// Those on trial, where there are any: it may be the same program.
    pub(crate) shadow: Option<Arc<Program>>,
    pub(crate) warnings: Diagnostics,
}

/// Loads and compiles the rules of a configuration.
///
/// # Errors
/// Every finding in the rule files, warnings among them.
pub(crate) fn load(config: &Config, sources: &mut SourceMap, inputs: &Inputs) -> Result<Rules, Diagnostics> {
    let off = config.firewall.mode == FirewallMode::Off
        && config.route.iter().all(|route| matches!(route.firewall.mode, None | Some(FirewallMode::Off)));
    if off {
        return Ok(Rules { program: None, shadow: None, warnings: Diagnostics::new() });
    }
    let on_trial = config.firewall.shadow.as_ref();
    let patterns = on_trial.and_then(|shadow| shadow.rules.as_ref()).into_iter().flatten();
    for pattern in config.firewall.rules.iter().chain(patterns) {
        inputs.note_pattern(&config.resolve(Path::new(pattern)));
    }
    let options = BuildOptions { allow_unsupported: config.firewall.allow_unsupported };
    let no_files = |error| Diagnostics::from_iter([Diagnostic::error(NO_FILES, error)]);
    let mut rules = compile(&config.rule_files().map_err(no_files)?, sources, inputs, options)?;
    if on_trial.is_none() {
        return Ok(rules);
    }
    rules.shadow = match config.shadow_rule_files().map_err(no_files)? {
        None => rules.program.clone(),
        Some(files) => {
            let shadow = compile(&files, sources, inputs, options)?;
            rules.warnings.append(shadow.warnings);
            shadow.program
        }
    };
    Ok(rules)
}

/// Compiles rule files in the order given.
///
/// # Errors
/// Every finding in them, warnings among them.
pub(crate) fn compile(
    files: &[PathBuf],
    sources: &mut SourceMap,
    inputs: &Inputs,
    options: BuildOptions,
) -> Result<Rules, Diagnostics> {
    let loaded = portcullis_seclang::load(files, inputs, sources);
    let mut found = loaded.diagnostics;
    match portcullis_waf::build_with(&loaded.directives, sources, inputs, options) {
        Ok((program, warnings)) if !found.has_errors() => {
            found.append(warnings);
            Ok(Rules { program: Some(Arc::new(program)), shadow: None, warnings: found })
        }
        Ok((_, more)) | Err(more) => {
            found.append(more);
            Err(found)
        }
    }
}
