//! Every metric, once: registration, the reference page and the dashboard's test read this table.

use std::fmt::Write as _;

/// What a metric measures, in Prometheus' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by upper bound; see [`DURATION_BUCKETS`].
    Histogram,
}

impl Kind {
    /// The kind as the text exposition names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric as the reference lists it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The full name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// One entry of the table. The number of labels is part of its type, so that no call can give too few.
pub(crate) struct Family<const N: usize> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) labels: [&'static str; N],
}

/// Upper bounds of every duration histogram, in seconds: half a millisecond, which is a cached answer of a
/// near upstream, to a minute, which is the longest total deadline a route has by default.
pub const DURATION_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

macro_rules! catalogue {
    ($($id:ident $kind:ident $name:literal [$($label:literal)*] $help:literal)*) => {
        $(pub(crate) const $id: Family<{ const LABELS: &[&str] = &[$($label),*]; LABELS.len() }> =
            Family { name: $name, help: $help, labels: [$($label),*] };)*

        /// All metrics, in the order of the reference page.
        pub const CATALOGUE: &[Metric] = &[
            $(Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help }),*
        ];
    };
}

catalogue! {
    REQUESTS Counter "portcullis_requests_total" ["route" "method" "status_class"]
        "Requests answered, by the gateway itself or by an upstream."
    REQUEST_DURATION Histogram "portcullis_request_duration_seconds" ["route"]
        "Time from the first byte of a request's head to the last byte of its answer."
    REQUESTS_IN_FLIGHT Gauge "portcullis_requests_in_flight" []
        "Requests that are being worked on."
    UPSTREAM_DURATION Histogram "portcullis_upstream_duration_seconds" ["upstream"]
        "Time from the start of a call to an upstream to the head of its answer, connecting included."
    UPSTREAM_RESPONSES Counter "portcullis_upstream_responses_total" ["upstream" "status_class"]
        "Answers of upstreams."
    UPSTREAM_FAILURES Counter "portcullis_upstream_failures_total" ["upstream" "reason"]
        "Calls to upstreams that gave no usable answer."
    UPSTREAM_RETRIES Counter "portcullis_upstream_retries_total" ["upstream" "reason"]
        "Tries beyond the first of a request, by what came of the one before."
    UPSTREAM_RETRIES_DENIED Counter "portcullis_upstream_retries_denied_total" ["upstream" "reason"]
        "Requests whose last try failed and that were not tried again, by what was in the way: `attempts`, `budget`, `deadline`, `retry_after`, `method`."
    UPSTREAM_CONNECTIONS_OPEN Gauge "portcullis_upstream_connections_open" ["upstream"]
        "Connections to endpoints of an upstream, busy or idle."
    UPSTREAM_CONNECTIONS_IDLE Gauge "portcullis_upstream_connections_idle" ["upstream"]
        "Connections to endpoints of an upstream that wait in the pool."
    ENDPOINT_REQUESTS Counter "portcullis_upstream_endpoint_requests_total" ["upstream" "endpoint"]
        "Requests that an endpoint was sent, repeats and mirrored ones among them."
    CANARY_REQUESTS Counter "portcullis_canary_requests_total" ["route" "upstream"]
        "Requests of routes with canaries, by the upstream that they went to."
    MIRRORED_REQUESTS Counter "portcullis_mirrored_requests_total" ["route" "outcome"]
        "Copies of requests for a route's mirror, by what became of them."
    UPSTREAM_ENDPOINTS Gauge "portcullis_upstream_endpoints" ["upstream" "condition"]
        "Endpoints of an upstream of which this holds; more than one thing may hold of one."
    UPSTREAM_PANIC Gauge "portcullis_upstream_panic" ["upstream"]
        "1 while so few endpoints of an upstream are healthy that health is not regarded (`panic_threshold`)."
    UPSTREAM_HEALTH_CHECKS Counter "portcullis_upstream_health_checks_total" ["upstream" "result"]
        "Active checks of an upstream's endpoints."
    UPSTREAM_EJECTIONS Counter "portcullis_upstream_ejections_total" ["upstream" "cause"]
        "Ejections of endpoints by outlier detection."
    UPSTREAM_BREAKER_STATE Gauge "portcullis_upstream_circuit_breaker_state" ["upstream" "state"]
        "1 for the state that an upstream's own circuit breaker is in, 0 for the others."
    UPSTREAM_BREAKER_TRANSITIONS Counter "portcullis_upstream_circuit_breaker_transitions_total" ["upstream" "scope" "state"]
        "Changes of circuit breakers, by whose it is and the state that was entered."
    UPSTREAM_OVERFLOWS Counter "portcullis_upstream_overflows_total" ["upstream" "cap"]
        "Requests that found a cap of their upstream, or of an endpoint, reached. One that found `connections` reached waited, the others were refused."
    DISCOVERY_ENDPOINTS Gauge "portcullis_discovery_endpoints" ["upstream"]
        "Endpoints that are known of an upstream whose endpoints are discovered."
    DISCOVERY_LAST_SUCCESS_TIMESTAMP Gauge "portcullis_discovery_last_success_timestamp_seconds" ["upstream"]
        "When discovery last got a good answer, in seconds since 1970; a file that is as it was counts."
    DISCOVERY_LOOKUPS Counter "portcullis_discovery_lookups_total" ["upstream" "result"]
        "Questions that discovery asked: of names each lookup counts, of files each change."
    DISCOVERY_FORBIDDEN_ADDRESSES Counter "portcullis_discovery_forbidden_addresses_total" ["upstream"]
        "Addresses that discovery found and left out, since they may not be connected to (`destinations`)."
    COMPOSITION_PART_FAILURES Counter "portcullis_composition_part_failures_total" ["route" "part"]
        "Parts of compositions that failed, required or optional."
    FIREWALL_VERDICTS Counter "portcullis_firewall_verdicts_total" ["rule" "action"]
        "Verdicts of firewall rules: what the firewall did because of a rule."
    FIREWALL_SHADOW Counter "portcullis_firewall_shadow_total" ["route" "live" "shadow"]
        "Requests that a shadow program judged beside the live one, by what either came to."
    FIREWALL_LOG_LINES_DROPPED Counter "portcullis_firewall_log_lines_dropped_total" ["log"]
        "Lines of the firewall's own logs that were given up because the file did not take them fast enough or failed."
    REJECTIONS Counter "portcullis_rejections_total" ["stage" "code" "reason"]
        "Requests that the gateway refused, by the stage that refused and why."
    TARGET_WOULD_REFUSE Counter "portcullis_target_would_refuse_total" ["route" "reason"]
        "Request targets that would have been refused, on routes that only detect them (`target.mode`)."
    RATE_LIMIT_DECISIONS Counter "portcullis_rate_limit_decisions_total" ["route" "limit" "outcome"]
        "Decisions of rate limits."
    LEAKS Counter "portcullis_leaks_total" ["kind" "action"]
        "Pieces of responses that leak prevention masked, and responses that it withheld."
    CLIENT_CONNECTIONS_OPEN Gauge "portcullis_client_connections_open" ["listener"]
        "Open connections of clients."
    CLIENT_CONNECTIONS Counter "portcullis_client_connections_total" ["listener"]
        "Connections of clients that were accepted."
    CLIENT_CONNECTIONS_REFUSED Counter "portcullis_client_connections_refused_total" ["listener" "reason"]
        "Connections of clients that were closed before a word was read from them, or for what their PROXY protocol header says or does not say."
    ACCEPT_FAILURES Counter "portcullis_accept_failures_total" ["listener"]
        "Connections of clients that could not be accepted for want of file descriptors or memory."
    TLS_HANDSHAKE_FAILURES Counter "portcullis_tls_handshake_failures_total" ["listener" "reason"]
        "TLS handshakes of clients that did not complete."
    ACME_CERTIFICATE_EXPIRY Gauge "portcullis_acme_certificate_expiry_timestamp_seconds" ["domain"]
        "When a certificate that was issued by ACME ends, in seconds since 1970; 0 until there is one."
    ACME_ORDERS Counter "portcullis_acme_orders_total" ["domain" "result"]
        "Orders of certificates by ACME that came to an end."
    TLS_CERTIFICATE_EXPIRY Gauge "portcullis_tls_certificate_expiry_timestamp_seconds" ["listener"]
        "When the first of a listener's certificates expires, in seconds since 1970."
    TLS_REVOCATION_LIST_EXPIRY Gauge "portcullis_tls_revocation_list_expiry_timestamp_seconds" ["listener"]
        "When the first of a listener's revocation lists is past its `nextUpdate`, in seconds since 1970."
    BUFFERED_BODY_BYTES Gauge "portcullis_buffered_body_bytes" []
        "Bytes of request and response bodies held in memory."
    BUFFERED_BODY_LIMIT_BYTES Gauge "portcullis_buffered_body_limit_bytes" []
        "Bytes of request and response bodies that may be held in memory at most."
    MEMORY_LIMIT Gauge "portcullis_memory_limit_bytes" []
        "Memory from which load is shed; 0 where there is no limit."
    MEMORY_STEP Gauge "portcullis_memory_step" []
        "What is shed for want of memory: 0 nothing, 1 held bodies and kept connections, 2 also requests, 3 also connections."
    RELOADS Counter "portcullis_reloads_total" ["result"]
        "Attempts to load a configuration, the one at the start included."
    CONFIG_LAST_RELOAD_SUCCESSFUL Gauge "portcullis_config_last_reload_successful"  []
        "1 when the last attempt to load a configuration succeeded, 0 when it failed and the one before it serves."
    CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP Gauge "portcullis_config_last_reload_success_timestamp_seconds" []
        "When the configuration in force was loaded, in seconds since 1970."
    CONFIG_INFO Gauge "portcullis_config_info" ["hash"]
        "Always 1; the label names the configuration in force, rules and certificates included."
    LOG_LINES_DROPPED Counter "portcullis_log_lines_dropped_total" []
        "Log lines that were given up because standard error did not take them fast enough or failed."
    BUILD_INFO Gauge "portcullis_build_info" ["version" "rustc"]
        "Always 1; the labels name the build."
    PROCESS_START_TIME Gauge "portcullis_process_start_time_seconds" []
        "When the process started, in seconds since 1970."
    PROCESS_RESIDENT_MEMORY Gauge "portcullis_process_resident_memory_bytes" []
        "Memory of the process that is in RAM."
    PROCESS_OPEN_FILES Gauge "portcullis_process_open_files" []
        "Open file descriptors of the process: connections, mostly."
}

