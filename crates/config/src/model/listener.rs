//! `[[listener]]`: a socket that takes requests.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Acme, ClientAuth};
use crate::value::{ByteSize, Timeout};

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
    /// From the accepted connection (after the TLS handshake) to the first byte of a request.
    pub first_byte: Timeout,
    /// From the first byte of a request's head to its last.
    pub header: Timeout,
    /// How long a connection is kept between two requests.
    pub idle: Timeout,
    /// Between two pieces of a request's body.
    pub body: Timeout,
    /// How long a client may take nothing of a response before it is cut off.
    pub write: Timeout,
    /// How long a request's body may come slower than `limits.min_body_rate`.
    pub slow_body: Timeout,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            handshake: Timeout::from_secs(10),
            first_byte: Timeout::from_secs(5),
            header: Timeout::from_secs(10),
            idle: Timeout::from_secs(60),
            body: Timeout::from_secs(30),
            write: Timeout::from_secs(30),
            slow_body: Timeout::from_secs(10),
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
    /// Open connections of this listener. Without it, only `server.max_connections` counts.
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
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
            max_connections: None,
            max_concurrent_streams: 100,
            max_requests_per_connection: 1000,
        }
    }
}
