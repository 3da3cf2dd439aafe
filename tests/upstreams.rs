//! Upstreams that are dead, slow or lying, and those that are well: what the client gets, and what becomes of the
//! connection (matrix part C).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Authority, Gateway, GatewayBuilder, H2Client, H2Origin, Origin, RawClient, Response, Step,
    free_port, get, request,
};
use socket2::{Domain, Socket, Type};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// A gateway with one worker, whose upstream is set up so.
fn start(builder: GatewayBuilder, upstream: &str) -> Gateway {
    builder.start(|ports| {
        format!(
            r#"
            {opening}
            [upstream.origin]
            {upstream}
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "origin"
            [[route]]
            name = "stream"
            match = {{ path = "/stream/{{*rest}}" }}
            upstream = "origin"
            body = {{ mode = "stream" }}
            response = {{ streaming = true, max_size = "10KiB" }}
            "#,
            opening = ports.opening("firewall.mode = \"off\"\nserver.threads = 1", "")
        )
    })
}

/// A gateway in front of one endpoint, with short limits.
fn gateway(origin: &Origin) -> Gateway {
    let upstream = format!(
        "endpoints = [{{ address = \"{}\" }}]\nconnect_timeout = \"1s\"\nresponse_timeout = \"500ms\"\nidle_timeout = \"500ms\"",
        origin.address()
    );
    start(Gateway::builder(BINARY), &upstream)
}

fn code(response: &Response) -> String {
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    response.json()["code"].as_str().unwrap().to_owned()
}

#[test]
fn c13_nobody_listens() {
    let gateway =
        start(Gateway::builder(BINARY), &format!("endpoints = [{{ address = \"{}\" }}]", free_port()));
    for method in ["GET", "POST"] {
        let response = request(gateway.public(), &format!("{method} /x"), &[], "");
        assert_eq!((response.status(), code(&response).as_str()), (502, "upstream_error"));
    }
    let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    assert_eq!(client.get("a", "/x").unwrap().status, Some(502));
    let unknown = start(
        Gateway::builder(BINARY),
        "endpoints = [{ address = \"no-such-host.invalid:80\" }]\nconnect_timeout = \"5s\"",
    );
    let response = get(unknown.public(), "/x");
    assert!(matches!(response.status(), 502 | 504), "{}", response.status());
}

#[test]
fn c13_a_black_hole() {
    // A full backlog takes no connection and refuses none.
    let listener = socket_that_accepts_nobody();
    let upstream = format!("endpoints = [{{ address = \"{}\" }}]\nconnect_timeout = \"300ms\"", listener.1);
    let gateway = start(Gateway::builder(BINARY), &upstream);
    let response = get(gateway.public(), "/x");
    assert_eq!((response.status(), code(&response).as_str()), (504, "upstream_timeout"));
}

/// A listening socket whose queue is full.
fn socket_that_accepts_nobody() -> (Vec<TcpStream>, SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue has no end");
    }
    (queue, address, socket)
}

#[test]
fn c1_c3_c7_c8_c9_answers_that_are_no_answers() {
    let cases = [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-length: +4\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\nx: y\n\nhi",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nx y: z\r\n\r\nhi",
        "HTTP/1.1 999 Odd\r\n\r\nhi",
        "HTTP/2.0 200 OK\r\n\r\nhi",
        "<html>of version 0.9</html>\r\n\r\n",
        "HTTP/1.1 2",
        "",
    ];
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\nhi", "x: y\r\n".repeat(5000));
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\nhi", "a".repeat(500_000));
    let interim = format!("{}HTTP/1.1 200 OK\r\n\r\nhi", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000));
    let mut all: Vec<String> = cases.iter().map(ToString::to_string).collect();
    all.extend([many, large, interim]);
    let script = all.clone();
    let next = AtomicUsize::new(0);
    let origin = Origin::start(move |_| {
        let answer = Answer::raw(&script[next.fetch_add(1, Ordering::SeqCst) % script.len()]);
        answer.then([Step::Close])
    });
    let gateway = gateway(&origin);
    for (at, bytes) in all.iter().enumerate() {
        // A POST: what failed must not be tried again with the next case.
        let response = request(gateway.public(), "POST /x", &[], "body");
        let shown: String = bytes.chars().take(60).collect();
        assert_eq!((response.status(), code(&response).as_str()), (502, "upstream_error"), "{shown:?}");
        assert_eq!((origin.count(), origin.connections()), (at + 1, at + 1), "{shown:?}");
    }
}

