//! A proxy between the gateway and an origin on which everything that can go wrong does, when it is told to.

mod exchange;
mod frames;
mod script;
mod stream;

pub use script::FaultScript;

use crate::gateway::free_port;
use script::Door;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// What a proxy understands of what passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultProtocol {
    /// HTTP/1 exchanges: each may be harmed for itself. What it passes on, the origin gets whole and at once.
    Http1,
    /// HTTP/2 frames, in clear.
    Http2,
    /// Bytes: TLS, above all.
    Bytes,
}

/// A proxy on a port of `127.0.0.1` that passes everything on while it is well, and harms what passes as a
/// [`FaultScript`] says while it follows one. On threads of its own until it is dropped.
///
/// ```
/// use portcullis_testkit::{Answer, FaultProtocol, FaultProxy, FaultScript, Origin, RawClient};
///
/// let origin = Origin::answering(Answer::ok("hi"));
/// let proxy = FaultProxy::start(FaultProtocol::Http1, &[("origin", origin.address())]);
/// let mut client = RawClient::connect(proxy.address()).unwrap();
/// client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
/// assert_eq!(client.response().unwrap().text(), "hi");
///
/// proxy.follow(&FaultScript::read(["answer head", "reset"], "here"));
/// client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
/// let answer = client.response().unwrap();
/// assert!(!answer.complete);
/// assert_eq!(origin.count(), 2, "it was served all the same");
/// assert_eq!(proxy.harmed(), 1);
/// ```
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    protocol: FaultProtocol,
    backends: Vec<(String, SocketAddr)>,
    state: Mutex<State>,
    closed: Condvar,
    /// Exchanges or connections that came while a script was followed.
    met: AtomicUsize,
    harmed: AtomicUsize,
    /// Requests of which no origin has heard, or not all.
    withheld: AtomicUsize,
    /// Exchanges, or connections, that passed unharmed.
    passed: AtomicUsize,
    /// Weak, so that a script can close a connection for good.
    open: Mutex<Vec<Weak<TcpStream>>>,
}

#[derive(Default)]
struct State {
    script: Option<Arc<FaultScript>>,
    /// Grows with each change of the script.
    generation: u64,
    listening: bool,
    /// Whoever accepts should stop.
    shut: bool,
    /// A queue that is full, with what fills it.
    full: Option<(Socket, Vec<TcpStream>)>,
}

