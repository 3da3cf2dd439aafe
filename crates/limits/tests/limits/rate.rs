//! Rates: GCRA's promise over any arrivals, exactness under threads, and the rows H2 to H5 of the matrix.

use crate::common::{answer, exchange, known_as};
use portcullis_http::{Exchange, Guard, Rejection};
use portcullis_limits::{
    Clock, Concurrency, Decisions, Demand, Key, Limit, LimitError, LocalStore, OnFailure, Partition, Quota,
    QuotaError, RateLimiter, Store, StoreError, Verdict,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// A clock that moves by hand.
fn by_hand() -> (Arc<AtomicU64>, impl Clock) {
    let time = Arc::new(AtomicU64::new(SECOND));
    let read = Arc::clone(&time);
    (time, move || read.load(Ordering::SeqCst))
}

fn quota(count: u64, seconds: u64, burst: u64) -> Quota {
    Quota::new(count, Duration::from_secs(seconds), burst).unwrap()
}

fn address(n: u32) -> Partition<'static> {
    Partition::Address(IpAddr::V4(Ipv4Addr::from_bits(n)))
}

fn admits<C: Clock>(store: &LocalStore<C>, limit: &str, caller: u32, quota: &Quota) -> bool {
    store.take_now(&[Demand { limit, partition: address(caller), quota }])[0].admitted
}

fn limiter<S: Store>(store: &Arc<S>, limits: &[(&str, Key, Quota)]) -> RateLimiter<S> {
    let limits =
        limits.iter().map(|(name, key, quota)| Limit::new(name, key.clone(), *quota).unwrap()).collect();
    RateLimiter::new(Arc::clone(store), limits, OnFailure::Closed).unwrap()
}

async fn passes<S: Store>(limiter: &RateLimiter<S>, mut exchange: Exchange) -> bool {
    limiter.check(&mut exchange).await.is_ok()
}

#[test]
fn quotas_that_cannot_be() {
    let of = |count, per, burst| Quota::new(count, per, burst);
    assert_eq!(of(0, Duration::from_secs(1), 1), Err(QuotaError::Zero));
    assert_eq!(of(1, Duration::ZERO, 1), Err(QuotaError::Zero));
    assert_eq!(of(1, Duration::from_secs(1), 0), Err(QuotaError::Zero));
    assert_eq!(of(2, Duration::from_nanos(1), 1), Err(QuotaError::TooFast));
    assert_eq!(of(1, Duration::from_secs(86_400), u64::MAX), Err(QuotaError::TooSlow));
    assert_eq!(of(1, Duration::MAX, 1), Err(QuotaError::TooSlow));
    assert_eq!(of(3, Duration::from_secs(1), 1).unwrap().interval(), Duration::from_nanos(333_333_334));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// In every interval: at most burst + rate * t. And never less than a caller who waits has a right to.
    #[test]
    fn never_more_than_burst_and_rate(
        count in 1u64..2000, seconds in 1u64..100, burst in 1u64..50,
        gaps in prop::collection::vec(prop_oneof![0u64..10, 0u64..SECOND, 0u64..100 * SECOND], 1..300),
    ) {
        let quota = quota(count, seconds, burst);
        let interval = u64::try_from(quota.interval().as_nanos()).unwrap();
        let (time, clock) = by_hand();
        let store = LocalStore::with_clock(64, clock);
        let mut passed: Vec<u64> = Vec::new();
        for gap in gaps {
            let now = time.fetch_add(gap, Ordering::SeqCst) + gap;
            let decision = store.take_now(&[Demand { limit: "l", partition: address(1), quota: &quota }])[0];
            prop_assert!(decision.remaining < burst);
            if decision.admitted {
                passed.push(now);
            } else {
                let wait = u64::try_from(decision.retry_after.as_nanos()).unwrap();
                prop_assert!(0 < wait && wait <= interval);
                // Exactly then, and not before, the next may pass.
                time.fetch_add(wait - 1, Ordering::SeqCst);
                prop_assert!(!admits(&store, "l", 1, &quota));
                time.fetch_add(1, Ordering::SeqCst);
                prop_assert!(admits(&store, "l", 1, &quota));
                passed.push(now + wait);
            }
        }
        for (i, from) in passed.iter().enumerate() {
            for (j, to) in passed.iter().enumerate().skip(i) {
                let most = burst + (to - from) / interval;
                prop_assert!((j - i + 1) as u64 <= most, "{} in {} ns, burst {burst}", j - i + 1, to - from);
            }
        }
    }

    #[test]
    fn what_remains_is_what_passes(burst in 1u64..40, spent in 0u64..60, rest in 0u64..100 * SECOND) {
        let quota = quota(10, 7, burst);
        let (time, clock) = by_hand();
        let store = LocalStore::with_clock(64, clock);
        (0..spent).for_each(|_| { admits(&store, "l", 1, &quota); });
        time.fetch_add(rest, Ordering::SeqCst);
        let decision = store.take_now(&[Demand { limit: "l", partition: address(1), quota: &quota }])[0];
        for _ in 0..decision.remaining {
            prop_assert!(admits(&store, "l", 1, &quota));
        }
        prop_assert!(!admits(&store, "l", 1, &quota));
        time.fetch_add(u64::try_from(quota.refill().as_nanos()).unwrap(), Ordering::SeqCst);
        let rested = store.take_now(&[Demand { limit: "l", partition: address(1), quota: &quota }])[0];
        prop_assert_eq!(rested.remaining, burst - 1);
    }
}

