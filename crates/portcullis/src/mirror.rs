//! Mirroring: copies of requests for another upstream, of which nobody waits for the answer.

use crate::body::RequestBody;
use crate::forward::Origin;
use crate::plan::{Sample, Target};
use bytes::Bytes;
use portcullis_http::{Budget, Frame, Framing, Held, RequestHead, ResponseHead, UpstreamFailure};
use portcullis_telemetry::MirrorMetrics;
use portcullis_upstream::{Trail, Upstream};
use portcullis_wire::Source as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of an answer to a copy so much is read; beyond, its connection is closed.
const MOST: usize = 1 << 20;

/// Copies of a route's requests.
#[derive(Debug)]
pub(crate) struct MirrorPlan {
    pub(crate) target: Target,
    pub(crate) sample: Sample,
    /// One permit for each copy under way.
    pub(crate) places: Arc<Semaphore>,
    /// From the begin of a copy to the end of its answer.
    pub(crate) timeout: Duration,
    pub(crate) host_suffix: Option<String>,
    /// Fields that copies do not have.
    pub(crate) remove: Box<[String]>,
    pub(crate) budget: Budget,
    pub(crate) metrics: MirrorMetrics,
}

/// One copy, and what it holds.
struct Copied {
    upstream: Upstream,
    head: RequestHead,
    body: Option<Bytes>,
    hash: Option<u64>,
    _place: OwnedSemaphorePermit,
    _held: Option<Held>,
}

impl MirrorPlan {
    /// Sends a copy of this request on its way, if it is one of the sample and there is room. It takes a task of its own
    /// and waits for nothing.
    pub(crate) fn copy(&self, origin: Origin<'_>, head: &RequestHead, body: &RequestBody) {
        if !self.sample.takes() {
            return;
        }
        // What has not come to its end, or has none, cannot be sent twice.
        if body.more || head.upgrade.is_some() {
            self.metrics.streamed.inc();
            return;
        }
        let Some(copied) = self.prepare(origin, head, body) else {
            self.metrics.dropped.inc();
            return;
        };
        let (timeout, metrics, calls) = (self.timeout, self.metrics.clone(), self.target.metrics.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let mut answer = ResponseHead::default();
            let result = tokio::time::timeout(timeout, copied.exchange(&mut answer)).await;
            match result {
                Ok(Ok(duration)) => {
                    metrics.answered.inc();
                    calls.answered(answer.status, duration);
                }
                Ok(Err(failure)) => {
                    metrics.failed.inc();
                    calls.failed(failure);
                }
                Err(_) => {
                    metrics.timed_out.inc();
                    calls.failed(UpstreamFailure::ResponseTimeout);
                }
            }
            tracing::trace!(took = ?began.elapsed(), status = answer.status, "a mirrored request ended");
        });
    }

    fn prepare(&self, origin: Origin<'_>, head: &RequestHead, body: &RequestBody) -> Option<Copied> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let length = body.read.len();
        let held = if length > 0 { Some(self.budget.hold(length)?) } else { None };
        let mut head = head.clone();
        for name in &self.remove {
            head.fields.remove(name);
        }
        // Not what is left of the request's own time: nobody waits for this one.
        origin.time.tell(self.timeout, &mut head);
        if let Some(suffix) = &self.host_suffix {
            let host = head.fields.get("host").map(|host| with_suffix(host, suffix))?;
            head.fields.set("host", host).ok()?;
        }
        Some(Copied {
            upstream: self.target.upstream.clone(),
            head,
            body: (body.framing != Framing::None).then(|| body.read.clone()),
            hash: self.target.key.as_ref().and_then(|key| key.hash(origin.exchange)),
            _place: place,
            _held: held,
        })
    }
}

impl Copied {
    /// The whole exchange; how long the head of the answer took.
    async fn exchange(&self, answer: &mut ResponseHead) -> Result<Duration, UpstreamFailure> {
        let began = Instant::now();
        let outbound = portcullis_upstream::Outbound {
            hash: self.hash,
            ..portcullis_upstream::Outbound::new(&self.head)
        };
        let mut trail = Trail::default();
        let mut lease = self.upstream.send(&outbound, self.body.as_ref(), answer, &mut trail).await?;
        let duration = began.elapsed();
        let mut read = 0;
        while let Some(frame) = poll_fn(|cx| lease.poll_frame(cx)).await {
            match frame {
                Ok(Frame::Data(data)) => read += data.len(),
                Ok(Frame::Trailers(_)) => {}
                // It answered; how well is for whoever watches that upstream.
                Err(_) => break,
            }
            if read > MOST {
                break;
            }
        }
        Ok(duration)
    }
}

/// A host with something behind its name, and the port behind that.
fn with_suffix(host: &[u8], suffix: &str) -> Vec<u8> {
    let is_port = |tail: &[u8]| !tail.is_empty() && tail.iter().all(u8::is_ascii_digit);
    let colon = host
        .iter()
        .rposition(|byte| *byte == b':')
        .filter(|at| is_port(host.get(at + 1..).unwrap_or_default()));
    let (name, port) = host.split_at(colon.unwrap_or(host.len()));
    [name, suffix.as_bytes(), port].concat()
}

#[cfg(test)]
mod tests {
    use super::with_suffix;

    #[test]
    fn the_suffix_stands_before_the_port() {
        for (host, wanted) in [
            ("a.test", "a.test-shadow"),
            ("a.test:8080", "a.test-shadow:8080"),
            ("[::1]", "[::1]-shadow"),
            ("[::1]:80", "[::1]-shadow:80"),
        ] {
            assert_eq!(with_suffix(host.as_bytes(), "-shadow"), wanted.as_bytes());
        }
    }
}
