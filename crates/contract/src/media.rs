//! Media types (RFC 9110 §8.3.1), read strictly.

use portcullis_http::is_token;
use std::fmt;

/// The media types a route takes: `application/json`, `image/*`, `application/*+json`, `*/*`.
///
/// ```
/// use portcullis_contract::{MediaRange, MediaType};
///
/// let range: MediaRange = "application/*+json".parse().unwrap();
/// assert!(range.holds(&MediaType::parse("Application/Merge-Patch+JSON; charset=utf-8").unwrap()));
/// assert!(!range.holds(&MediaType::parse("application/json").unwrap()));
/// assert!("json".parse::<MediaRange>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange {
    kind: String,
    subtype: Subtype,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subtype {
    Any,
    Suffix(String),
    Exactly(String),
}

/// A text that is no media range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidMediaRange(String);

impl fmt::Display for InvalidMediaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no media type: write `type/subtype`, `type/*`, `type/*+suffix` or `*/*`", self.0)
    }
}

impl std::error::Error for InvalidMediaRange {}

impl std::str::FromStr for MediaRange {
    type Err = InvalidMediaRange;

    fn from_str(text: &str) -> Result<Self, InvalidMediaRange> {
        let fail = || InvalidMediaRange(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let (kind, subtype) = lower.split_once('/').ok_or_else(fail)?;
        if !is_token(kind.as_bytes()) || !is_token(subtype.as_bytes()) {
            return Err(fail());
        }
        let read = if subtype == "*" {
            Subtype::Any
        } else if let Some(suffix) = subtype.strip_prefix("*+") {
            Subtype::Suffix(suffix.to_owned())
        } else {
            Subtype::Exactly(subtype.to_owned())
        };
        let starred = kind.contains('*')
            || matches!(&read, Subtype::Exactly(s) | Subtype::Suffix(s) if s.contains('*'));
        if starred && !(kind == "*" && read == Subtype::Any) {
            return Err(fail());
        }
        Ok(MediaRange { kind: kind.to_owned(), subtype: read })
    }
}

impl MediaRange {
    /// Whether a type is one of these; parameters do not count.
    #[must_use]
    pub fn holds(&self, media: &MediaType<'_>) -> bool {
        let subtype = match &self.subtype {
            Subtype::Any => true,
            Subtype::Suffix(suffix) => media.suffix().is_some_and(|s| s.eq_ignore_ascii_case(suffix)),
            Subtype::Exactly(name) => media.subtype.eq_ignore_ascii_case(name),
        };
        subtype && (self.kind == "*" || media.kind.eq_ignore_ascii_case(&self.kind))
    }
}

/// One `Content-Type` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType<'a> {
    kind: &'a str,
    subtype: &'a str,
    charset: Option<&'a str>,
}

impl<'a> MediaType<'a> {
    /// Reads a value; `None` where it breaks RFC 9110 §8.3.1, or names its charset twice.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<Self> {
        let (essence, mut rest) = match value.split_once(';') {
            Some((essence, rest)) => (essence, Some(rest)),
            None => (value, None),
        };
        let (kind, subtype) = essence.trim_matches([' ', '\t']).split_once('/')?;
        if !is_token(kind.as_bytes()) || !is_token(subtype.as_bytes()) {
            return None;
        }
        let mut charset = None;
        while let Some(parameters) = rest.map(|rest| rest.trim_start_matches([' ', '\t', ';'])) {
            if parameters.is_empty() {
                break;
            }
            let (name, value, after) = parameter(parameters)?;
            rest = after;
            if name.eq_ignore_ascii_case("charset") && charset.replace(value).is_some() {
                return None;
            }
        }
        Some(MediaType { kind, subtype, charset })
    }

    /// Whether it is `application/json` or ends in `+json` (RFC 6839 §3.1).
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.is("application", "json") || self.suffix().is_some_and(|s| s.eq_ignore_ascii_case("json"))
    }

    /// Whether its body is text that people and scripts read.
    #[must_use]
    pub fn is_text(&self) -> bool {
        const APPLICATIONS: [&str; 10] = [
            "javascript",
            "ecmascript",
            "x-javascript",
            "xml",
            "yaml",
            "toml",
            "graphql",
            "x-ndjson",
            "jsonl",
            "x-www-form-urlencoded",
        ];
        self.kind.eq_ignore_ascii_case("text")
            || self.is_json()
            || self.suffix().is_some_and(|s| s.eq_ignore_ascii_case("xml") || s.eq_ignore_ascii_case("yaml"))
            || APPLICATIONS.iter().any(|subtype| self.is("application", subtype))
    }

    /// The `charset` parameter.
    #[must_use]
    pub fn charset(&self) -> Option<&'a str> {
        self.charset
    }

    fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }

    fn suffix(&self) -> Option<&'a str> {
        self.subtype.rsplit_once('+').map(|(_, suffix)| suffix)
    }
}

/// Name and value of the first parameter, and what stands after the next `;`. A quoted value that holds an
/// escape is not read: nobody needs one here.
fn parameter(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let (name, rest) = text.split_once('=')?;
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains('\\'))?,
        None => {
            let (value, rest) = rest.split_at_checked(rest.find([';', ' ', '\t']).unwrap_or(rest.len()))?;
            (is_token(value.as_bytes()).then_some(value)?, rest)
        }
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let after = if rest.is_empty() { None } else { Some(rest.strip_prefix(';')?) };
    is_token(name.as_bytes()).then_some((name, value, after))
}
