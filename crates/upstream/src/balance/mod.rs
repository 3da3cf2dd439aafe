//! Choosing an endpoint.
//!
//! What an order of turns or a ring needs is made once for each set of members; what a choice looks at besides (health,
//! requests under way, latencies) is read from the endpoints it considers, which are a few, whatever their number.
//! Where many cannot be used, a few tries at random find one that can; only where hardly any can is a list walked.

mod ewma;
mod hash;
mod level;
mod priority;
mod ring;
mod sticky;
mod turns;

pub(crate) use ewma::PeakEwma;
pub use hash::hash_key;
pub use sticky::{StickyKey, StickyToken};

use crate::Balance;
use crate::condition;
use crate::members::Member;
use level::{Call, Level};
use priority::Census;
pub(crate) use priority::{Tally, WHOLE};
use std::collections::BTreeMap;
use sticky::Tokens;

/// What one try's endpoint is chosen by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pick<'a> {
    /// Ids of endpoints that were tried already.
    pub(crate) tried: &'a [u64],
    /// Requests with the same hash go to the same endpoint, where the balance is by hash.
    pub(crate) hash: Option<u64>,
    /// Names the endpoint that the client was sent to before.
    pub(crate) sticky: Option<StickyToken>,
    /// Requests of the upstream that are under way, where loads are bounded.
    pub(crate) in_flight: usize,
    /// Too few endpoints are healthy for their health to matter.
    pub(crate) panic: bool,
}

impl Pick<'_> {
    fn is_untried(&self, member: &Member) -> bool {
        !self.tried.contains(&member.endpoint.id)
    }
}

/// What choosing among an upstream's endpoints takes, made once; choosing takes no lock.
#[derive(Debug)]
pub(crate) struct Balancer {
    balance: Balance,
    /// By priority.
    levels: Box<[Level]>,
    /// Where it matters how much of a level can be had.
    census: Option<Census>,
    tokens: Option<Tokens>,
}

impl Balancer {
    pub(crate) fn new(
        balance: Balance,
        members: &[Member],
        upstream: &str,
        sticky: Option<&StickyKey>,
    ) -> Self {
        let mut by_priority: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (index, member) in (0..).zip(members) {
            by_priority.entry(member.priority).or_default().push(index);
        }
        let levels: Box<[Level]> =
            by_priority.into_values().map(|list| Level::new(balance, members, list)).collect();
        let is_bounded = matches!(balance, Balance::RingHash { balance_factor: Some(_) });
        let census = (levels.len() > 1 || is_bounded).then(|| {
            let weights: Vec<u64> = levels.iter().map(Level::weight).collect();
            Census::new(&weights, members.len())
        });
        let addresses = members.iter().map(|member| &*member.endpoint.address);
        let tokens = sticky.map(|key| Tokens::new(key, upstream, addresses));
        Balancer { balance, levels, census, tokens }
    }

    /// The index of a member that was not tried: of one that is available, where there is any.
    pub(crate) fn choose(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        let untried = |index: usize| {
            let permitted = |m: &Member| m.endpoint.condition.is_permitted(pick.panic);
            members.get(index).is_some_and(|m| pick.is_untried(m) && permitted(m))
        };
        let good = |index: usize| {
            let available = |m: &Member| m.endpoint.condition.is_available(pick.panic);
            members.get(index).is_some_and(|m| pick.is_untried(m) && available(m))
        };
        let named = pick.sticky.and_then(|token| self.tokens.as_ref()?.find(token));
        if let Some(index) = named.filter(|index| good(*index)) {
            return Some(index);
        }
        let drawn = self.draw(members, pick);
        let call = |level: usize| {
            let share = self.census.as_ref().map(|census| census.standing(level));
            Call { balance: self.balance, members, hash: pick.hash, in_flight: pick.in_flight, share }
        };
        let choose_in = |at: usize, fits: &dyn Fn(usize) -> bool| {
            self.levels.get(at).and_then(|level| level.choose(&call(at), fits))
        };
        let in_order =
            |fits: &dyn Fn(usize) -> bool| (0..self.levels.len()).find_map(|at| choose_in(at, fits));
        choose_in(drawn, &good).or_else(|| in_order(&good)).or_else(|| in_order(&untried))
    }

    /// The level for this request.
    fn draw(&self, members: &[Member], pick: &Pick<'_>) -> usize {
        let Some(census) = &self.census else { return 0 };
        census.refresh(condition::now(), |level| {
            self.levels.get(level).map_or(0, |level| level.available(members))
        });
        // Other bits than those by which a ring is entered: a level gets a sample of all keys.
        let draw = pick.hash.map_or_else(|| fastrand::u32(..WHOLE), |hash| (hash % u64::from(WHOLE)) as u32);
        census.level(draw)
    }
}

#[cfg(test)]
mod tests;
