//! Taking up a changed configuration without losing anything.
//!
//! Every file that a snapshot was made from is watched, by its folder, since editors and Kubernetes replace files
//! instead of writing them. A change, or SIGHUP, compiles a new snapshot beside the running one; only one that is
//! sound in every part is swapped in. One that is not changes nothing, and says why.

use crate::snapshot::{LoadError, Snapshot, Snapshots};
use crate::systemd;
use notify::{RecursiveMode, Watcher};
use portcullis_upstream::Watch;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Changes that follow each other this closely are one: a deployment writes more than one file.
const SETTLE: Duration = Duration::from_millis(200);

/// How long a configuration may take to learn the endpoints of its upstreams before it serves: later they are learnt
/// beside it.
pub(crate) const DISCOVERY: Duration = Duration::from_secs(5);

/// How the process is, for readiness.
#[derive(Debug, Default)]
pub(crate) struct Status {
    draining: AtomicBool,
    last_reload: Mutex<Option<LastReload>>,
}

/// The last attempt to take up a configuration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LastReload {
    pub(crate) successful: bool,
    /// What was wrong, as `check` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Status {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn last_reload(&self) -> Option<LastReload> {
        self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reloaded(&self, error: Option<String>) {
        let last = LastReload { successful: error.is_none(), error };
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }
}

/// Watches files and signals, and reloads, as long as the process lives.
pub(crate) struct Reloader {
    path: PathBuf,
    snapshots: Snapshots,
    status: Arc<Status>,
    /// The background work for the running snapshot's upstreams.
    watch: Watch,
    /// Settings that take a restart to change, as they were when the process started.
    started: BTreeMap<String, String>,
}

impl Reloader {
    /// `watch` is the background work for the snapshot that runs now.
    pub(crate) fn new(path: PathBuf, snapshots: Snapshots, status: Arc<Status>, watch: Watch) -> Self {
        let started = snapshots.current().fixed.clone();
        Reloader { path, snapshots, status, watch, started }
    }

    /// Runs until the task is dropped.
    ///
    /// # Errors
    /// When the operating system gives no signals.
    pub(crate) async fn run(mut self) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let (notice, mut changes) = mpsc::channel(1);
        let names = Arc::new(Mutex::new(Names::default()));
        let relevant = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let relevant = relevant.lock().unwrap_or_else(PoisonError::into_inner);
            // Reading a file is an event too; a full channel already holds the news.
            if event.is_ok_and(|event| {
                !event.kind.is_access() && event.paths.iter().any(|path| relevant.hold(path))
            }) {
                let _ = notice.try_send(());
            }
        });
        let mut watched = match watcher {
            Ok(watcher) => Some(Watched { watcher, folders: BTreeSet::new(), names }),
            Err(error) => {
                tracing::warn!(%error, "files cannot be watched; reload with SIGHUP");
                None
            }
        };
        // What a configuration that failed was made from: mending any of it is a reason to try again.
        let mut failed = BTreeSet::new();
        loop {
            if let Some(watched) = &mut watched {
                watched.follow(self.snapshots.current().inputs.union(&failed).cloned().collect());
            }
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                change = changes.recv(), if watched.is_some() => {
                    if change.is_none() {
                        watched = None;
                        continue;
                    }
                    tokio::time::sleep(SETTLE).await;
                    while changes.try_recv().is_ok() {}
                    false
                }
            };
            systemd::reloading();
            failed = self.reload(asked).await.err().map(|error| error.inputs).unwrap_or_default();
            systemd::ready();
        }
    }

    /// Compiles off this thread and swaps. Without being asked, only where a file's bytes have changed.
    async fn reload(&mut self, asked: bool) -> Result<(), LoadError> {
        let (path, running) = (self.path.clone(), self.snapshots.current());
        let loaded = tokio::task::spawn_blocking(move || {
            // Also where the configuration turns out to be wrong: log rotation asks by SIGHUP too.
            running.shared.logs.reopen();
            Snapshot::load(&path, &running.shared, Some(&running))
        });
        let loaded = loaded.await;
        match loaded {
            Ok(Ok(snapshot)) => {
                let same = snapshot.hash == self.snapshots.current().hash;
                if same && !asked && self.status.last_reload().is_none_or(|last| last.successful) {
                    return Ok(());
                }
                let (hash, metrics) = (snapshot.hash.clone(), snapshot.shared.metrics.clone());
                snapshot.warn();
                snapshot.warm_up();
                snapshot.upstreams.discover(DISCOVERY).await;
                self.watch = snapshot.upstreams.watch();
                self.snapshots.swap(snapshot);
                metrics.reload_succeeded(&hash);
                self.status.reloaded(None);
                tracing::info!(config = %hash, "configuration reloaded");
                self.warn_of_restart();
                Ok(())
            }
            Ok(Err(error)) => Err(self.failed(error)),
            Err(panic) => {
                let text = format!("compiling the configuration failed: {panic}");
                Err(self.failed(LoadError::new(text, BTreeSet::new())))
            }
        }
    }

    /// Names the settings that are not as they were when the process started and do not follow a reload.
    fn warn_of_restart(&self) {
        let now = &self.snapshots.current().fixed;
        let names: BTreeSet<&String> = self.started.keys().chain(now.keys()).collect();
        let changed: Vec<&str> = names
            .into_iter()
            .filter(|name| self.started.get(*name) != now.get(*name))
            .map(String::as_str)
            .collect();
        if !changed.is_empty() {
            tracing::warn!("this takes a restart to change: {}", changed.join(", "));
        }
    }

    fn failed(&self, error: LoadError) -> LoadError {
        self.snapshots.current().shared.metrics.reload_failed();
        tracing::error!("the new configuration is not taken up, the old one serves on:\n{error}");
        self.status.reloaded(Some(error.to_string()));
        error
    }
}

