//! One request on its way out: what is sent, and the tries that it takes.

use crate::balance::Pick;
use crate::lease::{Lease, Outgoing};
use crate::{StickyToken, Upstream, connection};
use bytes::Bytes;
use portcullis_http::{Framing, RequestHead, ResponseHead, UpstreamFailure};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Endpoints that one call may try to connect to.
const MAX_ATTEMPTS: usize = 3;

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The head of an answer came.
    Answered {
        /// Its status.
        status: u16,
    },
    /// No connection was to be had, so that nothing was sent.
    Unreachable(UpstreamFailure),
    /// The request was sent, or begun, and no answer came.
    Failed(UpstreamFailure),
    /// Nobody waited any more.
    Cancelled,
}

impl Outcome {
    pub(crate) fn of(result: &Result<(), UpstreamFailure>, answer: &ResponseHead) -> Self {
        match result {
            Ok(()) => Outcome::Answered { status: answer.status },
            Err(failure) => Outcome::Failed(*failure),
        }
    }
}

/// One try.
#[derive(Clone, Debug)]
pub struct Try {
    /// Host and port of the endpoint.
    pub endpoint: Arc<str>,
    /// How it ended; `None` while it is under way, or when nobody waited for its end.
    pub outcome: Option<Outcome>,
    /// From the choice of the endpoint to the head of the answer, or the failure.
    pub duration: Duration,
    began: Instant,
}

/// The tries of one request, in their order. It is filled as they happen: of a call that is dropped, it tells how far
/// that had come.
#[derive(Clone, Debug, Default)]
pub struct Trail(SmallVec<[Try; 1]>);

impl Trail {
    /// The tries.
    #[must_use]
    pub fn tries(&self) -> &[Try] {
        &self.0
    }

    /// The endpoint that was asked last.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.0.last().map(|last| &*last.endpoint)
    }

    fn begin(&mut self, endpoint: &Arc<str>) {
        let endpoint = Arc::clone(endpoint);
        self.0.push(Try { endpoint, outcome: None, duration: Duration::ZERO, began: Instant::now() });
    }

    /// Ends the try under way with what came of waiting for the head of the answer.
    pub fn note(&mut self, result: &Result<(), UpstreamFailure>, answer: &ResponseHead) {
        self.end(Outcome::of(result, answer));
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(last) = self.0.last_mut() {
            last.duration = last.began.elapsed();
            last.outcome = Some(outcome);
        }
    }
}

/// One request to be sent, and what its endpoint is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// Its head, as it stands.
    pub head: &'a RequestHead,
    /// Where the balance is by hash: requests with the same one go to the same endpoint ([`hash_key`](crate::hash_key)).
    /// Without it, to any.
    pub hash: Option<u64>,
    /// Names the endpoint that the client was sent to before. Where there is no such endpoint any more, or it is not
    /// available, another is chosen.
    pub sticky: Option<StickyToken>,
}

impl<'a> Outbound<'a> {
    /// A request that any endpoint may answer.
    #[must_use]
    pub fn new(head: &'a RequestHead) -> Self {
        Outbound { head, hash: None, sticky: None }
    }
}

impl Upstream {
    /// Begins an exchange whose request body, framed so, the caller will push into the lease while it asks it for the
    /// answer. Nothing is repeated: for a request without a body, or with one at hand, [`Upstream::send`] is better.
    ///
    /// Bounded by three times the connect timeout.
    ///
    /// # Errors
    /// [`UpstreamFailure`] where no connection is to be had; the last one's.
    pub async fn start(
        &self,
        outbound: &Outbound<'_>,
        framing: Framing,
        trail: &mut Trail,
    ) -> Result<Lease, UpstreamFailure> {
        let mut lease = self.begin(outbound, framing, true, trail).await?;
        lease.awaits_client();
        Ok(lease)
    }

    /// Sends a request with the whole of its body and reads the answer's head into `answer`; the lease then yields
    /// the answer's body. `None` sends no body and no `Content-Length`; an empty body sends a length of 0.
    ///
    /// An idempotent request that a reused connection loses before any of the answer is heard is sent once more,
    /// over a new connection.
    ///
    /// # Errors
    /// [`UpstreamFailure`]; nothing of the exchange is left then.
    pub async fn send(
        &self,
        outbound: &Outbound<'_>,
        body: Option<&Bytes>,
        answer: &mut ResponseHead,
        trail: &mut Trail,
    ) -> Result<Lease, UpstreamFailure> {
        let framing = body.map_or(Framing::None, |body| Framing::Length(body.len() as u64));
        let mut lease = self.begin(outbound, framing, true, trail).await?;
        match transact(&mut lease, body, answer, trail).await {
            Ok(()) => return Ok(lease),
            Err(UpstreamFailure::Closed) if lease.may_repeat(outbound.head) => {}
            Err(failure) => return Err(failure),
        }
        tracing::debug!(upstream = %self.name(), endpoint = lease.endpoint(), "a reused connection was dead");
        lease.abandon();
        let mut lease = self.begin(outbound, framing, false, trail).await?;
        transact(&mut lease, body, answer, trail).await?;
        Ok(lease)
    }

    /// Gets a connection, wherever one is to be had, and begins the exchange on it.
    async fn begin(
        &self,
        outbound: &Outbound<'_>,
        framing: Framing,
        reuse: bool,
        trail: &mut Trail,
    ) -> Result<Lease, UpstreamFailure> {
        let mut tried = [0; MAX_ATTEMPTS];
        let mut failure = UpstreamFailure::NoEndpoint;
        for attempt in 0..MAX_ATTEMPTS {
            let tried_yet = tried.get(..attempt).unwrap_or_default();
            let pick =
                Pick { tried: tried_yet, hash: outbound.hash, sticky: outbound.sticky, ..Pick::default() };
            let (endpoint, admission) = match self.group.enter(&pick) {
                Ok(entered) => entered,
                // What became of the endpoints that were asked says more than that no other could be.
                Err(why) if attempt == 0 => return Err(why),
                Err(_) => break,
            };
            if let Some(slot) = tried.get_mut(attempt) {
                *slot = endpoint.id;
            }
            trail.begin(&endpoint.address);
            let lease = connection::lease(self, &endpoint, admission, outbound.head, framing, reuse);
            match lease.await {
                Ok(lease) => return Ok(lease),
                Err(why) => {
                    tracing::debug!(upstream = %self.name(), endpoint = %endpoint.address, why = why.as_str(), "no connection");
                    trail.end(Outcome::Unreachable(why));
                    failure = why;
                }
            }
        }
        Err(failure)
    }
}

async fn transact(
    lease: &mut Lease,
    body: Option<&Bytes>,
    answer: &mut ResponseHead,
    trail: &mut Trail,
) -> Result<(), UpstreamFailure> {
    let mut outgoing = Outgoing::new(body);
    let result = std::future::poll_fn(|cx| lease.poll_transact(cx, &mut outgoing, answer)).await;
    trail.note(&result, answer);
    result
}
