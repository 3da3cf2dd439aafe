//! Our head from hyper's.

use super::note::Note;
use crate::framing::{lists, parse_length};
use crate::head::HeadLimits;
use portcullis_http::{
    Framing, Host, Malformed, Method, Rejection, RequestHead, TargetError, Upgrade, Version,
};

/// Our head from hyper's: `:authority` as `host`, cookie crumbs joined (RFC 9113 §8.2.3), and refused what an
/// HTTP/1 message could not say.
pub(super) fn read(
    parts: &http::request::Parts,
    note: Note,
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
        parts.headers.get_all("te").iter().any(|value| lists(value.as_bytes(), b"trailers"));
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
    if parts.headers.len() > limits.fields {
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
    let mut hosts = parts.headers.get_all("host").iter();
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
    let text = authority.map_or_else(|| host.map(|h| h.to_string()).unwrap_or_default(), str::to_owned);
    head.fields.append("host", text).map_err(|_| Rejection::Malformed(Malformed::Host))?;
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in &parts.headers {
        match name.as_str() {
            "host" => {}
            // A crumb is a value like any other; joined, its white space would pass.
            "cookie" if value.as_bytes().trim_ascii() != value.as_bytes() => return Err(BROKEN),
            "cookie" if value.is_empty() => {}
            "cookie" => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value.as_bytes());
            }
            name => head.fields.append(name, value.as_bytes()).map_err(|_| BROKEN)?,
        }
    }
    if !cookies.is_empty() {
        head.fields.append("cookie", cookies).map_err(|_| BROKEN)?;
    }
    super::super::http1::expectation(head)?;
    head.framing = framing(parts, ended || head.upgrade.is_some())?;
    Ok(())
}

fn framing(parts: &http::request::Parts, ended: bool) -> Result<Framing, Rejection> {
    const BAD: Rejection = Rejection::Malformed(Malformed::ContentLength);
    let mut lengths = parts.headers.get_all("content-length").iter();
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
