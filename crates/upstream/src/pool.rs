//! The connections of one thread.
//!
//! A pool is only ever touched between two waits, so it needs no lock, and what is in it was opened on this thread's
//! runtime. A task of that runtime sweeps it while there is something in it.

use crate::endpoint::{Endpoint, Gauge, Level};
use crate::supervision::{Lasting, Slot};
use portcullis_wire::client::{Http1Connection, Http2Connection};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// How long an HTTP/2 connection is used at least though others wait for its place.
const TURN: Duration = Duration::from_millis(100);

/// An HTTP/1 connection and how often it has served.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) connection: Box<Http1Connection>,
    pub(crate) uses: u32,
    pub(crate) _open: Gauge,
    pub(crate) slot: Option<Slot>,
}

impl Kept {
    fn wanted(&self) -> Option<&Arc<Notify>> {
        self.slot.as_ref().and_then(Slot::wanted)
    }
}

#[derive(Debug)]
struct Resting {
    kept: Kept,
    until: Instant,
    _idle: Gauge,
}

/// The HTTP/2 connection that all of a thread's exchanges with one endpoint share.
#[derive(Debug)]
struct Shared {
    connection: Http2Connection,
    generation: u64,
    idle_limit: Duration,
    opened: Instant,
    used: Instant,
    /// Exchanges on it.
    streams: usize,
    /// Held while there are none.
    idle: Option<Gauge>,
    /// What it counts as under caps: it does so until it has ended, which may be after it was let go of here.
    slot: Weak<Slot>,
}

impl Shared {
    /// Whether requests of its upstream wait for a connection.
    fn is_wanted(&self) -> bool {
        self.slot.upgrade().is_some_and(|slot| slot.wanted().is_some())
    }
}

/// What one endpoint has on this thread.
#[derive(Debug)]
struct Shelf {
    owner: Weak<Endpoint>,
    resting: VecDeque<Resting>,
    shared: Option<Shared>,
    opened: u64,
    /// Whoever opens the shared connection holds the one permit.
    opening: Arc<Semaphore>,
    /// Requests of this thread that wait for a connection to rest, or for the place of a shared one.
    waiting: usize,
}

impl Shelf {
    fn new(owner: &Arc<Endpoint>) -> Self {
        Shelf {
            owner: Arc::downgrade(owner),
            resting: VecDeque::new(),
            shared: None,
            opened: 0,
            opening: Arc::new(Semaphore::new(1)),
            waiting: 0,
        }
    }

    /// Drops what is expired, was closed by the other side, or belongs to an endpoint that is no more.
    fn sweep(&mut self, now: Instant) -> bool {
        if self.owner.strong_count() == 0 {
            return false;
        }
        // Where a thread waits for a connection that may not be, one that rests here is in its way.
        self.resting.retain_mut(|resting| {
            resting.until > now && resting.kept.connection.is_quiet() && resting.kept.wanted().is_none()
        });
        self.shared.take_if(|shared| {
            let is_unused = shared.streams == 0 && now.duration_since(shared.used) > shared.idle_limit;
            !shared.connection.is_open() || is_unused
        });
        !self.resting.is_empty()
            || self.shared.is_some()
            || self.opening.available_permits() == 0
            || self.waiting > 0
    }
}

/// Spreads endpoints' ids over a table. They are ours and run on, so that nobody can choose them.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        // Knuth's multiplicative hashing, by 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[derive(Debug, Default)]
struct Pool {
    shelves: HashMap<u64, Shelf, BuildHasherDefault<IdHasher>>,
    swept: bool,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// `None` while the thread is torn down, when there is no pool any more.
fn with<T>(work: impl FnOnce(&mut Pool) -> T) -> Option<T> {
    POOL.try_with(|pool| pool.try_borrow_mut().ok().map(|mut pool| work(&mut pool))).ok().flatten()
}

fn with_shelf<T>(endpoint: &Arc<Endpoint>, work: impl FnOnce(&mut Shelf) -> T) -> Option<T> {
    with(|pool| work(pool.shelves.entry(endpoint.id).or_insert_with(|| Shelf::new(endpoint))))
}

/// The connection that rested last, if one of those that rest is still good.
pub(crate) fn take(endpoint: &Arc<Endpoint>, now: Instant) -> Option<Kept> {
    with(|pool| {
        let shelf = pool.shelves.get_mut(&endpoint.id)?;
        while let Some(mut resting) = shelf.resting.pop_back() {
            if resting.until > now && resting.kept.connection.is_quiet() {
                return Some(resting.kept);
            }
        }
        None
    })
    .flatten()
}

/// Lets a connection rest; the longest resting one goes where there would be too many. One that is in the way of others
/// that wait for a place is closed, unless somebody here waits for it.
pub(crate) fn put(endpoint: &Arc<Endpoint>, kept: Kept, limit: Duration, most: usize) {
    let wanted = kept.wanted().cloned();
    if wanted.is_some() && with_shelf(endpoint, |shelf| shelf.waiting) == Some(0) {
        return;
    }
    let resting = Resting { kept, until: Instant::now() + limit, _idle: endpoint.gauge(Level::Idle) };
    with_shelf(endpoint, |shelf| {
        shelf.resting.push_back(resting);
        while shelf.resting.len() > most {
            shelf.resting.pop_front();
        }
    });
    wanted.iter().for_each(|freed| freed.notify_waiters());
    keep_swept();
}

/// Closes what rests of an upstream's connections on this thread.
pub(crate) fn close_resting(lasting: &Lasting) {
    let is_of = |resting: &Resting| resting.kept.slot.as_ref().is_some_and(|slot| slot.is_of(lasting));
    let rests = |shared: &Shared| {
        shared.streams == 0 && shared.slot.upgrade().is_some_and(|slot| slot.is_of(lasting))
    };
    with(|pool| {
        for shelf in pool.shelves.values_mut() {
            shelf.resting.retain(|resting| !is_of(resting));
            shelf.shared.take_if(|shared| rests(shared));
        }
    });
}

/// One more that waits on this thread for a connection to rest, until it is dropped.
pub(crate) struct Waiting<'a>(&'a Arc<Endpoint>);

