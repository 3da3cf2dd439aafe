//! Why the gateway itself answered: a closed list.

use crate::{Fields, TargetError};
use std::fmt::Write as _;

/// The stage of the chain that refused, as logs and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the head, the target or the body's framing.
    Framing,
    /// Matching a route.
    Route,
    /// Address lists.
    Address,
    /// Head limits.
    HeadLimits,
    /// The firewall.
    Firewall,
    /// Who is calling.
    Authenticate,
    /// What the caller may do.
    Authorize,
    /// Rates and quotas.
    Rate,
    /// Body caps and the process-wide budget.
    Body,
    /// The body's contract.
    Contract,
    /// The call to an upstream.
    Upstream,
    /// Leak prevention and response caps.
    Response,
    /// The gateway's own fault.
    Internal,
}

impl Stage {
    /// The stage's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Framing => "framing",
            Stage::Route => "route",
            Stage::Address => "address",
            Stage::HeadLimits => "head_limits",
            Stage::Firewall => "firewall",
            Stage::Authenticate => "authenticate",
            Stage::Authorize => "authorize",
            Stage::Rate => "rate",
            Stage::Body => "body",
            Stage::Contract => "contract",
            Stage::Upstream => "upstream",
            Stage::Response => "response",
            Stage::Internal => "internal",
        }
    }
}

/// What was malformed in a request's head or framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The request line is no `method SP target SP HTTP/1.x CRLF`.
    RequestLine,
    /// A line ends in a bare LF, or a CR stands alone.
    LineEnding,
    /// A field line breaks RFC 9112 §5.
    Field,
    /// Two fields whose names differ only in `_` and `-`, or a name with `_` that shadows one of ours.
    FieldName,
    /// No `Host`, more than one, or one that is no authority.
    Host,
    /// `Content-Length` is no plain number, or stands twice.
    ContentLength,
    /// `Transfer-Encoding` is anything but `chunked`, or stands beside `Content-Length`.
    TransferEncoding,
    /// The chunked coding is broken.
    Chunk,
    /// The body ended before its end.
    Incomplete,
    /// The target, and how.
    Target(TargetError),
    /// A field that may stand once stands twice.
    Duplicate,
    /// The message breaks HTTP/2's rules for it.
    Http2,
    /// `:scheme` or an absolute-form target says another scheme than the connection has.
    Scheme,
}

/// Why a caller is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// No credentials were given.
    Missing,
    /// They are not of the form they should have (RFC 6750 `invalid_request`).
    Malformed,
    /// They are wrong: signature, issuer, audience, algorithm, key.
    Invalid,
    /// They were good once.
    Expired,
    /// They are not good yet.
    NotYetValid,
}

impl AuthFailure {
    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AuthFailure::Missing => "missing",
            AuthFailure::Malformed => "malformed",
            AuthFailure::Invalid => "invalid",
            AuthFailure::Expired => "expired",
            AuthFailure::NotYetValid => "not_yet_valid",
        }
    }
}

/// What in a body breaks the route's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractFailure {
    /// It is not JSON (RFC 8259), or something follows it.
    Syntax,
    /// Nested deeper than allowed.
    Depth,
    /// An object names a key twice.
    DuplicateKey,
    /// More members, elements or characters than allowed.
    Size,
    /// A media type or charset the route does not take.
    MediaType,
    /// The bytes are not in the content coding that the head declares.
    Coding,
}

impl ContractFailure {
    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ContractFailure::Syntax => "syntax",
            ContractFailure::Depth => "depth",
            ContractFailure::DuplicateKey => "duplicate_key",
            ContractFailure::Size => "size",
            ContractFailure::MediaType => "media_type",
            ContractFailure::Coding => "coding",
        }
    }
}

