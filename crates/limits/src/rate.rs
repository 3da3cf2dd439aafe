//! The guard that limits how often.

use crate::announce::{announce, policy, seconds};
use crate::{Decisions, Demand, Key, Quota, Store, StoreError};
use portcullis_http::{Exchange, Guard, Rejection};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// A named limit: how much, counted by what.
#[derive(Clone, Debug)]
pub struct Limit {
    name: Arc<str>,
    key: Key,
    quota: Quota,
    policy: String,
}

/// Why a limit, or a set of them, cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitError {
    /// The name is empty, longer than 128 characters, or holds others than letters, digits, `-`, `_`, `.`.
    Name(String),
    /// A route names this limit twice.
    Twice(String),
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitError::Name(name) => {
                write!(f, "a limit's name is 1 to 128 letters, digits, `-`, `_` and `.`: rename `{name}`")
            }
            LimitError::Twice(name) => {
                write!(f, "the limit `{name}` stands twice on one route: remove one, or rename it")
            }
        }
    }
}

impl std::error::Error for LimitError {}

impl Limit {
    /// A limit. Its name stands in answers, logs and metrics, and is what routes share a limit by.
    ///
    /// # Errors
    /// [`LimitError::Name`].
    pub fn new(name: &str, key: Key, quota: Quota) -> Result<Self, LimitError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
            return Err(LimitError::Name(name.to_owned()));
        }
        Ok(Limit { name: name.into(), key, quota, policy: policy(name, &quota) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// What to do with a request when the store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Let it pass, and log.
    #[default]
    Open,
    /// Answer 503 ([`Rejection::LimitUnavailable`]).
    Closed,
}

/// A route's limits at one stage of the chain. All are checked for each request; one that any of them refuses
/// uses up nothing of the others. The answer tells of all of them, refused or not.
#[derive(Debug)]
pub struct RateLimiter<S> {
    store: Arc<S>,
    limits: Vec<Limit>,
    on_failure: OnFailure,
}

/// What a [`RateLimiter`] found, for the pipeline to count before it acts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every limit has room.
    Admitted,
    /// This limit has none; the next request may pass after so many seconds.
    Refused {
        /// The limit that refused: of several, the one to wait for the longest.
        limit: Arc<str>,
        /// Seconds, at least 1.
        retry_after: u64,
    },
    /// The store did not answer; what to do is [`OnFailure`]'s to say.
    Unknown(OnFailure),
}

impl Verdict {
    /// `admitted`, `refused` or `unknown`, as metrics label it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Admitted => "admitted",
            Verdict::Refused { .. } => "refused",
            Verdict::Unknown(_) => "unknown",
        }
    }

    /// The rejection it comes to, if any.
    ///
    /// # Errors
    /// [`Rejection::RateLimited`] or [`Rejection::LimitUnavailable`].
    pub fn into_result(self) -> Result<(), Rejection> {
        match self {
            Verdict::Admitted | Verdict::Unknown(OnFailure::Open) => Ok(()),
            Verdict::Refused { retry_after, .. } => Err(Rejection::RateLimited { retry_after }),
            Verdict::Unknown(OnFailure::Closed) => Err(Rejection::LimitUnavailable),
        }
    }
}

impl<S: Store> RateLimiter<S> {
    /// A guard for these limits, counted in `store`, which outlives it.
    ///
    /// # Errors
    /// [`LimitError::Twice`].
    pub fn new(store: Arc<S>, limits: Vec<Limit>, on_failure: OnFailure) -> Result<Self, LimitError> {
        for (at, limit) in limits.iter().enumerate() {
            if limits.iter().take(at).any(|earlier| earlier.name == limit.name) {
                return Err(LimitError::Twice(limit.name.to_string()));
            }
        }
        Ok(RateLimiter { store, limits, on_failure })
    }

    /// Counts the request, writes `RateLimit` and `RateLimit-Policy` into the answer, and says what came of it.
    pub async fn judge(&self, exchange: &mut Exchange) -> Verdict {
        if self.limits.is_empty() {
            return Verdict::Admitted;
        }
        let taken = {
            let demands: SmallVec<[Demand<'_>; 4]> = self
                .limits
                .iter()
                .map(|limit| Demand {
                    limit: &limit.name,
                    partition: limit.key.of(exchange),
                    quota: &limit.quota,
                })
                .collect();
            self.store.take(&demands).await.and_then(|decisions| self.complete(decisions))
        };
        match taken {
            Ok(decisions) => self.conclude(exchange, &decisions),
            Err(error) => {
                tracing::warn!(%error, on_failure = ?self.on_failure, "rate limits cannot be checked");
                Verdict::Unknown(self.on_failure)
            }
        }
    }

    /// A store that leaves a decision out must not thereby let a request pass.
    fn complete(&self, decisions: Decisions) -> Result<Decisions, StoreError> {
        if decisions.len() == self.limits.len() {
            return Ok(decisions);
        }
        Err(StoreError(format!("{} decisions for {} limits", decisions.len(), self.limits.len())))
    }

    fn conclude(&self, exchange: &mut Exchange, decisions: &Decisions) -> Verdict {
        let members = self.limits.iter().zip(decisions);
        announce(
            &mut exchange.answer_fields,
            members.clone().map(|(limit, decision)| (&*limit.name, limit.policy.as_str(), decision)),
        );
        members
            .filter(|(_, decision)| !decision.admitted)
            .max_by_key(|(_, decision)| decision.retry_after)
            .map_or(Verdict::Admitted, |(limit, decision)| Verdict::Refused {
                limit: Arc::clone(&limit.name),
                retry_after: seconds(decision.retry_after).max(1),
            })
    }
}

impl<S: Store> Guard for RateLimiter<S> {
    async fn check(&self, exchange: &mut Exchange) -> Result<(), Rejection> {
        self.judge(exchange).await.into_result()
    }
}
