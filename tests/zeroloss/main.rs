//! Nothing is lost: not by reloads, not when a process ends, not when another takes its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod leave;
mod load;
mod reload;
mod service_manager;
mod streams;
mod upgrade;

use portcullis_testkit::{Answer, Authority, Gateway, GatewayBuilder, Origin, Ports, everything_to};
use std::net::SocketAddr;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// An origin for [`load::Load`].
fn origin() -> Origin {
    Origin::start(|request| match request.target() {
        "/post" => Answer::echo(request),
        "/slow" => Answer::ok("late").after(Duration::from_millis(30)),
        _ => Answer::ok("fine"),
    })
}

/// A gateway in clear and over TLS with all that can be reloaded: rules, certificates, endpoints, routes. `top` goes
/// before all tables, `more` behind them.
fn config(ports: Ports, origins: &[SocketAddr], top: &str, more: &str) -> String {
    ports.opening(&format!("firewall.rules = [\"rules/*.conf\"]\nlog.access = false\n{top}"), "")
        + &ports.tls_listener("")
        + &everything_to(origins, "", more)
}

/// Rules that refuse requests with this word in an argument.
fn rules_against(word: &str) -> String {
    format!("SecRuleEngine On\nSecRule ARGS \"@contains {word}\" \"id:1099001,phase:2,deny,status:403\"\n")
}

/// A start of the gateway with its files.
fn builder(authority: &Authority) -> GatewayBuilder {
    let builder = Gateway::builder(BINARY).file("rules/test.conf", rules_against("attack"));
    let _ = authority.issue(&["localhost"]).write(builder.folder(), "a");
    builder
}
