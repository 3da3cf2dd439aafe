//! The scripts do what they say, seen from a socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Authority, Digest, FaultProtocol, FaultProxy, FaultScript, Gateway, H2Client, H2Origin, Origin,
    RawClient, cases, get, pattern, pattern_digest, request,
};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn bodies_are_recorded_with_their_digest() {
    let origin = Origin::start(Answer::echo);
    let response = request(origin.address(), "POST /a?b=1", &["x-c: d"], "hello");
    assert_eq!(response.text(), "hello");
    let mut client = RawClient::connect(origin.address()).unwrap();
    client
        .send("POST /chunked HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n")
        .unwrap();
    assert_eq!(client.response().unwrap().text(), "abcde");
    let seen = origin.wait_for(2);
    assert_eq!((seen[0].method(), seen[0].target(), seen[0].header("X-C")), ("POST", "/a?b=1", Some("d")));
    assert_eq!(seen[0].digest, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!((seen[1].length, seen[1].complete, seen[1].connection), (5, true, 1));
}

#[test]
fn large_bodies_flow_both_ways() {
    const LENGTH: u64 = 20 << 20;
    let origin = Origin::answering(Answer::pattern(LENGTH));
    let mut client = RawClient::connect(origin.address()).unwrap();
    client.send(format!("PUT /up HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n")).unwrap();
    pattern(LENGTH, |block| client.send(block).is_ok());
    client.head().unwrap();
    let mut digest = Digest::default();
    assert!(client.take(LENGTH, |data| digest.update(data)).unwrap());
    assert_eq!(digest.finish(), pattern_digest(LENGTH));
    let up = &origin.requests()[0];
    assert_eq!((up.length, &up.digest), (LENGTH, &pattern_digest(LENGTH)));
    assert!(up.body.len() < LENGTH as usize);
}

#[test]
fn connections_end_as_the_script_says() {
    let origin = Origin::start(|request| match request.target() {
        "/close" => Answer::close(),
        "/reset" => Answer::reset(),
        "/short" => Answer::status(200).cut_short(10, "abc"),
        "/drip" => Answer::ok("abc").dripping(Duration::from_millis(1)),
        _ => Answer::raw("garbage\r\n\r\n"),
    });
    let ask = |path: &str| {
        let mut client = RawClient::connect(origin.address()).unwrap();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        client
    };
    assert_eq!(ask("/close").response().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(ask("/reset").response().unwrap_err().kind(), ErrorKind::ConnectionReset);
    let short = ask("/short").response().unwrap();
    assert_eq!((short.text().as_str(), short.complete), ("abc", false));
    assert_eq!(ask("/drip").response().unwrap().text(), "abc");
    assert_eq!(ask("/garbage").head().unwrap(), b"garbage\r\n\r\n");
    let mut client = ask("/drip");
    client.response().unwrap();
    drop(origin);
    assert!(client.is_closed());
}

#[test]
fn http2_over_tls() {
    let authority = Authority::new();
    let identity = authority.issue(&["backend.test"]);
    let origin = H2Origin::start(Some(identity.server_config(&["h2"])), |_| http::Response::default());
    let mut client = RawClient::connect_tls(origin.address(), "backend.test", &authority, &["h2"]).unwrap();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut settings = Vec::new();
    client.take(9, |data| settings.extend_from_slice(data)).unwrap();
    assert_eq!(settings[3], 4, "a SETTINGS frame");
    assert!(RawClient::connect_tls(origin.address(), "other.test", &authority, &["h2"]).is_err());
}

/// A shell script stands in for the binary: the harness is under test here, not the gateway.
#[test]
fn a_child_that_ends_is_a_failure_with_its_log() {
    let start = || Gateway::builder("/bin/sh").arguments(&["-c", "echo broken >&2; exit 3"]);
    let failed = std::panic::catch_unwind(|| drop(start().start(|_| String::new()))).unwrap_err();
    let text = failed.downcast_ref::<String>().unwrap();
    assert!(text.contains("exit status: 3"), "{text}");
}

#[test]
fn a_child_is_ready_when_its_admin_listener_says_so_and_gone_when_dropped() {
    let origin = Origin::answering(Answer::ok("m_total{a=\"b\"} 3\n"));
    let address = origin.address();
    let mut gateway = Gateway::builder("/bin/sh")
        .env("WORD", "started")
        .file("rules/a.conf", "x")
        .arguments(&["-c", "cat rules/a.conf gateway.toml; echo $WORD; exec sleep 1000"])
        .start_at(portcullis_testkit::Ports { public: address, tls: address, admin: address }, "# config\n");
    let _ = gateway.wait_for_line(|line| line == "started");
    assert_eq!(gateway.log()[0], "x# config");
    assert_eq!(gateway.sample("m_total{a=\"b\"}"), Some(3.0));
    assert!(gateway.ended().is_none());
    let pid = gateway.pid();
    gateway.signal("TERM");
    assert!(!gateway.wait().success());
    drop(gateway);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(get(address, "/readyz").status(), 200);
}

/// Every fault between the gateway and an upstream can be read, and does harm.
#[test]
fn faults_are_harm() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/faults");
    for case in cases(folder) {
        let own = |line: &&String| {
            !["get ", "post ", "everywhere", "prefix"].iter().any(|word| line.starts_with(word))
        };
        let _ = FaultScript::read(case.lines.iter().filter(own).map(String::as_str), &case.place);
        for method in ["get ", "post "] {
            assert!(case.lines.iter().any(|line| line.starts_with(method)), "{}: {method}", case.place);
        }
    }
}

#[test]
fn a_fault_proxy_harms_and_is_well_again() {
    let origin = Origin::answering(Answer::ok("hi"));
    let proxy = FaultProxy::start(FaultProtocol::Http1, &[("origin", origin.address())]);
    let ask = || {
        let mut client = RawClient::connect(proxy.address())?;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
        client.response()
    };
    let follow = |lines: &[&str]| proxy.follow(&FaultScript::read(lines.iter().copied(), "here"));
    for round in 1..=2 {
        assert_eq!(ask().unwrap().text(), "hi");
        follow(&["refuse"]);
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::ConnectionRefused, "round {round}");
        proxy.be_well();
        assert_eq!(ask().unwrap().text(), "hi");
        follow(&["ignore"]);
        let ignored = TcpStream::connect_timeout(&proxy.address(), Duration::from_millis(200));
        assert_eq!(ignored.unwrap_err().kind(), ErrorKind::TimedOut);
        follow(&["accept reset"]);
        proxy.be_well();
        assert_eq!(ask().unwrap().text(), "hi");
        follow(&["unpassed", "\"HTTP/1.1 503 No\\r\\ncontent-length: 0\\r\\n\\r\\n\""]);
        let before = origin.count();
        assert_eq!(ask().unwrap().status(), 503);
        assert_eq!(origin.count(), before, "the origin heard nothing of it");
        follow(&["length +5", "answer", "close"]);
        assert!(!ask().unwrap().complete);
        follow(&["every 2", "reset"]);
        assert_eq!((0..4).filter(|_| ask().is_err()).count(), 2);
        proxy.be_well();
    }
}

