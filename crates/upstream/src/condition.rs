//! Whether an endpoint is fit to be asked. All of it is read for every request, so it is a few atomics; what changes
//! it is rare and may take a lock.

use crate::breaker::{Breaker, BreakerSettings, BreakerState};
use crate::caps::Load;
use crate::health::{Belief, CheckPace, Health};
use crate::outlier::Ejection;
use crate::slow_start::SlowStart;
use arc_swap::ArcSwapOption;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
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

/// Counts what made any endpoint of the process healthy or unhealthy, so that what was made of their health can be
/// known to be stale.
static CHANGES: AtomicU64 = AtomicU64::new(1);

/// The number of such changes so far; never 0.
pub(crate) fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

/// Its active checks fail, or none was passed yet.
const UNHEALTHY: u8 = 1;
/// It is ejected.
const EJECTED: u8 = 2;
/// Its breaker is not closed.
const BREAKER: u8 = 4;

/// What is known of an endpoint's fitness. It belongs to the endpoint, and so outlives a reload.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    /// 0, or when it may be asked again though a connection to it failed.
    aside_until: AtomicU64,
    /// What speaks against it; nearly always nothing.
    against: AtomicU8,
    /// Whether it was taken into an upstream.
    joined: AtomicBool,
    belief: Mutex<Belief>,
    /// When it is to be checked next, so that reloads neither hasten checks nor put them off.
    next_check: AtomicU64,
    pub(crate) ejection: Ejection,
    pub(crate) slow_start: SlowStart,
    /// Only while its upstream has one for each endpoint.
    breaker: ArcSwapOption<Breaker>,
    pub(crate) load: Arc<Load>,
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

    /// Whether it should be asked while others can be had. In a panic its health does not matter.
    pub(crate) fn is_available(&self, panic: bool) -> bool {
        let against = self.against.load(Ordering::Relaxed);
        (against == 0 || self.is_bearable(against, panic)) && !self.is_aside()
    }

    #[cold]
    fn is_bearable(&self, against: u8, panic: bool) -> bool {
        (panic || against & (UNHEALTHY | EJECTED) == 0)
            && (against & BREAKER == 0
                || self.breaker.load().as_deref().is_none_or(|breaker| breaker.is_passable(now())))
    }

    /// Whether it may be asked at all: where no other can be had, one to which a connection failed may be, too.
    pub(crate) fn is_permitted(&self, panic: bool) -> bool {
        panic || self.is_healthy()
    }

    /// Whether it passes its checks and is not ejected.
    pub(crate) fn is_healthy(&self) -> bool {
        self.against.load(Ordering::Relaxed) & (UNHEALTHY | EJECTED) == 0
    }

    /// Whether it gets only a part of its weight.
    pub(crate) fn is_warming(&self) -> bool {
        self.slow_start.is_warming()
    }

    fn set(&self, bit: u8, on: bool) {
        let before = if on {
            self.against.fetch_or(bit, Ordering::Relaxed)
        } else {
            self.against.fetch_and(!bit, Ordering::Relaxed)
        };
        if (before & bit != 0) != on && bit != BREAKER {
            CHANGES.fetch_add(1, Ordering::Release);
        }
    }

    fn belief(&self) -> MutexGuard<'_, Belief> {
        self.belief.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is taken into an upstream. One that comes to others that serve already warms up, and where endpoints are
    /// checked it must pass a check first. Says whether it is new.
    pub(crate) fn join(&self, late: bool, is_checked: bool) -> bool {
        if self.joined.swap(true, Ordering::Relaxed) {
            return false;
        }
        if late {
            self.slow_start.begin(now());
            if is_checked {
                *self.belief() = Belief::new(Health::Pending);
                self.set(UNHEALTHY, true);
            }
        }
        CHANGES.fetch_add(1, Ordering::Release);
        true
    }

    /// What active checks have found.
    pub(crate) fn health(&self) -> Health {
        self.belief().health
    }

    /// Takes a check's result: what was believed and what is, where it turned; and how long to wait for the next.
    pub(crate) fn note_check(&self, passed: bool, pace: &CheckPace) -> (Option<(Health, Health)>, Duration) {
        let mut belief = self.belief();
        let before = belief.health;
        let turned = belief.note(passed, pace);
        if let Some(health) = turned {
            if health.is_up() && !before.is_up() {
                self.slow_start.begin(now());
            }
            self.set(UNHEALTHY, !health.is_up());
        }
        let wait = belief.wait(pace, fastrand::f64());
        let next = now().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.next_check.store(next, Ordering::Relaxed);
        (turned.map(|health| (before, health)), wait)
    }

    /// How long to wait before the first check of a configuration.
    pub(crate) fn until_check(&self, pace: &CheckPace) -> Duration {
        let next = self.next_check.load(Ordering::Relaxed);
        Duration::from_millis(next.saturating_sub(now())).min(pace.interval)
    }

    /// It is not checked any more: what checks found counts for nothing.
    pub(crate) fn forget_checks(&self) {
        *self.belief() = Belief::default();
        self.set(UNHEALTHY, false);
    }

    /// It was ejected just now.
    pub(crate) fn ejected(&self) {
        self.set(EJECTED, true);
    }

    /// Its ejection ended.
    pub(crate) fn readmitted(&self) {
        self.slow_start.begin(now());
        self.set(EJECTED, false);
    }

    /// No endpoint is ejected any more.
    pub(crate) fn forget_ejection(&self) {
        if self.ejection.is_ejected() {
            self.ejection.end();
            self.set(EJECTED, false);
        }
    }

    /// Its breaker, if it has one.
    pub(crate) fn breaker(&self) -> Option<Arc<Breaker>> {
        self.breaker.load_full()
    }

    /// Gives it a breaker with these settings, or none. One that has them already goes on.
    pub(crate) fn set_breaker(&self, settings: Option<&BreakerSettings>) {
        let has = self.breaker.load();
        if has.as_deref().map(|breaker| &breaker.settings) != settings {
            self.breaker.store(settings.map(|settings| Arc::new(Breaker::new(*settings))));
            self.note_breaker();
        }
    }

    /// Its breaker may have changed its state.
    pub(crate) fn note_breaker(&self) {
        let state = || self.breaker.load().as_deref().map_or(BreakerState::Closed, Breaker::state);
        // Another thread may be about to write an older state; whoever writes last has seen the newest.
        for _ in 0..8 {
            let seen = state();
            self.set(BREAKER, seen != BreakerState::Closed);
            if state() == seen {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_counts_unless_there_is_a_panic() {
        let one = Condition::default();
        assert!(one.is_available(false));
        let before = changes();
        one.ejected();
        assert!(changes() > before);
        assert!(!one.is_available(false) && !one.is_permitted(false));
        assert!(one.is_available(true) && one.is_permitted(true));
        one.connect_failed();
        assert!(!one.is_available(true), "one that cannot be connected to is passed over in a panic, too");
        assert!(one.is_permitted(true));
        one.readmitted();
        assert!(one.is_healthy() && one.is_warming());
    }

    #[test]
    fn a_breaker_counts_in_a_panic_too() {
        let one = Condition::default();
        let settings = BreakerSettings {
            failure_rate_threshold: Some(50),
            minimum_number_of_calls: 1,
            ..BreakerSettings::default()
        };
        one.set_breaker(Some(&settings));
        let breaker = one.breaker().unwrap();
        breaker.pass(now()).unwrap().end(true, Duration::ZERO, now());
        one.note_breaker();
        assert!(one.is_healthy());
        assert!(!one.is_available(false) && !one.is_available(true));
        one.set_breaker(Some(&settings));
        assert!(Arc::ptr_eq(&breaker, &one.breaker().unwrap()), "a reload changes nothing");
        one.set_breaker(None);
        assert!(one.is_available(false));
    }

    #[test]
    fn a_latecomer_proves_itself_and_warms_up() {
        let pace = CheckPace::default();
        let (first, late) = (Condition::default(), Condition::default());
        assert!(first.join(false, true) && !first.join(true, true));
        assert!(first.is_available(false) && !first.is_warming());
        late.join(true, true);
        assert!(!late.is_available(false));
        assert_eq!(late.health(), Health::Pending);
        assert_eq!(late.note_check(true, &pace).0, Some((Health::Pending, Health::Healthy)));
        assert!(late.is_available(false) && late.is_warming());
        late.note_check(false, &pace);
        late.note_check(false, &pace);
        assert_eq!(late.note_check(false, &pace).0, Some((Health::Healthy, Health::Unhealthy)));
        assert!(!late.is_available(false));
        late.forget_checks();
        assert!(late.is_available(false));
    }
}
