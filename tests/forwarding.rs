//! What of a request reaches an origin, and what of its answer the client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gateway, H2Client, H2Origin, Origin, RawClient, everything_to, request};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

fn hello() -> Origin {
    Origin::answering(Answer::ok("hello"))
}

#[test]
fn e6_what_a_client_says_of_itself_is_not_believed() {
    let origin = hello();
    let gateway = Gateway::forwarding(BINARY, &origin, "", "");
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
        "Proxy: http://evil.test",
        "X-User: root",
        "X-SSL-Client-Verify: root",
        "SSL-Client-Subject-DN: CN=root",
        "CF-Connecting-IP: 9.9.9.9",
        "X-Forwarded-User: root",
        "X-Forwarded: for=9.9.9.9",
        "X-Portcullis-Anything: root",
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
    let gateway = Gateway::forwarding(
        BINARY,
        &origin,
        "server.trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]",
        "",
    );
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
        let gateway = Gateway::forwarding(BINARY, &origin, &top(header), "");
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
    let gateway = Gateway::forwarding(BINARY, &origin, &top(fwd), "");
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
    let gateway = Gateway::forwarding(BINARY, &origin, "", "");
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
    let gateway = Gateway::forwarding(BINARY, &origin, "", "");
    let response = request(gateway.public(), "GET /x", &[], "");
    for name in ["server", "x-powered-by", "x-inner", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    for (name, value) in [("x-kept", "yes"), ("set-cookie", "a=b"), ("x-content-type-options", "nosniff")] {
        assert_eq!(response.header(name), Some(value));
    }
    assert!(response.header("date").is_some() && response.header("x-request-id").is_some());
}

const DEADLINES: &str = "firewall.mode = \"off\"\nserver.deadline_header = \"x-wait-ms\"";

#[test]
fn a_caller_may_wait_less_than_the_route_and_never_longer() {
    let origin = Origin::start(|request| match request.target() {
        "/hang" => Answer::hang(),
        _ => Answer::ok("hello"),
    });
    let top = "server.deadline_header = \"x-wait-ms\"";
    let gateway = Gateway::forwarding(BINARY, &origin, top, "timeouts.total = \"500ms\"");
    let began = Instant::now();
    assert_eq!(request(gateway.public(), "GET /hang", &["x-wait-ms: 3600000"], "").status(), 504);
    assert!(began.elapsed() < Duration::from_secs(20), "the route's own time counts");
    // What is no number of milliseconds is as good as nothing; of several the first counts; one is passed on.
    let odd = ["-1", "+1", "1e1", "0x1", "1.5", "1s", "1,2", "", "99999999999999999999", "\u{661}"];
    let odd = odd.iter().map(|value| vec![format!("x-wait-ms: {value}")]);
    let several = vec!["x-wait-ms: 400".to_owned(), "X-Wait-MS: 3600000".to_owned()];
    for fields in odd.chain([several]) {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(request(gateway.public(), "GET /x", &fields, "").status(), 200, "{fields:?}");
        let sent = origin.requests().pop().unwrap();
        let told: u64 = sent.header("x-wait-ms").unwrap().parse().unwrap();
        assert!((1..=500).contains(&told), "{fields:?}: {told}");
        assert_eq!(sent.head_text().to_lowercase().matches("x-wait-ms").count(), 1, "{fields:?}");
    }
    assert_eq!(
        request(gateway.public(), "GET /x", &["x-wait-ms: 0"], "").status(),
        504,
        "no time is no time"
    );
    // Where no such field is configured it is a field as any.
    let plain = Gateway::forwarding(BINARY, &origin, "", "");
    assert_eq!(request(plain.public(), "GET /x", &["x-wait-ms: 0"], "").status(), 200);
    assert_eq!(origin.requests().pop().unwrap().header("x-wait-ms"), Some("0"));
}

#[test]
fn where_a_route_has_no_total_time_only_a_deadline_that_is_one_is_passed_on() {
    let origin = H2Origin::start(None, |_| http::Response::new("hello".into()));
    let gateway = Gateway::builder(BINARY).start(|ports| {
        ports.opening(DEADLINES, "")
            + &everything_to(&[origin.address()], "protocol = \"http2\"", "grpc = true")
    });
    let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    let mut ask = |fields: &[(&str, &str)]| {
        let fields = [&[("content-type", "application/grpc"), ("te", "trailers")], fields].concat();
        let stream = client.request("POST", "a.test", "/test.Echo/Unary", &fields, true).unwrap();
        assert_eq!(client.answer(stream).unwrap().status, Some(200));
        let sent = origin.requests().pop().unwrap();
        ["grpc-timeout", "x-wait-ms"]
            .map(|name| sent.headers().get(name).map(|value| value.to_str().unwrap().to_owned()))
    };
    for (name, value) in [
        ("grpc-timeout", "soon"),
        ("grpc-timeout", "123456789S"),
        ("grpc-timeout", "-1S"),
        ("grpc-timeout", "1d"),
        ("x-wait-ms", "soon"),
    ] {
        assert_eq!(ask(&[(name, value)]), [None, None], "{name}: {value}");
    }
    let [grpc, field] = ask(&[("grpc-timeout", "9S"), ("x-wait-ms", "7000")]);
    let grpc: u64 = grpc.unwrap().strip_suffix('m').unwrap().parse().unwrap();
    assert!((1..=7000).contains(&grpc) && (1..=7000).contains(&field.unwrap().parse().unwrap()), "{grpc}");
}

#[test]
fn parts_of_a_composition_are_told_the_less_of_two_times() {
    let origin = Origin::answering(Answer::json("{}"));
    let page = r#"
        [[route]]
        name = "page"
        match = { path = "/page", methods = ["GET"] }
        [[route.compose.part]]
        name = "one"
        upstream = "origin"
        path = "/one"
        timeout = "5s"
        "#;
    let gateway = Gateway::builder(BINARY)
        .start(|ports| ports.opening(DEADLINES, "") + &everything_to(&[origin.address()], "", page));
    for (field, most) in [("x-wait-ms: 3000", 3000), ("x-wait-ms: 9000", 5000), ("x-else: 1", 5000)] {
        assert_eq!(request(gateway.public(), "GET /page", &[field], "").status(), 200);
        let told: u64 = origin.requests().pop().unwrap().header("x-wait-ms").unwrap().parse().unwrap();
        assert!((most - 2500..=most).contains(&told), "{field}: {told}");
    }
}
