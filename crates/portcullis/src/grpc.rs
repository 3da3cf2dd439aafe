//! What the gateway itself says and hears in gRPC over HTTP/2: deadlines, and refusals as statuses.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use portcullis_http::{Fields, Method, Rejection, RequestHead, ResponseHead, UpstreamFailure, Version};
use std::time::Duration;

/// Digits of a `grpc-timeout`.
const MAX_DIGITS: usize = 8;

/// Whether a request is a gRPC call.
pub(crate) fn is_call(head: &RequestHead) -> bool {
    head.version == Version::Http2
        && head.method == Method::Post
        && head.media_type().is_some_and(|media| {
            media
                .strip_prefix("application/grpc")
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
        })
}

/// How long the caller waits, where it says so.
pub(crate) fn timeout(head: &RequestHead) -> Option<Duration> {
    head.fields.get("grpc-timeout").and_then(parse_timeout)
}

/// `TimeoutValue TimeoutUnit`, such as `250m`; one that is none is not obeyed.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS {
        return None;
    }
    // Digits alone: `parse` would take a sign.
    let count: u64 = digits
        .iter()
        .try_fold(0, |count, digit| digit.is_ascii_digit().then(|| count * 10 + u64::from(digit - b'0')))?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 60 * 60),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A refusal as a call's only answer, in which the status stands among the header fields ("Trailers-Only").
pub(crate) fn refusal(rejection: &Rejection) -> ResponseHead {
    let mut head = ResponseHead::new(200);
    head.fields.append_parsed(b"content-type", b"application/grpc");
    head.fields.append_parsed(b"grpc-status", status(rejection).to_string().as_bytes());
    head.fields.append_parsed(b"grpc-message", rejection.code().as_bytes());
    head
}

/// How a call ends that the gateway no longer serves: UNAVAILABLE, which clients may try again elsewhere.
pub(crate) fn going_away() -> Fields {
    let mut trailers = Fields::default();
    trailers.append_parsed(b"grpc-status", b"14");
    trailers.append_parsed(b"grpc-message", b"going_away");
    trailers
}

/// The status code of a refusal: gRPC's own mapping of HTTP's (doc/http-grpc-status-mapping.md), but that what is too
/// much is `RESOURCE_EXHAUSTED`, and what took too long `DEADLINE_EXCEEDED`.
fn status(rejection: &Rejection) -> u8 {
    const UNKNOWN: u8 = 2;
    const DEADLINE_EXCEEDED: u8 = 4;
    const PERMISSION_DENIED: u8 = 7;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    const UNAUTHENTICATED: u8 = 16;
    match rejection {
        Rejection::Upstream(UpstreamFailure::ResponseTimeout) | Rejection::RequestTimeout => {
            DEADLINE_EXCEEDED
        }
        Rejection::BodyTooLarge | Rejection::HeadTooLarge | Rejection::RateLimited { .. } => {
            RESOURCE_EXHAUSTED
        }
        Rejection::CertificateRequired => UNAUTHENTICATED,
        other => match other.status() {
            400 => INTERNAL,
            401 => UNAUTHENTICATED,
            403 => PERMISSION_DENIED,
            404 => UNIMPLEMENTED,
            502..=504 => UNAVAILABLE,
            _ => UNKNOWN,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_has_them() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("123456789S", None),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn who_shows_no_certificate_is_not_authenticated() {
        assert_eq!(status(&Rejection::CertificateRequired), 16);
        assert_eq!(status(&Rejection::Forbidden { challenge: None }), 7);
    }
}
