//! The client's side: reading requests off a connection and answering them.

mod http1;
mod http2;

use self::http1::Preface;
use crate::head::HeadLimits;
use crate::transport::BodyTimeouts;
use crate::{IoStream, Service};
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub use crate::transport::BodyTimeouts as Timeouts;

/// What a listener allows its clients.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Caps on a request's head.
    pub head: HeadLimits,
    /// From the accept to the first byte; in HTTP/2 to the first request.
    pub first_byte: Duration,
    /// From the first byte of a head to its last.
    pub header: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Deadlines on bodies.
    pub body: BodyTimeouts,
    /// Requests on one connection; then it closes.
    pub max_requests: u64,
    /// How old a connection gets; then it closes as after the last of its requests.
    pub max_age: Duration,
    /// Whether a connection in clear may begin with HTTP/2's preface (prior knowledge, RFC 9113 §3.3).
    pub http2: bool,
    /// Concurrent streams of one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Whether HTTP/2 clients are told that they may ask for WebSocket (RFC 8441).
    pub websocket: bool,
    /// How long a connection between requests is kept when it is told to end.
    pub keepalive_grace: Duration,
}

impl Default for ServerSettings {
    /// A head in 32 KiB and 10 s, the first byte in 4 s, 60 s between requests, 1000 requests, an hour, 100 streams, a
    /// second for a last request.
    fn default() -> Self {
        ServerSettings {
            head: HeadLimits::default(),
            first_byte: Duration::from_secs(4),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            body: BodyTimeouts::default(),
            max_requests: 1000,
            max_age: Duration::from_secs(60 * 60),
            http2: true,
            max_concurrent_streams: 100,
            websocket: false,
            keepalive_grace: Duration::from_secs(1),
        }
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, as ALPN chose.
    Http1,
    /// HTTP/2, as ALPN chose.
    Http2,
    /// In clear: HTTP/2 if it begins with the preface and the listener allows it, else HTTP/1.
    Detect,
}

/// Tells connections to end: idle ones once [`ServerSettings::keepalive_grace`] is over, busy ones after the answer at hand.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<bool>);

impl Drain {
    /// The switch and what connections watch.
    #[must_use]
    pub fn channel() -> (watch::Sender<bool>, Drain) {
        let (sender, receiver) = watch::channel(false);
        (sender, Drain(receiver))
    }

    /// Whether connections are to end.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until they are. A switch that was dropped counts as on: nobody is left to serve for.
    pub async fn on(&mut self) {
        // Each connection waits so: this takes less room than `wait_for`.
        while !self.is_on() && self.0.changed().await.is_ok() {}
    }
}

/// Bytes of the heap that a connection of HTTP/1 takes between requests, beside its task and the kernel's.
#[must_use]
pub const fn connection_size<S: Service>() -> usize {
    size_of::<http1::Connection<S>>()
}

/// Serves one connection to its end, and lets go of what it `holds` then.
pub fn serve<S: Service>(
    io: IoStream,
    protocol: Protocol,
    settings: Arc<ServerSettings>,
    service: S,
    drain: Drain,
    holds: impl Send,
) -> impl Future<Output = ()> + Send {
    // On the heap, so that nothing of it is moved, and neither protocol needs room for the other.
    let (http1, http2) = if protocol == Protocol::Http2 {
        (None, Some(Box::pin(http2::serve(io, BytesMut::new(), settings, service, drain))))
    } else {
        let detect = protocol == Protocol::Detect && settings.http2;
        (Some(Box::new(http1::Connection::new(io, settings, service, drain, detect))), None)
    };
    async move {
        let http2 = match http1 {
            None => http2,
            Some(connection) => connection.serve().await.map(|preface| {
                let Preface { io, first, settings, service, drain } = preface;
                Box::pin(http2::serve(io, first, settings, service, drain))
            }),
        };
        if let Some(http2) = http2 {
            http2.await;
        }
        drop(holds);
    }
}
