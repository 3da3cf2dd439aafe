//! The hops that proxies report, read from the nearest to the farthest.
//!
//! Each proxy appends what it knows to what it was sent, so that only the end of the text is a proxy's and all before may
//! be the client's. It is therefore read from its end: nothing that stands on the left, an unclosed quote included, can
//! change how the right is read.

use std::net::{IpAddr, SocketAddr};

/// The header in which trusted proxies report whom they forward for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, the older and more common one: addresses, parted by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardedHeader {
    /// The field's name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        }
    }

    /// The hops of one field line, the nearest first; `None` for one that cannot be read or hides whom it means.
    pub(crate) fn hops(self, line: &[u8]) -> impl Iterator<Item = Option<Hop<'_>>> {
        let mut rest = Some(line);
        std::iter::from_fn(move || {
            let text = rest?;
            let comma = match self {
                ForwardedHeader::XForwardedFor => text.iter().rposition(|b| *b == b','),
                ForwardedHeader::Forwarded => last_comma(text),
            };
            let element = match comma.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?))) {
                Some((before, element)) => {
                    rest = Some(before);
                    element
                }
                None => {
                    rest = None;
                    text
                }
            };
            let element = std::str::from_utf8(element).ok();
            Some(element.and_then(|element| match self {
                ForwardedHeader::XForwardedFor => {
                    Some(Hop { ip: parse_node(element.trim_matches([' ', '\t']))?, proto: None, host: None })
                }
                ForwardedHeader::Forwarded => parse_element(element),
            }))
        })
    }
}

/// What one proxy reports of the hop before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop<'a> {
    /// Who connected to it; IPv4-mapped IPv6 as IPv4.
    pub(crate) ip: IpAddr,
    /// The scheme it was spoken to in.
    pub(crate) proto: Option<&'static str>,
    /// The host it was asked for.
    pub(crate) host: Option<&'a str>,
}

/// The last comma that no quoted string holds, quotes being paired from the end. A quote behind an odd number of
/// backslashes is part of its string (RFC 9110, 5.6.4), unless no string is open there.
fn last_comma(text: &[u8]) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in text.iter().enumerate().rev() {
        match byte {
            b',' if !quoted => return Some(at),
            b'"' => {
                let before = text.get(..at).unwrap_or_default();
                let backslashes = before.iter().rev().take_while(|b| **b == b'\\').count();
                if !quoted || backslashes % 2 == 0 {
                    quoted = !quoted;
                }
            }
            _ => {}
        }
    }
    None
}

/// One element of `Forwarded` (RFC 7239, section 4): pairs of a token and a value, each name once. `None` where it is
/// none, or has no `for` with an address.
fn parse_element(element: &str) -> Option<Hop<'_>> {
    let (mut ip, mut proto, mut host) = (None, None, None);
    let mut seen: Vec<&str> = Vec::new();
    let mut rest = element.trim_matches([' ', '\t']);
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = parse_value(after)?;
        if !crate::is_token(name.as_bytes()) || seen.iter().any(|one| one.eq_ignore_ascii_case(name)) {
            return None;
        }
        seen.push(name);
        if name.eq_ignore_ascii_case("for") {
            ip = parse_node(value);
        } else if name.eq_ignore_ascii_case("proto") {
            proto = ["http", "https"].into_iter().find(|known| value.eq_ignore_ascii_case(known));
        } else if name.eq_ignore_ascii_case("host") {
            host = Some(value);
        }
        let after = after.trim_matches([' ', '\t']);
        match after.strip_prefix(';') {
            // White space around the semicolon is not in the grammar, but written by some.
            Some(next) => rest = next.trim_start_matches([' ', '\t']),
            None if after.is_empty() => return Some(Hop { ip: ip?, proto, host }),
            None => return None,
        }
        if rest.is_empty() {
            return Some(Hop { ip: ip?, proto, host });
        }
    }
}

