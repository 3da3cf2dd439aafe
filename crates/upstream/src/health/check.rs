//! Making a check: over HTTP, TCP, or by gRPC's health protocol.
//!
//! A check takes the same way as requests do: the upstream's own TLS, trust, client certificate and protocol. It keeps
//! its connection for the next check where it can, as Envoy's does (`reuse_connection`), so that checks cost an
//! endpoint little; a kept connection that turns out to be dead is replaced unnoticed. A TCP check opens a new one each
//! time, since opening is what it checks.

use super::CheckPace;
use crate::Protocol;
use crate::connect::Connector;
use crate::endpoint::Endpoint;
use bytes::{BufMut as _, Bytes, BytesMut};
use portcullis_http::{Fields, Frame, Framing, RequestHead, ResponseHead, UpstreamFailure, Version};
use portcullis_wire::Call;
use portcullis_wire::client::{ClientSettings, Http1Connection, Http2Connection};
use prost::Message as _;
use std::fmt;
use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::task::Poll;
use tokio::time::timeout;

/// Bytes of an answer's body that a check reads in order to use the connection again.
const MAX_BODY: usize = 64 * 1024;
/// gRPC's length-prefixed message: a flag for compression and four bytes of length.
const GRPC_PREFIX: usize = 5;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// How an endpoint is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A request whose answer has one of the expected statuses.
    Http {
        /// `GET`, `HEAD` or another method that needs no body.
        method: String,
        /// Path and query.
        path: String,
        /// The `Host`; the endpoint's address where there is none.
        host: Option<String>,
        /// The statuses of an endpoint that is well.
        expected_statuses: Vec<RangeInclusive<u16>>,
    },
    /// A connection, with TLS where the upstream has it.
    Tcp,
    /// `grpc.health.v1.Health/Check` answers `SERVING`.
    /// <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
    Grpc {
        /// The service that is asked for; empty for the server as a whole.
        service: String,
        /// The `:authority`; the endpoint's address where there is none.
        authority: Option<String>,
    },
}

/// Active checks of an upstream's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheckSettings {
    /// What is asked.
    pub kind: CheckKind,
    /// How often, and how many must agree.
    pub pace: CheckPace,
}

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No answer.
    Upstream(UpstreamFailure),
    /// No answer within the check's own limit.
    Timeout,
    /// Not a status that was expected.
    Status(u16),
    /// A `grpc-status` other than 0.
    GrpcStatus(String),
    /// A serving status other than `SERVING`.
    NotServing(i32),
    /// No gRPC health answer.
    Malformed,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Upstream(failure) => f.write_str(failure.as_str()),
            Fault::Timeout => f.write_str("no answer in time"),
            Fault::Status(status) => write!(f, "status {status}"),
            Fault::GrpcStatus(status) => write!(f, "grpc-status {status}"),
            Fault::NotServing(2) => f.write_str("NOT_SERVING"),
            Fault::NotServing(3) => f.write_str("SERVICE_UNKNOWN"),
            Fault::NotServing(status) => write!(f, "serving status {status}"),
            Fault::Malformed => f.write_str("no answer of the gRPC health protocol"),
        }
    }
}

impl From<UpstreamFailure> for Fault {
    fn from(failure: UpstreamFailure) -> Self {
        Fault::Upstream(failure)
    }
}

/// A connection kept between checks.
enum Link {
    Http1(Box<Http1Connection>),
    Http2(Http2Connection),
}

/// Checks one endpoint.
pub(crate) struct Checker {
    settings: HealthCheckSettings,
    connector: Connector,
    client: ClientSettings,
    head: RequestHead,
    body: Option<Bytes>,
    kept: Option<Link>,
}

impl Checker {
    pub(crate) fn new(settings: &HealthCheckSettings, connector: &Connector, endpoint: &Endpoint) -> Self {
        // The check as a whole is bounded; no part of it is to end before.
        let limit = settings.pace.timeout.saturating_mul(2);
        Checker {
            head: head(&settings.kind, &endpoint.address),
            body: body(&settings.kind),
            settings: settings.clone(),
            connector: Connector { limit, tls_limit: limit, ..connector.clone() },
            client: ClientSettings { response: limit, ..ClientSettings::default() },
            kept: None,
        }
    }

