//! HTTP/2 to endpoints: one connection for all.

use crate::support::*;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_http::{ResponseHead, UpstreamFailure};
use portcullis_testkit::{Answer, H2Origin, Origin};
use portcullis_upstream::{Caps, Outbound, Protocol, Trail, Upstream};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn to_http2(address: SocketAddr) -> Upstream {
    let mut settings = settings(&[address]);
    settings.protocol = Protocol::Http2;
    upstream(settings)
}

#[tokio::test]
async fn many_at_once_share_one_connection() {
    let origin = http2_origin(None, |request| {
        let text = format!("{} {} {}", request.method(), request.uri(), request.body().len());
        http::Response::new(Bytes::from(text))
    });
    let upstream = to_http2(origin.address());
    let calls: Vec<_> = (0..50usize)
        .map(|n| {
            let upstream = upstream.clone();
            tokio::spawn(async move {
                let mut answer = ResponseHead::default();
                let body = Bytes::from(vec![b'x'; n * 5000]);
                let head = request("POST", &format!("/{n}"));
                let mut lease = upstream
                    .send(&Outbound::new(&head), Some(&body), &mut answer, &mut Trail::default())
                    .await
                    .unwrap();
                let text = String::from_utf8(read(&mut lease).await.unwrap()).unwrap();
                assert_eq!(text, format!("POST http://gateway.test/{n} {}", n * 5000));
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!((origin.connections(), origin.requests().len()), (1, 50));
    let stats = stats(&upstream);
    assert_eq!((stats.in_flight, stats.open, stats.connects, stats.reuses), (0, 1, 1, 49));
}

#[tokio::test]
async fn a_connection_that_ended_is_not_used_again() {
    let start = |text: &'static str| move |_: &_| http::Response::new(Bytes::from_static(text.as_bytes()));
    let first = http2_origin(None, start("first"));
    let upstream = to_http2(first.address());
    assert_eq!(get(&upstream).await, Ok((200, b"first".to_vec())));
    let gone = first.address();
    drop(first);
    eventually("nobody listens there any more", || std::net::TcpStream::connect(gone).is_err()).await;
    let failure = get(&upstream).await.unwrap_err();
    assert!(matches!(failure, UpstreamFailure::Connect | UpstreamFailure::Closed), "{failure:?}");
    assert_eq!(stats(&upstream).in_flight, 0);
    eventually("the connection is dropped", || stats(&upstream).open == 0).await;
}

/// A server whose first connection breaks off at its second request, and which counts requests.
async fn forgetful() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let mut first = true;
        while let Ok((stream, _)) = listener.accept().await {
            let breaks = std::mem::take(&mut first);
            let (counted, broken) = (Arc::clone(&counted), Arc::new(tokio::sync::Notify::new()));
            let breaking = Arc::clone(&broken);
            let service = service_fn(move |_| {
                let so_far = counted.fetch_add(1, Ordering::SeqCst);
                let breaking = Arc::clone(&breaking);
                async move {
                    if breaks && so_far > 0 {
                        breaking.notify_one();
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"ok"))))
                }
            });
            tokio::spawn(async move {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::select! {
                    _ = server.serve_connection(TokioIo::new(stream), service) => {}
                    () = broken.notified() => {}
                }
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn only_what_is_idempotent_is_sent_once_more() {
    for (method, outcome, requests) in [("GET", Ok(200), 3), ("POST", Err(UpstreamFailure::Closed), 2)] {
        let (address, count) = forgetful().await;
        let upstream = to_http2(address);
        get(&upstream).await.unwrap();
        let got = exchange(&upstream, method, None).await.map(|(status, _)| status);
        assert_eq!((got, count.load(Ordering::SeqCst)), (outcome, requests), "{method}");
        assert_eq!(stats(&upstream).repeats, requests as u64 - 2);
        // Whoever comes next finds a connection that works.
        assert_eq!(get(&upstream).await, Ok((200, b"ok".to_vec())));
    }
}

#[tokio::test]
async fn who_does_not_speak_it() {
    let origin = Origin::answering(Answer::ok("HTTP/1.1"));
    let upstream = to_http2(origin.address()).with_response_timeout(Duration::from_millis(500));
    let failure = get(&upstream).await.unwrap_err();
    assert_ne!(failure, UpstreamFailure::NoEndpoint);
    assert_eq!(stats(&upstream).in_flight, 0);
}

/// An origin that takes its time for a PUT.
fn slow_at_put() -> H2Origin {
    http2_origin(None, |request| {
        if request.method() == "PUT" {
            std::thread::sleep(Duration::from_millis(600));
        }
        http::Response::new(Bytes::new())
    })
}

#[tokio::test]
async fn an_answer_that_does_not_come() {
    let origin = slow_at_put();
    let upstream = to_http2(origin.address());
    get(&upstream).await.unwrap();
    let slow = upstream.with_response_timeout(Duration::from_millis(100));
    assert_eq!(exchange(&slow, "PUT", None).await, Err(UpstreamFailure::ResponseTimeout));
    // Nothing was heard: the connection may hang.
    assert_eq!(get(&upstream).await, Ok((200, Vec::new())));
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn an_answer_that_does_not_come_while_others_do() {
    let origin = slow_at_put();
    let upstream = to_http2(origin.address());
    get(&upstream).await.unwrap();
    let slow = upstream.with_response_timeout(Duration::from_millis(200));
    let others = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            get(&upstream).await.unwrap();
        }
    };
    let (timed_out, ()) = tokio::join!(exchange(&slow, "PUT", None), others);
    assert_eq!(timed_out, Err(UpstreamFailure::ResponseTimeout));
    // The stream was reset; the connection goes on.
    assert_eq!(get(&upstream).await, Ok((200, Vec::new())));
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_unused_connection_is_closed() {
    let origin = http2_origin(None, |_| http::Response::new(Bytes::new()));
    let mut settings = settings(&[origin.address()]);
    settings.protocol = Protocol::Http2;
    settings.idle_connection_timeout = Duration::from_millis(50);
    let upstream = upstream(settings);
    get(&upstream).await.unwrap();
    assert_eq!(stats(&upstream).open, 1);
    eventually("an unused connection is closed", || stats(&upstream).open == 0).await;
    get(&upstream).await.unwrap();
    assert_eq!(origin.connections(), 2);
}

/// Two origins of which an upstream may have so many connections.
fn capped(most: u32, pending: Option<u32>) -> ([H2Origin; 2], Upstream) {
    let origins = [0, 1].map(|_| http2_origin(None, |_| http::Response::new(Bytes::from_static(b"x"))));
    let mut settings = settings(&origins.each_ref().map(H2Origin::address));
    settings.protocol = Protocol::Http2;
    settings.retry.attempts = 1;
    settings.circuit_breaker.caps =
        Caps { max_connections: Some(most), max_pending_requests: pending, ..Caps::default() };
    (origins, upstream(settings))
}

fn levels(upstream: &Upstream) -> (usize, usize) {
    let stats = upstream.stats();
    (stats.iter().map(|one| one.open).sum(), stats.iter().map(|one| one.idle).sum())
}

#[tokio::test]
async fn its_connections_are_counted_and_rest() {
    let (origins, upstream) = capped(1, None);
    let mut answer = ResponseHead::default();
    let (head, mut trail) = (request("GET", "/"), Trail::default());
    let lease = upstream.send(&Outbound::new(&head), None, &mut answer, &mut trail).await.unwrap();
    assert_eq!(levels(&upstream), (1, 0), "it is busy");
    drop(lease);
    assert_eq!(levels(&upstream), (1, 1), "it rests");
    // The other endpoint's turn: there may be one connection only, so the one that rests goes.
    for _ in 0..6 {
        get(&upstream).await.unwrap();
        assert_eq!(levels(&upstream).0, 1);
    }
    assert_eq!(origins.each_ref().map(H2Origin::connections).iter().sum::<usize>(), 7);
}

#[tokio::test]
async fn who_finds_all_busy_waits_or_is_refused() {
    for (pending, outcome) in [(Some(0), Err(UpstreamFailure::Overflow)), (None, Ok((200, b"x".to_vec())))] {
        let (_origins, upstream) = capped(1, pending);
        let mut answer = ResponseHead::default();
        let (head, mut trail) = (request("GET", "/"), Trail::default());
        let lease = upstream.send(&Outbound::new(&head), None, &mut answer, &mut trail).await.unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(lease);
        };
        let (found, ()) = tokio::join!(get(&upstream), release);
        assert_eq!(found, outcome);
    }
}

#[test]
fn threads_take_turns_where_there_are_too_few() {
    let (_origins, upstream) = capped(1, None);
    let (began, over) = (Instant::now(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        for _ in 0..20 {
                            // Several at once, so that the connection is hardly ever without one.
                            let (one, two) = tokio::join!(get(&upstream), get(&upstream));
                            one.and(two).unwrap();
                        }
                    });
                })
            })
            .collect();
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                assert!(levels(&upstream).0 <= 1);
                std::thread::yield_now();
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        over.store(true, Ordering::SeqCst);
    });
    assert!(began.elapsed() < PATIENCE);
}
