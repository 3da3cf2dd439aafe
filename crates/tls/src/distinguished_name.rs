//! Distinguished names as text.

use std::fmt::Write as _;
use x509_parser::der_parser::asn1_rs::oid;
use x509_parser::der_parser::oid::Oid;
use x509_parser::x509::X509Name;

/// A distinguished name as RFC 4514 writes it: last part first, and whatever could be taken for the next part is escaped,
/// so that no two names have the same text.
pub(crate) fn text(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        if !text.is_empty() {
            text.push(',');
        }
        for (at, attribute) in part.iter().enumerate() {
            if at > 0 {
                text.push('+');
            }
            match (keyword(attribute.attr_type()), attribute.as_str()) {
                (Some(keyword), Ok(value)) => {
                    let _ = write!(text, "{keyword}=");
                    escape(value, &mut text);
                }
                // RFC 4514 §2.4: what has no keyword or is no string stands in hexadecimal.
                (keyword, _) => {
                    let number = || attribute.attr_type().to_id_string();
                    let _ = write!(text, "{}=#", keyword.map_or_else(number, str::to_owned));
                    for byte in attribute.attr_value().data {
                        let _ = write!(text, "{byte:02x}");
                    }
                }
            }
        }
    }
    text
}

/// The keywords of RFC 4514 §3 and those everybody knows.
fn keyword(kind: &Oid<'_>) -> Option<&'static str> {
    let known = [
        (oid!(2.5.4.3), "CN"),
        (oid!(2.5.4.5), "serialNumber"),
        (oid!(2.5.4.6), "C"),
        (oid!(2.5.4.7), "L"),
        (oid!(2.5.4.8), "ST"),
        (oid!(2.5.4.9), "STREET"),
        (oid!(2.5.4.10), "O"),
        (oid!(2.5.4.11), "OU"),
        (oid!(0.9.2342.19200300.100.1.1), "UID"),
        (oid!(0.9.2342.19200300.100.1.25), "DC"),
        (oid!(1.2.840.113549.1.9.1), "emailAddress"),
    ];
    known.iter().find(|(one, _)| one == kind).map(|(_, keyword)| *keyword)
}

/// RFC 4514 §2.4; control characters as well, so that the text may stand in logs and header fields.
fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => {
                out.push('\\');
                out.push(character);
            }
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(out, "\\{byte:02X}");
                }
            }
            plain => out.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    fn subject(parts: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*value).to_owned()));
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
        text(parsed.subject())
    }

    #[test]
    fn parts_stand_in_reverse_and_cannot_be_forged() {
        assert_eq!(
            subject(&[
                (DnType::CountryName, "DE"),
                (DnType::OrganizationName, "A"),
                (DnType::CommonName, "b")
            ]),
            "CN=b,O=A,C=DE"
        );
        assert_eq!(subject(&[(DnType::CommonName, "x,O=Bank")]), "CN=x\\,O\\=Bank");
        assert_eq!(subject(&[(DnType::CommonName, " #\n\u{85}é ")]), "CN=\\ #\\0A\\C2\\85é\\ ");
        assert_eq!(subject(&[(DnType::CommonName, "#1")]), "CN=\\#1");
        let odd = DnType::CustomDnType(vec![1, 2, 3, 4]);
        assert_eq!(subject(&[(odd, "ab")]), "1.2.3.4=#6162");
        assert_eq!(subject(&[]), "");
    }
}
