//! Requests that are sent again, and those that are not.

use crate::support::*;
use bytes::Bytes;
use portcullis_http::{Method, ResponseHead, UpstreamFailure};
use portcullis_testkit::{Answer, FrameOrigin, Origin, free_port};
use portcullis_upstream::{
    Backoff, BreakerSettings, BudgetSettings, Caps, Conditions, Deadline, Denied, Hedge, Outbound, Outcome,
    OutlierSettings, Protocol, RetryOn, RetryPolicy, SlidingWindow, Trail, Upstream,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(150);

const ALL: [RetryOn; 5] = [
    RetryOn::ConnectFailure,
    RetryOn::RefusedStream,
    RetryOn::Reset,
    RetryOn::GatewayError,
    RetryOn::Timeout,
];

fn policy() -> RetryPolicy {
    RetryPolicy {
        on: Conditions::from_iter(ALL),
        budget: BudgetSettings { ratio: 0.1, min_per_second: 100 },
        ..RetryPolicy::default()
    }
}

/// An upstream of two: the first fails so, the second is well.
fn bad_and_good(bad: Answer, policy: RetryPolicy) -> (Origin, Origin, Upstream) {
    let (bad, good) = (Origin::answering(bad), Origin::answering(Answer::ok("good")));
    let mut settings = settings(&[bad.address(), good.address()]);
    settings.retry = policy;
    (bad, good, upstream(settings))
}

/// Status or failure, and the trail.
async fn ask(upstream: &Upstream, method: &str, body: Option<&str>) -> (Result<u16, UpstreamFailure>, Trail) {
    let (mut answer, mut trail) = (ResponseHead::default(), Trail::default());
    let head = request(method, "/x");
    let body = body.map(|body| Bytes::copy_from_slice(body.as_bytes()));
    let outbound = Outbound::new(&head);
    let sent = upstream.send(&outbound, body.as_ref(), &mut answer, &mut trail);
    let sent = tokio::time::timeout(PATIENCE, sent).await.expect("a call never hangs");
    (sent.map(|_| answer.status), trail)
}

fn outcomes(trail: &Trail) -> Vec<Outcome> {
    trail.tries().iter().filter_map(|one| one.outcome).collect()
}

#[tokio::test]
async fn what_fails_at_one_is_done_by_the_other_where_that_is_as_good() {
    for (bad, outcome) in [
        (Answer::close(), Outcome::Failed(UpstreamFailure::Closed)),
        (Answer::reset(), Outcome::Failed(UpstreamFailure::Closed)),
        (Answer::raw("no HTTP\r\n\r\n"), Outcome::Failed(UpstreamFailure::Protocol)),
        (Answer::status(503).body("no"), Outcome::Answered { status: 503 }),
    ] {
        let (_bad, good, upstream) = bad_and_good(bad, policy());
        let (result, trail) = ask(&upstream, "PUT", Some("body")).await;
        assert_eq!(result, Ok(200));
        assert_eq!(outcomes(&trail), [outcome, Outcome::Answered { status: 200 }]);
        assert_eq!(trail.endpoint(), Some(good.address().to_string().as_str()));
        assert_eq!(good.requests()[0].body, b"body", "sent anew, whole");
        // The next turn is the second one's; the one after it the first one's again.
        assert_eq!(ask(&upstream, "GET", None).await.0, Ok(200));
        let (result, trail) = ask(&upstream, "POST", Some("body")).await;
        assert_eq!(outcomes(&trail).len(), 1);
        assert_ne!(result, Ok(200));
        assert_eq!(trail.denied(), Some(Denied::Method));
    }
}

#[tokio::test]
async fn a_post_that_the_route_vouches_for() {
    let vouched = RetryPolicy { methods: vec![Method::Post], ..policy() };
    let (bad, _good, upstream) = bad_and_good(Answer::close(), vouched);
    assert_eq!(ask(&upstream, "POST", Some("x")).await.0, Ok(200));
    assert_eq!(bad.count(), 1);
}

#[tokio::test]
async fn a_try_has_a_deadline_of_its_own() {
    let (_bad, _good, upstream) =
        bad_and_good(Answer::hang(), RetryPolicy { per_try_timeout: Some(SHORT), ..policy() });
    let (result, trail) = ask(&upstream, "GET", None).await;
    assert_eq!(result, Ok(200));
    assert_eq!(
        outcomes(&trail),
        [Outcome::Failed(UpstreamFailure::TryTimeout), Outcome::Answered { status: 200 }]
    );
    assert_eq!(ask(&upstream, "GET", None).await.0, Ok(200));
    let (result, trail) = ask(&upstream, "POST", None).await;
    assert_eq!((result, trail.denied()), (Err(UpstreamFailure::TryTimeout), Some(Denied::Method)));
}

#[tokio::test]
async fn the_same_endpoint_only_where_there_is_no_other() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::answering(Answer::status(503).body("no"))).collect();
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let mut three = settings(&addresses);
    three.retry = policy();
    let (result, trail) = ask(&upstream(three), "GET", None).await;
    assert_eq!((result, trail.denied()), (Ok(503), Some(Denied::Attempts)), "the last answer is the answer");
    assert_eq!(origins.iter().map(Origin::count).collect::<Vec<_>>(), [1, 1, 1]);
    let mut one = settings(&addresses[..1]);
    one.retry = policy();
    let (result, trail) = ask(&upstream(one), "GET", None).await;
    assert_eq!((result, trail.tries().len()), (Ok(503), 3));
    assert_eq!(origins[0].count(), 4);
    assert!(origins[0].connections() <= 2, "an answer that was whole has spoiled no connection");
}

