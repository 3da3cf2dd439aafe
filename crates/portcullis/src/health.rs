//! How upstreams are, for metrics and readiness: what their checks, ejections, breakers and caps say.

use portcullis_telemetry::{Metrics, UpstreamHealth};
use portcullis_upstream::{BreakerState, EndpointStatus, Health, Upstream, UpstreamStatus};
use serde_json::{Value, json};

/// Endpoints of an upstream that readiness lists.
const MAX_LISTED: usize = 100;

/// Brings the metrics of an upstream's health up to date.
pub(crate) fn publish(upstream: &Upstream, metrics: &Metrics) {
    let (status, totals) = (upstream.status(), upstream.totals());
    let count = |is: fn(&EndpointStatus) -> bool| status.endpoints.iter().filter(|one| is(one)).count();
    let [passed, failed] = totals.checks.unwrap_or_default();
    metrics.upstream_health(
        upstream.name(),
        &UpstreamHealth {
            endpoints: &[
                ("all", status.endpoints.len()),
                ("available", count(|one| one.available)),
                ("unhealthy", count(|one| one.health == Health::Unhealthy)),
                ("pending", count(|one| one.health == Health::Pending)),
                ("ejected", count(|one| one.ejected.is_some())),
                ("breaker_open", count(|one| one.breaker == Some(BreakerState::Open))),
                ("breaker_half_open", count(|one| one.breaker == Some(BreakerState::HalfOpen))),
                ("warming", count(|one| one.warming)),
            ],
            panic: status.panic,
            breaker: status.breaker.map(BreakerState::as_str),
            checks: totals.checks.map(|_| [("success", passed), ("failure", failed)]),
            ejections: totals.ejections.map(|all| all.map(|(cause, total)| (cause.as_str(), total))),
            transitions: totals.transitions.map(|all| all.map(|(state, total)| (state.as_str(), total))),
            endpoint_transitions: totals
                .endpoint_transitions
                .map(|all| all.map(|(state, total)| (state.as_str(), total))),
            overflows: totals.overflows.map(|all| all.map(|(cap, total)| (cap.as_str(), total))),
        },
    );
}

/// An upstream in the details of readiness: those of its endpoints first that something speaks against.
pub(crate) fn details(upstream: &Upstream) -> Value {
    let UpstreamStatus { breaker, panic, mut endpoints } = upstream.status();
    let (all, available) = (endpoints.len(), endpoints.iter().filter(|one| one.available).count());
    endpoints.sort_by_key(|one| one.available);
    endpoints.truncate(MAX_LISTED);
    let listed: Vec<Value> = endpoints.iter().map(endpoint).collect();
    json!({
        "name": upstream.name(),
        "circuit_breaker": breaker.map(BreakerState::as_str),
        "panic": panic,
        "endpoints": { "all": all, "available": available, "listed": listed },
    })
}

fn endpoint(status: &EndpointStatus) -> Value {
    json!({
        "address": status.address,
        "available": status.available,
        "health": status.health.as_str(),
        "ejected_seconds": status.ejected.map(|left| left.as_secs()),
        "circuit_breaker": status.breaker.map(BreakerState::as_str),
        "connect_failed": status.aside,
        "warming": status.warming,
    })
}
