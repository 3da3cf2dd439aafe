//! Every metric name, every field of a log line, and what must not stand in either.
//!
//! [`Metrics`] registers what the [`CATALOGUE`] lists and hands out handles bound to their labels when a
//! snapshot compiles; the request path only adds to them. At a request's end the pipeline fills an
//! [`AccessRecord`], and [`AccessLog`] turns it into one line that a [`LogQueue`] writes to standard error
//! from a thread of its own. The gateway's own messages ([`init`]) go by the same queue, so that no request
//! ever waits for a log. What clients sent is escaped, cut and redacted on its way into a line.
//!
//! ```
//! use portcullis_http::{Method, Rejection};
//! use portcullis_telemetry::{BuildInfo, FirewallAction, Metrics};
//! use std::time::Duration;
//!
//! let metrics = Metrics::new(BuildInfo { version: "0.1.0", rustc: "1.95" }).unwrap();
//! // When a snapshot compiles:
//! let search = metrics.route("search");
//! // When a request ends:
//! metrics.firewall(1_020_001, FirewallAction::Deny);
//! metrics.rejection(&Rejection::Firewall { rule: 1_020_001, phase: 2, status: 403, location: None });
//! search.observe(Method::Get, 403, Duration::from_micros(180));
//! // When Prometheus asks:
//! let text = metrics.render().unwrap();
//! assert!(text.contains(r#"portcullis_firewall_verdicts_total{action="deny",rule="1020001"} 1"#));
//! ```
#![forbid(unsafe_code)]

mod access;
mod actions;
mod catalogue;
mod discovery;
mod escape;
mod family;
mod files;
mod firewall;
mod handles;
mod json;
mod label;
mod logging;
mod metrics;
mod process;
mod queue;
mod redact;
mod upstream;

pub use access::{AccessLog, AccessRecord, TryRecord, UpstreamRecord};
pub use actions::{FirewallAction, LeakAction};
pub use catalogue::{CATALOGUE, DURATION_BUCKETS, Kind, Metric, reference};
pub use discovery::DiscoveryMetrics;
pub use files::LogFiles;
pub use firewall::{
    AuditParts, ErrorFormat, Evidence, FirewallEvent, FirewallLog, FirewallRecord, MAX_AUDITED_BODY,
    Producer, RuleMatch, ShadowRecord,
};
pub use handles::{
    AcmeMetrics, ConnectionRefusal, HandshakeFailure, InFlight, LimitMetrics, ListenerMetrics, MirrorMetrics,
    RouteMetrics, ShadowMetrics, TargetMetrics,
};
pub use logging::{LogFormat, LogSettings, Logging, LoggingError, init, request_span};
pub use metrics::{BuildInfo, CONTENT_TYPE, Metrics, MetricsError};
pub use process::resident_bytes;
pub use prometheus::{IntCounter as Counter, IntGauge as Gauge};
pub use queue::{DEFAULT_CAPACITY, LogQueue};
pub use redact::{
    MASK, Redacted, is_secret_name, is_secret_value, redact_matched, redact_path, redact_query,
};
pub use upstream::{UpstreamHealth, UpstreamMetrics};
