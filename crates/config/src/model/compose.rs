//! `[route.compose]`: one answer made from several upstream calls.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{ByteSize, Template, Timeout};

/// A composition: all parts are called at once and merged, in this order, into one JSON object.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    /// The calls.
    #[schemars(length(min = 1, max = 32))]
    pub part: Vec<Part>,
    /// Name of a member of the answer that lists the parts that failed. Without it, only the header
    /// `X-Portcullis-Partial` tells.
    #[schemars(length(min = 1))]
    pub partial_field: Option<String>,
}

/// One call of a composition: a GET whose answer is a JSON object.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name in logs, metrics and `X-Portcullis-Partial`.
    #[schemars(schema_with = "crate::value::name_schema")]
    pub name: String,
    /// The upstream that is called.
    pub upstream: String,
    /// The path that is asked for, with values of the request percent-encoded into it.
    pub path: Template,
    /// Query parameters to send.
    #[serde(default)]
    pub query: BTreeMap<String, Template>,
    /// Headers to send, besides request id, trace and forwarding headers. Others of the client's headers do
    /// not pass.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "header-name" }))]
    pub headers: BTreeMap<String, Template>,
    /// How long the whole call may take.
    #[serde(default = "timeout")]
    pub timeout: Timeout,
    /// Whether the answer fails (502, 504) when this part does; otherwise it is served without the part and
    /// marked partial.
    #[serde(default = "required")]
    pub required: bool,
    /// Member of the answer that takes the part's document. Without it, the part's members are merged into
    /// the top of the answer; of two equal names the later part's wins.
    #[schemars(length(min = 1))]
    pub into: Option<String>,
    /// Only these members of the part's document are taken; dots lead into objects. Empty: all.
    #[serde(default)]
    pub pick: Vec<String>,
    /// These members are left out; dots lead into objects.
    #[serde(default)]
    pub drop: Vec<String>,
    /// The largest answer of the part.
    #[serde(default = "max_size")]
    pub max_size: ByteSize,
}

const fn timeout() -> Timeout {
    Timeout::from_secs(3)
}

const fn required() -> bool {
    true
}

const fn max_size() -> ByteSize {
    ByteSize::from_mib(1)
}
