//! How much of OWASP CRS is accepted so far. Informational until all of it is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::path::Path;

use portcullis_diag::{SourceMap, Span};
use portcullis_seclang::{Directive, DirectiveKind, Disk, load};
use portcullis_waf::FileSystem;

#[test]
fn crs_compiles_so_far() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs"));
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is absent", folder.display());
        return;
    }
    let entries = std::fs::read_dir(folder.join("rules")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "conf")).collect();
    files.sort();
    files.insert(0, folder.join("crs-setup.conf.example"));
    let mut sources = SourceMap::new();
    let loaded = load(&files, &Disk, &mut sources);
    let (set, mut found) = portcullis_waf::validate(&loaded.directives);
    found.append(portcullis_waf::compile(set, &sources, &FileSystem).1);

    let is_rule =
        |directive: &&Directive| matches!(directive.kind, DirectiveKind::Rule(_) | DirectiveKind::Action(_));
    let rules: Vec<Span> = loaded.directives.iter().filter(is_rule).map(|directive| directive.span).collect();
    let inside = |outer: &Span, inner: Span| {
        outer.source == inner.source && outer.start <= inner.start && inner.end <= outer.end
    };
    let errors: Vec<_> = found.iter().filter(|finding| finding.is_error()).collect();
    let has_error =
        |rule: &&Span| errors.iter().any(|error| error.span.is_some_and(|span| inside(rule, span)));
    let broken = rules.iter().filter(has_error).count();
    let mut reasons: Vec<String> =
        errors.iter().map(|error| format!("{} {}", error.code, error.message)).collect();
    reasons.sort();
    reasons.dedup();
    eprintln!("CRS: {} of {} rules accepted; not yet: {reasons:#?}", rules.len() - broken, rules.len());
    assert!(rules.len() > 600, "CRS itself is there");
}
