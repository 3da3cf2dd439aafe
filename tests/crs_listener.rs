//! OWASP CRS through the gateway's own listener: `tests/crs/gateway.toml` as it is, real sockets, and the verdicts that
//! the access log gives. The rule engine alone takes all tests in `crates/waf/tests/crs.rs`; here it is about what the
//! way through the gateway adds to and takes from a request. All tests are sent; `CRS_EVERY=10` sends each tenth.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use portcullis_testkit::ftw::{self, Log, Stage};
use portcullis_testkit::{
    Answer, Gateway, Origin, Ports, RawClient, Received, Response, absent, free_port, get, suite,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const CRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/crs/gateway.toml");

/// Tests that end otherwise than the suite has it, and why.
const EXCEPTIONS: &[(&str, &[&str])] = &[
    ("400: the request line has no version (RFC 9112, 3)", &["920430-5"]),
    ("400: Content-Length and Transfer-Encoding (RFC 9112, 6.3)", &["920181-1"]),
    ("400: two Content-Types, of which two readers may take different ones", &["920620-1"]),
    ("400: the host is empty", &["920290-4"]),
    ("405: CONNECT is on no route", &["920100-4", "920100-5"]),
    ("505: the version is not spoken (RFC 9110, 15.6.6)", &["920280-3", "920430-3", "920430-8", "920430-9"]),
];

/// Connections at once: some tests announce a body that never comes, and are waited for.
const CLIENTS: usize = 8;

/// The suite's backend: `/reflect` answers what the request describes, everything else is 200.
fn backend(request: &Received) -> Answer {
    let described = ftw::Request {
        target: request.target().as_bytes().to_vec(),
        body: request.body.clone(),
        ..ftw::Request::default()
    };
    let Some(reflection) = described.reflection() else { return Answer::ok("") };
    let head = reflection
        .fields
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("Content-Length"))
        .fold(Answer::status(reflection.status), |head, (name, value)| head.header(name, value));
    head.body(reflection.body)
}

fn start(origin: &Origin) -> Gateway {
    let ports = Ports { public: free_port(), tls: free_port(), admin: free_port() };
    Gateway::builder(BINARY)
        .env("PORT", &ports.public.port().to_string())
        .env("ADMIN_PORT", &ports.admin.port().to_string())
        .env("BACKEND_PORT", &origin.address().port().to_string())
        .env("CRS_DIR", &Path::new(CRS).canonicalize().unwrap().display().to_string())
        .arguments(&["run", "-c", CONFIG])
        .start_at(ports, "")
}

/// The request with what go-ftw makes of `{{ "TEXT" | repeat N }}` in its body, the one template that CRS uses.
fn filled(input: &ftw::Input) -> ftw::Input {
    let mut filled = input.clone();
    let data = filled.data.as_deref().unwrap_or_default();
    let template = data.split_once("{{ \"").and_then(|(before, rest)| {
        let (text, rest) = rest.split_once("\" | repeat ")?;
        let (count, after) = rest.split_once(" }}")?;
        Some([before, &text.repeat(count.parse().ok()?), after].concat())
    });
    filled.data = template.or(filled.data);
    filled
}

/// The status and the request id of the answer; none where there was no answer.
fn send(gateway: &Gateway, stage: &Stage) -> Option<(u16, String)> {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    // The gateway may have answered and closed before it had everything.
    let _ = client.send(filled(&stage.input).wire());
    let head = loop {
        let response = Response { head: client.head().ok()?, body: Vec::new(), complete: true };
        if response.status() >= 200 {
            break response;
        }
    };
    // So that the gateway comes to the end of the response, and of its rules.
    let _ = client.rest();
    Some((head.status(), head.header("x-request-id").unwrap_or_default().to_owned()))
}

