//! The way back: hygiene, the firewall's response phases, leak masking, and the bytes to the client.

use crate::answer::{append_all, finish_fields};
use crate::cors;
use crate::forward::{Answer, AnswerBody, answer_fault};
use crate::grpc;
use crate::inspection::Inspection;
use crate::plan::{ResponsePlan, RoutePlan, Trailers};
use crate::record::Record;
use crate::snapshot::Snapshot;
use bytes::Bytes;
use portcullis_contract::{Kind, Kinds, Leaked, Masker};
use portcullis_http::hygiene;
use portcullis_http::{
    BodyError, Exchange, Frame, Framing, Held, Method, Rejection, ResponseHead, UpstreamFailure,
};
use portcullis_telemetry::{LeakAction, Metrics};
use portcullis_wire::{Downstream, SinkError};
use std::future::{Ready, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Takes an answer through the stages of its way back and sends it. One that streams is only begun: the rest of it needs
/// nothing of the snapshot and is for [`Stream::run`].
///
/// # Errors
/// Only while nothing was sent: what the answer is replaced by. What breaks later cuts the answer short.
pub(crate) async fn respond<D: Downstream>(
    snapshot: &Snapshot,
    route: &RoutePlan,
    exchange: &mut Exchange,
    mut answer: Answer,
    firewall: &mut Inspection,
    downstream: &mut D,
    record: &mut Record,
) -> Result<Option<Stream>, Rejection> {
    let plan = &route.response;
    clean(plan, exchange, &mut answer.head);
    let head = &mut answer.head;
    firewall.response_headers(head)?;
    let bodiless = exchange.request.method == Method::Head || matches!(head.status, 204 | 304);
    let event_stream = head.is_of("text/event-stream");
    let hold = !bodiless && !plan.streaming && !event_stream;
    if let (Framing::Length(length), Some(most)) = (head.framing, plan.max_size)
        && length > most
        && !bodiless
    {
        return Err(Rejection::Upstream(UpstreamFailure::TooLarge));
    }
    let masker = match &plan.leaks {
        // What streams was not asked to come without a coding, so that coded text passes unread.
        Some(_) if bodiless || (plan.streaming && head.fields.contains("content-encoding")) => None,
        Some(leaks) => leaks.inspect(head)?,
        _ => None,
    };
    let mut filter = Filter {
        masker,
        at_once: plan.streaming,
        out: Vec::new(),
        blocked: None,
        passed: 0,
        most: plan.max_size.unwrap_or(u64::MAX),
        counted: Kinds::default(),
    };
    let mut first = Bytes::new();
    let mut _held: Option<Held> = None;
    let mut whole = bodiless;
    if hold && (firewall.wants_response_body() || (plan.withhold && filter.masker.is_some())) {
        let mut held = snapshot.shared.budget.hold(0).ok_or(Rejection::OverBudget)?;
        let mut read = Vec::new();
        whole = collect(&mut answer.body, downstream, plan.inspected, &mut held, &mut read).await?;
        firewall.response_body(read.get(..plan.inspected).unwrap_or(&read)).await?;
        (first, _held) = (read.into(), Some(held));
    } else {
        firewall.response_body(&[]).await?;
    }
    let passed = if first.is_empty() { Ok(first) } else { filter.pass(first, whole) };
    filter.count(&snapshot.shared.metrics);
    let first = passed?;
    let Answer { head, body, trailers } = answer;
    downstream.start(&head);
    record.status = head.status;
    let out = Outflow {
        pending: (!first.is_empty()).then_some(first),
        passing: trailers,
        trailers: None,
        ended: whole,
        finished: false,
        bytes: 0,
    };
    let kind = if route.grpc {
        StreamKind::Grpc
    } else if event_stream {
        StreamKind::Events
    } else {
        StreamKind::Other
    };
    let mut stream = Stream { body, filter, out, kind };
    if !whole && (plan.streaming || event_stream) {
        return Ok(Some(stream));
    }
    stream.run(&snapshot.shared.metrics, downstream, record, None::<Pin<&mut Ready<()>>>).await;
    Ok(None)
}

/// Grants an upgrade that the upstream has granted. What follows is no HTTP, and no rule sees it.
///
/// # Errors
/// What the rules decide on the head, while nothing was sent.
pub(crate) async fn switch<D: Downstream>(
    route: &RoutePlan,
    exchange: &Exchange,
    head: &mut ResponseHead,
    firewall: &mut Inspection,
    downstream: &mut D,
    record: &mut Record,
) -> Result<(), Rejection> {
    clean(&route.response, exchange, head);
    firewall.response_headers(head)?;
    firewall.response_body(&[]).await?;
    downstream.switch(head);
    record.status = head.status;
    Ok(())
}

/// Takes from an answer's head what must not leave, and gives it what every answer carries.
fn clean(plan: &ResponsePlan, exchange: &Exchange, head: &mut ResponseHead) {
    hygiene::response(head, &plan.fields.remove);
    if plan.cors {
        cors::withhold(&mut head.fields);
    }
    plan.fields.write(&mut head.fields);
    append_all(&mut head.fields, Some(&exchange.answer_fields));
    finish_fields(&mut head.fields, &exchange.id);
}

/// Reads an answer's body up to a cap; whether that was all of it.
async fn collect<D: Downstream>(
    body: &mut AnswerBody,
    downstream: &mut D,
    most: usize,
    held: &mut Held,
    read: &mut Vec<u8>,
) -> Result<bool, Rejection> {
    loop {
        match poll_fn(|cx| body.poll_frame(cx, downstream)).await {
            None => return Ok(true),
            Some(Err(error)) => return Err(answer_fault(error)),
            Some(Ok(Frame::Trailers(_))) => {}
            Some(Ok(Frame::Data(data))) => {
                if !held.grow(data.len()) {
                    return Err(Rejection::OverBudget);
                }
                read.extend_from_slice(&data);
                if read.len() > most {
                    return Ok(false);
                }
            }
        }
    }
}

/// What every byte of an answer's body passes.
struct Filter {
    masker: Option<Masker>,
    /// What has come passes, also where more of it would have to come to know what it is.
    at_once: bool,
    out: Vec<u8>,
    /// What the answer is withheld for.
    blocked: Option<Kind>,
    passed: u64,
    most: u64,
    counted: Kinds,
}

impl Filter {
    /// Passes a piece of the body; `last` says that nothing follows.
    fn pass(&mut self, data: Bytes, last: bool) -> Result<Bytes, Rejection> {
        self.passed = self.passed.saturating_add(data.len() as u64);
        if self.passed > self.most {
            return Err(Rejection::Upstream(UpstreamFailure::TooLarge));
        }
        let Some(masker) = &mut self.masker else { return Ok(data) };
        let mut masked = match masker.pass(&data) {
            // Most bodies pass as they came.
            Some(count) if count == data.len() || !last => return Ok(data.slice(..count)),
            Some(count) => {
                self.out.extend_from_slice(data.get(..count).unwrap_or_default());
                Ok(())
            }
            None => masker.push(&data, &mut self.out),
        };
        if last {
            masked = masked.and_then(|()| masker.finish(&mut self.out));
        }
        if let Err(Leaked(kind)) = masked {
            self.blocked = Some(kind);
            return Err(Rejection::Leak);
        }
        Ok(std::mem::take(&mut self.out).into())
    }

    /// What the masker holds back to see what follows, on a route where nothing may wait: the other side may send
    /// more only once it has had an answer to this.
    fn release(&mut self) -> Result<Option<Bytes>, Rejection> {
        if !self.at_once || self.masker.as_ref().is_none_or(|masker| masker.held() == 0) {
            return Ok(None);
        }
        self.pass(Bytes::new(), true).map(non_empty)
    }

    /// Counts the kinds of leaks that were found since the last time.
    fn count(&mut self, metrics: &Metrics) {
        let Some(masker) = &self.masker else { return };
        for kind in masker.found().iter() {
            if !self.counted.contains(kind) {
                self.counted.insert(kind);
                let action = if self.blocked == Some(kind) { LeakAction::Block } else { LeakAction::Mask };
                metrics.leaks(kind.as_str(), action, 1);
            }
        }
    }
}

/// Why an answer was cut short.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Client,
    Upstream,
    /// Its time is up.
    Over,
}

