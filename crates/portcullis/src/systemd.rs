//! What the service manager is told of the process's state (`sd_notify(3)`). Without one, nobody is.

use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// All sockets are open, all that was asked for is done.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload has begun; [`ready`] ends it, whatever became of it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of the reload"),
    }
}

/// The process drains.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
    }
}

/// Signs of life of all worker threads, for a service manager that watches over the process (`WatchdogSec=`).
#[derive(Clone, Debug)]
pub(crate) struct Watchdog {
    patience: Duration,
    threads: Arc<[AtomicBool]>,
}

impl Watchdog {
    /// The watchdog that the environment asks for, over so many threads.
    pub(crate) fn from_env(threads: usize) -> Option<Self> {
        let patience = sd_notify::watchdog_enabled()?;
        Some(Watchdog { patience, threads: (0..threads).map(|_| AtomicBool::new(true)).collect() })
    }

    /// Gives a thread's signs of life as long as its event loop turns.
    pub(crate) async fn live(self, thread: usize) {
        loop {
            if let Some(alive) = self.threads.get(thread) {
                alive.store(true, Ordering::Relaxed);
            }
            tokio::time::sleep(self.patience / 6).await;
        }
    }

    /// Tells the service manager as long as all threads live. It kills and restarts a process that it hears nothing of.
    pub(crate) async fn watch(self) {
        loop {
            if self.threads.iter().all(|alive| alive.load(Ordering::Relaxed)) {
                self.threads.iter().for_each(|alive| alive.store(false, Ordering::Relaxed));
                tell(&[NotifyState::Watchdog]);
            }
            tokio::time::sleep(self.patience / 3).await;
        }
    }
}
