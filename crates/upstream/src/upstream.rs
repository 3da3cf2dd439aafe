//! One call out.

use crate::balance::Balancer;
use crate::connect::Connector;
use crate::endpoint::{Endpoint, Level};
use crate::lease::{Keep, Lease, Outgoing, Wire};
use crate::pool::{self, Kept};
use crate::{EndpointStats, Protocol, SettingsError, TlsSettings, UpstreamSettings};
use bytes::Bytes;
use portcullis_http::{Framing, RequestHead, ResponseHead, UpstreamFailure};
use portcullis_wire::client::{ClientSettings, Http1Connection, Http2Connection};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Endpoints that one call may try to connect to.
const MAX_ATTEMPTS: usize = 3;

/// A named group of endpoints that serve the same. Clones share all state.
///
/// All futures of one upstream's calls, and the leases they yield, stay on the runtime that they began on: a
/// current-thread runtime.
#[derive(Clone, Debug)]
pub struct Upstream {
    group: Arc<Group>,
    client: Arc<ClientSettings>,
}

#[derive(Debug)]
struct Group {
    name: String,
    protocol: Protocol,
    tls: Option<TlsSettings>,
    connector: Connector,
    endpoints: Box<[Arc<Endpoint>]>,
    balancer: Balancer,
    keep: Keep,
}

impl Upstream {
    /// Makes an upstream. `previous` is the one of the same name that it takes the place of: where protocol and TLS
    /// are the same too, endpoints that stay keep their connections and counters. Those that go lose their idle
    /// connections within about a second of the last use of `previous`.
    ///
    /// # Errors
    /// [`SettingsError`] where the settings make no upstream; `previous` is as it was then.
    pub fn new(settings: UpstreamSettings, previous: Option<&Upstream>) -> Result<Self, SettingsError> {
        let UpstreamSettings { name, endpoints: wanted, balance, protocol, tls, .. } = settings;
        let previous = previous
            .map(|upstream| &*upstream.group)
            .filter(|group| group.name == name && group.protocol == protocol && group.tls == tls);
        let config = match (&tls, previous) {
            (None, _) => None,
            // Its sessions can be resumed.
            (Some(_), Some(previous)) => previous.connector.tls.clone(),
            (Some(tls), None) => Some(tls.client_config(&name, protocol)?),
        };
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::with_capacity(wanted.len());
        for endpoint in &wanted {
            let address = endpoint.address();
            let is_it = |known: &&Arc<Endpoint>| known.address == address;
            if endpoints.iter().find(is_it).is_some() {
                return Err(SettingsError::DuplicateEndpoint { upstream: name, address });
            }
            endpoints.push(match previous.and_then(|group| group.endpoints.iter().find(is_it)) {
                Some(known) => Arc::clone(known),
                None => {
                    let proof = tls.as_ref().map(|tls| tls.server_name(&name, &endpoint.host)).transpose()?;
                    Arc::new(Endpoint::new(endpoint, proof))
                }
            });
        }
        let group = Group {
            name,
            protocol,
            tls,
            connector: Connector {
                limit: settings.connect_timeout,
                tls: config,
                http2: protocol == Protocol::Http2,
            },
            endpoints: endpoints.into(),
            balancer: Balancer::new(balance, wanted.iter().map(|endpoint| endpoint.weight)),
            keep: Keep {
                most: settings.max_idle_connections,
                limit: settings.idle_connection_timeout,
                uses: settings.max_uses,
            },
        };
        Ok(Upstream { group: Arc::new(group), client: Arc::new(settings.client) })
    }

    /// The same upstream, pools and counters, with another deadline for the answer's head: a route's own.
    #[must_use]
    pub fn with_response_timeout(&self, response: Duration) -> Self {
        let client = ClientSettings { response, ..(*self.client).clone() };
        Upstream { group: Arc::clone(&self.group), client: Arc::new(client) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.group.name
    }

    /// What its gauges and counters say, endpoint by endpoint in the order of configuration.
    pub fn stats(&self) -> impl Iterator<Item = EndpointStats> + '_ {
        self.group.endpoints.iter().map(|endpoint| endpoint.stats())
    }

    /// Begins an exchange whose request body, framed so, the caller will push into the lease while it asks it for the
    /// answer. Nothing is repeated: for a request without a body, or with one at hand, [`Upstream::send`] is better.
    ///
    /// Bounded by three times the connect timeout.
    ///
    /// # Errors
    /// [`UpstreamFailure`] where no connection is to be had; the last one's.
    pub async fn start(&self, head: &RequestHead, framing: Framing) -> Result<Lease, UpstreamFailure> {
        self.begin(head, framing, true).await
    }

