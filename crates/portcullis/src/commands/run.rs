//! `portcullis run`.

use super::ConfigFile;
use super::check::BUILD;
use crate::inherit::Inherited;
use crate::server;
use crate::shared::Shared;
use crate::snapshot::{Snapshot, Snapshots, Source};
use clap::{Args, ValueEnum};
use portcullis_config::Config;
use portcullis_telemetry::{DEFAULT_CAPACITY, LogFormat, LogQueue, LogSettings, Metrics};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `portcullis run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// How log lines are written; without it, as the configuration says.
    #[arg(long, value_enum)]
    log_format: Option<Format>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Run {
    /// Serves until told to stop.
    ///
    /// # Errors
    /// What is wrong with the configuration, or why an address cannot be bound.
    pub(super) fn run(self) -> Result<(), String> {
        let source = Source::read(&self.file.config).map_err(|error| error.to_string())?;
        let process = Process::start(source, self.log_format)?;
        process.serve(&self.file.config, async { Ok(()) })
    }
}

/// A process whose logging and shared state are set up.
pub(crate) struct Process {
    snapshots: Snapshots,
    log: LogQueue,
    inherited: Inherited,
}

impl Process {
    /// Takes the sockets that were opened for it, and sets up logging, metrics and the first snapshot.
    ///
    /// # Errors
    /// What is wrong with the configuration or with such a socket.
    pub(crate) fn start(source: Source, format: Option<Format>) -> Result<Self, String> {
        let inherited = Inherited::from_env()?;
        // One provider of cryptography for all that this process does.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        raise_file_limit();
        let metrics = Arc::new(Metrics::new(BUILD).map_err(|error| error.to_string())?);
        let log = LogQueue::start(std::io::stderr(), DEFAULT_CAPACITY, &metrics)
            .map_err(|error| format!("no log: {error}"))?;
        let format = log_format(&source.config, format);
        let level =
            source.config.log.level.as_str().parse().unwrap_or(tracing::level_filters::LevelFilter::INFO);
        portcullis_telemetry::init(LogSettings { format, level }, &log).map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared::new(&source.config, metrics, log.clone(), format)?);
        let snapshot = Snapshot::compile(source, &shared, None).map_err(|error| error.to_string())?;
        snapshot.warn();
        shared.metrics.reload_succeeded(&snapshot.hash);
        Ok(Process { snapshots: Snapshots::new(snapshot), log, inherited })
    }

    /// Serves until told to stop. `first` runs before, on the same event loop.
    ///
    /// # Errors
    /// When `first` fails or an address cannot be bound.
    pub(crate) fn serve(
        self,
        path: &Path,
        first: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("there is no event loop: {error}"))?;
        let path: PathBuf = path.to_owned();
        let shared = self.snapshots.current().shared.clone();
        let result = runtime.block_on(async {
            first.await?;
            server::run(path, self.snapshots, self.inherited).await
        });
        runtime.shutdown_background();
        // Lines that do not get out within that time are lost with the process.
        let patience = std::time::Duration::from_secs(2);
        let _ = shared.logs.flush(patience);
        let _ = self.log.flush(patience);
        result
    }
}

/// As many files as the process may ever open. The lower limit that shells and service managers start with is for
/// programs that still use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it there is room for fewer connections, which is all.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn log_format(config: &Config, asked: Option<Format>) -> LogFormat {
    match (asked, config.log.format) {
        (Some(Format::Human), _) | (None, portcullis_config::LogFormat::Human) => LogFormat::Human,
        (Some(Format::Json), _) | (None, portcullis_config::LogFormat::Json) => LogFormat::Json,
        (None, portcullis_config::LogFormat::Auto) => LogFormat::Auto,
    }
}
