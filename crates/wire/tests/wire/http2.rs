//! HTTP/2 connections of clients, frame by frame (matrix part B).

use crate::service::Server;
use portcullis_testkit::{H2Client, PREFACE};
use portcullis_wire::server::{Protocol, ServerSettings};
use std::io::ErrorKind;
use std::sync::atomic::Ordering;

fn server() -> Server {
    Server::start(ServerSettings::default())
}

fn h2(server: &Server) -> H2Client {
    H2Client::start(server.connect()).unwrap()
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

#[test]
fn prior_knowledge_in_any_pieces() {
    let server = server();
    assert_eq!(h2(&server).get("a", "/x").unwrap().body, b"/x");
    for at in 1..PREFACE.len() {
        let mut raw = server.connect();
        raw.send(&PREFACE[..at]).unwrap();
        raw.send(&PREFACE[at..]).unwrap();
        assert_eq!(H2Client::resume(raw).unwrap().get("a", "/x").unwrap().body, b"/x", "cut at {at}");
    }
    let mut raw = server.connect();
    PREFACE.iter().for_each(|byte| raw.send([*byte]).unwrap());
    assert_eq!(H2Client::resume(raw).unwrap().get("a", "/x").unwrap().body, b"/x");
}

#[test]
fn a34_a_preface_that_is_none_or_comes_too_late() {
    let server = server();
    let mut client = server.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSMTP\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status(), 505);
    assert!(client.is_closed());
    let mut client = server.connect();
    client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client.response().unwrap();
    client.send(PREFACE).unwrap();
    assert_eq!(client.response().unwrap().status(), 505);
    for (protocol, settings) in [
        (Protocol::Detect, ServerSettings { http2: false, ..ServerSettings::default() }),
        (Protocol::Http1, ServerSettings::default()),
    ] {
        let server = Server::start_as(protocol, settings);
        let mut client = server.connect();
        client.send(PREFACE).unwrap();
        assert_eq!(client.response().unwrap().status(), 505, "{protocol:?}");
    }
}

#[test]
fn h1_where_alpn_chose_h2_is_refused() {
    let server = Server::start_as(Protocol::Http2, ServerSettings::default());
    let mut client = server.connect();
    client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    // hyper says so in its own protocol, which is no HTTP/1 answer.
    assert!(!text(&client.rest().unwrap_or_default()).contains("HTTP/1.1 200"));
    assert!(server.events.all().iter().all(|event| event == "connection over"));
}

#[test]
fn many_streams_at_once() {
    let server = server();
    let mut client = h2(&server);
    let streams: Vec<u32> =
        (0..50).map(|n| client.request("GET", "a", &format!("/{n}"), &[], true).unwrap()).collect();
    for (n, stream) in streams.into_iter().enumerate() {
        assert_eq!(text(&client.answer(stream).unwrap().body), format!("/{n}"));
    }
}

#[test]
fn b9_cookie_crumbs_are_joined_and_authority_is_host() {
    let server = server();
    let mut client = h2(&server);
    let fields = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")];
    let stream = client.request("GET", "A.test:80", "/fields", &fields, true).unwrap();
    assert_eq!(text(&client.answer(stream).unwrap().body), "host=A.test:80\nx=y\ncookie=a=1; b=2; c=3\n");
}

#[test]
fn b7_authority_and_host_must_agree() {
    let server = server();
    let cases: [(&[(&str, &str)], u16); 6] = [
        (&[(":authority", "a"), ("host", "b")], 400),
        (&[(":authority", "a"), ("host", "a"), ("host", "a")], 400),
        (&[(":authority", "a"), ("host", "A")], 200),
        (&[("host", "a")], 200),
        (&[(":authority", "a"), ("host", "a/b")], 400),
        (&[], 400),
    ];
    for (fields, status) in cases {
        let mut all = vec![(":method", "GET"), (":scheme", "http"), (":path", "/x")];
        let (pseudo, plain): (Vec<_>, Vec<_>) =
            fields.iter().copied().partition(|(name, _)| name.starts_with(':'));
        all.extend(pseudo.into_iter().chain(plain));
        let mut client = h2(&server);
        let stream = client.open(&all, true).unwrap();
        let seen = client.answer(stream).unwrap();
        assert!(
            seen.status == Some(status) || (status == 400 && seen.reset.is_some()),
            "{fields:?}: {seen:?}"
        );
    }
}

