//! What an upstream is told.

use crate::{
    BreakerSettings, Caps, DiscoverySettings, HealthCheckSettings, OutlierSettings, RetryPolicy, StickyKey,
    TlsSettings,
};
use portcullis_http::DestinationPolicy;
use portcullis_wire::client::ClientSettings;
use std::fmt;
use std::time::Duration;

/// How a request's endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// One after the other, by weight, spread as evenly as weights allow.
    #[default]
    RoundRobin,
    /// Of two endpoints chosen at random the one with fewer requests in flight for its weight.
    PowerOfTwo,
    /// Of two endpoints chosen at random the one that is likely to answer sooner, by the requests in flight and a moving
    /// average of its latencies that rises at once and falls slowly (Finagle's and linkerd's peak EWMA).
    PeakEwma,
    /// Any, by weight.
    Random,
    /// Requests with the same hash go to the same endpoint; where one goes, no others' keys move.
    RingHash {
        /// Requests in flight that an endpoint may have, in percent of its share of all of them by weight; further ones go
        /// to the next on the ring. `None`: as many as come.
        balance_factor: Option<u32>,
    },
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, with prior knowledge in clear. Nothing else is spoken where it is refused.
    Http2,
}

/// What a breaker watches over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerScope {
    /// Each endpoint has a breaker, and the upstream as a whole.
    #[default]
    Both,
    /// The upstream as a whole.
    Upstream,
    /// Each endpoint.
    Endpoint,
}

/// What keeps calls from an upstream that cannot bear them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreakerSettings {
    /// Caps of the upstream as a whole.
    pub caps: Caps,
    /// Caps of each endpoint; only those of connections and requests hold.
    pub endpoint_caps: Caps,
    /// When calls are refused for how those before them ended.
    pub breaker: Option<BreakerSettings>,
    /// What that watches over.
    pub scope: BreakerScope,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointSettings {
    /// An address, IPv6 without brackets; or a DNS name, which is looked up again every few seconds while connections
    /// are opened, and whenever one could not be. Connections are spread over its addresses.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Its share of requests against the other endpoints' weights; 0 counts as 1.
    pub weight: u32,
    /// Its priority group: 0 is asked first.
    pub priority: u32,
}

impl EndpointSettings {
    /// An endpoint of weight 1 in the first priority group.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        EndpointSettings { host: host.into(), port, weight: 1, priority: 0 }
    }

    /// Host and port as one text, IPv6 in brackets.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// All that an [`Upstream`](crate::Upstream) is told.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Its name in logs and metrics, and the identity under which its state survives a reload.
    pub name: String,
    /// Its endpoints. Where there is none, every call ends in
    /// [`UpstreamFailure::NoEndpoint`](portcullis_http::UpstreamFailure::NoEndpoint).
    pub endpoints: Vec<EndpointSettings>,
    /// How its endpoints are learnt, in the place of those above.
    pub discovery: Option<DiscoverySettings>,
    /// Which addresses the names of endpoints, and what is discovered, may stand for.
    pub destinations: DestinationPolicy,
    /// How a request's endpoint is chosen.
    pub balance: Balance,
    /// What tokens for clients are made with that are to stay with an endpoint
    /// ([`Upstream::sticky_token`](crate::Upstream::sticky_token)). A client's token comes before `balance`.
    pub sticky: Option<StickyKey>,
    /// What is spoken.
    pub protocol: Protocol,
    /// TLS; without it clear text is spoken.
    pub tls: Option<TlsSettings>,
    /// From the start of a connection to its end: name lookup and TCP together. It bounds one try.
    pub connect_timeout: Duration,
    /// The TLS handshake behind it.
    pub tls_timeout: Duration,
    /// Deadlines and caps of one exchange.
    pub client: ClientSettings,
    /// How requests are repeated.
    pub retry: RetryPolicy,
    /// Idle connections kept for each endpoint and thread; 0 keeps none. HTTP/2 has one connection for each
    /// endpoint and thread in any case.
    pub max_idle_connections: usize,
    /// How long an idle connection is kept. Choose less than the endpoint does.
    pub idle_connection_timeout: Duration,
    /// Exchanges after which an HTTP/1 connection is closed. Bounds what a poisoned connection can do, and lets
    /// a load balancer before the endpoint spread connections anew.
    pub max_uses: u32,
    /// Active checks.
    pub health_check: Option<HealthCheckSettings>,
    /// Passive ejection.
    pub outlier_detection: Option<OutlierSettings>,
    /// Caps and breakers.
    pub circuit_breaker: CircuitBreakerSettings,
    /// How long an endpoint that was added, or came back, takes to get all of its weight; zero for no time.
    pub slow_start: Duration,
    /// The share of healthy endpoints, in percent, below which health is not regarded: too few would have to bear what
    /// all did. 0 regards it always.
    pub panic_threshold: u8,
}

impl UpstreamSettings {
    /// Settings with the defaults: round robin, HTTP/1.1 in clear, 3 s to connect, 64 idle connections for 30 s
    /// each, 1000 exchanges a connection; no checks, ejection, caps or breakers, and a panic below 50 % healthy endpoints.
    #[must_use]
    pub fn new(name: impl Into<String>, endpoints: Vec<EndpointSettings>) -> Self {
        UpstreamSettings {
            name: name.into(),
            endpoints,
            discovery: None,
            destinations: DestinationPolicy::default(),
            balance: Balance::default(),
            sticky: None,
            protocol: Protocol::default(),
            tls: None,
            connect_timeout: Duration::from_secs(3),
            tls_timeout: Duration::from_secs(3),
            client: ClientSettings::default(),
            retry: RetryPolicy::default(),
            max_idle_connections: 64,
            idle_connection_timeout: Duration::from_secs(30),
            max_uses: 1000,
            health_check: None,
            outlier_detection: None,
            circuit_breaker: CircuitBreakerSettings::default(),
            slow_start: Duration::ZERO,
            panic_threshold: 50,
        }
    }
}

/// Why settings make no upstream. Display names the upstream and says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants' fields are named for what they hold")]
pub enum SettingsError {
    /// The same address stands twice.
    DuplicateEndpoint { upstream: String, address: String },
    /// Two upstreams have one name.
    DuplicateName { upstream: String },
    /// The host, or the server name given, can stand in no certificate.
    ServerName { upstream: String, name: String },
    /// The file of authorities is no PEM, or holds no usable certificate.
    Authorities { upstream: String, why: String },
    /// The operating system knows no authority.
    NoNativeAuthorities { upstream: String },
    /// Certificate and key do not make an identity.
    Identity { upstream: String, why: String },
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::DuplicateEndpoint { upstream, address } => {
                write!(
                    f,
                    "upstream `{upstream}` names the endpoint {address} twice; give it a weight instead"
                )
            }
            SettingsError::DuplicateName { upstream } => {
                write!(f, "two upstreams are named `{upstream}`; rename one")
            }
            SettingsError::ServerName { upstream, name } => write!(
                f,
                "upstream `{upstream}`: `{name}` is no name that a certificate can be for; set its TLS server name"
            ),
            SettingsError::Authorities { upstream, why } => {
                write!(f, "upstream `{upstream}`: the trusted authorities cannot be read: {why}")
            }
            SettingsError::NoNativeAuthorities { upstream } => write!(
                f,
                "upstream `{upstream}`: the operating system trusts no authority; install its certificates \
                 (ca-certificates) or name a file of authorities"
            ),
            SettingsError::Identity { upstream, why } => {
                write!(f, "upstream `{upstream}`: client certificate and key cannot be used: {why}")
            }
        }
    }
}

impl std::error::Error for SettingsError {}
