//! From the parts of a message to variables.

use std::io::Write as _;
use std::net::IpAddr;

use super::state::{Entry, State, push_number};
use super::values::ValueId;
use crate::body::media_type;
use crate::rule::Processor;
use crate::settings::Settings;
use crate::sources::Sources;
use crate::transform::hex_value;
use crate::variable::Var;

impl State {
    /// Fills everything that comes from the request line.
    pub(super) fn fill_request_line(
        &mut self,
        method: &[u8],
        target: &[u8],
        protocol: &[u8],
        settings: &Settings,
    ) {
        self.set_scalar(Var::RequestMethod, method);
        self.set_scalar(Var::RequestUriRaw, target);
        self.set_scalar(Var::RequestProtocol, protocol);
        let line = self.values.intern_with(|_, out| {
            for part in [method, b" ", target, b" ", protocol] {
                out.extend_from_slice(part);
            }
        });
        self.set_scalar_id(Var::RequestLine, line);
        let local = local_part(method, target);
        self.set_scalar(Var::RequestUri, local);
        let (path, query) = match memchr::memchr(b'?', local) {
            Some(at) => (local.get(..at).unwrap_or_default(), local.get(at + 1..).unwrap_or_default()),
            None => (local, &b""[..]),
        };
        let filename = self.values.intern_with(|_, out| percent_decode(path, out));
        self.set_scalar_id(Var::RequestFilename, filename);
        let basename = self.values.intern_with(|values, out| {
            let path = values.get(filename);
            let last = path.iter().rposition(|byte| matches!(byte, b'/' | b'\\')).map_or(0, |at| at + 1);
            out.extend_from_slice(path.get(last..).unwrap_or_default());
        });
        self.set_scalar_id(Var::RequestBasename, basename);
        self.set_scalar(Var::QueryString, query);
        self.set_scalar(Var::UrlencodedError, b"0");
        self.urlencoded(query, settings, false);
    }

    /// An address as text; one that is IPv4 within IPv6 as the former.
    pub(super) fn address(&mut self, address: IpAddr) -> ValueId {
        self.values.intern_with(|_, out| {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{}", address.to_canonical());
        })
    }

    pub(super) fn add_request_header(&mut self, name: &[u8], value: &[u8]) {
        let entry = self.entry_of(Sources::own(Var::RequestHeaders), name, value);
        self.request_headers.push(entry);
        if name.eq_ignore_ascii_case(b"cookie") {
            self.cookies(value);
        } else if name.eq_ignore_ascii_case(b"host") {
            let host = without_port(value);
            self.set_scalar(Var::ServerName, host);
        } else if name.eq_ignore_ascii_case(b"authorization") {
            let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
            self.set_scalar(Var::AuthType, scheme);
        }
    }

    pub(super) fn add_response_header(&mut self, name: &[u8], value: &[u8]) {
        let entry = self.entry_of(Sources::own(Var::ResponseHeaders), name, value);
        self.response_headers.push(entry);
        if name.eq_ignore_ascii_case(b"content-type") {
            self.set_scalar_id(Var::ResponseContentType, entry.value);
        }
    }

    /// An entry for a collection. Which one is for the caller to know; so all of them may have changed.
    pub(super) fn entry(&mut self, name: &[u8], value: &[u8]) -> Entry {
        self.entry_of(Sources::collections(), name, value)
    }

    /// An entry for a collection that is one of these parts of the message.
    pub(super) fn entry_of(&mut self, part: Sources, name: &[u8], value: &[u8]) -> Entry {
        self.changed = self.changed.union(part);
        Entry { key: self.values.intern(name), value: self.values.intern(value) }
    }

    /// Cookies as they are sent: nothing is decoded or unquoted; without `=`, a name with an empty value.
    fn cookies(&mut self, header: &[u8]) {
        for piece in header.split(|&byte| byte == b';') {
            let (name, value) = match memchr::memchr(b'=', piece) {
                Some(at) => (piece.get(..at).unwrap_or_default(), piece.get(at + 1..).unwrap_or_default()),
                None => (piece, &b""[..]),
            };
            let name = name.trim_ascii_start();
            if name.is_empty() {
                continue;
            }
            let entry = self.entry_of(Sources::own(Var::RequestCookies), name, value);
            self.cookies.push(entry);
        }
    }

