//! What the firewall decides by route: mode, paranoia, thresholds, exclusions, samples; and rules on trial, which decide
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gateway, Origin, Response, get, request};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// As CRS has it: levels that rules belong to, a score, and a rule that decides by it.
const RULES: &str = r#"
SecRequestBodyAccess On
SecRule &TX:blocking_paranoia_level "@eq 0" "id:901,phase:1,pass,nolog,setvar:tx.blocking_paranoia_level=1"
SecRule &TX:inbound_anomaly_score_threshold "@eq 0" "id:902,phase:1,pass,nolog,setvar:tx.inbound_anomaly_score_threshold=5"
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:903,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule ARGS|REQUEST_COOKIES "@contains attack" "id:1001,phase:2,pass,msg:'one',tag:'attack-one',setvar:tx.inbound_anomaly_score_pl1=+5"
SecRule TX:blocking_paranoia_level "@lt 2" "id:904,phase:2,pass,nolog,skipAfter:END-PL2"
SecRule ARGS "@contains odd" "id:1002,phase:2,pass,msg:'two',tag:'attack-two',setvar:tx.inbound_anomaly_score_pl1=+5"
SecMarker END-PL2
SecRule TX:inbound_anomaly_score_pl1 "@ge %{tx.inbound_anomaly_score_threshold}" "id:949110,phase:2,deny,status:403,msg:'too much'"
"#;

/// A route for each wish; `firewall` and `routes` are further lines.
fn start(firewall: &str, routes: &[(&str, &str)]) -> (Gateway, Origin) {
    start_with(&[("rules/test.conf", RULES)], firewall, routes)
}

fn start_with(files: &[(&str, &str)], firewall: &str, routes: &[(&str, &str)]) -> (Gateway, Origin) {
    let origin = Origin::answering(Answer::ok("fine"));
    let mut builder = Gateway::builder(BINARY);
    for (name, content) in files {
        builder = builder.file(name, content);
    }
    let routes: String = routes
        .iter()
        .map(|(name, firewall)| {
            format!(
                "[[route]]\nname = \"{name}\"\nmatch = {{ path = \"/{name}\" }}\nupstream = \"backend\"\nfirewall = {{ {firewall} }}\n"
            )
        })
        .collect();
    let gateway = builder.start(|ports| {
        format!(
            r#"
            admin.listen = "{admin}"
            [[listener]]
            name = "public"
            address = "{public}"
            [upstream.backend]
            endpoints = [{{ address = "{upstream}" }}]
            [firewall]
            rules = ["rules/*.conf"]
            {firewall}
            {routes}
            "#,
            admin = ports.admin,
            public = ports.public,
            upstream = origin.address(),
        )
    });
    (gateway, origin)
}

/// What the access line of an answer says of the firewall.
fn firewall_of(gateway: &Gateway, answer: &Response) -> Value {
    let id = answer.header("x-request-id").expect("every answer has a request id");
    let line = gateway.wait_for_line(|line| line.contains(id) && line.contains("\"message\":\"request\""));
    serde_json::from_str::<Value>(&line).unwrap()["firewall"].take()
}

fn ids(firewall: &Value) -> Vec<u64> {
    firewall["rules"].as_array().into_iter().flatten().map(|rule| rule["id"].as_u64().unwrap()).collect()
}

#[test]
fn each_route_decides_for_itself() {
    let (gateway, _origin) = start(
        "",
        &[
            ("block", ""),
            ("detect", "mode = \"detect\""),
            ("off", "mode = \"off\""),
            ("strict", "paranoia = 2"),
            ("lenient", "inbound_threshold = 6"),
        ],
    );
    for (target, status, action, rules) in [
        ("/block?q=attack", 403, "deny", vec![1001, 949_110]),
        ("/block?q=odd", 200, "", vec![]),
        ("/detect?q=attack", 200, "detect", vec![1001, 949_110]),
        ("/off?q=attack", 200, "", vec![]),
        ("/strict?q=odd", 403, "deny", vec![1002, 949_110]),
        ("/lenient?q=attack", 200, "log", vec![1001]),
        ("/lenient?q=attack&r=attack", 403, "deny", vec![1001, 949_110]),
    ] {
        let answer = get(gateway.public(), target);
        assert_eq!(answer.status(), status, "{target}");
        let firewall = firewall_of(&gateway, &answer);
        assert_eq!(firewall["action"].as_str().unwrap_or_default(), action, "{target}");
        assert_eq!(ids(&firewall), rules, "{target}");
    }
    let firewall = firewall_of(&gateway, &get(gateway.public(), "/strict?q=xattack"));
    assert_eq!((&firewall["paranoia"], &firewall["score"]), (&2.into(), &5.into()));
    let rule = &firewall["rules"][0];
    assert_eq!((&rule["variable"], &rule["value"]), (&"ARGS:q".into(), &"xattack".into()));
    assert_eq!((&rule["offset"], &rule["phase"]), (&json!([1, 7]), &2.into()));
    assert_eq!(rule["scores"], json!({ "inbound_anomaly_score_pl1": 5 }));
}

