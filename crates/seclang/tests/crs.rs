//! The OWASP Core Rule Set, as it is published, holds no syntax error for us.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis_diag::SourceMap;
use portcullis_seclang::{Directive, DirectiveKind, Disk, load, parse};

fn crs() -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs"));
    if !path.is_dir() {
        eprintln!("SKIPPED: no CRS at {}", path.display());
        return None;
    }
    Some(path.to_owned())
}

/// Every span of a directive lies in its source, on character boundaries, and texts without
/// escapes stand there as they are.
fn check_spans(sources: &SourceMap, directive: &Directive) {
    let whole = sources.text(directive.span);
    assert!(whole.starts_with(&*directive.name), "{directive:?}");
    if let DirectiveKind::Rule(rule) = &directive.kind {
        for variable in &rule.variables {
            assert_eq!(sources.text(variable.name.span), &*variable.name);
        }
        for action in &rule.actions.items {
            assert!(sources.text(action.span).starts_with(&*action.name));
        }
        let argument = &rule.operator.argument;
        for (at, character) in argument.char_indices() {
            let place = argument.locate(at..at + character.len_utf8());
            assert_eq!(sources.text(place), character.to_string(), "{argument:?} at {at}");
        }
    }
}

#[test]
fn parses_without_a_finding() {
    let Some(crs) = crs() else { return };
    let mut sources = SourceMap::new();
    let loaded = load(&[crs.join("crs-setup.conf.example"), crs.join("rules/*.conf")], &Disk, &mut sources);
    assert_eq!(loaded.diagnostics.to_text(&sources), "");
    assert_eq!(loaded.files.len(), 1 + 27);
    let rules = loaded.directives.iter().filter(|d| matches!(d.kind, DirectiveKind::Rule(_))).count();
    assert!(rules > 600, "{rules}");
    for directive in &loaded.directives {
        check_spans(&sources, directive);
    }
}

#[test]
fn prints_to_the_same_tree() {
    let Some(crs) = crs() else { return };
    let mut sources = SourceMap::new();
    let loaded = load(&[crs.join("rules/*.conf")], &Disk, &mut sources);
    for directive in &loaded.directives {
        let printed = directive.to_string();
        let mut again = SourceMap::new();
        let id = again.add("printed", printed.clone());
        let parsed = parse(&again, id);
        assert_eq!(parsed.diagnostics.to_text(&again), "");
        assert_eq!(parsed.directives.len(), 1);
        assert_eq!(parsed.directives[0].to_string(), printed);
    }
}

#[test]
fn the_examples_commented_parts_parse_too() {
    let Some(crs) = crs() else { return };
    let text = std::fs::read_to_string(crs.join("crs-setup.conf.example")).unwrap();
    // A commented-out directive is `#Sec…` with its continued lines.
    let mut open = false;
    let mut uncommented = String::new();
    for line in text.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line).trim_start();
        if open || bare.starts_with("Sec") && bare.ends_with(['\\', '"']) {
            uncommented.push_str(bare);
            open = bare.ends_with('\\');
        }
        uncommented.push('\n');
    }
    let mut sources = SourceMap::new();
    let id = sources.add("crs-setup.conf", uncommented);
    let parsed = parse(&sources, id);
    assert_eq!(parsed.diagnostics.to_text(&sources), "");
    assert!(parsed.directives.len() > 25, "{}", parsed.directives.len());
}

#[test]
fn carriage_returns_change_nothing() {
    let Some(crs) = crs() else { return };
    let text = std::fs::read_to_string(crs.join("rules/REQUEST-942-APPLICATION-ATTACK-SQLI.conf")).unwrap();
    let print = |text: String| {
        let mut sources = SourceMap::new();
        let id = sources.add("942", text);
        let parsed = parse(&sources, id);
        assert!(parsed.diagnostics.is_empty());
        parsed.directives.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(print(text.replace('\n', "\r\n")), print(text));
}

/// Not a benchmark but a guard: work that grows with the square of the input shows here.
#[test]
fn a_megabyte_is_parsed_in_no_time() {
    let Some(crs) = crs() else { return };
    let text = std::fs::read_to_string(crs.join("rules/REQUEST-942-APPLICATION-ATTACK-SQLI.conf")).unwrap();
    let text = text.repeat((1 << 20) / text.len() + 1);
    let mut sources = SourceMap::new();
    let id = sources.add("big", text);
    let start = Instant::now();
    let parsed = parse(&sources, id);
    let took = start.elapsed();
    eprintln!("{} directives in {took:?}", parsed.directives.len());
    // Generous: measured 10 to 20 ms; a quadratic parser needs minutes.
    assert!(took < Duration::from_secs(10), "{took:?}");
}
