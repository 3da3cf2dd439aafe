//! `portcullis rules`.

mod bench;
mod check;
mod dump;
mod list;
mod test;

use super::ConfigFile;
use crate::inputs::Inputs;
use crate::rules;
use clap::{Args, Subcommand};
use portcullis_config::Config;
use portcullis_diag::SourceMap;
use portcullis_waf::{BuildOptions, Program};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// Say all that is wrong with rule files. No configuration is needed.
    Check(check::Check),
    /// List rules: id, phase, severity, message, file and line.
    List(list::List),
    /// Print the compiled program as text: patterns, what is looked at in which form, rules by phase.
    Dump(dump::Dump),
    /// Run go-ftw tests over rules, in this process.
    Test(test::Test),
    /// Measure what rules cost for each request of a corpus, and whether they judge it as expected.
    Bench(bench::Bench),
}

impl Rules {
    /// Carries the command out.
    ///
    /// # Errors
    /// Whatever is wrong with the rules.
    pub(super) fn run(self) -> Result<(), String> {
        match self {
            Rules::Check(command) => command.run(),
            Rules::List(command) => command.run(),
            Rules::Dump(command) => command.run(),
            Rules::Test(command) => command.run(),
            Rules::Bench(command) => command.run(),
        }
    }
}

/// The rules that a command is about, as its options name them.
#[derive(Debug, Args)]
struct NamedRules {
    /// Rules to use instead of those that the configuration names: a file, a folder of `*.conf` files or a glob. May be
    /// given several times; they load in this order.
    #[arg(long = "rules", value_name = "FILES")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

impl NamedRules {
    fn load(&self) -> Result<(Arc<Program>, Option<Config>), String> {
        let loaded = load(&self.files, &self.config.config)?;
        let program = loaded.program.ok_or("the configuration's firewall is off and has no rules")?;
        Ok((program, loaded.config))
    }
}

/// Rules, and the configuration they are from.
struct Loaded {
    /// `None` where the firewall is off everywhere.
    program: Option<Arc<Program>>,
    /// `None` where the files were named instead.
    config: Option<Config>,
}

/// Compiles the rules in `files`, or those that the configuration names when there are none.
///
/// # Errors
/// All that is wrong, rendered.
fn load(files: &[PathBuf], config: &Path) -> Result<Loaded, String> {
    let (mut sources, inputs) = (SourceMap::new(), Inputs::new());
    if !files.is_empty() {
        let loaded = rules::compile(&in_folders(files), &mut sources, &inputs, BuildOptions::default());
        let program = loaded.map_err(|found| found.to_text(&sources))?.program;
        return Ok(Loaded { program, config: None });
    }
    let config = portcullis_config::load(config, &mut sources, &portcullis_config::process_env)
        .map_err(|found| found.to_text(&sources))?
        .config;
    let loaded = rules::load(&config, &mut sources, &inputs);
    let program = loaded.map_err(|found| found.to_text(&sources))?.program;
    Ok(Loaded { program, config: Some(config) })
}

/// A folder stands for the `*.conf` files in it.
fn in_folders(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().map(|path| if path.is_dir() { path.join("*.conf") } else { path.clone() }).collect()
}
