//! Reading PEM (RFC 7468): what is wrong with a file is said by its line, and never by what stands there.

use rustls_pki_types::pem::{SectionKind, from_buf};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer,
    PrivateSec1KeyDer,
};
use std::fmt;

/// Why a PEM text cannot be used. Holds nothing of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemError {
    /// The line at which the section in question begins, counted from 1; `None` where it is the whole text.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: PemProblem,
}

/// What is wrong with a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PemProblem {
    /// It looks like DER, the same thing without its text form.
    Der,
    /// A section does not end, or its base64 is broken.
    Section,
    /// It holds none of what is wanted, but perhaps something else.
    Absent {
        /// What is wanted.
        wanted: &'static str,
        /// What stands there instead.
        found: Option<&'static str>,
    },
    /// The private key is encrypted.
    Encrypted,
    /// What says it is a certificate is none that can be read.
    Certificate,
    /// What says it is a revocation list is none that can be used, and why.
    RevocationList(webpki::Error),
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match &self.problem {
            PemProblem::Der => f.write_str("this is DER, not PEM; convert it (`openssl … -inform DER`)"),
            PemProblem::Section => f.write_str("a PEM section is broken or does not end"),
            PemProblem::Absent { wanted, found: Some(found) } => {
                write!(f, "holds no {wanted}, but a {found}")
            }
            PemProblem::Absent { wanted, found: None } => write!(f, "holds no {wanted}"),
            PemProblem::Encrypted => {
                f.write_str("the private key is encrypted; decrypt it (`openssl pkey`) and guard the file")
            }
            PemProblem::Certificate => f.write_str("this is no X.509 certificate"),
            PemProblem::RevocationList(why) => write!(f, "this revocation list cannot be used: {why:?}"),
        }
    }
}

impl std::error::Error for PemError {}

/// The certificates of a text, in its order; sections of other kinds are passed over. Each one parses (RFC 5280).
///
/// # Errors
/// [`PemError`], also where there is no certificate at all.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut found = Vec::new();
    for section in of_kind(text, "certificate", |kind| kind == SectionKind::Certificate)? {
        let certificate = CertificateDer::from(section.der);
        // An authority's may be of version 1, which is no end entity's.
        if webpki::EndEntityCert::try_from(&certificate).is_err()
            && webpki::anchor_from_trusted_cert(&certificate).is_err()
        {
            return Err(PemError { line: Some(section.line), problem: PemProblem::Certificate });
        }
        found.push(certificate);
    }
    Ok(found)
}

/// The first private key of a text: PKCS #8, PKCS #1 or SEC 1, not encrypted.
///
/// # Errors
/// [`PemError`], also where there is no key.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let encrypted = [&b"-----BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
    if let Some(at) = encrypted.iter().find_map(|mark| find(text, mark)) {
        return Err(PemError { line: Some(line_at(text, at)), problem: PemProblem::Encrypted });
    }
    let is_key = |kind| {
        matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
    };
    let absent = PemError { line: None, problem: PemProblem::Absent { wanted: "private key", found: None } };
    let first = of_kind(text, "private key", is_key)?.into_iter().next().ok_or(absent)?;
    Ok(match first.kind {
        SectionKind::RsaPrivateKey => PrivatePkcs1KeyDer::from(first.der).into(),
        SectionKind::EcPrivateKey => PrivateSec1KeyDer::from(first.der).into(),
        _ => PrivatePkcs8KeyDer::from(first.der).into(),
    })
}

/// The certificate revocation lists of a text. Each one parses, is complete (no delta) and direct, as RFC 5280 §5 has it.
///
/// # Errors
/// [`PemError`], also where there is no list at all.
pub fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let mut found = Vec::new();
    for section in of_kind(text, "revocation list", |kind| kind == SectionKind::Crl)? {
        if let Err(why) = webpki::OwnedCertRevocationList::from_der(&section.der) {
            return Err(PemError { line: Some(section.line), problem: PemProblem::RevocationList(why) });
        }
        found.push(section.der.into());
    }
    Ok(found)
}

struct Section {
    line: usize,
    kind: SectionKind,
    der: Vec<u8>,
}

/// The sections of the wanted kind, of which there is at least one.
fn of_kind(
    text: &[u8],
    wanted: &'static str,
    is_wanted: impl Fn(SectionKind) -> bool,
) -> Result<Vec<Section>, PemError> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    // A DER structure: a SEQUENCE whose length takes more than one byte.
    if text.starts_with(&[0x30]) && text.get(1).is_some_and(|length| *length >= 0x80) {
        return Err(PemError { line: None, problem: PemProblem::Der });
    }
    let (mut rest, mut sections, mut other) = (text, Vec::new(), None);
    loop {
        let at = text.len() - rest.len();
        let begin = find(rest, BEGIN).map_or(at, |from| at + from);
        let line = line_at(text, begin);
        match from_buf(&mut rest) {
            Err(_) => return Err(PemError { line: Some(line), problem: PemProblem::Section }),
            Ok(None) => break,
            Ok(Some((kind, der))) if is_wanted(kind) => sections.push(Section { line, kind, der }),
            Ok(Some((kind, _))) => other = other.or(name(kind)),
        }
    }
    if sections.is_empty() {
        return Err(PemError { line: None, problem: PemProblem::Absent { wanted, found: other } });
    }
    Ok(sections)
}

fn name(kind: SectionKind) -> Option<&'static str> {
    match kind {
        SectionKind::Certificate => Some("certificate"),
        SectionKind::PublicKey => Some("public key"),
        SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
            Some("private key")
        }
        SectionKind::Crl => Some("revocation list"),
        SectionKind::Csr => Some("certificate request"),
        _ => None,
    }
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|window| window == mark)
}

fn line_at(text: &[u8], at: usize) -> usize {
    1 + text.iter().take(at).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn issued() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn what_is_there_is_read_and_the_rest_passed_over() {
        let (certificate, key) = issued();
        let both = format!("# a comment\n{certificate}{key}{certificate}");
        assert_eq!(certificates(both.as_bytes()).unwrap().len(), 2);
        assert!(private_key(both.as_bytes()).is_ok());
    }

    #[test]
    fn e10_what_is_wrong_is_said_by_its_line() {
        let (certificate, key) = issued();
        let said = |result: Result<(), PemError>| result.unwrap_err().to_string();
        let chain = |text: &str| said(certificates(text.as_bytes()).map(drop));
        assert_eq!(chain(""), "holds no certificate");
        assert_eq!(chain(&key), "holds no certificate, but a private key");
        assert_eq!(chain("\u{30}"), "holds no certificate");
        let cut = &certificate[..certificate.len() - 20];
        assert_eq!(chain(&format!("\n\n{cut}")), "line 3: a PEM section is broken or does not end");
        let wrong = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let after = certificate.lines().count() + 1;
        assert_eq!(
            chain(&format!("{certificate}{wrong}")),
            format!("line {after}: this is no X.509 certificate")
        );
        assert!(said(certificates(&[0x30, 0x82, 1, 1]).map(drop)).starts_with("this is DER"));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(said(private_key(encrypted.as_bytes()).map(drop)).contains("encrypted"));
        assert_eq!(
            said(private_key(certificate.as_bytes()).map(drop)),
            "holds no private key, but a certificate"
        );
        let empty = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
        assert!(
            said(revocation_lists(empty.as_bytes()).map(drop)).starts_with("line 1: this revocation list")
        );
    }
}
