//! Reloads under load, of each thing that can be reloaded.

use crate::load::{Load, all_kinds};
use crate::{builder, config, origin, rules_against};
use portcullis_testkit::{Authority, suite};

#[test]
fn each_kind_of_reload_in_turn_fails_no_request_and_cuts_no_connection() {
    const SUCCESS: &str = r#"portcullis_reloads_total{result="success"}"#;
    let (one, two, authority) = (origin(), origin(), Authority::new());
    let both = [one.address(), two.address()];
    let gateway = builder(&authority).start(|ports| config(ports, &both, "", ""));
    let ports = gateway.ports();
    let kinds = all_kinds(&authority);
    let load = Load::start(ports.public, ports.tls, &kinds);
    load.progress(5);
    let limit = "[[route.rate_limit]]\nrate = \"1000000/s\"\n";
    let other = "[[route]]\nname = \"other\"\nmatch = { path = \"/other\" }\nupstream = \"origin\"\n";
    let mut reloads = 0;
    for round in 0..3 {
        let changes: [&dyn Fn(); 7] = [
            &|| gateway.replace("rules/test.conf", rules_against(&format!("word{round}"))),
            &|| {
                let identity = authority.issue(&["localhost", &format!("n{round}.test")]);
                let folder = gateway.folder().join("new");
                std::fs::create_dir_all(&folder).unwrap();
                let (certificate, key) = identity.write(&folder, "a");
                std::fs::rename(key, gateway.folder().join("a.key")).unwrap();
                std::fs::rename(certificate, gateway.folder().join("a.crt")).unwrap();
            },
            &|| gateway.replace("gateway.toml", config(ports, &both[..1], "", "")),
            &|| gateway.replace("gateway.toml", config(ports, &both[1..], "", limit)),
            &|| gateway.replace("gateway.toml", config(ports, &both, "server.grace = \"10s\"", other)),
            &|| gateway.replace("gateway.toml", config(ports, &both, "", "")),
            &|| gateway.signal("HUP"),
        ];
        for change in changes {
            let before = gateway.sample(SUCCESS).unwrap();
            change();
            gateway.wait_for_sample(SUCCESS, |now| now > before);
            load.progress(2);
            reloads += 1;
        }
    }
    let tally = load.end();
    assert_eq!(tally.failures, [""; 0]);
    assert!(tally.good.iter().all(|good| *good > 20), "{:?}", tally.good);
    let count: usize = tally.good.iter().sum();
    suite(
        "reload under load",
        &format!("{reloads} reloads, {count} requests by {} clients, 0 failed", kinds.len()),
    );
}
