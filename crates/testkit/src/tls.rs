//! Certificates made for a test.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate authority of a test's own.
///
/// ```
/// use portcullis_testkit::{Answer, Authority, Origin, RawClient};
///
/// let authority = Authority::new();
/// let server = authority.issue(&["backend.test", "127.0.0.1"]);
/// let origin = Origin::builder().tls(server.server_config(&[])).start(|_| Answer::ok("over TLS"));
/// let mut client = RawClient::connect_tls(origin.address(), "backend.test", &authority, &[]).unwrap();
/// client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
/// assert_eq!(client.response().unwrap().text(), "over TLS");
/// ```
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
pub struct Identity {
    /// The certificate in PEM.
    pub certificate_pem: String,
    /// The key in PEM (PKCS#8).
    pub key_pem: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new authority.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Portcullis test authority");
        let pem = params.self_signed(&key).expect("the parameters are valid").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// The authority's certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these names and addresses, good for servers and clients.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names.clone()).expect("the names are valid");
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("test", String::as_str));
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// A certificate as these parameters say, whatever they say.
    ///
    /// # Panics
    /// When they cannot be written down.
    #[must_use]
    pub fn issue_as(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// An authority below this one, as these parameters say: its certificate is part of what its holders show.
    ///
    /// # Panics
    /// When the parameters cannot be written down.
    #[must_use]
    pub fn subordinate(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let pem = params.signed_by(&key, &self.issuer).expect("the authority signs").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A revocation list in PEM: these serial numbers, and the year in which it ends.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn revocation_list(&self, serials: &[u64], until: i32) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("the authority signs").pem().expect("it is PEM")
    }

    /// A client's configuration that trusts this authority alone, shows this identity where it is asked for one, and offers
    /// these protocols.
    ///
    /// # Panics
    /// As [`Authority::client_config`].
    #[must_use]
    pub fn client_config_as(&self, identity: &Identity, protocols: &[&str]) -> rustls::ClientConfig {
        let mut config = self.client_config(protocols);
        config.client_auth_cert_resolver = Arc::new(Shown(identity.certified_key()));
        config
    }

    /// A client's configuration that trusts this authority alone and offers these protocols.
    ///
    /// # Panics
    /// When the authority's certificate is not valid.
    #[must_use]
    pub fn client_config(&self, protocols: &[&str]) -> rustls::ClientConfig {
        let mut config = self.client_config_for(rustls::DEFAULT_VERSIONS);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A client's configuration that trusts this authority alone and speaks these versions.
    ///
    /// # Panics
    /// As [`Authority::client_config`].
    #[must_use]
    pub fn client_config_for(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(&self.pem) {
            roots.add(certificate).expect("the authority's certificate is valid");
        }
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("the provider has these versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

/// Shows a certificate whatever the server says it would take.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Identity {
    /// The identity with these certificates behind its own.
    #[must_use]
    pub fn with_chain(mut self, pem: &str) -> Self {
        self.certificate_pem.push_str(pem);
        self
    }

    /// As rustls wants it; whether key and certificate fit is not looked at.
    fn certified_key(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("the key is valid");
        let key = aws_lc_rs::sign::any_supported_type(&key).expect("the key can sign");
        Arc::new(CertifiedKey::new(certificates(&self.certificate_pem), key))
    }

    /// A server's configuration that offers these protocols.
    ///
    /// # Panics
    /// When certificate and key do not fit.
    #[must_use]
    pub fn server_config(&self, protocols: &[&str]) -> Arc<rustls::ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("the key is valid");
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_no_client_auth()
            .with_single_cert(certificates(&self.certificate_pem), key)
            .expect("certificate and key fit");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Writes `NAME.crt` and `NAME.key` into a folder; where they are.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let paths = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        fs::write(&paths.0, &self.certificate_pem).expect("the certificate can be written");
        fs::write(&paths.1, &self.key_pem).expect("the key can be written");
        paths
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("the PEM is valid")
}
