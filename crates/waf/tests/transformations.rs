//! The transformation vectors of ModSecurity and Coraza.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::path::Path;

use portcullis_waf::transform::{Changed, Transform, apply};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    input: String,
    output: String,
}

/// Cases where this engine answers otherwise on purpose: file, input, reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// The files hold `\xHH` escapes inside JSON strings; with one of them, the whole string is read as a Go literal.
fn unescape(text: &str) -> Vec<u8> {
    let text = text.replace("\\u0000", "\0");
    if !text.contains("\\x") {
        return text.into_bytes();
    }
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        rest = tail;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        let (byte, used) = match tail {
            [b'x', a, b, ..] => (hex(&[*a, *b]).unwrap(), 3),
            [b'a', ..] => (7, 1),
            [b'b', ..] => (8, 1),
            [b'f', ..] => (12, 1),
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'v', ..] => (11, 1),
            [other, ..] => (*other, 1),
            [] => (b'\\', 0),
        };
        out.push(byte);
        rest = &tail[used..];
    }
    out
}

#[test]
fn vectors() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/seclang-vectors/transformations"
    ));
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is absent", folder.display());
        return;
    }
    let (mut passed, mut excepted, mut failures) = (0, 0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for case in cases {
            let transform =
                Transform::by_name(&case.name).unwrap_or_else(|| panic!("{} is missing", case.name));
            let (input, expected) = (unescape(&case.input), unescape(&case.output));
            let mut out = Vec::new();
            if apply(transform, &input, &mut out) == Changed::No {
                out.clone_from(&input);
            }
            if EXCEPTIONS.iter().any(|(name, text, _)| *name == case.name && *text == case.input) {
                assert_ne!(out, expected, "{} {:?} needs no exception any more", case.name, case.input);
                excepted += 1;
            } else if out == expected {
                passed += 1;
            } else {
                failures.push(format!(
                    "{} {:?}\n  expected {}\n  got      {}",
                    case.name,
                    case.input,
                    expected.escape_ascii(),
                    out.escape_ascii()
                ));
            }
        }
    }
    eprintln!("transformation vectors: {passed} passed, {excepted} excepted, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(passed + excepted, 358);
}
