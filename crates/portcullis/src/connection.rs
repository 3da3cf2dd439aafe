//! What every request of one client connection shares.

use crate::tls::TlsPlan;
use portcullis_http::{ClientCertificate, Scheme};
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
    /// The certificate that it showed there.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    /// What the handshake was made with.
    pub(crate) tls: Option<Arc<TlsPlan>>,
    pub(crate) listener: Arc<str>,
}
