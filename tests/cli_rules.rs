//! `portcullis rules`: what its commands print, where, and with which exit code they end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const CRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");

/// What a command did.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `portcullis rules` in a folder, with the shell's words for its arguments.
fn rules(folder: impl AsRef<Path>, arguments: &str) -> Done {
    let output = Command::new(BINARY)
        .arg("rules")
        .args(arguments.split_ascii_whitespace())
        .current_dir(folder.as_ref())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

const SOUND: &str = "SecRuleEngine On\n\
    SecRule ARGS \"@contains evil\" \"id:7,phase:2,deny,status:406,log,msg:'Evil',logdata:'%{MATCHED_VAR}'\"\n\
    SecRule RESPONSE_STATUS \"@streq 500\" \"id:8,phase:3,pass,log,msg:'Broken'\"\n";

#[test]
fn check_needs_no_configuration_and_says_all_that_is_wrong() {
    let sound = folder(&[("own/a.conf", SOUND), ("own/b.conf", "SecAction \"id:9,phase:1,pass,nolog\"\n")]);
    for paths in ["own/a.conf own/b.conf", "own", "own/*.conf"] {
        let done = rules(&sound, &format!("check {paths}"));
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{paths}");
        assert_eq!(done.out, "3 rules: 0 errors, 0 warnings\n", "{paths}");
    }
    let bad =
        "SecRule ARGS \"@contians x\" \"id:1,phase:2,deny\"\nSecRule ARGZ \"@rx x\" \"id:2,phase:2,deny\"\n";
    let bad = folder(&[("bad.conf", bad)]);
    let done = rules(&bad, "check bad.conf");
    assert_eq!((done.code, done.out.as_str()), (Some(1), "no program: 2 errors, 0 warnings\n"));
    for said in ["bad.conf:1:16", "did you mean `contains`", "bad.conf:2:9", "ARGZ"] {
        assert!(done.err.contains(said), "{said}: {}", done.err);
    }
    let done = rules(&bad, "check absent.conf");
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("absent.conf"), "{}", done.err);
    assert_eq!(rules(&bad, "check").code, Some(2));
}

/// What cannot be supported is an error, or a warning where that is asked for; the rest is in force.
#[test]
fn unsupported_rules_are_refused_or_left_out() {
    let script = "SecRule ARGS \"@inspectFile x.lua\" \"id:1,phase:2,deny\"\n";
    let folder = folder(&[
        ("a.conf", &format!("{script}{SOUND}")),
        ("t.yaml", TESTS),
        ("corpus.jsonl", CORPUS.lines().next().unwrap()),
    ]);
    let (said, left_out) = ("a.conf:1:", "rule 1");
    for command in [
        "check a.conf",
        "list a.conf",
        "dump a.conf",
        "test t.yaml --rules a.conf",
        "bench --corpus corpus.jsonl --rules a.conf --milliseconds 0 --rounds 1",
        "explain --curl http://a/?q=evil --rules a.conf",
        "suggest-exclusion --curl http://a/?q=evil --rules a.conf",
    ] {
        let done = rules(&folder, command);
        assert_eq!(done.code, Some(1), "{command}");
        assert!(done.err.contains(said), "{command}: {}", done.err);
        let done = rules(&folder, &format!("{command} --allow-unsupported"));
        assert_eq!(done.code, Some(0), "{command}: {}", done.err);
        assert!(done.err.contains(said) && done.err.contains(left_out), "{command}: {}", done.err);
    }
}

#[test]
fn dump_shows_the_compiled_program() {
    let folder = folder(&[("a.conf", SOUND)]);
    let done = rules(&folder, "dump a.conf");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    for said in ["settings ", "lane#0 ", "rule 7 a.conf:2", "@contains evil", "rule 8 a.conf:3"] {
        assert!(done.out.contains(said), "{said}: {}", done.out);
    }
    let ours = rules(ROOT, "dump -c gateway.toml");
    assert_eq!(ours.code, Some(0), "{}", ours.err);
    assert!(ours.out.contains("rule 1020110 "));
    assert_eq!(rules(&folder, "dump").code, Some(1), "there is no gateway.toml");
}

const TESTS: &str = r#"
rule_id: 7
tests:
  - test_id: 1
    desc: an argument
    stages:
      - input: { uri: "/?q=evil", headers: { Host: a } }
        output: { log: { expect_ids: [7], no_expect_ids: [8], match_regex: 'data "evil"' } }
      - input: { uri: "/?q=good", headers: { Host: a } }
        output: { log: { no_expect_ids: [7] } }
  - test_id: 2
    desc: a body
    stages:
      - input: { method: POST, data: "q=evil", headers: { Host: a } }
        output: { status: 406 }
  - test_id: 3
    desc: a response
    stages:
      - input: { method: POST, uri: /reflect, data: '{"status":500}', headers: { Host: a, Content-Type: application/json } }
        output: { log: { expect_ids: [8] } }
  - test_id: 4
    desc: the connection fails
    stages:
      - input: { headers: { Host: a } }
        output: { expect_error: true }
