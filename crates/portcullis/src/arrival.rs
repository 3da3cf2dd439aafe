//! What a connection passes before anything of its client's is read: room in memory, the PROXY protocol's header, and a
//! place among those of its address.

use crate::shared::Shared;
use crate::snapshot::{ListenerPlan, Snapshot};
use portcullis_http::TrustedProxies;
use portcullis_limits::{AddressSet, Partition, Slot};
use portcullis_telemetry::ConnectionRefusal;
use portcullis_wire::proxy::{self, Announced};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Who may announce clients, and how long that may take.
#[derive(Debug)]
pub(crate) struct ProxyPlan {
    pub(crate) from: AddressSet,
    pub(crate) timeout: Duration,
}

/// A connection that may be served.
pub(crate) struct Arrival {
    /// The client, as far as is known.
    pub(crate) peer: SocketAddr,
    /// What it connected to.
    pub(crate) local: SocketAddr,
    /// Its place among those of its address.
    pub(crate) slot: Option<Slot>,
}

/// Lets a connection in of which it is known whose it is, or says why not.
pub(crate) fn admit(
    (peer, local): (SocketAddr, SocketAddr),
    plan: &ListenerPlan,
    snapshot: &Snapshot,
) -> Result<Arrival, ConnectionRefusal> {
    if !snapshot.shared.memory.admits_connections() {
        return Err(ConnectionRefusal::Memory);
    }
    let slot = place(&snapshot.shared, plan, &snapshot.trusted_proxies, peer)?;
    Ok(Arrival { peer, local, slot })
}

/// Lets a connection in that a load balancer announces, where the listener has such, or says why not.
pub(crate) async fn admit_announced(
    stream: &mut TcpStream,
    (peer, local): (SocketAddr, SocketAddr),
    plan: &ListenerPlan,
    snapshot: &Snapshot,
) -> Result<Arrival, ConnectionRefusal> {
    let ends = match &plan.proxy {
        None => (peer, local),
        // Not even its header is read where there is no room for it.
        Some(_) if !snapshot.shared.memory.admits_connections() => return Err(ConnectionRefusal::Memory),
        Some(proxy) => announced(stream, peer, local, proxy).await?,
    };
    admit(ends, plan, snapshot)
}

/// The client whom a load balancer announces. Other peers could announce anybody, so they are none of this listener's.
async fn announced(
    stream: &mut TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    plan: &ProxyPlan,
) -> Result<(SocketAddr, SocketAddr), ConnectionRefusal> {
    if !plan.from.contains(peer.ip()) {
        return Err(ConnectionRefusal::ProxyPeer);
    }
    match tokio::time::timeout(plan.timeout, read_header(stream)).await {
        Ok(Some(Announced::Client { source, destination })) => Ok((source, destination)),
        Ok(Some(Announced::Own)) => Ok((peer, local)),
        Ok(None) => Err(ConnectionRefusal::ProxyHeader),
        Err(_) => Err(ConnectionRefusal::ProxyTimeout),
    }
}

/// Takes the header off the stream, and not a byte more: what follows is TLS' or HTTP's to read.
async fn read_header(stream: &mut TcpStream) -> Option<Announced> {
    let mut bytes = vec![0; proxy::MAX_V2];
    let mut read = 0;
    loop {
        let peeked = stream.peek(bytes.get_mut(read..)?).await.ok().filter(|count| *count > 0)?;
        let verdict = proxy::read(bytes.get(..read + peeked)?).ok()?;
        // All that was seen is the header's as long as it has not ended.
        let end = verdict.map_or(read + peeked, |(_, length)| length);
        stream.read_exact(bytes.get_mut(read..end)?).await.ok()?;
        read = end;
        if let Some((announced, _)) = verdict {
            return Some(announced);
        }
    }
}

/// A place among the connections of one client, where the listener counts them. Proxies that are trusted to say who
/// their clients are have many.
fn place(
    shared: &Shared,
    plan: &ListenerPlan,
    trusted: &TrustedProxies,
    peer: SocketAddr,
) -> Result<Option<Slot>, ConnectionRefusal> {
    let Some(limit) = plan.per_address else { return Ok(None) };
    if trusted.contains(peer.ip()) {
        return Ok(None);
    }
    let places = shared.connections_by_address(&plan.name, limit);
    places.enter_as(&Partition::of_address(peer.ip())).map(Some).ok_or(ConnectionRefusal::AddressLimit)
}
