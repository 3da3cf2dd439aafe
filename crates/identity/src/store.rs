//! Remote key sets: cached, refreshed by one fetch at a time, kept through reloads.

use crate::GuardedResolver;
use crate::fetch::{self, FETCH_TIME, FetchError, KeyStoreError};
use crate::jwks::{self, Origin};
use crate::keys::KeySet;
use arc_swap::ArcSwapOption;
use reqwest::{Client, Url};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// An unknown key id makes a set be fetched anew at most once in this time, whoever asks how often.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);

/// After failed fetches the next waits 1 s, 2 s, 4 s, … up to this.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The key sets of the process, by URL. It outlives snapshots: a new snapshot's providers find the sets the old
/// ones fetched, and a set is forgotten when the last provider that uses it is gone.
///
/// It may be used from any thread and runtime. Reading a set takes no lock; a fetch runs on the runtime of the
/// request that found it due, and all others wait for that one or do without.
pub struct KeyStore {
    client: Client,
    sources: Mutex<HashMap<Url, Weak<RemoteKeys>>>,
}

/// What is known of one remote key set, for readiness details and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Where the set is, without a query.
    pub url: String,
    /// How many usable keys are held.
    pub keys: usize,
    /// The age of what is held; `None` if nothing is.
    pub age: Option<Duration>,
    /// Fetches begun since the source is known.
    pub fetches: u64,
    /// Failed fetches since the last good one.
    pub failures: u32,
    /// Why the last fetch failed, if it did.
    pub error: Option<String>,
}

impl KeyStore {
    /// A store that trusts the system's certificate authorities, and those in `extra_roots` (PEM).
    ///
    /// # Errors
    /// [`KeyStoreError`] if the roots cannot be read or the TLS client not be made.
    pub fn new(extra_roots: Option<&[u8]>) -> Result<Self, KeyStoreError> {
        Self::with_resolver(extra_roots, GuardedResolver::default())
    }

    /// The same, with names looked up by this resolver.
    ///
    /// # Errors
    /// As [`KeyStore::new`].
    pub fn with_resolver(
        extra_roots: Option<&[u8]>,
        resolver: GuardedResolver,
    ) -> Result<Self, KeyStoreError> {
        Ok(KeyStore { client: fetch::client(extra_roots, resolver)?, sources: Mutex::default() })
    }

    /// The state of every set in use, by URL.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<SourceStatus> {
        let mut all: Vec<_> =
            lock(&self.sources).values().filter_map(Weak::upgrade).map(|s| s.status(now)).collect();
        all.sort_by(|a, b| a.url.cmp(&b.url));
        all
    }

    /// The source for a URL: the one in use, or a new one.
    pub(crate) fn source(&self, url: Url) -> Arc<RemoteKeys> {
        let mut sources = lock(&self.sources);
        sources.retain(|_, source| source.strong_count() > 0);
        if let Some(known) = sources.get(&url).and_then(Weak::upgrade) {
            return known;
        }
        let source = Arc::new(RemoteKeys {
            url: url.clone(),
            client: self.client.clone(),
            held: ArcSwapOption::empty(),
            flight: Mutex::default(),
        });
        sources.insert(url, Arc::downgrade(&source));
        source
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStore").finish_non_exhaustive()
    }
}

/// How fresh a provider wants its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freshness {
    /// Older sets are fetched anew.
    pub(crate) refresh: Duration,
    /// Older sets are not used at all.
    pub(crate) max_stale: Duration,
}

/// One remote key set.
pub(crate) struct RemoteKeys {
    url: Url,
    client: Client,
    held: ArcSwapOption<Held>,
    flight: Mutex<Flight>,
}

/// A set and when the fetch that brought it began.
pub(crate) struct Held {
    pub(crate) keys: KeySet,
    at: Instant,
}

#[derive(Default)]
struct Flight {
    /// Present while a fetch runs; closes when it has ended.
    running: Option<watch::Receiver<()>>,
    last: Option<Instant>,
    fetches: u64,
    failures: u32,
    error: Option<FetchError>,
}

