//! The end of a process that has no successor.

use crate::load::{Load, all_kinds};
use crate::{builder, config, origin};
use portcullis_testkit::{Answer, Authority, Gate, Gateway, H2Client, Origin, RawClient, Step, get, suite};
use std::thread;
use std::time::{Duration, Instant};

/// A gateway before one origin; `top` goes before all tables.
fn gateway(origin: &Origin, top: &str) -> Gateway {
    builder(&Authority::new()).start(|ports| config(ports, &[origin.address()], top, ""))
}

#[test]
fn whoever_is_let_in_is_served_until_nobody_is_let_in_any_more() {
    let (mut rounds, mut count) = (0, 0);
    for _ in 0..3 {
        let (origin, authority) = (origin(), Authority::new());
        let mut gateway = builder(&authority).start(|ports| config(ports, &[origin.address()], "", ""));
        let load = Load::start(gateway.public(), gateway.tls(), &all_kinds(&authority));
        load.progress(5);
        gateway.signal("TERM");
        let tally = load.wait();
        // The only thing that may be said to a client: that nobody listens.
        let cut: Vec<&String> =
            tally.failures.iter().filter(|failure| !failure.ends_with(": refused")).collect();
        assert!(cut.is_empty(), "{cut:?}");
        assert_eq!(gateway.wait().code(), Some(0));
        let _ = gateway.wait_for_line(|line| line.contains("\"drained\""));
        rounds += 1;
        count += tally.good.iter().sum::<usize>();
    }
    suite("drain under load", &format!("{rounds} drains, {count} requests, 0 cut"));
}

#[test]
fn connections_that_wait_to_be_accepted_are_served() {
    const WAITING: usize = 200;
    let origin = origin();
    let mut gateway = gateway(&origin, "");
    gateway.signal("STOP");
    let mut waiting: Vec<RawClient> = (0..WAITING)
        .map(|at| {
            let mut client = RawClient::connect(gateway.public()).unwrap();
            // Some have not said anything yet.
            if at % 2 == 0 {
                client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            }
            client
        })
        .collect();
    gateway.signal("TERM");
    gateway.signal("CONT");
    for (at, client) in waiting.iter_mut().enumerate() {
        if at % 2 == 1 {
            client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        }
    }
    for (at, client) in waiting.iter_mut().enumerate() {
        let answer = client.response().unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    }
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn connections_beyond_the_limit_are_served_when_others_end() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |_| {
        Answer::steps([
            Step::Until(held.clone()),
            Step::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()),
        ])
    });
    let mut gateway = gateway(&origin, "server.max_connections = 2");
    let ask = || {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        client
    };
    let mut busy = [ask(), ask()];
    let _ = origin.wait_for(2);
    let mut waiting: Vec<RawClient> = (0..10).map(|_| ask()).collect();
    gateway.signal("TERM");
    while get(gateway.admin(), "/readyz").status() != 503 {
        thread::sleep(Duration::from_millis(5));
    }
    gate.open();
    for client in busy.iter_mut().chain(&mut waiting) {
        assert_eq!(client.response().unwrap().status(), 200);
    }
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_kept_connection_may_ask_once_more() {
    let origin = origin();
    let mut gateway = gateway(&origin, "server.keepalive_grace = \"30s\"");
    let mut kept = RawClient::connect(gateway.public()).unwrap();
    kept.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(kept.response().unwrap().header("connection"), None);
    let mut silent = RawClient::connect(gateway.public()).unwrap();
    let mut h2 = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    gateway.signal("TERM");
    let _ = gateway.wait_for_line(|line| line.contains("\"draining\""));
    // Longer than the listening sockets stay open.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(h2.get("a", "/x").unwrap().status, Some(200));
    for client in [&mut kept, &mut silent] {
        client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let answer = client.response().unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
        assert!(client.is_closed());
    }
    drop(h2);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn readiness_goes_first_and_all_is_served_as_before_for_the_delay() {
    let origin = origin();
    let mut gateway = gateway(&origin, "server.shutdown_delay = \"2s\"\nserver.keepalive_grace = \"0s\"");
    let mut kept = RawClient::connect(gateway.public()).unwrap();
    let told = Instant::now();
    gateway.signal("TERM");
    while get(gateway.admin(), "/readyz").status() != 503 {
        thread::sleep(Duration::from_millis(5));
    }
    let mut served = 0;
    while told.elapsed() < Duration::from_millis(1500) {
        for client in [&mut kept, &mut RawClient::connect(gateway.public()).unwrap()] {
            client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let answer = client.response().unwrap();
            assert_eq!((answer.status(), answer.header("connection")), (200, None), "as before");
            served += 1;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(served > 10);
    assert!(!gateway.log().iter().any(|line| line.contains("\"draining\"")));
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(told.elapsed() >= Duration::from_secs(2), "{:?}", told.elapsed());
    assert!(kept.is_closed());
}

#[test]
fn a_second_signal_ends_the_delay_too() {
    let origin = origin();
    let mut gateway = gateway(&origin, "server.shutdown_delay = \"1h\"");
    gateway.signal("TERM");
    while get(gateway.admin(), "/readyz").status() != 503 {
        thread::sleep(Duration::from_millis(5));
    }
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
}
