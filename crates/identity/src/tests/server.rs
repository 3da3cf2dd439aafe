//! A real server of key sets, good and bad.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::PrivateKeyDer;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How the server answers.
#[derive(Clone)]
pub(super) enum Answer {
    /// 200 with this body.
    Body(String),
    /// This status with an empty body, and perhaps a `Location`.
    Status(u16, Option<String>),
    /// 200 and a gigabyte, with or without a length.
    Gigabyte { length: bool },
    /// 200 and one byte each second, for ever.
    Drip,
    /// Nothing, ever.
    Silence,
    /// The connection closed.
    Close,
}

/// A server on the loopback, on threads of its own; counts requests.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
    /// PEM of the certificate it presents, if it speaks TLS.
    pub(super) certificate: Option<String>,
    _runtime: Background,
}

/// A runtime that a test, itself asynchronous, may drop.
struct Background(Option<tokio::runtime::Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Server {
    pub(super) fn start(answer: Answer) -> Self {
        Self::launch(answer, None)
    }

    pub(super) fn start_tls(answer: Answer) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        Self::launch(answer, Some((TlsAcceptor::from(Arc::new(config)), cert.pem())))
    }

    fn launch(answer: Answer, tls: Option<(TlsAcceptor, String)>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (acceptor, certificate) = tls.unzip();
        let (shared, count) = (Arc::clone(&answer), Arc::clone(&requests));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, count, acceptor) = (Arc::clone(&shared), Arc::clone(&count), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, &shared, &count).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, &shared, &count).await;
                            }
                        }
                    }
                });
            }
        });
        Server { address, answer, requests, certificate, _runtime: Background(Some(runtime)) }
    }

    pub(super) fn url(&self) -> String {
        match self.certificate {
            Some(_) => format!("https://localhost:{}/jwks", self.address.port()),
            None => format!("http://{}/jwks", self.address),
        }
    }

    pub(super) fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Requests seen so far.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &Mutex<Answer>, count: &AtomicUsize) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    count.fetch_add(1, Ordering::SeqCst);
    let answer = answer.lock().unwrap().clone();
    // The client may hang up at any time: that is what is tested.
    let _ = respond(&mut stream, answer).await;
    let _ = stream.shutdown().await;
}

async fn respond(stream: &mut (impl AsyncWrite + Unpin), answer: Answer) -> std::io::Result<()> {
    match answer {
        Answer::Body(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await
        }
        Answer::Status(status, location) => {
            let location = location.map(|to| format!("location: {to}\r\n")).unwrap_or_default();
            let head = format!("HTTP/1.1 {status} X\r\n{location}content-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await
        }
        Answer::Gigabyte { length } => {
            let length = if length { "content-length: 1073741824\r\n" } else { "" };
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{length}\r\n").as_bytes()).await?;
            let block = vec![b' '; 64 * 1024];
            for _ in 0..16 * 1024 {
                stream.write_all(&block).await?;
            }
            Ok(())
        }
        Answer::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Answer::Silence => std::future::pending().await,
        Answer::Close => Ok(()),
    }
}
