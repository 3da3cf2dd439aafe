//! Three small services of a video platform, for the demonstration: real HTTP servers with invented data.

use axum::Router;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, ToSocketAddrs};

/// A service of the demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Service {
    /// Titles, search and reviews.
    Catalogue,
    /// Prices.
    Pricing,
    /// Who may watch what.
    Entitlement,
}

impl Service {
    pub(crate) const ALL: [Service; 3] = [Service::Catalogue, Service::Pricing, Service::Entitlement];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Service::Catalogue => "catalogue",
            Service::Pricing => "pricing",
            Service::Entitlement => "entitlement",
        }
    }

    /// Where the shipped configuration expects it.
    pub(crate) fn address(self) -> SocketAddr {
        let port = match self {
            Service::Catalogue => 8081,
            Service::Pricing => 8082,
            Service::Entitlement => 8083,
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn router(self) -> Router {
        let router = match self {
            Service::Catalogue => Router::new()
                .route("/titles", get(titles))
                .route("/titles/{id}", get(title))
                .route("/search", get(search))
                .route("/reviews", post(review)),
            Service::Pricing => Router::new().route("/prices/{id}", get(price)),
            Service::Entitlement => Router::new().route("/entitlements/{id}", get(entitlement)),
        };
        router.route("/healthz", get(|| async { "ok\n" }))
    }
}

/// Binds a service and serves it until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn start(service: Service, address: impl ToSocketAddrs) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, service.router()).await {
            tracing::error!(%error, service = service.name(), "the service ended");
        }
    });
    Ok(())
}

const TITLES: [(u32, &str, u32, &str); 4] = [
    (1, "The Portcullis", 2021, "A gatekeeper learns whom to let in."),
    (2, "O'Reilly & Sons", 2019, "Three generations of lock makers."),
    (3, "Select Few", 2023, "A union of unlikely friends."),
    (4, "Night Watch", 2024, "Somebody has to stay awake."),
];

fn find(id: u32) -> Option<(u32, &'static str, u32, &'static str)> {
    TITLES.into_iter().find(|title| title.0 == id)
}

fn missing() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({ "error": "no such title" }))).into_response()
}

fn describe((id, name, year, summary): (u32, &str, u32, &str)) -> Value {
    json!({ "id": id, "title": name, "year": year, "summary": summary })
}

async fn titles() -> Json<Value> {
    Json(TITLES.into_iter().map(describe).collect())
}

/// With the fields that frameworks like to add, so that their removal can be seen.
async fn title(Path(id): Path<u32>) -> Response {
    match find(id) {
        Some(title) => (
            [(header::SERVER, "catalogue/1.0"), (header::HeaderName::from_static("x-powered-by"), "axum")],
            Json(describe(title)),
        )
            .into_response(),
        None => missing(),
    }
}

#[derive(Deserialize)]
struct SearchQuery {
    #[serde(default)]
    q: String,
}

async fn search(Query(query): Query<SearchQuery>) -> Json<Value> {
    let wanted = query.q.to_lowercase();
    let hits: Vec<Value> =
        TITLES.into_iter().filter(|title| title.1.to_lowercase().contains(&wanted)).map(describe).collect();
    Json(json!({ "query": query.q, "hits": hits }))
}

#[derive(Deserialize)]
struct Review {
    title: u32,
    stars: u8,
    #[serde(default)]
    text: String,
}

async fn review(Json(review): Json<Review>) -> Response {
    if find(review.title).is_none() {
        return missing();
    }
    let stored =
        json!({ "title": review.title, "stars": review.stars.min(5), "length": review.text.chars().count() });
    (StatusCode::CREATED, Json(stored)).into_response()
}

/// Title 3 leaks a card number, which a real service must not do and sometimes does.
async fn price(Path(id): Path<u32>) -> Response {
    if find(id).is_none() {
        return missing();
    }
    let mut price = json!({ "currency": "EUR", "rent": 3.99, "buy": 11.99 });
    if id == 3
        && let Some(price) = price.as_object_mut()
    {
        price.insert("note".to_owned(), json!("last paid with 4111 1111 1111 1111"));
    }
    Json(price).into_response()
}

async fn entitlement(Path(id): Path<u32>) -> Response {
    match find(id) {
        Some(_) => Json(json!({ "watch": true, "until": "2030-01-01", "devices": 2 })).into_response(),
        None => missing(),
    }
}
