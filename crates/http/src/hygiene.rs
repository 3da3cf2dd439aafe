//! Which fields pass an intermediary, and which it writes itself.
//!
//! A forwarded message is built anew: [`request`] and [`response`] drop what belongs to one hop (RFC 9110
//! §7.6.1), what the gateway alone may say, and what rewrites requests behind its back; the caller then
//! frames the message itself.

use crate::{
    Client, Exchange, Fields, ForwardedHeader, Malformed, RequestHead, ResponseHead, Scheme, TrustedProxies,
};

/// What may become of a field, by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Concerns one connection (RFC 9110 §7.6.1) or its framing; never forwarded.
    HopByHop,
    /// Only the gateway may send it to an upstream. What a trusted proxy said in it is read first.
    Ours,
    /// Some backends let a client change method, host or path by it after those were judged (matrix F8), or where their
    /// own calls go (`Proxy`, CVE-2016-5385).
    Rewrite,
    /// Identity that the gateway sets for upstreams (matrix G15), or that backends take from a proxy before them.
    Identity,
    /// What proxies in front say of the client: passes from trusted ones only.
    Claim,
    /// Concerns the whole message or decides who asks; passes, but not as a trailer, and nobody may name it in
    /// `Connection`.
    Essential,
    /// Concerns the whole message; passes, but not as a trailer.
    Head,
}

/// No name of the lists below is longer.
const LONGEST: usize = 40;

/// A byte of a name as CGI, WSGI and others read it: some of them take some of what is no letter or digit for `-`.
fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// The kind of a field, by its name as it stands or as it reads folded.
fn kind(name: &[u8], folded: bool) -> Option<Kind> {
    let mut buffer = [0u8; LONGEST];
    let length = name.len().min(LONGEST);
    for (to, from) in buffer.iter_mut().zip(name) {
        *to = if folded { fold(*from) } else { from.to_ascii_lowercase() };
    }
    let lower = buffer.get(..length).unwrap_or_default();
    let kind = match lower {
        b"connection"
        | b"keep-alive"
        | b"proxy-connection"
        | b"proxy-authenticate"
        | b"proxy-authorization"
        | b"te"
        | b"trailer"
        | b"transfer-encoding"
        | b"upgrade"
        | b"http2-settings"
        | b"content-length" => Kind::HopByHop,
        b"expect" | b"forwarded" | b"x-real-ip" | b"x-client-ip" | b"true-client-ip" | b"x-request-id"
        | b"traceparent" | b"client-cert" | b"client-cert-chain" => Kind::Ours,
        b"x-http-method"
        | b"x-http-method-override"
        | b"x-method-override"
        | b"x-original-url"
        | b"x-original-uri"
        | b"x-original-host"
        | b"x-rewrite-url"
        | b"x-override-url"
        | b"x-host"
        | b"x-http-host-override"
        | b"x-http-path-override"
        | b"proxy" => Kind::Rewrite,
        b"x-user" | b"x-remote-user" | b"remote-user" | b"x-auth-user" | b"x-webauth-user" => Kind::Identity,
        b"x-scheme"
        | b"x-url-scheme"
        | b"front-end-https"
        | b"x-remote-ip"
        | b"x-remote-addr"
        | b"x-originating-ip"
        | b"x-cluster-client-ip"
        | b"x-original-forwarded-for"
        | b"fastly-client-ip"
        | b"cf-connecting-ip"
        | b"cf-connecting-ipv6"
        | b"x-appengine-user-ip"
        | b"x-azure-clientip" => Kind::Claim,
        b"host" | b"authorization" | b"cookie" => Kind::Essential,
        b"set-cookie" | b"content-type" | b"content-encoding" | b"content-range" | b"cache-control"
        | b"max-forwards" | b"range" => Kind::Head,
        _ => return by_prefix(lower),
    };
    // A longer name only begins like this one.
    if name.len() > LONGEST { by_prefix(lower) } else { Some(kind) }
}

fn by_prefix(lower: &[u8]) -> Option<Kind> {
    if let Some(rest) = lower.strip_prefix(b"x-forwarded") {
        return match rest {
            b"-prefix" | b"-path" | b"-uri" => Some(Kind::Rewrite),
            b"" | [b'-', ..] => Some(Kind::Ours),
            _ => None,
        };
    }
    if lower.starts_with(b"x-portcullis-") {
        return Some(Kind::Ours);
    }
    const IDENTITY: [&[u8]; 9] = [
        b"x-consumer-",
        b"x-authenticated-",
        b"x-client-cert",
        b"x-ssl-",
        b"ssl-client-",
        b"x-client-verify",
        b"x-client-dn",
        b"x-arr-clientcert",
        b"x-amzn-mtls-",
    ];
    IDENTITY.iter().any(|prefix| lower.starts_with(prefix)).then_some(Kind::Identity)
}

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
    let confusing = |name: &[u8]| {
        if name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
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
    let twice = ONCE.iter().any(|name| fields.get_all(name).nth(1).is_some());
    if twice { Err(Malformed::Duplicate) } else { Ok(()) }
}

