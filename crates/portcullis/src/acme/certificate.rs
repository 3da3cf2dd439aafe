//! Certificates and their keys, as they are ordered, stored and shown.

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A certificate that an authority has issued.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) key: Arc<CertifiedKey>,
    not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Issued {
    /// Reads a private key and a chain from PEM.
    ///
    /// # Errors
    /// When they are none, do not belong together, or are not for all of these names.
    pub(super) fn read(pem: &[u8], domains: &[String], provider: &CryptoProvider) -> Result<Self, String> {
        let private = portcullis_tls::pem::private_key(pem).map_err(|error| error.to_string())?;
        let chain = portcullis_tls::pem::certificates(pem).map_err(|error| error.to_string())?;
        let own = chain.first().ok_or("no certificate")?;
        let names =
            webpki::EndEntityCert::try_from(own).map_err(|error| format!("no certificate: {error}"))?;
        let names: Vec<&str> = names.valid_dns_names().collect();
        if let Some(missing) =
            domains.iter().find(|one| !names.iter().any(|name| name.eq_ignore_ascii_case(one)))
        {
            return Err(format!("it is not for `{missing}`"));
        }
        let (not_before, not_after) = {
            let (_, parsed) = x509_parser::parse_x509_certificate(own)
                .map_err(|error| format!("no certificate: {error}"))?;
            (time(parsed.validity().not_before.timestamp()), time(parsed.validity().not_after.timestamp()))
        };
        let key = CertifiedKey::from_der(chain, private, provider)
            .map_err(|error| format!("certificate and key do not belong together: {error}"))?;
        Ok(Issued { key: Arc::new(key), not_before, not_after })
    }

    /// When to renew it: when two thirds of its life are over, a little earlier at random, so that gateways that were started
    /// together do not ask together.
    pub(super) fn renew_at(&self, random: f64) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life.mul_f64(2.0 / 3.0 - random.clamp(0.0, 1.0) / 30.0)
    }
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// A new key, and the request for a certificate of these names (PKCS #10, in DER).
///
/// # Errors
/// When no key can be made, or a name is none.
pub(super) fn request(domains: &[String]) -> Result<(String, Vec<u8>), String> {
    let key = KeyPair::generate().map_err(|error| format!("no key can be made: {error}"))?;
    let mut params = CertificateParams::new(domains).map_err(|error| error.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(|error| error.to_string())?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// A self-signed certificate: a stopgap, or with the digest of a key authorization the answer to a TLS-ALPN-01 challenge
/// (RFC 8737, section 3).
///
/// # Errors
/// When no key can be made, or a name is none.
pub(super) fn self_signed(
    domains: &[String],
    validation: Option<&[u8; 32]>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, String> {
    let key = KeyPair::generate().map_err(|error| format!("no key can be made: {error}"))?;
    let mut params = CertificateParams::new(domains).map_err(|error| error.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions.extend(validation.map(|digest| CustomExtension::new_acme_identifier(digest)));
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
    // Not `from_der`, which reads the certificate and stops at the validation's critical extension.
    let key = provider.key_provider.load_private_key(private).map_err(|error| error.to_string())?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(domains: &[&str]) -> Vec<u8> {
        let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(domains).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let certificate = params.self_signed(&key).unwrap();
        [key.serialize_pem(), certificate.pem()].concat().into_bytes()
    }

    fn read(pem: &[u8], domains: &[&str]) -> Result<Issued, String> {
        let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
        Issued::read(pem, &domains, &rustls::crypto::aws_lc_rs::default_provider())
    }

    #[test]
    fn a_validation_says_its_digest_critically() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let shown = self_signed(&["a.test".to_owned()], Some(&[7; 32]), &provider).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(shown.cert.first().unwrap()).unwrap();
        let extension =
            parsed.extensions().iter().find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32][..], &[7; 32]].concat());
    }

    #[test]
    fn renewed_when_two_thirds_are_over() {
        let issued = read(&stored(&["a.test", "b.test"]), &["B.test"]).unwrap();
        let day = Duration::from_secs(86_400);
        let after = |random| issued.renew_at(random).duration_since(issued.not_before).unwrap();
        assert_eq!(after(0.0), 60 * day);
        assert_eq!(after(1.0), 57 * day);
        assert_eq!(issued.not_after.duration_since(issued.not_before).unwrap(), 90 * day);
    }

    #[test]
    fn what_cannot_be_shown_is_not_read() {
        let good = stored(&["a.test"]);
        assert!(read(&good, &["a.test", "c.test"]).unwrap_err().contains("c.test"));
        let other = stored(&["a.test"]);
        let cut = |pem: &[u8]| String::from_utf8(pem.to_vec()).unwrap().find("-----BEGIN CERT").unwrap();
        let mixed = [&good[..cut(&good)], &other[cut(&other)..]].concat();
        assert!(read(&mixed, &["a.test"]).unwrap_err().contains("belong together"));
        for broken in [&good[..cut(&good)], &good[cut(&good)..], b"", &good[..good.len() - 40]] {
            assert!(read(broken, &["a.test"]).is_err());
        }
    }
}
