//! The authority a request is for.

use std::fmt;

/// A canonical authority: host in lower case without a trailing dot, and the port if one was given.
///
/// ```
/// use portcullis_http::Host;
///
/// let host = Host::parse("EXAMPLE.com.:8443").unwrap();
/// assert_eq!((host.name(), host.port()), ("example.com", Some(8443)));
/// assert!(Host::parse("user@example.com").is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// Reads an authority (RFC 9110 §7.2, RFC 3986 §3.2.2): a name of letters, digits, `-`, `_` and `.`, an
    /// IPv4 address, or an IPv6 address in brackets, with an optional port. A colon without a port counts as none.
    /// User information is refused.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, tail) = rest.split_once(']')?;
                let address: std::net::Ipv6Addr = address.parse().ok()?;
                (
                    format!("[{address}]"),
                    tail.strip_prefix(':').or(if tail.is_empty() { Some("") } else { None })?,
                )
            }
            None => {
                let colon = text.bytes().position(|b| b == b':').unwrap_or(text.len());
                let (name, port) = text.split_at_checked(colon)?;
                (canonical_name(name)?, port.strip_prefix(':').unwrap_or_default())
            }
        };
        let port = if port.is_empty() { None } else { Some(parse_port(port)?) };
        Some(Host { name, port })
    }

    /// The host without a port, canonical; an IPv6 address stands in brackets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, if one was given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether it is an address, not a name.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.name.starts_with('[') || self.name.parse::<std::net::Ipv4Addr>().is_ok()
    }

    /// Whether both name the same server of a scheme with this default port.
    #[must_use]
    pub fn is_same(&self, other: &Host, default_port: u16) -> bool {
        let port = |host: &Host| host.port.unwrap_or(default_port);
        self.name == other.name && port(self) == port(other)
    }

    /// Writes it, with the port if one was given, as a field's value.
    pub fn write(&self, out: &mut crate::ValueWriter<'_>) {
        out.text(&self.name);
        if let Some(port) = self.port {
            out.text(":");
            out.decimal(u64::from(port));
        }
    }

    /// Whether no host was given (HTTP/1.0).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.name.is_empty()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

fn canonical_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 {
        return None;
    }
    let mut length = 0;
    for byte in name.bytes() {
        match byte {
            // Behind a label of at least one.
            b'.' if length > 0 => length = 0,
            b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' if length < 63 => length += 1,
            _ => return None,
        }
    }
    (length > 0).then(|| name.to_ascii_lowercase())
}

fn parse_port(text: &str) -> Option<u16> {
    if text.is_empty() || text.len() > 5 {
        return None;
    }
    let number = text
        .bytes()
        .try_fold(0u32, |number, b| b.is_ascii_digit().then(|| number * 10 + u32::from(b - b'0')));
    number.and_then(|number| u16::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("EXAMPLE.com", "example.com"),
            ("a.b.:80", "a.b:80"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]", "[::1]"),
            ("[0:0::1]:1", "[::1]:1"),
            ("x_y", "x_y"),
            ("a:", "a"),
            ("[::1]:", "[::1]"),
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn a30_forms_that_are_no_authority() {
        for text in [
            "", ".", "a b", "x@a", "a, b", "a/b", "a:99999", ":", ":80", "a:+1", "a..b", "[::1", "::1",
            "[::1]x", "a:1:2", "a\\b", "é", "a?b",
        ] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }
}
