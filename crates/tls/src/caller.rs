//! Whom a client's certificate names.

use crate::distinguished_name;
use aws_lc_rs::digest::{SHA256, digest};
use portcullis_http::{ClientCertificate, Principal, PrincipalKind};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Whom a chain names that a client has shown, its own certificate first; `None` where that cannot be read. The chain must
/// have been verified. `provider` is by whom it was.
///
/// The caller's subject is the first URI (such as a SPIFFE ID) of the certificate's alternative names, else its first DNS
/// name, else its first mail address, else its distinguished name (RFC 4514). As claims of the caller stand `sub`,
/// `subject`, `issuer`, `serial`, `fingerprint` (SHA-256) and, in `san`, all its alternative names: `uri`, `dns`, `email`.
#[must_use]
pub fn client_certificate(chain: &[CertificateDer<'_>], provider: &str) -> Option<ClientCertificate> {
    let own = chain.first()?;
    let (_, parsed) = X509Certificate::from_der(own).ok()?;
    let names = Names::of(&parsed)?;
    let subject = distinguished_name::text(parsed.subject());
    let name = [&names.uris, &names.dns_names, &names.emails]
        .into_iter()
        .find_map(|list| list.first().cloned())
        .or_else(|| (!subject.is_empty()).then(|| subject.clone()))?;
    let fingerprint = hexadecimal(digest(&SHA256, own).as_ref());
    let claims = json!({
        "sub": name,
        "subject": subject,
        "issuer": distinguished_name::text(parsed.issuer()),
        "serial": hexadecimal(parsed.raw_serial()),
        "fingerprint": fingerprint,
        "san": { "uri": names.uris, "dns": names.dns_names, "email": names.emails },
    });
    let claims = match claims {
        Value::Object(claims) => claims,
        _ => Map::new(),
    };
    Some(ClientCertificate {
        chain: chain.iter().map(|one| one.as_ref().to_vec()).collect(),
        uris: names.uris,
        dns_names: names.dns_names,
        fingerprint,
        principal: Arc::new(Principal {
            subject: name,
            provider: provider.to_owned(),
            kind: PrincipalKind::Certificate,
            scopes: Vec::new(),
            roles: Vec::new(),
            claims,
        }),
    })
}

/// The subject alternative names that say who somebody is (RFC 5280 §4.2.1.6).
#[derive(Default)]
struct Names {
    uris: Vec<String>,
    dns_names: Vec<String>,
    emails: Vec<String>,
}

impl Names {
    /// Only visible ASCII, as the extension's IA5String would have it: anything else is no name that could be compared.
    /// `None` where the extension cannot be read: then nobody knows whom the certificate is for.
    fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let mut names = Names::default();
        let plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        let extension = certificate.subject_alternative_name().ok()?;
        for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) if plain(uri) => names.uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) if plain(name) => {
                    names.dns_names.push(name.to_ascii_lowercase());
                }
                GeneralName::RFC822Name(name) if plain(name) => names.emails.push((*name).to_owned()),
                _ => {}
            }
        }
        Some(names)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn named(names: Vec<SanType>) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "robot");
        params.subject_alt_names = names;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        client_certificate(std::slice::from_ref(certificate.der()), "tls:edge").unwrap()
    }

    #[test]
    fn the_subject_is_the_most_telling_name() {
        let uri = || SanType::URI("spiffe://example.test/billing".try_into().unwrap());
        let dns = || SanType::DnsName("Billing.Example.test".try_into().unwrap());
        let mail = || SanType::Rfc822Name("a@example.test".try_into().unwrap());
        for (names, subject) in [
            (vec![mail(), dns(), uri()], "spiffe://example.test/billing"),
            (vec![mail(), dns()], "billing.example.test"),
            (vec![mail()], "a@example.test"),
            (vec![], "CN=robot"),
        ] {
            let certificate = named(names);
            let caller = &certificate.principal;
            assert_eq!((caller.subject.as_str(), caller.provider.as_str()), (subject, "tls:edge"));
            assert_eq!(caller.claim_text("sub").as_deref(), Some(subject));
            assert_eq!(caller.claim_text("subject").as_deref(), Some("CN=robot"));
            assert_eq!(certificate.fingerprint.len(), 64);
        }
        let all = named(vec![mail(), dns(), uri()]);
        assert_eq!(all.principal.claim("san.dns").unwrap(), &json!(["billing.example.test"]));
    }
}
