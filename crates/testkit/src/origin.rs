//! Scripted backends on real sockets.

use crate::answer::{Digest, pattern};
use crate::message::{BodyEnd, Buffered, body_end, field};
use crate::{Answer, Step};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// Bytes of a request's body that are kept; of the rest only length and digest are.
pub const KEPT_BODY: usize = 1 << 20;

/// How long [`Origin::wait_for`] waits, so that a failing test ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Received {
    /// The head as it stood on the wire, the empty line included.
    pub head: Vec<u8>,
    /// The body without its chunked coding, up to [`KEPT_BODY`].
    pub body: Vec<u8>,
    /// Length of the whole body.
    pub length: u64,
    /// SHA-256 of the whole body, in hexadecimal.
    pub digest: String,
    /// Whether the body came to its end.
    pub complete: bool,
    /// The connection it came by, counted from 0.
    pub connection: usize,
}

impl Received {
    /// The head as text.
    #[must_use]
    pub fn head_text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.line().split(' ').next().unwrap_or_default()
    }

    /// The target, as it stood in the request line.
    #[must_use]
    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// The first field of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    fn line(&self) -> &str {
        let line = self.head.split(|b| *b == b'\r').next().unwrap_or_default();
        std::str::from_utf8(line).unwrap_or_default()
    }
}

type Script = dyn Fn(&Received) -> Answer + Send + Sync;

/// A backend on `127.0.0.1` that records what it gets and answers as its script says. It runs on threads of
/// its own, so that blocking and asynchronous tests may use it alike, until it is dropped.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    tls: Option<Arc<rustls::ServerConfig>>,
    reads_bodies: bool,
    seen: Mutex<Vec<Received>>,
    arrived: Condvar,
    connections: AtomicUsize,
    /// Weak, so that a script can close a connection for good.
    open: Mutex<Vec<Weak<TcpStream>>>,
    stopped: AtomicBool,
}

/// How an [`Origin`] is set up beyond its script.
#[derive(Default)]
pub struct OriginBuilder {
    tls: Option<Arc<rustls::ServerConfig>>,
    ignores_bodies: bool,
    address: Option<SocketAddr>,
}

impl OriginBuilder {
    /// Speaks TLS.
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Answers as soon as the head is there and never reads the body.
    #[must_use]
    pub fn ignoring_bodies(mut self) -> Self {
        self.ignores_bodies = true;
        self
    }

    /// Listens there instead of on a free port.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(self, script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Origin {
        let wanted = self.address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listener = TcpListener::bind(wanted).expect("an origin can listen on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            tls: self.tls,
            reads_bodies: !self.ignores_bodies,
            seen: Mutex::default(),
            arrived: Condvar::new(),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &theirs));
        Origin { address, shared }
    }
}

impl Origin {
    /// More than a script.
    #[must_use]
    pub fn builder() -> OriginBuilder {
        OriginBuilder::default()
    }

    /// Answers each request as `script` says.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::builder().start(script)
    }

    /// Answers every request the same.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn answering(answer: Answer) -> Self {
        Self::start(move |_| answer.clone())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, or `https://…`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.shared.seen().clone()
    }

    /// How many requests there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.seen().len()
    }

    /// How many connections were made.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until there were `count` requests.
    ///
    /// # Panics
    /// When they do not come.
    #[must_use]
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        let waited =
            self.shared.arrived.wait_timeout_while(self.shared.seen(), PATIENCE, |seen| seen.len() < count);
        let seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        assert!(seen.len() >= count, "{} of {count} requests came", seen.len());
        seen.clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        let open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Received>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if shared.stopped() {
            return;
        }
        let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
        let stream = Arc::new(stream);
        shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&stream));
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A connection that ends in an error is a thing that scripts do, not a failure of the test.
            let _ = talk(&stream, connection, &shared);
        });
    }
}

fn talk(socket: &TcpStream, connection: usize, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    match &shared.tls {
        None => serve(socket, socket, connection, shared),
        Some(config) => {
            let session = rustls::ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
            serve(rustls::StreamOwned::new(session, socket), socket, connection, shared)
        }
    }
}

fn serve(
    stream: impl Read + Write,
    socket: &TcpStream,
    connection: usize,
    shared: &Shared,
) -> io::Result<()> {
    let mut stream = Buffered::new(stream);
    while let Some(head) = stream.until(b"\r\n\r\n")? {
        let mut request = Received {
            head,
            body: Vec::new(),
            length: 0,
            digest: String::new(),
            complete: false,
            connection,
        };
        if shared.reads_bodies {
            read_body(&mut stream, &mut request)?;
        }
        let answer = (shared.script)(&request);
        shared.seen().push(request);
        shared.arrived.notify_all();
        for step in answer.steps {
            if !take(step, &mut stream, socket)? {
                return Ok(());
            }
        }
        if !shared.reads_bodies {
            return Ok(());
        }
    }
    Ok(())
}

fn read_body(stream: &mut Buffered<impl Read + Write>, request: &mut Received) -> io::Result<()> {
    if request.header("expect").is_some() {
        stream.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut digest = Digest::default();
    let Received { head, body, length, .. } = request;
    let mut take = |data: &[u8]| {
        digest.update(data);
        *length += data.len() as u64;
        body.extend_from_slice(&data[..data.len().min(KEPT_BODY - body.len())]);
    };
    // A body that breaks off is recorded as such.
    request.complete = stream.body(body_end(head, BodyEnd::None), &mut take).unwrap_or(false);
    request.digest = digest.finish();
    Ok(())
}

/// Takes one step; whether the connection goes on.
fn take(step: Step, stream: &mut Buffered<impl Read + Write>, socket: &TcpStream) -> io::Result<bool> {
    let out = &mut stream.stream;
    match step {
        Step::Bytes(bytes) => {
            out.write_all(&bytes)?;
            out.flush()?;
        }
        Step::Pattern(length) => {
            let mut result = Ok(());
            pattern(length, |block| {
                result = out.write_all(block);
                result.is_ok()
            });
            result?;
            out.flush()?;
        }
        Step::Wait(time) => thread::sleep(time),
        Step::Until(gate) => return Ok(gate.wait()),
        Step::Hang => {
            let mut block = [0; 4096];
            while out.read(&mut block)? > 0 {}
            return Ok(false);
        }
        Step::Close => {
            socket.shutdown(Shutdown::Both)?;
            return Ok(false);
        }
        Step::Reset => {
            // With no time to linger, closing sends RST.
            socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
            return Ok(false);
        }
    }
    Ok(true)
}
