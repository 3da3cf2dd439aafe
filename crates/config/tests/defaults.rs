//! What a file that says little means.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use portcullis_config::{
    BodyMode, DuplicateKeys, FirewallMode, LeakKind, LeakMode, Loaded, Over, RateKey, load, parse,
};
use portcullis_diag::SourceMap;

fn loaded(text: &str) -> Loaded {
    let mut sources = SourceMap::new();
    let env = |name: &str| (name == "KEY").then(|| "0123456789abcdef0123456789abcdef".to_owned());
    parse("gateway.toml", text, &mut sources, &env)
        .unwrap_or_else(|found| panic!("{}", found.to_text(&sources)))
}

const SMALL: &str = "
[[listener]]
name = 'public'
address = '127.0.0.1:8080'

[upstream.u]
endpoints = [{ address = '127.0.0.1:1' }]

[[route]]
name = 'r'
match = { path = '/' }
upstream = 'u'
";

#[test]
fn an_empty_route_is_guarded() {
    let config = loaded(SMALL).config;
    let route = &config.route[0];
    assert_eq!((route.body.mode, route.body.over), (BodyMode::Buffer, Over::Reject));
    assert_eq!(route.body_limit().unwrap().get(), 1 << 20);
    assert_eq!(route.total_timeout(), Some(Duration::from_secs(60)));
    assert_eq!((route.body.json.max_depth, route.body.json.duplicate_keys), (64, DuplicateKeys::Reject));
    assert_eq!((config.firewall.mode, route.firewall.mode), (FirewallMode::Block, None));
    assert_eq!(config.firewall.rules, ["rules/*.conf"]);
    assert_eq!(route.response.leaks.mode, LeakMode::Mask);
    assert_eq!(
        route.response.leaks.kinds,
        [LeakKind::Card, LeakKind::Secret, LeakKind::InternalAddress, LeakKind::StackTrace]
    );
    assert_eq!(config.response_headers.set["x-content-type-options"].as_str(), "nosniff");
    assert!(config.response_headers.remove.iter().any(|name| name.as_str() == "server"));
    let limits = &config.listener[0].limits;
    assert_eq!((limits.max_head.get(), limits.max_fields, limits.max_target.get()), (32 << 10, 100, 8 << 10));
    assert_eq!(config.listener[0].timeouts.header.get(), Duration::from_secs(10));
    assert!(config.server.trusted_proxies.is_empty());
    let upstream = &config.upstream["u"];
    assert_eq!(upstream.connect_timeout.get(), Duration::from_secs(3));
    assert_eq!(upstream.response_timeout.get(), Duration::from_secs(30));
}

#[test]
fn a_streaming_route_has_no_total_deadline_unless_it_says_so() {
    for (said, total, limit) in [
        ("response = { streaming = true }", None, Some(1 << 20)),
        ("body = { mode = 'stream' }", None, None),
        (
            "body = { mode = 'stream', limit = '2GiB' }\ntimeouts = { total = '1h' }",
            Some(3600),
            Some(2 << 30),
        ),
    ] {
        let config = loaded(&format!("{SMALL}{said}\n")).config;
        assert_eq!(config.route[0].total_timeout(), total.map(Duration::from_secs), "{said}");
        assert_eq!(config.route[0].body_limit().map(portcullis_config::ByteSize::get), limit, "{said}");
    }
}

#[test]
fn all_fields_have_one_more_form_than_the_default() {
    let config = loaded(&format!(
        "{SMALL}
rewrite = '/x'
rate_limit = [{{ rate = '100/m', key = 'claim:tenant' }}, {{ rate = '1/s', burst = 5 }}]
auth = {{ providers = ['i'], claims = {{ plan = 'gold', 'realm.tier' = ['a', 'b'] }} }}
firewall = {{ paranoia = 2, exclusions = [{{ rule = 942100, target = 'ARGS:q' }}, {{ tag = 'attack-sqli' }}] }}
[identity.i]
issuer = 'i'
audiences = ['a']
algorithms = ['HS256']
keys = [{{ algorithm = 'HS256', secret = '${{KEY}}' }}]
"
    ))
    .config;
    let route = &config.route[0];
    assert_eq!(route.rate_limit[0].key, RateKey::Claim("tenant".into()));
    assert_eq!((route.rate_limit[1].burst, &route.rate_limit[1].key), (Some(5), &RateKey::Address));
    let claims = &route.auth.as_ref().unwrap().claims;
    assert_eq!((claims["plan"].values().len(), claims["realm.tier"].values().len()), (1, 2));
    assert_eq!(route.firewall.exclusions[0].rule.unwrap().ids(), 942_100..=942_100);
    let key = &config.identity["i"].keys[0];
    assert_eq!(key.secret.as_ref().unwrap().expose().len(), 32);
    let printed = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(printed.contains("***") && !printed.contains("0123456789abcdef"), "{printed}");
}

#[test]
fn fields_are_found_in_the_file() {
    let mut sources = SourceMap::new();
    let loaded = parse("gateway.toml", SMALL, &mut sources, &|_: &str| None).unwrap();
    let at = |path: &str| sources.text(loaded.spans.value(path).unwrap());
    assert_eq!(at("route[0].upstream"), "'u'");
    assert_eq!(at("upstream.u"), "[upstream.u]");
    assert_eq!(at("route[0].body.json.max_depth"), "[[route]]");
    assert!(loaded.spans.contains("route[0].match.path") && !loaded.spans.contains("route[0].body"));
    assert!(loaded.spans.value("zebra").is_none());
}

#[test]
fn files_are_relative_to_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    std::fs::write(folder.path().join("rules/a.conf"), "").unwrap();
    std::fs::write(folder.path().join("gateway.toml"), format!("\u{feff}{SMALL}")).unwrap();
    let mut sources = SourceMap::new();
    let loaded = load(&folder.path().join("gateway.toml"), &mut sources, &|_: &str| None).unwrap();
    assert_eq!(loaded.config.rule_files().unwrap(), [folder.path().join("rules/a.conf")]);
    assert_eq!(loaded.config.resolve("x.pem".as_ref()), folder.path().join("x.pem"));
}
