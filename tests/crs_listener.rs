//! OWASP CRS through the gateway's own listener: `tests/crs/gateway.toml` as it is, real sockets, and the verdicts that
//! the access log gives. The rule engine alone takes all tests in `crates/waf/tests/crs.rs`; here it is about what the
//! way through the gateway adds to and takes from a request. Each tenth test is sent; `CRS_EVERY=1` sends them all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use portcullis_testkit::ftw::{self, Log, Stage};
use portcullis_testkit::{Answer, Gateway, Origin, Ports, RawClient, Received, Response, free_port, get};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const CRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/crs/gateway.toml");

/// Tests that end otherwise than the suite has it, and why.
const EXCEPTIONS: &[(&str, &[&str])] = &[
    (
        "400: a byte stands in the target that RFC 3986 does not allow there",
        &[
            "920460-2",
            "920460-3",
            "930110-8",
            "930110-12",
            "932210-1",
            "932210-2",
            "932210-3",
            "932210-4",
            "934120-41",
            "934120-42",
            "941100-1",
            "941160-1",
            "941330-1",
            "949110-1",
        ],
    ),
    (
        "400: the request line has no version, or bytes beyond ASCII (RFC 9112, 3)",
        &["920430-5", "934120-23", "934120-24", "934120-25", "934120-26", "934120-39"],
    ),
    (
        "400: the path has an encoded control character (or a NUL), which has no canonical form",
        &["921190-1", "921190-2", "921190-3", "921190-4"],
    ),
    ("400: the path has an encoded slash or backslash", &["931131-1"]),
    ("400: the path has an encoded `;`, which some servers read as a path parameter", &["934101-5"]),
    ("400: the path is not UTF-8", &["920272-5"]),
    ("400: Content-Length and Transfer-Encoding (RFC 9112, 6.3)", &["920181-1"]),
    ("400: two Content-Types, of which two readers may take different ones", &["920620-1"]),
    ("400: the host is empty", &["920290-4"]),
    ("405: CONNECT is on no route", &["920100-4", "920100-5"]),
    ("505: the version is not spoken (RFC 9110, 15.6.6)", &["920280-3", "920430-3", "920430-8", "920430-9"]),
    ("415: an empty Content-Type is no media type", &["920640-4"]),
];

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
    if !Path::new(CRS).is_dir() {
        eprintln!("SKIPPED: {CRS} is absent");
        return;
    }
    let every = std::env::var("CRS_EVERY").map_or(10, |every| every.parse().unwrap());
    let files = ftw::load(&Path::new(CRS).join("tests"));
    let all =
        files.iter().flat_map(|file| file.tests.iter().map(move |test| (file.rule_id, test))).step_by(every);
    let origin = Origin::start(backend);
    let gateway = start(&origin);
    let mut sent = Vec::new();
    let (mut silent, mut by_text) = (Vec::new(), 0);
    for (rule, test) in all {
        for stage in &test.stages {
            let name = format!("{rule}-{}", test.test_id);
            let log = &stage.output.log;
            if log.match_regex.is_some() || log.no_match_regex.is_some() {
                by_text += 1;
            }
            match send(&gateway, stage) {
                Some((status, id)) => sent.push((name, stage, status, id)),
                None if stage.output.expect_error => {}
                None => silent.push(name),
            }
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
    eprintln!(
        "CRS through the listener: {} requests, {passed} as expected, {} answered by the gateway itself with 400, {} otherwise, {} without an answer; {by_text} expectations about the log's text not compared",
        sent.len() + silent.len(),
        answered.len(),
        failed.len(),
        silent.len(),
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
    assert!(passed >= 3000 / every, "{passed}");
}
