//! Choosing among the endpoints of one priority.

use super::hash::hash_key;
use super::priority::WHOLE;
use super::ring::{Owner, Ring};
use super::turns;
use crate::members::Member;
use crate::{Balance, condition};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How often one is looked for at random before all are walked.
const PROBES: usize = 8;
/// Points of a ring that one request passes at most. With a factor of 1.25 a fifth of all that can be had has room: where
/// even one in twenty can be had, so long a walk finds nobody once in 10^17 times.
const MAX_WALK: usize = 4096;

/// The endpoints of one priority.
#[derive(Debug)]
pub(super) struct Level {
    /// Indices of members.
    list: Box<[u32]>,
    /// One round of turns, as indices of members.
    turns: Box<[u32]>,
    next: AtomicUsize,
    weight: u64,
    /// Whether all weights are the same.
    is_even: bool,
    /// Empty where the balance is not by hash.
    ring: Ring,
}

/// What a choice goes by.
pub(super) struct Call<'a> {
    pub(super) balance: Balance,
    pub(super) members: &'a [Member],
    pub(super) hash: Option<u64>,
    /// Requests of the upstream that are under way.
    pub(super) in_flight: usize,
    /// The weight of this level that can be had, and its share of all requests.
    pub(super) share: Option<(u64, u32)>,
}

impl Call<'_> {
    fn weight(&self, index: usize) -> u64 {
        self.members.get(index).map_or(1, |member| u64::from(member.weight))
    }

    fn load(&self, index: usize) -> u64 {
        self.members.get(index).map_or(u64::MAX, |member| member.endpoint.in_flight() as u64)
    }
}

impl Level {
    pub(super) fn new(balance: Balance, members: &[Member], list: Vec<u32>) -> Self {
        let member = |index: &u32| members.get(*index as usize);
        let weights: Vec<u64> =
            list.iter().filter_map(member).map(|member| u64::from(member.weight)).collect();
        let owner = |index: &u32| {
            let member = member(index)?;
            let seed = hash_key(member.endpoint.address.as_bytes());
            Some(Owner { seed, weight: u64::from(member.weight), index: *index })
        };
        let ring = match balance {
            Balance::RingHash { .. } => Ring::new(&list.iter().filter_map(owner).collect::<Vec<_>>()),
            _ => Ring::default(),
        };
        let round = turns::round(&weights);
        Level {
            turns: round.iter().filter_map(|place| list.get(*place as usize)).copied().collect(),
            next: AtomicUsize::new(0),
            weight: weights.iter().sum(),
            is_even: weights.windows(2).all(|pair| pair.first() == pair.last()),
            ring,
            list: list.into(),
        }
    }

    /// The sum of all weights.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// The sum of the weights of those that can be had.
    pub(super) fn available(&self, members: &[Member]) -> u64 {
        let members = self.list.iter().filter_map(|index| members.get(*index as usize));
        let available = members.filter(|member| member.endpoint.condition.is_available(false));
        available.map(|member| u64::from(member.weight)).sum()
    }

    /// One that fits, if any does.
    pub(super) fn choose(&self, call: &Call<'_>, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
        match call.balance {
            Balance::RoundRobin => self.turn(fits),
            Balance::Random => self.sample(fits),
            Balance::PowerOfTwo => self.less_busy(call, fits),
            Balance::PeakEwma => self.cheaper(call, fits),
            Balance::RingHash { balance_factor } => self.on_ring(call, balance_factor, fits),
        }
    }

    /// Whose turn it is. Who does not fit loses its turn, to nobody in particular: its neighbour gets no more than others.
    fn turn(&self, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
        let next = || {
            let at = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.turns.len())?;
            self.turns.get(at).map(|index| *index as usize)
        };
        (0..PROBES).find_map(|_| next().filter(|index| fits(*index))).or_else(|| self.sample(fits))
    }

    /// Anyone, by weight.
    fn sample(&self, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
        if self.turns.is_empty() {
            return None;
        }
        let any = || self.turns.get(fastrand::usize(..self.turns.len())).map(|index| *index as usize);
        (0..PROBES).find_map(|_| any().filter(|index| fits(*index))).or_else(|| {
            let (before, behind) = self.list.split_at(fastrand::usize(..self.list.len()));
            behind.iter().chain(before).map(|index| *index as usize).find(|index| fits(*index))
        })
    }

    /// Of two the one with fewer requests under way for its weight. Where both have none, weights decide by chance.
    fn less_busy(&self, call: &Call<'_>, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
        let first = self.sample(fits)?;
        let Some(second) = self.sample(&|index| index != first && fits(index)) else { return Some(first) };
        let (one, other) = (call.load(first), call.load(second));
        // a/w(a) > b/w(b), without dividing.
        let busier =
            (one + 1).saturating_mul(call.weight(second)) > (other + 1).saturating_mul(call.weight(first));
        Some(if busier && one + other > 0 { second } else { first })
    }

    /// Of two the one that will answer sooner. Where weights differ, it may be the same twice: so each gets its share by
    /// weight as long as all are equally fast.
    fn cheaper(&self, call: &Call<'_>, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
        let first = self.sample(fits)?;
        let second = match self.is_even {
            true => self.sample(&|index| index != first && fits(index)),
            false => self.sample(fits),
        };
        let Some(second) = second.filter(|second| *second != first) else { return Some(first) };
        let now = condition::now_wrapping();
        let mean = self.weight as f32 / self.list.len().max(1) as f32;
        let cost = |index: usize| {
            let latency = call.members.get(index).and_then(|member| member.endpoint.latency.get());
            let weighed = call.load(index) as f32 * mean / call.weight(index) as f32;
            latency.map_or(0.0, |latency| latency.cost(weighed, now))
        };
        Some(if cost(first) <= cost(second) { first } else { second })
    }

    /// The first behind the key that fits and has room. Consistent hashing with bounded loads (Mirrokni, Thorup and
    /// Zadimoghaddam, SODA 2018): nobody has more requests under way than `factor` percent of its share of all of them,
    /// this one among them, rounded up.
    fn on_ring(&self, call: &Call<'_>, factor: Option<u32>, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
        let mut full = None;
        let key = call.hash.unwrap_or_else(|| fastrand::u64(..));
        for index in self.ring.walk(key).take(MAX_WALK).map(|index| index as usize) {
            if !fits(index) {
                continue;
            }
            if factor.is_none_or(|factor| self.has_room(call, factor, index)) {
                return Some(index);
            }
            full.get_or_insert(index);
        }
        full.or_else(|| self.sample(fits))
    }

    fn has_room(&self, call: &Call<'_>, factor: u32, index: usize) -> bool {
        let (available, share) = call.share.unwrap_or((self.weight, WHOLE));
        let all = call.in_flight as u128 * u128::from(share) / u128::from(WHOLE) + 1;
        let part = u128::from(factor) * all * u128::from(call.weight(index));
        let capacity = part.div_ceil(100 * u128::from(available.max(1)));
        u128::from(call.load(index)) < capacity
    }
}
