//! What a suite of tests says about itself: how many there were, or that its data is absent.

use std::io::Write as _;
use std::path::Path;

/// Prints the counts of a suite: `suite: NAME: COUNTS`. Where the environment variable `SUITE_COUNTS` names a file the
/// line is added to it as well, so that whoever runs many suites (`tests/run`) has them all.
///
/// # Panics
/// When that file cannot be written.
pub fn suite(name: &str, counts: &str) {
    let line = format!("suite: {name}: {counts}");
    eprintln!("{line}");
    if let Some(path) = std::env::var_os("SUITE_COUNTS") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // One write, so that lines of suites that end at the same time stay whole.
        file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).expect("SUITE_COUNTS");
    }
}

/// Whether a suite must be skipped because the file or folder it reads is not there; says so.
#[must_use]
pub fn absent(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    let absent = !path.exists();
    if absent {
        eprintln!("SKIPPED: {} is absent", path.display());
    }
    absent
}
