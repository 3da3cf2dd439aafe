//! HTTP/2 connections to upstreams, by hyper.

mod meter;

use self::meter::Meter;
use super::ClientSettings;
use crate::framing::parse_length;
use crate::pipe::{PipeBody, PipeSink, from_map, pipe, to_map};
use crate::timer::Wait;
use crate::transport::BodyTimeouts;
use crate::{Call, IoStream, Sink, SinkError, Source};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_http::{
    BodyError, Frame, Framing, Method, RequestHead, ResponseHead, UpstreamFailure, Version,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

type Answer = Pin<Box<dyn Future<Output = hyper::Result<http::Response<Incoming>>> + Send>>;

/// A connection to an upstream that carries many exchanges at once; clones share it.
#[derive(Clone, Debug)]
pub struct Http2Connection {
    sender: SendRequest<PipeBody>,
    heard: Arc<AtomicU64>,
    scheme: &'static str,
}

impl Http2Connection {
    /// Opens HTTP/2 on a stream, by prior knowledge or after ALPN chose it. The connection is driven by a task of
    /// its own on the calling runtime.
    ///
    /// # Errors
    /// [`UpstreamFailure::Protocol`] when the other side does not speak HTTP/2.
    pub async fn open(io: IoStream) -> Result<Self, UpstreamFailure> {
        Self::open_with(io, ()).await
    }

    /// The same; `held` is dropped when the connection has ended.
    ///
    /// # Errors
    /// As [`Http2Connection::open`].
    pub async fn open_with(io: IoStream, held: impl Send + 'static) -> Result<Self, UpstreamFailure> {
        let scheme = if matches!(io, IoStream::Tls(_)) { "https" } else { "http" };
        let heard = Arc::default();
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_header_list_size(64 * 1024)
            .handshake(TokioIo::new(Meter::new(io, Arc::clone(&heard))))
            .await
            .map_err(|_| UpstreamFailure::Protocol)?;
        tokio::spawn(async move {
            // Its end shows at the requests that it carried.
            let _ = connection.await;
            drop(held);
        });
        Ok(Http2Connection { sender, heard, scheme })
    }

    /// Whether it takes another request.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.sender.is_ready()
    }

    /// Waits until it takes another request.
    ///
    /// # Errors
    /// [`UpstreamFailure::Closed`] when it takes none any more.
    pub async fn ready(&mut self) -> Result<(), UpstreamFailure> {
        self.sender.ready().await.map_err(|_| UpstreamFailure::Closed)
    }

    /// Sends the head of a request whose body, framed so, will be pushed.
    ///
    /// # Errors
    /// [`UpstreamFailure::Protocol`] when the head cannot be said in HTTP/2.
    pub fn begin(
        &mut self,
        head: &RequestHead,
        framing: Framing,
        settings: &ClientSettings,
    ) -> Result<Http2Call, UpstreamFailure> {
        if head.upgrade.is_some() {
            // Only HTTP/1.1 upstreams are asked for upgrades.
            return Err(UpstreamFailure::Protocol);
        }
        let length = match framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::Close => None,
        };
        let (mut sink, body) = pipe(length);
        if length == Some(0) {
            sink.finish();
        }
        let authority = head.fields.get_str("host").unwrap_or_default();
        let target = std::str::from_utf8(head.raw_target()).map_err(|_| UpstreamFailure::Protocol)?;
        let mut request = http::Request::new(body);
        *request.method_mut() =
            http::Method::from_bytes(head.method_text()).map_err(|_| UpstreamFailure::Protocol)?;
        *request.uri_mut() = format!("{}://{authority}{target}", self.scheme)
            .parse()
            .map_err(|_| UpstreamFailure::Protocol)?;
        *request.headers_mut() = to_map(&head.fields, None);
        request.headers_mut().remove(http::header::HOST);
        if head.accepts_trailers {
            request.headers_mut().insert(http::header::TE, http::HeaderValue::from_static("trailers"));
        }
        Ok(Http2Call {
            answer: Some(Box::pin(self.sender.send_request(request))),
            heard_before: self.heard.load(Ordering::Relaxed),
            heard: Arc::clone(&self.heard),
            sink,
            sending: length != Some(0),
            body: None,
            to_head: head.method == Method::Head,
            response_wait: Wait::default(),
            read_wait: Wait::default(),
            write_wait: Wait::default(),
            response_limit: settings.response,
            timeouts: settings.body.clone(),
        })
    }
}

/// One exchange on an HTTP/2 connection. Dropped before its end, it resets the stream.
pub struct Http2Call {
    answer: Option<Answer>,
    heard: Arc<AtomicU64>,
    heard_before: u64,
    sink: PipeSink,
    /// The request's body has not ended.
    sending: bool,
    body: Option<Incoming>,
    to_head: bool,
    response_wait: Wait,
    read_wait: Wait,
    write_wait: Wait,
    response_limit: Duration,
    timeouts: BodyTimeouts,
}

