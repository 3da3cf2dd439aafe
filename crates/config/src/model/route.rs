//! `[[route]]`: what is served, and how.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RouteRetry;
use super::{
    Addresses, Body, BodyMode, Canary, ClientCertificate, Compose, Cors, Mirror, Response, RouteFirewall,
    Trailers, UpgradeProtocol,
};
use crate::value::{
    ByteSize, ClaimValues, HashKey, HeaderName, HostPattern, Method, PathPattern, PathTemplate, Rate,
    RateKey, Regex, Timeout,
};

/// One route: which requests it takes, who may send them, and what answers them. Exactly one of `upstream`
/// and `compose` says what answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name in logs and metrics.
    #[schemars(schema_with = "crate::value::name_schema")]
    pub name: String,
    /// Which requests it takes.
    #[serde(rename = "match")]
    pub matches: Match,
    /// The upstream that requests are forwarded to.
    pub upstream: Option<String>,
    /// Whether its requests and answers may leave this machine encrypted only: an upstream of it without TLS is an error.
    #[serde(default)]
    pub sensitive: bool,
    /// Several upstream calls that make one answer.
    pub compose: Option<Compose>,
    /// Other upstreams that take a part of the requests: a share of them, or those with a header or cookie.
    #[serde(default)]
    pub canary: Vec<Canary>,
    /// What the shares of `canary` go by: requests with the same value go the same way, on all routes with the same shares.
    /// Without it, and where a request does not have it, chance decides for each request.
    pub canary_by: Option<HashKey>,
    /// An upstream that gets copies of requests; its answers are read and thrown away.
    pub mirror: Option<Mirror>,
    /// The path that the upstream sees, with parameters of the route's path in it. Without it, the path stays
    /// as it came. The query string stays in any case.
    pub rewrite: Option<PathTemplate>,
    /// Request targets that are refused by default because not all servers read them alike.
    #[serde(default)]
    pub target: RouteTarget,
    /// Request header fields with `_` in their names, such as `user_id`.
    #[serde(default)]
    pub underscores: Underscores,
    /// Protocols that a request may switch to. An `Upgrade` to any other is read over, as HTTP asks.
    #[serde(default)]
    pub upgrade: Vec<UpgradeProtocol>,
    /// Whether the route speaks gRPC: bodies stream both ways, its trailers pass, its `grpc-timeout` is a deadline, and
    /// the gateway's own refusals come as gRPC statuses. The upstream must speak HTTP/2.
    #[serde(default)]
    pub grpc: bool,
    /// Trailer fields that pass.
    #[serde(default)]
    pub trailers: Trailers,
    /// Which web pages of other origins may read answers. Without it, the upstream's own `Access-Control-*` pass.
    pub cors: Option<Cors>,
    /// Who may call. Without it, everybody.
    pub auth: Option<Auth>,
    /// How often it may be called; all limits apply.
    #[serde(default)]
    pub rate_limit: Vec<RateLimit>,
    /// Request bodies.
    #[serde(default)]
    pub body: Body,
    /// The firewall on this route.
    #[serde(default)]
    pub firewall: RouteFirewall,
    /// Answers.
    #[serde(default)]
    pub response: Response,
    /// Deadlines.
    #[serde(default)]
    pub timeouts: RouteTimeouts,
    /// How its requests are tried again, where that is not as its upstream says.
    pub retry: Option<RouteRetry>,
    /// Bounds on request heads that are tighter than the listener's.
    #[serde(default)]
    pub limits: RouteLimits,
    /// Client addresses that may call, besides the lists of `[addresses]`.
    #[serde(default)]
    pub addresses: Addresses,
}

