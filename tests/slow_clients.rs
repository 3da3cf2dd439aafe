//! Thousands of slow clients at once: good ones hardly notice, the process stays small, and the slow ones are gone soon.
//!
//! `PORTCULLIS_FULL=1` makes it 10,000 slow heads, 1,000 slow bodies and 1,000 slow readers; then the release build
//! should be measured: `PORTCULLIS_FULL=1 SLOW_CLIENTS_BINARY=target/release/portcullis cargo test -p portcullis
//! --test slow_clients`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Gateway, RawClient, everything_to, suite};
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// What the issue allows: attackers gone, and the process's memory.
const GONE: Duration = Duration::from_secs(15);
const MOST_MEMORY: u64 = 300 << 20;
/// How long attackers are waited for, so that a failing test ends.
const PATIENCE: Duration = Duration::from_secs(45);
/// Bytes of the answer that slow readers ask for.
const LARGE: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// D2: the head, a byte every two seconds.
    Head,
    /// D3: the body, a byte each half second.
    Body,
    /// D4: the answer, a byte each half second.
    Reader,
}

/// A process's own thread for asynchronous work.
fn on_a_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    })
}

/// A backend that answers `/large` with much and everything else with little.
fn origin() -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    on_a_thread(async move {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(4096).unwrap();
        sender.send(listener.local_addr().unwrap()).unwrap();
        let large = Arc::new(vec![b'x'; LARGE]);
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, large.clone()));
        }
    });
    receiver.recv().unwrap()
}

async fn answer(mut stream: TcpStream, large: Arc<Vec<u8>>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        let body: &[u8] = if head.starts_with(b"GET /large ") { &large } else { b"hello" };
        head.clear();
        let length = body.len();
        let start = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(start.as_bytes()).await.ok()?;
        stream.write_all(body).await.ok()?;
    }
}

/// One attacker; how long it was let, or `None` where nobody ended it.
async fn attack(kind: Kind, target: SocketAddr, from: Ipv4Addr) -> Option<Duration> {
    let socket = TcpSocket::new_v4().unwrap();
    if kind == Kind::Reader {
        socket.set_recv_buffer_size(4096).unwrap();
    }
    socket.bind((from, 0).into()).unwrap();
    let began = Instant::now();
    let mut stream = match socket.connect(target).await {
        Ok(stream) => stream,
        Err(_) => return Some(began.elapsed()),
    };
    let start = match kind {
        Kind::Head => "GET / HTTP/1.1\r\nhost: a\r\nx-slow: ",
        Kind::Body => "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n",
        Kind::Reader => "GET /large HTTP/1.1\r\nhost: a\r\n\r\n",
    };
    if stream.write_all(start.as_bytes()).await.is_err() {
        return Some(began.elapsed());
    }
    let (mut byte, mut tick) = ([0], 0);
    while began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(500)).await;
        tick += 1;
        let dead = |error: std::io::Error| error.kind() != std::io::ErrorKind::WouldBlock;
        let read = stream.try_read(&mut byte);
        let reset = stream.take_error().is_ok_and(|error| error.is_some());
        if reset || read.is_ok_and(|count| count == 0) || stream.try_read(&mut []).is_err_and(dead) {
            return Some(began.elapsed());
        }
        let sends = kind == Kind::Body || (kind == Kind::Head && tick % 4 == 0);
        if sends && stream.try_write(b"x").is_err_and(dead) {
            return Some(began.elapsed());
        }
    }
    None
}

/// All attackers, some thousand new ones a second, from several addresses.
async fn attack_all(counts: [(Kind, usize); 3], target: SocketAddr) -> Vec<(Kind, Option<Duration>)> {
    // Attackers have machines of their own; here they only get what the gateway and its good clients leave of this one.
    nice(19).unwrap();
    let mut attackers = Vec::new();
    for (kind, count) in counts {
        for number in 0..count {
            let from = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + number % 200).unwrap());
            attackers.push((kind, tokio::spawn(attack(kind, target, from))));
            // Some thousand heads a second. What wants a body or a large answer is load before it is slow, whoever sends
            // it: of those so few that they leave the machine time, and yet all are there at once.
            let pause = if kind == Kind::Head { attackers.len() % 4 == 0 } else { true };
            if pause {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let mut lives = Vec::new();
    for (kind, attacker) in attackers {
        lives.push((kind, attacker.await.unwrap()));
    }
    lives
}

/// Good clients: 200 requests a second, one in ten on a connection of its own, until `stop`. The latencies.
fn measure(target: SocketAddr, stop: impl Fn() -> bool) -> Vec<Duration> {
    let mut kept: Vec<Option<RawClient>> = (0..8).map(|_| None).collect();
    let (mut latencies, began) = (Vec::new(), Instant::now());
    while !stop() {
        let number = latencies.len();
        let due = began + Duration::from_millis(5) * u32::try_from(number).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let start = Instant::now();
        let place = number % kept.len();
        let client = if number % 10 == 0 { None } else { kept[place].take() };
        let mut client = client.unwrap_or_else(|| RawClient::connect(target).unwrap());
        client.send("GET /good HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let response = client.response().unwrap_or_else(|error| panic!("a good client got {error}"));
        assert_eq!((response.status(), response.body.as_slice()), (200, &b"hello"[..]));
        latencies.push(start.elapsed());
        if response.header("connection") != Some("close") {
            kept[place] = Some(client);
        }
    }
    latencies
}

fn percentile(latencies: &[Duration], of_thousand: usize) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * of_thousand / 1000).min(sorted.len() - 1)]
}

