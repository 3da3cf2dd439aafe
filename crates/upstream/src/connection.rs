//! Getting a connection: one that rests, one that is shared, or a new one.

use crate::caps::Cap;
use crate::endpoint::{Endpoint, Level};
use crate::lease::{Lease, Wire};
use crate::outbound::Outcome;
use crate::pool::{self, Kept};
use crate::supervision::{Admission, Slot};
use crate::upstream::Group;
use crate::{Protocol, Upstream};
use portcullis_http::{Framing, RequestHead, UpstreamFailure};
use portcullis_wire::client::{ClientSettings, Http1Connection, Http2Connection};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout;

/// Begins an exchange with this endpoint, which was chosen at `began`, over a connection that has served before only where
/// `reuse` says so. A failure is reported to the endpoint.
///
/// # Errors
/// [`UpstreamFailure`] where no connection is to be had; nothing was sent then.
pub(crate) async fn lease(
    upstream: &Upstream,
    endpoint: &Arc<Endpoint>,
    mut admission: Admission,
    head: &RequestHead,
    framing: Framing,
    reuse: bool,
    began: Instant,
) -> Result<Lease, UpstreamFailure> {
    let (group, client) = (&*upstream.group, &*upstream.client);
    let in_flight = (endpoint.gauge(Level::InFlight), group.in_flight());
    let connecting = pin!(async {
        match group.protocol {
            Protocol::Http1 => http1(group, client, endpoint, reuse.then_some(began)).await,
            Protocol::Http2 => http2(group, endpoint).await,
        }
    });
    let connected = match upstream.retry.per_try_timeout {
        None => connecting.await,
        Some(limit) => timeout(limit, connecting).await.unwrap_or(Err(UpstreamFailure::ConnectTimeout)),
    };
    let begun = connected
        .and_then(|(connection, reused)| Ok((connection.begin(head, framing, client)?, reused)))
        .inspect_err(|failure| {
            let (outcome, took) = (Outcome::Unreachable(*failure), began.elapsed());
            endpoint.report(outcome, took);
            admission.report(endpoint, outcome, took);
        });
    let (wire, reused) = begun?;
    if let Wire::Http2(_, generation) = &wire {
        pool::enter(endpoint, *generation);
    }
    Ok(Lease::new(wire, endpoint, group.keep, reused, in_flight, admission, began))
}

async fn http1(
    group: &Group,
    client: &ClientSettings,
    endpoint: &Arc<Endpoint>,
    reuse: Option<Instant>,
) -> Result<(Connection, bool), UpstreamFailure> {
    if let Some(now) = reuse
        && let Some(kept) = pool::take(endpoint, now)
    {
        endpoint.note_reuse();
        return Ok((Connection::Http1(kept), true));
    }
    // On the heap, so that exchanges over connections that rest need no room for it.
    Box::pin(open(group, client, endpoint, reuse.is_some())).await
}

async fn open(
    group: &Group,
    client: &ClientSettings,
    endpoint: &Arc<Endpoint>,
    reuse: bool,
) -> Result<(Connection, bool), UpstreamFailure> {
    let slot = match place(group, endpoint, reuse).await? {
        Place::Free(slot) => slot,
        Place::Kept(kept) => {
            endpoint.note_reuse();
            return Ok((Connection::Http1(kept), true));
        }
    };
    let io = group.connector.open(endpoint).await?;
    endpoint.note_connect();
    let connection = Box::new(Http1Connection::new(io, client));
    let kept = Kept { connection, uses: 0, _open: endpoint.gauge(Level::Open), slot };
    Ok((Connection::Http1(kept), false))
}

/// What to go on with where connections are counted.
enum Place {
    /// A new connection may be opened.
    Free(Option<Slot>),
    /// Another exchange has left one.
    Kept(Kept),
}

