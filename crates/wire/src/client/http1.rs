//! HTTP/1 connections to upstreams.

use super::{ClientSettings, MAX_INTERIM, MAX_INTERIM_BYTES};
use crate::framing::lists;
use crate::head::HeadReader;
use crate::timer::Wait;
use crate::transport::Transport;
use crate::{Call, IoStream, Sink, SinkError, Source, encode, websocket};
use bytes::{Buf, BytesMut};
use portcullis_http::{
    BodyError, Frame, Framing, Method, RequestHead, ResponseHead, Upgrade, UpstreamFailure, Version,
};
use std::task::{Context, Poll, ready};

/// A connection to an upstream that carries one exchange at a time.
///
/// [`Http1Connection::begin`] starts an exchange; then the connection is the exchange's [`Call`]. When the answer was
/// read, [`Http1Connection::is_reusable`] says whether another may follow: not after anything odd.
#[derive(Debug)]
pub struct Http1Connection {
    transport: Transport<IoStream>,
    reader: HeadReader,
    response_wait: Wait,
    response_limit: std::time::Duration,
    limits: crate::head::HeadLimits,
    to_head: bool,
    /// What the upstream must say to grant the upgrade that was asked for.
    accept: Option<String>,
    answered: bool,
    heard: bool,
    persistent: bool,
    interim: u32,
    interim_bytes: usize,
}

impl Http1Connection {
    /// Takes over a stream on which nothing was said yet.
    #[must_use]
    pub fn new(io: IoStream, settings: &ClientSettings) -> Self {
        Http1Connection {
            transport: Transport::new(io, BytesMut::new(), settings.body.clone()),
            reader: HeadReader::default(),
            response_wait: Wait::default(),
            response_limit: settings.response,
            limits: settings.head.clone(),
            to_head: false,
            accept: None,
            answered: true,
            heard: false,
            persistent: true,
            interim: 0,
            interim_bytes: 0,
        }
    }

    /// Sends the head of a request whose body, framed so, will be pushed. The head's fields must be clean
    /// ([`portcullis_http::hygiene`]) and name the `Host`.
    pub fn begin(&mut self, head: &RequestHead, framing: Framing, settings: &ClientSettings) {
        encode::request(head, framing, self.transport.output());
        self.transport.announce_body(framing, true);
        self.transport.timeouts = settings.body.clone();
        self.response_limit = settings.response;
        self.to_head = head.method == Method::Head;
        self.accept = head.upgrade.map(|Upgrade::WebSocket| {
            websocket::accept(head.fields.get("sec-websocket-key").unwrap_or_default())
        });
        self.reader = HeadReader::default();
        (self.answered, self.heard, self.persistent) = (false, false, false);
        (self.interim, self.interim_bytes) = (0, 0);
    }

    /// Whether any byte of the answer has come. Where none has, and the connection had served before, its end may
    /// mean no more than that the upstream closed an idle connection.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// Whether the exchange ended so cleanly that another may follow.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.answered
            && self.persistent
            && self.transport.body_done()
            && self.transport.sent_all()
            && self.transport.input.is_empty()
    }

    /// Whether an idle connection is still good: the upstream has neither closed it nor said anything unasked.
    #[must_use]
    pub fn is_quiet(&mut self) -> bool {
        self.transport.is_quiet()
    }
}

impl Source for Http1Connection {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.transport.poll_body(cx)
    }
}

impl Sink for Http1Connection {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        if self.transport.holds_head_only() { Poll::Ready(Ok(())) } else { self.transport.poll_write_out(cx) }
    }

    fn push(&mut self, frame: Frame) {
        self.transport.push_frame(frame);
    }

    fn finish(&mut self) {
        self.transport.finish_body();
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.transport.poll_flush_out(cx)
    }
}

impl Call for Http1Connection {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), UpstreamFailure>> {
        loop {
            if !self.transport.input.is_empty() {
                match self.reader.response(&self.transport.input, &self.limits, self.to_head, head) {
                    Err(bad) => {
                        self.transport.break_off();
                        return Poll::Ready(Err(bad.into()));
                    }
                    Ok(None) => {}
                    Ok(Some(used)) => {
                        self.transport.input.advance(used);
                        if head.status >= 200 {
                            self.begin_answer(head);
                            return Poll::Ready(Ok(()));
                        }
                        if head.status == 101 && self.grants(head) {
                            self.response_wait.end();
                            self.answered = true;
                            self.transport.switch();
                            return Poll::Ready(Ok(()));
                        }
                        self.interim += 1;
                        self.interim_bytes += used;
                        let is_flood = self.interim > MAX_INTERIM || self.interim_bytes > MAX_INTERIM_BYTES;
                        // Where we asked for no upgrade, 101 is a lie.
                        if head.status == 101 || is_flood {
                            self.transport.break_off();
                            return Poll::Ready(Err(UpstreamFailure::Protocol));
                        }
                        continue;
                    }
                }
            }
            match self.transport.poll_fill_answer(cx) {
                Poll::Ready(Ok(count)) if count > 0 => self.heard = true,
                Poll::Ready(_) => return Poll::Ready(Err(UpstreamFailure::Closed)),
                Poll::Pending if self.transport.is_sending() => {
                    // The upstream may still wait for the rest of the request, and we for the client's.
                    self.response_wait.end();
                    return Poll::Pending;
                }
                Poll::Pending => {
                    ready!(self.response_wait.poll_expired(cx, self.response_limit));
                    self.transport.break_off();
                    return Poll::Ready(Err(UpstreamFailure::ResponseTimeout));
                }
            }
        }
    }
}

impl Http1Connection {
    /// Whether a 101 grants the upgrade that was asked for, and no other (RFC 6455 §4.1).
    fn grants(&self, head: &ResponseHead) -> bool {
        let fields = &head.fields;
        self.accept.as_ref().is_some_and(|accept| {
            fields.get("sec-websocket-accept") == Some(accept.as_bytes())
                && fields.get("upgrade").is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"))
                && fields.get_all("connection").any(|value| lists(value, b"upgrade"))
        })
    }

    fn begin_answer(&mut self, head: &ResponseHead) {
        self.response_wait.end();
        self.answered = true;
        let closes = head
            .fields
            .get_all("connection")
            .flat_map(|value| value.split(|b| *b == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        self.persistent = head.version == Version::Http11 && head.framing != Framing::Close && !closes;
        let bodiless = self.to_head || matches!(head.status, 204 | 304);
        self.transport.expect_body(if bodiless { Framing::None } else { head.framing });
    }
}
