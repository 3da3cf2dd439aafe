//! A client that sends what it is told to, byte for byte.

use crate::message::{BodyEnd, Buffered, body_end, field};
use crate::tls::Authority;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long a read waits, so that a failing test ends.
const PATIENCE: Duration = Duration::from_secs(30);

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A response as it came in.
#[derive(Clone, Debug)]
pub struct Response {
    /// The head as it stood on the wire, the empty line included.
    pub head: Vec<u8>,
    /// The body without its chunked coding.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl Response {
    /// The status; 0 where there is none to read.
    #[must_use]
    pub fn status(&self) -> u16 {
        let line = self.head.split(|b| *b == b'\r').next().unwrap_or_default();
        let code = String::from_utf8_lossy(line).split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or(0)
    }

    /// The first field of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// One connection, in clear or over TLS. Every failure of the connection is an error of the call; what the
/// peer sent is never judged.
///
/// ```
/// use portcullis_testkit::{Answer, Origin, RawClient};
///
/// let origin = Origin::answering(Answer::ok("hi"));
/// let mut client = RawClient::connect(origin.address()).unwrap();
/// client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
/// assert_eq!(client.response().unwrap().text(), "hi");
/// assert_eq!(client.response().unwrap().text(), "hi");
/// assert_eq!(origin.connections(), 1);
/// ```
pub struct RawClient {
    stream: Buffered<Box<dyn Duplex>>,
    socket: TcpStream,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
}

impl RawClient {
    /// Connects in clear.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = open(address)?;
        Ok(RawClient { stream: Buffered::new(Box::new(socket.try_clone()?)), socket, scheme: "http" })
    }

    /// Connects in clear from this address of ours.
    ///
    /// # Errors
    /// When nobody listens there, or the address is not ours.
    pub fn connect_from(own: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(own, 0).into())?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        let socket = TcpStream::from(socket);
        prepare(&socket)?;
        Ok(RawClient { stream: Buffered::new(Box::new(socket.try_clone()?)), socket, scheme: "http" })
    }

    /// Connects over TLS and completes the handshake. `protocols` are offered by ALPN.
    ///
    /// # Errors
    /// When nobody listens there, or the handshake fails.
    pub fn connect_tls(
        address: SocketAddr,
        server_name: &str,
        authority: &Authority,
        protocols: &[&str],
    ) -> io::Result<Self> {
        Self::connect_with(address, server_name, Arc::new(authority.client_config(protocols)))
    }

    /// Connects over TLS as a configuration says and completes the handshake.
    ///
    /// # Errors
    /// As [`RawClient::connect_tls`].
    pub fn connect_with(
        address: SocketAddr,
        server_name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> io::Result<Self> {
        let mut socket = open(address)?;
        let name = server_name.to_owned().try_into().map_err(io::Error::other)?;
        let mut session = rustls::ClientConnection::new(config, name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let stream = rustls::StreamOwned::new(session, socket.try_clone()?);
        Ok(RawClient { stream: Buffered::new(Box::new(stream)), socket, scheme: "https" })
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.stream.write_all(bytes.as_ref())?;
        self.stream.stream.flush()
    }

    /// Whether something has come, or comes within that time; also when it is the connection's end. In clear.
    #[must_use]
    pub fn hears(&self, within: Duration) -> bool {
        if !self.stream.ahead().is_empty() {
            return true;
        }
        let before = self.socket.read_timeout().ok().flatten();
        let set = self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1))));
        let heard = set.is_err()
            || !self.socket.peek(&mut [0]).is_err_and(|error| {
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
            });
        // A socket that refuses is one that has ended.
        let _ = self.socket.set_read_timeout(before);
        heard
    }

    /// How long a read waits from now on.
    ///
    /// # Errors
    /// When the socket refuses.
    pub fn wait_at_most(&self, patience: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(patience))
    }

    /// Says that no more will be sent (FIN), and goes on reading.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn finish(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Resets the connection.
    ///
    /// # Errors
    /// When the socket refuses.
    pub fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO))
    }

    /// Reads the next response, interim ones (1xx) passed over.
    ///
    /// # Errors
    /// When the connection ends before the head does ([`io::ErrorKind::UnexpectedEof`]), or fails, or nothing
    /// comes for half a minute.
    pub fn response(&mut self) -> io::Result<Response> {
        let head = self.head()?;
        let response = Response { head, body: Vec::new(), complete: false };
        if let 100..=199 = response.status() { self.response() } else { self.body_of(response) }
    }

    fn body_of(&mut self, mut response: Response) -> io::Result<Response> {
        let end = match response.status() {
            204 | 304 => BodyEnd::None,
            _ => body_end(&response.head, BodyEnd::Close),
        };
        let body = &mut response.body;
        // A reset after part of the body is a body that is not complete.
        response.complete = self.stream.body(end, &mut |data| body.extend_from_slice(data)).unwrap_or(false);
        Ok(response)
    }

    /// Reads the next response likewise, or the head of one that switches protocols (101).
    ///
    /// # Errors
    /// As [`RawClient::response`].
    pub fn response_or_switch(&mut self) -> io::Result<Response> {
        let head = self.head()?;
        let response = Response { head, body: Vec::new(), complete: true };
        match response.status() {
            101 => Ok(response),
            100..=199 => self.response_or_switch(),
            _ => self.body_of(response),
        }
    }

    /// Reads one head and no more: of a response to HEAD, an interim one, or one whose body the test reads.
    ///
    /// # Errors
    /// As [`RawClient::response`].
    pub fn head(&mut self) -> io::Result<Vec<u8>> {
        self.stream.until(b"\r\n\r\n")?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads up to and including `mark`.
    ///
    /// # Errors
    /// As [`RawClient::response`].
    pub fn until(&mut self, mark: &str) -> io::Result<Vec<u8>> {
        self.stream.until(mark.as_bytes())?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads so many bytes, or to the end where there are fewer, and hands them on as they come.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn take(&mut self, length: u64, mut sink: impl FnMut(&[u8])) -> io::Result<bool> {
        self.stream.body(BodyEnd::Length(length), &mut sink)
    }

    /// Reads all there is until the peer closes.
    ///
    /// # Errors
    /// When it resets the connection or nothing comes for half a minute.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.stream.rest()
    }

    /// Whether the peer closes or resets the connection without another byte; waits for half a minute.
    #[must_use]
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        self.stream.ahead().is_empty()
            && match self.stream.stream.read(&mut byte) {
                Ok(count) => count == 0,
                Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
    }
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    prepare(&socket)?;
    Ok(socket)
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))
}

/// Sends one request on a connection of its own: `request` is all before `Host`, such as `GET /a`; `fields` are
/// whole lines without their line ends.
///
/// # Panics
/// When the connection fails.
pub fn request(address: SocketAddr, request: &str, fields: &[&str], body: impl AsRef<[u8]>) -> Response {
    let body = body.as_ref();
    let mut bytes = format!("{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n").into_bytes();
    for field in fields {
        bytes.extend_from_slice(format!("{field}\r\n").as_bytes());
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    let mut client = RawClient::connect(address).expect("the server listens");
    // The server may refuse before it has read everything; what it said counts.
    let sent = client.send(bytes);
    match client.response() {
        Ok(response) => response,
        Err(error) => panic!("no answer to {request}: {error} (sent: {sent:?})"),
    }
}

/// Sends one GET on a connection of its own.
///
/// # Panics
/// When the connection fails.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> Response {
    request(address, &format!("GET {path}"), &[], "")
}
