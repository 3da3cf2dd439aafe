//! What an HTTP/2 client may leave undone, and for how long; and how its connection ends (rows B18 to B20).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gate, Gateway, H2Client, Origin, RawClient, Step};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
/// More than any deadline of these tests and the gateway's own ticks together.
const SOON: Duration = Duration::from_secs(8);
const OPEN: &str = "portcullis_client_connections_open{listener=\"public\"}";

fn gateway(origin: &Origin, listener: &str) -> Gateway {
    Gateway::builder(BINARY).start(|ports| ports.forwarding(origin.address(), listener))
}

fn origin(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |request| match request.target() {
        "/large" => Answer::pattern(64 << 20),
        "/medium" => Answer::pattern(300_000),
        target if target.starts_with("/gated") => {
            let late = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate".to_vec();
            Answer::steps([Step::Until(gate.clone()), Step::Bytes(late)])
        }
        _ => Answer::ok("ok"),
    })
}

fn connect(gateway: &Gateway) -> H2Client {
    H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap()
}

const INITIAL_WINDOW_0: &[u8] = &[0, 4, 0, 0, 0, 0];

/// Kilobytes that the gateway holds now.
fn memory(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn b18_streams_that_nobody_reads_are_reset_and_hold_little() {
    let origin = origin(&Gate::default());
    let gateway = gateway(&origin, "timeouts = { write = \"1s\" }");
    let mut client = connect(&gateway);
    client.frame(4, 0, 0, INITIAL_WINDOW_0).unwrap();
    let before = memory(&gateway);
    // Large answers, of which most waits upstream, and small ones, which hyper has whole.
    let streams: Vec<u32> = (0..100)
        .map(|number| {
            let path = if number % 2 == 0 { "/large" } else { "/small" };
            client.request("GET", "a", path, &[], true).unwrap()
        })
        .collect();
    let began = Instant::now();
    for stream in streams {
        let seen = client.until(stream, |state| state.reset.is_some()).unwrap();
        assert!(seen.body.is_empty() && !seen.ended, "{seen:?}");
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let held = memory(&gateway).saturating_sub(before);
    assert!(held < 40 * 1024, "{held} KiB for a hundred streams");
    // The connection is as good as before.
    client.frame(4, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).unwrap();
    assert_eq!(client.get("a", "/x").unwrap().body, b"ok");
    gateway.wait_for_sample("portcullis_requests_in_flight", |count| count == 0.0);
}

#[test]
fn b18_a_window_opened_byte_by_byte_does_not_hold_a_stream() {
    let origin = origin(&Gate::default());
    let gateway = gateway(&origin, "timeouts = { write = \"1s\" }");
    for path in ["/large", "/medium", "/small"] {
        let mut client = connect(&gateway);
        client.reads = false;
        client.frame(4, 0, 0, INITIAL_WINDOW_0).unwrap();
        let stream = client.request("GET", "a", path, &[], true).unwrap();
        let began = Instant::now();
        // "ok" is all of the smallest: that one ends properly.
        while client.stream(stream).reset.is_none() && !client.stream(stream).ended {
            client.frame(8, 0, stream, &1u32.to_be_bytes()).unwrap();
            let until = Instant::now() + Duration::from_millis(50);
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                if client.hears(left) {
                    client.next_frame().unwrap();
                }
            }
            assert!(began.elapsed() < SOON, "{path}: {:?}", client.stream(stream).body.len());
        }
        assert_eq!(client.stream(stream).ended, path == "/small");
    }
}

#[test]
fn b18_a_slow_reader_that_reads_gets_all_of_it() {
    let origin = origin(&Gate::default());
    let gateway = gateway(&origin, "timeouts = { write = \"1s\" }");
    let mut client = connect(&gateway);
    client.reads = false;
    let stream = client.request("GET", "a", "/medium", &[], true).unwrap();
    // 40 kB every 0.4 s: slow, but a reader.
    while !client.stream(stream).ended {
        let until = Instant::now() + Duration::from_millis(400);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if client.hears(left) {
                client.next_frame().unwrap();
            }
        }
        client.frame(8, 0, 0, &40_000u32.to_be_bytes()).unwrap();
        client.frame(8, 0, stream, &40_000u32.to_be_bytes()).unwrap();
    }
    assert_eq!(client.stream(stream).body.len(), 300_000);
}

