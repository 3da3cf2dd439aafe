//! Bodies: those that stream are passed on as they come, in bounded memory; those that are held are held under caps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Digest, Gate, Gateway, H2Client, Origin, RawClient, Step, chunk, get, pattern, pattern_digest,
    request,
};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const MIB: u64 = 1024 * 1024;
const LARGE: u64 = 256 * MIB;
/// How much more memory the process may take than it took before, whatever passes through it.
const FLAT: u64 = 32 * MIB;

/// A gateway with one route that streams both ways (`/stream/…`) and one that does not (`/held/…`).
fn gateway(upstream: SocketAddr, top: &str, held: &str) -> Gateway {
    gateway_with_rules(upstream, top, held, "SecRuleEngine On\n", "off")
}

fn gateway_with_rules(upstream: SocketAddr, top: &str, held: &str, rules: &str, mode: &str) -> Gateway {
    Gateway::builder(BINARY).file("rules/test.conf", rules).start(|ports| {
        format!(
            r#"
            admin.listen = "{admin}"
            firewall.mode = "{mode}"
            firewall.rules = ["rules/test.conf"]
            {top}
            [[listener]]
            name = "public"
            address = "{public}"
            [upstream.origin]
            endpoints = [{{ address = "{upstream}" }}]
            response_timeout = "500ms"
            [[route]]
            name = "held"
            match = {{ path = "/held/{{*rest}}" }}
            upstream = "origin"
            {held}
            [[route]]
            name = "stream"
            match = {{ path = "/stream/{{*rest}}" }}
            upstream = "origin"
            body = {{ mode = "stream" }}
            response = {{ streaming = true }}
            [[route]]
            name = "capped"
            match = {{ path = "/capped/{{*rest}}" }}
            upstream = "origin"
            body = {{ mode = "stream", limit = "100KiB" }}
            "#,
            admin = ports.admin,
            public = ports.public,
        )
    })
}

/// The most memory that the process ever had, in bytes.
fn peak_memory(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn assert_flat(gateway: &Gateway, before: u64) {
    let grown = peak_memory(gateway) - before;
    assert!(grown < FLAT, "{} MiB more than before", grown / MIB);
}

fn h2(gateway: &Gateway) -> H2Client {
    H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap()
}

/// Three events, each of which is sent only when its gate is open.
fn gated_events(gates: [Gate; 2], length: &str) -> Answer {
    let [second, third] = gates;
    let head =
        Answer::status(200).header("content-type", "text/event-stream").header("transfer-encoding", length);
    Answer::steps([Step::Bytes(head.end()), Step::Bytes(chunk(b"data: 1\n\n")), Step::Until(second)])
        .then([Step::Bytes(chunk(b"data: 2\n\n")), Step::Until(third)])
        .then([Step::Bytes(chunk(b"data: 3\n\n")), Step::Bytes(chunk(b""))])
}

#[test]
fn events_arrive_as_they_are_sent() {
    for path in ["/stream/events", "/held/events"] {
        let gates = [Gate::default(), Gate::default()];
        let theirs = gates.clone();
        let origin = Origin::start(move |_| gated_events(theirs.clone(), "chunked"));
        let gateway = gateway(origin.address(), "", "");
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        client.until("data: 1\n\n").unwrap();
        gates[0].open();
        client.until("data: 2\n\n").unwrap();
        gates[1].open();
        client.until("data: 3\n\n").unwrap();
        client.until("0\r\n\r\n").unwrap();
    }
}

#[test]
fn events_arrive_as_they_are_sent_in_http_2() {
    let gates = [Gate::default(), Gate::default()];
    let theirs = gates.clone();
    let origin = Origin::start(move |_| gated_events(theirs.clone(), "chunked"));
    let gateway = gateway(origin.address(), "", "");
    let mut client = h2(&gateway);
    let stream = client.request("GET", "a", "/stream/events", &[], true).unwrap();
    client.until(stream, |state| state.body == b"data: 1\n\n").unwrap();
    gates[0].open();
    client.until(stream, |state| state.body.ends_with(b"data: 2\n\n")).unwrap();
    gates[1].open();
    let seen = client.answer(stream).unwrap();
    assert_eq!((seen.body.as_slice(), seen.ended), (&b"data: 1\n\ndata: 2\n\ndata: 3\n\n"[..], true));
}

#[test]
fn a_client_that_leaves_an_endless_answer_frees_the_origin() {
    let (listener, freed) = (TcpListener::bind("127.0.0.1:0").unwrap(), Gate::default());
    let address = listener.local_addr().unwrap();
    let told = freed.clone();
    thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
                .unwrap();
            // Ends when the gateway hangs up.
            let _ = stream.read(&mut [0; 16]);
        }
        told.open();
    });
    let gateway = gateway(address, "", "");
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("GET /stream/x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.until("data: 1\n\n").unwrap();
    drop(client);
    let mut client = h2(&gateway);
    let stream = client.request("GET", "a", "/stream/x", &[], true).unwrap();
    client.until(stream, |state| !state.body.is_empty()).unwrap();
    client.reset(stream).unwrap();
    assert!(freed.wait());
}

