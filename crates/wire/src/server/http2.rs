//! HTTP/2 connections of clients, by hyper.

use super::{Drain, ServerSettings};
use crate::pipe::{PipeBody, PipeSink, pipe, to_map};
use crate::rewind::Rewind;
use crate::timer::Wait;
use crate::transport::BodyTimeouts;
use crate::{Downstream, Service, Sink, SinkError, Source};
use bytes::BytesMut;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_http::{
    BodyError, Frame, Framing, Host, Malformed, Method, Rejection, RequestHead, ResponseHead, Version,
};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};

/// Resets of streams that were not accepted yet, before the connection ends (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Resets that a client may provoke from us, before the connection ends (CVE-2025-8671).
const MAX_LOCAL_RESETS: usize = 128;
/// Streams that a client may take back before they are answered, if they are also more than half of all: hyper's own
/// limit sees only those that it has not handed to us yet, which a slower flood stays below (CVE-2023-44487).
const MAX_TAKEN_BACK: u64 = 200;
/// How long the farewell to a client that floods us may take.
const DISMISSAL: Duration = Duration::from_millis(100);
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection that was told to go may take to do so.
const GOODBYE: Duration = Duration::from_secs(5);

/// The streams of one connection, for its idle deadline.
#[derive(Debug)]
struct Activity {
    begun: Instant,
    open: AtomicUsize,
    served: AtomicU64,
    /// Milliseconds after `begun` at which the last stream ended.
    last_end: AtomicU64,
    /// Streams that the client took back before they were answered.
    taken_back: AtomicU64,
    /// There are too many of those: no more requests are handed on.
    flooded: AtomicBool,
    flood: Notify,
}

/// Notes that its stream was taken back if it is dropped before there is an answer.
struct Awaited {
    activity: Arc<Activity>,
    answered: bool,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let taken_back = self.activity.taken_back.fetch_add(1, Ordering::Relaxed) + 1;
        if taken_back > MAX_TAKEN_BACK && taken_back * 2 > self.activity.served.load(Ordering::Relaxed) {
            self.activity.flooded.store(true, Ordering::Relaxed);
            self.activity.flood.notify_one();
        }
    }
}

struct OpenStream(Arc<Activity>);