/// The answer to each, by several clients.
fn send_all(gateway: &Gateway, all: &[(String, &Stage)]) -> Vec<Option<(u16, String)>> {
    let next = AtomicUsize::new(0);
    let client = || {
        let places = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let mine = places.map_while(|at| Some((at, send(gateway, all.get(at)?.1))));
        mine.collect::<Vec<_>>()
    };
    let mut answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    answers.sort_unstable_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// What the access log says, by request id, once it has all that are asked for.
fn records(gateway: &Gateway, wanted: &BTreeSet<String>) -> BTreeMap<String, Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let lines = gateway.log();
        let parsed = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let requests = parsed.filter(|line| line["message"] == "request");
        let found: BTreeMap<_, _> =
            requests.map(|line| (line["request_id"].as_str().unwrap_or_default().to_owned(), line)).collect();
        let missing: Vec<_> = wanted.iter().filter(|id| !found.contains_key(*id)).collect();
        if missing.is_empty() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in the access log: {missing:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The rules that a record names, and whether it names all that matched.
fn rules(record: &Value) -> (BTreeSet<u32>, bool) {
    let firewall = &record["firewall"];
    let named: Vec<u32> = firewall["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["id"].as_u64()?.try_into().ok())
        .collect();
    let complete = firewall["matched"].as_u64().unwrap_or(0) == named.len() as u64;
    (named.into_iter().collect(), complete)
}

/// How often each rule matched so far.
fn counted(gateway: &Gateway) -> BTreeMap<u32, f64> {
    let page = get(gateway.admin(), "/metrics").text();
    let mut counts = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("portcullis_firewall_verdicts_total{")) {
        let (labels, count) = line.rsplit_once(' ').unwrap();
        let rule = labels.split("rule=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        // `other`, where there are more rules than the metric has room for.
        *counts.entry(rule.parse().unwrap_or(0)).or_default() += count.parse::<f64>().unwrap();
    }
    counts
}

/// The rules of a request that matches more than a log line names: those whose counts it raises.
fn rules_by_count(gateway: &Gateway, stage: &Stage) -> BTreeSet<u32> {
    let before = counted(gateway);
    let (_, id) = send(gateway, stage).expect("it was answered before");
    records(gateway, &BTreeSet::from([id]));
    let after = counted(gateway);
    after.into_iter().filter(|(rule, count)| before.get(rule) != Some(count)).map(|(rule, _)| rule).collect()
}

fn unmet(log: &Log, rules: &BTreeSet<u32>) -> Vec<String> {
    let missing = log.expect_ids.iter().filter(|id| !rules.contains(id)).map(|id| format!("-{id}"));
    let unwanted = log.no_expect_ids.iter().filter(|id| rules.contains(id)).map(|id| format!("+{id}"));
    missing.chain(unwanted).collect()
}

/// What came of a test.
enum Outcome {
    Passed,
    /// The gateway refused the request itself.
    Answered(String),
    Failed(String),
}

fn judge(gateway: &Gateway, stage: &Stage, status: u16, record: &Value) -> Outcome {
    let (mut seen, complete) = rules(record);
    if !complete {
        seen.extend(rules_by_count(gateway, stage));
    }
    let mut wrong = unmet(&stage.output.log, &seen);
    wrong.extend(
        stage
            .output
            .status
            .filter(|expected| *expected != status)
            .map(|expected| format!("status {status} for {expected}")),
    );
    let rejection = &record["rejection"];
    if wrong.is_empty() {
        Outcome::Passed
    } else if status == 400 && rejection["stage"].is_string() {
        Outcome::Answered(format!("{} {}", rejection["stage"], rejection["reason"]))
    } else {
        Outcome::Failed(format!("{} (status {status}, rejection {rejection})", wrong.join(" ")))
    }
}

#[test]
fn regression_tests_through_the_listener() {
    if absent(CRS) {
        return;
    }
    let every = std::env::var("CRS_EVERY").map_or(1, |every| every.parse().unwrap());
    let files = ftw::load(&Path::new(CRS).join("tests"));
    let tests = files.iter().flat_map(|file| file.tests.iter().map(move |test| (file.rule_id, test)));
    let named = tests.step_by(every).flat_map(|(rule, test)| {
        test.stages.iter().map(move |stage| (format!("{rule}-{}", test.test_id), stage))
    });
    let all: Vec<_> = named.collect();
    let origin = Origin::start(backend);
    let gateway = start(&origin);
    let answers = send_all(&gateway, &all);
    let (mut sent, mut silent) = (Vec::new(), Vec::new());
    for ((name, stage), answer) in all.into_iter().zip(answers) {
        match answer {
            Some((status, id)) => sent.push((name, stage, status, id)),
            None if stage.output.expect_error => {}
            None => silent.push(name),
        }
    }
    let records = records(&gateway, &sent.iter().map(|(.., id)| id.clone()).collect());
    let (mut passed, mut answered, mut failed) = (0, Vec::new(), Vec::new());
    for (name, stage, status, id) in &sent {
        match judge(&gateway, stage, *status, &records[id]) {
            Outcome::Passed => passed += 1,
            Outcome::Answered(reason) => answered.push((name, reason)),
            Outcome::Failed(what) => failed.push((name, what)),
        }
    }
    let by_text = sent.iter().filter(|(_, stage, ..)| {
        stage.output.log.match_regex.is_some() || stage.output.log.no_match_regex.is_some()
    });
    suite(
        "CRS through the listener",
        &format!(
            "{} requests, {passed} as expected, {} answered by the gateway itself with 400, {} otherwise, {} without an answer; {} expectations about the log's text not compared",
            sent.len() + silent.len(),
            answered.len(),
            failed.len(),
            silent.len(),
            by_text.count(),
        ),
    );
    let mut unexpected = silent;
    for (name, what) in answered.iter().chain(&failed) {
        let reason = EXCEPTIONS.iter().find(|(_, names)| names.contains(&name.as_str()));
        eprintln!("  {name}: {what}: {}", reason.map_or("unexpected", |(reason, _)| reason));
        if reason.is_none() {
            unexpected.push(format!("{name}: {what}"));
        }
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    assert!(answered.len() <= 10, "{answered:?}");
    assert!(passed >= 5000 / every, "{passed}");
}
