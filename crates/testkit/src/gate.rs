//! A door in a script, for tests of order that do without clocks.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Holds a script back until the test opens it. Clones are the same gate.
///
/// ```
/// let gate = portcullis_testkit::Gate::default();
/// let waiting = gate.clone();
/// let thread = std::thread::spawn(move || waiting.wait());
/// gate.open();
/// assert!(thread.join().unwrap());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

/// How long a script waits at most, so that a failing test ends.
const PATIENCE: Duration = Duration::from_secs(60);

impl Gate {
    /// Lets everyone pass, now and later.
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open; `false` when a minute has passed.
    #[must_use]
    pub fn wait(&self) -> bool {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
