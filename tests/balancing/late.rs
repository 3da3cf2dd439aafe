//! Endpoints that come late, by a reload: what they get of each balance, and what clients notice who have an endpoint.

use super::*;

const RELOADED: &str = "portcullis_reloads_total{result=\"success\"}";

/// Puts other tables in the place of those before, and waits until they hold.
fn reload(gateway: &Gateway, before: &str, after: &str) {
    let config = std::fs::read_to_string(gateway.folder().join("gateway.toml")).unwrap();
    assert!(config.contains(before));
    let so_far = gateway.sample(RELOADED).unwrap_or_default();
    gateway.replace("gateway.toml", config.replace(before, after));
    gateway.wait_for_sample(RELOADED, |count| count > so_far);
}

#[test]
fn a_latecomer_warms_up_whatever_the_balance() {
    let hash = "hash = { by = \"header:x-key\" }";
    for (balance, more) in
        [("round_robin", ""), ("random", ""), ("power_of_two", ""), ("peak_ewma", ""), ("ring_hash", hash)]
    {
        // Takes long enough for a try to be under way.
        let origins: Vec<Origin> = (0..4)
            .map(|at| Origin::answering(Answer::ok(at.to_string()).after(Duration::from_millis(1))))
            .collect();
        let tables = |count: usize, slow_start: &str| {
            let more = format!("balance = \"{balance}\"\nslow_start = \"{slow_start}\"\n{more}");
            upstream("u", plain(&origins[..count]), &more)
        };
        let route = all("u", "");
        let gateway = start(Gateway::builder(BINARY), &(tables(2, "120s") + &route));
        let mut client = client(&gateway);
        let mut asked = 0;
        let mut ask_many = |count: usize| {
            (0..count).for_each(|_| {
                asked += 1;
                assert_eq!(ask(&mut client, &format!("x-key: {asked}\r\n")).status(), 200);
            });
        };
        ask_many(20);
        reload(&gateway, &tables(2, "120s"), &tables(3, "120s"));
        let before = [origins[0].count(), origins[1].count()];
        ask_many(400);
        // A tenth of a third; nobody waits for two minutes.
        let late = origins[2].count();
        assert!((1..=60).contains(&late), "{balance}: {late} of 400");
        // Among the others, and where nothing holds it back, latency alone decides where it is asked for: any of them may
        // get nearly all.
        let by_latency = balance == "peak_ewma";
        let others = [origins[0].count() - before[0], origins[1].count() - before[1]];
        assert!(
            by_latency || others.iter().all(|count| *count >= 80),
            "{balance}: the others bear the rest: {others:?}"
        );
        // Without a slow start it gets its share at once.
        reload(&gateway, &tables(3, "120s"), &tables(4, "0s"));
        ask_many(400);
        let at_once = origins[3].count();
        let wanted = if by_latency { 1..=400 } else { 50..=160 };
        assert!(wanted.contains(&at_once), "{balance}: {at_once} of 400");
    }
}

#[test]
fn a_cookie_outlives_other_endpoints() {
    let origins = origins(4);
    let tables = |order: &[usize]| {
        upstream("u", order.iter().map(|at| (&origins[*at], "")), "sticky = {}\nslow_start = \"60s\"")
    };
    let gateway = start(Gateway::builder(BINARY), &(tables(&[0, 1, 2]) + &all("u", "")));
    let mut client = client(&gateway);
    let clients: Vec<(usize, String)> = (0..6)
        .map(|_| {
            let first = ask(&mut client, "");
            (index(&first), set_cookie(&first).unwrap().0)
        })
        .collect();
    assert_eq!(clients.iter().map(|(owner, _)| *owner).collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2]));
    // One goes, one comes, and the rest stand in another order.
    reload(&gateway, &tables(&[0, 1, 2]), &tables(&[3, 2, 0]));
    for (owner, pair) in clients {
        let again = ask(&mut client, &format!("cookie: {pair}\r\n"));
        if owner == 1 {
            let (moved, _) = set_cookie(&again).unwrap();
            assert_ne!((index(&again), &moved), (1, &pair), "it went");
        } else {
            assert_eq!((index(&again), set_cookie(&again)), (owner, None));
        }
    }
}
