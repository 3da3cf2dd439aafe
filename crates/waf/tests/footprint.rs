//! What a request and a program take in memory. Allocations are counted, so nothing else on the machine matters.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

#[path = "../benches/corpus/mod.rs"]
mod corpus;

use std::path::Path;
use std::sync::Arc;

use allocation_counter::measure;
use portcullis_diag::SourceMap;
use portcullis_seclang::{Disk, load};
use portcullis_waf::{
    ExclusionSettings, FileSystem, Overlay, OverlaySettings, Program, RuleSelection, Transaction, build,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");

fn crs() -> Option<Program> {
    let folder = Path::new(FOLDER);
    if !folder.is_dir() {
        eprintln!("SKIPPED: {FOLDER} is absent");
        return None;
    }
    let files = std::fs::read_dir(folder.join("rules")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    files.sort();
    files.insert(0, folder.join("crs-setup.conf.example"));
    files.insert(0, Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/recommended.conf"));
    let mut sources = SourceMap::new();
    let directives = load(&files, &Disk, &mut sources).directives;
    Some(
        build(&directives, &sources, &FileSystem)
            .unwrap_or_else(|found| panic!("{}", found.to_text(&sources)))
            .0,
    )
}

fn run(program: &Arc<Program>, overlay: &Arc<Overlay>, request: &corpus::Request) -> usize {
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "0194c1f2a7");
    transaction.connection([192, 0, 2, 7].into(), 40000, [192, 0, 2, 1].into(), 443);
    transaction.request_line(request.method.as_bytes(), request.uri.as_bytes(), b"HTTP/1.1");
    for (name, value) in &request.headers {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    transaction.check_request_headers();
    transaction.write_request_body(&request.body);
    transaction.check_request_body();
    transaction.finish().matches.len()
}

/// The bounds of the published table: at most 20 allocations for an ordinary request, 30 MB for CRS, 50 kB for each
/// further route.
#[test]
fn crs_and_its_requests_keep_their_bounds() {
    let mut program = None;
    let memory = measure(|| program = crs());
    let Some(program) = program.map(Arc::new) else { return };
    eprintln!("CRS: {} kB", memory.bytes_current / 1000);
    assert!(memory.bytes_current <= 30_000_000, "{}", memory.bytes_current);

    let exclusion = ExclusionSettings {
        rules: RuleSelection::Tag("attack-sqli".to_owned()),
        target: Some("ARGS:/^note_\\d+$/".to_owned()),
    };
    let mut settings = OverlaySettings { paranoia: Some(2), ..OverlaySettings::default() };
    settings.exclusions.push(exclusion);
    let mut overlay = None;
    let memory = measure(|| overlay = Some(Overlay::compile(&program, &settings).unwrap()));
    eprintln!("a route: {} bytes", memory.bytes_current);
    assert!(memory.bytes_current < 50_000, "{}", memory.bytes_current);

    let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
    for request in corpus::requests().iter().filter(|request| request.expect == "pass") {
        // Buffers and the lazy automata of patterns grow with the first requests.
        for _ in 0..3 {
            assert_eq!(run(&program, &overlay, request), 0, "{}", request.id);
        }
        let memory = measure(|| {
            run(&program, &overlay, request);
        });
        eprintln!("{} ({}): {} allocations", request.id, request.class, memory.count_total);
        assert!(memory.count_total <= 20, "{}: {}", request.id, memory.count_total);
    }
}
