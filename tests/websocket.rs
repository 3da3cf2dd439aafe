//! WebSocket through the gateway: over HTTP/1.1 (RFC 6455) and over HTTP/2 (RFC 8441), with tungstenite at both ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gateway, H2Client, Origin, RawClient, request};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket, accept_hdr, client};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
/// RFC 6455 §1.3.
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const CLIENT_DEADLINE: Duration = Duration::from_secs(30);

/// A server that sends every message back, for as many connections as come.
struct Echo {
    address: SocketAddr,
    /// The handshakes that it saw, as text.
    handshakes: mpsc::Receiver<String>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, handshakes) = mpsc::channel();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, seen) = (socket.unwrap(), seen.clone());
                thread::spawn(move || echo(socket, &seen));
            }
        });
        Echo { address, handshakes }
    }
}

#[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
fn echo(socket: TcpStream, seen: &mpsc::Sender<String>) {
    let note = |request: &Request, mut response: Response| {
        seen.send(format!("{} {:?}", request.uri(), request.headers())).unwrap();
        response.headers_mut().insert("server", "inner/1.0".parse().unwrap());
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr(socket, note) else { return };
    while let Ok(message) = socket.read() {
        if message.is_text() || message.is_binary() {
            socket.send(message).unwrap();
        }
    }
}

/// A gateway with a route that may switch (`/ws/…`), one that may not (`/plain/…`), and a rule that refuses `evil`.
fn gateway(upstream: SocketAddr) -> Gateway {
    let rules = "SecRuleEngine On\nSecRule REQUEST_URI \"@contains evil\" \"id:1,phase:1,deny,status:403\"\n";
    Gateway::builder(BINARY).file("rules/test.conf", rules).start(|ports| {
        format!(
            r#"
            admin.listen = "{admin}"
            server.grace = "2s"
            firewall.rules = ["rules/test.conf"]
            [[listener]]
            name = "public"
            address = "{public}"
            limits = {{ min_body_rate = "1MiB" }}
            timeouts = {{ body = "200ms", slow_body = "200ms" }}
            [upstream.origin]
            endpoints = [{{ address = "{upstream}" }}]
            idle_timeout = "200ms"
            [[route]]
            name = "ws"
            match = {{ path = "/ws/{{*rest}}" }}
            upstream = "origin"
            upgrade = ["websocket"]
            timeouts = {{ total = "2s", upgrade_idle = "4s" }}
            [[route]]
            name = "plain"
            match = {{ path = "/plain/{{*rest}}" }}
            upstream = "origin"
            "#,
            admin = ports.admin,
            public = ports.public,
        )
    })
}

fn connect(gateway: &Gateway, path: &str) -> WebSocket<TcpStream> {
    let socket = TcpStream::connect(gateway.public()).unwrap();
    socket.set_read_timeout(Some(CLIENT_DEADLINE)).unwrap();
    client(format!("ws://example.com{path}"), socket).unwrap().0
}

/// What a raw handshake brings: the head of the answer.
fn handshake(gateway: &Gateway, path: &str, fields: &[&str]) -> (RawClient, String) {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let fields = fields.iter().map(|field| format!("{field}\r\n")).collect::<String>();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n")).unwrap();
    let head = String::from_utf8(client.head().unwrap()).unwrap();
    (client, head)
}

#[test]
fn messages_pass_both_ways_unchanged_and_for_longer_than_any_deadline_of_a_body() {
    let echo = Echo::start();
    let gateway = gateway(echo.address);
    let mut socket = connect(&gateway, "/ws/chat?room=1");
    let seen = echo.handshakes.recv().unwrap();
    assert!(seen.starts_with("/ws/chat?room=1") && seen.contains("x-request-id"), "{seen}");
    let large = vec![7u8; 1024 * 1024];
    for message in [Message::text("grüße"), Message::binary(large), Message::text("")] {
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
    // Longer than the listener's and the upstream's waits for a body, and than the route's total deadline.
    thread::sleep(Duration::from_millis(2200));
    socket.send(Message::text("still there")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("still there"));
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    let line = gateway.wait_for_line(|line| line.contains("\"message\":\"request\""));
    assert!(line.contains("\"status\":101") && line.contains("\"route\":\"ws\""), "{line}");
}

#[test]
fn the_rules_judge_the_handshake() {
    let echo = Echo::start();
    let gateway = gateway(echo.address);
    let fields = ["Connection: Upgrade", "Upgrade: websocket", KEY, VERSION];
    let (_, head) = handshake(&gateway, "/ws/evil", &fields);
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(echo.handshakes.try_recv().is_err(), "the upstream heard of it");
}

#[test]
fn a37_only_a_route_that_allows_it_switches() {
    let origin = Origin::start(|request| Answer::ok(request.header("upgrade").unwrap_or("none")));
    let gateway = gateway(origin.address());
    let fields = ["Connection: Upgrade", "Upgrade: websocket", KEY, VERSION];
    let plain = request(gateway.public(), "GET /plain/x", &fields, "");
    assert_eq!((plain.status(), plain.text().as_str()), (200, "none"));
    for other in ["Upgrade: h2c", "Upgrade: foo", "Upgrade: h2c, websocket", "Upgrade: TLS/1.0"] {
        let fields = ["Connection: Upgrade, HTTP2-Settings", other, "HTTP2-Settings: AAMAAABk", KEY, VERSION];
        let answer = request(gateway.public(), "GET /ws/x", &fields, "");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "none"), "{other}");
    }
    // Without `Connection: Upgrade` the field is not meant for us; another version is the upstream's to judge.
    for fields in [
        &["Upgrade: websocket", KEY, VERSION][..],
        &["Connection: Upgrade", "Upgrade: websocket", KEY, "Sec-WebSocket-Version: 8"],
    ] {
        assert_eq!(request(gateway.public(), "GET /ws/x", fields, "").text(), "none", "{fields:?}");
    }
    for key in ["Sec-WebSocket-Key: x", "Sec-WebSocket-Key: dGhl", "X-None: 1"] {
        let fields = ["Connection: Upgrade", "Upgrade: websocket", key, VERSION];
        assert_eq!(request(gateway.public(), "GET /ws/x", &fields, "").status(), 400, "{key}");
    }
}