"#;
/// Two lengths, of which a server drops one, and a field that it refuses.
const SERVED: &str = r#"
tests:
  - test_id: 1
    stages:
      - input: { headers: { Host: a, Content-Length: "0", Transfer-Encoding: chunked } }
        output: { log: { expect_ids: [7] } }
  - test_id: 2
    stages:
      - input: { headers: { Host: a, X: "a\rb" } }
        output: { status: 400 }
"#;

#[test]
fn tests_are_counted_and_those_that_fail_say_why() {
    let wrong = TESTS.replace("expect_ids: [8] }", "expect_ids: [9] }").replace("status: 406", "status: 403");
    let folder = folder(&[
        ("a.conf", SOUND),
        ("good/7.yaml", TESTS),
        ("wrong/7.yaml", &wrong),
        ("broken/7.yaml", "rule_id: [7]"),
        ("broken/README.md", "no test"),
        ("none/README.md", "no test"),
    ]);
    let done = rules(&folder, "test good --rules a.conf");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{}", done.out);
    assert_eq!(
        done.out,
        "skip good/7.yaml test 4: it expects nothing that rules decide\n3 passed, 0 failed, 1 skipped\n"
    );
    let done = rules(&folder, "test --rules a.conf good wrong/7.yaml");
    assert_eq!((done.code, done.err.as_str()), (Some(1), "2 tests failed\n"), "{}", done.out);
    for said in [
        "FAIL wrong/7.yaml test 2: status 406 instead of 403 (fired: 7)\n     a body\n",
        "FAIL wrong/7.yaml test 3: 9 did not fire (fired: 8)\n     a response\n",
    ] {
        assert!(done.out.contains(said), "{said}: {}", done.out);
    }
    assert!(done.out.ends_with("4 passed, 2 failed, 2 skipped\n"), "{}", done.out);
    for (paths, said) in [
        ("broken", "broken/7.yaml: not a file of go-ftw tests"),
        ("none", "not a single test"),
        ("no", "no: "),
    ] {
        let done = rules(&folder, &format!("test {paths} --rules a.conf"));
        assert_eq!(done.code, Some(1), "{paths}");
        assert!(done.err.contains(said), "{paths}: {}", done.err);
    }
}

#[test]
fn requests_are_given_as_they_are_or_as_apache_hands_them_on() {
    let lengths = "SecRule REQUEST_HEADERS:Content-Length \"@rx .\" \"id:7,phase:1,pass,log\"\n";
    let folder = folder(&[("a.conf", lengths), ("t.yaml", SERVED)]);
    let raw = rules(&folder, "test t.yaml --rules a.conf");
    assert!(raw.out.contains("t.yaml test 2: status 200 instead of 400"), "{}", raw.out);
    assert!(raw.out.ends_with("\n1 passed, 1 failed, 0 skipped\n"), "{}", raw.out);
    let served = rules(&folder, "test t.yaml --rules a.conf --as-apache");
    assert!(served.out.contains("t.yaml test 1: 7 did not fire"), "{}", served.out);
    assert!(served.out.ends_with("\n0 passed, 1 failed, 1 skipped\n"), "{}", served.out);
}

#[test]
fn the_shipped_rules_pass_their_tests() {
    let done = rules(ROOT, "test rules/tests");
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert!(done.out.ends_with(" passed, 0 failed, 0 skipped\n"), "{}", done.out);
}

/// What the suite of CRS sets before CRS, and the choice of body processors that it takes as made.
const CRS_SETUP: &str = r#"
SecRuleEngine DetectionOnly
SecRequestBodyAccess On
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^application/[a-z0-9.-]+[+]json" "id:200006,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecAction "id:900005,phase:1,nolog,pass,ctl:ruleEngine=DetectionOnly,ctl:ruleRemoveById=910000,setvar:tx.blocking_paranoia_level=4,setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.arg_name_length=100,setvar:tx.arg_length=400,setvar:tx.total_arg_length=64000,setvar:tx.max_num_args=255,setvar:tx.max_file_size=64100,setvar:tx.combined_file_sizes=65535"
"#;

