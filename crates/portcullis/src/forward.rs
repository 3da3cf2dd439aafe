//! The call to an upstream: a request built anew, its body sent while the answer is awaited.

use crate::body::{RequestBody, client_fault};
use crate::deadline::Time;
use crate::plan::{ForwardPlan, RoutePlan, Trailers};
use crate::record::{Called, Record};
use crate::tunnel;
use portcullis_http::forwarding::{Inherited, set_forwarding};
use portcullis_http::{
    BodyError, Exchange, Fields, Frame, Framing, Held, Rejection, RequestHead, ResponseHead, UpstreamFailure,
    Version,
};
use portcullis_identity::{Permit, write_identity};
use portcullis_telemetry::UpstreamMetrics;
use portcullis_tls::ClientCertFields;
use portcullis_upstream::{Lease, Outbound, Outcome, Trail, Upstream};
use portcullis_wire::{Call as _, Downstream, Pump, PumpError, Sink as _, SinkError, Source as _};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

/// An upstream's answer, of which the head has come.
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    /// The trailers behind its body that pass, in lower case.
    pub(crate) trailers: Arc<[String]>,
    pub(crate) body: AnswerBody,
}

/// Where an answer's body comes from.
pub(crate) enum AnswerBody {
    /// An upstream, which may still be taking the request's body.
    Upstream(Box<Relay>),
    /// The gateway has all of it, accounted for.
    Whole { body: Option<bytes::Bytes>, _held: Option<Held> },
}

/// A call under way, and the upload that may still feed it.
pub(crate) struct Relay {
    lease: Lease,
    upload: Upload,
}

/// What is left to send of a request's body.
struct Upload {
    body: RequestBody,
    pump: Pump,
    limit: u64,
    sent: u64,
    state: State,
    /// Trailers of the request that pass.
    trailers: Arc<[String]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    First,
    Rest,
    Done,
    /// The upstream takes no more of it; it may answer all the same.
    Refused,
}

/// What calls out are made from.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) exchange: &'a Exchange,
    /// What a trusted proxy said of its own client.
    pub(crate) inherited: &'a Inherited,
    /// Our name in `Via`.
    pub(crate) via: &'a str,
    /// What the upstream is told of the caller's certificate.
    pub(crate) client_cert: ClientCertFields,
    pub(crate) time: Time<'a>,
}

/// The fields that a call to any upstream carries: the host, those of the client's that pass, and what the gateway
/// says of itself, the client and the caller.
pub(crate) fn outgoing_fields(passing: &Fields, origin: Origin<'_>, out: &mut Fields) {
    let Origin { exchange, inherited, via, client_cert, .. } = origin;
    // A client of HTTP/1.0 may name no host; our own name is as good as any then.
    out.append_written(b"host", |out| {
        if exchange.host.is_empty() { out.text(via) } else { exchange.host.write(out) }
    });
    out.append_from(passing, |name| !name.eq_ignore_ascii_case(b"host"));
    set_forwarding(exchange, inherited, via, out);
    write_identity(exchange.principal.as_deref(), out);
    if let Some(certificate) = &exchange.client.certificate {
        client_cert.write(certificate, out);
    }
}

/// The request as the upstream gets it.
fn outgoing(origin: Origin<'_>, route: &RoutePlan, plan: &ForwardPlan) -> Result<RequestHead, Rejection> {
    let exchange = origin.exchange;
    let mut head = RequestHead::default();
    let (method, target) = (exchange.request.method_text(), &exchange.target);
    match &plan.rewrite {
        Some(template) => {
            let path = template.path(&exchange.values()).ok_or(Rejection::NoRoute)?;
            head.set_line_of(method, &path, target.query(), Version::Http11);
        }
        None => head.set_line(method, target.as_str().as_bytes(), Version::Http11),
    }
    outgoing_fields(&exchange.request.fields, origin, &mut head.fields);
    origin.time.clean(&mut head);
    head.upgrade = exchange.request.upgrade;
    if head.upgrade.is_some() {
        tunnel::write_key(&mut head.fields);
    }
    head.accepts_trailers = !plan.trailers.response.is_empty() && exchange.request.accepts_trailers;
    if !route.response.streaming
        && let Some(leaks) = &route.response.leaks
    {
        leaks.prepare(&mut head.fields);
    }
    Ok(head)
}

