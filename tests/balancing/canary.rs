//! Canaries.

use super::*;

/// A route of `stable` with this canary, in front of two origins.
fn canary(builder: GatewayBuilder, origins: &[Origin; 2], more: &str) -> Gateway {
    let tables = upstream("stable", [(&origins[0], "")], "") + &upstream("next", [(&origins[1], "")], "");
    start(builder, &(tables + &all("stable", more)))
}

#[test]
fn a_canary_gets_its_share() {
    let origins = two();
    let gateway =
        canary(Gateway::builder(BINARY), &origins, "[[route.canary]]\nupstream = \"next\"\nshare = \"20%\"");
    let mut client = client(&gateway);
    (0..1_000).for_each(|_| assert_eq!(ask(&mut client, "").status(), 200));
    // Eight standard deviations of 12.6.
    assert!((100..300).contains(&origins[1].count()), "{}", origins[1].count());
    let sample = |upstream: &str| {
        gateway.sample(&format!("portcullis_canary_requests_total{{route=\"all\",upstream=\"{upstream}\"}}"))
    };
    assert_eq!(sample("next"), Some(origins[1].count() as f64));
    assert_eq!(sample("stable"), Some(origins[0].count() as f64));
    // The log names the upstream that was called.
    let line = gateway.wait_for_line(|line| line.contains("next"));
    assert!(line.contains(&origins[1].address().to_string()), "{line}");
}

#[test]
fn headers_and_cookies_choose_a_canary() {
    let origins = two();
    let gateway = canary(
        Gateway::builder(BINARY),
        &origins,
        r#"
        [[route.canary]]
        upstream = "stable"
        headers = [{ name = "x-canary", value = "never" }]
        [[route.canary]]
        upstream = "next"
        headers = [{ name = "x-canary", value = "always" }, { name = "x-version", regex = "^2[.]" }]
        cookies = [{ name = "canary", value = "v2" }, { name = "beta", present = true }]
        "#,
    );
    let mut client = client(&gateway);
    for (fields, wanted) in [
        ("", 0),
        ("x-canary: always\r\n", 1),
        ("x-canary: sometimes\r\n", 0),
        ("x-version: 2.1\r\n", 1),
        ("x-version: 12.1\r\n", 0),
        ("cookie: a=b; canary=v2\r\n", 1),
        ("cookie: canary=v1\r\n", 0),
        ("cookie: beta=\r\n", 1),
        ("cookie: Beta=1\r\n", 0),
        ("x-canary: never\r\ncookie: canary=v2\r\n", 0),
    ] {
        assert_eq!(index(&ask(&mut client, fields)), wanted, "{fields:?}");
    }
}

#[test]
fn a_canarys_share_may_go_by_key() {
    let origins = two();
    let more = "canary_by = \"cookie:user\"\n[[route.canary]]\nupstream = \"next\"\nshare = \"30%\"";
    let gateway = canary(Gateway::builder(BINARY), &origins, more);
    let mut client = client(&gateway);
    let mut chosen = |user: u32| index(&ask(&mut client, &format!("cookie: user={user}\r\n")));
    let first: Vec<usize> = (0..300).map(&mut chosen).collect();
    assert_eq!(first, (0..300).map(&mut chosen).collect::<Vec<_>>());
    let share = first.iter().sum::<usize>();
    assert!((50..130).contains(&share), "{share} of 300");
    // A larger share takes more users, and keeps those it has.
    let more = more.replace("30%", "60%");
    let larger = canary(Gateway::builder(BINARY), &origins, &more);
    let mut client = RawClient::connect(larger.public()).unwrap();
    for (user, before) in first.iter().enumerate() {
        let now = index(&ask(&mut client, &format!("cookie: user={user}\r\n")));
        assert!(*before == 0 || now == 1, "{user}");
    }
}

#[test]
fn a_share_of_nothing_and_of_all() {
    for (share, wanted) in [("0%", 0), ("100%", 1)] {
        let origins = two();
        let conditions = "headers = [{ name = \"x-canary\", value = \"always\" }]";
        let more = format!("[[route.canary]]\nupstream = \"next\"\nshare = \"{share}\"\n{conditions}");
        let gateway = canary(Gateway::builder(BINARY), &origins, &more);
        let mut client = client(&gateway);
        for _ in 0..200 {
            assert_eq!(index(&ask(&mut client, "")), wanted, "{share}");
        }
        assert_eq!(index(&ask(&mut client, "x-canary: always\r\n")), 1, "{share}");
    }
}

#[test]
fn a_canary_that_is_down_fails_by_itself() {
    let stable = Origin::answering(Answer::ok("0"));
    let tables = upstream("stable", [(&stable, "")], "")
        + &format!("[upstream.next]\nendpoints = [{{ address = \"{}\" }}]\n", free_port());
    let more = "[[route.canary]]\nupstream = \"next\"\nheaders = [{ name = \"x-canary\", present = true }]";
    let gateway = start(Gateway::builder(BINARY), &(tables + &all("stable", more)));
    let mut client = client(&gateway);
    for _ in 0..5 {
        assert_eq!(ask(&mut client, "x-canary: 1\r\n").status(), 502, "nobody else answers for it");
        assert_eq!(index(&ask(&mut client, "")), 0, "the others notice nothing");
    }
    assert_eq!(stable.count(), 5);
}
