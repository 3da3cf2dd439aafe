//! What an upstream, or a route of it, says about repeating requests.

use super::{Backoff, BudgetSettings, Latencies};
use crate::Outcome;
use portcullis_http::{Method, RequestHead, UpstreamFailure};
use std::time::Duration;

/// What a request is repeated on. The names are Envoy's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection could be had: another endpoint is asked.
    ConnectFailure,
    /// The endpoint says that it has done nothing of the request (HTTP/2's `REFUSED_STREAM`, `GOAWAY`).
    RefusedStream,
    /// The connection ended, or carried no HTTP, before the head of an answer.
    Reset,
    /// The answer is 502, 503 or 504.
    GatewayError,
    /// The answer is 500 to 599.
    ServerError,
    /// No answer came within the time for one try, or for the head of an answer.
    Timeout,
}

/// A set of [`RetryOn`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions(u8);

impl Conditions {
    /// Whether it is in the set.
    fn contains(self, condition: RetryOn) -> bool {
        self.0 & (1 << condition as u8) != 0
    }
}

impl FromIterator<RetryOn> for Conditions {
    fn from_iter<T: IntoIterator<Item = RetryOn>>(conditions: T) -> Self {
        Conditions(conditions.into_iter().fold(0, |set, condition| set | 1 << condition as u8))
    }
}

/// When a request is sent to a second endpoint while the first has not answered: the first answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedge {
    /// After this time.
    After(Duration),
    /// After the time within which most of the upstream's latest answers came.
    Percentile {
        /// How many of them, in percent.
        percent: u8,
        /// Never sooner than that, and after that while too few answers came to know. Without it none are sent then.
        least: Option<Duration>,
    },
}

impl Hedge {
    /// How long the first endpoint is waited for; `None` for as long as it takes. `latencies` are the upstream's.
    pub(crate) fn delay<'a>(self, latencies: impl FnOnce() -> &'a Latencies) -> Option<Duration> {
        match self {
            Hedge::After(delay) => Some(delay),
            Hedge::Percentile { percent, least } => {
                // `None` is less than any time.
                latencies().percentile(percent).max(least)
            }
        }
    }
}

/// How requests are repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Tries of one request, the first among them.
    pub attempts: u32,
    /// What is tried again.
    pub on: Conditions,
    /// Statuses that are tried again besides.
    pub status_codes: Vec<u16>,
    /// Methods that are repeated besides the idempotent ones: whoever lists them vouches that the upstream bears it.
    pub methods: Vec<Method>,
    /// Whether a request of any method is repeated that has an `Idempotency-Key`: whoever says so vouches that the
    /// upstream obeys it (draft-ietf-httpapi-idempotency-key-header).
    pub idempotency_key: bool,
    /// From the choice of an endpoint to the head of its answer.
    pub per_try_timeout: Option<Duration>,
    /// The wait before a try.
    pub backoff: Backoff,
    /// The longest `Retry-After` of an answer that is waited for; what asks for a longer one is not tried again.
    pub retry_after_max: Duration,
    /// How many repetitions there may be. An upstream's; a route has no budget of its own.
    pub budget: BudgetSettings,
    /// Whether a second endpoint is asked before the first has failed.
    pub hedge: Option<Hedge>,
}

impl Default for RetryPolicy {
    /// Three tries, and only of what nothing was done of.
    fn default() -> Self {
        RetryPolicy {
            attempts: 3,
            on: Conditions::from_iter([RetryOn::ConnectFailure, RetryOn::RefusedStream]),
            status_codes: Vec::new(),
            methods: Vec::new(),
            idempotency_key: false,
            per_try_timeout: None,
            backoff: Backoff::default(),
            retry_after_max: Duration::from_secs(1),
            budget: BudgetSettings::default(),
            hedge: None,
        }
    }
}

impl RetryPolicy {
    /// Whether doing what the request asks for twice is as good as doing it once.
    pub(crate) fn may_repeat(&self, head: &RequestHead) -> bool {
        head.upgrade.is_none()
            && (head.method.is_idempotent()
                || self.methods.contains(&head.method)
                || (self.idempotency_key && head.fields.contains("idempotency-key")))
    }

    /// Whether an answer with this status is one to try again on. Asked of every answer.
    pub(crate) fn refuses(&self, status: u16) -> bool {
        match status {
            502..=504 if self.on.contains(RetryOn::GatewayError) => true,
            500..=599 if self.on.contains(RetryOn::ServerError) => true,
            _ => self.status_codes.contains(&status),
        }
    }

    /// What of the request may have been done, where this outcome is one to try again on.
    pub(super) fn reading(&self, outcome: &Outcome) -> Option<Done> {
        let (done, condition) = match outcome {
            Outcome::Answered { status } => return self.refuses(*status).then_some(Done::Maybe),
            Outcome::Unreachable(UpstreamFailure::NoEndpoint | UpstreamFailure::Exhausted)
            | Outcome::Cancelled => {
                return None;
            }
            Outcome::Unreachable(_) => (Done::Unsent, RetryOn::ConnectFailure),
            Outcome::Failed(UpstreamFailure::Refused) => (Done::Nothing, RetryOn::RefusedStream),
            Outcome::Failed(UpstreamFailure::Closed | UpstreamFailure::Protocol) => {
                (Done::Maybe, RetryOn::Reset)
            }
            Outcome::Failed(UpstreamFailure::ResponseTimeout | UpstreamFailure::TryTimeout) => {
                (Done::Maybe, RetryOn::Timeout)
            }
            Outcome::Failed(_) => return None,
        };
        self.on.contains(condition).then_some(done)
    }
}

/// What of a request an endpoint may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// Nothing: it never got it.
    Unsent,
    /// Nothing: it says so.
    Nothing,
    /// Nobody knows.
    Maybe,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_has_a_floor_and_needs_answers() {
        let ms = Duration::from_millis;
        let latencies = Latencies::default();
        let after = |least: Option<u64>| Hedge::Percentile { percent: 95, least: least.map(ms) };
        assert_eq!(after(None).delay(|| &latencies), None);
        assert_eq!(after(Some(20)).delay(|| &latencies), Some(ms(20)));
        (0..1000).for_each(|_| latencies.note(ms(10)));
        assert_eq!(after(Some(20)).delay(|| &latencies), Some(ms(20)));
        let delay = after(Some(1)).delay(|| &latencies).unwrap();
        assert!((ms(10)..ms(12)).contains(&delay), "{delay:?}");
        assert_eq!(after(None).delay(|| &latencies), Some(delay));
        assert_eq!(Hedge::After(ms(5)).delay(|| &latencies), Some(ms(5)));
    }
}
