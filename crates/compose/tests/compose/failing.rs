//! What becomes of parts that fail.

use crate::support::*;
use portcullis_compose::{Composition, Part, PartError};
use portcullis_http::{BodyError, Budget, Rejection, UpstreamFailure};
use portcullis_testkit::{Answer, Gate, Origin, Step, free_port};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

fn good() -> Origin {
    Origin::answering(Answer::json(r#"{"id":1}"#))
}

#[tokio::test]
async fn optional_parts_are_left_out_and_named() {
    let origin = good();
    let slow = Origin::answering(Answer::hang());
    let parts = vec![
        optional(Part { timeout: SHORT, ..part("entitlement", &slow) }),
        part("catalogue", &origin),
        optional(part_at("pricing", free_port())),
    ];
    let silent = Request::default().run(&composition(parts.clone())).await.unwrap();
    let told = Composition::new(parts, Some("partial".into())).unwrap();
    let told = Request::default().run(&told).await.unwrap();
    assert_eq!(body(&silent), r#"{"id":1}"#);
    assert_eq!(body(&told), r#"{"id":1,"partial":["entitlement","pricing"]}"#);
    for composed in [silent, told] {
        assert_eq!(composed.status, 200);
        assert_eq!(field(&composed, "x-portcullis-partial"), Some("entitlement, pricing"));
        assert_eq!(field(&composed, "cache-control"), Some("no-store"));
        assert_eq!(
            failed(&composed),
            [("entitlement", PartError::Timeout), ("pricing", PartError::Upstream(UpstreamFailure::Connect))]
        );
    }
}

#[tokio::test]
async fn with_every_part_optional_and_dead_there_is_still_a_document() {
    let composed = run(vec![optional(part_at("a", free_port()))]).await.unwrap();
    assert_eq!((composed.status, body(&composed)), (200, "{}"));
}

/// Answers that are no JSON document a part can use, and why.
fn unusable() -> Vec<(Answer, PartError)> {
    let raw = |text: &str| Answer::raw(format!("HTTP/1.1 {text}"));
    vec![
        (Answer::json("{"), PartError::NotJson),
        (Answer::json(r#"{"a":1}x"#), PartError::NotJson),
        (Answer::json("[1]"), PartError::NotJson),
        (Answer::json("null"), PartError::NotJson),
        (Answer::json(""), PartError::NotJson),
        (Answer::json(b"{\"a\":\"\xff\"}"), PartError::NotJson),
        (Answer::json("{\"a\":\"\n\"}"), PartError::NotJson),
        (Answer::ok("<html>"), PartError::NotJson),
        (raw("204 No Content\r\n\r\n"), PartError::NotJson),
        (Answer::status(200).header("content-encoding", "gzip").body("{}"), PartError::NotJson),
        (Answer::status(500).body("{}"), PartError::Status(500)),
        (Answer::status(302).header("location", "http://169.254.169.254/").body(""), PartError::Status(302)),
        (Answer::status(404).body("{}"), PartError::Status(404)),
        (Answer::json(format!(r#"{{"a":"{}"}}"#, "x".repeat(5000))), PartError::TooLarge),
        (
            Answer::status(200).chunks([vec![b' '; 2000], vec![b' '; 2000], b"{}".to_vec()], None),
            PartError::TooLarge,
        ),
        (raw("200 OK\r\ncontent-length: 99999999999999\r\n\r\n{"), PartError::TooLarge),
        (
            raw("200 OK\r\ncontent-length: 9\r\n\r\n{}").then([Step::Close]),
            PartError::Body(BodyError::Incomplete),
        ),
        (raw("200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}"), PartError::Body(BodyError::Malformed)),
        (
            raw("200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
            PartError::Upstream(UpstreamFailure::Protocol),
        ),
        (Answer::close(), PartError::Upstream(UpstreamFailure::Closed)),
        (Answer::hang(), PartError::Timeout),
        (Answer::json("{}").dripping(Duration::from_millis(50)), PartError::Timeout),
    ]
}

#[tokio::test]
async fn answers_that_are_of_no_use() {
    let catalogue = good();
    for (answer, reason) in unusable() {
        let shown = format!("{answer:?}").chars().take(150).collect::<String>();
        let origin = Origin::answering(answer);
        let bad = Part { max_size: 3000, timeout: 2 * SHORT, ..part("bad", &origin) };
        let composed = run(vec![part("catalogue", &catalogue), optional(bad.clone())]).await.unwrap();
        assert_eq!((body(&composed), failed(&composed)), (r#"{"id":1}"#, vec![("bad", reason)]), "{shown}");
        let status = match reason {
            PartError::Timeout => 504,
            PartError::Status(404) => 404,
            _ => 502,
        };
        let got = match run(vec![part("catalogue", &catalogue), bad]).await {
            Ok(composed) => composed.status,
            Err(failure) => {
                assert_eq!(failure.part.unwrap().reason, reason);
                failure.rejection.status()
            }
        };
        assert_eq!(got, status, "{shown}");
    }
}

#[tokio::test]
async fn what_a_required_part_does_not_know_is_not_there() {
    for (status, title) in [(404, "Not Found"), (410, "Gone")] {
        let origin = Origin::answering(Answer::status(status).body(r#"{"internal":"SELECT * FROM titles"}"#));
        let other = good();
        let composed = run(vec![part("a", &origin), part("b", &other)]).await.unwrap();
        assert_eq!(composed.status, status);
        assert_eq!(field(&composed, "content-type"), Some("application/problem+json"));
        assert_eq!(
            body(&composed),
            format!(r#"{{"type":"about:blank","title":"{title}","status":{status}}}"#)
        );
        assert_eq!(failed(&composed), [("a", PartError::Status(status))]);
    }
}

#[tokio::test]
async fn a_required_part_that_is_dead_or_slow() {
    let failure = run(vec![part_at("a", free_port())]).await.unwrap_err();
    assert_eq!(failure.rejection, Rejection::Upstream(UpstreamFailure::Connect));
    assert_eq!(Rejection::from(failure).status(), 502);
    let origin = Origin::answering(Answer::hang());
    let failure = run(vec![Part { timeout: SHORT, ..part("a", &origin) }]).await.unwrap_err();
    assert_eq!(failure.rejection.status(), 504);
}

#[tokio::test]
async fn the_first_required_part_decides_however_slow_it_is() {
    let missing = || Origin::answering(Answer::status(404).body(""));
    for slow_answer in [Answer::status(500).body("{}"), Answer::ok("no JSON")] {
        let (slow, quick) = (Origin::answering(slow_answer.after(SHORT)), missing());
        let failure = run(vec![part("slow", &slow), part("quick", &quick)]).await.unwrap_err();
        assert_eq!((failure.rejection.status(), &*failure.part.unwrap().name), (502, "slow"));
    }
    let (slow, quick) = (Origin::answering(Answer::json("{}").after(SHORT)), missing());
    assert_eq!(run(vec![part("slow", &slow), part("quick", &quick)]).await.unwrap().status, 404);
}

#[tokio::test]
async fn nobody_waits_for_what_cannot_matter() {
    let gate = Gate::default();
    let origin = Origin::answering(Answer::steps([Step::Until(gate.clone())]));
    let never = Part { timeout: Duration::from_secs(3600), ..part("never", &origin) };
    let missing = Origin::answering(Answer::status(404).body(""));
    let parts =
        vec![optional(never.clone()), part("missing", &missing), Part { name: "n2".into(), ..never.clone() }];
    assert_eq!(run(parts).await.unwrap().status, 404);
    assert!(never.upstream.stats().iter().all(|endpoint| endpoint.in_flight == 0 && endpoint.open == 0));
    gate.open();
}

#[tokio::test]
async fn the_budget_bounds_what_is_held() {
    let origin = Origin::answering(Answer::json(format!(r#"{{"a":"{}"}}"#, "x".repeat(10_000))));
    let request = Request { budget: Budget::new(5_000), ..Request::default() };
    let failure = request.run(&composition(vec![part("a", &origin)])).await.unwrap_err();
    assert_eq!(
        (failure.rejection, failure.part.unwrap().reason),
        (Rejection::OverBudget, PartError::OverBudget)
    );
    assert_eq!(request.budget.used(), 0);
    // Room for the part, none for what is made of it.
    let request = Request { budget: Budget::new(15_000), ..Request::default() };
    let failure = request.run(&composition(vec![part("a", &origin)])).await.unwrap_err();
    assert_eq!((failure.rejection, failure.part), (Rejection::OverBudget, None));
    assert_eq!(request.budget.used(), 0);
    let request = Request::default();
    let composed = request.run(&composition(vec![part("a", &origin)])).await.unwrap();
    assert_eq!(request.budget.used(), composed.body.len());
    drop(composed);
    assert_eq!(request.budget.used(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_the_calls_along() {
    let origin = Origin::answering(Answer::hang());
    let (part, request) = (part("a", &origin), Request::default());
    let upstream = part.upstream.clone();
    let composition = composition(vec![part]);
    assert!(tokio::time::timeout(SHORT, request.run(&composition)).await.is_err());
    assert!(upstream.stats().iter().all(|endpoint| endpoint.in_flight == 0 && endpoint.open == 0));
}

#[tokio::test]
async fn a_refusal_does_not_cost_the_connection() {
    let origin = Origin::answering(Answer::status(403).body("no"));
    let composition = composition(vec![optional(part("a", &origin))]);
    for _ in 0..3 {
        let composed = Request::default().run(&composition).await.unwrap();
        assert_eq!(failed(&composed), [("a", PartError::Status(403))]);
    }
    assert_eq!(origin.connections(), 1);
    let endless = Origin::answering(Answer::pattern(1 << 40));
    let failure = run(vec![part("a", &endless)]).await.unwrap_err();
    assert_eq!(failure.part.unwrap().reason, PartError::TooLarge);
}
