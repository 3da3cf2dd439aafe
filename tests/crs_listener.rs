//! OWASP CRS through the gateway's own listener: `tests/crs/gateway.toml` as it is, real sockets, and the verdicts that
//! the firewall's log gives, in ModSecurity's form. The rule engine alone takes all tests in `crates/waf/tests/crs`; here
//! it is about what the way through the gateway adds to and takes from a request. All tests are sent; `CRS_EVERY=10`
//! sends each tenth.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use portcullis_testkit::ftw::{self, Stage};
use portcullis_testkit::{
    Answer, Gateway, Origin, Ports, RawClient, Received, Response, absent, free_port, suite,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const CRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/crs/gateway.toml");

const RECOMMENDED: &str = include_str!("../crates/waf/benches/peer/recommended.conf");

/// Tests that end otherwise than the suite has it, and why.
const EXCEPTIONS: &[(&str, &[&str])] = &[
    ("400: the request line has no version (RFC 9112, 3)", &["920430-5"]),
    ("400: Content-Length and Transfer-Encoding (RFC 9112, 6.3)", &["920181-1"]),
    ("400: two Content-Types, of which two readers may take different ones", &["920620-1"]),
    ("400: the host is empty", &["920290-4"]),
    ("405: CONNECT is on no route", &["920100-4", "920100-5"]),
    ("505: the version is not spoken (RFC 9110, 15.6.6)", &["920280-3", "920430-3", "920430-8", "920430-9"]),
];

/// Of the tests, each so many is also judged by what the log says between two markers, as go-ftw does it.
const MARKED: usize = 100;
/// Of the attacks, each so many is sent to a gateway that refuses them.
const REFUSED: usize = 10;

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

/// The gateway of the suite, and the log of its firewall.
fn start(origin: &Origin) -> (Gateway, PathBuf) {
    let ports = Ports { public: free_port(), tls: free_port(), admin: free_port() };
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crs-listener-{}.log", std::process::id()));
    let _ = std::fs::remove_file(&log);
    let gateway = Gateway::builder(BINARY)
        .env("PORT", &ports.public.port().to_string())
        .env("ADMIN_PORT", &ports.admin.port().to_string())
        .env("BACKEND_PORT", &origin.address().port().to_string())
        .env("CRS_DIR", &Path::new(CRS).canonicalize().unwrap().display().to_string())
        .env("WAF_LOG", &log.display().to_string())
        .arguments(&["run", "-c", CONFIG])
        .start_at(ports, "");
    (gateway, log)
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

/// The answer; none where there was none.
fn exchange(gateway: &Gateway, stage: &Stage) -> Option<Response> {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    // The gateway may have answered and closed before it had everything.
    let _ = client.send(filled(&stage.input).wire());
    loop {
        let head = Response { head: client.head().ok()?, body: Vec::new(), complete: true };
        if head.status() >= 200 {
            // So that the gateway comes to the end of the response, and of its rules.
            return Some(Response { body: client.rest().unwrap_or_default(), ..head });
        }
    }
}

/// The status and the request id of the answer; none where there was no answer.
fn send(gateway: &Gateway, stage: &Stage) -> Option<(u16, String)> {
    let answer = exchange(gateway, stage)?;
    Some((answer.status(), answer.header("x-request-id").unwrap_or_default().to_owned()))
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

/// The lines of the firewall's log, by the request they are about.
fn by_request(log: &str) -> BTreeMap<&str, String> {
    let mut found = BTreeMap::<_, String>::new();
    for line in log.lines() {
        let id = line.split("[unique_id \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let lines = found.entry(id).or_default();
        lines.push_str(line);
        lines.push('\n');
    }
    found
}

/// The firewall's log once it has a line for each rule that matched, as the access log counts them.
fn firewall_log(log: &Path, records: &BTreeMap<String, Value>) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(log).unwrap();
        let found = by_request(&text);
        let lines = |id: &str| found.get(id).map_or(0, |lines| lines.lines().count() as u64);
        let matched = |record: &Value| record["firewall"]["matched"].as_u64().unwrap_or(0);
        let missing: Vec<_> = records.iter().filter(|(id, record)| lines(id) != matched(record)).collect();
        if missing.is_empty() {
            return text;
        }
        assert!(Instant::now() < deadline, "not in the firewall's log: {missing:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a request that carries a marker and waits for its line in the log: where that begins and ends.
fn mark(gateway: &Gateway, log: &Path, marker: &str) -> (usize, usize) {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: go-ftw test agent\r\nAccept: */*\r\n\
             X-CRS-Test: {marker}\r\nConnection: close\r\n\r\n"
        ))
        .unwrap();
    client.rest().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(log).unwrap();
        let place = text.find(&format!("[msg \"X-CRS-Test {marker}\"]"));
        let end = place.and_then(|place| Some(place + text[place..].find('\n')? + 1));
        if let Some((place, end)) = place.zip(end) {
            assert!(text[..end].ends_with('\n') && text[place..end].contains(marker));
            return (text[..place].rfind('\n').map_or(0, |at| at + 1), end);
        }
        assert!(Instant::now() < deadline, "the marker {marker} is not in the log");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What was expected of a test and is not in what the log says between its markers.
fn between_markers(gateway: &Gateway, log: &Path, name: &str, stage: &Stage) -> Vec<String> {
    let (_, from) = mark(gateway, log, &format!("before-{name}"));
    let (_, id) = send(gateway, stage).expect("it was answered before");
    records(gateway, &BTreeSet::from([id]));
    let (to, _) = mark(gateway, log, &format!("after-{name}"));
    let text = std::fs::read_to_string(log).unwrap();
    stage.output.log.unmet(&text[from..to]).unwrap()
}

/// What came of a test.
enum Outcome {
    Passed,
    /// The gateway refused the request itself.
    Answered(String),
    Failed(String),
}

fn judge(stage: &Stage, status: u16, lines: &str, record: &Value) -> Outcome {
    let mut wrong = stage.output.log.unmet(lines).unwrap();
    let other = stage.output.status.filter(|expected| *expected != status);
    wrong.extend(other.map(|expected| format!("status {status} for {expected}")));
    let rejection = &record["rejection"];
    if wrong.is_empty() {
        Outcome::Passed
    } else if status == 400 && rejection["stage"].is_string() {
        Outcome::Answered(format!("{} {}", rejection["stage"], rejection["reason"]))
    } else {
        Outcome::Failed(format!("{} (status {status}, rejection {rejection})\n{lines}", wrong.join(", ")))
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
    let (gateway, log) = start(&origin);
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
    let text = firewall_log(&log, &records);
    let found = by_request(&text);
    let (mut passed, mut answered, mut failed) = (0, Vec::new(), Vec::new());
    let mut marked = 0;
    for (name, stage, status, id) in &sent {
        match judge(stage, *status, found.get(id.as_str()).map_or("", String::as_str), &records[id]) {
            Outcome::Passed => {
                passed += 1;
                if passed % MARKED == 0 {
                    let wrong = between_markers(&gateway, &log, name, stage);
                    assert!(wrong.is_empty(), "{name} between markers: {wrong:?}");
                    marked += 1;
                }
            }
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
            "{} requests, {passed} as expected, {} answered by the gateway itself with 400, {} otherwise, {} without an answer; {} with expectations about the log's text; {marked} also between markers",
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
    std::fs::remove_file(log).unwrap();
}

/// The rules of paranoia level 1 whose match alone is enough to refuse a request.
fn sufficient() -> BTreeSet<u32> {
    let mut ids = BTreeSet::<u32>::new();
    for entry in std::fs::read_dir(Path::new(CRS).join("rules")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let rules = text
            .split("\nSecRule ")
            .filter(|rule| rule.contains("tag:'paranoia-level/1'") && rule.contains("severity:'CRITICAL'"));
        let id = |rule: &str| -> Option<u32> { rule.split("\"id:").nth(1)?.split(',').next()?.parse().ok() };
        ids.extend(rules.filter_map(id).filter(|id| (930_000..950_000).contains(id)));
    }
    ids
}

/// CRS as it comes behind ModSecurity's recommended configuration, refusing.
fn start_refusing(origin: &Origin) -> Gateway {
    let crs = Path::new(CRS).canonicalize().unwrap();
    Gateway::builder(BINARY).file("recommended.conf", RECOMMENDED).start(|ports| {
        format!(
            r#"
            log.format = "json"
            admin.listen = "{admin}"
            [[listener]]
            name = "public"
            address = "{public}"
            timeouts = {{ header = "2s", body = "2s", idle = "2s" }}
            [upstream.backend]
            endpoints = [{{ address = "{backend}" }}]
            [firewall]
            mode = "block"
            rules = ["recommended.conf", "{crs}/crs-setup.conf.example", "{crs}/rules/*.conf"]
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "backend"
            target = {{ query_bytes = "encode", encoded_path = "keep" }}
            "#,
            admin = ports.admin,
            public = ports.public,
            backend = origin.address(),
            crs = crs.display(),
        )
    })
}

/// Attacks of the suite: answered with 403 or, where the request cannot be read as what it says it is, 400; the answer
/// says nothing of rules, and the backend hears nothing of the request.
#[test]
fn attacks_are_refused_before_the_backend() {
    if absent(CRS) {
        return;
    }
    let (files, sufficient) = (ftw::load(&Path::new(CRS).join("tests")), sufficient());
    let stages = files.iter().filter(|file| sufficient.contains(&file.rule_id)).flat_map(|file| {
        let id = file.rule_id;
        let stages = file.tests.iter().flat_map(move |test| {
            test.stages.iter().map(move |stage| (format!("{id}-{}", test.test_id), stage))
        });
        stages.filter(move |(_, stage)| stage.output.log.expect_ids.contains(&id))
    });
    let origin = Origin::start(backend);
    let gateway = start_refusing(&origin);
    let (mut refused, mut unreadable, mut wrong) = (0, 0, Vec::new());
    for (name, stage) in stages.step_by(REFUSED) {
        let Some(answer) = exchange(&gateway, stage) else {
            wrong.push(format!("{name}: no answer"));
            continue;
        };
        let problem = answer.header("content-type") == Some("application/problem+json");
        let text = answer.text().replace(answer.header("x-request-id").unwrap_or_default(), "");
        let tells = ["949110", "OWASP", "CRS"].iter().any(|word| text.contains(word));
        match answer.status() {
            403 if problem && !tells => refused += 1,
            400 if problem && !tells => unreadable += 1,
            _ => wrong.push(format!("{name}: {} {}", answer.status(), answer.text())),
        }
    }
    suite(
        "CRS through the listener, blocking",
        &format!("{refused} attacks refused with 403, {unreadable} unreadable ones with 400"),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(origin.count(), 0, "the backend got {:?}", origin.requests());
    assert!(refused > 150 && unreadable < 20, "{refused} {unreadable}");
}