/// What went wrong with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// No endpoint could be connected to.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// It closed or reset the connection before it answered.
    Closed,
    /// It says that it has done nothing of the request (HTTP/2's `REFUSED_STREAM`, or `GOAWAY` before the stream).
    Refused,
    /// Its answer is no HTTP, or ambiguous.
    Protocol,
    /// Connecting took too long.
    ConnectTimeout,
    /// The TLS handshake took too long.
    TlsTimeout,
    /// The answer took too long.
    ResponseTimeout,
    /// One try took too long, and was the last.
    TryTimeout,
    /// Its answer is larger than the route allows.
    TooLarge,
    /// There is no endpoint to ask.
    NoEndpoint,
    /// This machine has no file descriptor or port left to connect with.
    Exhausted,
    /// Its circuit breaker is open: the call was not made.
    CircuitOpen {
        /// Seconds until it is worth another.
        retry_after: u32,
    },
    /// It bears as many connections, waiting requests, requests or retries as it may: the call was not made.
    Overflow,
    /// The endpoint's name stands for an address that may not be connected to
    /// ([`DestinationPolicy`](crate::DestinationPolicy)).
    Forbidden,
}

impl UpstreamFailure {
    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            UpstreamFailure::Connect => "connect",
            UpstreamFailure::Tls => "tls",
            UpstreamFailure::Closed => "closed",
            UpstreamFailure::Refused => "refused_stream",
            UpstreamFailure::Protocol => "protocol",
            UpstreamFailure::ConnectTimeout => "connect_timeout",
            UpstreamFailure::TlsTimeout => "tls_timeout",
            UpstreamFailure::ResponseTimeout => "response_timeout",
            UpstreamFailure::TryTimeout => "per_try_timeout",
            UpstreamFailure::TooLarge => "too_large",
            UpstreamFailure::NoEndpoint => "no_endpoint",
            UpstreamFailure::Exhausted => "exhausted",
            UpstreamFailure::CircuitOpen { .. } => "circuit_open",
            UpstreamFailure::Overflow => "overflow",
            UpstreamFailure::Forbidden => "forbidden_address",
        }
    }

    /// 502, 503 or 504 (RFC 9110 §15.6).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            UpstreamFailure::NoEndpoint
            | UpstreamFailure::Exhausted
            | UpstreamFailure::CircuitOpen { .. }
            | UpstreamFailure::Overflow => 503,
            UpstreamFailure::ConnectTimeout
            | UpstreamFailure::TlsTimeout
            | UpstreamFailure::ResponseTimeout
            | UpstreamFailure::TryTimeout => 504,
            _ => 502,
        }
    }
}

/// Why the gateway itself answers a request. What a client learns of it is [`Rejection::status`],
/// [`Rejection::code`] and [`Rejection::title`]; the rest is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants' fields are named for what they hold")]
pub enum Rejection {
    /// 400: the request is not well-formed.
    Malformed(Malformed),
    /// 408: head or body came too slowly.
    RequestTimeout,
    /// 414: the target is longer than the listener allows.
    TargetTooLong,
    /// 431: the head, or one field of it, is larger than the listener or route allows.
    HeadTooLarge,
    /// 417: an expectation other than `100-continue`.
    ExpectationFailed,
    /// 501: a transfer coding or method the gateway does not speak.
    NotImplemented,
    /// 505: a version the gateway does not speak.
    VersionNotSupported,
    /// 421: this connection does not serve that authority.
    Misdirected,
    /// 404: no route matches.
    NoRoute,
    /// 405: the path is known, the method is not; `allow` is the `Allow` field's value.
    MethodNotAllowed { allow: String },
    /// 403: the client's address is not welcome.
    AddressDenied,
    /// What a firewall rule decided: its id, its phase, the status it asked for, where it redirects to.
    Firewall { rule: u32, phase: u8, status: u16, location: Option<String> },
    /// 401: the caller is not known; `challenge` is the `WWW-Authenticate` field's value.
    Unauthenticated { failure: AuthFailure, challenge: String },
    /// 403: the client showed no certificate in the TLS handshake.
    CertificateRequired,
    /// 403: the caller is known and may not; `challenge` names the scope it lacks (RFC 6750 §3.1).
    Forbidden { challenge: Option<String> },
    /// 503: the keys to judge credentials with cannot be had.
    KeysUnavailable,
    /// 429: too many requests; seconds until the next may pass.
    RateLimited { retry_after: u64 },
    /// 413: the body is larger than the route allows.
    BodyTooLarge,
    /// 503: the process holds all the bytes it may.
    OverBudget,
    /// 503: the limit's store is unreachable and the limit fails closed.
    LimitUnavailable,
    /// 400 or 415: the body breaks the route's contract.
    Contract(ContractFailure),
    /// 415: the body is in a content coding, or in several, that the route does not take; `accept` is the
    /// `Accept-Encoding` field's value (RFC 9110 §15.5.16).
    ContentCoding { accept: String },
    /// 502, 503 or 504: the upstream failed.
    Upstream(UpstreamFailure),
    /// 502: the response holds what must not leave.
    Leak,
    /// 503: the process is about to stop, or holds all the connections it may.
    Overloaded,
    /// 500: the gateway's own fault.
    Internal,
}

