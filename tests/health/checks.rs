//! Active checks, and panic.

use crate::{BINARY, CHECKED, Server, ask, config, endpoints, eventually, gateway, ready, told_once};
use portcullis_testkit::{Gateway, Received, free_port, get};
use std::collections::BTreeSet;

#[test]
fn checks_take_an_endpoint_out_and_bring_it_back() {
    let (sick, well) = (Server::start(), Server::start());
    let gateway = gateway(&[&sick, &well], CHECKED);
    eventually("the first checks are through", || endpoints(&gateway, "available") == 2.0);
    sick.reports(500);
    let mut during = Vec::new();
    eventually("it is out", || {
        during.extend(ask(&gateway, 1));
        endpoints(&gateway, "unhealthy") == 1.0
    });
    let before = sick.served();
    during.extend(ask(&gateway, 30));
    assert!(during.iter().all(|status| *status == 200), "nobody noticed");
    assert_eq!(sick.served(), before, "it is spared");
    let listed = ready(&gateway)["endpoints"]["listed"][0].clone();
    assert_eq!((listed["health"].as_str(), listed["available"].as_bool()), (Some("unhealthy"), Some(false)));

    // State survives a reload, also one that changes something.
    gateway.signal("HUP");
    let _ = gateway.wait_for_line(|line| line.contains("configuration reloaded"));
    ask(&gateway, 10);
    assert_eq!(sick.served(), before);

    sick.reports(201);
    eventually("it is back", || {
        ask(&gateway, 1);
        sick.served() > before
    });
    told_once(&gateway, "the endpoint is unhealthy");
    told_once(&gateway, "the endpoint is healthy");

    let checks = || -> Vec<Received> {
        let all = sick.origin.requests().into_iter();
        all.filter(|request| request.target() == "/health").collect()
    };
    eventually("it is checked on", || checks().len() >= 12);
    let checks = checks();
    let connections: BTreeSet<usize> = checks.iter().map(|check| check.connection).collect();
    assert!(connections.len() <= 2, "one before the reload, one after it: {connections:?}");
    assert_eq!(checks[0].header("host"), Some(sick.origin.address().to_string().as_str()));
    assert_eq!(checks[0].method(), "GET");
    let failed = "portcullis_upstream_health_checks_total{result=\"failure\",upstream=\"origin\"}";
    assert!(gateway.sample(failed).unwrap() >= 2.0);
}

#[test]
fn checks_say_what_they_are_told_to() {
    let server = Server::start();
    let check = "health_check = { path = \"/health\", method = \"HEAD\", host = \"checked.test\", \
                 expected_statuses = [\"404\"], interval = \"50ms\" }\npanic_threshold = 0";
    server.reports(404);
    let gateway = gateway(&[&server], check);
    let first = server.origin.wait_for(2).swap_remove(0);
    assert_eq!((first.method(), first.header("host")), ("HEAD", Some("checked.test")));
    assert_eq!(ask(&gateway, 1), [200]);
}

#[test]
fn a_tcp_check_sees_a_server_that_starts_late() {
    let (late, well) = (free_port(), Server::start());
    let upstream = "health_check = { type = \"tcp\", interval = \"100ms\", unhealthy_interval = \"50ms\" }";
    let gateway =
        Gateway::builder(BINARY).start(|ports| config(ports, &[late, well.origin.address()], upstream));
    eventually("nobody listens there", || endpoints(&gateway, "unhealthy") == 1.0);
    assert!(ask(&gateway, 10).iter().all(|status| *status == 200));
    let late = Server::at(Some(late));
    eventually("it listens", || {
        ask(&gateway, 1);
        late.served() > 0
    });
}

#[test]
fn an_endpoint_that_hangs_is_unhealthy() {
    let (hangs, well) = (Server::start(), Server::start());
    hangs.reports(0);
    let check = "health_check = { path = \"/health\", interval = \"50ms\", timeout = \"200ms\" }";
    let gateway = gateway(&[&hangs, &well], check);
    let _ = gateway.wait_for_line(|line| {
        line.contains("the endpoint is unhealthy") && line.contains("no answer in time")
    });
    let before = hangs.served();
    assert!(ask(&gateway, 10).iter().all(|status| *status == 200));
    assert_eq!(hangs.served(), before);
}

#[test]
fn one_that_is_added_must_pass_a_check_first() {
    let (old, new) = (Server::start(), Server::start());
    new.reports(500);
    let gateway = gateway(&[&old], CHECKED);
    ask(&gateway, 3);
    let both = [old.origin.address(), new.origin.address()];
    gateway.replace("gateway.toml", config(gateway.ports(), &both, CHECKED));
    eventually("it was checked", || endpoints(&gateway, "unhealthy") == 1.0);
    assert!(ask(&gateway, 20).iter().all(|status| *status == 200));
    assert_eq!(new.served(), 0);
    new.reports(200);
    eventually("it passed", || {
        ask(&gateway, 1);
        new.served() > 0
    });
}

#[test]
fn too_few_healthy_endpoints_are_a_panic() {
    let servers = [Server::start(), Server::start(), Server::start()];
    let all: Vec<&Server> = servers.iter().collect();
    let gateway = gateway(&all, CHECKED);
    let panic = "portcullis_upstream_panic{upstream=\"origin\"}";
    servers[0].reports(500);
    eventually("two of three are enough", || endpoints(&gateway, "unhealthy") == 1.0);
    assert_eq!(gateway.sample(panic), Some(0.0));
    servers[1].reports(500);
    eventually("one is not", || gateway.sample(panic) == Some(1.0));
    assert_eq!(ready(&gateway)["panic"], true);
    let before: Vec<usize> = servers.iter().map(Server::served).collect();
    assert!(ask(&gateway, 30).iter().all(|status| *status == 200), "they can still answer");
    for (server, before) in servers.iter().zip(before) {
        assert!(server.served() > before, "health is not regarded");
    }
    servers[1].reports(200);
    eventually("enough again", || gateway.sample(panic) == Some(0.0));
}

#[test]
fn without_a_panic_threshold_nobody_is_asked() {
    let server = Server::start();
    let gateway = gateway(&[&server], &format!("{CHECKED}\npanic_threshold = 0"));
    assert_eq!(ask(&gateway, 1), [200]);
    server.reports(500);
    eventually("it is out", || endpoints(&gateway, "unhealthy") == 1.0);
    let response = get(gateway.public(), "/x");
    assert_eq!(response.status(), 503);
    let _ = gateway.wait_for_line(|line| line.contains("no_endpoint"));
    assert_eq!(server.served(), 1);
}

#[test]
fn checks_count_under_no_cap() {
    let server = Server::start();
    let gateway = gateway(
        &[&server],
        &format!("{CHECKED}\ncircuit_breaker = {{ max_connections = 1, max_requests = 1 }}"),
    );
    server.answers(0);
    // All that may be is under way; checks go on all the same.
    let held = crate::begin(&gateway);
    eventually("the request is there", || server.served() == 1);
    let checks = || server.origin.count() - server.served();
    let before = checks();
    eventually("checks go on", || checks() >= before + 3);
    assert_eq!(gateway.sample("portcullis_upstream_connections_open{upstream=\"origin\"}"), Some(1.0));
    assert_eq!(endpoints(&gateway, "available"), 1.0);
    drop(held);
    server.answers(200);
    eventually("and requests, too", || ask(&gateway, 1) == [200]);
}
