//! One endpoint's state, shared by all threads.

use crate::balance::PeakEwma;
use crate::condition::{self, Condition};
use crate::outbound::Outcome;
use portcullis_http::{DestinationPolicy, UpstreamFailure};
use rustls_pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long what a name stands for is believed. A burst of new connections asks for it once.
const KNOWN: Duration = Duration::from_secs(5);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What is under way, open and idle, and what was counted: of an endpoint, or of an upstream as a whole.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    in_flight: AtomicUsize,
    open: AtomicUsize,
    idle: AtomicUsize,
    connects: AtomicU64,
    connect_failures: AtomicU64,
    reuses: AtomicU64,
    repeats: AtomicU64,
    /// Exchanges that were told of already.
    told: AtomicU64,
}

/// Which of the gauges.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    InFlight,
    Open,
    Idle,
}

impl Counters {
    /// One more until the answer is dropped.
    pub(crate) fn gauge(self: &Arc<Self>, level: Level) -> Gauge {
        self.level(level).fetch_add(1, Ordering::Relaxed);
        Gauge(Arc::clone(self), level)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn level(&self, level: Level) -> &AtomicUsize {
        match level {
            Level::InFlight => &self.in_flight,
            Level::Open => &self.open,
            Level::Idle => &self.idle,
        }
    }
}

/// One more on a gauge until it is dropped. Holds the counters only: an idle connection must not keep its endpoint
/// alive.
#[derive(Debug)]
pub(crate) struct Gauge(Arc<Counters>, Level);

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.level(self.1).fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a name stood for when it could last be looked up.
#[derive(Debug, Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// Until then it need not be looked up again.
    until: Option<Instant>,
}

/// One server. Its pools, on each thread, go by its id and end with it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: u64,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) address: Arc<str>,
    /// The name it must prove, where TLS is spoken.
    pub(crate) server_name: Option<ServerName<'static>>,
    pub(crate) condition: Condition,
    /// How long it takes to answer, where that decides who is asked.
    pub(crate) latency: OnceLock<PeakEwma>,
    counters: Arc<Counters>,
    known: Mutex<Known>,
}

impl Endpoint {
    pub(crate) fn new(settings: &crate::EndpointSettings, server_name: Option<ServerName<'static>>) -> Self {
        Endpoint {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            host: settings.host.clone(),
            port: settings.port,
            address: settings.address().into(),
            server_name,
            condition: Condition::default(),
            latency: OnceLock::new(),
            counters: Arc::default(),
            known: Mutex::default(),
        }
    }

    pub(crate) fn gauge(&self, level: Level) -> Gauge {
        self.counters.gauge(level)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.counters.in_flight()
    }

    pub(crate) fn note_connect(&self) {
        self.counters.connects.fetch_add(1, Ordering::Relaxed);
    }

    fn note_connect_failure(&self) {
        self.counters.connect_failures.fetch_add(1, Ordering::Relaxed);
        self.condition.connect_failed();
        self.known().until = None;
    }

    pub(crate) fn note_reuse(&self) {
        self.counters.reuses.fetch_add(1, Ordering::Relaxed);
    }

    /// Exchanges that were begun with it.
    pub(crate) fn tries(&self) -> u64 {
        self.counters.connects.load(Ordering::Relaxed) + self.counters.reuses.load(Ordering::Relaxed)
    }

    pub(crate) fn note_repeat(&self) {
        self.counters.repeats.fetch_add(1, Ordering::Relaxed);
    }

    /// Exchanges that were begun since this was last asked.
    pub(crate) fn drain_requests(&self) -> u64 {
        let Counters { connects, reuses, told, .. } = &*self.counters;
        // Each begins on a connection that was opened for it, or on one that had served before.
        let begun = connects.load(Ordering::Relaxed) + reuses.load(Ordering::Relaxed);
        begun.saturating_sub(told.swap(begun, Ordering::Relaxed))
    }

