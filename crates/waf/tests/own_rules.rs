//! The shipped rules against their own tests, and how much of CRS compiles already.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_diag::{SourceMap, Span};
use portcullis_testkit::ftw;
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

/// Sends one stage through all phases, with the backend of go-ftw's reflecting server where the stage asks for it.
fn run(program: &Arc<Program>, overlay: &Arc<Overlay>, input: &ftw::Input) -> Report {
    let request = input.request();
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "0123456789");
    transaction.connection("192.0.2.7".parse().unwrap(), 40000, "192.0.2.1".parse().unwrap(), 80);
    transaction.request_line(&request.method, &request.target, &request.version);
    for (name, value) in &request.headers {
        transaction.request_header(name, value);
    }
    transaction.check_request_headers();
    if transaction.wants_request_body() {
        transaction.write_request_body(&request.body);
    }
    transaction.check_request_body();
    let answer = Answer::of(input, &request);
    transaction.response_status(answer.status);
    for (name, value) in &answer.headers {
        transaction.response_header(name.as_bytes(), value.as_bytes());
    }
    transaction.check_response_headers();
    if transaction.wants_response_body() {
        transaction.write_response_body(answer.body.as_bytes());
    }
    transaction.check_response_body();
    transaction.finish()
}

/// What the backend answers: as scripted; or, at `/reflect` with a JSON body, as that body says (go-ftw's albedo).
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn of(input: &ftw::Input, request: &ftw::Request) -> Self {
        if let Some(response) = &input.response {
            let headers = response.headers.0.clone();
            return Self { status: response.status.unwrap_or(200), headers, body: response.body.clone() };
        }
        if request.target.starts_with(b"/reflect")
            && let Ok(script) = serde_json::from_slice::<serde_json::Value>(&request.body)
        {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let headers = script["headers"].as_object().into_iter().flatten();
            let encoded = script["encodedBody"].as_str().map(|text| decode(text));
            return Self {
                status: script["status"].as_u64().unwrap_or(200) as u16,
                headers: headers.map(|(name, value)| (name.clone(), text(value))).collect(),
                body: encoded.unwrap_or_else(|| text(&script["body"])),
            };
        }
        Self { status: 200, headers: vec![("Content-Type".into(), "text/plain".into())], body: String::new() }
    }
}

fn decode(base64: &str) -> String {
    let mut out = Vec::new();
    portcullis_waf::transform::apply(
        portcullis_waf::transform::Transform::Base64Decode,
        base64.as_bytes(),
        &mut out,
    );
    String::from_utf8_lossy(&out).into_owned()
}

fn stage_failures(report: &Report, output: &ftw::Output) -> Vec<String> {
    let matched: Vec<u32> = report.matches.iter().map(|found| found.rule_id).collect();
    let log = output.log.as_ref();
    let mut failures = Vec::new();
    for id in log.iter().flat_map(|log| &log.expect_ids) {
        if !matched.contains(id) {
            failures.push(format!("{id} did not fire; {matched:?} did"));
        }
    }
    for id in log.iter().flat_map(|log| &log.no_expect_ids) {
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
        paranoia: Some(4),
        detection_paranoia: Some(4),
        ..OverlaySettings::default()
    };
    let overlay = Arc::new(Overlay::compile(&program, &settings).unwrap());
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/tests"));
    let (mut passed, mut failures) = (0, Vec::new());
    for (path, file) in ftw::load(folder) {
        for test in file.tests {
            let mut wrong = Vec::new();
            for stage in &test.stages {
                wrong.extend(stage_failures(&run(&program, &overlay, &stage.input), &stage.output));
            }
            if wrong.is_empty() {
                passed += 1;
            } else {
                let name = path.strip_prefix(folder).unwrap_or(&path).display();
                failures.push(format!(
                    "{name} test {} ({}): {}",
                    test.test_id,
                    test.desc.trim(),
                    wrong.join("; ")
                ));
            }
        }
    }
    eprintln!("own rules: {passed} passed, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed > 0, "no test below {}", folder.display());
}

/// Informational: what of CRS is accepted so far.
#[test]
fn crs_compiles_so_far() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs"));
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is absent", folder.display());
        return;
    }
    let mut files = vec![folder.join("crs-setup.conf.example")];
    files.extend(conf_files(&folder.join("rules")));
    let mut sources = SourceMap::new();
    let loaded = portcullis_seclang::load(&files, &portcullis_seclang::Disk, &mut sources);
    let (set, mut found) = portcullis_waf::validate(&loaded.directives);
    found.append(portcullis_waf::compile(set, &sources, &FileSystem).1);
    let is_rule = |kind: &portcullis_seclang::DirectiveKind| {
        matches!(
            kind,
            portcullis_seclang::DirectiveKind::Rule(_) | portcullis_seclang::DirectiveKind::Action(_)
        )
    };
    let rules: Vec<Span> = loaded
        .directives
        .iter()
        .filter(|directive| is_rule(&directive.kind))
        .map(|directive| directive.span)
        .collect();
    let inside = |outer: &Span, inner: Span| {
        outer.source == inner.source && outer.start <= inner.start && inner.end <= outer.end
    };
    let errors: Vec<_> = found.iter().filter(|finding| finding.is_error()).collect();
    let broken = rules
        .iter()
        .filter(|rule| errors.iter().any(|error| error.span.is_some_and(|span| inside(rule, span))));
    let mut kinds: Vec<String> =
        errors.iter().map(|error| format!("{} {}", error.code, error.message)).collect();
    kinds.sort();
    kinds.dedup();
    eprintln!("CRS: {} of {} rules accepted; not yet: {kinds:#?}", rules.len() - broken.count(), rules.len());
}
