//! What people are told about the language is what there is: the reference page, and the tests it points to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;

use portcullis_diag::SourceMap;
use portcullis_waf::{
    DIVERGENCES, FileSystem, Overlay, OverlaySettings, Transaction, build, reference, transform,
};

#[test]
fn the_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/seclang.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == reference(), "docs/seclang.md is not current; UPDATE=1 writes it anew");
}

#[test]
fn every_divergence_has_its_test() {
    for point in DIVERGENCES {
        let (file, function) = point.test;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains(&format!("#[test]\nfn {function}()")),
            "{}: {file} has no test {function}",
            point.topic
        );
    }
}

/// The rules that match a request of this target.
fn matching(rules: &str, target: &str) -> Vec<u32> {
    let mut sources = SourceMap::new();
    let file = sources.add("test.conf", rules);
    let parsed = portcullis_seclang::parse(&sources, file);
    let (program, _) = build(&parsed.directives, &sources, &FileSystem).unwrap();
    let program = Arc::new(program);
    let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
    let mut transaction = Transaction::new(program, overlay, "id-1");
    transaction.request_line(b"GET", target.as_bytes(), b"HTTP/1.1");
    transaction.check_request_headers();
    transaction.check_request_body();
    transaction.finish().matches.iter().map(|found| found.rule_id).collect()
}

#[test]
fn patterns_see_the_value_not_its_lines() {
    let rules = r#"
        SecRule ARGS "@rx ^b" "id:1,pass"
        SecRule ARGS "@rx a$" "id:2,pass"
        SecRule ARGS "@rx ^a.b$" "id:3,pass"
    "#;
    assert_eq!(matching(rules, "/?q=a%0ab"), [3]);
    assert!(matching(rules, "/?q=a%0a").is_empty());
}

#[test]
fn a_broken_path_hides_no_arguments() {
    let rules = r#"SecRule ARGS:q "@streq x" "id:1,pass""#;
    for target in ["/%zz?q=x", "/a%?q=x", "//[::?q=x", "http://[::?q=x", "/\\%c0%af?q=x"] {
        assert_eq!(matching(rules, target), [1], "{target}");
    }
}

#[test]
fn base64_keeps_what_precedes_a_wrong_byte() {
    let decode = transform::Transform::by_name("base64Decode").unwrap();
    let mut out = Vec::new();
    transform::apply(decode, b"YWJj!ZGVm", &mut out);
    assert_eq!(out, b"abc");
}

#[test]
fn patterns_look_around() {
    let rules = r#"
        SecRule ARGS "@rx (?<!p)as(?!cal)" "id:1,pass"
        SecRule ARGS "@rx \b(\w+)\b = \b\1\b" "id:2,pass"
        SecRule ARGS "@rx ^s++s" "id:3,pass"
    "#;
    assert_eq!(matching(rules, "/?q=ass"), [1]);
    assert_eq!(matching(rules, "/?q=pascal"), [0; 0]);
    assert_eq!(matching(rules, "/?q=x+=+x"), [2]);
    assert_eq!(matching(rules, "/?q=x+=+xy"), [0; 0]);
    assert_eq!(matching(rules, "/?q=sss"), [0; 0]);
}

#[test]
fn global_patterns_capture_the_first_match() {
    let rules = r#"
        SecRule ARGS "@rxGlobal a(.)" "id:1,pass,capture,chain"
            SecRule TX:1 "@streq x" ""
    "#;
    assert_eq!(matching(rules, "/?q=axay"), [1]);
    assert_eq!(matching(rules, "/?q=ayax"), [0; 0]);
}
