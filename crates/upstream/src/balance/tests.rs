//! Choices, over members without sockets.

use super::*;
use crate::EndpointSettings;
use crate::endpoint::{Counters, Endpoint, Gauge, Level as Of};
use crate::outbound::Outcome;
use portcullis_http::UpstreamFailure;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const ALL: [Balance; 6] = [
    Balance::RoundRobin,
    Balance::PowerOfTwo,
    Balance::PeakEwma,
    Balance::Random,
    Balance::RingHash { balance_factor: None },
    Balance::RingHash { balance_factor: Some(125) },
];

/// Members of these weights and priorities.
fn group(balance: Balance, of: &[(u32, u32)]) -> (Vec<Member>, Balancer) {
    let member = |(port, (weight, priority)): (u16, &(u32, u32))| {
        let endpoint = Arc::new(Endpoint::new(&EndpointSettings::new("127.0.0.1", port), None));
        endpoint.latency.get_or_init(PeakEwma::default);
        Member { endpoint, weight: *weight, priority: *priority }
    };
    let members: Vec<Member> = (1..).zip(of).map(member).collect();
    let balancer = Balancer::new(balance, &members, "test", None);
    (members, balancer)
}

fn weighted(balance: Balance, weights: &[u32]) -> (Vec<Member>, Balancer) {
    group(balance, &weights.iter().map(|weight| (*weight, 0)).collect::<Vec<_>>())
}

fn fail(member: &Member) {
    member.endpoint.report(Outcome::Unreachable(UpstreamFailure::Connect), Duration::ZERO);
}

/// Passed over for as long as a test takes, which a failure is not.
fn eject(member: &Member) {
    member.endpoint.condition.ejected();
}

fn answer(member: &Member, millis: u64) {
    member.endpoint.report(Outcome::Answered { status: 200 }, Duration::from_millis(millis));
}

/// How often each is chosen, by requests one after the other that have any key.
fn shares(members: &[Member], balancer: &Balancer, requests: u32) -> Vec<u32> {
    let mut counts = vec![0; members.len()];
    for request in 0..requests {
        let pick = Pick { hash: Some(hash_key(&request.to_be_bytes())), ..Pick::default() };
        counts[balancer.choose(members, &pick).unwrap()] += 1;
    }
    counts
}

#[test]
fn no_endpoint_no_choice() {
    for balance in ALL {
        let (members, balancer) = weighted(balance, &[]);
        assert_eq!(balancer.choose(&members, &Pick::default()), None);
    }
}

#[test]
fn weights_are_honoured_by_all() {
    for balance in ALL {
        let (members, balancer) = weighted(balance, &[1, 2, 5]);
        members.iter().for_each(|member| answer(member, 10));
        let counts = shares(&members, &balancer, 40_000);
        for (count, wanted) in counts.iter().zip([5_000, 10_000, 25_000]) {
            let off = (f64::from(*count) / f64::from(wanted) - 1.0).abs();
            assert!(off < 0.15, "{balance:?}: {counts:?}");
        }
    }
}

#[test]
fn power_of_two_prefers_the_idle_one() {
    for (weights, expected) in [([1, 1], 1), ([5, 1], 0)] {
        let (members, balancer) = weighted(Balance::PowerOfTwo, &weights);
        let _busy = members[0].endpoint.gauge(Of::InFlight);
        for _ in 0..50 {
            // Two of five are less than one of one.
            assert_eq!(balancer.choose(&members, &Pick::default()), Some(expected));
        }
    }
}

#[test]
fn peak_ewma_leaves_the_slow_one_alone() {
    let (members, balancer) = weighted(Balance::PeakEwma, &[1, 1, 1]);
    [10, 11, 900].iter().zip(&members).for_each(|(millis, member)| answer(member, *millis));
    let counts = shares(&members, &balancer, 1_000);
    assert!(counts[2] == 0 && counts[0] > counts[1], "{counts:?}");
    // But for one that has ninety times as many requests under way.
    let _busy: Vec<Gauge> = (0..100).map(|_| members[0].endpoint.gauge(Of::InFlight)).collect();
    let _busy: Vec<Gauge> = (0..100).map(|_| members[1].endpoint.gauge(Of::InFlight)).collect();
    assert!(shares(&members, &balancer, 100)[2] > 50);
}

