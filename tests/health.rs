//! Endpoints that begin to fail and recover, upstreams at their limits: what is asked, what is spared, and what the
//! client notices of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Authority, Gateway, Origin, RawClient, Received, Response, Step, free_port, get, request, suite,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/grpc");
const VENV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/venv/bin/python");

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

fn config(admin: SocketAddr, public: SocketAddr, endpoints: &[SocketAddr], upstream: &str) -> String {
    let endpoints: Vec<String> =
        endpoints.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    format!(
        r#"
        admin.listen = "{admin}"
        firewall.mode = "off"
        server.threads = 2
        [[listener]]
        name = "public"
        address = "{public}"
        [upstream.origin]
        endpoints = [{}]
        {upstream}
        [[route]]
        name = "all"
        match = {{ path = "/{{*rest}}" }}
        upstream = "origin"
        "#,
        endpoints.join(", ")
    )
}

fn gateway(servers: &[&Server], upstream: &str) -> Gateway {
    let endpoints: Vec<SocketAddr> = servers.iter().map(|server| server.origin.address()).collect();
    Gateway::builder(BINARY).start(|ports| config(ports.admin, ports.public, &endpoints, upstream))
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

#[test]
fn checks_take_an_endpoint_out_and_bring_it_back() {
    let (sick, well) = (Server::start(), Server::start());
    let gateway = gateway(&[&sick, &well], CHECKED);
    eventually("the first checks are through", || endpoints(&gateway, "available") == 2.0);
    sick.reports(500);
    let mut during = Vec::new();
    eventually("it is out", || {
        during.extend(ask(&gateway, 1));
        endpoints(&gateway, "unhealthy") == 1.0
    });
    let before = sick.served();
    during.extend(ask(&gateway, 30));
    assert!(during.iter().all(|status| *status == 200), "nobody noticed");
    assert_eq!(sick.served(), before, "it is spared");
    let listed = ready(&gateway)["endpoints"]["listed"][0].clone();
    assert_eq!((listed["health"].as_str(), listed["available"].as_bool()), (Some("unhealthy"), Some(false)));

    // State survives a reload, also one that changes something.
    gateway.signal("HUP");
    let _ = gateway.wait_for_line(|line| line.contains("configuration reloaded"));
    ask(&gateway, 10);
    assert_eq!(sick.served(), before);

    sick.reports(201);
    eventually("it is back", || {
        ask(&gateway, 1);
        sick.served() > before
    });
    told_once(&gateway, "the endpoint is unhealthy");
    told_once(&gateway, "the endpoint is healthy");

    let checks = || -> Vec<Received> {
        let all = sick.origin.requests().into_iter();
        all.filter(|request| request.target() == "/health").collect()
    };
    eventually("it is checked on", || checks().len() >= 12);
    let checks = checks();
    let connections: BTreeSet<usize> = checks.iter().map(|check| check.connection).collect();
    assert!(connections.len() <= 2, "one before the reload, one after it: {connections:?}");
    assert_eq!(checks[0].header("host"), Some(sick.origin.address().to_string().as_str()));
    assert_eq!(checks[0].method(), "GET");
    let failed = "portcullis_upstream_health_checks_total{result=\"failure\",upstream=\"origin\"}";
    assert!(gateway.sample(failed).unwrap() >= 2.0);
}

#[test]
fn checks_say_what_they_are_told_to() {
    let server = Server::start();
    let check = "health_check = { path = \"/health\", method = \"HEAD\", host = \"checked.test\", \
                 expected_statuses = [\"404\"], interval = \"50ms\" }\npanic_threshold = 0";
    server.reports(404);
    let gateway = gateway(&[&server], check);
    let first = server.origin.wait_for(2).swap_remove(0);
    assert_eq!((first.method(), first.header("host")), ("HEAD", Some("checked.test")));
    assert_eq!(ask(&gateway, 1), [200]);
}

#[test]
fn a_tcp_check_sees_a_server_that_starts_late() {
    let (late, well) = (free_port(), Server::start());
    let upstream = "health_check = { type = \"tcp\", interval = \"100ms\", unhealthy_interval = \"50ms\" }";
    let gateway = Gateway::builder(BINARY)
        .start(|ports| config(ports.admin, ports.public, &[late, well.origin.address()], upstream));
    eventually("nobody listens there", || endpoints(&gateway, "unhealthy") == 1.0);
    assert!(ask(&gateway, 10).iter().all(|status| *status == 200));
    let late = Server::at(Some(late));
    eventually("it listens", || {
        ask(&gateway, 1);
        late.served() > 0
    });
}

#[test]
fn an_endpoint_that_hangs_is_unhealthy() {
    let (hangs, well) = (Server::start(), Server::start());
    hangs.reports(0);
    let check = "health_check = { path = \"/health\", interval = \"50ms\", timeout = \"200ms\" }";
    let gateway = gateway(&[&hangs, &well], check);
    let _ = gateway.wait_for_line(|line| {
        line.contains("the endpoint is unhealthy") && line.contains("no answer in time")
    });
    let before = hangs.served();
    assert!(ask(&gateway, 10).iter().all(|status| *status == 200));
    assert_eq!(hangs.served(), before);
}

#[test]
fn one_that_is_added_must_pass_a_check_first() {
    let (old, new) = (Server::start(), Server::start());
    new.reports(500);
    let gateway = gateway(&[&old], CHECKED);
    ask(&gateway, 3);
    let both = [old.origin.address(), new.origin.address()];
    gateway.replace("gateway.toml", config(gateway.admin(), gateway.public(), &both, CHECKED));
    eventually("it was checked", || endpoints(&gateway, "unhealthy") == 1.0);
    assert!(ask(&gateway, 20).iter().all(|status| *status == 200));
    assert_eq!(new.served(), 0);
    new.reports(200);
    eventually("it passed", || {
        ask(&gateway, 1);
        new.served() > 0
    });
}

#[test]
fn too_few_healthy_endpoints_are_a_panic() {
    let servers = [Server::start(), Server::start(), Server::start()];
    let all: Vec<&Server> = servers.iter().collect();
    let gateway = gateway(&all, CHECKED);
    let panic = "portcullis_upstream_panic{upstream=\"origin\"}";
    servers[0].reports(500);
    eventually("two of three are enough", || endpoints(&gateway, "unhealthy") == 1.0);
    assert_eq!(gateway.sample(panic), Some(0.0));
    servers[1].reports(500);
    eventually("one is not", || gateway.sample(panic) == Some(1.0));
    assert_eq!(ready(&gateway)["panic"], true);
    let before: Vec<usize> = servers.iter().map(Server::served).collect();
    assert!(ask(&gateway, 30).iter().all(|status| *status == 200), "they can still answer");
    for (server, before) in servers.iter().zip(before) {
        assert!(server.served() > before, "health is not regarded");
    }
    servers[1].reports(200);
    eventually("enough again", || gateway.sample(panic) == Some(0.0));
}

#[test]
fn without_a_panic_threshold_nobody_is_asked() {
    let server = Server::start();
    let gateway = gateway(&[&server], &format!("{CHECKED}\npanic_threshold = 0"));
    assert_eq!(ask(&gateway, 1), [200]);
    server.reports(500);
    eventually("it is out", || endpoints(&gateway, "unhealthy") == 1.0);
    let response = get(gateway.public(), "/x");
    assert_eq!(response.status(), 503);
    let _ = gateway.wait_for_line(|line| line.contains("no_endpoint"));
    assert_eq!(server.served(), 1);
}

#[test]
fn an_endpoint_that_answers_500_is_ejected_and_returns() {
    let (sick, well) = (Server::start(), Server::start());
    let outlier =
        "outlier_detection = { consecutive_5xx = 3, base_ejection_time = \"1s\", interval = \"10s\" }";
    let gateway = gateway(&[&sick, &well], outlier);
    sick.answers(500);
    let statuses = ask(&gateway, 40);
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 3, "{statuses:?}");
    assert_eq!(sick.served(), 3);
    assert_eq!(endpoints(&gateway, "ejected"), 1.0);
    assert!(ready(&gateway)["endpoints"]["listed"][0]["ejected_seconds"].is_u64());
    told_once(&gateway, "the endpoint is ejected");
    sick.answers(200);
    eventually("its time is over", || {
        assert_eq!(ask(&gateway, 1), [200]);
        sick.served() > 3
    });
    told_once(&gateway, "the endpoint's ejection is over");
    let ejections = "portcullis_upstream_ejections_total{cause=\"consecutive_5xx\",upstream=\"origin\"}";
    assert_eq!(gateway.sample(ejections), Some(1.0));
}

