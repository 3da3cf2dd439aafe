//! `[upstream.NAME.circuit_breaker]`: what keeps calls from an upstream that cannot bear them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::Timeout;

/// Caps on what an upstream is asked to bear at once, and a breaker that refuses calls while too many of those before
/// them failed or were slow. A call that is refused gets 503. The breaker's names and defaults are resilience4j's; it
/// works where one of its two rates has a threshold.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Connections to all endpoints together, idle ones among them. Beyond, a request waits for one, as long as connecting
    /// may take. HTTP/2 needs one for each endpoint and thread: with fewer, threads wait for each other.
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// Requests that may wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way, answers that are still read among them.
    #[schemars(range(min = 1))]
    pub max_requests: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
    /// Connections to each endpoint.
    #[schemars(range(min = 1))]
    pub max_connections_per_endpoint: Option<u32>,
    /// Requests under way to each endpoint.
    #[schemars(range(min = 1))]
    pub max_requests_per_endpoint: Option<u32>,
    /// What the breaker watches over.
    pub scope: BreakerScope,
    /// The breaker opens when so many percent of the calls in the window failed: no answer, or 500 to 599; of gRPC calls,
    /// what their status stands for.
    #[schemars(range(min = 1, max = 100))]
    pub failure_rate_threshold: Option<u8>,
    /// The breaker opens when so many percent of the calls in the window were slow.
    #[schemars(range(min = 1, max = 100))]
    pub slow_call_rate_threshold: Option<u8>,
    /// From when on a call is slow: to the head of its answer, from the end of its request where its body streams.
    pub slow_call_duration_threshold: Timeout,
    /// What the window holds.
    pub sliding_window_type: SlidingWindowType,
    /// Its size: calls, or seconds.
    #[schemars(range(min = 1, max = 100_000))]
    pub sliding_window_size: u32,
    /// With fewer calls in the window the breaker stays closed. At most the size of a window of calls.
    #[schemars(range(min = 1))]
    pub minimum_number_of_calls: u32,
    /// How long the breaker is open before it lets probes pass.
    pub wait_duration_in_open_state: Timeout,
    /// So many probes pass while it is half-open; how they end closes it or opens it again.
    #[schemars(range(min = 1))]
    pub permitted_number_of_calls_in_half_open_state: u32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_pending_requests: None,
            max_requests: None,
            max_retries: None,
            max_connections_per_endpoint: None,
            max_requests_per_endpoint: None,
            scope: BreakerScope::default(),
            failure_rate_threshold: None,
            slow_call_rate_threshold: None,
            slow_call_duration_threshold: Timeout::from_secs(60),
            sliding_window_type: SlidingWindowType::default(),
            sliding_window_size: 100,
            minimum_number_of_calls: 100,
            wait_duration_in_open_state: Timeout::from_secs(60),
            permitted_number_of_calls_in_half_open_state: 10,
        }
    }
}

impl CircuitBreaker {
    /// Whether there is a breaker, and not only caps.
    #[must_use]
    pub fn breaks(&self) -> bool {
        self.failure_rate_threshold.is_some() || self.slow_call_rate_threshold.is_some()
    }
}

/// What a breaker watches over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerScope {
    /// Each endpoint has one, and the upstream as a whole.
    #[default]
    Both,
    /// The upstream as a whole.
    Upstream,
    /// Each endpoint; others are asked instead of one that fails.
    Endpoint,
}

/// What a breaker's window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlidingWindowType {
    /// The last calls.
    #[default]
    CountBased,
    /// The calls of the last seconds.
    TimeBased,
}
