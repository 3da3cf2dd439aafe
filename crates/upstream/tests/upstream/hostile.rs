//! Answers that are no HTTP, or two readings of one message (attack matrix, part C).

use crate::support::*;
use portcullis_http::{BodyError, ResponseHead, UpstreamFailure};
use portcullis_testkit::{Answer, Gate, Origin, Step};
use portcullis_upstream::{Outbound, Trail};

#[tokio::test]
async fn heads_that_are_refused() {
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nabcd");
    let mut answers = vec![
        // C7
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000),
        "HTTP/1.1 199 x\r\n\r\n".repeat(17),
        // C8
        "HTTP/1.1 999 x\r\n\r\n".to_owned(),
        "HTTP/1.1 099 x\r\n\r\n".to_owned(),
        "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\n\n".to_owned(),
        "<html>HTTP/0.9</html>\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2} garbage garbage\r\n\r\n".to_owned(),
        // C9
        with(&format!("x: {}", "a".repeat(500_000))),
        with(&vec!["x: y"; 5000].join("\r\n")),
    ];
    answers.extend(
        [
            // C1 to C3
            "content-length: 4\r\ncontent-length: 5",
            "content-length: +4",
            "content-length: x",
            "content-length: 4, 5",
            "transfer-encoding: chunked\r\ncontent-length: 4",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: xchunked",
            // C8
            "a\u{0}: b",
            "a: b\u{0}",
            "a: b\rc: d",
            "a: b\r\n folded: yes",
            "no colon",
            "a : b",
        ]
        .map(with),
    );
    for answer in answers {
        let shown: String = answer.chars().take(80).collect();
        let origin = Origin::answering(Answer::raw(&answer));
        let upstream = to(&origin);
        let failure = exchange(&upstream, "GET", None).await.map(|(status, _)| status);
        assert_eq!(failure, Err(UpstreamFailure::Protocol), "{shown}");
        assert_eq!((stats(&upstream).open, stats(&upstream).in_flight), (0, 0), "{shown}");
        assert_eq!(origin.count(), 1, "{shown}");
    }
}

#[tokio::test]
async fn a_body_cut_short_never_ends_cleanly() {
    for (answer, error) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", BodyError::Incomplete),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", BodyError::Incomplete),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf", BodyError::Incomplete),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", BodyError::Incomplete),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nhalf\r\n", BodyError::Malformed),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\nhalf\n0\n\n", BodyError::Malformed),
    ] {
        for end in [Step::Close, Step::Reset] {
            let origin =
                Origin::answering(Answer::steps([Step::Bytes(answer.as_bytes().to_vec()), end.clone()]));
            let upstream = to(&origin);
            // A reset may overtake the answer.
            match exchange(&upstream, "GET", None).await {
                Ok((200, body)) => {
                    let broken = body.unwrap_err();
                    assert!(broken == error || matches!(end, Step::Reset), "{answer} {broken:?}");
                }
                other => {
                    assert!(matches!(end, Step::Reset), "{answer}");
                    assert_eq!(other.map(|_| ()), Err(UpstreamFailure::Closed));
                }
            }
            assert_eq!(stats(&upstream).open, 0, "{answer}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_request_was_read_counts() {
    let gate = Gate::default();
    let script = [
        Step::Bytes(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig".to_vec()),
        Step::Until(gate.clone()),
    ];
    let origin = Origin::builder().ignoring_bodies().start(move |_| Answer::steps(script.clone()));
    let upstream = to(&origin);
    let body = vec![b'x'; 32 << 20];
    let (status, answer) = exchange(&upstream, "PUT", Some(&body)).await.unwrap();
    assert_eq!((status, answer.unwrap().as_slice()), (413, &b"big"[..]));
    assert_eq!(stats(&upstream).open, 0, "half a request is still on its way there");
    gate.open();
}

#[tokio::test]
async fn a_lease_that_failed_is_harmless() {
    let origin = Origin::answering(Answer::raw("nonsense\r\n\r\n"));
    let upstream = to(&origin);
    let mut lease = upstream
        .start(
            &Outbound::new(&request("POST", "/")),
            portcullis_http::Framing::Chunked,
            &mut Trail::default(),
        )
        .await
        .unwrap();
    let mut answer = ResponseHead::default();
    use portcullis_wire::{Call as _, Sink as _};
    let outcome = std::future::poll_fn(|cx| {
        let _ = lease.poll_flush(cx);
        lease.finish();
        let _ = lease.poll_flush(cx);
        lease.poll_head(cx, &mut answer)
    })
    .await;
    assert_eq!(outcome, Err(UpstreamFailure::Protocol));
    assert!(format!("{lease:?}").contains("reused"));
}
