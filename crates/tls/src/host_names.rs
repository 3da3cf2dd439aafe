//! The hosts that a server's certificate is good for.

use rustls_pki_types::{CertificateDer, ServerName};

/// A server's certificate, to be asked which hosts it names.
#[derive(Clone, Debug)]
pub struct HostNames(CertificateDer<'static>);

impl HostNames {
    /// Those of this certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        HostNames(certificate.clone().into_owned())
    }

    /// Whether a host, given as in a URL (an IPv6 address in brackets), is among the certificate's names: exactly, by a
    /// wildcard for its first label, or as an address (RFC 9525 §6).
    #[must_use]
    pub fn contain(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host);
        let certificate = webpki::EndEntityCert::try_from(&self.0);
        match (name, certificate) {
            (Ok(name), Ok(certificate)) => certificate.verify_is_valid_for_subject_name(&name).is_ok(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn e2_names_wildcards_and_addresses() {
        let names = ["a.test", "*.wild.test", "127.0.0.1", "::1"].map(str::to_owned);
        let certificate =
            CertificateParams::new(names).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
        let names = HostNames::of(certificate.der());
        for host in ["a.test", "A.TEST", "x.wild.test", "127.0.0.1", "[::1]"] {
            assert!(names.contain(host), "{host}");
        }
        for host in ["b.test", "x.a.test", "wild.test", "x.y.wild.test", "127.0.0.2", "[::2]", "", "a_b.test"]
        {
            assert!(!names.contain(host), "{host}");
        }
    }
}
