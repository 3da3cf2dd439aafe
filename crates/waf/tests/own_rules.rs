//! The shipped rules against their own tests, run in process through all phases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_diag::SourceMap;
use portcullis_testkit::{ftw, suite};
use portcullis_waf::{FileSystem, Mode, Overlay, OverlaySettings, Program, Report, Transaction, build};

fn conf_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
}

fn own_program() -> Arc<Program> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules"));
    let mut sources = SourceMap::new();
    let loaded = portcullis_seclang::load(&conf_files(folder), &portcullis_seclang::Disk, &mut sources);
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics.to_text(&sources));
    match build(&loaded.directives, &sources, &FileSystem) {
        Ok((program, _)) => Arc::new(program),
        Err(found) => panic!("{}", found.to_text(&sources)),
    }
}

/// Sends one stage through all phases; the backend is go-ftw's `/reflect`.
fn run(program: &Arc<Program>, overlay: &Arc<Overlay>, input: &ftw::Input) -> Report {
    let request = input.request();
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "0123456789");
    transaction.connection("192.0.2.7".parse().unwrap(), 40000, "192.0.2.1".parse().unwrap(), 80);
    transaction.request_line(&request.method, &request.target, &request.version);
    for (name, value) in &request.fields {
        transaction.request_header(name, value);
    }
    transaction.check_request_headers();
    if transaction.wants_request_body() {
        transaction.write_request_body(&request.body);
    }
    transaction.check_request_body();
    let answer = request.reflection();
    transaction.response_status(answer.as_ref().map_or(200, |answer| answer.status));
    for (name, value) in answer.iter().flat_map(|answer| &answer.fields) {
        transaction.response_header(name.as_bytes(), value.as_bytes());
    }
    transaction.check_response_headers();
    if let Some(answer) = answer.filter(|_| transaction.wants_response_body()) {
        transaction.write_response_body(&answer.body);
    }
    transaction.check_response_body();
    transaction.finish()
}

fn stage_failures(report: &Report, output: &ftw::Output) -> Vec<String> {
    let matched: Vec<u32> = report.matches.iter().map(|found| found.rule_id).collect();
    let mut failures = Vec::new();
    for id in &output.log.expect_ids {
        if !matched.contains(id) {
            failures.push(format!("{id} did not fire; {matched:?} did"));
        }
    }
    for id in &output.log.no_expect_ids {
        if let Some(found) = report.matches.iter().find(|found| found.rule_id == *id) {
            failures.push(format!("{id} fired on {}: {}", found.variable, found.snippet));
        }
    }
    if let Some(status) = output.status {
        let blocked = report.would_interrupt.as_ref().or(report.interruption.as_ref());
        let got = blocked.map_or(200, |interruption| interruption.status);
        if got != status {
            failures.push(format!("status {got} instead of {status}; fired {matched:?}"));
        }
    }
    failures
}

#[test]
fn own_rules() {
    let program = own_program();
    let settings = OverlaySettings {
        mode: Some(Mode::Detect),
        // Every rule runs; what counts towards blocking is level 1, as on a route that says nothing.
        paranoia: Some(1),
        detection_paranoia: Some(4),
        ..OverlaySettings::default()
    };
    let overlay = Arc::new(Overlay::compile(&program, &settings).unwrap());
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/tests"));
    let (mut passed, mut failures) = (0, Vec::new());
    for file in ftw::load(folder) {
        for test in &file.tests {
            let mut wrong = Vec::new();
            for stage in &test.stages {
                wrong.extend(stage_failures(&run(&program, &overlay, &stage.input), &stage.output));
            }
            if wrong.is_empty() {
                passed += 1;
            } else {
                let name = file.path.strip_prefix(folder).unwrap_or(&file.path).display();
                failures.push(format!(
                    "{name} test {} ({}): {}",
                    test.test_id,
                    test.desc.trim(),
                    wrong.join("; ")
                ));
            }
        }
    }
    suite("own rules", &format!("{passed} tests passed, {} failed", failures.len()));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed > 0, "no test below {}", folder.display());
}
