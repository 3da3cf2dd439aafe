//! `[upstream.NAME.retry]` and `[route.retry]`: requests that are sent again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Duration, Method, Share, Timeout};

/// How requests are tried again at another endpoint. Nothing is tried again of which anything was handed on to the client,
/// whose body streams (`body.mode = "stream"`), or that may have been done and is not idempotent, unless `methods` or
/// `idempotency_key` vouch for it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Tries of one request, the first among them. 1 tries nothing again.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
    /// What is tried again.
    pub on: Vec<RetryOn>,
    /// Statuses of answers that are tried again besides.
    #[schemars(inner(range(min = 400, max = 599)))]
    pub status_codes: Vec<u16>,
    /// Methods that the upstream bears twice, besides the idempotent ones (GET, HEAD, OPTIONS, PUT, DELETE, TRACE).
    pub methods: Vec<Method>,
    /// Whether the upstream obeys `Idempotency-Key`, so that a request of any method that has one may be tried again.
    pub idempotency_key: bool,
    /// From the choice of an endpoint to the head of its answer. Without it, connecting and `response_timeout` have their
    /// own deadlines only. Requests whose bodies stream have none.
    pub per_try_timeout: Option<Timeout>,
    /// The longest wait before the first repetition; it doubles with each. How long is waited is random, from nothing to
    /// that. Connections that could not be made are not waited for.
    pub backoff_base: Timeout,
    /// The longest wait before any repetition.
    pub backoff_max: Timeout,
    /// The longest `Retry-After` of an answer that is waited for. An answer that asks for a longer wait is the client's.
    pub retry_after_max: Duration,
    /// Repetitions for the upstream's requests of the last ten seconds. Another endpoint that is asked since no connection
    /// could be made is none.
    pub budget: Share,
    /// Repetitions a second that there may be however little the traffic is.
    #[schemars(range(max = 10_000))]
    pub budget_min_per_second: u32,
    /// A request that is idempotent, or as good, goes to a second endpoint as well when the first has not answered for so
    /// long. The first good answer counts, the other exchange is given up. It is a repetition of the budget's.
    pub hedge_delay: Option<Timeout>,
    /// The second endpoint is asked when the first has not answered within the time in which so many percent of the
    /// upstream's latest answers to such requests came ("The Tail at Scale"). `hedge_delay` is the least that is waited then,
    /// and what is waited until a hundred answers are known; without it nothing is hedged until then.
    #[schemars(range(min = 50, max = 99))]
    pub hedge_percentile: Option<u8>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            on: vec![RetryOn::ConnectFailure, RetryOn::RefusedStream],
            status_codes: Vec::new(),
            methods: Vec::new(),
            idempotency_key: false,
            per_try_timeout: None,
            backoff_base: Timeout::from_millis(25),
            backoff_max: Timeout::from_millis(250),
            retry_after_max: Duration::from_secs(1),
            budget: Share::from_percent(10),
            budget_min_per_second: 3,
            hedge_delay: None,
            hedge_percentile: None,
        }
    }
}

/// What a request is tried again on; the names are Envoy's where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// No connection could be made, TLS included: another endpoint is asked.
    ConnectFailure,
    /// HTTP/2: the endpoint says that it has done nothing of the request (`REFUSED_STREAM`, `GOAWAY`).
    RefusedStream,
    /// The connection ended, or what came was no HTTP, before the head of an answer.
    ResetBeforeResponse,
    /// The answer is 502, 503 or 504.
    GatewayError,
    /// The answer is 500 to 599.
    #[serde(rename = "5xx")]
    ServerError,
    /// No head of an answer within `per_try_timeout` or `response_timeout`.
    Timeout,
}

/// What a route says of trying its requests again in place of its upstream. The budget is the upstream's.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteRetry {
    /// Tries of one request, the first among them. 1 tries nothing again.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: Option<u32>,
    /// What is tried again.
    pub on: Option<Vec<RetryOn>>,
    /// Statuses of answers that are tried again besides.
    #[schemars(inner(range(min = 400, max = 599)))]
    pub status_codes: Option<Vec<u16>>,
    /// Methods that the upstream bears twice, besides the idempotent ones.
    pub methods: Option<Vec<Method>>,
    /// Whether the upstream obeys `Idempotency-Key`.
    pub idempotency_key: Option<bool>,
    /// From the choice of an endpoint to the head of its answer.
    pub per_try_timeout: Option<Timeout>,
    /// A request that is idempotent, or as good, goes to a second endpoint as well when the first has not answered for so
    /// long.
    pub hedge_delay: Option<Timeout>,
    /// The second endpoint is asked when the first has not answered within the time in which so many percent of the
    /// upstream's latest answers came.
    #[schemars(range(min = 50, max = 99))]
    pub hedge_percentile: Option<u8>,
}

impl RouteRetry {
    /// The upstream's table with what the route says of its own.
    #[must_use]
    pub fn over(&self, upstream: &Retry) -> Retry {
        Retry {
            attempts: self.attempts.unwrap_or(upstream.attempts),
            on: self.on.as_ref().unwrap_or(&upstream.on).clone(),
            status_codes: self.status_codes.as_ref().unwrap_or(&upstream.status_codes).clone(),
            methods: self.methods.as_ref().unwrap_or(&upstream.methods).clone(),
            idempotency_key: self.idempotency_key.unwrap_or(upstream.idempotency_key),
            per_try_timeout: self.per_try_timeout.or(upstream.per_try_timeout),
            hedge_delay: self.hedge_delay.or(upstream.hedge_delay),
            hedge_percentile: self.hedge_percentile.or(upstream.hedge_percentile),
            ..upstream.clone()
        }
    }
}
