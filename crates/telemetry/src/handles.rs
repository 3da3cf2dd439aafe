//! What the request path counts with: handles bound to their labels once, when a snapshot compiles.

use crate::family::Counters;
use portcullis_http::{Method, TargetError};
use prometheus::{Histogram, IntCounter, IntGauge};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Label values of status classes; the last for what is no status.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// The place of a status in [`CLASSES`].
fn class_of(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status / 100 - 1),
        _ => CLASSES.len() - 1,
    }
}

/// One counter for each status class, bound when first counted so that no series stands at zero.
#[derive(Debug, Default)]
pub(crate) struct StatusClasses([OnceLock<IntCounter>; CLASSES.len()]);

impl StatusClasses {
    pub(crate) fn inc(&self, status: u16, bind: impl FnOnce(&str) -> IntCounter) {
        let class = class_of(status);
        if let (Some(cell), Some(label)) = (self.0.get(class), CLASSES.get(class)) {
            cell.get_or_init(|| bind(label)).inc();
        }
    }
}

/// Counts the requests of one route. Cheap to clone.
#[derive(Clone)]
pub struct RouteMetrics(Arc<Route>);

struct Route {
    label: Box<str>,
    family: Counters<3>,
    /// By method, in the order of [`Method`].
    requests: [StatusClasses; METHODS],
    duration: Histogram,
}

/// How many methods have a label of their own.
const METHODS: usize = Method::Other as usize + 1;

impl RouteMetrics {
    pub(crate) fn new(label: &str, family: Counters<3>, duration: Histogram) -> Self {
        RouteMetrics(Arc::new(Route { label: label.into(), family, requests: Default::default(), duration }))
    }

    /// Counts a request that was answered with `status` after `total`.
    pub fn observe(&self, method: Method, status: u16, total: Duration) {
        let route = &*self.0;
        if let Some(classes) = route.requests.get(method as usize) {
            classes.inc(status, |class| route.family.with([&route.label, method.label(), class]));
        }
        route.duration.observe(total.as_secs_f64());
    }
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RouteMetrics").field(&self.0.label).finish()
    }
}

/// Counts the targets of one route that would be refused. Cheap to clone.
#[derive(Clone)]
pub struct TargetMetrics {
    label: Arc<str>,
    family: Counters<2>,
}

impl TargetMetrics {
    pub(crate) fn new(label: &str, family: Counters<2>) -> Self {
        TargetMetrics { label: label.into(), family }
    }

    /// Counts a target that would have been refused for this.
    pub fn would_refuse(&self, error: TargetError) {
        self.family.with([&self.label, error.as_str()]).inc();
    }
}

impl std::fmt::Debug for TargetMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TargetMetrics").field(&self.label).finish()
    }
}

/// Tells of a certificate by ACME.
#[derive(Clone, Debug)]
pub struct AcmeMetrics {
    /// When it ends, in seconds since 1970; 0 until there is one.
    pub expiry: IntGauge,
    /// Orders that brought one.
    pub succeeded: IntCounter,
    /// Orders that failed.
    pub failed: IntCounter,
}

/// Why a client's TLS handshake did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It took too long.
    Timeout,
    /// The client went away.
    Closed,
    /// What it sent is no TLS, or it and we share no version, cipher suite or protocol.
    Protocol,
    /// The client's certificate is missing or not good.
    Certificate,
}

impl HandshakeFailure {
    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            HandshakeFailure::Timeout => "timeout",
            HandshakeFailure::Closed => "closed",
            HandshakeFailure::Protocol => "protocol",
            HandshakeFailure::Certificate => "certificate",
        }
    }
}

/// Why a client's connection was closed before anything was served on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// Its address has all the connections that one client may have.
    AddressLimit,
    /// The process is short of memory.
    Memory,
    /// It is none of the load balancers that may connect.
    ProxyPeer,
    /// It did not begin with a PROXY protocol header, or with a wrong one.
    ProxyHeader,
    /// The PROXY protocol header took too long.
    ProxyTimeout,
}

