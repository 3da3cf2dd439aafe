//! What ten million distinct callers cost in memory, and callers that were there before them. Alone in its process, so
//! that its memory is only that of the store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_limits::{Demand, LocalStore, Partition, Quota};
use std::fs;
use std::time::Duration;

/// As many as the gateway's own store.
const PLACES: usize = 1_000_000;
const CALLERS: u128 = 10_000_000;
const MIB: u64 = 1024;

fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn admits(store: &LocalStore<fn() -> u64>, caller: u128, quota: &Quota) -> bool {
    let address = std::net::Ipv6Addr::from(caller << 64);
    let demand = Demand { limit: "l", partition: Partition::of_address(address.into()), quota };
    store.take_now(&[demand])[0].admitted
}

/// H4: the stated cap is 16 bytes for each of a million places.
#[test]
fn ten_million_callers_stay_under_the_cap_and_cost_nobody_who_was_there() {
    let quota = Quota::new(10, Duration::from_secs(3600), 10).unwrap();
    let before = rss_kib();
    // Time stands still: every caller stays active, which is the worst there is.
    let store = LocalStore::<fn() -> u64>::with_clock(PLACES, || 3_600_000_000_000);
    // Each has used half of its burst.
    let good = 0..1000;
    for caller in good.clone() {
        assert!((0..5).all(|_| admits(&store, caller, &quota)));
    }
    let admitted = (1_000_000..1_000_000 + CALLERS).filter(|caller| admits(&store, *caller, &quota)).count();
    let grown = rss_kib().saturating_sub(before);
    assert!(grown <= 24 * MIB, "{grown} KiB more");
    assert!(admitted <= PLACES + 64 * 10 + PLACES / 10, "{admitted} of the flood were admitted");
    for caller in good {
        assert_eq!(
            (0..10).filter(|_| admits(&store, caller, &quota)).count(),
            5,
            "the other half, no more: {caller}"
        );
    }
    eprintln!(
        "suite: rate-limit flood: {CALLERS} callers, {grown} KiB more, {admitted} admitted, 1000 earlier callers unharmed"
    );
}
