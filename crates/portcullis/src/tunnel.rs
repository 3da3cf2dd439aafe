//! Exchanges that switch to WebSocket: who may, and the bytes of both directions once the upstream has agreed.
//!
//! Nothing of the client's reaches the upstream as anything but HTTP before the upstream's 101. Behind it, bytes pass as
//! they are: frames are not inspected, only counted off, so that the gateway can say that it goes away between two of them.

use crate::forward::{Answer, AnswerBody, Relay};
use crate::plan::{Action, RoutePlan};
use crate::record::Record;
use portcullis_http::{Exchange, Fields, Frame, Malformed, Rejection, ResponseHead, Version};
use portcullis_wire::websocket::{self, Frames, GOING_AWAY};
use portcullis_wire::{Downstream, Pump, PumpError, Sink, Source};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// How long the frames that are under way may take to end when the tunnel is to end, and the Close frames to leave.
const LAST_FRAME: Duration = Duration::from_secs(1);

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
    /// Moves bytes until one side ends, fails, both are silent for too long, or `over` says that it is time.
    pub(crate) async fn run<D: Downstream>(
        mut self,
        downstream: &mut D,
        record: &mut Record,
        over: impl Future<Output = ()>,
    ) {
        let lease = self.relay.lease();
        let (mut up, mut down) = (Way::default(), Way::default());
        let mut quiet = pin!(sleep(self.idle));
        let mut over = pin!(over);
        let mut last_moment: Option<Pin<Box<Sleep>>> = None;
        let ended = poll_fn(|cx| {
            let before = (up.bytes, down.bytes);
            let leaving = last_moment.is_some();
            let (to_upstream, to_client) =
                (up.poll(cx, leaving, downstream, lease), down.poll(cx, leaving, lease, downstream));
            match (to_upstream, to_client) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(End::Broken),
                (Poll::Ready(Ok(())), _) | (_, Poll::Ready(Ok(()))) => return Poll::Ready(End::Proper),
                (Poll::Pending, Poll::Pending) => {}
            }
            if before != (up.bytes, down.bytes) {
                quiet.as_mut().reset(Instant::now() + self.idle);
            }
            if let Some(last) = &mut last_moment {
                let is_late = last.as_mut().poll(cx).is_ready();
                if is_late || up.frames.between() && down.frames.between() {
                    return Poll::Ready(End::Leaving);
                }
            } else if over.as_mut().poll(cx).is_ready() {
                last_moment = Some(Box::pin(sleep(LAST_FRAME)));
                cx.waker().wake_by_ref();
            }
            quiet.as_mut().poll(cx).map(|()| End::Silent)
        })
        .await;
        record.bytes_in += up.bytes;
        record.bytes_out += down.bytes;
        match ended {
            End::Proper => {
                downstream.finish();
                // The side that ended may have gone for good.
                let _ = poll_fn(|cx| downstream.poll_flush(cx)).await;
            }
            End::Leaving => {
                let farewell = async {
                    say_goodbye(downstream, &down.frames, false).await;
                    say_goodbye(lease, &up.frames, true).await;
                };
                // Who takes nothing more is not waited for.
                let _ = timeout(LAST_FRAME, farewell).await;
            }
            End::Broken | End::Silent => downstream.abort(),
        }
    }
}

/// One direction of a tunnel.
#[derive(Default)]
struct Way {
    pump: Pump,
    frames: Frames,
    bytes: u64,
}

impl Way {
    /// Moves what can be moved; on the way out no frame is begun any more.
    fn poll<S: Source, K: Sink>(
        &mut self,
        cx: &mut Context<'_>,
        leaving: bool,
        from: &mut S,
        to: &mut K,
    ) -> Poll<Result<(), PumpError>> {
        if leaving && self.frames.between() {
            return Poll::Pending;
        }
        let (frames, bytes) = (&mut self.frames, &mut self.bytes);
        self.pump.poll(cx, from, to, &mut |frame| {
            if let Some(Frame::Data(data)) = &frame {
                *bytes += data.len() as u64;
                frames.pass(data);
            }
            Ok(frame)
        })
    }
}

/// Ends one side: by a Close frame, where one can stand.
async fn say_goodbye<K: Sink>(to: &mut K, frames: &Frames, masked: bool) {
    if frames.between() && !frames.closed() && poll_fn(|cx| to.poll_ready(cx)).await.is_ok() {
        to.push(Frame::Data(websocket::close(GOING_AWAY, masked).into()));
    }
    to.finish();
    // It may have gone for good.
    let _ = poll_fn(|cx| to.poll_flush(cx)).await;
}

/// How a tunnel ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// One side has said all that it had to say.
    Proper,
    Broken,
    Silent,
    /// Its time is up.
    Leaving,
}
