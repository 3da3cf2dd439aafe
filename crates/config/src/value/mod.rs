//! The value types of `gateway.toml`: what a string may mean, checked where it is read.
//!
//! Each type parses from one TOML string (`FromStr`), prints back in the same syntax (`Display`), and
//! carries its JSON Schema. The schema names a `format`; [`check_format`] finds the parser of that name, so
//! the schema walk reports a bad value at its position before `serde` ever sees it.

mod address;
mod affinity;
mod amount;
mod fingerprint;
mod firewall;
mod name;
mod origin;
mod pattern;
mod secret;
mod template;
mod token;

pub(crate) use address::socket_schema;
pub use address::{Cidr, HostPort};
pub use affinity::{CookieName, HashKey};
pub use amount::{ByteSize, Duration, Rate, Timeout};
pub use fingerprint::Fingerprint;
pub use firewall::{AuditParts, Share, StatusRange};
pub use name::{DnsName, NameServer, SubjectName};
pub use origin::OriginPattern;
pub use pattern::{HostPattern, PathPattern, PathSegment, Regex};
pub use secret::Secret;
pub use template::{PathTemplate, Template};
pub use token::{ClaimValues, HeaderName, HeaderValue, Method, RateKey, RuleSelector};
pub(crate) use token::{NAME, name_schema};

use std::fmt;

/// Why a string is not a value of the type its field wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong, in one sentence without the field's name.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

impl ValueError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ValueError {}

/// Ties a string type to serde and to its JSON Schema; the type itself gives `FromStr` and `Display`.
macro_rules! string_value {
    ($type:ident, $format:literal, $pattern:literal, [$($example:literal),+]) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "format": $format,
                    // Editors see the text before `${NAME}` is replaced.
                    "pattern": concat!($pattern, r"|\$\{"),
                    "examples": [$($example),+],
                })
            }
        }
    };
}
pub(crate) use string_value;

/// Parses `text` as the type whose schema carries this `format`; unknown formats accept everything, as JSON
/// Schema says.
///
/// # Errors
/// The type's own error when the text is not in its syntax.
pub fn check_format(format: &str, text: &str) -> Result<(), ValueError> {
    fn of<T: std::str::FromStr<Err = ValueError>>(text: &str) -> Result<(), ValueError> {
        text.parse::<T>().map(drop)
    }
    match format {
        "audit-parts" => of::<AuditParts>(text),
        "byte-size" => of::<ByteSize>(text),
        "cidr" => of::<Cidr>(text),
        "cookie-name" => of::<CookieName>(text),
        "dns-name" => of::<DnsName>(text),
        "fingerprint" => of::<Fingerprint>(text),
        "hash-key" => of::<HashKey>(text),
        "header-name" => of::<HeaderName>(text),
        "header-value" => of::<HeaderValue>(text),
        "host-pattern" => of::<HostPattern>(text),
        "host-port" => of::<HostPort>(text),
        "http-method" => of::<Method>(text),
        "name" => token::name(text),
        "name-server" => of::<NameServer>(text),
        "origin-pattern" => of::<OriginPattern>(text),
        "path-pattern" => of::<PathPattern>(text),
        "path-template" => of::<PathTemplate>(text),
        "rate" => of::<Rate>(text),
        "rate-key" => of::<RateKey>(text),
        "rule-selector" => of::<RuleSelector>(text),
        "rust-regex" => of::<Regex>(text),
        "share" => of::<Share>(text),
        "socket-address" => address::socket(text).map(drop),
        "status-range" => of::<StatusRange>(text),
        "subject-name" => of::<SubjectName>(text),
        "template" => of::<Template>(text),
        "time-span" => of::<Duration>(text),
        "timeout" => of::<Timeout>(text),
        _ => Ok(()),
    }
}
