//! `[server]`, `[log]`, `[admin]`, `[addresses]`.

use std::net::{Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Destinations;
use crate::value::{ByteSize, Cidr, Duration, HeaderName};

/// The process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Worker threads; each runs its own event loop and keeps its connections for their whole life. Without
    /// it, one for each core.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u16>,
    /// How long requests in flight may take to finish once the drain has begun.
    pub grace: Duration,
    /// How long after SIGTERM everything is served as before while `/readyz` already answers 503, so that balancers stop
    /// sending clients; then the drain begins.
    pub shutdown_delay: Duration,
    /// How long connections without a request are kept once the drain has begun. Who asks within it gets its answer, with
    /// `Connection: close`; a connection that is closed between requests may cost its client one that is under way.
    pub keepalive_grace: Duration,
    /// How long a WebSocket or an answer that streams may go on when a reload takes its route away, or changes who may use
    /// the route or what answers it. When the process drains, WebSockets and event streams (`text/event-stream`) get as
    /// much, within `grace`. Then a WebSocket is closed with 1001, an event stream ended, any other answer broken off.
    pub stream_grace: Duration,
    /// Bytes of request and response bodies that the process holds at most, all requests together. When they
    /// are spent, requests that need a buffer get 503.
    pub body_budget: ByteSize,
    /// Peers whose `Forwarded` and `X-Forwarded-*` are believed: the load balancers in front. The client's
    /// address is the last one not in this list. Empty: nobody is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// The header in which those proxies say whom they forward for. The other one is not read, as a proxy that does not set
    /// it passes on what its client wrote there. Where the header is missing or cannot be read, the client's address is that
    /// of the nearest hop that is known.
    pub forwarded_header: ForwardedHeader,
    /// The gateway's name in `Via` and in problem documents. It never shows a version.
    #[schemars(schema_with = "crate::value::name_schema")]
    pub name: String,
    /// Open client connections over all listeners; further ones wait in the kernel's queue. Without it, three
    /// quarters of the files that the process may open (the rest is for upstreams), and at most 50,000.
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// Memory of the process from which load is shed, in steps: at 92 % no body is held any more and connections are
    /// not kept open, at 95 % requests get 503, at 98 % connections are refused. Without it, the limit of the
    /// control group (cgroup v2 `memory.max`), or none where that has none.
    pub memory_limit: Option<ByteSize>,
    /// The header in which clients say how many milliseconds they wait, such as `"x-request-timeout-ms"`: a request ends
    /// with 504 when they are over, or when the route's `timeouts.total` is. Upstreams are told in the same header what is
    /// left, anew with each try. Without it nobody is asked and nobody told. Routes with `grpc` heed `grpc-timeout` anyhow.
    pub deadline_header: Option<HeaderName>,
    /// Which addresses the gateway connects to for itself, where names decide: those in `jwks_url` and
    /// `acme.directory_url`, and whatever an ACME directory refers to. Upstreams have `destinations` of their own.
    pub destinations: Destinations,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            threads: None,
            grace: Duration::from_secs(30),
            shutdown_delay: Duration::default(),
            keepalive_grace: Duration::from_secs(1),
            stream_grace: Duration::from_secs(10),
            body_budget: ByteSize::from_mib(256),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::XForwardedFor,
            name: "portcullis".to_owned(),
            max_connections: None,
            memory_limit: None,
            deadline_header: None,
            destinations: Destinations::default(),
        }
    }
}

/// A header in which proxies say whom they forward for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`; scheme and host come from `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), with its `for`, `proto` and `host`.
    #[serde(rename = "forwarded")]
    Forwarded,
}

/// Logging, always to standard error.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How lines are written.
    pub format: LogFormat,
    /// The least important lines that are written.
    pub level: LogLevel,
    /// Whether one line is written for each request.
    pub access: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: LogLevel::Info, access: true }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Importance of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What should be looked at.
    Warn,
    /// What happens: start, reload, requests.
    Info,
    /// Why it happens.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// The level as `tracing` filters write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The admin listener: `/metrics`, `/healthz`, `/readyz`. HTTP/1.1 in clear, no authentication.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address it listens on.
    #[schemars(schema_with = "crate::value::socket_schema")]
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)) }
    }
}

/// Which client addresses may come. `deny` wins over `allow`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Addresses {
    /// Only these may come; empty: everybody.
    pub allow: Vec<Cidr>,
    /// These may not come.
    pub deny: Vec<Cidr>,
}
