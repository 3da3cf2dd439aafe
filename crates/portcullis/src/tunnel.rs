//! Exchanges that switch to WebSocket: who may, and the bytes of both directions once the upstream has agreed.
//!
//! Nothing of the client's reaches the upstream as anything but HTTP before the upstream's 101. Behind it, bytes pass as
//! they are: frames are not inspected.

use crate::forward::{Answer, AnswerBody, Relay};
use crate::plan::{Action, RoutePlan};
use crate::record::Record;
use portcullis_http::{Exchange, Fields, Frame, Malformed, Rejection, ResponseHead, Version};
use portcullis_wire::{Downstream, Pump, websocket};
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Decides whether a request that asks for WebSocket may have it. Where it may not, it goes on as the plain request
/// that it also is (RFC 9110 §7.8); in HTTP/2 there is no such request.
///
/// # Errors
/// 400 for a handshake that breaks RFC 6455 §4.1.
pub(crate) fn admit(route: &RoutePlan, exchange: &mut Exchange) -> Result<(), Rejection> {
    if exchange.request.upgrade.is_none() {
        return Ok(());
    }
    let over_http2 = exchange.request.version == Version::Http2;
    let fields = &exchange.request.fields;
    let allowed = matches!(&route.action, Action::Forward(plan) if plan.websocket.is_some());
    // Of a version that we do not know, the upstream hears without the upgrade, and can say which it knows.
    if !allowed || fields.get("sec-websocket-version") != Some(b"13") {
        exchange.request.upgrade = None;
        return if over_http2 { Err(Rejection::Malformed(Malformed::Http2)) } else { Ok(()) };
    }
    let key = fields.get("sec-websocket-key");
    let is_good = if over_http2 { key.is_none() } else { key.is_some_and(websocket::is_key) };
    if is_good { Ok(()) } else { Err(Rejection::Malformed(Malformed::Field)) }
}

/// The key of the handshake with the upstream: the client's own, or one of ours where its protocol has none.
pub(crate) fn write_key(fields: &mut Fields) {
    if !fields.contains("sec-websocket-key") {
        fields.append_parsed(b"sec-websocket-key", websocket::new_key().as_bytes());
    }
}

/// What an answer is to the request for an upgrade.
pub(crate) enum Reply {
    /// The upstream switches.
    Granted(ResponseHead, Tunnel),
    /// It answers as usual.
    Plain(Answer),
}

/// Whether an answer grants the upgrade.
pub(crate) fn reply(route: &RoutePlan, answer: Answer) -> Reply {
    let idle = match &route.action {
        Action::Forward(plan) => plan.websocket,
        Action::Compose(_) => None,
    };
    match (answer, idle) {
        (Answer { head, body: AnswerBody::Upstream(relay), .. }, Some(idle)) if head.status == 101 => {
            Reply::Granted(head, Tunnel { relay, idle })
        }
        (answer, _) => Reply::Plain(answer),
    }
}

/// Both sides have switched.
pub(crate) struct Tunnel {
    relay: Box<Relay>,
    /// How long both directions together may be silent.
    idle: Duration,
}

impl Tunnel {
    /// Moves bytes until one side ends, fails, or both are silent for too long.
    pub(crate) async fn run<D: Downstream>(mut self, downstream: &mut D, record: &mut Record) {
        let lease = self.relay.lease();
        let (mut up, mut down) = (Pump::default(), Pump::default());
        let (mut sent, mut received) = (0, 0);
        let mut quiet = pin!(sleep(self.idle));
        let ended = poll_fn(|cx| {
            let before = (sent, received);
            let up = up.poll(cx, downstream, lease, &mut |frame| Ok(counted(frame, &mut received)));
            let down = down.poll(cx, lease, downstream, &mut |frame| Ok(counted(frame, &mut sent)));
            match (up, down) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(End::Broken),
                (Poll::Ready(Ok(())), _) | (_, Poll::Ready(Ok(()))) => return Poll::Ready(End::Proper),
                (Poll::Pending, Poll::Pending) => {}
            }
            if before != (sent, received) {
                quiet.as_mut().reset(Instant::now() + self.idle);
            }
            quiet.as_mut().poll(cx).map(|()| End::Silent)
        })
        .await;
        record.bytes_in += received;
        record.bytes_out += sent;
        if ended == End::Proper {
            downstream.finish();
            // The side that ended may have gone for good.
            let _ = poll_fn(|cx| downstream.poll_flush(cx)).await;
        } else {
            downstream.abort();
        }
    }
}

/// How a tunnel ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// One side has said all that it had to say.
    Proper,
    Broken,
    Silent,
}

fn counted(frame: Option<Frame>, count: &mut u64) -> Option<Frame> {
    if let Some(Frame::Data(data)) = &frame {
        *count += data.len() as u64;
    }
    frame
}
