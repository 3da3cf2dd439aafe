//! What keeps requests together: the keys of consistent hashing and of canaries, names of cookies.

use std::fmt;
use std::str::FromStr;

use super::token::is_token;
use super::{HeaderName, ValueError, string_value};

/// What of a request is hashed: requests with the same value go the same way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// `"address"`: the client's address.
    Address,
    /// `"consumer"`: the identified caller, by issuer and subject; needs `auth` on the route.
    Consumer,
    /// `"header:NAME"`: the value of this request header.
    Header(HeaderName),
    /// `"cookie:NAME"`: the value of this cookie.
    Cookie(CookieName),
    /// `"claim:NAME"`: the value of this claim of the caller's token (dots lead into objects); needs `auth` on the route.
    Claim(String),
}

/// A cookie's name: a token by RFC 6265 (4.1.1), in which case matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CookieName(String);

impl HashKey {
    /// Whether only a request whose caller is identified has it.
    #[must_use]
    pub fn needs_auth(&self) -> bool {
        matches!(self, Self::Consumer | Self::Claim(_))
    }
}

impl CookieName {
    /// A name that is known to be one.
    pub(crate) fn new(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HashKey {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once(':') {
            Some(("header", name)) => name.parse().map(Self::Header),
            Some(("cookie", name)) => name.parse().map(Self::Cookie),
            Some(("claim", name)) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            None if text == "address" => Ok(Self::Address),
            None if text == "consumer" => Ok(Self::Consumer),
            _ => Err(ValueError::new(format!("\"{text}\" is nothing of a request that can be hashed"))
                .help("write \"address\", \"consumer\", \"header:NAME\", \"cookie:NAME\" or \"claim:NAME\"")),
        }
    }
}

impl FromStr for CookieName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_token(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(ValueError::new(format!("\"{text}\" is not a name of a cookie"))
            .help("use letters, digits, hyphens and underscores, such as \"session\""))
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Consumer => f.write_str("consumer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
        }
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_value!(
    HashKey,
    "hash-key",
    r"^(address|consumer|header:.+|cookie:.+|claim:.+)$",
    ["address", "consumer", "header:x-tenant", "cookie:session", "claim:tenant"]
);
string_value!(CookieName, "cookie-name", r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", ["session"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_keys() {
        for text in ["address", "consumer", "header:x-tenant", "cookie:Session", "claim:tenant"] {
            assert_eq!(text.parse::<HashKey>().unwrap().to_string(), text);
        }
        for text in ["", "ip", "header:", "cookie:", "cookie:a b", "cookie:a=b", "claim:", "address:x"] {
            assert!(text.parse::<HashKey>().is_err(), "{text}");
        }
    }
}
