//! What active checks have found out about an endpoint.
//!
//! A run of checks that contradict what is believed turns the belief, so that one lost packet turns nothing. Until
//! the first check is through, nothing is known but how the endpoint came: one that was there from the start is given
//! the benefit of the doubt, one that is added to a running upstream must pass a check before it gets requests (both
//! as in Envoy, which holds back a whole cluster at the start instead). The first check settles it alone.

pub(crate) mod check;

use std::time::Duration;

/// How often a check is made, and how many must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckPace {
    /// Between the end of a check and the next.
    pub interval: Duration,
    /// The same while the endpoint is unhealthy or not yet known, or the last check contradicted what was believed.
    pub unhealthy_interval: Duration,
    /// The share of an interval by which it may be longer, in percent: replicas and endpoints spread out.
    pub jitter_percent: u8,
    /// The longest that a check may take.
    pub timeout: Duration,
    /// Checks in a row that an unhealthy endpoint must pass; 0 counts as 1.
    pub healthy_threshold: u32,
    /// Checks in a row that a healthy endpoint must fail; 0 counts as 1.
    pub unhealthy_threshold: u32,
}

impl Default for CheckPace {
    /// Every 10 s, every 2 s while something is wrong, up to 10 % later, 2 s each; two passes, three failures.
    fn default() -> Self {
        CheckPace {
            interval: Duration::from_secs(10),
            unhealthy_interval: Duration::from_secs(2),
            jitter_percent: 10,
            timeout: Duration::from_secs(2),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        }
    }
}

/// What is believed of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It is not checked, or the first check is not through; it gets requests.
    #[default]
    Unknown,
    /// It was added to a checked upstream and has passed no check yet; it gets no requests.
    Pending,
    /// It passes its checks.
    Healthy,
    /// It fails them.
    Unhealthy,
}

impl Health {
    /// Its name in logs, metrics and `/readyz`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Pending => "pending",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }

    /// Whether it may get requests.
    pub(crate) fn is_up(self) -> bool {
        matches!(self, Health::Unknown | Health::Healthy)
    }
}

/// A belief and the run of checks that contradict it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Belief {
    pub(crate) health: Health,
    contrary: u32,
}

impl Belief {
    pub(crate) fn new(health: Health) -> Self {
        Belief { health, contrary: 0 }
    }

    /// Takes a check's result; the new belief where it turned.
    pub(crate) fn note(&mut self, passed: bool, pace: &CheckPace) -> Option<Health> {
        let (agrees, needed) = match self.health {
            Health::Unknown | Health::Pending => (false, 1),
            Health::Healthy => (passed, pace.unhealthy_threshold),
            Health::Unhealthy => (!passed, pace.healthy_threshold),
        };
        if agrees {
            self.contrary = 0;
            return None;
        }
        self.contrary = self.contrary.saturating_add(1);
        if self.contrary < needed.max(1) {
            return None;
        }
        *self = Belief::new(if passed { Health::Healthy } else { Health::Unhealthy });
        Some(self.health)
    }

    /// How long to wait for the next check; `chance` is a random share of 1.
    pub(crate) fn wait(&self, pace: &CheckPace, chance: f64) -> Duration {
        let is_settled = self.health == Health::Healthy && self.contrary == 0;
        let interval = if is_settled { pace.interval } else { pace.unhealthy_interval.min(pace.interval) };
        let jitter = f64::from(pace.jitter_percent.min(100)) / 100.0 * chance.clamp(0.0, 1.0);
        interval.mul_f64(1.0 + jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_check_settles_it() {
        let pace = CheckPace::default();
        for start in [Health::Unknown, Health::Pending] {
            for (passed, then) in [(true, Health::Healthy), (false, Health::Unhealthy)] {
                assert_eq!(Belief::new(start).note(passed, &pace), Some(then));
            }
        }
    }

    #[test]
    fn runs_turn_a_belief_and_single_checks_do_not() {
        let pace = CheckPace { healthy_threshold: 2, unhealthy_threshold: 3, ..CheckPace::default() };
        let mut belief = Belief::new(Health::Healthy);
        let turns: Vec<_> = [false, false, true, false, false, false, true, false, true, true]
            .into_iter()
            .map(|passed| belief.note(passed, &pace))
            .collect();
        assert_eq!(turns[5], Some(Health::Unhealthy));
        assert_eq!(turns[9], Some(Health::Healthy));
        assert_eq!(turns.iter().flatten().count(), 2);
    }

    #[test]
    fn doubt_is_looked_into_sooner() {
        let pace = CheckPace { jitter_percent: 0, ..CheckPace::default() };
        let mut belief = Belief::default();
        assert_eq!(belief.wait(&pace, 0.5), pace.unhealthy_interval);
        belief.note(true, &pace);
        assert_eq!(belief.wait(&pace, 0.5), pace.interval);
        belief.note(false, &pace);
        assert_eq!(belief.wait(&pace, 0.5), pace.unhealthy_interval, "one failure of three");
        belief.note(true, &pace);
        assert_eq!(belief.wait(&pace, 0.5), pace.interval);
    }

    proptest! {
        #[test]
        fn a_turn_takes_exactly_its_run(
            results in proptest::collection::vec(any::<bool>(), 0..200),
            healthy in 1u32..5,
            unhealthy in 1u32..5,
        ) {
            let pace = CheckPace { healthy_threshold: healthy, unhealthy_threshold: unhealthy, ..CheckPace::default() };
            let mut belief = Belief::new(Health::Healthy);
            let mut since_turn: Vec<bool> = Vec::new();
            for passed in results {
                let before = belief.health;
                since_turn.push(passed);
                // The naive model: the last so many results since the turn all contradict what is believed.
                let contrary = before == Health::Unhealthy;
                let needed = if contrary { healthy } else { unhealthy } as usize;
                let due = since_turn.len() >= needed
                    && since_turn.iter().rev().take(needed).all(|passed| *passed == contrary);
                let turned = belief.note(passed, &pace);
                prop_assert_eq!(turned.is_some(), due);
                if due {
                    since_turn.clear();
                }
            }
        }

        #[test]
        fn jitter_only_lengthens_and_is_bounded(percent in 0u8..=100, chance in 0.0f64..1.0) {
            let pace = CheckPace { jitter_percent: percent, ..CheckPace::default() };
            let wait = Belief::new(Health::Healthy).wait(&pace, chance);
            prop_assert!(wait >= pace.interval);
            prop_assert!(wait <= pace.interval.mul_f64(1.0 + f64::from(percent) / 100.0));
        }
    }
}
