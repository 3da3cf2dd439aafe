//! The transformation vectors of ModSecurity and Coraza.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::path::Path;

use portcullis_testkit::{absent, suite};
use portcullis_waf::transform::{Changed, Transform, apply};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    input: String,
    output: String,
}

/// Cases where this engine answers otherwise on purpose: file, input, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// The files hold `\xHH` and `\u00HH` escapes inside JSON strings; everything else is as it is.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let escape = match rest {
            [b'\\', b'x', a, b, ..] => hex(&[*a, *b]).map(|byte| (byte, 4)),
            [b'\\', b'u', b'0', b'0', a, b, ..] => hex(&[*a, *b]).map(|byte| (byte, 6)),
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
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/seclang-vectors/transformations"
    ));
    if absent(folder) {
        return;
    }
    let (mut passed, mut excepted, mut failures) = (0, 0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for case in cases {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let transform = Transform::by_name(name).unwrap_or_else(|| panic!("{name} is missing"));
            let (input, expected) = (unescape(&case.input), unescape(&case.output));
            let mut out = Vec::new();
            if apply(transform, &input, &mut out) == Changed::No {
                out.clone_from(&input);
            }
            if EXCEPTIONS.iter().any(|(file, text, _)| *file == name && *text == case.input) {
                assert_ne!(out, expected, "{} {:?} needs no exception any more", name, case.input);
                excepted += 1;
            } else if out == expected {
                passed += 1;
            } else {
                failures.push(format!(
                    "{} {:?}\n  expected {}\n  got      {}",
                    name,
                    case.input,
                    expected.escape_ascii(),
                    out.escape_ascii()
                ));
            }
        }
    }
    let counts = format!("{passed} passed, {excepted} exceptions, {} failed", failures.len());
    suite("transformation vectors", &counts);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(passed + excepted, 358);
}