/// H5: whatever the threads do, exactly the burst passes while the time stands still.
#[test]
fn exact_under_threads() {
    let (time, clock) = by_hand();
    let store = LocalStore::with_clock(1024, clock);
    let (wide, narrow) = (quota(1000, 60, 1000), quota(700, 60, 700));
    let passed = AtomicU64::new(0);
    let run = || {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1250 {
                        let demands = [
                            Demand { limit: "wide", partition: address(1), quota: &wide },
                            Demand { limit: "narrow", partition: address(1), quota: &narrow },
                        ];
                        let all = store.take_now(&demands).iter().all(|decision| decision.admitted);
                        passed.fetch_add(u64::from(all), Ordering::Relaxed);
                    }
                });
            }
        });
        passed.swap(0, Ordering::Relaxed)
    };
    assert_eq!(run(), 700);
    // What the narrow limit refused used up nothing of the wide one.
    assert_eq!((0..400).filter(|_| admits(&store, "wide", 1, &wide)).count(), 300);
    // An interval is rounded up to whole nanoseconds: 700 of them are a little more than a minute.
    time.fetch_add(61 * SECOND, Ordering::SeqCst);
    assert_eq!(run(), 700);
}

/// H4: a flood of distinct callers neither grows the store nor buys an offender anything.
#[test]
fn a_flood_of_callers_frees_no_offender() {
    let (time, clock) = by_hand();
    let store = LocalStore::with_clock(4096, clock);
    let quota = quota(10, 60, 10);
    assert_eq!((0..20).filter(|_| admits(&store, "l", 0, &quota)).count(), 10);
    let passed = (1..300_000).filter(|&caller| admits(&store, "l", caller, &quota)).count();
    assert!(!admits(&store, "l", 0, &quota), "the offender is still known");
    // A place for each of 4096 callers, and 64 shared buckets of 10 for all the rest.
    assert!(passed <= 4096 + 64 * 10, "{passed} passed");
    let stats = store.stats();
    assert!(stats.overflowed > 290_000 && stats.evicted == 0, "{stats:?}");
    // Once the counts have run out, their places serve others.
    time.fetch_add(120 * SECOND, Ordering::SeqCst);
    assert!((0..1000).all(|caller| admits(&store, "l", 1_000_000 + caller, &quota)));
    assert!(store.stats().evicted > 900);
    assert_eq!(store.stats().overflowed, stats.overflowed);
}

