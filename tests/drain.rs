//! SIGTERM: nothing new is taken, what has begun is finished, and the process ends in any case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gate, Gateway, H2Client, Origin, RawClient, Step, get};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// An origin that answers `/slow…` once the gate is open, and `/never…` not at all.
fn origin(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |request| match request.target() {
        target if target.starts_with("/slow") => {
            let late = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate".to_vec();
            Answer::steps([Step::Until(gate.clone()), Step::Bytes(late)])
        }
        target if target.starts_with("/never") => Answer::hang(),
        target if target.starts_with("/events") => {
            Answer::status(200).events(&["1", "2"], Some(Step::Until(gate.clone())))
        }
        target if target.starts_with("/download") => {
            let head = Answer::status(200).header("content-type", "application/zip");
            head.chunks(["1", "2"], Some(Step::Until(gate.clone())))
        }
        _ => Answer::echo(request),
    })
}

fn gateway(origin: &Origin, grace: &str) -> Gateway {
    let upstream = origin.address();
    Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            server.grace = "{grace}"
            admin.listen = "{admin}"
            firewall.mode = "off"
            [[listener]]
            name = "public"
            address = "{public}"
            [upstream.backend]
            endpoints = [{{ address = "{upstream}" }}]
            response_timeout = "2m"
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "backend"
            timeouts.total = "5m"
            "#,
            admin = ports.admin,
            public = ports.public,
        )
    })
}

fn ask(gateway: &Gateway, path: &str) -> RawClient {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
    client
}

/// Waits until readiness says that the gateway drains.
fn until_draining(gateway: &Gateway) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let ready = get(gateway.admin(), "/readyz");
        if ready.status() == 503 {
            assert_eq!(ready.json()["status"], "draining");
            return;
        }
        assert!(Instant::now() < deadline, "{}", ready.text());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until nobody is served any more: a connection is refused, or closed without a word.
fn until_closed(gateway: &Gateway) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let Ok(mut client) = RawClient::connect(gateway.public()) else { return };
        let sent = client.send("GET /new HTTP/1.1\r\nhost: a\r\n\r\n");
        let Ok(answer) = client.response() else { return };
        assert!(Instant::now() < deadline, "still served: {} ({sent:?})", answer.status());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_has_begun_is_finished_and_nothing_new_is_taken() {
    let gate = Gate::default();
    let origin = origin(&gate);
    let mut gateway = gateway(&origin, "1h");
    let mut idle = ask(&gateway, "/idle");
    assert_eq!(idle.response().unwrap().status(), 200);
    let mut silent = RawClient::connect(gateway.public()).unwrap();
    let mut h2_idle = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    assert_eq!(h2_idle.get("a", "/idle").unwrap().status, Some(200));
    let mut busy = ask(&gateway, "/slow/1");
    let mut h2_busy = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    let slow = h2_busy.request("GET", "a", "/slow/2", &[], true).unwrap();
    let mut upload = RawClient::connect(gateway.public()).unwrap();
    upload.send("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf").unwrap();
    let mut events = ask(&gateway, "/events");
    events.until("data: 1\n\n").unwrap();
    let _ = origin.wait_for(5);
    gateway.wait_for_sample("portcullis_requests_in_flight", |count| count >= 4.0);

    gateway.signal("TERM");
    until_draining(&gateway);
    assert_eq!(get(gateway.admin(), "/healthz").status(), 200, "alive, though not ready");
    assert!(idle.is_closed(), "an idle connection is closed");
    assert!(silent.is_closed(), "and so is one that has not said anything");
    assert!(h2_idle.is_closed());
    assert!(h2_idle.goaway.is_some(), "HTTP/2 says so before (GOAWAY)");
    while h2_busy.goaway.is_none() {
        h2_busy.next_frame().unwrap();
    }
    until_closed(&gateway);
    assert!(gateway.ended().is_none(), "it waits for what has begun");

    upload.send("half").unwrap();
    let answer = upload.response().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "halfhalf"));
    assert_eq!(answer.header("connection"), Some("close"));
    gate.open();
    let answer = busy.response().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "late"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(busy.is_closed());
    let answer = h2_busy.answer(slow).unwrap();
    assert_eq!((answer.status, answer.body.as_slice(), answer.ended), (Some(200), &b"late"[..], true));
    events.until("data: 2\n\n").unwrap();
    let rest = events.rest().unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "whole: {}", String::from_utf8_lossy(&rest));
    assert_eq!(gateway.wait().code(), Some(0));
    let _ = gateway.wait_for_line(|line| line.contains("\"drained\""));
    let lines = gateway.log();
    for path in ["/slow/1", "/slow/2", "/upload", "/events"] {
        let logged = |line: &&String| {
            line.contains(&format!("\"path\":\"{path}\"")) && line.contains("\"status\":200")
        };
        assert_eq!(lines.iter().filter(logged).count(), 1, "{path} is in the log");
    }
}

