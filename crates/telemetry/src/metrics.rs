//! The registry, and the lookups that hand out handles.

use crate::actions::{FirewallAction, LeakAction};
use crate::catalogue as c;
use crate::discovery::{DiscoveryFamilies, DiscoveryMetrics};
use crate::family::{Counters, Gauges, Histograms, Keyed, counter, gauge};
use crate::handles::{
    AcmeMetrics, InFlight, LimitMetrics, ListenerMetrics, MirrorMetrics, RouteMetrics, ShadowMetrics,
    TargetMetrics,
};
use crate::label::LabelSet;
use crate::process;
use crate::upstream::{UpstreamFamilies, UpstreamHealth, UpstreamMetrics};
use portcullis_http::{Budget, Rejection};
use prometheus::{IntCounter, IntGauge, Registry, TextEncoder};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The media type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The route label of requests that matched none.
const UNMATCHED: &str = "unmatched";

/// The registry could not be set up or written out: a fault of the catalogue, not of an operator.
#[derive(Debug)]
pub struct MetricsError(prometheus::Error);

impl fmt::Display for MetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metrics: {}", self.0)
    }
}

impl std::error::Error for MetricsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl From<prometheus::Error> for MetricsError {
    fn from(error: prometheus::Error) -> Self {
        MetricsError(error)
    }
}

/// All metrics of the process. Lives outside the snapshot: a reload resets nothing.
///
/// Handles ([`Metrics::route`] and the like) are made when a snapshot compiles; what they count on the
/// request path is a few relaxed atomic additions, without hashing a label or allocating.
///
/// ```
/// use portcullis_http::Method;
/// use portcullis_telemetry::{BuildInfo, Metrics};
/// use std::time::Duration;
///
/// let metrics = Metrics::new(BuildInfo { version: "0.1.0", rustc: "1.95" }).unwrap();
/// let route = metrics.route("titles");
/// route.observe(Method::Get, 200, Duration::from_millis(3));
/// let text = metrics.render().unwrap();
/// assert!(text.contains(
///     r#"portcullis_requests_total{method="GET",route="titles",status_class="2xx"} 1"#
/// ));
/// ```
pub struct Metrics {
    registry: Registry,
    requests: Counters<3>,
    request_duration: Histograms<1>,
    in_flight: IntGauge,
    upstream: UpstreamFamilies,
    canary_requests: Counters<2>,
    mirrored_requests: Counters<2>,
    discovery: DiscoveryFamilies,
    part_failures: Counters<2>,
    firewall: Keyed<(u32, FirewallAction), 2>,
    rejections: Keyed<(&'static str, &'static str), 3>,
    target_would_refuse: Counters<2>,
    rate_limits: Counters<3>,
    leaks: Keyed<(&'static str, LeakAction), 2>,
    client_open: Gauges<1>,
    certificate_expiry: Gauges<1>,
    revocation_list_expiry: Gauges<1>,
    client_connections: Counters<1>,
    tls_failures: Counters<2>,
    acme_expiry: Gauges<1>,
    acme_orders: Counters<2>,
    refused_connections: Counters<2>,
    accept_failures: Counters<1>,
    memory_limit: IntGauge,
    memory_step: IntGauge,
    buffered: IntGauge,
    buffered_limit: IntGauge,
    reloads: Counters<1>,
    reload_successful: IntGauge,
    reload_timestamp: IntGauge,
    config_info: Gauges<1>,
    log_dropped: IntCounter,
    firewall_log_dropped: Counters<1>,
    firewall_shadow: Counters<3>,
    process: process::Gauges,
    labels: Labels,
    budget: Mutex<Option<Budget>>,
}

/// The capped label sets.
#[derive(Default)]
struct Labels {
    route: LabelSet,
    part: LabelSet,
    upstream: LabelSet,
    endpoint: LabelSet,
    listener: LabelSet,
    domain: LabelSet,
    limit: LabelSet,
}

/// What can leak. Their series exist from the start, at zero: `increase()` does not see a counter's first
/// value, and one response that was withheld is worth an alert.
const LEAK_KINDS: [&str; 4] = ["card", "secret", "internal_address", "stack_trace"];

/// The build, for `portcullis_build_info`.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo<'a> {
    /// Version of the gateway.
    pub version: &'a str,
    /// Version of the compiler.
    pub rustc: &'a str,
}

