//! Ejection of outliers, and slow start.

use crate::{BINARY, CHECKED, Server, ask, config, endpoints, eventually, gateway, ready, told_once};
use portcullis_testkit::{Answer, Gateway, Origin, Step, get, request, suite};
use std::time::Instant;

#[test]
fn an_endpoint_that_answers_500_is_ejected_and_returns() {
    let (sick, well) = (Server::start(), Server::start());
    let outlier =
        "outlier_detection = { consecutive_5xx = 3, base_ejection_time = \"1s\", interval = \"10s\" }";
    let gateway = gateway(&[&sick, &well], outlier);
    sick.answers(500);
    let statuses = ask(&gateway, 40);
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 3, "{statuses:?}");
    assert_eq!(sick.served(), 3);
    assert_eq!(endpoints(&gateway, "ejected"), 1.0);
    assert!(ready(&gateway)["endpoints"]["listed"][0]["ejected_seconds"].is_u64());
    told_once(&gateway, "the endpoint is ejected");
    sick.answers(200);
    eventually("its time is over", || {
        assert_eq!(ask(&gateway, 1), [200]);
        sick.served() > 3
    });
    told_once(&gateway, "the endpoint's ejection is over");
    let ejections = "portcullis_upstream_ejections_total{cause=\"consecutive_5xx\",upstream=\"origin\"}";
    assert_eq!(gateway.sample(ejections), Some(1.0));
}

#[test]
fn connections_that_break_are_gateway_errors() {
    let broken = Origin::answering(Answer::close());
    let well = Server::start();
    let outlier = "outlier_detection = { consecutive_5xx = 0, consecutive_gateway_failure = 2 }";
    let gateway = Gateway::builder(BINARY)
        .start(|ports| config(ports, &[broken.address(), well.origin.address()], outlier));
    let statuses: Vec<u16> =
        (0..20).map(|_| request(gateway.public(), "POST /x", &[], "body").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 2, "{statuses:?}");
    assert_eq!(broken.count(), 2);
}

#[test]
fn not_all_that_fail_are_ejected() {
    let servers = [Server::start(), Server::start(), Server::start(), Server::start()];
    let all: Vec<&Server> = servers.iter().collect();
    let outlier = "outlier_detection = { consecutive_5xx = 1, max_ejection_percent = 50 }";
    let gateway = gateway(&all, outlier);
    servers.iter().for_each(|server| server.answers(503));
    ask(&gateway, 40);
    assert_eq!(endpoints(&gateway, "ejected"), 2.0);
    let served: Vec<usize> = servers.iter().map(Server::served).collect();
    assert_eq!(served.iter().filter(|served| **served == 1).count(), 2, "{served:?}");
}

#[test]
fn success_rates_tell_who_is_worse_than_the_others() {
    let servers: Vec<Server> = (0..5).map(|_| Server::start()).collect();
    let all: Vec<&Server> = servers.iter().collect();
    let outlier = "outlier_detection = { consecutive_5xx = 0, consecutive_gateway_failure = 0, interval = \"1s\", \
                   success_rate_request_volume = 10, success_rate_stdev_factor = 1500 }";
    let gateway = gateway(&all, outlier);
    servers[3].answers(500);
    let cause = "portcullis_upstream_ejections_total{cause=\"success_rate\",upstream=\"origin\"}";
    eventually("it is ejected", || {
        ask(&gateway, 20);
        gateway.sample(cause) == Some(1.0)
    });
    assert!(ask(&gateway, 20).iter().all(|status| *status == 200));
}

#[test]
fn one_that_comes_back_starts_slowly() {
    let (back, well) = (Server::start(), Server::start());
    let gateway = gateway(&[&back, &well], &format!("{CHECKED}\nslow_start = \"4s\""));
    ask(&gateway, 2);
    back.reports(500);
    eventually("it is out", || endpoints(&gateway, "unhealthy") == 1.0);
    back.reports(200);
    eventually("it is back", || endpoints(&gateway, "warming") == 1.0);
    let share = |count: usize| {
        let before = back.served();
        ask(&gateway, count);
        (back.served() - before) as f64 / count as f64
    };
    let (began, first) = (Instant::now(), share(200));
    // A twentieth of all requests at first; half of them in the end.
    let most = 0.2 + began.elapsed().as_secs_f64() / 4.0 * 0.5;
    assert!(first < most, "{first} of {most}");
    eventually("it is warm", || endpoints(&gateway, "warming") == 0.0);
    let last = share(100);
    assert!((0.4..=0.6).contains(&last), "{last}");
    suite(
        "slow start",
        &format!("{:.0} % of requests at first, {:.0} % when warm", first * 100.0, last * 100.0),
    );
}

#[test]
fn answers_that_break_off_say_nothing_of_a_connection_that_idled() {
    // It closes every connection after one answer without saying so, as servers do whose keep-alive ends.
    let origin = Origin::answering(Answer::ok("x").then([Step::Close]));
    let upstream =
        "outlier_detection = { consecutive_5xx = 1, consecutive_gateway_failure = 1 }\npanic_threshold = 0";
    let gateway = Gateway::builder(BINARY).start(|ports| config(ports, &[origin.address()], upstream));
    assert_eq!(ask(&gateway, 20), [200; 20]);
}

#[test]
fn where_all_are_ejected_there_is_a_panic_or_nobody_to_ask() {
    for (threshold, status) in [(50, 200), (0, 503)] {
        let servers = [Server::start(), Server::start()];
        let all: Vec<&Server> = servers.iter().collect();
        let outlier = format!(
            "outlier_detection = {{ consecutive_5xx = 1, max_ejection_percent = 100 }}\npanic_threshold = {threshold}"
        );
        let gateway = gateway(&all, &outlier);
        servers.iter().for_each(|server| server.answers(500));
        assert_eq!(ask(&gateway, 2), [500; 2]);
        assert_eq!(endpoints(&gateway, "ejected"), 2.0);
        servers.iter().for_each(|server| server.answers(200));
        assert_eq!(ask(&gateway, 6), [status; 6]);
        assert_eq!(ready(&gateway)["panic"], threshold > 0);
        assert_eq!(endpoints(&gateway, "ejected"), 2.0, "a panic ends no ejection");
        if threshold == 0 {
            let response = get(gateway.public(), "/x");
            assert_eq!(response.json()["code"], "upstream_unavailable");
        }
    }
}