#[tokio::test]
async fn a_repetition_takes_the_place_of_the_try_before_it() {
    let one = Caps { max_requests: Some(1), max_connections: Some(1), ..Caps::default() };
    for bad in [Answer::close, || Answer::raw("no HTTP\r\n\r\n"), || Answer::status(503).body("no")] {
        // One place in all, and two endpoints.
        let (bad, good) = (Origin::answering(bad()), Origin::answering(Answer::ok("good")));
        let mut two = settings(&[bad.address(), good.address()]);
        (two.retry, two.circuit_breaker.caps) = (policy(), one);
        let (result, trail) = ask(&upstream(two), "GET", None).await;
        assert_eq!(result, Ok(200), "{trail:?}");
        // One endpoint that has one place.
        let mut alone = settings(&[bad.address()]);
        (alone.retry, alone.circuit_breaker.endpoint_caps) = (policy(), one);
        let (_, trail) = ask(&upstream(alone), "GET", None).await;
        assert_eq!((trail.tries().len(), trail.denied()), (3, Some(Denied::Attempts)), "{trail:?}");
    }
    // Where the second endpoint has no place either, the answer of the first is as good as any.
    let (bad, good) = (Origin::answering(Answer::status(503).body("no")), Origin::answering(Answer::hang()));
    let mut full = settings(&[good.address(), bad.address()]);
    (full.retry, full.circuit_breaker.endpoint_caps) = (RetryPolicy { attempts: 2, ..policy() }, one);
    let full = upstream(full);
    let waiting = tokio::time::timeout(SHORT, ask(&full, "GET", None));
    let (hung, (result, _)) = tokio::join!(waiting, ask(&full, "GET", None));
    assert_eq!((hung.is_err(), result), (true, Ok(503)));
}

#[tokio::test]
async fn an_answer_that_is_not_read_since_there_is_another_try_counts_as_what_it_was() {
    let turn = AtomicUsize::new(0);
    let origin = Origin::start(move |_| match turn.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Answer::status(409).body("no"),
        _ => Answer::status(500).body("worse"),
    });
    let mut settings = settings(&[origin.address()]);
    settings.retry = RetryPolicy { status_codes: vec![409], ..policy() };
    settings.circuit_breaker.breaker = Some(BreakerSettings {
        failure_rate_threshold: Some(100),
        sliding_window: SlidingWindow::CountBased(2),
        minimum_number_of_calls: 2,
        ..BreakerSettings::default()
    });
    let upstream = upstream(settings);
    for _ in 0..4 {
        assert_eq!(ask(&upstream, "GET", None).await.0, Ok(500), "half of all tries are well");
    }
}