/// Forwards the request and waits for the head of the answer. Needs a [`Permit`], which only the authorize stage makes.
///
/// # Errors
/// 502, 503 or 504 for what the upstream does wrong; 400, 408 or 413 for the client's body.
pub(crate) async fn call<D: Downstream>(
    _permit: Permit,
    origin: Origin<'_>,
    route: &RoutePlan,
    plan: &ForwardPlan,
    body: RequestBody,
    downstream: &mut D,
    record: &mut Record,
) -> Result<Answer, Rejection> {
    let target = plan.target(origin.exchange);
    let head = outgoing(origin, route, plan)?;
    if let Some(mirror) = &plan.mirror {
        mirror.copy(origin, &head, &body);
    }
    let deadline = origin.time.deadline();
    let outbound = Outbound { deadline, ..target.outbound(origin.exchange, &head) };
    // There from the beginning: a call that is given up is logged, too.
    let called = record.upstream.insert(Called { name: target.name.clone(), trail: Trail::default() });
    // Where the firewall sees a prefix only, the limit was that prefix's.
    let limit = route.body.limit.filter(|_| !(route.body.buffered && route.body.inspect_prefix));
    let limit = limit.map_or(u64::MAX, |limit| limit as u64);
    let way = Way { outbound: &outbound, upstream: &target.upstream, trailers: &plan.trailers };
    let mut result = exchange_heads(way, body, limit, downstream, &mut called.trail).await;
    count_tries(&target.metrics, &called.trail);
    match &mut result {
        Ok(answer) => {
            target.metrics.answered(answer.head.status, called.trail.elapsed());
            // Who merely was quicker does not take a client from the endpoint that has its session.
            let stays = outbound.sticky.is_some() && called.trail.is_hedged();
            if let (Some(sticky), AnswerBody::Upstream(relay), false) = (&target.sticky, &answer.body, stays)
            {
                let endpoint = relay.lease.endpoint();
                sticky.renew(&target.upstream, endpoint, outbound.sticky, &mut answer.head.fields);
            }
        }
        Err(Rejection::Upstream(failure)) => target.metrics.failed(*failure),
        Err(_) => {}
    }
    result
}

/// Counts what was tried again, and what was not.
fn count_tries(metrics: &UpstreamMetrics, trail: &Trail) {
    let tries = trail.tries();
    for (before, next) in tries.iter().zip(tries.iter().skip(1)) {
        let reason = if next.hedge { "hedge" } else { before.outcome.map_or("cancelled", Outcome::reason) };
        metrics.tried_again(reason);
    }
    if let Some(denied) = trail.denied() {
        metrics.not_tried_again(denied.as_str());
    }
}

/// What is sent, and where.
#[derive(Clone, Copy)]
struct Way<'a> {
    outbound: &'a Outbound<'a>,
    upstream: &'a Upstream,
    trailers: &'a Trailers,
}

async fn exchange_heads<D: Downstream>(
    way: Way<'_>,
    body: RequestBody,
    limit: u64,
    downstream: &mut D,
    trail: &mut Trail,
) -> Result<Answer, Rejection> {
    let Way { outbound, upstream, trailers } = way;
    let mut answer = ResponseHead::default();
    // Those that pass to a client that reads any.
    let passing = if outbound.head.accepts_trailers { trailers.response.clone() } else { Arc::default() };
    if !body.more {
        // All of it is here, so that a connection that died while it was idle can be replaced unnoticed.
        let whole = (body.framing != Framing::None).then_some(&body.read);
        let lease = {
            // Not to be moved from here, so that there is room for it once.
            let sent = pin!(upstream.send(outbound, whole, &mut answer, trail));
            unless_gone(sent, downstream).await?.map_err(Rejection::Upstream)?
        };
        return Ok(Answer {
            head: answer,
            trailers: passing,
            body: AnswerBody::Upstream(Box::new(Relay { lease, upload: Upload::done(body) })),
        });
    }
    let lease = upstream.start(outbound, body.framing, trail).await.map_err(Rejection::Upstream)?;
    let upload = Upload::new(body, limit, trailers.request.clone());
    let mut relay = Relay { lease, upload };
    let result = poll_fn(|cx| relay.poll_head(cx, downstream, &mut answer)).await;
    match &result {
        Ok(()) => trail.note(&Ok(()), &answer),
        Err(Rejection::Upstream(failure)) => trail.note(&Err(*failure), &answer),
        // The client's own fault.
        Err(_) => {}
    }
    result?;
    Ok(Answer { head: answer, trailers: passing, body: AnswerBody::Upstream(Box::new(relay)) })
}

