use super::*;
use proptest::prelude::*;

const QUICK: Duration = Duration::from_millis(1);
const WAIT: u64 = 60_000;

fn breaker(settings: BreakerSettings) -> Arc<Breaker> {
    Arc::new(Breaker::new(settings))
}

fn half() -> BreakerSettings {
    BreakerSettings {
        failure_rate_threshold: Some(50),
        sliding_window: SlidingWindow::CountBased(10),
        minimum_number_of_calls: 4,
        permitted_number_of_calls_in_half_open_state: 3,
        ..BreakerSettings::default()
    }
}

fn call(breaker: &Arc<Breaker>, failed: bool, now: u64) -> Option<BreakerState> {
    breaker.pass(now).unwrap().end(failed, QUICK, now)
}

#[test]
fn it_opens_at_the_threshold_and_not_before_the_minimum() {
    let breaker = breaker(half());
    for _ in 0..3 {
        assert_eq!(call(&breaker, true, 0), None, "three calls say nothing yet");
    }
    assert_eq!(call(&breaker, true, 0), Some(BreakerState::Open));
    assert_eq!(breaker.pass(1).unwrap_err().retry_after, Duration::from_millis(WAIT - 1));
    assert!(!breaker.is_passable(WAIT - 1));
    assert!(breaker.is_passable(WAIT));
}

