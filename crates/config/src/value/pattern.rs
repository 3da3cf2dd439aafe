//! What a route matches: hosts, paths, regular expressions.

use std::fmt;
use std::str::FromStr;

use super::address::is_dns_name;
use super::{ValueError, string_value};

/// A host to match, in lower case: exact (`"api.example.com"`) or a wildcard for one or more labels
/// (`"*.example.com"`). Ports are not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern(String);

/// A path to match, against the normalized path: exact (`"/health"`), with parameters that take one segment
/// (`"/titles/{id}"`), and with a last parameter that takes the rest (`"/files/{*rest}"`, one byte or more).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    text: String,
    segments: Vec<PathSegment>,
}

/// One segment of a [`PathPattern`]: what stands between two slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathSegment {
    /// These bytes; empty only at the end, for a trailing slash.
    Literal(String),
    /// Any one segment that is not empty, under this name.
    Param(String),
    /// All that is left, under this name.
    Rest(String),
}

/// A regular expression in the syntax of the `regex` crate: linear time, no look-around, no back-references.
/// It matches anywhere unless anchored by `^` and `$`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Regex(String);

impl HostPattern {
    /// The pattern in lower case, with its `*.` if it has one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For `*.example.com` the part after the star, `.example.com`.
    #[must_use]
    pub fn wildcard_suffix(&self) -> Option<&str> {
        self.0.strip_prefix('*')
    }
}

impl FromStr for HostPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        if is_address && name == text || is_dns_name(name) && !name.ends_with('.') {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        let help = match text {
            "*" => "leave `hosts` out to match every host",
            _ if text.contains('*') => "a star may only stand for the first labels, as in \"*.example.com\"",
            _ if text.contains(':') => "write the host without scheme and port",
            _ if !text.is_ascii() => "write the name in its ASCII (punycode) form, as it comes in `Host`",
            _ => "write a name such as \"api.example.com\" or \"*.example.com\"",
        };
        Err(ValueError::new(format!("\"{text}\" is not a host to match")).help(help))
    }
}

impl PathPattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments, in order; `/` is one empty literal.
    #[must_use]
    pub fn segments(&self) -> &[PathSegment] {
        &self.segments
    }

    /// The names of its parameters, in order.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            PathSegment::Literal(_) => None,
            PathSegment::Param(name) | PathSegment::Rest(name) => Some(name.as_str()),
        })
    }

    /// The pattern with parameter names left out: two patterns with the same shape match the same paths.
    #[must_use]
    pub fn shape(&self) -> String {
        self.segments.iter().fold(String::new(), |shape, segment| {
            shape
                + "/"
                + match segment {
                    PathSegment::Literal(text) => text,
                    PathSegment::Param(_) => "{}",
                    PathSegment::Rest(_) => "{*}",
                }
        })
    }
}

/// Whether a parameter may be called so: a letter or `_`, then letters, digits and `_`.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Bytes that stand for themselves in a normalized path segment (RFC 3986, pchar without percent-encoding).
pub(super) fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

fn literal(segment: &str) -> Result<PathSegment, ValueError> {
    if segment == "." || segment == ".." {
        return Err(ValueError::new("dot segments never reach a route: the normalized path has none"));
    }
    if let Some(bad) = segment.chars().find(|c| !c.is_ascii() || !is_path_byte(*c as u8)) {
        let error = ValueError::new(format!("{bad:?} cannot stand in the segment \"{segment}\""));
        return Err(match bad {
            '{' | '}' => {
                error.help("a parameter is a whole segment, such as \"/{id}\" or a last \"/{*rest}\"")
            }
            '?' | '#' => error.help("match the query with `query`"),
            '*' => error.help("write \"{*rest}\" for the rest of the path"),
            _ => error.help("match it with a parameter: routes see the decoded, normalized path"),
        });
    }
    Ok(PathSegment::Literal(segment.to_owned()))
}

