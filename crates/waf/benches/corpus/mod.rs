//! The requests that the benchmarks share: `requests.jsonl`, in the format of `portcullis rules bench`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// One request of the corpus.
#[derive(Deserialize)]
pub(crate) struct Request {
    pub(crate) id: String,
    /// `figure` for the four requests of the published table, `more` for the others.
    pub(crate) class: String,
    /// What CRS is to do with it: `pass` or `block`.
    pub(crate) expect: String,
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: Vec<(String, String)>,
    #[serde(rename = "body_b64", deserialize_with = "decoded")]
    pub(crate) body: Vec<u8>,
}

fn decoded<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// All requests, in the order of the file.
pub(crate) fn requests() -> Vec<Request> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/requests.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
