//! Log lines on their way to standard error, off the request path.

use crate::Metrics;
use prometheus::IntCounter;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of lines that wait at most when nothing else is said.
pub const DEFAULT_CAPACITY: usize = 4 << 20;

/// How long the thread waits for more lines behind the first: to be woken for each of them would cost a busy gateway
/// more than writing them does.
const GATHER: Duration = Duration::from_millis(2);

/// What a buffer keeps of its memory after a burst.
const KEPT: usize = 256 << 10;

/// A bounded queue of lines and the thread that writes them. Lines are copied into one buffer which the
/// thread takes as a whole: a busy gateway pays one system call for many lines and allocates for none. When
/// the sink is slower than the lines come, or fails, lines are dropped and counted
/// (`portcullis_log_lines_dropped_total`); nobody waits for a log.
///
/// Clones share the queue. The thread ends once the last clone is dropped and all lines are written.
#[derive(Clone, Debug)]
pub struct LogQueue(Arc<Owner>);

/// Closes the queue when the last handle goes.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.filled.notify_one();
        self.0.hurry.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    /// Ends the gathering: the buffer fills up, or somebody waits for it to be written.
    hurry: Condvar,
    drained: Condvar,
    capacity: usize,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    lines: u64,
    writing: bool,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogQueue {
    /// Starts the thread that writes to `sink`; `capacity` in bytes.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(sink: impl Write + Send + 'static, capacity: usize, metrics: &Metrics) -> io::Result<Self> {
        Self::counting(sink, capacity, metrics.log_dropped())
    }

    /// As [`LogQueue::start`]; what is dropped is counted by `dropped`.
    pub(crate) fn counting(
        sink: impl Write + Send + 'static,
        capacity: usize,
        dropped: IntCounter,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            hurry: Condvar::new(),
            drained: Condvar::new(),
            capacity,
            dropped,
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&theirs, sink))?;
        Ok(LogQueue(Arc::new(Owner(shared))))
    }

    /// Queues a line, its line feed included; drops and counts it when there is no room.
    pub fn push(&self, line: &[u8]) {
        let shared = &*self.0.0;
        let mut state = shared.lock();
        if state.pending.len() + line.len() > shared.capacity {
            drop(state);
            shared.dropped.inc();
            return;
        }
        let idle = state.lines == 0 && !state.writing;
        let half = shared.capacity / 2;
        let filling = state.pending.len() < half && state.pending.len() + line.len() >= half;
        state.pending.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        if idle {
            shared.filled.notify_one();
        }
        if filling {
            shared.hurry.notify_one();
        }
    }

    /// Whether there is another handle of it.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Waits until all lines queued so far are written, or `patience` is over; whether they are.
    #[must_use]
    pub fn flush(&self, patience: Duration) -> bool {
        let shared = &*self.0.0;
        let deadline = Instant::now() + patience;
        let mut state = shared.lock();
        shared.hurry.notify_one();
        while state.lines > 0 || state.writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = shared.drained.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

fn write_lines(shared: &Shared, mut sink: impl Write) {
    let mut batch = Vec::new();
    let mut state = shared.lock();
    loop {
        while state.lines == 0 {
            if state.closed {
                return;
            }
            state = shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.closed {
            let gathered = shared.hurry.wait_timeout(state, GATHER);
            state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.pending, &mut batch);
        let lines = std::mem::take(&mut state.lines);
        state.writing = true;
        drop(state);

        if sink.write_all(&batch).and_then(|()| sink.flush()).is_err() {
            shared.dropped.inc_by(lines);
        }
        batch.clear();
        batch.shrink_to(KEPT);

        state = shared.lock();
        state.writing = false;
        if state.lines == 0 {
            shared.drained.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BuildInfo;
    use std::sync::mpsc;

    fn metrics() -> Metrics {
        Metrics::new(BuildInfo { version: "0", rustc: "0" }).unwrap()
    }

    /// A sink that hands over what it gets, each write only after a go.
    struct Gated(mpsc::Sender<Vec<u8>>, mpsc::Receiver<()>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.recv().map_err(io::Error::other)?;
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated(capacity: usize) -> (Metrics, LogQueue, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
        let metrics = metrics();
        let (written, lines) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let queue = LogQueue::start(Gated(written, gate), capacity, &metrics).unwrap();
        (metrics, queue, lines, go)
    }

    #[test]
    fn a_stuck_sink_holds_nobody_up_and_is_counted() {
        let (metrics, queue, lines, go) = gated(100);
        queue.push(b"first\n");
        for _ in 0..1000 {
            queue.push(b"0123456789\n");
        }
        assert!(!queue.flush(Duration::ZERO));
        let dropped = metrics.log_dropped().get();
        assert!(dropped >= 1000 - 2 * (100 / 11), "{dropped}");
        drop(queue);
        for _ in 0..2 {
            // One batch or two, by when the thread woke up.
            let _ = go.send(());
        }
        let all: Vec<u8> = lines.into_iter().flatten().collect();
        assert!(all.starts_with(b"first\n") && all.ends_with(b"\n"));
        assert_eq!(all.iter().filter(|b| **b == b'\n').count() as u64, 1001 - dropped);
    }

    #[test]
    fn d8_a_failing_sink_is_counted() {
        let metrics = metrics();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let queue = LogQueue::start(full, 1000, &metrics).unwrap();
        for _ in 0..10 {
            queue.push(b"x\n");
        }
        assert!(queue.flush(Duration::from_secs(60)));
        assert_eq!(metrics.log_dropped().get(), 10);
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let metrics = metrics();
        let path = tempfile::NamedTempFile::new().unwrap();
        let queue = LogQueue::start(path.reopen().unwrap(), DEFAULT_CAPACITY, &metrics).unwrap();
        thread::scope(|scope| {
            for id in 0..4 {
                let queue = &queue;
                scope.spawn(move || (0..1000).for_each(|n| queue.push(format!("{id} {n} end\n").as_bytes())));
            }
        });
        assert!(queue.flush(Duration::from_secs(60)));
        let text = std::fs::read_to_string(path.path()).unwrap();
        assert_eq!(text.lines().count(), 4000);
        for id in 0..4 {
            let of_one = text.lines().filter(|l| l.starts_with(&format!("{id} ")));
            assert!(of_one.eq((0..1000).map(|n| format!("{id} {n} end"))), "in order");
        }
    }
}
