//! What the search for leaks costs a byte of an answer, by what the answer is: `cargo bench -p portcullis-contract`, or
//! with `-- html` one of them. Prints the least of several rounds in nanoseconds; what does not depend on the machine:
//!
//! ```text
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*search_all*' target/release/deps/leaks-HASH html --count
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use portcullis_contract::{Kinds, LeakGuard, LeakMode};
use portcullis_testkit::ordinary_bodies;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// As large as what is read of an upstream at once.
const PIECE: usize = 64 * 1024;

#[inline(never)]
fn search_all(guard: &LeakGuard, body: &[u8]) -> usize {
    let mut masker = guard.masker();
    let mut out = Vec::new();
    body.chunks(PIECE)
        .map(|piece| match masker.pass(piece) {
            Some(count) => count,
            None => {
                masker.push(piece, &mut out).unwrap();
                0
            }
        })
        .sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let count = arguments.iter().any(|argument| argument == "--count");
    let named: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let guard = LeakGuard::new(Kinds::ALL, LeakMode::Mask).unwrap();
    for (name, body) in ordinary_bodies(16 * PIECE) {
        if !named.is_empty() && !named.iter().any(|wanted| name == wanted.as_str()) {
            continue;
        }
        let mut best = Duration::MAX;
        for _ in 0..if count { 1 } else { 40 } {
            let begun = Instant::now();
            black_box(search_all(&guard, black_box(&body)));
            best = best.min(begun.elapsed());
        }
        println!("{name:10} {:.3} ns a byte", best.as_secs_f64() * 1e9 / body.len() as f64);
    }
}
