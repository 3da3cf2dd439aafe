//! Slow and greedy clients, one kind at a time, against the defaults: matrix D and J9.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Authority, Gateway, GatewayBuilder, H2Client, Origin, PREFACE, RawClient, get, request, suite,
};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const LARGE: u64 = 16 << 20;

/// A gateway in clear and over TLS that forwards everything to `origin`: held below `/`, streamed below `/stream`.
fn start(builder: GatewayBuilder, origin: &Origin, authority: &Authority, top: &str, route: &str) -> Gateway {
    let (upstream, identity) = (origin.address(), authority.issue(&["a.test"]));
    let builder = builder.file("a.crt", &identity.certificate_pem).file("a.key", &identity.key_pem);
    builder.start(|ports| {
        format!(
            r#"
            admin.listen = "{admin}"
            firewall.mode = "off"
            {top}
            [[listener]]
            name = "public"
            address = "{public}"
            [[listener]]
            name = "tls"
            address = "{tls}"
            tls.certificates = [{{ certificate = "a.crt", key = "a.key" }}]
            [upstream.origin]
            endpoints = [{{ address = "{upstream}" }}]
            [upstream.other]
            endpoints = [{{ address = "{upstream}" }}]
            [[route]]
            name = "held"
            match = {{ path = "/{{*rest}}" }}
            upstream = "origin"
            {route}
            [[route]]
            name = "streamed"
            match = {{ path = "/stream/{{*rest}}" }}
            upstream = "origin"
            body.mode = "stream"
            response.streaming = true
            [[route]]
            name = "other"
            match = {{ path = "/other" }}
            upstream = "other"
            "#,
            admin = ports.admin,
            public = ports.public,
            tls = ports.tls,
        )
    })
}

fn origin() -> Origin {
    Origin::start(|request| match request.target() {
        "/large" | "/stream/large" => Answer::pattern(LARGE),
        _ => Answer::echo(request),
    })
}

fn gateway(origin: &Origin, authority: &Authority) -> Gateway {
    start(Gateway::builder(BINARY), origin, authority, "", "")
}

fn tls(gateway: &Gateway, authority: &Authority, protocols: &[&str]) -> RawClient {
    RawClient::connect_tls(gateway.tls(), "a.test", authority, protocols).unwrap()
}

/// How long it takes until the peer has closed, whatever it said before.
fn until_closed(client: &mut RawClient) -> Duration {
    let began = Instant::now();
    let _ = client.rest();
    began.elapsed()
}

/// One client, by name.
type Case<'a> = (&'static str, Box<dyn FnOnce() + Send + 'a>);

/// Runs all at once, each on a thread of its own.
fn at_once(cases: Vec<Case<'_>>) -> usize {
    let count = cases.len();
    thread::scope(|scope| {
        for (name, case) in cases {
            thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, case).unwrap();
        }
    });
    count
}

macro_rules! cases {
    ($($name:literal => $case:expr,)*) => { vec![$(($name, Box::new($case) as Box<dyn FnOnce() + Send>)),*] };
}

#[test]
fn d1_connections_that_say_nothing_or_half_a_word_are_closed() {
    let (origin, authority) = (origin(), Authority::new());
    let gateway = gateway(&origin, &authority);
    let silent = |address: SocketAddr, said: &[u8], most: u64| {
        let mut client = RawClient::connect(address).unwrap();
        client.send(said).unwrap();
        let took = until_closed(&mut client);
        assert!(took <= Duration::from_secs(most), "{}: {took:?}", said.escape_ascii());
    };
    let after_handshake = |protocol: &str, said: &[u8]| {
        let mut client = tls(&gateway, &authority, &[protocol]);
        client.send(said).unwrap();
        let took = until_closed(&mut client);
        assert!(took <= Duration::from_secs(10), "{protocol}: {took:?}");
    };
    let preface = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let count = at_once(cases! {
        "idle TCP" => || silent(gateway.public(), b"", 5),
        "idle TLS" => || silent(gateway.tls(), b"", 5),
        "half a ClientHello" => || silent(gateway.tls(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 10),
        "one byte of TLS" => || silent(gateway.tls(), b"\x16", 10),
        "half a request line" => || silent(gateway.public(), b"GET /", 12),
        "half a preface" => || silent(gateway.public(), b"PRI * HT", 12),
        "a preface in clear" => || silent(gateway.public(), &preface, 10),
        "nothing after the handshake" => || after_handshake("http/1.1", b""),
        "nothing after the handshake, HTTP/2" => || after_handshake("h2", b""),
        "a preface over TLS" => || after_handshake("h2", &preface),
    });
    assert!(origin.requests().is_empty());
    suite("D1 idle clients", &format!("{count} closed in time"));
}

/// Sends a piece each half second for ten seconds, then waits; the status that was answered, and when.
fn drip(mut client: RawClient, start: &str, piece: &[u8]) -> (u16, Duration) {
    client.send(start).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(500));
        if client.send(piece).is_err() {
            break;
        }
    }
    let status = client.response().map_or(0, |response| response.status());
    (status, began.elapsed())
}

