//! Bodies that are longer than anybody wants to hold.

use crate::support::*;
use bytes::Bytes;
use portcullis_http::{BodyError, Fields, Frame, Framing, ResponseHead};
use portcullis_testkit::{Answer, Digest, Origin, Step, pattern_digest};
use portcullis_upstream::Upstream;
use portcullis_wire::{Call as _, Pump, Source};
use std::future::poll_fn;
use std::task::{Context, Poll};

const LENGTH: u64 = 64 << 20;
/// What may be added to the process while many times as much passes; the other tests run beside.
const FLAT: u64 = 48 << 20;

/// The pattern of the testkit, frame by frame.
struct Pattern {
    blocks: std::sync::mpsc::Receiver<Bytes>,
}

impl Pattern {
    fn new(length: u64) -> Self {
        let (sender, blocks) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            portcullis_testkit::pattern(length, |block| sender.send(Bytes::copy_from_slice(block)).is_ok());
        });
        Pattern { blocks }
    }
}

impl Source for Pattern {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Ready(self.blocks.recv().ok().map(|block| Ok(Frame::Data(block))))
    }
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

async fn upload(upstream: &Upstream, framing: Framing) -> ResponseHead {
    let mut lease = upstream.start(&request("PUT", "/up"), framing).await.unwrap();
    let (mut pump, mut source, mut answer) = (Pump::default(), Pattern::new(LENGTH), ResponseHead::default());
    poll_fn(|cx| {
        if !pump.is_done() {
            match pump.poll(cx, &mut source, &mut lease, &mut Ok) {
                Poll::Ready(result) => result.unwrap(),
                Poll::Pending => {}
            }
        }
        lease.poll_head(cx, &mut answer)
    })
    .await
    .unwrap();
    assert!(read(&mut lease).await.unwrap().is_empty());
    answer
}

#[tokio::test]
async fn up() {
    let origin = Origin::answering(Answer::ok(""));
    let upstream = to(&origin);
    for framing in [Framing::Length(LENGTH), Framing::Chunked] {
        let before = resident();
        assert_eq!(upload(&upstream, framing).await.status, 200);
        assert!(resident().saturating_sub(before) < FLAT);
    }
    assert_eq!(origin.connections(), 1);
    for received in origin.wait_for(2) {
        assert_eq!((received.length, received.digest), (LENGTH, pattern_digest(LENGTH)));
    }
}

#[tokio::test]
async fn down() {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
    let origin = Origin::answering(Answer::steps([Step::Bytes(head.into_bytes()), Step::Pattern(LENGTH)]));
    let upstream = to(&origin);
    for _ in 0..2 {
        let before = resident();
        let mut answer = ResponseHead::default();
        let mut lease = upstream.send(&request("GET", "/down"), None, &mut answer).await.unwrap();
        assert_eq!(answer.framing, Framing::Length(LENGTH));
        let (mut digest, mut length) = (Digest::default(), 0);
        while let Some(frame) = poll_fn(|cx| lease.poll_frame(cx)).await {
            let Frame::Data(data) = frame.unwrap() else { continue };
            length += data.len() as u64;
            digest.update(&data);
        }
        assert_eq!((length, digest.finish()), (LENGTH, pattern_digest(LENGTH)));
        assert!(resident().saturating_sub(before) < FLAT);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn trailers_come_through() {
    let origin = Origin::answering(Answer::raw(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\ndigest: x\r\n\r\n",
    ));
    let upstream = to(&origin);
    let mut answer = ResponseHead::default();
    let mut lease = upstream.send(&request("GET", "/"), None, &mut answer).await.unwrap();
    let mut trailers = Fields::default();
    while let Some(frame) = poll_fn(|cx| lease.poll_frame(cx)).await {
        if let Frame::Trailers(fields) = frame.unwrap() {
            trailers = fields;
        }
    }
    assert_eq!(trailers.get("digest"), Some(&b"x"[..]));
}
