//! Our head from hyper's.

use super::note::{NAME, Note};
use crate::framing::{lists, parse_length};
use crate::head::HeadLimits;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE};
use portcullis_http::{
    Framing, Host, Malformed, Method, Rejection, RequestHead, TargetError, Upgrade, Version,
};

/// Our head from hyper's: `:authority` as `host`, cookie crumbs joined (RFC 9113 §8.2.3), and refused what an
/// HTTP/1 message could not say. So many fields are the guard's `notes`, which nobody else is to see.
pub(super) fn read(
    parts: &http::request::Parts,
    (note, notes): (Note, usize),
    ended: bool,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<(), Rejection> {
    const BROKEN: Rejection = Rejection::Malformed(Malformed::Http2);
    let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    head.upgrade = asks_to_switch(parts);
    // The handshake of RFC 8441 is judged as the GET that it is in HTTP/1.1.
    let method = head.upgrade.map_or(parts.method.as_str(), |_| "GET");
    head.set_line(method.as_bytes(), target.as_bytes(), Version::Http2);
    head.accepts_trailers =
        parts.headers.get_all(TE).iter().any(|value| lists(value.as_bytes(), b"trailers"));
    if matches!(head.method, Method::Connect | Method::Trace) || parts.method.as_str() == "TRACK" {
        return Err(Rejection::MethodNotAllowed {
            allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned(),
        });
    }
    // As in HTTP/1: no method that anybody means.
    if parts.method.as_str().bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(Rejection::Malformed(Malformed::RequestLine));
    }
    if target.len() > limits.target {
        return Err(Rejection::TargetTooLong);
    }
    if parts.headers.len() - notes > limits.fields {
        return Err(Rejection::HeadTooLarge);
    }
    head.scheme = note.scheme;
    if head.scheme.is_none() {
        return Err(BROKEN);
    }
    if note.fragment {
        return Err(Rejection::Malformed(Malformed::Target(TargetError::Byte)));
    }
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts
        .next()
        .map(|h| h.to_str().ok().and_then(Host::parse).ok_or(Rejection::Malformed(Malformed::Host)))
        .transpose()?;
    let agreed = match (authority, &host) {
        (Some(authority), Some(host)) => Host::parse(authority).is_some_and(|a| a == *host),
        (None, None) => false,
        _ => true,
    };
    if !agreed || hosts.next().is_some() {
        return Err(Rejection::Malformed(Malformed::Host));
    }
    let appended = match (authority, host) {
        (Some(authority), _) => head.fields.append("host", authority),
        (None, host) => head.fields.append("host", host.map(|host| host.to_string()).unwrap_or_default()),
    };
    appended.map_err(|_| Rejection::Malformed(Malformed::Host))?;
    for (name, value) in &parts.headers {
        let value = value.as_bytes();
        // hyper has seen to all else that a field must be.
        if value.trim_ascii().len() != value.len() {
            return Err(BROKEN);
        }
        if name != HOST && name != COOKIE && name != NAME {
            head.fields.append_parsed(name.as_str().as_bytes(), value);
        }
    }
    join_cookies(&parts.headers, head);
    super::super::http1::expectation(head)?;
    head.framing = framing(parts, ended || head.upgrade.is_some())?;
    Ok(())
}

/// The crumbs of a cookie as one field.
fn join_cookies(fields: &http::HeaderMap, head: &mut RequestHead) {
    let mut crumbs = fields.get_all(COOKIE).iter().filter(|crumb| !crumb.is_empty());
    let Some(first) = crumbs.next() else { return };
    head.fields.append_written(COOKIE.as_str().as_bytes(), |joined| {
        joined.text(first);
        for crumb in crumbs {
            joined.text("; ");
            joined.text(crumb);
        }
    });
}

fn framing(parts: &http::request::Parts, ended: bool) -> Result<Framing, Rejection> {
    const BAD: Rejection = Rejection::Malformed(Malformed::ContentLength);
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(length), None) => Some(parse_length(length.as_bytes()).ok_or(BAD)?),
        (Some(_), Some(_)) => return Err(BAD),
    };
    Ok(match (length, ended) {
        (Some(0), true) => Framing::Length(0),
        (Some(_), true) => return Err(BAD),
        (None, true) => Framing::None,
        // Only its end shows that it is empty.
        (None | Some(0), false) => Framing::Chunked,
        (Some(length), false) => Framing::Length(length),
    })
}

/// The protocol that an extended CONNECT asks for (RFC 8441 §4); one that we do not speak is no extended CONNECT.
fn asks_to_switch(parts: &http::request::Parts) -> Option<Upgrade> {
    let protocol = parts.extensions.get::<hyper::ext::Protocol>()?;
    (parts.method == http::Method::CONNECT && protocol.as_str() == "websocket").then_some(Upgrade::WebSocket)
}
