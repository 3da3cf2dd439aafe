//! Counts in this process: sharded, and never more memory than was said.

use crate::quota::Quota;
use crate::{Clock, Decision, Decisions, Demand, Monotonic, Store, StoreError};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Callers of one set compete for so many places: four cache lines.
const WAYS: usize = 16;

/// Locks; a power of two, so that a request waits for another only by rare chance.
const SHARDS: usize = 64;

/// A [`Store`] in memory.
///
/// It is a table of fixed size, 16 bytes per caller, divided into sets of 16 places; a caller's place is found
/// by a keyed hash that nobody outside can predict. What is kept of a caller is its TAT, and a TAT that has
/// passed says the same as none at all: such a place is free for another, and taking it grants nobody anything.
/// A place whose TAT lies ahead, an active caller's, is never given away. A newcomer that finds all 16 places of
/// its set active is judged by a bucket that it shares with all such newcomers of its limit and shard, so a flood
/// of distinct callers can fill the table and still gains nothing: it shares a few dozen quotas.
///
/// The hash has 64 bits: among a million callers, two share a count with a chance of about 1 in 30 million.
#[derive(Debug)]
pub struct LocalStore<C = Monotonic> {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    clock: C,
    evicted: AtomicU64,
    overflowed: AtomicU64,
}

/// What a [`LocalStore`] has had to do to stay within its memory, since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Places of callers whose count had run out, given to others.
    pub evicted: u64,
    /// Requests judged by a shared bucket because no place was free: if this grows, the table is too small, or
    /// under attack.
    pub overflowed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    caller: u64,
    /// 0 where nobody ever was.
    tat: u64,
}

#[derive(Debug, Default)]
struct Shard {
    sets: Vec<[Entry; WAYS]>,
    /// By the limit's name.
    overflow: HashMap<Box<str>, u64>,
}

/// Where a caller's TAT is, or shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Known,
    Free { used_before: bool },
    Overflow,
}

impl LocalStore {
    /// A store for `callers` at once, rounded up; it takes 16 bytes for each once they come.
    #[must_use]
    pub fn new(callers: usize) -> Self {
        LocalStore::with_clock(callers, Monotonic::default())
    }
}

impl<C: Clock> LocalStore<C> {
    /// As [`LocalStore::new`], by another clock.
    #[must_use]
    pub fn with_clock(callers: usize, clock: C) -> Self {
        let sets = callers.div_ceil(SHARDS * WAYS).max(1);
        let shard = || Shard { sets: vec![[Entry::default(); WAYS]; sets], overflow: HashMap::new() };
        LocalStore {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::new(),
            clock,
            evicted: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        }
    }

