//! One reading of target, host, client address and fields.

use crate::first_line;
use portcullis_http::{
    Client, ClientAddress, Exchange, Fields, ForwardedHeader, Host, Params, Piece, RequestHead, RequestId,
    ResponseHead, Scheme, Target, Template, Tolerance, TraceContext, TrustedProxies, Values, Version, cookie,
    forwarding, hygiene as rules,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

/// A target has one canonical form, which stays as it is; decoding it a second time changes nothing that parts a path.
pub fn target(data: &[u8]) {
    tolerated(data);
    let Ok(target) = Target::parse(data) else { return };
    if let Some(query) = target.query() {
        let name = query.split(['=', '&']).next().unwrap_or_default();
        let _ = target.query_value(name);
    }
    if target.is_asterisk() {
        return;
    }
    let path = target.path();
    assert!(path.starts_with('/') && !path.contains("//"), "{path}");
    assert!(!path.contains(['\\', ';', '?', '#']), "{path}");
    let again = match target.query() {
        Some(query) => Target::parse(format!("{path}?{query}").as_bytes()),
        None => Target::parse(path.as_bytes()),
    };
    let again = again.expect("the canonical form is refused");
    assert_eq!((again.path(), again.query()), (path, target.query()));
    let once = decoded(path.as_bytes());
    assert!(!once.iter().any(u8::is_ascii_control), "{path}");
    let twice = decoded(&once);
    let parts = |text: &[u8]| text.iter().filter(|byte| b"/\\;\0".contains(byte)).count();
    assert_eq!(parts(&twice), parts(path.as_bytes()), "{path}");
    for text in [&once, &twice] {
        assert!(!text.split(|byte| *byte == b'/').any(|part| part == b"." || part == b".."), "{path}");
    }
}

/// What a route can take that is refused by default has one form too, and leads nowhere else when it is decoded. Of the
/// rest nothing changes.
fn tolerated(data: &[u8]) {
    let strict = Target::parse(data);
    let Ok(target) = Target::parse_tolerant(data, Tolerance::ALL) else {
        assert!(strict.is_err());
        return;
    };
    assert_eq!(target.check(Tolerance::default()).err(), strict.as_ref().err().copied());
    if let Ok(strict) = strict {
        assert_eq!(strict, target);
    }
    if target.is_asterisk() {
        return;
    }
    let text =
        [target.path(), target.query().map_or("", |_| "?"), target.query().unwrap_or_default()].concat();
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#'), "{text}");
    assert!(!target.path().contains(['?', ';']) && !target.path().contains("//"), "{text}");
    let again =
        Target::parse_tolerant(text.as_bytes(), Tolerance::ALL).expect("the canonical form is refused");
    assert_eq!((again.path(), again.query()), (target.path(), target.query()));
    let once = decoded(target.path().as_bytes());
    let mut pieces = once.split(|byte| b"/\\;".contains(byte));
    assert!(!once.contains(&0) && !pieces.any(|piece| piece == b"." || piece == b".."), "{text}");
}

/// The first line is a cookie's name, the others are fields. A second reader, who splits all of them into pairs first, finds
/// the same; and a cookie's value holds nothing that would end it.
pub fn cookies(data: &[u8]) {
    let (name, rest) = first_line(data);
    let Ok(name) = std::str::from_utf8(name) else { return };
    if !portcullis_http::is_token(name.as_bytes()) {
        return;
    }
    let mut fields = Fields::default();
    for line in rest.split(|byte| *byte == b'\n') {
        if fields.append("cookie", line).is_err() {
            return;
        }
    }
    let found = cookie(&fields, name);
    let all = rest.split(|byte| *byte == b'\n' || *byte == b';').map(<[u8]>::trim_ascii);
    let mut pairs = all.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..at], &pair[at + 1..]))
    });
    assert_eq!(found, pairs.find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value));
    let Some(value) = found else { return };
    assert!(!value.contains(&b';'));
    let mut again = Fields::default();
    again.append_parsed(b"cookie", &[b"other=1; ", name.as_bytes(), b"=", value].concat());
    assert_eq!(cookie(&again, name), Some(if name == "other" { &b"1"[..] } else { value }));
}