#[test]
fn b1_to_b10_malformed_requests_reach_no_service() {
    let server = server();
    let base = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/x")];
    let with = |extra: &[(&'static str, &'static str)]| [&base[..], extra].concat();
    let changed = |name: &str, value: &'static str| -> Vec<(&'static str, &'static str)> {
        base.iter().map(|&(n, v)| if n == name { (n, value) } else { (n, v) }).collect()
    };
    let without = |name: &str| -> Vec<(&'static str, &'static str)> {
        base.iter().copied().filter(|(n, _)| *n != name).collect()
    };
    let cases = [
        ("B1 CRLF in a value", with(&[("x", "a\r\nX-Via: b")])),
        ("B1 NUL in a value", with(&[("x", "a\0b")])),
        ("B1 CRLF in a name", with(&[("x\r\ny", "a")])),
        ("B1 colon in a name", with(&[("x: y", "a")])),
        ("B1 CRLF in :path", changed(":path", "/x HTTP/1.1\r\nhost: b\r\n\r\nGET /y")),
        ("B1 CRLF in :method", changed(":method", "GET / HTTP/1.1\r\nx: y")),
        ("B1 CRLF in :authority", changed(":authority", "a\r\nx: y")),
        ("B2 control byte", with(&[("x", "\x01")])),
        ("B2 leading space", with(&[("x", " a")])),
        ("B2 trailing tab", with(&[("x", "a\t")])),
        ("B2 upper case", with(&[("X", "a")])),
        ("B3 length of a body that is not there", with(&[("content-length", "5")])),
        ("B3 two lengths", with(&[("content-length", "0"), ("content-length", "1")])),
        ("B4 transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("B4 connection", with(&[("connection", "close")])),
        ("B4 keep-alive", with(&[("keep-alive", "5")])),
        ("B4 upgrade", with(&[("upgrade", "websocket")])),
        ("B4 proxy-connection", with(&[("proxy-connection", "close")])),
        ("B4 te", with(&[("te", "gzip")])),
        ("B5 no method", without(":method")),
        ("B5 no path", without(":path")),
        ("B5 no scheme", without(":scheme")),
        ("B5 method twice", with(&[(":method", "POST")])),
        ("B5 late pseudo field", [&[("x", "y")][..], &base].concat()),
        ("B5 unknown pseudo field", with(&[(":x", "y")])),
        ("B5 status", with(&[(":status", "200")])),
        ("B6 empty path", changed(":path", "")),
        ("B7 userinfo", changed(":authority", "u@a/b")),
        ("B8 scheme", changed(":scheme", "ftp")),
        ("B8 scheme with more", changed(":scheme", "http://evil/?")),
        ("B10 CONNECT", vec![(":method", "CONNECT"), (":authority", "a:443")]),
        (
            "B10 extended CONNECT",
            vec![
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/x"),
            ],
        ),
        ("TRACE", changed(":method", "TRACE")),
    ];
    for (what, fields) in cases {
        let mut client = h2(&server);
        let stream = client.open(&fields, true).unwrap();
        match client.answer(stream) {
            Ok(seen) => {
                assert!(seen.reset.is_some() || matches!(seen.status, Some(400 | 405)), "{what}: {seen:?}")
            }
            Err(_) => assert!(client.goaway.is_some_and(|(_, code)| code != 0), "{what}"),
        }
    }
    let called: Vec<_> = server.events.all().into_iter().filter(|event| event.contains('/')).collect();
    assert!(called.is_empty(), "{called:?}");
}

#[test]
fn b3_data_of_another_length_than_announced() {
    let server = server();
    for (length, body) in [("10", "abc"), ("2", "abc"), ("0", "abc")] {
        let mut client = h2(&server);
        let stream = client.request("POST", "a", "/echo", &[("content-length", length)], false).unwrap();
        let _ = client.data(stream, body.as_bytes(), true);
        let seen = client.answer(stream).unwrap();
        assert!(seen.reset.is_some() || seen.status == Some(400), "{length}: {seen:?}");
    }
}

#[test]
fn heads_over_the_caps() {
    let server = server();
    let long = "a".repeat(40_000);
    let path = format!("/{}", "a".repeat(9_000));
    let names: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "y")).collect();
    let mut client = h2(&server);
    let stream = client.request("GET", "a", "/x", &many, true).unwrap();
    assert_eq!(client.answer(stream).unwrap().status, Some(431));
    let stream = client.request("GET", "a", &path, &[], true).unwrap();
    assert_eq!(client.answer(stream).unwrap().status, Some(414));
    // A list over the limit, in frames of the size allowed: HEADERS and CONTINUATION.
    let mut client = h2(&server);
    let mut block = vec![0x82, 0x86, 0x84, 0x41, 1, b'a'];
    for _ in 0..3 {
        block.extend_from_slice(&[0, 1, b'x', 127, 0xc1, 0xb7, 2]); // 40 000
        block.extend_from_slice(long.as_bytes());
    }
    let mut pieces = block.chunks(16_384);
    client.frame(1, 1, 1, pieces.next().unwrap()).unwrap();
    for piece in pieces {
        // It may give up on us before we are through.
        let _ = client.frame(9, 0, 1, piece);
    }
    let _ = client.frame(9, 4, 1, &[]);
    match client.answer(1) {
        Ok(seen) => assert!(seen.reset.is_some() || seen.status == Some(431), "{seen:?}"),
        // What it said may be lost, since we were still sending.
        Err(error) => {
            assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "still open")
        }
    }
    assert!(server.events.all().iter().all(|event| !event.contains("GET")), "{:?}", server.events.all());
}

