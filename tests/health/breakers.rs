//! Circuit breakers: caps, and breakers with half-open probes.

use crate::{BINARY, Server, ask, begin, config, endpoints, eventually, gateway, ready, refused};
use portcullis_testkit::{Answer, Gateway, Origin, RawClient, free_port, get};
use serde_json::Value;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn requests_beyond_the_cap_are_refused_at_once() {
    let server = Server::start();
    let gateway = gateway(&[&server], "circuit_breaker = { max_requests = 2 }");
    server.answers(0);
    let held = [begin(&gateway), begin(&gateway)];
    let _ = server.origin.wait_for(2);
    refused(&get(gateway.public(), "/x"), "overflow", &gateway);
    assert_eq!(server.origin.count(), 2, "it was not asked");
    let overflows = "portcullis_upstream_overflows_total{cap=\"requests\",upstream=\"origin\"}";
    assert_eq!(gateway.sample(overflows), Some(1.0));
    drop(held);
    server.answers(200);
    eventually("there is room again", || get(gateway.public(), "/x").status() == 200);
}

#[test]
fn an_endpoint_at_its_cap_is_passed_over() {
    let (busy, free) = (Server::start(), Server::start());
    // Two, since a client may have all of an answer before the gateway is done with it.
    let gateway = gateway(&[&busy, &free], "circuit_breaker = { max_requests_per_endpoint = 2 }");
    busy.answers(0);
    let mut held = Vec::new();
    eventually("one is busy", || {
        let mut client = begin(&gateway);
        let is_answered = client.hears(Duration::from_millis(100));
        let _ = is_answered.then(|| client.response());
        held.push(client);
        busy.origin.count() == 2
    });
    assert!(ask(&gateway, 20).iter().all(|status| *status == 200));
    assert_eq!(busy.origin.count(), 2);
}

#[test]
fn requests_wait_for_a_connection_and_no_more_than_may() {
    let origin = Origin::answering(Answer::ok("x").after(Duration::from_millis(500)));
    let upstream =
        "circuit_breaker = { max_connections = 1, max_pending_requests = 2 }\nconnect_timeout = \"10s\"";
    let gateway = Gateway::builder(BINARY).start(|ports| config(ports, &[origin.address()], upstream));
    let mut first = begin(&gateway);
    let _ = origin.wait_for(1);
    let mut waiting = [begin(&gateway), begin(&gateway)];
    thread::sleep(Duration::from_millis(150));
    refused(&get(gateway.public(), "/x"), "overflow", &gateway);
    assert_eq!(first.response().unwrap().status(), 200);
    for client in &mut waiting {
        assert_eq!(client.response().unwrap().status(), 200, "whichever thread it came by");
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), 3);
    let overflows = |cap: &str| {
        gateway.sample(&format!("portcullis_upstream_overflows_total{{cap=\"{cap}\",upstream=\"origin\"}}"))
    };
    assert_eq!((overflows("connections"), overflows("pending")), (Some(3.0), Some(1.0)));
    assert_eq!(gateway.sample("portcullis_upstream_connections_open{upstream=\"origin\"}"), Some(1.0));
}

const BREAKER: &str = "failure_rate_threshold = 50, sliding_window_size = 4, wait_duration_in_open_state = \"1s\", \
                       permitted_number_of_calls_in_half_open_state = 2";

#[test]
fn a_breaker_opens_probes_and_closes() {
    let server = Server::start();
    let gateway = gateway(&[&server], &format!("circuit_breaker = {{ {BREAKER} }}"));
    assert_eq!(ready(&gateway)["circuit_breaker"], "closed");
    server.answers(500);
    assert_eq!(ask(&gateway, 4), [500; 4]);
    let began = Instant::now();
    for _ in 0..5 {
        refused(&get(gateway.public(), "/x"), "circuit_open", &gateway);
    }
    assert_eq!(server.served(), 4, "it was left alone");
    let details = ready(&gateway);
    assert_eq!(details["circuit_breaker"], "open");
    assert_eq!(details["endpoints"]["listed"][0]["circuit_breaker"], "open");
    let state = |state: &str| {
        gateway.sample(&format!(
            "portcullis_upstream_circuit_breaker_state{{state=\"{state}\",upstream=\"origin\"}}"
        ))
    };
    assert_eq!((state("open"), state("closed")), (Some(1.0), Some(0.0)));

    // The first probe fails, and so does half of all that may be sent: it opens again.
    eventually("the wait is over", || get(gateway.public(), "/x").status() == 500);
    assert!(began.elapsed() > Duration::from_millis(500), "not before");
    assert_eq!(get(gateway.public(), "/x").status(), 503);
    assert_eq!(server.served(), 5);

    server.answers(200);
    eventually("it is over again", || get(gateway.public(), "/x").status() == 200);
    assert_eq!(state("half_open"), Some(1.0));
    assert_eq!(ask(&gateway, 10), [200; 10]);
    assert_eq!(ready(&gateway)["circuit_breaker"], "closed");
    let transitions = |state: &str| {
        let series = format!(
            "portcullis_upstream_circuit_breaker_transitions_total{{scope=\"upstream\",state=\"{state}\",upstream=\"origin\"}}"
        );
        gateway.sample(&series)
    };
    assert_eq!(
        (transitions("open"), transitions("half_open"), transitions("closed")),
        (Some(2.0), Some(2.0), Some(1.0))
    );
}