/// A place for a new connection. Where there are as many as may be, the request waits for one, as long as connecting
/// may take.
async fn place(group: &Group, endpoint: &Arc<Endpoint>, reuse: bool) -> Result<Place, UpstreamFailure> {
    let supervision = &group.supervision;
    if let Ok(slot) = supervision.slot(endpoint) {
        return Ok(Place::Free(slot));
    }
    let lasting = &supervision.lasting;
    lasting.load.note_overflow(Cap::Connections);
    pool::close_resting(lasting);
    let pending = lasting.load.take(Cap::Pending, &supervision.caps);
    let _pending = pending.ok_or(UpstreamFailure::Overflow)?;
    let _waiting = reuse.then(|| pool::Waiting::new(endpoint));
    let wait = async {
        loop {
            let mut freed = pin!(lasting.freed.notified());
            // From here on nothing that is freed is missed.
            freed.as_mut().enable();
            if reuse && let Some(kept) = pool::take(endpoint, Instant::now()) {
                return Place::Kept(kept);
            }
            if let Ok(slot) = supervision.slot(endpoint) {
                return Place::Free(slot);
            }
            freed.await;
        }
    };
    timeout(group.connector.limit, wait).await.map_err(|_| UpstreamFailure::Overflow)
}

/// The shared connection, or a new one that is shared from then on; whoever comes while it is opened waits for it.
async fn http2(group: &Group, endpoint: &Arc<Endpoint>) -> Result<(Connection, bool), UpstreamFailure> {
    if let Some(found) = shared(group, endpoint).await {
        return Ok((found, true));
    }
    Box::pin(open_shared(group, endpoint)).await
}

async fn open_shared(group: &Group, endpoint: &Arc<Endpoint>) -> Result<(Connection, bool), UpstreamFailure> {
    let (limit, supervision) = (group.connector.limit, &group.supervision);
    // Where the opener waits for a place, whoever waits for the opener does so as well.
    let pending = if pool::is_waited_for(endpoint) {
        Some(
            supervision
                .lasting
                .load
                .take(Cap::Pending, &supervision.caps)
                .ok_or(UpstreamFailure::Overflow)?,
        )
    } else {
        None
    };
    let opening = pool::opening(endpoint);
    let Ok(permit) = timeout(limit, opening.acquire()).await else {
        return Err(if pending.is_some() {
            UpstreamFailure::Overflow
        } else {
            UpstreamFailure::ConnectTimeout
        });
    };
    drop(pending);
    if let Some(found) = shared(group, endpoint).await {
        return Ok((found, true));
    }
    let waiting = pool::Waiting::new(endpoint);
    let place = place(group, endpoint, false).await;
    drop(waiting);
    let slot = match place? {
        Place::Free(slot) => slot.map(Arc::new),
        // Only connections of HTTP/1 rest.
        Place::Kept(_) => return Err(UpstreamFailure::Overflow),
    };
    let watched = slot.as_ref().map(Arc::downgrade).unwrap_or_default();
    let io = group.connector.open(endpoint).await?;
    // It counts as long as it is open, also when no new exchange begins on it any more.
    let opening = Http2Connection::open_with(io, (endpoint.gauge(Level::Open), slot));
    let connection = timeout(limit, opening).await.map_err(|_| UpstreamFailure::ConnectTimeout)??;
    endpoint.note_connect();
    let generation = pool::share(endpoint, &connection, watched, group.keep.limit);
    drop(permit);
    Ok((Connection::Http2(connection, generation), false))
}

async fn shared(group: &Group, endpoint: &Arc<Endpoint>) -> Option<Connection> {
    let (mut connection, generation) = pool::shared(endpoint)?;
    if let Ok(Ok(())) = timeout(group.connector.limit, connection.ready()).await {
        endpoint.note_reuse();
        return Some(Connection::Http2(connection, generation));
    }
    pool::unshare(endpoint, generation);
    None
}

/// A connection that an exchange may begin on.
enum Connection {
    Http1(Kept),
    Http2(Http2Connection, u64),
}

impl Connection {
    fn begin(
        self,
        head: &RequestHead,
        framing: Framing,
        settings: &ClientSettings,
    ) -> Result<Wire, UpstreamFailure> {
        match self {
            Connection::Http1(mut kept) => {
                kept.uses += 1;
                kept.connection.begin(head, framing, settings);
                Ok(Wire::Http1(kept))
            }
            Connection::Http2(mut connection, generation) => {
                let call = connection.begin(head, framing, settings)?;
                Ok(Wire::Http2(Box::new(call), generation))
            }
        }
    }
}