/// What an answer that streams is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamKind {
    /// Events, of which there may always be more: they can end anywhere.
    Events,
    Grpc,
    Other,
}

/// An answer of which the head has been sent.
pub(crate) struct Stream {
    body: AnswerBody,
    filter: Filter,
    out: Outflow,
    kind: StreamKind,
}

impl Stream {
    /// Whether it never ends by itself.
    pub(crate) fn is_endless(&self) -> bool {
        self.kind == StreamKind::Events
    }

    /// Sends the rest, for as long as `over` allows.
    pub(crate) async fn run<D: Downstream>(
        &mut self,
        metrics: &Metrics,
        downstream: &mut D,
        record: &mut Record,
        mut over: Option<Pin<&mut impl Future<Output = ()>>>,
    ) {
        let Stream { body, filter, out, kind } = self;
        let result = poll_fn(|cx| {
            let polled = out.poll(cx, body, filter, downstream);
            let mut is_over = || over.as_mut().is_some_and(|over| over.as_mut().poll(cx).is_ready());
            if polled.is_ready() || out.ended || !is_over() {
                return polled;
            }
            over = None;
            match *kind {
                StreamKind::Other => return Poll::Ready(Err(Cut::Over)),
                StreamKind::Events => {}
                StreamKind::Grpc => out.trailers = Some(Frame::Trailers(grpc::going_away())),
            }
            out.ended = true;
            out.poll(cx, body, filter, downstream)
        })
        .await;
        filter.count(metrics);
        record.bytes_out += out.bytes;
        record.bytes_in = record.bytes_in.max(body.uploaded());
        if let Err(cut) = result {
            if cut != Cut::Client {
                // What has come of it is the client's, the head above all: a connection that closes without a word looks
                // like one that was never served.
                let _ = poll_fn(|cx| downstream.poll_flush(cx)).await;
            }
            // The client must notice that it has not got all of it.
            downstream.abort();
            record.aborted = cut == Cut::Client;
            if cut == Cut::Upstream {
                record.rejection = Some(answer_fault(BodyError::Incomplete));
            }
        }
    }
}

