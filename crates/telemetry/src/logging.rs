//! The gateway's own messages.

use crate::{LogQueue, escape};
use portcullis_http::RequestId;
use std::fmt;
use std::io::{self, IsTerminal as _};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The format that [`LogFormat::Auto`] stands for here.
    #[must_use]
    pub fn resolve(self) -> Self {
        match self {
            LogFormat::Auto if io::stderr().is_terminal() => LogFormat::Human,
            LogFormat::Auto => LogFormat::Json,
            other => other,
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// How lines are written.
    pub format: LogFormat,
    /// The least important messages of ours that are written. Libraries' messages are written from `warn` up,
    /// or less.
    pub level: LevelFilter,
}

/// Logging could not be set up or changed.
#[derive(Debug)]
pub enum LoggingError {
    /// This process has a subscriber already.
    AlreadyInitialized,
    /// The subscriber is gone.
    Gone,
}

impl fmt::Display for LoggingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoggingError::AlreadyInitialized => {
                "logging is set up twice in this process; set it up once, in main"
            }
            LoggingError::Gone => "the log's level cannot be changed: its subscriber is gone",
        })
    }
}

impl std::error::Error for LoggingError {}

/// The handle of the running log.
#[derive(Debug)]
pub struct Logging(reload::Handle<Targets, Registry>);

impl Logging {
    /// Changes the level, as a reload may.
    ///
    /// # Errors
    /// When the subscriber is gone.
    pub fn set_level(&self, level: LevelFilter) -> Result<(), LoggingError> {
        self.0.reload(targets(level)).map_err(|_| LoggingError::Gone)
    }
}

/// Sends this process's messages to `queue`.
///
/// # Errors
/// When it was called before.
pub fn init(settings: LogSettings, queue: &LogQueue) -> Result<Logging, LoggingError> {
    let (filter, handle) = reload::Layer::new(targets(settings.level));
    let human = settings.format.resolve() == LogFormat::Human;
    let lines = Lines { queue: queue.clone(), human, colours: human && io::stderr().is_terminal() };
    let installed = tracing_subscriber::registry().with(lines.layer().with_filter(filter)).try_init();
    installed.map_err(|_| LoggingError::AlreadyInitialized)?;
    Ok(Logging(handle))
}

fn targets(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("portcullis", level)
}

/// The span that messages about one request stand in. It exists from level `debug` on: what an operator needs
/// of every request is in its access line.
#[must_use]
pub fn request_span(id: &RequestId) -> tracing::Span {
    tracing::debug_span!("request", request_id = %id)
}

/// Hands finished lines to the queue.
#[derive(Clone, Debug)]
struct Lines {
    queue: LogQueue,
    human: bool,
    colours: bool,
}

impl Lines {
    fn layer(self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let colours = self.colours;
        if self.human {
            tracing_subscriber::fmt::layer().with_writer(self).with_ansi(colours).with_target(false).boxed()
        } else {
            let json = tracing_subscriber::fmt::layer().with_writer(self).json();
            json.flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    }
}

impl io::Write for Lines {
    /// The formatter hands over each line whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let mut out = Vec::with_capacity(bytes.len() + 16);
        if self.human {
            escape::human_line(&line, self.colours, &mut out);
        } else {
            escape::json_line(&line, &mut out);
        }
        self.queue.push(&out);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuildInfo, DEFAULT_CAPACITY, Metrics};
    use std::time::Duration;

    fn logged(colours: bool) -> String {
        let metrics = Metrics::new(BuildInfo { version: "0", rustc: "0" }).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let queue = LogQueue::start(file.reopen().unwrap(), DEFAULT_CAPACITY, &metrics).unwrap();
        let lines = Lines { queue: queue.clone(), human: true, colours };
        let subscriber = tracing_subscriber::registry().with(lines.layer());
        let hostile = "a\x1b[2J\u{9b}2J\n2026 ERROR forged\u{202e}";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(field = hostile, shown = %hostile, "{hostile}");
        });
        assert!(queue.flush(Duration::from_secs(60)));
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn j3_lines_for_people_keep_our_colours_and_nobody_elses() {
        for colours in [false, true] {
            let text = logged(colours);
            assert_eq!(text.contains('\x1b'), colours, "{text:?}");
            assert!(!text.contains("\x1b[2J") && !text.contains(['\u{9b}', '\u{202e}']), "{text:?}");
            assert!(text.lines().skip(1).all(|line| line.starts_with("    ")), "{text:?}");
        }
    }
}
