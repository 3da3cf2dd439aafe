//! HTTP/1 connections to upstreams, honest and hostile (matrix part C).

use bytes::Bytes;
use portcullis_http::{BodyError, Frame, Framing, RequestHead, ResponseHead, UpstreamFailure, Version};
use portcullis_testkit::{Answer, Gate, Origin, Step};
use portcullis_wire::client::{ClientSettings, Http1Connection, Timeouts};
use portcullis_wire::{Call as _, IoStream, Sink as _, SinkError, Source};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await.expect("it ends") })
}

pub(crate) fn head(method: &str, target: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.set_line(method.as_bytes(), target.as_bytes(), Version::Http11);
    head.fields.append("host", "origin.test").unwrap();
    head
}

pub(crate) async fn connect(address: SocketAddr) -> IoStream {
    IoStream::Plain(tokio::net::TcpStream::connect(address).await.unwrap())
}

/// The rest of a body, or how it broke off.
pub(crate) async fn body(source: &mut impl Source) -> (Vec<u8>, Option<BodyError>) {
    let mut all = Vec::new();
    loop {
        match poll_fn(|cx| source.poll_frame(cx)).await {
            None => return (all, None),
            Some(Ok(Frame::Data(data))) => all.extend_from_slice(&data),
            Some(Ok(Frame::Trailers(_))) => {}
            Some(Err(error)) => return (all, Some(error)),
        }
    }
}

/// One request without a body.
async fn ask(
    connection: &mut Http1Connection,
    method: &str,
    settings: &ClientSettings,
) -> Result<(ResponseHead, Vec<u8>, Option<BodyError>), UpstreamFailure> {
    connection.begin(&head(method, "/x"), Framing::None, settings);
    connection.finish();
    poll_fn(|cx| connection.poll_flush(cx)).await.map_err(|_| UpstreamFailure::Closed)?;
    let mut answer = ResponseHead::default();
    poll_fn(|cx| connection.poll_head(cx, &mut answer)).await?;
    let (body, error) = body(connection).await;
    Ok((answer, body, error))
}

/// Status, body, and how the body broke off; or why there is no answer.
type Outcome = Result<(u16, Vec<u8>, Option<BodyError>), UpstreamFailure>;

/// What becomes of one GET where the origin says these bytes and then does `then`, and whether the connection may be
/// used again.
fn outcome(method: &str, bytes: &[u8], then: Step) -> (Outcome, bool) {
    let origin = Origin::answering(Answer::raw(bytes).then([then]));
    run(async {
        let settings = ClientSettings { response: Duration::from_secs(20), ..ClientSettings::default() };
        let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
        let result = ask(&mut connection, method, &settings).await;
        (result.map(|(head, body, error)| (head.status, body, error)), connection.is_reusable())
    })
}

#[test]
fn requests_one_after_the_other() {
    let origin = Origin::start(Answer::echo);
    run(async {
        let settings = ClientSettings::default();
        let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
        for n in 0..5 {
            let text = format!("body {n}");
            let framing = if n % 2 == 0 { Framing::Length(text.len() as u64) } else { Framing::Chunked };
            connection.begin(&head("POST", "/echo"), framing, &settings);
            poll_fn(|cx| connection.poll_ready(cx)).await.unwrap();
            connection.push(Frame::Data(Bytes::from(text.clone())));
            connection.finish();
            poll_fn(|cx| connection.poll_flush(cx)).await.unwrap();
            let mut answer = ResponseHead::default();
            poll_fn(|cx| connection.poll_head(cx, &mut answer)).await.unwrap();
            assert_eq!(body(&mut connection).await, (text.into_bytes(), None));
            assert!(connection.is_reusable() && connection.is_quiet());
        }
    });
    assert_eq!((origin.connections(), origin.count()), (1, 5));
    let seen = &origin.requests()[0];
    assert_eq!(seen.head_text(), "POST /echo HTTP/1.1\r\nhost: origin.test\r\ncontent-length: 6\r\n\r\n");
}

