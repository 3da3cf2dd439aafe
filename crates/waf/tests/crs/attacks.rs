//! Attacks on CRS as it comes, blocking: answered with 403 by the evaluating rule, with the score that the rules make
//! which matched. Responses that leak likewise.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use portcullis_testkit::{absent, ftw, suite};
use portcullis_waf::{Action, Interruption, Overlay, Phase, Program, Report, Transaction};

use crate::ordinary::{corpus, run};
use crate::rules::{FOLDER, blocking, level, overlay, score};
use crate::traffic::{Request, search};

const VERDICTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/libinjection/verdicts.txt.xz");
/// The thresholds of `crs-setup.conf.example`.
const INBOUND: i64 = 5;
const OUTBOUND: i64 = 4;

/// Tests that need what only the regression suite's set-up sets; with CRS's own their rule does not run.
const ONLY_WITH_THE_SUITES_SETUP: &[(&str, &str)] = &[
    ("920360-1", "tx.arg_name_length"),
    ("920370-1", "tx.arg_length"),
    ("920380-1", "tx.max_num_args"),
    ("920390-1", "tx.total_arg_length"),
];

/// Sums up and judges what became of attacks.
#[derive(Default)]
struct Tally {
    blocked: usize,
    /// By ModSecurity's recommended rules, before CRS: a body that cannot be read is refused with 400.
    unreadable: usize,
    below: Vec<String>,
    wrong: Vec<String>,
}

/// Which direction is judged, and when.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Request,
    Response,
}

/// What the matches of a report add up to, by their severities: the least it can be, each rule having matched once.
fn least(report: &Report, side: Side, blocking_level: u8) -> i64 {
    let counted = report.matches.iter().filter(|found| {
        let outbound = matches!(found.phase, Phase::ResponseHeaders | Phase::ResponseBody);
        outbound == (side == Side::Response) && level(found) <= blocking_level
    });
    counted.filter(|found| !found.scores.is_empty()).map(score).sum()
}

/// What the rules say they added to the levels' scores.
fn added(report: &Report, side: Side, blocking_level: u8) -> i64 {
    let prefix = if side == Side::Request { "inbound" } else { "outbound" };
    let counts = |name: &str| {
        let level = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("_anomaly_score_pl"));
        level.is_some_and(|level| level.parse::<u8>().unwrap() <= blocking_level)
    };
    let scores = report.matches.iter().flat_map(|found| &found.scores);
    scores.filter(|score| counts(&score.name)).map(|score| score.amount).sum()
}

/// The total that the evaluating rule wrote into its message.
fn total(interruption: &Interruption) -> Option<i64> {
    interruption.msg.rsplit_once("Total Score: ")?.1.trim_end_matches(')').parse().ok()
}

fn unreadable(interruption: &Interruption) -> bool {
    matches!((interruption.rule_id, interruption.status), (200_002 | 200_003, 400))
}

impl Tally {
    /// Blocked when and only when the score reaches the threshold, with the right score, by the right rule.
    fn judge(&mut self, name: &str, report: &Report, side: Side, blocking_level: u8, evaluating: u32) {
        let (threshold, score) = match side {
            Side::Request => (INBOUND, report.inbound_score),
            Side::Response => (OUTBOUND, report.outbound_score),
        };
        let (least, added) = (least(report, side, blocking_level), added(report, side, blocking_level));
        let mut wrong = |what: String| self.wrong.push(format!("{name} at level {blocking_level}: {what}"));
        // A rule that matches several values counts for each of them.
        if score != added || score < least || (score > 0) != (least > 0) {
            wrong(format!("score {score}; the rules added {added}, by severity at least {least}"));
        }
        match &report.interruption {
            None if score >= threshold => wrong(format!("score {score}, but let through")),
            None => self.below.push(name.to_owned()),
            Some(found) if unreadable(found) => self.unreadable += 1,
            Some(found)
                if (&found.action, found.status, found.rule_id) != (&Action::Deny, 403, evaluating) =>
            {
                wrong(format!("{found:?}"));
            }
            Some(found) if total(found) != Some(score) => {
                wrong(format!("{score} in total, but {:?}", found.msg))
            }
            Some(_) => self.blocked += 1,
        }
    }