#[test]
fn peak_ewma_asks_who_is_new() {
    let (members, balancer) = weighted(Balance::PeakEwma, &[1, 1]);
    answer(&members[0], 10);
    assert_eq!(balancer.choose(&members, &Pick::default()), Some(1));
    let _first = members[1].endpoint.gauge(Of::InFlight);
    assert_eq!(
        balancer.choose(&members, &Pick::default()),
        Some(0),
        "until its first answer it has one request"
    );
}

#[test]
fn aside_is_passed_over_until_nothing_else_is_left() {
    for balance in ALL {
        let (members, balancer) = weighted(balance, &[1, 1, 1]);
        fail(&members[1]);
        let id = |at: usize| members[at].endpoint.id;
        let choose = |tried: &[u64]| balancer.choose(&members, &Pick { tried, ..Pick::default() });
        for _ in 0..20 {
            assert_ne!(choose(&[]), Some(1), "{balance:?}");
            assert_eq!(choose(&[id(0), id(2)]), Some(1), "{balance:?}");
            assert_eq!(choose(&[id(0), id(1), id(2)]), None, "{balance:?}");
        }
    }
}

#[test]
fn the_share_of_who_is_ejected_goes_to_all_alike() {
    for balance in ALL {
        let (members, balancer) = weighted(balance, &[1; 5]);
        eject(&members[1]);
        let counts = shares(&members, &balancer, 20_000);
        assert_eq!(counts[1], 0, "{balance:?}");
        for at in [0, 2, 3, 4] {
            assert!((4_000..6_000).contains(&counts[at]), "{balance:?}: {counts:?}");
        }
    }
}

#[test]
fn a_key_stays_with_its_endpoint_and_moves_back() {
    let (members, balancer) = weighted(Balance::RingHash { balance_factor: None }, &[1; 10]);
    let owner = |key: u32| {
        let pick = Pick { hash: Some(hash_key(&key.to_be_bytes())), ..Pick::default() };
        balancer.choose(&members, &pick).unwrap()
    };
    let before: Vec<usize> = (0..2_000).map(owner).collect();
    assert_eq!(before, (0..2_000).map(owner).collect::<Vec<_>>());
    eject(&members[3]);
    let moved = before.iter().zip((0..2_000).map(owner)).filter(|(before, now)| *before != now);
    let moved: Vec<_> = moved.collect();
    assert!(
        moved.iter().all(|(before, _)| **before == 3) && (100..320).contains(&moved.len()),
        "{}",
        moved.len()
    );
    let heirs: std::collections::BTreeSet<_> = moved.iter().map(|(_, now)| now).collect();
    assert!(heirs.len() >= 8, "its keys are spread over the others");
}

#[test]
fn requests_without_a_key_are_spread() {
    let (members, balancer) = weighted(Balance::RingHash { balance_factor: None }, &[1; 4]);
    let chosen: std::collections::BTreeSet<_> =
        (0..200).filter_map(|_| balancer.choose(&members, &Pick::default())).collect();
    assert_eq!(chosen.len(), 4);
}

#[test]
fn the_next_level_gets_what_the_first_lacks() {
    for balance in ALL {
        let (members, balancer) = group(balance, &[(1, 0), (1, 0), (1, 0), (1, 0), (1, 1), (1, 1), (1, 7)]);
        let by_level =
            |counts: &[u32]| [counts[..4].iter().sum::<u32>(), counts[4..6].iter().sum(), counts[6]];
        assert_eq!(by_level(&shares(&members, &balancer, 1_000)), [1_000, 0, 0], "{balance:?}");
        eject(&members[0]);
        eject(&members[1]);
        std::thread::sleep(Duration::from_millis(110));
        // Half of it, overprovisioned: 70 %.
        let shares_now = by_level(&shares(&members, &balancer, 10_000));
        assert!((6_800..7_200).contains(&shares_now[0]) && shares_now[2] == 0, "{balance:?}: {shares_now:?}");
    }
}

