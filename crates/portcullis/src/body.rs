//! Taking a request's body: held under caps, or left to stream.

use crate::aside;
use crate::plan::BodyPlan;
use bytes::Bytes;
use portcullis_contract::{Coding, End, InflateError, InflateLimits, Inflated};
use portcullis_http::{BodyError, Budget, ContractFailure, Framing, Held, Malformed, Rejection, RequestHead};
use portcullis_wire::{Downstream, collect};

/// A request's body on its way to the upstream.
pub(crate) struct RequestBody {
    /// What was read of it, and inspected.
    pub(crate) read: Bytes,
    /// How much of that is for the firewall to see: where one reading went beyond the limit, up to the limit, so that
    /// the verdict does not depend on how the body came in.
    inspected: usize,
    /// What is inspected in place of it: its content without the content coding.
    plain: Option<Inflated>,
    /// Whether more of it is still to come from the client.
    pub(crate) more: bool,
    /// How it was framed, and is framed again.
    pub(crate) framing: Framing,
    /// Keeps `read` accounted for.
    pub(crate) held: Option<Held>,
}

impl RequestBody {
    /// What of it guards see: without its content coding, and where it is too long, its beginning.
    pub(crate) fn inspected(&self) -> &[u8] {
        match &self.plain {
            Some(plain) => &plain.bytes,
            None => self.read.get(..self.inspected).unwrap_or(&self.read),
        }
    }

    /// Whether guards see its beginning only, because the rest is beyond the limit.
    pub(crate) fn cut(&self) -> bool {
        let held_in_part = self.more && self.inspected > 0;
        self.plain.as_ref().map_or(held_in_part, |plain| plain.end != End::Complete)
    }
}

/// Reads as much of the body as the route's plan asks for.
///
/// # Errors
/// 413 over the route's limit, 503 when the process's budget is spent, 400 or 408 for what the client does wrong.
pub(crate) async fn take<D: Downstream>(
    plan: BodyPlan,
    head: &RequestHead,
    coding: Option<Coding>,
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
        return Ok(RequestBody { read: Bytes::new(), inspected: 0, plain: None, more, framing, held: None });
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
    let read = Bytes::from(read);
    let plain = match coding {
        Some(coding) => Some(Box::pin(inflate(coding, plan, read.slice(..inspected), more, budget)).await?),
        None => None,
    };
    Ok(RequestBody { read, inspected, plain, more, framing, held: Some(held) })
}

/// Takes the content coding off the bytes that are inspected; `more`: they are the beginning of the body.
///
/// # Errors
/// 400 for what is not of the coding, 413 for what expands too much, 503 when the budget is spent.
async fn inflate(
    coding: Coding,
    plan: BodyPlan,
    body: Bytes,
    more: bool,
    budget: &Budget,
) -> Result<Inflated, Rejection> {
    let limits = InflateLimits { output: plan.limit.unwrap_or(usize::MAX), ratio: plan.max_expansion };
    let inflated = if body.len() <= aside::LARGE {
        coding.inflate(&body, limits, budget)
    } else {
        let budget = budget.clone();
        aside::run(move || coding.inflate(&body, limits, &budget)).await?
    };
    let broken = Rejection::Contract(ContractFailure::Coding);
    let inflated = inflated.map_err(|error| match error {
        InflateError::Malformed => broken.clone(),
        InflateError::Ratio => Rejection::BodyTooLarge,
        InflateError::OverBudget => Rejection::OverBudget,
    })?;
    match inflated.end {
        End::TooLarge if !plan.inspect_prefix => Err(Rejection::BodyTooLarge),
        // What follows the end of the coded data is nothing that a reader of it would see.
        End::Complete if more => Err(broken),
        End::Incomplete if !more => Err(broken),
        End::Complete | End::TooLarge | End::Incomplete => Ok(inflated),
    }
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
