//! Requests and responses as people have them at hand, and their way through a transaction.

use portcullis_waf::{Interruption, Transaction};
use std::net::{IpAddr, Ipv4Addr};

/// The gateway's own address, as rules see it.
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// Name and value, as bytes.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// A request, byte by byte as it would be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    /// As `HTTP/1.1`.
    pub(super) version: Vec<u8>,
    pub(super) fields: Vec<Field>,
    pub(super) body: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) fields: Vec<Field>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Reads a request as HTTP/1.1 writes it; line ends may be bare line feeds, as editors make them.
    ///
    /// # Errors
    /// The line that cannot be read, and why.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let (first, fields, body) = message(text)?;
        let mut words = first.split(|byte| *byte == b' ');
        let (Some(method), Some(version)) = (words.next(), words.next_back()) else {
            return Err("line 1: not a request line, such as `GET /path HTTP/1.1`".to_owned());
        };
        let target = words.collect::<Vec<_>>().join(&b' ');
        if method.is_empty() || target.is_empty() || !version.starts_with(b"HTTP/") {
            return Err("line 1: not a request line, such as `GET /path HTTP/1.1`".to_owned());
        }
        Ok(Self { method: method.to_vec(), target, version: version.to_vec(), fields, body })
    }

    /// The target up to its query.
    pub(super) fn path(&self) -> String {
        let path = self.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        String::from_utf8_lossy(path).into_owned()
    }

    /// Takes the request, and its response if there is one, through the phases of a transaction, up to the first that
    /// interrupts it.
    pub(super) fn judge(
        &self,
        transaction: &mut Transaction,
        client: IpAddr,
        response: Option<&Response>,
    ) -> Option<Interruption> {
        transaction.connection(client, 40_000, SERVER, 443);
        transaction.request_line(&self.method, &self.target, &self.version);
        for (name, value) in &self.fields {
            transaction.request_header(name, value);
        }
        let refused = transaction
            .check_request_headers()
            .or_else(|| transaction.write_request_body(&self.body))
            .or_else(|| transaction.check_request_body());
        let Some(response) = response.filter(|_| refused.is_none()) else { return refused };
        transaction.response_status(response.status);
        for (name, value) in &response.fields {
            transaction.response_header(name, value);
        }
        transaction
            .check_response_headers()
            .or_else(|| transaction.write_response_body(&response.body))
            .or_else(|| transaction.check_response_body())
    }
}

impl Response {
    /// Reads a response as HTTP/1.1 writes it; see [`Request::parse`].
    ///
    /// # Errors
    /// The line that cannot be read, and why.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let (first, fields, body) = message(text)?;
        let status = String::from_utf8_lossy(&first).split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.filter(|_| first.starts_with(b"HTTP/"));
        let status = status.ok_or("line 1: not a status line, such as `HTTP/1.1 200 OK`")?;
        Ok(Self { status, fields, body })
    }
}

/// First line, fields and body of a message.
type Parts = (Vec<u8>, Vec<Field>, Vec<u8>);

fn message(text: &[u8]) -> Result<Parts, String> {
    let mut rest = text;
    let mut next = || {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, after) = match end {
            Some(end) => (rest.get(..end)?, rest.get(end + 1..)?),
            None if rest.is_empty() => return None,
            None => (rest, &[][..]),
        };
        rest = after;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    };
    let first = next().unwrap_or_default().to_vec();
    let mut fields = Vec::new();
    let mut number = 1;
    while let Some(line) = next().filter(|line| !line.is_empty()) {
        number += 1;
        let colon = line.iter().position(|byte| *byte == b':').filter(|at| *at > 0);
        let parts = colon.and_then(|at| Some((line.get(..at)?, line.get(at + 1..)?)));
        let (name, value) =
            parts.ok_or_else(|| format!("line {number}: not a field, such as `Name: value`"))?;
        fields.push((name.to_vec(), value.trim_ascii().to_vec()));
    }
    let mut body = rest.to_vec();
    let named = |name: &str| {
        let found = fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    if named("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Err("a chunked body: write the body as it is, with its Content-Length".to_owned());
    }
    if let Some(length) = named("Content-Length").and_then(|length| length.parse::<usize>().ok()) {
        if body.len() < length {
            return Err(format!("the body has {} bytes, and Content-Length says {length}", body.len()));
        }
        // What is behind is the editor's last line feed, or another message.
        body.truncate(length);
    }
    Ok((first, fields, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9112, 2.1 and 3.1; bare line feeds as editors make them.
    #[test]
    fn messages() {
        let text = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Y:  z \r\nContent-Length: 3\r\n\r\nabc\n";
        let request = Request::parse(text).unwrap();
        assert_eq!(
            (&*request.method, &*request.target, &*request.body),
            (&b"POST"[..], &b"/a?b=c"[..], &b"abc"[..])
        );
        assert_eq!(request.fields[1], (b"X-Y".to_vec(), b"z".to_vec()));
        assert_eq!(request.path(), "/a");
        let bare = Request::parse(&String::from_utf8_lossy(text).replace("\r\n", "\n").into_bytes()).unwrap();
        assert_eq!(bare, request);
        assert_eq!(Request::parse(b"GET /a b HTTP/1.1\n\n").unwrap().target, b"/a b");
        let response = Response::parse(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nbody").unwrap();
        assert_eq!((response.status, response.fields.len(), &*response.body), (404, 1, &b"body"[..]));
        for (text, said) in [
            (&b""[..], "line 1"),
            (b"GET /\n", "line 1"),
            (b"GET / HTTP/1.1\nHost\n\n", "line 2"),
            (b"GET / HTTP/1.1\nContent-Length: 5\n\nabc", "says 5"),
            (b"GET / HTTP/1.1\nTransfer-Encoding: chunked\n\n0\n", "chunked"),
        ] {
            assert!(Request::parse(text).unwrap_err().contains(said), "{said}");
        }
        assert!(Response::parse(b"GET / HTTP/1.1\n\n").is_err());
    }
}
