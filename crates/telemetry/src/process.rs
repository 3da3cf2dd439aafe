//! The process itself, read from `/proc` at each scrape.

use prometheus::IntGauge;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Gauges of the process. Where there is no `/proc` they stay at zero.
pub(crate) struct Gauges {
    resident: IntGauge,
    open_files: IntGauge,
}

impl Gauges {
    /// Sets `started` to now, once.
    pub(crate) fn new(started: IntGauge, resident: IntGauge, open_files: IntGauge) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        started.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        Gauges { resident, open_files }
    }

    pub(crate) fn update(&self) {
        if let Some(bytes) = resident_bytes() {
            self.resident.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // Less the descriptor that this very count holds open.
            let count = i64::try_from(files.count()).unwrap_or(i64::MAX);
            self.open_files.set(count.saturating_sub(1));
        }
    }
}

/// Memory of the process that is in RAM, in bytes: `VmRSS` of `/proc/self/status`. `None` where there is no `/proc`.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_is_plausible() {
        let bytes = super::resident_bytes().unwrap();
        assert!(bytes > 1 << 20 && bytes < 1 << 36, "{bytes}");
    }
}
