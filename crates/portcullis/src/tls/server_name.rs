//! Certificates by the name that the client asks for.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use std::collections::HashMap;
use std::sync::Arc;

/// Chooses the certificate by the name the client asks for; the first one serves everybody else.
#[derive(Debug, Default)]
pub(super) struct BySni {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// `*.example.com` stands here as `example.com`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl BySni {
    /// Adds a certificate for these names; names that are there already keep theirs.
    pub(super) fn add(&mut self, names: Vec<String>, pair: Arc<CertifiedKey>) {
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()).or_insert_with(|| pair.clone()),
                None => self.exact.entry(name).or_insert_with(|| pair.clone()),
            };
        }
        self.default.get_or_insert(pair);
    }

    /// The certificate that serves clients which ask for no name, or for one that nobody knows.
    pub(super) fn default_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.default.as_ref()?.cert.first()
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = hello.server_name().and_then(|name| {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let parent = name.split_once('.').map(|(_, parent)| parent);
            self.exact.get(&name).or_else(|| parent.and_then(|parent| self.wildcard.get(parent)))
        });
        chosen.or(self.default.as_ref()).cloned()
    }
}
