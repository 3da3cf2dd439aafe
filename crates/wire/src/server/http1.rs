//! HTTP/1 connections of clients.

use super::{Drain, ServerSettings};
use crate::head::HeadReader;
use crate::timer::Wait;
use crate::transport::Transport;
use crate::{Downstream, IoStream, Service, Sink, SinkError, Source, encode};
use bytes::BytesMut;
use portcullis_http::{
    BodyError, Frame, Framing, Malformed, Method, Rejection, RequestHead, ResponseHead, Version,
};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// Empty lines that may stand before a request line (RFC 9112 §2.2): some clients send one behind a body.
const EMPTY_LINES: u32 = 8;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An unread body this small is read and dropped so that the connection can serve on.
const DISCARD: u64 = 64 * 1024;
/// How long that may take, and how long the last answer may need to reach a client that still sends.
const LINGER: Duration = Duration::from_secs(1);
/// What such a client may still send before the connection is closed under it.
const LINGER_MOST: usize = 4 * 1024 * 1024;

/// What was read at the start of a request.
enum Begin {
    Request,
    Refused(Rejection),
    Http2,
    Closed,
}

/// A connection of HTTP/1. It stands on the heap, and so does whatever a request may come to wait for: a connection between
/// requests is small.
pub(super) struct Connection<S> {
    transport: Transport<IoStream>,
    intake: Intake,
    settings: Arc<ServerSettings>,
    service: S,
    drain: Drain,
    begun: Instant,
    /// How many requests were begun.
    number: u64,
    /// Whether HTTP/2's preface is looked for.
    detect: bool,
}

/// What is left of a connection that turned out to speak HTTP/2.
pub(super) struct Preface<S> {
    pub(super) io: IoStream,
    /// What was read of it.
    pub(super) first: BytesMut,
    pub(super) settings: Arc<ServerSettings>,
    pub(super) service: S,
    pub(super) drain: Drain,
}

impl<S: Service> Connection<S> {
    pub(super) fn new(
        io: IoStream,
        settings: Arc<ServerSettings>,
        service: S,
        drain: Drain,
        detect: bool,
    ) -> Self {
        let intake = Intake {
            reader: HeadReader::default(),
            empty_lines: 0,
            wait: Wait::default(),
            patience: settings.first_byte,
        };
        let transport = Transport::new(io, BytesMut::new(), settings.body.clone());
        let begun = Instant::now();
        Connection { transport, intake, settings, service, drain, begun, number: 0, detect }
    }

    /// Serves it until it ends; gives it back if it turned out to speak HTTP/2.
    pub(super) async fn serve(mut self: Box<Self>) -> Option<Preface<S>> {
        while self.number < self.settings.max_requests {
            self.number += 1;
            let mut head = RequestHead::default();
            let refused = match self.begin(&mut head).await {
                Begin::Request => None,
                Begin::Refused(why) => Some(why),
                Begin::Closed => {
                    Box::pin(self.transport.close(LINGER)).await;
                    return None;
                }
                Begin::Http2 => {
                    let Connection { transport, settings, service, drain, .. } = *self;
                    let (io, first) = transport.into_parts();
                    return Some(Preface { io, first, settings, service, drain });
                }
            };
            if !Box::pin(self.exchange(head, refused)).await {
                return None;
            }
        }
        None
    }

    /// Reads the head of the next request.
    async fn begin(&mut self, head: &mut RequestHead) -> Begin {
        let Connection { transport, intake, settings, drain, detect, .. } = self;
        let mut draining = false;
        let begin = loop {
            let begin = poll_fn(|cx| intake.poll_head(cx, transport, settings, *detect, head));
            tokio::select! {
                biased;
                begin = begin => break begin,
                () = drain.on(), if !draining => {}
            }
            draining = true;
            // Between requests nobody knows whether the next is under way: a connection that were closed now could lose it.
            if transport.input.is_empty() {
                intake.wait.end();
                intake.patience = intake.patience.min(settings.keepalive_grace);
            }
        };
        intake.wait.end();
        intake.patience = settings.idle;
        intake.empty_lines = 0;
        *detect = false;
        begin
    }