/// Memory of a process that is in RAM, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Bytes of memory for each of so many connections that have had one answer and wait.
fn memory_of_idle(gateway: &Gateway, count: usize) -> u64 {
    let target = gateway.public();
    let before = resident(gateway.pid());
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = RawClient::connect(target).unwrap();
        client.send("GET /good HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status(), 200);
        clients.push(client);
    }
    resident(gateway.pid()).saturating_sub(before) / count as u64
}

#[test]
fn d_slow_clients_by_the_thousand() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let full = std::env::var_os("PORTCULLIS_FULL").is_some();
    let counts = match full {
        true => [(Kind::Head, 10_000), (Kind::Body, 1_000), (Kind::Reader, 1_000)],
        false => [(Kind::Head, 600), (Kind::Body, 60), (Kind::Reader, 60)],
    };
    let binary =
        std::env::var("SLOW_CLIENTS_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_portcullis").to_owned());
    let binary = std::fs::canonicalize(&binary).unwrap_or_else(|error| panic!("{binary}: {error}"));
    // Good clients are to wait for the gateway alone, not for a backend of one thread that serves a thousand files.
    let (upstream, files) = (origin(), origin());
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/*.conf");
    let gateway = Gateway::builder(binary).start(|ports| {
        let large = format!(
            r#"
            [upstream.files]
            endpoints = [{{ address = "{files}" }}]
            [[route]]
            name = "large"
            match = {{ path = "/large" }}
            upstream = "files"
            "#
        );
        ports.opening(&format!("log.access = false\nfirewall.rules = [\"{rules}\"]"), "")
            + &everything_to(&[upstream], "", &large)
    });
    let target = gateway.public();
    let time = if full { Duration::from_secs(10) } else { Duration::from_secs(3) };
    let warm = Instant::now();
    let _ = measure(target, || warm.elapsed() > Duration::from_millis(500));
    let began = Instant::now();
    let quiet = measure(target, || began.elapsed() > time);

    let (over, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let start = resident(gateway.pid());
    let sampler = {
        let (over, most, pid) = (over.clone(), most.clone(), gateway.pid());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident(pid), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        })
    };
    let attackers = on_a_thread(attack_all(counts, target));
    let attacked = measure(target, || attackers.is_finished());
    let lives = attackers.join().unwrap();
    over.store(true, Ordering::Relaxed);
    sampler.join().unwrap();
    let after = resident(gateway.pid());
    let idle = memory_of_idle(&gateway, if full { 2_000 } else { 500 });

    let lives_of = |kind| lives.iter().filter(move |life| life.0 == kind).map(|life| life.1);
    let longest = |kind| lives_of(kind).map(|life| life.unwrap_or(PATIENCE)).max().unwrap();
    let (quiet_p99, attacked_p99) = (percentile(&quiet, 990), percentile(&attacked, 990));
    let most = most.load(Ordering::Relaxed);
    let [heads, bodies, readers] = counts.map(|(_, count)| count);
    suite(
        "D slow clients",
        &format!(
            "{heads} slow heads gone in {:.1?}, {bodies} slow bodies in {:.1?}, {readers} slow readers in {:.1?}; good \
             clients' p99 {quiet_p99:.2?} quiet, {attacked_p99:.2?} under attack (p50 {:.2?}, {:.2?}); RSS {} MiB before, \
             {} at most, {} after; {idle} bytes for an idle connection",
            longest(Kind::Head),
            longest(Kind::Body),
            longest(Kind::Reader),
            percentile(&quiet, 500),
            percentile(&attacked, 500),
            start >> 20,
            most >> 20,
            after >> 20,
        ),
    );
    for kind in [Kind::Head, Kind::Body, Kind::Reader] {
        assert!(longest(kind) <= GONE, "{kind:?}: {:?}", longest(kind));
    }
    assert!(most <= MOST_MEMORY, "{most} bytes");
    // The quick form shares the machine with other tests, of which some compute a lot.
    let allowed = if full { quiet_p99 * 2 } else { quiet_p99 * 2 + Duration::from_millis(100) };
    assert!(attacked_p99 <= allowed, "{attacked_p99:?}, quiet {quiet_p99:?}");
}
