//! Choosing an endpoint.

use crate::Balance;
use crate::endpoint::Endpoint;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Turns of a round that is written out. Weights that make a longer one are scaled down.
const MAX_TURNS: u64 = 4096;

/// The endpoints' order, made once; choosing takes no lock.
#[derive(Debug)]
pub(crate) struct Balancer {
    balance: Balance,
    /// One round of turns, as indices of endpoints.
    turns: Box<[usize]>,
    next: AtomicUsize,
    weights: Box<[u64]>,
}

impl Balancer {
    pub(crate) fn new(balance: Balance, weights: impl Iterator<Item = u32>) -> Self {
        let weights: Box<[u64]> = weights.map(|weight| u64::from(weight.max(1))).collect();
        Balancer { balance, turns: turns(&scaled(&weights)), next: AtomicUsize::new(0), weights }
    }

    /// An endpoint that is not among `tried`: one that is not put aside, where there is any.
    pub(crate) fn choose(&self, endpoints: &[Arc<Endpoint>], tried: &[usize]) -> Option<usize> {
        let untried = |index: usize| !tried.contains(&index) && index < endpoints.len();
        let good = |index: usize| untried(index) && endpoints.get(index).is_some_and(|e| !e.is_aside());
        match self.balance {
            Balance::RoundRobin => {
                let at = self.next.fetch_add(1, Ordering::Relaxed);
                self.turn(at, good).or_else(|| self.turn(at, untried))
            }
            Balance::PowerOfTwo => {
                self.less_busy(endpoints, good).or_else(|| self.less_busy(endpoints, untried))
            }
        }
    }

    fn turn(&self, at: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let (before, after) = self.turns.split_at(at.checked_rem(self.turns.len())?);
        after.iter().chain(before).copied().find(|index| fits(*index))
    }

    fn less_busy(&self, endpoints: &[Arc<Endpoint>], fits: impl Fn(usize) -> bool) -> Option<usize> {
        let candidates = || (0..endpoints.len()).filter(|index| fits(*index));
        let count = candidates().count();
        if count < 2 {
            return candidates().next();
        }
        let first = fastrand::usize(..count);
        let second = (first + fastrand::usize(1..count)) % count;
        let (first, second) = (candidates().nth(first)?, candidates().nth(second)?);
        let load = |index: usize| endpoints.get(index).map_or(u64::MAX, |e| e.in_flight() as u64 + 1);
        let weight = |index: usize| self.weights.get(index).copied().unwrap_or(1);
        // a/w(a) > b/w(b), without dividing.
        let busier = load(first).saturating_mul(weight(second)) > load(second).saturating_mul(weight(first));
        Some(if busier { second } else { first })
    }
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
    use crate::endpoint::Level;
    use proptest::prelude::*;

    fn endpoints(count: u16) -> Vec<Arc<Endpoint>> {
        (0..count)
            .map(|i| Arc::new(Endpoint::new(&EndpointSettings::new("127.0.0.1", i + 1), None)))
            .collect()
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
            assert_eq!(Balancer::new(balance, std::iter::empty()).choose(&[], &[]), None);
        }
    }

    #[test]
    fn power_of_two_prefers_the_idle_one() {
        let endpoints = endpoints(2);
        let balancer = Balancer::new(Balance::PowerOfTwo, [1, 1].into_iter());
        let _busy = endpoints[0].gauge(Level::InFlight);
        for _ in 0..50 {
            assert_eq!(balancer.choose(&endpoints, &[]), Some(1));
        }
        let heavy = Balancer::new(Balance::PowerOfTwo, [5, 1].into_iter());
        for _ in 0..50 {
            assert_eq!(heavy.choose(&endpoints, &[]), Some(0), "two of five are less than one of one");
        }
    }

    #[test]
    fn aside_is_passed_over_until_nothing_else_is_left() {
        let endpoints = endpoints(3);
        endpoints[1].note_connect_failure();
        for balance in [Balance::RoundRobin, Balance::PowerOfTwo] {
            let balancer = Balancer::new(balance, [1, 1, 1].into_iter());
            for _ in 0..20 {
                assert_ne!(balancer.choose(&endpoints, &[]), Some(1));
                assert_eq!(balancer.choose(&endpoints, &[0, 2]), Some(1));
                assert_eq!(balancer.choose(&endpoints, &[0, 1, 2]), None);
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