impl Route {
    /// Every upstream that a request of this route may be sent to, with the field that names it: its own, its canaries'
    /// and its mirror's, and those of a composition's parts.
    pub fn all_upstreams<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (String, &'a str)> + 'a {
        let parts = self.compose.iter().flat_map(|compose| compose.part.iter().enumerate());
        let parts = parts
            .map(move |(at, part)| (format!("{path}.compose.part[{at}].upstream"), part.upstream.as_str()));
        self.upstreams(path).chain(parts)
    }

    /// Whether neither requests nor answers of this route are bounded in length: then no total deadline
    /// applies unless one is given.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.streams_answers() || !self.holds_bodies()
    }

    /// Whether request bodies are held and inspected before they are passed on.
    #[must_use]
    pub fn holds_bodies(&self) -> bool {
        self.body.mode == BodyMode::Buffer && !self.grpc
    }

    /// Whether answers are passed on as they come.
    #[must_use]
    pub fn streams_answers(&self) -> bool {
        self.response.streaming || self.grpc
    }

    /// The deadline of the whole exchange: the one given, else 60 s, else none where the route streams.
    #[must_use]
    pub fn total_timeout(&self) -> Option<std::time::Duration> {
        let default = || (!self.is_streaming()).then_some(RouteTimeouts::DEFAULT_TOTAL);
        self.timeouts.total.or_else(default).map(Timeout::get)
    }

    /// The largest request body: the one given, else 1 MiB, else none where bodies stream through.
    #[must_use]
    pub fn body_limit(&self) -> Option<ByteSize> {
        self.body.limit.or_else(|| self.holds_bodies().then_some(Body::DEFAULT_LIMIT))
    }
}

/// Which requests a route takes: all conditions must hold. Of several routes the most specific wins: exact
/// host before wildcard before any, then the path by segments (literal before parameter before rest), then a
/// given method, then the number of header and query conditions. Two routes that tie are an error.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Hosts, exact or wildcard. Empty: all.
    #[serde(default)]
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// Methods; `GET` also takes `HEAD`. Empty: all that are registered with IANA. Other methods on a path that has routes
    /// get 405.
    #[serde(default)]
    pub methods: Vec<Method>,
    /// Conditions on request headers.
    #[serde(default)]
    pub headers: Vec<HeaderMatch>,
    /// Conditions on query parameters.
    #[serde(default)]
    pub query: Vec<QueryMatch>,
}

/// A condition on a request header: exactly one of `value`, `present` and `regex`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// The header.
    pub name: HeaderName,
    /// It has exactly this value.
    pub value: Option<String>,
    /// It is there (`true`) or not (`false`).
    pub present: Option<bool>,
    /// Its value matches.
    pub regex: Option<Regex>,
}

/// A condition on a query parameter: exactly one of `value`, `present` and `regex`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryMatch {
    /// The parameter, decoded.
    #[schemars(length(min = 1))]
    pub name: String,
    /// It has exactly this value, decoded.
    pub value: Option<String>,
    /// It is there (`true`) or not (`false`).
    pub present: Option<bool>,
    /// Its decoded value matches.
    pub regex: Option<Regex>,
}

/// Request targets that get 400 by default because not all servers read them alike. What is taken here reaches rules as it
/// was sent, and the upstream in one canonical form.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTarget {
    /// A `\` or bytes beyond ASCII in the query, where RFC 3986 wants them percent-encoded. Old clients send them.
    pub query_bytes: QueryBytes,
    /// In the path: an encoded slash, backslash, semicolon or control character, bytes that are not UTF-8, a percent sign
    /// that would decode again, and plain semicolons. NUL and dot segments between encoded slashes are refused anyhow.
    pub encoded_path: EncodedPath,
    /// What becomes of a target that the two fields above refuse.
    pub mode: TargetMode,
}

/// What becomes of a target that not all servers read alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetMode {
    /// 400.
    #[default]
    Block,
    /// It is only logged (`target_would_refuse`) and counted (`portcullis_target_would_refuse_total`), and taken as
    /// `query_bytes = "encode"` and `encoded_path = "keep"` take it. What these refuse is refused all the same.
    Detect,
}

