//! What is watched visits every rule; what is not, those that its values nominate, and it remembers values. Both come to
//! the same with whole rule sets, too: ordinary traffic and attacks, each twice.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use portcullis_diag::SourceMap;
use portcullis_seclang::{Disk, load};
use portcullis_testkit::{absent, suite};
use portcullis_waf::trace::Watch;
use portcullis_waf::{FileSystem, Overlay, Program, Report, Transaction, build};

use crate::ordinary::corpus;
use crate::rules::{FOLDER, blocking, in_folder, overlay};
use crate::traffic::{Request, ordinary, search};

const VERDICTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/libinjection/verdicts.txt.xz");

fn report(program: &Arc<Program>, overlay: &Arc<Overlay>, request: &Request, watched: bool) -> Report {
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "1a2b3c4d5e6f");
    if watched {
        transaction = transaction.watched(Watch::Costs);
    }
    transaction.connection([192, 0, 2, 7].into(), 40_000, [192, 0, 2, 1].into(), 443);
    transaction.request_line(request.method.as_bytes(), request.target.as_bytes(), b"HTTP/1.1");
    for (name, value) in &request.fields {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    let mut blocked = transaction.check_request_headers();
    if blocked.is_none() {
        transaction.write_request_body(&request.body);
        blocked = transaction.check_request_body();
    }
    if blocked.is_none() {
        transaction.response_status(200);
        transaction.response_header(b"Content-Type", b"text/html");
        let _ = transaction.check_response_headers();
        let _ = transaction.write_response_body(request.text.as_bytes());
        let _ = transaction.check_response_body();
    }
    transaction.finish()
}

/// Every so many of the recorded payloads.
fn payloads(step: usize) -> Vec<Request> {
    let mut text = String::new();
    let file = std::fs::File::open(VERDICTS).unwrap();
    lzma_rust2::XzReader::new(std::io::BufReader::new(file), true).read_to_string(&mut text).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#')).step_by(step);
    let payload = |line: &str| {
        let hex = line.split(' ').next().unwrap().as_bytes().chunks(2);
        let bytes: Vec<u8> =
            hex.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        search(&text, &text)
    };
    lines.map(payload).collect()
}

fn own() -> Arc<Program> {
    let mut sources = SourceMap::new();
    let files = in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules"));
    let directives = load(&files, &Disk, &mut sources).directives;
    Arc::new(build(&directives, &sources, &FileSystem).unwrap().0)
}

#[test]
fn watched_or_not_the_report_is_the_same() {
    if absent(FOLDER) || absent(VERDICTS) {
        return;
    }
    let step = if std::env::var_os("PORTCULLIS_FULL").is_some() { 1 } else { 12 };
    let mut requests: Vec<_> = ordinary().into_iter().step_by(step).collect();
    requests.extend(corpus("block"));
    requests.extend(payloads(20 * step));
    let mut matches = 0;
    for program in [own(), blocking("")] {
        for level in [1, 4] {
            let overlay = overlay(&program, level);
            for request in &requests {
                let expected = report(&program, &overlay, request, true);
                matches += expected.matches.len();
                for turn in 0..2 {
                    let got = report(&program, &overlay, request, false);
                    assert_eq!(got, expected, "{} at level {level}, turn {turn}", request.name);
                }
            }
        }
    }
    assert!(matches > 1000, "{matches}");
    suite(
        "rules nominated by values, against all rules",
        &format!("{} requests, {matches} matches", requests.len()),
    );
}
