//! How much each priority level gets.
//!
//! Envoy's arithmetic (its documentation, "Priority levels"): a level counts as whole as long as 1/1.4 = 72 % of it
//! can be had, and gives what it lacks to the levels behind it. Where all of them together do not make one, they share
//! all requests in proportion.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Envoy's default overprovisioning factor, in percent.
const OVERPROVISIONING: u128 = 140;

/// What a level's shares add up to.
pub(crate) const WHOLE: u32 = 1 << 16;

/// What of a level can be had, by weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) available: u64,
    pub(crate) total: u64,
}

impl Tally {
    /// How much of all requests the level can take, out of [`WHOLE`].
    pub(crate) fn capacity(self) -> u32 {
        let scaled = u128::from(self.available) * u128::from(WHOLE) * OVERPROVISIONING;
        let capacity = scaled / (u128::from(self.total).max(1) * 100);
        u32::try_from(capacity).unwrap_or(u32::MAX).min(WHOLE)
    }
}

/// Where each level's share ends, on a scale from 0 to [`WHOLE`]: a draw below the first goes to the first level, and
/// so on. All are 0 where nothing can be had at all.
pub(crate) fn spill(levels: &[Tally]) -> Vec<u32> {
    let capacities = || levels.iter().map(|level| level.capacity());
    let sum: u64 = capacities().map(u64::from).sum();
    if sum == 0 {
        return vec![0; levels.len()];
    }
    let whole = u64::from(WHOLE);
    let mut used = 0;
    let end = |capacity: u32| {
        used = (used + u64::from(capacity)).min(whole.max(sum));
        // Short of a whole, all grow alike.
        let end = if sum < whole { used * whole / sum } else { used.min(whole) };
        u32::try_from(end).unwrap_or(WHOLE)
    };
    capacities().map(end).collect()
}

/// How often what can be had is counted anew, in milliseconds, for each thousand endpoints: a count then takes less than
/// a thousandth of the time.
const PERIOD: u64 = 100;

/// What of each level can be had, counted now and then by whoever comes first: health changes by events and by the clock,
/// on any thread, and a count for each request would make thousands of endpoints dear.
#[derive(Debug)]
pub(crate) struct Census {
    due: AtomicU64,
    period: u64,
    levels: Box<[Standing]>,
}

#[derive(Debug)]
struct Standing {
    total: u64,
    available: AtomicU64,
    /// Where its share ends.
    end: AtomicU32,
}

impl Census {
    /// Of levels with these weights, all of which can be had.
    pub(crate) fn new(totals: &[u64], endpoints: usize) -> Self {
        let tallies: Vec<Tally> =
            totals.iter().map(|total| Tally { available: *total, total: *total }).collect();
        let standing = |(tally, end): (&Tally, u32)| Standing {
            total: tally.total,
            available: AtomicU64::new(tally.available),
            end: AtomicU32::new(end),
        };
        Census {
            due: AtomicU64::new(0),
            period: PERIOD * (1 + endpoints as u64 / 1_000),
            levels: tallies.iter().zip(spill(&tallies)).map(standing).collect(),
        }
    }

