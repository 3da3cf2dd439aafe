//! When certificates and revocation lists are good.

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

/// Whether a certificate is good at a moment, by its own dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is.
    Valid,
    /// `notAfter` has passed.
    Expired,
    /// `notBefore` is still to come.
    NotYetValid,
}

/// Whether a certificate is good now, by its own dates (RFC 5280 §4.1.2.5); one that cannot be read is not.
#[must_use]
pub fn validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Validity {
    let now = seconds(now);
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) if now < parsed.validity().not_before.timestamp() => Validity::NotYetValid,
        Ok((_, parsed)) if now <= parsed.validity().not_after.timestamp() => Validity::Valid,
        _ => Validity::Expired,
    }
}

/// Whether the issuer of a revocation list has promised a newer one by now (`nextUpdate`, RFC 5280 §5.1.2.5).
#[must_use]
pub fn is_stale(list: &CertificateRevocationListDer<'_>, now: UnixTime) -> bool {
    let parsed = CertificateRevocationList::from_der(list);
    parsed.is_ok_and(|(_, list)| list.next_update().is_some_and(|next| next.timestamp() <= seconds(now)))
}

fn seconds(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
