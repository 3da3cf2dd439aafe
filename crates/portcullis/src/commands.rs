//! The command line.

mod check;
mod probe;
mod rules;
pub(crate) mod run;
mod token;

use crate::demo::{self, Service};
use clap::{Args, Parser, Subcommand};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "Exit codes:\n  0  it worked\n  1  the configuration, the rules or the environment are wrong; standard error says what\n  2  the command line is wrong";

/// An API gateway with a web application firewall: the one entry point in front of your services.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT. SIGHUP reloads, and so does any change of a file it was configured from.
    Run(run::Run),
    /// Say all that is wrong with a configuration and its rules.
    Check(ConfigFile),
    /// Start three small services and the gateway in front of them, to try it.
    Demo(demo::Demo),
    /// Make a token for development, signed with a key of the configuration.
    Token(token::Token),
    /// The firewall's rules.
    #[command(subcommand)]
    Rules(rules::Rules),
    /// Print the configuration's JSON Schema, for editors.
    Schema,
    /// Ask a URL of this machine, such as http://127.0.0.1:9090/readyz, and exit with 0 if it answers 200. For
    /// containers' health checks.
    Probe(probe::Probe),
    /// Serve one service of the demonstration alone.
    DemoService {
        /// Which one.
        service: Service,
        /// Where it listens; without it, where the shipped configuration expects it.
        #[arg(long)]
        listen: Option<SocketAddr>,
    },
}

/// The configuration to use.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "gateway.toml")]
    pub(crate) config: PathBuf,
}

impl Cli {
    /// Carries out the command. What went wrong stands on standard error, whole sentences, ready to act on.
    pub(crate) fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Run(command) => command.run(),
            Command::Check(file) => check::check(&file),
            Command::Demo(command) => command.run(),
            Command::Token(command) => command.run(),
            Command::Rules(command) => command.run(),
            Command::Schema => serde_json::to_string_pretty(&portcullis_config::schema())
                .map_err(|error| error.to_string())
                .and_then(|schema| print(&format!("{schema}\n"))),
            Command::Probe(command) => command.run(),
            Command::DemoService { service, listen } => demo::serve_one(service, listen),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Standard error is all there is to say it on.
                let _ = writeln!(std::io::stderr(), "{}", error.trim_end());
                ExitCode::FAILURE
            }
        }
    }
}

/// Prints on standard output. A reader that goes away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("standard output: {error}"))
        }
        _ => Ok(()),
    }
}
