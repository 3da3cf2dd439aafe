//! Telling upstreams who is calling.

use portcullis_http::{Fields, Principal, PrincipalKind, is_value};

/// The fields by which an upstream learns of the caller. What a client sends under these names never passes
/// (`portcullis_http::hygiene`).
const SUBJECT: &str = "x-consumer-subject";
const PROVIDER: &str = "x-consumer-provider";
const KIND: &str = "x-consumer-kind";
const SCOPES: &str = "x-consumer-scopes";
const ROLES: &str = "x-consumer-roles";

/// Writes the caller into the fields of a forwarded request, in place of whatever stands there under these
/// names: `X-Consumer-Subject`, `X-Consumer-Provider`, `X-Consumer-Kind` (`token`, `key`, `certificate`),
/// `X-Consumer-Scopes` (joined by spaces) and `X-Consumer-Roles` (joined by commas). Without a caller they are
/// only removed.
///
/// A value that cannot stand in a field exactly as it is, is left out, never mended: `root\n` must not
/// become `root`. So are scopes with a space or comma and roles with a comma, which would read as two.
pub fn write_identity(caller: Option<&Principal>, out: &mut Fields) {
    out.remove(SUBJECT);
    out.remove(PROVIDER);
    out.remove(KIND);
    out.remove(SCOPES);
    out.remove(ROLES);
    let Some(caller) = caller else { return };
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() && is_value(value.as_bytes()) {
            out.append_parsed(name.as_bytes(), value.as_bytes());
        }
    };
    put(SUBJECT, &caller.subject);
    put(PROVIDER, &caller.provider);
    put(
        KIND,
        match caller.kind {
            PrincipalKind::Token => "token",
            PrincipalKind::Key => "key",
            PrincipalKind::Certificate => "certificate",
        },
    );
    put_list(SCOPES, &caller.scopes, " ", &[' ', ','], out);
    put_list(ROLES, &caller.roles, ",", &[','], out);
}

fn put_list(name: &str, names: &[String], with: &str, without: &[char], out: &mut Fields) {
    let plain = |name: &&str| !name.is_empty() && is_value(name.as_bytes()) && !name.contains(without);
    let mut plain = names.iter().map(String::as_str).filter(plain);
    let Some(first) = plain.next() else { return };
    out.append_written(name.as_bytes(), |out| {
        out.text(first);
        for one in plain {
            out.text(with);
            out.text(one);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn caller(subject: &str, scopes: &[&str], roles: &[&str]) -> Principal {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Principal {
            subject: subject.into(),
            provider: "idp".into(),
            kind: PrincipalKind::Token,
            scopes: own(scopes),
            roles: own(roles),
            claims: serde_json::Map::new(),
        }
    }

    #[test]
    fn g15_what_a_client_says_of_itself_is_replaced() {
        let mut fields = Fields::default();
        for name in ["X-Consumer-Subject", "x-consumer-roles", "X-Consumer-Subject", "Accept"] {
            fields.append(name, "root").unwrap();
        }
        write_identity(None, &mut fields);
        assert_eq!(fields.iter().collect::<Vec<_>>(), [(&b"Accept"[..], &b"root"[..])]);
        write_identity(Some(&caller("7", &["a", "b"], &["x", "y"])), &mut fields);
        for (name, value) in [
            ("x-consumer-subject", "7"),
            ("x-consumer-provider", "idp"),
            ("x-consumer-kind", "token"),
            ("x-consumer-scopes", "a b"),
            ("x-consumer-roles", "x,y"),
        ] {
            assert_eq!(fields.get_all(name).collect::<Vec<_>>(), [value.as_bytes()], "{name}");
        }
    }

    #[test]
    fn g15_nothing_is_mended_into_something_else() {
        let mut fields = Fields::default();
        let odd = caller("root\n", &["a b", "c", "d,e", "\u{7f}"], &["x,y", " z", "Leitung Süd"]);
        write_identity(Some(&odd), &mut fields);
        assert!(!fields.contains("x-consumer-subject"));
        assert_eq!(fields.get("x-consumer-scopes"), Some(&b"c"[..]));
        assert_eq!(fields.get("x-consumer-roles"), Some("Leitung Süd".as_bytes()));
    }

    proptest! {
        #[test]
        fn a_subject_arrives_as_it_is_or_not_at_all(subject in any::<String>(), role in any::<String>()) {
            let mut fields = Fields::default();
            write_identity(Some(&caller(&subject, &[], &[&role])), &mut fields);
            let arrived = fields.get_str("x-consumer-subject");
            prop_assert!(arrived.is_none_or(|text| text == subject));
            prop_assert!(fields.get_str("x-consumer-roles").is_none_or(|text| text == role));
            prop_assert!(fields.iter().all(|(_, value)| is_value(value)));
        }
    }
}
