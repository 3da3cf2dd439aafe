//! `portcullis rules test`.

use super::NamedRules;
use crate::commands::print;
use clap::Args;
use portcullis_ftw::{Output, Request, Stage, Test as Case, TestFile};
use portcullis_waf::{Mode, Overlay, OverlaySettings, Program, Report, Transaction};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

/// Every rule runs, whatever level counts towards blocking.
const DETECTION: u8 = 4;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Options of `portcullis rules test`.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Files of tests in go-ftw's YAML schema, or folders of them.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    rules: NamedRules,
    /// Rules up to this level count towards blocking; all levels detect.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    paranoia: u8,
    /// Give the rules what Apache would give them, which the suite of CRS was written for: no Content-Length beside
    /// Transfer-Encoding, no body without either, one Content-Type, nothing of a request with a bare CR. Statuses do not
    /// count then, being Apache's. Otherwise requests are given as the tests describe them.
    #[arg(long)]
    as_apache: bool,
}

#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// What came of one test.
enum Outcome {
    Passed,
    Failed(Vec<String>),
    /// It expects nothing that rules decide.
    Skipped,
}

impl Test {
    pub(super) fn run(self) -> Result<(), String> {
        let (program, _) = self.rules.load()?;
        let settings = OverlaySettings {
            mode: Some(Mode::Detect),
            paranoia: Some(self.paranoia),
            detection_paranoia: Some(DETECTION),
            ..OverlaySettings::default()
        };
        let overlay = Overlay::compile(&program, &settings).map_err(|error| error.to_string())?;
        let runner = Runner { program, overlay: Arc::new(overlay), as_apache: self.as_apache };
        let mut counts = Counts::default();
        for path in &self.paths {
            for file in portcullis_ftw::load(path).map_err(|error| error.to_string())? {
                runner.file(&file, &mut counts)?;
            }
        }
        let Counts { passed, failed, skipped } = counts;
        print(&format!("{passed} passed, {failed} failed, {skipped} skipped\n"))?;
        match (failed, passed + skipped) {
            (0, 0) => Err("there is not a single test".to_owned()),
            (0, _) => Ok(()),
            (1, _) => Err("1 test failed".to_owned()),
            _ => Err(format!("{failed} tests failed")),
        }
    }
}

/// The rules under test: they detect and block nothing, so that all of them get to see a request.
struct Runner {
    program: Arc<Program>,
    overlay: Arc<Overlay>,
    as_apache: bool,
}

impl Runner {
    /// Runs the tests of a file and prints those that fail.
    fn file(&self, file: &TestFile, counts: &mut Counts) -> Result<(), String> {
        let mut text = String::new();
        for test in &file.tests {
            let place = format!("{} test {}", file.path.display(), test.test_id);
            match self.case(test).map_err(|error| format!("{place}: {error}"))? {
                Outcome::Passed => counts.passed += 1,
                Outcome::Skipped => {
                    counts.skipped += 1;
                    let _ = writeln!(text, "skip {place}: it expects nothing that rules decide");
                }
                Outcome::Failed(unmet) => {
                    counts.failed += 1;
                    let _ = writeln!(text, "FAIL {place}: {}", unmet.join("; "));
                    if let Some(line) = test.desc.lines().map(str::trim).find(|line| !line.is_empty()) {
                        let _ = writeln!(text, "     {line}");
                    }
                }
            }
        }
        print(&text)
    }

    fn case(&self, test: &Case) -> Result<Outcome, String> {
        let decided = |stage: &Stage| {
            !stage.output.log.is_empty() || (stage.output.status.is_some() && !self.as_apache)
        };
        if !test.stages.iter().any(decided) {
            return Ok(Outcome::Skipped);
        }
        let mut unmet = Vec::new();
        for stage in &test.stages {
            unmet.extend(self.stage(stage)?);
        }
        Ok(if unmet.is_empty() { Outcome::Passed } else { Outcome::Failed(unmet) })
    }

    fn stage(&self, stage: &Stage) -> Result<Vec<String>, String> {
        let request = stage.input.request();
        let served = if self.as_apache { request.as_served() } else { Some(request) };
        let Some(request) = served else { return unmet(&stage.output, "", None) };
        let answer = request.reflection();
        let (report, status) = self.request(&request, answer.as_ref());
        let mut unmet = unmet(&stage.output, &log(&report), (!self.as_apache).then_some(status))?;
        if let (Some(last), false) = (unmet.last_mut(), report.matches.is_empty()) {
            let fired: Vec<String> = report.matches.iter().map(|found| found.rule_id.to_string()).collect();
            let _ = write!(last, " (fired: {})", fired.join(" "));
        }
        Ok(unmet)
    }

    /// Sends a request and its response through all phases: what the rules found, and the status they would have had
    /// answered.
    fn request(&self, request: &Request, answer: Option<&portcullis_ftw::Reflection>) -> (Report, u16) {
        let mut transaction =
            Transaction::new(Arc::clone(&self.program), Arc::clone(&self.overlay), "1a2b3c4d5e6f");
        transaction.connection(CLIENT, 40_000, SERVER, 80);
        transaction.request_line(&request.method, &request.target, &request.version);
        for (name, value) in &request.fields {
            transaction.request_header(name, value);
        }
        // Nothing interrupts a transaction that only detects; the report says what would have.
        let _ = transaction.check_request_headers();
        let _ = transaction.write_request_body(&request.body);
        let _ = transaction.check_request_body();
        let status = answer.map_or(200, |answer| answer.status);
        transaction.response_status(status);
        for (name, value) in answer.iter().flat_map(|answer| &answer.fields) {
            transaction.response_header(name.as_bytes(), value.as_bytes());
        }
        let _ = transaction.check_response_headers();
        let _ = transaction.write_response_body(answer.map_or(&[], |answer| &answer.body));
        let _ = transaction.check_response_body();
        let report = transaction.finish();
        let blocked = report.interruption.as_ref().or(report.would_interrupt.as_ref());
        let status = blocked.map_or(status, |interruption| interruption.status);
        (report, status)
    }
}

/// What was expected and is not so. A status counts where nothing is said of the log; beside one it is often that of
/// the server the test was written for. Without a status, that of the answer is not known.
fn unmet(output: &Output, log: &str, status: Option<u16>) -> Result<Vec<String>, String> {
    let mut unmet = output.log.unmet(log).map_err(|error| error.to_string())?;
    if let (true, Some(expected), Some(status)) = (output.log.is_empty(), output.status, status)
        && expected != status
    {
        unmet.push(format!("status {status} instead of {expected}"));
    }
    Ok(unmet)
}

/// The report as ModSecurity's log has it, as far as tests look.
fn log(report: &Report) -> String {
    let mut lines = String::new();
    for found in &report.matches {
        let (id, msg, data, variable) = (found.rule_id, &found.msg, &found.logdata, &found.variable);
        let _ = writeln!(lines, "[id \"{id}\"] [msg \"{msg}\"] [data \"{data}\"] [variable \"{variable}\"]");
    }
    lines
}
