//! What one question was last answered with, and when to ask it again. No IO, no clock.

use std::time::{Duration, Instant};

/// The first wait after a failure, doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after failures.
const LAST_RETRY: Duration = Duration::from_secs(16);

/// How often is asked, and for how long an empty answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// The least time to live.
    pub(crate) min: Duration,
    /// The longest.
    pub(crate) max: Duration,
    /// For how long the last good answer counts where there is said to be nothing any more.
    pub(crate) hold_empty: Duration,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// An answer, and for how long it is true.
    Found(Vec<T>, Duration),
    /// There is nothing, and for how long that is true, where it was said.
    Empty(Option<Duration>),
    /// Nobody knows.
    Failed,
}

/// The last good answer to one question. It outlives failures without end, and an empty answer for
/// [`Pace::hold_empty`]: a registry that loses its mind for a moment must not take the service down with it.
#[derive(Clone, Debug)]
pub(crate) struct Slot<T> {
    known: Vec<T>,
    due: Option<Instant>,
    empty_since: Option<Instant>,
    failures: u32,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { known: Vec::new(), due: None, empty_since: None, failures: 0 }
    }
}

impl<T: Ord> Slot<T> {
    /// The last good answer, sorted and each once.
    pub(crate) fn known(&self) -> &[T] {
        &self.known
    }

