//! Choosing an endpoint.

use crate::Balance;
use crate::members::Member;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Turns of a round that is written out. Weights that make a longer one are scaled down.
const MAX_TURNS: u64 = 4096;

/// What one try's endpoint is chosen by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pick<'a> {
    /// Ids of endpoints that were tried already.
    pub(crate) tried: &'a [u64],
}

impl Pick<'_> {
    fn is_untried(&self, member: &Member) -> bool {
        !self.tried.contains(&member.endpoint.id)
    }
}

/// The endpoints' order, made once; choosing takes no lock.
#[derive(Debug)]
pub(crate) struct Balancer {
    balance: Balance,
    /// One round of turns, as indices of endpoints.
    turns: Box<[usize]>,
    next: AtomicUsize,
}

impl Balancer {
    pub(crate) fn new(balance: Balance, members: &[Member]) -> Self {
        let weights: Vec<u64> = members.iter().map(|member| u64::from(member.weight)).collect();
        Balancer { balance, turns: turns(&scaled(&weights)), next: AtomicUsize::new(0) }
    }

    /// The index of a member that was not tried: of one that is available, where there is any.
    pub(crate) fn choose(&self, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
        let untried = |index: usize| members.get(index).is_some_and(|member| pick.is_untried(member));
        let good = |index: usize| {
            members.get(index).is_some_and(|m| pick.is_untried(m) && m.endpoint.condition.is_available())
        };
        match self.balance {
            Balance::RoundRobin => {
                let at = self.next.fetch_add(1, Ordering::Relaxed);
                self.turn(at, good).or_else(|| self.turn(at, untried))
            }
            Balance::PowerOfTwo => less_busy(members, good).or_else(|| less_busy(members, untried)),
        }
    }

    fn turn(&self, at: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let (before, after) = self.turns.split_at(at.checked_rem(self.turns.len())?);
        after.iter().chain(before).copied().find(|index| fits(*index))
    }
}

fn less_busy(members: &[Member], fits: impl Fn(usize) -> bool) -> Option<usize> {
    let candidates = || (0..members.len()).filter(|index| fits(*index));
    let count = candidates().count();
    if count < 2 {
        return candidates().next();
    }
    let first = fastrand::usize(..count);
    let second = (first + fastrand::usize(1..count)) % count;
    let (first, second) = (candidates().nth(first)?, candidates().nth(second)?);
    let load = |index: usize| members.get(index).map_or(u64::MAX, |m| m.endpoint.in_flight() as u64 + 1);
    let weight = |index: usize| members.get(index).map_or(1, |member| u64::from(member.weight));
    // a/w(a) > b/w(b), without dividing.
    let busier = load(first).saturating_mul(weight(second)) > load(second).saturating_mul(weight(first));
    Some(if busier { second } else { first })
}

/// The weights in lowest terms, scaled down where a round would still be too long.
fn scaled(weights: &[u64]) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let sum = weights.iter().sum::<u64>() / divisor;
    let scale = |weight: u64| {
        let weight = weight / divisor;
        if sum > MAX_TURNS { (weight.saturating_mul(MAX_TURNS) / sum).max(1) } else { weight }
    };
    weights.iter().map(|weight| scale(*weight)).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One round by nginx's smooth weighted round robin: at each turn every endpoint earns its weight, and the richest
/// is chosen and pays the sum.
fn turns(weights: &[u64]) -> Box<[usize]> {
    let sum: i64 = weights.iter().map(|weight| weight.cast_signed()).sum();
    let mut credit = vec![0i64; weights.len()];
    (0..sum)
        .filter_map(|_| {
            for (credit, weight) in credit.iter_mut().zip(weights) {
                *credit += weight.cast_signed();
            }
            // The first of the richest: `max_by_key` takes the last of equals.
            let (index, richest) = credit.iter_mut().enumerate().rev().max_by_key(|(_, credit)| **credit)?;
            *richest -= sum;
            Some(index)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndpointSettings;
    use crate::endpoint::{Endpoint, Level};
    use crate::outbound::Outcome;
    use portcullis_http::UpstreamFailure;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn members(weights: &[u32]) -> Vec<Member> {
        let member = |(port, weight): (u16, &u32)| {
            let endpoint = Arc::new(Endpoint::new(&EndpointSettings::new("127.0.0.1", port), None));
            Member { endpoint, weight: *weight }
        };
        (1..).zip(weights).map(member).collect()
    }

    #[test]
    fn nginx_example() {
        // The example of nginx's commit 52327e0627f4: weights 5, 1, 1 give a a b a c a a.
        assert_eq!(*turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(*turns(&[1, 1]), [0, 1]);
        assert!(turns(&[]).is_empty());
    }

    #[test]
    fn no_endpoint_no_choice() {
        for balance in [Balance::RoundRobin, Balance::PowerOfTwo] {
            assert_eq!(Balancer::new(balance, &[]).choose(&[], &Pick::default()), None);
        }
    }

    #[test]
    fn power_of_two_prefers_the_idle_one() {
        for (weights, expected) in [([1, 1], 1), ([5, 1], 0)] {
            let members = members(&weights);
            let balancer = Balancer::new(Balance::PowerOfTwo, &members);
            let _busy = members[0].endpoint.gauge(Level::InFlight);
            for _ in 0..50 {
                // Two of five are less than one of one.
                assert_eq!(balancer.choose(&members, &Pick::default()), Some(expected));
            }
        }
    }

    #[test]
    fn aside_is_passed_over_until_nothing_else_is_left() {
        let members = members(&[1, 1, 1]);
        members[1].endpoint.report(Outcome::Unreachable(UpstreamFailure::Connect), Duration::ZERO);
        let id = |at: usize| members[at].endpoint.id;
        for balance in [Balance::RoundRobin, Balance::PowerOfTwo] {
            let balancer = Balancer::new(balance, &members);
            let choose = |tried: &[u64]| balancer.choose(&members, &Pick { tried });
            for _ in 0..20 {
                assert_ne!(choose(&[]), Some(1));
                assert_eq!(choose(&[id(0), id(2)]), Some(1));
                assert_eq!(choose(&[id(0), id(1), id(2)]), None);
            }
        }
    }

    proptest! {
        #[test]
        fn a_round_gives_each_its_weight(weights in proptest::collection::vec(1u64..40, 1..8)) {
            let round = turns(&weights);
            for (index, weight) in weights.iter().enumerate() {
                prop_assert_eq!(round.iter().filter(|i| **i == index).count() as u64, *weight);
            }
        }

        #[test]
        fn any_weights_make_a_round_of_bounded_length(weights in proptest::collection::vec(1u64..=u64::from(u32::MAX), 1..20)) {
            let scaled = scaled(&weights);
            prop_assert!(scaled.iter().all(|weight| *weight > 0));
            prop_assert!(scaled.iter().sum::<u64>() <= MAX_TURNS + 20);
        }
    }
}
