//! Everything that can go wrong between the gateway and its upstreams (`tests/data/faults`), each with GET and POST while
//! other endpoints are well: what clients get, what was done, how long it took, what it cost, and that it is over when the
//! fault is.
//!
//! Every request has an id. Origins keep a journal of what they have done: a request counts as done when it came whole.
//! Whoever does it answers with the number of that deed, so that each answer can be traced to one deed. Proven of a run:
//!
//! - every 2xx that a client saw, whole, is the answer of one deed for that very request, byte by byte, and no deed has
//!   answered twice; a POST was done once in that case, and never twice in any;
//! - no request took longer than the time it had (`timeouts.total`) and 100 ms;
//! - the endpoints saw no more than 1.10 requests for each of the clients';
//! - when the fault ends, ten requests in a row succeed within 5 s, and the endpoint that was sick serves again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Authority, Case, FaultProtocol, FaultProxy, FaultScript, Gateway, H2Origin, Origin, RawClient,
    cases, rcgen, suite,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const FAULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/faults");

/// What each request may take in all.
const TOTAL: Duration = Duration::from_millis(1500);
const SLACK: Duration = Duration::from_millis(100);
const RECOVERY: Duration = Duration::from_secs(5);
const AMPLIFICATION: f64 = 1.10;
/// Faults at once, and clients of each; much of the time of some is a deadline.
const AT_ONCE: usize = 16;
const CLIENTS: usize = 3;
/// Requests of each fault and method.
const QUICK: usize = 30;
const FULL: usize = 1000;

const BODY: usize = 2_000;

/// A body that is one request's alone.
fn body(id: u64) -> Vec<u8> {
    format!("{id:019} ").into_bytes().repeat(BODY / 20)
}

/// What was done for which request, by the number of the deed.
#[derive(Default)]
struct Journal {
    deeds: Mutex<HashMap<u64, Vec<u64>>>,
    next: AtomicU64,
    /// Requests that came, whole or not.
    seen: AtomicUsize,
}

impl Journal {
    /// Does a request; the number of the deed.
    fn act(&self, id: u64) -> u64 {
        let deed = self.next.fetch_add(1, Ordering::SeqCst);
        self.deeds.lock().unwrap().entry(id).or_default().push(deed);
        deed
    }

    fn deeds(&self, id: u64) -> Vec<u64> {
        self.deeds.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }

    fn origin(self: &Arc<Self>, identity: Option<&portcullis_testkit::Identity>) -> Origin {
        let journal = Arc::clone(self);
        let mut builder = Origin::builder();
        if let Some(identity) = identity {
            builder = builder.tls(identity.server_config(&[]));
        }
        builder.start(move |request| {
            journal.seen.fetch_add(1, Ordering::SeqCst);
            let id = request.header("x-id").and_then(|id| id.parse().ok()).unwrap();
            if !request.complete || (request.method() == "POST" && request.body != body(id)) {
                return Answer::close();
            }
            let deed = journal.act(id);
            Answer::status(200).header("x-deed", &deed.to_string()).body(body(id))
        })
    }

    fn http2_origin(self: &Arc<Self>) -> H2Origin {
        let journal = Arc::clone(self);
        H2Origin::start(None, move |request| {
            journal.seen.fetch_add(1, Ordering::SeqCst);
            let id = request.headers()["x-id"].to_str().unwrap().parse().unwrap();
            let is_whole = request.method() != "POST" || request.body()[..] == body(id)[..];
            let answer = http::Response::builder();
            if !is_whole {
                return answer.status(400).body(bytes::Bytes::new()).unwrap();
            }
            let deed = journal.act(id).to_string();
            answer.header("x-deed", deed).body(bytes::Bytes::from(body(id))).unwrap()
        })
    }
}

/// A fault, and what may come of it.
struct Fault {
    case: Case,
    name: String,
    protocol: FaultProtocol,
    script: FaultScript,
    expected: BTreeMap<&'static str, BTreeSet<String>>,
    everywhere: bool,
    prefix: bool,
}

