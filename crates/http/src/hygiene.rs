//! Which fields pass an intermediary, and which it writes itself.
//!
//! A forwarded message is built anew: [`request`] and [`response`] drop what belongs to one hop (RFC 9110
//! §7.6.1), what the gateway alone may say, and what rewrites requests behind its back; the caller then
//! frames the message itself.

mod kind;

use crate::fields::bit;
use crate::{Fields, Malformed, RequestHead, ResponseHead};
use kind::{HOP_BY_HOP, Kind, fold, kind};

/// Whether a field belongs to one hop only.
#[must_use]
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    kind(name, false) == Some(Kind::HopByHop)
}

/// Whether a trailer field may never pass: it would change framing, routing or identity (RFC 9110 §6.5.1).
#[must_use]
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    kind(name, true).is_some()
}

/// Refuses names that a backend may confuse with others: with `_`, `.` and the like folded to `-` (as CGI, WSGI and
/// others do) such a name stands for a field that decides framing, routing or identity, or for another field of the same
/// request.
///
/// # Errors
/// [`Malformed::FieldName`] at the first such name.
pub fn check_names(fields: &Fields) -> Result<(), Malformed> {
    if fields.is_plainly_named() {
        return Ok(());
    }
    // Without a branch for each byte: nearly all names are plain.
    let plain = |name: &[u8]| {
        name.iter().fold(true, |plain, byte| plain & (byte.is_ascii_alphanumeric() | (*byte == b'-')))
    };
    let confusing = |name: &[u8]| {
        if plain(name) {
            return false;
        }
        let twin = |other: &[u8]| {
            other.len() == name.len()
                && !other.eq_ignore_ascii_case(name)
                && other.iter().zip(name).all(|(a, b)| fold(*a) == fold(*b))
        };
        kind(name, true).is_some() || fields.iter().any(|(other, _)| twin(other))
    };
    if fields.iter().any(|(name, _)| confusing(name)) { Err(Malformed::FieldName) } else { Ok(()) }
}

/// Fields that may stand once and of which some readers take the first, others the last (RFC 9110 §5.3): who asks, and
/// what the body is.
const ONCE: [&str; 2] = ["authorization", "content-type"];

/// Refuses a request in which one of them stands twice. `Host` and the lengths are the framing's to judge.
///
/// # Errors
/// [`Malformed::Duplicate`].
pub fn check_once(fields: &Fields) -> Result<(), Malformed> {
    let twice = |name: &&str| fields.get_all(*name).nth(1).is_some();
    if ONCE.iter().any(twice) { Err(Malformed::Duplicate) } else { Ok(()) }
}

/// Drops from a client's request what may not pass, before any guard reads it. The fields that `Connection`
/// names go first, as RFC 9110 §7.6.1 asks. What proxies say of the client stays where the peer is a `trusted` one.
///
/// # Errors
/// [`Malformed::Field`] if `Connection` names a field that would let a client unmake our own decision: `Host`,
/// `Authorization`, framing, forwarding or identity fields.
pub fn request(head: &mut RequestHead, trusted: bool) -> Result<(), Malformed> {
    let protected = |name: &[u8]| match kind(name, false) {
        Some(Kind::HopByHop) => ["content-length", "transfer-encoding"].into_iter().any(|n| is(name, n)),
        Some(Kind::Ours | Kind::Identity | Kind::Claim | Kind::Essential) => true,
        Some(Kind::Rewrite | Kind::Head) | None => false,
    };
    let named = connection_options(&head.fields);
    if named.iter().any(|name| protected(name)) {
        return Err(Malformed::Field);
    }
    head.fields.retain(|name, _| {
        let passes = match kind(name, false) {
            Some(Kind::HopByHop | Kind::Ours | Kind::Rewrite | Kind::Identity) => false,
            Some(Kind::Claim) => trusted,
            Some(Kind::Essential | Kind::Head) | None => true,
        };
        passes && !named.iter().any(|n| name.eq_ignore_ascii_case(n))
    });
    Ok(())
}

fn is(name: &[u8], known: &str) -> bool {
    name.eq_ignore_ascii_case(known.as_bytes())
}

/// The names `Connection` lists, less `close` and `keep-alive`. Most messages list no other.
fn connection_options(fields: &Fields) -> Vec<Vec<u8>> {
    let plain = |option: &[u8]| match option.len() {
        5 => is(option, "close"),
        10 => is(option, "keep-alive"),
        _ => false,
    };
    let mut named = Vec::new();
    for value in fields.get_all("connection").filter(|value| !plain(value)) {
        let options = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        named.extend(options.filter(|option| !option.is_empty() && !plain(option)).map(<[u8]>::to_vec));
    }
    named
}

