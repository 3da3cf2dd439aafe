//! The vectors libinjection publishes: tokens, folded tokens, SQL injections and HTML tokens.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::path::Path;

use portcullis_testkit::{absent, suite};
use portcullis_waf::libinjection::{sqli, trace};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/libinjection/tests");

/// The text behind a marker line and before the next, without white space at its end, as the reference reads it.
fn section<'a>(text: &'a [u8], marker: &str, next: &str) -> &'a [u8] {
    let start = memchr::memmem::find(text, marker.as_bytes()).expect(marker) + marker.len();
    let rest = &text[start..];
    let end = memchr::memmem::find(rest, next.as_bytes()).filter(|_| !next.is_empty());
    trim(&rest[..end.unwrap_or(rest.len())])
}

fn trim(text: &[u8]) -> &[u8] {
    let white = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r');
    &text[..text.iter().rposition(|byte| !white(byte)).map_or(0, |last| last + 1)]
}

fn answer(name: &str, input: &[u8]) -> Vec<u8> {
    if name.starts_with("test-tokens-") {
        trace::sqli_tokens(input)
    } else if name.starts_with("test-folding-") {
        trace::sqli_folded(input)
    } else if name.starts_with("test-sqli-") {
        sqli(input).map(|fingerprint| fingerprint.as_bytes().to_vec()).unwrap_or_default()
    } else if name.starts_with("test-html5-") {
        trace::html_tokens(input)
    } else {
        panic!("{name}: unknown sort of test")
    }
}

#[test]
fn vectors() {
    let folder = Path::new(FOLDER);
    if absent(folder) {
        return;
    }
    let (mut total, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read(&path).unwrap();
        let input = section(&text, "--INPUT--\n", "--EXPECTED--\n");
        let expected = section(&text, "--EXPECTED--\n", "");
        let found = answer(name, input);
        total += 1;
        if trim(&found) != expected {
            let show = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
            failures.push(format!(
                "{name} {:?}\nexpected:\n{}\ngot:\n{}",
                show(input),
                show(expected),
                show(&found)
            ));
        }
    }
    suite("libinjection vectors", &format!("{} of {total} passed", total - failures.len()));
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(total >= 480, "only {total} vectors");
}