#[tokio::test]
async fn the_cap_on_repetitions_counts_besides_the_budget() {
    let (_bad, good, upstream) = bad_and_good(Answer::status(503).body("no"), policy());
    assert_eq!(ask(&upstream, "GET", None).await.0, Ok(200));
    let bad = Origin::answering(Answer::status(503).body("no"));
    let mut capped = settings(&[bad.address(), good.address()]);
    (capped.retry, capped.circuit_breaker.caps.max_retries) = (policy(), Some(0));
    let capped = crate::support::upstream(capped);
    let (result, trail) = ask(&capped, "GET", None).await;
    assert_eq!((result, trail.denied()), (Ok(503), Some(Denied::Budget)));
    let overflows = capped.totals().overflows.unwrap();
    assert_eq!(overflows.map(|(_, count)| count), [0, 0, 0, 1], "{overflows:?}");
}

#[tokio::test]
async fn one_that_cannot_be_connected_to_is_not_asked_again_though_no_other_can_be() {
    let bad = Origin::answering(Answer::status(503).body("no"));
    let mut settings = settings(&[bad.address(), free_port()]);
    settings.retry = policy();
    settings.panic_threshold = 0;
    settings.outlier_detection =
        Some(OutlierSettings { consecutive_gateway_failure: 1, ..OutlierSettings::default() });
    let (upstream, endpoints) = (upstream(settings.clone()), settings.endpoints);
    upstream.replace(&endpoints).unwrap(); // Puts ejection in force.
    // The first is ejected by its answer, the second is dead.
    let _ = ask(&upstream, "GET", None).await;
    let before = upstream.stats()[1].connect_failures;
    let (result, trail) = ask(&upstream, "GET", None).await;
    assert_eq!((result, trail.tries().len()), (Err(UpstreamFailure::Connect), 1), "{trail:?}");
    assert_eq!((upstream.stats()[1].connect_failures, bad.count()), (before + 1, 1));
}

#[tokio::test]
async fn a_cap_on_connections_says_nothing_of_the_endpoint() {
    let origin = Origin::answering(Answer::hang());
    let mut settings = settings(&[origin.address()]);
    settings.connect_timeout = SHORT;
    settings.circuit_breaker.caps.max_connections = Some(1);
    let upstream = upstream(settings);
    let (hung, (result, _)) = tokio::join!(
        tokio::time::timeout(SHORT * 4, ask(&upstream, "GET", None)),
        ask(&upstream, "GET", None)
    );
    assert_eq!((hung.is_err(), result), (true, Err(UpstreamFailure::Overflow)));
    let stats = stats(&upstream);
    assert_eq!((stats.connects, stats.connect_failures, stats.aside), (1, 0, false));
}

#[tokio::test]
async fn the_budget_bounds_what_failures_cost() {
    let origin = Origin::answering(Answer::status(503).body("no"));
    let mut settings = settings(&[origin.address()]);
    settings.retry =
        RetryPolicy { budget: BudgetSettings { ratio: 0.1, min_per_second: 0 }, attempts: 5, ..policy() };
    let upstream = upstream(settings);
    let mut denied = 0;
    for _ in 0..300 {
        let (result, trail) = ask(&upstream, "GET", None).await;
        assert_eq!(result, Ok(503));
        denied += usize::from(trail.denied() == Some(Denied::Budget));
    }
    assert!((310..=330).contains(&origin.count()), "{} for 300", origin.count());
    assert!(denied > 250, "{denied}");
}

#[tokio::test]
async fn nothing_is_begun_that_cannot_be_done_in_time() {
    let (bad, _good, upstream) =
        bad_and_good(Answer::status(503).header("retry-after", "1").body("no"), policy());
    let head = request("GET", "/x");
    let (mut answer, mut trail) = (ResponseHead::default(), Trail::default());
    let at = Instant::now() + Duration::from_millis(900);
    let outbound = Outbound {
        deadline: Some(Deadline { at, field: None, grpc: false, callers: false }),
        ..Outbound::new(&head)
    };
    upstream.send(&outbound, None, &mut answer, &mut trail).await.unwrap();
    assert_eq!((answer.status, trail.denied(), bad.count()), (503, Some(Denied::Deadline), 1));
}

