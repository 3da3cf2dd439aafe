//! What people are told about metrics is what there is: the reference page, and the dashboard and the alerts
//! in `docker/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_telemetry::{CATALOGUE, Kind, reference};
use std::path::{Path, PathBuf};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[test]
fn the_reference_page_is_current() {
    let path = root("docs/metrics.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == reference(), "docs/metrics.md is not current; UPDATE=1 writes it anew");
}

/// Every metric name of ours in a text, as far as it can be told from other words.
fn names(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("portcullis_"))
        .collect()
}

fn is_exposed(name: &str) -> bool {
    CATALOGUE.iter().any(|metric| match metric.kind {
        Kind::Histogram => {
            name.strip_prefix(metric.name).is_some_and(|s| matches!(s, "_bucket" | "_sum" | "_count"))
        }
        _ => metric.name == name,
    })
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    for file in ["docker/grafana/dashboards/portcullis.json", "docker/prometheus/alerts.yml"] {
        let text = std::fs::read_to_string(root(file)).unwrap();
        let names = names(&text);
        assert!(names.len() > 5, "{file} asks for metrics");
        for name in names {
            assert!(is_exposed(name), "{file} asks for {name}, which does not exist");
        }
    }
}