#[test]
fn a_level_that_fails_at_once_is_left_at_once() {
    let (members, balancer) = group(Balance::RoundRobin, &[(1, 0), (1, 1)]);
    assert_eq!(balancer.choose(&members, &Pick::default()), Some(0));
    // Before it is counted, too.
    fail(&members[0]);
    assert_eq!(balancer.choose(&members, &Pick::default()), Some(1));
    let tried = [members[1].endpoint.id];
    assert_eq!(balancer.choose(&members, &Pick { tried: &tried, ..Pick::default() }), Some(0));
}

#[test]
fn a_token_comes_first() {
    let key = StickyKey::new(b"secret");
    for balance in ALL {
        let (members, _) = weighted(balance, &[1, 1, 1]);
        let balancer = Balancer::new(balance, &members, "test", Some(&key));
        let choose = |token: StickyToken| {
            balancer.choose(&members, &Pick { sticky: Some(token), hash: Some(7), ..Pick::default() })
        };
        let token = key.token("test", &members[2].endpoint.address);
        assert!((0..20).all(|_| choose(token) == Some(2)), "{balance:?}");
        let gone = key.token("test", "192.0.2.1:80");
        assert!(choose(gone).is_some());
        fail(&members[2]);
        assert_ne!(choose(token), Some(2), "{balance:?}");
    }
}

#[test]
fn ten_thousand_endpoints_most_of_them_ejected() {
    for balance in ALL {
        let (members, balancer) = weighted(balance, &[1; 10_000]);
        members[..9_000].iter().for_each(eject);
        for request in 0u32..500 {
            let pick = Pick { hash: Some(hash_key(&request.to_be_bytes())), ..Pick::default() };
            assert!(balancer.choose(&members, &pick).unwrap() >= 9_000, "{balance:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The bound of Mirrokni, Thorup and Zadimoghaddam: ⌈c·m·w/W⌉, for m balls among which is the new one. Balls come and
    /// go, as keys of any popularity.
    #[test]
    fn bounded_loads_are(
        weights in proptest::collection::vec(1u32..4, 1..20),
        factor in 101u32..200,
        keys in proptest::collection::vec((0u64..6, any::<bool>()), 1..300),
    ) {
        let (members, balancer) = weighted(Balance::RingHash { balance_factor: Some(factor) }, &weights);
        let all = Arc::new(Counters::default());
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut under_way: Vec<(Gauge, Gauge)> = Vec::new();
        for (key, leaves) in keys {
            if leaves && under_way.len() > 3 {
                under_way.remove(0);
            }
            let in_flight = all.in_flight();
            let pick = Pick { hash: Some(hash_key(&key.to_be_bytes())), in_flight, ..Pick::default() };
            let chosen = &members[balancer.choose(&members, &pick).unwrap()];
            under_way.push((chosen.endpoint.gauge(Of::InFlight), all.gauge(Of::InFlight)));
            let part = u64::from(factor) * (in_flight as u64 + 1) * u64::from(chosen.weight);
            prop_assert!(chosen.endpoint.in_flight() as u64 <= part.div_ceil(100 * sum));
        }
    }

    /// Removing one of n moves its keys and no more; adding it back restores them.
    #[test]
    fn little_moves_when_one_goes(count in 2usize..40, gone in any::<proptest::sample::Index>()) {
        let gone = gone.index(count);
        let balance = Balance::RingHash { balance_factor: None };
        let (members, all) = weighted(balance, &vec![1; count]);
        let (left, rest): (Vec<Member>, _) = {
            let (mut members, _) = weighted(balance, &vec![1; count]);
            members.remove(gone);
            let rest = Balancer::new(balance, &members, "test", None);
            (members, rest)
        };
        let keys = 2_000u32;
        let mut moved = 0;
        for key in 0..keys {
            let pick = Pick { hash: Some(hash_key(&key.to_be_bytes())), ..Pick::default() };
            let before = &members[all.choose(&members, &pick).unwrap()].endpoint.address;
            let now = &left[rest.choose(&left, &pick).unwrap()].endpoint.address;
            moved += u32::from(before != now);
        }
        prop_assert!(f64::from(moved) / f64::from(keys) <= 1.2 / count as f64 + 0.03, "{moved} of {keys}");
    }
}
