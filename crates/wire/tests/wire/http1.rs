//! Requests and answers of one HTTP/1 connection.

use crate::service::Server;
use portcullis_wire::server::ServerSettings;
use std::io;

fn server() -> Server {
    Server::start(ServerSettings::default())
}

#[test]
fn keeps_the_connection_and_answers_pipelined_requests_in_order() {
    let server = server();
    let mut client = server.connect();
    let requests: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
    client.send(requests).unwrap();
    for n in 0..50 {
        assert_eq!(client.response().unwrap().text(), format!("/{n}"));
    }
    client.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET /after HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "abc");
    assert_eq!(client.response().unwrap().text(), "/after");
}

#[test]
fn close_is_obeyed_and_said() {
    let server = server();
    for request in [
        "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nConnection: x, Close\r\n\r\n",
        "GET /a HTTP/1.0\r\n\r\n",
        "GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(request).unwrap();
        let response = client.response().unwrap();
        assert_eq!((response.text().as_str(), response.header("connection")), ("/a", Some("close")));
        assert!(client.is_closed(), "{request}");
    }
}

#[test]
fn reads_and_writes_the_chunked_coding() {
    let server = server();
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "abcdefg");
    // An empty frame is no end: a chunk of size 0 would be one.
    client.send("GET /chunks HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let all = String::from_utf8(client.rest().unwrap()).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(body, "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    let mut client = server.connect();
    client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let response = client.response().unwrap();
    assert!(response.complete && response.body == vec![b'x'; 1_000_000]);
}

#[test]
fn http_1_0_gets_no_chunks() {
    let all = server().talk("GET /chunks HTTP/1.0\r\n\r\n");
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
    assert_eq!(body, "onetwo");
}

#[test]
fn a26_trailers_are_dropped_and_judged() {
    let server = server();
    let head = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = server.connect();
    client
        .send(format!(
            "{head}2\r\nab\r\n0\r\nHost: evil\r\nX-Via: y\r\n\r\nGET /next HTTP/1.1\r\nhost: a\r\n\r\n"
        ))
        .unwrap();
    assert_eq!(client.response().unwrap().text(), "ab");
    assert_eq!(client.response().unwrap().text(), "/next");
    for trailers in
        ["GET /x HTTP/1.1\r\n\r\n", "XX\r\n\r\n", " folded: x\r\n\r\n", "a : b\r\n\r\n", "a: b\n\r\n"]
    {
        let mut client = server.connect();
        client.send(format!("{head}2\r\nab\r\n0\r\n{trailers}")).unwrap();
        assert_eq!(client.response().unwrap().status(), 400, "{trailers:?}");
        assert!(client.is_closed(), "{trailers:?}");
    }
}

