//! A named group of endpoints.

use crate::balance::{Pick, StickyKey, StickyToken};
use crate::connect::Connector;
use crate::endpoint::{Counters, Endpoint, Gauge, Level};
use crate::lease::Keep;
use crate::members::{Members, Terms};
use crate::{
    Balance, EndpointSettings, EndpointStats, Protocol, SettingsError, TlsSettings, UpstreamSettings,
};
use arc_swap::ArcSwap;
use portcullis_wire::client::ClientSettings;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// A named group of endpoints that serve the same. Clones share all state.
///
/// All futures of one upstream's calls, and the leases they yield, stay on the runtime that they began on: a
/// current-thread runtime.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub(crate) group: Arc<Group>,
    pub(crate) client: Arc<ClientSettings>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    tls: Option<TlsSettings>,
    balance: Balance,
    sticky: Option<StickyKey>,
    /// Counts what is under way at all endpoints, where loads are bounded by it.
    load: Option<Arc<Counters>>,
    pub(crate) connector: Connector,
    members: ArcSwap<Members>,
    pub(crate) keep: Keep,
}

impl Group {
    /// The endpoint for one try.
    pub(crate) fn choose(&self, pick: &Pick<'_>) -> Option<Arc<Endpoint>> {
        let in_flight = self.load.as_ref().map_or(0, |load| load.in_flight());
        self.members.load().choose(&Pick { in_flight, ..*pick }).cloned()
    }

    /// Counts an exchange as under way until the answer is dropped.
    pub(crate) fn in_flight(&self) -> Option<Gauge> {
        self.load.as_ref().map(|load| load.gauge(Level::InFlight))
    }

    fn terms(&self) -> Terms<'_> {
        let Group { name, balance, tls, sticky, .. } = self;
        Terms { upstream: name, balance: *balance, tls: tls.as_ref(), sticky: sticky.as_ref() }
    }
}

impl Upstream {
    /// Makes an upstream. `previous` is the one of the same name that it takes the place of: where protocol and TLS
    /// are the same too, endpoints that stay keep their connections and counters. Those that go lose their idle
    /// connections within about a second of the last use of `previous`.
    ///
    /// # Errors
    /// [`SettingsError`] where the settings make no upstream; `previous` is as it was then.
    pub fn new(settings: UpstreamSettings, previous: Option<&Upstream>) -> Result<Self, SettingsError> {
        let UpstreamSettings { name, endpoints, balance, protocol, tls, sticky, .. } = settings;
        let previous = previous
            .map(|upstream| &*upstream.group)
            .filter(|group| group.name == name && group.protocol == protocol && group.tls == tls);
        let config = match (&tls, previous) {
            (None, _) => None,
            // Its sessions can be resumed.
            (Some(_), Some(previous)) => previous.connector.tls.clone(),
            (Some(tls), None) => Some(tls.client_config(&name, protocol)?),
        };
        let known = previous.map(|group| group.members.load());
        let terms = Terms { upstream: &name, balance, tls: tls.as_ref(), sticky: sticky.as_ref() };
        let members = Members::new(terms, &endpoints, known.as_ref().map(|known| &***known))?;
        let is_bounded = matches!(balance, Balance::RingHash { balance_factor: Some(_) });
        let load = previous.and_then(|group| group.load.clone());
        let group = Group {
            name,
            protocol,
            tls,
            balance,
            sticky,
            load: is_bounded.then(|| load.unwrap_or_default()),
            connector: Connector {
                limit: settings.connect_timeout,
                tls: config,
                http2: protocol == Protocol::Http2,
            },
            members: ArcSwap::from_pointee(members),
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

    /// Puts other endpoints in the place of those it has, while requests run: an address that stays keeps its
    /// connections and counters; exchanges with one that goes end in peace, its idle connections within about a
    /// second.
    ///
    /// # Errors
    /// An address that stands twice, or a host that can prove no name; the endpoints are as they were then.
    pub fn replace(&self, endpoints: &[EndpointSettings]) -> Result<(), SettingsError> {
        let group = &*self.group;
        let known = group.members.load();
        let members = Members::new(group.terms(), endpoints, Some(&known))?;
        group.members.store(Arc::new(members));
        Ok(())
    }

    /// Starts its background work.
    pub(crate) fn watch(&self, _tasks: &mut JoinSet<()>) {}

    /// What a client is to bring along so that its next request goes to this endpoint (host and port), where the upstream
    /// has such tokens.
    #[must_use]
    pub fn sticky_token(&self, endpoint: &str) -> Option<StickyToken> {
        self.group.sticky.as_ref().map(|key| key.token(&self.group.name, endpoint))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.group.name
    }

    /// What its gauges and counters say, endpoint by endpoint in the order of configuration.
    #[must_use]
    pub fn stats(&self) -> Vec<EndpointStats> {
        self.group.members.load().iter().map(|endpoint| endpoint.stats()).collect()
    }
}
