//! Web origins, as browsers send them in `Origin`.

use std::fmt;
use std::str::FromStr;

use super::address::is_dns_name;
use super::{ValueError, string_value};

/// An origin to match, in the form browsers serialize one (RFC 6454, 6.2): scheme, host, and the port where it is not
/// the scheme's own. Exact (`"https://app.example.com"`), with a wildcard for one or more labels
/// (`"https://*.example.com"`), `"null"`, or `"*"` for every origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginPattern(String);

impl OriginPattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `"*"`.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }

    /// Whether it is `"null"`, the origin of sandboxed pages, of local files and of some redirects.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// Whether the value of an `Origin` field matches. Browsers serialize an origin in one way only, so bytes are
    /// compared, and what stands for a wildcard must be labels: `https://evil.test:1.example.com` is no subdomain.
    ///
    /// ```
    /// use portcullis_config::OriginPattern;
    ///
    /// let pattern: OriginPattern = "https://*.example.com".parse().unwrap();
    /// assert!(pattern.matches(b"https://app.example.com"));
    /// assert!(!pattern.matches(b"https://example.com"));
    /// assert!(!pattern.matches(b"https://evil.test/.example.com"));
    /// ```
    #[must_use]
    pub fn matches(&self, origin: &[u8]) -> bool {
        if self.is_any() {
            return true;
        }
        let Some((before, after)) = self.0.split_once('*') else { return origin == self.0.as_bytes() };
        let labels =
            origin.strip_prefix(before.as_bytes()).and_then(|rest| rest.strip_suffix(after.as_bytes()));
        labels.is_some_and(|labels| {
            labels.split(|b| *b == b'.').all(|label| {
                let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
                !label.is_empty() && label.iter().all(plain)
            })
        })
    }
}

/// The port that an origin of this scheme leaves out.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

impl FromStr for OriginPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if matches!(text, "*" | "null") {
            return Ok(Self(text.to_owned()));
        }
        let wrong = |help: String| ValueError::new(format!("\"{text}\" is no origin")).help(help);
        let usage = || {
            wrong(
                "write scheme and host, such as \"https://app.example.com\" or \"https://*.example.com\""
                    .to_owned(),
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(usage)?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !is_scheme {
            return Err(usage());
        }
        if let Some((origin, _)) = rest.split_once(['/', '?', '#']) {
            return Err(wrong(format!("an origin has no path: write \"{scheme}://{origin}\"")));
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong(format!(
                "browsers send it in lower case: write \"{}\"",
                text.to_ascii_lowercase()
            )));
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        if let Some(port) = port {
            let number =
                port.parse::<u16>().ok().filter(|n| *n > 0 && n.to_string() == port).ok_or_else(usage)?;
            if default_port(scheme) == Some(number) {
                return Err(wrong(format!(
                    "browsers leave {scheme}'s own port out: write \"{scheme}://{host}\""
                )));
            }
        }
        let name = host.strip_prefix("*.").unwrap_or(host);
        let is_ipv6 = name
            .strip_prefix('[')
            .and_then(|n| n.strip_suffix(']'))
            .is_some_and(|n| n.parse::<std::net::Ipv6Addr>().is_ok());
        if name.contains('*') {
            return Err(wrong(
                "a star stands for the first labels only, as in \"https://*.example.com\"".to_owned(),
            ));
        }
        let is_name = is_dns_name(name) && !name.ends_with('.');
        if !is_name && (!is_ipv6 || name != host) {
            return Err(usage());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_value!(
    OriginPattern,
    "origin-pattern",
    r"^(\*|null|[a-z][a-z0-9+.-]*://.+)$",
    ["https://app.example.com", "https://*.example.com", "*"]
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_an_origin() {
        for text in [
            "*",
            "null",
            "https://example.com",
            "http://localhost:3000",
            "https://*.example.com:8443",
            "http://[::1]:3000",
            "http://[::1]",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
        for (text, help) in [
            ("example.com", "scheme and host"),
            ("https://example.com/", "write \"https://example.com\""),
            ("https://Example.com", "write \"https://example.com\""),
            ("https://example.com:443", "write \"https://example.com\""),
            ("http://*.example.com:80", "write \"http://*.example.com\""),
            ("https://*", "first labels"),
            ("https://a.*.com", "first labels"),
            ("https://", "scheme and host"),
            ("https://a:0", "scheme and host"),
            ("https://u@a", "scheme and host"),
            ("https://a.", "scheme and host"),
            ("", "scheme and host"),
        ] {
            let error = text.parse::<OriginPattern>().unwrap_err();
            assert!(error.help.as_deref().unwrap_or_default().contains(help), "{text}: {error}");
        }
    }

    #[test]
    fn bytes_decide() {
        let exact = pattern("https://example.com");
        assert!(exact.matches(b"https://example.com"));
        for other in [
            "https://example.com:8443",
            "http://example.com",
            "https://example.com.evil.test",
            "https://EXAMPLE.com",
            "null",
            "*",
            "",
        ] {
            assert!(!exact.matches(other.as_bytes()), "{other}");
        }
        let wild = pattern("https://*.example.com:8443");
        for good in ["https://a.example.com:8443", "https://a.b-1.example.com:8443"] {
            assert!(wild.matches(good.as_bytes()), "{good}");
        }
        for bad in [
            "https://example.com:8443",
            "https://.example.com:8443",
            "https://a..example.com:8443",
            "https://a.example.com",
            "https://a.example.com:84430",
            "https://evil.test/.example.com:8443",
            "https://evil.test:1.example.com:8443",
            "https://evil.test@a.example.com:8443",
            "https://aexample.com:8443",
            "https://A.example.com:8443",
            "null",
        ] {
            assert!(!wild.matches(bad.as_bytes()), "{bad}");
        }
        assert!(pattern("*").matches(b"null") && pattern("null").matches(b"null"));
    }

    proptest! {
        #[test]
        fn a_wildcard_takes_hosts_below_it_and_nothing_else(labels in "[a-z0-9/:@?#.%\\\\-]{0,20}") {
            let origin = format!("https://{labels}.example.com");
            if pattern("https://*.example.com").matches(origin.as_bytes()) {
                prop_assert!(!labels.contains(['/', ':', '@', '?', '#', '%', '\\']), "{labels}");
                prop_assert!(labels.split('.').all(|label| !label.is_empty()), "{labels}");
            }
        }
    }
}