#[test]
fn b18_a_client_that_takes_nothing_from_the_socket_is_closed() {
    let origin = origin(&Gate::default());
    let gateway = gateway(&origin, "timeouts = { write = \"1s\" }");
    let mut client = connect(&gateway);
    // All windows wide open, and nobody reads.
    client.frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]).unwrap();
    client.frame(8, 0, 0, &0x7fff_0000u32.to_be_bytes()).unwrap();
    client.request("GET", "a", "/large", &[], true).unwrap();
    gateway.wait_for_sample(OPEN, |count| count == 1.0);
    gateway.wait_for_sample(OPEN, |count| count == 0.0);
    gateway.wait_for_sample("portcullis_requests_in_flight", |count| count == 0.0);
}

#[test]
fn b19_what_is_begun_must_be_ended() {
    let origin = origin(&Gate::default());
    let limits = "timeouts = { first_byte = \"1s\", header = \"1s\", body = \"1s\", idle = \"1m\" }";
    let gateway = gateway(&origin, limits);
    let head = |length: u8, kind: u8, flags: u8, stream: u8| [0, 0, length, kind, flags, 0, 0, 0, stream];
    // HEADERS without their end, half a frame's head, half a frame of each kind, on a connection that has served.
    let cases: [(&str, Vec<u8>); 7] = [
        ("HEADERS without END_HEADERS", [&head(3, 1, 1, 3)[..], &[0x82, 0x86, 0x84]].concat()),
        ("HEADERS without a byte", head(0, 1, 1, 3).to_vec()),
        ("half a head", head(3, 1, 1, 3)[..5].to_vec()),
        ("half of HEADERS", [&head(30, 1, 5, 3)[..], &[0x82, 0x86]].concat()),
        ("half of SETTINGS", [&head(6, 4, 0, 0)[..], &[0, 4]].concat()),
        ("half of PING", [&head(8, 6, 0, 0)[..], &[0, 4]].concat()),
        ("half of an unknown frame", [&head(80, 0x42, 0, 0)[..], &[0, 4]].concat()),
    ];
    thread::scope(|scope| {
        for (what, bytes) in &cases {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = connect(gateway);
                assert_eq!(client.get("a", "/x").unwrap().status, Some(200));
                let began = Instant::now();
                client.send(bytes).unwrap();
                assert!(client.is_closed(), "{what}: open");
                assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
                assert_eq!(client.goaway.map(|(_, code)| code), Some(11), "{what}");
            });
        }
    });
    // Half of DATA: of a request that waits for it.
    let mut client = connect(&gateway);
    let stream = client.request("POST", "a", "/x", &[], false).unwrap();
    client.send(&[&[0, 0, 30, 0, 1, 0, 0, 0, 1][..], b"half"].concat()).unwrap();
    let seen = client.answer(stream);
    assert!(seen.is_err() || seen.is_ok_and(|seen| seen.status == Some(408)));
    assert!(client.is_closed());
    // The preface, and silence; half a preface; and no preface at all.
    for first in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nS", b""] {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send(first).unwrap();
        let began = Instant::now();
        let _ = client.rest();
        assert!(began.elapsed() < SOON, "{first:?}: {:?}", began.elapsed());
    }
    gateway.wait_for_sample(OPEN, |count| count == 0.0);
}

#[test]
fn b19_an_idle_connection_is_told_to_go() {
    let origin = origin(&Gate::default());
    let gateway = gateway(&origin, "timeouts = { idle = \"1s\" }");
    let mut client = connect(&gateway);
    assert_eq!(client.get("a", "/x").unwrap().status, Some(200));
    assert!(client.is_closed());
    assert_eq!(client.goaway.map(|(_, code)| code), Some(0));
    // One that keeps it awake by frames that ask for nothing is idle all the same, and one that answers no PING goes too.
    let mut client = connect(&gateway);
    client.pongs = false;
    assert_eq!(client.get("a", "/x").unwrap().status, Some(200));
    let began = Instant::now();
    while client.frame(6, 0, 0, &[0; 8]).is_ok() && began.elapsed() < 2 * SOON {
        thread::sleep(Duration::from_millis(100));
        while client.hears(Duration::from_millis(1)) {
            if client.next_frame().is_err() {
                break;
            }
        }
    }
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
}

