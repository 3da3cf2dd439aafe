//! Nothing waits for ever. Waits are bounded, never measured.

use crate::support::*;
use portcullis_http::{BodyError, UpstreamFailure};
use portcullis_testkit::{Answer, Origin, Step};
use portcullis_upstream::{BreakerSettings, BreakerState, TlsSettings};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(150);

/// An address at which connections are neither accepted nor refused: its queue is full.
fn black_hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, SHORT) {
        queue.push(stream);
        assert!(queue.len() < 20_000, "the queue never fills");
    }
    (address, listener, queue)
}

#[tokio::test]
async fn a_black_hole_is_given_up() {
    let (address, _listener, _queue) = black_hole();
    let mut settings = settings(&[address]);
    settings.connect_timeout = SHORT;
    let upstream = upstream(settings);
    assert_eq!(get(&upstream).await, Err(UpstreamFailure::ConnectTimeout));
    assert_eq!((stats(&upstream).connect_failures, stats(&upstream).in_flight), (1, 0));
    assert!(stats(&upstream).aside);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(&[silent.local_addr().unwrap()]);
    settings.tls_timeout = SHORT;
    settings.tls = Some(TlsSettings {
        authorities: Some(portcullis_testkit::Authority::new().pem().as_bytes().to_vec()),
        ..TlsSettings::default()
    });
    assert_eq!(get(&upstream(settings)).await, Err(UpstreamFailure::TlsTimeout));
}

#[tokio::test]
async fn a_head_that_does_not_come() {
    for begin in ["", "HTTP/1.1 200 OK\r\nx: ", "SSH-2.0-OpenSSH_9.2p1\r\n"] {
        let origin = Origin::answering(Answer::steps([Step::Bytes(begin.as_bytes().to_vec()), Step::Hang]));
        let upstream = to(&origin);
        assert_eq!(get(&upstream.with_response_timeout(SHORT)).await, Err(UpstreamFailure::ResponseTimeout));
        assert_eq!((stats(&upstream).open, stats(&upstream).in_flight), (0, 0));
        assert_eq!(origin.count(), 1, "what took too long is not repeated");
    }
}

#[tokio::test]
async fn a_body_that_stalls() {
    let origin = Origin::answering(Answer::steps([
        Step::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        Step::Hang,
    ]));
    let mut settings = settings(&[origin.address()]);
    settings.client.body.idle = SHORT;
    let upstream = upstream(settings);
    let (status, body) = exchange(&upstream, "GET", None).await.unwrap();
    assert_eq!((status, body), (200, Err(BodyError::Timeout)));
    assert_eq!(stats(&upstream).open, 0);
}

#[tokio::test]
async fn a_request_that_nobody_reads() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(&[silent.local_addr().unwrap()]);
    settings.client.body.write_stall = SHORT;
    settings.client.response = Duration::from_secs(3600);
    settings.circuit_breaker.breaker = Some(BreakerSettings {
        failure_rate_threshold: Some(100),
        minimum_number_of_calls: 1,
        ..BreakerSettings::default()
    });
    let upstream = upstream(settings);
    let failure = exchange(&upstream, "PUT", Some(&vec![0; 32 << 20])).await.unwrap_err();
    assert_eq!(failure, UpstreamFailure::ResponseTimeout);
    assert_eq!(stats(&upstream).open, 0);
    assert_eq!(upstream.status().breaker, Some(BreakerState::Open), "it counts as what it is");
}
