//! Bodies that are longer than anybody wants to hold. Alone in its process, so that its memory tells how much is held.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use portcullis_http::{BodyError, Frame, Framing, RequestHead, ResponseHead, Version};
use portcullis_testkit::{Answer, Digest, Origin, pattern_digest};
use portcullis_upstream::{EndpointSettings, Outbound, Trail, Upstream, UpstreamSettings};
use portcullis_wire::{Call as _, Pump, Source};
use std::future::poll_fn;
use std::sync::mpsc;
use std::task::{Context, Poll};

const LENGTH: u64 = 256 << 20;
/// All that the process, client and backend, may ever have held.
const FLAT: u64 = 64 << 20;

/// The pattern of the testkit, frame by frame.
struct Pattern(mpsc::Receiver<Bytes>);

impl Pattern {
    fn new() -> Self {
        let (sender, blocks) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            portcullis_testkit::pattern(LENGTH, |block| sender.send(Bytes::copy_from_slice(block)).is_ok());
        });
        Pattern(blocks)
    }
}

impl Source for Pattern {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Ready(self.0.recv().ok().map(|block| Ok(Frame::Data(block))))
    }
}

fn request(method: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.set_line(method.as_bytes(), b"/large", Version::Http11);
    head.fields.append("host", "gateway.test").unwrap();
    head
}

async fn upload(upstream: &Upstream, framing: Framing) -> u16 {
    let mut lease =
        upstream.start(&Outbound::new(&request("PUT")), framing, &mut Trail::default()).await.unwrap();
    let (mut pump, mut source, mut answer) = (Pump::default(), Pattern::new(), ResponseHead::default());
    let both = poll_fn(|cx| {
        if !pump.is_done()
            && let Poll::Ready(sent) = pump.poll(cx, &mut source, &mut lease, &mut Ok)
        {
            sent.unwrap();
        }
        lease.poll_head(cx, &mut answer)
    });
    both.await.unwrap();
    assert!(poll_fn(|cx| lease.poll_frame(cx)).await.is_none());
    answer.status
}

async fn download(upstream: &Upstream) -> (u64, String) {
    let mut answer = ResponseHead::default();
    let mut lease = upstream
        .send(&Outbound::new(&request("GET")), None, &mut answer, &mut Trail::default())
        .await
        .unwrap();
    assert_eq!(answer.framing, Framing::Length(LENGTH));
    let (mut digest, mut length) = (Digest::default(), 0);
    while let Some(frame) = poll_fn(|cx| lease.poll_frame(cx)).await {
        let Frame::Data(data) = frame.unwrap() else { continue };
        length += data.len() as u64;
        digest.update(&data);
    }
    (length, digest.finish())
}

/// The most memory the process ever had; `None` where the system does not say.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

#[tokio::test]
async fn large_bodies_pass_both_ways_in_flat_memory() {
    let origin =
        Origin::start(
            |request| {
                if request.method() == "GET" { Answer::pattern(LENGTH) } else { Answer::ok("") }
            },
        );
    let address = origin.address();
    let endpoint = EndpointSettings::new(address.ip().to_string(), address.port());
    let upstream = Upstream::new(UpstreamSettings::new("large", vec![endpoint]), None).unwrap();
    let expected = (LENGTH, pattern_digest(LENGTH));
    for framing in [Framing::Length(LENGTH), Framing::Chunked] {
        assert_eq!(upload(&upstream, framing).await, 200);
        assert_eq!(download(&upstream).await, expected);
    }
    for received in origin.requests().into_iter().filter(|request| request.method() == "PUT") {
        assert_eq!((received.length, received.digest), expected);
    }
    assert_eq!((origin.connections(), origin.count()), (1, 4));
    match peak() {
        Some(peak) => assert!(peak < FLAT, "{peak} bytes"),
        None => eprintln!("SKIP: /proc/self/status does not tell the peak of memory"),
    }
}
