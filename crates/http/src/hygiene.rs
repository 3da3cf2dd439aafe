//! Which fields pass an intermediary, and which it writes itself.
//!
//! A forwarded message is built anew: [`request`] and [`response`] drop what belongs to one hop (RFC 9110
//! §7.6.1), what the gateway alone may say, and what rewrites requests behind its back; the caller then
//! frames the message itself.

use crate::{Client, Exchange, Fields, Malformed, RequestHead, ResponseHead, Scheme};

/// Fields that concern one connection (RFC 9110 §7.6.1) or its framing; never forwarded.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "content-length",
];

/// Fields that only the gateway may send to an upstream. A trusted proxy's forwarding chain is read first.
const OURS: [&str; 16] = [
    "expect",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "x-request-id",
    "traceparent",
    "client-cert",
    "client-cert-chain",
    "x-forwarded-client-cert",
    "x-portcullis-partial",
];

/// Fields by which some backends let a client change method or path after it was judged (matrix F8).
const REWRITES: [&str; 9] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-forwarded-prefix",
    "x-forwarded-path",
    "x-forwarded-uri",
];

/// Prefixes of the identity fields that the gateway sets for upstreams (matrix G15).
const IDENTITY_PREFIXES: [&str; 3] = ["x-consumer-", "x-authenticated-", "x-client-cert"];

fn is_one_of(name: &[u8], list: &[&str]) -> bool {
    list.iter().any(|entry| name.eq_ignore_ascii_case(entry.as_bytes()))
}

fn has_prefix(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

/// Whether a field belongs to one hop only.
#[must_use]
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    is_one_of(name, &HOP_BY_HOP)
}

/// Whether a trailer field may never pass: it would change framing, routing or identity (RFC 9110 §6.5.1).
#[must_use]
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    is_hop_by_hop(name)
        || is_one_of(name, &OURS)
        || is_one_of(
            name,
            &[
                "host",
                "authorization",
                "cookie",
                "set-cookie",
                "content-type",
                "content-encoding",
                "content-range",
                "cache-control",
                "max-forwards",
                "range",
            ],
        )
        || IDENTITY_PREFIXES.iter().any(|prefix| has_prefix(name, prefix))
}

/// Refuses names that a backend may confuse with others: with `_` folded to `-` (as CGI, WSGI and others do)
/// such a name stands for a field that decides framing, routing or identity.
///
/// # Errors
/// [`Malformed::FieldName`] at the first such name.
pub fn check_names(fields: &Fields) -> Result<(), Malformed> {
    let confusing = |name: &[u8]| {
        if !name.contains(&b'_') {
            return false;
        }
        let folded: Vec<u8> =
            name.iter().map(|&b| if b == b'_' { b'-' } else { b.to_ascii_lowercase() }).collect();
        is_forbidden_trailer(&folded) || is_one_of(&folded, &REWRITES) || has_prefix(&folded, "x-portcullis-")
    };
    if fields.iter().any(|(name, _)| confusing(name)) { Err(Malformed::FieldName) } else { Ok(()) }
}

/// Drops from a client's request what may not pass, before any guard reads it. The fields that `Connection`
/// names go first, as RFC 9110 §7.6.1 asks.
///
/// # Errors
/// [`Malformed::Field`] if `Connection` names a field that would let a client unmake our own decision: `Host`,
/// `Authorization`, framing, forwarding or identity fields.
pub fn request(head: &mut RequestHead) -> Result<(), Malformed> {
    let named = connection_options(&head.fields);
    let protected = |name: &Vec<u8>| {
        is_one_of(name, &["host", "authorization", "cookie", "content-length", "transfer-encoding"])
            || is_one_of(name, &OURS)
            || IDENTITY_PREFIXES.iter().any(|prefix| has_prefix(name, prefix))
    };
    if named.iter().any(protected) {
        return Err(Malformed::Field);
    }
    head.fields.retain(|name, _| {
        !is_hop_by_hop(name)
            && !is_one_of(name, &OURS)
            && !is_one_of(name, &REWRITES)
            && !IDENTITY_PREFIXES.iter().any(|prefix| has_prefix(name, prefix))
            && !named.iter().any(|n| name.eq_ignore_ascii_case(n))
    });
    Ok(())
}

/// The names `Connection` lists, less `close` and `keep-alive`, in lower case.
fn connection_options(fields: &Fields) -> Vec<Vec<u8>> {
    fields
        .get_all("connection")
        .flat_map(|value| value.split(|b| *b == b','))
        .map(|option| option.trim_ascii().to_ascii_lowercase())
        .filter(|option| !option.is_empty() && option != b"close" && option != b"keep-alive")
        .collect()
}