#[test]
fn connections_that_break_are_gateway_errors() {
    let broken = Origin::answering(Answer::close());
    let well = Server::start();
    let outlier = "outlier_detection = { consecutive_5xx = 0, consecutive_gateway_failure = 2 }";
    let gateway = Gateway::builder(BINARY).start(|ports| {
        config(ports.admin, ports.public, &[broken.address(), well.origin.address()], outlier)
    });
    let statuses: Vec<u16> =
        (0..20).map(|_| request(gateway.public(), "POST /x", &[], "body").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 2, "{statuses:?}");
    assert_eq!(broken.count(), 2);
}

#[test]
fn not_all_that_fail_are_ejected() {
    let servers = [Server::start(), Server::start(), Server::start(), Server::start()];
    let all: Vec<&Server> = servers.iter().collect();
    let outlier = "outlier_detection = { consecutive_5xx = 1, max_ejection_percent = 50 }";
    let gateway = gateway(&all, outlier);
    servers.iter().for_each(|server| server.answers(503));
    ask(&gateway, 40);
    assert_eq!(endpoints(&gateway, "ejected"), 2.0);
    let served: Vec<usize> = servers.iter().map(Server::served).collect();
    assert_eq!(served.iter().filter(|served| **served == 1).count(), 2, "{served:?}");
}