#[test]
fn a_large_download_in_flat_memory() {
    let origin = Origin::start(|request| {
        if request.target() == "/stream/small" { Answer::ok("x") } else { Answer::pattern(LARGE) }
    });
    let gateway = gateway(origin.address(), "", "");
    assert_eq!(get(gateway.public(), "/stream/small").status(), 200);
    assert_eq!(h2(&gateway).get("a", "/stream/small").unwrap().status, Some(200));
    let before = peak_memory(&gateway);
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("GET /stream/large HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let head = String::from_utf8(client.head().unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut digest = Digest::default();
    let received = if head.contains("transfer-encoding: chunked") {
        panic!("the length was known: {head}")
    } else {
        client.take(LARGE, |data| digest.update(data)).unwrap()
    };
    assert!(received && digest.finish() == pattern_digest(LARGE));
    assert_flat(&gateway, before);
    let mut client = h2(&gateway);
    let stream = client.request("GET", "a", "/stream/large", &[], true).unwrap();
    let mut digest = Digest::default();
    let seen = client.drain(stream, |data| digest.update(data)).unwrap();
    assert!(seen.ended && digest.finish() == pattern_digest(LARGE));
    assert_flat(&gateway, before);
}

#[test]
fn a_large_upload_in_flat_memory() {
    let origin = Origin::start(|_| Answer::ok("taken"));
    let gateway = gateway(origin.address(), "", "");
    assert_eq!(get(gateway.public(), "/stream/small").status(), 200);
    assert_eq!(h2(&gateway).get("a", "/stream/small").unwrap().status, Some(200));
    let before = peak_memory(&gateway);
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send(format!("PUT /stream/x HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n")).unwrap();
    pattern(LARGE, |block| {
        client.send(block).unwrap();
        true
    });
    assert_eq!(client.response().unwrap().text(), "taken");
    assert_flat(&gateway, before);
    let mut client = h2(&gateway);
    let stream = client.request("PUT", "a", "/stream/x", &[], false).unwrap();
    pattern(LARGE, |block| {
        client.data(stream, block, false).unwrap();
        true
    });
    client.data(stream, b"", true).unwrap();
    assert_eq!(client.answer(stream).unwrap().body, b"taken");
    assert_flat(&gateway, before);
    for seen in &origin.requests()[2..] {
        assert_eq!(
            (seen.length, seen.complete, seen.digest.as_str()),
            (LARGE, true, pattern_digest(LARGE).as_str())
        );
    }
    assert_eq!(origin.requests()[2].header("content-length"), Some(LARGE.to_string().as_str()));
    assert_eq!(origin.requests()[3].header("transfer-encoding"), Some("chunked"));
}

// ---- back-pressure

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Writes until nothing is taken for a second; how much was.
fn push_until_stuck(stream: &mut TcpStream, most: u64) -> u64 {
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let block = [b'x'; 64 * 1024];
    let mut pushed = 0;
    while pushed < most {
        match stream.write(&block) {
            Ok(count) => pushed += count as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("after {pushed} bytes: {error}"),
        }
    }
    pushed
}

/// What the kernel may hold of one direction: two connections with a large buffer at each end.
const IN_KERNEL: u64 = 64 * MIB;

#[test]
fn a_client_that_does_not_read_holds_back_the_origin() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (pushed, stuck) = (Arc::new(AtomicU64::new(0)), Gate::default());
    let (theirs, told) = (Arc::clone(&pushed), stuck.clone());
    thread::spawn(move || {
        let push = |stream: std::io::Result<TcpStream>| {
            let (mut stream, pushed) = (stream.unwrap(), Arc::clone(&theirs));
            thread::spawn(move || {
                read_head(&mut stream);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4294967296\r\n\r\n").unwrap();
                pushed.fetch_max(push_until_stuck(&mut stream, 4096 * MIB), Ordering::SeqCst);
                stream
            })
        };
        let pushing: Vec<_> = listener.incoming().take(2).map(push).collect();
        let _open: Vec<_> = pushing.into_iter().map(|thread| thread.join().unwrap()).collect();
        told.open();
        thread::sleep(Duration::from_secs(60));
    });
    let gateway = gateway(address, "", "");
    let before = peak_memory(&gateway);
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("GET /stream/x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut second = h2(&gateway);
    second.reads = false;
    let stream = second.request("GET", "a", "/stream/x", &[], true).unwrap();
    second.until(stream, |state| state.body.len() == 65_535).unwrap();
    assert!(stuck.wait());
    let pushed = pushed.load(Ordering::SeqCst);
    assert!(pushed < IN_KERNEL, "{} MiB were taken", pushed / MIB);
    assert_flat(&gateway, before);
    drop(client);
}

#[test]
fn an_origin_that_does_not_read_holds_back_the_client() {
    let origin = Origin::builder().ignoring_bodies().start(|_| Answer::hang().after(Duration::from_secs(60)));
    let gateway = gateway(origin.address(), "", "");
    let before = peak_memory(&gateway);
    let mut client = TcpStream::connect(gateway.public()).unwrap();
    client.write_all(b"PUT /stream/x HTTP/1.1\r\nhost: a\r\ncontent-length: 4294967296\r\n\r\n").unwrap();
    let pushed = push_until_stuck(&mut client, 4096 * MIB);
    assert!(pushed < IN_KERNEL, "{} MiB were taken", pushed / MIB);
    let mut client = h2(&gateway);
    let stream = client.request("PUT", "a", "/stream/x", &[], false).unwrap();
    // What does not fit is not asked for: the window stays shut.
    let mut sent: u64 = 0;
    while client.window(stream) > 0 && sent < 4096 * MIB {
        let now = usize::try_from(client.window(stream)).unwrap().min(16_384);
        client.data(stream, &vec![b'x'; now], false).unwrap();
        sent += now as u64;
    }
    assert!(sent < IN_KERNEL, "{} MiB were taken", sent / MIB);
    assert_flat(&gateway, before);
}

// ---- both ways at once

/// Answers at once, and each `ping` of the request's body as it comes.
fn ping_pong() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
            stream.write_all(&chunk(b"welcome")).unwrap();
            let (mut seen, mut block) = (Vec::new(), [0; 1024]);
            loop {
                let count = stream.read(&mut block).unwrap_or(0);
                seen.extend_from_slice(&block[..count]);
                if count == 0 || seen.ends_with(b"0\r\n\r\n") {
                    break;
                }
                if seen.ends_with(b"ping\r\n") {
                    stream.write_all(&chunk(b"pong")).unwrap();
                }
            }
            stream.write_all(&chunk(b"bye")).unwrap();
            stream.write_all(&chunk(b"")).unwrap();
        }
    });
    address
}

