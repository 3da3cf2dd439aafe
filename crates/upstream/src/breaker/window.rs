//! The last calls, and how many of them failed or were slow.

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Which calls a breaker judges by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlidingWindow {
    /// So many last calls; 0 counts as 1.
    CountBased(u32),
    /// Those of the last so much time, in ten pieces that leave one by one.
    TimeBased(Duration),
}

/// How a call ended. A call may fail and be slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

/// How many calls, and how many of them failed, were slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) calls: u32,
    pub(crate) failed: u32,
    pub(crate) slow: u32,
}

impl Tally {
    pub(crate) fn add(&mut self, ended: Ended) {
        self.calls += 1;
        self.failed += u32::from(ended.failed);
        self.slow += u32::from(ended.slow);
    }
}

/// Written by many threads without a lock.
#[derive(Debug)]
pub(crate) enum Window {
    Count(Ring),
    Time(Pieces),
}

impl Window {
    pub(crate) fn new(window: SlidingWindow) -> Self {
        match window {
            SlidingWindow::CountBased(calls) => Window::Count(Ring::new(calls)),
            SlidingWindow::TimeBased(span) => Window::Time(Pieces::new(span)),
        }
    }

    pub(crate) fn record(&self, ended: Ended, now: u64) {
        match self {
            Window::Count(ring) => ring.record(ended),
            Window::Time(pieces) => pieces.record(ended, now),
        }
    }

    pub(crate) fn tally(&self, now: u64) -> Tally {
        match self {
            Window::Count(ring) => ring.tally(),
            Window::Time(pieces) => pieces.tally(now),
        }
    }

    /// Forgets all calls.
    pub(crate) fn clear(&self) {
        match self {
            Window::Count(ring) => ring.clear(),
            Window::Time(pieces) => pieces.clear(),
        }
    }
}

const CALLED: u8 = 1;
const FAILED: u8 = 2;
const SLOW: u8 = 4;

/// One byte a call. Sums are kept by what each replacement changes, so that they are right whatever the order in which
/// threads replace, and a success that takes a success's place changes none of them.
#[derive(Debug)]
pub(crate) struct Ring {
    calls: Box<[AtomicU8]>,
    next: AtomicUsize,
    sums: [(u8, AtomicI32); 3],
}

impl Ring {
    fn new(calls: u32) -> Self {
        Ring {
            calls: (0..calls.max(1)).map(|_| AtomicU8::new(0)).collect(),
            next: AtomicUsize::new(0),
            sums: [CALLED, FAILED, SLOW].map(|kind| (kind, AtomicI32::new(0))),
        }
    }

    fn record(&self, ended: Ended) {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        let call = CALLED | if ended.failed { FAILED } else { 0 } | if ended.slow { SLOW } else { 0 };
        if let Some(slot) = at.checked_rem(self.calls.len()).and_then(|at| self.calls.get(at)) {
            self.replace(slot, call);
        }
    }

    fn replace(&self, slot: &AtomicU8, new: u8) {
        let old = slot.swap(new, Ordering::Relaxed);
        if old == new {
            return;
        }
        for (kind, sum) in &self.sums {
            let change = i32::from(new & kind != 0) - i32::from(old & kind != 0);
            if change != 0 {
                sum.fetch_add(change, Ordering::Relaxed);
            }
        }
    }

    fn tally(&self) -> Tally {
        // Between a replacement and its sums another thread may read less than nothing.
        let [calls, failed, slow] =
            self.sums.each_ref().map(|(_, sum)| u32::try_from(sum.load(Ordering::Relaxed)).unwrap_or(0));
        Tally { calls, failed, slow }
    }

    fn clear(&self) {
        for slot in &self.calls {
            self.replace(slot, 0);
        }
    }
}

/// Pieces of a time-based window.
const PIECES: u64 = 10;

/// The calls of one piece of time.
#[derive(Debug, Default)]
struct Piece {
    /// Which piece of time, plus one; 0 for none.
    number: AtomicU64,
    calls: AtomicU32,
    failed: AtomicU32,
    slow: AtomicU32,
}

/// A circle of pieces of time. A piece begins when its first call ends.
#[derive(Debug)]
pub(crate) struct Pieces {
    pieces: Box<[Piece]>,
    /// In milliseconds.
    length: u64,
    /// Whoever begins a piece.
    beginning: Mutex<()>,
}