#[test]
fn exclusions_by_id_tag_and_target() {
    let (gateway, _origin) = start(
        "",
        &[
            ("id", "exclusions = [{ rule = 1001 }]"),
            ("range", "exclusions = [{ rule = \"1000-1009\" }]"),
            ("tag", "exclusions = [{ tag = \"attack-one\" }]"),
            ("tags", "exclusions = [{ tag = \"/^attack-/\" }]"),
            ("part", "exclusions = [{ rule = 1001, target = \"ARGS:comment\" }]"),
            ("glob", "exclusions = [{ rule = 1001, target = \"ARGS:json.items.*.note\" }]"),
            (
                "regex",
                "exclusions = [{ tag = \"attack-one\", target = \"ARGS:/^json\\\\.items\\\\.[0-9]+\\\\.note$/\" }]",
            ),
            ("anyone", "exclusions = [{ target = \"REQUEST_COOKIES:/^_ga/\" }]"),
        ],
    );
    let send = |route: &str, body: &str, field: &str| {
        let fields = ["content-type: application/json", field];
        request(gateway.public(), &format!("POST /{route}"), &fields, body)
    };
    let in_list = r#"{"items":[{"note":"fine"},{"note":"attack"}]}"#;
    let beside = r#"{"items":[{"note":"attack","name":"attack"}]}"#;
    let comment = r#"{"note":"attack"}"#;
    for (route, body, field, status) in [
        ("id", in_list, "x-a: b", 200),
        ("range", in_list, "x-a: b", 200),
        ("tag", in_list, "x-a: b", 200),
        ("tags", in_list, "x-a: b", 200),
        ("part", in_list, "x-a: b", 403),
        ("glob", in_list, "x-a: b", 200),
        ("glob", beside, "x-a: b", 403),
        ("glob", comment, "x-a: b", 403),
        ("regex", in_list, "x-a: b", 200),
        ("regex", beside, "x-a: b", 403),
        ("anyone", "{}", "cookie: _ga_1=attack", 200),
        ("anyone", "{}", "cookie: other=attack", 403),
    ] {
        assert_eq!(send(route, body, field).status(), status, "{route} {body} {field}");
    }
    assert_eq!(get(gateway.public(), "/part?comment=attack").status(), 200);
    // A log line says what was left out, where something else is to be said.
    let answer = send("glob", beside, "x-a: b");
    let firewall = firewall_of(&gateway, &answer);
    assert_eq!(firewall["exclusions"], json!([{ "rule": 1001, "target": "ARGS:json.items.0.note" }]));
}

#[test]
fn samples() {
    let (gateway, _origin) = start(
        "sample = \"0%\"",
        &[
            ("detected", ""),
            ("uninspected", "unsampled = \"off\""),
            ("all", "sample = \"100%\""),
            ("half", "sample = \"50%\""),
        ],
    );
    let answer = get(gateway.public(), "/detected?q=attack");
    assert_eq!(answer.status(), 200);
    let firewall = firewall_of(&gateway, &answer);
    assert_eq!((&firewall["sampled"], &firewall["action"]), (&false.into(), &"detect".into()));
    assert_eq!(ids(&firewall), [1001, 949_110]);

    let answer = get(gateway.public(), "/uninspected?q=attack");
    assert_eq!(answer.status(), 200);
    let firewall = firewall_of(&gateway, &answer);
    assert_eq!((&firewall["sampled"], &firewall["matched"]), (&false.into(), &0.into()));

    let answer = get(gateway.public(), "/all?q=attack");
    assert_eq!(answer.status(), 403);
    assert!(firewall_of(&gateway, &answer).get("sampled").is_none());

    // 200 tosses of a fair coin come out one-sided once in 10^60.
    let refused = (0..200).filter(|_| get(gateway.public(), "/half?q=attack").status() == 403).count();
    assert!((1..200).contains(&refused), "{refused}");
}

const SHADOW: &str = r#"
SecRequestBodyAccess On
SecRule ARGS "@contains new" "id:2001,phase:1,deny,status:403,msg:'new'"
SecRule ARGS "@contains note" "id:2002,phase:1,pass,log,msg:'note'"
"#;

fn counts(gateway: &Gateway, route: &str) -> [f64; 4] {
    [("pass", "pass"), ("pass", "block"), ("block", "pass"), ("block", "block")].map(|(live, shadow)| {
        let labels = format!("live=\"{live}\",route=\"{route}\",shadow=\"{shadow}\"");
        gateway.sample(&format!("portcullis_firewall_shadow_total{{{labels}}}")).unwrap()
    })
}