/// A reload that makes a limit faster must not leave callers locked out by what the slower one wrote.
#[test]
fn a_faster_limit_frees_who_the_slower_one_held() {
    let (time, clock) = by_hand();
    let store = LocalStore::with_clock(64, clock);
    let (slow, fast) = (quota(1, 86_400, 1), quota(10, 1, 1));
    assert!(admits(&store, "l", 1, &slow) && !admits(&store, "l", 1, &slow));
    assert!(!admits(&store, "l", 1, &fast), "the faster one holds as long as it ever does");
    time.fetch_add(SECOND / 10, Ordering::SeqCst);
    assert!(admits(&store, "l", 1, &fast));
}

/// H2: one /64 is one caller; an IPv4-mapped address is the IPv4 one.
#[tokio::test]
async fn addresses_that_one_customer_has() {
    let store = Arc::new(LocalStore::with_clock(1024, || SECOND));
    let limiter = limiter(&store, &[("l", Key::Address, quota(3, 60, 3))]);
    for ip in ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:2:3:4:5:6"] {
        assert!(passes(&limiter, exchange(ip, "/", &[])).await);
    }
    assert!(!passes(&limiter, exchange("2001:db8:1:2:abcd::", "/", &[])).await);
    assert!(passes(&limiter, exchange("2001:db8:1:3::1", "/", &[])).await);
    for ip in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"] {
        assert!(passes(&limiter, exchange(ip, "/", &[])).await);
    }
    assert!(!passes(&limiter, exchange("::ffff:192.0.2.1", "/", &[])).await);
}

/// H3: no spelling of path, query or field name has a count of its own; two routes share a limit by name.
#[tokio::test]
async fn spellings_share_one_count() {
    let store = Arc::new(LocalStore::with_clock(1024, || SECOND));
    let one = limiter(&store, &[("l", Key::Field("X-Api-Key".to_owned()), quota(5, 60, 5))]);
    let other = limiter(&store, &[("l", Key::Field("x-api-key".to_owned()), quota(5, 60, 5))]);
    for (target, name) in
        [("/a", "x-api-key"), ("/a/", "X-API-KEY"), ("//a", "X-Api-Key"), ("/a?x=1", "x-Api-key")]
    {
        assert!(passes(&one, exchange("192.0.2.1", target, &[(name, "k")])).await);
    }
    assert!(passes(&other, exchange("198.51.100.7", "/b", &[("x-api-key", "k")])).await);
    assert!(!passes(&one, exchange("192.0.2.1", "/A", &[("x-api-key", "k")])).await);
    assert!(passes(&one, exchange("192.0.2.1", "/a", &[("x-api-key", "K")])).await, "values are exact");
}

#[tokio::test]
async fn consumers_and_claims_and_what_lacks_them() {
    let store = Arc::new(LocalStore::with_clock(1024, || SECOND));
    let one = quota(1, 60, 1);
    let consumer = limiter(&store, &[("c", Key::Consumer, one)]);
    let none = || serde_json::json!({});
    let by =
        |ip: &str, provider: &str, subject: &str| known_as(exchange(ip, "/", &[]), provider, subject, none());
    assert!(passes(&consumer, by("192.0.2.1", "idp", "ann")).await);
    assert!(!passes(&consumer, by("198.51.100.1", "idp", "ann")).await, "wherever she calls from");
    assert!(passes(&consumer, by("192.0.2.1", "idp", "bob")).await);
    assert!(passes(&consumer, by("192.0.2.1", "other", "ann")).await, "another provider's ann is another");
    assert!(passes(&consumer, exchange("192.0.2.1", "/", &[])).await, "nobody: by address");
    assert!(!passes(&consumer, exchange("192.0.2.1", "/", &[])).await);

    let claim = limiter(&store, &[("t", Key::Claim("realm.tenant".to_owned()), one)]);
    let of = |subject: &str, tenant: serde_json::Value| {
        known_as(
            exchange("192.0.2.1", "/", &[]),
            "idp",
            subject,
            serde_json::json!({"realm": {"tenant": tenant}}),
        )
    };
    assert!(passes(&claim, of("ann", serde_json::json!("acme"))).await);
    assert!(!passes(&claim, of("bob", serde_json::json!("acme"))).await);
    assert!(passes(&claim, of("bob", serde_json::json!(7))).await);
    assert!(passes(&claim, of("bob", serde_json::json!(["acme"]))).await, "no text: by address");
    assert!(!passes(&claim, of("bob", serde_json::json!(null))).await);
    assert!(!passes(&claim, exchange("192.0.2.1", "/", &[("realm.tenant", "x")])).await);
}

