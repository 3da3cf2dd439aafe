//! Addresses: of peers, of endpoints, of our own sockets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use super::{ValueError, string_value};

/// A network in CIDR notation, or one bare address: `"10.0.0.0/8"`, `"2001:db8::/32"`, `"192.0.2.7"`.
/// Bits beyond the prefix are an error, since they are nearly always a slip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr(IpNet);

/// A host and a port: `"127.0.0.1:8081"`, `"[::1]:8081"`, `"catalogue.internal:80"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl Cidr {
    /// The network.
    #[must_use]
    pub const fn get(self) -> IpNet {
        self.0
    }
}

impl FromStr for Cidr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        let network: IpNet = text.parse().map_err(|_| {
            ValueError::new(format!("\"{text}\" is neither a network nor an address"))
                .help("write \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"")
        })?;
        if network.trunc() == network {
            return Ok(Self(network));
        }
        let help =
            format!("write \"{}\" for the network or \"{}\" for the host", network.trunc(), network.addr());
        Err(ValueError::new(format!("\"{text}\" has bits set beyond its prefix")).help(help))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl HostPort {
    /// The host: a name in lower case or an address, IPv6 without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never zero.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, where the host is an address and not a name.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// Whether `name` may be a DNS name: labels of letters, digits, `-` and `_`, 253 bytes at most.
pub(super) fn is_dns_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

impl FromStr for HostPort {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong =
            |help: &str| ValueError::new(format!("\"{text}\" is not an address of an endpoint")).help(help);
        if text.contains("://") {
            return Err(wrong("write host and port only; TLS is switched on by `[upstream.NAME.tls]`"));
        }
        let (host, port) = text
            .rsplit_once(':')
            .filter(|(host, _)| !host.contains(':') || host.starts_with('['))
            .ok_or_else(|| wrong("write host and port, such as \"127.0.0.1:8081\" or \"[::1]:8081\""))?;
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 && port.to_string().len() == text.len() - host.len() - 1 => port,
            _ => return Err(wrong("the port is a number from 1 to 65535")),
        };
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let ip = rest.strip_suffix(']').and_then(|ip| ip.parse::<std::net::Ipv6Addr>().ok());
                ip.ok_or_else(|| wrong("what stands in brackets is not an IPv6 address"))?.to_string()
            }
            None if is_dns_name(host) => host.to_ascii_lowercase(),
            None => return Err(wrong("the host is neither a name nor an address")),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An address to listen on; names are refused, as what they stand for may change.
pub(super) fn socket(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| {
        ValueError::new(format!("\"{text}\" is not an address to listen on")).help(
            "write an IP address and a port, such as \"127.0.0.1:8080\", \"0.0.0.0:443\" or \"[::]:443\"",
        )
    })
}

/// The schema of fields that hold a [`SocketAddr`] as it is.
pub(crate) fn socket_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "format": "socket-address",
        "pattern": r"^(\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]+$|\$\{",
        "examples": ["127.0.0.1:8080", "[::]:443"],
    })
}

string_value!(Cidr, "cidr", r"^[0-9a-fA-F:.]+(/[0-9]+)?$", ["10.0.0.0/8", "192.0.2.7"]);
string_value!(HostPort, "host-port", r"^.+:[0-9]+$", ["127.0.0.1:8081", "catalogue.internal:80"]);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_and_bare_addresses() {
        for text in ["10.0.0.0/8", "192.0.2.7", "::1", "2001:db8::/32"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        let error = "10.0.0.7/8".parse::<Cidr>().unwrap_err();
        assert_eq!(
            error.help.as_deref(),
            Some("write \"10.0.0.0/8\" for the network or \"10.0.0.7\" for the host")
        );
        assert!("10.0.0".parse::<Cidr>().is_err());
    }

    #[test]
    fn endpoints() {
        let local: HostPort = "[::1]:8081".parse().unwrap();
        assert_eq!((local.host(), local.port(), local.to_string().as_str()), ("::1", 8081, "[::1]:8081"));
        assert_eq!("Cat.Internal:80".parse::<HostPort>().unwrap().host(), "cat.internal");
        for text in
            ["", ":80", "a:", "a:0", "a:65536", "a:+1", "::1:80", "http://a:80", "a b:80", "a..b:80", "[x]:1"]
        {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]a-z0-9:./-]{0,24}") {
            for format in ["cidr", "host-port", "socket-address"] {
                drop(super::super::check_format(format, &text));
            }
            if let Ok(endpoint) = text.parse::<HostPort>() {
                prop_assert_eq!(endpoint.to_string().parse::<HostPort>(), Ok(endpoint));
            }
        }
    }
}
