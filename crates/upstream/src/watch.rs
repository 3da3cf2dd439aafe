//! What happens to an upstream's endpoints without a request: active checks, and the sweeps of outlier detection.

use crate::condition::now;
use crate::endpoint::Endpoint;
use crate::health::check::Checker;
use crate::members::Members;
use crate::upstream::Group;
use crate::{Health, HealthCheckSettings};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

/// Checks under way at a time, of all upstreams together, so that a process with many endpoints does not begin with a
/// burst.
pub(crate) const MAX_CHECKS: usize = 256;

/// The longest wait between two looks.
const LOOK: Duration = Duration::from_secs(60);

/// Watches over one upstream until it is dropped.
pub(crate) async fn watch(group: Arc<Group>, slots: Arc<Semaphore>) {
    let mut checks = Checks { group: &group, slots, tasks: JoinSet::new(), running: HashMap::new() };
    let outlier = group.supervision.outlier;
    let mut sweep_at = outlier.map(|settings| Instant::now() + settings.interval);
    loop {
        let members = group.members();
        if let Some(settings) = &group.supervision.health_check {
            checks.follow(&members, settings);
        }
        let mut wait = LOOK;
        if let (Some(settings), Some(at)) = (&outlier, &mut sweep_at) {
            group.readmit(&members, now());
            if Instant::now() >= *at {
                group.sweep(&members, settings, now());
                *at = Instant::now() + settings.interval;
            }
            let until = members.iter().filter_map(|endpoint| endpoint.condition.ejection.until()).min();
            let first = until.map(|until| Duration::from_millis(until.saturating_sub(now())));
            wait = wait.min(at.saturating_duration_since(Instant::now())).min(first.unwrap_or(wait));
        }
        drop(members);
        // A millisecond is what the clock of ejections knows.
        let _ =
            timeout(wait.max(Duration::from_millis(1)), group.supervision.lasting.changed.notified()).await;
    }
}

/// A task for each endpoint that is checked.
struct Checks<'a> {
    group: &'a Arc<Group>,
    slots: Arc<Semaphore>,
    tasks: JoinSet<()>,
    running: HashMap<u64, AbortHandle>,
}

impl Checks<'_> {
    /// Checks these endpoints and no others.
    fn follow(&mut self, members: &Members, settings: &HealthCheckSettings) {
        let mut gone = std::mem::take(&mut self.running);
        for endpoint in members.iter() {
            let known = gone.remove(&endpoint.id);
            let task = known.unwrap_or_else(|| {
                let (group, slots) = (Arc::clone(self.group), Arc::clone(&self.slots));
                self.tasks.spawn(check(group, Arc::clone(endpoint), settings.clone(), slots))
            });
            self.running.insert(endpoint.id, task);
        }
        gone.into_values().for_each(|task| task.abort());
        while self.tasks.try_join_next().is_some() {}
    }
}

/// Checks one endpoint for ever.
async fn check(
    group: Arc<Group>,
    endpoint: Arc<Endpoint>,
    settings: HealthCheckSettings,
    slots: Arc<Semaphore>,
) {
    let mut checker = Checker::new(&settings, &group.connector, &endpoint);
    sleep(endpoint.condition.until_check(&settings.pace)).await;
    loop {
        let result = {
            let _slot = slots.acquire().await;
            checker.check(&endpoint).await
        };
        let totals = &group.supervision.lasting.totals.checks;
        if let Some(total) = totals.get(usize::from(result.is_err())) {
            total.fetch_add(1, Ordering::Relaxed);
        }
        let (turned, wait) = endpoint.condition.note_check(result.is_ok(), &settings.pace);
        let (upstream, address) = (&group.name, &endpoint.address);
        match (turned, result) {
            (Some((Health::Unknown, Health::Healthy)), _) => {
                tracing::debug!(%upstream, endpoint = %address, "the endpoint passes its first health check");
            }
            (Some((before, Health::Healthy)), _) => {
                let was = before.as_str();
                tracing::info!(%upstream, endpoint = %address, was, "the endpoint is healthy");
            }
            (Some(_), Err(fault)) => {
                tracing::warn!(%upstream, endpoint = %address, why = %fault, "the endpoint is unhealthy");
            }
            (None, Err(fault)) => {
                tracing::debug!(%upstream, endpoint = %address, why = %fault, "a health check failed");
            }
            _ => {}
        }
        sleep(wait).await;
    }
}