/// What happens to a query with bytes that RFC 3986 does not allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueryBytes {
    /// 400.
    #[default]
    Refuse,
    /// They are percent-encoded.
    Encode,
}

/// What happens to a path that a second decoding would change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodedPath {
    /// 400.
    #[default]
    Refuse,
    /// What is encoded stays so, and is part of its segment; semicolons are encoded. An upstream that decodes twice, or
    /// takes an encoded slash for a slash, serves another path than the one that was matched and authorized.
    Keep,
}

/// What happens to request header fields with `_` in their names. Where such a name would stand for a field that decides
/// framing, routing or identity, or for another field of the same request, the request is refused anyhow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Underscores {
    /// They are left out: upstreams that speak CGI, WSGI and the like take them for the ones with `-`.
    #[default]
    Drop,
    /// The upstream gets them.
    Keep,
}

/// Who may call a route. All that is given must hold; a caller who fails gets 401 or 403.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Names of `[identity.NAME]` tables whose tokens are taken. None: callers are known by their certificates alone.
    #[serde(default)]
    pub providers: Vec<String>,
    /// The client certificate that the connection must have, besides a token where `providers` are given: then the token
    /// says who calls.
    pub client_certificate: Option<ClientCertificate>,
    /// Whether a token of `providers` must be there. With `false` a request without one passes as anonymous; a bad token is
    /// refused all the same.
    #[serde(default = "required")]
    pub required: bool,
    /// Scopes the token must have, all of them.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Scopes of which the token must have one.
    #[serde(default)]
    pub any_scope: Vec<String>,
    /// Roles of which the caller must have one.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Claims the token must have, each with the value or one of the values given; dots in the name lead into
    /// objects. Numbers and booleans are compared by their text.
    #[serde(default)]
    pub claims: BTreeMap<String, ClaimValues>,
    /// The `aud` the token must carry, besides the provider's own check. A route that declares one denies by
    /// default: it lets nobody pass unless `scopes`, `any_scope`, `roles`, `claims` or `any_caller` say who may.
    #[schemars(length(min = 1))]
    pub audience: Option<String>,
    /// Everybody with a good token may pass who meets what else is asked.
    #[serde(default)]
    pub any_caller: bool,
}

const fn required() -> bool {
    true
}

/// A rate limit (generic cell rate algorithm): a steady rate and a burst above it. Beyond it the caller gets
/// 429 with `Retry-After`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Its name in `RateLimit-Policy` and metrics. Limits of one name on several routes stay separate.
    #[schemars(extend("format" = "name", "pattern" = crate::value::NAME))]
    pub name: Option<String>,
    /// The steady rate.
    pub rate: Rate,
    /// Requests that may come at once after a pause. Without it, the count of the rate.
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
    /// What is counted by. A request that lacks the header or claim is counted by its address.
    #[serde(default = "by_address")]
    pub key: RateKey,
}

const fn by_address() -> RateKey {
    RateKey::Address
}

/// Deadlines of a route.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTimeouts {
    /// From the request's head to the last byte of the answer. Without it 60s, and none on routes that stream
    /// (`body.mode = "stream"` or `response.streaming`), where each wait still has its own deadline.
    pub total: Option<Timeout>,
    /// From the last byte of the request to the head of the upstream's response. Without it, the upstream's
    /// `response_timeout`.
    pub response: Option<Timeout>,
    /// How long a connection that switched protocols (`upgrade`) may be silent in both directions. Without it 5m; no
    /// total deadline applies to it.
    pub upgrade_idle: Option<Timeout>,
}

impl RouteTimeouts {
    const DEFAULT_TOTAL: Timeout = Timeout::from_secs(60);
}

/// Bounds on request heads of a route.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteLimits {
    /// Request line and header fields together. Without it, the listener's.
    pub max_head: Option<ByteSize>,
    /// Number of header fields. Without it, the listener's.
    #[schemars(range(min = 1))]
    pub max_fields: Option<u32>,
}
