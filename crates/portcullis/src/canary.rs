//! Canaries: which of a route's upstreams a request goes to.

use crate::affinity::HashKey;
use crate::plan::Target;
use crate::router::Test;
use portcullis_config::Share;
use portcullis_http::{Exchange, cookie};
use portcullis_telemetry::Counter;
use portcullis_upstream::hash_key;

/// Makes another key of a key: "canary", in ASCII.
const APART: u64 = 0x6361_6e61_7279;

/// The canaries of a route.
#[derive(Debug)]
pub(crate) struct CanaryPlan {
    /// What shares go by; without it, chance.
    pub(crate) key: Option<HashKey>,
    pub(crate) canaries: Box<[Canary]>,
    /// Requests that no canary takes.
    pub(crate) rest: Counter,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Canary {
    pub(crate) target: Target,
    pub(crate) conditions: Box<[Condition]>,
    /// Where its share ends, in millionths; it begins where that of the one before ends.
    pub(crate) end: u32,
    pub(crate) requests: Counter,
}

/// What sends a request to a canary whatever the shares.
#[derive(Debug)]
pub(crate) enum Condition {
    Header(String, Test),
    Cookie(String, Test),
}

impl Condition {
    fn holds(&self, exchange: &Exchange) -> bool {
        let fields = &exchange.request.fields;
        match self {
            Condition::Header(name, test) => test.holds(fields.get(name)),
            Condition::Cookie(name, test) => test.holds(cookie(fields, name)),
        }
    }
}

impl CanaryPlan {
    /// Where the request goes, unless it is the route's own upstream; counts it.
    pub(crate) fn choose(&self, exchange: &Exchange) -> Option<&Target> {
        let asks = |canary: &&Canary| canary.conditions.iter().any(|condition| condition.holds(exchange));
        let chosen = self.canaries.iter().find(asks).or_else(|| {
            let draw = self.draw(exchange);
            self.canaries.iter().find(|canary| draw < canary.end)
        });
        chosen.map_or(&self.rest, |canary| &canary.requests).inc();
        chosen.map(|canary| &canary.target)
    }

    /// A number of millionths. It has nothing in common with the place of the same key on a ring: each endpoint behind
    /// sees a sample of all keys.
    fn draw(&self, exchange: &Exchange) -> u32 {
        let hash = self.key.as_ref().and_then(|key| key.hash(exchange));
        let Some(hash) = hash else { return fastrand::u32(..Share::WHOLE) };
        let apart = hash_key(&(hash ^ APART).to_be_bytes());
        u32::try_from(apart % u64::from(Share::WHOLE)).unwrap_or(0)
    }
}
