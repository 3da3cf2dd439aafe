//! `[route.cors]`: which web pages of other origins may read answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Route;
use crate::value::{Duration, HeaderName, Method, OriginPattern};

/// Cross-origin resource sharing by the Fetch standard: which web pages of other origins a browser lets send requests to
/// this route and read its answers. With this table the gateway answers preflights itself, before authentication, puts
/// the fields on every answer of the route, refusals included, and takes the upstream's own `Access-Control-*` off. It
/// keeps browsers honest and nobody else: a request of another origin is still forwarded, only its page cannot read the
/// answer. Who may call is what `auth` says.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins whose pages may read answers: exact, with a wildcard for one or more labels, `"null"` (sandboxed pages and
    /// local files), or `"*"` for all.
    #[schemars(length(min = 1))]
    pub origins: Vec<OriginPattern>,
    /// Methods that preflights allow. Without it, those of the route's `match`, or where it takes all, `GET`, `HEAD` and
    /// `POST`. `["*"]` is all of them.
    pub methods: Option<Vec<Method>>,
    /// Request headers that preflights allow, besides those that need no leave (`Accept`, `Content-Type` of forms and the
    /// like). `"*"` is all but `Authorization`, which has to be named.
    #[serde(default)]
    pub headers: Vec<HeaderName>,
    /// Headers of answers that pages may read, besides `Cache-Control`, `Content-Language`, `Content-Length`,
    /// `Content-Type`, `Expires`, `Last-Modified` and `Pragma`. `"*"` is all of them.
    #[serde(default)]
    pub expose_headers: Vec<HeaderName>,
    /// Whether browsers may send cookies, client certificates and passwords they keep for this host. Needs origins that
    /// are named: no `"*"` is possible beside it.
    #[serde(default)]
    pub credentials: bool,
    /// How long browsers may keep a preflight's answer. Chromium keeps none for longer than 2h, Firefox than 24h.
    #[serde(default = "max_age")]
    pub max_age: Duration,
}

/// What browsers do where nothing is said (Fetch standard, CORS-preflight fetch).
const fn max_age() -> Duration {
    Duration::from_secs(5)
}

/// What preflights allow on a route that takes all methods: the CORS-safelisted ones.
const SAFELISTED: [&str; 3] = ["GET", "HEAD", "POST"];

impl Route {
    /// The methods that preflights allow: those given, else the route's own.
    #[must_use]
    pub fn cors_methods(&self) -> Vec<&str> {
        let given = self.cors.as_ref().and_then(|cors| cors.methods.as_ref());
        let names: Vec<&str> = given.unwrap_or(&self.matches.methods).iter().map(Method::as_str).collect();
        match (given, names.contains(&"GET")) {
            (Some(_), _) => names,
            (None, _) if names.is_empty() => SAFELISTED.to_vec(),
            // A route that takes GET takes HEAD.
            (None, true) if !names.contains(&"HEAD") => names.into_iter().chain(["HEAD"]).collect(),
            (None, _) => names,
        }
    }
}