    /// Counts anew if it is time to; `available` gives the weight that can be had of a level.
    pub(crate) fn refresh(&self, now: u64, available: impl Fn(usize) -> u64) {
        let due = self.due.load(Ordering::Relaxed);
        let won = || {
            let next = now + self.period;
            self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if now < due || !won() {
            return;
        }
        let tally = |(level, standing): (usize, &Standing)| Tally {
            available: available(level),
            total: standing.total,
        };
        let tallies: Vec<Tally> = self.levels.iter().enumerate().map(tally).collect();
        for ((standing, tally), end) in self.levels.iter().zip(&tallies).zip(spill(&tallies)) {
            standing.available.store(tally.available, Ordering::Relaxed);
            standing.end.store(end, Ordering::Relaxed);
        }
    }

    /// The level that a draw from 0 to [`WHOLE`] falls to; the first where nothing can be had.
    pub(crate) fn level(&self, draw: u32) -> usize {
        self.levels.iter().position(|level| draw < level.end.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The weight that can be had of a level, and its share of all requests out of [`WHOLE`].
    pub(crate) fn standing(&self, level: usize) -> (u64, u32) {
        let end = |level: &Standing| level.end.load(Ordering::Relaxed);
        let before = level.checked_sub(1).and_then(|before| self.levels.get(before)).map_or(0, end);
        self.levels.get(level).map_or((0, 0), |standing| {
            (standing.available.load(Ordering::Relaxed), end(standing).saturating_sub(before))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Shares in percent, of levels so many percent of which can be had.
    fn percent(available: &[u64]) -> Vec<f64> {
        let levels: Vec<Tally> =
            available.iter().map(|available| Tally { available: *available, total: 100 }).collect();
        let mut before = 0;
        let share = |end: u32| {
            let share = end - before;
            before = end;
            f64::from(share) * 100.0 / f64::from(WHOLE)
        };
        spill(&levels).into_iter().map(share).collect()
    }

    #[test]
    fn envoys_tables() {
        // envoyproxy/envoy, docs/root/intro/arch_overview/upstream/load_balancing/priority.rst: all three tables, and
        // the example in the text. Envoy counts in whole percents.
        for (available, wanted) in [
            (&[100, 100][..], &[100, 0][..]),
            (&[72, 100], &[100, 0]),
            (&[71, 100], &[99, 1]),
            (&[50, 100], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[0, 100], &[0, 100]),
            (&[72, 72], &[100, 0]),
            (&[71, 71], &[99, 1]),
            (&[50, 50], &[70, 30]),
            (&[25, 25], &[50, 50]),
            (&[100, 100, 100], &[100, 0, 0]),
            (&[72, 72, 100], &[100, 0, 0]),
            (&[71, 71, 100], &[99, 1, 0]),
            (&[50, 50, 100], &[70, 30, 0]),
            (&[25, 100, 100], &[35, 65, 0]),
            (&[25, 25, 100], &[35, 35, 30]),
            (&[25, 25, 20], &[36, 36, 28]),
        ] {
            let shares = percent(available);
            let near = shares.iter().zip(wanted).all(|(is, wanted)| (is - f64::from(*wanted)).abs() < 1.0);
            assert!(near && shares.len() == wanted.len(), "{available:?}: {shares:?}");
        }
        // Of health 20 and 30, 40 % and 60 %.
        let health = |percent: u64| Tally { available: percent, total: 140 };
        assert_eq!(spill(&[health(20), health(30)]), [WHOLE * 2 / 5, WHOLE]);
    }

    #[test]
    fn a_census_is_taken_now_and_then() {
        let census = Census::new(&[10, 10], 20);
        assert_eq!((census.level(0), census.level(WHOLE - 1)), (0, 0));
        census.refresh(1, |level| if level == 0 { 5 } else { 10 });
        assert_eq!((census.standing(0).0, census.standing(1)), (5, (10, WHOLE - WHOLE * 7 / 10)));
        assert_eq!((census.level(WHOLE / 2), census.level(WHOLE * 3 / 4)), (0, 1));
        census.refresh(PERIOD - 1, |_| 0);
        assert_eq!(census.standing(0).0, 5, "it is not time yet");
        census.refresh(PERIOD + 2, |_| 0);
        assert_eq!((census.standing(0).0, census.level(WHOLE / 2)), (0, 0));
    }

    #[test]
    fn nothing_to_be_had() {
        assert_eq!(percent(&[0, 0]), [0.0, 0.0]);
        assert_eq!(percent(&[5, 0]), [100.0, 0.0]);
        assert!(spill(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn all_goes_somewhere_and_to_the_first_as_it_can(
            levels in proptest::collection::vec((0u64..1000, 1u64..1000), 1..6),
        ) {
            let levels: Vec<Tally> = levels
                .into_iter()
                .map(|(available, total)| Tally { available: available.min(total), total })
                .collect();
            let ends = spill(&levels);
            prop_assert!(ends.is_sorted());
            let any = levels.iter().any(|level| level.capacity() > 0);
            prop_assert_eq!(ends.last().copied(), Some(if any { WHOLE } else { 0 }));
            let mut before = 0;
            for (level, end) in levels.iter().zip(&ends) {
                prop_assert!(level.capacity() > 0 || *end == before, "what cannot be had gets nothing");
                before = *end;
            }
            if let Some(first) = levels.first() {
                prop_assert!(ends[0] >= first.capacity().min(WHOLE));
            }
        }
    }
}
