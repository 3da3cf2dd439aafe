//! Verifying the certificates of clients.

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{Error, RootCertStore};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use std::fmt;
use std::sync::Arc;

/// What a listener asks of its clients.
#[derive(Clone, Debug)]
pub struct ClientAuthSettings {
    /// Whether a handshake without a certificate fails.
    pub required: bool,
    /// Who may have issued one.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What they have revoked. Where there are any lists, each certificate of a chain but the authority's own must be
    /// covered by one that is not past its `nextUpdate`: what is not known not to be revoked is refused.
    pub revocation_lists: Vec<CertificateRevocationListDer<'static>>,
}

/// Verifies clients' certificates by one set of authorities and revocation lists.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    verifier: Arc<dyn ClientCertVerifier>,
    fingerprint: [u8; 32],
}

/// Why a [`ClientAuth`] cannot be made.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuthError {
    /// An authority's certificate cannot be one, and why.
    Authority(Error),
    /// Authorities or revocation lists cannot be used, and why.
    Verifier(String),
}

impl fmt::Display for ClientAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientAuthError::Authority(why) => {
                write!(f, "a certificate of `ca_file` is no authority's: {why}")
            }
            ClientAuthError::Verifier(why) => write!(f, "client certificates cannot be verified: {why}"),
        }
    }
}

impl std::error::Error for ClientAuthError {}

impl ClientAuth {
    /// Compiles the settings.
    ///
    /// # Errors
    /// Authorities and lists that cannot be used.
    pub fn new(settings: ClientAuthSettings, provider: Arc<CryptoProvider>) -> Result<Self, ClientAuthError> {
        let fingerprint = settings.fingerprint();
        let mut roots = RootCertStore::empty();
        for authority in settings.authorities {
            roots.add(authority).map_err(ClientAuthError::Authority)?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(settings.revocation_lists)
            .enforce_revocation_expiration();
        if !settings.required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|why| ClientAuthError::Verifier(why.to_string()))?;
        Ok(ClientAuth { verifier, fingerprint })
    }

    /// What rustls asks in a handshake.
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }

    /// Whether a handshake without a certificate fails.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    /// Names the settings: the same for the same authorities, lists and demand.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Judges a chain again, its own certificate first: one of a resumed session, or of a connection that began under
    /// other settings.
    ///
    /// # Errors
    /// Why it is not good now.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        match chain.split_first() {
            Some((own, others)) => self.verifier.verify_client_cert(own, others, now).map(|_| ()),
            None if self.is_required() => Err(Error::NoCertificatesPresented),
            None => Ok(()),
        }
    }
}

impl ClientAuthSettings {
    fn fingerprint(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(&[u8::from(self.required)]);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        self.authorities.iter().for_each(|one| part(one));
        part(b"revoked");
        self.revocation_lists.iter().for_each(|one| part(one));
        let mut fingerprint = [0; 32];
        // SHA-256 is 32 bytes long.
        fingerprint.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        fingerprint
    }
}