    /// The value of the request's first Content-Type field.
    pub(super) fn content_type(&self) -> ValueId {
        let is_content_type =
            |entry: &&Entry| self.values.get(entry.key).eq_ignore_ascii_case(b"content-type");
        self.request_headers.iter().find(is_content_type).map_or(ValueId::NONE, |entry| entry.value)
    }

    /// Chooses the body's parser by its media type. JSON and XML are for rules to choose (`ctl`).
    pub(super) fn choose_processor(&mut self) {
        let media_type = media_type(self.values.get(self.content_type()));
        let is =
            |name: &[u8]| media_type.get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name));
        self.processor = if media_type.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            Some(Processor::Urlencoded)
        } else if self.parsers.graphql && media_type.eq_ignore_ascii_case(b"application/graphql") {
            Some(Processor::GraphQl)
        } else {
            is(b"multipart/form-data").then_some(Processor::Multipart)
        };
        if let Some(processor) = self.processor {
            self.set_scalar(Var::ReqbodyProcessor, processor.name().as_bytes());
        }
    }

    pub(super) fn fill_response_status(&mut self, status: u16) {
        self.set_number(Var::ResponseStatus, u64::from(status));
        let protocol = self.stored_scalar(Var::RequestProtocol);
        self.set_scalar_id(Var::ResponseProtocol, protocol);
        let line = self.values.intern_with(|values, out| {
            out.extend_from_slice(values.get(protocol));
            out.push(b' ');
            push_number(out, i64::from(status));
        });
        self.set_scalar_id(Var::StatusLine, line);
    }

    pub(super) fn fill_response_body(&mut self) {
        self.set_number(Var::ResponseContentLength, self.response_body.len() as u64);
        let body = std::mem::take(&mut self.response_body);
        if !body.is_empty() {
            self.set_scalar(Var::ResponseBody, &body);
        }
        self.response_body = body;
    }

    /// The media type of the response, without parameters.
    pub(super) fn response_media_type(&self) -> &[u8] {
        media_type(self.values.get(self.stored_scalar(Var::ResponseContentType)))
    }
}

/// The target without scheme, host and fragment.
fn local_part<'a>(method: &[u8], target: &'a [u8]) -> &'a [u8] {
    let without_fragment = match memchr::memchr(b'#', target) {
        Some(at) => target.get(..at).unwrap_or_default(),
        None => target,
    };
    if method == b"CONNECT" || without_fragment.starts_with(b"/") {
        return without_fragment;
    }
    let head = without_fragment.get(..16).unwrap_or(without_fragment);
    let Some(scheme) = memchr::memmem::find(head, b"://") else { return without_fragment };
    let authority = without_fragment.get(scheme + 3..).unwrap_or_default();
    match memchr::memchr2(b'/', b'?', authority) {
        Some(at) => authority.get(at..).unwrap_or_default(),
        None => b"/",
    }
}

/// `%HH` decoded once; everything else, `+` included, stays.
fn percent_decode(mut input: &[u8], out: &mut Vec<u8>) {
    while let Some((&first, rest)) = input.split_first() {
        input = rest;
        if first == b'%'
            && let [high, low, tail @ ..] = rest
            && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
        {
            out.push(high << 4 | low);
            input = tail;
        } else {
            out.push(first);
        }
    }
}

fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&byte| byte == b':') {
        Some(at) if !host.get(at..).unwrap_or_default().contains(&b']') => host.get(..at).unwrap_or_default(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_lose_scheme_host_and_fragment() {
        for (target, local) in [
            ("/a?b#c", "/a?b"),
            ("http://host/a?b", "/a?b"),
            ("https://host?b", "?b"),
            ("http://host", "/"),
            ("*", "*"),
            ("/a://b", "/a://b"),
        ] {
            assert_eq!(local_part(b"GET", target.as_bytes()), local.as_bytes(), "{target}");
        }
        assert_eq!(local_part(b"CONNECT", b"host:443"), b"host:443");
    }

    #[test]
    fn hosts() {
        assert_eq!(without_port(b"a.example:80"), b"a.example");
        assert_eq!(without_port(b"[::1]"), b"[::1]");
        assert_eq!(without_port(b"[::1]:80"), b"[::1]");
    }
}
