//! `[[listener]]`: a socket that takes requests.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Acme, ClientAuth};
use crate::value::{ByteSize, Cidr, Timeout};

/// A socket that takes requests, with or without TLS.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its name in logs and metrics.
    #[schemars(schema_with = "crate::value::name_schema")]
    pub name: String,
    /// Address it listens on.
    #[schemars(schema_with = "crate::value::socket_schema")]
    pub address: SocketAddr,
    /// Whether HTTP/2 is spoken as well: by ALPN over TLS, with prior knowledge in clear.
    #[serde(default = "yes")]
    pub http2: bool,
    /// TLS. Without it the listener speaks clear text.
    pub tls: Option<ListenerTls>,
    /// The PROXY protocol (version 1 or 2): load balancers in front say whom they connect for. With it, only they
    /// can connect, and every connection must begin with its header.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How long the listener waits for clients.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
    /// How much the listener takes from clients.
    #[serde(default)]
    pub limits: ListenerLimits,
}

const fn yes() -> bool {
    true
}

/// Load balancers that announce their clients by the PROXY protocol. The address that they announce is the client's
/// for limits, address lists, logs and forwarding fields.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Networks of the load balancers. Connections from anywhere else are closed.
    #[schemars(length(min = 1))]
    pub from: Vec<Cidr>,
    /// From the accepted connection to the end of the header.
    #[serde(default = "proxy_timeout")]
    pub timeout: Timeout,
}

const fn proxy_timeout() -> Timeout {
    Timeout::from_secs(4)
}

/// TLS of a listener, by rustls: no renegotiation, no compression, no early data.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificates; the client's SNI chooses by the names in them, the first one serves everybody else.
    /// Needed unless there is `acme`.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// A certificate that the gateway orders itself.
    pub acme: Option<Acme>,
    /// The oldest version spoken.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Client certificates (mutual TLS). Without it none is asked for.
    pub client_auth: Option<ClientAuth>,
}

/// A certificate chain and its private key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file with the certificate and its intermediates, the server's own first.
    pub certificate: PathBuf,
    /// PEM file with the private key (PKCS#8, PKCS#1 or SEC1), not encrypted.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246) with modern suites, and TLS 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 only (RFC 8446).
    #[serde(rename = "1.3")]
    Tls13,
}

/// Deadlines on the client's side of a connection.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTimeouts {
    /// From the accepted connection to the finished TLS handshake.
    pub handshake: Timeout,
    /// From the accepted connection to the client's first byte, and after the TLS handshake to the first byte of a
    /// request.
    pub first_byte: Timeout,
    /// From the first byte of a request's head to its last.
    pub header: Timeout,
    /// How long a connection is kept between two requests.
    pub idle: Timeout,
    /// Between two pieces of a request's body.
    pub body: Timeout,
    /// How long a client may take less of a response that waits for it than `limits.min_send_rate`, or nothing at
    /// all, before it is cut off.
    pub write: Timeout,
    /// How long a request's body may come slower than `limits.min_body_rate`.
    pub slow_body: Timeout,
    /// How old a connection gets; it is closed after the answer at hand then, so that load spreads again.
    pub max_connection_age: Timeout,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            handshake: Timeout::from_secs(8),
            first_byte: Timeout::from_secs(4),
            header: Timeout::from_secs(10),
            idle: Timeout::from_secs(60),
            body: Timeout::from_secs(30),
            write: Timeout::from_secs(10),
            slow_body: Timeout::from_secs(10),
            max_connection_age: Timeout::from_secs(60 * 60),
        }
    }
}

/// Bounds on what a client may send and hold open.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimits {
    /// Request line and header fields together; more is refused with 431.
    pub max_head: ByteSize,
    /// Number of header fields; more is refused with 431.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_fields: u32,
    /// Length of the request target; more is refused with 414.
    pub max_target: ByteSize,
    /// Bytes a second that a request's body must bring on average; slower ones get 408. `"0B"`: no such bound.
    pub min_body_rate: ByteSize,
    /// Bytes a second that a client must take of a response that waits for it, over `timeouts.write`; slower ones are
    /// cut off. `"0B"`: it must only take something.
    pub min_send_rate: ByteSize,
    /// Open connections of this listener. Without it, only `server.max_connections` counts.
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// Open connections of one client: an IPv4 address, or an IPv6 /64. Further ones are closed at once. Peers in
    /// `server.trusted_proxies` are not counted. Without it there is no such bound.
    #[schemars(range(min = 1))]
    pub max_connections_per_address: Option<u32>,
    /// HTTP/2 streams open at once on one connection.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_concurrent_streams: u32,
    /// Requests on one connection before it is closed, so that load spreads again.
    #[schemars(range(min = 1))]
    pub max_requests_per_connection: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_head: ByteSize::from_kib(32),
            max_fields: 100,
            max_target: ByteSize::from_kib(8),
            min_body_rate: ByteSize::from_bytes(500),
            min_send_rate: ByteSize::from_bytes(240),
            max_connections: None,
            max_connections_per_address: None,
            max_concurrent_streams: 100,
            max_requests_per_connection: 1000,
        }
    }
}