#[test]
fn c7_interim_answers_are_read_over() {
    let answer = Answer::raw(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    );
    let origin = Origin::answering(answer);
    let gateway = gateway(&origin);
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(client.head().unwrap().starts_with(b"HTTP/1.1 200 "));
}

#[test]
fn c4_bodies_that_break_off_are_seen_to_be_cut() {
    for then in [Step::Close, Step::Reset, Step::Hang] {
        for bytes in [
            "HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        ] {
            let origin = Origin::answering(Answer::raw(bytes).then([then.clone()]));
            let gateway = gateway(&origin);
            // A body that had not begun to leave may as well be answered by an error of our own.
            let mut client = RawClient::connect(gateway.public()).unwrap();
            client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let response = client.response().unwrap();
            assert!(!response.complete || response.status() >= 502, "{then:?} {bytes:?}: {response:?}");
            if !response.complete {
                assert!(client.is_closed());
            }
            // In HTTP/1.0 the end of the connection is the end of the body: it must not look like one.
            let mut client = RawClient::connect(gateway.public()).unwrap();
            client.send("GET /x HTTP/1.0\r\nhost: a\r\n\r\n").unwrap();
            let head = String::from_utf8(client.head().unwrap()).unwrap();
            if head.starts_with("HTTP/1.1 200") && !head.contains("content-length") {
                assert_eq!(
                    client.rest().unwrap_err().kind(),
                    ErrorKind::ConnectionReset,
                    "{then:?} {bytes:?}"
                );
            }
            let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
            let seen = client.get("a", "/x").unwrap();
            assert!(seen.reset.is_some() || seen.status >= Some(502), "{then:?} {bytes:?}: {seen:?}");
            assert_eq!(origin.connections(), 3, "none of them was used again");
        }
    }
}