/// A token or a quoted string, and what follows. Escapes stay as they are: no value that is of use here needs one.
fn parse_value(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('"') {
        Some(inner) => {
            let mut escaped = false;
            let end = inner.bytes().position(|b| {
                let ends = b == b'"' && !escaped;
                escaped = b == b'\\' && !escaped;
                ends
            })?;
            Some((inner.get(..end)?, inner.get(end + 1..)?))
        }
        None => {
            let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
            let (value, rest) = text.split_at_checked(end)?;
            // Colons are no token's, but addresses with ports are often written without quotes.
            let is_value = !value.is_empty()
                && value.bytes().all(|b| b == b':' || b == b'[' || b == b']' || crate::is_token(&[b]));
            is_value.then_some((value, rest))
        }
    }
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `[::1]:80`, `[::1]`, `::1`. `unknown` and obfuscated
/// nodes (RFC 7239, section 6) are no addresses; a port that is obfuscated (`_a`) is passed over.
fn parse_node(text: &str) -> Option<IpAddr> {
    let plain = |text: &str| text.parse::<IpAddr>().ok();
    let socket = |text: &str| text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = |text: &str| {
        text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let hidden_port = |text: &str| {
        let (node, port) = text.rsplit_once(":_")?;
        let is_port = !port.is_empty()
            && port.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        is_port.then_some(())?;
        bracketed(node).or_else(|| node.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4))
    };
    plain(text)
        .or_else(|| socket(text))
        .or_else(|| bracketed(text))
        .or_else(|| hidden_port(text))
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hops(header: ForwardedHeader, line: &str) -> Vec<Option<String>> {
        header.hops(line.as_bytes()).map(|hop| hop.map(|hop| hop.ip.to_string())).collect()
    }

    #[test]
    fn h1_elements_are_read_from_the_end() {
        for (line, expected) in [
            ("for=1.1.1.1, for=2.2.2.2", &[Some("2.2.2.2"), Some("1.1.1.1")][..]),
            ("for=1.1.1.1;host=\"a, for=6.6.6.6\", for=2.2.2.2", &[Some("2.2.2.2"), Some("1.1.1.1")]),
            // A host that a client wrote, as a proxy quotes it.
            ("for=2.2.2.2;host=\"x, for=6.6.6.6;a=\"", &[Some("2.2.2.2")]),
            ("for=2.2.2.2;host=\"x\\\", for=6.6.6.6;a=\\\"\"", &[Some("2.2.2.2")]),
            // A quote that a client left open.
            ("for=\"6.6.6.6, for=2.2.2.2", &[Some("2.2.2.2"), None]),
            ("for=\"6.6.6.6;host=\\, for=2.2.2.2;host=\"b\"", &[Some("2.2.2.2"), None]),
            ("for=_hidden", &[None]),
            ("for=unknown", &[None]),
            ("for=\"_a:80\"", &[None]),
            ("proto=http", &[None]),
            ("for=1.1.1.1;for=2.2.2.2", &[None]),
            ("FOR=\"[2001:db8::1]:_x\" ; proto=https;", &[Some("2001:db8::1")]),
            ("for=\"[1.1.1.1]\"", &[None]),
            ("for=::1:80:_x", &[None]),
            ("for = 1.1.1.1", &[None]),
            ("for=1.1.1.1 for=2.2.2.2", &[None]),
            ("for=", &[None]),
            ("", &[None]),
        ] {
            let expected: Vec<_> = expected.iter().map(|one| one.map(str::to_owned)).collect();
            assert_eq!(hops(ForwardedHeader::Forwarded, line), expected, "{line}");
        }
        let line = br#"for=1.1.1.1;proto=HTTPS;host="a.test:8080""#;
        let hop = ForwardedHeader::Forwarded.hops(line).next().flatten().unwrap();
        assert_eq!((hop.proto, hop.host), (Some("https"), Some("a.test:8080")));
    }

    proptest! {
        /// Whatever a client wrote, what a proxy appends is read as the proxy meant it.
        #[test]
        fn h1_nothing_on_the_left_changes_the_right(left in "[ -~]{0,40}", host in "[a-z,;=. ]{0,12}") {
            for line in [
                format!("{left}, for=9.9.9.9"),
                format!("{left}, for=\"[2001:db8::9]:1\";host=\"{host}\";proto=http"),
            ] {
                let first = ForwardedHeader::Forwarded.hops(line.as_bytes()).next().flatten();
                let ip = first.map(|hop| hop.ip.to_string());
                prop_assert!(matches!(ip.as_deref(), Some("9.9.9.9" | "2001:db8::9")), "{line}: {ip:?}");
            }
            let line = format!("{left}, 9.9.9.9");
            let first = ForwardedHeader::XForwardedFor.hops(line.as_bytes()).next().flatten();
            prop_assert_eq!(first.map(|hop| hop.ip), "9.9.9.9".parse().ok());
        }
    }
}
