//! The shape of `gateway.toml`: plain structs whose doc comments are the reference page.
//!
//! Every field says what it means, its unit and its default; `schemars` turns the comments and the defaults
//! into the JSON Schema, from which come the reference page and the validation of the file.

mod acme;
mod balance;
mod body;
mod breaker;
mod canary;
mod client_auth;
mod compose;
mod cors;
mod discovery;
mod firewall;
mod health;
mod identity;
mod listener;
mod mirror;
mod protocol;
mod response;
mod retry;
mod route;
mod server;
mod upstream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use acme::{Acme, AcmeChallenge, ExternalAccount};
pub use balance::{Balance, Hash, SameSite, Sticky};
pub use body::{Body, BodyMode, ContentEncoding, DuplicateKeys, Json, Over};
pub use breaker::{BreakerScope, CircuitBreaker, SlidingWindowType};
pub use canary::{Canary, CookieMatch};
pub use client_auth::{ClientAuth, ClientAuthMode, ClientCertificate, ForwardCertificate};
pub use compose::{Compose, Part};
pub use cors::Cors;
pub use discovery::{Destinations, Discovery, DiscoveryKind, IpFamily};
pub use firewall::{
    Audit, Compare, ErrorFormat, Exclusion, Firewall, FirewallLog, FirewallMode, Parser, RouteFirewall,
    RouteShadow, Shadow, Unsampled,
};
pub use health::{HealthCheck, HealthCheckType, OutlierDetection};
pub use identity::{Algorithm, Identity, Key};
pub use listener::{
    Certificate, Listener, ListenerLimits, ListenerTimeouts, ListenerTls, ProxyProtocol, TlsVersion,
};
pub use mirror::Mirror;
pub use protocol::{Trailers, UpgradeProtocol};
pub use response::{HeaderChanges, LeakKind, LeakMode, Leaks, Response, ResponseHeaders};
pub use retry::{Retry, RetryOn, RouteRetry};
pub use route::{
    Auth, EncodedPath, HeaderMatch, Match, QueryBytes, QueryMatch, RateLimit, Route, RouteLimits,
    RouteTarget, RouteTimeouts, TargetMode, Underscores,
};
pub use server::{Addresses, Admin, ForwardedHeader, Log, LogFormat, LogLevel, Server};
pub use upstream::{Endpoint, Upstream, UpstreamProtocol, UpstreamTls};

/// The whole configuration of a gateway.
///
/// File names and globs in it are relative to the folder of the configuration file. Every string may hold
/// `${NAME}` for an environment variable, `${NAME:-text}` to use `text` where the variable is not set, and
/// `$${` for a plain `${`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The process: threads, memory, draining, trusted proxies.
    pub server: Server,
    /// What is written to standard error.
    pub log: Log,
    /// The second listener for operators: metrics, health, readiness. Never expose it to the internet.
    pub admin: Admin,
    /// Sockets that take requests. At least one.
    pub listener: Vec<Listener>,
    /// Named groups of endpoints that requests are forwarded to.
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub upstream: BTreeMap<String, Upstream>,
    /// The injection firewall for all routes.
    pub firewall: Firewall,
    /// Token issuers: who may say who is calling.
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub identity: BTreeMap<String, Identity>,
    /// Who may connect at all; checked before everything but the route match.
    pub addresses: Addresses,
    /// Rate limits over all routes together, checked before the firewall. Only the key `"address"` is
    /// possible here, as nobody is identified yet.
    pub rate_limit: Vec<RateLimit>,
    /// Header hygiene of all answers.
    pub response_headers: ResponseHeaders,
    /// What is served, and how. The most specific route wins, not the first.
    pub route: Vec<Route>,
    /// Folder of the configuration file; file names are relative to it.
    #[serde(skip)]
    #[schemars(skip)]
    pub base: PathBuf,
}

impl Config {
    /// A file name of this configuration as a path that can be opened: relative ones start at the
    /// configuration file's folder.
    #[must_use]
    pub fn resolve(&self, file: &Path) -> PathBuf {
        self.base.join(file)
    }
}
