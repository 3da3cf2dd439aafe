//! The operator vectors of ModSecurity and Coraza, each as a rule of its own over one argument.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::path::Path;
use std::sync::Arc;

use portcullis_diag::SourceMap;
use portcullis_testkit::{absent, suite};
use portcullis_waf::{FileSystem, Overlay, OverlaySettings, Transaction, build, operator};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    param: String,
    #[serde(default)]
    input: String,
    ret: i64,
}

/// Files of operators that are not there, with the reason.
const SKIPPED: &[(&str, &str)] = &[("validateSchema", "schemas belong to the contract guard")];

/// Files that are not named as their operator.
const RENAMED: &[(&str, &str)] = &[("nids", "validateNid")];

/// Cases where this engine answers otherwise on purpose: file, argument, input, reason.
const EXCEPTIONS: &[(&str, &str, &str, &str)] =
    &[("ipMatch", "10.0.0.0/100", "10.10.10.11", "a network that is none is refused when rules are loaded")];

/// The operator's verdict, asked through a rule; `None` when the argument is refused.
fn ask(folder: &Path, name: &str, argument: &str, input: &[u8]) -> Result<bool, String> {
    let mut sources = SourceMap::new();
    // In front of the argument: an operator's name; behind: nothing. Only quotes need escaping.
    // A newline cannot stand in a rule file; in a pattern it is written as an escape.
    let argument = argument.replace('"', "\\\"").replace('\n', "\\n");
    let rule = format!("SecRule REQUEST_METHOD \"@{name} {argument}\" \"id:1,phase:1,deny,t:none\"\n");
    let file = sources.add(folder.join("op/rules.conf").display().to_string(), rule);
    let parsed = portcullis_seclang::parse(&sources, file);
    if parsed.diagnostics.has_errors() {
        return Err(parsed.diagnostics.to_text(&sources));
    }
    let (program, _) =
        build(&parsed.directives, &sources, &FileSystem).map_err(|found| found.to_text(&sources))?;
    let program = Arc::new(program);
    let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
    let mut transaction = Transaction::new(program, overlay, "vector");
    transaction.request_line(input, b"/", b"HTTP/1.1");
    Ok(transaction.check_request_headers().is_some())
}

/// The files hold `\xHH` and `\u00HH` and `\0` escapes inside JSON strings; everything else is as it is.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let escape = match rest {
            [b'\\', b'x', a, b, ..] => hex(&[*a, *b]).map(|byte| (byte, 4)),
            [b'\\', b'u', b'0', b'0', a, b, ..] => hex(&[*a, *b]).map(|byte| (byte, 6)),
            [b'\\', b'0', ..] => Some((0, 2)),
            _ => None,
        };
        let (byte, used) = escape.unwrap_or((first, rest.len() - tail.len()));
        out.push(byte);
        rest = &rest[used..];
    }
    out
}

#[test]
fn vectors() {
    let folder =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/seclang-vectors/operators"));
    if absent(folder) {
        return;
    }
    let (mut passed, mut skipped, mut failures) = (0, 0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        if let Some((_, reason)) = SKIPPED.iter().find(|(skipped, _)| *skipped == name) {
            let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            skipped += cases.len();
            eprintln!("operator vectors: {} of {name} skipped: {reason}", cases.len());
            continue;
        }
        let name = RENAMED.iter().find(|(file, _)| *file == name).map_or(name, |(_, operator)| operator);
        assert!(operator::by_name(name).is_some(), "{name} is missing");
        let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for case in cases {
            let excepted = |(file, param, input, _): &(&str, &str, &str, &str)| {
                *file == name && *param == case.param && *input == case.input
            };
            let input = unescape(&case.input);
            let verdict = ask(folder, name, &case.param, &input);
            let expected = Ok(case.ret == 1);
            if (verdict == expected) != EXCEPTIONS.iter().any(excepted) {
                passed += 1;
            } else {
                failures.push(format!(
                    "{name} {:?} {:?}: expected {expected:?}, got {verdict:?}",
                    case.param, case.input
                ));
            }
        }
    }
    let total = passed + skipped + failures.len();
    suite("operator vectors", &format!("{passed} of {total} passed, {skipped} are skipped"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(total, 3_934);
}