#[test]
fn a36_continue_is_sent_when_the_body_is_asked_for() {
    let server = server();
    let expecting = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    };
    let mut client = server.connect();
    client.send(expecting("/echo")).unwrap();
    assert_eq!(client.head().unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc").unwrap();
    assert!(client.head().unwrap().starts_with(b"HTTP/1.1 200 "));
    client.until("abc").unwrap();
    // A client that does not wait gets none.
    client.send(format!("{}abc", expecting("/echo"))).unwrap();
    assert!(client.head().unwrap().starts_with(b"HTTP/1.1 200 "));
    // Refused before the body: no invitation, and the connection cannot serve on, which is said.
    let mut client = server.connect();
    client.send(expecting("/refuse")).unwrap();
    let head = String::from_utf8(client.head().unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.1 401 ") && head.contains("connection: close"), "{head}");
    client.until("no").unwrap();
    assert!(client.is_closed());
    // HTTP/1.0 knows no interim answers.
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc").unwrap();
    assert!(client.head().unwrap().starts_with(b"HTTP/1.1 200 "));
    for (expect, status) in [("200-ok", 417), ("100-continue\r\nexpect: 100-continue", 400)] {
        let response = server.talk(format!(
            "POST /echo HTTP/1.1\r\nhost: a\r\nexpect: {expect}\r\ncontent-length: 3\r\n\r\nabc"
        ));
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
    }
}

#[test]
fn a14_a_small_unread_body_is_dropped_and_the_connection_kept() {
    let server = server();
    let mut client = server.connect();
    let body = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let length = body.len();
    client.send(format!("POST /ignore HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}GET /next HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
    assert_eq!(client.response().unwrap().text(), "ok");
    assert_eq!(client.response().unwrap().text(), "/next");
    let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    client.send(format!("POST /ignore HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}GET /next2 HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
    assert_eq!(client.response().unwrap().text(), "ok");
    assert_eq!(client.response().unwrap().text(), "/next2");
    assert!(!server.events.all().iter().any(|event| event.contains("smuggled")));
}

#[test]
fn a14_a_large_unread_body_ends_the_connection_but_not_the_answer() {
    let server = server();
    for _ in 0..10 {
        let mut client = server.connect();
        client.send("POST /refuse HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n").unwrap();
        // Sent in one go, however much of it the server takes.
        let _ = client.send(vec![b'x'; 4_000_000]);
        let response = client.response().unwrap();
        assert_eq!((response.status(), response.text().as_str()), (401, "no"));
        assert_eq!(response.header("connection"), Some("close"));
        assert!(client.is_closed());
    }
}

#[test]
fn answers_without_a_body_have_none() {
    let server = server();
    let mut client = server.connect();
    for (request, status, length) in [
        ("HEAD /length", 200, Some("7")),
        ("HEAD /chunks", 200, None),
        ("GET /204", 204, None),
        ("GET /304", 304, Some("14")),
    ] {
        client.send(format!("{request} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        let head = String::from_utf8(client.head().unwrap()).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let told = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(told, length, "{request}: {head}");
    }
    client.send("GET /still-in-step HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "/still-in-step");
}

#[test]
fn a_body_of_another_length_than_announced_is_seen_to_be_cut() {
    let server = server();
    for path in ["/more", "/less", "/cut?length", "/cut"] {
        let mut client = server.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        // No head at all, or a body that does not come to its end.
        assert!(client.response().map_or(true, |response| !response.complete), "{path}");
        assert!(client.is_closed(), "{path}");
    }
}

#[test]
fn a_cut_answer_to_http_1_0_ends_in_a_reset() {
    // Its end is the connection's: a FIN would say that all is there.
    let server = server();
    let mut client = server.connect();
    client.send("GET /cut HTTP/1.0\r\n\r\n").unwrap();
    client.until("beginning").unwrap();
    assert_eq!(client.rest().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn malformed_heads_are_answered_and_the_connection_closed() {
    let server = server();
    let long_uri = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(9_000));
    let endless_uri = format!("GET /{}", "a".repeat(70_000));
    let long_field = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(40_000));
    let many_fields = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(101));
    for (request, status) in [
        ("GET / HTTP/1.1\nhost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\n x: folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        ("get / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n", 400),
        ("\0\0\0", 400),
        (&long_uri, 414),
        (&endless_uri, 414),
        (&long_field, 431),
        (&many_fields, 431),
    ] {
        let mut client = server.connect();
        let _ = client.send(format!("{request}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"));
        let response = client.response().unwrap();
        let shown: String = request.chars().take(60).collect();
        assert_eq!((response.status(), response.header("connection")), (status, Some("close")), "{shown:?}");
        assert!(client.is_closed(), "{shown:?}");
    }
    assert!(!server.events.all().iter().any(|event| event.starts_with("GET") || event.contains("smuggled")));
}

#[test]
fn serves_so_many_requests_and_no_more() {
    let server = Server::start(ServerSettings { max_requests: 3, ..ServerSettings::default() });
    let mut client = server.connect();
    client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n".repeat(4)).unwrap();
    let said: Vec<_> =
        (0..3).map(|_| client.response().unwrap().header("connection").map(str::to_owned)).collect();
    assert_eq!(said, [None, None, Some("close".to_owned())]);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_goes_away_is_noticed() {
    let server = server();
    let mut client = server.connect();
    client.send("GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    server.events.wait_for("GET /hang");
    client.reset().unwrap();
    server.events.wait_for("gone");
    server.events.wait_for("connection over");
}

#[test]
fn drain_ends_idle_connections_after_their_grace_and_busy_ones_after_their_answer() {
    let server = server();
    let (mut idle, mut fresh, mut busy) = (server.connect(), server.connect(), server.connect());
    idle.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(idle.response().unwrap().text(), "/x");
    busy.send("GET /gated HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    server.events.wait_for("waiting");
    let mut half = server.connect();
    half.send("GET /half HTTP/1.1\r\n").unwrap();
    // Answered, so that the server has surely read the half before it.
    let mut other = server.connect();
    other.send("GET /other HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    other.response().unwrap();
    server.drain.send(true).unwrap();
    assert!(idle.is_closed() && fresh.is_closed() && other.is_closed());
    half.send("host: a\r\n\r\n").unwrap();
    let response = half.response().unwrap();
    assert_eq!((response.text().as_str(), response.header("connection")), ("/half", Some("close")));
    assert!(half.is_closed());
    server.gate.send(true).unwrap();
    assert_eq!(busy.response().unwrap().text(), "gate");
    assert!(busy.is_closed());
}
