//! The tests of rule sets, in the YAML schema of go-ftw that the OWASP Core Rule Set uses.
//!
//! A file holds the tests of one rule, a test its stages, a stage a request and what the log must say about it.
//! [`load`] reads files, [`Input::request`] makes the request, [`Request::reflection`] the response of the backend
//! `/reflect`, which answers what the request's JSON body describes. Who runs the rules is the caller's business.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value as Json;
use serde_norway::Value;

/// One file: the tests of one rule.
#[derive(Clone, Debug, Deserialize)]
pub struct TestFile {
    /// The rule; 0 in a file that names none (CRS has one without tests).
    #[serde(default)]
    pub rule_id: u32,
    /// Its tests.
    #[serde(default)]
    pub tests: Vec<Test>,
    /// Where the file lies.
    #[serde(skip)]
    pub path: PathBuf,
}

/// One test.
#[derive(Clone, Debug, Deserialize)]
pub struct Test {
    /// Its number within the file.
    pub test_id: u32,
    /// What it is about.
    #[serde(default)]
    pub desc: String,
    /// The requests, one after the other.
    #[serde(default)]
    pub stages: Vec<Stage>,
}

/// A request and what must come of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Stage {
    /// The request.
    pub input: Input,
    /// What must come of it.
    #[serde(default)]
    pub output: Output,
}

/// A request as the file describes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Input {
    /// The method; `GET` when absent.
    pub method: Option<String>,
    /// The target; `/` when absent.
    pub uri: Option<String>,
    /// The protocol; `HTTP/1.1` when absent.
    pub version: Option<String>,
    /// The fields in order.
    pub headers: serde_norway::Mapping,
    /// The body.
    pub data: Option<String>,
    /// The whole request, base64-encoded; then nothing else counts.
    pub encoded_request: Option<String>,
    /// Whether Content-Length, Content-Type and Connection are added; they are when absent.
    pub autocomplete_headers: Option<bool>,
}

/// What must come of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Output {
    /// What the log must and must not say.
    pub log: Log,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Whether the connection is expected to fail.
    pub expect_error: bool,
}

/// What the log must and must not say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Rules that must be logged.
    pub expect_ids: Vec<u32>,
    /// Rules that must not be logged.
    pub no_expect_ids: Vec<u32>,
    /// A pattern some line must match.
    pub match_regex: Option<String>,
    /// A pattern no line may match.
    pub no_match_regex: Option<String>,
}

/// A request as it goes over the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Vec<u8>,
    /// The target as sent.
    pub target: Vec<u8>,
    /// The protocol, such as `HTTP/1.1`.
    pub version: Vec<u8>,
    /// Names and values in order.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The response `/reflect` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reflection {
    /// The status.
    pub status: u16,
    /// Names and values in order.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Reads all `.yaml` files below a directory, sorted by path.
///
/// # Panics
/// When a file cannot be read or does not follow the schema: the message names it.
#[must_use]
pub fn load(directory: &Path) -> Vec<TestFile> {
    let mut pending = vec![directory.to_owned()];
    let mut paths = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
        {
            let path = entry.unwrap_or_else(|e| panic!("{}: {e}", directory.display())).path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.into_iter().map(|path| read(&path)).collect()
}

fn read(path: &Path) -> TestFile {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut file: TestFile =
        serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.path = path.to_owned();
    file
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => String::new(),
    }
}

impl Input {
    /// The request, completed as go-ftw completes it.
    #[must_use]
    pub fn request(&self) -> Request {
        if let Some(encoded) = &self.encoded_request {
            return Request::from_wire(&base64(encoded));
        }
        let text =
            |value: &Option<String>, default: &str| value.as_deref().unwrap_or(default).as_bytes().to_vec();
        let mut request = Request {
            method: text(&self.method, "GET"),
            target: text(&self.uri, "/"),
            version: text(&self.version, "HTTP/1.1"),
            fields: Vec::new(),
            body: text(&self.data, ""),
        };
        for (name, value) in &self.headers {
            request.fields.push((plain(name).into_bytes(), plain(value).into_bytes()));
        }
        if self.autocomplete_headers != Some(false) {
            request.complete(self.data.is_some());
        }
        request
    }
}