struct Watched {
    watcher: notify::RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    names: Arc<Mutex<Names>>,
}

/// Which files of the watched folders matter: those that were read, and new ones of the same kind, which a glob may
/// take in. A log that is written beside them does not.
#[derive(Debug, Default)]
struct Names {
    files: BTreeSet<OsString>,
    extensions: BTreeSet<OsString>,
}

impl Names {
    fn of(files: &BTreeSet<PathBuf>) -> Self {
        Names {
            files: files.iter().filter_map(|file| file.file_name()).map(Into::into).collect(),
            extensions: files.iter().filter_map(|file| file.extension()).map(Into::into).collect(),
        }
    }

    fn hold(&self, path: &Path) -> bool {
        // Kubernetes swaps a whole mounted folder by the link `..data`.
        let swapped = |name: &OsStr| name.as_encoded_bytes().starts_with(b"..data");
        path.file_name().is_some_and(|name| self.files.contains(name) || swapped(name))
            || path.extension().is_some_and(|extension| self.extensions.contains(extension))
    }
}

impl Watched {
    /// Watches the folders of these files and no others.
    fn follow(&mut self, files: BTreeSet<PathBuf>) {
        let folder = |file: &PathBuf| match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => Path::new(".").to_owned(),
        };
        let wanted: BTreeSet<PathBuf> = files.iter().map(folder).filter(|folder| folder.is_dir()).collect();
        for old in self.folders.difference(&wanted) {
            // It may be gone already.
            let _ = self.watcher.unwatch(old);
        }
        for new in wanted.difference(&self.folders) {
            if let Err(error) = self.watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %new.display(), "cannot be watched; reload with SIGHUP");
            }
        }
        self.folders = wanted;
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Names::of(&files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_configuration_matter() {
        let names = Names::of(&["gateway.toml", "rules/100-sqli.conf", "tls/key"].map(PathBuf::from).into());
        for path in ["/etc/gateway.toml", "rules/900-new.conf", "tls/key", "conf/..data", "conf/..data_tmp"] {
            assert!(names.hold(Path::new(path)), "{path}");
        }
        for path in ["/etc/gateway.log", "rules/100-sqli.conf~", "tls/other", "4913"] {
            assert!(!names.hold(Path::new(path)), "{path}");
        }
    }
}