impl std::fmt::Debug for Http2Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2Call").field("answered", &self.body.is_some()).finish_non_exhaustive()
    }
}

impl Source for Http2Call {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.read_wait.poll_expired(cx, self.timeouts.idle));
                    self.body = None;
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
            };
            self.read_wait.end();
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.body = None;
                    let why = if is_ours(&error) { BodyError::Malformed } else { BodyError::Incomplete };
                    return Poll::Ready(Some(Err(why)));
                }
                None => {
                    self.body = None;
                    return Poll::Ready(None);
                }
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Err(frame) => {
                    if let Ok(map) = frame.into_trailers() {
                        return Poll::Ready(Some(
                            from_map(&map).map(Frame::Trailers).ok_or(BodyError::Malformed),
                        ));
                    }
                }
            }
        }
    }
}

impl Http2Call {
    /// Whether nothing at all was heard on its connection since it began, from whatever stream: then it may be the
    /// connection that hangs.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.heard.load(Ordering::Relaxed) == self.heard_before
    }

    fn poll_sink(&mut self, cx: &mut Context<'_>, flush: bool) -> Poll<Result<(), SinkError>> {
        // The request leaves only while its answer is asked for.
        match if flush { self.sink.poll_flush(cx) } else { self.sink.poll_ready(cx) } {
            Poll::Ready(result) => {
                self.write_wait.end();
                self.sending &= result.is_ok();
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.write_wait.poll_expired(cx, self.timeouts.write_stall));
                self.sending = false;
                self.sink.abort();
                Poll::Ready(Err(SinkError::Timeout))
            }
        }
    }
}

impl Sink for Http2Call {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_sink(cx, false)
    }

    fn push(&mut self, frame: Frame) {
        self.sink.push(frame);
    }

    fn finish(&mut self) {
        self.sending = false;
        self.sink.finish();
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_sink(cx, true)
    }
}

/// Whether it was we who ended the stream or the connection, for what the upstream said on it.
fn is_ours(error: &hyper::Error) -> bool {
    of_h2(error).is_some_and(h2::Error::is_library)
}

fn of_h2(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// What it means that no answer comes.
fn failure(error: &hyper::Error) -> UpstreamFailure {
    if error.is_canceled() {
        // The connection ended while the request waited for it.
        return UpstreamFailure::Refused;
    }
    match of_h2(error) {
        Some(error) if error.is_library() => UpstreamFailure::Protocol,
        // RFC 9113 §8.7. A GOAWAY is the end of those streams only that are beyond the last one it names.
        Some(error) if error.is_remote() && is_unprocessed(error) => UpstreamFailure::Refused,
        _ => UpstreamFailure::Closed,
    }
}

fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

impl Call for Http2Call {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), UpstreamFailure>> {
        let Some(answer) = &mut self.answer else { return Poll::Ready(Err(UpstreamFailure::Closed)) };
        let response = match answer.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => response,
            Poll::Ready(Err(error)) => {
                self.answer = None;
                return Poll::Ready(Err(failure(&error)));
            }
            Poll::Pending if self.sending => {
                // The upstream may still wait for the rest of the request, and we for the client's.
                self.response_wait.end();
                return Poll::Pending;
            }
            Poll::Pending => {
                ready!(self.response_wait.poll_expired(cx, self.response_limit));
                self.answer = None;
                return Poll::Ready(Err(UpstreamFailure::ResponseTimeout));
            }
        };
        self.answer = None;
        let (parts, body) = response.into_parts();
        head.clear();
        head.status = parts.status.as_u16();
        head.version = Version::Http2;
        if head.status > 599 {
            return Poll::Ready(Err(UpstreamFailure::Protocol));
        }
        head.fields = from_map(&parts.headers).ok_or(UpstreamFailure::Protocol)?;
        let mut lengths = parts.headers.get_all(http::header::CONTENT_LENGTH).iter();
        let length = match (lengths.next(), lengths.next()) {
            (None, _) => None,
            (Some(value), None) => Some(parse_length(value.as_bytes()).ok_or(UpstreamFailure::Protocol)?),
            (Some(_), Some(_)) => return Poll::Ready(Err(UpstreamFailure::Protocol)),
        };
        let bodiless = self.to_head || matches!(head.status, 204 | 304);
        head.framing = match length {
            Some(length) => Framing::Length(length),
            None if bodiless || body.is_end_stream() => Framing::None,
            None => Framing::Chunked,
        };
        self.body = (!bodiless).then_some(body);
        Poll::Ready(Ok(()))
    }
}
