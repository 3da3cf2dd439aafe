//! All upstreams of one configuration.

use crate::watch::MAX_CHECKS;
use crate::{SettingsError, Upstream, UpstreamSettings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// All upstreams of one configuration, by name. Built for each snapshot from the snapshot before, it carries pools,
/// counters and TLS sessions over a reload; a snapshot that is thrown away changes nothing.
///
/// ```
/// use portcullis_upstream::{EndpointSettings, UpstreamSettings, Upstreams};
///
/// let settings = || UpstreamSettings::new("prices", vec![EndpointSettings::new("127.0.0.1", 8082)]);
/// let first = Upstreams::build([settings()], None).unwrap();
/// let reloaded = Upstreams::build([settings()], Some(&first)).unwrap();
/// assert_eq!(reloaded.get("prices").unwrap().name(), "prices");
/// assert!(reloaded.get("catalogue").is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Upstreams(BTreeMap<String, Upstream>);

impl Upstreams {
    /// Makes them all, each from its predecessor where there is one ([`Upstream::new`]).
    ///
    /// # Errors
    /// Every [`SettingsError`], not only the first; `previous` is as it was then.
    pub fn build(
        settings: impl IntoIterator<Item = UpstreamSettings>,
        previous: Option<&Upstreams>,
    ) -> Result<Self, Vec<SettingsError>> {
        let (mut upstreams, mut errors) = (BTreeMap::new(), Vec::new());
        for settings in settings {
            let name = settings.name.clone();
            if upstreams.contains_key(&name) {
                errors.push(SettingsError::DuplicateName { upstream: name });
                continue;
            }
            match Upstream::new(settings, previous.and_then(|previous| previous.get(&name))) {
                Ok(upstream) => {
                    upstreams.insert(name, upstream);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Upstreams(upstreams)) } else { Err(errors) }
    }

    /// The upstream of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Upstream> {
        self.0.get(name)
    }

    /// Learns the endpoints of those upstreams whose endpoints are to be learnt and that have never been: all at once, and
    /// for `limit` at most. What is not known by then, [`watch`](Self::watch) goes on to ask for.
    pub async fn discover(&self, limit: Duration) {
        let mut tasks = JoinSet::new();
        for upstream in self.iter() {
            let upstream = upstream.clone();
            tasks.spawn(async move { upstream.discover().await });
        }
        // What is not done by then is dropped with the set.
        let _ = tokio::time::timeout(limit, async { while tasks.join_next().await.is_some() {} }).await;
    }

    /// Starts what has to happen without a request: to be called on the event loop that is to do it.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let (mut tasks, checks) = (JoinSet::new(), Arc::new(Semaphore::new(MAX_CHECKS)));
        for upstream in self.iter() {
            upstream.watch(&mut tasks, &checks);
        }
        Watch(tasks)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.0.values()
    }
}

/// The background work of the upstreams of one configuration. It ends when this is dropped; what it found out stays with
/// the endpoints.
#[derive(Debug, Default)]
pub struct Watch(#[expect(dead_code, reason = "dropping it ends the tasks")] JoinSet<()>);
