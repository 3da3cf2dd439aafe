//! How long an upstream takes to answer, as a percentile of its latest answers.
//!
//! "The Tail at Scale" (Dean and Barroso, 2013) sends a second request when the first has been out for longer than the
//! 95th percentile of its kind: that is few requests more, and they are those that make the tail. What is kept is a
//! histogram with buckets that grow with what they hold, so that any percentile is known to an eighth of itself; old
//! answers fade, since all counts are halved whenever there are [`MOST`].

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The smallest difference that is told apart, in microseconds.
const UNIT: u64 = 8;
/// Buckets of each doubling.
const SUB: usize = 8;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Up to two minutes; what takes longer counts as that.
const BUCKETS: usize = 184;

/// Answers below which no percentile is known.
const LEAST: u32 = 100;
/// Answers at which all counts are halved.
const MOST: u32 = 2000;

/// The latencies of an upstream's answers, over all threads. Neither taking note nor asking waits for anything.
#[derive(Debug)]
pub(crate) struct Latencies {
    buckets: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { buckets: [const { AtomicU32::new(0) }; BUCKETS], total: AtomicU32::new(0) }
    }
}

fn bucket(latency: Duration) -> usize {
    let units = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX) / UNIT;
    let Some(doublings) = units.checked_ilog2().filter(|doublings| *doublings >= SUB_BITS) else {
        return usize::try_from(units).unwrap_or(0);
    };
    let shift = doublings - SUB_BITS;
    let sub = usize::try_from(units >> shift).unwrap_or(0) % SUB;
    let doubling = usize::try_from(shift).unwrap_or(0) + 1;
    (doubling * SUB + sub).min(BUCKETS - 1)
}

/// The end of a bucket.
fn end(bucket: usize) -> Duration {
    let (doubling, sub) = (bucket / SUB, bucket % SUB);
    let units = match doubling.checked_sub(1) {
        None => (sub + 1) as u64,
        Some(shift) => ((SUB + sub + 1) as u64) << shift,
    };
    Duration::from_micros(units * UNIT)
}

impl Latencies {
    /// Takes note of how long an answer took, or how long one was waited for in vain.
    pub(crate) fn note(&self, latency: Duration) {
        if let Some(count) = self.buckets.get(bucket(latency)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if self.total.fetch_add(1, Ordering::Relaxed) + 1 == MOST {
            self.halve();
        }
    }

    /// What other threads note meanwhile may be lost, or counted whole.
    #[cold]
    fn halve(&self) {
        let mut total = 0;
        for count in &self.buckets {
            let half = count.load(Ordering::Relaxed) / 2;
            count.store(half, Ordering::Relaxed);
            total += half;
        }
        // Never so many that the next to come would not be the last.
        self.total.store(total.min(MOST - 1), Ordering::Relaxed);
    }

    /// The time within which so many percent of the latest answers came; not more than an eighth too long. `None` where
    /// there were too few to say.
    pub(crate) fn percentile(&self, percent: u8) -> Option<Duration> {
        let total = self.total.load(Ordering::Relaxed);
        if total < LEAST {
            return None;
        }
        let beyond = u64::from(total) * u64::from(100u8.saturating_sub(percent)) / 100;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate().rev() {
            seen += u64::from(count.load(Ordering::Relaxed));
            if seen > beyond {
                return Some(end(bucket));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn few_answers_say_nothing() {
        let latencies = Latencies::default();
        (0..LEAST - 1).for_each(|_| latencies.note(micros(10)));
        assert_eq!(latencies.percentile(95), None);
        latencies.note(micros(10));
        assert_eq!(latencies.percentile(95), Some(micros(16)));
    }

    #[test]
    fn old_answers_fade() {
        let latencies = Latencies::default();
        (0..10 * MOST).for_each(|_| latencies.note(micros(1_000)));
        let slow = |latencies: &Latencies| latencies.percentile(50) > Some(micros(50_000));
        let needed = (0..10 * MOST).take_while(|_| {
            latencies.note(micros(100_000));
            !slow(&latencies)
        });
        assert!((500..=MOST as usize).contains(&needed.count()), "half of what is kept, about");
    }

    #[test]
    fn threads_lose_little() {
        let latencies = Latencies::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20_000).for_each(|n| latencies.note(micros(1_000 + n % 1_000))));
            }
        });
        let median = latencies.percentile(50).unwrap();
        assert!((micros(1_300)..micros(1_800)).contains(&median), "{median:?}");
        let total = latencies.total.load(Ordering::Relaxed);
        (total..MOST).for_each(|_| latencies.note(micros(1_000)));
        assert!(latencies.total.load(Ordering::Relaxed) < MOST, "it is halved again and again");
    }

    proptest! {
        /// As sorting them would find it, but for the width of a bucket.
        #[test]
        fn as_sorting_says(
            mut all in proptest::collection::vec(0u64..130_000_000, 100..1_000), percent in 50u8..=99,
        ) {
            let latencies = Latencies::default();
            all.iter().for_each(|one| latencies.note(micros(*one)));
            all.sort_unstable();
            let beyond = all.len() * usize::from(100 - percent) / 100;
            let exact = micros(all[all.len() - 1 - beyond]);
            let found = latencies.percentile(percent).unwrap();
            prop_assert!(found > exact, "{found:?} {exact:?}");
            prop_assert!(found <= exact + exact / 8 + micros(UNIT), "{found:?} {exact:?}");
        }

        #[test]
        fn each_latency_is_in_its_bucket(latency in 0u64..140_000_000) {
            let at = bucket(micros(latency));
            prop_assert!(at == BUCKETS - 1 || micros(latency) < end(at));
            prop_assert!(at == 0 || micros(latency) >= end(at - 1));
        }
    }
}