#[test]
fn an_empty_frame_does_not_end_a_chunked_request() {
    let origin = Origin::start(Answer::echo);
    run(async {
        let settings = ClientSettings::default();
        let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
        connection.begin(&head("POST", "/echo"), Framing::Chunked, &settings);
        for piece in ["a", "", "b"] {
            poll_fn(|cx| connection.poll_ready(cx)).await.unwrap();
            connection.push(Frame::Data(Bytes::from(piece)));
        }
        connection.finish();
        poll_fn(|cx| connection.poll_flush(cx)).await.unwrap();
        let mut answer = ResponseHead::default();
        poll_fn(|cx| connection.poll_head(cx, &mut answer)).await.unwrap();
        assert_eq!(body(&mut connection).await, (b"ab".to_vec(), None));
    });
}

#[test]
fn sound_answers() {
    let cases: [(&str, &str, u16, &str, bool); 8] = [
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", 200, "hi", true),
        (
            "GET",
            "HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n",
            200,
            "hi",
            true,
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, "", true),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 200, "", true),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200, "", true),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi", 200, "hi", false),
        ("GET", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", 200, "hi", false),
    ];
    for (method, bytes, status, text, reusable) in cases {
        let expected = (Ok((status, text.as_bytes().to_vec(), None)), reusable);
        assert_eq!(outcome(method, bytes.as_bytes(), Step::Hang), expected, "{bytes:?}");
    }
    let until_close = outcome("GET", b"HTTP/1.1 200 OK\r\n\r\nhi", Step::Close);
    assert_eq!(until_close, (Ok((200, b"hi".to_vec(), None)), false));
}

#[test]
fn c1_c3_c7_c8_c9_heads_that_are_refused() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(201));
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(70_000));
    let interim = format!("{}HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17));
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\nx: y\n\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
        "HTTP/1.1 999 Odd\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "<html>0.9</html>\r\n\r\n",
        &many,
        &large,
        &interim,
    ] {
        let refused = (Err(UpstreamFailure::Protocol), false);
        assert_eq!(
            outcome("GET", bytes.as_bytes(), Step::Hang),
            refused,
            "{:?}",
            &bytes[..bytes.len().min(80)]
        );
    }
    let few = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(outcome("GET", few.as_bytes(), Step::Hang), (Ok((200, Vec::new(), None)), true));
}

#[test]
fn c4_answers_that_break_off() {
    for step in [Step::Close, Step::Reset] {
        for bytes in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"] {
            assert_eq!(
                outcome("GET", bytes.as_bytes(), step.clone()),
                (Err(UpstreamFailure::Closed), false),
                "{bytes:?}"
            );
        }
    }
    for (bytes, error) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi", BodyError::Incomplete),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", BodyError::Incomplete),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n", BodyError::Incomplete),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\nXX", BodyError::Malformed),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
            BodyError::Malformed,
        ),
    ] {
        let expected = (Ok((200, b"hi".to_vec(), Some(error))), false);
        assert_eq!(outcome("GET", bytes.as_bytes(), Step::Close), expected, "{bytes:?}");
    }
}

#[test]
fn c5_bytes_behind_the_answer_spoil_the_connection() {
    for (method, bytes) in [
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nhi"),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\nhi"),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ] {
        let (result, reusable) = outcome(method, bytes.as_bytes(), Step::Hang);
        assert!(result.is_ok_and(|(_, _, error)| error.is_none()) && !reusable, "{bytes:?}");
    }
}