#[test]
fn success_rates_tell_who_is_worse_than_the_others() {
    let servers: Vec<Server> = (0..5).map(|_| Server::start()).collect();
    let all: Vec<&Server> = servers.iter().collect();
    let outlier = "outlier_detection = { consecutive_5xx = 0, consecutive_gateway_failure = 0, interval = \"1s\", \
                   success_rate_request_volume = 10, success_rate_stdev_factor = 1500 }";
    let gateway = gateway(&all, outlier);
    servers[3].answers(500);
    let cause = "portcullis_upstream_ejections_total{cause=\"success_rate\",upstream=\"origin\"}";
    eventually("it is ejected", || {
        ask(&gateway, 20);
        gateway.sample(cause) == Some(1.0)
    });
    assert!(ask(&gateway, 20).iter().all(|status| *status == 200));
}

#[test]
fn one_that_comes_back_starts_slowly() {
    let (back, well) = (Server::start(), Server::start());
    let gateway = gateway(&[&back, &well], &format!("{CHECKED}\nslow_start = \"4s\""));
    ask(&gateway, 2);
    back.reports(500);
    eventually("it is out", || endpoints(&gateway, "unhealthy") == 1.0);
    back.reports(200);
    eventually("it is back", || endpoints(&gateway, "warming") == 1.0);
    let share = |count: usize| {
        let before = back.served();
        ask(&gateway, count);
        (back.served() - before) as f64 / count as f64
    };
    let (began, first) = (Instant::now(), share(200));
    // A twentieth of all requests at first; half of them in the end.
    let most = 0.2 + began.elapsed().as_secs_f64() / 4.0 * 0.5;
    assert!(first < most, "{first} of {most}");
    eventually("it is warm", || endpoints(&gateway, "warming") == 0.0);
    let last = share(100);
    assert!((0.4..=0.6).contains(&last), "{last}");
    suite(
        "slow start",
        &format!("{:.0} % of requests at first, {:.0} % when warm", first * 100.0, last * 100.0),
    );
}