/// 21 of the tests expect nothing but a status of Apache's, or that the connection fails.
#[test]
fn crs_passes_its_own_tests() {
    if !Path::new(CRS).is_dir() {
        eprintln!("SKIPPED: {CRS} is absent");
        return;
    }
    let folder = folder(&[("setup.conf", CRS_SETUP)]);
    let files = format!("--rules setup.conf --rules {CRS}/crs-setup.conf.example --rules {CRS}/rules");
    let done = rules(&folder, &format!("test --as-apache {CRS}/tests {files}"));
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert!(done.out.ends_with(" passed, 0 failed, 21 skipped\n"), "{}", done.out);
}

const CORPUS: &str = r#"{"id": "good", "class": "get", "expect": "pass", "method": "GET", "uri": "/?q=good", "headers": [["Host", "a"]], "body_b64": ""}
{"id": "evil", "class": "form", "expect": "block", "method": "POST", "uri": "/", "headers": [["Host", "a"], ["Content-Type", "application/x-www-form-urlencoded"], ["Content-Length", "6"]], "body_b64": "cT1ldmls"}
{"id": "missed", "class": "get", "expect": "block", "method": "GET", "uri": "/?q=bad", "headers": [["Host", "a"]], "body_b64": ""}
"#;

#[test]
fn bench_measures_each_entry_and_reports_verdicts_that_differ() {
    let folder = folder(&[("a.conf", SOUND), ("corpus.jsonl", CORPUS), ("bad.jsonl", "{\"id\": 1}\n")]);
    let done =
        rules(&folder, "bench --corpus corpus.jsonl --rules a.conf --milliseconds 1 --rounds 2 --json");
    assert_eq!(done.code, Some(1), "a verdict differs");
    assert_eq!(done.err, "1 of 3 verdicts are not the expected ones:\n  missed is let through\n");
    let results: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (&results["rules"], &results["as_expected"], &results["differing"]),
        (&2.into(), &2.into(), &1.into())
    );
    let entries = results["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    for (entry, (id, status, rule, as_expected)) in entries.iter().zip([
        ("good", 0, Value::Null, true),
        ("evil", 406, Value::from(7), true),
        ("missed", 0, Value::Null, false),
    ]) {
        assert_eq!(entry["id"], id);
        assert_eq!(
            (&entry["status"], &entry["rule"], &entry["as_expected"]),
            (&status.into(), &rule, &as_expected.into())
        );
        let samples: Vec<u64> =
            entry["nanoseconds"].as_array().unwrap().iter().map(|sample| sample.as_u64().unwrap()).collect();
        assert_eq!(samples.len(), 2);
        assert!(samples.iter().all(|sample| *sample > 0) && entry["iterations"].as_u64().unwrap() > 0);
        // Not every machine counts instructions, nor every build allocations.
        for counted in ["instructions", "allocations"] {
            assert!(entry[counted].is_null() || entry[counted].as_u64().unwrap() > 0, "{counted}");
        }
        let least = *samples.iter().min().unwrap() as f64 / 1000.0;
        assert!((entry["microseconds"].as_f64().unwrap() - least).abs() < 0.01);
    }
    let table = rules(&folder, "bench --corpus corpus.jsonl --rules a.conf --milliseconds 0 --rounds 1");
    assert_eq!(table.code, Some(1), "{}", table.err);
    assert!(
        table.out.contains("block 406 by rule 7") && table.out.contains("2 as expected, 1 differ"),
        "{}",
        table.out
    );
    assert_eq!(table.out.matches("DIFFERS").count(), 1, "{}", table.out);
    let bad = rules(&folder, "bench --corpus bad.jsonl --rules a.conf");
    assert_eq!(bad.code, Some(1));
    assert!(bad.err.contains("bad.jsonl:1: "), "{}", bad.err);
    assert_eq!(rules(&folder, "bench --rules a.conf").code, Some(2), "no corpus");
}

/// As the peers' benchmark calls it: three more arguments, lines with tabs, the engine's name on standard error.
#[test]
fn bench_talks_to_scripts_that_compare_engines() {
    let folder = folder(&[("a.conf", SOUND), ("corpus.jsonl", CORPUS)]);
    let done = rules(&folder, "bench --rules a.conf corpus.jsonl 1 3");
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.err.starts_with("portcullis ") && done.err.contains("2 rules"), "{}", done.err);
    let lines: Vec<Vec<&str>> = done.out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(
        lines.iter().map(|line| (line[0], line[1])).collect::<Vec<_>>(),
        [("good", "0"), ("evil", "406"), ("missed", "0")]
    );
    for line in lines {
        assert_eq!(line.len(), 6);
        assert!(line[2..].iter().all(|number| number.parse::<u64>().unwrap() > 0));
    }
    assert_eq!(rules(&folder, "bench --rules a.conf corpus.jsonl 1").code, Some(2));
    let bad = rules(&folder, "bench --rules a.conf corpus.jsonl soon 3");
    assert!(bad.code == Some(1) && bad.err.contains("soon"), "{}", bad.err);
}
