//! What is known of a connection's streams on both sides of hyper.
//!
//! hyper takes an answer's end and tells nobody when the client has taken it. The guard in front of the socket sees both:
//! an exchange is over when its last frame has left, and a client that takes nothing of it loses the stream, not the
//! connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
struct Stream {
    /// Bytes of its answer that have left.
    sent: u64,
    /// Nothing more will leave.
    over: bool,
    waiting: Option<Waker>,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<u32, Stream>,
    /// Those that are to be reset.
    stalled: Vec<u32>,
    /// The client is to go.
    flooded: bool,
    /// Who sees to both.
    reader: Option<Waker>,
    gone: bool,
}

/// What the guard is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Have this stream reset.
    Reset(u32),
    /// End the connection.
    Dismiss,
}

/// The streams of one connection that have an answer under way. The lock is never held across a wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Arc<Mutex<State>>);

impl Streams {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a stream from now on.
    pub(super) fn watch(&self, number: u32) -> Watched {
        self.lock().streams.insert(number, Stream::default());
        Watched { streams: self.clone(), number }
    }

    /// So many bytes of the stream's answer leave, perhaps its last.
    pub(super) fn sent(&self, number: u32, bytes: u32, last: bool) {
        if let Some(stream) = self.lock().streams.get_mut(&number) {
            stream.sent += u64::from(bytes);
            stream.over |= last;
            if last && let Some(waiting) = stream.waiting.take() {
                waiting.wake();
            }
        }
    }

    /// Nothing more leaves on any.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.gone = true;
        state.streams.values_mut().filter_map(|stream| stream.waiting.take()).for_each(Waker::wake);
    }

    /// Has the client dismissed.
    pub(super) fn flood(&self) {
        let mut state = self.lock();
        state.flooded = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// What is to be done next.
    pub(super) fn poll_order(&self, cx: &mut Context<'_>) -> Poll<Order> {
        let mut state = self.lock();
        if state.flooded {
            return Poll::Ready(Order::Dismiss);
        }
        if let Some(number) = state.stalled.pop() {
            return Poll::Ready(Order::Reset(number));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A stream whose answer is under way.
#[derive(Debug)]
pub(super) struct Watched {
    streams: Streams,
    number: u32,
}

impl Watched {
    /// Ready when the last frame has left, or none will any more.
    pub(super) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.streams.lock();
        let gone = state.gone;
        match state.streams.get_mut(&self.number) {
            Some(stream) if !stream.over && !gone => {
                stream.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Bytes of the answer that have left.
    pub(super) fn sent(&self) -> u64 {
        self.streams.lock().streams.get(&self.number).map_or(0, |stream| stream.sent)
    }

    /// Has the stream reset.
    pub(super) fn reset(&self) {
        let mut state = self.streams.lock();
        state.stalled.push(self.number);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.streams.lock().streams.remove(&self.number);
    }
}
