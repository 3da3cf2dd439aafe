//! What a step of the chain looks like.

use crate::{Exchange, Rejection, ResponseHead};
use std::future::Future;

/// One step of the request's way. A guard reads its own compiled plan, may write what it learned into the
/// exchange, and answers `Ok` or why the gateway itself must answer. Dispatched statically; a test of a
/// guard needs no socket.
pub trait Guard {
    /// Judges the request.
    ///
    /// # Errors
    /// The [`Rejection`] that becomes the response; nothing is forwarded then.
    fn check(&self, exchange: &mut Exchange) -> impl Future<Output = Result<(), Rejection>> + Send;
}

/// The mirror of [`Guard`] on the response's way back.
pub trait ResponseGuard {
    /// Judges, or cleans, the response's head.
    ///
    /// # Errors
    /// The [`Rejection`] that replaces the upstream's response.
    fn check(
        &self,
        exchange: &mut Exchange,
        response: &mut ResponseHead,
    ) -> impl Future<Output = Result<(), Rejection>> + Send;
}
