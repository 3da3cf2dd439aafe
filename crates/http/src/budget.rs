//! One account for every byte of body that the process holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A process-wide allowance of buffered bytes. When it is spent, new bodies are refused and nothing dies.
///
/// ```
/// use portcullis_http::Budget;
///
/// let budget = Budget::new(10);
/// let held = budget.hold(8).unwrap();
/// assert!(budget.hold(3).is_none());
/// drop(held);
/// assert_eq!(budget.used(), 0);
/// ```
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    used: AtomicUsize,
    closed: AtomicBool,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Budget(Arc::new(Account { limit, used: AtomicUsize::new(0), closed: AtomicBool::new(false) }))
    }

    /// Takes `bytes` from the budget until the answer is dropped; `None` when they are not to be had.
    #[must_use]
    pub fn hold(&self, bytes: usize) -> Option<Held> {
        if self.0.closed.load(Ordering::Relaxed) {
            return None;
        }
        let mut held = Held { budget: self.clone(), bytes: 0 };
        held.grow(bytes).then_some(held)
    }

    /// Lets nobody begin to hold bytes, or everybody again. Whoever holds some already may hold more.
    pub fn close(&self, closed: bool) {
        self.0.closed.store(closed, Ordering::Relaxed);
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

/// Bytes taken from a [`Budget`]; dropping gives them back.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Held {
    /// Takes `more` bytes; `false`, and nothing taken, when they are not to be had.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let Account { limit, used, .. } = &*self.budget.0;
        let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            now.checked_add(more).filter(|sum| sum <= limit)
        });
        if taken.is_ok() {
            self.bytes += more;
        }
        taken.is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