#[test]
fn with_nothing_to_finish_it_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let origin = origin(&Gate::default());
        let mut gateway = gateway(&origin, "1h");
        let mut idle = ask(&gateway, "/idle");
        assert_eq!(idle.response().unwrap().status(), 200);
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(0), "{signal}");
        assert!(idle.is_closed());
        let _ = gateway.wait_for_line(|line| line.contains("\"drained\""));
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let origin = origin(&Gate::default());
    let mut gateway = gateway(&origin, "1h");
    let mut busy = ask(&gateway, "/never");
    let _ = origin.wait_for(1);
    gateway.signal("TERM");
    until_draining(&gateway);
    assert!(gateway.ended().is_none());
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(busy.response().is_err());
    let _ = gateway.wait_for_line(|line| line.contains("second signal"));
}

#[test]
fn what_takes_longer_than_the_grace_period_is_cut_off() {
    let origin = origin(&Gate::default());
    let mut gateway = gateway(&origin, "300ms");
    let mut busy = ask(&gateway, "/never");
    let mut events = ask(&gateway, "/events");
    events.until("data: 1\n\n").unwrap();
    let mut download = ask(&gateway, "/download");
    download.until("1\r\n1\r\n").unwrap();
    let mut h2 = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    let never = h2.request("GET", "a", "/never", &[], true).unwrap();
    let _ = origin.wait_for(4);
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(busy.response().is_err(), "no answer is made up");
    assert!(!download.rest().unwrap_or_default().ends_with(b"0\r\n\r\n"), "a cut stream does not look whole");
    assert!(events.rest().unwrap().ends_with(b"0\r\n\r\n"), "events can end anywhere");
    assert!(h2.answer(never).is_err());
    let _ = gateway.wait_for_line(|line| line.contains("cut off"));
    // What is cut off is in the log all the same; that of which nothing was sent says so.
    let of = |line: &str, path: &str| line.contains(&format!("\"path\":\"{path}\""));
    let _ = gateway.wait_for_line(|line| of(line, "/never") && line.contains("\"aborted\":true"));
    let _ = gateway.wait_for_line(|line| of(line, "/events"));
    assert!(!gateway.log().iter().any(|line| line.contains("\"drained\"")), "{}", gateway.log().join("\n"));
}

#[test]
fn a_reload_while_it_drains_brings_nothing_back() {
    let gate = Gate::default();
    let origin = origin(&gate);
    let mut gateway = gateway(&origin, "1h");
    let mut busy = ask(&gateway, "/slow");
    let _ = origin.wait_for(1);
    gateway.signal("TERM");
    until_draining(&gateway);
    gateway.signal("HUP");
    gateway.wait_for_sample(r#"portcullis_reloads_total{result="success"}"#, |count| count >= 2.0);
    assert_eq!(get(gateway.admin(), "/readyz").status(), 503);
    gate.open();
    assert_eq!(busy.response().unwrap().status(), 200);
    assert_eq!(gateway.wait().code(), Some(0));
}