/// Locks are held for a few assignments and never over an await; a panic cannot leave them half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RemoteKeys {
    /// The set to judge with; waits only where there is none, or one so old that a removed key might still be
    /// in it (twice `refresh`). A set that is merely due is used while it is fetched anew in the background.
    /// `None` if there is none younger than `max_stale` to be had.
    pub(crate) async fn obtain(self: &Arc<Self>, want: Freshness, now: Instant) -> Option<Arc<Held>> {
        let age = self.held.load().as_ref().map(|held| now.saturating_duration_since(held.at));
        let fresh = age.is_some_and(|age| age <= want.refresh);
        if !fresh && let Some(landing) = self.fetch(now, Self::is_due) {
            let old = age.is_none_or(|age| age > want.refresh.saturating_mul(2).min(want.max_stale));
            if old {
                wait(landing).await;
            }
        }
        self.held.load_full().filter(|held| now.saturating_duration_since(held.at) <= want.max_stale)
    }

    /// The set after another look at its source, because `seen` did not hold a token's key. `None` where the
    /// source was asked within the last 30 s: the answer is no longer than that out of date, and unknown ids
    /// cost nothing more however many there are.
    pub(crate) async fn look_again(self: &Arc<Self>, seen: &Arc<Held>, now: Instant) -> Option<Arc<Held>> {
        let changed = |held: &Arc<Held>| !Arc::ptr_eq(held, seen);
        if let Some(newer) = self.held.load_full().filter(changed) {
            return Some(newer);
        }
        let rested = |flight: &Flight, now: Instant| {
            flight.last.is_none_or(|last| now.saturating_duration_since(last) >= UNKNOWN_KEY_PAUSE)
        };
        wait(self.fetch(now, rested)?).await;
        self.held.load_full().filter(changed)
    }

    /// Whether the pause after a failure is over.
    fn is_due(flight: &Flight, now: Instant) -> bool {
        let pause = match flight.failures {
            0 => Duration::ZERO,
            failures => Duration::from_secs(1 << (failures - 1).min(5)).min(MAX_PAUSE),
        };
        flight.last.is_none_or(|last| now.saturating_duration_since(last) >= pause)
    }

    /// Joins the fetch that runs, or begins one if `may` allows it. Its end closes the receiver.
    fn fetch(
        self: &Arc<Self>,
        now: Instant,
        may: impl Fn(&Flight, Instant) -> bool,
    ) -> Option<watch::Receiver<()>> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let (sender, receiver) = watch::channel(());
        {
            let mut flight = lock(&self.flight);
            if let Some(running) = &flight.running {
                return Some(running.clone());
            }
            if !may(&flight, now) {
                return None;
            }
            flight.running = Some(receiver.clone());
            flight.last = Some(now);
            flight.fetches += 1;
        }
        // A task of its own: the request that found the set due may be gone before the answer is here. It
        // starts after the lock is released, for a runtime that shuts down drops it, and it locks, at once.
        let landing = Landing { source: Arc::clone(self), result: Err(FetchError::Abandoned), _open: sender };
        runtime.spawn(landing.fly(now));
        Some(receiver)
    }

    fn status(&self, now: Instant) -> SourceStatus {
        let held = self.held.load_full();
        let flight = lock(&self.flight);
        SourceStatus {
            url: self.name(),
            keys: held.as_ref().map_or(0, |held| held.keys.len()),
            age: held.map(|held| now.saturating_duration_since(held.at)),
            fetches: flight.fetches,
            failures: flight.failures,
            error: flight.error.map(|error| error.to_string()),
        }
    }

    /// The age of the set that is held.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        self.held.load().as_ref().map(|held| now.saturating_duration_since(held.at))
    }

    /// The URL as logs may show it.
    fn name(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    }
}

/// Waits for a fetch to end. It has its own deadline; ours is for a runtime that stands still.
async fn wait(mut landing: watch::Receiver<()>) {
    let _ = tokio::time::timeout(FETCH_TIME * 2, landing.changed()).await;
}

/// A fetch on its way. However it ends, also by being dropped, it says so.
struct Landing {
    source: Arc<RemoteKeys>,
    result: Result<(), FetchError>,
    _open: watch::Sender<()>,
}

impl Landing {
    async fn fly(mut self, now: Instant) {
        let body = fetch::get(&self.source.client, self.source.url.clone()).await;
        self.result = match body.and_then(|b| jwks::read(&b, Origin::Remote).map_err(FetchError::Set)) {
            Ok(keys) => {
                self.source.held.store(Some(Arc::new(Held { keys, at: now })));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(url = self.source.name(), "the key set {error}; the last good one stays");
                Err(error)
            }
        };
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flight = lock(&self.source.flight);
        flight.running = None;
        flight.failures = if self.result.is_ok() { 0 } else { flight.failures.saturating_add(1) };
        flight.error = self.result.err();
    }
}