fn segment(text: &str, is_last: bool) -> Result<PathSegment, ValueError> {
    let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return match text {
            "" if !is_last => Err(ValueError::new("an empty segment (`//`) never reaches a route")),
            "*" => {
                Err(ValueError::new("\"*\" would match a literal star")
                    .help("write \"{*rest}\" or \"{name}\""))
            }
            _ => literal(text),
        };
    };
    let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
    if !is_name(name) {
        return Err(ValueError::new(format!("\"{name}\" is not a name for a parameter"))
            .help("use letters, digits and _, a letter first"));
    }
    match (is_rest, is_last) {
        (false, _) => Ok(PathSegment::Param(name.to_owned())),
        (true, true) => Ok(PathSegment::Rest(name.to_owned())),
        (true, false) => {
            Err(ValueError::new(format!("\"{{*{name}}}\" takes the rest, so nothing may follow it")))
        }
    }
}

impl FromStr for PathPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let rest = text.strip_prefix('/').ok_or_else(|| {
            ValueError::new(format!("the path \"{text}\" does not begin with a slash"))
                .help(format!("write \"/{text}\""))
        })?;
        let count = rest.split('/').count();
        let segments: Vec<_> = rest
            .split('/')
            .enumerate()
            .map(|(at, text)| segment(text, at + 1 == count))
            .collect::<Result<_, _>>()?;
        let pattern = Self { text: text.to_owned(), segments };
        let names: Vec<_> = pattern.params().collect();
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|other| other == name) {
                return Err(ValueError::new(format!("the parameter \"{name}\" stands twice in \"{text}\"")));
            }
        }
        Ok(pattern)
    }
}

impl Regex {
    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Regex {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match regex_syntax::parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => {
                let kind = match &error {
                    regex_syntax::Error::Parse(error) => error.kind().to_string(),
                    regex_syntax::Error::Translate(error) => error.kind().to_string(),
                    _ => "it does not parse".to_owned(),
                };
                Err(ValueError::new(format!("\"{text}\" is not a regular expression: {kind}")))
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_value!(
    HostPattern,
    "host-pattern",
    r"^(\*\.)?[A-Za-z0-9._-]+$|^\[[0-9a-fA-F:.]+\]$",
    ["api.example.com", "*.example.com"]
);
string_value!(PathPattern, "path-pattern", r"^/", ["/", "/titles/{id}", "/files/{*rest}"]);
string_value!(Regex, "rust-regex", r"^.*$", ["^v[0-9]+$"]);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths() {
        let pattern: PathPattern = "/titles/{id}/files/{*rest}".parse().unwrap();
        assert_eq!(pattern.params().collect::<Vec<_>>(), ["id", "rest"]);
        assert_eq!(pattern.shape(), "/titles/{}/files/{*}");
        for text in ["/", "/a", "/a/", "/{a}", "/a.b/c~d"] {
            assert_eq!(text.parse::<PathPattern>().unwrap().to_string(), text);
        }
        for text in [
            "", "a", "/a//b", "/../a", "/./", "/a b", "/%41", "/é", "/{a}/{a}", "/{*a}/b", "/{}", "/x{a}",
            "/*", "/a?b",
        ] {
            assert!(text.parse::<PathPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn hosts() {
        let wild: HostPattern = "*.Example.com".parse().unwrap();
        assert_eq!((wild.as_str(), wild.wildcard_suffix()), ("*.example.com", Some(".example.com")));
        for text in ["*", "a.*", "a:80", "https://a", "a..b", "a.", "*.*.a", "*.10.0.0.1.", "é.com", ""] {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn expressions() {
        assert!("^v[0-9]+$".parse::<Regex>().is_ok());
        assert!("(".parse::<Regex>().is_err());
        assert!("(?=a)".parse::<Regex>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[/{}*a-z.%é?]{0,20}") {
            for format in ["path-pattern", "host-pattern", "rust-regex"] {
                drop(super::super::check_format(format, &text));
            }
        }
    }
}