impl ConnectionRefusal {
    const ALL: [Self; 5] =
        [Self::AddressLimit, Self::Memory, Self::ProxyPeer, Self::ProxyHeader, Self::ProxyTimeout];

    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ConnectionRefusal::AddressLimit => "address_limit",
            ConnectionRefusal::Memory => "memory",
            ConnectionRefusal::ProxyPeer => "proxy_peer",
            ConnectionRefusal::ProxyHeader => "proxy_header",
            ConnectionRefusal::ProxyTimeout => "proxy_timeout",
        }
    }
}

/// Counts the connections of one listener. Cheap to clone.
#[derive(Clone)]
pub struct ListenerMetrics {
    pub(crate) open: IntGauge,
    pub(crate) accepted: IntCounter,
    pub(crate) failures: Counters<2>,
    pub(crate) refused: Counters<2>,
    /// Connections that could not be accepted: `inc` for each.
    pub not_accepted: IntCounter,
    pub(crate) label: Arc<str>,
}

impl ListenerMetrics {
    /// Brings the series of all refusals into being, at zero.
    pub(crate) fn begin(self) -> Self {
        for refusal in ConnectionRefusal::ALL {
            self.refused.with([&self.label, refusal.as_str()]);
        }
        self
    }

    /// Counts a connection that was closed before anything was served on it.
    pub fn refused(&self, why: ConnectionRefusal) {
        self.refused.with([&self.label, why.as_str()]).inc();
    }

    /// Counts a connection as accepted, and as open until the answer is dropped.
    pub fn connection(&self) -> InFlight {
        self.accepted.inc();
        InFlight::new(self.open.clone())
    }

    /// Counts a TLS handshake that did not complete.
    pub fn handshake_failed(&self, failure: HandshakeFailure) {
        self.failures.with([&self.label, failure.as_str()]).inc();
    }
}

impl std::fmt::Debug for ListenerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ListenerMetrics").field(&self.label).finish()
    }
}

/// Counts how often a route's shadow program comes to the verdict of the live one.
#[derive(Clone, Debug)]
pub struct ShadowMetrics {
    /// Neither refuses.
    pub both_pass: IntCounter,
    /// The live program refuses, the shadow would not.
    pub live_blocks: IntCounter,
    /// The shadow would refuse, the live program does not.
    pub shadow_blocks: IntCounter,
    /// Both refuse.
    pub both_block: IntCounter,
}

/// Counts what became of copies of a route's requests: `inc()` it.
#[derive(Clone, Debug)]
pub struct MirrorMetrics {
    /// The mirror answered.
    pub answered: IntCounter,
    /// It gave no usable answer.
    pub failed: IntCounter,
    /// It took too long.
    pub timed_out: IntCounter,
    /// It was not sent: too many were under way, or there was no memory for its body.
    pub dropped: IntCounter,
    /// It could not be sent, since not all of the request was held.
    pub streamed: IntCounter,
}

/// Counts the decisions of one rate limit: `inc()` the one that was made.
#[derive(Clone, Debug)]
pub struct LimitMetrics {
    /// The request was within the limit.
    pub passed: IntCounter,
    /// It was not, and was refused.
    pub limited: IntCounter,
    /// The limit's store could not be asked.
    pub unavailable: IntCounter,
}

/// One unit of a gauge, given back when dropped.
#[derive(Debug)]
#[must_use = "the gauge goes down when this is dropped"]
pub struct InFlight(IntGauge);

impl InFlight {
    pub(crate) fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        InFlight(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_all_statuses() {
        for (status, class) in [
            (0, "other"),
            (99, "other"),
            (100, "1xx"),
            (204, "2xx"),
            (599, "5xx"),
            (600, "other"),
            (999, "other"),
        ] {
            assert_eq!(CLASSES[class_of(status)], class, "{status}");
        }
    }
}