impl FaultProxy {
    /// Starts a proxy that is well. The first backend is the one that it passes everything to.
    ///
    /// # Panics
    /// When it cannot listen, or has no backend.
    #[must_use]
    pub fn start(protocol: FaultProtocol, backends: &[(&str, SocketAddr)]) -> Self {
        assert!(!backends.is_empty(), "a proxy has a backend");
        let address = own_port();
        let shared = Arc::new(Shared {
            address,
            protocol,
            backends: backends.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect(),
            state: Mutex::default(),
            closed: Condvar::new(),
            met: AtomicUsize::new(0),
            harmed: AtomicUsize::new(0),
            withheld: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        shared.listen();
        FaultProxy { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to do what a script says. Connections that would hide the fault are cut.
    ///
    /// # Panics
    /// When a queue cannot be filled.
    pub fn follow(&self, script: &FaultScript) {
        let shared = &self.shared;
        match script.door {
            Some(Door::Refuses) => shared.shut(),
            Some(Door::Ignores) => {
                shared.shut();
                shared.state().full = Some(full_queue(self.address));
            }
            _ => {}
        }
        shared.change(Some(Arc::new(script.clone())));
        if script.cuts() {
            shared.cut();
        }
    }

    /// Is well from now on. What hangs goes on to hang.
    ///
    /// # Panics
    /// When it cannot listen again.
    pub fn be_well(&self) {
        let shared = &self.shared;
        let was = shared.change(None);
        if was.is_some_and(|script| script.mark.is_some()) {
            // Both sides of such a connection have compressed fields by what the other has not seen.
            shared.cut();
        }
        shared.state().full = None;
        if !shared.state().listening {
            shared.listen();
        }
    }

    /// Exchanges, or connections where it looks at no exchanges, that were harmed so far. Connections that were not
    /// accepted are not among them.
    #[must_use]
    pub fn harmed(&self) -> usize {
        self.shared.harmed.load(Ordering::SeqCst)
    }

    /// Requests that came and were not passed on, or not whole. Of bytes it does not know.
    #[must_use]
    pub fn withheld(&self) -> usize {
        self.shared.withheld.load(Ordering::SeqCst)
    }

    /// Exchanges, or connections where it looks at no exchanges, that it did no harm to.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.shared.passed.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.shut();
        self.shared.cut();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script before.
    fn change(&self, script: Option<Arc<FaultScript>>) -> Option<Arc<FaultScript>> {
        let mut state = self.state();
        state.generation += 1;
        std::mem::replace(&mut state.script, script)
    }

    /// What is to be done to the next exchange of a connection that has served so many, or to the next connection.
    fn fault(&self, served: usize) -> Option<Arc<FaultScript>> {
        let script = self.state().script.clone().filter(|script| {
            served >= script.served
                && self.met.fetch_add(1, Ordering::SeqCst) % script.every == script.every - 1
        });
        let counter = if script.is_some() { &self.harmed } else { &self.passed };
        counter.fetch_add(1, Ordering::SeqCst);
        script
    }

    fn connect(&self, script: Option<&FaultScript>) -> io::Result<TcpStream> {
        let wanted = script.and_then(|script| script.to.as_deref());
        let named = |name| {
            let found = self.backends.iter().find(|(known, _)| known == name);
            found.unwrap_or_else(|| panic!("there is no backend {name}"))
        };
        let (_, address) = wanted.map_or(&self.backends[0], named);
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn listen(self: &Arc<Self>) {
        let again = |_| {
            thread::sleep(Duration::from_millis(20));
            TcpListener::bind(self.address)
        };
        let listener =
            TcpListener::bind(self.address).or_else(again).expect("a proxy can listen on its port");
        {
            let mut state = self.state();
            (state.listening, state.shut) = (true, false);
        }
        let shared = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.state().shut {
                    break;
                }
                let stream = Arc::new(stream);
                shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&stream));
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    // A connection that ends in an error is what this is for.
                    let _ = shared.serve(stream);
                });
            }
            drop(listener);
            shared.state().listening = false;
            shared.closed.notify_all();
        });
    }

    /// Stops listening; when this returns, connections are refused.
    fn shut(&self) {
        let mut state = self.state();
        if !state.listening {
            return;
        }
        state.shut = true;
        drop(state);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        let mut state = self.state();
        while state.listening {
            state = self.closed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends all connections.
    fn cut(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for stream in open.iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn serve(&self, near: Arc<TcpStream>) -> io::Result<()> {
        near.set_nodelay(true)?;
        let door = self.state().script.as_ref().and_then(|script| script.door);
        if let Some(door) = door
            && self.fault(0).is_some()
        {
            return match door {
                Door::Resets => reset(&near),
                Door::Hangs => {
                    thread::sleep(PATIENCE);
                    Ok(())
                }
                Door::Refuses | Door::Ignores | Door::Closes => near.shutdown(Shutdown::Both),
            };
        }
        match self.protocol {
            FaultProtocol::Http1 => exchange::serve(self, &near),
            FaultProtocol::Http2 => frames::serve(self, &near),
            FaultProtocol::Bytes => stream::serve(self, &near),
        }
    }
}

/// An address that nobody else takes while it is closed: of this process's own part of the loopback network.
fn own_port() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    let ip = [127, 100 + (std::process::id() % 100) as u8, (number / 250) as u8, 1 + (number % 250) as u8];
    SocketAddr::from((ip, free_port().port()))
}

/// How long something hangs at most, so that a failing test ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Closes the connection with RST, when it is dropped.
fn reset(stream: &TcpStream) -> io::Result<()> {
    // With no time to linger, closing sends RST.
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Says nothing until the other side ends.
fn hang(mut stream: &TcpStream) {
    let mut block = [0; 4096];
    while matches!(stream.read(&mut block), Ok(1..)) {}
}

/// A listening socket whose queue is full, so that it does not answer SYN.
fn full_queue(address: SocketAddr) -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there can be a socket");
    socket.set_reuse_address(true).expect("an address can be used again");
    socket.bind(&address.into()).expect("the port is free again");
    socket.listen(1).expect("a socket can listen");
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue has no end");
    }
    (socket, queue)
}
