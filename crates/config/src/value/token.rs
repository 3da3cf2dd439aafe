//! Names out of HTTP and SecLang: methods, header names, rule ids, rate-limit keys.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ValueError, string_value};

/// A request method, case-sensitive as RFC 9110 (9.1) has it: `"GET"`, `"POST"`, `"PURGE"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(String);

/// A header field's name, kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderName(String);

/// A header field's value: printable ASCII, spaces inside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HeaderValue(String);

/// What a rate limit counts by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RateKey {
    /// `"address"`: the client's address, IPv6 by /64.
    Address,
    /// `"consumer"`: the identified caller, by issuer and subject; needs `auth` on the route.
    Consumer,
    /// `"header:NAME"`: the value of this request header.
    Header(HeaderName),
    /// `"claim:NAME"`: the value of this claim of the caller's token (dots lead into objects); needs `auth` on the route.
    Claim(String),
}

/// Which rules an exclusion means: one id (`942100`) or an inclusive range (`"942100-942199"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleSelector {
    first: u32,
    last: u32,
}

/// The values a claim may have: one string or a list of which one must match. A claim that is itself a list
/// in the token passes when any of its items is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimValues(Vec<String>);

/// The syntax of names that operators give to things.
pub(crate) const NAME: &str = r"^[A-Za-z0-9._-]{1,64}$";

/// The schema of a field that holds such a name.
pub(crate) fn name_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "name", "pattern": NAME })
}

/// Checks a name against [`NAME`]; it becomes a metric label and part of header values.
pub(super) fn name(text: &str) -> Result<(), ValueError> {
    let is_name = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_name {
        return Ok(());
    }
    Err(ValueError::new(format!("\"{text}\" is not a name"))
        .help("use 1 to 64 letters, digits, dots, hyphens and underscores"))
}

/// A token by RFC 9110 (5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl Method {
    /// `GET`.
    #[must_use]
    pub fn get() -> Self {
        Self("GET".to_owned())
    }

    /// The method as it stands on the request line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Method {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let upper = text.to_ascii_uppercase();
        if !is_token(text) {
            return Err(ValueError::new(format!("\"{text}\" is not a request method")));
        }
        if upper != text {
            return Err(ValueError::new(format!(
                "methods are case-sensitive, \"{text}\" would match nothing"
            ))
            .help(format!("write \"{upper}\"")));
        }
        if upper == "CONNECT" {
            return Err(ValueError::new("CONNECT asks for a tunnel, which the gateway never opens"));
        }
        Ok(Self(upper))
    }
}

impl HeaderName {
    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if is_token(text) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(ValueError::new(format!("\"{text}\" is not a name of a header"))
            .help("use letters, digits and hyphens, such as \"x-api-version\""))
    }
}

impl HeaderValue {
    /// The value as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderValue {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(bad) = text.chars().find(|c| !matches!(c, ' '..='~')) {
            return Err(ValueError::new(format!("{bad:?} cannot stand in a header's value"))
                .help("use printable ASCII"));
        }
        if text.trim() != text {
            return Err(ValueError::new("a header's value neither begins nor ends with a space"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for RateKey {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once(':') {
            Some(("header", name)) => name.parse().map(Self::Header),
            Some(("claim", name)) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            None if text == "address" => Ok(Self::Address),
            None if text == "consumer" => Ok(Self::Consumer),
            _ => Err(ValueError::new(format!("\"{text}\" is nothing a rate limit can count by"))
                .help("write \"address\", \"consumer\", \"header:NAME\" or \"claim:NAME\"")),
        }
    }
}

impl RuleSelector {
    /// The ids it means, both ends included.
    #[must_use]
    pub fn ids(self) -> RangeInclusive<u32> {
        self.first..=self.last
    }
}

impl FromStr for RuleSelector {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let usage = || {
            ValueError::new(format!("\"{text}\" is not a rule id"))
                .help("write an id such as 942100 or a range such as \"942100-942199\"")
        };
        let id = |text: &str| text.trim().parse::<u32>().ok().filter(|id| *id > 0).ok_or_else(usage);
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (id(first)?, id(last)?),
            None => (id(text)?, id(text)?),
        };
        if first > last {
            return Err(ValueError::new(format!("the range \"{text}\" ends before it begins"))
                .help(format!("write \"{last}-{first}\"")));
        }
        Ok(Self { first, last })
    }
}

impl ClaimValues {
    /// The values of which one must match; never empty in a loaded configuration.
    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Consumer => f.write_str("consumer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
        }
    }
}

impl fmt::Display for RuleSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

string_value!(Method, "http-method", r"^[A-Z0-9!#$%&'*+.^_`|~-]+$", ["GET", "POST"]);
string_value!(HeaderName, "header-name", r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", ["x-api-version"]);
string_value!(HeaderValue, "header-value", r"^[ -~]*$", ["nosniff"]);
string_value!(
    RateKey,
    "rate-key",
    r"^(address|consumer|header:.+|claim:.+)$",
    ["address", "consumer", "header:x-api-key", "claim:tenant"]
);

/// One of two TOML types, as `serde` sees it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Either<A, B> {
    One(A),
    Other(B),
}

impl Serialize for RuleSelector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            serializer.serialize_u32(self.first)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for RuleSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Either::<u32, String>::deserialize(deserializer)? {
            Either::One(id) => Ok(Self { first: id, last: id }),
            Either::Other(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for RuleSelector {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RuleSelector".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "format": "rule-selector",
            "minimum": 1,
            "maximum": u32::MAX,
            "pattern": r"^[0-9]+(-[0-9]+)?$|\$\{",
            "examples": [942_100, "942100-942199"],
        })
    }
}

impl Serialize for ClaimValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ClaimValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Either::<String, Vec<String>>::deserialize(deserializer)? {
            Either::One(value) => Self(vec![value]),
            Either::Other(values) => Self(values),
        })
    }
}

impl JsonSchema for ClaimValues {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ClaimValues".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": { "type": "string" },
            "minItems": 1,
            "examples": ["gold", ["gold", "platinum"]],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!("PURGE".parse::<Method>().unwrap().as_str(), "PURGE");
        assert_eq!("get".parse::<Method>().unwrap_err().help.as_deref(), Some("write \"GET\""));
        for text in ["", "GE T", "CONNECT"] {
            assert!(text.parse::<Method>().is_err(), "{text}");
        }
    }

    #[test]
    fn header_values_cannot_split_a_response() {
        assert!("nosniff".parse::<HeaderValue>().is_ok());
        for text in ["a\r\nset-cookie: b", "a\0", " a", "é"] {
            assert!(text.parse::<HeaderValue>().is_err(), "{text}");
        }
    }

    #[test]
    fn rules_are_ids_and_ranges() {
        assert_eq!("942100-942199".parse::<RuleSelector>().unwrap().ids(), 942_100..=942_199);
        assert_eq!(serde_json::from_str::<RuleSelector>("942100").unwrap().to_string(), "942100");
        for text in ["", "0", "a", "9-", "-9", "9-8", "1-2-3"] {
            assert!(text.parse::<RuleSelector>().is_err(), "{text}");
        }
    }

    #[test]
    fn rate_keys() {
        for text in ["address", "consumer", "header:x-api-key", "claim:tenant"] {
            assert_eq!(text.parse::<RateKey>().unwrap().to_string(), text);
        }
        for text in ["", "ip", "header:", "header:a b", "claim:", "address:x"] {
            assert!(text.parse::<RateKey>().is_err(), "{text}");
        }
    }
}
