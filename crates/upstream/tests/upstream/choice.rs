//! Which endpoint is asked.

use crate::support::*;
use portcullis_http::{ResponseHead, UpstreamFailure};
use portcullis_testkit::{Answer, Origin, free_port as dead};
use portcullis_upstream::{Balance, EndpointSettings, Outbound, Trail};

#[tokio::test]
async fn round_robin_by_weight() {
    let origins = [Origin::answering(Answer::ok("x")), Origin::answering(Answer::ok("x"))];
    let mut settings = settings(&[origins[0].address(), origins[1].address()]);
    (settings.endpoints[0].weight, settings.endpoints[1].weight) = (300, 100);
    let upstream = upstream(settings);
    for _ in 0..100 {
        get(&upstream).await.unwrap();
    }
    assert_eq!((origins[0].count(), origins[1].count()), (75, 25));
}

#[tokio::test]
async fn power_of_two_evens_out_what_is_in_flight() {
    let origins = [Origin::answering(Answer::ok("x")), Origin::answering(Answer::ok("x"))];
    let mut settings = settings(&[origins[0].address(), origins[1].address()]);
    settings.balance = Balance::PowerOfTwo;
    let upstream = upstream(settings);
    let mut leases = Vec::new();
    for _ in 0..10 {
        let mut answer = ResponseHead::default();
        leases.push(
            upstream
                .send(&Outbound::new(&request("GET", "/")), None, &mut answer, &mut Trail::default())
                .await
                .unwrap(),
        );
    }
    assert!(upstream.stats().iter().all(|endpoint| endpoint.in_flight == 5));
}

#[tokio::test]
async fn where_one_refuses_the_next_is_asked_whatever_the_method() {
    let origin = Origin::answering(Answer::ok("x"));
    for balance in [Balance::RoundRobin, Balance::PowerOfTwo] {
        let mut settings = settings(&[dead(), origin.address()]);
        settings.balance = balance;
        let upstream = upstream(settings);
        for _ in 0..20 {
            let (status, _) = exchange(&upstream, "POST", Some(b"once")).await.unwrap();
            assert_eq!(status, 200);
        }
        let failed: Vec<u64> = upstream.stats().iter().map(|endpoint| endpoint.connect_failures).collect();
        assert!(failed[0] <= 3, "put aside, it is not asked each time: {failed:?}");
        assert_eq!((failed[1], upstream.stats().iter().map(|e| e.in_flight).sum::<usize>()), (0, 0));
    }
    assert_eq!(origin.count(), 40);
    assert!(origin.requests().iter().all(|request| request.body == b"once"));
}

#[tokio::test]
async fn at_most_three_are_tried() {
    let upstream = upstream(settings(&[dead(), dead(), dead(), dead(), dead()]));
    assert_eq!(get(&upstream).await, Err(UpstreamFailure::Connect));
    assert_eq!(upstream.stats().iter().map(|endpoint| endpoint.connect_failures).sum::<u64>(), 3);
}

#[tokio::test]
async fn alone_it_is_asked_even_when_aside() {
    let address = dead();
    let upstream = upstream(settings(&[address]));
    assert_eq!(get(&upstream).await, Err(UpstreamFailure::Connect));
    assert!(stats(&upstream).aside);
    let origin = Origin::builder().at(address).start(|_| Answer::ok("back"));
    assert_eq!(get(&upstream).await, Ok((200, b"back".to_vec())));
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn nobody_to_ask() {
    assert_eq!(get(&upstream(settings(&[]))).await, Err(UpstreamFailure::NoEndpoint));
}

#[tokio::test]
async fn names_are_looked_up() {
    let origin = Origin::answering(Answer::ok("x"));
    let mut by_name = settings(&[origin.address()]);
    by_name.max_idle_connections = 0;
    "localhost".clone_into(&mut by_name.endpoints[0].host);
    let upstream_by_name = upstream(by_name);
    for _ in 0..5 {
        assert_eq!(get(&upstream_by_name).await, Ok((200, b"x".to_vec())));
    }
    assert_eq!(stats(&upstream_by_name).address, format!("localhost:{}", origin.address().port()));
    let mut unknown = settings(&[origin.address()]);
    "no-such-host.invalid".clone_into(&mut unknown.endpoints[0].host);
    let failure = get(&upstream(unknown)).await.unwrap_err();
    assert!(matches!(failure, UpstreamFailure::Connect | UpstreamFailure::ConnectTimeout), "{failure:?}");
}

#[tokio::test]
async fn endpoints_are_replaced_while_requests_run() {
    let origins = [Origin::answering(Answer::ok("x")), Origin::answering(Answer::ok("x"))];
    let [first, second] = [origins[0].address(), origins[1].address()];
    let upstream = upstream(settings(&[first]));
    let mut answer = ResponseHead::default();
    let head = request("GET", "/");
    let lease = upstream.send(&Outbound::new(&head), None, &mut answer, &mut Trail::default()).await.unwrap();
    let settings = |port: u16| EndpointSettings::new("127.0.0.1", port);
    upstream.replace(&[settings(first.port()), settings(second.port())]).unwrap();
    let stats = upstream.stats();
    assert_eq!(
        (stats[0].in_flight, stats[0].connects, stats[1].connects),
        (1, 1, 0),
        "what stays keeps its state"
    );
    upstream.replace(&[settings(second.port())]).unwrap();
    get(&upstream).await.unwrap();
    assert_eq!((origins[0].count(), origins[1].count()), (1, 1));
    assert_eq!(lease.endpoint(), first.to_string(), "an exchange that has begun ends where it began");
    let twice = upstream.replace(&[settings(1), settings(1)]).unwrap_err();
    assert!(twice.to_string().contains("127.0.0.1:1 twice"), "{twice}");
    get(&upstream).await.unwrap();
    assert_eq!(origins[1].count(), 2);
}