impl Metrics {
    /// Registers everything in the catalogue.
    ///
    /// # Errors
    /// When the catalogue names a metric twice or not as Prometheus allows.
    pub fn new(build: BuildInfo<'_>) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let r = &registry;
        Gauges::register(r, &c::BUILD_INFO)?.with([build.version, build.rustc]).set(1);
        let metrics = Metrics {
            requests: Counters::register(r, &c::REQUESTS)?,
            request_duration: Histograms::register(r, &c::REQUEST_DURATION)?,
            in_flight: gauge(r, &c::REQUESTS_IN_FLIGHT)?,
            upstream: UpstreamFamilies::register(r)?,
            canary_requests: Counters::register(r, &c::CANARY_REQUESTS)?,
            mirrored_requests: Counters::register(r, &c::MIRRORED_REQUESTS)?,
            discovery: DiscoveryFamilies::register(r)?,
            part_failures: Counters::register(r, &c::COMPOSITION_PART_FAILURES)?,
            firewall: Keyed::new(Counters::register(r, &c::FIREWALL_VERDICTS)?),
            rejections: Keyed::new(Counters::register(r, &c::REJECTIONS)?),
            target_would_refuse: Counters::register(r, &c::TARGET_WOULD_REFUSE)?,
            rate_limits: Counters::register(r, &c::RATE_LIMIT_DECISIONS)?,
            leaks: Keyed::new(Counters::register(r, &c::LEAKS)?),
            client_open: Gauges::register(r, &c::CLIENT_CONNECTIONS_OPEN)?,
            certificate_expiry: Gauges::register(r, &c::TLS_CERTIFICATE_EXPIRY)?,
            revocation_list_expiry: Gauges::register(r, &c::TLS_REVOCATION_LIST_EXPIRY)?,
            client_connections: Counters::register(r, &c::CLIENT_CONNECTIONS)?,
            tls_failures: Counters::register(r, &c::TLS_HANDSHAKE_FAILURES)?,
            acme_expiry: Gauges::register(r, &c::ACME_CERTIFICATE_EXPIRY)?,
            acme_orders: Counters::register(r, &c::ACME_ORDERS)?,
            refused_connections: Counters::register(r, &c::CLIENT_CONNECTIONS_REFUSED)?,
            accept_failures: Counters::register(r, &c::ACCEPT_FAILURES)?,
            memory_limit: gauge(r, &c::MEMORY_LIMIT)?,
            memory_step: gauge(r, &c::MEMORY_STEP)?,
            buffered: gauge(r, &c::BUFFERED_BODY_BYTES)?,
            buffered_limit: gauge(r, &c::BUFFERED_BODY_LIMIT_BYTES)?,
            reloads: Counters::register(r, &c::RELOADS)?,
            reload_successful: gauge(r, &c::CONFIG_LAST_RELOAD_SUCCESSFUL)?,
            reload_timestamp: gauge(r, &c::CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP)?,
            config_info: Gauges::register(r, &c::CONFIG_INFO)?,
            log_dropped: counter(r, &c::LOG_LINES_DROPPED)?,
            firewall_log_dropped: Counters::register(r, &c::FIREWALL_LOG_LINES_DROPPED)?,
            firewall_shadow: Counters::register(r, &c::FIREWALL_SHADOW)?,
            process: process::Gauges::new(
                gauge(r, &c::PROCESS_START_TIME)?,
                gauge(r, &c::PROCESS_RESIDENT_MEMORY)?,
                gauge(r, &c::PROCESS_OPEN_FILES)?,
            ),
            labels: Labels::default(),
            budget: Mutex::new(None),
            registry,
        };
        for kind in LEAK_KINDS {
            metrics.leaks(kind, LeakAction::Mask, 0);
            metrics.leaks(kind, LeakAction::Block, 0);
        }
        for result in ["success", "failure"] {
            metrics.reloads.with([result]);
        }
        Ok(metrics)
    }