/// Percent-decoded once, leniently, as some backend may do.
fn decoded(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| text[at] == b'%');
        let byte = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.unwrap_or(text[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    out
}

/// An authority has one canonical form, which stays as it is.
pub fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(host) = Host::parse(text) else { return };
    let shown = host.to_string();
    assert_eq!(Host::parse(&shown).as_ref(), Some(&host), "{text:?}");
    let name = host.name();
    assert!(!name.ends_with('.') && !name.bytes().any(|byte| byte.is_ascii_uppercase()), "{text:?}");
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.[]:".contains(&byte)), "{text:?}");
    assert!(!name.is_empty() || text.is_empty(), "{text:?}");
}

fn trusting(header: ForwardedHeader) -> TrustedProxies {
    TrustedProxies::new(["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()), header)
}

/// Proxies that set `X-Forwarded-For`, and proxies that set `Forwarded`.
static TRUSTED: LazyLock<[TrustedProxies; 2]> =
    LazyLock::new(|| [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded].map(trusting));

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Whatever a client writes into forwarding fields, the address that its nearest trusted proxy saw is its own, and what
/// its proxies say of host and scheme is theirs.
pub fn forwarding(data: &[u8]) {
    let (first, second) = first_line(data);
    let seen = address("203.0.113.7");
    let [x_forwarded_for, forwarded] = &*TRUSTED;
    for (trusted, hop, nearer) in [
        (x_forwarded_for, "203.0.113.7", "10.0.0.2"),
        (x_forwarded_for, "203.0.113.7:4711", "[fd00::1]:80"),
        (forwarded, "for=203.0.113.7;proto=https;host=a.test", "for=\"[fd00::1]\""),
        (forwarded, "by=10.0.0.1;For=\"203.0.113.7:4711\";host=\"a.test\"", "for=10.0.0.2"),
    ] {
        let name = trusted.header().name();
        let mut fields = Fields::default();
        if fields.append(name, first).is_err() {
            return;
        }
        // A second line of the client's own, if the input has one, what it writes into the other header, and then what
        // the proxies say.
        let _ = fields.append(name, second);
        for other in ["x-forwarded-for", "forwarded"].into_iter().filter(|other| *other != name) {
            let _ = fields.append(other, second);
            fields.append(other, if other == "forwarded" { "for=6.6.6.6" } else { "6.6.6.6" }).unwrap();
        }
        let mut same_line = Fields::default();
        let line = [first, b", ", hop.as_bytes()].concat();
        let _ = same_line.append(name, line.trim_ascii());
        fields.append(name, hop).unwrap();
        for fields in [&mut fields, &mut same_line] {
            let client = ClientAddress::resolve(address("10.0.0.1"), fields, trusted);
            assert_eq!(client.ip, seen, "the client moved its address: {fields:?}");
            fields.append(name, nearer).unwrap();
            let client = ClientAddress::resolve(address("10.0.0.1"), fields, trusted);
            assert_eq!(client.ip, seen, "the client moved its address: {fields:?}");
            said_by_proxies(fields, trusted);
        }
        let stranger = ClientAddress::resolve(address("192.0.2.1"), &fields, trusted);
        assert_eq!(stranger, ClientAddress { ip: address("192.0.2.1"), peer_trusted: false });
    }
}

/// Of `Forwarded`, host and scheme are those that the proxy wrote which saw the client.
fn said_by_proxies(fields: &Fields, trusted: &TrustedProxies) {
    if trusted.header() == ForwardedHeader::Forwarded {
        let inherited = forwarding::Inherited::from_trusted(fields, trusted);
        assert_eq!(inherited.host(), Some("a.test"), "the client wrote the host: {fields:?}");
    }
}

/// The fields of a head, one a line; what cannot be one is left out.
fn fields(data: &[u8]) -> Fields {
    let mut fields = Fields::default();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            let _ = fields.append(&line[..colon], line[colon + 1..].trim_ascii());
        }
    }
    fields
}