#[test]
fn successes_dilute_failures() {
    let breaker = breaker(BreakerSettings { minimum_number_of_calls: 10, ..half() });
    for round in 0..50 {
        assert_eq!(call(&breaker, round % 5 < 2, 0), None, "40 % is less than 50 %");
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn slow_calls_open_it_too() {
    let settings = BreakerSettings {
        slow_call_rate_threshold: Some(100),
        slow_call_duration_threshold: Duration::from_secs(1),
        failure_rate_threshold: None,
        ..half()
    };
    let breaker = breaker(settings);
    for _ in 0..3 {
        assert_eq!(breaker.pass(0).unwrap().end(true, Duration::from_secs(1), 0), None);
    }
    assert_eq!(breaker.pass(0).unwrap().end(false, Duration::from_secs(1), 0), Some(BreakerState::Open));
}

fn opened() -> Arc<Breaker> {
    let breaker = breaker(half());
    (0..4).for_each(|_| {
        call(&breaker, true, 0);
    });
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

#[test]
fn probes_close_it() {
    let breaker = opened();
    let probes: Vec<_> = (0..3).map(|_| breaker.pass(WAIT).unwrap()).collect();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(breaker.pass(WAIT).unwrap_err().retry_after, PROBES_UNDER_WAY);
    assert!(!breaker.is_passable(WAIT));
    let states: Vec<_> =
        probes.into_iter().enumerate().map(|(at, probe)| probe.end(at == 1, QUICK, WAIT)).collect();
    assert_eq!(states, [None, None, Some(BreakerState::Closed)], "one of three is less than half");
    assert_eq!(call(&breaker, true, WAIT), None, "the failures of before are forgotten");
}

#[test]
fn probes_open_it_as_soon_as_they_can() {
    let breaker = opened();
    assert_eq!(call(&breaker, true, WAIT), None);
    assert_eq!(call(&breaker, true, WAIT), Some(BreakerState::Open), "the third could not save it");
    assert!(breaker.pass(2 * WAIT - 1).is_err());
    assert!(breaker.pass(2 * WAIT).is_ok());
}

#[test]
fn a_probe_without_result_gives_its_place_back() {
    let breaker = opened();
    let probes: Vec<_> = (0..3).map(|_| breaker.pass(WAIT).unwrap()).collect();
    assert!(breaker.pass(WAIT).is_err());
    drop(probes);
    assert!(breaker.is_passable(WAIT));
    for last in [None, None, Some(BreakerState::Closed)] {
        assert_eq!(call(&breaker, false, WAIT), last);
    }
}

#[test]
fn probes_that_do_not_end_are_replaced() {
    let breaker = opened();
    let stuck: Vec<_> = (0..3).map(|_| breaker.pass(WAIT).unwrap()).collect();
    let overdue = WAIT + PROBES_OVERDUE;
    assert!(breaker.pass(overdue - 1).is_err() && !breaker.is_passable(overdue - 1));
    assert!(breaker.is_passable(overdue), "an endpoint is chosen by this");
    let next: Vec<_> = (0..3).map(|_| breaker.pass(overdue).unwrap()).collect();
    assert!(next.iter().all(|pass| pass.entered.is_none()), "that it probes on is no news");
    assert!(breaker.pass(overdue).is_err(), "and no more than may");
    for late in stuck {
        assert_eq!(late.end(true, QUICK, overdue), None, "nobody waits for these any more");
    }
    let states: Vec<_> = next.into_iter().map(|probe| probe.end(false, QUICK, overdue)).collect();
    assert_eq!(states, [None, None, Some(BreakerState::Closed)]);
}

#[test]
fn calls_of_an_older_state_count_for_nothing() {
    let breaker = breaker(half());
    let old: Vec<_> = (0..20).map(|_| breaker.pass(0).unwrap()).collect();
    let mut old = old.into_iter();
    for _ in 0..4 {
        old.next().unwrap().end(true, QUICK, 0);
    }
    let probe = breaker.pass(WAIT).unwrap();
    for call in old.by_ref().take(8) {
        assert_eq!(call.end(true, QUICK, WAIT), None);
    }
    drop(old);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(probe.end(false, QUICK, WAIT), None);
    assert_eq!(call(&breaker, false, WAIT), None);
    assert_eq!(call(&breaker, false, WAIT), Some(BreakerState::Closed));
}

#[test]
fn never_more_probes_than_permitted_among_threads() {
    for _ in 0..50 {
        let breaker = opened();
        let (under_way, most, served) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for thread in 0..6u32 {
                let (breaker, under_way, most, served) = (&breaker, &under_way, &most, &served);
                scope.spawn(move || {
                    for round in 0..40u32 {
                        let Ok(pass) = breaker.pass(WAIT) else { continue };
                        if pass.era.state() != BreakerState::HalfOpen {
                            // It closed: enough was seen.
                            return;
                        }
                        most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        // Before the place is given back.
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        if (thread + round) % 3 == 0 {
                            served.fetch_add(1, Ordering::SeqCst);
                            pass.end(false, QUICK, WAIT);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert!(served.load(Ordering::SeqCst) <= 3, "each that ended kept its place");
    }
}

/// What the breaker should be, without any cleverness.
#[derive(Default)]
struct Naive {
    state: BreakerState,
    until: u64,
    calls: Vec<bool>,
    under_way: u32,
    ended: Vec<bool>,
}

impl Naive {
    fn enter(&mut self, state: BreakerState, now: u64) {
        *self = Naive { state, until: now + WAIT, ..Naive::default() };
    }

    fn has_place(&self) -> bool {
        self.under_way + (self.ended.len() as u32) < 3
    }

    fn end(&mut self, failed: bool, now: u64) {
        let share = |calls: &[bool]| calls.iter().filter(|failed| **failed).count() * 2;
        match self.state {
            BreakerState::Closed => {
                self.calls.push(failed);
                let last: Vec<bool> = self.calls.iter().rev().take(10).copied().collect();
                if failed && last.len() >= 4 && share(&last) >= last.len() {
                    self.enter(BreakerState::Open, now);
                }
            }
            BreakerState::HalfOpen => {
                self.ended.push(failed);
                if share(&self.ended) >= 3 {
                    self.enter(BreakerState::Open, now);
                } else if self.ended.len() == 3 {
                    self.enter(BreakerState::Closed, now);
                }
            }
            BreakerState::Open => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    End(usize, bool),
    Cancel(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Begin),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(at, failed)| Step::End(at, failed)),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => (0u64..90_000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn it_does_what_the_naive_one_does(steps in steps()) {
        let (breaker, mut naive) = (breaker(half()), Naive::default());
        // The passes under way; whether each was given in the state that still is.
        let (mut passes, mut now): (Vec<(Pass, Era)>, u64) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Wait(millis) => now += millis,
                Step::Begin => {
                    if naive.state == BreakerState::Open && now >= naive.until {
                        naive.enter(BreakerState::HalfOpen, now);
                    }
                    let expected = match naive.state {
                        BreakerState::Closed => true,
                        BreakerState::Open => false,
                        BreakerState::HalfOpen => naive.has_place() || now >= naive.until,
                    };
                    if naive.state == BreakerState::HalfOpen && expected && !naive.has_place() {
                        naive.enter(BreakerState::HalfOpen, now);
                    }
                    let pass = breaker.pass(now);
                    prop_assert_eq!(pass.is_ok(), expected);
                    if let Ok(pass) = pass {
                        naive.under_way += u32::from(naive.state == BreakerState::HalfOpen);
                        let era = pass.era;
                        passes.push((pass, era));
                    }
                }
                Step::End(at, failed) if !passes.is_empty() => {
                    let (pass, era) = passes.swap_remove(at % passes.len());
                    if era == breaker.era() {
                        naive.under_way = naive.under_way.saturating_sub(1);
                        naive.end(failed, now);
                    }
                    pass.end(failed, QUICK, now);
                }
                Step::Cancel(at) if !passes.is_empty() => {
                    let (pass, era) = passes.swap_remove(at % passes.len());
                    if era == breaker.era() {
                        naive.under_way = naive.under_way.saturating_sub(1);
                    }
                    drop(pass);
                }
                _ => {}
            }
            prop_assert_eq!(breaker.state(), naive.state);
        }
    }
}