#[test]
fn a_fault_proxy_of_bytes_and_of_frames() {
    let origin = Origin::answering(Answer::ok("hi"));
    let proxy = FaultProxy::start(FaultProtocol::Bytes, &[("origin", origin.address())]);
    proxy.follow(&FaultScript::read(["down 20", "\"x\"", "reset"], "here"));
    let mut client = RawClient::connect(proxy.address()).unwrap();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(client.response().is_err());
    proxy.be_well();
    assert_eq!(get(proxy.address(), "/").text(), "hi");

    let origin = H2Origin::start(None, |_| http::Response::new(bytes::Bytes::from_static(b"hi")));
    let proxy = FaultProxy::start(FaultProtocol::Http2, &[("origin", origin.address())]);
    let ask = || {
        let mut client = H2Client::start(RawClient::connect(proxy.address())?)?;
        client.get("a", "/")
    };
    assert_eq!(ask().unwrap().body, b"hi");
    proxy.follow(&FaultScript::read(["for request", "> RST_STREAM {n}", "hex 00 00 00 07"], "here"));
    assert_eq!(ask().unwrap().reset, Some(7));
    assert_eq!(origin.requests().len(), 1);
    proxy.follow(&FaultScript::read(["for data", "close"], "here"));
    assert!(ask().is_err());
    assert_eq!(origin.requests().len(), 2);
    proxy.be_well();
    assert_eq!(ask().unwrap().body, b"hi");
}
