//! What the shipped rules cost a byte of an answer, by what the answer is: `cargo bench -p portcullis-waf --bench answers`,
//! or with `-- html` one of them. Prints the least of several rounds in nanoseconds; what does not depend on the machine:
//!
//! ```text
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*answer_all*' target/release/deps/answers-HASH html --count
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_diag::SourceMap;
use portcullis_seclang::{Disk, load};
use portcullis_testkit::ordinary_bodies;
use portcullis_waf::{FileSystem, Overlay, OverlaySettings, Program, Transaction, build};

const SIZE: usize = 64 * 1024;

#[inline(never)]
fn answer_all(transaction: &mut Transaction, body: &[u8]) {
    assert!(transaction.write_response_body(body).is_none());
    assert!(transaction.check_response_body().is_none());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let count = arguments.iter().any(|argument| argument == "--count");
    let named: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let rules = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules"));
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(rules).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    let mut sources = SourceMap::new();
    let directives = load(&files, &Disk, &mut sources).directives;
    let program: Arc<Program> = Arc::new(build(&directives, &sources, &FileSystem).unwrap().0);
    let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
    for (name, body) in ordinary_bodies(SIZE) {
        if !named.is_empty() && !named.iter().any(|wanted| name == wanted.as_str()) {
            continue;
        }
        let mut best = Duration::MAX;
        for round in 0..if count { 2 } else { 60 } {
            let mut transaction = Transaction::new(program.clone(), overlay.clone(), "bench");
            transaction.request_line(b"GET", b"/", b"HTTP/1.1");
            transaction.request_header(b"Host", b"example.com");
            transaction.request_header(b"User-Agent", b"Mozilla/5.0");
            transaction.request_header(b"Accept", b"*/*");
            transaction.check_request_headers();
            transaction.check_request_body();
            transaction.response_status(200);
            transaction.response_header(b"Content-Type", b"text/html");
            transaction.check_response_headers();
            let begun = Instant::now();
            answer_all(&mut transaction, black_box(&body));
            // The first one grows the buffers.
            if round > 0 {
                best = best.min(begun.elapsed());
            }
            let report = transaction.finish();
            assert!(report.interruption.is_none());
            if round == 0 {
                println!(
                    "{name:10} rules that matched: {:?}",
                    report.matches.iter().map(|found| found.rule_id).collect::<Vec<_>>()
                );
            }
        }
        println!("{name:10} {:.3} ns a byte", best.as_secs_f64() * 1e9 / body.len() as f64);
    }
}