#[test]
fn c5_what_follows_an_answer_spoils_the_connection() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
        "HTTP/1.1 204 No Content\r\n\r\npoison",
        "HTTP/1.1 304 Not Modified\r\n\r\npoison",
    ] {
        let origin = Origin::answering(Answer::raw(bytes));
        let gateway = gateway(&origin);
        for _ in 0..3 {
            let response = get(gateway.public(), "/x");
            assert!(
                matches!((response.status(), response.text().as_str()), (200, "hi") | (204 | 304, "")),
                "{bytes:?}: {response:?}"
            );
        }
        assert_eq!(origin.connections(), 3, "{bytes:?}");
    }
    let origin = Origin::answering(Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"));
    let gateway = gateway(&origin);
    for _ in 0..3 {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send("HEAD /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let text = String::from_utf8(client.rest().unwrap()).unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"), "{text}");
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn c10_slow_upstreams() {
    let hangs = Origin::answering(Answer::hang());
    let response = get(gateway(&hangs).public(), "/x");
    assert_eq!((response.status(), code(&response).as_str()), (504, "upstream_timeout"));
    let drips = Origin::answering(Answer::ok("hello").dripping(Duration::from_millis(100)));
    assert_eq!(get(gateway(&drips).public(), "/x").status(), 504);
    let half = Origin::answering(Answer::raw("HTTP/1.1 200 OK\r\ncontent-").then([Step::Hang]));
    assert_eq!(get(gateway(&half).public(), "/x").status(), 504);
    // Slow, but within its limits.
    let slow = Origin::answering(Answer::ok("hello").after(Duration::from_millis(200)));
    assert_eq!(get(gateway(&slow).public(), "/x").text(), "hello");
}

#[test]
fn answers_larger_than_the_route_allows() {
    let large = vec![b'x'; 20_000];
    let body = large.clone();
    let known = Origin::start(move |_| Answer::ok(&body));
    let gateway_known = gateway(&known);
    let response = get(gateway_known.public(), "/stream/x");
    assert_eq!((response.status(), code(&response).as_str()), (502, "upstream_error"));
    assert!(get(gateway_known.public(), "/x").body == large);
    let unknown = Origin::start(move |_| Answer::status(200).chunks(large.chunks(1000), None));
    let gateway_unknown = gateway(&unknown);
    let mut client = RawClient::connect(gateway_unknown.public()).unwrap();
    client.send("GET /stream/x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(client.response().map_or(true, |response| !response.complete));
}

#[test]
fn connections_are_used_again_and_replaced_when_dead() {
    let origin = Origin::start(|request| match request.target() {
        "/last" => Answer::ok("hello").then([Step::Close]),
        _ => Answer::echo(request),
    });
    let gateway = gateway(&origin);
    for _ in 0..10 {
        assert_eq!(get(gateway.public(), "/x").status(), 200);
    }
    assert_eq!((origin.connections(), origin.count()), (1, 10));
    // It closes after an answer, and nobody notices.
    for _ in 0..10 {
        assert_eq!(get(gateway.public(), "/last").text(), "hello");
        assert_eq!(request(gateway.public(), "POST /x", &[], "body").text(), "body");
    }
    assert_eq!(origin.count(), 30);
}

#[test]
fn c14_a_post_is_never_sent_twice() {
    // The first request on each connection is answered, the second is lost after it was read.
    let script = |last: Step| {
        let seen = std::sync::Mutex::new(std::collections::HashSet::new());
        move |request: &portcullis_testkit::Received| {
            if seen.lock().unwrap().insert(request.connection) {
                Answer::ok("first")
            } else {
                Answer::steps([last.clone()])
            }
        }
    };
    for last in [Step::Close, Step::Reset] {
        for path in ["/x", "/stream/x"] {
            let origin = Origin::start(script(last.clone()));
            let gateway = gateway(&origin);
            assert_eq!(get(gateway.public(), path).text(), "first");
            let response = request(gateway.public(), &format!("POST {path}"), &[], "pay once");
            assert_eq!(response.status(), 502, "{last:?} {path}");
            assert_eq!(origin.requests().iter().filter(|request| request.method() == "POST").count(), 1);
        }
        // What may be repeated is: once, on a new connection.
        let origin = Origin::start(script(last.clone()));
        let gateway = gateway(&origin);
        assert_eq!(get(gateway.public(), "/x").text(), "first");
        assert_eq!(get(gateway.public(), "/x").text(), "first");
        assert_eq!((origin.count(), origin.connections()), (3, 2));
    }
}

#[test]
fn another_endpoint_answers_for_a_dead_one() {
    let origin = Origin::start(Answer::echo);
    let upstream = format!(
        "endpoints = [{{ address = \"{}\" }}, {{ address = \"{}\" }}]",
        free_port(),
        origin.address()
    );
    let gateway = start(Gateway::builder(BINARY), &upstream);
    for n in 1..=20 {
        // Nothing of the POST had left for the endpoint that could not be connected to.
        let response = request(gateway.public(), "POST /x", &[], "body");
        assert_eq!((response.status(), response.text().as_str(), origin.count()), (200, "body", n));
    }
}

#[test]
fn endpoints_are_chosen_by_weight() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::answering(Answer::ok("x"))).collect();
    let endpoints: Vec<String> = origins
        .iter()
        .zip([1, 2, 5])
        .map(|(origin, weight)| format!("{{ address = \"{}\", weight = {weight} }}", origin.address()))
        .collect();
    let gateway = start(Gateway::builder(BINARY), &format!("endpoints = [{}]", endpoints.join(", ")));
    let mut client = RawClient::connect(gateway.public()).unwrap();
    for _ in 0..80 {
        client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        client.response().unwrap();
    }
    assert_eq!(origins.iter().map(Origin::count).collect::<Vec<_>>(), [10, 20, 50]);
    let plain: Vec<String> =
        origins.iter().map(|origin| format!("{{ address = \"{}\" }}", origin.address())).collect();
    let two = start(
        Gateway::builder(BINARY),
        &format!("balance = \"power_of_two\"\nendpoints = [{}]", plain.join(", ")),
    );
    for _ in 0..100 {
        assert_eq!(get(two.public(), "/x").status(), 200);
    }
    assert!(origins.iter().all(|origin| origin.count() > 10));
}