/// Waits for the upstream only as long as somebody waits for us.
async fn unless_gone<D: Downstream, T>(
    mut call: Pin<&mut impl Future<Output = T>>,
    downstream: &mut D,
) -> Result<T, Rejection> {
    poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        // Nobody will read this answer.
        Poll::Pending => downstream.poll_gone(cx).map(|()| Err(client_fault(BodyError::Incomplete))),
    })
    .await
}

impl Upload {
    fn new(body: RequestBody, limit: u64, trailers: Arc<[String]>) -> Self {
        Upload { body, pump: Pump::default(), limit, sent: 0, state: State::First, trailers }
    }

    fn done(body: RequestBody) -> Self {
        let sent = body.read.len() as u64;
        let trailers = Arc::default();
        Upload { body, pump: Pump::default(), limit: u64::MAX, sent, state: State::Done, trailers }
    }

    /// Sends what can be sent. An upstream that takes no more is no failure yet: it may have answered.
    fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        lease: &mut Lease,
        downstream: &mut D,
    ) -> Result<(), Rejection> {
        if self.state == State::First {
            match lease.poll_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => {
                    self.state = State::Refused;
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {}
            }
            if !self.body.read.is_empty() {
                self.sent += self.body.read.len() as u64;
                lease.push(Frame::Data(std::mem::take(&mut self.body.read)));
            }
            self.body.held = None;
            self.state = State::Rest;
        }
        if self.state != State::Rest {
            return Ok(());
        }
        let (sent, limit, trailers) = (&mut self.sent, self.limit, &*self.trailers);
        let polled = self.pump.poll(cx, downstream, lease, &mut |frame| match frame {
            None => Ok(None),
            Some(Frame::Trailers(fields)) => Ok(Trailers::passing(trailers, fields)),
            Some(Frame::Data(data)) => {
                *sent += data.len() as u64;
                if *sent > limit { Err(BodyError::TooLarge) } else { Ok(Some(Frame::Data(data))) }
            }
        });
        match polled {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.state = State::Done;
                Ok(())
            }
            Poll::Ready(Err(PumpError::Sink(SinkError::Length))) => Err(client_fault(BodyError::Malformed)),
            Poll::Ready(Err(PumpError::Sink(_))) => {
                self.state = State::Refused;
                Ok(())
            }
            Poll::Ready(Err(PumpError::Source(error))) => Err(client_fault(error)),
        }
    }
}

impl Relay {
    /// The exchange with the upstream, once nothing is left to upload.
    pub(crate) fn lease(&mut self) -> &mut Lease {
        &mut self.lease
    }

    fn poll_head<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        downstream: &mut D,
        answer: &mut ResponseHead,
    ) -> Poll<Result<(), Rejection>> {
        if let Err(rejection) = self.upload.poll(cx, &mut self.lease, downstream) {
            return Poll::Ready(Err(rejection));
        }
        if self.upload.state == State::Done && downstream.poll_gone(cx).is_ready() {
            // Nobody will read this answer.
            return Poll::Ready(Err(client_fault(BodyError::Incomplete)));
        }
        self.lease.poll_head(cx, answer).map_err(Rejection::Upstream)
    }

    fn poll_frame<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        downstream: &mut D,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.upload.poll(cx, &mut self.lease, downstream).is_err() {
            return Poll::Ready(Some(Err(BodyError::Incomplete)));
        }
        self.lease.poll_frame(cx)
    }
}

impl AnswerBody {
    /// The next frame of the answer; keeps the request's body moving meanwhile.
    pub(crate) fn poll_frame<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        downstream: &mut D,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        match self {
            AnswerBody::Upstream(relay) => relay.poll_frame(cx, downstream),
            AnswerBody::Whole { body, .. } => {
                Poll::Ready(body.take().filter(|body| !body.is_empty()).map(|body| Ok(Frame::Data(body))))
            }
        }
    }

    /// Bytes of the request's body that were sent on.
    pub(crate) fn uploaded(&self) -> u64 {
        match self {
            AnswerBody::Upstream(relay) => relay.upload.sent,
            AnswerBody::Whole { .. } => 0,
        }
    }
}

/// How a failure of an answer's body is told before the answer was begun.
pub(crate) fn answer_fault(error: BodyError) -> Rejection {
    Rejection::Upstream(match error {
        BodyError::Malformed => UpstreamFailure::Protocol,
        BodyError::Incomplete => UpstreamFailure::Closed,
        BodyError::Timeout => UpstreamFailure::ResponseTimeout,
        BodyError::TooLarge => UpstreamFailure::TooLarge,
    })
}