#[test]
fn an_answer_that_begins_before_its_request_has_ended() {
    let gateway = gateway(ping_pong(), "", "");
    let mut client = h2(&gateway);
    let stream = client.request("POST", "a", "/stream/x", &[], false).unwrap();
    client.until(stream, |state| state.body == b"welcome").unwrap();
    for n in 1..=5 {
        client.data(stream, b"ping", false).unwrap();
        client.until(stream, |state| state.body.len() == 7 + 4 * n).unwrap();
    }
    client.data(stream, b"", true).unwrap();
    let seen = client.answer(stream).unwrap();
    assert!(seen.ended && seen.body.ends_with(b"pongbye"));
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("POST /stream/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    client.until("welcome").unwrap();
    for _ in 0..5 {
        client.send(chunk(b"ping")).unwrap();
        client.until("pong").unwrap();
    }
    client.send(chunk(b"")).unwrap();
    client.until("bye").unwrap();
    client.until("0\r\n\r\n").unwrap();
}

#[test]
fn a_pause_in_an_upload_is_not_the_origin_s_delay() {
    let origin = Origin::start(Answer::echo);
    let gateway = gateway(origin.address(), "", "");
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("POST /stream/x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na").unwrap();
    // Longer than the origin may take for an answer.
    thread::sleep(Duration::from_millis(1200));
    client.send("b").unwrap();
    assert_eq!(client.response().unwrap().text(), "ab");
    let mut client = h2(&gateway);
    let stream = client.request("POST", "a", "/stream/x", &[], false).unwrap();
    client.data(stream, b"a", false).unwrap();
    thread::sleep(Duration::from_millis(1200));
    client.data(stream, b"b", true).unwrap();
    assert_eq!(client.answer(stream).unwrap().body, b"ab");
}

#[test]
fn a14_c11_an_origin_that_refuses_an_upload_early() {
    let origin = Origin::builder()
        .ignoring_bodies()
        .start(|_| Answer::status(413).body("too much").then([Step::Hang]));
    let gateway = gateway(origin.address(), "", "");
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("PUT /stream/x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nsome").unwrap();
    let response = client.response().unwrap();
    assert_eq!((response.status(), response.text().as_str()), (413, "too much"));
    assert!(client.is_closed());
    let mut client = h2(&gateway);
    let stream = client.request("PUT", "a", "/stream/x", &[], false).unwrap();
    client.data(stream, b"some", false).unwrap();
    assert_eq!(client.answer(stream).unwrap().body, b"too much");
    assert_eq!(origin.connections(), 2, "what was left of the request must not stand before another");
}

#[test]
fn an_upload_that_breaks_off_is_never_ended_at_the_origin() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, seen) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            told.send(read_head(&mut stream)).unwrap();
            let mut body = String::new();
            // To the end of the connection, whatever end that is.
            let _ = stream.read_to_string(&mut body);
            told.send(body).unwrap();
        }
    });
    let gateway = gateway(address, "", "");
    let upload = "PUT /stream/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let begun = || {
        assert!(seen.recv_timeout(Duration::from_secs(30)).unwrap().contains("transfer-encoding: chunked"))
    };
    let broken = || {
        let body = seen.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(body.starts_with("4\r\nhalf\r\n") && !body.contains("0\r\n\r\n"), "{body:?}");
    };
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send(upload).unwrap();
    begun();
    client.finish().unwrap();
    assert_eq!(client.response().unwrap().status(), 400);
    broken();
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send(upload).unwrap();
    begun();
    client.send("XX0\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status(), 400);
    broken();
    let mut client = h2(&gateway);
    let stream = client.request("PUT", "a", "/stream/x", &[], false).unwrap();
    client.data(stream, b"half", false).unwrap();
    begun();
    client.reset(stream).unwrap();
    broken();
}