impl Activity {
    fn open(self: &Arc<Self>) -> OpenStream {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    /// How long no stream has been open.
    fn idle(&self) -> Duration {
        if self.open.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last_end.load(Ordering::Relaxed)))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_end.store(now, Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves the connection until it ends.
pub(super) async fn serve<IO, S>(
    io: IO,
    first: BytesMut,
    settings: &ServerSettings,
    service: S,
    mut drain: Drain,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let activity = Arc::new(Activity {
        begun: Instant::now(),
        open: AtomicUsize::new(0),
        served: AtomicU64::new(0),
        last_end: AtomicU64::new(0),
        taken_back: AtomicU64::new(0),
        flooded: AtomicBool::new(false),
        flood: Notify::new(),
    });
    let streams = activity.clone();
    let (timeouts, max_target, max_fields) =
        (settings.body.clone(), settings.head.target, settings.head.fields);
    let handler = service_fn(move |request: http::Request<Incoming>| {
        let (service, stream, timeouts) = (service.clone(), streams.open(), timeouts.clone());
        let (reply, answer) = oneshot::channel();
        // Without somebody to answer it, the stream is reset.
        if !streams.flooded.load(Ordering::Relaxed) {
            tokio::spawn(async move {
                let _stream = stream;
                answer_one(request, service, reply, timeouts, max_target, max_fields).await;
            });
        }
        let awaited = Awaited { activity: streams.clone(), answered: false };
        async move {
            let mut awaited = awaited;
            let answer = answer.await;
            awaited.answered = true;
            answer.map_err(|_| BodyError::Incomplete)
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .max_header_list_size(u32::try_from(settings.head.bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(Rewind::new(first, io)), handler));
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut leaving: Option<Instant> = None;
    loop {
        tokio::select! {
            // How it ended matters to nobody: each request has its own log line.
            _ = connection.as_mut() => return,
            () = drain.on(), if leaving.is_none() => {}
            () = activity.flood.notified() => {
                connection.as_mut().graceful_shutdown();
                // It is over in any case.
                let _ = tokio::time::timeout(DISMISSAL, connection).await;
                return;
            }
            _ = tick.tick() => {
                let served = activity.served.load(Ordering::Relaxed);
                let limit = if served == 0 { settings.first_byte } else { settings.idle };
                if leaving.is_some_and(|since| activity.idle() > GOODBYE && since.elapsed() > GOODBYE) {
                    return;
                }
                if leaving.is_some() || (activity.idle() < limit && served < settings.max_requests) {
                    continue;
                }
            }
        }
        leaving.get_or_insert_with(Instant::now);
        connection.as_mut().graceful_shutdown();
    }
}

async fn answer_one<S: Service>(
    request: http::Request<Incoming>,
    service: S,
    reply: oneshot::Sender<http::Response<PipeBody>>,
    timeouts: BodyTimeouts,
    max_target: usize,
    max_fields: usize,
) {
    let (parts, body) = request.into_parts();
    let mut head = RequestHead::default();
    let read = read_head(&parts, body.is_end_stream(), max_target, max_fields, &mut head);
    let mut downstream = Http2Downstream {
        body: Some(body),
        reply: Some(reply),
        sink: None,
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

/// Our head from hyper's: `:authority` as `host`, cookie crumbs joined (RFC 9113 §8.2.3), and refused what an
/// HTTP/1 message could not say.
fn read_head(
    parts: &http::request::Parts,
    ended: bool,
    max_target: usize,
    max_fields: usize,
    head: &mut RequestHead,
) -> Result<(), Rejection> {
    const BROKEN: Rejection = Rejection::Malformed(Malformed::Http2);
    let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    head.set_line(parts.method.as_str().as_bytes(), target.as_bytes(), Version::Http2);
    if matches!(head.method, Method::Connect | Method::Trace) {
        return Err(Rejection::MethodNotAllowed {
            allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned(),
        });
    }
    if target.len() > max_target {
        return Err(Rejection::TargetTooLong);
    }
    if parts.headers.len() > max_fields {
        return Err(Rejection::HeadTooLarge);
    }
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    // Without an authority, hyper has only checked that there is a scheme.
    if authority.is_some() && !matches!(parts.uri.scheme_str(), Some("http" | "https")) {
        return Err(BROKEN);
    }
    let mut hosts = parts.headers.get_all("host").iter();
    let host = hosts
        .next()
        .map(|h| h.to_str().ok().and_then(Host::parse).ok_or(Rejection::Malformed(Malformed::Host)))
        .transpose()?;
    let agreed = match (authority, &host) {
        (Some(authority), Some(host)) => Host::parse(authority).is_some_and(|a| a == *host),
        (None, None) => false,
        _ => true,
    };
    if !agreed || hosts.next().is_some() {
        return Err(Rejection::Malformed(Malformed::Host));
    }
    let text = authority.map_or_else(|| host.map(|h| h.to_string()).unwrap_or_default(), str::to_owned);
    head.fields.append("host", text).map_err(|_| Rejection::Malformed(Malformed::Host))?;
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in &parts.headers {
        match name.as_str() {
            "host" => {}
            "cookie" => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value.as_bytes());
            }
            name => head.fields.append(name, value.as_bytes()).map_err(|_| BROKEN)?,
        }
    }
    if !cookies.is_empty() {
        head.fields.append("cookie", cookies).map_err(|_| BROKEN)?;
    }
    let mut lengths = parts.headers.get_all("content-length").iter();
    head.framing = match (lengths.next(), lengths.next()) {
        _ if ended => Framing::None,
        (None, _) => Framing::Chunked,
        (Some(length), None) => crate::head::parse_length(length.as_bytes())
            .map(Framing::Length)
            .ok_or(Rejection::Malformed(Malformed::ContentLength))?,
        (Some(_), Some(_)) => return Err(Rejection::Malformed(Malformed::ContentLength)),
    };
    Ok(())
}

/// One stream.
struct Http2Downstream {
    body: Option<Incoming>,
    reply: Option<oneshot::Sender<http::Response<PipeBody>>>,
    sink: Option<PipeSink>,
    to_head: bool,
    read_wait: Wait,
    write_wait: Wait,
    timeouts: BodyTimeouts,
    received: u64,
    waited: Duration,
}

impl Source for Http2Downstream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.waited += self.read_wait.end();
                    // A client's trailers are dropped: nothing behind the gateway may read them as fields.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        self.received += data.len() as u64;
                        return Poll::Ready(Some(Ok(Frame::Data(data))));
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
    fn poll_sink(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        let Some(sink) = &mut self.sink else { return Poll::Ready(Ok(())) };
        match sink.poll_ready(cx) {
            Poll::Ready(result) => {
                self.write_wait.end();
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.write_wait.poll_expired(cx, self.timeouts.write_stall));
                sink.abort();
                Poll::Ready(Err(SinkError::Timeout))
            }
        }
    }
}

impl Sink for Http2Downstream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_sink(cx)
    }

    fn push(&mut self, frame: Frame) {
        if let Some(sink) = &mut self.sink {
            sink.push(frame);
        }
    }

    fn finish(&mut self) {
        if let Some(sink) = &mut self.sink {
            sink.finish();
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_sink(cx)
    }
}

impl Downstream for Http2Downstream {
    fn start(&mut self, head: &ResponseHead) {
        let Some(reply) = self.reply.take() else { return };
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
        *response.headers_mut() = to_map(&head.fields);
        if let (Framing::Length(length), true) = (head.framing, self.to_head || head.status == 304) {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(length));
        }
        if bodiless {
            sink.finish();
        } else {
            self.sink = Some(sink);
        }
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