impl Rejection {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Rejection::Malformed(_) => 400,
            Rejection::RequestTimeout => 408,
            Rejection::TargetTooLong => 414,
            Rejection::HeadTooLarge => 431,
            Rejection::ExpectationFailed => 417,
            Rejection::NotImplemented => 501,
            Rejection::VersionNotSupported => 505,
            Rejection::Misdirected => 421,
            Rejection::NoRoute => 404,
            Rejection::MethodNotAllowed { .. } => 405,
            Rejection::AddressDenied | Rejection::CertificateRequired | Rejection::Forbidden { .. } => 403,
            Rejection::Firewall { status, .. } => *status,
            Rejection::Unauthenticated { .. } => 401,
            Rejection::RateLimited { .. } => 429,
            Rejection::BodyTooLarge => 413,
            Rejection::Contract(ContractFailure::MediaType) | Rejection::ContentCoding { .. } => 415,
            Rejection::Contract(_) => 400,
            Rejection::Upstream(failure) => failure.status(),
            Rejection::Leak => 502,
            Rejection::KeysUnavailable
            | Rejection::OverBudget
            | Rejection::LimitUnavailable
            | Rejection::Overloaded => 503,
            Rejection::Internal => 500,
        }
    }

    /// The stable public code, for clients to act on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::Malformed(_) => "malformed_request",
            Rejection::RequestTimeout => "request_timeout",
            Rejection::TargetTooLong => "target_too_long",
            Rejection::HeadTooLarge => "head_too_large",
            Rejection::ExpectationFailed => "expectation_failed",
            Rejection::NotImplemented => "not_implemented",
            Rejection::VersionNotSupported => "version_not_supported",
            Rejection::Misdirected => "misdirected_request",
            Rejection::NoRoute => "no_route",
            Rejection::MethodNotAllowed { .. } => "method_not_allowed",
            Rejection::AddressDenied => "address_denied",
            Rejection::Firewall { .. } => "firewall",
            Rejection::Unauthenticated { .. } => "unauthenticated",
            Rejection::CertificateRequired => "certificate_required",
            Rejection::Forbidden { .. } => "forbidden",
            Rejection::KeysUnavailable => "keys_unavailable",
            Rejection::RateLimited { .. } => "rate_limited",
            Rejection::BodyTooLarge => "body_too_large",
            Rejection::OverBudget
            | Rejection::Overloaded
            | Rejection::Upstream(UpstreamFailure::Exhausted) => "overloaded",
            Rejection::LimitUnavailable => "limit_unavailable",
            Rejection::Contract(_) | Rejection::ContentCoding { .. } => "contract",
            Rejection::Upstream(
                UpstreamFailure::ConnectTimeout
                | UpstreamFailure::TlsTimeout
                | UpstreamFailure::ResponseTimeout
                | UpstreamFailure::TryTimeout,
            ) => "upstream_timeout",
            Rejection::Upstream(
                UpstreamFailure::NoEndpoint | UpstreamFailure::CircuitOpen { .. } | UpstreamFailure::Overflow,
            ) => "upstream_unavailable",
            Rejection::Upstream(_) => "upstream_error",
            Rejection::Leak => "response_withheld",
            Rejection::Internal => "internal",
        }
    }

    /// A sentence for people. Names nothing internal.
    #[must_use]
    pub fn title(&self) -> &'static str {
        match self {
            Rejection::Malformed(_) => "The request is not well-formed",
            Rejection::RequestTimeout => "The request came too slowly",
            Rejection::TargetTooLong => "The request target is too long",
            Rejection::HeadTooLarge => "The request's header fields are too large",
            Rejection::ExpectationFailed => "The expectation cannot be met",
            Rejection::NotImplemented => "The request asks for something that is not implemented",
            Rejection::VersionNotSupported => "The protocol version is not supported",
            Rejection::Misdirected => "This connection does not serve that authority",
            Rejection::NoRoute => "There is nothing here",
            Rejection::MethodNotAllowed { .. } => "The method is not allowed here",
            Rejection::AddressDenied => "Your address is not allowed here",
            Rejection::Firewall { .. } => "The request was refused by the firewall",
            Rejection::Unauthenticated { .. } => "Valid credentials are required",
            Rejection::CertificateRequired => "A client certificate is required",
            Rejection::Forbidden { .. } => "The credentials do not allow this",
            Rejection::KeysUnavailable => "Credentials cannot be checked at the moment",
            Rejection::RateLimited { .. } => "Too many requests",
            Rejection::BodyTooLarge => "The body is too large",
            Rejection::OverBudget
            | Rejection::Overloaded
            | Rejection::Upstream(UpstreamFailure::Exhausted) => "The gateway is overloaded",
            Rejection::LimitUnavailable => "The request's rate cannot be checked at the moment",
            Rejection::Contract(ContractFailure::MediaType) => "The media type is not supported here",
            Rejection::ContentCoding { .. } => "The content coding is not supported here",
            Rejection::Contract(_) => "The body does not have the form it must have here",
            Rejection::Upstream(failure) => match failure.status() {
                503 => "The service is unavailable",
                504 => "The service took too long",
                _ => "The service failed",
            },
            Rejection::Leak => "The response was withheld",
            Rejection::Internal => "The gateway failed",
        }
    }

    /// Which stage refused.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Rejection::Malformed(_)
            | Rejection::RequestTimeout
            | Rejection::ExpectationFailed
            | Rejection::NotImplemented
            | Rejection::VersionNotSupported
            | Rejection::Misdirected => Stage::Framing,
            Rejection::TargetTooLong | Rejection::HeadTooLarge => Stage::HeadLimits,
            Rejection::NoRoute | Rejection::MethodNotAllowed { .. } => Stage::Route,
            Rejection::AddressDenied => Stage::Address,
            Rejection::Firewall { .. } => Stage::Firewall,
            Rejection::Unauthenticated { .. }
            | Rejection::CertificateRequired
            | Rejection::KeysUnavailable => Stage::Authenticate,
            Rejection::Forbidden { .. } => Stage::Authorize,
            Rejection::RateLimited { .. } | Rejection::LimitUnavailable => Stage::Rate,
            Rejection::BodyTooLarge | Rejection::OverBudget => Stage::Body,
            Rejection::Contract(_) | Rejection::ContentCoding { .. } => Stage::Contract,
            Rejection::Upstream(_) => Stage::Upstream,
            Rejection::Leak => Stage::Response,
            Rejection::Overloaded | Rejection::Internal => Stage::Internal,
        }
    }

    /// What happened in detail, for the log alone: a short, closed set of words.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Rejection::Malformed(what) => what.as_str(),
            Rejection::Unauthenticated { failure, .. } => failure.as_str(),
            Rejection::Contract(failure) => failure.as_str(),
            Rejection::ContentCoding { .. } => "content_coding",
            Rejection::Upstream(failure) => failure.as_str(),
            Rejection::OverBudget => "budget",
            _ => self.code(),
        }
    }

    /// Whether the client's connection must end with this answer: what follows on it cannot be trusted, or
    /// was not read.
    #[must_use]
    pub fn closes_connection(&self) -> bool {
        matches!(
            self,
            Rejection::Malformed(_)
                | Rejection::RequestTimeout
                | Rejection::TargetTooLong
                | Rejection::HeadTooLarge
                | Rejection::NotImplemented
                | Rejection::VersionNotSupported
                | Rejection::BodyTooLarge
                | Rejection::Overloaded
                | Rejection::Internal
        )
    }

    /// The fields that belong to this answer: `Allow`, `Retry-After`, `WWW-Authenticate`, `Location`.
    pub fn write_fields(&self, fields: &mut Fields) {
        let written = match self {
            Rejection::MethodNotAllowed { allow } => fields.set("allow", allow),
            Rejection::RateLimited { retry_after } => fields.set("retry-after", retry_after.to_string()),
            Rejection::Upstream(UpstreamFailure::CircuitOpen { retry_after }) => {
                fields.set("retry-after", retry_after.to_string())
            }
            Rejection::Overloaded
            | Rejection::OverBudget
            | Rejection::Upstream(UpstreamFailure::Exhausted | UpstreamFailure::Overflow) => {
                fields.set("retry-after", "1")
            }
            Rejection::Unauthenticated { challenge, .. }
            | Rejection::Forbidden { challenge: Some(challenge) } => {
                fields.set("www-authenticate", challenge)
            }
            Rejection::ContentCoding { accept } => fields.set("accept-encoding", accept),
            Rejection::Firewall { location: Some(location), .. } => fields.set("location", location),
            _ => Ok(()),
        };
        debug_assert!(written.is_ok(), "the field of {} is not valid", self.code());
    }

    /// The body of the answer: RFC 9457 problem details.
    #[must_use]
    pub fn problem_json(&self, request_id: &str) -> String {
        let mut body = String::with_capacity(192);
        // Nothing here needs escaping: code and title are ours, the id is checked to be plain.
        let _ = write!(
            body,
            r#"{{"type":"urn:portcullis:problem:{code}","title":"{title}","status":{status},"code":"{code}","request_id":"{request_id}"}}"#,
            code = self.code(),
            title = self.title(),
            status = self.status(),
        );
        body
    }
}