#[test]
fn requests_beyond_the_cap_are_refused_at_once() {
    let server = Server::start();
    let gateway = gateway(&[&server], "circuit_breaker = { max_requests = 2 }");
    server.answers(0);
    let held = [begin(&gateway), begin(&gateway)];
    let _ = server.origin.wait_for(2);
    refused(&get(gateway.public(), "/x"), "overflow", &gateway);
    assert_eq!(server.origin.count(), 2, "it was not asked");
    let overflows = "portcullis_upstream_overflows_total{cap=\"requests\",upstream=\"origin\"}";
    assert_eq!(gateway.sample(overflows), Some(1.0));
    drop(held);
    server.answers(200);
    eventually("there is room again", || get(gateway.public(), "/x").status() == 200);
}

#[test]
fn an_endpoint_at_its_cap_is_passed_over() {
    let (busy, free) = (Server::start(), Server::start());
    // Two, since a client may have all of an answer before the gateway is done with it.
    let gateway = gateway(&[&busy, &free], "circuit_breaker = { max_requests_per_endpoint = 2 }");
    busy.answers(0);
    let mut held = Vec::new();
    eventually("one is busy", || {
        let mut client = begin(&gateway);
        let is_answered = client.hears(Duration::from_millis(100));
        let _ = is_answered.then(|| client.response());
        held.push(client);
        busy.origin.count() == 2
    });
    assert!(ask(&gateway, 20).iter().all(|status| *status == 200));
    assert_eq!(busy.origin.count(), 2);
}

#[test]
fn requests_wait_for_a_connection_and_no_more_than_may() {
    let origin = Origin::answering(Answer::ok("x").after(Duration::from_millis(500)));
    let upstream =
        "circuit_breaker = { max_connections = 1, max_pending_requests = 2 }\nconnect_timeout = \"10s\"";
    let gateway = Gateway::builder(BINARY)
        .start(|ports| config(ports.admin, ports.public, &[origin.address()], upstream));
    let mut first = begin(&gateway);
    let _ = origin.wait_for(1);
    let mut waiting = [begin(&gateway), begin(&gateway)];
    thread::sleep(Duration::from_millis(150));
    refused(&get(gateway.public(), "/x"), "overflow", &gateway);
    assert_eq!(first.response().unwrap().status(), 200);
    for client in &mut waiting {
        assert_eq!(client.response().unwrap().status(), 200, "whichever thread it came by");
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), 3);
    let overflows = |cap: &str| {
        gateway.sample(&format!("portcullis_upstream_overflows_total{{cap=\"{cap}\",upstream=\"origin\"}}"))
    };
    assert_eq!((overflows("connections"), overflows("pending")), (Some(3.0), Some(1.0)));
    assert_eq!(gateway.sample("portcullis_upstream_connections_open{upstream=\"origin\"}"), Some(1.0));
}

const BREAKER: &str = "failure_rate_threshold = 50, sliding_window_size = 4, wait_duration_in_open_state = \"1s\", \
                       permitted_number_of_calls_in_half_open_state = 2";

