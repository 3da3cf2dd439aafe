//! Taking a request's body: held under caps, or left to stream.

use crate::plan::BodyPlan;
use bytes::Bytes;
use portcullis_http::{BodyError, Budget, Framing, Held, Malformed, Rejection, RequestHead};
use portcullis_wire::{Downstream, collect};

/// A request's body on its way to the upstream.
pub(crate) struct RequestBody {
    /// What was read of it, and inspected.
    pub(crate) read: Bytes,
    /// How much of that is for the firewall to see: where one reading went beyond the limit, up to the limit, so that
    /// the verdict does not depend on how the body came in.
    inspected: usize,
    /// Whether more of it is still to come from the client.
    pub(crate) more: bool,
    /// How it was framed, and is framed again.
    pub(crate) framing: Framing,
    /// Keeps `read` accounted for.
    pub(crate) held: Option<Held>,
}

impl RequestBody {
    /// What of it the firewall sees.
    pub(crate) fn inspected(&self) -> &[u8] {
        self.read.get(..self.inspected).unwrap_or(&self.read)
    }
}

/// Reads as much of the body as the route's plan asks for.
///
/// # Errors
/// 413 over the route's limit, 503 when the process's budget is spent, 400 or 408 for what the client does wrong.
pub(crate) async fn take<D: Downstream>(
    plan: BodyPlan,
    head: &RequestHead,
    budget: &Budget,
    downstream: &mut D,
) -> Result<RequestBody, Rejection> {
    let framing = head.framing;
    let limit = plan.limit.unwrap_or(usize::MAX);
    if let Framing::Length(length) = framing
        && usize::try_from(length).unwrap_or(usize::MAX) > limit
        && !(plan.buffered && plan.inspect_prefix)
    {
        return Err(Rejection::BodyTooLarge);
    }
    if !plan.buffered || matches!(framing, Framing::None | Framing::Length(0)) {
        let more = !matches!(framing, Framing::None | Framing::Length(0));
        return Ok(RequestBody { read: Bytes::new(), inspected: 0, more, framing, held: None });
    }
    let mut held = budget.hold(0).ok_or(Rejection::OverBudget)?;
    let mut read = Vec::new();
    let more = match collect(downstream, limit, &mut held, &mut read).await {
        Ok(()) => false,
        Err(Some(BodyError::TooLarge)) if plan.inspect_prefix => true,
        Err(Some(error)) => return Err(client_fault(error)),
        Err(None) => return Err(Rejection::OverBudget),
    };
    let framing = if more { framing } else { Framing::Length(read.len() as u64) };
    let inspected = read.len().min(limit);
    Ok(RequestBody { read: read.into(), inspected, more, framing, held: Some(held) })
}

/// What the client is told when its body breaks off.
pub(crate) fn client_fault(error: BodyError) -> Rejection {
    match error {
        BodyError::Malformed => Rejection::Malformed(Malformed::Chunk),
        BodyError::Incomplete => Rejection::Malformed(Malformed::Incomplete),
        BodyError::Timeout => Rejection::RequestTimeout,
        BodyError::TooLarge => Rejection::BodyTooLarge,
    }
}
