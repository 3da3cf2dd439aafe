//! One stream of a client's HTTP/2 connection.

use super::head;
use super::note::Note;
use super::streams::{Streams, Watched};
use crate::head::HeadLimits;
use crate::pipe::{PipeBody, PipeSink, from_map, pipe, to_map};
use crate::timer::Wait;
use crate::transport::{BodyTimeouts, Transport};
use crate::{Downstream, Service, Sink, SinkError, Source};
use bytes::BytesMut;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use portcullis_http::{BodyError, Frame, Framing, Method, RequestHead, ResponseHead, Upgrade};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;

/// What a client must take of an answer in the time in which it must take anything: one that opens its window byte by
/// byte does not hold on to it (CVE-2019-9511).
const LEAST_PROGRESS: u64 = 16 * 1024;

/// Has the service answer one request.
pub(super) async fn answer<S: Service>(
    mut request: http::Request<Incoming>,
    service: S,
    reply: oneshot::Sender<http::Response<PipeBody>>,
    streams: Streams,
    timeouts: BodyTimeouts,
    limits: HeadLimits,
) {
    let switch = hyper::upgrade::on(&mut request);
    // Without the guard's note nothing is known of the stream; hyper resets it.
    let Some((note, notes)) = Note::find(request.headers()) else { return };
    let (parts, body) = request.into_parts();
    let mut head = RequestHead::default();
    let read = head::read(&parts, (note, notes), body.is_end_stream(), &limits, &mut head);
    let mut downstream = Http2Downstream {
        body: Some(body),
        reply: Some(reply),
        sink: None,
        watched: streams.watch(note.stream),
        finished: false,
        noted: 0,
        tunnel: match head.upgrade {
            Some(Upgrade::WebSocket) => Tunnel::Possible(switch),
            None => Tunnel::None,
        },
        to_head: head.method == Method::Head,
        read_wait: Wait::default(),
        write_wait: Wait::default(),
        timeouts,
        received: 0,
        waited: Duration::ZERO,
    };
    match read {
        Ok(()) => service.call(head, &mut downstream).await,
        Err(why) => service.refuse(head, why, &mut downstream).await,
    }
}

/// What the stream becomes once an extended CONNECT was granted.
enum Tunnel {
    None,
    /// Until the answer that grants it has left.
    Possible(OnUpgrade),
    Open(Box<Transport<TokioIo<Upgraded>>>),
}

/// One stream.
struct Http2Downstream {
    body: Option<Incoming>,
    reply: Option<oneshot::Sender<http::Response<PipeBody>>>,
    sink: Option<PipeSink>,
    watched: Watched,
    /// All of the answer was pushed.
    finished: bool,
    /// Bytes of it that had left when we began to wait for the client.
    noted: u64,
    tunnel: Tunnel,
    to_head: bool,
    read_wait: Wait,
    write_wait: Wait,
    timeouts: BodyTimeouts,
    received: u64,
    waited: Duration,
}

impl Source for Http2Downstream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.is_tunnel() {
            return match ready!(self.poll_tunnel(cx)) {
                Some(tunnel) => tunnel.poll_body(cx),
                None => Poll::Ready(Some(Err(BodyError::Incomplete))),
            };
        }
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.waited += self.read_wait.lap();
                    match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => {
                            self.received += data.len() as u64;
                            return Poll::Ready(Some(Ok(Frame::Data(data))));
                        }
                        Err(frame) => {
                            let trailers = frame.into_trailers().ok().and_then(|map| from_map(&map));
                            return Poll::Ready(Some(
                                trailers.map(Frame::Trailers).ok_or(BodyError::Malformed),
                            ));
                        }
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.body = None;
                    return Poll::Ready(Some(Err(BodyError::Incomplete)));
                }
                Poll::Ready(None) => {
                    self.body = None;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    let patience = self.timeouts.patience(self.received, self.waited);
                    ready!(self.read_wait.poll_expired(cx, patience));
                    self.body = None;
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
            }
        }
    }
}

impl Http2Downstream {
    /// Whether the upgrade was granted.
    fn is_tunnel(&self) -> bool {
        self.reply.is_none() && !matches!(self.tunnel, Tunnel::None)
    }

