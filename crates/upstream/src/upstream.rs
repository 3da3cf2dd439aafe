//! A named group of endpoints.

use crate::balance::{Pick, StickyKey, StickyToken};
use crate::caps::{Cap, Taken};
use crate::condition::now;
use crate::connect::Connector;
use crate::discovery::Discovery;
use crate::endpoint::{Counters, Endpoint, Gauge, Level};
use crate::lease::Keep;
use crate::members::{Members, Terms};
use crate::retry::{Budget, Latencies};
use crate::supervision::{Admission, Supervision};
use crate::{
    Balance, DiscoveryStatus, EndpointSettings, EndpointStats, LookupCounts, Protocol, RetryPolicy,
    SettingsError, TlsSettings, UpstreamSettings,
};
use crate::{slow_start, watch};
use arc_swap::ArcSwap;
use portcullis_http::UpstreamFailure;
use portcullis_wire::client::ClientSettings;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A named group of endpoints that serve the same. Clones share all state.
///
/// All futures of one upstream's calls, and the leases they yield, stay on the runtime that they began on: a
/// current-thread runtime.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub(crate) group: Arc<Group>,
    pub(crate) client: Arc<ClientSettings>,
    pub(crate) retry: Arc<RetryPolicy>,
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
    discovery: Option<Arc<Discovery>>,
    /// Which of its endpoints these are, by number.
    learnt: AtomicU64,
    pub(crate) keep: Keep,
    pub(crate) supervision: Supervision,
    budget: Arc<Budget>,
    /// What hedging by percentiles goes by; empty where nothing does.
    latencies: Arc<OnceLock<Latencies>>,
}

/// Endpoints that may refuse a call before it is given up.
const MAX_REFUSALS: usize = 8;
/// Endpoints that warm up and may be passed over for one try.
const MAX_PASSED_OVER: usize = 3;

impl Group {
    /// Whether there is an endpoint that is not among those.
    pub(crate) fn has_untried(&self, tried: &[u64]) -> bool {
        self.members.load().iter().any(|endpoint| !tried.contains(&endpoint.id))
    }

    /// Takes one repetition from the budget, if there is one and no cap is in its way. It is under way until what is
    /// returned is dropped.
    pub(crate) fn repetition(&self, policy: &RetryPolicy) -> Option<Taken> {
        let taken = self.supervision.lasting.load.take(Cap::Retries, &self.supervision.caps)?;
        let tries = self.members.load().iter().map(|endpoint| endpoint.tries()).sum();
        self.budget.withdraw(policy.budget, Instant::now(), tries).then_some(taken)
    }

    /// How long its endpoints take to answer.
    pub(crate) fn latencies(&self) -> &Latencies {
        self.latencies.get_or_init(Latencies::default)
    }

    /// Counts an exchange as under way until the answer is dropped.
    pub(crate) fn in_flight(&self) -> Option<Gauge> {
        self.load.as_ref().map(|load| load.gauge(Level::InFlight))
    }

