//! What the tests have in common.

use portcullis_compose::{Composed, Composition, Failure, Input, Part, PartError};
use portcullis_http::{Budget, Fields, Params, Piece, Values};
use portcullis_testkit::Origin;
use portcullis_upstream::{EndpointSettings, Upstream, UpstreamSettings};
use std::net::SocketAddr;
use std::time::Duration;

/// Bounds each test; far above what any takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn upstream(address: SocketAddr) -> Upstream {
    let endpoint = EndpointSettings::new(address.ip().to_string(), address.port());
    Upstream::new(UpstreamSettings::new("backend", vec![endpoint]), None).unwrap()
}

pub(crate) fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

/// A required part that asks for `/NAME`.
pub(crate) fn part_at(name: &str, address: SocketAddr) -> Part {
    Part::new(name, upstream(address), vec![text(&format!("/{name}"))].into())
}

pub(crate) fn part(name: &str, origin: &Origin) -> Part {
    part_at(name, origin.address())
}

pub(crate) fn optional(part: Part) -> Part {
    Part { required: false, ..part }
}

/// What a request brings along.
pub(crate) struct Request {
    pub(crate) params: Params,
    pub(crate) query: Option<String>,
    pub(crate) fields: Fields,
    pub(crate) budget: Budget,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            params: Params::default(),
            query: None,
            fields: Fields::default(),
            budget: Budget::new(64 << 20),
        }
    }
}

impl Request {
    pub(crate) async fn run(&self, composition: &Composition) -> Result<Composed, Failure> {
        let mut base = Fields::default();
        base.append("host", "gateway.test").unwrap();
        base.append("x-request-id", "r-1").unwrap();
        let input = Input {
            values: Values { params: &self.params, query: self.query.as_deref(), fields: &self.fields },
            base: &base,
            hashes: &[],
            budget: &self.budget,
            deadline: None,
        };
        tokio::time::timeout(PATIENCE, composition.run(&input)).await.expect("a composition never hangs")
    }
}

pub(crate) fn composition(parts: Vec<Part>) -> Composition {
    Composition::new(parts, None).unwrap()
}

pub(crate) async fn run(parts: Vec<Part>) -> Result<Composed, Failure> {
    Request::default().run(&composition(parts)).await
}

pub(crate) fn body(composed: &Composed) -> &str {
    std::str::from_utf8(&composed.body).unwrap()
}

pub(crate) fn field<'a>(composed: &'a Composed, name: &str) -> Option<&'a str> {
    composed.fields.get_str(name)
}

/// Names and reasons of the parts that failed.
pub(crate) fn failed(composed: &Composed) -> Vec<(&str, PartError)> {
    composed.failed.iter().map(|failure| (&*failure.name, failure.reason)).collect()
}
