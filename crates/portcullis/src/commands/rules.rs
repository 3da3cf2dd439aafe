//! `portcullis rules`.

use super::{ConfigFile, print};
use crate::inputs::Inputs;
use crate::rules;
use clap::{Args, Subcommand};
use portcullis_diag::SourceMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// List rules: id, phase, severity, message, file and line.
    List(List),
}

/// Options of `portcullis rules list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Rule files; without any, those that the configuration names.
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    /// Only rules with this tag.
    #[arg(long)]
    tag: Option<String>,
}

impl Rules {
    /// Carries the command out.
    ///
    /// # Errors
    /// Whatever is wrong with the rules.
    pub(super) fn run(self) -> Result<(), String> {
        let Rules::List(list) = self;
        list.run()
    }
}

impl List {
    fn run(self) -> Result<(), String> {
        let (mut sources, inputs) = (SourceMap::new(), Inputs::new());
        let loaded = if self.files.is_empty() {
            let loaded =
                portcullis_config::load(&self.config.config, &mut sources, &portcullis_config::process_env)
                    .map_err(|found| found.to_text(&sources))?;
            rules::load(&loaded.config, &mut sources, &inputs)
        } else {
            rules::compile(&self.files, &mut sources, &inputs)
        };
        let loaded = loaded.map_err(|found| found.to_text(&sources))?;
        let mut text = String::new();
        for rule in loaded.program.iter().flat_map(|program| program.rules()) {
            if self.tag.as_ref().is_some_and(|tag| !rule.tags.contains(&tag.as_str())) {
                continue;
            }
            let severity = rule.severity.and_then(severity_name).unwrap_or("-");
            let _ = writeln!(
                text,
                "{}\tphase {}\t{severity}\t{}\t{}:{}",
                rule.id, rule.phase, rule.msg, rule.file, rule.line
            );
        }
        print(&text)
    }
}

/// A severity by its name (RFC 5424's, as ModSecurity has them).
fn severity_name(severity: u8) -> Option<&'static str> {
    const NAMES: [&str; 8] =
        ["EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"];
    NAMES.get(usize::from(severity)).copied()
}
