//! Callers that are known by their client certificate.

use portcullis_http::{ClientCertificate, Principal, Rejection};
use std::sync::Arc;

/// The client certificate that a route wants. That it is good (issued by an authority of the listener, within its dates, not
/// revoked) was found in the handshake already.
#[derive(Clone, Debug, Default)]
pub struct CertificateRule {
    /// Whether there must be one.
    pub required: bool,
    /// URIs of alternative names. Of all good certificates those pass that have one of these, of `dns_names` or of
    /// `fingerprints`; all of them, where all three lists are empty.
    pub uris: Vec<String>,
    /// DNS names of alternative names, in lower case.
    pub dns_names: Vec<String>,
    /// SHA-256 fingerprints, in hexadecimal digits in lower case.
    pub fingerprints: Vec<String>,
}

impl CertificateRule {
    /// The caller whom the certificate names; `None` where there is none and needs to be none.
    ///
    /// # Errors
    /// [`Rejection::CertificateRequired`] where there is none but should be, [`Rejection::Forbidden`] for one that is not
    /// listed.
    pub fn judge(
        &self,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Option<Arc<Principal>>, Rejection> {
        match certificate {
            None if self.required => Err(Rejection::CertificateRequired),
            None => Ok(None),
            Some(certificate) if self.lists(certificate) => Ok(Some(certificate.principal.clone())),
            Some(_) => Err(Rejection::Forbidden { challenge: None }),
        }
    }

    fn lists(&self, certificate: &ClientCertificate) -> bool {
        let any = self.uris.is_empty() && self.dns_names.is_empty() && self.fingerprints.is_empty();
        any || self.uris.iter().any(|uri| certificate.uris.contains(uri))
            || self.dns_names.iter().any(|name| certificate.dns_names.contains(name))
            || self.fingerprints.contains(&certificate.fingerprint)
    }
}