#[test]
fn answers_without_a_body_have_none_and_cut_ones_are_reset() {
    let server = server();
    let mut client = h2(&server);
    for (method, path, status) in
        [("HEAD", "/length", 200), ("HEAD", "/chunks", 200), ("GET", "/204", 204), ("GET", "/304", 304)]
    {
        let stream = client.request(method, "a", path, &[], true).unwrap();
        let seen = client.answer(stream).unwrap();
        assert_eq!((seen.status, seen.body.len(), seen.ended), (Some(status), 0, true), "{method} {path}");
    }
    let stream = client.request("GET", "a", "/chunks", &[], true).unwrap();
    assert_eq!(client.answer(stream).unwrap().body, b"onetwo");
    for path in ["/less", "/more", "/cut?length", "/cut"] {
        let stream = client.request("GET", "a", path, &[], true).unwrap();
        let seen = client.answer(stream).unwrap();
        assert!(seen.reset.is_some() && !seen.ended, "{path}: {seen:?}");
    }
    assert_eq!(client.get("a", "/after").unwrap().body, b"/after");
}

#[test]
fn a_body_is_read_and_its_trailers_are_dropped() {
    let server = server();
    let mut client = h2(&server);
    let large = vec![b'x'; 3_000_000];
    let stream = client.request("POST", "a", "/echo", &[], false).unwrap();
    client.data(stream, &large, true).unwrap();
    assert!(client.answer(stream).unwrap().body == large);
    let stream = client.request("POST", "a", "/echo", &[], false).unwrap();
    client.data(stream, b"abc", false).unwrap();
    // HEADERS with END_STREAM and END_HEADERS: `x: y`.
    client.frame(1, 5, stream, &[0, 1, b'x', 1, b'y']).unwrap();
    assert_eq!(client.answer(stream).unwrap().body, b"abc");
}

#[test]
fn an_answer_without_the_body_being_read_leaves_the_connection_usable() {
    let server = server();
    let mut client = h2(&server);
    for _ in 0..40 {
        let stream = client.request("POST", "a", "/refuse", &[], false).unwrap();
        // As much as fits in the window: what is not read must not use up the connection's.
        let _ = client.data(stream, &[b'x'; 60_000], false);
        assert_eq!(client.answer(stream).unwrap().status, Some(401));
    }
    assert_eq!(client.get("a", "/after").unwrap().body, b"/after");
}

#[test]
fn a_reset_stream_ends_the_wait_for_it() {
    let server = server();
    let mut client = h2(&server);
    let stream = client.request("GET", "a", "/hang", &[], true).unwrap();
    server.events.wait_for("GET /hang");
    client.reset(stream).unwrap();
    server.events.wait_for("gone");
    assert_eq!(client.get("a", "/x").unwrap().body, b"/x");
    // A body that is being read breaks off likewise.
    let stream = client.request("POST", "a", "/echo", &[], false).unwrap();
    client.data(stream, b"abc", false).unwrap();
    server.events.wait_for("POST /echo");
    client.reset(stream).unwrap();
    server.events.wait_for("body Some(Incomplete)");
}

#[test]
fn b18_a_client_that_does_not_read_is_not_written_to_for_ever() {
    let server = server();
    let mut client = h2(&server);
    client.reads = false;
    let stream = client.request("GET", "a", "/endless", &[], true).unwrap();
    // Its window is used up; the rest waits with the service.
    client.until(stream, |state| state.body.len() == 65_535).unwrap();
    client.reads = true;
    client.frame(8, 0, 0, &1_000_000u32.to_be_bytes()).unwrap();
    assert_eq!(client.get("a", "/x").unwrap().body, b"/x");
    let pushed = server.events.pushed.load(Ordering::SeqCst);
    assert!(pushed < 512 * 1024, "{pushed} bytes were taken from the service");
}

