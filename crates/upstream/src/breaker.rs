//! The circuit breaker (Nygard, *Release It!*): calls to what fails are not made.
//!
//! Names and rules are resilience4j's. Closed, it lets every call pass and watches the share of those that fail or are
//! slow among the last ones; above a threshold it opens. Open, it refuses every call until its wait is over. Then it is
//! half-open: so many probes may pass, and what share of them fails or is slow closes it or opens it again. Unlike
//! there, what was begun before a change of state counts for nothing after it, a probe that ends without a result (its
//! client went away) gives its place back, others probe where probes do not end within a minute, and it opens again as
//! soon as the failures of probes suffice for it.
//!
//! Each call holds a [`Pass`]. Closed, a pass costs a load and its result one entry in the window; only a call that
//! failed or was slow looks at the sums. The lock is for changes of state and for probes.

mod window;

pub use window::SlidingWindow;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use window::{Ended, Tally, Window};

/// When a breaker opens, and how it closes again. Names are resilience4j's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// The share of failed calls at which it opens, in percent of those in the window; 0 counts as 1.
    pub failure_rate_threshold: Option<u8>,
    /// The share of slow calls at which it opens, likewise.
    pub slow_call_rate_threshold: Option<u8>,
    /// From when on a call is slow.
    pub slow_call_duration_threshold: Duration,
    /// Which calls count.
    pub sliding_window: SlidingWindow,
    /// With fewer calls in the window it does not open. A window of so many calls never holds more than these.
    pub minimum_number_of_calls: u32,
    /// How long it stays open.
    pub wait_duration_in_open_state: Duration,
    /// Probes of the half-open state; 0 counts as 1.
    pub permitted_number_of_calls_in_half_open_state: u32,
}

impl Default for BreakerSettings {
    /// resilience4j's, but that neither rate has a threshold: a breaker without one never opens.
    fn default() -> Self {
        BreakerSettings {
            failure_rate_threshold: None,
            slow_call_rate_threshold: None,
            slow_call_duration_threshold: Duration::from_secs(60),
            sliding_window: SlidingWindow::CountBased(100),
            minimum_number_of_calls: 100,
            wait_duration_in_open_state: Duration::from_secs(60),
            permitted_number_of_calls_in_half_open_state: 10,
        }
    }
}

impl BreakerSettings {
    fn probes(&self) -> u32 {
        self.permitted_number_of_calls_in_half_open_state.max(1)
    }

    fn least_calls(&self) -> u32 {
        match self.sliding_window {
            SlidingWindow::CountBased(calls) => self.minimum_number_of_calls.min(calls.max(1)),
            SlidingWindow::TimeBased(_) => self.minimum_number_of_calls,
        }
    }

    /// Whether a rate reaches its threshold among `of` calls.
    fn is_too_much(&self, tally: Tally, of: u32) -> bool {
        let reaches = |part: u32, threshold: Option<u8>| {
            threshold.is_some_and(|percent| {
                part > 0 && u64::from(part) * 100 >= u64::from(percent.clamp(1, 100)) * u64::from(of)
            })
        };
        reaches(tally.failed, self.failure_rate_threshold)
            || reaches(tally.slow, self.slow_call_rate_threshold)
    }
}

/// A breaker's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls pass.
    #[default]
    Closed,
    /// Calls are refused.
    Open,
    /// A few probes pass.
    HalfOpen,
}

impl BreakerState {
    /// Its name in logs, metrics and `/readyz`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// A state that was entered. Written in one word with the number of changes so far, by which a pass of an older state
/// is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Era(u64);

impl Era {
    fn state(self) -> BreakerState {
        match self.0 & 3 {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    fn next(self, state: BreakerState) -> Self {
        let state = match state {
            BreakerState::Closed => 0,
            BreakerState::Open => 1,
            BreakerState::HalfOpen => 2,
        };
        Era(((self.0 >> 2).wrapping_add(1) << 2) | state)
    }
}

/// What the probes of a half-open state have come to.
#[derive(Debug, Default)]
struct Probing {
    /// Places taken: probes under way and ended.
    taken: u32,
    ended: Tally,
}

/// A call that a breaker refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// When it is worth trying again.
    pub(crate) retry_after: Duration,
}

/// How soon to ask again where the probes have not ended yet.
const PROBES_UNDER_WAY: Duration = Duration::from_secs(1);
/// After how many milliseconds others probe in the place of those that have not ended. A probe lasts as long as its
/// client takes to send its body, and nobody's slowness may keep a breaker from closing.
const PROBES_OVERDUE: u64 = 60_000;

/// One breaker, shared by all threads.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) settings: BreakerSettings,
    era: AtomicU64,
    /// When the wait is over, in milliseconds of the process's clock; half-open, the one for the probes.
    until: AtomicU64,
    /// Places of probes that are left.
    places: AtomicU32,
    window: Window,
    probing: Mutex<Probing>,
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Breaker {
            settings,
            era: AtomicU64::new(0),
            until: AtomicU64::new(0),
            places: AtomicU32::new(0),
            window: Window::new(settings.sliding_window),
            probing: Mutex::default(),
        }
    }