/// Drops from an upstream's response what may not pass: hop-by-hop fields and those that `Connection` names,
/// and `drop`, the fields the operator withholds (`Server`, `X-Powered-By`).
pub fn response(head: &mut ResponseHead, drop: &[String]) {
    let named = connection_options(&head.fields);
    if head.fields.names() & HOP_BY_HOP != 0 {
        head.fields.retain(|name, _| bit(name) & HOP_BY_HOP == 0 || !is_hop_by_hop(name));
    }
    for name in drop {
        head.fields.remove(name);
    }
    for name in named {
        head.fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        for (name, value) in fields {
            head.fields.append(name, value).unwrap();
        }
        head
    }

    fn names_of(fields: &Fields) -> Vec<String> {
        fields.iter().map(|(n, _)| String::from_utf8(n.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a28_a29_hop_by_hop_and_named_fields_go() {
        let mut head = head(&[
            ("Host", "a"),
            ("Connection", "close, X-Via"),
            ("X-Via", "1"),
            ("Keep-Alive", "5"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Proxy-Authorization", "x"),
            ("Accept", "*/*"),
        ]);
        request(&mut head, false).unwrap();
        assert_eq!(names_of(&head.fields), ["Host", "Accept"]);
    }

    #[test]
    fn a28_connection_may_not_name_what_we_decide_by() {
        for name in [
            "Host",
            "authorization",
            "Content-Length",
            "X-Forwarded-For",
            "x-consumer-id",
            "Transfer-Encoding",
            "cookie",
        ] {
            assert_eq!(request(&mut head(&[("Connection", name)]), false), Err(Malformed::Field), "{name}");
        }
    }

    #[test]
    fn e6_f8_spoofed_identity_and_rewrites_go() {
        let mut head = head(&[
            ("X-Forwarded-For", "1.1.1.1"),
            ("Forwarded", "for=1"),
            ("X-Real-IP", "1"),
            ("X-Consumer-Id", "root"),
            ("X-Client-Cert-Subject", "x"),
            ("X-HTTP-Method-Override", "DELETE"),
            ("X-Original-URL", "/admin"),
            ("Proxy", "http://evil.test"),
            ("X-Forwarded", "for=1"),
            ("X-Forwarded-User", "root"),
            ("X-User", "root"),
            ("SSL-Client-Subject-DN", "CN=root"),
            ("X-SSL-Client-Verify", "SUCCESS"),
            ("X-Client-Verify", "SUCCESS"),
            ("CF-Connecting-IP", "1.1.1.1"),
            ("Cookie", "a=b"),
        ]);
        request(&mut head, false).unwrap();
        assert_eq!(names_of(&head.fields), ["Cookie"]);
    }

    #[test]
    fn e6_a_trusted_proxy_may_say_who_the_client_is_but_not_who_we_authenticated() {
        let mut head = head(&[("CF-Connecting-IP", "1.1.1.1"), ("X-User", "root"), ("Proxy", "x")]);
        request(&mut head, true).unwrap();
        assert_eq!(names_of(&head.fields), ["CF-Connecting-IP"]);
    }

    #[test]
    fn e6_certificates_of_clients_are_ours_to_tell() {
        for name in [
            "Client-Cert",
            "client-cert-chain",
            "X-Forwarded-Client-Cert",
            "X-Client-Cert",
            "X-Client-Cert-Chain",
            "X-Client-DN",
            "X-Client-Verify",
            "SSL-Client-Cert",
            "ssl-client-s-dn",
            "X-SSL-Client-Verify",
            "X-SSL-Cert",
            "X-ARR-ClientCert",
            "X-Amzn-Mtls-Clientcert-Leaf",
            "X-Forwarded-Tls-Client-Cert-Info",
        ] {
            let mut sent = head(&[(name, "forged"), ("Accept", "*/*")]);
            request(&mut sent, false).unwrap();
            assert_eq!(names_of(&sent.fields), ["Accept"], "{name}");
            assert!(is_forbidden_trailer(name.as_bytes()), "{name}");
            assert_eq!(request(&mut head(&[("Connection", name)]), false), Err(Malformed::Field), "{name}");
            let twin = name.replacen('-', "_", 1);
            assert_eq!(check_names(&head(&[(&twin, "x")]).fields), Err(Malformed::FieldName), "{twin}");
        }
    }

    #[test]
    fn i5_g10_fields_that_may_stand_once() {
        for name in ["Content-Type", "authorization"] {
            let twice = head(&[(name, "x"), (&name.to_uppercase(), "x")]);
            assert_eq!(check_once(&twice.fields), Err(Malformed::Duplicate), "{name}");
            assert_eq!(check_once(&head(&[(name, "x"), ("Accept", "y")]).fields), Ok(()));
        }
    }

    #[test]
    fn a27_underscore_twins_are_refused() {
        for name in [
            "Transfer_Encoding",
            "X_Forwarded_For",
            "Content_Length",
            "X_Consumer_Id",
            "x-original_url",
            "X.Forwarded.For",
            "Transfer.Encoding",
            "x_portcullis_partial",
            "X-SSL_Client",
        ] {
            assert_eq!(check_names(&head(&[(name, "x")]).fields), Err(Malformed::FieldName), "{name}");
        }
        assert_eq!(check_names(&head(&[("my_header", "x"), ("My_Header", "y")]).fields), Ok(()));
        for twins in [["my_header", "My-Header"], ["x-a_b", "x_a-b"]] {
            let twins = twins.map(|name| (name, "x"));
            assert_eq!(check_names(&head(&twins).fields), Err(Malformed::FieldName), "{twins:?}");
        }
    }

    #[test]
    fn c12_responses_lose_what_tells_of_the_inside() {
        let mut head = ResponseHead::new(200);
        for (name, value) in [
            ("Server", "x"),
            ("X-Powered-By", "y"),
            ("Connection", "x-inner"),
            ("X-Inner", "1"),
            ("Content-Type", "text/html"),
            ("Set-Cookie", "a=b"),
        ] {
            head.fields.append(name, value).unwrap();
        }
        response(&mut head, &["server".into(), "x-powered-by".into()]);
        assert_eq!(names_of(&head.fields), ["Content-Type", "Set-Cookie"]);
    }
}
