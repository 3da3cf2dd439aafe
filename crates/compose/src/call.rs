//! One part's call.

use crate::{Part, PartError};
use portcullis_http::{
    BodyError, Budget, Fields, Frame, Framing, Held, RequestHead, ResponseHead, UpstreamFailure, Values,
    Version,
};
use portcullis_upstream::{Deadline, Lease, Outbound, Trail};
use portcullis_wire::{Source as _, collect};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

/// What a composition is made from: values of one request, and what goes out with each call.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What templates may refer to.
    pub values: Values<'a>,
    /// Fields that every call sends: `Host`, request id, trace, forwarding, identity. Nothing else of the request's
    /// fields passes.
    pub base: &'a Fields,
    /// What each part's endpoint is chosen by, in the order of the parts ([`Outbound::hash`]); of those that are not named
    /// here, any will do.
    pub hashes: &'a [Option<u64>],
    /// The account of the bytes that the parts' answers take.
    pub budget: &'a Budget,
    /// When the request's time is over, and how upstreams are told. Each part has less, if it has less time of its own.
    pub deadline: Option<Deadline<'a>>,
}

/// An answer's document, and the bytes held for it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) _held: Held,
}

/// Calls a part, the one at this place, within its time.
pub(crate) async fn call(part: &Part, at: usize, input: &Input<'_>) -> Result<Answer, PartError> {
    let head = request(part, input).ok_or(PartError::Value)?;
    let own = Instant::now() + part.timeout;
    let deadline = match input.deadline {
        Some(deadline) => Deadline { at: deadline.at.min(own), ..deadline },
        None => Deadline { at: own, field: None, grpc: false, callers: false },
    };
    let hash = input.hashes.get(at).copied().flatten();
    let outbound = Outbound { hash, deadline: Some(deadline), ..Outbound::new(&head) };
    let result = tokio::time::timeout(part.timeout, exchange(part, &outbound, input.budget))
        .await
        .unwrap_or(Err(PartError::Timeout));
    if let Some(watcher) = &part.watcher {
        match &result {
            Err(PartError::Upstream(failure)) => watcher.failed(*failure),
            Err(PartError::Timeout) => watcher.failed(UpstreamFailure::ResponseTimeout),
            _ => {}
        }
    }
    result
}

/// The request, if every value is there and can stand where it should.
fn request(part: &Part, input: &Input<'_>) -> Option<RequestHead> {
    let mut target = part.path.path(&input.values)?;
    for (index, (name, template)) in part.query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        portcullis_http::percent_encode_query(name.as_bytes(), &mut target);
        target.push('=');
        template.query(&input.values, &mut target)?;
    }
    let mut head = RequestHead::default();
    head.fields = input.base.clone();
    head.set_line(b"GET", target.as_bytes(), Version::Http11);
    head.fields.set("accept", "application/json").ok()?;
    head.fields.set("accept-encoding", "identity").ok()?;
    for (name, template) in &part.headers {
        head.fields.set(name, template.header(&input.values)?).ok()?;
    }
    Some(head)
}

async fn exchange(part: &Part, outbound: &Outbound<'_>, budget: &Budget) -> Result<Answer, PartError> {
    let mut answer = ResponseHead::default();
    let began = Instant::now();
    let mut trail = Trail::default();
    let sent = part.upstream.send(outbound, None, &mut answer, &mut trail).await;
    let mut lease = sent.map_err(PartError::Upstream)?;
    if let Some(watcher) = &part.watcher {
        watcher.answered(answer.status, began.elapsed());
    }
    if !(200..300).contains(&answer.status) {
        discard(&mut lease).await;
        return Err(PartError::Status(answer.status));
    }
    if let Framing::Length(length) = answer.framing
        && length > part.max_size as u64
    {
        return Err(PartError::TooLarge);
    }
    let is_coded = |coding: &[u8]| !coding.eq_ignore_ascii_case(b"identity");
    if answer.fields.get_all("content-encoding").any(is_coded) {
        return Err(PartError::NotJson);
    }
    let mut held = budget.hold(0).ok_or(PartError::OverBudget)?;
    let mut body = Vec::new();
    collect(&mut lease, part.max_size, &mut held, &mut body).await.map_err(|error| match error {
        None => PartError::OverBudget,
        Some(BodyError::TooLarge) => PartError::TooLarge,
        Some(error) => PartError::Body(error),
    })?;
    let text = String::from_utf8(body).map_err(|_| PartError::NotJson)?;
    Ok(Answer { text, _held: held })
}

/// Of a body that nobody wants, so much is read at most.
const DISCARDED: usize = 64 * 1024;

/// Reads what has come already of a body that nobody wants: a short one then does not cost its connection.
async fn discard(lease: &mut Lease) {
    let mut left = DISCARDED;
    poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(frame))) = lease.poll_frame(cx) {
            let Frame::Data(data) = frame else { continue };
            match left.checked_sub(data.len()) {
                Some(less) => left = less,
                None => break,
            }
        }
        Poll::Ready(())
    })
    .await;
}
