//! Whether an endpoint is fit to be asked. All of it is read for every request, so it is a few atomics.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long an endpoint that could not be connected to is passed over while others can be had.
const ASIDE: Duration = Duration::from_secs(1);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the process first asked.
pub(crate) fn now() -> u64 {
    u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The same, beginning anew every seven weeks.
pub(crate) fn now_wrapping() -> u32 {
    (now() & u64::from(u32::MAX)) as u32
}

/// What is known of an endpoint's fitness. It belongs to the endpoint, and so outlives a reload.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// 0, or when it may be asked again though a connection to it failed.
    aside_until: AtomicU64,
}

impl Condition {
    /// A connection to it could not be opened.
    pub(crate) fn connect_failed(&self) {
        let until = now() + u64::try_from(ASIDE.as_millis()).unwrap_or(u64::MAX);
        self.aside_until.store(until, Ordering::Relaxed);
    }

    /// Whether a connection to it failed a moment ago.
    pub(crate) fn is_aside(&self) -> bool {
        let until = self.aside_until.load(Ordering::Relaxed);
        until != 0 && now() < until
    }

    /// Whether it should be asked while others can be had.
    pub(crate) fn is_available(&self) -> bool {
        !self.is_aside()
    }
}