    fn close(self, name: &str) {
        suite(
            name,
            &format!(
                "{} blocked, {} below the threshold, {} unreadable",
                self.blocked,
                self.below.len(),
                self.unreadable
            ),
        );
        let shown = self.wrong.iter().take(40).cloned().collect::<Vec<_>>();
        assert!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), shown.join("\n"));
    }
}

/// The regression tests, each with its rule and the level of that.
fn positive(program: &Program) -> Vec<(String, u32, u8, ftw::Stage)> {
    let known: BTreeMap<u32, _> = program.rules().map(|rule| (rule.id, rule)).collect();
    let mut found = Vec::new();
    for file in ftw::load(&Path::new(FOLDER).join("tests")) {
        let Some(rule) = known.get(&file.rule_id) else { continue };
        let tag = rule.tags.iter().find_map(|tag| tag.strip_prefix("paranoia-level/"));
        let level = tag.map_or(1, |level| level.parse().unwrap());
        for test in &file.tests {
            for stage in
                test.stages.iter().filter(|stage| stage.output.log.expect_ids.contains(&file.rule_id))
            {
                found.push((
                    format!("{}-{}", file.rule_id, test.test_id),
                    file.rule_id,
                    level,
                    stage.clone(),
                ));
            }
        }
    }
    found
}

/// The requests of those tests, where they are text but for the body.
pub(crate) fn positive_requests() -> Vec<Request> {
    let requests = positive(&blocking("")).into_iter().filter_map(|(name, rule, _, stage)| {
        let request = stage.input.request().as_served().filter(|_| rule < 950_000)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let fields = request.fields.iter().map(|(name, value)| Some((text(name)?, text(value)?)));
        Some(Request {
            name,
            path: String::new(),
            text: String::new(),
            method: text(&request.method)?,
            target: text(&request.target)?,
            fields: fields.collect::<Option<_>>()?,
            body: request.body,
        })
    });
    requests.collect()
}

/// A request as a server hands it on, answered as it asks to be.
fn exchange(program: &Arc<Program>, overlay: &Arc<Overlay>, request: &ftw::Request, side: Side) -> Report {
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "1a2b3c4d5e6f");
    transaction.connection([192, 0, 2, 7].into(), 40_000, [192, 0, 2, 1].into(), 80);
    if side == Side::Request {
        transaction.request_line(&request.method, &request.target, &request.version);
        for (name, value) in &request.fields {
            transaction.request_header(name, value);
        }
        if transaction.check_request_headers().is_none() {
            transaction.write_request_body(&request.body);
            let _ = transaction.check_request_body();
        }
        return transaction.finish();
    }
    // The request that asks for a leak may be one itself: an ordinary one stands for it.
    transaction.request_line(b"GET", b"/page", b"HTTP/1.1");
    for (name, value) in [("Host", "www.example.com"), ("User-Agent", "curl/8.14.1"), ("Accept", "*/*")] {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    assert_eq!((transaction.check_request_headers(), transaction.check_request_body()), (None, None));
    if let Some(answer) = request.reflection() {
        transaction.response_status(answer.status);
        for (name, value) in &answer.fields {
            transaction.response_header(name.as_bytes(), value.as_bytes());
        }
        if transaction.check_response_headers().is_none() {
            transaction.write_response_body(&answer.body);
            let _ = transaction.check_response_body();
        }
    }
    transaction.finish()
}

