//! Which fields pass an intermediary, and which it writes itself.
//!
//! A forwarded message is built anew: [`request`] and [`response`] drop what belongs to one hop (RFC 9110
//! §7.6.1), what the gateway alone may say, and what rewrites requests behind its back; the caller then
//! frames the message itself.

use crate::{
    Client, Exchange, Fields, ForwardedHeader, Malformed, RequestHead, ResponseHead, Scheme, TrustedProxies,
    ValueWriter,
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

/// A byte of a name as CGI, WSGI and others read it: some of them take some of what is no letter or digit for `-`.
fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Names that have a kind, by their first letter.
const fn names(first: u8) -> &'static [(&'static [u8], Kind)] {
    use Kind::{Claim, Essential, Head, HopByHop, Identity, Ours, Rewrite};
    match first {
        b'a' => &[(b"authorization", Essential)],
        b'c' => &[
            (b"connection", HopByHop),
            (b"content-length", HopByHop),
            (b"client-cert", Ours),
            (b"client-cert-chain", Ours),
            (b"cf-connecting-ip", Claim),
            (b"cf-connecting-ipv6", Claim),
            (b"cookie", Essential),
            (b"content-type", Head),
            (b"content-encoding", Head),
            (b"content-range", Head),
            (b"cache-control", Head),
        ],
        b'e' => &[(b"expect", Ours)],
        b'f' => &[(b"forwarded", Ours), (b"front-end-https", Claim), (b"fastly-client-ip", Claim)],
        b'h' => &[(b"http2-settings", HopByHop), (b"host", Essential)],
        b'k' => &[(b"keep-alive", HopByHop)],
        b'm' => &[(b"max-forwards", Head)],
        b'p' => &[
            (b"proxy-connection", HopByHop),
            (b"proxy-authenticate", HopByHop),
            (b"proxy-authorization", HopByHop),
            (b"proxy", Rewrite),
        ],
        b'r' => &[(b"remote-user", Identity), (b"range", Head)],
        b's' => &[(b"set-cookie", Head)],
        b't' => &[
            (b"te", HopByHop),
            (b"trailer", HopByHop),
            (b"transfer-encoding", HopByHop),
            (b"true-client-ip", Ours),
            (b"traceparent", Ours),
        ],
        b'u' => &[(b"upgrade", HopByHop)],
        b'x' => &[
            (b"x-real-ip", Ours),
            (b"x-client-ip", Ours),
            (b"x-request-id", Ours),
            (b"x-http-method", Rewrite),
            (b"x-http-method-override", Rewrite),
            (b"x-method-override", Rewrite),
            (b"x-original-url", Rewrite),
            (b"x-original-uri", Rewrite),
            (b"x-original-host", Rewrite),
            (b"x-rewrite-url", Rewrite),
            (b"x-override-url", Rewrite),
            (b"x-host", Rewrite),
            (b"x-http-host-override", Rewrite),
            (b"x-http-path-override", Rewrite),
            (b"x-user", Identity),
            (b"x-remote-user", Identity),
            (b"x-auth-user", Identity),
            (b"x-webauth-user", Identity),
            (b"x-scheme", Claim),
            (b"x-url-scheme", Claim),
            (b"x-remote-ip", Claim),
            (b"x-remote-addr", Claim),
            (b"x-originating-ip", Claim),
            (b"x-cluster-client-ip", Claim),
            (b"x-original-forwarded-for", Claim),
            (b"x-appengine-user-ip", Claim),
            (b"x-azure-clientip", Claim),
        ],
        _ => &[],
    }
}

/// For each first letter the lengths of its names, a bit for each: most names are none of them, which shows at once.
static LENGTHS: [u64; 26] = {
    let mut lengths = [0; 26];
    let mut letter = 0;
    #[expect(clippy::indexing_slicing, reason = "beyond the end it would be an error at compile time")]
    while letter < 26 {
        let known = names(b'a' + letter as u8);
        let mut at = 0;
        while at < known.len() {
            lengths[letter] |= 1 << known[at].0.len();
            at += 1;
        }
        letter += 1;
    }
    lengths
};

/// Beginnings of names that tell who the caller is.
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