    fn terms(&self) -> Terms<'_> {
        let Group { name, balance, tls, sticky, .. } = self;
        Terms { upstream: name, balance: *balance, tls: tls.as_ref(), sticky: sticky.as_ref() }
    }

    /// Its endpoints as they are now.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// The endpoint for one try, and leave to ask it.
    ///
    /// # Errors
    /// [`UpstreamFailure::NoEndpoint`] where none is left; [`UpstreamFailure::CircuitOpen`] and
    /// [`UpstreamFailure::Overflow`] where calls are refused.
    pub(crate) fn enter(
        self: &Arc<Self>,
        pick: &Pick<'_>,
    ) -> Result<(Arc<Endpoint>, Admission), UpstreamFailure> {
        let mut admission = Admission::of(self)?;
        let members = self.members.load();
        let (panic, is_news) = members.panics(self.supervision.panic_threshold);
        if is_news {
            self.tell_panic(panic);
        }
        let mut tried: SmallVec<[u64; 4]> = SmallVec::from_slice(pick.tried);
        let in_flight = self.load.as_ref().map_or(0, |load| load.in_flight());
        let mut failure = UpstreamFailure::NoEndpoint;
        for _ in 0..MAX_REFUSALS {
            let pick = Pick { tried: &tried, in_flight, panic, ..*pick };
            let Some(endpoint) = self.choose(&members, &pick) else { break };
            match admission.enter(&endpoint) {
                Ok(()) => return Ok((endpoint, admission)),
                Err(why) => {
                    tried.push(endpoint.id);
                    failure = why;
                }
            }
        }
        Err(failure)
    }

    /// An endpoint that warms up is passed over for another as often as its share says. Requests of one hash move to it
    /// once, and a client that has a token for it is known to it.
    fn choose(&self, members: &Members, pick: &Pick<'_>) -> Option<Arc<Endpoint>> {
        let first = members.choose(pick)?;
        if !first.condition.is_warming() || pick.sticky.is_some() {
            return Some(Arc::clone(first));
        }
        let (mut chosen, mut passed_over): (_, SmallVec<[u64; 4]>) =
            (first, SmallVec::from_slice(pick.tried));
        let whole = slow_start::WHOLE;
        let of_hash = |hash: u64| u32::try_from((hash >> 32) % u64::from(whole)).unwrap_or(0);
        let draw = pick.hash.map_or_else(|| fastrand::u32(..whole), of_hash);
        for _ in 0..MAX_PASSED_OVER {
            let share = chosen.condition.slow_start.share(self.supervision.slow_start, now());
            if draw < share {
                return Some(Arc::clone(chosen));
            }
            passed_over.push(chosen.id);
            match members.choose(&Pick { tried: &passed_over, ..*pick }) {
                Some(next) if next.condition.is_available(pick.panic) => chosen = next,
                _ => break,
            }
        }
        // All that are left warm up: their shares are of each other.
        Some(Arc::clone(first))
    }

    #[cold]
    fn tell_panic(&self, panic: bool) {
        let upstream = &self.name;
        if panic {
            tracing::warn!(%upstream, "too few endpoints are healthy: health is not regarded");
        } else {
            tracing::info!(%upstream, "enough endpoints are healthy again");
        }
    }

    /// Takes endpoints in; those that come to others may have to prove themselves.
    fn join(&self, members: &Members, late: bool) {
        for endpoint in members.iter() {
            endpoint.condition.join(late, self.supervision.health_check.is_some());
        }
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
        let previous = previous.map(|upstream| &*upstream.group).filter(|group| group.name == settings.name);
        let supervision = Supervision::new(&settings, previous.map(|group| &group.supervision));
        let UpstreamSettings {
            name,
            mut endpoints,
            balance,
            protocol,
            mut tls,
            sticky,
            destinations,
            discovery,
            ..
        } = settings;
        let discovery = discovery.map(|wanted| {
            let known = previous.and_then(|group| group.discovery.as_ref());
            known
                .filter(|known| known.is_for(&wanted, &destinations))
                .cloned()
                .unwrap_or_else(|| Arc::new(Discovery::new(&name, wanted, destinations.clone())))
        });
        let mut learnt = 0;
        if let Some(discovery) = &discovery {
            let (version, known) = discovery.endpoints();
            (learnt, endpoints) = (version, known.to_vec());
            if let Some(tls) = &mut tls {
                discovery.name_for(&name, tls)?;
            }
        }
        let previous = previous.filter(|group| group.protocol == protocol && group.tls == tls);
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
                tls_limit: settings.tls_timeout,
                tls: config,
                http2: protocol == Protocol::Http2,
                destinations,
            },
            members: ArcSwap::from_pointee(members),
            discovery,
            learnt: AtomicU64::new(learnt),
            keep: Keep {
                most: settings.max_idle_connections,
                limit: settings.idle_connection_timeout,
                uses: settings.max_uses,
            },
            supervision,
            budget: previous
                .map_or_else(|| Arc::new(Budget::new(Instant::now())), |group| Arc::clone(&group.budget)),
            latencies: previous.map(|group| Arc::clone(&group.latencies)).unwrap_or_default(),
        };
        group.join(&group.members(), known.is_some_and(|known| known.iter().next().is_some()));
        let (client, retry) = (Arc::new(settings.client), Arc::new(settings.retry));
        Ok(Upstream { group: Arc::new(group), client, retry })
    }

    /// The same upstream, pools and counters, with another deadline for the answer's head: a route's own.
    #[must_use]
    pub fn with_response_timeout(&self, response: Duration) -> Self {
        let client = ClientSettings { response, ..(*self.client).clone() };
        Upstream { client: Arc::new(client), ..self.clone() }
    }

    /// The same upstream, pools, counters and budget, with another policy: a route's own.
    #[must_use]
    pub fn with_retry(&self, policy: RetryPolicy) -> Self {
        Upstream { retry: Arc::new(policy), ..self.clone() }
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
        group.join(&members, known.iter().next().is_some());
        group.members.store(Arc::new(members));
        group.supervision.activate(&group.members());
        Ok(())
    }

    /// Puts its settings in force for its endpoints, and starts its background work.
    pub(crate) fn watch(&self, tasks: &mut JoinSet<()>, checks: &Arc<Semaphore>) {
        let supervision = &self.group.supervision;
        supervision.activate(&self.group.members());
        if supervision.health_check.is_some() || supervision.outlier.is_some() {
            tasks.spawn(watch::watch(Arc::clone(&self.group), Arc::clone(checks)));
        }
        if let Some(discovery) = &self.group.discovery {
            let (upstream, discovery) = (self.clone(), Arc::clone(discovery));
            tasks.spawn(async move {
                loop {
                    let next = discovery.refresh().await;
                    upstream.take_up(&discovery);
                    tokio::time::sleep_until(next.into()).await;
                }
            });
        }
    }

    /// What a client is to bring along so that its next request goes to this endpoint (host and port), where the upstream
    /// has such tokens.
    #[must_use]
    pub fn sticky_token(&self, endpoint: &str) -> Option<StickyToken> {
        self.group.sticky.as_ref().map(|key| key.token(&self.group.name, endpoint))
    }

    /// What its tokens are made with, where it has any.
    #[must_use]
    pub fn sticky_key(&self) -> Option<&StickyKey> {
        self.group.sticky.as_ref()
    }

    /// Learns its endpoints, where nobody has asked for them yet.
    pub(crate) async fn discover(&self) {
        if let Some(discovery) = self.group.discovery.as_ref().filter(|discovery| !discovery.was_asked()) {
            discovery.refresh().await;
            self.take_up(discovery);
        }
    }

    /// Takes the endpoints that were learnt, unless it has these.
    fn take_up(&self, discovery: &Discovery) {
        let (version, endpoints) = discovery.endpoints();
        if self.group.learnt.swap(version, Ordering::Relaxed) != version
            && let Err(error) = self.replace(&endpoints)
        {
            tracing::warn!(%error, "endpoints that were learnt cannot be used; those before stay in use");
        }
    }

    /// How often its endpoints were asked for since this was last asked, where they are learnt.
    #[must_use]
    pub fn take_lookup_counts(&self) -> Option<LookupCounts> {
        self.group.discovery.as_ref().map(|discovery| discovery.take_counts())
    }

    /// How learning its endpoints fares, where they are learnt.
    #[must_use]
    pub fn discovery(&self) -> Option<DiscoveryStatus> {
        self.group.discovery.as_ref().map(|discovery| discovery.status())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.group.name
    }

    /// Tells how many exchanges each endpoint (host and port) began since it was last asked. Connections that could not be
    /// opened are none.
    pub fn drain_requests(&self, mut tell: impl FnMut(&str, u64)) {
        for endpoint in self.group.members.load().iter() {
            tell(&endpoint.address, endpoint.drain_requests());
        }
    }

    /// What its gauges and counters say, endpoint by endpoint in the order of configuration.
    #[must_use]
    pub fn stats(&self) -> Vec<EndpointStats> {
        self.group.members.load().iter().map(|endpoint| endpoint.stats()).collect()
    }
}
