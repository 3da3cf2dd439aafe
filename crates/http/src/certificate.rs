//! Certificates of clients.

use crate::Principal;
use std::fmt;
use std::sync::Arc;

/// A certificate that a client proved to hold in the TLS handshake, verified up to an authority of the listener.
#[derive(Clone)]
pub struct ClientCertificate {
    /// What the client sent, in DER, its own certificate first.
    pub chain: Vec<Vec<u8>>,
    /// The URIs among its alternative names.
    pub uris: Vec<String>,
    /// The DNS names among them, in lower case.
    pub dns_names: Vec<String>,
    /// The SHA-256 of the certificate, in hexadecimal digits in lower case.
    pub fingerprint: String,
    /// Who it is, as a caller.
    pub principal: Arc<Principal>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("principal", &self.principal)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}