impl<'a> Waiting<'a> {
    pub(crate) fn new(endpoint: &'a Arc<Endpoint>) -> Self {
        with_shelf(endpoint, |shelf| shelf.waiting += 1);
        Waiting(endpoint)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        with_shelf(self.0, |shelf| shelf.waiting = shelf.waiting.saturating_sub(1));
    }
}

/// Whether requests of this thread wait for a connection to this endpoint.
pub(crate) fn is_waited_for(endpoint: &Arc<Endpoint>) -> bool {
    with_shelf(endpoint, |shelf| shelf.waiting > 0) == Some(true)
}

/// The shared connection and its generation, if it is open. One that had its turn, and that others wait for, is not begun on
/// any more: it ends with its last exchange.
pub(crate) fn shared(endpoint: &Arc<Endpoint>) -> Option<(Http2Connection, u64)> {
    with_shelf(endpoint, |shelf| {
        shelf.shared.take_if(|shared| {
            !shared.connection.is_open() || (shared.is_wanted() && shared.opened.elapsed() > TURN)
        });
        let shared = shelf.shared.as_mut()?;
        shared.used = Instant::now();
        Some((shared.connection.clone(), shared.generation))
    })
    .flatten()
}

/// Whose one permit the opener of the shared connection holds.
pub(crate) fn opening(endpoint: &Arc<Endpoint>) -> Arc<Semaphore> {
    with_shelf(endpoint, |shelf| Arc::clone(&shelf.opening)).unwrap_or_else(|| Arc::new(Semaphore::new(1)))
}

/// Makes a connection the shared one; returns its generation.
pub(crate) fn share(
    endpoint: &Arc<Endpoint>,
    connection: &Http2Connection,
    slot: Weak<Slot>,
    idle_limit: Duration,
) -> u64 {
    let now = Instant::now();
    let generation = with_shelf(endpoint, |shelf| {
        shelf.opened += 1;
        shelf.shared = Some(Shared {
            connection: connection.clone(),
            generation: shelf.opened,
            idle_limit,
            opened: now,
            used: now,
            streams: 0,
            idle: None,
            slot,
        });
        shelf.opened
    });
    keep_swept();
    generation.unwrap_or_default()
}

/// An exchange begins on the connection of this generation.
pub(crate) fn enter(endpoint: &Arc<Endpoint>, generation: u64) {
    with_shared(endpoint, generation, |shared| {
        shared.streams += 1;
        shared.idle = None;
    });
}

/// An exchange on the connection of this generation has ended. With the last one it rests, or goes where it is in the way of
/// others that wait for a place.
pub(crate) fn leave(endpoint: &Arc<Endpoint>, generation: u64) {
    let is_in_the_way = with_shared(endpoint, generation, |shared| {
        shared.streams = shared.streams.saturating_sub(1);
        if shared.streams > 0 {
            return false;
        }
        shared.used = Instant::now();
        shared.idle = Some(endpoint.gauge(Level::Idle));
        shared.is_wanted()
    });
    if is_in_the_way == Some(true) {
        unshare(endpoint, generation);
    }
}

fn with_shared<T>(
    endpoint: &Arc<Endpoint>,
    generation: u64,
    work: impl FnOnce(&mut Shared) -> T,
) -> Option<T> {
    with(|pool| {
        let shared = pool.shelves.get_mut(&endpoint.id)?.shared.as_mut();
        shared.filter(|shared| shared.generation == generation).map(work)
    })
    .flatten()
}

/// Takes no new exchange to the shared connection of this generation. Those under way go on.
pub(crate) fn unshare(endpoint: &Arc<Endpoint>, generation: u64) {
    with_shelf(endpoint, |shelf| shelf.shared.take_if(|shared| shared.generation == generation));
}

/// Marks the pool as unswept when its sweeper ends, be it with its runtime.
struct Sweeping;

impl Drop for Sweeping {
    fn drop(&mut self) {
        with(|pool| pool.swept = false);
    }
}

fn keep_swept() {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if with(|pool| std::mem::replace(&mut pool.swept, true)) != Some(false) {
        return;
    }
    let sweeping = Sweeping;
    runtime.spawn(async move {
        let _sweeping = sweeping;
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = Instant::now();
            let left = with(|pool| {
                pool.shelves.retain(|_, shelf| shelf.sweep(now));
                !pool.shelves.is_empty()
            });
            if left != Some(true) {
                return;
            }
        }
    });
}