/// What `Connection` names (RFC 9110 §7.6.1), in lower case.
fn named(fields: &Fields) -> Vec<Vec<u8>> {
    let values = fields.get_all("connection").flat_map(|value| value.split(|byte| *byte == b','));
    values.map(|option| option.trim_ascii().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

/// Fields that hygiene must never let pass, spelt here once more on purpose.
const NEVER: [&str; 17] = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "proxy-authorization",
    "http2-settings",
    "forwarded",
    "x-forwarded-for",
    "x-real-ip",
    "x-consumer-id",
    "x-http-method-override",
    "x-user",
    "proxy",
    "cf-connecting-ip",
];

/// No field of one hop, none that only the gateway may send and none that `Connection` names survives; what the
/// gateway writes itself is always a field.
pub fn hygiene(data: &[u8]) {
    let received = fields(data);
    let names = named(&received);
    let mut head = RequestHead::default();
    head.fields = received.clone();
    head.set_line(b"GET", b"/", Version::Http11);
    if rules::check_names(&received).is_ok() && rules::request(&mut head, false).is_ok() {
        for (name, _) in head.fields.iter() {
            let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
            assert!(!NEVER.contains(&lower.as_str()), "{lower} passes");
            let cgi = lower.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            assert!(!NEVER.contains(&cgi.as_str()), "{lower} passes and is {cgi} to CGI");
            assert!(!names.contains(&lower.clone().into_bytes()), "{lower} passes, and Connection names it");
        }
        let kept: Vec<_> = head.fields.iter().map(|(name, _)| name.to_vec()).collect();
        assert!(rules::request(&mut head, false).is_ok());
        assert_eq!(head.fields.iter().map(|(name, _)| name.to_vec()).collect::<Vec<_>>(), kept);
    }
    let mut response = ResponseHead { fields: received.clone(), ..ResponseHead::new(200) };
    rules::response(&mut response, &["server".to_owned()]);
    for (name, _) in response.fields.iter() {
        let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
        assert!(!rules::is_hop_by_hop(name) && lower != "server", "{lower} passes");
        assert!(!names.contains(&lower.clone().into_bytes()), "{lower} passes, and Connection names it");
    }
    for trusted in &*TRUSTED {
        forwarded(&received, head.clone(), trusted);
    }
}

/// What is said to an upstream of a client whose fields are these: [`Fields`] checks each when assertions are on.
fn forwarded(received: &Fields, head: RequestHead, trusted: &TrustedProxies) {
    let peer: SocketAddr = "10.0.0.1:4711".parse().unwrap();
    let client = Client {
        peer,
        local: peer,
        address: ClientAddress::resolve(peer.ip(), received, trusted),
        scheme: Scheme::Https,
        server_name: None,
        certificate: None,
        listener: "main".into(),
    };
    let trace = TraceContext::continue_from(received.get("traceparent"), true);
    let id = received.get("x-request-id").and_then(RequestId::from_trusted).unwrap_or_else(RequestId::random);
    let host = received.get_str("host").and_then(Host::parse).unwrap_or_default();
    let exchange = Exchange::new(head, Target::parse(b"/").unwrap(), host, client, id, trace);
    let mut out = Fields::default();
    let inherited = forwarding::Inherited::from_trusted(received, trusted);
    forwarding::set_forwarding(&exchange, &inherited, "portcullis", &mut out);
    let mut checked = Fields::default();
    for (name, value) in out.iter() {
        checked.append(name, value).expect("the gateway wrote what is no field");
    }
}

/// A value put into a template stays one segment, one parameter, one field, whatever it holds.
pub fn template(data: &[u8]) {
    let (first, rest) = first_line(data);
    let mut params = Params::default();
    let mut path = String::from("/");
    portcullis_http::percent_encode_segment(first, &mut path);
    // The router gives templates what it cut out of a canonical path.
    let bound = Target::parse(path.as_bytes()).ok().filter(|target| target.path() == path);
    if bound.is_some() {
        params.push("p".into(), path[1..].to_owned());
    }
    let query = std::str::from_utf8(rest).unwrap_or_default();
    let mut fields = Fields::default();
    let _ = fields.append("x-field", first);
    let values = Values { params: &params, query: Some(query), fields: &fields };
    for piece in [Piece::Param("p".into()), Piece::Query("q".into()), Piece::Header("x-field".into())] {
        let template = Template::from(vec![Piece::Text("/a/".into()), piece, Piece::Text("/b".into())]);
        if let Some(path) = template.path(&values) {
            assert_eq!(path.matches('/').count(), 3, "{path}");
            assert!(path.starts_with("/a/") && path.ends_with("/b"), "{path}");
        }
        let mut out = String::new();
        if template.query(&values, &mut out).is_some() {
            assert!(!out.contains(['&', '=', '#', '+', ';']), "{out}");
        }
        if let Some(value) = template.header(&values) {
            let _ = Fields::default().append("x-out", value);
        }
    }
}
