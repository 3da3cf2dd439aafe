//! The order of a weighted round robin: one round, written out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Turns of a round that is written out. Weights that make a longer one are scaled down.
const MAX_TURNS: u64 = 4096;
/// Up to so many steps an order is found by looking at every endpoint for every turn.
const MAX_STEPS: u64 = 1 << 20;

/// One round of turns, as places of endpoints: each has as many as its weight says, spread as evenly as weights allow.
pub(crate) fn round(weights: &[u64]) -> Box<[u32]> {
    let weights = scaled(weights);
    let sum: u64 = weights.iter().sum();
    if weights.iter().all(|weight| *weight == 1) {
        return (0..u32::try_from(weights.len()).unwrap_or(u32::MAX)).collect();
    }
    if sum.saturating_mul(weights.len() as u64) <= MAX_STEPS { smooth(&weights) } else { spread(&weights) }
}

/// The weights in lowest terms, scaled down where a round would still be too long.
fn scaled(weights: &[u64]) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let sum = weights.iter().sum::<u64>() / divisor;
    let most = MAX_TURNS.max(weights.len() as u64 * 4);
    let scale = |weight: u64| {
        let weight = weight / divisor;
        if sum > most { (weight.saturating_mul(most) / sum).max(1) } else { weight }
    };
    weights.iter().map(|weight| scale(*weight)).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// nginx's smooth weighted round robin: at each turn every endpoint earns its weight, and the richest is chosen and
/// pays the sum.
fn smooth(weights: &[u64]) -> Box<[u32]> {
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
            u32::try_from(index).ok()
        })
        .collect()
}

/// The same for thousands of endpoints, hardly less even and in little time: each turn goes to whose deadline is
/// earliest, with deadlines at equal distances over the round (earliest deadline first, as Envoy has it). They begin at
/// places of their own, by the golden ratio, so that endpoints of one weight do not come all at once.
fn spread(weights: &[u64]) -> Box<[u32]> {
    const GOLDEN: u32 = 0x9e37_79b9;
    let deadline = |index: u32, nth: u64, weight: u64| {
        let phase = u64::from(index.wrapping_mul(GOLDEN));
        ((nth << 32) | phase) / weight.max(1)
    };
    let first = |(index, weight): (u32, &u64)| Reverse((deadline(index, 0, *weight), index, 0, *weight));
    let mut waiting: BinaryHeap<_> =
        (0u32..).zip(weights).filter(|(_, weight)| **weight > 0).map(first).collect();
    let mut turns = Vec::with_capacity(usize::try_from(weights.iter().sum::<u64>()).unwrap_or(0));
    while let Some(Reverse((_, index, nth, weight))) = waiting.pop() {
        turns.push(index);
        if nth + 1 < weight {
            waiting.push(Reverse((deadline(index, nth + 1, weight), index, nth + 1, weight)));
        }
    }
    turns.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nginx_example() {
        // The example of nginx's commit 52327e0627f4: weights 5, 1, 1 give a a b a c a a.
        assert_eq!(*round(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(*round(&[1, 1]), [0, 1]);
        assert_eq!(*round(&[300, 300]), [0, 1]);
        assert!(round(&[]).is_empty());
    }

    #[test]
    fn ten_thousand_endpoints_are_ordered_at_once() {
        let weights: Vec<u64> = (0..10_000).map(|index| 1 + index % 7).collect();
        let turns = round(&weights);
        assert_eq!(turns.len() as u64, weights.iter().sum::<u64>());
    }

    fn counts(turns: &[u32], of: usize) -> Vec<u64> {
        let mut counts = vec![0; of];
        turns.iter().for_each(|index| counts[*index as usize] += 1);
        counts
    }

    /// Turns from one of this endpoint's to its next, at most.
    fn longest_wait(turns: &[u32], of: usize) -> u64 {
        let twice = turns.iter().chain(turns).enumerate();
        let at: Vec<usize> = twice.filter(|(_, turn)| **turn as usize == of).map(|(at, _)| at).collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as u64
    }

    proptest! {
        #[test]
        fn a_round_gives_each_its_weight(weights in proptest::collection::vec(1u64..40, 1..8)) {
            prop_assert_eq!(counts(&smooth(&weights), weights.len()), weights.clone());
            prop_assert_eq!(counts(&spread(&weights), weights.len()), weights);
        }

        #[test]
        fn nobody_waits_much_longer_than_its_share_says(weights in proptest::collection::vec(1u64..40, 1..8)) {
            let (sum, count) = (weights.iter().sum::<u64>(), weights.len() as u64);
            for (index, weight) in weights.iter().enumerate() {
                // Between two deadlines of one, each other has no more than its part of them, rounded up.
                prop_assert!(longest_wait(&spread(&weights), index) <= sum / weight + count);
                prop_assert!(longest_wait(&smooth(&weights), index) <= 2 * sum / weight + count);
            }
        }

        #[test]
        fn any_weights_make_a_round_of_bounded_length(
            weights in proptest::collection::vec(1u64..=u64::from(u32::MAX), 1..20),
        ) {
            let turns = round(&weights);
            prop_assert!(counts(&turns, weights.len()).iter().all(|count| *count > 0));
            prop_assert!(turns.len() as u64 <= MAX_TURNS + 20);
        }
    }
}
