//! The edge of the binary: what is refused before any route, and what of a request reaches an origin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gateway, H2Client, Origin, RawClient, request};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// A gateway in clear that forwards everything to `origin`; `top` and `route` go into the configuration.
fn gateway(origin: &Origin, top: &str, route: &str) -> Gateway {
    let upstream = origin.address();
    Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            admin.listen = "{admin}"
            firewall.mode = "off"
            {top}
            [[listener]]
            name = "public"
            address = "{public}"
            [upstream.origin]
            endpoints = [{{ address = "{upstream}" }}]
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "origin"
            {route}
            "#,
            admin = ports.admin,
            public = ports.public,
        )
    })
}

fn hello() -> Origin {
    Origin::answering(Answer::ok("hello"))
}

// ---- what reaches an origin

#[test]
fn e6_what_a_client_says_of_itself_is_not_believed() {
    let origin = hello();
    let gateway = gateway(&origin, "", "");
    let spoofed = [
        "X-Forwarded-For: 9.9.9.9",
        "X-Forwarded-For: 8.8.8.8",
        "x-forwarded-host: evil.test",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 99",
        "X-Forwarded-Server: evil",
        "X-Forwarded-Prefix: /admin",
        "Forwarded: for=9.9.9.9;host=evil.test",
        "X-Real-IP: 9.9.9.9",
        "True-Client-IP: 9.9.9.9",
        "X-Client-IP: 9.9.9.9",
        "X-Request-Id: mine",
        "X-Consumer-Id: root",
        "X-Consumer-Scopes: admin",
        "X-Authenticated-User: root",
        "X-Client-Cert-Subject: CN=root",
        "X-Forwarded-Client-Cert: Subject=root",
        "Client-Cert: :AAAA:",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "X-HTTP-Method-Override: DELETE",
        "Connection: close, X-Custom",
        "X-Custom: dropped since Connection names it",
        "Keep-Alive: timeout=5",
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Trailer: X-Late",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "X-Kept: yes",
        "Cookie: a=b",
        "Authorization: Basic eDp5",
    ];
    let response = request(gateway.public(), "GET /a/b?c=d", &spoofed, "");
    assert_eq!(response.status(), 200);
    let seen = &origin.requests()[0];
    let text = seen.head_text();
    for word in [
        "9.9.9.9",
        "8.8.8.8",
        "evil",
        "root",
        "admin",
        "mine",
        "DELETE",
        "dropped",
        "trailers",
        "h2c",
        "AAMA",
        "Keep-Alive",
        "Proxy-",
        "X-Late",
        "connection:",
    ] {
        assert!(!text.to_lowercase().contains(&word.to_lowercase()), "{word} in {text}");
    }
    let port = gateway.public().port();
    let host = gateway.public().to_string();
    for (name, value) in [
        ("host", host.as_str()),
        ("x-kept", "yes"),
        ("cookie", "a=b"),
        ("authorization", "Basic eDp5"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", host.as_str()),
        ("x-forwarded-port", &port.to_string()),
        ("x-real-ip", "127.0.0.1"),
        ("via", "1.1 portcullis"),
        ("x-request-id", response.header("x-request-id").unwrap()),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name} in {text}");
        let times = text.lines().filter(|line| line.to_lowercase().starts_with(&format!("{name}:"))).count();
        assert_eq!(times, 1, "{name} in {text}");
    }
    let forwarded = seen.header("forwarded").unwrap();
    assert!(forwarded.contains("for=127.0.0.1") && forwarded.contains("proto=http"), "{forwarded}");
    let trace: Vec<&str> = seen.header("traceparent").unwrap().split('-').collect();
    assert_eq!((trace.len(), trace[0], trace[1].len(), trace[2].len()), (4, "00", 32, 16));
    assert_eq!(seen.target(), "/a/b?c=d");
}

#[test]
fn h1_what_a_trusted_proxy_says_is_believed() {
    let origin = hello();
    let gateway = gateway(&origin, "server.trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]", "");
    // The client is the last one that is no proxy; what stands before it is the client's own word.
    for (chain, client) in [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("203.0.113.7, garbage", "127.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        let fields = [
            &format!("X-Forwarded-For: {chain}") as &str,
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: shop.test",
            "X-Request-Id: abc-123",
        ];
        let response = request(gateway.public(), "GET /x", &fields, "");
        assert_eq!((response.status(), response.header("x-request-id")), (200, Some("abc-123")));
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.header("x-real-ip"), Some(client), "{chain}");
        assert_eq!(seen.header("x-forwarded-for"), Some(format!("{chain}, 127.0.0.1").as_str()));
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        assert_eq!(seen.header("x-forwarded-host"), Some("shop.test"));
        assert_eq!(seen.header("x-request-id"), Some("abc-123"));
    }
}

