//! Slow start: the share of its weight that an endpoint gets while it warms up.
//!
//! As in Envoy's `slow_start_config` with its defaults (aggression 1, 10 % at least) and `HAProxy`'s `slowstart`: an
//! endpoint that was added to a running upstream, or came back after it was unhealthy or ejected, begins with a tenth
//! of its weight and gains the rest in proportion to time. Its share is taken at random at each choice, which costs
//! nothing where no endpoint warms up and works for every way of balancing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The least share, in units of [`WHOLE`].
const LEAST: u32 = 100;
/// All of an endpoint's weight.
pub(crate) const WHOLE: u32 = 1000;

/// When an endpoint began to warm up, in milliseconds of the process's clock, plus one; 0 if it is warm.
#[derive(Debug, Default)]
pub(crate) struct SlowStart(AtomicU64);

impl SlowStart {
    /// It appears, or returns, now.
    pub(crate) fn begin(&self, now: u64) {
        self.0.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// The share of its weight that it gets now, in thousandths.
    pub(crate) fn share(&self, window: Duration, now: u64) -> u32 {
        let began = self.0.load(Ordering::Relaxed);
        if began == 0 {
            return WHOLE;
        }
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let age = now.saturating_sub(began - 1);
        if age >= window {
            // A return that happens at this moment wins.
            let _ = self.0.compare_exchange(began, 0, Ordering::Relaxed, Ordering::Relaxed);
            return WHOLE;
        }
        let share = u128::from(age) * u128::from(WHOLE) / u128::from(window.max(1));
        u32::try_from(share).unwrap_or(WHOLE).max(LEAST)
    }

    /// Whether it warms up, as far as the last look told.
    pub(crate) fn is_warming(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(30);

    #[test]
    fn a_tenth_then_in_proportion_then_all() {
        let start = SlowStart::default();
        assert_eq!(start.share(WINDOW, 0), WHOLE, "never begun");
        start.begin(0);
        assert!(start.is_warming());
        for (now, share) in [(0, 100), (1_000, 100), (3_000, 100), (6_000, 200), (15_000, 500), (29_999, 999)]
        {
            assert_eq!(start.share(WINDOW, now), share, "at {now} ms");
        }
        assert_eq!(start.share(WINDOW, 30_000), WHOLE);
        assert!(!start.is_warming());
        start.begin(40_000);
        assert_eq!(start.share(WINDOW, 40_000), 100, "it returns cold");
        assert_eq!(start.share(Duration::ZERO, 40_000), WHOLE, "no window, no slow start");
    }

    proptest! {
        #[test]
        fn a_share_never_falls_and_stays_in_bounds(window in 1u64..100_000, times in proptest::collection::vec(0u64..200_000, 1..50)) {
            let start = SlowStart::default();
            start.begin(0);
            let mut times = times;
            times.sort_unstable();
            let mut last = 0;
            for now in times {
                let share = start.share(Duration::from_millis(window), now);
                prop_assert!((LEAST..=WHOLE).contains(&share));
                prop_assert!(share >= last);
                last = share;
            }
        }
    }
}
