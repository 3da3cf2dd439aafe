//! What a connection is read from and written to.

use socket2::SockRef;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connection, in clear or over TLS, of either side.
#[derive(Debug)]
pub enum IoStream {
    /// In clear.
    Plain(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl IoStream {
    /// Whether the kernel holds nothing that the other side sent, not even its end. The event loop may not have heard of
    /// what has come just now, so the kernel itself is asked.
    pub(crate) fn is_quiet(&self) -> bool {
        let socket = match self {
            IoStream::Plain(io) => io,
            IoStream::Tls(io) => io.get_ref().0,
        };
        let peeked = SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for IoStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            IoStream::Plain(io) => Pin::new(io).poll_read(cx, buf),
            IoStream::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for IoStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            IoStream::Plain(io) => Pin::new(io).poll_write(cx, buf),
            IoStream::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            IoStream::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            IoStream::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            IoStream::Plain(io) => io.is_write_vectored(),
            IoStream::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            IoStream::Plain(io) => Pin::new(io).poll_flush(cx),
            IoStream::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            IoStream::Plain(io) => Pin::new(io).poll_shutdown(cx),
            IoStream::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
