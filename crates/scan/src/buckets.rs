//! Which windows share a bucket of Teddy's.
//!
//! For each bucket and each of the bytes of a window Teddy keeps the low and the high halves of what may stand there, so
//! that `ab` and `cd` in one bucket look like `ad` and `cb`, too, and halves are mixed likewise. Where a text fits that,
//! Teddy compares it with all that is in the bucket.

use crate::Place;
use crate::commonness::share;
use crate::windows::Window;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// As many as Teddy has.
const BUCKETS: usize = 8;

/// What a comparison with nothing costs beside one with a text.
const BASE: f64 = 4.0;

#[derive(Clone)]
struct Bucket {
    /// For each byte of the windows, which low and which high halves occur, as bits.
    halves: Vec<[u16; 2]>,
    /// The windows, by their numbers.
    windows: Vec<usize>,
}

impl Bucket {
    fn of(number: usize, window: &Window) -> Self {
        let halves = window.iter().map(|byte| [1 << (byte & 15), 1 << (byte >> 4)]).collect();
        Bucket { halves, windows: vec![number] }
    }

    fn and(&self, other: &Self) -> Self {
        let both = |(one, other): (&[u16; 2], &[u16; 2])| {
            let ([low, high], [more_low, more_high]) = (one, other);
            [low | more_low, high | more_high]
        };
        let halves = self.halves.iter().zip(&other.halves).map(both).collect();
        Bucket { halves, windows: [self.windows.as_slice(), &other.windows].concat() }
    }

    /// What it costs at each place of a text, on average.
    fn cost(&self) -> f64 {
        let passes = |[low, high]: &[u16; 2]| {
            let fits = |byte: &u8| low >> (byte & 15) & high >> (byte >> 4) & 1 == 1;
            (0..=u8::MAX).filter(fits).map(share).sum::<f64>()
        };
        self.halves.iter().map(passes).product::<f64>() * (BASE + self.windows.len() as f64)
    }
}

/// So many buckets or fewer: each window begins with one of its own, and again and again those two become one that cost
/// least together.
fn buckets(windows: &[(Window, Vec<Place>)], most: usize) -> Vec<Bucket> {
    let single = |(number, (window, _)): (usize, &(Window, Vec<Place>))| Bucket::of(number, window);
    let mut buckets: Vec<Bucket> = windows.iter().enumerate().map(single).collect();
    let dearer = |one: &Bucket, other: &Bucket| one.and(other).cost() - one.cost() - other.cost();
    // How much dearer each is together with each of those in front of it.
    let mut pairs: Vec<Vec<f64>> = Vec::new();
    for (at, own) in buckets.iter().enumerate() {
        pairs.push(buckets.iter().take(at).map(|other| dearer(other, own)).collect());
    }
    while buckets.len() > most {
        let row = |(at, row): (usize, &Vec<f64>)| {
            let costs = row.iter().enumerate().map(move |(other, cost)| (*cost, at, other));
            costs.min_by(|(one, ..), (next, ..)| one.total_cmp(next))
        };
        let least =
            pairs.iter().enumerate().filter_map(row).min_by(|(one, ..), (next, ..)| one.total_cmp(next));
        let Some((_, at, other)) = least else { break };
        let taken = buckets.remove(at);
        pairs.remove(at);
        pairs.iter_mut().skip(at).for_each(|row| {
            row.remove(at);
        });
        let Some(joined) = buckets.get(other).map(|bucket| bucket.and(&taken)) else { break };
        for (at, own) in buckets.iter().enumerate() {
            let (row, place) = if at < other { (other, at) } else { (at, other) };
            if let Some(cost) = pairs.get_mut(row).and_then(|row| row.get_mut(place)) {
                *cost = dearer(&joined, own);
            }
        }
        if let Some(bucket) = buckets.get_mut(other) {
            *bucket = joined;
        }
    }
    buckets
}

/// For each of some searchers the numbers of its windows in an order that puts them into good buckets; some may come twice.
///
/// Teddy puts what comes as the n-th into bucket n modulo 8, unless there is already something with the same low halves,
/// which it then joins. That is not promised: were it otherwise, searching would be slower and find the same.
pub(crate) fn arrange(windows: &[(Window, Vec<Place>)], searchers: usize) -> Vec<Vec<usize>> {
    let mut dealt = vec![Vec::new(); searchers];
    for (number, bucket) in buckets(windows, BUCKETS * searchers).into_iter().enumerate() {
        if let Some(hand) = dealt.get_mut(number % searchers.max(1)) {
            hand.push(bucket);
        }
    }
    dealt.into_iter().map(|buckets| in_order(windows, buckets)).collect()
}

fn in_order(windows: &[(Window, Vec<Place>)], buckets: Vec<Bucket>) -> Vec<usize> {
    let mut known = BTreeSet::new();
    let low_halves = |number: &usize| -> Vec<u8> {
        windows
            .get(*number)
            .map(|(window, _)| window.iter().map(|byte| byte & 15).collect())
            .unwrap_or_default()
    };
    let (mut leaders, mut followers) = (Vec::new(), Vec::new());
    for bucket in buckets {
        let (first, later): (Vec<usize>, Vec<usize>) =
            bucket.windows.into_iter().partition(|number| known.insert(low_halves(number)));
        leaders.push(first);
        followers.extend(later);
    }
    // None is empty before others that are not.
    leaders.resize_with(BUCKETS, Vec::new);
    leaders.sort_by_key(|leaders| Reverse(leaders.len()));
    let mut ordered: Vec<usize> = Vec::new();
    while leaders.iter().any(|leaders| !leaders.is_empty()) {
        for bucket in &mut leaders {
            // Where a bucket has no more, something that went elsewhere takes its number: it goes there again.
            let again = || ordered.get(ordered.len().saturating_sub(BUCKETS)).copied();
            let next = bucket.pop().or_else(again);
            ordered.extend(next);
        }
    }
    ordered.append(&mut followers);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_shares_a_bucket() {
        let texts =
            ["ghp", "gho", "ghu", "ghs", "#1 ", "#2 ", "#3 ", "#4 ", "192", "172", "zqx", "AKI", "<?p"];
        let windows: Vec<(Window, Vec<Place>)> =
            texts.iter().cycle().take(60).map(|text| (text.as_bytes().to_vec(), Vec::new())).collect();
        let order = arrange(&windows, 1).remove(0);
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), windows.len(), "each comes");
        let good: f64 = buckets(&windows, BUCKETS).iter().map(Bucket::cost).sum();
        let dealt = (0..BUCKETS).map(|first| {
            let mine = windows.iter().enumerate().skip(first).step_by(BUCKETS);
            let buckets = mine.map(|(number, (window, _))| Bucket::of(number, window));
            buckets.reduce(|one, other| one.and(&other)).unwrap()
        });
        let dealt: f64 = dealt.map(|bucket| bucket.cost()).sum();
        assert!(good * 5.0 < dealt, "{good} {dealt}");
        let both = arrange(&windows, 2);
        assert!(both.len() == 2 && both.concat().into_iter().collect::<BTreeSet<_>>().len() == windows.len());
        assert_eq!(
            buckets(&windows, BUCKETS).iter().map(|bucket| bucket.windows.len()).sum::<usize>(),
            windows.len()
        );
    }
}
