//! How long what streams may go on: a route as it is now has a term, which ends when a reload takes the route away or
//! changes who may use it or what answers it.

use crate::shared::Shared;
use crate::snapshot::Snapshots;
use portcullis_config as config;
use portcullis_config::Config;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// What is left of the grace period of a process for the proper end of what streams.
const FAREWELL: Duration = Duration::from_secs(1);

/// The term of a route. Snapshots in which the route is the same share it.
#[derive(Debug)]
pub(crate) struct Term {
    /// What the route was when the term began.
    identity: u64,
    over: watch::Sender<bool>,
}

impl Term {
    /// The term of a route, which goes on where the route is what it was. Deadlines, limits, rules and endpoints may
    /// change meanwhile.
    pub(crate) fn of(config: &Config, route: &config::Route, previous: Option<&Arc<Term>>) -> Arc<Self> {
        let identity = identity(config, route);
        match previous {
            Some(term) if term.identity == identity => term.clone(),
            _ => Arc::new(Term { identity, over: watch::Sender::new(false) }),
        }
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        self.over.send_replace(true);
    }

    /// Tells a stream of this route when it has to end.
    pub(crate) fn watch(&self) -> TermWatch {
        TermWatch(self.over.subscribe())
    }
}

/// What a route is to who has been let in: where it leads, and who may go there.
fn identity(config: &Config, route: &config::Route) -> u64 {
    let providers = route.auth.iter().flat_map(|auth| &auth.providers);
    let providers: Vec<_> = providers.map(|name| config.identity.get(name)).collect();
    let target =
        (&route.matches, &route.upstream, &route.compose, &route.rewrite, &route.upgrade, route.grpc);
    let callers = (&route.auth, providers, &route.addresses, &config.addresses);
    let mut hasher = DefaultHasher::new();
    format!("{target:?} {callers:?}").hash(&mut hasher);
    hasher.finish()
}

/// A stream's view of its route's term.
#[derive(Debug)]
pub(crate) struct TermWatch(watch::Receiver<bool>);

impl TermWatch {
    /// Waits until what streams has to end: the term and its grace are over, or, for what does not end by itself, the
    /// process drains.
    pub(crate) async fn over(self, endless: bool, snapshots: &Snapshots, shared: &Shared) {
        let drains = async {
            on(shared.draining.subscribe()).await;
            let snapshot = snapshots.current();
            sleep(snapshot.stream_grace.min(snapshot.grace.saturating_sub(FAREWELL))).await;
        };
        let ends = async {
            on(self.0).await;
            sleep(snapshots.current().stream_grace).await;
        };
        tokio::select! {
            () = drains, if endless => {}
            () = ends => {}
        }
    }
}

/// Waits until a switch is on. One that is gone counts as on: nobody is left to wait for.
async fn on(mut switch: watch::Receiver<bool>) {
    let _ = switch.wait_for(|on| *on).await;
}
