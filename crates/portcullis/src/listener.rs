//! Sockets: binding them, taking connections, and what a connection passes before its first request.

use crate::arrival::{self, Arrival};
use crate::connection::Connection;
use crate::handover;
use crate::pipeline::Gateway;
use crate::snapshot::{ListenerPlan, Snapshots};
use crate::tls::Opened;
use portcullis_http::Scheme;
use portcullis_limits::Slot;
use portcullis_telemetry::{HandshakeFailure, InFlight};
use portcullis_wire::server::{Drain, serve};
use socket2::{Domain, Socket, Type};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that wait in the kernel for each socket.
const BACKLOG: i32 = 1024;
/// How long to wait when there are no file descriptors left.
const BREATHER: Duration = Duration::from_millis(50);
/// What waits unsent in the kernel before a socket takes no more, and what is handed to it at once. Who reads slowly then
/// holds little of the kernel's memory, and that it reads at all shows soon: without this a socket takes more only when a
/// third of its buffer, which may be megabytes, has left.
pub(crate) const UNSENT: u16 = 16 * 1024;

/// Binds an address for one of several threads: the kernel spreads connections over all sockets of it.
///
/// # Errors
/// When the address is taken by another process, or may not be bound.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    limit_unsent(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Bounds what waits unsent in the kernel at connections of this socket, which take it over.
///
/// # Errors
/// When the kernel has no such bound.
pub(crate) fn limit_unsent(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(UNSENT.into())
}

/// One thread's socket of a listener.
pub(crate) struct Listening {
    pub(crate) socket: std::net::TcpListener,
    /// Whether others hold the same socket: they take what waits at it when this process no longer does.
    pub(crate) inherited: bool,
    pub(crate) plan: Arc<ListenerPlan>,
}

