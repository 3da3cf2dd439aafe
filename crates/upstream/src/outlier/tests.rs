use super::*;
use proptest::prelude::*;

fn endpoints(count: usize) -> Vec<Ejection> {
    (0..count).map(|_| Ejection::default()).collect()
}

fn refs(all: &[Ejection]) -> Vec<&Ejection> {
    all.iter().collect()
}

const SECOND: u64 = 1000;

#[test]
fn the_fifth_error_in_a_row_ejects() {
    let settings = OutlierSettings { consecutive_gateway_failure: 0, ..OutlierSettings::default() };
    let one = Ejection::default();
    for _ in 0..4 {
        assert_eq!(one.note(Sample::ServerError, &settings), None);
    }
    assert_eq!(one.note(Sample::Success, &settings), None, "a success begins the run anew");
    for _ in 0..4 {
        assert_eq!(one.note(Sample::ServerError, &settings), None);
    }
    assert_eq!(one.note(Sample::GatewayError, &settings), Some(EjectionCause::Consecutive5xx));
}

#[test]
fn gateway_errors_are_a_run_of_their_own() {
    let settings =
        OutlierSettings { consecutive_5xx: 0, consecutive_gateway_failure: 2, ..OutlierSettings::default() };
    let one = Ejection::default();
    assert_eq!(one.note(Sample::GatewayError, &settings), None);
    assert_eq!(one.note(Sample::ServerError, &settings), None, "a 500 is no gateway error");
    assert_eq!(one.note(Sample::GatewayError, &settings), None);
    assert_eq!(one.note(Sample::GatewayError, &settings), Some(EjectionCause::ConsecutiveGatewayFailure));
}

#[test]
fn ejections_grow_up_to_the_longest_and_are_forgiven() {
    let settings =
        OutlierSettings { max_ejection_time: Duration::from_secs(100), ..OutlierSettings::default() };
    let (all, detector) = (endpoints(2), Detector::default());
    let mut now = 0;
    for seconds in [30, 60, 90, 100, 100] {
        let time = detector.eject(&all[0], all.iter(), &settings, now).unwrap();
        assert_eq!(time, Duration::from_secs(seconds));
        assert!(detector.eject(&all[0], all.iter(), &settings, now).is_none(), "it is out already");
        now += seconds * SECOND - 1;
        assert!(detector.readmit(&refs(&all), now).is_empty(), "a millisecond too early");
        now += 1;
        assert_eq!(detector.readmit(&refs(&all), now), [0]);
        assert!(!all[0].is_ejected());
    }
    for _ in 0..2 {
        detector.sweep(&refs(&all), &settings, now);
    }
    assert_eq!(detector.eject(&all[0], all.iter(), &settings, now), Some(Duration::from_secs(60)));
    for _ in 0..9 {
        detector.sweep(&refs(&all), &settings, now);
    }
    now += 60 * SECOND;
    detector.readmit(&refs(&all), now);
    assert_eq!(
        detector.eject(&all[0], all.iter(), &settings, now),
        Some(Duration::from_secs(90)),
        "time spent out is no good conduct"
    );
}

#[test]
fn one_of_a_few_may_always_go() {
    let settings = OutlierSettings::default();
    for count in 1..19 {
        let (all, detector) = (endpoints(count), Detector::default());
        let ejected =
            all.iter().filter(|one| detector.eject(one, all.iter(), &settings, 0).is_some()).count();
        assert_eq!(ejected, 1, "of {count}");
    }
    let (all, detector) = (endpoints(20), Detector::default());
    let ejected = all.iter().filter(|one| detector.eject(one, all.iter(), &settings, 0).is_some()).count();
    assert_eq!(ejected, 2);
}

fn ask(one: &Ejection, requests: u32, failures: u32) {
    // Failures never stand in a row, so that nothing but the rate speaks against it.
    let settings =
        OutlierSettings { consecutive_5xx: 0, consecutive_gateway_failure: 0, ..OutlierSettings::default() };
    for number in 0..requests {
        let sample = if number < failures { Sample::ServerError } else { Sample::Success };
        assert_eq!(one.note(sample, &settings), None);
    }
}

#[test]
fn a_success_rate_far_below_the_others_ejects() {
    let settings = OutlierSettings::default();
    let (all, detector) = (endpoints(10), Detector::default());
    let fill = |failures: u32| {
        for (index, one) in all.iter().enumerate() {
            ask(one, 200, if index == 7 { failures } else { 2 });
        }
    };
    fill(2);
    assert!(detector.sweep(&refs(&all), &settings, 0).is_empty(), "all are alike");
    fill(100);
    let ejected = detector.sweep(&refs(&all), &settings, 0);
    assert_eq!(
        ejected,
        [Ejected { index: 7, cause: EjectionCause::SuccessRate, time: Duration::from_secs(30) }]
    );
    assert!(detector.sweep(&refs(&all), &settings, 0).is_empty(), "the counts were taken");
}

