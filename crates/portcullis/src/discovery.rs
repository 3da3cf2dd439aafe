//! What the admin listener tells of discovery.

use crate::snapshot::Snapshot;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Brings the metrics of discovery up to date, as a scrape asks for.
pub(crate) fn publish(snapshot: &Snapshot) {
    for upstream in snapshot.upstreams.iter() {
        let Some((status, counts)) = upstream.discovery().zip(upstream.take_lookup_counts()) else {
            continue;
        };
        let metrics = snapshot.shared.metrics.discovery(upstream.name());
        metrics.ok.inc_by(counts.ok);
        metrics.empty.inc_by(counts.empty);
        metrics.failed.inc_by(counts.failed);
        metrics.forbidden.inc_by(counts.forbidden);
        metrics.endpoints.set(i64::try_from(status.endpoints).unwrap_or(i64::MAX));
        let success = status.age.and_then(|age| SystemTime::now().checked_sub(age));
        let success = success.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
        metrics.last_success.set(success.map_or(0, |at| i64::try_from(at.as_secs()).unwrap_or(i64::MAX)));
    }
}

/// How it stands with each upstream whose endpoints are discovered.
pub(crate) fn readiness(snapshot: &Snapshot) -> Vec<Value> {
    let states =
        snapshot.upstreams.iter().filter_map(|upstream| Some((upstream.name(), upstream.discovery()?)));
    states
        .map(|(upstream, status)| {
            json!({
                "upstream": upstream,
                "source": status.source,
                "endpoints": status.endpoints,
                "age_seconds": status.age.map(|age| age.as_secs()),
                "error": status.problem,
            })
        })
        .collect()
}
