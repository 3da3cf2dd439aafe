//! When a connection serves again and when not, and what is sent twice.

use crate::support::*;
use portcullis_http::{Fields, Frame, ResponseHead, UpstreamFailure};
use portcullis_testkit::{Answer, Gate, Origin, Step};
use portcullis_upstream::{Outbound, Trail};
use portcullis_wire::Source as _;
use std::future::poll_fn;
use std::time::Duration;

#[tokio::test]
async fn a_clean_connection_serves_again() {
    let origin = Origin::start(|request| match request.method() {
        "HEAD" => Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"),
        "DELETE" => Answer::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "OPTIONS" => Answer::raw("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n"),
        "PUT" => Answer::raw(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        ),
        "POST" => Answer::status(200).chunks(["a", "b"], None),
        _ => Answer::ok("hello"),
    });
    let upstream = to(&origin);
    for (method, body, status, answer) in [
        ("GET", None, 200, &b"hello"[..]),
        ("HEAD", None, 200, b""),
        ("DELETE", None, 204, b""),
        ("OPTIONS", None, 304, b""),
        ("PUT", Some(&b"body"[..]), 200, b"x"),
        ("POST", Some(b""), 200, b"ab"),
        ("GET", None, 200, b"hello"),
    ] {
        let (got, body) = exchange(&upstream, method, body).await.unwrap();
        assert_eq!((got, body.unwrap().as_slice()), (status, answer), "{method}");
    }
    assert_eq!(origin.connections(), 1);
    let stats = stats(&upstream);
    assert_eq!((stats.in_flight, stats.open, stats.idle), (0, 1, 1));
    assert_eq!((stats.connects, stats.reuses, stats.repeats), (1, 6, 0));
    let seen = origin.requests();
    assert_eq!((seen[4].body.as_slice(), seen[4].header("content-length")), (&b"body"[..], Some("4")));
    assert_eq!(seen[5].header("content-length"), Some("0"));
    assert_eq!(seen[0].header("content-length"), None);
    assert_eq!(seen[0].header("host"), Some("gateway.test"));
}

#[tokio::test]
async fn a_connection_that_ends_otherwise_is_closed() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nextra",
    ] {
        let origin = Origin::answering(Answer::raw(answer));
        let upstream = to(&origin);
        for _ in 0..3 {
            assert_eq!(get(&upstream).await, Ok((200, b"ok".to_vec())), "{answer}");
        }
        assert_eq!(origin.connections(), 3, "{answer}");
        assert_eq!(stats(&upstream).open, 0);
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection() {
    let origin = Origin::answering(Answer::steps([
        Step::Bytes(b"HTTP/1.1 200 OK\r\n\r\nall of it".to_vec()),
        Step::Close,
    ]));
    let upstream = to(&origin);
    assert_eq!(get(&upstream).await, Ok((200, b"all of it".to_vec())));
    assert_eq!(stats(&upstream).open, 0);
}

#[tokio::test]
async fn dropped_before_its_end_a_lease_closes_its_connection() {
    let gate = Gate::default();
    let script = [
        Step::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        Step::Until(gate.clone()),
    ];
    let origin = Origin::answering(Answer::steps(script));
    let upstream = to(&origin);
    let mut answer = ResponseHead::default();
    let lease = upstream
        .send(&Outbound::new(&request("GET", "/")), None, &mut answer, &mut Trail::default())
        .await
        .unwrap();
    assert_eq!((stats(&upstream).in_flight, stats(&upstream).open), (1, 1));
    assert_eq!(lease.endpoint(), origin.address().to_string());
    drop(lease);
    assert_eq!((stats(&upstream).in_flight, stats(&upstream).open, stats(&upstream).idle), (0, 0, 0));
    gate.open();
}

#[tokio::test]
async fn what_comes_unasked_on_an_idle_connection_is_never_an_answer() {
    let poison = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison".to_vec();
    let gate = Gate::default();
    let script = vec![
        Step::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()),
        Step::Until(gate.clone()),
        Step::Bytes(poison),
    ];
    let origin = Origin::start(move |request| {
        if request.connection == 0 { Answer::steps(script.clone()) } else { Answer::ok("fresh") }
    });
    let upstream = to(&origin);
    assert_eq!(get(&upstream).await, Ok((200, b"ok".to_vec())));
    assert_eq!(stats(&upstream).idle, 1);
    gate.open();
    // The sweeper may find it first.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(get(&upstream).await, Ok((200, b"fresh".to_vec())));
    assert_eq!((origin.connections(), origin.count()), (2, 2));
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_request() {
    let origin = Origin::start(|_| {
        Answer::steps([Step::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()), Step::Close])
    });
    let upstream = to(&origin);
    for _ in 0..3 {
        let (status, body) = exchange(&upstream, "POST", Some(b"order")).await.unwrap();
        assert_eq!((status, body.unwrap().as_slice()), (200, &b"ok"[..]));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((origin.connections(), origin.count(), stats(&upstream).repeats), (3, 3, 0));
}

/// Answers the first request of its first connection and does `then` with the second.
fn forgetful(then: Vec<Step>) -> Origin {
    let first = std::sync::atomic::AtomicBool::new(true);
    Origin::start(move |request| {
        let is_first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        if request.connection == 0 && !is_first { Answer::steps(then.clone()) } else { Answer::ok("fine") }
    })
}

#[tokio::test]
async fn an_idempotent_request_that_a_reused_connection_loses_is_sent_once_more() {
    for then in [Step::Close, Step::Reset] {
        for (method, body) in [("GET", None), ("PUT", Some(&b"whole body"[..])), ("DELETE", None)] {
            let origin = forgetful(vec![then.clone()]);
            let upstream = to(&origin);
            get(&upstream).await.unwrap();
            let (status, answer) = exchange(&upstream, method, body).await.unwrap();
            assert_eq!((status, answer.unwrap().as_slice()), (200, &b"fine"[..]));
            let seen = origin.wait_for(3);
            assert_eq!((seen.len(), origin.connections()), (3, 2), "{method}");
            assert_eq!(seen[1].head, seen[2].head);
            assert_eq!(seen[2].body, body.unwrap_or_default());
            assert_eq!((stats(&upstream).repeats, stats(&upstream).in_flight), (1, 0));
        }
    }
}

#[tokio::test]
async fn what_may_have_been_done_is_never_sent_twice() {
    let half_a_head = vec![Step::Bytes(b"HTTP/1.1 2".to_vec()), Step::Close];
    for (method, then) in [
        ("POST", vec![Step::Close]),
        ("PATCH", vec![Step::Reset]),
        ("CHECKOUT", vec![Step::Close]),
        ("GET", half_a_head),
    ] {
        let origin = forgetful(then);
        let upstream = to(&origin);
        get(&upstream).await.unwrap();
        let failure = exchange(&upstream, method, Some(b"x")).await.unwrap_err();
        assert_eq!(failure, UpstreamFailure::Closed, "{method}");
        assert_eq!((origin.wait_for(2).len(), origin.connections()), (2, 1), "{method}");
        assert_eq!(stats(&upstream).repeats, 0);
    }
}

#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let origin = Origin::answering(Answer::steps([Step::Close]));
    let upstream = to(&origin);
    assert_eq!(get(&upstream).await, Err(UpstreamFailure::Closed));
    assert_eq!((origin.count(), origin.connections()), (1, 1));
}

