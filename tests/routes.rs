//! Which requests have a route, and the bounds of routes and listeners: heads, addresses, connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gateway, Origin, RawClient, request};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

fn hello() -> Origin {
    Origin::answering(Answer::ok("hello"))
}

fn routed(origin: &Origin, top: &str, listener: &str) -> Gateway {
    let upstream = origin.address();
    Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            {opening}
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
            opening = ports.opening(&format!("firewall.mode = \"off\"\n{top}"), listener)
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