#[test]
fn d2_d3_heads_and_bodies_that_drip_are_cut() {
    let (origin, authority) = (origin(), Authority::new());
    let gateway = gateway(&origin, &authority);
    let plain = || RawClient::connect(gateway.public()).unwrap();
    let dripped = |client: RawClient, start: &str, piece: &[u8], most: u64| {
        let (status, took) = drip(client, start, piece);
        assert_eq!(status, 408, "{start:?}");
        assert!(took <= Duration::from_secs(most), "{start:?}: {took:?}");
    };
    let fixed = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
    let chunked = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let streamed = "POST /stream/x HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
    let h2 = |path: &str| {
        let mut client = H2Client::start(plain()).unwrap();
        let stream = client.request("POST", "a", path, &[], false).unwrap();
        let began = Instant::now();
        while client.data(stream, b"x", false).is_ok() && began.elapsed() < Duration::from_secs(11) {
            thread::sleep(Duration::from_millis(500));
        }
        let answer = client.answer(stream).unwrap();
        assert!(answer.status == Some(408) || answer.reset.is_some(), "{path}: {answer:?}");
        assert!(began.elapsed() <= Duration::from_secs(15), "{path}: {:?}", began.elapsed());
    };
    // Above the bound, if only just: 800 bytes a second for longer than any grace.
    let legitimate = |path: &str| {
        let mut client = plain();
        client.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 12000\r\n\r\n")).unwrap();
        for _ in 0..30 {
            thread::sleep(Duration::from_millis(500));
            client.send([b'x'; 400]).unwrap();
        }
        assert_eq!(client.response().unwrap().status(), 200, "{path}");
    };
    let count = at_once(cases! {
        "head" => || dripped(plain(), "GET /x HTTP/1.1\r\nhost: a\r\nx-a: ", b"x", 15),
        "head, field by field" => || dripped(plain(), "GET /x HTTP/1.1\r\nhost: a\r\n", b"x-a: b\r\n", 15),
        "head over TLS" => || dripped(tls(&gateway, &authority, &[]), "GET /x HTTP/1.1\r\nx-a: ", b"x", 15),
        "body" => || dripped(plain(), fixed, b"x", 15),
        "body in chunks" => || dripped(plain(), chunked, b"1\r\nx\r\n", 15),
        "body, streamed" => || dripped(plain(), streamed, b"x", 15),
        "body over TLS" => || {
            dripped(tls(&gateway, &authority, &[]), &fixed.replace(": a\r", ": a.test\r"), b"x", 15)
        },
        "body over HTTP/2" => || h2("/x"),
        "body over HTTP/2, streamed" => || h2("/stream/x"),
        "slow but fast enough" => || legitimate("/x"),
        "slow but fast enough, streamed" => || legitimate("/stream/x"),
    });
    suite("D2 D3 dripping requests", &format!("{count} cut or let through in time"));
}

/// A connection with little room for what it has not read.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    socket.connect(&address.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

/// Reads so much at a time, with so long a pause, until the connection is reset, has ended or was read for `most`.
fn read_slowly(mut socket: TcpStream, piece: usize, pause: Duration, most: Duration) -> (Duration, bool) {
    let (began, mut buffer) = (Instant::now(), vec![0; piece]);
    while began.elapsed() < most {
        thread::sleep(pause);
        if socket.take_error().unwrap().is_some() || !matches!(socket.read(&mut buffer), Ok(1..)) {
            return (began.elapsed(), true);
        }
    }
    (began.elapsed(), false)
}