    /// Makes one check.
    pub(crate) async fn check(&mut self, endpoint: &Endpoint) -> Result<(), Fault> {
        let limit = self.settings.pace.timeout;
        timeout(limit, self.check_unbounded(endpoint)).await.unwrap_or(Err(Fault::Timeout))
    }

    async fn check_unbounded(&mut self, endpoint: &Endpoint) -> Result<(), Fault> {
        if self.settings.kind == CheckKind::Tcp {
            return self.connector.open(endpoint).await.map(drop).map_err(Fault::from);
        }
        let kept = match self.kept.take() {
            Some(Link::Http1(mut connection)) => connection.is_quiet().then_some(Link::Http1(connection)),
            Some(Link::Http2(connection)) => connection.is_open().then_some(Link::Http2(connection)),
            None => None,
        };
        if let Some(link) = kept {
            match self.ask(link).await {
                // Closed as idle connections are; it says nothing about the endpoint.
                Err(Fault::Upstream(UpstreamFailure::Closed)) => {}
                result => return result,
            }
        }
        let io = self.connector.open(endpoint).await?;
        let link = match self.connector.protocol() {
            Protocol::Http1 => Link::Http1(Box::new(Http1Connection::new(io, &self.client))),
            Protocol::Http2 => Link::Http2(Http2Connection::open(io).await?),
        };
        self.ask(link).await
    }

    async fn ask(&mut self, link: Link) -> Result<(), Fault> {
        let framing = self.body.as_ref().map_or(Framing::None, |body| Framing::Length(body.len() as u64));
        match link {
            Link::Http1(mut connection) => {
                connection.begin(&self.head, framing, &self.client);
                let answer = exchange(&mut *connection, self.body.clone()).await?;
                if connection.is_reusable() {
                    self.kept = Some(Link::Http1(connection));
                }
                self.judge(&answer)
            }
            Link::Http2(mut connection) => {
                let mut call = connection.begin(&self.head, framing, &self.client)?;
                let answer = exchange(&mut call, self.body.clone()).await?;
                self.kept = Some(Link::Http2(connection));
                self.judge(&answer)
            }
        }
    }

    fn judge(&self, answer: &Answer) -> Result<(), Fault> {
        match &self.settings.kind {
            CheckKind::Http { expected_statuses, .. } => {
                let is_expected = expected_statuses.iter().any(|range| range.contains(&answer.status));
                if is_expected { Ok(()) } else { Err(Fault::Status(answer.status)) }
            }
            CheckKind::Grpc { .. } => serving(answer),
            CheckKind::Tcp => Ok(()),
        }
    }
}

fn head(kind: &CheckKind, address: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let (method, path, host) = match kind {
        CheckKind::Http { method, path, host, .. } => (method.as_str(), path.as_str(), host),
        CheckKind::Grpc { authority, .. } => ("POST", "/grpc.health.v1.Health/Check", authority),
        CheckKind::Tcp => return head,
    };
    head.set_line(method.as_bytes(), path.as_bytes(), Version::Http11);
    head.fields.append_parsed(b"host", host.as_deref().unwrap_or(address).as_bytes());
    head.fields.append_parsed(b"user-agent", b"portcullis-health-check");
    if matches!(kind, CheckKind::Grpc { .. }) {
        head.fields.append_parsed(b"content-type", b"application/grpc");
        head.accepts_trailers = true;
    }
    head
}

/// `HealthCheckRequest { string service = 1 }` is on the wire what `google.protobuf.StringValue` is, which `prost`
/// knows as a string.
fn body(kind: &CheckKind) -> Option<Bytes> {
    let CheckKind::Grpc { service, .. } = kind else { return None };
    let message = service.encode_to_vec();
    let mut body = BytesMut::with_capacity(GRPC_PREFIX + message.len());
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    body.put_slice(&message);
    Some(body.freeze())
}