#[test]
fn no_more_probes_than_may_and_one_that_is_given_up_gives_its_place_back() {
    let server = Server::start();
    let gateway = gateway(&[&server], &format!("circuit_breaker = {{ {BREAKER}, scope = \"upstream\" }}"));
    server.answers(500);
    ask(&gateway, 4);
    server.answers(0);
    thread::sleep(Duration::from_millis(1_100));
    // All at once, on both threads.
    let mut clients: Vec<RawClient> = (0..8).map(|_| begin(&gateway)).collect();
    let held: Vec<RawClient> = {
        let mut held = Vec::new();
        for mut client in clients.drain(..) {
            if client.hears(Duration::from_millis(200)) {
                assert_eq!(client.response().unwrap().status(), 503);
            } else {
                held.push(client);
            }
        }
        held
    };
    assert_eq!((held.len(), server.served()), (2, 6));
    drop(held);
    server.answers(200);
    eventually("both places are free again", || ask(&gateway, 2) == [200; 2]);
    assert_eq!(ask(&gateway, 5), [200; 5]);
}

#[test]
fn slow_calls_open_a_breaker() {
    let origin = Origin::answering(Answer::ok("x").after(Duration::from_millis(150)));
    let upstream = "circuit_breaker = { slow_call_rate_threshold = 100, slow_call_duration_threshold = \"100ms\", \
                    sliding_window_type = \"time_based\", sliding_window_size = 10, minimum_number_of_calls = 3 }";
    let gateway = Gateway::builder(BINARY).start(|ports| config(ports, &[origin.address()], upstream));
    assert_eq!(ask(&gateway, 4), [200, 200, 200, 503]);
    assert_eq!(origin.count(), 3);
}

#[test]
fn an_endpoints_own_breaker_leaves_the_others_their_work() {
    let (sick, well) = (Server::start(), Server::start());
    let gateway =
        gateway(&[&sick, &well], &format!("circuit_breaker = {{ {BREAKER}, scope = \"endpoint\" }}"));
    sick.answers(500);
    let statuses = ask(&gateway, 40);
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 4, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 500].contains(status)), "nobody is refused");
    let details = ready(&gateway);
    assert_eq!(details["circuit_breaker"], Value::Null);
    assert_eq!(details["endpoints"]["listed"][0]["circuit_breaker"], "open");
    // A reload with the same settings begins nothing anew.
    gateway.signal("HUP");
    let _ = gateway.wait_for_line(|line| line.contains("configuration reloaded"));
    assert_eq!(endpoints(&gateway, "breaker_open"), 1.0);
}

#[test]
fn a_client_that_uploads_slowly_makes_no_slow_call() {
    let origin = Origin::answering(Answer::ok("x"));
    let upstream = "circuit_breaker = { slow_call_rate_threshold = 1, slow_call_duration_threshold = \"200ms\", \
                    minimum_number_of_calls = 1 }";
    let gateway = Gateway::builder(BINARY).start(|ports| {
        let config = config(ports, &[origin.address()], upstream);
        config + "\nbody = { mode = \"stream\" }\n"
    });
    for _ in 0..2 {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na").unwrap();
        thread::sleep(Duration::from_millis(400));
        client.send("b").unwrap();
        assert_eq!(client.response().unwrap().status(), 200);
    }
}

#[test]
fn a_panic_opens_no_breaker() {
    let (sick, dead) = (Server::start(), free_port());
    let upstream = "circuit_breaker = { failure_rate_threshold = 50, sliding_window_size = 4, \
                    wait_duration_in_open_state = \"5s\", scope = \"endpoint\" }\n\
                    outlier_detection = { consecutive_5xx = 1, consecutive_gateway_failure = 1, max_ejection_percent = 100 }";
    let addresses: [SocketAddr; 2] = [sick.origin.address(), dead];
    let gateway = Gateway::builder(BINARY).start(|ports| config(ports, &addresses, upstream));
    sick.answers(500);
    // Both are ejected, so that both are asked all the same, until their breakers open.
    eventually("nobody is left", || ask(&gateway, 1) == [503]);
    assert_eq!(ready(&gateway)["panic"], true);
    assert_eq!((endpoints(&gateway, "ejected"), endpoints(&gateway, "breaker_open")), (2.0, 2.0));
    let before = sick.served();
    refused(&get(gateway.public(), "/x"), "circuit_open", &gateway);
    assert_eq!((ask(&gateway, 10), sick.served()), (vec![503; 10], before));
}
