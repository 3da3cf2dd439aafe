//! The shipped rules as a whole: every rule is tested, documented and in the project's range of ids, and levels and
//! thresholds decide what a verdict is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_diag::SourceMap;
use portcullis_seclang::{Disk, load};
use portcullis_testkit::ftw;
use portcullis_waf::{Action, FileSystem, Overlay, OverlaySettings, Program, Report, Transaction, build};

fn directory() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules")).to_owned()
}

/// The rules, which must load without even a warning.
fn program() -> Arc<Program> {
    let mut sources = SourceMap::new();
    let loaded = load(&[directory().join("*.conf")], &Disk, &mut sources);
    assert_eq!(loaded.diagnostics.to_text(&sources), "");
    match build(&loaded.directives, &sources, &FileSystem) {
        Ok((program, warnings)) => {
            assert_eq!(warnings.to_text(&sources), "");
            Arc::new(program)
        }
        Err(errors) => panic!("{}", errors.to_text(&sources)),
    }
}

fn get(program: &Arc<Program>, settings: &OverlaySettings, target: &str) -> Report {
    let overlay = Arc::new(Overlay::compile(program, settings).unwrap());
    let mut transaction = Transaction::new(Arc::clone(program), overlay, "test");
    transaction.connection([192, 0, 2, 7].into(), 40_000, [192, 0, 2, 1].into(), 80);
    transaction.request_line(b"GET", target.as_bytes(), b"HTTP/1.1");
    for (name, value) in [("Host", "localhost"), ("User-Agent", "curl/8.9.1"), ("Accept", "*/*")] {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    if transaction.check_request_headers().is_none() {
        let _ = transaction.check_request_body();
    }
    transaction.finish()
}

fn levels(blocking: u8, detection: u8) -> OverlaySettings {
    OverlaySettings {
        paranoia: Some(blocking),
        detection_paranoia: Some(detection),
        ..OverlaySettings::default()
    }
}

#[test]
fn every_rule_has_a_test_that_fires_and_one_that_does_not() {
    let program = program();
    let mut seen: BTreeMap<u32, (bool, bool)> = BTreeMap::new();
    for file in ftw::load(&directory().join("tests")) {
        assert_eq!(file.path.file_stem().unwrap().to_str().unwrap(), file.rule_id.to_string());
        let entry = seen.entry(file.rule_id).or_default();
        for stage in file.tests.iter().flat_map(|test| &test.stages) {
            entry.0 |= stage.output.log.expect_ids.contains(&file.rule_id);
            entry.1 |= stage.output.log.no_expect_ids.contains(&file.rule_id);
        }
    }
    let mut detecting = 0;
    for rule in program.rules() {
        assert!(
            (1_000_000..1_100_000).contains(&rule.id),
            "rule {} is outside of the project's range",
            rule.id
        );
        if !rule.tags.iter().any(|tag| tag.starts_with("paranoia-level/")) {
            continue;
        }
        detecting += 1;
        assert_eq!(seen.get(&rule.id), Some(&(true, true)), "rule {} needs a test of each kind", rule.id);
        assert!(!rule.msg.is_empty() && rule.severity.is_some(), "rule {} lacks msg or severity", rule.id);
        assert!(
            rule.tags.iter().any(|tag| tag.starts_with("attack-")),
            "rule {} lacks an attack tag",
            rule.id
        );
        let reference = |tag: &&str| tag.starts_with("capec/") || tag.starts_with("OWASP_TOP_10/");
        assert!(rule.tags.iter().any(reference), "rule {} lacks a reference", rule.id);
    }
    assert!(detecting > 90, "only {detecting} rules detect anything");
}

#[test]
fn an_injection_is_denied_and_a_name_with_an_apostrophe_is_not() {
    let program = program();
    let report = get(&program, &OverlaySettings::default(), "/api/search?q=%27%20OR%201%3D1--");
    let interruption = report.interruption.expect("denied");
    assert_eq!(
        (interruption.action, interruption.status, interruption.rule_id),
        (Action::Deny, 403, 1_090_110)
    );
    assert!(report.matches.iter().any(|found| found.rule_id == 1_020_110 && found.variable == "ARGS:q"));
    assert!(report.inbound_score >= 5);

    let report = get(&program, &OverlaySettings::default(), "/api/search?q=o%27reilly+%26+sons");
    assert_eq!((report.interruption, report.matches.len()), (None, 0));
}

#[test]
fn thresholds_and_levels_of_a_route_decide() {
    let program = program();
    let lenient = OverlaySettings { inbound_threshold: Some(1000), ..OverlaySettings::default() };
    let report = get(&program, &lenient, "/?q=%27%20OR%201%3D1--");
    assert!(report.interruption.is_none() && !report.matches.is_empty());

    // Nothing at level 1; at level 3 and 4 a keyword and a quote are findings, which count where the route says so.
    let odd = "/?q=select+(o%27reilly)%3B";
    assert!(get(&program, &levels(1, 1), odd).matches.is_empty());
    let watching = get(&program, &levels(1, 4), odd);
    assert!(watching.interruption.is_none() && !watching.matches.is_empty());
    assert!(get(&program, &levels(4, 4), odd).interruption.is_some());
}