#[test]
fn http_2_to_the_upstream() {
    let origin = H2Origin::start(None, |request| {
        let mut answer = http::Response::new(request.body().clone());
        *answer.status_mut() = if request.uri().path() == "/missing" {
            http::StatusCode::NOT_FOUND
        } else {
            http::StatusCode::OK
        };
        answer
    });
    let gateway = start(
        Gateway::builder(BINARY),
        &format!("endpoints = [{{ address = \"{}\" }}]\nprotocol = \"http2\"", origin.address()),
    );
    let fields = ["cookie: a=b", "x-kept: yes", "connection: close, x-hop", "x-hop: no", "te: trailers"];
    for n in 0..10 {
        let response = request(gateway.public(), "POST /x?y=z", &fields, format!("body {n}"));
        assert_eq!((response.status(), response.text()), (200, format!("body {n}")));
    }
    assert_eq!(get(gateway.public(), "/missing").status(), 404);
    let large = vec![b'x'; 900_000];
    assert!(request(gateway.public(), "PUT /stream/x", &[], "small").body == b"small");
    assert!(request(gateway.public(), "PUT /x", &[], &large).body == large);
    assert_eq!(origin.connections(), 1);
    let first = &origin.requests()[0];
    assert_eq!((first.uri().path(), first.uri().query()), ("/x", Some("y=z")));
    assert_eq!(first.uri().authority().unwrap().as_str(), gateway.public().to_string());
    for (name, value) in [
        ("cookie", Some("a=b")),
        ("x-kept", Some("yes")),
        ("x-hop", None),
        ("host", None),
        ("te", None),
        ("connection", None),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("via", Some("1.1 portcullis")),
    ] {
        assert_eq!(first.headers().get(name).map(|value| value.to_str().unwrap()), value, "{name}");
    }
    // An HTTP/1 server that was said to speak HTTP/2.
    let liar = Origin::answering(Answer::ok("x"));
    let gateway = start(
        Gateway::builder(BINARY),
        &format!(
            "endpoints = [{{ address = \"{}\" }}]\nprotocol = \"http2\"\nresponse_timeout = \"2s\"",
            liar.address()
        ),
    );
    let response = get(gateway.public(), "/x");
    assert!(matches!(response.status(), 502 | 504), "{}", response.status());
}

#[test]
fn c13_tls_to_the_upstream_is_verified() {
    let (authority, other) = (Authority::new(), Authority::new());
    let builder = || Gateway::builder(BINARY).file("ca.pem", authority.pem()).file("other.pem", other.pem());
    let identity = authority.issue(&["origin.test"]);
    let origin = Origin::builder().tls(identity.server_config(&["http/1.1"])).start(Answer::echo);
    let endpoint = format!("endpoints = [{{ address = \"{}\" }}]", origin.address());
    let with = |tls: &str| start(builder(), &format!("{endpoint}\ntls = {{ {tls} }}"));
    let good = with("ca_file = \"ca.pem\", server_name = \"origin.test\"");
    assert_eq!(request(good.public(), "POST /x", &[], "body").text(), "body");
    for (what, tls) in [
        ("another authority", "ca_file = \"other.pem\", server_name = \"origin.test\""),
        ("another name", "ca_file = \"ca.pem\", server_name = \"elsewhere.test\""),
        ("an address that is not in the certificate", "ca_file = \"ca.pem\""),
    ] {
        let response = request(with(tls).public(), "POST /x", &[], "secret");
        assert_eq!((response.status(), code(&response).as_str()), (502, "upstream_error"), "{what}");
    }
    // In clear to a port that speaks TLS, and TLS to one that does not: never anything but an error.
    assert_eq!(get(start(builder(), &endpoint).public(), "/x").status(), 502);
    let clear = Origin::answering(Answer::ok("x"));
    let gateway = start(
        builder(),
        &format!(
            "endpoints = [{{ address = \"{}\" }}]\ntls = {{ ca_file = \"ca.pem\", server_name = \"origin.test\" }}\nconnect_timeout = \"2s\"",
            clear.address()
        ),
    );
    assert!(matches!(get(gateway.public(), "/x").status(), 502 | 504));
    assert_eq!((origin.count(), clear.count()), (1, 0));
}

#[test]
fn http_2_over_tls_to_the_upstream() {
    let authority = Authority::new();
    let identity = authority.issue(&["origin.test"]);
    let origin = H2Origin::start(Some(identity.server_config(&["h2"])), |request| {
        http::Response::new(request.body().clone())
    });
    let tls = "protocol = \"http2\"\ntls = { ca_file = \"ca.pem\", server_name = \"origin.test\" }";
    let builder = || Gateway::builder(BINARY).file("ca.pem", authority.pem());
    let gateway = start(builder(), &format!("endpoints = [{{ address = \"{}\" }}]\n{tls}", origin.address()));
    assert_eq!(request(gateway.public(), "POST /x", &[], "body").text(), "body");
    assert_eq!(origin.requests()[0].uri().scheme_str(), Some("https"));
    // One that does not choose HTTP/2 by ALPN is not spoken to in it.
    let only_h1 = Origin::builder().tls(identity.server_config(&["http/1.1"])).start(Answer::echo);
    let gateway =
        start(builder(), &format!("endpoints = [{{ address = \"{}\" }}]\n{tls}", only_h1.address()));
    assert_eq!((get(gateway.public(), "/x").status(), only_h1.count()), (502, 0));
}