/// RFC 9113 §6.8.
#[test]
fn b20_goaway_comes_in_two_steps_and_what_races_it_is_served() {
    let gate = Gate::default();
    let origin = origin(&gate);
    let mut gateway = gateway(&origin, "");
    let mut client = connect(&gateway);
    client.pongs = false;
    let held = client.request("GET", "a", "/gated", &[], true).unwrap();
    let _ = origin.wait_for(1);
    gateway.signal("TERM");
    let mut ping = None;
    while client.goaway.is_none() || ping.is_none() {
        let frame = client.next_frame().unwrap();
        if frame.kind == 6 && frame.flags == 0 {
            ping = Some(frame.payload);
        }
    }
    assert_eq!(client.goaway, Some((0x7fff_ffff, 0)), "the first one says no number");
    // These were on their way when it came.
    let racing: Vec<u32> =
        (0..3).map(|_| client.request("GET", "a", "/racing", &[], true).unwrap()).collect();
    for stream in &racing {
        assert_eq!(client.answer(*stream).unwrap().body, b"ok");
    }
    client.frame(6, 1, 0, &ping.unwrap()).unwrap();
    while client.goaway == Some((0x7fff_ffff, 0)) {
        client.next_frame().unwrap();
    }
    assert_eq!(client.goaway, Some((racing[2], 0)), "the second one says the last that is served");
    gate.open();
    assert_eq!(client.answer(held).unwrap().body, b"late");
    assert!(client.is_closed());
    assert!(gateway.wait().success());
}

/// Asks on many streams at once until told to go, and on a new connection then, unless that was the last; how many answers
/// came. Panics where a request is lost: one that GOAWAY says will be served, and is not.
fn ask_on(gateway: &Gateway, answers: &AtomicUsize, is_over: impl Fn() -> bool) {
    while !is_over() {
        let Ok(raw) = RawClient::connect(gateway.public()) else { return };
        let Ok(mut client) = H2Client::start(raw) else { return };
        let mut open: Vec<u32> = Vec::new();
        while client.goaway.is_none() && !is_over() {
            while open.len() < 10 {
                match client.request("GET", "a", "/x", &[], true) {
                    Ok(stream) => open.push(stream),
                    Err(_) => break,
                }
            }
            if client.next_frame().is_err() {
                break;
            }
            open.retain(|stream| {
                let state = client.stream(*stream);
                assert!(state.reset.is_none(), "{state:?} on {stream}, {:?}", client.goaway);
                answers.fetch_add(usize::from(state.ended), Ordering::Relaxed);
                !state.ended
            });
        }
        for stream in open {
            let state = client.answer(stream);
            let is_served = client.goaway.is_some_and(|(last, _)| stream <= last);
            match state {
                Ok(state) if state.status == Some(200) && state.ended => {
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                state => assert!(!is_served, "{stream} is lost: {state:?}, {:?}", client.goaway),
            }
        }
    }
}

#[test]
fn b20_no_request_is_lost_to_the_end_of_a_connection() {
    let origin = origin(&Gate::default());
    let gateway = gateway(&origin, "limits = { max_requests_per_connection = 50 }");
    let answers = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| ask_on(&gateway, &answers, || answers.load(Ordering::Relaxed) > 4_000));
        }
    });
    let connections = gateway.sample("portcullis_client_connections_total{listener=\"public\"}").unwrap();
    assert!(connections > 20.0, "{connections} connections for {answers:?} answers");
}

#[test]
fn b20_no_request_is_lost_to_the_end_of_the_process() {
    let origin = origin(&Gate::default());
    let mut gateway = gateway(&origin, "limits = { max_requests_per_connection = 1000000 }");
    let answers = AtomicUsize::new(0);
    let ended = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| ask_on(&gateway, &answers, || false));
        }
        while answers.load(Ordering::Relaxed) < 1_000 {
            thread::sleep(Duration::from_millis(10));
        }
        gateway.signal("TERM");
        Instant::now()
    });
    assert!(gateway.wait().success());
    assert!(ended.elapsed() < 2 * SOON, "{:?}", ended.elapsed());
}
