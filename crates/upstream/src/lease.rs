//! One exchange on one connection.

use crate::ending::Ending;
use crate::endpoint::{Endpoint, Gauge};
use crate::outbound::Outcome;
use crate::pool::{self, Kept};
use crate::supervision::Admission;
use bytes::Bytes;
use portcullis_http::{BodyError, Frame, ResponseHead, UpstreamFailure};
use portcullis_wire::client::Http2Call;
use portcullis_wire::{Call, Sink, SinkError, Source};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

/// A buffered body is pushed in pieces of this size: the response's deadline begins with the last of them.
const PIECE: usize = 64 * 1024;

pub(crate) enum Wire {
    Http1(Kept),
    /// The call, and the generation of the connection that carries it.
    Http2(Box<Http2Call>, u64),
    /// Given back.
    Spent,
}

/// Under which conditions a connection rests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) most: usize,
    pub(crate) limit: Duration,
    pub(crate) uses: u32,
}

/// An exchange under way: the way for the request's body and the answer ([`Call`]).
///
/// Dropped, it gives its connection back where the exchange ended cleanly: the whole request was sent, the answer was
/// read to its end, and nothing followed it. Otherwise the connection is closed (in HTTP/2 the stream is reset).
pub struct Lease {
    wire: Wire,
    endpoint: Arc<Endpoint>,
    keep: Keep,
    reused: bool,
    answered: bool,
    began: Instant,
    /// How long it took, once the endpoint has heard how it went.
    took: Option<Duration>,
    /// The request's body comes from the client, in the client's time.
    awaits_client: bool,
    admission: Admission,
    /// Where a good head is not all that counts.
    ending: Option<Ending>,
    /// At the endpoint, and in all where that is of interest.
    _in_flight: (Gauge, Option<Gauge>),
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("endpoint", &self.endpoint.address)
            .field("reused", &self.reused)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

impl Lease {
    pub(crate) fn new(
        wire: Wire,
        endpoint: &Arc<Endpoint>,
        keep: Keep,
        reused: bool,
        in_flight: (Gauge, Option<Gauge>),
        admission: Admission,
        began: Instant,
    ) -> Self {
        Lease {
            wire,
            endpoint: Arc::clone(endpoint),
            keep,
            reused,
            answered: false,
            began,
            took: None,
            awaits_client: false,
            admission,
            ending: None,
            _in_flight: in_flight,
        }
    }

    fn report(&mut self, outcome: Outcome) {
        if self.took.is_none() {
            let took = self.began.elapsed();
            self.took = Some(took);
            self.endpoint.report(outcome, took);
            if outcome == Outcome::Failed(UpstreamFailure::Closed) && self.was_idle() {
                // It closed a connection that idled, most likely, which says nothing of how it serves.
                self.admission.report(&self.endpoint, Outcome::Cancelled, took);
            } else {
                self.admission.report(&self.endpoint, outcome, took);
            }
        }
    }

    /// Takes note of an answer's head, which is all that counts unless somebody judges the endpoint.
    fn report_head(&mut self, head: &ResponseHead) {
        let outcome = Outcome::Answered { status: head.status };
        if self.took.is_some() || !self.admission.judges() {
            return self.report(outcome);
        }
        let took = self.began.elapsed();
        self.took = Some(took);
        self.endpoint.report(outcome, took);
        match Ending::of(head, took) {
            Ok(ending) => self.ending = Some(ending),
            Err(outcome) => self.admission.report(&self.endpoint, outcome, took),
        }
    }

    /// Takes note of what was heard of an answer's body.
    fn report_rest(&mut self, cx: &mut Context<'_>, heard: &Poll<Option<Result<Frame, BodyError>>>) {
        if let Some(ending) = &mut self.ending
            && let Some(outcome) = ending.hear(cx, heard)
        {
            self.admission.report(&self.endpoint, outcome, ending.took);
            self.ending = None;
        }
    }

    /// Says that the caller pushes a body that comes in its own time: how long the endpoint took is counted from its
    /// end.
    pub(crate) fn awaits_client(&mut self) {
        self.awaits_client = self.admission.is_watched();
    }

    /// How long it took, if it has come to anything.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.took
    }

