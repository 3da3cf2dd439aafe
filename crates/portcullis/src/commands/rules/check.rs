//! `portcullis rules check`.

use crate::commands::print;
use crate::inputs::Inputs;
use crate::rules;
use clap::Args;
use portcullis_diag::{Diagnostics, SourceMap};
use std::io::Write as _;
use std::path::PathBuf;

/// Options of `portcullis rules check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Rule files, folders of `*.conf` files or globs, in the order they load.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    tolerance: super::Tolerance,
}

impl Check {
    /// Findings go to standard error, the line that sums them up to standard output.
    pub(super) fn run(self) -> Result<(), String> {
        let mut sources = SourceMap::new();
        match rules::compile(
            &super::in_folders(&self.paths),
            &mut sources,
            &Inputs::new(),
            self.tolerance.options(),
        ) {
            Ok(loaded) => {
                // Standard error is all there is to say it on.
                let _ = write!(std::io::stderr(), "{}", loaded.warnings.to_text(&sources));
                let rules = loaded.program.map_or(0, |program| program.rules().count());
                print(&format!("{}: {}\n", count(rules, "rule"), counts(&loaded.warnings)))
            }
            Err(found) => {
                print(&format!("no program: {}\n", counts(&found)))?;
                Err(found.to_text(&sources))
            }
        }
    }
}

fn counts(found: &Diagnostics) -> String {
    format!("{}, {}", count(found.error_count(), "error"), count(found.warning_count(), "warning"))
}

fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}