    /// When to ask again; `None` where nobody has asked yet.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is time to ask.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Takes up what came of asking.
    pub(crate) fn note(&mut self, outcome: Outcome<T>, now: Instant, pace: &Pace) {
        let ttl = |ttl: Duration| ttl.clamp(pace.min, pace.max.max(pace.min));
        let wait = match outcome {
            Outcome::Found(mut found, lifetime) => {
                found.sort_unstable();
                found.dedup();
                self.known = found;
                (self.empty_since, self.failures) = (None, 0);
                ttl(lifetime)
            }
            Outcome::Empty(lifetime) => {
                self.failures = 0;
                let held = now.saturating_duration_since(*self.empty_since.get_or_insert(now));
                let left = pace.hold_empty.saturating_sub(held);
                if left.is_zero() {
                    self.known.clear();
                }
                let wait = ttl(lifetime.unwrap_or(pace.min));
                // Not asked in time, it would be believed for longer than it is to be.
                if self.known.is_empty() { wait } else { wait.min(left) }
            }
            Outcome::Failed => {
                let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(LAST_RETRY);
                self.failures = self.failures.saturating_add(1);
                wait.max(pace.min).min(pace.max.max(FIRST_RETRY))
            }
        };
        self.due = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACE: Pace = Pace {
        min: Duration::from_secs(2),
        max: Duration::from_secs(60),
        hold_empty: Duration::from_secs(30),
    };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn lifetimes_are_clamped() {
        let now = Instant::now();
        for (lifetime, wait) in [(0, 2), (1, 2), (5, 5), (60, 60), (86_400, 60)] {
            let mut slot = Slot::default();
            assert!(slot.is_due(now));
            slot.note(Outcome::Found(vec![1], seconds(lifetime)), now, &PACE);
            assert_eq!(slot.due(), Some(now + seconds(wait)), "{lifetime}");
            assert!(!slot.is_due(now));
        }
    }

    #[test]
    fn answers_are_sorted_and_each_stands_once() {
        let mut slot = Slot::default();
        slot.note(Outcome::Found(vec![3, 1, 3, 2], seconds(5)), Instant::now(), &PACE);
        assert_eq!(slot.known(), [1, 2, 3]);
    }

    #[test]
    fn failures_keep_the_last_good_answer_and_back_off() {
        let mut now = Instant::now();
        let mut slot = Slot::default();
        slot.note(Outcome::Found(vec![1], seconds(5)), now, &PACE);
        for wait in [2, 2, 4, 8, 16, 16, 16] {
            now += seconds(3600);
            slot.note(Outcome::Failed, now, &PACE);
            assert_eq!((slot.known(), slot.due()), (&[1][..], Some(now + seconds(wait))));
        }
        slot.note(Outcome::Found(vec![2], seconds(5)), now, &PACE);
        slot.note(Outcome::Failed, now, &PACE);
        assert_eq!((slot.known(), slot.due()), (&[2][..], Some(now + seconds(2))), "it begins anew");
    }

    #[test]
    fn an_empty_answer_is_believed_after_a_while() {
        let start = Instant::now();
        let mut slot = Slot::default();
        slot.note(Outcome::Found(vec![1], seconds(5)), start, &PACE);
        slot.note(Outcome::Empty(Some(seconds(20))), start, &PACE);
        assert_eq!((slot.known(), slot.due()), (&[1][..], Some(start + seconds(20))));
        slot.note(Outcome::Empty(Some(seconds(20))), start + seconds(20), &PACE);
        assert_eq!((slot.known(), slot.due()), (&[1][..], Some(start + seconds(30))), "not a moment longer");
        slot.note(Outcome::Empty(Some(seconds(20))), start + seconds(30), &PACE);
        assert_eq!((slot.known(), slot.due()), (&[][..], Some(start + seconds(50))));
    }

    #[test]
    fn a_good_answer_in_between_starts_the_wait_anew() {
        let start = Instant::now();
        let mut slot = Slot::default();
        slot.note(Outcome::Found(vec![1], seconds(5)), start, &PACE);
        slot.note(Outcome::Empty(None), start + seconds(5), &PACE);
        slot.note(Outcome::Found(vec![1], seconds(5)), start + seconds(20), &PACE);
        slot.note(Outcome::Empty(None), start + seconds(40), &PACE);
        assert_eq!(slot.known(), [1]);
    }

    #[test]
    fn without_a_hold_an_empty_answer_counts_at_once() {
        let now = Instant::now();
        let pace = Pace { hold_empty: Duration::ZERO, ..PACE };
        let mut slot = Slot::default();
        slot.note(Outcome::Found(vec![1], seconds(5)), now, &pace);
        slot.note(Outcome::Empty(None), now, &pace);
        assert_eq!((slot.known(), slot.due()), (&[][..], Some(now + seconds(2))));
    }

    fn outcome() -> impl Strategy<Value = Outcome<u8>> {
        prop_oneof![
            (proptest::collection::vec(any::<u8>(), 1..4), 0u64..1000)
                .prop_map(|(found, ttl)| Outcome::Found(found, seconds(ttl))),
            proptest::option::of(0u64..1000).prop_map(|ttl| Outcome::Empty(ttl.map(seconds))),
            Just(Outcome::Failed),
        ]
    }

    proptest! {
        /// Whatever comes: what was good is lost only to an empty time of at least the hold; it is always asked again,
        /// within the bounds.
        #[test]
        fn good_answers_last(outcomes in proptest::collection::vec((outcome(), 0u64..40), 1..60)) {
            let mut now = Instant::now();
            let mut slot = Slot::default();
            let (mut good, mut empty_since): (Vec<u8>, Option<Instant>) = (Vec::new(), None);
            for (outcome, wait) in outcomes {
                now += seconds(wait);
                match &outcome {
                    Outcome::Found(found, _) => {
                        (good, empty_since) = (found.clone(), None);
                        good.sort_unstable();
                        good.dedup();
                    }
                    Outcome::Empty(_) => {
                        let since = *empty_since.get_or_insert(now);
                        if now - since >= PACE.hold_empty {
                            good.clear();
                        }
                    }
                    Outcome::Failed => {}
                }
                slot.note(outcome, now, &PACE);
                prop_assert_eq!(slot.known(), &good[..]);
                let due = slot.due().unwrap();
                prop_assert!(due >= now && due <= now + PACE.max);
            }
        }
    }
}
