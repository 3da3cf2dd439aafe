//! The operators' listener: metrics, liveness, readiness. Never for the internet.

use crate::discovery;
use crate::health;
use crate::reload::Status;
use crate::snapshot::Snapshots;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tower_http::timeout::TimeoutLayer;

/// What the admin listener tells of.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) snapshots: Snapshots,
    pub(crate) status: Arc<Status>,
}

/// Serves `/metrics`, `/healthz` and `/readyz` until the process ends, on a socket that was inherited or at an address.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn serve(
    address: SocketAddr,
    inherited: Option<std::net::TcpListener>,
    admin: Admin,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(10)))
        .with_state(admin);
    let listener = match inherited {
        Some(socket) => TcpListener::from_std(socket)?,
        None => TcpListener::bind(address).await?,
    };
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin listener ended");
        }
    });
    Ok(())
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let snapshot = admin.snapshots.current();
    snapshot.publish_pools();
    snapshot.publish_expiries();
    discovery::publish(&snapshot);
    match snapshot.shared.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, portcullis_telemetry::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Ready unless the process drains. A reload that failed does not end readiness, since the configuration before it
/// still serves, but shows here in full; nor does an upstream that fails, since the process could not serve it better
/// elsewhere.
async fn ready(State(admin): State<Admin>) -> Response {
    let draining = admin.status.is_draining();
    let snapshot = admin.snapshots.current();
    let key_sets: Vec<_> = snapshot
        .shared
        .keys
        .status(Instant::now())
        .into_iter()
        .map(|source| {
            json!({
                "url": source.url,
                "keys": source.keys,
                "age_seconds": source.age.map(|age| age.as_secs()),
                "failures": source.failures,
                "error": source.error,
            })
        })
        .collect();
    let upstreams: Vec<_> = snapshot.upstreams.iter().map(health::details).collect();
    let body = json!({
        "status": if draining { "draining" } else { "ready" },
        "config": {
            "hash": snapshot.hash,
            "last_reload": admin.status.last_reload(),
        },
        "upstreams": upstreams,
        "key_sets": key_sets,
        "discovery": discovery::readiness(&snapshot),
        "certificates": snapshot.shared.acme.status(),
    });
    let status = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(body)).into_response()
}
