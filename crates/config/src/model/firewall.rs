//! `[firewall]` and `[route.firewall]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{AuditParts, ByteSize, RuleSelector, Share, StatusRange};

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
    /// The share of requests that are judged as `mode` says; which ones is chosen at random for each. Begin with few
    /// when rules are new. The access log names those that were left out.
    pub sample: Share,
    /// What is done with the requests that `sample` leaves out.
    pub unsampled: Unsampled,
    /// Log files of the firewall's own, in ModSecurity's formats.
    pub log: FirewallLog,
    /// Rules or settings on trial: they are asked about every request beside those in force, and only what they would
    /// have done otherwise is logged and counted. Costs as much again as the firewall itself.
    pub shadow: Option<Shadow>,
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
            sample: Share::ALL,
            unsampled: Unsampled::Detect,
            log: FirewallLog::default(),
            shadow: None,
        }
    }
}

/// What is done with requests that are not in the sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unsampled {
    /// The rules run on them too, and refuse nothing.
    #[default]
    Detect,
    /// No rule runs on them.
    Off,
}

/// Files that the firewall writes besides the access log, for what reads ModSecurity's logs. Secrets are masked in
/// them. They are opened anew on SIGHUP and on each reload, as log rotation needs it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FirewallLog {
    /// File with one line for each rule that matched, as in the error log of a server with ModSecurity: for fail2ban,
    /// CrowdSec, go-ftw. Its folder must exist.
    pub error_log: Option<PathBuf>,
    /// What the lines look like.
    pub error_format: ErrorFormat,
    /// File with one JSON object for each request, as ModSecurity 3 writes its audit log: for Elastic's integration.
    /// Its folder must exist.
    pub audit_log: Option<PathBuf>,
    /// Which requests get an audit entry. Without it, as the rules say (`SecAuditEngine`, `ctl:auditEngine`), and
    /// `"relevant"` where they say nothing.
    pub audit: Option<Audit>,
    /// What an entry holds, in the letters of `SecAuditLogParts`: B the request's fields, C its body, E the answer's
    /// body, F the answer's fields, H the rules that matched; A and Z always. Without it, as the rules say
    /// (`SecAuditLogParts`, by default `"ABFHZ"`), but without bodies, which only this field can ask for.
    pub parts: Option<AuditParts>,
    /// Statuses that make a request relevant whether a rule matched or not, such as `["5xx", "4xx", "!404"]`; the last
    /// that covers a status decides. Without it, as the rules say (`SecAuditLogRelevantStatus`).
    pub relevant_status: Vec<StatusRange>,
}

/// What lines of the error log look like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorFormat {
    /// As in nginx's error log.
    #[default]
    Nginx,
    /// As in Apache's error log, which fail2ban's `apache-modsecurity` reads.
    Apache,
}

/// Which requests get an audit entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Audit {
    /// Those that a rule with `auditlog` matched, and those answered with a relevant status.
    Relevant,
    /// All that the firewall looked at.
    On,
    /// None.
    Off,
}

/// Rules or settings on trial. What is not given is as in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shadow {
    /// Rule files in SecLang, as in `firewall.rules`; without it, those in force. They are checked like those: an error in
    /// them keeps the configuration from being taken up.
    pub rules: Option<Vec<String>>,
    /// Paranoia level.
    #[schemars(range(min = 1, max = 4))]
    pub paranoia: Option<u8>,
    /// Anomaly score at which a request would be refused.
    #[schemars(range(min = 1))]
    pub inbound_threshold: Option<u32>,
    /// Anomaly score at which a response would be refused.
    #[schemars(range(min = 1))]
    pub outbound_threshold: Option<u32>,
    /// What is left out, in place of all exclusions in force; without it, those.
    pub exclusions: Option<Vec<Exclusion>>,
    /// The share of the requests that the firewall judges at all that the shadow judges too.
    pub sample: Share,
    /// What is logged.
    pub compare: Compare,
}

/// Which differences between the shadow and what is in force are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// One would refuse the request, the other not.
    #[default]
    Verdict,
    /// That, or other rules matched.
    Rules,
}

/// What one route changes about the shadow.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteShadow {
    /// Paranoia level.
    #[schemars(range(min = 1, max = 4))]
    pub paranoia: Option<u8>,
    /// Anomaly score at which a request would be refused.
    #[schemars(range(min = 1))]
    pub inbound_threshold: Option<u32>,
    /// Anomaly score at which a response would be refused.
    #[schemars(range(min = 1))]
    pub outbound_threshold: Option<u32>,
    /// What is left out on this route, in place of all exclusions in force on it.
    pub exclusions: Option<Vec<Exclusion>>,
    /// The share of requests that the shadow judges; `"0%"` for none.
    pub sample: Option<Share>,
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
    /// The share of requests that are judged as `mode` says.
    pub sample: Option<Share>,
    /// What is done with the requests that `sample` leaves out.
    pub unsampled: Option<Unsampled>,
    /// Changes to the rules on trial, where there are any.
    pub shadow: Option<RouteShadow>,
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