    /// Sends a request with the whole of its body and reads the answer's head into `answer`; the lease then yields
    /// the answer's body. `None` sends no body and no `Content-Length`; an empty body sends a length of 0.
    ///
    /// An idempotent request that a reused connection loses before any of the answer is heard is sent once more,
    /// over a new connection.
    ///
    /// # Errors
    /// [`UpstreamFailure`]; nothing of the exchange is left then.
    pub async fn send(
        &self,
        head: &RequestHead,
        body: Option<&Bytes>,
        answer: &mut ResponseHead,
    ) -> Result<Lease, UpstreamFailure> {
        let framing = body.map_or(Framing::None, |body| Framing::Length(body.len() as u64));
        let mut lease = self.begin(head, framing, true).await?;
        match transact(&mut lease, body, answer).await {
            Ok(()) => return Ok(lease),
            Err(UpstreamFailure::Closed) if lease.may_repeat(head) => {}
            Err(failure) => return Err(failure),
        }
        tracing::debug!(upstream = %self.group.name, endpoint = lease.endpoint(), "a reused connection was dead");
        lease.abandon();
        let mut lease = self.begin(head, framing, false).await?;
        transact(&mut lease, body, answer).await?;
        Ok(lease)
    }

    /// Gets a connection, wherever one is to be had, and begins the exchange on it.
    async fn begin(
        &self,
        head: &RequestHead,
        framing: Framing,
        reuse: bool,
    ) -> Result<Lease, UpstreamFailure> {
        let group = &*self.group;
        let mut tried = [usize::MAX; MAX_ATTEMPTS];
        let mut failure = UpstreamFailure::NoEndpoint;
        for attempt in 0..MAX_ATTEMPTS {
            let Some(index) = group.balancer.choose(&group.endpoints, &tried) else { break };
            let Some(endpoint) = group.endpoints.get(index) else { break };
            if let Some(slot) = tried.get_mut(attempt) {
                *slot = index;
            }
            let in_flight = endpoint.gauge(Level::InFlight);
            let connected = match group.protocol {
                Protocol::Http1 => self.http1(endpoint, reuse).await,
                Protocol::Http2 => self.http2(endpoint).await,
            };
            match connected {
                Ok((connection, reused)) => {
                    let wire = connection.begin(head, framing, &self.client)?;
                    return Ok(Lease::new(wire, endpoint, group.keep, reused, in_flight));
                }
                Err(why) => {
                    tracing::debug!(upstream = %group.name, endpoint = %endpoint.address, why = why.as_str(), "no connection");
                    endpoint.note_connect_failure();
                    failure = why;
                }
            }
        }
        Err(failure)
    }

    async fn http1(
        &self,
        endpoint: &Arc<Endpoint>,
        reuse: bool,
    ) -> Result<(Connection, bool), UpstreamFailure> {
        if reuse && let Some(kept) = pool::take(endpoint) {
            endpoint.note_reuse();
            return Ok((Connection::Http1(kept), true));
        }
        let io = self.group.connector.open(endpoint).await?;
        endpoint.note_connect();
        let connection = Box::new(Http1Connection::new(io, &self.client));
        Ok((Connection::Http1(Kept { connection, uses: 0, _open: endpoint.gauge(Level::Open) }), false))
    }

    /// The shared connection, or a new one that is shared from then on; whoever comes while it is opened waits for it.
    async fn http2(&self, endpoint: &Arc<Endpoint>) -> Result<(Connection, bool), UpstreamFailure> {
        if let Some(found) = self.shared(endpoint).await {
            return Ok((found, true));
        }
        let limit = self.group.connector.limit;
        let opening = pool::opening(endpoint);
        let Ok(permit) = timeout(limit, opening.acquire()).await else {
            return Err(UpstreamFailure::ConnectTimeout);
        };
        if let Some(found) = self.shared(endpoint).await {
            return Ok((found, true));
        }
        let io = self.group.connector.open(endpoint).await?;
        let connection = timeout(limit, Http2Connection::open(io))
            .await
            .map_err(|_| UpstreamFailure::ConnectTimeout)??;
        endpoint.note_connect();
        let generation = pool::share(endpoint, &connection, self.group.keep.limit);
        drop(permit);
        Ok((Connection::Http2(connection, generation), false))
    }

    async fn shared(&self, endpoint: &Arc<Endpoint>) -> Option<Connection> {
        let (mut connection, generation) = pool::shared(endpoint)?;
        if let Ok(Ok(())) = timeout(self.group.connector.limit, connection.ready()).await {
            endpoint.note_reuse();
            return Some(Connection::Http2(connection, generation));
        }
        pool::unshare(endpoint, generation);
        None
    }
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

async fn transact(
    lease: &mut Lease,
    body: Option<&Bytes>,
    answer: &mut ResponseHead,
) -> Result<(), UpstreamFailure> {
    let mut outgoing = Outgoing::new(body);
    std::future::poll_fn(|cx| lease.poll_transact(cx, &mut outgoing, answer)).await
}