impl Malformed {
    /// The reason's name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Malformed::RequestLine => "request_line",
            Malformed::LineEnding => "line_ending",
            Malformed::Field => "field",
            Malformed::FieldName => "field_name",
            Malformed::Host => "host",
            Malformed::ContentLength => "content_length",
            Malformed::TransferEncoding => "transfer_encoding",
            Malformed::Chunk => "chunk",
            Malformed::Incomplete => "incomplete",
            Malformed::Target(error) => error.as_str(),
            Malformed::Duplicate => "duplicate_field",
            Malformed::Http2 => "http2",
            Malformed::Scheme => "scheme",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_details_are_json_and_name_the_request() {
        for rejection in [
            Rejection::Malformed(Malformed::Host),
            Rejection::Firewall { rule: 1_000_001, phase: 2, status: 403, location: None },
            Rejection::Upstream(UpstreamFailure::ConnectTimeout),
        ] {
            let json: serde_json::Value = serde_json::from_str(&rejection.problem_json("abc")).unwrap();
            assert_eq!(json["status"], rejection.status());
            assert_eq!(json["request_id"], "abc");
            assert!(!json.to_string().contains("1000001"), "nothing internal");
        }
    }

    #[test]
    fn fields_of_the_answer() {
        let mut fields = Fields::default();
        Rejection::RateLimited { retry_after: 3 }.write_fields(&mut fields);
        assert_eq!(fields.get("Retry-After"), Some(&b"3"[..]));
        Rejection::MethodNotAllowed { allow: "GET, HEAD".into() }.write_fields(&mut fields);
        assert_eq!(fields.get("Allow"), Some(&b"GET, HEAD"[..]));
    }
}
