//! Ordinary traffic through CRS as it comes, blocking: nothing is blocked at paranoia level 1, and what the higher
//! levels block is written down. `CRS_TRAFFIC=FILE` writes the requests to a file, to ask another engine about them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use portcullis_testkit::{absent, suite};
use portcullis_waf::{Mode, Overlay, Program, Report, Transaction};

use crate::rules::{FOLDER, blocking, overlay, score};
use crate::traffic::{Request, lines, ordinary};

/// What people may write, and CRS blocks at paranoia level 1: the rules, the text, why.
const FALSE_POSITIVES: &str = include_str!("testdata/false_positives.tsv");
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/bench/corpus.jsonl");

/// A request as the benchmark's corpus has it.
#[derive(serde::Deserialize, serde::Serialize)]
struct Recorded {
    id: String,
    class: String,
    expect: String,
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
    body_b64: String,
}

/// The requests of the benchmark's corpus that are to pass, or those that are to be blocked.
pub(crate) fn corpus(expect: &str) -> Vec<Request> {
    if absent(CORPUS) {
        return Vec::new();
    }
    let text = std::fs::read_to_string(CORPUS).unwrap();
    let recorded = text.lines().map(|line| serde_json::from_str::<Recorded>(line).unwrap());
    let request = |one: Recorded| Request {
        name: one.id.clone(),
        path: one.uri.clone(),
        text: one.id,
        method: one.method,
        target: one.uri,
        fields: one.headers,
        body: BASE64.decode(&one.body_b64).unwrap(),
    };
    recorded.filter(|one| one.expect == expect).map(request).collect()
}

/// Writes requests in the form of that corpus, for another engine or `portcullis rules bench --corpus`.
fn write_corpus(path: &std::ffi::OsStr, requests: &[Request]) {
    let lines = requests.iter().map(|request| {
        let recorded = Recorded {
            id: request.name.clone(),
            class: "ordinary".to_owned(),
            expect: "pass".to_owned(),
            method: request.method.clone(),
            uri: request.target.clone(),
            headers: request.fields.clone(),
            body_b64: BASE64.encode(&request.body),
        };
        serde_json::to_string(&recorded).unwrap() + "\n"
    });
    std::fs::write(path, lines.collect::<String>()).unwrap();
}

/// A request, answered with an empty page.
pub(crate) fn run(program: &Arc<Program>, overlay: &Arc<Overlay>, request: &Request) -> Report {
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "1a2b3c4d5e6f");
    transaction.connection([192, 0, 2, 7].into(), 40_000, [192, 0, 2, 1].into(), 443);
    transaction.request_line(request.method.as_bytes(), request.target.as_bytes(), b"HTTP/1.1");
    for (name, value) in &request.fields {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    if transaction.check_request_headers().is_none() {
        transaction.write_request_body(&request.body);
        let _ = transaction.check_request_body();
    }
    transaction.finish()
}

/// The rules that made the score.
fn rules(report: &Report) -> String {
    let scoring = report.matches.iter().filter(|found| score(found) > 0 && found.rule_id / 1000 != 949);
    scoring.map(|found| found.rule_id.to_string()).collect::<Vec<_>>().join(" ")
}

/// The rules that block this request with ModSecurity as well, if it is one of those.
fn false_positive(request: &Request) -> Option<&'static str> {
    lines(FALSE_POSITIVES).find_map(|line| {
        let [rules, path, text, _why] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("four columns: {line}")
        };
        (path == request.path && text == request.text).then_some(rules)
    })
}

#[test]
fn ordinary_traffic() {
    if absent(FOLDER) {
        return;
    }
    let mut requests = ordinary();
    requests.extend(corpus("pass"));
    if let Some(path) = std::env::var_os("CRS_TRAFFIC") {
        write_corpus(&path, &requests);
    }
    let program = blocking("");
    let mut snapshot = String::new();
    let (mut counts, mut total) = (Vec::new(), 0);
    for level in 1..=4 {
        let overlay = overlay(&program, level);
        let (mut blocked, mut by_rule) = (Vec::new(), BTreeMap::<String, usize>::new());
        for request in requests.iter().filter(|request| false_positive(request).is_none()) {
            total += usize::from(level == 1);
            let report = run(&program, &overlay, request);
            assert_eq!(report.mode, Mode::Block, "{}", request.name);
            if report.interruption.is_some() {
                for rule in rules(&report).split(' ') {
                    *by_rule.entry(rule.to_owned()).or_default() += 1;
                }
                blocked.push((request, report));
            }
        }
        if level == 1 {
            let shown = blocked.iter().map(|(request, report)| {
                format!("{}\t{}\t{}\t\n", rules(report), request.path, request.text)
            });
            assert!(blocked.is_empty(), "{} blocked:\n{}", blocked.len(), shown.collect::<String>());
        }
        writeln!(snapshot, "paranoia level {level}: {} of {} blocked", blocked.len(), total).unwrap();
        for (rule, count) in by_rule {
            writeln!(snapshot, "  {rule} in {count}").unwrap();
        }
        counts.push(blocked.len().to_string());
    }
    assert!(total >= 2000, "only {total} requests");
    suite(
        "CRS blocking, ordinary traffic",
        &format!("{total} requests, blocked at paranoia level 1 to 4: {}", counts.join(", ")),
    );
    // The benchmark's corpus may be absent, and is not ours to pin.
    if Path::new(CORPUS).is_file() {
        insta::assert_snapshot!(snapshot);
    }
}

/// Each is blocked by the rules that ModSecurity blocks it by as well, and by no other.
#[test]
fn known_false_positives() {
    if absent(FOLDER) {
        return;
    }
    let program = blocking("");
    let overlay = overlay(&program, 1);
    let mut requests = ordinary();
    requests.extend(corpus("pass"));
    let mut count = 0;
    for request in &requests {
        let Some(expected) = false_positive(request) else { continue };
        let report = run(&program, &overlay, request);
        assert_eq!(rules(&report), expected, "{}", request.name);
        assert!(report.interruption.is_some(), "{}", request.name);
        count += 1;
    }
    assert!(count >= lines(FALSE_POSITIVES).filter(|line| !line.contains("\tjson-")).count());
    suite("CRS blocking, known false positives", &format!("{count} requests, blocked as by ModSecurity"));
}
