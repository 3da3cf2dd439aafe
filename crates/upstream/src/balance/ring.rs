//! Consistent hashing: a ring of points.
//!
//! Each endpoint owns points on a circle, by its weight; a key belongs to the owner of the first point behind it
//! (Karger et al., 1997; Envoy's `RING_HASH`, nginx's `hash … consistent`). Where an endpoint goes, its keys and no
//! others move, to the owners of the next points; where one cannot be used for a while, the walk passes over it, and
//! the ring stays as it is.
//!
//! A ring and not Maglev's table: a table shared out anew also moves keys of endpoints that stay. What a ring lacks in
//! evenness, the bound on loads gives.

use super::hash::mixed;

/// Points for a weight of 1: an endpoint's share then is off by some 4 % (one by the square root of them).
const POINTS: u64 = 512;
/// Points of a ring at most; beyond, all have half as many, and half again. The number depends on nothing but the sum
/// of weights, and on that in few steps only, since every point that comes or goes moves keys.
const MAX_POINTS: u64 = 1 << 20;

/// Points to a slot of the index, on average: so few that they share a cache line, and an index so small that it stays in
/// the cache.
const PER_SLOT: usize = 8;

/// The points of a circle in order.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    points: Box<[Point]>,
    /// Where the points begin whose first bits are these, so that finding one takes no search.
    starts: Box<[u32]>,
}

/// The first half of a hash, which is as far as a ring is divided, and whose point it is.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: u32,
    owner: u32,
}

/// One who owns points.
pub(crate) struct Owner {
    /// What its points are made from: the hash of its address.
    pub(crate) seed: u64,
    pub(crate) weight: u64,
    /// By which it is known.
    pub(crate) index: u32,
}

impl Ring {
    pub(crate) fn new(owners: &[Owner]) -> Self {
        let sum: u64 = owners.iter().map(|owner| owner.weight).sum();
        let mut halvings = 0;
        while (sum.saturating_mul(POINTS) >> halvings) > MAX_POINTS {
            halvings += 1;
        }
        let mut points = Vec::new();
        for owner in owners {
            let count = (owner.weight.saturating_mul(POINTS) >> halvings).max(1);
            // A Weyl sequence, mixed: SplitMix64.
            let point = |nth: u64| mixed(owner.seed.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            points.extend((0..count).map(|nth| (point(nth), owner.seed, owner.index)));
        }
        // Two on one spot, which hardly happens, stand in an order that others do not change.
        points.sort_unstable();
        let point = |(hash, _, owner): &(u64, u64, u32)| Point { at: half(*hash), owner: *owner };
        let points: Box<[Point]> = points.iter().map(point).collect();
        Ring { starts: starts(&points), points }
    }

    /// The owners of the points behind a key, once around; an owner comes as often as it has points.
    pub(crate) fn walk(&self, key: u64) -> impl Iterator<Item = u32> + '_ {
        let (before, behind) = self.points.split_at(self.first(key));
        behind.iter().chain(before).map(|point| point.owner)
    }

    /// The first point that is not before the key.
    fn first(&self, key: u64) -> usize {
        let key = half(key);
        let slot = slot(key, self.starts.len());
        let from = self.starts.get(slot).map_or(0, |start| *start as usize);
        let behind = self.points.get(from..).unwrap_or_default();
        let at = from + behind.iter().take_while(|point| point.at < key).count();
        if at < self.points.len() { at } else { 0 }
    }
}

fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn starts(points: &[Point]) -> Box<[u32]> {
    let slots = (points.len() / PER_SLOT).next_power_of_two();
    let mut starts = Vec::with_capacity(slots);
    for (at, point) in points.iter().enumerate() {
        while starts.len() <= slot(point.at, slots) {
            starts.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
    }
    starts.resize(slots, u32::try_from(points.len()).unwrap_or(u32::MAX));
    starts.into()
}

/// The slot of a point among so many, a power of two: by its first bits.
fn slot(at: u32, slots: usize) -> usize {
    usize::try_from((u64::from(at) * slots as u64) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::hash::hash_key;
    use proptest::prelude::*;

    fn owners(weights: &[u64]) -> Vec<Owner> {
        let owner = |(index, weight): (usize, &u64)| Owner {
            seed: hash_key(format!("10.0.{}.{}:80", index / 250, index % 250).as_bytes()),
            weight: *weight,
            index: u32::try_from(index).unwrap(),
        };
        weights.iter().enumerate().map(owner).collect()
    }

    fn owner_of(ring: &Ring, key: u64) -> u32 {
        ring.walk(hash_key(&key.to_be_bytes())).next().unwrap()
    }

    #[test]
    fn a_ring_of_nobody() {
        let ring = Ring::new(&[]);
        assert_eq!((ring.points.len(), ring.walk(7).next()), (0, None));
    }

    /// Gateways of all versions must agree on whose a key is: what stands here never changes. Computed by a ring written
    /// for this in Python.
    #[test]
    fn keys_have_the_owners_that_they_always_had() {
        let ring = Ring::new(&owners(&[1, 2, 1, 3]));
        let owners: Vec<u32> = (0..24).map(|key| owner_of(&ring, key)).collect();
        assert_eq!(owners, [0, 1, 3, 2, 2, 1, 3, 3, 3, 0, 0, 3, 3, 2, 2, 0, 2, 0, 3, 3, 3, 1, 0, 3]);
    }

    #[test]
    fn shares_follow_weights() {
        let weights = [1, 1, 2, 4];
        let ring = Ring::new(&owners(&weights));
        let mut counts = [0u32; 4];
        for key in 0..80_000 {
            counts[owner_of(&ring, key) as usize] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            let wanted = 10_000.0 * weight as f64;
            // Three times the deviation that so many points have, and a little for the keys.
            let bound = 3.0 / (POINTS as f64 * weight as f64).sqrt() + 0.03;
            assert!((f64::from(*count) / wanted - 1.0).abs() < bound, "{counts:?}");
        }
    }

    #[test]
    fn many_endpoints_have_a_bounded_ring() {
        let ring = Ring::new(&owners(&vec![1; 10_000]));
        assert!(
            ring.points.len() as u64 <= MAX_POINTS && ring.points.len() >= 10_000 * 50,
            "{}",
            ring.points.len()
        );
        let heavy = Ring::new(&owners(&[65_535, 1, 65_535, 65_535]));
        assert!(heavy.points.len() as u64 <= MAX_POINTS + 4, "{}", heavy.points.len());
        assert!(heavy.walk(0).any(|owner| owner == 1), "the lightest is on it");
    }

    proptest! {
        #[test]
        fn the_walk_begins_at_the_first_point_behind_the_key(
            weights in proptest::collection::vec(1u64..5, 1..8),
            keys in proptest::collection::vec(any::<u64>(), 50),
        ) {
            let ring = Ring::new(&owners(&weights));
            for key in keys.into_iter().chain([0, u64::MAX]) {
                let wanted = ring.points.partition_point(|point| point.at < half(key)) % ring.points.len();
                prop_assert_eq!(ring.first(key), wanted);
                prop_assert_eq!(ring.walk(key).count(), ring.points.len());
            }
        }

        #[test]
        fn only_the_keys_of_who_goes_move(
            weights in proptest::collection::vec(1u64..4, 2..12),
            gone in any::<proptest::sample::Index>(),
        ) {
            let gone = gone.index(weights.len());
            let all = Ring::new(&owners(&weights));
            let left: Vec<Owner> =
                owners(&weights).into_iter().filter(|owner| owner.index as usize != gone).collect();
            let rest = Ring::new(&left);
            let sum: u64 = weights.iter().sum();
            let (keys, mut moved) = (2_000, 0u32);
            for key in 0..keys {
                let (before, after) = (owner_of(&all, key), owner_of(&rest, key));
                if before as usize == gone {
                    moved += 1;
                    // Where it cannot be used, its keys go where they go when it is not there at all.
                    let next = all.walk(hash_key(&key.to_be_bytes())).find(|owner| *owner as usize != gone);
                    prop_assert_eq!(next, Some(after));
                } else {
                    prop_assert_eq!(before, after);
                }
            }
            let share = weights[gone] as f64 / sum as f64;
            prop_assert!(f64::from(moved) / keys as f64 <= share * 1.25 + 0.03);
        }
    }
}