/// Each test whose rule must fire, at the level of the rule: blocked if the score says so.
#[test]
fn regression_tests_block() {
    if absent(FOLDER) {
        return;
    }
    let program = blocking("");
    let overlays: Vec<_> = (1..=4).map(|level| overlay(&program, level)).collect();
    let (mut requests, mut responses) = (Tally::default(), Tally::default());
    let mut silent = Vec::new();
    for (name, rule, level, stage) in positive(&program) {
        let Some(request) = stage.input.request().as_served() else { continue };
        let side = if (950_000..960_000).contains(&rule) { Side::Response } else { Side::Request };
        let report = exchange(&program, &overlays[usize::from(level) - 1], &request, side);
        let read = !report.interruption.as_ref().is_some_and(unreadable);
        if read && !report.matches.iter().any(|found| found.rule_id == rule) {
            silent.push(name.clone());
        }
        match side {
            Side::Request => requests.judge(&name, &report, side, level, 949_110),
            Side::Response => responses.judge(&name, &report, side, level, 959_100),
        }
    }
    requests.close("CRS blocking, attacks of its regression tests");
    responses.close("CRS blocking, leaks of its regression tests");
    let expected: Vec<_> = ONLY_WITH_THE_SUITES_SETUP.iter().map(|(name, _)| *name).collect();
    assert_eq!(silent, expected);
}

#[test]
fn early_blocking() {
    if absent(FOLDER) {
        return;
    }
    let program = blocking(r#"SecAction "id:900120,phase:1,pass,t:none,nolog,setvar:tx.early_blocking=1""#);
    let overlays: Vec<_> = (1..=4).map(|level| overlay(&program, level)).collect();
    let (mut early, mut late) = (0, 0);
    let mut wrong = Vec::new();
    for (name, rule, level, stage) in positive(&program) {
        let Some(request) = stage.input.request().as_served() else { continue };
        let side = if (950_000..960_000).contains(&rule) { Side::Response } else { Side::Request };
        let report = exchange(&program, &overlays[usize::from(level) - 1], &request, side);
        let Some(found) = report.interruption.as_ref().filter(|found| !unreadable(found)) else { continue };
        let at = match (side, found.phase) {
            (Side::Request, Phase::RequestHeaders) => 949_111,
            (Side::Request, _) => 949_110,
            (Side::Response, Phase::ResponseHeaders) => 959_101,
            (Side::Response, _) => 959_100,
        };
        if at == 949_111 || at == 959_101 {
            early += 1
        } else {
            late += 1
        }
        if (found.rule_id, found.status) != (at, 403) {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    suite("CRS early blocking", &format!("{early} blocked at the head, {late} at the body"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(early > 400 && late > 3000, "{early} {late}");
}

#[test]
fn recorded_attacks_block() {
    if absent(FOLDER) {
        return;
    }
    let program = blocking("");
    let overlay = overlay(&program, 1);
    let mut tally = Tally::default();
    for request in corpus("block") {
        let report = run(&program, &overlay, &request);
        tally.judge(&request.name, &report, Side::Request, 1, 949_110);
    }
    assert_eq!(tally.below, Vec::<String>::new());
    tally.close("CRS blocking, attacks of the benchmark's corpus");
}

/// What libinjection takes for SQL is blocked when it comes in a query.
#[test]
fn injections_of_libinjection_block() {
    if absent(FOLDER) || absent(VERDICTS) {
        return;
    }
    let mut text = String::new();
    let file = std::fs::File::open(VERDICTS).unwrap();
    lzma_rust2::XzReader::new(std::io::BufReader::new(file), true).read_to_string(&mut text).unwrap();
    let program = blocking("");
    let overlay = overlay(&program, 1);
    let mut tally = Tally::default();
    for line in text.lines().filter(|line| line.split(' ').nth(1) == Some("1")).step_by(20) {
        let hex = line.split(' ').next().unwrap().as_bytes();
        let payload =
            hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        let Ok(payload) = String::from_utf8(payload.collect()) else { continue };
        // Rule 942100 decodes once more before it asks, and then asks about another text.
        if payload.contains(['%', '+', '\r', '\n']) || !payload.is_ascii() {
            continue;
        }
        let report = run(&program, &overlay, &search(&payload, &payload));
        if !report.matches.iter().any(|found| found.rule_id == 942_100) {
            tally.wrong.push(format!("{payload:?}: 942100 did not fire"));
        }
        tally.judge(&payload, &report, Side::Request, 1, 949_110);
    }
    assert!(tally.blocked > 1000, "{}", tally.blocked);
    tally.close("CRS blocking, SQL injections of libinjection's record");
}