#[tokio::test]
async fn retry_after_is_waited_for_up_to_a_bound() {
    let asks = |value: &str| Answer::status(503).header("retry-after", value).body("no");
    let (_bad, _good, upstream) = bad_and_good(asks("1"), policy());
    let began = Instant::now();
    assert_eq!(ask(&upstream, "GET", None).await.0, Ok(200));
    assert!(began.elapsed() >= Duration::from_secs(1));
    for value in ["2", "3600", "Fri, 31 Dec 2100 23:59:59 GMT"] {
        let (_bad, good, upstream) = bad_and_good(asks(value), policy());
        let (result, trail) = ask(&upstream, "GET", None).await;
        assert_eq!((result, trail.denied()), (Ok(503), Some(Denied::RetryAfter)), "{value}");
        assert_eq!(good.count(), 0);
    }
    for value in ["soon", "-1", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        let (_bad, _good, upstream) = bad_and_good(asks(value), policy());
        assert_eq!(ask(&upstream, "GET", None).await.0, Ok(200), "{value}");
    }
}

#[tokio::test]
async fn each_try_is_told_what_is_left() {
    let (bad, good) = (Origin::answering(Answer::close()), Origin::answering(Answer::ok("good")));
    let mut settings = settings(&[bad.address(), good.address()]);
    settings.retry = RetryPolicy { backoff: Backoff { base: SHORT, max: SHORT }, ..policy() };
    let upstream = upstream(settings);
    let mut head = request("GET", "/x");
    head.fields.append("x-time-left", "999999").unwrap();
    head.fields.append("grpc-timeout", "9H").unwrap();
    let at = Instant::now() + Duration::from_secs(5);
    let deadline = Some(Deadline { at, field: Some("x-time-left"), grpc: true, callers: true });
    let outbound = Outbound { deadline, ..Outbound::new(&head) };
    let mut answer = ResponseHead::default();
    upstream.send(&outbound, None, &mut answer, &mut Trail::default()).await.unwrap();
    let told = |origin: &Origin, name: &str| -> u64 {
        let request = origin.requests().remove(0);
        let head = request.head_text();
        assert_eq!(head.matches(name).count(), 1, "{head}");
        request.header(name).unwrap().trim_end_matches('m').parse().unwrap()
    };
    for name in ["x-time-left", "grpc-timeout"] {
        let (first, second) = (told(&bad, name), told(&good, name));
        assert!((1..=5000).contains(&first) && second <= first, "{name}: {first}, then {second}");
    }
}

#[tokio::test]
async fn refused_streams_are_for_anybody() {
    let post = |upstream: Upstream| async move { ask(&upstream, "POST", Some("x")).await };
    for script in [
        &["> RST_STREAM {n}", "hex 00 00 00 07"][..],
        &["> GOAWAY 0", "hex 00 00 00 00 00 00 00 00", "pause 20", "close"],
    ] {
        let script: Vec<String> = script.iter().map(ToString::to_string).collect();
        let bad = FrameOrigin::start(&script);
        let good = FrameOrigin::start(&script);
        bad.be_hostile(true);
        let mut settings = settings(&[bad.address(), good.address()]);
        settings.protocol = Protocol::Http2;
        let (result, trail) = post(upstream(settings)).await;
        assert_eq!(result, Ok(200), "{script:?}: {trail:?}");
        assert_eq!(outcomes(&trail)[0], Outcome::Failed(UpstreamFailure::Refused), "{script:?}");
    }
    // What may have been processed is not.
    for script in [
        &["> RST_STREAM {n}", "hex 00 00 00 02"][..],
        &["> RST_STREAM {n}", "hex 00 00 00 08"],
        &["> GOAWAY 0", "hex 7f ff ff ff 00 00 00 00", "pause 20", "close"],
        &["> GOAWAY 0", "hex 00 00 00 01 00 00 00 02", "pause 20", "close"],
        &["close"],
    ] {
        let script: Vec<String> = script.iter().map(ToString::to_string).collect();
        let (bad, good) = (FrameOrigin::start(&script), FrameOrigin::start(&script));
        bad.be_hostile(true);
        let mut settings = settings(&[bad.address(), good.address()]);
        (settings.protocol, settings.retry) = (Protocol::Http2, policy());
        let (result, trail) = post(upstream(settings)).await;
        assert_eq!(result, Err(UpstreamFailure::Closed), "{script:?}: {trail:?}");
        assert_eq!((good.count(), trail.denied()), (0, Some(Denied::Method)), "{script:?}");
    }
}

