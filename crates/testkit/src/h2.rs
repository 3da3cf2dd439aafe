//! A scripted backend that speaks HTTP/2.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A request as it came in, its body whole.
pub type H2Request = http::Request<Bytes>;

type Script = dyn Fn(&H2Request) -> http::Response<Bytes> + Send + Sync;

/// A backend on `127.0.0.1` that speaks HTTP/2: with prior knowledge in clear, or over TLS. On a thread of its
/// own until it is dropped.
///
/// ```
/// use portcullis_testkit::H2Origin;
///
/// let origin = H2Origin::start(None, |request| {
///     http::Response::new(bytes::Bytes::from(request.uri().path().to_owned()))
/// });
/// assert!(origin.url().starts_with("http://127.0.0.1:"));
/// assert!(origin.requests().is_empty());
/// ```
pub struct H2Origin {
    address: SocketAddr,
    secure: bool,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<H2Request>>,
    connections: AtomicUsize,
}

impl H2Origin {
    /// Answers each request as `script` says; over TLS where there is a configuration, which should offer `h2`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&H2Request) -> http::Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            script: Box::new(script),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("there can be a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("an origin can listen on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (stop, stopped) = oneshot::channel();
        let (theirs, secure) = (Arc::clone(&shared), tls.is_some());
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, tls, theirs) => {}
                    _ = stopped => {}
                }
            });
        });
        H2Origin { address, secure, shared, stop: Some(stop) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, or `https://…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.address)
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<H2Request> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections were made.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            match tls {
                None => serve(stream, shared).await,
                Some(config) => {
                    if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                        serve(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // A connection that the other side breaks off is no failure of the test.
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: http::Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let request = http::Request::from_parts(head, body);
    let theirs = Arc::clone(&shared);
    // A script that waits keeps only its own stream waiting.
    let answered = tokio::task::spawn_blocking(move || ((theirs.script)(&request), request)).await;
    let (response, request) = answered.expect("a script does not panic");
    let response = response.map(Full::new);
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    Ok(response)
}
