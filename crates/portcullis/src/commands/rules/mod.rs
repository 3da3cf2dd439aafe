//! `portcullis rules`.

mod bench;
mod check;
mod counters;
mod curl;
mod dump;
mod explain;
mod list;
mod message;
mod shell;
mod subject;
mod suggest;
mod test;

use super::ConfigFile;
use crate::inputs::Inputs;
use crate::rules;
use clap::{Args, Subcommand};
use portcullis_config::Config;
use portcullis_diag::SourceMap;
use portcullis_waf::{BuildOptions, Program};
use std::io::Write as _;
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
    /// Show what each rule saw of a request, why it did or did not match, what it cost, and the verdict.
    Explain(explain::Explain),
    /// Write the smallest exclusions with which a request is let through that was refused by mistake.
    SuggestExclusion(suggest::Suggest),
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
            Rules::Explain(command) => command.run(),
            Rules::SuggestExclusion(command) => command.run(),
        }
    }
}

/// What is done with rules that want what the engine does not have.
#[derive(Clone, Copy, Debug, Args)]
struct Tolerance {
    /// Leave rules out that want what this engine does not have (an operator, a variable, an action), each with a warning.
    /// Otherwise each is an error.
    #[arg(long)]
    allow_unsupported: bool,
}

impl Tolerance {
    fn options(self) -> BuildOptions {
        BuildOptions { allow_unsupported: self.allow_unsupported }
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
    #[command(flatten)]
    tolerance: Tolerance,
}

impl NamedRules {
    fn load(&self) -> Result<(Arc<Program>, Option<Config>), String> {
        let loaded = load(&self.files, &self.config.config, self.tolerance)?;
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

/// Compiles the rules in `files`, or those that the configuration names when there are none. What was left out of them
/// is said on standard error.
///
/// # Errors
/// All that is wrong, rendered.
fn load(files: &[PathBuf], config: &Path, tolerance: Tolerance) -> Result<Loaded, String> {
    let (mut sources, inputs) = (SourceMap::new(), Inputs::new());
    let (loaded, config) = if files.is_empty() {
        let mut config = portcullis_config::load(config, &mut sources, &portcullis_config::process_env)
            .map_err(|found| found.to_text(&sources))?
            .config;
        config.firewall.allow_unsupported |= tolerance.allow_unsupported;
        (rules::load(&config, &mut sources, &inputs), Some(config))
    } else {
        (rules::compile(&in_folders(files), &mut sources, &inputs, tolerance.options()), None)
    };
    let loaded = loaded.map_err(|found| found.to_text(&sources))?;
    if tolerance.allow_unsupported {
        // Standard error is all there is to say it on.
        let _ = write!(std::io::stderr(), "{}", loaded.warnings.to_text(&sources));
    }
    Ok(Loaded { program: loaded.program, config })
}

/// A folder stands for the `*.conf` files in it.
fn in_folders(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().map(|path| if path.is_dir() { path.join("*.conf") } else { path.clone() }).collect()
}
