//! What a try is told of the time that is left, and what is told of the tries.

use crate::BINARY;
use portcullis_testkit::{Answer, Gateway, Origin};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[test]
fn deadlines_are_passed_down_and_tries_are_told() {
    let (bad, good) = (
        Origin::answering(Answer::reset()),
        Origin::start(|request| match request.target() {
            "/hang" => Answer::hang(),
            _ => Answer::ok("good"),
        }),
    );
    let addresses = [bad.address(), good.address()];
    let gateway = Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            admin.listen = "{}"
            server.threads = 1
            server.deadline_header = "X-Wait-MS"
            firewall.mode = "off"
            log.format = "json"
            [[listener]]
            name = "public"
            address = "{}"
            [upstream.pair]
            endpoints = [{{ address = "{}" }}, {{ address = "{}" }}]
            retry.on = ["reset-before-response"]
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "pair"
            timeouts.total = "20s"
            [[route]]
            name = "once"
            match = {{ path = "/once" }}
            upstream = "pair"
            retry.attempts = 1
            "#,
            ports.admin, ports.public, addresses[0], addresses[1]
        )
    });
    let ask = |path: &str, fields: &[&str]| {
        portcullis_testkit::request(gateway.public(), &format!("GET {path}"), fields, "")
    };
    assert_eq!(ask("/tried", &["x-wait-ms: 5000"]).text(), "good");
    let told =
        |origin: &Origin| -> u64 { origin.requests()[0].header("x-wait-ms").unwrap().parse().unwrap() };
    assert!(told(&bad) <= 5000 && told(&good) <= told(&bad), "{} {}", told(&bad), told(&good));
    let line = gateway.wait_for_line(|line| line.contains("/tried"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["attempts"], 2);
    assert_eq!(line["endpoint"], addresses[1].to_string());
    let tries = line["tries"].as_array().unwrap();
    let of = |at: usize, name: &str| tries[at][name].clone();
    assert_eq!((of(0, "endpoint"), of(0, "outcome")), (addresses[0].to_string().into(), "closed".into()));
    assert_eq!((of(1, "outcome"), of(1, "status")), ("answered".into(), 200.into()));
    assert!(of(0, "ms").is_number());
    let retried = r#"portcullis_upstream_retries_total{reason="closed",upstream="pair"}"#;
    assert_eq!(gateway.sample(retried), Some(1.0));

    // A route of its own mind, at the endpoint whose turn it is: of two in a row, one fails.
    let once: BTreeSet<u16> = (0..2).map(|_| ask("/once", &[]).status()).collect();
    assert_eq!(once, BTreeSet::from([200, 502]));
    let line = gateway.wait_for_line(|line| line.contains("\"retry_denied\":\"attempts\""));
    assert!(line.contains("/once") && !line.contains("\"tries\""), "{line}");

    // What a caller does not wait for is over; what is no number is not obeyed, and not passed on.
    let began = Instant::now();
    assert_eq!(ask("/hang", &["x-wait-ms: 150"]).status(), 504);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(ask("/odd", &["x-wait-ms: soon"]).status(), 200);
    let requests = good.requests();
    let odd = requests.iter().find(|request| request.target() == "/odd").unwrap();
    assert!(odd.header("x-wait-ms").unwrap().parse::<u64>().unwrap() <= 20_000);
}