impl Pieces {
    fn new(span: Duration) -> Self {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Pieces {
            pieces: (0..PIECES).map(|_| Piece::default()).collect(),
            length: (span / PIECES).max(1),
            beginning: Mutex::default(),
        }
    }

    fn number(&self, now: u64) -> u64 {
        now / self.length + 1
    }

    fn record(&self, ended: Ended, now: u64) {
        let number = self.number(now);
        let Some(piece) = usize::try_from(number % PIECES).ok().and_then(|at| self.pieces.get(at)) else {
            return;
        };
        // Acquire: whoever sees the number sees the counts at zero, too.
        if piece.number.load(Ordering::Acquire) < number {
            let _beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
            if piece.number.load(Ordering::Relaxed) < number {
                for count in [&piece.calls, &piece.failed, &piece.slow] {
                    count.store(0, Ordering::Relaxed);
                }
                piece.number.store(number, Ordering::Release);
            }
        }
        piece.calls.fetch_add(1, Ordering::Relaxed);
        if ended.failed {
            piece.failed.fetch_add(1, Ordering::Relaxed);
        }
        if ended.slow {
            piece.slow.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tally(&self, now: u64) -> Tally {
        let number = self.number(now);
        let is_in = |piece: &&Piece| {
            let its = piece.number.load(Ordering::Acquire);
            its != 0 && its <= number && number - its < PIECES
        };
        self.pieces.iter().filter(is_in).fold(Tally::default(), |sum, piece| Tally {
            calls: sum.calls.saturating_add(piece.calls.load(Ordering::Relaxed)),
            failed: sum.failed.saturating_add(piece.failed.load(Ordering::Relaxed)),
            slow: sum.slow.saturating_add(piece.slow.load(Ordering::Relaxed)),
        })
    }

    fn clear(&self) {
        let _beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in &self.pieces {
            piece.number.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn call() -> impl Strategy<Value = Ended> {
        (any::<bool>(), any::<bool>()).prop_map(|(failed, slow)| Ended { failed, slow })
    }

    fn sum<'a>(calls: impl Iterator<Item = &'a Ended>) -> Tally {
        calls.fold(Tally::default(), |mut tally, ended| {
            tally.add(*ended);
            tally
        })
    }

    proptest! {
        #[test]
        fn a_ring_counts_the_last_calls(size in 1u32..40, calls in proptest::collection::vec(call(), 0..200), clear in 0usize..200) {
            let window = Window::new(SlidingWindow::CountBased(size));
            let mut naive = VecDeque::new();
            for (at, ended) in calls.into_iter().enumerate() {
                if at == clear {
                    window.clear();
                    naive.clear();
                }
                window.record(ended, 0);
                naive.push_back(ended);
                if naive.len() > size as usize {
                    naive.pop_front();
                }
                prop_assert_eq!(window.tally(0), sum(naive.iter()));
            }
        }

        #[test]
        fn pieces_count_the_last_of_time(
            length in 1u64..500,
            calls in proptest::collection::vec((call(), 0u64..400), 0..200),
        ) {
            let window = Window::new(SlidingWindow::TimeBased(Duration::from_millis(length * PIECES)));
            let (mut now, mut naive) = (0, Vec::new());
            for (ended, wait) in calls {
                now += wait;
                // Of the ten pieces that end with the present one.
                naive.retain(|(_, when): &(Ended, u64)| now / length - when / length < PIECES);
                prop_assert_eq!(window.tally(now), sum(naive.iter().map(|(ended, _)| ended)));
                window.record(ended, now);
                naive.push((ended, now));
                prop_assert_eq!(window.tally(now), sum(naive.iter().map(|(ended, _)| ended)));
            }
            window.clear();
            prop_assert_eq!(window.tally(now), Tally::default());
        }
    }

    #[test]
    fn no_call_is_lost_among_threads() {
        for window in [SlidingWindow::CountBased(1000), SlidingWindow::TimeBased(Duration::from_secs(10))] {
            let window = Window::new(window);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let window = &window;
                    scope.spawn(move || {
                        for number in 0..250 {
                            let ended = Ended { failed: number % 2 == 0, slow: thread == 0 };
                            window.record(ended, 5);
                        }
                    });
                }
            });
            assert_eq!(window.tally(5), Tally { calls: 1000, failed: 500, slow: 250 });
        }
    }
}
