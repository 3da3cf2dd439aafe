//! Portcullis: an API gateway with a web application firewall.
//!
//! The binary compiles a [`snapshot`] of the configuration, starts a worker thread for each core ([`server`]), takes
//! connections ([`listener`]) and passes each request through the [`pipeline`], the one place in which the order of all
//! stages stands. What the stages do is in the other crates; here they are put together, reloaded ([`reload`]) and
//! watched ([`admin`]).
#![forbid(unsafe_code)]

mod admin;
mod answer;
mod body;
mod commands;
mod composed;
mod connection;
mod demo;
mod forward;
mod inspection;
mod listener;
mod normalize;
mod pipeline;
mod plan;
mod record;
mod reload;
mod respond;
mod router;
mod rules;
mod server;
mod shared;
mod snapshot;
mod tls;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    commands::Cli::parse().run()
}