// ---- held bodies

#[test]
fn bodies_over_the_limit() {
    let origin = Origin::start(Answer::echo);
    let gateway = gateway(origin.address(), "", "body = { limit = \"10KiB\" }");
    let large = vec![b'x'; 20 * 1024];
    let head = |path: &str, framing: &str| format!("POST {path} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
    let chunked: Vec<u8> = large.chunks(4096).flat_map(chunk).chain(chunk(b"")).collect();
    // Known from the head: refused before the body is asked for, and before any upstream is dialled.
    for path in ["/held/x", "/capped/x"] {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send(head(path, "content-length: 204800\r\nexpect: 100-continue")).unwrap();
        assert!(client.head().unwrap().starts_with(b"HTTP/1.1 413 "), "{path}");
    }
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let _ = client.send([head("/held/x", "transfer-encoding: chunked").as_bytes(), &chunked].concat());
    let response = client.response().unwrap();
    assert_eq!((response.status(), response.header("connection")), (413, Some("close")));
    let mut client = h2(&gateway);
    let stream = client.request("POST", "a", "/held/x", &[], false).unwrap();
    let _ = client.data(stream, &large, true);
    assert_eq!(client.answer(stream).unwrap().status, Some(413));
    assert_eq!(origin.connections(), 0);
    // What streams is known to be too large only when it is.
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let _ = client
        .send([head("/capped/x", "transfer-encoding: chunked").as_bytes(), &chunked.repeat(1)].concat());
    assert_eq!(client.response().unwrap().status(), 200);
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let much: Vec<u8> = vec![b'x'; 200 * 1024].chunks(4096).flat_map(chunk).chain(chunk(b"")).collect();
    let _ = client.send([head("/capped/x", "transfer-encoding: chunked").as_bytes(), &much].concat());
    assert_eq!(client.response().unwrap().status(), 413);
    assert!(origin.wait_for(2).iter().any(|request| !request.complete));
    // Exactly the limit passes.
    assert_eq!(request(gateway.public(), "POST /held/x", &[], &large[..10 * 1024]).body.len(), 10 * 1024);
}

#[test]
fn a_spent_budget_refuses_and_recovers() {
    let origin = Origin::start(Answer::echo);
    let gateway = gateway(
        origin.address(),
        "server.body_budget = \"100KiB\"\nfirewall.request_body_limit = \"64KiB\"\nfirewall.response_body_limit = \"64KiB\"",
        "body = { limit = \"90KiB\" }",
    );
    let body = vec![b'x'; 80_000];
    let post = || request(gateway.public(), "POST /held/x", &[], &body);
    // The client has its answer before the gateway has given back what it held for it.
    let nothing_is_held = || gateway.wait_for_sample("portcullis_buffered_body_bytes", |held| held == 0.0);
    assert_eq!(post().status(), 200);
    nothing_is_held();
    let mut holding = RawClient::connect(gateway.public()).unwrap();
    holding.send("POST /held/x HTTP/1.1\r\nhost: a\r\ncontent-length: 80000\r\n\r\n").unwrap();
    holding.send(&body[..70_000]).unwrap();
    // Until the gateway has read it, there is room for another, which would take this one's.
    gateway.wait_for_sample("portcullis_buffered_body_bytes", |held| held >= 70_000.0);
    let refused = post();
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("\"overloaded\""), "{}", refused.text());
    // What needs no buffer is served meanwhile.
    assert_eq!(get(gateway.public(), "/held/y").status(), 200);
    assert_eq!(request(gateway.public(), "POST /stream/x", &[], &body).status(), 200);
    holding.send(&body[70_000..]).unwrap();
    assert_eq!(holding.response().unwrap().body.len(), 80_000);
    nothing_is_held();
    assert_eq!(post().status(), 200);
    // A client that goes away gives back what was held for it.
    for _ in 0..5 {
        let mut gone = RawClient::connect(gateway.public()).unwrap();
        gone.send("POST /held/x HTTP/1.1\r\nhost: a\r\ncontent-length: 80000\r\n\r\n").unwrap();
        gone.send(&body[..70_000]).unwrap();
        gone.reset().unwrap();
    }
    assert!((0..1000).any(|_| post().status() == 200));
}

