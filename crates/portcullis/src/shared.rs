//! What outlives every snapshot: a reload resets none of it.

use crate::acme::Manager;
use crate::memory::Memory;
use crate::plan;
use portcullis_config::Config;
use portcullis_http::Budget;
use portcullis_identity::{GuardedResolver, KeyStore};
use portcullis_limits::{Concurrency, Key, LocalStore};
use portcullis_telemetry::{LogFiles, LogFormat, LogQueue, Metrics};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, watch};

/// Callers whose rates are counted at once; about 64 bytes each.
const COUNTED_CALLERS: usize = 1_000_000;
/// Client connections at most, unless the configuration says otherwise.
const MOST_CONNECTIONS: u64 = 50_000;

/// Client connections for which there are file descriptors, when a quarter of all is left to connections to upstreams,
/// logs and files.
fn default_connections() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = files.map_or(MOST_CONNECTIONS, |files| (files / 4 * 3).clamp(16, MOST_CONNECTIONS));
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Counters, pools, key sets and budgets of the process.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: LogQueue,
    pub(crate) log_format: LogFormat,
    /// The firewall's own logs.
    pub(crate) logs: LogFiles,
    pub(crate) rates: Arc<LocalStore>,
    pub(crate) keys: KeyStore,
    /// Looks up the names that the gateway itself calls.
    pub(crate) resolver: GuardedResolver,
    pub(crate) budget: Budget,
    /// Certificates that the gateway orders itself.
    pub(crate) acme: Arc<Manager>,
    /// What is shed for want of memory.
    pub(crate) memory: Memory,
    /// Whether the process drains.
    pub(crate) draining: watch::Sender<bool>,
    /// One permit for each client connection.
    pub(crate) connections: Arc<Semaphore>,
    /// How many there are in all.
    pub(crate) max_connections: usize,
    /// The same for listeners with a limit of their own, by name and limit.
    listener_connections: Mutex<HashMap<(String, u32), Arc<Semaphore>>>,
    /// Connections by client, of listeners that count them so.
    connections_by_address: Mutex<HashMap<Arc<str>, Concurrency>>,
}

impl Shared {
    /// The state of a process that starts with this configuration. What of it sizes this state (body budget,
    /// connections, log format) takes a restart to change.
    ///
    /// # Errors
    /// Why the trust store for key sets cannot be set up.
    pub(crate) fn new(
        config: &Config,
        metrics: Arc<Metrics>,
        log: LogQueue,
        log_format: LogFormat,
    ) -> Result<Self, String> {
        let limit = config.server.body_budget.as_usize();
        let max_connections =
            config.server.max_connections.map_or_else(default_connections, |most| most as usize);
        let budget = Budget::new(limit);
        metrics.watch_budget(budget.clone(), limit);
        let resolver = GuardedResolver::default();
        resolver.go_by(plan::destinations(&config.server.destinations));
        Ok(Shared {
            metrics,
            log,
            log_format,
            logs: LogFiles::default(),
            rates: Arc::new(LocalStore::new(COUNTED_CALLERS)),
            keys: KeyStore::with_resolver(None, resolver.clone()).map_err(|error| error.to_string())?,
            budget,
            acme: Arc::new(Manager::new(resolver.clone())),
            resolver,
            memory: Memory::default(),
            draining: watch::Sender::new(false),
            connections: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            listener_connections: Mutex::default(),
            connections_by_address: Mutex::default(),
        })
    }

    /// The places of each client on a listener that gives it so many. A reload that changes how many keeps who has
    /// some.
    pub(crate) fn connections_by_address(&self, listener: &Arc<str>, limit: u32) -> Concurrency {
        let mut known = self.connections_by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let places = known.entry(listener.clone());
        places.or_insert_with(|| Concurrency::new(Key::Address, limit)).retuned(Key::Address, limit)
    }

    /// The permits of a listener that takes so many connections. A reload that does not change the limit keeps them;
    /// one that does begins to count anew.
    pub(crate) fn listener_connections(&self, name: &str, limit: u32) -> Arc<Semaphore> {
        let mut known = self.listener_connections.lock().unwrap_or_else(PoisonError::into_inner);
        let permits = known.entry((name.to_owned(), limit));
        permits.or_insert_with(|| Arc::new(Semaphore::new(limit as usize))).clone()
    }
}
