//! The fields of a head that decide where its message ends (RFC 9112 §6), and what may follow it.

use crate::head::BadResponse;
use portcullis_http::{Framing, Malformed, Rejection, ResponseHead, Version, is_token};

/// Cookies of one request; browsers keep some 180 for a site.
const MAX_COOKIES: usize = 500;

/// What the fields said that decide a message's framing and what may follow it.
#[derive(Default)]
pub(crate) struct Seen {
    hosts: u32,
    length: Option<u64>,
    chunked: bool,
    /// `Upgrade` names WebSocket and nothing else.
    websocket: bool,
    /// `Connection` lists `upgrade`.
    connection_upgrade: bool,
    te_trailers: bool,
    cookies: usize,
}

impl Seen {
    /// Whether there are more cookies than any browser keeps.
    pub(crate) fn is_over_cookies(&self) -> bool {
        self.cookies > MAX_COOKIES
    }

    pub(crate) fn accepts_trailers(&self) -> bool {
        self.te_trailers
    }

    pub(crate) fn asks_for_websocket(&self) -> bool {
        self.websocket && self.connection_upgrade
    }

    /// Takes one field into account.
    pub(crate) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Rejection> {
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => {
                self.te_trailers |= lists(value, b"trailers");
            }
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            6 if name.eq_ignore_ascii_case(b"cookie") => {
                self.cookies += 1 + memchr::memchr_iter(b';', value).count();
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.websocket = value.eq_ignore_ascii_case(b"websocket");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection_upgrade |= lists(value, b"upgrade");
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = parse_length(value).filter(|_| self.length.is_none());
                self.length = Some(length.ok_or(Rejection::Malformed(Malformed::ContentLength))?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    let known_form = is_token(value) && !self.chunked;
                    return Err(if known_form {
                        Rejection::NotImplemented
                    } else {
                        Rejection::Malformed(Malformed::TransferEncoding)
                    });
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn request_framing(&self, version: Version) -> Result<Framing, Rejection> {
        if self.hosts > 1 || (self.hosts == 0 && version == Version::Http11) {
            return Err(Rejection::Malformed(Malformed::Host));
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Rejection::Malformed(Malformed::TransferEncoding)),
            (true, None) if version == Version::Http10 => {
                Err(Rejection::Malformed(Malformed::TransferEncoding))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) if length > 0 => Ok(Framing::Length(length)),
            (false, _) => Ok(Framing::None),
        }
    }

    pub(crate) fn response_framing(
        &self,
        head: &ResponseHead,
        to_head: bool,
    ) -> Result<Framing, BadResponse> {
        let no_body = head.status < 200 || head.status == 204 || head.status == 304;
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(BadResponse),
            (true, None) if head.version == Version::Http10 || head.status < 200 || head.status == 204 => {
                Err(BadResponse)
            }
            // The length stands in the head for the client to see, though nothing follows.
            (_, Some(length)) if to_head || head.status == 304 => Ok(Framing::Length(length)),
            _ if to_head || no_body => Ok(Framing::None),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::Close),
        }
    }
}

/// Whether a comma-separated list of tokens has this one (RFC 9110 §5.6.1).
pub(crate) fn lists(value: &[u8], token: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// A `Content-Length`: digits alone, below 2^63. Leading zeros are read in base ten and sent on without.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 32 {
        return None;
    }
    let length = value.iter().try_fold(0u64, |n, d| {
        let digit = d.is_ascii_digit().then(|| u64::from(d - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })?;
    (length <= i64::MAX.unsigned_abs()).then_some(length)
}
