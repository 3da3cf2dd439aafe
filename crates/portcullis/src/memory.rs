//! Shedding load before the process runs out of memory: a few answers of 503 are better than being killed.
//!
//! Its memory is looked at several times a second; each step sheds more than the one before it, as Envoy's overload
//! manager does: held bodies and kept connections, then requests, then connections. A step ends only when memory is
//! well below where it began, so that the process does not flap.

use crate::snapshot::Snapshots;
use portcullis_http::Budget;
use portcullis_telemetry::{Metrics, resident_bytes};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// How often memory is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// Percent of the limit at which each step begins.
const STEPS: [u64; 3] = [92, 95, 98];
/// Percent by which memory must have fallen below its beginning for a step to end.
const SLACK: u64 = 3;

const KEEP_LITTLE: u8 = 1;
const SHED_REQUESTS: u8 = 2;
const SHED_CONNECTIONS: u8 = 3;

/// The step that the process is at. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<AtomicU8>);

impl Memory {
    fn step(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether connections may stay open after the answer at hand.
    pub(crate) fn keeps_connections(&self) -> bool {
        self.step() < KEEP_LITTLE
    }

    /// Whether new requests are served.
    pub(crate) fn admits_requests(&self) -> bool {
        self.step() < SHED_REQUESTS
    }

    /// Whether new connections are.
    pub(crate) fn admits_connections(&self) -> bool {
        self.step() < SHED_CONNECTIONS
    }

    /// Takes a measurement up; the step before and after it.
    fn measured(&self, used: u64, limit: u64, budget: &Budget) -> (u8, u8) {
        let before = self.step();
        let after = next(before, used, limit);
        self.0.store(after, Ordering::Relaxed);
        budget.close(after >= KEEP_LITTLE);
        (before, after)
    }
}

/// The step that follows one, with so much of the limit used.
fn next(step: u8, used: u64, limit: u64) -> u8 {
    let at = |percent: u64| u128::from(used) * 100 >= u128::from(limit) * u128::from(percent);
    let count = |slack: u64| STEPS.iter().take_while(|begin| at(**begin - slack)).count();
    let (rising, falling) = (count(0), count(SLACK));
    let clamp = |steps: usize| u8::try_from(steps).unwrap_or(SHED_CONNECTIONS);
    step.clamp(clamp(rising), clamp(falling))
}

/// Watches the process's memory for as long as it lives. `fallback` is the limit where the configuration names none.
pub(crate) async fn watch(snapshots: Snapshots, fallback: Option<u64>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let snapshot = snapshots.current();
        let shared = &snapshot.shared;
        let Some(limit) = snapshot.memory_limit.or(fallback) else {
            report(&shared.metrics, &shared.memory.measured(0, 1, &shared.budget), 0, None);
            continue;
        };
        let Some(used) = resident_bytes() else { return };
        let steps = shared.memory.measured(used, limit, &shared.budget);
        report(&shared.metrics, &steps, used, Some(limit));
    }
}

fn report(metrics: &Metrics, (before, after): &(u8, u8), used: u64, limit: Option<u64>) {
    metrics.memory(limit, *after);
    if after > before {
        tracing::warn!(step = after, used, limit, "short of memory: load is shed");
    } else if after < before {
        tracing::info!(step = after, used, limit, "less short of memory");
    }
}

/// The memory limit of the process's control group (cgroup v2), the nearest one that has any.
pub(crate) fn control_group_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let folder = root.join(path);
    let limits = folder.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(|folder| {
        std::fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse::<u64>().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d7_steps_begin_at_once_and_end_late() {
        let memory = Memory::default();
        let budget = Budget::new(10);
        let mut steps = Vec::new();
        for used in [0, 91, 92, 90, 89, 88, 95, 93, 92, 91, 100, 96, 95, 94, 88, 99, 0] {
            steps.push(memory.measured(used, 100, &budget).1);
            assert_eq!(budget.hold(1).is_some(), memory.keeps_connections());
        }
        assert_eq!(steps, [0, 0, 1, 1, 1, 0, 2, 2, 2, 1, 3, 3, 3, 2, 0, 3, 0]);
        assert!(memory.admits_requests() && memory.admits_connections());
    }

    #[test]
    fn a_limit_may_be_any_number() {
        assert_eq!(next(0, u64::MAX, u64::MAX), 3);
        assert_eq!(next(0, 0, u64::MAX), 0);
        assert_eq!(next(0, 5, 0), 3);
    }
}
