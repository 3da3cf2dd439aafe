//! Endpoints that must be somebody in particular: the subject alternative names of their certificates.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What a certificate may be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Exactly this URI, as SPIFFE asks (X509-SVID, 2): no parsing, no normalising.
    Uri(String),
    /// This DNS name or address, as in any other certificate (RFC 9525); a certificate's own wildcards count.
    Host(ServerName<'static>),
}

impl Subject {
    /// Reads a name; `None` where no certificate can be for it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.contains(':') && text.parse::<IpAddr>().is_err() {
            return Some(Subject::Uri(text.to_owned()));
        }
        ServerName::try_from(text.to_owned()).ok().map(Subject::Host)
    }
}

/// The verifier of the web, but for the name: a certificate must be for one of some names, whatever the endpoint is
/// called. Chains, their validity and signatures are webpki's to judge.
#[derive(Debug)]
pub(crate) struct PinnedVerifier {
    subjects: Vec<Subject>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    signatures: Arc<WebPkiServerVerifier>,
}

impl PinnedVerifier {
    /// A verifier that trusts these roots and takes certificates for one of these names. An error where there are no
    /// roots.
    pub(crate) fn new(
        subjects: Vec<Subject>,
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let roots = Arc::new(roots);
        let signatures =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| error.to_string())?;
        Ok(PinnedVerifier { subjects, roots, provider, signatures })
    }

    fn is_expected(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
    ) -> Result<(), rustls::Error> {
        let read = webpki::EndEntityCert::try_from(certificate)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let is_for = |subject: &Subject| match subject {
            Subject::Uri(uri) => read.valid_uri_names().any(|name| name == uri),
            Subject::Host(name) => verify_server_name(parsed, name).is_ok(),
        };
        if self.subjects.iter().any(is_for) {
            return Ok(());
        }
        let presented = read.valid_uri_names().chain(read.valid_dns_names()).map(str::to_owned).collect();
        let error = OtherError(Arc::new(Unexpected { presented }));
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(error)))
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        self.is_expected(end_entity, &parsed)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

/// A certificate that is sound, but somebody else's.
struct Unexpected {
    presented: Vec<String>,
}

impl fmt::Debug for Unexpected {
    /// As it is displayed: rustls's own errors show others by their `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Unexpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is for none of the names in `san`, but for {:?}", self.presented)
    }
}

impl std::error::Error for Unexpected {}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_testkit::Authority;
    use portcullis_testkit::rcgen::{CertificateParams, SanType};
    use rustls_pki_types::pem::PemObject as _;

    fn verify(
        authority: &Authority,
        trusted: &Authority,
        names: Vec<SanType>,
        subjects: &[&str],
    ) -> Result<(), rustls::Error> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let identity = authority.issue_as(&params);
        let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.pem().as_bytes()).unwrap()).unwrap();
        let subjects = subjects.iter().map(|name| Subject::parse(name).unwrap()).collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = PinnedVerifier::new(subjects, roots, provider).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).map(drop)
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn one_of_the_names_is_enough_and_none_is_not() {
        let authority = Authority::new();
        let is_for = |names: Vec<SanType>, subjects: &[&str]| verify(&authority, &authority, names, subjects);
        let shop = "spiffe://example.org/shop";
        for (names, subjects) in [
            (vec![uri(shop)], &[shop][..]),
            (vec![uri(shop)], &["other.example", shop]),
            (vec![dns("a.example"), uri(shop)], &[shop]),
            (vec![dns("a.example")], &["A.example"]),
            (vec![dns("*.shop.example")], &["a.shop.example"]),
            (vec![SanType::IpAddress("10.0.0.7".parse().unwrap())], &["10.0.0.7"]),
            (vec![SanType::IpAddress("fd00::7".parse().unwrap())], &["fd00::7"]),
        ] {
            assert_eq!(is_for(names.clone(), subjects), Ok(()), "{names:?} {subjects:?}");
        }
        for (names, subjects) in [
            (vec![uri("spiffe://example.org/shop/")], &[shop][..]),
            (vec![uri("spiffe://example.org/shop2")], &[shop]),
            (vec![uri("spiffe://EXAMPLE.org/shop")], &[shop]),
            (vec![uri("spiffe://a.example")], &["a.example"]),
            (vec![dns("a.example")], &["b.example", "10.0.0.7", shop]),
            (vec![dns("10.0.0.7")], &["10.0.0.7"]),
            (vec![dns("*.shop.example")], &["a.b.shop.example"]),
            (vec![], &[shop, "a.example"]),
        ] {
            let error = is_for(names.clone(), subjects).unwrap_err().to_string();
            assert!(
                error.contains("it is for none of the names in `san`"),
                "{names:?} {subjects:?}: {error}"
            );
        }
    }

    #[test]
    fn the_right_name_from_the_wrong_authority() {
        let shop = "spiffe://example.org/shop";
        let error = verify(&Authority::new(), &Authority::new(), vec![uri(shop)], &[shop]).unwrap_err();
        // Test authorities have one name, so that it is the signature by which they differ.
        assert_eq!(error, rustls::Error::InvalidCertificate(CertificateError::BadSignature));
    }

    #[test]
    fn without_authorities_there_is_no_verifier() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        assert!(PinnedVerifier::new(vec![], RootCertStore::empty(), provider).is_err());
    }

    #[test]
    fn names() {
        assert_eq!(Subject::parse("urn:uuid:1"), Some(Subject::Uri("urn:uuid:1".to_owned())));
        assert!(matches!(Subject::parse("fd00::7"), Some(Subject::Host(ServerName::IpAddress(_)))));
        assert!(matches!(Subject::parse("a.example"), Some(Subject::Host(ServerName::DnsName(_)))));
        assert_eq!(Subject::parse("*.example"), None);
    }
}
