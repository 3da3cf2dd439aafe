//! Portcullis: an API gateway with a web application firewall.
//!
//! [`run`] is the command line. `portcullis run` compiles a [`snapshot`] of the configuration, starts a worker thread for each core ([`server`]), takes
//! connections ([`listener`]) and passes each request through the [`pipeline`], the one place in which the order of all
//! stages stands. What the stages do is in the other crates; here they are put together, reloaded ([`reload`]) and
//! watched ([`admin`]).
//!
//! ```
//! use std::process::ExitCode;
//!
//! // As `portcullis check -c gateway.toml` on the configuration that ships:
//! let checked = portcullis::run(["portcullis", "check", "-c", "../../gateway.toml"]);
//! assert_eq!(checked, ExitCode::SUCCESS);
//! ```
#![forbid(unsafe_code)]

mod acme;
mod admin;
mod affinity;
mod answer;
mod arrival;
mod aside;
mod body;
mod canary;
mod commands;
mod composed;
mod connection;
mod cors;
mod deadline;
mod demo;
mod discovery;
mod forward;
mod grpc;
mod handover;
mod health;
mod inherit;
mod inputs;
mod inspection;
mod listener;
mod memory;
mod mirror;
mod normalize;
mod options;
mod pipeline;
mod plan;
mod record;
mod reload;
mod respond;
mod rest;
mod router;
mod rules;
mod selftest;
mod server;
mod shared;
mod snapshot;
mod systemd;
mod term;
mod tls;
mod tunnel;

use clap::Parser as _;
use std::ffi::OsString;
use std::process::ExitCode;

/// Carries out a command line, program name first. Exit codes: 0 it worked, 1 the configuration, the rules or the
/// environment are wrong (standard error says what), 2 the command line is wrong.
pub fn run<I>(arguments: I) -> ExitCode
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    match commands::Cli::try_parse_from(arguments) {
        Ok(cli) => cli.run(),
        Err(error) => {
            // Help and version go to standard output, mistakes to standard error; neither failing is worth a word.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
        }
    }
}