/// Drops from an upstream's response what may not pass: hop-by-hop fields and those that `Connection` names,
/// and `drop`, the fields the operator withholds (`Server`, `X-Powered-By`).
pub fn response(head: &mut ResponseHead, drop: &[String]) {
    let named = connection_options(&head.fields);
    head.fields.retain(|name, _| {
        !is_hop_by_hop(name)
            && !drop.iter().any(|d| name.eq_ignore_ascii_case(d.as_bytes()))
            && !named.iter().any(|n| name.eq_ignore_ascii_case(n))
    });
}

/// What a trusted proxy's request said of its own client, taken before [`request`] drops it.
#[derive(Clone, Debug, Default)]
pub struct Inherited {
    forwarded_for: Option<String>,
    proto: Option<&'static str>,
    host: Option<String>,
    /// `X-Request-Id`.
    pub request_id: Option<Vec<u8>>,
}

impl Inherited {
    /// Reads the forwarding fields of a trusted peer.
    #[must_use]
    pub fn from_trusted(fields: &Fields) -> Self {
        let chain: Vec<&str> =
            fields.get_all("x-forwarded-for").filter_map(|v| std::str::from_utf8(v).ok()).collect();
        Inherited {
            forwarded_for: (!chain.is_empty()).then(|| chain.join(", ")),
            proto: match fields.get("x-forwarded-proto") {
                Some(b"https") => Some("https"),
                Some(b"http") => Some("http"),
                _ => None,
            },
            host: fields
                .get_str("x-forwarded-host")
                .and_then(crate::Host::parse)
                .map(|host| host.to_string()),
            request_id: fields.get("x-request-id").map(<[u8]>::to_vec),
        }
    }
}

/// Writes what the gateway says to an upstream of itself and its client: `Forwarded` (RFC 7239),
/// `X-Forwarded-*`, `X-Real-IP`, `Via` (RFC 9110 §7.6.3), `X-Request-Id` and `traceparent`.
pub fn set_forwarding(exchange: &Exchange, inherited: &Inherited, via: &str, out: &mut Fields) {
    let Client { address, scheme, peer, local, .. } = &exchange.client;
    let peer_ip = peer.ip().to_canonical();
    let chain = match &inherited.forwarded_for {
        Some(chain) => format!("{chain}, {peer_ip}"),
        None => peer_ip.to_string(),
    };
    let proto = inherited.proto.unwrap_or(scheme.as_str());
    let host = inherited.host.clone().unwrap_or_else(|| exchange.host.to_string());
    let node = if address.ip.is_ipv6() { format!("\"[{}]\"", address.ip) } else { address.ip.to_string() };
    let forwarded = if host.is_empty() {
        format!("for={node};proto={proto}")
    } else {
        format!("for={node};host=\"{host}\";proto={proto}")
    };
    let port = exchange.host.port().unwrap_or(match scheme {
        Scheme::Http if exchange.host.is_empty() => local.port(),
        Scheme::Http => 80,
        Scheme::Https => 443,
    });
    let via_value = format!("{} {via}", exchange.request.version.as_str().trim_start_matches("HTTP/"));
    out.append_parsed(b"forwarded", forwarded.as_bytes());
    out.append_parsed(b"x-forwarded-for", chain.as_bytes());
    out.append_parsed(b"x-forwarded-proto", proto.as_bytes());
    if !host.is_empty() {
        out.append_parsed(b"x-forwarded-host", host.as_bytes());
    }
    out.append_parsed(b"x-forwarded-port", port.to_string().as_bytes());
    out.append_parsed(b"x-real-ip", address.ip.to_string().as_bytes());
    out.append_parsed(b"via", via_value.as_bytes());
    out.append_parsed(b"x-request-id", exchange.id.as_str().as_bytes());
    out.append_parsed(b"traceparent", &exchange.trace.traceparent());
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

    fn names(fields: &Fields) -> Vec<String> {
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
        request(&mut head).unwrap();
        assert_eq!(names(&head.fields), ["Host", "Accept"]);
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
            assert_eq!(request(&mut head(&[("Connection", name)])), Err(Malformed::Field), "{name}");
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
            ("Cookie", "a=b"),
        ]);
        request(&mut head).unwrap();
        assert_eq!(names(&head.fields), ["Cookie"]);
    }

    #[test]
    fn a27_underscore_twins_are_refused() {
        for name in
            ["Transfer_Encoding", "X_Forwarded_For", "Content_Length", "X_Consumer_Id", "x-original_url"]
        {
            assert_eq!(check_names(&head(&[(name, "x")]).fields), Err(Malformed::FieldName), "{name}");
        }
        assert_eq!(check_names(&head(&[("my_header", "x")]).fields), Ok(()));
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
        assert_eq!(names(&head.fields), ["Content-Type", "Set-Cookie"]);
    }
}
