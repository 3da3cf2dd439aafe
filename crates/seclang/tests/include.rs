//! Files that include files, on a real file system.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use portcullis_diag::SourceMap;
use portcullis_seclang::{Disk, Loaded, load};

fn write(directory: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Loads `main.conf` and shows the directives and the findings, with the directory as `DIR`.
fn run(files: &[(&str, &str)]) -> (Vec<String>, String, Loaded) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), files);
    let mut sources = SourceMap::new();
    let loaded = load(&[directory.path().join("main.conf")], &Disk, &mut sources);
    let text = loaded.diagnostics.to_text(&sources).replace(directory.path().to_str().unwrap(), "DIR");
    (loaded.directives.iter().map(ToString::to_string).collect(), text, loaded)
}

#[test]
fn globs_are_sorted_and_relative_to_their_file() {
    let (directives, findings, loaded) = run(&[
        (
            "main.conf",
            "Include a/*.conf\nSecMarker END\nIncludeOptional none/*.conf\nIncludeOptional gone.conf\n",
        ),
        ("a/2.conf", "SecMarker two\n"),
        ("a/1.conf", "SecMarker one\nInclude ../b/[x-z]?.conf\n"),
        ("a/1.conf.bak", "noise"),
        ("b/y1.conf", "SecMarker y\n"),
        ("b/a1.conf", "SecMarker a\n"),
    ]);
    assert_eq!(findings, "");
    assert_eq!(directives, ["SecMarker one", "SecMarker y", "SecMarker two", "SecMarker END"]);
    assert_eq!(loaded.files.len(), 4);
}

#[test]
fn what_cannot_be_included_is_reported_where_it_is_included() {
    let (_, findings, _) = run(&[
        (
            "main.conf",
            "Include gone.conf\nInclude *.none\nInclude none/*.conf\nInclude main.conf\nInclude a.conf\nInclude dir\n",
        ),
        ("a.conf", "Include main.conf\n"),
        ("dir/x", ""),
    ]);
    insta::assert_snapshot!(findings);
}

#[test]
fn includes_do_not_nest_or_multiply_for_ever() {
    let deep: Vec<(String, String)> =
        (0..120).map(|n| (format!("f{n}.conf"), format!("Include f{}.conf\n", n + 1))).collect();
    let mut files: Vec<(&str, &str)> =
        deep.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files.push(("main.conf", "Include f0.conf\n"));
    let (_, findings, loaded) = run(&files);
    assert!(findings.contains("SEC0022"), "{findings}");
    assert_eq!((loaded.diagnostics.len(), loaded.files.len()), (1, 100));

    let doubling: Vec<(String, String)> = (0..20)
        .map(|n| (format!("f{n}.conf"), format!("Include f{0}.conf\nInclude f{0}.conf\n", n + 1)))
        .chain([("f20.conf".to_owned(), String::new())])
        .collect();
    let mut files: Vec<(&str, &str)> =
        doubling.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files.push(("main.conf", "Include f0.conf\n"));
    let (_, findings, loaded) = run(&files);
    assert!(findings.contains("SEC0023"), "{findings}");
    assert_eq!(loaded.diagnostics.len(), 1);
}

#[test]
fn a_file_given_by_the_operator_has_no_place_to_point_at() {
    let mut sources = SourceMap::new();
    let loaded = load(&["/nonexistent/rules.conf", "/nonexistent/*.conf"], &Disk, &mut sources);
    insta::assert_snapshot!(loaded.diagnostics.to_text(&sources), @r"
    error[SEC0021]: cannot read /nonexistent/rules.conf: No such file or directory (os error 2)

    error[SEC0020]: cannot read the directory /nonexistent: No such file or directory (os error 2)
    ");
}
