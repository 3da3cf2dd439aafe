//! A connection's beginning.

use super::TlsPlan;
use crate::acme;
use crate::listener::UNSENT;
use portcullis_http::ClientCertificate;
use portcullis_telemetry::HandshakeFailure;
use portcullis_tls::client_certificate;
use portcullis_wire::IoStream;
use portcullis_wire::server::Protocol;
use rustls::{Error, HandshakeKind, ServerConnection};
use rustls_pki_types::UnixTime;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Handshakes of a thread that may compute (a signature is a large part of a millisecond) before everything else on it has
/// had its turn: a flood of them makes handshakes slow, not the requests on connections that are open.
const HANDSHAKES_A_TURN: usize = 4;

thread_local! {
    static TURNS: Arc<Semaphore> = Arc::new(Semaphore::new(HANDSHAKES_A_TURN));
}

/// A connection on which requests can be read.
pub(crate) struct Opened {
    pub(crate) io: IoStream,
    pub(crate) protocol: Protocol,
    /// The name that the client asked for.
    pub(crate) server_name: Option<Arc<str>>,
    /// The certificate that it showed.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
}

impl Opened {
    /// One without TLS.
    pub(crate) fn in_clear(stream: TcpStream) -> Self {
        let io = IoStream::Plain(stream);
        Opened { io, protocol: Protocol::Detect, server_name: None, certificate: None }
    }
}

impl TlsPlan {
    /// Completes the handshake with a client. ALPN alone chooses the protocol. `None` where the handshake was all that was
    /// wanted, as by an authority that validates a name.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(crate) async fn handshake(&self, stream: TcpStream) -> Result<Option<Opened>, HandshakeFailure> {
        let handshake = TlsAcceptor::from(self.config.clone()).accept(stream);
        let mut stream = in_turn(handshake).await.map_err(|error| classify(&error))?;
        if acme::is_validation(stream.get_ref().1.alpn_protocol()) {
            // Whether the close arrives matters to nobody.
            let _ = stream.shutdown().await;
            return Ok(None);
        }
        let (_, session) = stream.get_mut();
        // What waits in there does not show that the client takes it.
        session.set_buffer_limit(Some(UNSENT.into()));
        let certificate = self.judge(session).map_err(|error| {
            tracing::debug!(%error, "the certificate of a client is refused");
            HandshakeFailure::Certificate
        })?;
        let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
        let server_name = session.server_name().map(Into::into);
        let io = IoStream::Tls(Box::new(stream.into()));
        Ok(Some(Opened { io, protocol, server_name, certificate }))
    }

    /// Who the client is. In a session that is resumed its certificate is the one of the first handshake, which may have
    /// expired since, or have been revoked.
    fn judge(&self, session: &ServerConnection) -> Result<Option<Arc<ClientCertificate>>, Error> {
        let Some(auth) = &self.client_auth else { return Ok(None) };
        let chain = session.peer_certificates().unwrap_or_default();
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            auth.verify(chain, UnixTime::now())?;
        }
        if chain.is_empty() {
            return Ok(None);
        }
        let certificate = client_certificate(chain, &self.provider);
        certificate.map(|one| Some(Arc::new(one))).ok_or(Error::NoCertificatesPresented)
    }
}

/// Polls a handshake when it is its turn. A turn ends when everything else that can run on the thread has run, not when
/// the step is done.
async fn in_turn<F: Future>(handshake: F) -> F::Output {
    let turns = TURNS.with(Arc::clone);
    let mut handshake = pin!(handshake);
    loop {
        // The semaphore is never closed.
        let turn = turns.acquire().await;
        let mut step = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await;
        tokio::task::yield_now().await;
        if step.is_pending() {
            // Its waker may have been called during the yield.
            step = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await;
        }
        drop(turn);
        match step {
            Poll::Ready(output) => return output,
            Poll::Pending => woken().await,
        }
    }
}

/// Waits for whatever wakes this task.
async fn woken() {
    let mut waited = false;
    poll_fn(|_| match std::mem::replace(&mut waited, true) {
        false => Poll::Pending,
        true => Poll::Ready(()),
    })
    .await;
}

/// A client that went away is not one that spoke nonsense, nor one that may not come in.
fn classify(error: &io::Error) -> HandshakeFailure {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    if let Some(
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::InvalidCertRevocationList(_),
    ) = cause
    {
        tracing::debug!(%error, "the certificate of a client is refused");
        return HandshakeFailure::Certificate;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            HandshakeFailure::Closed
        }
        _ => HandshakeFailure::Protocol,
    }
}