#[test]
fn rates_of_few_requests_or_few_endpoints_say_nothing() {
    let settings = OutlierSettings::default();
    let detector = Detector::default();
    for (count, requests) in [(4, 200), (10, 99)] {
        let all = endpoints(count);
        for (index, one) in all.iter().enumerate() {
            ask(one, requests, if index == 0 { requests } else { 0 });
        }
        assert!(detector.sweep(&refs(&all), &settings, 0).is_empty());
    }
}

#[test]
fn the_threshold_is_of_the_population() {
    // Envoy's `successRateEjectionThreshold` divides by the number of hosts, not by one less.
    let rates = [50.0, 100.0, 100.0, 100.0, 100.0];
    let least = least_rate(rates.into_iter(), 1900);
    assert!((least - 52.0).abs() < 1e-9, "90 - 1.9 * 20 = 52, not {least}");
}

#[derive(Clone, Debug)]
enum Step {
    Note(usize, bool),
    Wait(u64),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..30, any::<bool>()).prop_map(|(index, ok)| Step::Note(index, ok)),
        2 => (0u64..40_000).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ];
    proptest::collection::vec(step, 0..400)
}

#[test]
fn a_share_of_failures_ejects_whatever_the_others_do() {
    let settings = OutlierSettings {
        failure_percentage_threshold: Some(50),
        failure_percentage_minimum_hosts: 2,
        max_ejection_percent: 100,
        success_rate_minimum_hosts: 0,
        ..OutlierSettings::default()
    };
    let sweep = |settings: &OutlierSettings, counts: &[(u32, u32)]| -> Vec<usize> {
        let (all, detector) = (endpoints(counts.len()), Detector::default());
        all.iter().zip(counts).for_each(|(one, (requests, failures))| ask(one, *requests, *failures));
        let ejected = detector.sweep(&refs(&all), settings, 0);
        assert!(ejected.iter().all(|one| one.cause == EjectionCause::FailurePercentage));
        ejected.iter().map(|one| one.index).collect()
    };
    assert_eq!(
        sweep(&settings, &[(50, 25), (50, 24), (49, 49), (1000, 1000)]),
        [0, 3],
        "50 are enough, 49 are not"
    );
    assert_eq!(sweep(&settings, &[(50, 50), (50, 50)]), [0, 1], "all may be as bad");
    assert_eq!(sweep(&settings, &[(50, 50), (49, 0)]), [0; 0], "one alone is not compared");
    let never = OutlierSettings { failure_percentage_threshold: None, ..settings };
    assert_eq!(sweep(&never, &[(50, 50), (50, 50)]), [0; 0]);
    let all_failed = OutlierSettings { failure_percentage_threshold: Some(100), ..settings };
    assert_eq!(sweep(&all_failed, &[(1000, 999), (50, 50)]), [1]);
}

#[test]
fn an_endpoint_is_ejected_for_one_cause() {
    let settings = OutlierSettings { failure_percentage_threshold: Some(10), ..OutlierSettings::default() };
    let (all, detector) = (endpoints(10), Detector::default());
    all.iter().enumerate().for_each(|(index, one)| ask(one, 200, if index == 7 { 100 } else { 2 }));
    let causes: Vec<_> = detector.sweep(&refs(&all), &settings, 0).iter().map(|one| one.cause).collect();
    assert_eq!(causes, [EjectionCause::SuccessRate]);
}

proptest! {
    #[test]
    fn the_cap_holds_and_nobody_stays_out_for_ever(
        count in 1usize..30,
        percent in 0u8..=100,
        steps in steps(),
    ) {
        let settings = OutlierSettings {
            consecutive_5xx: 1, max_ejection_percent: percent, success_rate_request_volume: 1,
            success_rate_minimum_hosts: 2, success_rate_stdev_factor: 500, ..OutlierSettings::default()
        };
        let (all, detector) = (endpoints(count), Detector::default());
        let most = (count * usize::from(percent) / 100).max(1);
        let mut now = 0;
        for step in steps {
            match step {
                Step::Note(index, ok) => {
                    let one = &all[index % count];
                    let sample = if ok { Sample::Success } else { Sample::ServerError };
                    if one.note(sample, &settings).is_some() {
                        detector.eject(one, all.iter(), &settings, now);
                    }
                }
                Step::Wait(millis) => {
                    now += millis;
                    detector.readmit(&refs(&all), now);
                }
                Step::Sweep => { detector.sweep(&refs(&all), &settings, now); }
            }
            prop_assert!(all.iter().filter(|one| one.is_ejected()).count() <= most);
            for one in &all {
                prop_assert!(one.until().is_none_or(|until| until <= now + 300 * SECOND));
            }
        }
        detector.readmit(&refs(&all), now + 300 * SECOND);
        prop_assert!(all.iter().all(|one| !one.is_ejected()));
    }
}

#[test]
fn the_cap_holds_among_threads() {
    let settings =
        OutlierSettings { consecutive_5xx: 1, max_ejection_percent: 30, ..OutlierSettings::default() };
    let (all, detector) = (endpoints(10), Detector::default());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for one in &all {
                    if one.note(Sample::ServerError, &settings).is_some() {
                        detector.eject(one, all.iter(), &settings, 0);
                    }
                }
            });
        }
    });
    assert_eq!(all.iter().filter(|one| one.is_ejected()).count(), 3);
}
