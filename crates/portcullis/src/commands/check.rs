//! `portcullis check`.

use super::{ConfigFile, print};
use crate::shared::Shared;
use crate::snapshot::{Snapshot, Source};
use portcullis_telemetry::{BuildInfo, DEFAULT_CAPACITY, LogFormat, LogQueue, Metrics};
use std::io::Write as _;
use std::sync::Arc;

/// What is built into this binary, for `portcullis_build_info`.
pub(crate) const BUILD: BuildInfo<'static> =
    BuildInfo { version: env!("CARGO_PKG_VERSION"), rustc: env!("CARGO_PKG_RUST_VERSION") };

/// Compiles the configuration and everything it names, as `run` would, and says all that is wrong.
///
/// # Errors
/// All of it, rendered.
pub(super) fn check(file: &ConfigFile) -> Result<(), String> {
    let source = Source::read(&file.config).map_err(|error| error.to_string())?;
    let metrics = Arc::new(Metrics::new(BUILD).map_err(|error| error.to_string())?);
    let log =
        LogQueue::start(std::io::sink(), DEFAULT_CAPACITY, &metrics).map_err(|error| error.to_string())?;
    let shared = Arc::new(Shared::new(&source.config, metrics, log, LogFormat::Json)?);
    let snapshot = Snapshot::compile(source, &shared, None).map_err(|error| error.to_string())?;
    for warning in &snapshot.warnings {
        // Standard error is all there is to say it on.
        let _ = writeln!(std::io::stderr(), "{warning}");
    }
    print(&format!(
        "{}: {} routes, {}, config {}\n",
        file.config.display(),
        snapshot.routes.len(),
        snapshot.describe_rules(),
        snapshot.hash
    ))
}
