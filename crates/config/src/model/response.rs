//! `[response_headers]` and `[route.response]`: what leaves the gateway.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, HeaderName, HeaderValue};

/// Header hygiene of all answers: what is taken away, then what is set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseHeaders {
    /// Headers set on every answer, in place of what the upstream sent. Giving this table replaces the
    /// default one.
    #[schemars(extend("propertyNames" = { "format": "header-name" }))]
    pub set: BTreeMap<String, HeaderValue>,
    /// Headers of upstreams that never reach a client. Giving this list replaces the default one.
    pub remove: Vec<HeaderName>,
}

const SET: [(&str, &str); 4] = [
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("x-permitted-cross-domain-policies", "none"),
];

const REMOVE: [&str; 12] = [
    "server",
    "x-powered-by",
    "x-aspnet-version",
    "x-aspnetmvc-version",
    "x-generator",
    "x-drupal-cache",
    "x-runtime",
    "x-version",
    "x-backend-server",
    "x-served-by",
    "x-debug-token",
    "x-debug-token-link",
];

impl Default for ResponseHeaders {
    fn default() -> Self {
        Self {
            set: SET
                .iter()
                .filter_map(|(name, value)| Some(((*name).to_owned(), value.parse().ok()?)))
                .collect(),
            remove: REMOVE.iter().filter_map(|name| name.parse().ok()).collect(),
        }
    }
}

/// What a route does to answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Response {
    /// The largest response body; a larger one is refused with 502 or, once begun, cut off. Without it, any.
    pub max_size: Option<ByteSize>,
    /// Answers are passed on as they come and never held: for downloads, server-sent events, gRPC. The
    /// firewall then sees their head only, and leaks are masked within what passes at once.
    pub streaming: bool,
    /// Headers, besides those of `[response_headers]`.
    pub headers: HeaderChanges,
    /// What must not leave.
    pub leaks: Leaks,
}

/// Headers that a route sets and takes away.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChanges {
    /// Headers set on the route's answers; they win over `response_headers.set`.
    #[schemars(extend("propertyNames" = { "format": "header-name" }))]
    pub set: BTreeMap<String, HeaderValue>,
    /// Headers taken off the route's answers, also those that `response_headers.set` would add.
    pub remove: Vec<HeaderName>,
}

/// Leak prevention: text responses are searched for what must not leave.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Leaks {
    /// What happens to a leak.
    pub mode: LeakMode,
    /// What is searched for.
    pub kinds: Vec<LeakKind>,
}

impl Default for Leaks {
    fn default() -> Self {
        Self {
            mode: LeakMode::Mask,
            kinds: vec![LeakKind::Card, LeakKind::Secret, LeakKind::InternalAddress, LeakKind::StackTrace],
        }
    }
}

/// What happens to a leak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeakMode {
    /// It is replaced by asterisks.
    #[default]
    Mask,
    /// The client gets 502 in place of the response.
    Block,
    /// Nothing is searched for.
    Off,
}

/// What leak prevention searches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeakKind {
    /// Payment card numbers: 13 to 19 digits of a known issuer with a right check digit.
    Card,
    /// Private keys, cloud and service credentials, tokens.
    Secret,
    /// Private and loopback addresses, internal host names.
    InternalAddress,
    /// Stack traces and error pages of common languages and databases.
    StackTrace,
}
