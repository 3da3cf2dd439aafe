//! Every target in one binary, which is linked once; `tests/fuzz` runs this one.
//!
//! `FUZZ_TARGET=wire_request fuzz …` runs that target. With `FUZZ_SEEDS=FOLDER` it writes what the data beside the
//! checkout gives to the target into that folder first.
#![no_main]

use portcullis_fuzz::{TARGETS, Target, seeds};
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|(name, _)| *name == wanted);
    *target.unwrap_or_else(|| panic!("FUZZ_TARGET names no target: `{wanted}`"))
});

fn prepare() {
    // Rules and keys are loaded once, which is no input's time.
    (TARGET.1)(b"");
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (at, input) in seeds::found(TARGET.0).into_iter().enumerate() {
        let path = std::path::Path::new(&folder).join(at.to_string());
        std::fs::write(path, input).unwrap_or_else(|error| panic!("FUZZ_SEEDS cannot be written: {error}"));
    }
}

libfuzzer_sys::fuzz_target!(init: prepare(), |data: &[u8]| (TARGET.1)(data));
