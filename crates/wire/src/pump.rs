//! Moving a body from one side to the other.

use crate::{Sink, SinkError, Source};
use portcullis_http::{BodyError, Frame, Held};
use std::task::{Context, Poll, ready};

/// Which side broke, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PumpError {
    /// The side the body comes from.
    Source(BodyError),
    /// The side it goes to.
    Sink(SinkError),
}

/// Moves frames from a [`Source`] to a [`Sink`], one at a time: what the sink does not take is not read from the
/// source.
#[derive(Debug, Default)]
pub struct Pump {
    ended: bool,
    done: bool,
}

impl Pump {
    /// Whether the whole body has been moved.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Moves what can be moved. `each` sees every frame on its way, `None` at the end, and says what goes on in its
    /// place, if anything.
    ///
    /// # Errors
    /// A [`PumpError`]; neither side is to be used for this body again.
    pub fn poll<S: Source, K: Sink>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut K,
        each: &mut impl FnMut(Option<Frame>) -> Result<Option<Frame>, BodyError>,
    ) -> Poll<Result<(), PumpError>> {
        while !self.ended {
            ready!(sink.poll_ready(cx)).map_err(PumpError::Sink)?;
            let frame = match source.poll_frame(cx) {
                Poll::Ready(frame) => frame.transpose().map_err(PumpError::Source)?,
                Poll::Pending => {
                    // What has come so far must not wait for what has not.
                    if let Poll::Ready(Err(error)) = sink.poll_flush(cx) {
                        return Poll::Ready(Err(PumpError::Sink(error)));
                    }
                    return Poll::Pending;
                }
            };
            self.ended = frame.is_none();
            if let Some(frame) = each(frame).map_err(PumpError::Source)? {
                sink.push(frame);
            }
        }
        if !self.done {
            if !self.finished_sink(cx, sink)? {
                return Poll::Pending;
            }
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }

    fn finished_sink<K: Sink>(&mut self, cx: &mut Context<'_>, sink: &mut K) -> Result<bool, PumpError> {
        sink.finish();
        match sink.poll_flush(cx) {
            Poll::Ready(result) => result.map(|()| true).map_err(PumpError::Sink),
            Poll::Pending => Ok(false),
        }
    }
}

/// Reads a body to its end, up to `limit` bytes, each of them held from the process's budget. Trailers are dropped.
///
/// # Errors
/// `Err(None)` when the budget is spent; `Err(Some(BodyError::TooLarge))` over the limit, what was read stays in
/// `into` then; other errors of the body.
pub async fn collect<S: Source>(
    source: &mut S,
    limit: usize,
    held: &mut Held,
    into: &mut Vec<u8>,
) -> Result<(), Option<BodyError>> {
    loop {
        match std::future::poll_fn(|cx| source.poll_frame(cx)).await {
            None => return Ok(()),
            Some(Err(error)) => return Err(Some(error)),
            Some(Ok(Frame::Trailers(_))) => {}
            Some(Ok(Frame::Data(data))) => {
                if !held.grow(data.len()) {
                    return Err(None);
                }
                into.extend_from_slice(&data);
                if into.len() > limit {
                    return Err(Some(BodyError::TooLarge));
                }
            }
        }
    }
}
