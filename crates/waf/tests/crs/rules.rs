//! The rules of CRS, loaded with one or another set-up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_diag::SourceMap;
use portcullis_seclang::{Disk, load};
use portcullis_waf::{FileSystem, Match, Overlay, OverlaySettings, Program, build};

/// CRS, its tests and its set-up, where they are.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");

/// What ModSecurity's recommended configuration has beside CRS: bodies are looked at, and how (rules 200000, 200001 and
/// 200006).
pub(crate) const BODIES: &str = r#"
SecRequestBodyAccess On
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^application/[a-z0-9.-]+[+]json" "id:200006,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
"#;

/// The files of CRS in the order that its documentation has them included: the set-up, then the rules by name.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut files = in_folder(&Path::new(FOLDER).join("rules"));
    files.insert(0, Path::new(FOLDER).join("crs-setup.conf.example"));
    files
}

/// The rule files of a folder, by name.
pub(crate) fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
}

/// CRS as it is, behind these directives.
pub(crate) fn program(before: &str) -> Arc<Program> {
    let mut sources = SourceMap::new();
    let setup = sources.add("setup.conf", before);
    let mut directives = portcullis_seclang::parse(&sources, setup).directives;
    directives.extend(load(&files(), &Disk, &mut sources).directives);
    match build(&directives, &sources, &FileSystem) {
        Ok((program, _)) => Arc::new(program),
        Err(found) => panic!("{}", found.to_text(&sources)),
    }
}

/// ModSecurity's recommended configuration, switched on.
pub(crate) const RECOMMENDED: &str = include_str!("../../benches/peer/recommended.conf");

/// CRS as it comes, blocking: its own set-up unchanged behind ModSecurity's recommended configuration.
pub(crate) fn blocking(extra: &str) -> Arc<Program> {
    program(&format!("{RECOMMENDED}\n{extra}"))
}

/// What a route asks for at a paranoia level.
pub(crate) fn overlay(program: &Program, level: u8) -> Arc<Overlay> {
    let settings = OverlaySettings { paranoia: Some(level), ..OverlaySettings::default() };
    Arc::new(Overlay::compile(program, &settings).unwrap())
}

/// The level that a match belongs to, by its tag.
pub(crate) fn level(found: &Match) -> u8 {
    let level = found.tags.iter().find_map(|tag| tag.strip_prefix("paranoia-level/"));
    level.map_or(1, |level| level.parse().unwrap())
}

/// What a match adds to the score, as `crs-setup.conf.example` has it for each severity.
pub(crate) fn score(found: &Match) -> i64 {
    match found.severity {
        Some(2) => 5,
        Some(3) => 4,
        Some(4) => 3,
        Some(5) => 2,
        _ => 0,
    }
}