    /// Takes note of how a try ended that took so long. Each is reported once.
    pub(crate) fn report(&self, outcome: Outcome, took: Duration) {
        tracing::trace!(endpoint = %self.address, ?outcome, ?took, "a try ended");
        if let Outcome::Unreachable(failure) = outcome {
            // Nobody asked it: the gateway has as many connections, or files, as it may.
            if matches!(failure, UpstreamFailure::Overflow | UpstreamFailure::Exhausted) {
                return;
            }
            self.note_connect_failure();
        }
        if let Some(latency) = self.latency.get() {
            let now = condition::now_wrapping();
            match outcome {
                Outcome::Answered { .. } => latency.answered(took, now),
                Outcome::Unreachable(_) | Outcome::Failed(_) => latency.failed(took, now),
                Outcome::Cancelled => latency.given_up(took, now),
            }
        }
    }

    /// Its addresses, in the order in which to try them. What a name stands for counts for a few seconds, unless a
    /// connection fails, and for longer where it cannot be looked up any more. What it may not stand for is left out: it
    /// is these addresses that are connected to, and nothing is looked up again (matrix J1).
    pub(crate) async fn addresses(
        &self,
        destinations: &DestinationPolicy,
    ) -> Result<Vec<SocketAddr>, UpstreamFailure> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let is_fresh = self.known().until.is_some_and(|until| until > Instant::now());
        if !is_fresh {
            match tokio::net::lookup_host((self.host.as_str(), self.port)).await {
                Ok(found) => {
                    let (addresses, until) = (found.collect(), Instant::now().checked_add(KNOWN));
                    *self.known() = Known { addresses, until };
                }
                Err(error) => {
                    tracing::warn!(endpoint = %self.address, %error, "the endpoint's name cannot be looked up");
                }
            }
        }
        let mut addresses = self.known().addresses.clone();
        let mut forbidden = None;
        addresses.retain(|address| match destinations.check_name(&self.host, address.ip()) {
            Ok(()) => true,
            Err(why) => {
                forbidden = Some((*address, why));
                false
            }
        });
        if let (true, Some((address, why))) = (addresses.is_empty(), forbidden) {
            tracing::warn!(
                endpoint = %self.address, %address, %why,
                "the endpoint's name stands for an address that is not connected to; if it is meant, allow it by `destinations.allow`"
            );
            return Err(UpstreamFailure::Forbidden);
        }
        let first = addresses.first().ok_or(UpstreamFailure::Connect)?.is_ipv4();
        // Several addresses share the load; those of the family that the system prefers come first all the same.
        let alike = addresses.iter().take_while(|address| address.is_ipv4() == first).count();
        if let Some(alike) = addresses.get_mut(..alike) {
            alike.rotate_left(fastrand::usize(..alike.len()));
        }
        Ok(addresses)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> EndpointStats {
        let Counters { in_flight, open, idle, connects, connect_failures, reuses, repeats, .. } =
            &*self.counters;
        EndpointStats {
            address: self.address.to_string(),
            in_flight: in_flight.load(Ordering::Relaxed),
            open: open.load(Ordering::Relaxed),
            idle: idle.load(Ordering::Relaxed),
            connects: connects.load(Ordering::Relaxed),
            connect_failures: connect_failures.load(Ordering::Relaxed),
            reuses: reuses.load(Ordering::Relaxed),
            repeats: repeats.load(Ordering::Relaxed),
            aside: self.condition.is_aside(),
        }
    }
}

/// What an endpoint's gauges and counters say; all threads together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Host and port.
    pub address: String,
    /// Exchanges under way, from the choice of the endpoint to the end of the answer.
    pub in_flight: usize,
    /// Connections that are open, idle ones among them.
    pub open: usize,
    /// Connections that wait in a pool, those of HTTP/2 that carry no exchange among them.
    pub idle: usize,
    /// Connections opened so far.
    pub connects: u64,
    /// Connections that could not be opened so far.
    pub connect_failures: u64,
    /// Exchanges on a connection that had served before.
    pub reuses: u64,
    /// Requests that were repeated since a reused connection had lost them.
    pub repeats: u64,
    /// Whether it is passed over since a connection to it failed a moment ago.
    pub aside: bool,
}