    /// What it has had to do to stay within its memory.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            evicted: self.evicted.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
        }
    }

    /// As [`Store::take`], at once.
    pub fn take_now(&self, demands: &[Demand<'_>]) -> Decisions {
        if let [demand] = demands {
            return self.take_one(demand);
        }
        let callers: SmallVec<[Caller<'_>; 4]> = demands.iter().map(|demand| self.caller(demand)).collect();
        // All locks are held while all demands are judged and charged; taken in order, so that none waits in
        // a circle.
        let mut order: SmallVec<[usize; 4]> = callers.iter().map(|caller| caller.shard).collect();
        order.sort_unstable();
        order.dedup();
        let mut locked: SmallVec<[(usize, MutexGuard<'_, Shard>); 4]> = order
            .iter()
            .filter_map(|&at| Some((at, self.shards.get(at)?)))
            .map(|(at, shard)| (at, shard.lock().unwrap_or_else(PoisonError::into_inner)))
            .collect();
        // Read under the locks: a clock read before waiting for them would be in the past of what is found.
        let now = self.clock.now();
        let mut decisions = Decisions::new();
        for (caller, demand) in callers.iter().zip(demands) {
            let Some((_, shard)) = locked.iter_mut().find(|(at, _)| *at == caller.shard) else { continue };
            decisions.push(self.judge(shard, caller, demand, now).decision);
        }
        let admitted = decisions.iter().all(|decision| decision.admitted);
        for ((caller, demand), decision) in callers.iter().zip(demands).zip(&mut decisions) {
            let Some((_, shard)) = locked.iter_mut().find(|(at, _)| *at == caller.shard) else { continue };
            if admitted {
                // Looked for again: the demand before may have taken the place.
                let found = shard.find(caller, now);
                let tat = demand.quota.judge(found.tat, now).1;
                self.charge(shard, caller, found, tat);
            } else if decision.admitted {
                *decision = uncharged(*decision, demand.quota);
            }
        }
        decisions
    }

    /// What most requests ask: one limit, so that nothing comes between judging and charging.
    fn take_one(&self, demand: &Demand<'_>) -> Decisions {
        let caller = self.caller(demand);
        let Some(shard) = self.shards.get(caller.shard) else { return Decisions::new() };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let Judged { decision, found, after } = self.judge(&mut shard, &caller, demand, now);
        if decision.admitted {
            self.charge(&mut shard, &caller, found, after);
        }
        SmallVec::from_iter([decision])
    }

    /// Judges a demand, and keeps what its quota corrects.
    fn judge(&self, shard: &mut Shard, caller: &Caller<'_>, demand: &Demand<'_>, now: u64) -> Judged {
        let found = shard.find(caller, now);
        if found.place == Place::Overflow {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        let (decision, after) = demand.quota.judge(found.tat, now);
        if after < found.tat {
            shard.keep(caller, found, after);
        }
        Judged { decision, found, after }
    }

    fn charge(&self, shard: &mut Shard, caller: &Caller<'_>, found: Found, tat: u64) {
        if found.place == (Place::Free { used_before: true }) {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        shard.keep(caller, found, tat);
    }

    fn caller<'a>(&self, demand: &Demand<'a>) -> Caller<'a> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(demand.limit.as_bytes());
        demand.partition.feed(&mut hasher);
        let hash = hasher.finish();
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        Caller { hash, limit: demand.limit, shard }
    }
}

/// A demand that was admitted but is not charged, because another of the same request was refused: what it
/// would have used is still there.
fn uncharged(decision: Decision, quota: &Quota) -> Decision {
    Decision {
        admitted: true,
        remaining: decision.remaining + 1,
        retry_after: std::time::Duration::ZERO,
        reset_after: decision.reset_after.saturating_sub(quota.interval()),
    }
}

#[derive(Clone, Copy, Debug)]
struct Caller<'a> {
    /// The limit's and the partition's.
    hash: u64,
    limit: &'a str,
    shard: usize,
}

/// Where a caller's TAT is or shall be, and what it is.
#[derive(Clone, Copy, Debug)]
struct Found {
    place: Place,
    set: usize,
    way: usize,
    tat: u64,
}

/// What came of one demand, before it is charged.
struct Judged {
    decision: Decision,
    found: Found,
    /// The TAT to keep if it is.
    after: u64,
}

impl Shard {
    fn find(&self, caller: &Caller<'_>, now: u64) -> Found {
        // The lowest bits chose the shard.
        let sets = self.sets.len().max(1) as u64;
        let set = usize::try_from((caller.hash / SHARDS as u64) % sets).unwrap_or(0);
        let ways = self.sets.get(set).map_or(&[][..], |set| &set[..]);
        let is_known = |(_, entry): &(usize, &Entry)| entry.caller == caller.hash && entry.tat > now;
        if let Some((way, entry)) = ways.iter().enumerate().find(is_known) {
            return Found { place: Place::Known, set, way, tat: entry.tat };
        }
        match ways.iter().enumerate().min_by_key(|(_, entry)| entry.tat) {
            Some((way, entry)) if entry.tat <= now => {
                let used_before = entry.tat != 0 && entry.caller != caller.hash;
                Found { place: Place::Free { used_before }, set, way, tat: 0 }
            }
            _ => {
                let tat = self.overflow.get(caller.limit).copied().unwrap_or(0);
                Found { place: Place::Overflow, set, way: 0, tat }
            }
        }
    }

    fn keep(&mut self, caller: &Caller<'_>, found: Found, tat: u64) {
        if found.place == Place::Overflow {
            match self.overflow.get_mut(caller.limit) {
                Some(shared) => *shared = tat,
                None => {
                    self.overflow.insert(caller.limit.into(), tat);
                }
            }
        } else if let Some(entry) = self.sets.get_mut(found.set).and_then(|set| set.get_mut(found.way)) {
            *entry = Entry { caller: caller.hash, tat };
        }
    }
}

impl<C: Clock> Store for LocalStore<C> {
    async fn take(&self, demands: &[Demand<'_>]) -> Result<Decisions, StoreError> {
        Ok(self.take_now(demands))
    }
}
