//! Opening a connection.

use crate::Protocol;
use crate::endpoint::Endpoint;
use portcullis_http::{DestinationPolicy, UpstreamFailure};
use portcullis_wire::IoStream;
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A name's addresses that one attempt tries.
const MAX_ADDRESSES: usize = 4;

/// What opening takes; the same for all endpoints of an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    /// For the name and TCP.
    pub(crate) limit: Duration,
    /// For the TLS handshake.
    pub(crate) tls_limit: Duration,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) http2: bool,
    /// Which addresses names may stand for.
    pub(crate) destinations: DestinationPolicy,
}

impl Connector {
    /// What is spoken over what it opens.
    pub(crate) fn protocol(&self) -> Protocol {
        if self.http2 { Protocol::Http2 } else { Protocol::Http1 }
    }

    /// Opens a stream within the limits: name and TCP, then TLS. Never in clear where TLS is asked for.
    pub(crate) async fn open(&self, endpoint: &Endpoint) -> Result<IoStream, UpstreamFailure> {
        let connected = timeout(self.limit, self.tcp(endpoint)).await;
        let stream = connected.unwrap_or(Err(UpstreamFailure::ConnectTimeout))?;
        let Some(config) = &self.tls else { return Ok(IoStream::Plain(stream)) };
        let secured = timeout(self.tls_limit, self.secure(endpoint, config, stream)).await;
        secured.unwrap_or(Err(UpstreamFailure::TlsTimeout))
    }

    async fn secure(
        &self,
        endpoint: &Endpoint,
        config: &Arc<ClientConfig>,
        stream: TcpStream,
    ) -> Result<IoStream, UpstreamFailure> {
        let name = endpoint.server_name.clone().ok_or(UpstreamFailure::Tls)?;
        let stream =
            TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(|error| {
                tracing::warn!(endpoint = %endpoint.address, %error, "the TLS handshake with the endpoint failed");
                UpstreamFailure::Tls
            })?;
        if self.http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            tracing::warn!(endpoint = %endpoint.address, "the endpoint does not choose HTTP/2 by ALPN");
            return Err(UpstreamFailure::Tls);
        }
        Ok(IoStream::Tls(Box::new(stream.into())))
    }

    /// Tries a name's addresses in turn, each for its share of the limit, so that one black hole does not use up all.
    async fn tcp(&self, endpoint: &Endpoint) -> Result<TcpStream, UpstreamFailure> {
        let mut addresses = endpoint.addresses(&self.destinations).await?;
        addresses.truncate(MAX_ADDRESSES);
        let share = self.limit / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let mut failure = UpstreamFailure::Connect;
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it a small request could wait for the acknowledgement of the one before.
                    stream.set_nodelay(true).map_err(|_| UpstreamFailure::Connect)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => {
                    tracing::debug!(endpoint = %endpoint.address, %address, %error, "cannot connect");
                    failure = match error.kind() {
                        io::ErrorKind::TimedOut => UpstreamFailure::ConnectTimeout,
                        io::ErrorKind::AddrNotAvailable => UpstreamFailure::Exhausted,
                        _ if is_out_of_files(&error) => UpstreamFailure::Exhausted,
                        _ => UpstreamFailure::Connect,
                    };
                }
                Err(_) => failure = UpstreamFailure::ConnectTimeout,
            }
        }
        Err(failure)
    }
}

/// Whether it was for want of file descriptors, the process's or the machine's. The library has no name for these.
fn is_out_of_files(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
