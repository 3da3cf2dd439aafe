//! `[route.body]`: how much of a request's body is taken, and of what shape.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::ByteSize;

/// How a route takes request bodies.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Body {
    /// Whether bodies are held or passed through.
    pub mode: BodyMode,
    /// The largest body, counted after transfer decoding. Without it 1 MiB, and none where bodies stream
    /// through (`mode = "stream"`).
    pub limit: Option<ByteSize>,
    /// What happens to a larger body.
    pub over: Over,
    /// Media types taken, such as `"application/json"`, `"image/*"` or `"application/*+json"`; others get 415. Empty: all.
    pub content_types: Vec<String>,
    /// Content codings taken where the body is held: the coding is taken off and what comes out is inspected and
    /// counted against `limit`, while the upstream gets the body as it was sent. Others, and more than one on top
    /// of each other, get 415; data that is not of the coding gets 400. Empty: every compressed body gets 415.
    pub content_encodings: Vec<ContentEncoding>,
    /// How many times its size a compressed body may expand to; beyond it 413. Up to 64 KiB are never too many.
    #[schemars(range(min = 1))]
    pub max_expansion: u32,
    /// Shape of JSON bodies; checked where the media type says JSON and the body is held.
    pub json: Json,
}

impl Default for Body {
    fn default() -> Self {
        Self {
            mode: BodyMode::Buffer,
            limit: None,
            over: Over::Reject,
            content_types: Vec::new(),
            content_encodings: vec![
                ContentEncoding::Gzip,
                ContentEncoding::Deflate,
                ContentEncoding::Br,
                ContentEncoding::Zstd,
            ],
            max_expansion: 100,
            json: Json::default(),
        }
    }
}

impl Body {
    /// The largest body of a route that does not say: 1 MiB.
    pub const DEFAULT_LIMIT: ByteSize = ByteSize::from_mib(1);
}

/// Whether bodies are held or passed through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyMode {
    /// The whole body is held and inspected before the upstream sees a byte.
    #[default]
    Buffer,
    /// The body is passed on as it comes; body rules and JSON limits do not see it.
    Stream,
}

/// A content coding of request bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentEncoding {
    /// `gzip` and `x-gzip`.
    Gzip,
    /// `deflate`: zlib's format, as the standard has it; without its wrapping the data is refused.
    Deflate,
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
}

/// What happens to a body larger than the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// 413.
    #[default]
    Reject,
    /// The first `limit` bytes are inspected, then the body streams through. An attack may stand behind them.
    InspectPrefix,
}

/// Bounds on JSON documents; beyond them the request gets 400. The document's size is the body's `limit`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Json {
    /// Levels of arrays and objects inside each other.
    #[schemars(range(min = 1, max = 1024))]
    pub max_depth: u32,
    /// Members of one object.
    #[schemars(range(min = 1))]
    pub max_keys: u32,
    /// Items of one array.
    #[schemars(range(min = 1))]
    pub max_items: u32,
    /// Values in the whole document, arrays and objects included.
    #[schemars(range(min = 1))]
    pub max_values: u32,
    /// Bytes of one string or key as written, between its quotes.
    pub max_string: ByteSize,
    /// What happens to an object that has one key twice.
    pub duplicate_keys: DuplicateKeys,
}

impl Default for Json {
    fn default() -> Self {
        Self {
            max_depth: 64,
            max_keys: 1_000,
            max_items: 10_000,
            max_values: 100_000,
            max_string: ByteSize::from_kib(256),
            duplicate_keys: DuplicateKeys::Reject,
        }
    }
}

/// What happens to an object that has one key twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateKeys {
    /// 400: two readers of it may see two values, which is a way around checks.
    #[default]
    Reject,
    /// It passes.
    Allow,
}