impl Fault {
    fn read(number: usize, case: Case) -> Self {
        let mut expected: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let (mut everywhere, mut prefix, mut script) = (false, false, Vec::new());
        for line in &case.lines {
            let words = |line: &str| line.split_whitespace().skip(1).map(String::from).collect();
            match line.split(' ').next().unwrap() {
                "get" => drop(expected.insert("GET", words(line))),
                "post" => drop(expected.insert("POST", words(line))),
                "everywhere" => everywhere = true,
                "prefix" => prefix = true,
                _ => script.push(line.as_str()),
            }
        }
        assert_eq!(expected.len(), 2, "{}: for GET and POST", case.place);
        let protocol = match case.place.rsplit('/').next().unwrap().split('.').next().unwrap() {
            "http1" => FaultProtocol::Http1,
            "http2" => FaultProtocol::Http2,
            "tls" => FaultProtocol::Bytes,
            other => panic!("{}: what is {other}?", case.place),
        };
        let script = FaultScript::read(script, &case.place);
        Fault { name: format!("f{number}"), protocol, script, expected, everywhere, prefix, case }
    }
}

/// The servers that are well, and those that prove to be somebody else.
struct Backends {
    http1: [Origin; 2],
    http2: [H2Origin; 2],
    tls: [Origin; 2],
    strangers: Vec<(&'static str, Origin)>,
    authority: Authority,
}

impl Backends {
    fn start(journal: &Arc<Journal>) -> Self {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let good = authority.issue(&["origin.test"]);
        let mut old = rcgen::CertificateParams::new(vec!["origin.test".to_owned()]).unwrap();
        old.not_before = rcgen::date_time_ymd(2020, 1, 1);
        old.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let tls = |identity| journal.origin(Some(identity));
        Backends {
            http1: [journal.origin(None), journal.origin(None)],
            http2: [journal.http2_origin(), journal.http2_origin()],
            tls: [tls(&good), tls(&good)],
            strangers: vec![
                ("wrong-name", tls(&authority.issue(&["other.test"]))),
                ("expired", tls(&authority.issue_as(&old))),
                ("stranger", tls(&stranger.issue(&["origin.test"]))),
                ("plain", journal.origin(None)),
            ],
            authority,
        }
    }

    fn good(&self, protocol: FaultProtocol) -> [SocketAddr; 2] {
        match protocol {
            FaultProtocol::Http1 => [self.http1[0].address(), self.http1[1].address()],
            FaultProtocol::Http2 => [self.http2[0].address(), self.http2[1].address()],
            FaultProtocol::Bytes => [self.tls[0].address(), self.tls[1].address()],
        }
    }

    fn proxy(&self, fault: &Fault) -> FaultProxy {
        let mut backends = vec![("origin", self.good(fault.protocol)[0])];
        backends.extend(self.strangers.iter().map(|(name, origin)| (*name, origin.address())));
        FaultProxy::start(fault.protocol, &backends)
    }
}

/// How late the machine wakes those who sleep: what it adds to every wait is not the gateway's.
#[derive(Default)]
struct Noise(Mutex<Vec<(Instant, Duration)>>);

impl Noise {
    fn watch(&self, over: &AtomicBool) {
        const STEP: Duration = Duration::from_millis(5);
        while !over.load(Ordering::SeqCst) {
            let began = Instant::now();
            thread::sleep(STEP);
            let late = began.elapsed().saturating_sub(STEP);
            if late > STEP {
                self.0.lock().unwrap().push((Instant::now(), late));
            }
        }
    }

    fn since(&self, began: Instant) -> Duration {
        self.0.lock().unwrap().iter().rev().take_while(|(at, _)| *at >= began).map(|(_, late)| *late).sum()
    }
}

/// What a client got.
struct Seen {
    id: u64,
    /// A status, `cut`, or `nothing`.
    outcome: String,
    /// The deed that the answer is of, where it is a whole 2xx.
    deed: Option<u64>,
    took: Duration,
    noise: Duration,
}

struct Run<'a> {
    gateway: SocketAddr,
    journal: &'a Journal,
    noise: &'a Noise,
    next_id: AtomicU64,
}

