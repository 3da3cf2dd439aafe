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
//! - when the fault ends, within 5 s every endpoint has answered again and ten requests in a row succeed; also where
//!   endpoints are checked, ejected and broken off from meanwhile (`supervised.rs`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod client;
mod deadlines;
mod supervised;
mod world;

use client::{Noise, Run, Seen};
use portcullis_testkit::{FaultProtocol, FaultProxy, Gateway, below_its_name, suite};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use world::{Backends, Fault, Journal};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// What each request may take in all.
const TOTAL: Duration = Duration::from_millis(1500);
const SLACK: Duration = Duration::from_millis(100);
const RECOVERY: Duration = Duration::from_secs(5);
const AMPLIFICATION: f64 = 1.10;
/// Faults at once, and clients of each; much of the time of some is a deadline.
const AT_ONCE: usize = 16;
const CLIENTS: usize = 3;
/// Between two rounds of requests.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests of each fault and method.
const QUICK: usize = 30;
const FULL: usize = 1000;

fn is_full() -> bool {
    std::env::var_os("PORTCULLIS_FULL").is_some()
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

/// How the faults are met.
struct Form {
    /// Requests of each fault and method at a time.
    count: usize,
    /// How long a fault lasts at least: requests are sent over and over.
    lasts: Duration,
    /// What upstreams have besides.
    upstream: String,
    /// Whether a gateway whose every endpoint has the fault may answer that it does not ask any more.
    refuses: bool,
}

fn run(run: &Run<'_>, form: &Form, fault: &Fault, proxy: &FaultProxy) -> Report {
    let mut report = Report::default();
    // Connections that have served are part of it.
    for seen in run.batch(fault, "GET", 12) {
        if !seen.as_ref().is_ok_and(|seen| seen.outcome == "200") {
            report.wrong.push(format!("before it: {:?}", seen.map(|seen| seen.outcome)));
        }
    }
    proxy.follow(&fault.script);
    let began = Instant::now();
    loop {
        for method in ["GET", "POST"] {
            report.sent += form.count;
            for seen in run.batch(fault, method, form.count) {
                judge(run, form, fault, method, seen, &mut report);
            }
        }
        if began.elapsed() >= form.lasts {
            break;
        }
        thread::sleep(PAUSE);
    }
    (report.harmed, report.withheld) = (proxy.harmed(), proxy.withheld());
    proxy.be_well();
    match run.recover(fault) {
        Ok(took) => report.recovery = took,
        Err(why) => report.wrong.push(why),
    }
    if fault.script.is_met() && report.harmed == 0 {
        report.wrong.push("it harmed nothing".to_owned());
    }
    report
}

fn judge(
    run: &Run<'_>,
    form: &Form,
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
    let is_refusal = form.refuses && fault.everywhere && seen.outcome == "503";
    if !fault.expected[method].contains(&seen.outcome) && !is_refusal {
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
fn gateway(form: &Form, faults: &[(Fault, FaultProxy)], backends: &Backends) -> Gateway {
    let builder = Gateway::builder(BINARY).file("authority.pem", backends.authority.pem());
    builder.start(|ports| {
        let top = "server.threads = 2\nfirewall.mode = \"off\"\nlog.level = \"error\"\nlog.access = false";
        let mut config = ports.opening(top, "limits = { max_requests_per_connection = 1000000 }");
        for (fault, proxy) in faults {
            let speaks = match fault.protocol {
                FaultProtocol::Http1 => "",
                FaultProtocol::Http2 => "protocol = \"http2\"",
                FaultProtocol::Bytes => r#"tls = { ca_file = "authority.pem", server_name = "origin.test" }"#,
            };
            let upstream = format!(
                r#"
                {speaks}
                connect_timeout = "300ms"
                tls_timeout = "300ms"
                response_timeout = "1s"
                idle_timeout = "400ms"
                {}
                [upstream.{}.retry]
                on = ["connect-failure", "refused-stream", "reset-before-response", "gateway-error", "timeout"]
                per_try_timeout = "500ms"
                "#,
                form.upstream, fault.name
            );
            config += &below_its_name(&fault.name, &backends.endpoints(fault, proxy), &upstream);
            config += &format!("timeouts.total = \"{}ms\"\n", TOTAL.as_millis());
        }
        config
    })
}

/// What all faults came to.
struct Chaos<'a> {
    reports: Vec<(&'a Fault, Report)>,
    /// Requests of clients, those before and after the faults among them.
    asked: u64,
    /// Requests that endpoints saw, or a proxy in their place.
    seen: usize,
    took: Duration,
}

impl Chaos<'_> {
    fn sent(&self) -> usize {
        self.reports.iter().map(|(_, report)| report.sent).sum()
    }

    /// How many percent of the requests were answered with 200.
    fn good(&self) -> f64 {
        let outcomes = self.reports.iter().flat_map(|(_, report)| &report.outcomes);
        let good: usize =
            outcomes.filter(|(outcome, _)| outcome.ends_with(" 200")).map(|(_, count)| count).sum();
        100.0 * good as f64 / self.sent() as f64
    }

    fn longest(&self) -> Duration {
        self.reports.iter().map(|(_, report)| report.longest).max().unwrap_or_default()
    }

    fn recovery(&self) -> Duration {
        self.reports.iter().map(|(_, report)| report.recovery).max().unwrap_or_default()
    }

    /// What went wrong, in the order of the corpus; and with `CASE` or `CHAOS_TELL`, says what went on.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let tells = ["CASE", "CHAOS_TELL"].iter().any(|name| std::env::var_os(name).is_some());
        for (fault, report) in &self.reports {
            let Report { outcomes, harmed, longest, recovery, repeated_gets, .. } = report;
            if tells {
                let name = &fault.case.name;
                eprintln!(
                    "{name}: {outcomes:?}, harmed {harmed}, longest {longest:?}, recovery {recovery:?}, \
                     GETs done again {repeated_gets}"
                );
            }
            for why in report.wrong.iter().take(3) {
                let of = report.wrong.len();
                wrong.push(format!("{}: {}: {why} (of {of})", fault.case.place, fault.case.name));
            }
        }
        wrong.sort();
        wrong
    }
}

/// Brings all faults about, several at once.
fn chaos<'a>(
    form: &Form,
    faults: &'a [(Fault, FaultProxy)],
    gateway: &Gateway,
    journal: &Journal,
) -> Chaos<'a> {
    let (noise, over) = (Noise::default(), AtomicBool::new(false));
    let this = Run { gateway: gateway.public(), journal, noise: &noise, next_id: AtomicU64::new(1) };
    let (next, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| noise.watch(&over));
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((fault, proxy)) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let report = run(&this, form, fault, proxy);
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
    let withheld: usize = reports.iter().map(|(_, report)| report.withheld).sum();
    Chaos {
        reports,
        asked: this.next_id.load(Ordering::SeqCst) - 1,
        seen: journal.seen.load(Ordering::SeqCst) + withheld,
        took,
    }
}

