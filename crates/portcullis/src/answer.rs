//! The one place where a rejection becomes a response, and where answers of the gateway's own are sent.

use crate::grpc;
use crate::record::Subject;
use crate::snapshot::Snapshot;
use bytes::Bytes;
use portcullis_http::{Exchange, Fields, Frame, Framing, Rejection, RequestId, ResponseHead};
use portcullis_wire::{Downstream, SinkError};
use std::fmt::Write as _;
use std::future::poll_fn;
use std::time::SystemTime;

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    /// The client was gone before all of it had left.
    pub(crate) cut: bool,
}

/// Answers with RFC 9457 problem details, or to a gRPC call with a gRPC status.
pub(crate) async fn reject<D: Downstream>(
    snapshot: &Snapshot,
    rejection: &Rejection,
    subject: Subject<'_>,
    downstream: &mut D,
) -> Sent {
    let (mut head, body) = if grpc::is_call(subject.head()) {
        (grpc::refusal(rejection), Bytes::new())
    } else {
        let mut head = ResponseHead::new(rejection.status());
        head.fields.append_parsed(b"content-type", b"application/problem+json");
        (head, Bytes::from(rejection.problem_json(subject.id().as_str())))
    };
    head.fields.append_parsed(b"cache-control", b"no-store");
    rejection.write_fields(&mut head.fields);
    own_fields(snapshot, subject, &mut head.fields);
    if rejection.closes_connection() {
        downstream.close_after();
    }
    send(head, body, downstream).await
}

/// Answers with what the gateway itself has to say where no route has a say.
pub(crate) async fn whole<D: Downstream>(
    snapshot: &Snapshot,
    exchange: &Exchange,
    status: u16,
    body: Bytes,
    downstream: &mut D,
) -> Sent {
    let mut head = ResponseHead::new(status);
    if !body.is_empty() {
        head.fields.append_parsed(b"content-type", b"application/octet-stream");
    }
    own_fields(snapshot, Subject::Exchange(exchange), &mut head.fields);
    send(head, body, downstream).await
}

/// What every answer of the gateway's own carries.
fn own_fields(snapshot: &Snapshot, subject: Subject<'_>, fields: &mut Fields) {
    snapshot.response_fields.write(fields);
    append_all(fields, subject.exchange().map(|exchange| &exchange.answer_fields));
    finish_fields(fields, subject.id());
}

/// Sends a whole answer.
async fn send<D: Downstream>(mut head: ResponseHead, body: Bytes, downstream: &mut D) -> Sent {
    head.framing = Framing::Length(body.len() as u64);
    downstream.start(&head);
    let bytes = body.len() as u64;
    let result = poll_fn(|cx| downstream.poll_ready(cx)).await;
    if result.is_ok() {
        if !body.is_empty() {
            downstream.push(Frame::Data(body));
        }
        downstream.finish();
    }
    let flushed: Result<(), SinkError> = poll_fn(|cx| downstream.poll_flush(cx)).await;
    let cut = result.is_err() || flushed.is_err();
    Sent { status: head.status, bytes: if cut { 0 } else { bytes }, cut }
}

/// Appends the fields that guards left for the answer.
pub(crate) fn append_all(fields: &mut Fields, extra: Option<&Fields>) {
    if let Some(extra) = extra.filter(|extra| !extra.is_empty()) {
        fields.append_from(extra, |_| true);
    }
}

/// What every answer carries: the request's id and, unless it came with the upstream's answer, the date.
pub(crate) fn finish_fields(fields: &mut Fields, id: &RequestId) {
    if !fields.contains("date") {
        fields.append_written(b"date", |out| {
            // Writing to a buffer cannot fail.
            let _ = write!(out, "{}", httpdate::HttpDate::from(SystemTime::now()));
        });
    }
    fields.remove("x-request-id");
    fields.append_parsed(b"x-request-id", id.as_bytes());
}
