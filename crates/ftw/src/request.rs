//! The request of a stage: as go-ftw would send it, as a server would hand it on, and what the backend answers.

use serde_json::Value as Json;
use serde_norway::Value;

use crate::Input;

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

    /// The bytes that go-ftw sends: an encoded request as it is, everything else completed and written out.
    #[must_use]
    pub fn wire(&self) -> Vec<u8> {
        if let Some(encoded) = &self.encoded_request {
            return base64(encoded);
        }
        let request = self.request();
        let mut bytes = [&request.method[..], &request.target, &request.version].join(&b' ');
        for (name, value) in &request.fields {
            bytes.extend([b"\r\n", &name[..], b": ", value].concat());
        }
        bytes.extend(b"\r\n\r\n");
        bytes.extend(&request.body);
        bytes
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => String::new(),
    }
}

fn is(name: &str) -> impl Fn(&(Vec<u8>, Vec<u8>)) -> bool {
    move |field| field.0.eq_ignore_ascii_case(name.as_bytes())
}

impl Request {
    /// The first value of a field; names compare without regard to case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.as_slice())
    }

    fn complete(&mut self, has_data: bool) {
        let framed = self.field("Content-Length").is_some() || self.field("Transfer-Encoding").is_some();
        if has_data && self.field("Content-Type").is_none() {
            self.fields.push((b"Content-Type".to_vec(), b"application/x-www-form-urlencoded".to_vec()));
        }
        if has_data && !framed {
            self.fields.push((b"Content-Length".to_vec(), self.body.len().to_string().into_bytes()));
        }
        if self.field("Connection").is_none() {
            self.fields.push((b"Connection".to_vec(), b"close".to_vec()));
        }
        // A POST gets a length also when it has no body.
        if !has_data && !framed && self.method == b"POST" {
            self.fields.push((b"Content-Length".to_vec(), b"0".to_vec()));
        }
    }

    /// Reads a request from the wire as leniently as can be: tests send what no server likes.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = match end.and_then(|end| Some((bytes.get(..end)?, bytes.get(end + 4..)?))) {
            Some(both) => both,
            None => (bytes, &b""[..]),
        };
        let mut lines =
            head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut words = lines.next().unwrap_or(b"").splitn(3, |byte| *byte == b' ').map(<[u8]>::to_vec);
        let mut word = || words.next().unwrap_or_default();
        let (method, target, version) = (word(), word(), word());
        let fields = lines.filter_map(|line| {
            let mut halves = line.splitn(2, |byte| *byte == b':');
            Some((halves.next()?.to_vec(), halves.next()?.trim_ascii().to_vec()))
        });
        let fields = fields.collect();
        Self { method, target, version, fields, body: body.to_vec() }
    }

    /// What a server hands to its firewall of this request; the tests of CRS were written for one (Apache). `None`: it
    /// refuses the request with 400 and no rule sees it.
    #[must_use]
    pub fn as_served(mut self) -> Option<Self> {
        // RFC 9110, 5.5: no bare CR in a field.
        if self.fields.iter().any(|(_, value)| value.contains(&b'\r')) {
            return None;
        }
        // RFC 9112, 6.3: Transfer-Encoding overrides Content-Length, which is removed.
        if self.field("Transfer-Encoding").is_some() {
            self.fields.retain(|field| !is("Content-Length")(field));
        } else if self.field("Content-Length").is_none() {
            // Neither of them: there is no body.
            self.body.clear();
        }
        self.join("Content-Type");
        // RFC 1945, 3.1: a request line without a version.
        if self.version.is_empty() {
            self.version = b"HTTP/0.9".to_vec();
        }
        Some(self)
    }

    /// Makes one field of several of a name, as RFC 9110, 5.3 allows and Apache does.
    fn join(&mut self, name: &str) {
        let values: Vec<_> =
            self.fields.iter().filter(|field| is(name)(field)).map(|(_, value)| value.clone()).collect();
        if values.len() > 1 {
            self.fields.retain(|field| !is(name)(field));
            self.fields.push((name.as_bytes().to_vec(), values.join(&b", "[..])));
        }
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
        let file = crate::parse(
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
    fn a_request_goes_over_the_wire_as_described() {
        let input =
            Input { method: Some("POST".to_owned()), uri: Some("/a b".to_owned()), ..Input::default() };
        assert_eq!(input.wire(), b"POST /a b HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn encoded_requests_are_read_as_they_are() {
        let input = Input {
            encoded_request: Some("R0VUIC8gSFRUUC8xLjENCkE6IGINCg0KeA==".to_owned()),
            ..Input::default()
        };
        assert_eq!(input.wire(), b"GET / HTTP/1.1\r\nA: b\r\n\r\nx");
        let request = input.request();
        assert_eq!(
            (request.method.as_slice(), request.version.as_slice()),
            (b"GET".as_slice(), b"HTTP/1.1".as_slice())
        );
        assert_eq!(request.fields, [(b"A".to_vec(), b"b".to_vec())]);
        assert_eq!(request.body, b"x");
    }

    #[test]
    fn a_server_decides_what_rules_get_to_see() {
        let served = |head: &str| Request::from_wire(head.replace('\n', "\r\n").as_bytes()).as_served();
        assert_eq!(served("POST / HTTP/1.1\n\nx").unwrap().body, b"", "no framing, no body");
        let both = served("POST / HTTP/1.1\nContent-Length: 1\nTransfer-Encoding: chunked\n\nx").unwrap();
        assert_eq!((both.field("content-length"), both.body.as_slice()), (None, b"x".as_slice()));
        let twice = served("GET /\nContent-Type: a\nA: b\ncontent-type: c\n\n").unwrap();
        assert_eq!(twice.version, b"HTTP/0.9");
        assert_eq!(twice.field("content-type"), Some(b"a, c".as_slice()));
        assert_eq!(twice.fields.len(), 2);
        assert_eq!(served("GET / HTTP/1.1\nA: b\rc\n\n"), None);
    }
}
