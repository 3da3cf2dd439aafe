//! Sockets: binding them, taking connections, and what a connection passes before its first request.

use crate::arrival::{self, Arrival};
use crate::connection::Connection;
use crate::handover;
use crate::pipeline::Gateway;
use crate::snapshot::{ListenerPlan, Snapshots};
use crate::tls::{Opened, TlsPlan};
use portcullis_http::Scheme;
use portcullis_limits::Slot;
use portcullis_telemetry::{ConnectionRefusal, HandshakeFailure, InFlight};
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
    inherit_options(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets what connections of this socket take over from it: what waits unsent in the kernel is bounded, and small answers
/// do not wait for an acknowledgement.
///
/// # Errors
/// When the kernel has no such option.
pub(crate) fn inherit_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
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
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    permits: Permits,
    plan: Arc<ListenerPlan>,
    snapshots: &Snapshots,
    drain: &Drain,
) {
    let open = Open { _permits: permits, _counted: plan.metrics.connection(), _slot: None };
    let accepted = Accepted { open, plan, snapshots: snapshots.clone(), drain: drain.clone() };
    if accepted.plan.proxy.is_some() || accepted.plan.tls.is_some() {
        // What it may wait for before its first request is on the heap, so that one that waits for requests is small.
        let opened = Box::pin(open_stream(stream, peer, local, accepted));
        tokio::spawn(async move {
            if let Some(serving) = opened.await {
                serving.await;
            }
        });
        return;
    }
    match arrival::admit((peer, local), &accepted.plan, &accepted.snapshots.current()) {
        Ok(arrival) => {
            tokio::spawn(accepted.serve(Opened::in_clear(stream), arrival));
        }
        Err(why) => accepted.refuse(&stream, why),
    }
}

/// A connection that was just taken.
struct Accepted {
    open: Open,
    plan: Arc<ListenerPlan>,
    snapshots: Snapshots,
    drain: Drain,
}

impl Accepted {
    /// Serves it to its end.
    fn serve(self, opened: Opened, arrival: Arrival) -> impl Future<Output = ()> + Send + use<> {
        let Accepted { mut open, plan, snapshots, drain } = self;
        let Opened { io, protocol, server_name, certificate } = opened;
        let Arrival { peer, local, slot } = arrival;
        open._slot = slot;
        let scheme = if plan.tls.is_some() { Scheme::Https } else { Scheme::Http };
        let (listener, tls) = (plan.name.clone(), plan.tls.clone());
        let connection = Connection { peer, local, scheme, server_name, certificate, tls, listener };
        let gateway = Gateway::new(snapshots, connection);
        serve(io, protocol, plan.settings.clone(), gateway, drain, open)
    }

    fn refuse(&self, stream: &TcpStream, why: ConnectionRefusal) {
        self.plan.metrics.refused(why);
        reset(stream);
    }
}

/// What an open connection holds, to be given back when it ends.
struct Open {
    _permits: Permits,
    _counted: InFlight,
    _slot: Option<Slot>,
}

/// What a connection passes before its first request, where that takes its time; then how it is served.
async fn open_stream(
    mut stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    accepted: Accepted,
) -> Option<impl Future<Output = ()> + Send> {
    let snapshot = accepted.snapshots.current();
    let admitted = arrival::admit_announced(&mut stream, (peer, local), &accepted.plan, &snapshot).await;
    drop(snapshot);
    let arrival = match admitted {
        Ok(arrival) => arrival,
        Err(why) => {
            accepted.refuse(&stream, why);
            return None;
        }
    };
    let plan = &accepted.plan;
    let opened = match &plan.tls {
        None => Opened::in_clear(stream),
        Some(tls) => shake_hands(stream, plan, tls).await?,
    };
    Some(accepted.serve(opened, arrival))
}

/// The TLS handshake.
async fn shake_hands(stream: TcpStream, plan: &ListenerPlan, tls: &TlsPlan) -> Option<Opened> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_wire::server::connection_size;

    fn future_size<A, B, C, F: Future>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// A task holds as much as the largest thing that it may wait for. Of connections that wait for requests there are
    /// many thousands: what they may come to wait for, and is large, has to be on the heap while they do.
    #[test]
    fn a_connection_that_waits_for_requests_is_small() {
        let task = future_size(|accepted: Accepted, opened, arrival| accepted.serve(opened, arrival));
        let connection = connection_size::<Gateway>();
        assert!(task + connection <= 1000, "{task} bytes of a task and {connection} of a connection");
    }
}
