//! The time a judgement is made at.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment on both clocks: the wall clock that tokens are dated by, and the steady one that ages caches.
/// Taken once per request and passed down, so that a judgement is made at one time, and tests make their own.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix: u64,
    /// The steady clock.
    pub steady: Instant,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        Moment { unix, steady: Instant::now() }
    }

    /// A later moment.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Moment { unix: self.unix.saturating_add(wait.as_secs()), steady: self.steady + wait }
    }
}