#[test]
fn c6_an_idle_connection_that_speaks_unasked_or_closes_is_not_quiet() {
    for step in [Step::Bytes(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Step::Close, Step::Reset] {
        let gate = Gate::default();
        let origin = Origin::answering(Answer::ok("hi").then([Step::Until(gate.clone()), step]));
        run(async {
            let settings = ClientSettings::default();
            let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
            ask(&mut connection, "GET", &settings).await.unwrap();
            assert!(connection.is_reusable() && connection.is_quiet());
            gate.open();
            while connection.is_quiet() {
                tokio::task::yield_now().await;
            }
        });
    }
}

#[test]
fn c10_every_wait_for_an_upstream_ends() {
    let settings = ClientSettings {
        response: SHORT,
        body: Timeouts { idle: SHORT, ..ClientSettings::default().body },
        ..ClientSettings::default()
    };
    let started = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi".to_vec();
    for (answer, expected) in [
        (Answer::hang(), Err(UpstreamFailure::ResponseTimeout)),
        (
            Answer::steps([Step::Bytes(b"HTTP/1.1 200 OK\r\n".to_vec()), Step::Hang]),
            Err(UpstreamFailure::ResponseTimeout),
        ),
        (Answer::steps([Step::Bytes(started), Step::Hang]), Ok(Some(BodyError::Timeout))),
    ] {
        let origin = Origin::answering(answer);
        run(async {
            let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
            let result = ask(&mut connection, "GET", &settings).await;
            assert_eq!(result.map(|(_, _, error)| error), expected);
            assert!(!connection.is_reusable());
        });
    }
    // A head that drips is under one deadline.
    let drip = Answer::status(200).body("").dripping(SHORT / 4);
    let origin = Origin::answering(drip);
    run(async {
        let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
        assert_eq!(
            ask(&mut connection, "GET", &settings).await.unwrap_err(),
            UpstreamFailure::ResponseTimeout
        );
    });
}

#[test]
fn the_wait_for_an_answer_begins_with_the_end_of_the_request() {
    let origin = Origin::start(Answer::echo);
    run(async {
        let settings = ClientSettings { response: SHORT, ..ClientSettings::default() };
        let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
        connection.begin(&head("POST", "/x"), Framing::Length(2), &settings);
        let mut answer = ResponseHead::default();
        for piece in ["a", "b"] {
            // The body's sender makes a pause, in which the upstream has nothing to answer.
            let early =
                tokio::time::timeout(SHORT * 3, poll_fn(|cx| connection.poll_head(cx, &mut answer))).await;
            assert!(early.is_err(), "{early:?}");
            poll_fn(|cx| connection.poll_ready(cx)).await.unwrap();
            connection.push(Frame::Data(Bytes::from(piece)));
            poll_fn(|cx| connection.poll_flush(cx)).await.unwrap();
        }
        connection.finish();
        poll_fn(|cx| connection.poll_flush(cx)).await.unwrap();
        poll_fn(|cx| connection.poll_head(cx, &mut answer)).await.unwrap();
        assert_eq!(body(&mut connection).await, (b"ab".to_vec(), None));
    });
}

#[test]
fn an_upstream_that_takes_no_more() {
    let origin = Origin::builder().ignoring_bodies().start(|_| Answer::hang().after(Duration::from_secs(60)));
    run(async {
        let body = Timeouts { write_stall: SHORT, ..ClientSettings::default().body };
        let settings = ClientSettings { body, ..ClientSettings::default() };
        let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
        connection.begin(&head("POST", "/x"), Framing::Chunked, &settings);
        let error = loop {
            match poll_fn(|cx| connection.poll_ready(cx)).await {
                Ok(()) => connection.push(Frame::Data(Bytes::from(vec![b'x'; 64 * 1024]))),
                Err(error) => break error,
            }
        };
        assert_eq!(error, SinkError::Timeout);
        assert!(!connection.is_reusable());
    });
}

#[test]
fn a_request_of_another_length_than_announced_is_never_ended() {
    let origin = Origin::start(Answer::echo);
    for text in ["short", "much too long"] {
        run(async {
            let settings = ClientSettings::default();
            let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
            connection.begin(&head("POST", "/x"), Framing::Length(8), &settings);
            connection.push(Frame::Data(Bytes::from(text)));
            connection.finish();
            assert_eq!(poll_fn(|cx| connection.poll_flush(cx)).await, Err(SinkError::Length));
            assert!(!connection.is_reusable());
        });
    }
    assert!(origin.requests().iter().all(|request| !request.complete));
}

#[test]
fn an_answer_before_the_request_has_ended() {
    let origin =
        Origin::builder().ignoring_bodies().start(|_| Answer::status(413).body("no").then([Step::Hang]));
    run(async {
        let settings = ClientSettings::default();
        let mut connection = Http1Connection::new(connect(origin.address()).await, &settings);
        connection.begin(&head("POST", "/x"), Framing::Chunked, &settings);
        poll_fn(|cx| connection.poll_flush(cx)).await.unwrap();
        let mut answer = ResponseHead::default();
        poll_fn(|cx| connection.poll_head(cx, &mut answer)).await.unwrap();
        assert_eq!((answer.status, body(&mut connection).await), (413, (b"no".to_vec(), None)));
        assert!(!connection.is_reusable(), "the request was not ended");
    });
}
