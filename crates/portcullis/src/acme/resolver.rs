//! Which certificate a handshake gets, where some come by ACME.

use super::Managed;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// The protocol in which authorities validate TLS-ALPN-01 (RFC 8737).
pub(super) const ALPN: &[u8] = b"acme-tls/1";

/// Whether a finished handshake was a validation: then nothing may follow (RFC 8737, section 4).
pub(crate) fn is_validation(protocol: Option<&[u8]>) -> bool {
    protocol == Some(ALPN)
}

/// The managed certificate for its names, and those that the configuration names for all others; validations get what
/// their pending order wants.
#[derive(Debug)]
pub(crate) struct Resolver<R> {
    managed: Arc<Managed>,
    /// Certificates from files; it may have none.
    files: R,
}

impl<R> Resolver<R> {
    pub(crate) fn new(managed: Arc<Managed>, files: R) -> Self {
        Resolver { managed, files }
    }
}

impl<R: ResolvesServerCert> ResolvesServerCert for Resolver<R> {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_owned);
        let validates =
            hello.alpn().is_some_and(|mut offered| offered.next() == Some(ALPN) && offered.next().is_none());
        if validates {
            return self.managed.validations.get(&name?);
        }
        let ours = name.is_some_and(|name| self.managed.covers(&name)) && self.managed.current().is_some();
        let file = if ours { None } else { self.files.resolve(hello) };
        Some(file.unwrap_or_else(|| self.managed.certificate()))
    }
}
