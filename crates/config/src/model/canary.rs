//! `[[route.canary]]`: other upstreams that take a part of a route's requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HeaderMatch, Route};
use crate::value::{CookieName, Regex, Share};

/// Another upstream for a part of the route's requests: a new version that is tried out, or another zone. A request goes
/// to the first of the route's canaries that one of its `headers` or `cookies` asks for; where none does, by `share`; and
/// what is left goes to the route's `upstream`. A canary may name that upstream too, with conditions and no share: then
/// these requests stay out of the trial.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The upstream.
    pub upstream: String,
    /// Its share of the requests that no condition decides. All shares of a route together are at most 100%.
    #[serde(default = "none")]
    pub share: Share,
    /// Conditions on request headers: one that holds sends the request here.
    #[serde(default)]
    pub headers: Vec<HeaderMatch>,
    /// Conditions on cookies: one that holds sends the request here.
    #[serde(default)]
    pub cookies: Vec<CookieMatch>,
}

const fn none() -> Share {
    Share::NONE
}

/// A condition on a cookie: exactly one of `value`, `present` and `regex`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CookieMatch {
    /// The cookie.
    pub name: CookieName,
    /// It has exactly this value.
    pub value: Option<String>,
    /// It is there (`true`) or not (`false`).
    pub present: Option<bool>,
    /// Its value matches.
    pub regex: Option<Regex>,
}

impl Route {
    /// Every upstream that the route names and where: its own, its canaries' and its mirror's, but for those of a
    /// composition's parts.
    pub fn upstreams<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (String, &'a str)> + 'a {
        let own = self.upstream.iter().map(move |name| (format!("{path}.upstream"), name.as_str()));
        let canary = move |(at, canary): (usize, &'a Canary)| {
            (format!("{path}.canary[{at}].upstream"), canary.upstream.as_str())
        };
        let mirror =
            move |mirror: &'a super::Mirror| (format!("{path}.mirror.upstream"), mirror.upstream.as_str());
        own.chain(self.canary.iter().enumerate().map(canary)).chain(self.mirror.iter().map(mirror))
    }
}