/// What a label may say, and what bounds the number of its values.
const LABELS: &[(&str, &str)] = &[
    ("route", "name of a configured route; `unmatched` where none matched, `-` for a limit over all routes"),
    ("method", "`GET`, `HEAD`, `POST`, `PUT`, `DELETE`, `PATCH`, `OPTIONS`, `TRACE`, `CONNECT`, `OTHER`"),
    ("status_class", "`1xx`, `2xx`, `3xx`, `4xx`, `5xx`, `other`"),
    ("upstream", "name of a configured upstream"),
    ("endpoint", "host and port of an endpoint"),
    (
        "condition",
        "`all`, `available` (gets requests), `unhealthy` (fails its checks), `pending` (was added and has passed no check yet), `ejected`, `breaker_open`, `breaker_half_open`, `warming` (gets only a part of its weight yet)",
    ),
    ("cause", "`consecutive_5xx`, `consecutive_gateway_failure`, `success_rate`"),
    ("state", "`closed`, `open`, `half_open`"),
    ("scope", "`upstream`, `endpoint`"),
    ("cap", "`connections`, `pending`, `requests`, `retries`"),
    ("part", "name of a composition's part"),
    ("rule", "id of a firewall rule"),
    (
        "action",
        "firewall: `deny`, `drop`, `redirect`, `allow`, `detect` (would have been refused, but the firewall only detects), `log`; leaks: `mask`, `block`",
    ),
    ("live", "what the program in force came to: `pass`, `block` (in detection, that it would have)"),
    ("shadow", "what the shadow program came to: `pass`, `block`"),
    ("log", "`error`, `audit`"),
    (
        "stage",
        "the stage that refused: `framing`, `route`, `address`, `head_limits`, `firewall`, `authenticate`, `authorize`, `rate`, `body`, `contract`, `upstream`, `response`, `internal`",
    ),
    ("code", "the public code in the problem document that the client got"),
    ("reason", "what happened in detail; a closed set for each code"),
    ("limit", "name of a configured rate limit"),
    (
        "outcome",
        "rate limits: `passed`, `limited`, `unavailable` (the limit's store could not be asked); mirrors: `answered`, `failed`, `timeout`, `dropped` (too many under way, or no memory for the body), `streamed` (not all of the request was held)",
    ),
    ("kind", "what leaked: `card`, `secret`, `internal_address`, `stack_trace`"),
    ("listener", "name of a configured listener"),
    (
        "result",
        "`success`, `failure`; discovery: also `empty` (no such name, no such records, an empty list)",
    ),
    ("domain", "the first of the names that a certificate is configured for"),
    ("hash", "the first hexadecimal digits of a digest over the configuration"),
    ("version", "version of the gateway"),
    ("rustc", "version of the compiler"),
];