    /// Has one request answered, or refused; whether another may follow. If not, the connection has been ended.
    async fn exchange(&mut self, head: RequestHead, refused: Option<Rejection>) -> bool {
        let is_last = head.version != Version::Http11 || asks_to_close(&head);
        let mut exchange = Http1Downstream {
            keep_alive: !is_last
                && refused.is_none()
                && self.number < self.settings.max_requests
                && self.begun.elapsed() < self.settings.max_age,
            to_head: head.method == Method::Head,
            version: head.version,
            expects: false,
            started: false,
            until_close: false,
            drain: &self.drain,
            transport: &mut self.transport,
        };
        let refused = refused.or_else(|| {
            exchange.transport.expect_body(head.framing);
            // Where it is not known whether the client waits, nobody knows whether the body comes now.
            expectation(&head).map(|expects| exchange.expects = expects).err()
        });
        let is_sound = refused.is_none();
        match refused {
            None => pin!(self.service.call(head, &mut exchange)).await,
            Some(why) => {
                exchange.keep_alive = false;
                self.service.refuse(head, why, &mut exchange).await;
            }
        }
        if exchange.transport.has_stalled() || exchange.until_close && !exchange.transport.sent_all() {
            // The close of the connection would say that all has been sent, or leave the kernel with what a client that
            // takes nothing will never take.
            self.transport.reset();
            return false;
        }
        if exchange.can_go_on().await {
            return true;
        }
        if is_sound && is_last && self.transport.is_done() {
            // Whoever has said that nothing follows, and of whom nothing has come, loses no answer to a reset.
            self.transport.close(LINGER).await;
        } else {
            self.transport.linger(LINGER, LINGER_MOST).await;
        }
        false
    }
}

fn asks_to_close(head: &RequestHead) -> bool {
    let options = head.fields.get_all("connection").flat_map(|value| value.split(|b| *b == b','));
    options.into_iter().any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Whether the client waits for `100 Continue` (RFC 9110 §10.1.1).
pub(super) fn expectation(head: &RequestHead) -> Result<bool, Rejection> {
    let mut values = head.fields.get_all("expect");
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => {
            Ok(head.version == Version::Http11 && head.framing != Framing::None)
        }
        (Some(_), None) => Err(Rejection::ExpectationFailed),
        (Some(_), Some(_)) => Err(Rejection::Malformed(Malformed::Duplicate)),
    }
}

/// Reading heads, one after the other, under deadlines.
struct Intake {
    reader: HeadReader,
    /// How many were read over before this head.
    empty_lines: u32,
    wait: Wait,
    /// How long the first byte of the next head may take.
    patience: Duration,
}

impl Intake {
    fn poll_head<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport<IO>,
        settings: &ServerSettings,
        detect: bool,
        head: &mut RequestHead,
    ) -> Poll<Begin> {
        loop {
            // Read over at once: behind them the connection is as idle as before.
            while transport.input.starts_with(b"\r\n") {
                if self.empty_lines == EMPTY_LINES {
                    return Poll::Ready(Begin::Refused(Rejection::Malformed(Malformed::RequestLine)));
                }
                self.empty_lines += 1;
                bytes::Buf::advance(&mut transport.input, 2);
            }
            let input = &transport.input;
            let preface = detect
                && self.empty_lines == 0
                && !input.is_empty()
                && (PREFACE.starts_with(input) || input.starts_with(PREFACE));
            if preface && input.len() >= PREFACE.len() {
                return Poll::Ready(Begin::Http2);
            }
            if !input.is_empty() && !preface {
                match self.reader.request(input, &settings.head, head) {
                    Ok(None) => {}
                    Ok(Some(used)) => {
                        bytes::Buf::advance(&mut transport.input, used);
                        return Poll::Ready(Begin::Request);
                    }
                    Err(why) => return Poll::Ready(Begin::Refused(why)),
                }
            }
            let was_empty = transport.input.is_empty();
            match transport.poll_fill_head(cx) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    // The whole head has one deadline, which begins with its first byte.
                    if was_empty {
                        self.wait.end();
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Begin::Closed),
                Poll::Pending => {
                    if was_empty {
                        transport.rest();
                    }
                    // Half a preface is not a head that takes its time: the client has not said what it speaks.
                    let limit = if was_empty || preface { self.patience } else { settings.header };
                    ready!(self.wait.poll_expired(cx, limit));
                    return Poll::Ready(if was_empty {
                        Begin::Closed
                    } else {
                        Begin::Refused(Rejection::RequestTimeout)
                    });
                }
            }
        }
    }
}

