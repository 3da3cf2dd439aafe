//! `portcullis rules dump`.

use crate::commands::{ConfigFile, print};
use clap::Args;
use std::path::PathBuf;

/// Options of `portcullis rules dump`.
#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// Rule files, folders of `*.conf` files or globs; without any, those that the configuration names.
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    tolerance: super::Tolerance,
}

impl Dump {
    pub(super) fn run(self) -> Result<(), String> {
        let loaded = super::load(&self.files, &self.config.config, self.tolerance)?;
        print(&loaded.program.map(|program| program.dump()).unwrap_or_default())
    }
}
