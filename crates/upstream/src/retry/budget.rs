//! How many repetitions an upstream gets.
//!
//! As Finagle's and linkerd's: a share of the traffic of the last seconds, and so many a second where there is little.
//! Requests are not counted here: how many tries there were is what the endpoints' counters say anyway, so that a
//! request which is not repeated costs nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The seconds that "traffic" means: what is older counts less and less (its weight falls to 1/e in that time).
const WINDOW: f64 = 10.0;

/// How many of an upstream's requests may be repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetSettings {
    /// Repetitions for each request: 0.1 is one for every ten.
    pub ratio: f64,
    /// Repetitions a second that there may be in any case, however little the traffic is.
    pub min_per_second: u32,
}

impl Default for BudgetSettings {
    /// One for every ten requests, and 3 a second in any case.
    fn default() -> Self {
        BudgetSettings { ratio: 0.1, min_per_second: 3 }
    }
}

/// What was spent. Asked only when something failed; belongs to the upstream, over reloads.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    /// Tries there had been, repetitions among them.
    tries: u64,
    /// Requests and repetitions of the window.
    requests: f64,
    repetitions: f64,
    /// Repetitions that were allowed and that `tries` does not hold yet.
    unseen: u64,
    /// Repetitions that the floor has in store; one second's at most.
    floor: f64,
}

impl Budget {
    /// The budget of an upstream that has had no requests yet.
    pub(crate) fn new(now: Instant) -> Self {
        let seen =
            Seen { at: now, tries: 0, requests: 0.0, repetitions: 0.0, unseen: 0, floor: f64::INFINITY };
        Budget(Mutex::new(seen))
    }

    /// Whether one more repetition may be made; it is spent then. `tries` is how many tries the upstream's endpoints have
    /// had so far, repetitions among them.
    pub(crate) fn withdraw(&self, settings: BudgetSettings, now: Instant, tries: u64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = seen.at(now, tries, settings);
        seen.withdraw(settings)
    }
}

impl Seen {
    /// The same, later: what was there has faded, what came since counts as spread evenly over the time since.
    fn at(self, now: Instant, tries: u64, settings: BudgetSettings) -> Self {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let kept = (-passed / WINDOW).exp();
        // The average weight of what came in that time.
        let weight = if passed > 0.0 { (1.0 - kept) * WINDOW / passed } else { 1.0 };
        // Endpoints come and go, and their counters with them.
        let came = tries.saturating_sub(self.tries);
        let requests = came.saturating_sub(self.unseen) as f64;
        let floor = f64::from(settings.min_per_second);
        Seen {
            at: self.at.max(now),
            tries,
            requests: self.requests * kept + requests * weight,
            repetitions: self.repetitions * kept,
            unseen: self.unseen.saturating_sub(came),
            floor: (self.floor + passed * floor).min(floor),
        }
    }

    fn withdraw(&mut self, settings: BudgetSettings) -> bool {
        let after = self.repetitions + 1.0;
        let is_share = after <= settings.ratio * self.requests;
        if !is_share {
            // The floor lies under the share, it is not on top of it.
            if self.floor < 1.0 || after > f64::from(settings.min_per_second) * WINDOW {
                return false;
            }
            self.floor -= 1.0;
        }
        self.repetitions = after;
        self.unseen += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    /// Sends `rate` requests a second for some seconds, of which each wants one repetition; how many were allowed.
    fn run(
        budget: &Budget,
        settings: BudgetSettings,
        start: Instant,
        tries: &mut u64,
        rate: u32,
        secs: u32,
    ) -> u64 {
        let mut allowed = 0;
        for n in 0..rate * secs {
            *tries += 1;
            let now = start + Duration::from_secs_f64(f64::from(n) / f64::from(rate));
            if budget.withdraw(settings, now, *tries) {
                *tries += 1;
                allowed += 1;
            }
        }
        allowed
    }

    #[test]
    fn the_share_of_steady_traffic() {
        let (budget, mut tries) = (Budget::new(Instant::now()), 0);
        let settings = BudgetSettings { ratio: 0.1, min_per_second: 0 };
        let start = Instant::now();
        let allowed = run(&budget, settings, start, &mut tries, 1000, 60);
        assert!((5_500..=6_000).contains(&allowed), "{allowed} of 60,000");
    }

    #[test]
    fn little_traffic_has_the_floor_and_much_has_no_more_than_its_share() {
        let settings = BudgetSettings { ratio: 0.1, min_per_second: 3 };
        let start = Instant::now();
        let allowed = run(&Budget::new(start), settings, start, &mut 0, 2, 60);
        assert_eq!(allowed, 120, "two a second are below the floor");
        let allowed = run(&Budget::new(start), settings, start, &mut 0, 10, 60);
        assert!((150..=183).contains(&allowed), "three a second: {allowed}");
        let allowed = run(&Budget::new(start), settings, start, &mut 0, 1000, 60);
        assert!(allowed <= 6_030, "the floor is not on top of the share: {allowed}");
    }

    #[test]
    fn nothing_at_all_where_nothing_is_allowed() {
        let settings = BudgetSettings { ratio: 0.0, min_per_second: 0 };
        let start = Instant::now();
        assert_eq!(run(&Budget::new(start), settings, start, &mut 0, 100, 10), 0);
    }

    #[test]
    fn what_was_long_ago_is_no_credit() {
        let settings = BudgetSettings { ratio: 0.1, min_per_second: 0 };
        let start = Instant::now();
        let budget = Budget::new(start);
        assert!(budget.withdraw(settings, start, 100));
        // A million requests, an hour ago at the latest: about 278 a second.
        let later = start + Duration::from_secs(3600);
        let allowed = (0..1_000_000).take_while(|n| budget.withdraw(settings, later, 1_000_100 + n)).count();
        assert!((250..=320).contains(&allowed), "{allowed}");
        let much_later = later + Duration::from_secs(3600);
        assert!(!budget.withdraw(settings, much_later, 1_000_100 + allowed as u64));
    }

    #[test]
    fn endpoints_that_go_take_their_counts_along() {
        let settings = BudgetSettings { ratio: 0.1, min_per_second: 1 };
        let start = Instant::now();
        let budget = Budget::new(start);
        assert!(budget.withdraw(settings, start, 1_000_000));
        assert!(budget.withdraw(settings, start + Duration::from_secs(1000), 0));
        assert!(!budget.withdraw(settings, start + Duration::from_secs(1000), 0));
    }

    proptest! {
        /// Whatever comes: no more repetitions than the share of all requests, the floor, and one window's burst of it.
        #[test]
        fn never_more_than_it_says(
            ratio in 0.0f64..0.5,
            floor in 0u32..20,
            steps in proptest::collection::vec((0u64..2_000, 0u64..200, 0usize..50), 1..60),
        ) {
            let settings = BudgetSettings { ratio, min_per_second: floor };
            let start = Instant::now();
            let (budget, mut now) = (Budget::new(start), start);
            let (mut tries, mut requests, mut allowed) = (0u64, 0u64, 0u64);
            for (millis, came, wanted) in steps {
                now += Duration::from_millis(millis);
                tries += came;
                requests += came;
                for _ in 0..wanted {
                    if budget.withdraw(settings, now, tries) {
                        tries += 1;
                        allowed += 1;
                    }
                }
            }
            let passed = now.duration_since(start).as_secs_f64() + 1.0;
            let most = ratio * requests as f64 + f64::from(floor) * passed + 1.0;
            prop_assert!(allowed as f64 <= most, "{allowed} > {most}");
        }
    }
}