#[test]
fn d4_clients_that_hardly_read_are_cut() {
    let (origin, authority) = (origin(), Authority::new());
    let gateway = gateway(&origin, &authority);
    let ask = |path: &str| {
        let mut socket = narrow(gateway.public());
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).unwrap();
        socket
    };
    let cut = |path: &str, piece: usize| {
        let (took, gone) = read_slowly(ask(path), piece, Duration::from_millis(500), Duration::from_secs(20));
        assert!(gone && took <= Duration::from_secs(15), "{path}, {piece} bytes: {took:?}");
    };
    // 4 KiB a second, a bad mobile connection.
    let legitimate = |path: &str| {
        let (took, gone) = read_slowly(ask(path), 1024, Duration::from_millis(250), Duration::from_secs(25));
        assert!(!gone, "{path}: cut after {took:?}");
    };
    let over_tls = || {
        let config = std::sync::Arc::new(authority.client_config(&[]));
        let session = rustls::ClientConnection::new(config, "a.test".try_into().unwrap()).unwrap();
        let mut stream = rustls::StreamOwned::new(session, narrow(gateway.tls()));
        stream.write_all(b"GET /large HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
        let (took, gone) = read_slowly(stream.sock, 1, Duration::from_millis(500), Duration::from_secs(20));
        assert!(gone && took <= Duration::from_secs(15), "TLS: {took:?}");
    };
    let no_window = || {
        let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
        client.frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]).unwrap();
        let stream = client.request("GET", "a", "/large", &[], true).unwrap();
        let began = Instant::now();
        let answer = client.until(stream, |stream| stream.reset.is_some()).unwrap();
        assert!(answer.body.is_empty());
        assert!(began.elapsed() <= Duration::from_secs(15), "{:?}", began.elapsed());
    };
    let count = at_once(cases! {
        "nothing read" => || cut("/large", 0),
        "a byte now and then" => || cut("/large", 1),
        "a byte now and then, streamed" => || cut("/stream/large", 1),
        "a byte now and then over TLS" => over_tls,
        "no window" => no_window,
        "slow but fast enough" => || legitimate("/large"),
        "slow but fast enough, streamed" => || legitimate("/stream/large"),
    });
    gateway.wait_for_sample(r#"portcullis_client_connections_open{listener="public"}"#, |open| open < 5.0);
    suite("D4 slow readers", &format!("{count} cut or let through in time"));
}

#[test]
fn d5_without_descriptors_who_is_connected_is_served() {
    let (origin, authority) = (origin(), Authority::new());
    let builder =
        Gateway::builder("prlimit").arguments(&["--nofile=90:90", BINARY, "run", "-c", "gateway.toml"]);
    let top = "server = { threads = 1, max_connections = 1000 }";
    let gateway = start(builder, &origin, &authority, top, "");
    let ask = |client: &mut RawClient, path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        client.response().unwrap()
    };
    let mut client = RawClient::connect(gateway.public()).unwrap();
    assert_eq!(ask(&mut client, "/a").status(), 200);
    let mut flood: Vec<TcpStream> = Vec::new();
    for round in 0..6 {
        flood.extend((0..50).map(|_| TcpStream::connect(gateway.public()).unwrap()));
        thread::sleep(Duration::from_millis(200));
        assert_eq!(ask(&mut client, "/a").status(), 200, "round {round}: a connection that was there");
    }
    let refused = ask(&mut client, "/other");
    assert_eq!(refused.status(), 503, "no descriptor for another upstream: {}", refused.text());
    assert_eq!(refused.json()["code"], "overloaded");
    // Of those that wait, some are turned away at each try.
    let turned_away = |flood: &[TcpStream]| {
        let gone = |socket: &&TcpStream| {
            socket.set_nonblocking(true).unwrap();
            matches!((&**socket).read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset)
        };
        flood.iter().filter(gone).count()
    };
    assert!(turned_away(&flood) > 3, "{} turned away", turned_away(&flood));
    drop(flood);
    let began = Instant::now();
    loop {
        let mut fresh = RawClient::connect(gateway.public()).unwrap();
        let sent = fresh.send("GET /b HTTP/1.1\r\nhost: a\r\n\r\n");
        if sent.is_ok() && fresh.response().is_ok_and(|response| response.status() == 200) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(1), "a new connection is not served");
    }
    let failures = gateway.sample(r#"portcullis_accept_failures_total{listener="public"}"#).unwrap();
    assert!(failures > 0.0);
    suite(
        "D5 J9 descriptors",
        &format!("90 descriptors, 300 connections; served again in {:.1?}", began.elapsed()),
    );
}

