//! Where the counts live.

use crate::{Decision, Partition, Quota};
use smallvec::SmallVec;
use std::fmt;
use std::future::Future;

/// One request's wish to be counted against one limit.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    /// The limit's name: with the partition, the identity of a count. Routes, reloads and replicas that name
    /// the same limit share it.
    pub limit: &'a str,
    /// Whose request it is.
    pub partition: Partition<'a>,
    /// What is allowed.
    pub quota: &'a Quota,
}

/// One decision per demand, in the demands' order.
pub type Decisions = SmallVec<[Decision; 4]>;

/// Where rates are counted: in this process ([`LocalStore`](crate::LocalStore)), or in one that replicas share.
/// The store brings its own clock, since replicas must agree on the time as well.
pub trait Store: Send + Sync {
    /// Judges all demands as one: if every one of them is admitted, each is charged; if any is not, none is,
    /// so that a request refused by one limit uses up nothing of the others. No demand's decision may be left out.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot answer in time; nothing is charged then, as far as is known.
    fn take(&self, demands: &[Demand<'_>]) -> impl Future<Output = Result<Decisions, StoreError>> + Send;
}

/// The store cannot be asked, or gave no answer that makes sense. Its text is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError(pub String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store of rates does not answer: {}", self.0)
    }
}

impl std::error::Error for StoreError {}