/// Drops from a client's request what may not pass, before any guard reads it. The fields that `Connection`
/// names go first, as RFC 9110 §7.6.1 asks. What proxies say of the client stays where the peer is a `trusted` one.
///
/// # Errors
/// [`Malformed::Field`] if `Connection` names a field that would let a client unmake our own decision: `Host`,
/// `Authorization`, framing, forwarding or identity fields.
pub fn request(head: &mut RequestHead, trusted: bool) -> Result<(), Malformed> {
    let named = connection_options(&head.fields);
    let protected = |name: &Vec<u8>| match kind(name, false) {
        Some(Kind::HopByHop) => matches!(&**name, b"content-length" | b"transfer-encoding"),
        Some(Kind::Ours | Kind::Identity | Kind::Claim | Kind::Essential) => true,
        Some(Kind::Rewrite | Kind::Head) | None => false,
    };
    if named.iter().any(protected) {
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
    /// Reads the forwarding fields of a trusted peer: those of the header that it sets.
    #[must_use]
    pub fn from_trusted(fields: &Fields, trusted: &TrustedProxies) -> Self {
        let request_id = fields.get("x-request-id").map(<[u8]>::to_vec);
        match trusted.header() {
            ForwardedHeader::XForwardedFor => Inherited { request_id, ..Self::from_x_forwarded(fields) },
            ForwardedHeader::Forwarded => Inherited { request_id, ..Self::from_forwarded(fields, trusted) },
        }
    }

    /// The host that the client asked for, canonical.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    fn from_x_forwarded(fields: &Fields) -> Self {
        let chain: Vec<&str> =
            fields.get_all("x-forwarded-for").filter_map(|v| std::str::from_utf8(v).ok()).collect();
        Inherited {
            forwarded_for: (!chain.is_empty()).then(|| chain.join(", ")),
            proto: match fields.get("x-forwarded-proto") {
                Some(b"https") => Some("https"),
                Some(b"http") => Some("http"),
                _ => None,
            },
            host: fields.get_str("x-forwarded-host").and_then(canonical_host),
            request_id: None,
        }
    }

    /// What the farthest trusted proxy says of its own client; of the hops before, which a client may have written,
    /// nothing.
    fn from_forwarded(fields: &Fields, trusted: &TrustedProxies) -> Self {
        let mut inherited = Inherited::default();
        for hop in trusted.hops(fields) {
            inherited.forwarded_for = Some(match inherited.forwarded_for {
                Some(nearer) => format!("{}, {nearer}", hop.ip),
                None => hop.ip.to_string(),
            });
            inherited.proto = hop.proto;
            inherited.host = hop.host.and_then(canonical_host);
        }
        inherited
    }
}

fn canonical_host(text: &str) -> Option<String> {
    crate::Host::parse(text).map(|host| host.to_string())
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
    fn h1_what_a_proxy_says_of_its_client_is_read_of_its_own_header() {
        let fields = head(&[
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "x.test"),
            (
                "Forwarded",
                "for=7.7.7.7;proto=https;host=evil.test, for=1.1.1.1;proto=http;host=F.test, for=10.0.0.2",
            ),
            ("X-Request-Id", "id-1"),
        ])
        .fields;
        let read = |header| {
            let trusted = TrustedProxies::new(["10.0.0.0/8".parse().unwrap()], header);
            let inherited = Inherited::from_trusted(&fields, &trusted);
            assert_eq!(inherited.request_id.as_deref(), Some(&b"id-1"[..]));
            (inherited.forwarded_for.unwrap(), inherited.proto, inherited.host)
        };
        assert_eq!(
            read(ForwardedHeader::XForwardedFor),
            ("6.6.6.6".into(), Some("https"), Some("x.test".into()))
        );
        assert_eq!(
            read(ForwardedHeader::Forwarded),
            ("1.1.1.1, 10.0.0.2".into(), Some("http"), Some("f.test".into()))
        );
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
        assert_eq!(names(&head.fields), ["Cookie"]);
    }

    #[test]
    fn e6_a_trusted_proxy_may_say_who_the_client_is_but_not_who_we_authenticated() {
        let mut head = head(&[("CF-Connecting-IP", "1.1.1.1"), ("X-User", "root"), ("Proxy", "x")]);
        request(&mut head, true).unwrap();
        assert_eq!(names(&head.fields), ["CF-Connecting-IP"]);
    }

    #[test]
    fn a_long_name_is_none_of_the_short_ones_it_begins_with() {
        let long = format!("x-consumer-{}", "a".repeat(60));
        assert_eq!(kind(long.as_bytes(), false), Some(Kind::Identity));
        assert_eq!(kind("a".repeat(100).as_bytes(), true), None);
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
            assert_eq!(names(&sent.fields), ["Accept"], "{name}");
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
        assert_eq!(names(&head.fields), ["Content-Type", "Set-Cookie"]);
    }
}