/// One request of an HTTP/1 connection.
struct Http1Downstream<'a, IO> {
    transport: &'a mut Transport<IO>,
    drain: &'a Drain,
    version: Version,
    to_head: bool,
    keep_alive: bool,
    expects: bool,
    started: bool,
    /// The answer's body ends with the connection.
    until_close: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Http1Downstream<'_, IO> {
    /// Whether another request may follow: the answer was ended properly and the body was read, or is so small
    /// that the rest of it is read now.
    async fn can_go_on(&mut self) -> bool {
        if !self.started || !self.keep_alive || !self.transport.sent_all() || self.transport.body_failed() {
            return false;
        }
        if self.transport.body_left().is_some_and(|left| left > DISCARD) || self.expects {
            return self.transport.body_done();
        }
        if self.transport.body_done() {
            return true;
        }
        let discard = async {
            let mut read = 0;
            while let Some(frame) = poll_fn(|cx| self.transport.poll_body(cx)).await {
                match frame {
                    Ok(Frame::Data(data)) => read += data.len() as u64,
                    Ok(Frame::Trailers(_)) => {}
                    Err(_) => return false,
                }
                if read > DISCARD {
                    return false;
                }
            }
            true
        };
        matches!(tokio::time::timeout(LINGER, discard).await, Ok(true))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Source for Http1Downstream<'_, IO> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.expects && !self.started {
            if self.transport.input.is_empty() {
                self.transport.output().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            self.expects = false;
        }
        if !self.started && !self.transport.out.is_empty() {
            // A failure shows when the body is read or the answer is written.
            let _ = self.transport.poll_flush_out(cx);
        }
        self.transport.poll_body(cx)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Sink for Http1Downstream<'_, IO> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        // The first piece of a body leaves with the head, in one write.
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

impl<IO: AsyncRead + AsyncWrite + Unpin + Send> Downstream for Http1Downstream<'_, IO> {
    fn start(&mut self, head: &ResponseHead) {
        self.started = true;
        // HTTP/1.0 knows no chunks: the body ends with the connection.
        let framing = match head.framing {
            Framing::Chunked | Framing::Close if self.version == Version::Http10 => Framing::Close,
            Framing::Close => Framing::Chunked,
            framing => framing,
        };
        self.until_close = framing == Framing::Close && !self.to_head;
        // A body that was refused unread is read over where it is small; else the connection ends, which is said.
        let refused = head.status >= 400
            && (self.expects || self.transport.body_left().is_some_and(|left| left > DISCARD));
        self.keep_alive &= framing != Framing::Close && !self.drain.is_on() && !refused;
        encode::response(head, framing, !self.keep_alive, self.transport.output());
        let body_allowed = !self.to_head && head.status >= 200 && head.status != 204 && head.status != 304;
        self.transport.announce_body(framing, body_allowed);
    }

    fn switch(&mut self, head: &ResponseHead) {
        self.started = true;
        self.keep_alive = false;
        self.until_close = true;
        encode::switching(head, self.transport.output());
        self.transport.switch();
    }

    fn started(&self) -> bool {
        self.started
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    fn abort(&mut self) {
        self.keep_alive = false;
        self.transport.break_off();
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.transport.body_done() && self.transport.input.len() < DISCARD as usize {
            match ready!(self.transport.poll_fill_head(cx)) {
                Ok(count) if count > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}
