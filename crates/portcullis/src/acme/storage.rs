//! The folder in which account keys and certificates outlive the process.
//!
//! Each file is replaced as a whole, and readable by its owner alone from its first byte on: a key and its certificate stand
//! in one file, so that no crash leaves one without the other.

use super::AcmeSettings;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where a certificate and the account that orders it are stored.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    folder: PathBuf,
    account: PathBuf,
    certificate: PathBuf,
}

impl Storage {
    /// An account is its directory's; a certificate its directory's and its names'.
    pub(super) fn new(settings: &AcmeSettings) -> Self {
        let folder = settings.storage.clone();
        let mut names: Vec<&str> = settings.domains.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.insert(0, &settings.directory_url);
        let first = settings.domains.first().map_or("", String::as_str);
        Storage {
            account: folder.join(format!("account-{}.json", digest(&[&settings.directory_url]))),
            certificate: folder.join(format!("{first}-{}.pem", digest(&names))),
            folder,
        }
    }

    /// The file of the certificate and its key.
    pub(super) fn certificate_file(&self) -> &Path {
        &self.certificate
    }

    /// The stored certificate and its key, in PEM, if there is one.
    pub(super) fn read_certificate(&self) -> Option<Vec<u8>> {
        read(&self.certificate)
    }

    /// Stores a certificate and its key.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn write_certificate(&self, pem: &[u8]) -> Result<(), String> {
        self.write(&self.certificate, pem)
    }

    /// The stored account, if there is one.
    pub(super) fn read_account(&self) -> Option<Vec<u8>> {
        read(&self.account)
    }

    /// Stores the account.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn write_account(&self, json: &[u8]) -> Result<(), String> {
        self.write(&self.account, json)
    }

    /// Forgets an account that the authority does not know (any more).
    pub(super) fn forget_account(&self) {
        // If it cannot be removed, the next order fails as this one did, and says so.
        let _ = fs::remove_file(&self.account);
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), String> {
        replace(&self.folder, path, content).map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    match fs::read(path) {
        Ok(content) => Some(content),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(file = %path.display(), %error, "cannot be read");
            }
            None
        }
    }
}

fn replace(folder: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = path.with_extension(format!("{}.new", std::process::id()));
    // Of a process that was stopped half-way, and may have had our number.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written =
        file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(folder)?.sync_all()
}

/// Sixteen hexadecimal digits that name these texts.
fn digest(texts: &[&str]) -> String {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for text in texts {
        digest.update(text.as_bytes());
        digest.update(b"\0");
    }
    digest.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_their_owners_and_replaced_as_a_whole() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        let path = folder.join("x.pem");
        for content in ["first", "second, which is longer"] {
            replace(&folder, &path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(replace(&path, &path.join("y"), b"").is_err());
    }
}