#[test]
fn a_breaker_opens_probes_and_closes() {
    let server = Server::start();
    let gateway = gateway(&[&server], &format!("circuit_breaker = {{ {BREAKER} }}"));
    assert_eq!(ready(&gateway)["circuit_breaker"], "closed");
    server.answers(500);
    assert_eq!(ask(&gateway, 4), [500; 4]);
    let began = Instant::now();
    for _ in 0..5 {
        refused(&get(gateway.public(), "/x"), "circuit_open", &gateway);
    }
    assert_eq!(server.served(), 4, "it was left alone");
    let details = ready(&gateway);
    assert_eq!(details["circuit_breaker"], "open");
    assert_eq!(details["endpoints"]["listed"][0]["circuit_breaker"], "open");
    let state = |state: &str| {
        gateway.sample(&format!(
            "portcullis_upstream_circuit_breaker_state{{state=\"{state}\",upstream=\"origin\"}}"
        ))
    };
    assert_eq!((state("open"), state("closed")), (Some(1.0), Some(0.0)));

    // The first probe fails, and so does half of all that may be sent: it opens again.
    eventually("the wait is over", || get(gateway.public(), "/x").status() == 500);
    assert!(began.elapsed() > Duration::from_millis(500), "not before");
    assert_eq!(get(gateway.public(), "/x").status(), 503);
    assert_eq!(server.served(), 5);

    server.answers(200);
    eventually("it is over again", || get(gateway.public(), "/x").status() == 200);
    assert_eq!(state("half_open"), Some(1.0));
    assert_eq!(ask(&gateway, 10), [200; 10]);
    assert_eq!(ready(&gateway)["circuit_breaker"], "closed");
    let transitions = |state: &str| {
        let series = format!(
            "portcullis_upstream_circuit_breaker_transitions_total{{scope=\"upstream\",state=\"{state}\",upstream=\"origin\"}}"
        );
        gateway.sample(&series)
    };
    assert_eq!(
        (transitions("open"), transitions("half_open"), transitions("closed")),
        (Some(2.0), Some(2.0), Some(1.0))
    );
}

#[test]
fn no_more_probes_than_may_and_one_that_is_given_up_gives_its_place_back() {
    let server = Server::start();
    let gateway = gateway(&[&server], &format!("circuit_breaker = {{ {BREAKER}, scope = \"upstream\" }}"));
    server.answers(500);
    ask(&gateway, 4);
    server.answers(0);
    thread::sleep(Duration::from_millis(1_100));
    // All at once, on both threads.
    let mut clients: Vec<RawClient> = (0..8).map(|_| begin(&gateway)).collect();
    let held: Vec<RawClient> = {
        let mut held = Vec::new();
        for mut client in clients.drain(..) {
            if client.hears(Duration::from_millis(200)) {
                assert_eq!(client.response().unwrap().status(), 503);
            } else {
                held.push(client);
            }
        }
        held
    };
    assert_eq!((held.len(), server.served()), (2, 6));
    drop(held);
    server.answers(200);
    eventually("both places are free again", || ask(&gateway, 2) == [200; 2]);
    assert_eq!(ask(&gateway, 5), [200; 5]);
}

#[test]
fn slow_calls_open_a_breaker() {
    let origin = Origin::answering(Answer::ok("x").after(Duration::from_millis(150)));
    let upstream = "circuit_breaker = { slow_call_rate_threshold = 100, slow_call_duration_threshold = \"100ms\", \
                    sliding_window_type = \"time_based\", sliding_window_size = 10, minimum_number_of_calls = 3 }";
    let gateway = Gateway::builder(BINARY)
        .start(|ports| config(ports.admin, ports.public, &[origin.address()], upstream));
    assert_eq!(ask(&gateway, 4), [200, 200, 200, 503]);
    assert_eq!(origin.count(), 3);
}

#[test]
fn an_endpoints_own_breaker_leaves_the_others_their_work() {
    let (sick, well) = (Server::start(), Server::start());
    let gateway =
        gateway(&[&sick, &well], &format!("circuit_breaker = {{ {BREAKER}, scope = \"endpoint\" }}"));
    sick.answers(500);
    let statuses = ask(&gateway, 40);
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 4, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 500].contains(status)), "nobody is refused");
    let details = ready(&gateway);
    assert_eq!(details["circuit_breaker"], Value::Null);
    assert_eq!(details["endpoints"]["listed"][0]["circuit_breaker"], "open");
    // A reload with the same settings begins nothing anew.
    gateway.signal("HUP");
    let _ = gateway.wait_for_line(|line| line.contains("configuration reloaded"));
    assert_eq!(endpoints(&gateway, "breaker_open"), 1.0);
}