    fn era(&self) -> Era {
        // Acquire: whoever sees a state sees what was written before it was entered.
        Era(self.era.load(Ordering::Acquire))
    }

    fn lock(&self) -> MutexGuard<'_, Probing> {
        self.probing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.era().state()
    }

    /// Whether a call would most likely pass now. For choosing among endpoints; [`Breaker::pass`] decides.
    pub(crate) fn is_passable(&self, now: u64) -> bool {
        match self.state() {
            BreakerState::Closed => true,
            BreakerState::Open => now >= self.until.load(Ordering::Relaxed),
            BreakerState::HalfOpen => {
                self.places.load(Ordering::Relaxed) > 0 || now >= self.until.load(Ordering::Relaxed)
            }
        }
    }

    /// Lets a call pass, or not. After the wait the first call that asks makes it half-open.
    pub(crate) fn pass(self: &Arc<Self>, now: u64) -> Result<Pass, Refused> {
        let era = self.era();
        let pass = |era, entered| Pass { breaker: Arc::clone(self), era, entered, ended: false };
        if era.state() == BreakerState::Closed {
            return Ok(pass(era, None));
        }
        let mut entered = None;
        let mut probing = self.lock();
        let mut era = self.era();
        if era.state() == BreakerState::Open {
            let until = self.until.load(Ordering::Relaxed);
            if now < until {
                return Err(Refused { retry_after: Duration::from_millis(until - now) });
            }
            era = self.probe(&mut probing, now);
            entered = Some(BreakerState::HalfOpen);
        }
        if era.state() == BreakerState::HalfOpen {
            if probing.taken >= self.settings.probes() {
                if now < self.until.load(Ordering::Relaxed) {
                    return Err(Refused { retry_after: PROBES_UNDER_WAY });
                }
                era = self.probe(&mut probing, now);
            }
            self.take_places(&mut probing, 1);
        }
        Ok(pass(era, entered))
    }

    /// The state where it was entered by this call's result.
    fn end(&self, era: Era, ended: Ended, now: u64) -> Option<BreakerState> {
        if era != self.era() {
            return None;
        }
        match era.state() {
            BreakerState::Closed => {
                self.window.record(ended, now);
                if !ended.failed && !ended.slow {
                    return None;
                }
                let tally = self.window.tally(now);
                if tally.calls < self.settings.least_calls() || !self.settings.is_too_much(tally, tally.calls)
                {
                    return None;
                }
                let mut probing = self.lock();
                // Another thread may have seen the same.
                (era == self.era()).then(|| self.open(&mut probing, now))
            }
            BreakerState::HalfOpen => {
                let mut probing = self.lock();
                if era != self.era() {
                    return None;
                }
                probing.ended.add(ended);
                let probes = self.settings.probes();
                if self.settings.is_too_much(probing.ended, probes) {
                    return Some(self.open(&mut probing, now));
                }
                (probing.ended.calls >= probes)
                    .then(|| self.enter(&mut probing, BreakerState::Closed).state())
            }
            BreakerState::Open => None,
        }
    }

    /// A probe that came to nothing.
    fn give_back(&self, era: Era) {
        if era.state() == BreakerState::HalfOpen {
            let mut probing = self.lock();
            if era == self.era() {
                let taken = probing.taken.saturating_sub(1);
                probing.taken = 0;
                self.take_places(&mut probing, taken);
            }
        }
    }

    fn take_places(&self, probing: &mut Probing, count: u32) {
        probing.taken += count;
        self.places.store(self.settings.probes().saturating_sub(probing.taken), Ordering::Relaxed);
    }

    fn probe(&self, probing: &mut Probing, now: u64) -> Era {
        self.until.store(now.saturating_add(PROBES_OVERDUE), Ordering::Relaxed);
        self.enter(probing, BreakerState::HalfOpen)
    }

    fn open(&self, probing: &mut Probing, now: u64) -> BreakerState {
        let wait = u64::try_from(self.settings.wait_duration_in_open_state.as_millis()).unwrap_or(u64::MAX);
        self.until.store(now.saturating_add(wait), Ordering::Relaxed);
        self.enter(probing, BreakerState::Open).state()
    }

    fn enter(&self, probing: &mut Probing, state: BreakerState) -> Era {
        *probing = Probing::default();
        self.take_places(probing, 0);
        self.window.clear();
        let era = self.era().next(state);
        self.era.store(era.0, Ordering::Release);
        era
    }
}

/// A call that may be made. Without a result it gives its place back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Pass {
    breaker: Arc<Breaker>,
    era: Era,
    /// The state that was entered when it was given.
    pub(crate) entered: Option<BreakerState>,
    ended: bool,
}

impl Pass {
    /// Takes the call's result; the state where it was entered by it.
    pub(crate) fn end(mut self, failed: bool, duration: Duration, now: u64) -> Option<BreakerState> {
        self.ended = true;
        let slow = self.breaker.settings.slow_call_rate_threshold.is_some()
            && duration >= self.breaker.settings.slow_call_duration_threshold;
        self.breaker.end(self.era, Ended { failed, slow }, now)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.ended {
            self.breaker.give_back(self.era);
        }
    }
}

#[cfg(test)]
mod tests;
