//! What both sides of an exchange can do, whatever protocol they speak.

use portcullis_http::{BodyError, Frame, Rejection, RequestHead, ResponseHead, UpstreamFailure};
use std::future::Future;
use std::task::{Context, Poll};

/// Where a body comes from.
pub trait Source {
    /// The next frame; `None` at the body's proper end. After an error or the end it is not polled again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;
}

/// Why a body cannot be sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkError {
    /// The other side is gone.
    Closed,
    /// It takes nothing any more.
    Timeout,
    /// More or fewer bytes were pushed than the head announced; the message cannot be ended properly.
    Length,
}

/// Where a body goes.
pub trait Sink {
    /// Ready when the next frame may be pushed: what was pushed before has left, or nearly so.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>>;
    /// Takes a frame. Only after [`Sink::poll_ready`].
    fn push(&mut self, frame: Frame);
    /// Ends the body properly.
    fn finish(&mut self);
    /// Ready when all that was pushed has left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>>;
}

/// The client's side of one exchange: its request's body, and the way for the answer.
pub trait Downstream: Source + Sink + Send {
    /// Begins the answer. Its framing says what body will be pushed; a body pushed to an answer that cannot have
    /// one (to HEAD, 204, 304) is discarded.
    fn start(&mut self, head: &ResponseHead);
    /// Begins the answer that grants the request's upgrade. From then on source and sink carry the bytes of that
    /// protocol; either may be silent for any time, so that whoever drives them needs a deadline for both.
    fn switch(&mut self, head: &ResponseHead);
    /// Whether the answer was begun.
    fn started(&self) -> bool;
    /// The connection ends with this answer.
    fn close_after(&mut self);
    /// The answer cannot be ended properly: the client must notice that it is cut short.
    fn abort(&mut self);
    /// Ready when the client has gone away. Says so at the latest when something is sent to it.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// An upstream's side of one exchange: the way for the request's body, and the answer.
pub trait Call: Source + Sink + Send {
    /// The answer's head. Interim answers (1xx) are swallowed, up to a cap. 101 comes only where the request asked for
    /// an upgrade and the answer grants it; from then on source and sink carry the bytes of that protocol.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), UpstreamFailure>>;
}

/// What a listener hands requests to.
pub trait Service: Clone + Send + Sync + 'static {
    /// Answers one request. The exchange is over when it returns.
    fn call<D: Downstream>(&self, head: RequestHead, downstream: &mut D) -> impl Future<Output = ()> + Send;
    /// Answers a request that could not be read. `head` holds what was read of it.
    fn refuse<D: Downstream>(
        &self,
        head: RequestHead,
        why: Rejection,
        downstream: &mut D,
    ) -> impl Future<Output = ()> + Send;
}
