//! `[upstream.NAME]`: how a request's endpoint is chosen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{CookieName, Duration, HashKey, Secret};

/// How a request's endpoint is chosen. Weights count in all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// The one with fewer requests in flight of two chosen at random.
    PowerOfTwo,
    /// The one that is likely to answer sooner of two chosen at random: by requests in flight and a moving average of
    /// latencies that rises at once and falls slowly.
    PeakEwma,
    /// Any.
    Random,
    /// Requests with the same `hash` go to the same endpoint.
    RingHash,
}

/// What consistent hashing goes by.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hash {
    /// What of a request is hashed. Requests that do not have it go anywhere.
    pub by: HashKey,
    /// How many requests in flight an endpoint may have, in percent of its share of all of the upstream's by weight; further
    /// ones go to the next endpoint on the ring. More than 100; 0 sets no bound, so that one popular key may swamp its
    /// endpoint.
    #[serde(default = "balance_factor")]
    #[schemars(range(max = 10_000))]
    pub balance_factor: u32,
}

const fn balance_factor() -> u32 {
    125
}

/// A cookie of the gateway's by which a client stays with the endpoint that first answered it. It names the endpoint in a
/// way that only the gateway can read and make. Where that endpoint is gone or not available, another is chosen by
/// `balance` and the cookie is set anew. The calls of compositions have no such cookie.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sticky {
    /// The cookie's name.
    pub cookie: CookieName,
    /// What the cookie's values are made with. Gateways beside each other need the same, at least 16 bytes; take it from the
    /// environment. Without it, each process makes its own when it starts, and clients choose anew when it restarts.
    pub secret: Option<Secret>,
    /// Paths that the browser sends it with.
    #[schemars(length(min = 1))]
    pub path: String,
    /// How long the browser keeps it. Without it, until it is closed.
    pub max_age: Option<Duration>,
    /// Whether browsers send it over HTTPS only.
    pub secure: bool,
    /// Whether it is kept from scripts.
    pub http_only: bool,
    /// Which requests of other sites' pages it comes with.
    pub same_site: SameSite,
}

impl Default for Sticky {
    fn default() -> Self {
        Sticky {
            cookie: CookieName::new("portcullis_endpoint"),
            secret: None,
            path: "/".to_owned(),
            max_age: None,
            secure: true,
            http_only: true,
            same_site: SameSite::default(),
        }
    }
}

/// Which requests of other sites' pages a cookie comes with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// None.
    Strict,
    /// Navigation: a link that is followed.
    #[default]
    Lax,
    /// All; needs `secure`.
    None,
}