#[test]
fn b17_streams_over_the_limit_are_refused() {
    let server = Server::start(ServerSettings { max_concurrent_streams: 5, ..ServerSettings::default() });
    let mut client = h2(&server);
    // SETTINGS are known to both once a request was answered.
    client.get("a", "/x").unwrap();
    let streams: Vec<u32> = (0..8).map(|_| client.request("GET", "a", "/hang", &[], true).unwrap()).collect();
    for stream in &streams[5..] {
        let refused = 7;
        assert_eq!(client.answer(*stream).unwrap().reset, Some(refused));
    }
}

#[test]
fn b11_rapid_reset_ends_the_connection() {
    let server = server();
    let mut client = h2(&server);
    for _ in 0..5_000 {
        let Ok(stream) = client.request("GET", "a", "/hang", &[], true) else { break };
        if client.reset(stream).is_err() {
            break;
        }
    }
    assert!(client.is_closed());
    server.events.wait_for("connection over");
    assert!(called(&server) <= 500, "{} requests reached the service", called(&server));
}

/// Slow enough for each request to be handed on before it is taken back.
#[test]
fn b11_a_slow_rapid_reset_ends_the_connection_too() {
    let server = server();
    let mut client = h2(&server);
    for sent in 1..5_000 {
        let Ok(stream) = client.request("GET", "a", "/hang", &[], true) else { break };
        // A connection that has ended calls no more.
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while called(&server) < sent && std::time::Instant::now() < patience {
            std::thread::yield_now();
        }
        if called(&server) < sent || client.reset(stream).is_err() {
            break;
        }
    }
    server.events.wait_for("connection over");
    assert!(called(&server) <= 500, "{} requests reached the service", called(&server));
}

fn called(server: &Server) -> usize {
    server.events.all().iter().filter(|event| *event == "GET /hang").count()
}

#[test]
fn drain_says_goaway_and_finishes_what_has_begun() {
    let server = server();
    let mut idle = h2(&server);
    assert_eq!(idle.get("a", "/x").unwrap().body, b"/x");
    let mut busy = h2(&server);
    let stream = busy.request("GET", "a", "/gated", &[], true).unwrap();
    server.events.wait_for("waiting");
    server.drain.send(true).unwrap();
    assert!(idle.is_closed());
    assert!(idle.goaway.is_some_and(|(_, code)| code == 0), "{:?}", idle.goaway);
    while busy.goaway.is_none() {
        busy.next_frame().unwrap();
    }
    server.gate.send(true).unwrap();
    let seen = busy.answer(stream).unwrap();
    assert_eq!((text(&seen.body).as_str(), seen.ended), ("gate", true));
    assert!(busy.is_closed());
}

#[test]
fn serves_so_many_requests_and_then_says_goaway() {
    let server = Server::start(ServerSettings { max_requests: 3, ..ServerSettings::default() });
    let mut client = h2(&server);
    for _ in 0..3 {
        assert_eq!(client.get("a", "/x").unwrap().body, b"/x");
    }
    assert!(client.is_closed());
    assert!(client.goaway.is_some_and(|(_, code)| code == 0), "{:?}", client.goaway);
}

#[test]
fn b16_frames_that_ask_for_nothing_end_the_connection_before_the_thousandth() {
    let server = server();
    let floods: [(&str, u8, u32, &[u8]); 6] = [
        ("PING", 6, 0, &[0; 8]),
        ("SETTINGS", 4, 0, &[]),
        ("SETTINGS that change a window", 4, 0, &[0, 4, 0, 0, 0xff, 0xff]),
        ("PRIORITY", 2, 1, &[0, 0, 0, 3, 15]),
        ("WINDOW_UPDATE", 8, 0, &[0, 0, 0, 1]),
        ("unknown frames", 0x42, 0, &[1, 2, 3]),
    ];
    for (what, kind, stream, payload) in floods {
        let mut client = h2(&server);
        // As many as a busy client may send are no offence.
        for _ in 0..400 {
            client.frame(kind, 0, stream, payload).unwrap();
        }
        let mut fresh = h2(&server);
        assert_eq!(fresh.get("a", "/x").unwrap().status, Some(200), "{what}");
        for _ in 400..1000 {
            // It may give up on us before we are through.
            if client.frame(kind, 0, stream, payload).is_err() {
                break;
            }
        }
        assert!(client.is_closed(), "{what}: still open");
        assert_eq!(client.goaway.map(|(_, code)| code), Some(11), "{what}");
    }
}

#[test]
fn b16_a_client_that_opens_its_windows_after_each_small_answer_is_no_flood() {
    let server = server();
    let mut client = h2(&server);
    // Two frames for each answer, though hardly a byte came.
    for number in 0..900 {
        let path = format!("/echo-{number}");
        assert_eq!(client.get("a", &path).unwrap().body, path.as_bytes());
    }
}
