//! Request and response heads.

use crate::Scheme;
use crate::fields::{Fields, Span};
use std::fmt;

/// A protocol version as it stood on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As it stands in a request line and in logs, such as `HTTP/1.1`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }

    /// The number alone, as it stands in `Via`: `1.1`.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        }
    }
}

/// The methods that routing and retries treat by name (RFC 9110 §9, RFC 5789); any other is `Other`, its
/// text in [`RequestHead::method_text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// PATCH
    Patch,
    /// OPTIONS
    Options,
    /// TRACE, which the edge refuses.
    Trace,
    /// CONNECT, which the edge refuses.
    Connect,
    /// Any other token.
    Other,
}

/// Registered methods beyond those of [`Method`].
const REGISTERED: [&str; 30] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

impl Method {
    /// Reads a method; it is case-sensitive (RFC 9110 §9.1).
    #[must_use]
    pub fn from_bytes(text: &[u8]) -> Self {
        match text {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"PATCH" => Method::Patch,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// The method's name; `OTHER` for one that is not known here. For metric labels, which are a closed set.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Connect => "CONNECT",
            Method::Other => "OTHER",
        }
    }

    /// Whether a method has a meaning that all agree on: it is registered with IANA
    /// (<https://www.iana.org/assignments/http-methods>). CONNECT, TRACE and HTTP/2's PRI are not for an origin.
    #[must_use]
    pub fn is_registered(text: &[u8]) -> bool {
        match Method::from_bytes(text) {
            Method::Trace | Method::Connect => false,
            Method::Other => REGISTERED.iter().any(|name| name.as_bytes() == text),
            _ => true,
        }
    }

    /// Whether sending it twice has the effect of sending it once (RFC 9110 §9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Patch | Method::Connect | Method::Other)
    }
}

/// How the length of a body is known (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// Delimited by the chunked coding, or by the frames of HTTP/2.
    Chunked,
    /// Ended by the close of the connection; responses only.
    Close,
}

/// A protocol that an exchange can switch to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// WebSocket (RFC 6455).
    WebSocket,
}

/// A request's head: the request line and the fields. Method and target live in the fields' buffer.
#[derive(Clone, Default)]
pub struct RequestHead {
    /// The fields, in wire order. In HTTP/2 `:authority` stands here as `host`.
    pub fields: Fields,
    /// How long the body is.
    pub framing: Framing,
    /// The version the client spoke.
    pub version: Version,
    /// The method, by name.
    pub method: Method,
    /// The protocol the sender asks to switch to: by `Upgrade` in HTTP/1.1 (RFC 9110 §7.8), by an extended CONNECT in
    /// HTTP/2 (RFC 8441), which stands here as the GET that it would be in HTTP/1.1.
    pub upgrade: Option<Upgrade>,
    /// Whether the sender reads trailers (`TE: trailers`, RFC 9110 §6.5.1).
    pub accepts_trailers: bool,
    /// The scheme that the client itself named: `:scheme` in HTTP/2. `None` where it named none.
    pub scheme: Option<Scheme>,
    method_text: Span,
    target: Span,
}

impl RequestHead {
    /// Sets the request line. The target is kept as it was sent: the firewall inspects the raw bytes.
    pub fn set_line(&mut self, method: &[u8], target: &[u8], version: Version) {
        self.method = Method::from_bytes(method);
        self.method_text = self.fields.intern(method);
        self.target = self.fields.intern(target);
        self.version = version;
    }

    /// Sets the request line of a target that is made of a path and a query.
    pub fn set_line_of(&mut self, method: &[u8], path: &str, query: Option<&str>, version: Version) {
        self.method = Method::from_bytes(method);
        self.method_text = self.fields.intern(method);
        let path = self.fields.intern(path.as_bytes());
        let query = query.map(|query| (self.fields.intern(b"?"), self.fields.intern(query.as_bytes())));
        self.target = query.map_or(path, |(mark, query)| path.joined(mark).joined(query));
        self.version = version;
    }

    /// The method as it was sent.
    #[must_use]
    pub fn method_text(&self) -> &[u8] {
        self.fields.text(self.method_text)
    }

    /// The request target as it was sent.
    #[must_use]
    pub fn raw_target(&self) -> &[u8] {
        self.fields.text(self.target)
    }

    /// Forgets the message and keeps the buffer.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.framing = Framing::None;
        self.method = Method::Get;
        self.version = Version::Http11;
        self.upgrade = None;
        self.accepts_trailers = false;
        self.scheme = None;
        self.method_text = Span::default();
        self.target = Span::default();
    }
}

impl fmt::Debug for RequestHead {
    /// Without the target's query and the fields' values, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.raw_target().split(|b| *b == b'?').next().unwrap_or_default();
        f.debug_struct("RequestHead")
            .field("method", &String::from_utf8_lossy(self.method_text()))
            .field("path", &String::from_utf8_lossy(path))
            .field("version", &self.version)
            .field("framing", &self.framing)
            .field("fields", &self.fields)
            .finish()
    }
}

/// A response's head.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The fields, in wire order.
    pub fields: Fields,
    /// How long the body is.
    pub framing: Framing,
    /// The version the sender spoke.
    pub version: Version,
}

impl ResponseHead {
    /// A head with this status and no field.
    #[must_use]
    pub fn new(status: u16) -> Self {
        ResponseHead { status, ..ResponseHead::default() }
    }

    /// Forgets the message and keeps the buffer.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.status = 0;
        self.framing = Framing::None;
        self.version = Version::Http11;
    }

    /// The media type without its parameters, trimmed, in the case it was sent in.
    #[must_use]
    pub fn media_type(&self) -> Option<&str> {
        media_type(&self.fields)
    }

    /// Whether it is of this media type.
    #[must_use]
    pub fn is_of(&self, media_type: &str) -> bool {
        // Most values do not even begin like it, or with white space of other scripts.
        let begins = |value: &[u8]| {
            let start = value.get(..media_type.len());
            !value.first().is_some_and(u8::is_ascii_graphic)
                || start.is_some_and(|start| start.eq_ignore_ascii_case(media_type.as_bytes()))
        };
        self.fields.get("content-type").is_some_and(begins)
            && self.media_type().is_some_and(|own| own.eq_ignore_ascii_case(media_type))
    }
}

impl RequestHead {
    /// The media type without its parameters, trimmed, in the case it was sent in.
    #[must_use]
    pub fn media_type(&self) -> Option<&str> {
        media_type(&self.fields)
    }
}

fn media_type(fields: &Fields) -> Option<&str> {
    let value = fields.get("content-type")?;
    let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
    // All of it: where the parameters are no text, nobody knows what the type is.
    std::str::from_utf8(value).ok()?.get(..end).map(str::trim)
}

/// The reason phrase that RFC 9110 §15 (and RFC 6585) gives a status; empty for one it does not name.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