#[test]
fn d7_short_of_memory_load_is_shed_and_nothing_dies() {
    let (origin, authority) = (origin(), Authority::new());
    let route = "body = { limit = '64MiB' }\ntimeouts.total = '2m'";
    let gateway = start(Gateway::builder(BINARY), &origin, &authority, "server.body_budget = '4GiB'", route);
    assert_eq!(request(gateway.public(), "POST /warm", &[], vec![b'x'; 8 << 20]).status(), 200);
    let resident = "portcullis_process_resident_memory_bytes";
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of bytes")]
    let now = gateway.sample(resident).unwrap() as u64;
    let limit = now + (200 << 20);
    let config = std::fs::read_to_string(gateway.folder().join("gateway.toml")).unwrap();
    let limited = config.replace(
        "server.body_budget = '4GiB'",
        &format!("server.body_budget = '4GiB'\nserver.memory_limit = '{limit}B'"),
    );
    gateway.replace("gateway.toml", limited);
    #[allow(clippy::cast_precision_loss, reason = "a number of bytes")]
    gateway.wait_for_sample("portcullis_memory_limit_bytes", |bytes| bytes == limit as f64);

    let mut kept = RawClient::connect(gateway.public()).unwrap();
    kept.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(kept.response().unwrap().status(), 200);
    // All begin before any is large: what was begun may grow.
    let mut uploads: Vec<RawClient> = (0..16)
        .map(|_| {
            let mut client = RawClient::connect(gateway.public()).unwrap();
            client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 31000000\r\n\r\n").unwrap();
            client.send([b'x'; 1000]).unwrap();
            client
        })
        .collect();
    let mut step = 0.0;
    let mut seen = Vec::new();
    for client in &mut uploads {
        client.send(vec![b'x'; 29_000_000]).unwrap();
        thread::sleep(Duration::from_millis(600));
        step = gateway.sample("portcullis_memory_step").unwrap();
        seen.push(step);
        if step >= 2.0 {
            break;
        }
    }
    assert!(step >= 2.0, "{seen:?}, {:?} of {limit}", gateway.sample(resident));
    kept.send("GET /b HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let shed = kept.response().unwrap();
    assert_eq!(
        (shed.status(), shed.header("retry-after"), shed.header("connection")),
        (503, Some("1"), Some("close"))
    );
    assert_eq!(shed.json()["code"], "overloaded");
    assert_eq!(get(gateway.admin(), "/healthz").status(), 200, "it is alive");

    drop(uploads);
    gateway.wait_for_sample("portcullis_memory_step", |step| step == 0.0);
    assert_eq!(request(gateway.public(), "POST /after", &[], vec![b'x'; 1 << 20]).status(), 200);
    let _ = gateway.wait_for_line(|line| line.contains("load is shed"));
    suite("D7 memory", &format!("steps {seen:?}, then none"));
}

#[test]
fn d8_a_full_log_does_not_hold_up_traffic() {
    let (origin, authority) = (origin(), Authority::new());
    let line = format!("exec {BINARY} run -c gateway.toml 2>/dev/full");
    let builder = Gateway::builder("sh").arguments(&["-c", &line]);
    let gateway = start(builder, &origin, &authority, "", "");
    for _ in 0..200 {
        assert_eq!(get(gateway.public(), "/a").status(), 200);
    }
    gateway.wait_for_sample("portcullis_log_lines_dropped_total", |lines| lines >= 200.0);
}

#[test]
fn d9_clock_jumps_neither_stop_it_nor_refill_limits() {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    if portcullis_testkit::absent(library) {
        return;
    }
    let (origin, authority) = (origin(), Authority::new());
    let builder = Gateway::builder(BINARY);
    let clock = builder.folder().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    let builder = builder
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let gateway =
        start(builder, &origin, &authority, "", "rate_limit = [{ name = 'few', rate = '3/h', burst = 3 }]");
    let statuses = |path: &str, count: usize| -> Vec<u16> {
        (0..count).map(|_| get(gateway.public(), path).status()).collect()
    };
    assert_eq!(statuses("/a", 4), [200, 200, 200, 429]);
    let year = |gateway: &Gateway| get(gateway.public(), "/other").header("date").unwrap()[12..16].to_owned();
    let this_year = year(&gateway);
    for jump in ["+1h", "-1h", "+1d", "-1d", "+800d", "+0"] {
        std::fs::write(&clock, jump).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(statuses("/other", 5), [200; 5], "{jump}");
        assert_eq!(statuses("/a", 2), [429; 2], "{jump}: the limit goes by a clock that does not jump");
        if jump == "+800d" {
            assert_ne!(year(&gateway), this_year, "the clock did jump");
        }
    }
}

#[test]
fn j9_large_bodies_do_not_hold_up_small_requests() {
    let (origin, authority) = (origin(), Authority::new());
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/*.conf");
    let top = format!("firewall.rules = ['{rules}']");
    let gateway = start(Gateway::builder(BINARY), &origin, &authority, &top, "firewall.mode = 'block'");
    let text =
        "the quick brown fox jumps over the lazy dog, and selects nothing from no table ".repeat(12_000);
    let (mut worst, mut small, mut large) = (Duration::ZERO, 0, 0);
    thread::scope(|scope| {
        let uploads: Vec<_> = (0..32)
            .map(|_| {
                scope.spawn(|| {
                    let fields = ["content-type: text/plain"];
                    let answer = request(gateway.public(), "POST /large-body", &fields, &text);
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                })
            })
            .collect();
        while uploads.iter().any(|upload| !upload.is_finished()) {
            let began = Instant::now();
            assert_eq!(get(gateway.public(), "/small").status(), 200);
            worst = worst.max(began.elapsed());
            small += 1;
        }
        for upload in uploads {
            upload.join().unwrap();
            large += 1;
        }
    });
    assert!(worst < Duration::from_secs(3), "{worst:?}");
    suite(
        "J9 large bodies",
        &format!("{large} of 1 MiB inspected, {small} small requests meanwhile, the slowest in {worst:.0?}"),
    );
}
