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
/// (`"/titles/{id}"`), and with a last parameter that takes the rest, which may be
/// empty (`"/files/{*rest}"`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    text: String,
    segments: Vec<PathSegment>,
}

/// One segment of a [`PathPattern`]: what stands between two slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathSegment {
    /// These bytes, in the spelling of the normalized path; empty only at the end, for a trailing slash.
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

    /// Whether the parameter of this name takes the rest of the path; `None` when there is none of this name.
    #[must_use]
    pub fn takes_rest(&self, name: &str) -> Option<bool> {
        self.segments.iter().find_map(|segment| match segment {
            PathSegment::Param(param) if param == name => Some(false),
            PathSegment::Rest(param) if param == name => Some(true),
            _ => None,
        })
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

/// The one spelling of a path segment, as normalization gives it: what RFC 3986 lets stand plainly stands
/// plainly, everything else as `%HH`. Takes either spelling.
pub(super) fn canonical(segment: &str) -> Result<String, ValueError> {
    let wrong = |what: &str| ValueError::new(format!("{what} cannot stand in the segment \"{segment}\""));
    let mut bytes = Vec::with_capacity(segment.len());
    let mut chars = segment.chars();
    while let Some(char) = chars.next() {
        match char {
            '%' => {
                let digits = chars.by_ref().take(2).collect::<String>();
                let byte = u8::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                bytes.push(byte.filter(|_| digits.len() == 2).ok_or_else(|| {
                    ValueError::new(format!("`%` without two hexadecimal digits in \"{segment}\""))
                        .help("match it with a parameter")
                })?);
            }
            '{' | '}' => {
                let help = "a parameter is a whole segment, such as \"/{id}\" or a last \"/{*rest}\"";
                return Err(wrong("a brace").help(help));
            }
            '?' | '#' => return Err(wrong(&format!("`{char}`")).help("a path ends before its query")),
            '*' => {
                return Err(
                    wrong("`*`").help("write \"{*rest}\" for the rest of the path, or %2A for a star")
                );
            }
            _ => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| ValueError::new(format!("\"{segment}\" does not decode to UTF-8")))?;
    if let Some(bad) = text.chars().find(|c| c.is_control() || matches!(c, '/' | '\\' | ';' | '%')) {
        return Err(wrong(&format!("{bad:?}")).help("match it with a parameter"));
    }
    if text == "." || text == ".." {
        return Err(ValueError::new("dot segments never reach a route: the normalized path has none"));
    }
    Ok(text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    }))
}

fn segment(text: &str, is_last: bool) -> Result<PathSegment, ValueError> {
    let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return match text {
            "" if !is_last => Err(ValueError::new("an empty segment (`//`) never reaches a route")),
            _ => canonical(text).map(PathSegment::Literal),
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
            "", "a", "/a//b", "/../a", "/./", "/%2e", "/%4", "/%+1", "/%FF", "/%2F", "/a;b", "/a\\b",
            "/{a}/{a}", "/{*a}/b", "/{}", "/x{a}", "/*", "/a?b", "/\n",
        ] {
            assert!(text.parse::<PathPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn literals_take_the_spelling_of_the_normalized_path() {
        for (text, shape) in
            [("/a b", "/a%20b"), ("/é", "/%C3%A9"), ("/%41%2a", "/A*"), ("/%c3%a9", "/%C3%A9")]
        {
            assert_eq!(text.parse::<PathPattern>().unwrap().shape(), shape);
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
        /// Or a route could be written that no request reaches, or that another reading of the path avoids.
        #[test]
        fn literals_are_what_normalization_gives(text in "(/([a-zA-Z~*'@. é]|%[0-9a-fA-F]{2}|%25){1,6}){1,3}/?") {
            if let Ok(pattern) = text.parse::<PathPattern>() {
                let shape = pattern.shape();
                let target = portcullis_http::Target::parse(shape.as_bytes());
                prop_assert_eq!(target.as_ref().map(portcullis_http::Target::path), Ok(shape.as_str()));
                if text.is_ascii() && !text.contains(' ') {
                    prop_assert_eq!(target, portcullis_http::Target::parse(text.as_bytes()));
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[/{}*a-z.%é?]{0,20}") {
            for format in ["path-pattern", "host-pattern", "rust-regex"] {
                drop(super::super::check_format(format, &text));
            }
        }
    }
}
