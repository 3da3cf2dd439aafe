//! What HTTP/1 connections go through beyond single messages: pipelining, expectations, answers before the body, prefaces
//! that stop half-way, empty lines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gateway, Origin, PREFACE, RawClient};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// Everything to the origin, but `/closed`, which nobody may ask for.
fn gateway(origin: &Origin, listener: &str) -> Gateway {
    let closed = r#"
        [[route]]
        name = "closed"
        match = { path = "/closed" }
        upstream = "origin"
        addresses = { deny = ["127.0.0.0/8"] }
    "#;
    Gateway::builder(BINARY).start(|ports| ports.forwarding(origin.address(), listener) + closed)
}

fn hello() -> Origin {
    Origin::answering(Answer::ok("hello"))
}

/// Memory of a process that is in RAM, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a39_pipelined_requests_are_taken_one_by_one_and_only_while_answers_are_read() {
    const REQUESTS: usize = 900;
    const SIZE: usize = 64 * 1024;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now_there, most_there) = (Arc::clone(&now), Arc::clone(&most));
    let origin = Origin::start(move |_| {
        most_there.fetch_max(now_there.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(200));
        now_there.fetch_sub(1, Ordering::SeqCst);
        Answer::ok(vec![b'x'; SIZE])
    });
    let gateway = gateway(&origin, "");
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("GET /warm HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().body.len(), SIZE);
    let before = resident(gateway.pid());
    client.send("GET /p HTTP/1.1\r\nHost: a\r\n\r\n".repeat(REQUESTS)).unwrap();
    // Until nothing moves any more: what the sockets hold has been filled.
    let mut count = 0;
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let seen = origin.count();
        if seen == count {
            break;
        }
        count = seen;
    }
    assert!(count < REQUESTS / 2, "{count} requests were forwarded for a client that reads nothing");
    let grown = resident(gateway.pid()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    for _ in 0..REQUESTS {
        let answer = client.response().unwrap();
        assert_eq!((answer.status(), answer.body.len()), (200, SIZE));
    }
    assert_eq!((origin.count(), most.load(Ordering::SeqCst)), (REQUESTS + 1, 1));
}

#[test]
fn a36_the_gateway_answers_100_continue_itself() {
    let origin = hello();
    let gateway = gateway(&origin, "");
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
    client.send(format!("{head}Content-Length: 5\r\n\r\n")).unwrap();
    assert_eq!(client.head().unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").unwrap();
    assert!(client.head().unwrap().starts_with(b"HTTP/1.1 200 "));
    assert!(client.take(5, |_| {}).unwrap());
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).unwrap();
    assert_eq!(client.head().unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("5\r\nhello\r\n0\r\n\r\n").unwrap();
    assert!(client.head().unwrap().starts_with(b"HTTP/1.1 200 "));
    for request in origin.requests() {
        assert_eq!((request.header("expect"), request.body.as_slice()), (None, &b"hello"[..]));
    }
    // No leave to send what is refused: the final answer comes at once, and ends the connection.
    for (target, length, status) in [("/closed", 5, 403), ("/x", 100_000_000, 413)] {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        client.send(head).unwrap();
        let head = String::from_utf8(client.head().unwrap()).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    // Nothing to wait for, or nobody who would understand.
    for head in ["GET /x HTTP/1.1\r\nHost: a\r\n", "POST /x HTTP/1.0\r\nContent-Length: 2\r\n"] {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send(format!("{head}Expect: 100-continue\r\n\r\nhi")).unwrap();
        assert!(client.head().unwrap().starts_with(b"HTTP/1.1 200 "), "{head}");
    }
}

#[test]
fn a14_a_body_that_nobody_read_is_no_request() {
    let origin = hello();
    let gateway = gateway(&origin, "");
    let inner = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
    // A small one is read over, and the connection serves on.
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let length = inner.len();
    client
        .send(format!("POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{inner}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"))
        .unwrap();
    assert_eq!(client.response().unwrap().status(), 403);
    assert_eq!(client.response().unwrap().status(), 200);
    // For a large one the connection ends, which is said.
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client
        .send(format!("POST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{inner}"))
        .unwrap();
    let answer = client.response().unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (403, Some("close")));
    assert!(client.is_closed());
    // One whose coding breaks while it is read over ends it, too.
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client
        .send(format!("POST /closed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x\r\n{inner}"))
        .unwrap();
    assert_eq!(client.response().unwrap().status(), 403);
    assert!(client.is_closed());
    let targets: Vec<String> = origin.requests().iter().map(|one| one.target().to_owned()).collect();
    assert_eq!(targets, ["/next"]);
}

#[test]
fn a34_half_a_preface_is_not_waited_for() {
    let origin = hello();
    let gateway = gateway(&origin, "timeouts = { first_byte = \"300ms\", header = \"60s\" }");
    for part in [1, 3, 8, 16, 18, 23] {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send(&PREFACE[..part]).unwrap();
        let answer = client.response().unwrap();
        assert!((400..500).contains(&answer.status()) && client.is_closed(), "{part}: {}", answer.status());
    }
    // In pieces it is the preface all the same: HTTP/2's SETTINGS come first.
    let mut client = RawClient::connect(gateway.public()).unwrap();
    for byte in &PREFACE[..24] {
        client.send([*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    client.send(b"\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = Vec::new();
    assert!(client.take(9, |piece| frame.extend_from_slice(piece)).unwrap());
    assert_eq!(frame[3], 4, "{frame:?}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn an_empty_line_behind_a_body_begins_no_request() {
    let origin = hello();
    let gateway = gateway(&origin, "timeouts = { idle = \"300ms\", header = \"60s\" }");
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n").unwrap();
    assert_eq!(client.response().unwrap().status(), 200);
    // The idle connection is closed without a word: 408 would be read as the answer to the next request.
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn a33_a_request_line_is_refused_before_the_fields_come() {
    let origin = hello();
    let gateway = gateway(&origin, "");
    for (line, status) in
        [("GET /x", 400), ("GET /x HTTP/0.9", 505), ("get /x HTTP/1.1", 400), ("TRACE /x HTTP/1.1", 405)]
    {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send(format!("{line}\r\n")).unwrap();
        assert_eq!(client.response().unwrap().status(), status, "{line}");
        assert!(client.is_closed(), "{line}");
    }
    assert_eq!(origin.count(), 0);
}