/// The reference page `docs/metrics.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Generated from `crates/telemetry/src/catalogue.rs`; `UPDATE=1 cargo test -p portcullis-telemetry`\n\
         writes it anew. The admin listener serves them at `/metrics` in Prometheus' text format.\n\n\
         | metric | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in CATALOGUE {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ =
            writeln!(page, "| `{}` | {} | {} | {} |", metric.name, metric.kind.as_str(), labels, metric.help);
    }
    let bounds = DURATION_BUCKETS.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let _ = write!(page, "\nDuration histograms have the upper bounds {bounds} seconds.\n\n## Labels\n\n");
    page.push_str("| label | values |\n|---|---|\n");
    for (label, values) in LABELS {
        let _ = writeln!(page, "| `{label}` | {values} |");
    }
    let _ = write!(
        page,
        "\nEvery set of label values is closed: nothing a client sends becomes a label. Sets that follow the\n\
         configuration (routes, parts, upstreams, endpoints, listeners, limits, rules) are capped at {} values each since\n\
         the start of the process; what comes later is counted under `other`.\n",
        crate::label::CAP
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_explained_once() {
        for label in CATALOGUE.iter().flat_map(|metric| metric.labels) {
            assert_eq!(LABELS.iter().filter(|(name, _)| name == label).count(), 1, "{label}");
        }
        for (label, _) in LABELS {
            assert!(CATALOGUE.iter().any(|metric| metric.labels.contains(label)), "{label} is on no metric");
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        for metric in CATALOGUE {
            assert!(metric.name.starts_with("portcullis_"), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            if metric.kind == Kind::Histogram {
                assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
            }
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
