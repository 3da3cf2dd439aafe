//! How many at the same time.

use crate::{Key, Partition};
use portcullis_http::{Exchange, Rejection};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

const SHARDS: usize = 16;

/// At most so many requests of one caller in flight. What it keeps is one number per caller that has a request
/// in flight, so its memory is bounded by the number of requests. Clones share the count.
///
/// ```
/// use portcullis_limits::{Concurrency, Key, Partition};
///
/// let limit = Concurrency::new(Key::Address, 1);
/// let caller = Partition::Address("192.0.2.1".parse().unwrap());
/// let slot = limit.enter_as(&caller).unwrap();
/// assert!(limit.enter_as(&caller).is_none());
/// drop(slot);
/// assert!(limit.enter_as(&caller).is_some());
/// ```
#[derive(Clone, Debug)]
pub struct Concurrency {
    key: Key,
    max: u32,
    counts: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    shards: [Mutex<HashMap<u64, u32>>; SHARDS],
    hasher: RandomState,
}

/// A place taken; dropping it gives it back, however the request ends.
#[derive(Debug)]
pub struct Slot {
    counts: Arc<Counts>,
    caller: u64,
}

impl Concurrency {
    /// At most `max` requests in flight per partition of `key`; 0 lets none pass.
    #[must_use]
    pub fn new(key: Key, max: u32) -> Self {
        let counts = Counts { shards: Default::default(), hasher: RandomState::new() };
        Concurrency { key, max, counts: Arc::new(counts) }
    }

    /// The same limit with another key or maximum and the same counts: what a reload makes, so that slots taken
    /// before it still count.
    #[must_use]
    pub fn retuned(&self, key: Key, max: u32) -> Self {
        Concurrency { key, max, counts: Arc::clone(&self.counts) }
    }

    /// Takes a place for the exchange, to be held until its answer is sent.
    ///
    /// # Errors
    /// [`Rejection::RateLimited`], to be tried again after a second, where the caller has `max` already.
    pub fn enter(&self, exchange: &Exchange) -> Result<Slot, Rejection> {
        self.enter_as(&self.key.of(exchange)).ok_or(Rejection::RateLimited { retry_after: 1 })
    }

    /// Takes a place for a partition; `None` where it has `max` already.
    #[must_use]
    pub fn enter_as(&self, partition: &Partition<'_>) -> Option<Slot> {
        let caller = self.counts.hasher.hash_one(partition);
        let mut shard = self.counts.shard(caller)?.lock().unwrap_or_else(PoisonError::into_inner);
        match shard.entry(caller) {
            Entry::Occupied(mut count) if *count.get() < self.max => *count.get_mut() += 1,
            Entry::Vacant(place) if self.max > 0 => {
                place.insert(1);
            }
            _ => return None,
        }
        drop(shard);
        Some(Slot { counts: Arc::clone(&self.counts), caller })
    }

    /// Places taken now, by all callers together.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let sum = |shard: &Mutex<HashMap<u64, u32>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().map(|&count| u64::from(count)).sum::<u64>()
        };
        self.counts.shards.iter().map(sum).sum()
    }
}

impl Counts {
    fn shard(&self, caller: u64) -> Option<&Mutex<HashMap<u64, u32>>> {
        usize::try_from(caller % SHARDS as u64).ok().and_then(|at| self.shards.get(at))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(shard) = self.counts.shard(self.caller) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = shard.entry(self.caller) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