/// A proxy sets one header and passes on what its client wrote into the other.
#[test]
fn h1_only_the_header_that_proxies_set_is_read() {
    let origin = hello();
    let top = |header: &str| {
        format!(
            "server = {{ trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"], forwarded_header = \"{header}\" }}"
        )
    };
    let (xff, fwd) = ("x-forwarded-for", "forwarded");
    let thousand = format!("X-Forwarded-For: 6.6.6.6,{}", ["10.1.2.3"; 1000].join(","));
    let cases: [(&str, &[&str], &str); 24] = [
        (fwd, &["Forwarded: for=203.0.113.7"], "203.0.113.7"),
        (fwd, &["X-Forwarded-For: 6.6.6.6", "Forwarded: for=203.0.113.7"], "203.0.113.7"),
        (fwd, &["Forwarded: for=203.0.113.7", "X-Forwarded-For: 6.6.6.6"], "203.0.113.7"),
        (fwd, &["X-Forwarded-For: 6.6.6.6"], "127.0.0.1"),
        (fwd, &["X-Forwarded-For: 6.6.6.6", "Forwarded: for=_hidden"], "127.0.0.1"),
        (fwd, &["X-Forwarded-For: 6.6.6.6", "Forwarded: garbage"], "127.0.0.1"),
        (fwd, &["Forwarded: for=6.6.6.6", "Forwarded: for=203.0.113.7, for=10.1.2.3"], "203.0.113.7"),
        (fwd, &["Forwarded: for=unknown, for=\"203.0.113.7:4711\";proto=https"], "203.0.113.7"),
        (fwd, &["Forwarded: for=\"[2001:db8::7]:4711\""], "2001:db8::7"),
        (fwd, &["Forwarded: for=\"[2001:db8::7]\";by=_x;host=a.test"], "2001:db8::7"),
        (fwd, &["Forwarded: for=\"6.6.6.6, for=203.0.113.7"], "203.0.113.7"),
        (fwd, &["Forwarded: for=203.0.113.7;host=\"a, for=6.6.6.6;b=\""], "203.0.113.7"),
        (fwd, &["Forwarded: for=6.6.6.6, for=10.1.2.3, for=unknown"], "127.0.0.1"),
        (xff, &["X-Forwarded-For: 203.0.113.7"], "203.0.113.7"),
        (xff, &["Forwarded: for=6.6.6.6", "X-Forwarded-For: 203.0.113.7"], "203.0.113.7"),
        (xff, &["Forwarded: for=6.6.6.6"], "127.0.0.1"),
        (xff, &["Forwarded: for=6.6.6.6", "X-Forwarded-For: garbage"], "127.0.0.1"),
        (
            xff,
            &["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 10.1.2.3"],
            "203.0.113.7",
        ),
        (xff, &["X-Forwarded-For: 203.0.113.7:4711"], "203.0.113.7"),
        (xff, &["X-Forwarded-For: [2001:db8::7]:4711"], "2001:db8::7"),
        (xff, &["X-Forwarded-For: for=6.6.6.6"], "127.0.0.1"),
        (xff, &["X-Forwarded-For: 6.6.6.6, _hidden"], "127.0.0.1"),
        (xff, &["X-Forwarded-For: 6.6.6.6, unknown, 10.1.2.3"], "10.1.2.3"),
        (xff, &[&thousand], "10.1.2.3"),
    ];
    for header in [fwd, xff] {
        let gateway = gateway(&origin, &top(header), "");
        for (_, fields, client) in cases.iter().filter(|case| case.0 == header) {
            assert_eq!(request(gateway.public(), "GET /x", fields, "").status(), 200, "{fields:?}");
            let seen = origin.requests().pop().unwrap();
            assert_eq!(
                seen.header("x-real-ip"),
                Some(*client),
                "{header} {}",
                &fields.concat()[..60.min(fields.concat().len())]
            );
            if header == fwd {
                let chain = seen.header("x-forwarded-for").unwrap();
                assert!(!chain.contains("6.6.6.6"), "{chain}");
            }
        }
    }
    // Scheme and host are those of the proxy that saw the client.
    let gateway = gateway(&origin, &top(fwd), "");
    let fields = [
        "Forwarded: for=6.6.6.6;proto=http;host=evil.test, for=203.0.113.7;proto=https;host=Shop.test, for=10.1.2.3",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: evil.test",
    ];
    assert_eq!(request(gateway.public(), "GET /x", &fields, "").status(), 200);
    let seen = origin.requests().pop().unwrap();
    assert_eq!(
        (seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")),
        (Some("https"), Some("shop.test"))
    );
    assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.7, 10.1.2.3, 127.0.0.1"));
}

