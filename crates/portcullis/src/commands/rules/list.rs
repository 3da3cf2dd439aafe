//! `portcullis rules list`.

use crate::commands::{ConfigFile, print};
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Options of `portcullis rules list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Rule files, folders of `*.conf` files or globs; without any, those that the configuration names.
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    tolerance: super::Tolerance,
    /// Only rules with this tag.
    #[arg(long)]
    tag: Option<String>,
}

impl List {
    pub(super) fn run(self) -> Result<(), String> {
        let loaded = super::load(&self.files, &self.config.config, self.tolerance)?;
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