impl Run<'_> {
    /// Sends one request over the connection, or over a new one where there is none.
    fn ask(&self, client: &mut Option<RawClient>, fault: &Fault, method: &str) -> Result<Seen, String> {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        let content = if method == "POST" { body(id) } else { Vec::new() };
        let length = if content.is_empty() { String::new() } else { format!("content-length: {BODY}\r\n") };
        let mut bytes =
            format!("{method} /{}/{id} HTTP/1.1\r\nhost: a.test\r\nx-id: {id}\r\n{length}\r\n", fault.name)
                .into_bytes();
        bytes.extend_from_slice(&content);
        let mut connection = match client.take() {
            Some(client) => client,
            None => RawClient::connect(self.gateway).map_err(|error| format!("connecting: {error}"))?,
        };
        let began = Instant::now();
        let sent = connection.send(bytes);
        let answer = connection.response();
        let (took, noise) = (began.elapsed(), self.noise.since(began));
        let Ok(answer) = answer else {
            return Err(format!("request {id} got nothing: {:?} (sent: {sent:?})", answer.unwrap_err()));
        };
        if answer.complete && answer.header("connection") != Some("close") {
            *client = Some(connection);
        }
        let outcome = if answer.complete { answer.status().to_string() } else { "cut".to_owned() };
        let mut deed = None;
        if answer.complete && answer.status() == 200 {
            let number = answer.header("x-deed").and_then(|deed| deed.parse().ok());
            let number: u64 = number.ok_or_else(|| format!("request {id}: an answer of nobody's deed"))?;
            let whole = body(id);
            let is_own = if fault.prefix { whole.starts_with(&answer.body) } else { whole == answer.body };
            if !is_own {
                return Err(format!("request {id}: not its own answer: {:?}", answer.text()));
            }
            if self.journal.deeds(id).iter().filter(|deed| **deed == number).count() != 1 {
                return Err(format!("request {id}: deed {number} is not in the journal"));
            }
            deed = Some(number);
        }
        Ok(Seen { id, outcome, deed, took, noise })
    }

    /// So many requests of one method, by several clients at once.
    fn batch(&self, fault: &Fault, method: &str, count: usize) -> Vec<Result<Seen, String>> {
        let left = AtomicUsize::new(count);
        let client = || {
            let (mut connection, mut seen) = (None, Vec::new());
            while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                seen.push(self.ask(&mut connection, fault, method));
            }
            seen
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        })
    }

    /// How long it takes from the fault's end until requests succeed, ten in a row, and the sick endpoint serves again.
    fn recover(&self, fault: &Fault, proxy: &FaultProxy) -> Result<Duration, String> {
        let (began, before) = (Instant::now(), proxy.passed());
        let (mut row, mut last_bad, mut connection) = (0, began, None);
        loop {
            let seen = self.ask(&mut connection, fault, "GET")?;
            if seen.outcome == "200" {
                row += 1;
            } else {
                (row, last_bad) = (0, Instant::now());
            }
            let serves = proxy.passed() > before;
            if row >= 10 && serves {
                return Ok(last_bad.duration_since(began));
            }
            if began.elapsed() > RECOVERY + self.noise.since(began) {
                return Err(format!("not recovered: {} good in a row, serves: {serves}", row));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What a fault came to.
#[derive(Default)]
struct Report {
    wrong: Vec<String>,
    outcomes: BTreeMap<String, usize>,
    sent: usize,
    repeated_gets: usize,
    longest: Duration,
    recovery: Duration,
    harmed: usize,
    withheld: usize,
}

fn run(run: &Run<'_>, fault: &Fault, proxy: &FaultProxy, count: usize) -> Report {
    let mut report = Report::default();
    // Connections that have served are part of it.
    for seen in run.batch(fault, "GET", 12) {
        if !seen.as_ref().is_ok_and(|seen| seen.outcome == "200") {
            report.wrong.push(format!("before it: {:?}", seen.map(|seen| seen.outcome)));
        }
    }
    proxy.follow(&fault.script);
    for method in ["GET", "POST"] {
        report.sent += count;
        for seen in run.batch(fault, method, count) {
            judge(run, fault, method, seen, &mut report);
        }
    }
    (report.harmed, report.withheld) = (proxy.harmed(), proxy.withheld());
    proxy.be_well();
    match run.recover(fault, proxy) {
        Ok(took) => report.recovery = took,
        Err(why) => report.wrong.push(why),
    }
    report
}

fn judge(
    run: &Run<'_>,
    fault: &Fault,
    method: &'static str,
    seen: Result<Seen, String>,
    report: &mut Report,
) {
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return report.wrong.push(format!("{method}: {why}")),
    };
    *report.outcomes.entry(format!("{method} {}", seen.outcome)).or_default() += 1;
    if !fault.expected[method].contains(&seen.outcome) {
        report.wrong.push(format!("{method} {}: {}", seen.id, seen.outcome));
    }
    let own = seen.took.saturating_sub(seen.noise);
    report.longest = report.longest.max(own);
    if own > TOTAL + SLACK {
        report.wrong.push(format!("{method} {} took {:?} (noise {:?})", seen.id, seen.took, seen.noise));
    }
    let deeds = run.journal.deeds(seen.id);
    if method == "POST" && (deeds.len() > 1 || (seen.deed.is_some() && deeds.len() != 1)) {
        report.wrong.push(format!("POST {} was done {} times", seen.id, deeds.len()));
    }
    report.repeated_gets += usize::from(method == "GET" && deeds.len() > 1);
}

/// A gateway with an upstream and a route for each fault.
fn gateway(faults: &[(Fault, FaultProxy)], backends: &Backends) -> Gateway {
    let builder = Gateway::builder(BINARY).file("authority.pem", backends.authority.pem());
    builder.start(|ports| {
        let mut config = format!(
            r#"
            admin.listen = "{admin}"
            server.threads = 2
            firewall.mode = "off"
            log.level = "error"
            log.access = false
            [[listener]]
            name = "public"
            address = "{public}"
            limits = {{ max_requests_per_connection = 1000000 }}
            "#,
            admin = ports.admin,
            public = ports.public,
        );
        for (fault, proxy) in faults {
            let well = backends.good(fault.protocol);
            let addresses = if fault.everywhere { vec![proxy.address()] } else { vec![proxy.address(), well[0], well[1]] };
            let endpoints: Vec<String> =
                addresses.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
            let speaks = match fault.protocol {
                FaultProtocol::Http1 => "",
                FaultProtocol::Http2 => "protocol = \"http2\"",
                FaultProtocol::Bytes => r#"tls = { ca_file = "authority.pem", server_name = "origin.test" }"#,
            };
            config.push_str(&format!(
                r#"
                [upstream.{name}]
                endpoints = [{endpoints}]
                {speaks}
                connect_timeout = "300ms"
                tls_timeout = "300ms"
                response_timeout = "1s"
                idle_timeout = "400ms"
                [upstream.{name}.retry]
                on = ["connect-failure", "refused-stream", "reset-before-response", "gateway-error", "timeout"]
                per_try_timeout = "500ms"
                [[route]]
                name = "{name}"
                match = {{ path = "/{name}/{{*rest}}" }}
                upstream = "{name}"
                timeouts.total = "{total}ms"
                "#,
                name = fault.name,
                endpoints = endpoints.join(", "),
                total = TOTAL.as_millis(),
            ));
        }
        config
    })
}

#[test]
fn nothing_that_goes_wrong_goes_wrong_twice() {
    let only = std::env::var("CASE").ok();
    let count = if std::env::var_os("PORTCULLIS_FULL").is_some() { FULL } else { QUICK };
    let journal = Arc::new(Journal::default());
    let backends = Backends::start(&journal);
    let wanted = |case: &Case| only.as_ref().is_none_or(|only| *only == case.name);
    let faults: Vec<(Fault, FaultProxy)> = cases(FAULTS)
        .into_iter()
        .filter(wanted)
        .enumerate()
        .map(|(number, case)| {
            let fault = Fault::read(number, case);
            let proxy = backends.proxy(&fault);
            (fault, proxy)
        })
        .collect();
    let gateway = gateway(&faults, &backends);
    let (noise, over) = (Noise::default(), AtomicBool::new(false));
    let this =
        Run { gateway: gateway.public(), journal: &journal, noise: &noise, next_id: AtomicU64::new(1) };
    let (next, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| noise.watch(&over));
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((fault, proxy)) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let report = run(&this, fault, proxy, count);
                        reports.lock().unwrap().push((fault, report));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::SeqCst);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    let took = began.elapsed();
    let reports = reports.into_inner().unwrap();
    let mut wrong = Vec::new();
    for (fault, report) in &reports {
        if only.is_some() || std::env::var_os("CHAOS_TELL").is_some() {
            eprintln!(
                "{}: {:?}, harmed {}, longest {:?}, recovery {:?}, GETs done again {}",
                fault.case.name,
                report.outcomes,
                report.harmed,
                report.longest,
                report.recovery,
                report.repeated_gets
            );
        }
        for why in report.wrong.iter().take(3) {
            wrong.push(format!(
                "{}: {}: {why} (of {})",
                fault.case.place,
                fault.case.name,
                report.wrong.len()
            ));
        }
        let is_counted = fault.script.is_met();
        if is_counted && report.harmed == 0 {
            wrong.push(format!("{}: {}: it harmed nothing", fault.case.place, fault.case.name));
        }
    }
    let asked = this.next_id.load(Ordering::SeqCst) - 1;
    let withheld: usize = reports.iter().map(|(_, report)| report.withheld).sum();
    let seen = journal.seen.load(Ordering::SeqCst) + withheld;
    let amplification = seen as f64 / asked as f64;
    if amplification > AMPLIFICATION {
        wrong.push(format!("endpoints saw {seen} requests for {asked}: {amplification:.3}"));
    }
    let good = |(_, report): &(&Fault, Report)| -> usize {
        report.outcomes.iter().filter(|(outcome, _)| outcome.ends_with(" 200")).map(|(_, count)| count).sum()
    };
    let sent: usize = reports.iter().map(|(_, report)| report.sent).sum();
    let longest = reports.iter().map(|(_, report)| report.longest).max().unwrap_or_default();
    let recovery = reports.iter().map(|(_, report)| report.recovery).max().unwrap_or_default();
    let again: usize = reports.iter().map(|(_, report)| report.repeated_gets).sum();
    suite(
        "chaos",
        &format!(
            "{} faults x GET and POST x {count}: {sent} requests, {:.1} % answered 200, each by one deed; 0 POSTs done twice, {again} GETs done again; \
             amplification {amplification:.3} (at most {AMPLIFICATION}); longest {} ms of {} ms; slowest recovery {} ms; {} s",
            reports.len(),
            100.0 * reports.iter().map(good).sum::<usize>() as f64 / sent as f64,
            longest.as_millis(),
            (TOTAL + SLACK).as_millis(),
            recovery.as_millis(),
            took.as_secs(),
        ),
    );
    wrong.sort();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What a try is told of the time that is left, and what is told of the tries.
#[test]
fn deadlines_are_passed_down_and_tries_are_told() {
    let (bad, good) = (
        Origin::answering(Answer::reset()),
        Origin::start(|request| match request.target() {
            "/hang" => Answer::hang(),
            _ => Answer::ok("good"),
        }),
    );
    let addresses = [bad.address(), good.address()];
    let gateway = Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            admin.listen = "{}"
            server.threads = 1
            server.deadline_header = "X-Wait-MS"
            firewall.mode = "off"
            log.format = "json"
            [[listener]]
            name = "public"
            address = "{}"
            [upstream.pair]
            endpoints = [{{ address = "{}" }}, {{ address = "{}" }}]
            retry.on = ["reset-before-response"]
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "pair"
            timeouts.total = "20s"
            [[route]]
            name = "once"
            match = {{ path = "/once" }}
            upstream = "pair"
            retry.attempts = 1
            "#,
            ports.admin, ports.public, addresses[0], addresses[1]
        )
    });
    let ask = |path: &str, fields: &[&str]| {
        portcullis_testkit::request(gateway.public(), &format!("GET {path}"), fields, "")
    };
    assert_eq!(ask("/tried", &["x-wait-ms: 5000"]).text(), "good");
    let told =
        |origin: &Origin| -> u64 { origin.requests()[0].header("x-wait-ms").unwrap().parse().unwrap() };
    assert!(told(&bad) <= 5000 && told(&good) <= told(&bad), "{} {}", told(&bad), told(&good));
    let line = gateway.wait_for_line(|line| line.contains("/tried"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["attempts"], 2);
    assert_eq!(line["endpoint"], addresses[1].to_string());
    let tries = line["tries"].as_array().unwrap();
    let of = |at: usize, name: &str| tries[at][name].clone();
    assert_eq!((of(0, "endpoint"), of(0, "outcome")), (addresses[0].to_string().into(), "closed".into()));
    assert_eq!((of(1, "outcome"), of(1, "status")), ("answered".into(), 200.into()));
    assert!(of(0, "ms").is_number());
    let retried = r#"portcullis_upstream_retries_total{reason="closed",upstream="pair"}"#;
    assert_eq!(gateway.sample(retried), Some(1.0));

    // A route of its own mind, at the endpoint whose turn it is: of two in a row, one fails.
    let once: BTreeSet<u16> = (0..2).map(|_| ask("/once", &[]).status()).collect();
    assert_eq!(once, BTreeSet::from([200, 502]));
    let line = gateway.wait_for_line(|line| line.contains("\"retry_denied\":\"attempts\""));
    assert!(line.contains("/once") && !line.contains("\"tries\""), "{line}");

    // What a caller does not wait for is over; what is no number is not obeyed, and not passed on.
    let began = Instant::now();
    assert_eq!(ask("/hang", &["x-wait-ms: 150"]).status(), 504);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(ask("/odd", &["x-wait-ms: soon"]).status(), 200);
    let requests = good.requests();
    let odd = requests.iter().find(|request| request.target() == "/odd").unwrap();
    assert!(odd.header("x-wait-ms").unwrap().parse::<u64>().unwrap() <= 20_000);
}
