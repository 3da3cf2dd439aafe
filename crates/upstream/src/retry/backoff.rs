//! How long to wait before a request is sent again.

use std::time::Duration;

/// Exponential back-off with full jitter: before the n-th repetition a time between nothing and `base * 2^(n-1)`, `max`
/// at most, all equally likely.
///
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait before the first repetition.
    pub base: Duration,
    /// The longest wait before any.
    pub max: Duration,
}

impl Default for Backoff {
    /// 25 ms and 250 ms, as Envoy has it.
    fn default() -> Self {
        Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

impl Backoff {
    /// The longest wait before the n-th repetition, counted from 1.
    fn most(&self, repetition: u32) -> Duration {
        let doublings = repetition.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }

    /// A wait before the n-th repetition; `chance` is a number from 0 to 1.
    pub(crate) fn wait(&self, repetition: u32, chance: f64) -> Duration {
        self.most(repetition).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_doubles_up_to_its_cap() {
        let most: Vec<u128> = (1..=6).map(|n| Backoff::default().most(n).as_millis()).collect();
        assert_eq!(most, [25, 50, 100, 200, 250, 250]);
        assert_eq!(Backoff::default().most(u32::MAX), Duration::from_millis(250));
    }

    #[test]
    fn jitter_is_full() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.wait(3, 0.5), Duration::from_millis(50));
        assert_eq!(backoff.wait(3, 1.0), Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_cap(
            base in 0u64..10_000, max in 0u64..10_000, repetition in 0u32.., chance in 0.0f64..=1.0,
        ) {
            let backoff = Backoff { base: Duration::from_millis(base), max: Duration::from_millis(max) };
            prop_assert!(backoff.wait(repetition, chance) <= Duration::from_millis(max));
        }
    }
}
