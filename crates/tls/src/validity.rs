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

/// When a certificate expires (`notAfter`), in seconds since 1970; `None` where that cannot be read.
#[must_use]
pub fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// By when the issuer of a revocation list has promised a newer one (`nextUpdate`, RFC 5280 §5.1.2.5), in seconds since
/// 1970; `None` where it has not, or where that cannot be read.
#[must_use]
pub fn next_update(list: &CertificateRevocationListDer<'_>) -> Option<i64> {
    let (_, parsed) = CertificateRevocationList::from_der(list).ok()?;
    parsed.next_update().map(|next| next.timestamp())
}

/// Whether a revocation list is past its `nextUpdate`.
#[must_use]
pub fn is_stale(list: &CertificateRevocationListDer<'_>, now: UnixTime) -> bool {
    next_update(list).is_some_and(|next| next <= seconds(now))
}

fn seconds(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
