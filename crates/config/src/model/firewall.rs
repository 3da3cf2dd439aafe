//! `[firewall]` and `[route.firewall]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, RuleSelector};

/// The injection firewall: which rules, how strict, what they may refuse.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Firewall {
    /// What a verdict of the rules does.
    pub mode: FirewallMode,
    /// Rule files in SecLang, as globs relative to this file. A glob's files load in the order of their
    /// names; a glob that matches nothing is an error.
    pub rules: Vec<String>,
    /// Leave out rules that want what the engine does not have, each with its whole chain and a warning. Otherwise
    /// each of them is an error.
    pub allow_unsupported: bool,
    /// Paranoia level: higher ones run more rules and refuse more legitimate requests.
    #[schemars(range(min = 1, max = 4))]
    pub paranoia: u8,
    /// Anomaly score at which a request is refused; a critical rule scores 5.
    #[schemars(range(min = 1))]
    pub inbound_threshold: u32,
    /// Anomaly score at which a response is refused.
    #[schemars(range(min = 1))]
    pub outbound_threshold: u32,
    /// Bytes of a request's body that the rules see at most.
    pub request_body_limit: ByteSize,
    /// Bytes of a response's body that the rules see at most.
    pub response_body_limit: ByteSize,
    /// Rules, or targets of rules, that are left out everywhere.
    pub exclusions: Vec<Exclusion>,
}

impl Default for Firewall {
    fn default() -> Self {
        Self {
            mode: FirewallMode::Block,
            rules: vec!["rules/*.conf".to_owned()],
            allow_unsupported: false,
            paranoia: 1,
            inbound_threshold: 5,
            outbound_threshold: 4,
            request_body_limit: ByteSize::from_mib(1),
            response_body_limit: ByteSize::from_kib(512),
            exclusions: Vec::new(),
        }
    }
}

/// What a verdict of the rules does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirewallMode {
    /// The request or the response is refused.
    #[default]
    Block,
    /// It is only logged and counted.
    Detect,
    /// No rule runs.
    Off,
}

/// What is left out: rules, by id or by tag, or one target of theirs. With `target` alone, no rule looks at it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Exclusion {
    /// A rule id or a range of them.
    pub rule: Option<RuleSelector>,
    /// Rules with this tag; between slashes, a regular expression.
    pub tag: Option<String>,
    /// Only this target is left out, in SecLang's words: `"ARGS:comment"`, `"ARGS:json.*.note"`,
    /// `"REQUEST_COOKIES:/^_ga/"`. Without it, the rules do not run.
    pub target: Option<String>,
}

/// What one route changes about the firewall; what is not given stays as in `[firewall]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteFirewall {
    /// What a verdict does on this route.
    pub mode: Option<FirewallMode>,
    /// Paranoia level of this route.
    #[schemars(range(min = 1, max = 4))]
    pub paranoia: Option<u8>,
    /// Anomaly score at which a request is refused.
    #[schemars(range(min = 1))]
    pub inbound_threshold: Option<u32>,
    /// Anomaly score at which a response is refused.
    #[schemars(range(min = 1))]
    pub outbound_threshold: Option<u32>,
    /// What arguments of requests are taken apart as on this route, so that rules see the values in them and not the
    /// syntax around these.
    pub parsers: Vec<Parser>,
    /// Left out on this route, besides those of `[firewall]`.
    pub exclusions: Vec<Exclusion>,
}

/// What an argument of a request is taken apart as. One that is not of the kind from its beginning to its end is
/// inspected as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parser {
    /// JSON objects and arrays in arguments and in strings of JSON bodies, in up to three layers:
    /// `ARGS:name.json.path`.
    Json,
    /// GraphQL documents: the argument `query`, the member `query` of a JSON body or of an item of a batch, and bodies of
    /// `application/graphql`: `ARGS:query.graphql.field.argument`. Also the arguments `variables` and
    /// `extensions` as JSON.
    Graphql,
}
