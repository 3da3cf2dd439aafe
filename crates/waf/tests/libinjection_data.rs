//! The tables of the SQL injection detector are those libinjection publishes. `UPDATE=1 cargo test -p portcullis-waf
//! --test libinjection_data` writes them anew from `sqlparse_data.json`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
struct Data {
    keywords: BTreeMap<String, char>,
    fingerprints: Vec<String>,
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/libinjection");
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/libinjection/sqli");

/// The kinds of words, by letter.
const KINDS: &[(char, &str)] = &[
    ('&', "LogicOperator"),
    ('1', "Number"),
    ('A', "Collate"),
    ('B', "Group"),
    ('E', "Expression"),
    ('T', "Statement"),
    ('U', "Union"),
    ('f', "Function"),
    ('k', "Keyword"),
    ('n', "Bareword"),
    ('o', "Operator"),
    ('t', "SqlType"),
    ('v', "Variable"),
];

/// What stands before a table: what it is, where it is from, and the licence it is under.
fn header(what: &str, licence: &str) -> String {
    let mut text =
        format!("//! {what}\n//!\n//! Written by `tests/libinjection_data.rs` from libinjection's\n");
    text.push_str("//! `sqlparse_data.json`; do not edit. The data are under the licence below.\n\n");
    for line in licence.trim_end().lines() {
        writeln!(text, "{}", format!("// {line}").trim_end()).unwrap();
    }
    text
}

/// How long the lines of a table may be, without indent and line break.
const WIDTH: usize = 100;

/// A string literal over several lines, broken only behind `separator`.
fn literal(items: impl Iterator<Item = String>, separator: char, indent: &str) -> String {
    let (mut text, mut column) = (String::from("\""), WIDTH);
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(separator);
        }
        if column + item.len() >= WIDTH {
            write!(text, "\\\n{indent}").unwrap();
            column = 0;
        }
        column += item.len() + 1;
        text.push_str(&item);
    }
    text + "\""
}

fn keyword_source(data: &Data, licence: &str) -> String {
    let mut text = header("Keywords, functions, operators and phrases of SQL, by kind.", licence);
    text.push_str("\nuse super::token::Kind;\n\n/// How many words there are.\n");
    writeln!(text, "pub(super) const COUNT: usize = {};", data.keywords.len()).unwrap();
    text.push_str("\n/// The words of each kind, in upper case, separated by commas.\n#[rustfmt::skip]\n");
    text.push_str("pub(super) const KEYWORDS: &[(Kind, &str)] = &[\n");
    for (letter, kind) in KINDS {
        let words = data.keywords.iter().filter(|(_, of)| *of == letter).map(|(word, _)| word.clone());
        writeln!(text, "    (Kind::{kind}, {}),", literal(words, ',', "        ")).unwrap();
    }
    text + "];\n"
}

fn fingerprint_source(data: &Data, licence: &str) -> String {
    let known: BTreeSet<String> = data.fingerprints.iter().map(|text| text.to_ascii_uppercase()).collect();
    let mut text = header("The fingerprints of SQL injections.", licence);
    writeln!(text, "\n/// How many there are.\npub(super) const COUNT: usize = {};", known.len()).unwrap();
    text.push_str("\n/// All, in upper case, sorted, separated by blanks.\n#[rustfmt::skip]\n");
    let list = literal(known.into_iter(), ' ', "    ");
    writeln!(text, "pub(super) const FINGERPRINTS: &str = {list};").unwrap();
    text
}

#[test]
fn tables_are_the_published_ones() {
    let folder = Path::new(FOLDER);
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is absent", folder.display());
        return;
    }
    let data: Data =
        serde_json::from_slice(&std::fs::read(folder.join("sqlparse_data.json")).unwrap()).unwrap();
    let licence = std::fs::read_to_string(folder.join("COPYING")).unwrap();
    assert!(data.keywords.values().all(|letter| KINDS.iter().any(|(known, _)| known == letter)));
    for (name, source) in [
        ("keyword_data.rs", keyword_source(&data, &licence)),
        ("fingerprint_data.rs", fingerprint_source(&data, &licence)),
    ] {
        let path = Path::new(SOURCES).join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &source).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap() == source, "{} is not up to date", path.display());
    }
}
