//! TLS to endpoints.

use crate::pin::{PinnedVerifier, Subject};
use crate::{Protocol, SettingsError};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fmt;
use std::sync::Arc;

/// A certificate and its key that the gateway shows to endpoints which ask for one.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The chain in PEM, the gateway's own certificate first.
    pub certificates: Vec<u8>,
    /// The private key in PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: Vec<u8>,
}

impl fmt::Debug for ClientIdentity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

/// TLS to an upstream's endpoints: whom to trust and who we are. Verification cannot be turned off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The name sent as SNI and looked for in the certificate. Without it, the host of the endpoint.
    pub server_name: Option<String>,
    /// Names of which the certificate must have one, in the place of that name: URIs, DNS names, addresses.
    pub subjects: Vec<String>,
    /// Whether TLS 1.2 is refused.
    pub tls13_only: bool,
    /// The trusted authorities in PEM. Without it, those of the operating system.
    pub authorities: Option<Vec<u8>>,
    /// Who the gateway is.
    pub identity: Option<ClientIdentity>,
}

impl TlsSettings {
    /// The name that an endpoint at `host` must prove.
    pub(crate) fn server_name(
        &self,
        upstream: &str,
        host: &str,
    ) -> Result<ServerName<'static>, SettingsError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned())
            .map_err(|_| SettingsError::ServerName { upstream: upstream.to_owned(), name: name.to_owned() })
    }

    pub(crate) fn client_config(
        &self,
        upstream: &str,
        protocol: Protocol,
    ) -> Result<Arc<ClientConfig>, SettingsError> {
        let identity_error = |why: String| SettingsError::Identity { upstream: upstream.to_owned(), why };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions: &[_] =
            if self.tls13_only { &[&rustls::version::TLS13] } else { rustls::DEFAULT_VERSIONS };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| identity_error(error.to_string()))?;
        let roots = self.roots(upstream)?;
        let builder = if self.subjects.is_empty() {
            builder.with_root_certificates(roots)
        } else {
            let verifier = PinnedVerifier::new(self.subjects(upstream)?, roots, provider)
                .map_err(|why| SettingsError::Authorities { upstream: upstream.to_owned(), why })?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = certificates(&identity.certificates).map_err(identity_error)?;
                let key = PrivateKeyDer::from_pem_slice(&identity.key)
                    .map_err(|error| identity_error(format!("the key: {error}")))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| identity_error(error.to_string()))?
            }
        };
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        Ok(Arc::new(config))
    }

    fn subjects(&self, upstream: &str) -> Result<Vec<Subject>, SettingsError> {
        let error =
            |name: &String| SettingsError::ServerName { upstream: upstream.to_owned(), name: name.clone() };
        self.subjects.iter().map(|name| Subject::parse(name).ok_or_else(|| error(name))).collect()
    }

    fn roots(&self, upstream: &str) -> Result<RootCertStore, SettingsError> {
        let mut roots = RootCertStore::empty();
        let Some(pem) = &self.authorities else {
            // Single certificates that rustls cannot use are skipped, as every client does with the system's store.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(SettingsError::NoNativeAuthorities { upstream: upstream.to_owned() });
            }
            return Ok(roots);
        };
        let error = |why: String| SettingsError::Authorities { upstream: upstream.to_owned(), why };
        for certificate in certificates(pem).map_err(error)? {
            roots.add(certificate).map_err(|bad| error(bad.to_string()))?;
        }
        Ok(roots)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the certificates: {error}"))?;
    if chain.is_empty() { Err("the PEM holds no certificate".to_owned()) } else { Ok(chain) }
}
