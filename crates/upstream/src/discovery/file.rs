//! A file of endpoints: watching it.
//!
//! It is asked for by its attributes, twice a second, and read where they have changed. That sees every way in which
//! files are replaced, by renaming, by links (`..data`, as Kubernetes mounts them), by a folder that comes and goes,
//! on every file system; notifications know some of these on some of them.

use super::document::{DocumentFormat, parse_endpoints};
use crate::EndpointSettings;
use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The largest file that is read.
const MAX_FILE: u64 = 8 * 1024 * 1024;
/// A file that was written less than this ago may be written again without its attributes telling: clocks of file
/// systems tick coarsely.
const TICK: Duration = Duration::from_secs(2);

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Stamp {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

/// A watched file.
#[derive(Clone, Debug)]
pub(crate) struct EndpointFile {
    path: PathBuf,
    format: DocumentFormat,
    /// What was read last; `None` where it could not be.
    stamp: Option<Stamp>,
    digest: Option<u64>,
    /// Why it could not be read when it was last tried.
    problem: Option<String>,
}

/// What a file says that has changed since it was last asked: endpoints, or why it has none to tell.
pub(crate) type News = Result<Vec<EndpointSettings>, String>;

impl EndpointFile {
    /// JSON, unless the name ends in `.toml`.
    pub(crate) fn new(path: PathBuf) -> Self {
        let toml = path.extension().is_some_and(|extension| extension == "toml");
        let format = if toml { DocumentFormat::Toml } else { DocumentFormat::Json };
        EndpointFile { path, format, stamp: None, digest: None, problem: None }
    }

    /// Reads it, if it is not as it was. Blocks. A problem is told once, until it is another.
    pub(crate) fn look(&mut self) -> Option<News> {
        match self.changed_text() {
            Ok(None) => None,
            Ok(Some(text)) => {
                self.problem = None;
                Some(
                    parse_endpoints(&text, self.format)
                        .map_err(|error| format!("{}:{error}", self.path.display())),
                )
            }
            Err(error) => {
                let problem = format!("{}: {error}", self.path.display());
                (self.stamp, self.digest) = (None, None);
                if self.problem.as_ref() == Some(&problem) {
                    return None;
                }
                self.problem = Some(problem.clone());
                Some(Err(problem))
            }
        }
    }

    fn changed_text(&mut self) -> io::Result<Option<String>> {
        let about = regular(std::fs::metadata(&self.path)?)?;
        if self.stamp.as_ref() == Some(&Stamp::of(&about)) {
            return Ok(None);
        }
        let (about, text) = read(&self.path)?;
        let age = about.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        self.stamp = age.is_some_and(|age| age > TICK).then(|| Stamp::of(&about));
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let digest = Some(hasher.finish());
        let same = std::mem::replace(&mut self.digest, digest) == digest;
        Ok((!same).then_some(text))
    }
}

/// The text and the attributes of the very file that it was read from.
fn read(path: &Path) -> io::Result<(Metadata, String)> {
    let file = File::open(path)?;
    let about = regular(file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 8 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok((about, text))
}

/// Refuses what could be waited for without end, such as a named pipe.
fn regular(about: Metadata) -> io::Result<Metadata> {
    if about.is_file() { Ok(about) } else { Err(io::Error::other("it is not a file")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn addresses(news: Option<News>) -> Vec<String> {
        news.expect("news").expect("endpoints").iter().map(EndpointSettings::address).collect()
    }

    fn old(path: &Path) {
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
    }

    #[test]
    fn changes_are_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoints.json");
        let mut file = EndpointFile::new(path.clone());
        let problem = file.look().unwrap().unwrap_err();
        assert!(problem.starts_with(&format!("{}: ", path.display())), "{problem}");
        assert!(file.look().is_none(), "told once");
        std::fs::write(&path, r#"["10.0.0.1:1"]"#).unwrap();
        assert_eq!(addresses(file.look()), ["10.0.0.1:1"]);
        assert!(file.look().is_none());
        // The same length within the same tick.
        std::fs::write(&path, r#"["10.0.0.2:1"]"#).unwrap();
        assert_eq!(addresses(file.look()), ["10.0.0.2:1"]);
        old(&path);
        assert!(file.look().is_none(), "touched, not changed");
        assert!(file.stamp.is_some() && file.look().is_none());
        std::fs::write(&path, "[\n\"10.0.0.2:1\",\n\"10.0.0.3\"]").unwrap();
        let problem = file.look().unwrap().unwrap_err();
        assert!(problem.starts_with(&format!("{}:3:10: `10.0.0.3` is not", path.display())), "{problem}");
        assert!(file.look().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(file.look().unwrap().is_err());
        std::fs::write(&path, r#"["10.0.0.2:1"]"#).unwrap();
        assert_eq!(addresses(file.look()), ["10.0.0.2:1"], "back again");
    }

    #[test]
    fn kubernetes_swaps_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, address) in [("..1", "10.0.0.1:1"), ("..2", "10.0.0.2:1")] {
            std::fs::create_dir(at(version)).unwrap();
            let path = at(version).join("endpoints.toml");
            std::fs::write(&path, format!("endpoints = [\"{address}\"]")).unwrap();
            old(&path);
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/endpoints.toml", at("endpoints.toml")).unwrap();
        let mut file = EndpointFile::new(at("endpoints.toml"));
        assert_eq!(addresses(file.look()), ["10.0.0.1:1"]);
        assert!(file.look().is_none());
        symlink("..2", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        std::fs::remove_dir_all(at("..1")).unwrap();
        assert_eq!(addresses(file.look()), ["10.0.0.2:1"]);
        assert!(file.look().is_none());
    }

    #[test]
    fn what_is_no_text_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EndpointFile::new(folder.path().to_owned());
        assert!(file.look().unwrap().unwrap_err().contains("not a file"));
        let path = folder.path().join("x.json");
        std::fs::write(&path, b"[\"\xff:1\"]").unwrap();
        assert!(EndpointFile::new(path.clone()).look().unwrap().unwrap_err().contains("not UTF-8"));
        File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(EndpointFile::new(path).look().unwrap().unwrap_err().contains("larger than 8 MiB"));
    }
}
