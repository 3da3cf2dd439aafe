//! How upstreams are, and what calls to them came to.

use crate::catalogue as c;
use crate::family::{Counters, Gauges, Histograms, raise};
use crate::handles::StatusClasses;
use portcullis_http::UpstreamFailure;
use prometheus::{Histogram, IntGauge, Registry, Result};
use std::sync::Arc;
use std::time::Duration;

/// The families of upstreams.
#[derive(Clone)]
pub(crate) struct UpstreamFamilies {
    duration: Histograms<1>,
    responses: Counters<2>,
    failures: Counters<2>,
    retries: Counters<2>,
    retries_denied: Counters<2>,
    open: Gauges<1>,
    idle: Gauges<1>,
    endpoint_requests: Counters<2>,
    endpoints: Gauges<2>,
    panic: Gauges<1>,
    checks: Counters<2>,
    ejections: Counters<2>,
    breaker: Gauges<2>,
    breaker_transitions: Counters<3>,
    overflows: Counters<2>,
}

/// Counts the calls to one upstream, and its connections. Cheap to clone.
#[derive(Clone)]
pub struct UpstreamMetrics {
    /// Connections to its endpoints, busy or idle: `inc` when one is made, `dec` when it is gone.
    pub open: IntGauge,
    /// Connections that wait in the pool: `inc` when one is put back, `dec` when it is taken or gone.
    pub idle: IntGauge,
    calls: Arc<Calls>,
}

struct Calls {
    label: Box<str>,
    duration: Histogram,
    responses: Counters<2>,
    classes: StatusClasses,
    failures: Counters<2>,
    retries: Counters<2>,
    denied: Counters<2>,
}

impl UpstreamMetrics {
    /// Counts an answer whose head came `duration` after the call began.
    pub fn answered(&self, status: u16, duration: Duration) {
        let calls = &*self.calls;
        calls.classes.inc(status, |class| calls.responses.with([&calls.label, class]));
        calls.duration.observe(duration.as_secs_f64());
    }

    /// Counts a call that gave no usable answer.
    pub fn failed(&self, failure: UpstreamFailure) {
        self.calls.failures.with([&self.calls.label, failure.as_str()]).inc();
    }

    /// Counts a request that was tried again. `reason` is one of a closed set.
    pub fn tried_again(&self, reason: &'static str) {
        self.calls.retries.with([&self.calls.label, reason]).inc();
    }

    /// Counts a request that was not tried again though it failed. `reason` is one of a closed set.
    pub fn not_tried_again(&self, reason: &'static str) {
        self.calls.denied.with([&self.calls.label, reason]).inc();
    }
}

impl std::fmt::Debug for UpstreamMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("UpstreamMetrics").field(&self.calls.label).finish()
    }
}

/// How an upstream is, in the words of the metrics' labels. What is not configured has no series.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamHealth<'a> {
    /// Of how many of its endpoints something holds.
    pub endpoints: &'a [(&'static str, usize)],
    /// Whether health is not regarded.
    pub panic: bool,
    /// The state of its own breaker.
    pub breaker: Option<&'static str>,
    /// Checks so far, by their result.
    pub checks: Option<[(&'static str, u64); 2]>,
    /// Ejections so far, by their cause.
    pub ejections: Option<[(&'static str, u64); 4]>,
    /// Changes of its own breaker so far, by the state that was entered.
    pub transitions: Option<[(&'static str, u64); 3]>,
    /// Changes of its endpoints' breakers so far, likewise.
    pub endpoint_transitions: Option<[(&'static str, u64); 3]>,
    /// Requests so far that found a cap reached, by the cap.
    pub overflows: Option<[(&'static str, u64); 4]>,
}

impl UpstreamFamilies {
    pub(crate) fn register(registry: &Registry) -> Result<Self> {
        Ok(UpstreamFamilies {
            duration: Histograms::register(registry, &c::UPSTREAM_DURATION)?,
            responses: Counters::register(registry, &c::UPSTREAM_RESPONSES)?,
            failures: Counters::register(registry, &c::UPSTREAM_FAILURES)?,
            retries: Counters::register(registry, &c::UPSTREAM_RETRIES)?,
            retries_denied: Counters::register(registry, &c::UPSTREAM_RETRIES_DENIED)?,
            open: Gauges::register(registry, &c::UPSTREAM_CONNECTIONS_OPEN)?,
            idle: Gauges::register(registry, &c::UPSTREAM_CONNECTIONS_IDLE)?,
            endpoint_requests: Counters::register(registry, &c::ENDPOINT_REQUESTS)?,
            endpoints: Gauges::register(registry, &c::UPSTREAM_ENDPOINTS)?,
            panic: Gauges::register(registry, &c::UPSTREAM_PANIC)?,
            checks: Counters::register(registry, &c::UPSTREAM_HEALTH_CHECKS)?,
            ejections: Counters::register(registry, &c::UPSTREAM_EJECTIONS)?,
            breaker: Gauges::register(registry, &c::UPSTREAM_BREAKER_STATE)?,
            breaker_transitions: Counters::register(registry, &c::UPSTREAM_BREAKER_TRANSITIONS)?,
            overflows: Counters::register(registry, &c::UPSTREAM_OVERFLOWS)?,
        })
    }

    /// The handle of the upstream that this label stands for.
    pub(crate) fn of(&self, label: &str) -> UpstreamMetrics {
        let calls = Calls {
            label: label.into(),
            duration: self.duration.with([label]),
            responses: self.responses.clone(),
            classes: StatusClasses::default(),
            failures: self.failures.clone(),
            retries: self.retries.clone(),
            denied: self.retries_denied.clone(),
        };
        let (open, idle) = (self.open.with([label]), self.idle.with([label]));
        UpstreamMetrics { open, idle, calls: Arc::new(calls) }
    }

    /// Counts requests that an endpoint was sent.
    pub(crate) fn sent(&self, label: &str, endpoint: &str, requests: u64) {
        self.endpoint_requests.with([label, endpoint]).inc_by(requests);
    }

    /// Takes over how the upstream is that this label stands for.
    pub(crate) fn note(&self, label: &str, health: &UpstreamHealth<'_>) {
        for (condition, count) in health.endpoints {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.endpoints.with([label, condition]).set(count);
        }
        self.panic.with([label]).set(i64::from(health.panic));
        if let Some(is) = health.breaker {
            for state in ["closed", "open", "half_open"] {
                self.breaker.with([label, state]).set(i64::from(state == is));
            }
        }
        for (result, total) in health.checks.iter().flatten() {
            raise(&self.checks.with([label, result]), *total);
        }
        for (cause, total) in health.ejections.iter().flatten() {
            raise(&self.ejections.with([label, cause]), *total);
        }
        for (scope, all) in [("upstream", &health.transitions), ("endpoint", &health.endpoint_transitions)] {
            for (state, total) in all.iter().flatten() {
                raise(&self.breaker_transitions.with([label, scope, state]), *total);
            }
        }
        for (cap, total) in health.overflows.iter().flatten() {
            raise(&self.overflows.with([label, cap]), *total);
        }
    }
}