impl Request {
    /// The first value of a field; names compare without regard to case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.as_slice())
    }

    fn complete(&mut self, has_data: bool) {
        if has_data {
            if self.field("Content-Type").is_none() {
                self.fields.push((b"Content-Type".to_vec(), b"application/x-www-form-urlencoded".to_vec()));
            }
            if self.field("Content-Length").is_none() && self.field("Transfer-Encoding").is_none() {
                self.fields.push((b"Content-Length".to_vec(), self.body.len().to_string().into_bytes()));
            }
        }
        if self.field("Connection").is_none() {
            self.fields.push((b"Connection".to_vec(), b"close".to_vec()));
        }
    }

    /// Reads a request from the wire as leniently as can be: tests send what no server likes.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = &bytes[..end];
        let mut lines =
            head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut words = lines.next().unwrap_or(b"").splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec);
        let mut word = || words.next().unwrap_or_default();
        let (method, target, version) = (word(), word(), word());
        let fields = lines.filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((line[..colon].to_vec(), line[colon + 1..].trim_ascii().to_vec()))
        });
        let fields = fields.collect();
        Self { method, target, version, fields, body: bytes.get(end + 4..).unwrap_or(b"").to_vec() }
    }

    /// The response that the backend's `/reflect` makes of this request's JSON body
    /// (`{"status":200,"headers":{…},"body":"…"}`, or `encodedBody` in base64); `None` for other paths.
    ///
    /// A missing Content-Type is filled in as Go's server does: HTML when the body looks like it, else plain text.
    #[must_use]
    pub fn reflection(&self) -> Option<Reflection> {
        if !self.target.starts_with(b"/reflect") {
            return None;
        }
        let described: Json = serde_json::from_slice(&self.body).ok()?;
        let body = match (described.get("body"), described.get("encodedBody")) {
            (Some(Json::String(text)), _) => text.clone().into_bytes(),
            (_, Some(Json::String(encoded))) => base64(encoded),
            _ => Vec::new(),
        };
        let headers = described.get("headers").and_then(Json::as_object).into_iter().flatten();
        let mut fields: Vec<(String, String)> = headers
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("Content-Type")) {
            let html = body.trim_ascii_start().starts_with(b"<");
            let media_type = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
            fields.push(("Content-Type".to_owned(), media_type.to_owned()));
        }
        let status = described.get("status").and_then(Json::as_u64).unwrap_or(200);
        Some(Reflection { status: u16::try_from(status).unwrap_or(200), fields, body })
    }
}

/// Decodes base64 up to the first byte that is none; white space does not count.
fn base64(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xFF) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_becomes_a_request_and_a_response() {
        let file: TestFile = serde_norway::from_str(
            "rule_id: 7\ntests:\n  - test_id: 1\n    stages:\n      - input:\n          method: POST\n          uri: /reflect\n          headers: {Host: a, X-Number: 5}\n          data: '{\"status\":404,\"body\":\"<p>\"}'\n        output: {log: {expect_ids: [7]}}\n",
        )
        .unwrap();
        let stage = &file.tests[0].stages[0];
        assert_eq!(stage.output.log.expect_ids, [7]);
        let request = stage.input.request();
        assert_eq!(request.field("content-length"), Some(b"27".as_slice()));
        assert_eq!(request.field("x-number"), Some(b"5".as_slice()));
        let response = request.reflection().unwrap();
        assert_eq!((response.status, response.body.as_slice()), (404, b"<p>".as_slice()));
        assert_eq!(response.fields[0].1, "text/html; charset=utf-8");
    }

    #[test]
    fn encoded_requests_are_read_as_they_are() {
        let input = Input {
            encoded_request: Some("R0VUIC8gSFRUUC8xLjENCkE6IGINCg0KeA==".to_owned()),
            ..Input::default()
        };
        let request = input.request();
        assert_eq!(
            (request.method.as_slice(), request.version.as_slice()),
            (b"GET".as_slice(), b"HTTP/1.1".as_slice())
        );
        assert_eq!(request.fields, [(b"A".to_vec(), b"b".to_vec())]);
        assert_eq!(request.body, b"x");
    }
}
