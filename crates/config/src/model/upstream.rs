//! `[upstream.NAME]`: a named group of endpoints.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Balance, CircuitBreaker, Destinations, Discovery, Hash, HealthCheck, OutlierDetection, Retry, Sticky,
    TlsVersion,
};
use crate::value::{Duration, HostPort, SubjectName, Timeout};

/// A named group of endpoints that serve the same.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The endpoints. Without them, `discovery` says where they are learnt from.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub endpoints: Vec<Endpoint>,
    /// Where the endpoints are learnt from while the gateway runs.
    pub discovery: Option<Discovery>,
    /// Which addresses names of endpoints, and discovered endpoints, may have.
    #[serde(default)]
    pub destinations: Destinations,
    /// How a request's endpoint is chosen.
    #[serde(default)]
    pub balance: Balance,
    /// What consistent hashing goes by, with `balance = "ring_hash"`.
    pub hash: Option<Hash>,
    /// A cookie by which a client stays with an endpoint, whatever `balance` says.
    pub sticky: Option<Sticky>,
    /// What is spoken to the endpoints.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// TLS to the endpoints. Without it clear text is spoken.
    pub tls: Option<UpstreamTls>,
    /// From the start of a connection to its end: name lookup and TCP. The TLS handshake behind it has `tls_timeout`.
    #[serde(default = "seconds::<3>")]
    pub connect_timeout: Timeout,
    /// The TLS handshake with an endpoint.
    #[serde(default = "seconds::<3>")]
    pub tls_timeout: Timeout,
    /// From the last byte of the request to the head of the response; beyond it the client gets 504.
    #[serde(default = "seconds::<30>")]
    pub response_timeout: Timeout,
    /// Between two pieces of a body, either way.
    #[serde(default = "seconds::<30>")]
    pub idle_timeout: Timeout,
    /// Idle connections kept for each endpoint and thread.
    #[serde(default = "max_idle_connections")]
    #[schemars(range(max = 65_536))]
    pub max_idle_connections: u32,
    /// How long an idle connection is kept. Choose less than the endpoint does.
    #[serde(default = "seconds::<30>")]
    pub idle_connection_timeout: Timeout,
    /// Requests that are tried again.
    #[serde(default)]
    pub retry: Retry,
    /// Active checks of the endpoints. Without it none are made.
    pub health_check: Option<HealthCheck>,
    /// Passive ejection of endpoints that answer worse than others. Without it none are ejected.
    pub outlier_detection: Option<OutlierDetection>,
    /// Caps on what the upstream bears at once, and a breaker for when it fails. Without it there is neither.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How long an endpoint that was added, or came back, takes to get all of its weight: it begins with a tenth. Zero
    /// gives it all of it at once.
    #[serde(default)]
    pub slow_start: Duration,
    /// When less than so many percent of the endpoints are healthy, health is not regarded any more, since the few that
    /// are left could not bear all requests. 0 regards it always, and answers 503 when none is healthy.
    #[serde(default = "panic_threshold")]
    #[schemars(range(max = 100))]
    pub panic_threshold: u8,
}

const fn panic_threshold() -> u8 {
    50
}

const fn seconds<const COUNT: u64>() -> Timeout {
    Timeout::from_secs(COUNT)
}

const fn max_idle_connections() -> u32 {
    64
}

const fn weight() -> u32 {
    1
}

/// One server of an upstream.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Host and port; a name is looked up by the operating system, again after a few seconds and when its connections
    /// fail.
    pub address: HostPort,
    /// Its share of the requests against the other endpoints' weights.
    #[serde(default = "weight")]
    #[schemars(range(min = 1, max = 65_535))]
    pub weight: u32,
    /// Endpoints of the lowest number are asked first. Where less than 72% of them by weight are available, they keep 1.4 times
    /// that share of the requests, and the next number's endpoints get the rest.
    #[serde(default)]
    #[schemars(range(max = 127))]
    pub priority: u32,
}

/// What is spoken to the endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, with prior knowledge in clear.
    Http2,
}

/// TLS to an upstream's endpoints.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name sent as SNI and looked for in the certificate. Without it, the host of the endpoint; where endpoints are
    /// discovered by a name, that name, without the service and protocol of an SRV name.
    pub server_name: Option<String>,
    /// Names of which the certificate must have one as a subject alternative name, in the place of `server_name`: a URI
    /// (`"spiffe://example.org/catalogue"`), a DNS name or an address. Empty: `server_name` alone counts.
    pub san: Vec<SubjectName>,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// PEM file with the authorities that are trusted. Without it, those of the operating system.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate the gateway shows; needs `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file with that certificate's private key.
    pub key: Option<PathBuf>,
}