#[tokio::test]
async fn the_answer_tells() {
    let (time, clock) = by_hand();
    let store = Arc::new(LocalStore::with_clock(1024, clock));
    let early = limiter(&store, &[("address", Key::Address, quota(600, 60, 100))]);
    let late = limiter(
        &store,
        &[("hourly", Key::Consumer, quota(3600, 3600, 50)), ("burst", Key::Consumer, quota(2, 3, 2))],
    );
    let mut exchange = exchange("192.0.2.1", "/", &[]);
    assert_eq!(early.check(&mut exchange).await, Ok(()));
    assert_eq!(late.check(&mut exchange).await, Ok(()));
    assert_eq!(answer(&exchange, "ratelimit"), r#""burst";r=1;t=2, "hourly";r=49;t=1, "address";r=99;t=1"#);
    let policy = r#""burst";q=2;w=3, "hourly";q=50;w=50, "address";q=100;w=10"#;
    assert_eq!(answer(&exchange, "ratelimit-policy"), policy);
    assert_eq!(exchange.answer_fields.get_all("ratelimit").count(), 1);

    for _ in 0..2 {
        exchange.answer_fields.clear();
        let _ = late.check(&mut exchange).await;
    }
    assert_eq!(late.judge(&mut exchange).await, Verdict::Refused { limit: "burst".into(), retry_after: 2 });
    exchange.answer_fields.clear();
    assert_eq!(late.check(&mut exchange).await, Err(Rejection::RateLimited { retry_after: 2 }));
    assert_eq!(
        answer(&exchange, "ratelimit"),
        r#""burst";r=0;t=2, "hourly";r=48;t=2"#,
        "refusals use up nothing"
    );
    parse_list(&answer(&exchange, "ratelimit"));
    time.fetch_add(2 * SECOND, Ordering::SeqCst);
    assert_eq!(late.check(&mut exchange).await, Ok(()), "after the seconds it was told");
}

/// An RFC 9651 list of strings with integer parameters, read strictly.
fn parse_list(value: &str) -> Vec<(String, Vec<(String, u64)>)> {
    let member = |member: &str| {
        let mut parts = member.split(';');
        let name = parts.next().unwrap().strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        assert!(name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\'));
        let parameters = parts.map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap();
            assert!(key.bytes().all(|b| b.is_ascii_lowercase()));
            assert!(value.len() <= 15 && value.bytes().all(|b| b.is_ascii_digit()), "an sf-integer: {value}");
            (key.to_owned(), value.parse().unwrap())
        });
        (name.to_owned(), parameters.collect())
    };
    value.split(", ").map(member).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn fields_are_structured(name in "[A-Za-z0-9._-]{1,128}", count in 1u64..1_000_000, secs in 1u64..86_400, burst in 1u64..3000) {
        let Ok(quota) = Quota::new(count, Duration::from_secs(secs), burst) else { return Ok(()) };
        let store = Arc::new(LocalStore::with_clock(16, || SECOND));
        let limiter = limiter(&store, &[(&name, Key::Address, quota)]);
        let mut exchange = exchange("192.0.2.1", "/", &[]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(limiter.check(&mut exchange)).unwrap();
        let policy = parse_list(&answer(&exchange, "ratelimit-policy"));
        let state = parse_list(&answer(&exchange, "ratelimit"));
        prop_assert_eq!((&policy[0].0, &state[0].0), (&name, &name));
        prop_assert_eq!(&policy[0].1[0], &("q".to_owned(), burst));
        prop_assert_eq!(&state[0].1[0], &("r".to_owned(), burst - 1));
        let window = u64::try_from((u128::from(secs) * u128::from(burst)).div_ceil(u128::from(count))).unwrap();
        prop_assert_eq!(&policy[0].1[1], &("w".to_owned(), window));
        prop_assert!(policy[0].1[1].1 >= 1 && state[0].1[1].1 >= 1);
    }
}

#[test]
fn limits_that_cannot_be() {
    let one = quota(1, 1, 1);
    for name in ["", "a b", "a\"b", "é", "a\r\nb", &"x".repeat(129)] {
        assert_eq!(Limit::new(name, Key::Address, one).unwrap_err(), LimitError::Name(name.to_owned()));
    }
    let store = Arc::new(LocalStore::new(1));
    let twice =
        vec![Limit::new("a", Key::Address, one).unwrap(), Limit::new("a", Key::Consumer, one).unwrap()];
    assert_eq!(
        RateLimiter::new(store, twice, OnFailure::Open).unwrap_err(),
        LimitError::Twice("a".to_owned())
    );
}

/// A store on the other side of a broken network, or one that answers nonsense.
struct Broken(Result<usize, StoreError>);

impl Store for Broken {
    async fn take(&self, demands: &[Demand<'_>]) -> Result<Decisions, StoreError> {
        let decision = demands[0].quota.judge(0, 1).0;
        self.0.clone().map(|count| (0..count).map(|_| decision).collect())
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer() {
    for answer in [Err(StoreError("refused".to_owned())), Ok(0), Ok(2)] {
        for (on_failure, expected) in
            [(OnFailure::Open, Ok(())), (OnFailure::Closed, Err(Rejection::LimitUnavailable))]
        {
            let limits = vec![Limit::new("l", Key::Address, quota(1, 1, 1)).unwrap()];
            let limiter = RateLimiter::new(Arc::new(Broken(answer.clone())), limits, on_failure).unwrap();
            let mut exchange = exchange("192.0.2.1", "/", &[]);
            assert_eq!(limiter.check(&mut exchange).await, expected);
            assert!(exchange.answer_fields.is_empty());
        }
    }
}

#[test]
fn so_many_at_once_and_no_more() {
    let limit = Concurrency::new(Key::Address, 7);
    let most = AtomicU64::new(0);
    let inside = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5000 {
                    let Some(slot) = limit.enter_as(&address(1)) else { continue };
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(slot);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 7);
    assert_eq!(limit.in_flight(), 0);
    let held: Vec<_> = (0..7).map(|_| limit.enter(&exchange("192.0.2.1", "/", &[])).unwrap()).collect();
    let refused = limit.enter(&exchange("192.0.2.1", "/", &[])).unwrap_err();
    assert_eq!(refused, Rejection::RateLimited { retry_after: 1 });
    assert!(limit.enter(&exchange("192.0.2.2", "/", &[])).is_ok(), "others have their own");
    let reloaded = limit.retuned(Key::Address, 8);
    let eighth = reloaded.enter(&exchange("192.0.2.1", "/", &[])).unwrap();
    assert!(reloaded.enter(&exchange("192.0.2.1", "/", &[])).is_err());
    drop((held, eighth));
    assert_eq!(limit.in_flight(), 0);
    assert!(Concurrency::new(Key::Address, 0).enter_as(&address(1)).is_none());
}
