use super::*;
use crate::catalogue::CATALOGUE;
use crate::handles::{ConnectionRefusal, HandshakeFailure};
use crate::label::CAP;
use portcullis_http::{Method, TargetError, UpstreamFailure};
use std::collections::BTreeSet;
use std::time::Duration;

fn metrics() -> Metrics {
    Metrics::new(BuildInfo { version: "0.0.0", rustc: "test" }).unwrap()
}

/// An upstream whose breaker is open after so many checks failed.
fn health(checks: u64) -> UpstreamHealth<'static> {
    let states = Some([("closed", 0), ("open", 1), ("half_open", 0)]);
    UpstreamHealth {
        endpoints: &[("all", 2), ("available", 1)],
        panic: true,
        breaker: Some("open"),
        checks: Some([("success", 0), ("failure", checks)]),
        ejections: Some([
            ("consecutive_5xx", 1),
            ("consecutive_gateway_failure", 0),
            ("success_rate", 0),
            ("failure_percentage", 0),
        ]),
        transitions: states,
        endpoint_transitions: states,
        overflows: Some([("connections", 0), ("pending", 0), ("requests", 4), ("retries", 0)]),
    }
}

#[test]
fn totals_kept_elsewhere_are_caught_up_with() {
    let metrics = metrics();
    for checks in [2, 5, 5] {
        metrics.upstream_health("catalogue", &health(checks));
    }
    let text = metrics.render().unwrap();
    for line in [
        r#"portcullis_upstream_health_checks_total{result="failure",upstream="catalogue"} 5"#,
        r#"portcullis_upstream_circuit_breaker_state{state="open",upstream="catalogue"} 1"#,
        r#"portcullis_upstream_circuit_breaker_state{state="closed",upstream="catalogue"} 0"#,
        r#"portcullis_upstream_endpoints{condition="available",upstream="catalogue"} 1"#,
    ] {
        assert!(text.lines().any(|is| is == line), "{line}\n{text}");
    }
}

/// Touches every metric there is.
fn exercised() -> Metrics {
    let metrics = metrics();
    metrics.route("titles").observe(Method::Get, 200, Duration::from_millis(2));
    metrics.target("titles").would_refuse(TargetError::DoubleEncoding);
    metrics.unmatched().observe(Method::Other, 404, Duration::ZERO);
    let upstream = metrics.upstream("catalogue");
    upstream.answered(200, Duration::from_millis(1));
    upstream.failed(UpstreamFailure::Connect);
    upstream.tried_again("connect");
    upstream.not_tried_again("budget");
    upstream.open.inc();
    upstream.idle.inc();
    metrics.endpoint("catalogue", "127.0.0.1:80", 1);
    metrics.canary("titles", "catalogue").inc();
    metrics.mirror("titles").answered.inc();
    metrics.upstream_health("catalogue", &health(3));
    metrics.discovery("catalogue").ok.inc();
    metrics.part_failures("titles", "pricing").inc();
    metrics.firewall(1_000_001, FirewallAction::Deny);
    metrics.shadow("titles").both_pass.inc();
    metrics.firewall_log_dropped("audit").inc();
    metrics.rejection(&Rejection::NoRoute);
    metrics.limit(Some("titles"), "default").passed.inc();
    metrics.leaks("card", LeakAction::Mask, 2);
    metrics.acme("a.test").failed.inc();
    let listener = metrics.listener("public");
    drop(listener.connection());
    listener.handshake_failed(HandshakeFailure::Timeout);
    listener.refused(ConnectionRefusal::AddressLimit);
    listener.not_accepted.inc();
    metrics.memory(Some(1), 0);
    metrics.expiries("public", Some(1), Some(2));
    metrics.watch_budget(Budget::new(10), 10);
    metrics.reload_succeeded("0011223344556677");
    metrics.reload_failed();
    metrics
}

#[test]
fn what_is_exposed_is_what_the_catalogue_lists() {
    let text = exercised().render().unwrap();
    let exposed: BTreeSet<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let listed: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    assert_eq!(exposed, listed);
    for metric in CATALOGUE {
        let line = format!("# TYPE {} {}", metric.name, metric.kind.as_str());
        assert!(text.lines().any(|l| l == line), "{line}");
    }
}

/// A rule set has more rules than the metric has room for: those that come first keep their series, all others
/// share one, and none is lost.
#[test]
fn firewall_verdicts_beyond_the_cap_are_counted_together() {
    let metrics = metrics();
    let cap = u32::try_from(CAP).unwrap();
    for rule in 0..cap + 7 {
        metrics.firewall(rule, FirewallAction::Log);
    }
    metrics.firewall(0, FirewallAction::Log);
    let text = metrics.render().unwrap();
    let lines = || text.lines().filter_map(|line| line.strip_prefix("portcullis_firewall_verdicts_total{"));
    assert_eq!(lines().count(), CAP + 1);
    assert!(lines().any(|line| line == r#"action="log",rule="0"} 2"#));
    assert!(lines().any(|line| line == r#"action="other",rule="other"} 7"#), "{text}");
    let total: u32 = lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum();
    assert_eq!(total, cap + 8);
}

#[test]
fn j4_a_hundred_thousand_inputs_make_no_more_series() {
    let metrics = metrics();
    let route = metrics.route("titles");
    let series = |metrics: &Metrics| metrics.render().unwrap().lines().count();
    for i in 0..100_000_u32 {
        let method = Method::from_bytes(format!("M{i}").as_bytes());
        route.observe(method, u16::try_from(i % 2000).unwrap(), Duration::from_millis(u64::from(i)));
        metrics.firewall(i, FirewallAction::Deny);
    }
    let before = series(&metrics);
    assert!(before < 2 * CAP, "{before}");
    for i in 100_000..200_000 {
        metrics.firewall(i, FirewallAction::Deny);
        drop(metrics.route(&format!("route-{}", i % CAP as u32)));
    }
    for i in 0..1000 {
        drop(metrics.route(&format!("more-{i}")));
    }
    let text = metrics.render().unwrap();
    assert!(text.contains(r#"rule="other""#) && text.contains(r#"route="other""#));
    let routes = text.lines().filter(|l| l.starts_with("portcullis_request_duration_seconds_count")).count();
    assert_eq!(routes, CAP + 1, "the cap, and `other`");
}

#[test]
fn a_reload_replaces_the_hash_and_a_failed_one_keeps_it() {
    let metrics = metrics();
    metrics.reload_succeeded("aaaa");
    metrics.reload_succeeded("bbbb");
    metrics.reload_failed();
    let text = metrics.render().unwrap();
    assert!(!text.contains("aaaa") && text.contains(r#"portcullis_config_info{hash="bbbb"} 1"#));
    assert!(text.contains("portcullis_config_last_reload_successful 0"));
    assert!(text.contains(r#"portcullis_reloads_total{result="success"} 2"#));
}

#[test]
fn the_budget_is_read_when_it_is_asked_for() {
    let metrics = metrics();
    let budget = Budget::new(100);
    metrics.watch_budget(budget.clone(), 100);
    let held = budget.hold(42).unwrap();
    assert!(metrics.render().unwrap().contains("portcullis_buffered_body_bytes 42"));
    drop(held);
    assert!(metrics.render().unwrap().contains("portcullis_buffered_body_bytes 0"));
}

#[test]
fn in_flight_counts_down_when_dropped() {
    let metrics = metrics();
    let first = metrics.in_flight();
    let second = metrics.in_flight();
    assert_eq!(metrics.requests_in_flight(), 2);
    drop((first, second));
    assert_eq!(metrics.requests_in_flight(), 0);
}