#[test]
fn a37_an_upstream_that_does_not_switch_is_answered_for_as_usual_and_what_follows_is_a_request() {
    let origin = Origin::start(|request| Answer::ok(request.target()));
    let gateway = gateway(origin.address());
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let upgrade = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}\r\n{VERSION}\r\n");
    let next = "GET /plain/next HTTP/1.1\r\nHost: example.com\r\n\r\n";
    client.send(format!("GET /ws/a HTTP/1.1\r\nHost: example.com\r\n{upgrade}\r\n{next}")).unwrap();
    assert_eq!(client.response().unwrap().text(), "/ws/a");
    assert_eq!(client.response().unwrap().text(), "/plain/next");
    // The next request was one of its own, never bytes behind the handshake.
    let seen = origin.requests();
    assert_eq!(seen.iter().map(|request| request.target()).collect::<Vec<_>>(), ["/ws/a", "/plain/next"]);
}

#[test]
fn an_answer_that_claims_to_switch_without_proof_is_refused() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ] {
        let origin = Origin::answering(Answer::raw(answer));
        let gateway = gateway(origin.address());
        let fields = ["Connection: Upgrade", "Upgrade: websocket", KEY, VERSION];
        let (_, head) = handshake(&gateway, "/ws/x", &fields);
        assert!(head.starts_with("HTTP/1.1 502"), "{answer}\n{head}");
    }
}

#[test]
fn the_answer_tells_nothing_of_the_inside_and_proves_the_handshake() {
    let echo = Echo::start();
    let gateway = gateway(echo.address);
    let fields = ["Connection: keep-alive, Upgrade", "Upgrade: WebSocket", KEY, VERSION];
    let (_client, head) = handshake(&gateway, "/ws/x", &fields);
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    assert!(head.contains("x-request-id: ") && !head.contains("inner"), "{head}");
}

#[test]
fn a_silent_connection_is_closed_and_so_is_one_whose_upstream_went_away() {
    let echo = Echo::start();
    let gateway = gateway(echo.address);
    let mut silent = connect(&gateway, "/ws/x");
    assert!(silent.read().is_err(), "closed after upgrade_idle");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fleeting = self::gateway(listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        socket.send(Message::text("bye")).unwrap();
    });
    let mut socket = connect(&fleeting, "/ws/x");
    assert_eq!(socket.read().unwrap(), Message::text("bye"));
    server.join().unwrap();
    assert!(socket.read().is_err());
}

