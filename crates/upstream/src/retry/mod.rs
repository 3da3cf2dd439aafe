//! Whether a request may be sent again, when, and how often. No IO and no clock: times come in.
//!
//! What must be true of a repeated request, whatever is configured:
//!
//! - all of it is at hand, and nothing of an answer was handed on ([`Upstream::send`](crate::Upstream::send) alone
//!   repeats, and hands an answer on only when it is done);
//! - either nothing of it was done ([`Outcome::Unreachable`](crate::Outcome::Unreachable); HTTP/2's `REFUSED_STREAM` and
//!   `GOAWAY`, RFC 9113 §8.7), or doing it twice is the same as doing it once (RFC 9110 §9.2.2), or the policy vouches
//!   for it;
//! - the budget lets it pass: what fails because it is overloaded must not get more because it fails. Endpoints that
//!   could not be connected to are no load; going on to another costs nothing of the budget.

mod backoff;
mod budget;
mod course;
mod latencies;
mod policy;

pub use backoff::Backoff;
pub use budget::BudgetSettings;
pub use course::Denied;
pub use policy::{Conditions, Hedge, RetryOn, RetryPolicy};

pub(crate) use budget::Budget;
pub(crate) use course::{Course, Facts, Verdict};
pub(crate) use latencies::Latencies;