#[test]
fn rules_on_trial_are_logged_and_counted_and_refuse_nothing() {
    let files = [("rules/test.conf", RULES), ("shadow/test.conf", SHADOW)];
    let (gateway, _origin) = start_with(
        &files,
        "exclusions = [{ rule = 1002, target = \"ARGS:x\" }]\nshadow = { rules = [\"shadow/*.conf\"] }",
        &[
            ("on", ""),
            ("none", "shadow = { sample = \"0%\" }"),
            ("off", "mode = \"off\""),
            ("detect", "mode = \"detect\""),
        ],
    );
    let fresh = get(gateway.public(), "/on?q=new");
    assert_eq!(fresh.status(), 200, "what is on trial is not enforced");
    let firewall = firewall_of(&gateway, &fresh);
    assert_eq!(firewall["action"], "log");
    assert_eq!(
        firewall["shadow"],
        json!({ "live": "pass", "shadow": "block", "rule": 2001, "score": 0, "only_live": [], "only_shadow": [2001] })
    );
    let old = get(gateway.public(), "/on?q=attack");
    assert_eq!(old.status(), 403);
    let shadow = &firewall_of(&gateway, &old)["shadow"];
    assert_eq!((&shadow["live"], &shadow["shadow"]), (&"block".into(), &"pass".into()));
    let both = get(gateway.public(), "/on?q=new-attack");
    assert_eq!(both.status(), 403);
    assert!(firewall_of(&gateway, &both).get("shadow").is_none(), "the verdict is the same");
    let noted = get(gateway.public(), "/on?q=note");
    assert_eq!(firewall_of(&gateway, &noted), Value::Null, "other rules, but the same verdict");
    assert_eq!(counts(&gateway, "on"), [1.0, 1.0, 1.0, 1.0]);

    assert_eq!(get(gateway.public(), "/none?q=new").status(), 200);
    assert_eq!(get(gateway.public(), "/off?q=new").status(), 200);
    assert!(!get(gateway.admin(), "/metrics").text().contains("route=\"none\",shadow"));
    // In detection, what counts is that it would have been refused.
    let detected = get(gateway.public(), "/detect?q=new-attack");
    assert!(firewall_of(&gateway, &detected).get("shadow").is_none());
    assert_eq!(counts(&gateway, "detect"), [0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn the_same_rules_on_trial_with_other_settings() {
    let (gateway, _origin) = start(
        "shadow = { paranoia = 2, compare = \"rules\" }",
        &[("on", ""), ("kept", "shadow = { exclusions = [{ rule = 1002 }] }")],
    );
    let odd = get(gateway.public(), "/on?q=odd");
    assert_eq!(odd.status(), 200);
    let shadow = &firewall_of(&gateway, &odd)["shadow"];
    assert_eq!((&shadow["shadow"], &shadow["score"]), (&"block".into(), &5.into()));
    assert_eq!(shadow["only_shadow"], json!([1002, 949_110]));
    let both = get(gateway.public(), "/on?q=odd-attack");
    assert_eq!(both.status(), 403);
    let shadow = &firewall_of(&gateway, &both)["shadow"];
    assert_eq!(
        (&shadow["live"], &shadow["shadow"], &shadow["only_shadow"]),
        (&"block".into(), &"block".into(), &json!([1002]))
    );
    assert_eq!(firewall_of(&gateway, &get(gateway.public(), "/kept?q=odd")), Value::Null);
}

/// Where the rules in force refuse early, those on trial decide by what had been seen till then.
#[test]
fn an_early_refusal_is_compared_fairly() {
    let early = "SecRule ARGS \"@contains attack\" \"id:3001,phase:1,deny,status:403,msg:'early'\"\n";
    let files = [("rules/test.conf", early), ("shadow/test.conf", RULES)];
    let (gateway, _origin) = start_with(&files, "shadow = { rules = [\"shadow/*.conf\"] }", &[("on", "")]);
    assert_eq!(get(gateway.public(), "/on?q=attack").status(), 403);
    gateway.wait_for_sample(
        "portcullis_firewall_shadow_total{live=\"block\",route=\"on\",shadow=\"block\"}",
        |count| count == 1.0,
    );
}

/// A rule on trial that does not compile is an error like any other: what is in force stays.
#[test]
fn broken_rules_on_trial_are_not_taken_up() {
    let files = [("rules/test.conf", RULES), ("shadow/test.conf", SHADOW)];
    let (gateway, _origin) = start_with(&files, "shadow = { rules = [\"shadow/*.conf\"] }", &[("on", "")]);
    gateway.replace("shadow/test.conf", "SecRule ARGS \"@rx (\" \"id:2001\"\n");
    gateway.wait_for_sample("portcullis_reloads_total{result=\"failure\"}", |count| count >= 1.0);
    let error = get(gateway.admin(), "/readyz").text();
    assert!(error.contains("shadow/test.conf:1"), "{error}");
    assert_eq!(get(gateway.public(), "/on?q=attack").status(), 403);
    let before = counts(&gateway, "on");
    gateway.replace("shadow/test.conf", SHADOW.replace("new", "newer"));
    gateway.wait_for_sample("portcullis_reloads_total{result=\"success\"}", |count| count >= 2.0);
    assert_eq!(get(gateway.public(), "/on?q=newer").status(), 200);
    gateway.wait_for_sample(
        "portcullis_firewall_shadow_total{live=\"pass\",route=\"on\",shadow=\"block\"}",
        |count| count == before[1] + 1.0,
    );
}
