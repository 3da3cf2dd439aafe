//! Deadlines that cost nothing while bytes flow.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// A wait for the other side to take what is sent to it. It is too slow once it has taken less than it must within one
/// window of waiting; a trickle does not help.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    wait: Wait,
    /// Bytes that were taken in this window.
    taken: u64,
}

impl Stall {
    /// Nothing waits any more.
    pub(crate) fn end(&mut self) {
        self.wait.end();
        self.taken = 0;
    }

    /// Some was taken: with `least` bytes or more the next wait begins a new window.
    pub(crate) fn took(&mut self, bytes: usize, least: u64) {
        self.taken += bytes as u64;
        if self.taken >= least {
            self.end();
        }
    }

    /// Ready once a window has lasted `limit`. Begins one if none has begun.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        self.wait.poll_expired(cx, limit)
    }
}

/// A deadline on one kind of wait. It runs only while that wait lasts, and the timer wheel is touched only when a
/// wait outlasts the previous registration.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    sleep: Option<Pin<Box<Sleep>>>,
    since: Option<Instant>,
}

impl Wait {
    /// The wait is over.
    pub(crate) fn end(&mut self) {
        self.since = None;
    }

    /// The wait is over; returns how long it lasted.
    pub(crate) fn lap(&mut self) -> Duration {
        self.since.take().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Ready once this wait has lasted `limit`. Begins it if it has not begun.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let due = *self.since.get_or_insert_with(Instant::now) + limit;
        loop {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
            if sleep.deadline().into_std() > due {
                sleep.as_mut().reset(due.into());
            }
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due.into());
        }
    }
}