/// Takes connections of one listener on one thread until it drains, and then all that wait.
pub(crate) async fn accept(listening: Listening, snapshots: Snapshots, drain: Drain) {
    let Listening { socket, inherited, plan } = listening;
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, listener = %plan.name, "a socket cannot be used"),
    };
    let Ok(local) = socket.local_addr() else { return };
    let connections = snapshots.current().shared.connections.clone();
    let mut reserve = Reserve::new();
    let mut told = drain.clone();
    let mut last_call = pin!(async {
        told.on().await;
        tokio::time::sleep(handover::ROUND_TRIP).await;
    });
    loop {
        let accepted = tokio::select! {
            biased;
            () = last_call.as_mut() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Settings may have changed since the socket was bound; a listener that is gone keeps its last ones.
                let plan = snapshots.current().listener(&plan.name).unwrap_or_else(|| plan.clone());
                // At most this one waits here; further ones wait in the kernel's queue, not in our memory. A permit
                // is taken only for a connection: one held in advance would be missing at the other sockets.
                let Some(permits) = Permits::acquire(&connections, &plan).await else { return };
                begin(stream, peer, local, permits, plan, &snapshots, &drain);
            }
            // The connection was gone before it was taken, or descriptors are short: either passes.
            Err(error) if is_transient(&error) => {}
            Err(_) => {
                plan.metrics.not_accepted.inc();
                reserve.turn_away(&socket).await;
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
    // The kernel's own word on what waits: the event loop may not have heard of it yet.
    let Ok(socket) = socket.into_std() else { return };
    if !inherited && let Err(error) = handover::ignore_new(&socket) {
        tracing::debug!(%error, listener = %plan.name, "connections that begin now may be reset");
    }
    loop {
        match socket.accept() {
            Ok((stream, peer)) => {
                let ready = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                let Some(permits) = Permits::acquire(&connections, &plan).await else { return };
                if let Ok(stream) = ready {
                    begin(stream, peer, local, permits, plan.clone(), &snapshots, &drain);
                }
            }
            Err(error) if is_transient(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Descriptors are short; connections that end give some back.
            Err(_) => tokio::time::sleep(BREATHER).await,
        }
    }
}

/// A descriptor that is kept for when there is no other left: then it is let go, and with it who waits longest learns
/// at once that there is no room, instead of waiting for an answer that nobody can give.
struct Reserve(Option<File>);

impl Reserve {
    fn new() -> Self {
        Reserve(File::open("/dev/null").ok())
    }

    async fn turn_away(&mut self, socket: &TcpListener) {
        if self.0.take().is_some()
            && let Some((stream, _)) = accepted_already(socket).await
        {
            reset(&stream);
        }
        *self = Reserve::new();
    }
}

/// Has a connection closed at once, without a farewell that the kernel would have to keep for it.
fn reset(stream: &TcpStream) {
    // A socket that refuses this is closed all the same.
    let _ = stream.set_zero_linger();
}

/// Leave for one connection: the process's, and the listener's where it has a limit of its own.
struct Permits {
    _process: OwnedSemaphorePermit,
    _listener: Option<OwnedSemaphorePermit>,
}

impl Permits {
    async fn acquire(connections: &Arc<Semaphore>, plan: &ListenerPlan) -> Option<Self> {
        // The listener's first: while it waits for its own, it takes nothing from others.
        let listener = match &plan.connections {
            Some(own) => Some(own.clone().acquire_owned().await.ok()?),
            None => None,
        };
        let process = connections.clone().acquire_owned().await.ok()?;
        Some(Permits { _process: process, _listener: listener })
    }
}

/// A connection that needs no waiting for.
async fn accepted_already(socket: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|cx| match socket.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn begin(
    mut stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    permits: Permits,
    plan: Arc<ListenerPlan>,
    snapshots: &Snapshots,
    drain: &Drain,
) {
    let (snapshots, drain) = (snapshots.clone(), drain.clone());
    let open = plan.metrics.connection();
    tokio::spawn(async move {
        let mut guard = Open { _permits: permits, _counted: open, _slot: None };
        let admitted = arrival::admit(&mut stream, (peer, local), &plan, &snapshots.current()).await;
        let Arrival { peer, local, slot } = match admitted {
            Ok(arrival) => arrival,
            Err(why) => {
                plan.metrics.refused(why);
                return reset(&stream);
            }
        };
        guard._slot = slot;
        // Small answers must not wait for an acknowledgement; a socket that refuses this still works.
        let _ = stream.set_nodelay(true);
        if let Some(Opened { io, protocol, server_name, certificate }) = open_stream(stream, &plan).await {
            let scheme = if plan.tls.is_some() { Scheme::Https } else { Scheme::Http };
            let (listener, tls) = (plan.name.clone(), plan.tls.clone());
            let connection = Connection { peer, local, scheme, server_name, certificate, tls, listener };
            let gateway = Gateway::new(snapshots, connection);
            serve(io, protocol, plan.settings.clone(), gateway, drain).await;
        }
        drop(guard);
    });
}

/// What an open connection holds, to be given back when it ends.
struct Open {
    _permits: Permits,
    _counted: InFlight,
    _slot: Option<Slot>,
}

/// The TLS handshake, where the listener has TLS.
async fn open_stream(stream: TcpStream, plan: &ListenerPlan) -> Option<Opened> {
    let Some(tls) = &plan.tls else {
        return Some(Opened::in_clear(stream));
    };
    let accepted = Instant::now();
    // Who says nothing at all is not waited for as long as who shakes hands slowly.
    let spoken = tokio::time::timeout(plan.settings.first_byte, stream.peek(&mut [0])).await;
    if spoken.is_err() {
        plan.metrics.handshake_failed(HandshakeFailure::Timeout);
        return None;
    }
    let left = plan.handshake.saturating_sub(accepted.elapsed());
    match tokio::time::timeout(left, tls.handshake(stream)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(why)) => {
            plan.metrics.handshake_failed(why);
            None
        }
        Err(_) => {
            plan.metrics.handshake_failed(HandshakeFailure::Timeout);
            None
        }
    }
}
