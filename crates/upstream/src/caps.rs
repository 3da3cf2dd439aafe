//! Caps on what an upstream is asked to bear at once: Envoy's circuit breakers.
//!
//! A cap is exact among threads: there are never more than it allows, though at the very moment that others are refused
//! one more may be. What counts outlives a reload; what it is compared with does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What an upstream, or one endpoint, may be asked to bear at once; `None` is no cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Open connections, idle ones among them, over all threads.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection since there may be no more.
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    pub max_requests: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
}

/// Which cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cap {
    /// [`Caps::max_connections`].
    Connections,
    /// [`Caps::max_pending_requests`].
    Pending,
    /// [`Caps::max_requests`].
    Requests,
    /// [`Caps::max_retries`].
    Retries,
}

impl Cap {
    /// All of them.
    pub const ALL: [Cap; 4] = [Cap::Connections, Cap::Pending, Cap::Requests, Cap::Retries];

    /// Its name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cap::Connections => "connections",
            Cap::Pending => "pending",
            Cap::Requests => "requests",
            Cap::Retries => "retries",
        }
    }
}

impl Caps {
    fn of(&self, cap: Cap) -> Option<u32> {
        match cap {
            Cap::Connections => self.max_connections,
            Cap::Pending => self.max_pending_requests,
            Cap::Requests => self.max_requests,
            Cap::Retries => self.max_retries,
        }
    }
}

#[derive(Debug, Default)]
struct Count {
    now: AtomicU32,
    overflows: AtomicU64,
}

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Load {
    connections: Count,
    pending: Count,
    requests: Count,
    retries: Count,
}

impl Load {
    fn of(&self, cap: Cap) -> &Count {
        match cap {
            Cap::Connections => &self.connections,
            Cap::Pending => &self.pending,
            Cap::Requests => &self.requests,
            Cap::Retries => &self.retries,
        }
    }

    /// One more until the returned is dropped, unless the cap is reached.
    pub(crate) fn take(self: &Arc<Self>, cap: Cap, caps: &Caps) -> Option<Taken> {
        let taken = self.try_take(cap, caps);
        if taken.is_none() {
            self.note_overflow(cap);
        }
        taken
    }

    /// The same, for one that tries again: it is no overflow that the cap is reached.
    pub(crate) fn try_take(self: &Arc<Self>, cap: Cap, caps: &Caps) -> Option<Taken> {
        let count = self.of(cap);
        let before = count.now.fetch_add(1, Ordering::AcqRel);
        if caps.of(cap).is_some_and(|most| before >= most) {
            count.now.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Taken { load: Arc::clone(self), cap })
    }

    /// A cap was in the way.
    pub(crate) fn note_overflow(&self, cap: Cap) {
        self.of(cap).overflows.fetch_add(1, Ordering::Relaxed);
    }

    /// How many now.
    pub(crate) fn now(&self, cap: Cap) -> u32 {
        self.of(cap).now.load(Ordering::Relaxed)
    }

    /// How often the cap was in the way so far.
    pub(crate) fn overflows(&self, cap: Cap) -> u64 {
        self.of(cap).overflows.load(Ordering::Relaxed)
    }
}

/// One that counts.
#[derive(Debug)]
pub(crate) struct Taken {
    load: Arc<Load>,
    cap: Cap,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.load.of(self.cap).now.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_holds_until_something_ends() {
        let load = Arc::new(Load::default());
        let caps = Caps { max_requests: Some(2), ..Caps::default() };
        let first = load.take(Cap::Requests, &caps).unwrap();
        let _second = load.take(Cap::Requests, &caps).unwrap();
        assert!(load.take(Cap::Requests, &caps).is_none());
        assert_eq!((load.now(Cap::Requests), load.overflows(Cap::Requests)), (2, 1));
        drop(first);
        assert!(load.take(Cap::Requests, &caps).is_some());
        assert!(load.take(Cap::Retries, &caps).is_some(), "no cap");
        let none = Caps { max_retries: Some(0), ..Caps::default() };
        assert!(load.take(Cap::Retries, &none).is_none());
    }

    #[test]
    fn never_more_than_allowed_among_threads() {
        let load = Arc::new(Load::default());
        let caps = Caps { max_pending_requests: Some(3), ..Caps::default() };
        let (held, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let Some(taken) = load.take(Cap::Pending, &caps) else { continue };
                        most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        held.fetch_sub(1, Ordering::SeqCst);
                        drop(taken);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(load.now(Cap::Pending), 0);
    }
}
