//! The time that limits are measured in.

use std::time::Instant;

/// A clock that never goes back: nanoseconds since some moment of its own. It must be monotonic: a step of
/// the wall clock must neither open nor close a limit. Any `Fn() -> u64` is one, so a test can move time by hand.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the clock's origin; at least 1.
    fn now(&self) -> u64;
}

/// The system's monotonic clock, counted from its own creation.
#[derive(Clone, Copy, Debug)]
pub struct Monotonic(Instant);

impl Default for Monotonic {
    fn default() -> Self {
        Monotonic(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> u64 {
        // 2^64 ns are 584 years. The origin is 1, not 0, because 0 marks what was never written.
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl<F: Fn() -> u64 + Send + Sync> Clock for F {
    fn now(&self) -> u64 {
        self().max(1)
    }
}