#[test]
fn h2_requests_arrive_as_http_1_1() {
    let origin = hello();
    let gateway = gateway(&origin, "", "");
    let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    let fields = [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-forwarded-for", "9.9.9.9"),
        ("te", "trailers"),
        ("x-kept", "yes"),
    ];
    let stream = client.request("POST", "shop.test", "/a?b=c", &fields, false).unwrap();
    client.data(stream, b"body", true).unwrap();
    let answer = client.answer(stream).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (Some(200), &b"hello"[..]));
    let seen = &origin.requests()[0];
    assert_eq!((seen.method(), seen.target(), seen.body.as_slice()), ("POST", "/a?b=c", &b"body"[..]));
    for (name, value) in [
        ("host", Some("shop.test")),
        ("cookie", Some("a=1; b=2")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("te", None),
        ("x-kept", Some("yes")),
        ("via", Some("2 portcullis")),
    ] {
        assert_eq!(seen.header(name), value, "{}", seen.head_text());
    }
}

#[test]
fn a29_c12_what_belongs_to_the_origin_does_not_reach_the_client() {
    let answer = Answer::status(200)
        .header("Server", "Apache/2.4.1")
        .header("X-Powered-By", "PHP/5")
        .header("Connection", "X-Inner")
        .header("X-Inner", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Authenticate", "Basic")
        .header("Upgrade", "h2c")
        .header("Set-Cookie", "a=b")
        .header("X-Kept", "yes")
        .body("hello");
    let origin = Origin::answering(answer);
    let gateway = gateway(&origin, "", "");
    let response = request(gateway.public(), "GET /x", &[], "");
    for name in ["server", "x-powered-by", "x-inner", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    for (name, value) in [("x-kept", "yes"), ("set-cookie", "a=b"), ("x-content-type-options", "nosniff")] {
        assert_eq!(response.header(name), Some(value));
    }
    assert!(response.header("date").is_some() && response.header("x-request-id").is_some());
}

// ---- hostile requests

const FIRST: &str = "POST /x HTTP/1.1\r\nhost: a\r\n";

/// Matrix part A: the bytes, and the status they must get.
fn hostile() -> Vec<(&'static str, Vec<u8>, u16)> {
    let mut all: Vec<(&str, Vec<u8>, u16)> = Vec::new();
    let mut fields = |id, status, lines: &[&str]| {
        for line in lines {
            all.push((id, format!("{FIRST}{line}\r\n\r\n0\r\n\r\n").into_bytes(), status));
        }
    };
    fields("A1", 400, &["Content-Length: 47\r\nTransfer-Encoding: chunked"]);
    fields("A2", 400, &["Transfer-Encoding: chunked\r\nContent-Length: 4"]);
    fields("A3", 400, &["Transfer-Encoding: chunked\r\nContent-Length: x"]);
    fields(
        "A4",
        501,
        &["Transfer-Encoding: xchunked", "Transfer-Encoding: cow", "Transfer-Encoding: identity"],
    );
    fields(
        "A4",
        400,
        &[
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: \x0bchunked",
            "Transfer-Encoding: \u{a0}chunked",
            "Transfer-Encoding:",
            "Transfer-Encoding: chunked\0",
        ],
    );
    fields("A5", 400, &["Transfer-Encoding: gzip, chunked", "Transfer-Encoding: ,chunked"]);
    fields(
        "A6",
        400,
        &["Transfer-Encoding: chunked, chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"],
    );
    fields("A7", 400, &["Transfer-Encoding: chunked,"]);
    fields(
        "A9",
        400,
        &[
            "Content-Length: +10",
            "Content-Length: -10",
            "Content-Length: 0xa",
            "Content-Length: 1_0",
            "Content-Length: 10x",
            "Content-Length: 10.0",
            "Content-Length: \"1",
            "Content-Length:",
            "Content-Length: 10,5",
        ],
    );
    fields("A10", 400, &["Content-Length: 5, 5", "Content-Length: 5\r\nContent-Length: 5"]);
    fields("A11", 400, &["Content-Length: 18446744073709551626", "Content-Length: 9223372036854775808"]);
    fields("A11", 413, &["Content-Length: 9223372036854775807"]);
    fields("A12", 400, &["Content-Length: 10\r\nContent-Length: 5"]);
    fields("A15", 400, &["X: a\rb", "X\ry: a", "X: a\r"]);
    fields("A18", 400, &[" folded: x", "X: a\r\n b", "Transfer-Encoding:\r\n chunked"]);
    fields(
        "A19",
        400,
        &["Transfer-Encoding : chunked", "Foo", ": x", "X Y: a", "X\u{e9}: a", "X\0: a", "X\t: a"],
    );
    fields("A20", 400, &["X: a\0b", "X: a\x01b", "X: a\x7fb"]);
    fields(
        "A27",
        400,
        &[
            "Transfer_Encoding: chunked",
            "Content_Length: 5",
            "X_Forwarded_For: 1.1.1.1",
            "X_Consumer_Id: root",
        ],
    );
    fields(
        "A28",
        400,
        &[
            "Connection: Host",
            "Connection: X-Forwarded-For",
            "Connection: close, Authorization",
            "Connection: Content-Length",
        ],
    );
    fields("A36", 417, &["Expect: 200-ok"]);
    fields("A36", 400, &["Expect: 100-continue\r\nExpect: 100-continue"]);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    for (id, body) in [
        ("A17", "5\nhello\r\n0\r\n\r\n"),
        ("A17", "5\r\nhello\n0\r\n\r\n"),
        ("A17", "0\n\r\n"),
        ("A17", "5;a\nhello\r\n0\r\n\r\n"),
        ("A21", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("A21", "+5\r\nhello\r\n0\r\n\r\n"),
        ("A21", "-5\r\nhello\r\n0\r\n\r\n"),
        ("A21", "0_5\r\nhello\r\n0\r\n\r\n"),
        ("A21", " 5\r\nhello\r\n0\r\n\r\n"),
        ("A21", "\r\nhello\r\n0\r\n\r\n"),
        ("A21", "fffffffffffffffff\r\n"),
        ("A22", "5 \r\nhello\r\n0\r\n\r\n"),
        ("A22", "00000000000000000000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("A23", "5\r\nhello!\r\n0\r\n\r\n"),
        ("A23", "5\r\nhelloXX0\r\n\r\n"),
        ("A25", "5;a\0\r\nhello\r\n0\r\n\r\n"),
        ("A15", "5\r;a\r\nhello\r\n0\r\n\r\n"),
        ("A26", "5\r\nhello\r\n0\r\nGET /x HTTP/1.1\r\n\r\n"),
        ("A26", "5\r\nhello\r\n0\r\nXX\r\n\r\n"),
    ] {
        all.push((id, format!("{FIRST}{chunked}{body}").into_bytes(), 400));
    }
    let extension = format!("{FIRST}{chunked}5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(20_000));
    all.push(("A24", extension.into_bytes(), 400));
    let extensions = format!("{FIRST}{chunked}{}0\r\n\r\n", "1;aaaaaaaaaaaaaaaa\r\nx\r\n".repeat(1500));
    all.push(("A24", extensions.into_bytes(), 400));
    for (id, text, status) in [
        ("A8", "POST / HTTP/1.0\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("A16", "GET / HTTP/1.1\nhost: a\n\n", 400),
        ("A16", "GET / HTTP/1.1\r\nhost: a\n\r\n", 400),
        ("A30", "GET / HTTP/1.1\r\n\r\n", 400),
        ("A30", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("A30", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("A30", "GET / HTTP/1.1\r\nhost: x@a\r\n\r\n", 400),
        ("A30", "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400),
        ("A30", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        ("A30", "GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n", 400),
        ("A31", "GET http://b/h HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A32", "GET x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A32", "GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A32", "GET /x#y HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A32", "GET /x y HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A32", "GET /x\ty HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A32", "GET /x\0y HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A32", "GET /x\u{e9} HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A32", "GET ftp://a/x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A33", "GET /x\r\n\r\n", 400),
        ("A33", "GET /x HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        ("A33", "GET /x HTTP/1.2\r\nhost: a\r\n\r\n", 505),
        ("A33", "GET /x HTTP/1.10\r\nhost: a\r\n\r\n", 400),
        ("A33", "GET /x http/1.1\r\nhost: a\r\n\r\n", 400),
        ("A34", "PRI * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A34", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 505),
        ("A35", "get / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A35", "G=\"T / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("A35", "TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("A35", "TRACK / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("A35", "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405),
    ] {
        all.push((id, text.as_bytes().to_vec(), status));
    }
    let long = |text: &str, times: usize| text.repeat(times);
    all.push(("A38", format!("{FIRST}{}\r\n", long("X: y\r\n", 101)).into_bytes(), 431));
    all.push(("A38", format!("{FIRST}X: {}\r\n\r\n", long("a", 64 * 1024)).into_bytes(), 431));
    all.push(("A38", format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", long("a", 70_000)).into_bytes(), 414));
    all.push(("A38", format!("{FIRST}Cookie: {}\r\n\r\n", long("a=b; ", 10_000)).into_bytes(), 431));
    all
}

#[test]
fn a_hostile_requests_reach_no_origin() {
    let origin = hello();
    let gateway = gateway(&origin, "", "");
    let cases = hostile();
    assert!(cases.len() > 100, "{}", cases.len());
    for (id, bytes, status) in cases {
        let shown: String = String::from_utf8_lossy(&bytes).chars().take(120).collect();
        let mut client = RawClient::connect(gateway.public()).unwrap();
        // What follows must never be read as a request of its own.
        let _ = client.send([&bytes[..], b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"].concat());
        let response = client.response().unwrap_or_else(|error| panic!("{id} {shown:?}: {error}"));
        assert_eq!(response.status(), status, "{id} {shown:?}");
        assert_eq!(response.header("connection"), Some("close"), "{id} {shown:?}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{id} {shown:?}");
        assert!(response.complete && client.is_closed(), "{id} {shown:?}");
    }
    let seen: Vec<String> = origin.requests().iter().map(portcullis_testkit::Received::head_text).collect();
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn a10_a13_a39_odd_but_sound_requests_are_made_plain() {
    let origin = hello();
    let gateway = gateway(&origin, "", "");
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client
        .send(format!("{FIRST}Content-Length: 0005\r\n\r\nhelloGET /next HTTP/1.1\r\nhost: a\r\n\r\n"))
        .unwrap();
    assert_eq!((client.response().unwrap().status(), client.response().unwrap().status()), (200, 200));
    let requests = origin.requests();
    assert_eq!(
        (requests[0].header("content-length"), requests[0].body.as_slice()),
        (Some("5"), &b"hello"[..])
    );
    assert_eq!(requests[1].target(), "/next");
    // A body that looks like a request stays a body.
    client.send("GET /outer HTTP/1.1\r\nhost: a\r\ncontent-length: 34\r\n\r\nGET /inner HTTP/1.1\r\nhost: a\r\n\r\n...").unwrap();
    assert_eq!(client.response().unwrap().status(), 200);
    assert_eq!((origin.count(), origin.requests()[2].length), (3, 34));
    // Trailers are not forwarded, nor is a chunk's extension.
    client.send(format!("{FIRST}Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nHost: evil\r\nX-Via: evil\r\n\r\n")).unwrap();
    assert_eq!(client.response().unwrap().status(), 200);
    let seen = &origin.requests()[3];
    assert!(!seen.head_text().contains("evil") && seen.body == b"hello");
    client.send("GET /p HTTP/1.1\r\nhost: a\r\n\r\n".repeat(200)).unwrap();
    assert!((0..200).all(|_| client.response().unwrap().text() == "hello"));
    assert_eq!(origin.count(), 204);
}

#[test]
fn f_path_forms_are_read_once() {
    let origin = hello();
    let upstream = origin.address();
    let gateway = Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            admin.listen = "{}"
            firewall.mode = "off"
            [[listener]]
            name = "public"
            address = "{}"
            [upstream.origin]
            endpoints = [{{ address = "{upstream}" }}]
            [[route]]
            name = "admin"
            match = {{ path = "/admin/{{*rest}}" }}
            upstream = "origin"
            addresses = {{ deny = ["127.0.0.0/8"] }}
            [[route]]
            name = "admin-itself"
            match = {{ path = "/admin" }}
            upstream = "origin"
            addresses = {{ deny = ["127.0.0.0/8"] }}
            [[route]]
            name = "rest"
            match = {{ path = "/{{*rest}}" }}
            upstream = "origin"
            "#,
            ports.admin, ports.public
        )
    });
    let denied = [
        "/admin",
        "/admin/",
        "//admin",
        "/./admin",
        "/a/../admin",
        "/%2e/admin",
        "/a/%2e%2e/admin",
        "/%61dmin",
        "/admin/x",
        "/admin//x",
        "/admin/./x",
        "///admin///x",
        "/a/b/../../admin/x",
        "/x/..//admin",
        "/admin/.",
        "/admin/x/..",
        "/admin?x=/..",
        "/a/.%2e/admin",
    ];
    let refused = [
        "/%2fadmin",
        "/a%2f..%2fadmin",
        "/a%5c..%5cadmin",
        "/a\\..\\admin",
        "/..;/admin",
        "/admin;x=1",
        "/admin;/..",
        "/x;/admin",
        "/%3b/admin",
        "/%252e%252e/admin",
        "/%252fadmin",
        "/a%25%32%66admin",
        "/%c0%ae%c0%ae/admin",
        "/%c1%9cadmin",
        "/%u002e/admin",
        "/%zz",
        "/%2",
        "/admin%00",
        "/admin%0a",
        "/admin%0d%0aX:y",
        "/../admin",
        "/..",
        "/a/../../admin",
        "/%2e%2e/admin",
        "/admin#",
        "/admin%2f",
        "/\x7fadmin",
    ];
    let passed = [
        ("/ADMIN", "/ADMIN"),
        ("/admin.json", "/admin.json"),
        ("/admin%20", "/admin%20"),
        ("/admin~", "/admin~"),
        ("/a//b/./c/../d", "/a/b/d"),
        ("/a/%7Euser", "/a/~user"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/a?x=/../admin&y=%2f", "/a?x=/../admin&y=%2f"),
    ];
    let ask = |path: &str| request(gateway.public(), &format!("GET {path}"), &[], "").status();
    for path in denied {
        assert_eq!(ask(path), 403, "{path}");
    }
    for path in refused {
        assert_eq!(ask(path), 400, "{path:?}");
    }
    assert_eq!(origin.count(), 0);
    for (path, forwarded) in passed {
        assert_eq!(ask(path), 200, "{path}");
        assert_eq!(origin.requests().pop().unwrap().target(), forwarded, "{path}");
    }
    let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    for path in denied {
        assert_eq!(client.get("a", path).unwrap().status, Some(403), "{path} in HTTP/2");
    }
    assert_eq!(origin.count(), passed.len());
}

#[test]
fn a31_a32_other_forms_of_target() {
    let origin = hello();
    let gateway = gateway(&origin, "", "");
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("GET http://A.test:80/x?y HTTP/1.1\r\nhost: a.test:80\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status(), 200);
    let seen = origin.requests().pop().unwrap();
    assert_eq!((seen.target(), seen.header("host")), ("/x?y", Some("a.test:80")));
    client.send("OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    let response = client.response().unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(origin.count(), 1);
    client.send("OPTIONS /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert_eq!((client.response().unwrap().status(), origin.count()), (200, 2));
}

// ---- routes and limits

fn routed(origin: &Origin, top: &str, listener: &str) -> Gateway {
    let upstream = origin.address();
    Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            admin.listen = "{}"
            firewall.mode = "off"
            {top}
            [[listener]]
            name = "public"
            address = "{}"
            {listener}
            [upstream.origin]
            endpoints = [{{ address = "{upstream}" }}]
            [[route]]
            name = "read"
            match = {{ path = "/items/{{id}}", methods = ["GET"] }}
            upstream = "origin"
            [[route]]
            name = "write"
            match = {{ path = "/items/{{id}}", methods = ["PUT", "DELETE"] }}
            upstream = "origin"
            [[route]]
            name = "narrow"
            match = {{ path = "/narrow" }}
            upstream = "origin"
            limits = {{ max_head = "300B", max_fields = 5 }}
            [[route]]
            name = "inside"
            match = {{ path = "/inside" }}
            upstream = "origin"
            addresses = {{ allow = ["10.0.0.0/8", "2001:db8::/32"], deny = ["10.6.6.6"] }}
            "#,
            ports.admin, ports.public
        )
    })
}

#[test]
fn no_route_and_no_such_method() {
    let origin = hello();
    let gateway = routed(&origin, "", "");
    assert_eq!(request(gateway.public(), "GET /nowhere", &[], "").status(), 404);
    assert_eq!(request(gateway.public(), "GET /items/1/more", &[], "").status(), 404);
    let response = request(gateway.public(), "POST /items/1", &[], "x");
    assert_eq!((response.status(), response.header("content-type")), (405, Some("application/problem+json")));
    let mut allowed: Vec<&str> = response.header("allow").unwrap().split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PUT"]);
    assert_eq!(origin.count(), 0);
    assert_eq!(request(gateway.public(), "GET /items/1", &[], "").status(), 200);
    assert_eq!(request(gateway.public(), "DELETE /items/1", &[], "").status(), 200);
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("HEAD /items/1 HTTP/1.1\r\nhost: a\r\n\r\nGET /items/2 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(client.head().unwrap().starts_with(b"HTTP/1.1 200 "));
    assert_eq!(client.response().unwrap().text(), "hello");
}

#[test]
fn heads_over_a_route_s_own_limits() {
    let origin = hello();
    let gateway = routed(&origin, "", "");
    assert_eq!(request(gateway.public(), "GET /narrow", &["x: y"], "").status(), 200);
    let long = format!("x: {}", "a".repeat(300));
    assert_eq!(request(gateway.public(), "GET /narrow", &[&long], "").status(), 431);
    assert_eq!(request(gateway.public(), "GET /narrow", &["x: y"; 6], "").status(), 431);
    assert_eq!(
        request(gateway.public(), "GET /items/1", &[&long, "x: y", "x: y", "x: y", "x: y", "x: y"], "")
            .status(),
        200
    );
    assert_eq!(origin.count(), 2);
}

#[test]
fn addresses_that_may_come() {
    let origin = hello();
    let gateway = routed(
        &origin,
        "server.trusted_proxies = [\"127.0.0.1\"]\naddresses.deny = [\"203.0.113.0/24\"]",
        "",
    );
    for (client, path, status) in [
        ("10.1.1.1", "/inside", 200),
        ("10.6.6.6", "/inside", 403),
        ("192.168.0.1", "/inside", 403),
        ("2001:db8::1", "/inside", 200),
        ("2001:db9::1", "/inside", 403),
        ("::ffff:10.1.1.1", "/inside", 200),
        ("203.0.113.9", "/items/1", 403),
        ("198.51.100.1", "/items/1", 200),
        ("198.51.100.1, 203.0.113.9", "/items/1", 403),
        ("203.0.113.9, 198.51.100.1", "/items/1", 200),
    ] {
        let response =
            request(gateway.public(), &format!("GET {path}"), &[&format!("x-forwarded-for: {client}")], "");
        assert_eq!(response.status(), status, "{client} {path}");
    }
    // Whoever is no proxy has the peer's address, whatever is said.
    let untrusting = routed(&origin, "", "");
    assert_eq!(request(untrusting.public(), "GET /inside", &["x-forwarded-for: 10.1.1.1"], "").status(), 403);
}

#[test]
fn connections_over_the_limit_wait() {
    let origin = hello();
    for (top, listener) in [
        ("server.threads = 1\nserver.max_connections = 2", ""),
        ("server.threads = 1", "limits = { max_connections = 2 }"),
    ] {
        let gateway = routed(&origin, top, listener);
        let ask = |client: &mut RawClient| client.send("GET /items/1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut open: Vec<RawClient> =
            (0..2).map(|_| RawClient::connect(gateway.public()).unwrap()).collect();
        for client in &mut open {
            ask(client);
            assert_eq!(client.response().unwrap().status(), 200);
        }
        let before = origin.count();
        let mut waiting = RawClient::connect(gateway.public()).unwrap();
        ask(&mut waiting);
        // Those that are open are served meanwhile.
        for _ in 0..20 {
            ask(&mut open[0]);
            assert_eq!(open[0].response().unwrap().status(), 200);
        }
        assert_eq!(origin.count(), before + 20, "{top} {listener}");
        drop(open);
        assert_eq!(waiting.response().unwrap().status(), 200);
    }
}
