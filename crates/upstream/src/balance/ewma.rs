//! How long an endpoint takes to answer: a moving average that believes bad news at once.
//!
//! Finagle's `PeakEwma` (Ruben Oanta, 2014), which linkerd and tower have too: a sample above the average replaces it,
//! one below draws it down by how long ago the last one was, with a decay of ten seconds. An endpoint that begins to
//! stall is avoided from its first slow answer on, and tried again as its average fades.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time in which a sample's weight falls to 1/e: Finagle's and linkerd's.
const DECAY_MS: f32 = 10_000.0;
/// What an endpoint costs that has not answered yet and has requests under way, in microseconds: so much that none
/// but the first waits for its first answer while another endpoint is known to answer. Finagle's penalty, made finite.
const UNKNOWN: f32 = 1e9;
/// What a try is taken to have lasted that gave no answer: failing fast must not draw requests.
const FAILED: Duration = Duration::from_secs(1);

/// The average and when it was true: microseconds as the bits of an `f32`, and milliseconds, in one word, so that
/// threads change both together.
#[derive(Debug, Default)]
pub(crate) struct PeakEwma(AtomicU64);

#[derive(Clone, Copy)]
struct State {
    micros: f32,
    at: u32,
}

impl State {
    fn unpack(word: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
        State { micros: f32::from_be_bytes([a, b, c, d]), at: u32::from_be_bytes([e, f, g, h]) }
    }

    fn pack(self) -> u64 {
        (u64::from(self.micros.to_bits()) << 32) | u64::from(self.at)
    }

    /// What is left at `now` of a sample's weight. The clock may be another thread's, and a little behind.
    fn left(self, now: u32) -> f32 {
        let passed = now.wrapping_sub(self.at);
        if passed > u32::MAX / 2 { 1.0 } else { (-(passed as f32) / DECAY_MS).exp() }
    }
}

impl PeakEwma {
    /// Notes an answer that took so long; `now` in milliseconds of a clock that all threads share, and may wrap.
    pub(crate) fn answered(&self, latency: Duration, now: u32) {
        let sample = latency.as_secs_f32() * 1e6;
        let update = |word: u64| {
            let state = State::unpack(word);
            if sample > state.micros {
                return Some(State { micros: sample, at: now }.pack());
            }
            let left = state.left(now);
            // Within one millisecond of the clock, the first sample speaks for all.
            let micros = state.micros * left + sample * (1.0 - left);
            (left < 1.0).then(|| State { micros, at: now }.pack())
        };
        // It fails where nothing changes.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Notes a try that gave no answer.
    pub(crate) fn failed(&self, after: Duration, now: u32) {
        self.answered(after.max(FAILED), now);
    }

    /// Notes that nobody waited any longer for an answer: it would have taken so long at least.
    pub(crate) fn given_up(&self, after: Duration, now: u32) {
        if after.as_secs_f32() * 1e6 > State::unpack(self.0.load(Ordering::Relaxed)).micros {
            self.answered(after, now);
        }
    }

    /// What the next request would cost, in microseconds times requests: the average as faded as it is by now, for each
    /// request under way and this one. `in_flight` may be weighed.
    pub(crate) fn cost(&self, in_flight: f32, now: u32) -> f32 {
        let state = State::unpack(self.0.load(Ordering::Relaxed));
        let micros = state.micros * state.left(now);
        if micros == 0.0 && in_flight > 0.0 {
            return UNKNOWN + in_flight;
        }
        micros * (in_flight + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn peaks_count_at_once_and_fade() {
        let ewma = PeakEwma::default();
        ewma.answered(MS(10), 0);
        assert_eq!(ewma.cost(0.0, 0), 10_000.0);
        ewma.answered(MS(500), 1_000);
        assert_eq!(ewma.cost(0.0, 1_000), 500_000.0);
        // Ten seconds later a good answer has 1 - 1/e of the say.
        ewma.answered(MS(10), 11_000);
        let wanted = 500_000.0 / std::f32::consts::E + 10_000.0 * (1.0 - 1.0 / std::f32::consts::E);
        assert!((ewma.cost(0.0, 11_000) - wanted).abs() < 10.0, "{}", ewma.cost(0.0, 11_000));
        // Nobody asks it: it fades by itself, and is tried again.
        assert!(ewma.cost(0.0, 81_000) < 300.0);
    }

    #[test]
    fn many_answers_a_millisecond_draw_it_down_all_the_same() {
        let ewma = PeakEwma::default();
        ewma.answered(MS(500), 0);
        for request in 0..1_000_000u32 {
            ewma.answered(MS(1), request / 20);
        }
        assert!(ewma.cost(0.0, 50_000) < 5_000.0, "{}", ewma.cost(0.0, 50_000));
    }

    #[test]
    fn requests_under_way_multiply() {
        let ewma = PeakEwma::default();
        ewma.answered(MS(10), 0);
        assert_eq!(ewma.cost(3.0, 0), 40_000.0);
    }

    #[test]
    fn nobody_waits_for_the_first_answer() {
        let (new, slow) = (PeakEwma::default(), PeakEwma::default());
        slow.answered(MS(10_000), 0);
        assert_eq!(new.cost(0.0, 0), 0.0, "it is asked once");
        assert!(new.cost(1.0, 0) > slow.cost(20.0, 0));
    }

    #[test]
    fn failing_fast_is_no_recommendation() {
        let (failing, slow) = (PeakEwma::default(), PeakEwma::default());
        failing.failed(Duration::from_micros(50), 0);
        slow.answered(MS(300), 0);
        assert!(failing.cost(0.0, 0) > slow.cost(2.0, 0));
    }

    #[test]
    fn giving_up_is_no_good_news() {
        let ewma = PeakEwma::default();
        ewma.answered(MS(100), 0);
        ewma.given_up(MS(1), 5_000);
        assert_eq!(ewma.cost(0.0, 0), 100_000.0);
        ewma.given_up(MS(3_000), 5_000);
        assert_eq!(ewma.cost(0.0, 5_000), 3_000_000.0);
    }

    #[test]
    fn the_clock_may_wrap_and_lag() {
        let ewma = PeakEwma::default();
        ewma.answered(MS(10), u32::MAX - 10);
        assert_eq!(ewma.cost(0.0, u32::MAX - 12), 10_000.0, "a clock behind changes nothing");
        let after = ewma.cost(0.0, 10_000);
        assert!((3_500.0..3_800.0).contains(&after), "{after}");
    }
}