/// The body on its way to the client.
struct Outflow {
    pending: Option<Bytes>,
    /// Trailers that pass, and what of them has come.
    passing: Arc<[String]>,
    trailers: Option<Frame>,
    ended: bool,
    finished: bool,
    bytes: u64,
}

impl Outflow {
    fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut AnswerBody,
        filter: &mut Filter,
        downstream: &mut D,
    ) -> Poll<Result<(), Cut>> {
        let lost = |_: SinkError| Cut::Client;
        loop {
            if self.finished {
                return downstream
                    .poll_flush(cx)
                    .map_err(|error| if error == SinkError::Length { Cut::Upstream } else { Cut::Client });
            }
            ready!(downstream.poll_ready(cx)).map_err(lost)?;
            if let Some(data) = self.pending.take() {
                self.bytes += data.len() as u64;
                downstream.push(Frame::Data(data));
                continue;
            }
            if let Some(trailers) = self.trailers.take() {
                downstream.push(trailers);
                continue;
            }
            if self.ended {
                downstream.finish();
                self.finished = true;
                continue;
            }
            match body.poll_frame(cx, downstream) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    self.pending = non_empty(filter.pass(data, false).map_err(|_| Cut::Upstream)?)
                }
                Poll::Ready(Some(Ok(Frame::Trailers(fields)))) => {
                    self.pending = non_empty(filter.pass(Bytes::new(), true).map_err(|_| Cut::Upstream)?);
                    self.trailers = Trailers::passing(&self.passing, fields);
                    self.ended = true;
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Cut::Upstream)),
                Poll::Ready(None) => {
                    self.pending = non_empty(filter.pass(Bytes::new(), true).map_err(|_| Cut::Upstream)?);
                    self.ended = true;
                }
                Poll::Pending => {
                    self.pending = filter.release().map_err(|_| Cut::Upstream)?;
                    if self.pending.is_some() {
                        continue;
                    }
                    // What has come so far must not wait for what has not.
                    if let Poll::Ready(Err(error)) = downstream.poll_flush(cx) {
                        return Poll::Ready(Err(lost(error)));
                    }
                    if downstream.poll_gone(cx).is_ready() {
                        return Poll::Ready(Err(Cut::Client));
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

fn non_empty(data: Bytes) -> Option<Bytes> {
    (!data.is_empty()).then_some(data)
}

/// An answer that the gateway made itself.
pub(crate) fn whole(head: ResponseHead, body: Bytes, held: Option<Held>) -> Answer {
    Answer {
        head: ResponseHead { framing: Framing::Length(body.len() as u64), ..head },
        trailers: Arc::default(),
        body: AnswerBody::Whole { body: Some(body), _held: held },
    }
}