    /// Host and port of the endpoint that was chosen.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint.address
    }

    /// Whether nothing was heard on a connection that had served before. Its end then says no more than that it was
    /// closed while it was idle, most likely.
    pub(crate) fn was_idle(&self) -> bool {
        let heard = match &self.wire {
            Wire::Http1(kept) => kept.connection.heard(),
            Wire::Http2(..) => self.answered,
            Wire::Spent => true,
        };
        self.reused && !heard
    }

    /// Counts under no cap any more: another try of its request takes its place, and its answer, if it is read at all, is
    /// the last of it.
    pub(crate) fn leave(&mut self) {
        if let Some(ending) = self.ending.take() {
            self.admission.report(&self.endpoint, ending.so_far(), ending.took);
        }
        self.admission = Admission::default();
    }

    /// Gives up on the connection, for others too where they share it.
    pub(crate) fn abandon(self) {
        self.endpoint.note_repeat();
        if let Wire::Http2(_, generation) = self.wire {
            pool::unshare(&self.endpoint, generation);
        }
    }

    /// Gives up on an exchange that has taken too long.
    pub(crate) fn fail(&mut self, failure: UpstreamFailure) -> UpstreamFailure {
        if let Wire::Http2(call, generation) = &self.wire
            && call.is_silent()
        {
            pool::unshare(&self.endpoint, *generation);
        }
        self.report(Outcome::Failed(failure));
        failure
    }

    /// Gives up an answer. Where all of it has come already, its connection is still good.
    pub(crate) fn discard(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(_))) = self.poll_frame(&mut cx) {}
    }

    /// Sends the whole body and reads the answer's head, both at the same time: an upstream may answer before it has
    /// read the request, and is listened to even when it takes no more of it.
    pub(crate) fn poll_transact(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &mut Outgoing,
        answer: &mut ResponseHead,
    ) -> Poll<Result<(), UpstreamFailure>> {
        if let Poll::Ready(Err(SinkError::Timeout)) = outgoing.poll(cx, self) {
            return Poll::Ready(Err(self.fail(UpstreamFailure::ResponseTimeout)));
        }
        self.poll_head(cx, answer)
    }
}

/// What is left to send of a buffered body.
pub(crate) struct Outgoing {
    body: Bytes,
    ended: bool,
    done: bool,
}

impl Outgoing {
    pub(crate) fn new(body: Option<&Bytes>) -> Self {
        Outgoing { body: body.cloned().unwrap_or_default(), ended: false, done: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>, lease: &mut Lease) -> Poll<Result<(), SinkError>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(self.poll_send(cx, lease));
        self.done = true;
        Poll::Ready(result)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, lease: &mut Lease) -> Poll<Result<(), SinkError>> {
        while !self.body.is_empty() {
            ready!(lease.poll_ready(cx))?;
            let piece = self.body.split_to(PIECE.min(self.body.len()));
            lease.push(Frame::Data(piece));
        }
        if !self.ended {
            // In HTTP/1 the last piece may still wait; the end is queued behind it.
            lease.finish();
            self.ended = true;
        }
        lease.poll_flush(cx)
    }
}

impl Source for Lease {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let heard = match &mut self.wire {
            Wire::Http1(kept) => kept.connection.poll_frame(cx),
            Wire::Http2(call, generation) => {
                let heard = call.poll_frame(cx);
                if let Poll::Ready(Some(Err(BodyError::Malformed))) = heard {
                    pool::unshare(&self.endpoint, *generation);
                }
                heard
            }
            Wire::Spent => Poll::Ready(None),
        };
        if self.ending.is_some() {
            self.report_rest(cx, &heard);
        }
        heard
    }
}

impl Sink for Lease {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        match &mut self.wire {
            Wire::Http1(kept) => kept.connection.poll_ready(cx),
            Wire::Http2(call, _) => call.poll_ready(cx),
            Wire::Spent => Poll::Ready(Err(SinkError::Closed)),
        }
    }

    fn push(&mut self, frame: Frame) {
        match &mut self.wire {
            Wire::Http1(kept) => kept.connection.push(frame),
            Wire::Http2(call, _) => call.push(frame),
            Wire::Spent => {}
        }
    }

    fn finish(&mut self) {
        if self.awaits_client {
            self.began = Instant::now();
        }
        match &mut self.wire {
            Wire::Http1(kept) => kept.connection.finish(),
            Wire::Http2(call, _) => call.finish(),
            Wire::Spent => {}
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        match &mut self.wire {
            Wire::Http1(kept) => kept.connection.poll_flush(cx),
            Wire::Http2(call, _) => call.poll_flush(cx),
            Wire::Spent => Poll::Ready(Err(SinkError::Closed)),
        }
    }
}

impl Call for Lease {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), UpstreamFailure>> {
        let result = match &mut self.wire {
            Wire::Http1(kept) => ready!(kept.connection.poll_head(cx, head)),
            Wire::Http2(call, generation) => {
                let result = ready!(call.poll_head(cx, head));
                // Others may go on with it; nobody begins on it any more.
                let is_bad = match result {
                    Err(UpstreamFailure::Protocol) => true,
                    Err(UpstreamFailure::ResponseTimeout) => call.is_silent(),
                    _ => false,
                };
                if is_bad {
                    pool::unshare(&self.endpoint, *generation);
                }
                result
            }
            Wire::Spent => Err(UpstreamFailure::Closed),
        };
        self.answered = result.is_ok();
        match &result {
            Ok(()) => self.report_head(head),
            Err(failure) => self.report(Outcome::Failed(*failure)),
        }
        Poll::Ready(result)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &self.ending {
            // Nobody read it to its end.
            Some(ending) => self.admission.report(&self.endpoint, ending.so_far(), ending.took),
            None => self.report(Outcome::Cancelled),
        }
        match std::mem::replace(&mut self.wire, Wire::Spent) {
            Wire::Http1(kept)
                if kept.connection.is_reusable() && kept.uses < self.keep.uses && self.keep.most > 0 =>
            {
                pool::put(&self.endpoint, kept, self.keep.limit, self.keep.most);
            }
            Wire::Http2(call, generation) => {
                drop(call);
                pool::leave(&self.endpoint, generation);
            }
            _ => {}
        }
    }
}
