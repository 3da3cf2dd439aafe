//! What an upstream's health, breakers and caps look like from outside, for metrics and readiness.

use crate::breaker::Breaker;
use crate::condition::now;
use crate::endpoint::Endpoint;
use crate::slow_start::WHOLE;
use crate::{BreakerState, Cap, Caps, EjectionCause, Health, Upstream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How an upstream is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Its own breaker, if it has one.
    pub breaker: Option<BreakerState>,
    /// Whether so few endpoints are healthy that health is not regarded.
    pub panic: bool,
    /// Its endpoints, in the order of configuration.
    pub endpoints: Vec<EndpointStatus>,
}

/// How an endpoint is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Host and port.
    pub address: String,
    /// What active checks have found.
    pub health: Health,
    /// How long it will be ejected still.
    pub ejected: Option<Duration>,
    /// Its breaker, if it has one.
    pub breaker: Option<BreakerState>,
    /// Whether a connection to it failed a moment ago.
    pub aside: bool,
    /// Whether it gets only a part of its weight yet.
    pub warming: bool,
    /// Whether it gets requests, as long as there is no panic.
    pub available: bool,
}

impl EndpointStatus {
    fn of(endpoint: &Endpoint, slow_start: Duration) -> Self {
        let (condition, now) = (&endpoint.condition, now());
        let ejected = condition.ejection.until();
        EndpointStatus {
            address: endpoint.address.to_string(),
            health: condition.health(),
            ejected: ejected.map(|until| Duration::from_millis(until.saturating_sub(now))),
            breaker: condition.breaker().as_deref().map(Breaker::state),
            aside: condition.is_aside(),
            warming: condition.slow_start.share(slow_start, now) < WHOLE,
            available: condition.is_available(false),
        }
    }
}

/// How often something happened to an upstream since the process started; a reload does not begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTotals {
    /// Checks that passed, and that failed; where endpoints are checked.
    pub checks: Option<[u64; 2]>,
    /// Ejections by their cause; where endpoints are ejected.
    pub ejections: Option<[(EjectionCause, u64); 4]>,
    /// Changes of the upstream's own breaker by the state that was entered; where it has one.
    pub transitions: Option<[(BreakerState, u64); 3]>,
    /// The same of its endpoints' breakers.
    pub endpoint_transitions: Option<[(BreakerState, u64); 3]>,
    /// Calls that found a cap reached; where there are any.
    pub overflows: Option<[(Cap, u64); 4]>,
}

impl Upstream {
    /// How it is at this moment.
    #[must_use]
    pub fn status(&self) -> UpstreamStatus {
        let (members, supervision) = (self.group.members(), &self.group.supervision);
        UpstreamStatus {
            breaker: supervision.breaker.as_deref().map(Breaker::state),
            panic: members.is_panicking(supervision.panic_threshold),
            endpoints: members
                .iter()
                .map(|endpoint| EndpointStatus::of(endpoint, supervision.slow_start))
                .collect(),
        }
    }

    /// What happened to it so far.
    #[must_use]
    pub fn totals(&self) -> UpstreamTotals {
        let supervision = &self.group.supervision;
        let totals = &*supervision.lasting.totals;
        let [own, endpoints] = &totals.transitions;
        let read = |total: &AtomicU64| total.load(Ordering::Relaxed);
        let by_state = |totals: &[AtomicU64; 3]| {
            let [closed, open, half_open] = totals.each_ref().map(read);
            [(BreakerState::Closed, closed), (BreakerState::Open, open), (BreakerState::HalfOpen, half_open)]
        };
        let [errors, gateway, rate, percentage] = totals.ejections.each_ref().map(read);
        let load = &supervision.lasting.load;
        let has_caps =
            [&supervision.caps, &supervision.endpoint_caps].iter().any(|caps| **caps != Caps::default());
        UpstreamTotals {
            checks: supervision.health_check.is_some().then(|| totals.checks.each_ref().map(read)),
            ejections: supervision.outlier.map(|_| {
                [
                    (EjectionCause::Consecutive5xx, errors),
                    (EjectionCause::ConsecutiveGatewayFailure, gateway),
                    (EjectionCause::SuccessRate, rate),
                    (EjectionCause::FailurePercentage, percentage),
                ]
            }),
            transitions: supervision.breaker.is_some().then(|| by_state(own)),
            endpoint_transitions: supervision.endpoint_breaker.is_some().then(|| by_state(endpoints)),
            overflows: has_caps.then(|| Cap::ALL.map(|cap| (cap, load.overflows(cap)))),
        }
    }
}
