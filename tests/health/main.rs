//! Endpoints that begin to fail and recover, upstreams at their limits: what is asked, what is spared, and what the
//! client notices of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod breakers;
mod checks;
mod grpc;
mod outliers;

use portcullis_testkit::{Answer, Gateway, Origin, Ports, RawClient, Response, everything_to, get};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// How long something that is bound to happen is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Checks that turn a belief after a fraction of a second.
const CHECKED: &str = "health_check = { path = \"/health\", interval = \"100ms\", unhealthy_interval = \"50ms\", \
                       timeout = \"1s\", healthy_threshold = 2, unhealthy_threshold = 2 }";

/// A server whose answers to requests, and to checks of `/health`, can be set while it runs; 0 hangs.
struct Server {
    origin: Origin,
    requests: Arc<AtomicU16>,
    checks: Arc<AtomicU16>,
}

fn answer(status: u16) -> Answer {
    if status == 0 { Answer::hang() } else { Answer::status(status).body("x") }
}

impl Server {
    fn start() -> Self {
        Self::at(None)
    }

    fn at(address: Option<SocketAddr>) -> Self {
        let (requests, checks) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
        let (of_requests, of_checks) = (requests.clone(), checks.clone());
        let builder = match address {
            Some(address) => Origin::builder().at(address),
            None => Origin::builder(),
        };
        let origin = builder.start(move |request| {
            let status = if request.target() == "/health" { &of_checks } else { &of_requests };
            answer(status.load(Ordering::SeqCst))
        });
        Server { origin, requests, checks }
    }

    /// What it answers to requests from now on.
    fn answers(&self, status: u16) {
        self.requests.store(status, Ordering::SeqCst);
    }

    /// What it answers to checks from now on.
    fn reports(&self, status: u16) {
        self.checks.store(status, Ordering::SeqCst);
    }

    /// Requests so far, checks not counted.
    fn served(&self) -> usize {
        self.origin.requests().iter().filter(|request| request.target() != "/health").count()
    }
}

fn config(ports: Ports, endpoints: &[SocketAddr], upstream: &str) -> String {
    ports.opening("firewall.mode = \"off\"\nserver.threads = 2", "") + &everything_to(endpoints, upstream, "")
}

fn gateway(servers: &[&Server], upstream: &str) -> Gateway {
    let endpoints: Vec<SocketAddr> = servers.iter().map(|server| server.origin.address()).collect();
    Gateway::builder(BINARY).start(|ports| config(ports, &endpoints, upstream))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn lines(gateway: &Gateway, text: &str) -> usize {
    gateway.log().iter().filter(|line| line.contains(text)).count()
}

/// The log is read while it is written: the line is waited for, and must be the only one.
fn told_once(gateway: &Gateway, text: &str) {
    let _ = gateway.wait_for_line(|line| line.contains(text));
    assert_eq!(lines(gateway, text), 1, "each change is told once");
}

fn ready(gateway: &Gateway) -> Value {
    let response = get(gateway.admin(), "/readyz");
    assert_eq!(response.status(), 200, "an upstream that fails does not end readiness");
    response.json()["upstreams"][0].clone()
}

fn endpoints(gateway: &Gateway, condition: &str) -> f64 {
    let series = format!("portcullis_upstream_endpoints{{condition=\"{condition}\",upstream=\"origin\"}}");
    gateway.sample(&series).unwrap()
}

/// So many requests one after the other; their statuses.
fn ask(gateway: &Gateway, count: usize) -> Vec<u16> {
    (0..count).map(|_| get(gateway.public(), "/x").status()).collect()
}

/// A request of which the answer is read later.
fn begin(gateway: &Gateway) -> RawClient {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    client
}

fn refused(response: &Response, reason: &str, gateway: &Gateway) {
    assert_eq!(response.status(), 503);
    assert_eq!(response.json()["code"], "upstream_unavailable");
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds));
    let _ = gateway.wait_for_line(|line| line.contains("\"status\":503") && line.contains(reason));
}
