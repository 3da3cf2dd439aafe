//! Every target in one binary, which is linked once: `FUZZ_TARGET=wire_request fuzz …`. `tests/fuzz` runs this one.
#![no_main]

use std::sync::LazyLock;

static CHECK: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = portcullis_fuzz::TARGETS.iter().find(|(name, _)| *name == wanted);
    target.unwrap_or_else(|| panic!("FUZZ_TARGET names no target: `{wanted}`")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| CHECK(data));