#[test]
fn a_client_that_uploads_slowly_makes_no_slow_call() {
    let origin = Origin::answering(Answer::ok("x"));
    let upstream = "circuit_breaker = { slow_call_rate_threshold = 1, slow_call_duration_threshold = \"200ms\", \
                    minimum_number_of_calls = 1 }";
    let gateway = Gateway::builder(BINARY).start(|ports| {
        let config = config(ports.admin, ports.public, &[origin.address()], upstream);
        config + "\nbody = { mode = \"stream\" }\n"
    });
    for _ in 0..2 {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na").unwrap();
        thread::sleep(Duration::from_millis(400));
        client.send("b").unwrap();
        assert_eq!(client.response().unwrap().status(), 200);
    }
}

#[test]
fn answers_that_break_off_say_nothing_of_a_connection_that_idled() {
    // It closes every connection after one answer without saying so, as servers do whose keep-alive ends.
    let origin = Origin::answering(Answer::ok("x").then([Step::Close]));
    let upstream =
        "outlier_detection = { consecutive_5xx = 1, consecutive_gateway_failure = 1 }\npanic_threshold = 0";
    let gateway = Gateway::builder(BINARY)
        .start(|ports| config(ports.admin, ports.public, &[origin.address()], upstream));
    assert_eq!(ask(&gateway, 20), [200; 20]);
}

/// grpcio's own health service, until it is dropped.
struct GrpcServer {
    process: Child,
    input: Option<ChildStdin>,
    address: SocketAddr,
}

impl GrpcServer {
    fn start(python: &Path, identity: &[PathBuf]) -> Self {
        let mut process = Command::new(python)
            .arg(format!("{SCRIPTS}/health.py"))
            .args(identity)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
        GrpcServer { input: process.stdin.take(), process, address }
    }

    fn says(&mut self, status: &str) {
        writeln!(self.input.as_mut().unwrap(), "{status}").unwrap();
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// A Python that has grpcio's health service; `tests/run` makes one.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(VENV);
    let has_it = Command::new(&python).args(["-c", "import grpc_health"]).output().ok()?.status.success();
    has_it.then_some(python)
}

#[test]
fn grpc_health_is_asked_of_a_real_server() {
    let Some(python) = python() else {
        eprintln!("SKIPPED: there is no Python with grpcio-health-checking");
        return;
    };
    let authority = Authority::new();
    let builder = Gateway::builder(BINARY).file("ca.pem", authority.pem());
    let (certificate, key) = authority.issue(&["localhost"]).write(builder.folder(), "server");
    let (mut plain, mut tls) =
        (GrpcServer::start(&python, &[]), GrpcServer::start(&python, &[certificate, key]));
    let check = "protocol = \"http2\"\nhealth_check = { type = \"grpc\", service = \"test.Echo\", \
                 interval = \"100ms\", unhealthy_interval = \"50ms\" }";
    let gateway = builder.start(|ports| {
        let plain = config(ports.admin, ports.public, &[plain.address], check);
        format!(
            "{plain}\n[upstream.tls]\nendpoints = [{{ address = \"localhost:{}\" }}]\n{check}\n\
             tls = {{ ca_file = \"ca.pem\" }}\n[[route]]\nname = \"tls\"\nmatch = {{ path = \"/tls\" }}\nupstream = \"tls\"\n",
            tls.address.port()
        )
    });
    // A service that the server does not know is not well.
    let _ = gateway
        .wait_for_line(|line| line.contains("the endpoint is unhealthy") && line.contains("grpc-status 5"));
    let available = |upstream: &str| {
        let series =
            format!("portcullis_upstream_endpoints{{condition=\"available\",upstream=\"{upstream}\"}}");
        gateway.sample(&series)
    };
    for (upstream, server) in [("origin", &mut plain), ("tls", &mut tls)] {
        for (status, expected) in [("SERVING", 1.0), ("NOT_SERVING", 0.0), ("SERVING", 1.0)] {
            server.says(status);
            eventually(&format!("{upstream} is {status}"), || available(upstream) == Some(expected));
        }
    }
    eventually("both were told", || lines(&gateway, "NOT_SERVING") >= 2);
    suite(
        "grpc health",
        "grpcio's own health service, in clear and over TLS: unknown, serving, not serving, serving",
    );
}