    /// The handle of a configured route. Made when a snapshot compiles.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        self.route_handle(self.labels.route.admit(name))
    }

    /// The handle of requests that match no route.
    #[must_use]
    pub fn unmatched(&self) -> RouteMetrics {
        self.route_handle(UNMATCHED)
    }

    fn route_handle(&self, label: &str) -> RouteMetrics {
        RouteMetrics::new(label, self.requests.clone(), self.request_duration.with([label]))
    }

    /// The handle of a configured upstream. Made when a snapshot compiles.
    #[must_use]
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        self.upstream.of(self.labels.upstream.admit(name))
    }

    /// Says how an upstream is: its endpoints, its breakers, what became of its checks and caps.
    pub fn upstream_health(&self, name: &str, health: &UpstreamHealth<'_>) {
        self.upstream.note(self.labels.upstream.admit(name), health);
    }

    /// The handle of an upstream whose endpoints are discovered.
    #[must_use]
    pub fn discovery(&self, upstream: &str) -> DiscoveryMetrics {
        self.discovery.of(self.labels.upstream.admit(upstream))
    }

    /// The handle of a configured listener.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        let label = self.labels.listener.admit(name);
        ListenerMetrics {
            open: self.client_open.with([label]),
            accepted: self.client_connections.with([label]),
            failures: self.tls_failures.clone(),
            refused: self.refused_connections.clone(),
            not_accepted: self.accept_failures.with([label]),
            label: label.into(),
        }
        .begin()
    }

    /// Says when the first of a listener's certificates and revocation lists expire, in seconds since 1970; nothing of those
    /// that it does not have.
    pub fn expiries(&self, listener: &str, certificate: Option<i64>, revocation_list: Option<i64>) {
        let label = self.labels.listener.admit(listener);
        for (gauges, expiry) in
            [(&self.certificate_expiry, certificate), (&self.revocation_list_expiry, revocation_list)]
        {
            if let Some(expiry) = expiry {
                gauges.with([label]).set(expiry);
            }
        }
    }

    /// The counters of a route's targets that would be refused. Made when a snapshot compiles.
    #[must_use]
    pub fn target(&self, route: &str) -> TargetMetrics {
        TargetMetrics::new(self.labels.route.admit(route), self.target_would_refuse.clone())
    }

    /// What is told of a certificate by ACME, by the first of its names. Made when a snapshot compiles.
    #[must_use]
    pub fn acme(&self, domain: &str) -> AcmeMetrics {
        let label = self.labels.domain.admit(domain);
        AcmeMetrics {
            expiry: self.acme_expiry.with([label]),
            succeeded: self.acme_orders.with([label, "success"]),
            failed: self.acme_orders.with([label, "failure"]),
        }
    }

    /// The handle of a rate limit: of a route, or of all routes together. Made when a snapshot compiles.
    #[must_use]
    pub fn limit(&self, route: Option<&str>, limit: &str) -> LimitMetrics {
        let route = route.map_or("-", |name| self.labels.route.admit(name));
        let limit = self.labels.limit.admit(limit);
        let outcome = |outcome| self.rate_limits.with([route, limit, outcome]);
        LimitMetrics {
            passed: outcome("passed"),
            limited: outcome("limited"),
            unavailable: outcome("unavailable"),
        }
    }

    /// Counts requests that an endpoint was sent.
    pub fn endpoint(&self, upstream: &str, endpoint: &str, requests: u64) {
        let (upstream, endpoint) =
            (self.labels.upstream.admit(upstream), self.labels.endpoint.admit(endpoint));
        self.upstream.sent(upstream, endpoint, requests);
    }

    /// The counter of the requests of a route with canaries that go to this upstream. Made when a snapshot compiles;
    /// `inc()` it.
    #[must_use]
    pub fn canary(&self, route: &str, upstream: &str) -> IntCounter {
        let (route, upstream) = (self.labels.route.admit(route), self.labels.upstream.admit(upstream));
        self.canary_requests.with([route, upstream])
    }

    /// The counters of a route's mirror. Made when a snapshot compiles.
    #[must_use]
    pub fn mirror(&self, route: &str) -> MirrorMetrics {
        let route = self.labels.route.admit(route);
        let outcome = |outcome| self.mirrored_requests.with([route, outcome]);
        MirrorMetrics {
            answered: outcome("answered"),
            failed: outcome("failed"),
            timed_out: outcome("timeout"),
            dropped: outcome("dropped"),
            streamed: outcome("streamed"),
        }
    }

    /// The counter of a composition's part that fails. Made when a snapshot compiles; `inc()` it.
    #[must_use]
    pub fn part_failures(&self, route: &str, part: &str) -> IntCounter {
        let (route, part) = (self.labels.route.admit(route), self.labels.part.admit(part));
        self.part_failures.with([route, part])
    }

    /// The counters of a route's shadow program. Made when a snapshot compiles.
    #[must_use]
    pub fn shadow(&self, route: &str) -> ShadowMetrics {
        let route = self.labels.route.admit(route);
        let counter = |live, shadow| self.firewall_shadow.with([route, live, shadow]);
        ShadowMetrics {
            both_pass: counter("pass", "pass"),
            live_blocks: counter("block", "pass"),
            shadow_blocks: counter("pass", "block"),
            both_block: counter("block", "block"),
        }
    }

    /// Counts a request as in flight until the answer is dropped.
    pub fn in_flight(&self) -> InFlight {
        InFlight::new(self.in_flight.clone())
    }

    /// Requests in flight now, for draining.
    #[must_use]
    pub fn requests_in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts a rejection.
    pub fn rejection(&self, rejection: &Rejection) {
        let (code, reason) = (rejection.code(), rejection.reason());
        let stage = rejection.stage().as_str();
        self.rejections.add((code, reason), 1, |family| family.with([stage, code, reason]));
    }

    /// Counts a verdict of a firewall rule.
    pub fn firewall(&self, rule: u32, action: FirewallAction) {
        self.firewall
            .add((rule, action), 1, |family| family.with([rule.to_string().as_str(), action.as_str()]));
    }

    /// Counts `pieces` of a response that were masked, or the one response that was withheld. `kind` is a name
    /// from the configuration's closed set.
    pub fn leaks(&self, kind: &'static str, action: LeakAction, pieces: u64) {
        self.leaks.add((kind, action), pieces, |family| family.with([kind, action.as_str()]));
    }

    /// The budget that the buffered-bytes gauges show; `limit` in bytes. It is read at each scrape, so that
    /// holding bytes costs nothing more.
    pub fn watch_budget(&self, budget: Budget, limit: usize) {
        self.buffered_limit.set(saturate(limit));
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(budget);
    }

    /// Notes from how many bytes of memory load is shed (`None`: there is no such limit), and how much of it is shed
    /// now: 0 to 3, as the catalogue has it.
    pub fn memory(&self, limit: Option<u64>, step: u8) {
        self.memory_limit.set(i64::try_from(limit.unwrap_or(0)).unwrap_or(i64::MAX));
        self.memory_step.set(i64::from(step));
    }

    /// Notes that a configuration was loaded and serves now; `hash` names it.
    pub fn reload_succeeded(&self, hash: &str) {
        self.reloads.with(["success"]).inc();
        self.reload_successful.set(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.reload_timestamp.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        self.config_info.reset();
        self.config_info.with([hash]).set(1);
    }

    /// Notes that a configuration could not be loaded and the one before it serves on.
    pub fn reload_failed(&self) {
        self.reloads.with(["failure"]).inc();
        self.reload_successful.set(0);
    }

    /// The counter that a [`crate::LogQueue`] counts what it drops with.
    pub(crate) fn log_dropped(&self) -> IntCounter {
        self.log_dropped.clone()
    }

    /// The counter of what one of the firewall's own logs drops.
    pub(crate) fn firewall_log_dropped(&self, log: &'static str) -> IntCounter {
        self.firewall_log_dropped.with([log])
    }

    /// All metrics in Prometheus' text format, to be served as [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// When the encoder refuses a family, which the catalogue's tests rule out.
    pub fn render(&self) -> Result<String, MetricsError> {
        if let Some(budget) = &*self.budget.lock().unwrap_or_else(PoisonError::into_inner) {
            self.buffered.set(saturate(budget.used()));
        }
        self.process.update();
        let mut text = String::with_capacity(16 * 1024);
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn saturate(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
