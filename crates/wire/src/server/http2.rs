//! HTTP/2 connections of clients, by hyper.

mod guard;
mod head;
mod note;
mod stream;
mod streams;

use self::guard::{Guard, Patience};
use self::streams::Streams;
use super::{Drain, ServerSettings};
use crate::Service;
use crate::head::HeadLimits;
use crate::pipe::PipeBody;
use crate::rewind::Rewind;
use crate::transport::BodyTimeouts;
use bytes::BytesMut;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_http::BodyError;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
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
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection that was told to go may take to do so.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long one may that never asked for anything.
const SHORT_GOODBYE: Duration = Duration::from_secs(1);

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
    /// As many requests were served as one connection may bring.
    full: Notify,
}

/// Notes that its stream was taken back if it is dropped before there is an answer.
struct Awaited {
    activity: Arc<Activity>,
    streams: Streams,
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
            self.streams.flood();
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

/// Takes the requests of one connection from hyper.
struct Acceptor<S> {
    service: S,
    activity: Arc<Activity>,
    streams: Streams,
    timeouts: BodyTimeouts,
    limits: HeadLimits,
    most_at_once: usize,
    most: u64,
}

impl<S: Service> Acceptor<S> {
    fn accept(
        &self,
        request: http::Request<Incoming>,
    ) -> impl Future<Output = Result<http::Response<PipeBody>, BodyError>> + use<S> {
        let open = self.activity.open();
        if self.activity.served.load(Ordering::Relaxed) >= self.most {
            self.activity.full.notify_one();
        }
        let (reply, answer) = oneshot::channel();
        // Work for streams that were reset counts until it ends (CVE-2025-8671).
        let is_busy = self.activity.open.load(Ordering::Relaxed) > self.most_at_once * 2;
        // Without somebody to answer it, the stream is reset.
        if !is_busy && !self.activity.flooded.load(Ordering::Relaxed) {
            let (service, streams) = (self.service.clone(), self.streams.clone());
            let (timeouts, limits) = (self.timeouts.clone(), self.limits.clone());
            // On the heap before it is spawned, which would move it several times.
            let answering = Box::pin(stream::answer(request, service, reply, streams, timeouts, limits));
            tokio::spawn(async move {
                let _open = open;
                answering.await;
            });
        }
        let awaited =
            Awaited { activity: self.activity.clone(), streams: self.streams.clone(), answered: false };
        async move {
            // The whole of it, so that it is dropped with this.
            let mut awaited = awaited;
            let answer = answer.await;
            awaited.answered = true;
            answer.map_err(|_| BodyError::Incomplete)
        }
    }
}

/// Serves the connection until it ends.
pub(super) async fn serve<IO, S>(
    io: IO,
    first: BytesMut,
    settings: Arc<ServerSettings>,
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
        full: Notify::new(),
    });
    let streams = Streams::default();
    let acceptor = Acceptor {
        service,
        activity: activity.clone(),
        streams: streams.clone(),
        timeouts: settings.body.clone(),
        limits: settings.head.clone(),
        most_at_once: settings.max_concurrent_streams as usize,
        most: settings.max_requests,
    };
    let handler = service_fn(move |request| acceptor.accept(request));
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
    if settings.websocket {
        builder.enable_connect_protocol();
    }
    let patience =
        Patience { frame: settings.header, data: settings.body.idle, write: settings.body.write_stall };
    let io = Guard::new(Rewind::new(first, io), streams, patience);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), handler));
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut leaving: Option<Instant> = None;
    let mut told = pin!(async {
        drain.on().await;
        // Whoever has just come and has not asked yet would have come for nothing.
        if activity.served.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(settings.keepalive_grace).await;
        }
    });
    loop {
        tokio::select! {
            // How it ended matters to nobody: each request has its own log line.
            _ = connection.as_mut() => return,
            () = told.as_mut(), if leaving.is_none() => {}
            () = activity.full.notified(), if leaving.is_none() => {}
            _ = tick.tick() => {
                let served = activity.served.load(Ordering::Relaxed);
                let limit = if served == 0 { settings.first_byte } else { settings.idle };
                let goodbye = if served == 0 { SHORT_GOODBYE } else { GOODBYE };
                if leaving.is_some_and(|since| activity.idle() > goodbye && since.elapsed() > goodbye) {
                    return;
                }
                let young = activity.begun.elapsed() < settings.max_age;
                if leaving.is_some() || (activity.idle() < limit && young) {
                    continue;
                }
            }
        }
        leaving.get_or_insert_with(Instant::now);
        connection.as_mut().graceful_shutdown();
    }
}
