//! Wrong files and what is said about them: `testdata/errors/NAME.toml` with `NAME.out`.
//! `UPDATE=1 cargo test -p portcullis-config --test errors` writes the outputs; read them before committing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use portcullis_config::{load, parse};
use portcullis_diag::SourceMap;
use proptest::prelude::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/errors")
}

fn env(name: &str) -> Option<String> {
    (name == "SET").then(|| "value".to_owned())
}

/// What is printed for a file: its findings, or its warnings and that it holds.
fn outcome(path: &Path) -> String {
    let mut sources = SourceMap::new();
    let text = match load(path, &mut sources, &env) {
        Ok(loaded) => format!("{}(accepted)\n", loaded.warnings.to_text(&sources)),
        Err(found) => format!("{}\n{}\n", found.to_text(&sources), found.summary()),
    };
    let folder = folder().display().to_string();
    text.replace(&format!("{folder}/"), "").replace(&folder, ".")
}

#[test]
fn wrong_files() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut files: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 20, "{}", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let expected = file.with_extension("out");
        let actual = outcome(&file);
        if update {
            std::fs::write(&expected, &actual).unwrap();
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != actual {
            wrong.push(format!("{}:\n{actual}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_absent_file_is_named() {
    let mut sources = SourceMap::new();
    let found = load(Path::new("/nonexistent/gateway.toml"), &mut sources, &env).unwrap_err();
    assert!(found.to_text(&sources).contains("/nonexistent/gateway.toml"));
}

#[test]
fn secrets_are_not_printed() {
    let mut sources = SourceMap::new();
    let text = "
[[listener]]
name = 'a'
address = '0.0.0.0:1'
[identity.i]
issuer = 'i'
audiences = ['a']
algorithms = ['HS256', 'RS256']
keys = [
  { algorithm = 'HS256', secret = 'hunter2' },
  { algorithm = 'RS256', secret = 'hunter2' },
  { algorithm = 'HS256', secret = 'hunter2-hunter2-hunter2-hunter2-hunter2' },
  { algorithm = 'HS256', kid = 1, secrett = 'hunter2' },
]
";
    let found = parse("gateway.toml", text, &mut sources, &env).unwrap_err();
    assert_eq!(found.error_count(), 7, "{}", found.to_text(&sources));
    assert!(!found.to_text(&sources).contains("hunter2"), "{}", found.to_text(&sources));
}

/// Found by fuzzing: behind what is never closed, a key stands in no table of the document.
#[test]
fn secrets_are_not_printed_of_a_text_that_breaks_off() {
    let key = "\n[[identity.i.keys]]\nalgorithm = \"HS256\"\n";
    for broken in ["allow = [", "a = { b = [", "a = \"\"\"", "[[route", "= ", "a = '", "x = \"\\u"] {
        for secret in [
            "secret = \"hunter2 hunter2\"",
            "secret = hunter2",
            "\"secret\" =\t'hunter2'",
            "k = { secret = 'a', kid = 'b' }, { secret = 'hunter2' }",
            "secret = \"\"\"\nhunter2\n\"\"\"\n[",
            "secret = '''hunter2\nhunter2",
            "secret = [\"hunter2\"",
        ] {
            let mut sources = SourceMap::new();
            let text = format!("{broken}{key}{secret}");
            let found = parse("gateway.toml", &text, &mut sources, &env).unwrap_err();
            let shown = found.to_text(&sources);
            assert!(!shown.contains("hunter2"), "{text}:\n{shown}");
        }
    }
}

#[test]
fn what_is_not_utf_8_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    std::fs::write(&path, b"\n\n# \xff").unwrap();
    let mut sources = SourceMap::new();
    let found = load(&path, &mut sources, &env).unwrap_err();
    assert!(found.to_text(&sources).contains("line 3 is not UTF-8"));
}

/// Words that lead deep into the walk and the checks.
const WORDS: &[&str] = &[
    "[[route]]\n",
    "[[listener]]\n",
    "[upstream.a]\n",
    "[identity.i]\n",
    "[firewall]\n",
    "[route.compose]\n",
    "[[route.compose.part]]\n",
    "[route.auth]\n",
    "name = \"a\"\n",
    "address = \"127.0.0.1:1\"\n",
    "match = { path = \"/a/{b}\", methods = [\"GET\"] }\n",
    "upstream = \"a\"\n",
    "upstream = 1\n",
    "rewrite = \"/{c}\"\n",
    "endpoints = [{ address = \"a:1\" }, 3]\n",
    "path = \"/{b}\"\n",
    "issuer = \"${SET}\"\n",
    "keys = [{}]\n",
    "algorithms = [\"HS256\"]\n",
    "providers = [\"i\", \"j\"]\n",
    "required = false\n",
    "scopes = []\n",
    "é = 'é'\n",
    "paranoia = -9223372036854775808\n",
    "rules = [\"${\"]\n",
    "max_head = 0xffff_ffff_ffff_ffff\n",
    "a.b.c = 1\n",
];

proptest! {
    #[test]
    fn any_text_is_accepted_or_refused(text in "\\PC*") {
        let mut sources = SourceMap::new();
        if let Err(found) = parse("any", &text, &mut sources, &env) {
            prop_assert!(found.has_errors());
            prop_assert!(!found.to_text(&sources).is_empty());
        }
    }

    #[test]
    fn any_mix_of_tables_is_accepted_or_refused(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..24)) {
        let mut sources = SourceMap::new();
        if let Err(found) = parse("any", &words.concat(), &mut sources, &env) {
            prop_assert!(found.has_errors());
            prop_assert!(!found.to_text(&sources).contains("does not fit"), "{}", found.to_text(&sources));
        }
    }
}
