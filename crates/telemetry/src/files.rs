//! Log files: opened once for all snapshots that write to them, and opened anew when they are rotated.

use crate::queue::LogQueue;
use crate::{DEFAULT_CAPACITY, Metrics};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For the gateway's user and its group: matched values may say more than everybody should know.
const MODE: u32 = 0o640;

/// The log files of the process. A file stays open as long as somebody holds its queue.
#[derive(Debug, Default)]
pub struct LogFiles(Mutex<HashMap<PathBuf, OpenFile>>);

#[derive(Debug)]
struct OpenFile {
    queue: LogQueue,
    sink: Sink,
}

/// A file that can be replaced under the thread that writes to it.
#[derive(Clone, Debug)]
struct Sink(Arc<Mutex<File>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl Sink {
    fn file(&self) -> MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

impl LogFiles {
    /// The queue to the file at `path`, which is made where it is not there. `log` names it in the metric of dropped
    /// lines.
    ///
    /// # Errors
    /// When the file cannot be opened, or the thread that writes to it not be started.
    pub fn open(&self, path: &Path, log: &'static str, metrics: &Metrics) -> io::Result<LogQueue> {
        let mut files = self.lock();
        if let Some(known) = files.get(path) {
            return Ok(known.queue.clone());
        }
        let sink = Sink(Arc::new(Mutex::new(open(path)?)));
        let dropped = metrics.firewall_log_dropped(log);
        let queue = LogQueue::counting(sink.clone(), DEFAULT_CAPACITY, dropped)?;
        files.insert(path.to_owned(), OpenFile { queue: queue.clone(), sink });
        Ok(queue)
    }

    /// Opens every file anew, as after a rotation; closes those that nobody writes to any more.
    pub fn reopen(&self) {
        let mut files = self.lock();
        files.retain(|_, file| file.queue.is_shared());
        for (path, open_file) in files.iter() {
            // What was queued before the rotation belongs into the old file.
            let _ = open_file.queue.flush(Duration::from_secs(1));
            match open(path) {
                Ok(file) => *open_file.sink.file() = file,
                Err(error) => {
                    tracing::error!(%error, file = %path.display(), "a log file cannot be opened anew; the old one is written on");
                }
            }
        }
    }

    /// Waits until all lines are written, or `patience` is over; whether they are.
    #[must_use]
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let files = self.lock();
        files.values().all(|file| file.queue.flush(deadline.saturating_duration_since(Instant::now())))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, OpenFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BuildInfo;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_rotated_file_is_left_and_a_new_one_made() {
        let metrics = Metrics::new(BuildInfo { version: "0", rustc: "0" }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let files = LogFiles::default();
        let queue = files.open(&path, "error", &metrics).unwrap();
        let same = files.open(&path, "error", &metrics).unwrap();
        queue.push(b"one\n");
        assert!(files.flush(PATIENCE));
        std::fs::rename(&path, &rotated).unwrap();
        same.push(b"two\n");
        files.reopen();
        queue.push(b"three\n");
        assert!(files.flush(PATIENCE));
        assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");

        drop((queue, same));
        files.reopen();
        assert!(files.lock().is_empty());
        assert!(files.open(&folder.path().join("absent/a.log"), "error", &metrics).is_err());
    }

    #[test]
    fn a_file_that_is_there_is_appended_to() {
        let metrics = Metrics::new(BuildInfo { version: "0", rustc: "0" }).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "old\n").unwrap();
        let files = LogFiles::default();
        files.open(file.path(), "audit", &metrics).unwrap().push(b"new\n");
        assert!(files.flush(PATIENCE));
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "old\nnew\n");
    }
}