#[tokio::test]
async fn the_quicker_of_two_answers_counts() {
    let hedged = || RetryPolicy { hedge: Some(Hedge::After(SHORT)), ..policy() };
    let (slow, good, upstream) = bad_and_good(Answer::hang(), hedged());
    let (result, trail) = ask(&upstream, "GET", None).await;
    assert_eq!(result, Ok(200));
    assert_eq!(outcomes(&trail), [Outcome::Cancelled, Outcome::Answered { status: 200 }]);
    assert_eq!(trail.tries().iter().map(|one| one.hedge).collect::<Vec<_>>(), [false, true]);
    assert_eq!(trail.endpoint(), Some(good.address().to_string().as_str()));
    eventually("the connection of the loser is closed", || upstream.stats()[0].open == 0).await;
    assert_eq!(upstream.stats()[0].in_flight, 0);
    assert_eq!(slow.count(), 1);
    // Not where it would be done twice.
    let patient = upstream.with_retry(RetryPolicy { per_try_timeout: Some(SHORT * 3), ..hedged() });
    let (result, trail) = ask(&patient, "POST", None).await;
    assert_eq!((result, trail.tries().len()), (Err(UpstreamFailure::TryTimeout), 1));
}

#[tokio::test]
async fn the_first_is_still_waited_for() {
    let late = Origin::answering(Answer::ok("late").after(SHORT * 4));
    let bad = Origin::answering(Answer::status(503).body("no"));
    let mut settings = settings(&[late.address(), bad.address()]);
    settings.retry = RetryPolicy { hedge: Some(Hedge::After(SHORT)), ..policy() };
    let (result, trail) = ask(&upstream(settings), "GET", None).await;
    assert_eq!(
        result,
        Ok(200),
        "a bad answer of the second does not count while there is the first: {trail:?}"
    );
    assert_eq!(outcomes(&trail), [Outcome::Answered { status: 200 }, Outcome::Answered { status: 503 }]);
    // And both may fail.
    let dead = [free_port(), free_port()];
    let mut settings = crate::support::settings(&dead);
    settings.retry = RetryPolicy { hedge: Some(Hedge::After(SHORT)), ..policy() };
    assert_eq!(ask(&upstream(settings), "GET", None).await.0, Err(UpstreamFailure::Connect));
}

#[tokio::test]
async fn a_hedge_comes_after_what_answers_mostly_take() {
    let hangs = std::sync::Arc::new(AtomicBool::new(false));
    let sick = std::sync::Arc::clone(&hangs);
    let first = Origin::start(move |_| match sick.load(Ordering::SeqCst) {
        true => Answer::hang(),
        false => Answer::ok("x"),
    });
    let second = Origin::answering(Answer::ok("x"));
    let mut settings = settings(&[first.address(), second.address()]);
    let hedge = Hedge::Percentile { percent: 95, least: None };
    settings.retry = RetryPolicy { hedge: Some(hedge), ..policy() };
    let upstream = upstream(settings);
    let hedges = |trail: &Trail| trail.tries().iter().filter(|one| one.hedge).count();
    for _ in 0..100 {
        let (result, trail) = ask(&upstream, "GET", None).await;
        assert_eq!((result, hedges(&trail)), (Ok(200), 0), "nothing is known yet");
    }
    hangs.store(true, Ordering::SeqCst);
    let mut hedged = 0;
    for _ in 0..4 {
        let (result, trail) = ask(&upstream, "GET", None).await;
        assert_eq!(result, Ok(200), "{trail:?}");
        hedged += hedges(&trail);
    }
    assert!(hedged >= 2, "every second one begins where it hangs: {hedged}");
}
