//! What can go wrong with a part, and with the whole.

use portcullis_http::{BodyError, Rejection, UpstreamFailure};
use std::fmt;
use std::sync::Arc;

/// Why a part failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartError {
    /// A value of the request that a template needs is missing, or cannot stand where it should.
    Value,
    /// The upstream failed.
    Upstream(UpstreamFailure),
    /// The answer's body broke off or came too slowly.
    Body(BodyError),
    /// The call took longer than the part may take.
    Timeout,
    /// The answer's status is not 2xx.
    Status(u16),
    /// The answer is no JSON document, or no object where one is needed.
    NotJson,
    /// The answer is larger than the part's cap.
    TooLarge,
    /// The process holds all the bytes it may.
    OverBudget,
}

impl PartError {
    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PartError::Value => "value",
            PartError::Upstream(failure) => failure.as_str(),
            PartError::Body(_) => "body",
            PartError::Timeout => "timeout",
            PartError::Status(_) => "status",
            PartError::NotJson => "not_json",
            PartError::TooLarge => "too_large",
            PartError::OverBudget => "over_budget",
        }
    }

    /// What it makes of the whole where the part is required: 502, 504 where it was too slow, 503 where the process
    /// is out of its budget.
    pub(crate) fn rejection(self) -> Rejection {
        Rejection::Upstream(match self {
            PartError::OverBudget => return Rejection::OverBudget,
            PartError::Timeout | PartError::Body(BodyError::Timeout) => UpstreamFailure::ResponseTimeout,
            PartError::Body(BodyError::Incomplete) => UpstreamFailure::Closed,
            PartError::TooLarge => UpstreamFailure::TooLarge,
            PartError::Upstream(failure) => failure,
            PartError::Value | PartError::Body(_) | PartError::Status(_) | PartError::NotJson => {
                UpstreamFailure::Protocol
            }
        })
    }
}

impl fmt::Display for PartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartError::Status(status) => write!(f, "status {status}"),
            PartError::Body(error) => error.fmt(f),
            _ => f.write_str(self.as_str()),
        }
    }
}

/// A part that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFailure {
    /// The part's name.
    pub name: Arc<str>,
    /// Why it failed.
    pub reason: PartError,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the client is told.
    pub rejection: Rejection,
    /// The required part that decided, for the log; `None` where the merged answer found no room in the budget.
    pub part: Option<PartFailure>,
}

impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        failure.rejection
    }
}
