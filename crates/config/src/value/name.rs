//! Names that are looked up, who is asked for them, and names that certificates are for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::address::is_dns_name;
use super::{ValueError, string_value};

/// A DNS name to look up: `"catalogue.internal"`, `"_http._tcp.catalogue.internal"`; a dot at the end makes it absolute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsName(String);

/// A name server: an address, and a port where it is not 53: `"10.0.0.2"`, `"127.0.0.1:5353"`, `"[fd00::1]:53"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NameServer(SocketAddr);

/// What a certificate says whose it is: a URI, a DNS name or an address: `"spiffe://example.org/catalogue"`,
/// `"catalogue.internal"`, `"10.0.0.7"`. No wildcards: a certificate may have them, an expectation has not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubjectName(String);

const DNS_PORT: u16 = 53;

impl DnsName {
    /// In lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NameServer {
    /// Address and port.
    #[must_use]
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl SubjectName {
    /// As it is written; a DNS name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.parse::<IpAddr>().is_ok() {
            let help = "an address needs no looking up: write it into `endpoints`";
            return Err(ValueError::new(format!("\"{text}\" is an address and no name")).help(help));
        }
        if is_dns_name(text.strip_suffix('.').unwrap_or(text)) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(ValueError::new(format!("\"{text}\" is not a DNS name"))
            .help("write a name without port, such as \"catalogue.internal\""))
    }
}

impl FromStr for NameServer {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
        match text.parse::<SocketAddr>().or(bare) {
            Ok(address) if address.port() != 0 => Ok(Self(address)),
            _ => Err(ValueError::new(format!("\"{text}\" is not the address of a name server"))
                .help("write an address, with a port where it is not 53: \"10.0.0.2\", \"127.0.0.1:5353\", \"[fd00::1]:53\"")),
        }
    }
}

impl FromStr for SubjectName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.parse::<IpAddr>().is_ok() || is_uri(text) {
            return Ok(Self(text.to_owned()));
        }
        if is_dns_name(text) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(ValueError::new(format!("\"{text}\" is no name that a certificate is for"))
            .help("write a URI, a DNS name without wildcards or an address: \"spiffe://example.org/catalogue\", \"catalogue.internal\", \"10.0.0.7\""))
    }
}

/// A scheme, a colon and something (RFC 3986, 3); visible ASCII throughout.
fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_graphic())
            // `host:port` is a slip, and would be a URI of the scheme `host`.
            && !rest.bytes().all(|byte| byte.is_ascii_digit())
    })
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == DNS_PORT { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_value!(
    DnsName,
    "dns-name",
    r"^[A-Za-z0-9._-]+$",
    ["catalogue.internal", "_http._tcp.catalogue.internal"]
);
string_value!(
    NameServer,
    "name-server",
    r"^(\[[0-9a-fA-F:.]+\](:[0-9]+)?|[0-9a-fA-F.:]+)$",
    ["10.0.0.2", "127.0.0.1:5353"]
);
string_value!(
    SubjectName,
    "subject-name",
    r"^[!-~]+$",
    ["spiffe://example.org/catalogue", "catalogue.internal"]
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for (text, read) in [
            ("a", "a"),
            ("Catalogue.Internal.", "catalogue.internal."),
            ("_http._tcp.a-b.c", "_http._tcp.a-b.c"),
        ] {
            assert_eq!(text.parse::<DnsName>().unwrap().as_str(), read);
        }
        for text in ["", ".", "a..b", "a:80", "10.0.0.1", "::1", "http://a", "a b", "-a", "a/b", "a.."] {
            assert!(text.parse::<DnsName>().is_err(), "{text}");
        }
    }

    #[test]
    fn name_servers() {
        for (text, address) in [
            ("10.0.0.2", "10.0.0.2:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(text.parse::<NameServer>().unwrap().get().to_string(), address);
        }
        for text in ["", "dns.internal", "10.0.0.2:0", "10.0.0:53", "tls://10.0.0.2"] {
            assert!(text.parse::<NameServer>().is_err(), "{text}");
        }
    }

    #[test]
    fn subjects() {
        for text in [
            "spiffe://example.org/ns/shop/sa/catalogue",
            "urn:uuid:6e8bc430",
            "10.0.0.7",
            "fd00::7",
            "a.example",
        ] {
            assert_eq!(text.parse::<SubjectName>().unwrap().as_str(), text);
        }
        for text in ["", "*.example", "a b", "a:80", "spiffe:", "://x", "a..b", "spiffe://a b"] {
            assert!(text.parse::<SubjectName>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]*a-z0-9:./_-]{0,24}") {
            for format in ["dns-name", "name-server", "subject-name"] {
                drop(super::super::check_format(format, &text));
            }
            if let Ok(server) = text.parse::<NameServer>() {
                prop_assert_eq!(server.to_string().parse::<NameServer>(), Ok(server));
            }
        }
    }
}
