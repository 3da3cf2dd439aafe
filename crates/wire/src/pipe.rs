//! A body that one task pushes and hyper pulls.

use crate::SinkError;
use bytes::Bytes;
use http_body::SizeHint;
use portcullis_http::{BodyError, Fields, Frame, push_decimal};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct State {
    frame: Option<Frame>,
    /// The one behind it. With room for it whoever pushes learns that nothing follows before the first is pulled, so
    /// that the last piece of a body can say so itself.
    next: Option<Frame>,
    /// What is left to pull of a body of known length.
    length: Option<u64>,
    /// What is left to push of it.
    unpushed: Option<u64>,
    finished: bool,
    aborted: bool,
    receiver_gone: bool,
    /// Who waits for frames to be pulled.
    sender: Option<Waker>,
    /// Who waits for the other end to be gone, and for nothing else.
    watcher: Option<Waker>,
    receiver: Option<Waker>,
}

/// Both ends share one slot; the lock is never held across a wait.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pushing end. Dropped before [`PipeSink::finish`], it aborts the body.
pub(crate) struct PipeSink(Shared);

/// The pulling end, a body in hyper's sense.
pub(crate) struct PipeBody(Shared);

/// A pipe that holds two frames. `length` is the body's, where it is known.
pub(crate) fn pipe(length: Option<u64>) -> (PipeSink, PipeBody) {
    let shared = Shared::default();
    {
        let mut state = shared.lock();
        (state.length, state.unpushed) = (length, length);
    }
    (PipeSink(shared.clone()), PipeBody(shared))
}

impl PipeSink {
    /// Ready when there is room for a frame.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_until(cx, |state| state.next.is_none())
    }

    /// Ready when all that was pushed was pulled.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_until(cx, |state| state.frame.is_none())
    }

    fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        is_ready: impl FnOnce(&State) -> bool,
    ) -> Poll<Result<(), SinkError>> {
        let mut state = self.0.lock();
        if state.receiver_gone {
            return Poll::Ready(Err(SinkError::Closed));
        }
        if is_ready(&state) {
            return Poll::Ready(Ok(()));
        }
        state.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn push(&mut self, frame: Frame) {
        let mut state = self.0.lock();
        if let (Frame::Data(data), Some(left)) = (&frame, state.unpushed) {
            // More than was announced: the body cannot be ended properly.
            state.unpushed = left.checked_sub(data.len() as u64);
            state.aborted |= state.unpushed.is_none();
        }
        if !state.aborted {
            let place = if state.frame.is_none() { &mut state.frame } else { &mut state.next };
            *place = Some(frame);
        }
        wake(state.receiver.take());
    }

    pub(crate) fn finish(&mut self) {
        let mut state = self.0.lock();
        // Nor can one of which some is missing.
        state.aborted |= state.unpushed.is_some_and(|left| left > 0);
        state.finished = true;
        wake(state.receiver.take());
    }

    pub(crate) fn abort(&mut self) {
        let mut state = self.0.lock();
        state.aborted |= !state.finished;
        wake(state.receiver.take());
    }

    /// Ready when the other end was dropped before the body's end.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.receiver_gone {
            return Poll::Ready(());
        }
        state.watcher = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for PipeSink {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        // Whoever has had all of a body may let go of it before that was said.
        state.receiver_gone = !state.finished || state.frame.is_some();
        wake(state.sender.take());
        wake(state.watcher.take());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl http_body::Body for PipeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let mut state = self.0.lock();
        if let Some(frame) = state.frame.take() {
            state.frame = state.next.take();
            wake(state.sender.take());
            match &frame {
                Frame::Data(data) => {
                    if let Some(length) = &mut state.length {
                        *length = length.saturating_sub(data.len() as u64);
                    }
                }
                // Nothing can follow.
                Frame::Trailers(_) => state.finished = true,
            }
            return Poll::Ready(Some(Ok(match frame {
                Frame::Data(data) => http_body::Frame::data(data),
                Frame::Trailers(fields) => http_body::Frame::trailers(to_map(&fields, None)),
            })));
        }
        if state.aborted {
            return Poll::Ready(Some(Err(BodyError::Incomplete)));
        }
        if state.finished {
            return Poll::Ready(None);
        }
        state.receiver = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.lock();
        state.frame.is_none() && state.finished && !state.aborted
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A field whose value is another in each answer: in HPACK's table it would only be in the way.
static REQUEST_ID: http::HeaderName = http::HeaderName::from_static("x-request-id");
/// Fields that hyper may add to ours.
const ADDED: usize = 2;
/// Digits of a length at most.
const DIGITS: usize = 20;

/// Our fields as hyper's map, and a `content-length` where one is given. All were checked when they were appended, so none
/// is lost here.
pub(crate) fn to_map(fields: &Fields, length: Option<u64>) -> http::HeaderMap {
    let mut map = http::HeaderMap::with_capacity(fields.len() + ADDED);
    // One allocation for all values; names that are not well known have their own.
    let mut values = Vec::with_capacity(fields.size() + DIGITS);
    for (_, value) in fields.iter() {
        values.extend_from_slice(value);
    }
    if let Some(length) = length {
        push_decimal(length, &mut values);
    }
    let mut values = Bytes::from(values);
    for (name, value) in fields.iter() {
        let Ok(mut value) = http::HeaderValue::from_maybe_shared(values.split_to(value.len())) else {
            continue;
        };
        if name == REQUEST_ID.as_str().as_bytes() {
            value.set_sensitive(true);
            map.append(REQUEST_ID.clone(), value);
        } else if let Ok(name) = http::HeaderName::from_bytes(name) {
            map.append(name, value);
        }
    }
    if length.is_some()
        && let Ok(length) = http::HeaderValue::from_maybe_shared(values)
    {
        map.insert(http::header::CONTENT_LENGTH, length);
    }
    map
}

/// hyper's fields as ours; `None` where one is none of HTTP/1's.
pub(crate) fn from_map(map: &http::HeaderMap) -> Option<Fields> {
    let mut fields = Fields::default();
    map.iter().try_for_each(|(name, value)| fields.append(name.as_str(), value.as_bytes())).ok()?;
    Some(fields)
}
