//! What HTTP can do besides a request and its answer: over both protocols of clients and both of upstreams, with a firewall
//! that inspects what is meant to be inspected and holds up nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, FrameOrigin, Gate, Gateway, H2Client, H2Origin, H2Request, Origin, RawClient, Received, Step,
};
use std::net::SocketAddr;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
/// How long an upstream is silent where a test looks whether what came before it has arrived.
const SILENCE: &str = "pause 1500";
const BRIEF: Duration = Duration::from_millis(200);

/// A gateway with a route to each of these upstreams, by name: `/NAME/…`.
fn gateway(upstreams: &[(&str, SocketAddr)]) -> Gateway {
    gateway_with(upstreams, "")
}

/// The same with more in each route.
fn gateway_with(upstreams: &[(&str, SocketAddr)], route: &str) -> Gateway {
    let rules = "SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess On\n\
                 SecResponseBodyMimeType text/plain application/json\n\
                 SecRule REQUEST_BODY \"@contains evil\" \"id:1,phase:2,deny,status:403\"\n\
                 SecRule RESPONSE_BODY \"@contains evil\" \"id:2,phase:4,deny,status:403\"\n";
    Gateway::builder(BINARY).file("rules/test.conf", rules).start(|ports| {
        let mut config = format!(
            r#"
            admin.listen = "{admin}"
            firewall.rules = ["rules/test.conf"]
            [[listener]]
            name = "public"
            address = "{public}"
            "#,
            admin = ports.admin,
            public = ports.public,
        );
        for (name, address) in upstreams {
            let protocol = if name.ends_with("h2") { "http2" } else { "http1" };
            config.push_str(&format!(
                r#"
                [upstream.{name}]
                endpoints = [{{ address = "{address}" }}]
                protocol = "{protocol}"
                [[route]]
                name = "{name}"
                match = {{ path = "/{name}/{{*rest}}" }}
                upstream = "{name}"
                trailers = {{ request = ["x-sum"], response = ["x-sum"] }}
                {route}
                "#
            ));
        }
        config
    })
}

fn h1(gateway: &Gateway) -> RawClient {
    RawClient::connect(gateway.public()).unwrap()
}

fn h2(gateway: &Gateway) -> H2Client {
    H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap()
}

fn script(lines: &[&str]) -> FrameOrigin {
    let origin = FrameOrigin::start(&lines.iter().map(ToString::to_string).collect::<Vec<_>>());
    origin.be_hostile(true);
    origin
}

#[test]
fn server_sent_events_arrive_as_they_are_sent() {
    let gates = [Gate::default(), Gate::default()];
    let waits = gates.clone();
    let origin = Origin::start(move |request| {
        let gate = waits[usize::from(request.target().ends_with("second"))].clone();
        Answer::status(200).events(&["1", "2"], Some(Step::Until(gate)))
    });
    let frames = script(&[
        "> HEADERS {n} EH",
        ":status = 200",
        "content-type = text/event-stream",
        "> DATA {n}",
        "\"data: 1\\n\\n\"",
        SILENCE,
        "> DATA {n} ES",
        "\"data: 2\\n\\n\"",
    ]);
    let gateway = gateway(&[("h1", origin.address()), ("h2", frames.address())]);
    for (path, gate) in [("/h1/first", Some(&gates[0])), ("/h2/x", None)] {
        let mut client = h1(&gateway);
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n")).unwrap();
        client.until("data: 1\n\n\r\n").unwrap();
        assert!(!client.hears(BRIEF), "{path}: the first event came with the second");
        gate.into_iter().for_each(Gate::open);
        client.until("data: 2\n\n").unwrap();
    }
    for (path, gate) in [("/h1/second", Some(&gates[1])), ("/h2/x", None)] {
        let mut client = h2(&gateway);
        let stream = client.request("GET", "a", path, &[("accept", "text/event-stream")], true).unwrap();
        let first = client.until(stream, |state| !state.body.is_empty()).unwrap();
        assert_eq!(first.body, b"data: 1\n\n", "{path}: the first event came with the second");
        gate.into_iter().for_each(Gate::open);
        assert_eq!(client.answer(stream).unwrap().body, b"data: 1\n\ndata: 2\n\n");
    }
}

