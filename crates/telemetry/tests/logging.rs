//! The gateway's own messages, through the real subscriber. One test, since a process has one subscriber.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_http::RequestId;
use portcullis_telemetry::{
    BuildInfo, DEFAULT_CAPACITY, LogFormat, LogQueue, LogSettings, LoggingError, Metrics, init, request_span,
};
use std::time::Duration;
use tracing::level_filters::LevelFilter;

#[test]
fn messages_are_json_lines_that_nobody_can_forge() {
    let metrics = Metrics::new(BuildInfo { version: "0", rustc: "0" }).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let queue = LogQueue::start(file.reopen().unwrap(), DEFAULT_CAPACITY, &metrics).unwrap();
    let settings = LogSettings { format: LogFormat::Json, level: LevelFilter::INFO };
    let logging = init(settings, &queue).unwrap();
    assert!(matches!(init(settings, &queue), Err(LoggingError::AlreadyInitialized)));

    let hostile = "a\r\n{\"level\":\"ERROR\"}\u{2028}\u{202e}\x1b[2J";
    tracing::info!(target: "portcullis_pipeline", hostile, "{hostile}");
    tracing::debug!(target: "portcullis_pipeline", "below the level");
    tracing::info!(target: "hyper", "a library's");
    logging.set_level(LevelFilter::DEBUG).unwrap();
    let id = RequestId::from_trusted(b"abc").unwrap();
    request_span(&id).in_scope(|| tracing::debug!(target: "portcullis", "seen now"));

    assert!(queue.flush(Duration::from_secs(60)));
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(!text.contains(['\u{2028}', '\u{202e}', '\x1b', '\r']));
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["hostile"], hostile);
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[1]["message"], "seen now");
    assert_eq!(lines[1]["span"]["request_id"], "abc");
}