/// The kind of a field, by its name as it stands or as it reads folded.
fn kind(name: &[u8], folded: bool) -> Option<Kind> {
    let read = |byte: u8| if folded { fold(byte) } else { byte.to_ascii_lowercase() };
    let reads = |text: &[u8], known: &[u8]| text.iter().zip(known).all(|(byte, known)| read(*byte) == *known);
    let first = read(*name.first()?);
    let lengths = LENGTHS.get(usize::from(first.wrapping_sub(b'a'))).copied().unwrap_or(0);
    if lengths.checked_shr(u32::try_from(name.len()).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 1 {
        let found = names(first).iter().find(|(known, _)| known.len() == name.len() && reads(name, known));
        if let Some((_, kind)) = found {
            return Some(*kind);
        }
    }
    // The rest goes by how the name begins.
    if !matches!(first, b'x' | b's') {
        return None;
    }
    let begins = |known: &[u8]| name.len() >= known.len() && reads(name, known);
    if begins(b"x-forwarded") {
        let rest = name.get(b"x-forwarded".len()..).unwrap_or_default();
        let is = |known: &[u8]| rest.len() == known.len() && reads(rest, known);
        return match rest.first() {
            None => Some(Kind::Ours),
            Some(_) if [&b"-prefix"[..], b"-path", b"-uri"].into_iter().any(is) => Some(Kind::Rewrite),
            Some(byte) => (read(*byte) == b'-').then_some(Kind::Ours),
        };
    }
    if begins(b"x-portcullis-") {
        return Some(Kind::Ours);
    }
    IDENTITY.into_iter().any(begins).then_some(Kind::Identity)
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
    let mut seen = [false; ONCE.len()];
    for (name, _) in fields.iter() {
        for (known, seen) in ONCE.iter().zip(&mut seen) {
            if is(name, known) && std::mem::replace(seen, true) {
                return Err(Malformed::Duplicate);
            }
        }
    }
    Ok(())
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
    fields
        .get_all("connection")
        .flat_map(|value| value.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty() && !is(option, "close") && !is(option, "keep-alive"))
        .map(<[u8]>::to_vec)
        .collect()
}

/// Drops from an upstream's response what may not pass: hop-by-hop fields and those that `Connection` names,
/// and `drop`, the fields the operator withholds (`Server`, `X-Powered-By`).
pub fn response(head: &mut ResponseHead, drop: &[String]) {
    let named = connection_options(&head.fields);
    head.fields.retain(|name, _| {
        !is_hop_by_hop(name)
            && !drop.iter().any(|d| is(name, d))
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
    let proto = inherited.proto.unwrap_or(scheme.as_str());
    let has_host = inherited.host.is_some() || !exchange.host.is_empty();
    let write_host = |out: &mut ValueWriter<'_>| match &inherited.host {
        Some(host) => out.text(host),
        None => exchange.host.write(out),
    };
    let port = exchange.host.port().unwrap_or(match scheme {
        Scheme::Http if exchange.host.is_empty() => local.port(),
        Scheme::Http => 80,
        Scheme::Https => 443,
    });
    out.append_written(b"forwarded", |out| {
        out.text("for=");
        if address.ip.is_ipv6() {
            out.text("\"[");
            out.address(address.ip);
            out.text("]\"");
        } else {
            out.address(address.ip);
        }
        if has_host {
            out.text(";host=\"");
            write_host(out);
            out.text("\"");
        }
        out.text(";proto=");
        out.text(proto);
    });
    out.append_written(b"x-forwarded-for", |out| {
        if let Some(chain) = &inherited.forwarded_for {
            out.text(chain);
            out.text(", ");
        }
        out.address(peer.ip().to_canonical());
    });
    out.append_parsed(b"x-forwarded-proto", proto.as_bytes());
    if has_host {
        out.append_written(b"x-forwarded-host", write_host);
    }
    out.append_written(b"x-forwarded-port", |out| out.decimal(u64::from(port)));
    out.append_written(b"x-real-ip", |out| out.address(address.ip));
    out.append_written(b"via", |out| {
        out.text(exchange.request.version.as_str().trim_start_matches("HTTP/"));
        out.text(" ");
        out.text(via);
    });
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

    fn names_of(fields: &Fields) -> Vec<String> {
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
    fn names_stand_under_their_first_letter() {
        for first in 0..=255 {
            for (name, kind) in names(first) {
                assert_eq!(name[0], first, "{}", name.escape_ascii());
                let upper = name.to_ascii_uppercase();
                assert_eq!(super::kind(&upper, false), Some(*kind));
                let folded: Vec<u8> = name.iter().map(|b| if *b == b'-' { b'_' } else { *b }).collect();
                assert_eq!(super::kind(&folded, true), Some(*kind));
            }
        }
    }

    #[test]
    fn a_long_name_is_none_of_the_short_ones_it_begins_with() {
        let long = format!("x-consumer-{}", "a".repeat(60));
        assert_eq!(kind(long.as_bytes(), false), Some(Kind::Identity));
        assert_eq!(kind("a".repeat(100).as_bytes(), true), None);
        assert_eq!(kind(b"x-forwarded-uris", false), Some(Kind::Ours));
        assert_eq!(kind(b"x-forwardeds", false), None);
        assert_eq!(kind(b"", true), None);
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
