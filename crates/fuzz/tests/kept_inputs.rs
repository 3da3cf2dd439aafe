//! Every fuzz target on its kept inputs, and on what the data beside the checkout gives it: what a fuzzer once found
//! stays found, on any toolchain and without one.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

use portcullis_fuzz::{TARGETS, seeds};
use std::path::Path;

/// Inputs of the data that a test run takes of each target; a fuzzer takes all.
const MOST_FOUND: usize = 60;

#[test]
fn every_target_holds_on_its_inputs() {
    let mut broken = Vec::new();
    let (mut kept, mut found) = (0, 0);
    for (name, check) in TARGETS {
        let inputs = seeds::kept(name);
        assert!(!inputs.is_empty(), "{} holds no input to begin with", seeds::folder(name).display());
        kept += inputs.len();
        let more = seeds::found(name);
        let step = more.len().div_ceil(MOST_FOUND).max(1);
        let more = more.into_iter().enumerate().step_by(step);
        let more: Vec<_> = more.map(|(at, input)| (format!("{name}, found input {at}"), input)).collect();
        found += more.len();
        for (input, bytes) in inputs.into_iter().chain(more) {
            // The message of the panic is printed by its hook.
            if std::panic::catch_unwind(|| check(&bytes)).is_err() {
                broken.push(input);
            }
        }
    }
    eprintln!("{} targets, {kept} kept inputs, {found} from the data beside the checkout", TARGETS.len());
    assert!(broken.is_empty(), "targets do not hold on:\n{}", broken.join("\n"));
}

#[test]
fn every_target_has_its_binary_and_no_folder_is_left_over() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(names.is_sorted());
    let manifest = std::fs::read_to_string(crate_folder.join("Cargo.toml")).unwrap();
    for name in &names {
        let binary =
            std::fs::read_to_string(crate_folder.join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(
            binary.contains(&format!("portcullis_fuzz::{}", name.replacen('_', "::", 1))),
            "{name}: {binary}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in Cargo.toml");
    }
    for folder in std::fs::read_dir(crate_folder.join("corpus")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "corpus/{name} belongs to no target");
    }
}