#[test]
fn a_long_poll_is_waited_for() {
    let gate = Gate::default();
    let wait = gate.clone();
    let late = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_vec();
    let origin = Origin::answering(Answer::steps([Step::Until(wait), Step::Bytes(late)]));
    let frames = script(&[
        SILENCE,
        "> HEADERS {n} EH",
        ":status = 200",
        "content-type = application/json",
        "> DATA {n} ES",
        "\"{}\"",
    ]);
    let gateway = gateway(&[("h1", origin.address()), ("h2", frames.address())]);
    let (mut first, mut second) = (h1(&gateway), h2(&gateway));
    first.send("GET /h1/x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let held = second.request("GET", "a", "/h1/x", &[], true).unwrap();
    let _ = origin.wait_for(2);
    assert!(!first.hears(BRIEF));
    // The connection is free for others meanwhile.
    assert_eq!(second.get("a", "/h2/x").unwrap().body, b"{}");
    gate.open();
    assert_eq!(first.response().unwrap().text(), "{}");
    assert_eq!(second.answer(held).unwrap().body, b"{}");
}

#[test]
fn a36_a_client_that_waits_for_continue_gets_it_from_the_gateway() {
    let origin = Origin::start(Answer::echo);
    let other = H2Origin::start(None, |request: &H2Request| {
        assert!(!request.headers().contains_key("expect"));
        http::Response::new(request.body().clone())
    });
    let gateway = gateway(&[("h1", origin.address()), ("h2", other.address())]);
    for path in ["/h1/x", "/h2/x"] {
        let mut client = h1(&gateway);
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
        client.send(head).unwrap();
        assert_eq!(client.head().unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n", "{path}");
        client.send("hello").unwrap();
        assert_eq!(client.response().unwrap().text(), "hello", "{path}");
        // Over HTTP/2 there is nothing to wait for, and the field means nothing to an upstream.
        let mut client = h2(&gateway);
        let fields = [("expect", "100-continue"), ("content-length", "5")];
        let stream = client.request("POST", "a", path, &fields, false).unwrap();
        client.data(stream, b"hello", true).unwrap();
        assert_eq!(client.answer(stream).unwrap().body, b"hello", "{path}");
    }
    assert!(origin.requests().iter().all(|request| request.header("expect").is_none()));
}

const FILE: &str = "0123456789";

/// What a file server makes of `Range`, `If-Range` and `If-None-Match` (RFC 9110 §13, §14).
fn file(field: impl Fn(&str) -> Option<String>) -> (u16, Option<&'static str>, &'static str) {
    if field("if-none-match").as_deref() == Some("\"v1\"") {
        return (304, None, "");
    }
    match field("range").as_deref() {
        Some("bytes=2-4") if field("if-range").is_none_or(|tag| tag == "\"v1\"") => {
            (206, Some("bytes 2-4/10"), &FILE[2..5])
        }
        Some("bytes=20-") => (416, Some("bytes */10"), ""),
        _ => (200, None, FILE),
    }
}

#[test]
fn ranges_and_conditions_are_the_upstream_s() {
    let origin = Origin::start(|request: &Received| {
        let (status, range, body) = file(|name| request.header(name).map(str::to_owned));
        let head = Answer::status(status).header("etag", "\"v1\"").header("accept-ranges", "bytes");
        let head = range.into_iter().fold(head, |head, range| head.header("content-range", range));
        if status == 304 { Answer::raw(head.end()) } else { head.body(body) }
    });
    let other = H2Origin::start(None, |request: &H2Request| {
        let field = |name: &str| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
        let (status, range, body) = file(field);
        let mut answer = http::Response::builder().status(status).header("etag", "\"v1\"");
        if let Some(range) = range {
            answer = answer.header("content-range", range);
        }
        answer.body(bytes(body)).unwrap()
    });
    // Where answers are looked through for leaks, upstreams are asked for all of them.
    let upstreams = [("h1", origin.address()), ("h2", other.address())];
    let gateway = gateway_with(&upstreams, "response.leaks.mode = \"off\"");
    /// Fields of the request; status, `Content-Range` and body of the answer.
    type Ranged = (&'static [(&'static str, &'static str)], u16, Option<&'static str>, &'static str);
    let cases: [Ranged; 6] = [
        (&[], 200, None, FILE),
        (&[("range", "bytes=2-4")], 206, Some("bytes 2-4/10"), "234"),
        (&[("range", "bytes=2-4"), ("if-range", "\"v1\"")], 206, Some("bytes 2-4/10"), "234"),
        (&[("range", "bytes=2-4"), ("if-range", "\"v0\"")], 200, None, FILE),
        (&[("range", "bytes=20-")], 416, Some("bytes */10"), ""),
        (&[("if-none-match", "\"v1\"")], 304, None, ""),
    ];
    for path in ["/h1/x", "/h2/x"] {
        for (fields, status, range, body) in cases {
            let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let mut client = h1(&gateway);
            client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{lines}\r\n")).unwrap();
            let answer = client.response().unwrap();
            let seen = (answer.status(), answer.header("content-range"), answer.text());
            assert_eq!(seen, (status, range, body.to_owned()), "{path} {fields:?}");
            assert_eq!(answer.header("etag"), Some("\"v1\""));
            let mut client = h2(&gateway);
            let stream = client.request("GET", "a", path, fields, true).unwrap();
            let answer = client.answer(stream).unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (Some(status), body.as_bytes()),
                "{path} {fields:?}"
            );
        }
    }
}

fn bytes(text: &'static str) -> bytes::Bytes {
    bytes::Bytes::from_static(text.as_bytes())
}

#[test]
fn head_has_a_length_and_no_body() {
    let origin = Origin::answering(Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 600000\r\n\r\n"));
    let frames = script(&["> HEADERS {n} ES EH", ":status = 200", "content-length = 600000"]);
    let gateway = gateway(&[("h1", origin.address()), ("h2", frames.address())]);
    for path in ["/h1/x", "/h2/x"] {
        let mut client = h1(&gateway);
        // Twice: nothing of a body stands between.
        for _ in 0..2 {
            client.send(format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
            let head = String::from_utf8(client.head().unwrap()).unwrap().to_lowercase();
            assert!(
                head.starts_with("http/1.1 200 ") && head.contains("content-length: 600000\r\n"),
                "{head}"
            );
        }
        let mut client = h2(&gateway);
        let stream = client.request("HEAD", "a", path, &[], true).unwrap();
        let seen = client.answer(stream).unwrap();
        assert_eq!((seen.status, seen.body.len(), seen.ended), (Some(200), 0, true), "{path}");
    }
}

#[test]
fn c11_an_answer_that_comes_while_the_client_uploads() {
    let refusal = Answer::status(413).header("connection", "close").body("too much").then([Step::Hang]);
    let origin = Origin::builder().ignoring_bodies().start(move |_| refusal.clone());
    let frames = script(&[
        "> HEADERS {n} EH",
        ":status = 413",
        "> DATA {n} ES",
        "\"too much\"",
        "> RST_STREAM {n}",
        "hex 00 00 00 00",
    ]);
    let gateway = gateway(&[("h1", origin.address()), ("h2", frames.address())]);
    for path in ["/h1/x", "/h2/x"] {
        // Larger than what is held for inspection: it streams behind its beginning. The client of HTTP/1.1 stops.
        let mut client = h1(&gateway);
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/octet-stream\r\ncontent-length: 900000\r\n\r\n"
        );
        client.send(head).unwrap();
        client.send(vec![b'x'; 900_000]).unwrap();
        let answer = client.response().unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (413, "too much"), "{path}");
        let mut client = h2(&gateway);
        let stream = client.request("PUT", "a", path, &[], false).unwrap();
        let _ = client.data(stream, &[b'x'; 900_000], true);
        let seen = client.answer(stream).unwrap();
        assert_eq!((seen.status, seen.body.as_slice()), (Some(413), &b"too much"[..]), "{path}");
        // The connection goes on.
        let stream = client.request("PUT", "a", path, &[], true).unwrap();
        assert_eq!(client.answer(stream).unwrap().status, Some(413), "{path}");
    }
}

#[test]
fn a26_trailers_that_a_route_lists_pass() {
    let origin = Origin::answering(Answer::raw(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\nx-other: 2\r\n\r\n",
    ));
    let frames = script(&[
        "> HEADERS {n} EH",
        ":status = 200",
        "> DATA {n}",
        "\"hello\"",
        "> HEADERS {n} ES EH",
        "x-sum = 1",
        "x-other = 2",
    ]);
    let gateway = gateway(&[("h1", origin.address()), ("h2", frames.address())]);
    for path in ["/h1/x", "/h2/x"] {
        let mut client = h1(&gateway);
        client
            .send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n"))
            .unwrap();
        client.until("5\r\nhello\r\n0\r\n").unwrap();
        let trailers = String::from_utf8(client.until("\r\n\r\n").unwrap()).unwrap();
        assert_eq!(trailers.to_lowercase(), "x-sum: 1\r\n\r\n", "{path}");
        let mut client = h2(&gateway);
        let stream = client.request("GET", "a", path, &[("te", "trailers")], true).unwrap();
        // Behind DATA that does not end the stream: HEADERS that do.
        let mut last = None;
        while !client.stream(stream).ended {
            last = Some(client.next_frame().unwrap());
        }
        assert_eq!(last.map(|frame| frame.kind), Some(1), "{path}");
        // Who does not ask gets none.
        let mut client = h1(&gateway);
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        client.until("hello\r\n0\r\n\r\n").unwrap();
    }
}
