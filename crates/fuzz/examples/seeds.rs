//! `seeds FOLDER`: writes what the data beside the checkout gives to each target into `FOLDER/TARGET`, for a fuzzer to
//! begin with.
#![allow(clippy::unwrap_used, reason = "a tool of tests: what goes wrong should stop it")]

use portcullis_fuzz::{TARGETS, seeds};
use std::path::PathBuf;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "seeds".into()));
    for (name, _) in TARGETS {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (at, input) in seeds::found(name).into_iter().enumerate() {
            std::fs::write(folder.join(at.to_string()), input).unwrap();
        }
    }
}