/// Whether it is a `HealthCheckResponse { ServingStatus status = 1 }` that says `SERVING`; on the wire it is what
/// `google.protobuf.Int32Value` is.
fn serving(answer: &Answer) -> Result<(), Fault> {
    if answer.status != 200 {
        return Err(Fault::Status(answer.status));
    }
    // Without a body the status stands in the head.
    let status = answer.trailers.get_str("grpc-status").or_else(|| answer.fields.get_str("grpc-status"));
    match status {
        Some("0") => {}
        // What an endpoint says is not written to the log as it stands.
        Some(status) if matches!(status.len(), 1..=2) && status.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(Fault::GrpcStatus(status.to_owned()));
        }
        _ => return Err(Fault::Malformed),
    }
    let (prefix, message) = answer.body.split_at_checked(GRPC_PREFIX).ok_or(Fault::Malformed)?;
    let length = match prefix {
        [0, length @ ..] => length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
        _ => return Err(Fault::Malformed),
    };
    if length != message.len() {
        return Err(Fault::Malformed);
    }
    match i32::decode(message) {
        Ok(SERVING) => Ok(()),
        Ok(status) => Err(Fault::NotServing(status)),
        Err(_) => Err(Fault::Malformed),
    }
}

/// What an endpoint answered.
#[derive(Default)]
struct Answer {
    status: u16,
    fields: Fields,
    body: Vec<u8>,
    trailers: Fields,
}

/// Sends the request and reads the whole answer, or as much of it as a check cares for.
async fn exchange(call: &mut impl Call, body: Option<Bytes>) -> Result<Answer, UpstreamFailure> {
    let (mut body, mut ended, mut head) = (body, false, ResponseHead::default());
    poll_fn(|cx| {
        if !ended {
            if body.is_some()
                && let Poll::Ready(ready) = call.poll_ready(cx)
            {
                // An endpoint that takes nothing may have answered all the same.
                let body = body.take().filter(|_| ready.is_ok());
                body.into_iter().for_each(|body| call.push(Frame::Data(body)));
            }
            if body.is_none() {
                call.finish();
                ended = true;
            }
        }
        if ended {
            let _ = call.poll_flush(cx);
        }
        call.poll_head(cx, &mut head)
    })
    .await?;
    let mut answer = Answer { status: head.status, fields: head.fields, ..Answer::default() };
    loop {
        match poll_fn(|cx| call.poll_frame(cx)).await {
            None => return Ok(answer),
            Some(Ok(Frame::Data(data))) if answer.body.len() + data.len() <= MAX_BODY => {
                answer.body.extend_from_slice(&data);
            }
            Some(Ok(Frame::Trailers(fields))) => answer.trailers = fields,
            // More than a check cares for; the connection is not used again.
            Some(Ok(Frame::Data(_))) => return Ok(answer),
            Some(Err(_)) => return Err(UpstreamFailure::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_request_is_framed() {
        let kind = |service: &str| CheckKind::Grpc { service: service.to_owned(), authority: None };
        assert_eq!(body(&kind("")).unwrap(), &b"\0\0\0\0\0"[..]);
        // protoc --encode: field 1, length-delimited, "a.B".
        assert_eq!(body(&kind("a.B")).unwrap(), &b"\0\0\0\0\x05\x0a\x03a.B"[..]);
    }

    fn answer(status: &str, body: &[u8]) -> Answer {
        let mut trailers = Fields::default();
        trailers.append_parsed(b"grpc-status", status.as_bytes());
        Answer { status: 200, body: body.to_vec(), trailers, ..Answer::default() }
    }

    #[test]
    fn only_serving_is_well() {
        assert_eq!(serving(&answer("0", b"\0\0\0\0\x02\x08\x01")), Ok(()));
        assert_eq!(serving(&answer("0", b"\0\0\0\0\x02\x08\x02")), Err(Fault::NotServing(2)));
        assert_eq!(serving(&answer("0", b"\0\0\0\0\0")), Err(Fault::NotServing(0)));
        assert_eq!(
            serving(&answer("0", b"\0\0\0\0\x06\x08\x01\x12\x02hi")),
            Ok(()),
            "fields that are not known are passed over"
        );
        assert_eq!(serving(&answer("12", b"")), Err(Fault::GrpcStatus("12".to_owned())));
        for (status, body) in [
            ("0", &b""[..]),
            ("0", b"\x01\0\0\0\x02\x08\x01"),
            ("0", b"\0\0\0\0\x03\x08\x01"),
            ("0", b"\0\0\0\0\x02\x08\xff"),
            ("evil", b""),
            ("", b"\0\0\0\0\x02\x08\x01"),
        ] {
            assert_eq!(serving(&answer(status, body)), Err(Fault::Malformed), "{status:?} {body:?}");
        }
        assert_eq!(serving(&Answer { status: 404, ..Answer::default() }), Err(Fault::Status(404)));
    }
}