#[tokio::test]
async fn pools_are_bounded() {
    let origin = Origin::answering(Answer::ok("x"));
    let upstream_of = |most, uses| {
        let mut settings = settings(&[origin.address()]);
        (settings.max_idle_connections, settings.max_uses) = (most, uses);
        upstream(settings)
    };
    for most in [0, 2] {
        let upstream = upstream_of(most, 1000);
        let mut leases = Vec::new();
        for _ in 0..5 {
            let mut answer = ResponseHead::default();
            let mut lease = upstream
                .send(&Outbound::new(&request("GET", "/")), None, &mut answer, &mut Trail::default())
                .await
                .unwrap();
            read(&mut lease).await.unwrap();
            leases.push(lease);
        }
        assert_eq!((stats(&upstream).in_flight, stats(&upstream).open), (5, 5));
        drop(leases);
        assert_eq!((stats(&upstream).idle, stats(&upstream).open), (most, most));
    }
    let before = origin.connections();
    let upstream = upstream_of(64, 2);
    for _ in 0..6 {
        get(&upstream).await.unwrap();
    }
    assert_eq!(origin.connections() - before, 3);
}

#[tokio::test]
async fn idle_connections_expire_without_another_call() {
    let origin = Origin::answering(Answer::ok("x"));
    let mut settings = settings(&[origin.address()]);
    settings.idle_connection_timeout = Duration::from_millis(50);
    let upstream = upstream(settings);
    get(&upstream).await.unwrap();
    eventually("an idle connection expires", || stats(&upstream).open == 0).await;
    get(&upstream).await.unwrap();
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn a_connection_closed_by_the_other_side_does_not_linger() {
    let origin = Origin::answering(Answer::steps([
        Step::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()),
        Step::Close,
    ]));
    let upstream = to(&origin);
    get(&upstream).await.unwrap();
    eventually("a dead connection is found", || stats(&upstream).open == 0).await;
}

#[test]
fn each_thread_has_its_own_pool() {
    let origin = Origin::answering(Answer::ok("x"));
    let upstream = to(&origin);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let upstream = upstream.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..20 {
                        // Spawned, as the gateway does: the call is `Send`.
                        let upstream = upstream.clone();
                        tokio::spawn(async move { get(&upstream).await.unwrap() }).await.unwrap();
                    }
                });
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((origin.connections(), origin.count()), (3, 60));
    assert_eq!((stats(&upstream).in_flight, stats(&upstream).open), (0, 0), "they ended with their threads");
}

#[tokio::test]
async fn many_at_once() {
    let origin = Origin::start(|request| Answer::ok(request.header("x-n").unwrap()));
    let upstream = to(&origin);
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let upstream = upstream.clone();
            tokio::spawn(async move {
                let mut head = request("GET", "/");
                head.fields.append("x-n", n.to_string()).unwrap();
                let mut answer = ResponseHead::default();
                let mut lease = upstream
                    .send(&Outbound::new(&head), None, &mut answer, &mut Trail::default())
                    .await
                    .unwrap();
                assert_eq!(read(&mut lease).await.unwrap(), n.to_string().into_bytes());
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let stats = stats(&upstream);
    assert_eq!((stats.in_flight, stats.open), (0, stats.idle));
    assert!(stats.idle <= 64);
}

#[tokio::test]
async fn trailers_come_through() {
    let origin = Origin::answering(Answer::raw(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\ndigest: x\r\n\r\n",
    ));
    let upstream = to(&origin);
    let mut answer = ResponseHead::default();
    let mut lease = upstream
        .send(&Outbound::new(&request("GET", "/")), None, &mut answer, &mut Trail::default())
        .await
        .unwrap();
    let mut trailers = Fields::default();
    while let Some(frame) = poll_fn(|cx| lease.poll_frame(cx)).await {
        if let Frame::Trailers(fields) = frame.unwrap() {
            trailers = fields;
        }
    }
    assert_eq!(trailers.get("digest"), Some(&b"x"[..]));
}
