//! The files that a configuration is made from: those to watch, and one fingerprint of all that was read.

use aws_lc_rs::digest;
use portcullis_seclang::{Disk, Files};
use portcullis_waf::{DataFiles, FileSystem};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Digits of a fingerprint's digest, in bytes.
const DIGITS: usize = 6;

/// Reads files for everybody, and remembers which. A file that is not there counts too: it may come.
pub(crate) struct Inputs(RefCell<Seen>);

struct Seen {
    files: BTreeSet<PathBuf>,
    digest: digest::Context,
}

impl Inputs {
    pub(crate) fn new() -> Self {
        let digest = digest::Context::new(&digest::SHA256);
        Inputs(RefCell::new(Seen { files: BTreeSet::new(), digest }))
    }

    /// Remembers a file that somebody else reads later. Later, so that a change in between is at worst taken up twice.
    pub(crate) fn note(&self, path: &Path) {
        // Who needs it says what is wrong with it.
        let _ = self.remember(path, std::fs::read(path));
    }

    /// Remembers a glob, which new files may come to match.
    pub(crate) fn note_pattern(&self, pattern: &Path) {
        self.0.borrow_mut().files.insert(pattern.to_owned());
    }

    fn remember(&self, path: &Path, read: io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
        let bytes = read.as_deref().unwrap_or_default();
        let mut seen = self.0.borrow_mut();
        seen.files.insert(path.to_owned());
        seen.digest.update(&(bytes.len() as u64).to_be_bytes());
        seen.digest.update(bytes);
        read
    }

    /// All files and globs so far.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        self.0.borrow().files.clone()
    }

    /// Twelve hexadecimal digits of the SHA-256 over all files so far.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = self.0.borrow().digest.clone().finish();
        digest.as_ref().iter().take(DIGITS).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Files for Inputs {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.remember(path, Disk.read(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.note_pattern(&directory.join("*"));
        Disk.list(directory)
    }
}

impl DataFiles for Inputs {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.remember(path, FileSystem.read(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_and_so_does_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let fingerprint = |first: &str, second: &str| {
            std::fs::write(&a, first).unwrap();
            std::fs::write(&b, second).unwrap();
            let inputs = Inputs::new();
            assert_eq!(Files::read(&inputs, &a).unwrap(), first.as_bytes());
            assert_eq!(DataFiles::read(&inputs, &b).unwrap(), second.as_bytes());
            assert_eq!(inputs.files(), BTreeSet::from([a.clone(), b.clone()]));
            inputs.fingerprint()
        };
        assert_eq!(fingerprint("x", "y"), fingerprint("x", "y"));
        assert_ne!(fingerprint("x", "y"), fingerprint("y", "x"));
        assert_ne!(fingerprint("xy", ""), fingerprint("x", "y"));
    }

    #[test]
    fn a_file_that_is_not_there_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs::new();
        let absent = folder.path().join("absent");
        assert!(Files::read(&inputs, &absent).is_err());
        assert_eq!(inputs.files(), BTreeSet::from([absent]));
    }
}
