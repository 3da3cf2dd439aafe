//! The regression tests of CRS, and how much of it is accepted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_diag::{SourceMap, Span};
use portcullis_seclang::{Directive, DirectiveKind, Disk, load};
use portcullis_testkit::{absent, ftw, suite};
use portcullis_waf::trace::{RuleOutcome, Watch};
use portcullis_waf::{BuildOptions, FileSystem, Overlay, OverlaySettings, Program, Report, Transaction};

use crate::rules::{BODIES, FOLDER, files, in_folder, program};

/// What CRS's own test suite sets before CRS.
const SETUP: &str = r#"
SecRuleEngine DetectionOnly
SecAction "id:900005,phase:1,nolog,pass,ctl:ruleEngine=DetectionOnly,ctl:ruleRemoveById=910000,setvar:tx.blocking_paranoia_level=4,setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.arg_name_length=100,setvar:tx.arg_length=400,setvar:tx.total_arg_length=64000,setvar:tx.max_num_args=255,setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535"
"#;

/// How many rules there are, how many of them are accepted, and why the others are not.
fn accepted(files: &[PathBuf]) -> (usize, usize, Vec<String>) {
    let mut sources = SourceMap::new();
    let loaded = load(files, &Disk, &mut sources);
    let (set, mut found) = portcullis_waf::validate(&loaded.directives, BuildOptions::default());
    found.append(portcullis_waf::compile(set, &sources, &FileSystem, BuildOptions::default()).1);
    let is_rule =
        |directive: &&Directive| matches!(directive.kind, DirectiveKind::Rule(_) | DirectiveKind::Action(_));
    let rules: Vec<Span> = loaded.directives.iter().filter(is_rule).map(|directive| directive.span).collect();
    let inside = |outer: &Span, inner: Span| {
        outer.source == inner.source && outer.start <= inner.start && inner.end <= outer.end
    };
    let errors: Vec<_> = found.iter().filter(|finding| finding.is_error()).collect();
    let has_error =
        |rule: &&Span| errors.iter().any(|error| error.span.is_some_and(|span| inside(rule, span)));
    let accepted = rules.len() - rules.iter().filter(has_error).count();
    let mut reasons: Vec<String> = errors.iter().map(|error| error.message.clone()).collect();
    reasons.sort();
    (rules.len(), accepted, reasons)
}

#[test]
fn every_rule_is_accepted() {
    if absent(FOLDER) {
        return;
    }
    let (rules, accepted, reasons) = accepted(&files());
    suite("CRS rules", &format!("{accepted} of {rules} accepted{}", reasons.join(", ")));
    assert_eq!(accepted, rules);
}

/// Debian's package `modsecurity-crs`.
#[test]
fn crs_3_3_4_of_debian() {
    let folder = Path::new("/usr/share/modsecurity-crs/rules");
    if absent(folder) {
        return;
    }
    let mut files = in_folder(folder);
    let setup = Path::new("/etc/modsecurity/crs/crs-setup.conf");
    if setup.is_file() {
        files.insert(0, setup.to_owned());
    }
    let (rules, accepted, reasons) = accepted(&files);
    suite("CRS 3.3.4 rules", &format!("{accepted} of {rules} accepted{}", reasons.join("; ")));
    assert_eq!((rules, accepted), (800, 800));
}

/// The report as ModSecurity's log has it, as far as the tests look.
fn log(report: &Report) -> String {
    let lines = report.matches.iter().map(|found| {
        let (id, msg, data, variable) = (found.rule_id, &found.msg, &found.logdata, &found.variable);
        format!("[id \"{id}\"] [msg \"{msg}\"] [data \"{data}\"] [variable \"{variable}\"]\n")
    });
    lines.collect()
}

fn run(program: &Arc<Program>, overlay: &Arc<Overlay>, input: &ftw::Input) -> Option<Report> {
    let begin = || Transaction::new(Arc::clone(program), Arc::clone(overlay), "1a2b3c4d5e6f");
    Some(transaction(begin(), input)?.finish())
}

/// All phases of a transaction but the last.
fn transaction(mut transaction: Transaction, input: &ftw::Input) -> Option<Transaction> {
    let request = input.request().as_served()?;
    transaction.connection("127.0.0.2".parse().unwrap(), 40000, "127.0.0.1".parse().unwrap(), 80);
    transaction.request_line(&request.method, &request.target, &request.version);
    for (name, value) in &request.fields {
        transaction.request_header(name, value);
    }
    transaction.check_request_headers();
    transaction.write_request_body(&request.body);
    transaction.check_request_body();
    let answer = request.reflection();
    transaction.response_status(answer.as_ref().map_or(200, |answer| answer.status));
    for (name, value) in answer.iter().flat_map(|answer| &answer.fields) {
        transaction.response_header(name.as_bytes(), value.as_bytes());
    }
    transaction.check_response_headers();
    transaction.write_response_body(
        &answer.unwrap_or_else(|| ftw::Reflection { status: 200, fields: Vec::new(), body: Vec::new() }).body,
    );
    transaction.check_response_body();
    Some(transaction)
}

/// Of a few of the tests: who watches changes nothing, and sees each rule that the report names match.
#[test]
fn watched_transactions_report_the_same() {
    if absent(FOLDER) {
        return;
    }
    let program = program(&format!("{BODIES}\n{SETUP}"));
    let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
    let files = ftw::load(&Path::new(FOLDER).join("tests"));
    let tests = files.iter().flat_map(|file| &file.tests);
    let mut compared = 0;
    for stage in tests.step_by(25).flat_map(|test| &test.stages) {
        let Some(plain) = run(&program, &overlay, &stage.input) else { continue };
        let begin = || Transaction::new(Arc::clone(&program), Arc::clone(&overlay), "1a2b3c4d5e6f");
        let watched = transaction(begin().watched(Watch::Everything), &stage.input).unwrap();
        let (report, trace) = watched.finish_watched();
        assert_eq!(plain, report);
        let matched: Vec<u32> = trace
            .rules
            .iter()
            .filter(|rule| rule.outcome == RuleOutcome::Matched)
            .map(|rule| rule.id)
            .collect();
        assert!(report.matches.iter().all(|found| matched.contains(&found.rule_id)));
        compared += 1;
    }
    assert!(compared > 150, "{compared}");
}

#[test]
fn every_test_passes() {
    if absent(FOLDER) {
        return;
    }
    let program = program(&format!("{BODIES}\n{SETUP}"));
    let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
    let (mut passed, mut failed) = (0, BTreeMap::<u32, Vec<String>>::new());
    for file in ftw::load(&Path::new(FOLDER).join("tests")) {
        for test in &file.tests {
            let mut wrong = Vec::new();
            for stage in &test.stages {
                let report = run(&program, &overlay, &stage.input);
                wrong.extend(stage.output.log.unmet(&report.as_ref().map(log).unwrap_or_default()).unwrap());
            }
            if wrong.is_empty() {
                passed += 1;
            } else {
                failed.entry(file.rule_id).or_default().push(format!("{}:{}", test.test_id, wrong.join(",")));
            }
        }
    }
    let total: usize = passed + failed.values().map(Vec::len).sum::<usize>();
    suite("CRS regression tests, in process", &format!("{passed} of {total} passed"));
    for (rule, tests) in failed {
        eprintln!("  {rule}: {}", tests.join(" "));
    }
    assert_eq!(passed, total);
}
