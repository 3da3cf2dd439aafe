//! Leaving an address to another process that listens on it, without a connection that is reset.
//!
//! Sockets that share an address (`SO_REUSEPORT`) have a queue each, and the kernel chooses one for a connection when it
//! begins. What waits at a socket that is closed is reset, though the others would take it (unless
//! `net.ipv4.tcp_migrate_req` is set). So, before any is closed, new connections are sent to the sockets of the others;
//! then what has begun is taken, and what would still begin here is not answered, so that it is repeated and comes to
//! another socket.

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{SockFilter, SockRef};
use std::io;
use std::net::TcpListener;
use std::time::Duration;

/// How long sockets are still listened on once new connections go to others: a handshake that has begun takes a round trip.
pub(crate) const ROUND_TRIP: Duration = Duration::from_millis(500);

/// Instructions of the classic packet filter (`linux/bpf_common.h`): load the byte at `k`, and it with `k`, skip by
/// whether it is `k`, return `k`.
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const SKIP_IF: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Where the flags stand in a TCP header, and those that tell the first packet of a connection: SYN without ACK.
const FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const SYN_OR_ACK: u32 = 0x12;

/// No socket has this place, so that the kernel chooses as if nobody had said anything.
const ANY: u32 = u32::MAX;

/// The addresses of a process that ends. Each thread keeps it until its own sockets are closed.
#[derive(Debug, Default)]
pub(crate) struct Handover(Vec<Group>);

/// The sockets of one address.
#[derive(Debug)]
struct Group {
    /// One of ours.
    socket: TcpListener,
    /// How many of ours there are. Those of a process that came later stand behind them.
    ours: u32,
}

impl Handover {
    /// Adds an address by one of the sockets that this process has bound to it, `ours` in all.
    ///
    /// # Errors
    /// When descriptors are short.
    pub(crate) fn add(&mut self, socket: &TcpListener, ours: usize) -> io::Result<()> {
        let ours = u32::try_from(ours).unwrap_or(ANY);
        self.0.push(Group { socket: socket.try_clone()?, ours });
        Ok(())
    }

    /// Sends new connections to the sockets of other processes, where there are any.
    pub(crate) fn begin(&self) {
        for group in &self.0 {
            if let Err(error) = choose(&group.socket, group.ours) {
                tracing::debug!(%error, "new connections still come to this process's sockets");
            }
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        // The choice belongs to the address and would outlive us.
        for group in &self.0 {
            let _ = choose(&group.socket, ANY);
        }
    }
}

/// Has the kernel hand new connections to the socket at this place of its address; to any if there is none.
fn choose(socket: &TcpListener, place: u32) -> io::Result<()> {
    let mut program = [sock_filter { code: RETURN, jt: 0, jf: 0, k: place }];
    let program = sock_fprog { len: 1, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}

/// Leaves the first packets of new connections to a socket unanswered. The client's kernel repeats them after a second,
/// when this socket is gone.
///
/// # Errors
/// When the kernel has no such filters.
pub(crate) fn ignore_new(socket: &TcpListener) -> io::Result<()> {
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN_OR_ACK),
        SockFilter::new(SKIP_IF, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, ANY),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::bind;
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpStream};

    fn taken(socket: &TcpListener) -> usize {
        std::iter::from_fn(|| socket.accept().ok()).count()
    }

    #[test]
    fn new_connections_go_to_the_sockets_that_came_later_and_then_to_any() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = first.local_addr().unwrap();
        let ours = [first, bind(address).unwrap()];
        let later = bind(address).unwrap();
        let mut handover = Handover::default();
        handover.add(&ours[0], ours.len()).unwrap();
        handover.begin();
        let clients: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_eq!((taken(&ours[0]), taken(&ours[1]), taken(&later)), (0, 0, clients.len()));
        drop(handover);
        let clients: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
        let at_ours = taken(&ours[0]) + taken(&ours[1]);
        assert!(at_ours > 0 && at_ours + taken(&later) == clients.len(), "{at_ours}");
    }

    #[test]
    fn a_connection_to_a_socket_that_ignores_them_does_not_begin_and_what_has_begun_is_taken() {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket.local_addr().unwrap();
        let _before = TcpStream::connect(address).unwrap();
        ignore_new(&socket).unwrap();
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(taken(&socket), 1);
    }
}
