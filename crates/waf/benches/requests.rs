//! What the firewall costs a request, from the making of the transaction to its report: `cargo bench -p portcullis-waf`,
//! or with `-- "CRS PL1"` a part of it. Prints the best of several rounds, because that is what a shared machine
//! disturbs least; and how often a request allocates, which nothing disturbs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod corpus;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use portcullis_diag::SourceMap;
use portcullis_seclang::{Disk, load, parse};
use portcullis_waf::{FileSystem, Overlay, OverlaySettings, Program, Transaction, build};

fn rule_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
}

/// What the recommended configuration says about bodies, which CRS leaves to whoever sets the engine up.
const BODIES: &str = r#"
SecRequestBodyAccess On
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
"#;

fn compile(files: &[PathBuf], extra: &str) -> Program {
    let mut sources = SourceMap::new();
    let extra = sources.add("extra.conf", extra);
    let mut directives = parse(&sources, extra).directives;
    directives.extend(load(files, &Disk, &mut sources).directives);
    build(&directives, &sources, &FileSystem).unwrap_or_else(|found| panic!("{}", found.to_text(&sources))).0
}

/// Loads the rules a few times: says how long that takes, what the program keeps, and what one more route adds.
fn loaded(files: &[PathBuf], extra: &str) -> Arc<Program> {
    let mut best = Duration::MAX;
    for _ in 0..if rounds() > 1 { 4 } else { 0 } {
        let begun = Instant::now();
        drop(std::hint::black_box(compile(files, extra)));
        best = best.min(begun.elapsed());
    }
    let mut program = None;
    let memory = measure(|| program = Some(Arc::new(compile(files, extra))));
    let program = program.unwrap();
    let route = measure(|| {
        let settings = OverlaySettings { paranoia: Some(2), ..OverlaySettings::default() };
        std::mem::forget(Overlay::compile(&program, &settings).unwrap());
    });
    println!(
        "  {} rules loaded in {best:?}; {} kB kept, {} kB for each further route",
        program.rule_count(),
        memory.bytes_current / 1000,
        route.bytes_current / 1000
    );
    program
}

fn run(program: &Arc<Program>, overlay: &Arc<Overlay>, request: &corpus::Request) -> (usize, bool) {
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "0194c1f2a7");
    transaction.connection([192, 0, 2, 7].into(), 40000, [192, 0, 2, 1].into(), 443);
    transaction.request_line(request.method.as_bytes(), request.uri.as_bytes(), b"HTTP/1.1");
    for (name, value) in &request.headers {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    let mut blocked = transaction.check_request_headers();
    if blocked.is_none() {
        transaction.write_request_body(&request.body);
        blocked = transaction.check_request_body();
    }
    if blocked.is_none() {
        transaction.response_status(200);
        transaction.response_header(b"Content-Type", b"text/html; charset=utf-8");
        transaction.check_response_headers();
        transaction.check_response_body();
    }
    (transaction.finish().matches.len(), blocked.is_some())
}

/// How often each request is measured: `--rounds=1` for a profiler that counts instructions.
fn rounds() -> usize {
    let wanted = std::env::args().find_map(|argument| argument.strip_prefix("--rounds=")?.parse().ok());
    wanted.unwrap_or(30)
}

/// A function of its own, so that a profiler can be told to count in here only.
#[inline(never)]
fn hundred(program: &Arc<Program>, overlay: &Arc<Overlay>, request: &corpus::Request) -> Duration {
    let begun = Instant::now();
    for _ in 0..100 {
        std::hint::black_box(run(program, overlay, request));
    }
    begun.elapsed()
}

/// Whether a row is asked for: all are when nothing is said.
fn wanted(row: &str) -> bool {
    std::env::args().skip(1).all(|filter| filter.starts_with('-') || row.contains(&filter))
}

fn time(name: &str, program: &Arc<Program>) {
    for paranoia in [1, 4] {
        let settings = OverlaySettings { paranoia: Some(paranoia), ..OverlaySettings::default() };
        let overlay = Arc::new(Overlay::compile(program, &settings).unwrap());
        for request in corpus::requests() {
            let row = format!("{name} PL{paranoia} {}", request.id);
            if !wanted(&row) {
                continue;
            }
            let (matches, blocked) = run(program, &overlay, &request);
            // What is expected holds for the level that is on by default.
            assert!(paranoia > 1 || name == "own" || blocked == (request.expect == "block"), "{row}");
            let memory = measure(|| {
                run(program, &overlay, &request);
            });
            let rounds = (0..rounds()).map(|_| hundred(program, &overlay, &request));
            let best = rounds.min().unwrap().as_secs_f64() * 1e4;
            println!(
                "  {row:20} {best:8.1} us {:6} allocations  {matches} matches  {}",
                memory.count_total, request.class
            );
        }
    }
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let only = |name: &str| std::env::args().any(|filter| filter.starts_with(name));
    if !only("CRS") {
        println!("own rules");
        time("own", &loaded(&rule_files(&root.join("rules")), ""));
    }
    let crs = root.join("../shared/data/crs");
    if !crs.is_dir() {
        println!("CRS: SKIPPED, {} is absent", crs.display());
        return;
    }
    if only("own") {
        return;
    }
    println!("CRS");
    let mut files = rule_files(&crs.join("rules"));
    files.insert(0, crs.join("crs-setup.conf.example"));
    time("CRS", &loaded(&files, BODIES));
}
