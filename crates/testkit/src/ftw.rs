//! The tests of rule sets: the model of `portcullis-ftw`, and [`load`] as tests want it.

use std::path::Path;

pub use portcullis_ftw::{Input, Log, Output, Reflection, Request, Stage, Test, TestFile};

/// Reads all `.yaml` files below a directory, sorted by path.
///
/// # Panics
/// When a file cannot be read or does not follow the schema: the message names it.
#[must_use]
pub fn load(directory: &Path) -> Vec<TestFile> {
    portcullis_ftw::load(directory).unwrap_or_else(|error| panic!("{error}"))
}
