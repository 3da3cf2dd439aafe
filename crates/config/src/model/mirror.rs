//! `[route.mirror]`: copies of requests for another upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{HeaderName, HeaderValue, Share, Timeout};

/// Copies of the route's requests, as its upstream gets them, go to another upstream, too. What becomes of them changes
/// nothing: the client's answer neither waits for them nor fails with them. Its own answers are read and thrown away.
/// Only requests that are held are copied: none that switch protocols, and none whose body is passed on before all of it
/// has come.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The upstream that gets the copies.
    pub upstream: String,
    /// The share of requests that is copied.
    #[serde(default)]
    pub share: Share,
    /// Copies under way at once. Further ones are dropped and counted (`portcullis_mirrored_requests_total`).
    #[serde(default = "max_concurrent")]
    #[schemars(range(min = 1, max = 65_536))]
    pub max_concurrent: u32,
    /// How long a copy may take, to the end of its answer.
    #[serde(default = "timeout")]
    pub timeout: Timeout,
    /// Put behind the name in `Host`, such as `"-shadow"`, so that the copies can be told from requests.
    pub host_suffix: Option<HeaderValue>,
    /// Headers that copies do not have: what a system that is tried out should not see, such as `"authorization"` and
    /// `"cookie"`.
    #[serde(default)]
    pub remove_headers: Vec<HeaderName>,
}

const fn max_concurrent() -> u32 {
    64
}

const fn timeout() -> Timeout {
    Timeout::from_secs(5)
}