/// Whoever measures times does so alone.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn nothing_that_goes_wrong_goes_wrong_twice() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let count = if is_full() { FULL } else { QUICK };
    let form = Form { count, lasts: Duration::ZERO, upstream: String::new(), refuses: false };
    let journal = Arc::new(Journal::default());
    let backends = Backends::start(&journal);
    let faults = backends.before(Fault::all());
    let chaos = chaos(&form, &faults, &gateway(&form, &faults, &backends), &journal);
    let mut wrong = chaos.wrong();
    let Chaos { asked, seen, .. } = chaos;
    let amplification = seen as f64 / asked as f64;
    if amplification > AMPLIFICATION {
        wrong.push(format!("endpoints saw {seen} requests for {asked}: {amplification:.3}"));
    }
    let again: usize = chaos.reports.iter().map(|(_, report)| report.repeated_gets).sum();
    suite(
        "chaos",
        &format!(
            "{} faults x GET and POST x {count}: {} requests, {:.1} % answered 200, each by one deed; 0 POSTs done twice, \
             {again} GETs done again; amplification {amplification:.3} (at most {AMPLIFICATION}); longest {} ms of {} ms; \
             slowest recovery {} ms; {} s",
            chaos.reports.len(),
            chaos.sent(),
            chaos.good(),
            chaos.longest().as_millis(),
            (TOTAL + SLACK).as_millis(),
            chaos.recovery().as_millis(),
            chaos.took.as_secs(),
        ),
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