#[test]
fn inspect_prefix_reads_the_beginning_and_passes_all() {
    let origin = Origin::start(Answer::echo);
    let rules = "SecRuleEngine On\nSecRequestBodyAccess On\nSecRule REQUEST_BODY \"@contains attack\" \"id:1099001,phase:2,deny,status:403\"\n";
    let held = "body = { limit = \"4KiB\", over = \"inspect_prefix\" }";
    let gateway = gateway_with_rules(origin.address(), "", held, rules, "block");
    let mut early = vec![b'x'; 100_000];
    early[100..106].copy_from_slice(b"attack");
    let mut late = vec![b'x'; 100_000];
    late[50_000..50_006].copy_from_slice(b"attack");
    let fields = ["content-type: application/x-www-form-urlencoded"];
    assert_eq!(request(gateway.public(), "POST /held/x", &fields, &early).status(), 403);
    assert_eq!(origin.count(), 0);
    let response = request(gateway.public(), "POST /held/x", &fields, &late);
    assert!(response.status() == 200 && response.body == late);
    assert_eq!(origin.requests()[0].header("content-length"), Some("100000"));
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let head =
        format!("POST /held/x HTTP/1.1\r\nhost: a\r\n{}\r\ntransfer-encoding: chunked\r\n\r\n", fields[0]);
    let body: Vec<u8> = late.chunks(3000).flat_map(chunk).chain(chunk(b"")).collect();
    client.send([head.as_bytes(), &body].concat()).unwrap();
    assert!(client.response().unwrap().body == late);
    // One that is shorter than the limit is held whole.
    assert_eq!(request(gateway.public(), "POST /held/x", &fields, "an attack").status(), 403);
    assert_eq!(request(gateway.public(), "POST /held/x", &fields, "no harm").text(), "no harm");
}