/// What switched is no request in flight that could be waited for: it goes on until a second before the grace period is
/// over, and then hears that the gateway goes away.
#[test]
fn a_tunnel_ends_with_the_grace_period() {
    let echo = Echo::start();
    let mut gateway = gateway(echo.address);
    let mut socket = connect(&gateway, "/ws/x");
    let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "example.com"),
        (":path", "/ws/x"),
        ("sec-websocket-version", "13"),
    ];
    let stream = client.open(&fields, false).unwrap();
    client.until(stream, |stream| stream.status.is_some()).unwrap();
    let told = std::time::Instant::now();
    gateway.signal("TERM");
    while client.goaway.is_none() {
        client.next_frame().unwrap();
    }
    // Both go on within it.
    socket.send(Message::text("still there")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("still there"));
    client.data(stream, &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58], false).unwrap();
    client.until(stream, |stream| stream.body.len() >= 7).unwrap();
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no Close frame") };
    assert_eq!(u16::from(frame.code), 1001);
    assert!(socket.read().is_err());
    let end = client.answer(stream).unwrap();
    assert!(end.body.ends_with(&[0x88, 2, 0x03, 0xe9]) && end.ended, "{end:?}");
    assert!(client.is_closed());
    let _ = gateway.wait();
    let after = told.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&after), "{after:?}");
}

#[test]
fn b10_extended_connect_over_http2_becomes_a_handshake_upstream() {
    let echo = Echo::start();
    let gateway = gateway(echo.address);
    let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    let head = |path: &'static str, protocol: &'static str| {
        [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "example.com"),
            (":path", path),
            ("sec-websocket-version", "13"),
        ]
    };
    let stream = client.open(&head("/ws/x", "websocket"), false).unwrap();
    assert_eq!(client.until(stream, |stream| stream.status.is_some()).unwrap().status, Some(200));
    let seen = echo.handshakes.recv().unwrap();
    assert!(seen.starts_with("/ws/x") && seen.contains("sec-websocket-key"), "{seen}");
    // A masked text frame (RFC 6455 §5.7), and what comes back of it.
    client.data(stream, &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58], false).unwrap();
    let echoed = client.until(stream, |stream| stream.body.len() >= 7).unwrap();
    assert_eq!(echoed.body, b"\x81\x05Hello");
    // Closed by the client: the stream ends.
    client.data(stream, &[], true).unwrap();
    assert!(client.answer(stream).unwrap().ended);
    for (path, protocol) in [("/plain/x", "websocket"), ("/ws/x", "connect-udp")] {
        let stream = client.open(&head(path, protocol), false).unwrap();
        let refused = client.answer(stream).unwrap();
        assert!(refused.reset.is_some() || matches!(refused.status, Some(400 | 405)), "{refused:?}");
    }
    assert_eq!(client.get("example.com", "/ws/evil").unwrap().status, Some(403));
}

/// Half a handshake must not reach the upstream as anything but HTTP.
#[test]
fn bytes_behind_the_handshake_wait_for_the_upstreams_consent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway(listener.local_addr().unwrap());
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let fields = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{KEY}\r\n{VERSION}\r\n");
    client.send(format!("GET /ws/x HTTP/1.1\r\nHost: a\r\n{fields}\r\nEAGER")).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => panic!("the gateway gave up"),
            Ok(count) => seen.extend_from_slice(&buffer[..count]),
            // Silence counts once the head has come.
            Err(_) if seen.ends_with(b"\r\n\r\n") => break,
            Err(_) => assert!(!seen.windows(5).any(|bytes| bytes == b"EAGER")),
        }
    }
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let switch =
        format!("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n\r\nFIRST");
    socket.write_all(switch.as_bytes()).unwrap();
    socket.set_read_timeout(Some(CLIENT_DEADLINE)).unwrap();
    socket.read_exact(&mut buffer[..5]).unwrap();
    assert_eq!(&buffer[..5], b"EAGER");
    client.head().unwrap();
    let mut first = Vec::new();
    client.take(5, |data| first.extend_from_slice(data)).unwrap();
    assert_eq!(first, b"FIRST");
}
