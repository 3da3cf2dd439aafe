//! HTTP/2 connections to upstreams.

use crate::client::{SHORT, body, connect, head, run};
use bytes::Bytes;
use portcullis_http::{BodyError, Frame, Framing, ResponseHead, UpstreamFailure};
use portcullis_testkit::{H2Origin, H2Request};
use portcullis_wire::client::{ClientSettings, Http2Connection};
use portcullis_wire::{Call as _, Sink as _};
use std::future::poll_fn;
use tokio::net::TcpListener;

fn echo(request: &H2Request) -> http::Response<Bytes> {
    let mut answer = http::Response::new(request.body().clone());
    let path = http::HeaderValue::from_str(request.uri().path()).unwrap();
    answer.headers_mut().insert("x-path", path);
    answer
}

#[test]
fn many_exchanges_on_one_connection() {
    let origin = H2Origin::start(None, echo);
    run(async {
        let settings = ClientSettings::default();
        let connection = Http2Connection::open(connect(origin.address()).await).await.unwrap();
        let exchanges = (0..20).map(|n| {
            let (mut connection, settings) = (connection.clone(), settings.clone());
            async move {
                connection.ready().await.unwrap();
                let mut call =
                    connection.begin(&head("POST", &format!("/{n}")), Framing::Chunked, &settings).unwrap();
                poll_fn(|cx| call.poll_ready(cx)).await.unwrap();
                call.push(Frame::Data(Bytes::from(format!("body {n}"))));
                call.finish();
                let mut answer = ResponseHead::default();
                poll_fn(|cx| call.poll_head(cx, &mut answer)).await.unwrap();
                assert_eq!(answer.fields.get_str("x-path"), Some(format!("/{n}").as_str()));
                assert_eq!(body(&mut call).await, (format!("body {n}").into_bytes(), None));
            }
        });
        for exchange in exchanges {
            exchange.await;
        }
    });
    assert_eq!((origin.connections(), origin.requests().len()), (1, 20));
    let first = &origin.requests()[0];
    assert_eq!(first.uri().authority().unwrap().as_str(), "origin.test");
    assert!(first.headers().get("host").is_none());
}

#[test]
fn a_head_answer_and_one_without_a_body() {
    let origin = H2Origin::start(None, |request| {
        let status = if request.uri().path() == "/204" { 204 } else { 200 };
        http::Response::builder().status(status).body(Bytes::new()).unwrap()
    });
    run(async {
        let settings = ClientSettings::default();
        let mut connection = Http2Connection::open(connect(origin.address()).await).await.unwrap();
        for (method, path, status) in [("HEAD", "/x", 200), ("GET", "/204", 204), ("GET", "/empty", 200)] {
            let mut call = connection.begin(&head(method, path), Framing::None, &settings).unwrap();
            let mut answer = ResponseHead::default();
            poll_fn(|cx| call.poll_head(cx, &mut answer)).await.unwrap();
            assert_eq!(answer.status, status);
            assert_eq!(body(&mut call).await, (Vec::new(), None), "{method} {path}");
        }
    });
}

#[test]
fn the_wait_for_an_answer_begins_with_the_end_of_the_request() {
    let origin = H2Origin::start(None, echo);
    run(async {
        let settings = ClientSettings { response: SHORT, ..ClientSettings::default() };
        let mut connection = Http2Connection::open(connect(origin.address()).await).await.unwrap();
        let mut call = connection.begin(&head("POST", "/x"), Framing::Length(2), &settings).unwrap();
        let mut answer = ResponseHead::default();
        for piece in ["a", "b"] {
            let early = tokio::time::timeout(SHORT * 3, poll_fn(|cx| call.poll_head(cx, &mut answer))).await;
            assert!(early.is_err(), "{early:?}");
            poll_fn(|cx| call.poll_ready(cx)).await.unwrap();
            call.push(Frame::Data(Bytes::from(piece)));
        }
        call.finish();
        poll_fn(|cx| call.poll_head(cx, &mut answer)).await.unwrap();
        assert_eq!(body(&mut call).await, (b"ab".to_vec(), None));
    });
}

#[test]
fn a_request_that_is_dropped_is_reset_not_ended() {
    let origin = H2Origin::start(None, echo);
    run(async {
        let settings = ClientSettings::default();
        let mut connection = Http2Connection::open(connect(origin.address()).await).await.unwrap();
        let mut call = connection.begin(&head("POST", "/x"), Framing::Chunked, &settings).unwrap();
        poll_fn(|cx| call.poll_ready(cx)).await.unwrap();
        call.push(Frame::Data(Bytes::from("half")));
        let _ =
            tokio::time::timeout(SHORT, poll_fn(|cx| call.poll_head(cx, &mut ResponseHead::default()))).await;
        drop(call);
        // The connection goes on.
        let mut call = connection.begin(&head("GET", "/y"), Framing::None, &settings).unwrap();
        let mut answer = ResponseHead::default();
        poll_fn(|cx| call.poll_head(cx, &mut answer)).await.unwrap();
        assert_eq!(answer.status, 200);
    });
}

#[test]
fn what_is_not_http_2_or_goes_away() {
    run(async {
        for say in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                use tokio::io::AsyncWriteExt as _;
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(say.as_bytes()).await.unwrap();
            });
            let settings = ClientSettings::default();
            let Ok(mut connection) = Http2Connection::open(connect(address).await).await else { continue };
            let mut call = connection.begin(&head("GET", "/x"), Framing::None, &settings).unwrap();
            let failed = poll_fn(|cx| call.poll_head(cx, &mut ResponseHead::default())).await;
            // Which of both, depends on whether the request had left when the connection ended.
            let expected = [Err(UpstreamFailure::Closed), Err(UpstreamFailure::Refused)];
            assert!(expected.contains(&failed), "{failed:?}");
        }
    });
}

#[test]
fn every_wait_for_an_upstream_ends() {
    run(async {
        // Accepts and says nothing but what HTTP/2 itself demands.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            let (mut stream, _) = listener.accept().await.unwrap();
            // SETTINGS; `:status: 200` on stream 3; nothing on stream 1.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            let mut seen = Vec::new();
            let mut block = [0; 4096];
            loop {
                use tokio::io::AsyncReadExt as _;
                let read = stream.read(&mut block).await.unwrap();
                if read == 0 {
                    return;
                }
                seen.extend_from_slice(&block[..read]);
                // HEADERS of stream 3 have come.
                if seen.windows(6).any(|window| window == [1, 5, 0, 0, 0, 3]) {
                    stream.write_all(&[0, 0, 1, 1, 4, 0, 0, 0, 3, 0x88]).await.unwrap();
                    seen.clear();
                }
            }
        });
        let mut settings = ClientSettings { response: SHORT, ..ClientSettings::default() };
        settings.body.idle = SHORT;
        let mut connection = Http2Connection::open(connect(address).await).await.unwrap();
        let mut call = connection.begin(&head("GET", "/x"), Framing::None, &settings).unwrap();
        let mut answer = ResponseHead::default();
        let failed = poll_fn(|cx| call.poll_head(cx, &mut answer)).await;
        assert_eq!(failed, Err(UpstreamFailure::ResponseTimeout));
        let mut call = connection.begin(&head("GET", "/y"), Framing::None, &settings).unwrap();
        poll_fn(|cx| call.poll_head(cx, &mut answer)).await.unwrap();
        assert_eq!(body(&mut call).await, (Vec::new(), Some(BodyError::Timeout)));
    });
}