    /// The stream as bytes of the other protocol; `None` where it ended before that.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>) -> Poll<Option<&mut Transport<TokioIo<Upgraded>>>> {
        if let Tunnel::Possible(switch) = &mut self.tunnel {
            let Ok(io) = ready!(Pin::new(switch).poll(cx)) else {
                self.tunnel = Tunnel::None;
                return Poll::Ready(None);
            };
            let mut transport = Transport::new(TokioIo::new(io), BytesMut::new(), self.timeouts.clone());
            transport.switch();
            self.tunnel = Tunnel::Open(Box::new(transport));
        }
        Poll::Ready(match &mut self.tunnel {
            Tunnel::Open(transport) => Some(transport),
            Tunnel::None | Tunnel::Possible(_) => None,
        })
    }

    /// Ready when the next frame may be pushed, or, to `flush`, when all that were pushed were taken.
    fn poll_sink(&mut self, cx: &mut Context<'_>, flush: bool) -> Poll<Result<(), SinkError>> {
        if self.is_tunnel() {
            return match ready!(self.poll_tunnel(cx)) {
                Some(tunnel) => tunnel.poll_flush_out(cx),
                None => Poll::Ready(Err(SinkError::Closed)),
            };
        }
        let Some(sink) = &mut self.sink else { return Poll::Ready(Ok(())) };
        let taken = if self.finished {
            // It is over when the client has been sent its end, not when hyper has it.
            match sink.poll_gone(cx) {
                Poll::Ready(()) => Poll::Ready(Err(SinkError::Closed)),
                Poll::Pending => self.watched.poll_over(cx).map(Ok),
            }
        } else if flush {
            sink.poll_flush(cx)
        } else {
            sink.poll_ready(cx)
        };
        if taken.is_ready() {
            self.write_wait.end();
            self.noted = self.watched.sent();
            return taken;
        }
        loop {
            ready!(self.write_wait.poll_expired(cx, self.timeouts.write_stall));
            let sent = self.watched.sent();
            if sent < self.noted + LEAST_PROGRESS {
                sink.abort();
                self.watched.reset();
                return Poll::Ready(Err(SinkError::Timeout));
            }
            self.write_wait.end();
            self.noted = sent;
        }
    }
}

impl Sink for Http2Downstream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_sink(cx, false)
    }

    fn push(&mut self, frame: Frame) {
        if let Tunnel::Open(tunnel) = &mut self.tunnel {
            tunnel.push_frame(frame);
        } else if let Some(sink) = &mut self.sink {
            sink.push(frame);
        }
    }

    fn finish(&mut self) {
        if let Tunnel::Open(tunnel) = &mut self.tunnel {
            tunnel.finish_body();
        } else if let Some(sink) = &mut self.sink {
            sink.finish();
            self.finished = true;
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_sink(cx, true)
    }
}

impl Downstream for Http2Downstream {
    fn start(&mut self, head: &ResponseHead) {
        let Some(reply) = self.reply.take() else { return };
        self.tunnel = Tunnel::None;
        let length = match head.framing {
            Framing::Length(length) => Some(length),
            Framing::None => Some(0),
            Framing::Chunked | Framing::Close => None,
        };
        let bodiless = self.to_head || matches!(head.status, 204 | 304) || length == Some(0);
        let (mut sink, body) = pipe(if bodiless { Some(0) } else { length });
        let mut response = http::Response::new(body);
        *response.status_mut() =
            http::StatusCode::from_u16(head.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        // The body's, or that of the body which is not sent this time (RFC 9110 §8.6).
        let told = match head.framing {
            Framing::Length(length) if !bodiless || self.to_head || head.status == 304 => Some(length),
            _ => None,
        };
        *response.headers_mut() = to_map(&head.fields, told);
        if bodiless {
            sink.finish();
        } else {
            self.sink = Some(sink);
        }
        // A client that has gone shows at the next poll.
        let _ = reply.send(response);
    }

    fn switch(&mut self, head: &ResponseHead) {
        let Some(reply) = self.reply.take() else { return };
        let (mut sink, body) = pipe(Some(0));
        sink.finish();
        // What 101 and its fields say in HTTP/1.1, 200 says here (RFC 8441 §5).
        let mut response = http::Response::new(body);
        *response.headers_mut() = to_map(&head.fields, None);
        response.headers_mut().remove("sec-websocket-accept");
        // A client that has gone shows at the next poll.
        let _ = reply.send(response);
    }

    fn started(&self) -> bool {
        self.reply.is_none()
    }

    fn close_after(&mut self) {
        // Other streams of the connection are none of this one's business.
    }

    fn abort(&mut self) {
        self.reply = None;
        self.tunnel = Tunnel::None;
        if let Some(sink) = &mut self.sink {
            sink.abort();
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match (&mut self.reply, &mut self.sink) {
            (Some(reply), _) => reply.poll_closed(cx),
            (None, Some(sink)) => sink.poll_gone(cx),
            (None, None) => Poll::Pending,
        }
    }
}
