//! What every request of one client connection shares.

use portcullis_http::Scheme;
use std::net::SocketAddr;
use std::sync::Arc;

/// One client connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) scheme: Scheme,
    /// The name that the client asked for in the TLS handshake.
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) listener: Arc<str>,
}
