//! A backend that speaks HTTP/2 frame by frame, so that it can break every rule of it.

use crate::frames::{FrameStep, frame_steps};
use crate::h2client::PREFACE;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a good answer is.
const GOOD: [&str; 5] =
    ["> HEADERS {n} EH", ":status = 200", "content-length = 5", "> DATA {n} ES", "\"clean\""];

/// A backend on `127.0.0.1` that answers each request by a script of frames (`tests/data/origin/README.md`) while it is
/// hostile, and properly else. It answers when a request's head is whole, and does not read requests: its scripts name
/// their stream `{n}`.
pub struct FrameOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Vec<String>,
    hostile: AtomicBool,
    connections: AtomicUsize,
    requests: AtomicUsize,
    stopped: AtomicBool,
    open: Mutex<Vec<Weak<TcpStream>>>,
}

impl FrameOrigin {
    /// Starts one that is not hostile yet. A script with the line `bare` sends no SETTINGS; then `first` lines, up to the
    /// line `request`, are what it says to a connection before any request.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(script: &[String]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("an origin can listen on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: script.to_vec(),
            hostile: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if theirs.stopped.load(Ordering::SeqCst) {
                    return;
                }
                theirs.connections.fetch_add(1, Ordering::SeqCst);
                let (stream, shared) = (Arc::new(stream), Arc::clone(&theirs));
                shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&stream));
                thread::spawn(move || {
                    // A connection that ends in an error is a thing that scripts do, not a failure of the test.
                    let _ = shared.talk(&stream);
                });
            }
        });
        FrameOrigin { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it follows its script from now on.
    pub fn be_hostile(&self, hostile: bool) {
        self.shared.hostile.store(hostile, Ordering::SeqCst);
    }

    /// How many connections were made.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many requests came.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for FrameOrigin {
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
    fn talk(&self, mut socket: &TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let hostile = self.hostile.load(Ordering::SeqCst);
        let at = self.script.iter().position(|line| line == "request");
        let first = at.map(|at| &self.script[..at]).filter(|_| hostile).unwrap_or_default();
        if !first.iter().any(|line| line == "bare") {
            socket.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])?;
        }
        let mut preface = [0; PREFACE.len()];
        socket.read_exact(&mut preface)?;
        if !play(first.iter().map(String::as_str), 0, socket)? {
            return Ok(());
        }
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length as usize];
            socket.read_exact(&mut payload)?;
            match (head[3], head[4]) {
                (SETTINGS, flags) if flags & ACK == 0 => {
                    socket.write_all(&[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0])?;
                }
                (PING, flags) if flags & ACK == 0 => {
                    socket.write_all(&[&[0, 0, 8, PING, ACK, 0, 0, 0, 0], &payload[..]].concat())?;
                }
                (HEADERS | CONTINUATION, flags) if flags & END_HEADERS != 0 => {
                    self.requests.fetch_add(1, Ordering::SeqCst);
                    let goes_on = if self.hostile.load(Ordering::SeqCst) {
                        let script = self.script.get(at.map_or(0, |at| at + 1)..).unwrap_or_default();
                        play(script.iter().map(String::as_str), stream, socket)?
                    } else {
                        play(GOOD.into_iter(), stream, socket)?
                    };
                    if !goes_on {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }
}

/// Follows a script; whether the connection goes on.
fn play<'a>(script: impl Iterator<Item = &'a str>, stream: u32, mut socket: &TcpStream) -> io::Result<bool> {
    let lines: Vec<String> = script
        .filter(|line| !matches!(*line, "bare"))
        .map(|line| line.replace("{n}", &stream.to_string()).replace("{m}", &(stream + 2).to_string()))
        .collect();
    for step in frame_steps(lines.iter().map(String::as_str), "http") {
        match step {
            FrameStep::Send(bytes) => socket.write_all(&bytes)?,
            FrameStep::Other(line) => match line.split_once(' ').unwrap_or((&line, "")) {
                ("pause", time) => {
                    thread::sleep(Duration::from_millis(time.parse().expect("milliseconds")));
                }
                ("close", _) => {
                    socket.shutdown(Shutdown::Both)?;
                    return Ok(false);
                }
                ("reset", _) => {
                    // With no time to linger, closing sends RST.
                    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
                    return Ok(false);
                }
                _ => panic!("what is `{line}`?"),
            },
        }
    }
    Ok(true)
}
