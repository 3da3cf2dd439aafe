//! One reading of the request target, made before anything else looks at it.

mod plain;

use crate::client::Scheme;
use crate::percent::{decode_pair, encode_segment, form_decode, push_encoded};
use plain::plain;
use std::borrow::Cow;
use std::fmt;

/// A request target in its one canonical form: what the router matches, policies and firewall judge, and the
/// upstream receives. The raw bytes stay in the request head for the firewall.
///
/// The path is decoded once, its dot segments and empty segments removed, and encoded again so that each
/// path has exactly one spelling: characters that a path segment may hold plainly (RFC 3986 `pchar`) stand
/// plainly, all others as `%HH` in upper case. What a second decoding would change into a separator, a dot
/// segment or NUL is refused, and so is what backends are known to read in more than one way: encoded
/// separators, backslashes, path parameters (`;`), overlong or broken UTF-8, control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The path, and the query behind it with its `?` if there is one.
    text: String,
    /// Bytes of the path.
    path: usize,
    scheme: Option<Scheme>,
    authority: Option<String>,
    asterisk: bool,
    /// What a strict reading would have refused in the path, and in the query.
    tolerated: Tolerated,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tolerated {
    path: Option<TargetError>,
    query: Option<TargetError>,
}

/// What of a target is taken that is refused by default, because not all readers read it alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// In the query: `\` and bytes beyond ASCII, which RFC 3986 does not allow there. They are percent-encoded.
    pub query_bytes: bool,
    /// In the path: encoded slashes, backslashes, semicolons, control characters (not NUL), bytes that are not UTF-8
    /// and percent signs that would decode again. They stay encoded, parts of their segments.
    pub encoded_path: bool,
}

impl Tolerance {
    /// What either takes.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Tolerance {
            query_bytes: self.query_bytes || other.query_bytes,
            encoded_path: self.encoded_path || other.encoded_path,
        }
    }

    /// All that can be tolerated.
    pub const ALL: Tolerance = Tolerance { query_bytes: true, encoded_path: true };
}

/// Why a target was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// Neither `/path`, nor an absolute `http(s)` URI, nor `*`.
    Form,
    /// A byte that may not stand in a target (RFC 3986): control, space, `#`, `\`, or beyond ASCII.
    Byte,
    /// `%` without two hexadecimal digits.
    PercentEncoding,
    /// An encoded `/` or `\`.
    EncodedSeparator,
    /// An encoded control character or NUL.
    EncodedControl,
    /// The decoded path is not UTF-8.
    Utf8,
    /// Decoding twice would read a separator, a dot or NUL.
    DoubleEncoding,
    /// A path parameter (`;`).
    PathParameter,
    /// `..` beyond the root.
    Traversal,
}

impl TargetError {
    /// The reason's name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TargetError::Form => "target_form",
            TargetError::Byte => "target_byte",
            TargetError::PercentEncoding => "percent_encoding",
            TargetError::EncodedSeparator => "encoded_separator",
            TargetError::EncodedControl => "encoded_control",
            TargetError::Utf8 => "path_utf8",
            TargetError::DoubleEncoding => "double_encoding",
            TargetError::PathParameter => "path_parameter",
            TargetError::Traversal => "path_traversal",
        }
    }
}

impl TargetError {
    /// Whether [`Tolerance::encoded_path`] is about it.
    fn is_encoding(self) -> bool {
        use TargetError as E;
        matches!(
            self,
            E::EncodedSeparator | E::EncodedControl | E::Utf8 | E::DoubleEncoding | E::PathParameter
        )
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for TargetError {}

impl Target {
    /// Reads a target as it stood in the request line (RFC 9112 §3.2) or in `:path`. `*` is read as such;
    /// whether it may stand with the method is for the caller to say ([`Target::is_asterisk`]).
    ///
    /// # Errors
    /// A [`TargetError`] that says what a second reader could read otherwise.
    pub fn parse(raw: &[u8]) -> Result<Self, TargetError> {
        Self::parse_tolerant(raw, Tolerance::default())
    }

    /// Reads a target likewise, and takes what a tolerance covers: its form is canonical all the same. Whether the
    /// route that was found tolerates it is to be asked then ([`Target::check`]).
    ///
    /// # Errors
    /// As [`Target::parse`], for what is not covered.
    pub fn parse_tolerant(raw: &[u8], tolerance: Tolerance) -> Result<Self, TargetError> {
        if let Some(path) = plain(raw) {
            let text = String::from_utf8(raw.to_vec()).map_err(|_| TargetError::Byte)?;
            return Ok(Target { text, path, ..Target::default() });
        }
        let at = raw.iter().position(|&b| b == b'?').unwrap_or(raw.len());
        let (head, query) = raw.split_at_checked(at).ok_or(TargetError::Byte)?;
        let beyond = |&b: &u8| b >= 0x80 || b == b'\\';
        if raw.iter().any(|&b| b <= 0x20 || b == 0x7f || b == b'#') || head.iter().any(beyond) {
            return Err(TargetError::Byte);
        }
        let head = std::str::from_utf8(head).map_err(|_| TargetError::Byte)?;
        if raw == b"*" {
            return Ok(Target { asterisk: true, text: "*".to_owned(), path: 1, ..Target::default() });
        }
        let (scheme, authority, path) = split_authority(head)?;
        let mut target = Target { scheme, authority: authority.map(str::to_owned), ..Target::default() };
        if query.iter().any(beyond) {
            target.tolerated.query = Some(TargetError::Byte);
        }
        target.text = match canonical_path(path) {
            Err(error) if tolerance.encoded_path && error.is_encoding() => {
                target.tolerated.path = Some(error);
                keep_encoded(path, error)?
            }
            strict => strict?,
        };
        target.path = target.text.len();
        push_query(query, &mut target.text);
        target.check(tolerance)?;
        Ok(target)
    }

    /// Whether the target is fit for whoever tolerates this much.
    ///
    /// # Errors
    /// What a strict reading refuses, where that is not covered.
    pub fn check(&self, tolerance: Tolerance) -> Result<(), TargetError> {
        let path = self.tolerated.path.filter(|_| !tolerance.encoded_path);
        let query = self.tolerated.query.filter(|_| !tolerance.query_bytes);
        path.or(query).map_or(Ok(()), Err)
    }

    /// Path and query as they are sent on.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The canonical path; starts with `/` unless [`Target::is_asterisk`].
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(..self.path).unwrap_or_default()
    }

    /// The query as it was sent, without the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.path + 1..)
    }

    /// The first value of a query parameter, decoded: `+` is a space, `%HH` a byte, a stray `%` itself. A name
    /// without `=` has an empty value.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        query_value(self.query()?, name)
    }

    /// The scheme of an absolute-form target.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The authority of an absolute-form target.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The port that the scheme of an absolute-form target stands for: 443 for `https`, else 80.
    #[must_use]
    pub fn default_port(&self) -> u16 {
        if self.scheme == Some(Scheme::Https) { 443 } else { 80 }
    }

    /// Whether the target is `*` (`OPTIONS *`).
    #[must_use]
    pub fn is_asterisk(&self) -> bool {
        self.asterisk
    }
}

/// Parts an absolute-form target into scheme, authority and the rest; others have neither of the first two.
fn split_authority(raw: &str) -> Result<(Option<Scheme>, Option<&str>, &str), TargetError> {
    if raw.starts_with('/') {
        return Ok((None, None, raw));
    }
    let (scheme, rest) = raw.split_once("://").ok_or(TargetError::Form)?;
    let known = [Scheme::Http, Scheme::Https];
    let scheme = known.into_iter().find(|known| scheme.eq_ignore_ascii_case(known.as_str()));
    let scheme = scheme.ok_or(TargetError::Form)?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end).ok_or(TargetError::Form)?;
    if authority.is_empty() {
        return Err(TargetError::Form);
    }
    Ok((Some(scheme), Some(authority), rest))
}

fn canonical_path(path: &str) -> Result<String, TargetError> {
    if plain(path.as_bytes()) == Some(path.len()) {
        return Ok(path.to_owned());
    }
    let decoded = decode(path)?;
    join(decoded.split('/').map(|segment| Cow::Borrowed(segment.as_bytes())))
}

/// The canonical form of a path whose segments hold what strict reading refuses: that stays encoded. `error` is what
/// strict reading says.
fn keep_encoded(path: &str, error: TargetError) -> Result<String, TargetError> {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        let mut bytes = Vec::with_capacity(segment.len());
        let mut rest = segment.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            let (byte, tail) = match first {
                b'%' => decode_pair(tail).ok_or(TargetError::PercentEncoding)?,
                _ => (first, tail),
            };
            bytes.push(byte);
            rest = tail;
        }
        // To a reader for whom these part a path, a dot segment between them would lead elsewhere.
        let mut pieces = bytes.split(|b| matches!(b, b'/' | b'\\' | b';'));
        if bytes.contains(&0) || (pieces.clone().nth(1).is_some() && pieces.any(is_dots)) {
            return Err(error);
        }
        segments.push(Cow::Owned(bytes));
    }
    join(segments.into_iter())
}

fn is_dots(segment: &[u8]) -> bool {
    matches!(segment, b"." | b"..")
}

/// Makes a path of decoded segments: dot segments and empty ones go, everything else has one spelling.
fn join<'a>(decoded: impl Iterator<Item = Cow<'a, [u8]>>) -> Result<String, TargetError> {
    let mut segments: Vec<Cow<'_, [u8]>> = Vec::new();
    let mut directory = true;
    for segment in decoded {
        directory = segment.is_empty() || is_dots(&segment);
        match &*segment {
            b"" | b"." => {}
            b".." => {
                segments.pop().ok_or(TargetError::Traversal)?;
            }
            _ => segments.push(segment),
        }
    }
    let mut out = String::new();
    for segment in &segments {
        out.push('/');
        encode_segment(segment, &mut out);
    }
    if directory || segments.is_empty() {
        out.push('/');
    }
    Ok(out)
}

fn decode(path: &str) -> Result<String, TargetError> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        bytes = rest;
        let byte = match first {
            b'%' => {
                let (byte, rest) = decode_pair(rest).ok_or(TargetError::PercentEncoding)?;
                bytes = rest;
                match byte {
                    b'/' | b'\\' => return Err(TargetError::EncodedSeparator),
                    0..=0x1f | 0x7f => return Err(TargetError::EncodedControl),
                    b'%' if reads_twice(rest) => return Err(TargetError::DoubleEncoding),
                    _ => byte,
                }
            }
            _ => first,
        };
        if byte == b';' {
            return Err(TargetError::PathParameter);
        }
        out.push(byte);
    }
    String::from_utf8(out).map_err(|_| TargetError::Utf8)
}

/// Whether what follows a decoded `%` would decode again to something that parts a path or ends a string, or to a letter,
/// digit or mark that nobody needs to encode even once: to a reader who decodes twice, `/%2561dmin` is `/admin`. The digits
/// may themselves be encoded (`%25%32%66`).
fn reads_twice(rest: &[u8]) -> bool {
    let digit = |rest: &[u8]| -> Option<(u8, usize)> {
        match rest.split_first()? {
            (b'%', tail) => decode_pair(tail).map(|(byte, _)| (byte, 3)),
            (&byte, _) => Some((byte, 1)),
        }
    };
    let Some((high, used)) = digit(rest) else { return false };
    let Some((low, _)) = rest.get(used..).and_then(digit) else { return false };
    let pair = [high, low];
    decode_pair(&pair).is_some_and(|(byte, _)| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'/' | b'\\' | b'.' | b'-' | b'_' | b'~' | b'%' | b';' | 0)
    })
}

/// The first value of a parameter in a query.
pub(crate) fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *form_decode(key, true) == *name.as_bytes())
        .map(|(_, value)| form_decode(value, true))
}

/// Appends a query and its `?` as they were sent, but for the bytes that RFC 3986 does not know.
fn push_query(query: &[u8], out: &mut String) {
    for &byte in query {
        if byte.is_ascii() && byte != b'\\' { out.push(char::from(byte)) } else { push_encoded(byte, out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(raw: &str) -> Result<String, TargetError> {
        Target::parse(raw.as_bytes()).map(|t| t.path().to_owned())
    }

    #[test]
    fn f1_dot_and_empty_segments_go() {
        for raw in [
            "/admin",
            "//admin",
            "/./admin",
            "/a/../admin",
            "/%2e/admin",
            "/a/%2e%2e/admin",
            "/%61dmin",
            "///admin",
        ] {
            assert_eq!(path(raw).as_deref(), Ok("/admin"), "{raw}");
        }
        assert_eq!(path("/a/b/..").as_deref(), Ok("/a/"));
        assert_eq!(path("/a/.").as_deref(), Ok("/a/"));
        assert_eq!(path("/").as_deref(), Ok("/"));
        for raw in ["/..", "/%2e%2e/", "/a/../../b"] {
            assert_eq!(path(raw), Err(TargetError::Traversal), "{raw}");
        }
    }

    #[test]
    fn f2_to_f5_second_readings_are_refused() {
        use TargetError::*;
        for (raw, error) in [
            ("/a%2fb", EncodedSeparator),
            ("/a%5Cb", EncodedSeparator),
            ("/a\\b", Byte),
            ("/..;/admin", PathParameter),
            ("/admin;x=1", PathParameter),
            ("/admin%3bx", PathParameter),
            ("/%252e%252e/x", DoubleEncoding),
            ("/%25%32%66", DoubleEncoding),
            ("/%2525", DoubleEncoding),
            ("/%2561dmin", DoubleEncoding),
            ("/%25%36%31dmin", DoubleEncoding),
            ("/%256%31dmin", DoubleEncoding),
            ("/%c0%ae", Utf8),
            ("/%c1%9c", Utf8),
            ("/%u002e", PercentEncoding),
            ("/%zz", PercentEncoding),
            ("/%2", PercentEncoding),
            ("/%00", EncodedControl),
            ("/%0a", EncodedControl),
            ("/x#y", Byte),
            ("/x y", Byte),
            ("x", Form),
            ("", Form),
            ("ftp://a/b", Form),
            ("http:///b", Form),
        ] {
            assert_eq!(path(raw), Err(error), "{raw}");
        }
        assert_eq!(path("/\u{e9}"), Err(Byte));
        assert_eq!(path("/100%25").as_deref(), Ok("/100%25"));
        assert_eq!(path("/a%2520b%25C3%25A9").as_deref(), Ok("/a%2520b%25C3%25A9"));
        assert_eq!(path("/%C3%A9%20x").as_deref(), Ok("/%C3%A9%20x"));
        assert_eq!(path("/a%3fb%23").as_deref(), Ok("/a%3Fb%23"));
    }

    #[test]
    fn absolute_form_and_asterisk() {
        let target = Target::parse(b"http://Host:80?x").unwrap();
        assert_eq!((target.authority(), target.path(), target.query()), (Some("Host:80"), "/", Some("x")));
        assert!(Target::parse(b"*").unwrap().is_asterisk());
    }

    #[test]
    fn query_values() {
        let target = Target::parse(b"/?a=1&b+c=%41+%zz&d&a=2").unwrap();
        let value = |name| target.query_value(name).map(|v| String::from_utf8(v.into_owned()).unwrap());
        assert_eq!(value("a").as_deref(), Some("1"));
        assert_eq!(value("b c").as_deref(), Some("A %zz"));
        assert_eq!(value("d").as_deref(), Some(""));
        assert_eq!(value("x"), None);
    }

    const ALL: Tolerance = Tolerance::ALL;

    #[test]
    fn what_is_tolerated_has_one_form_and_is_still_asked_about() {
        for (raw, path, query, error) in [
            (&b"/a?x=..\\b"[..], "/a", Some("x=..%5Cb"), TargetError::Byte),
            ("/a?x=\u{e9}".as_bytes(), "/a", Some("x=%C3%A9"), TargetError::Byte),
            (b"/a%2Fb", "/a%2Fb", None, TargetError::EncodedSeparator),
            (b"/a%5cb", "/a%5Cb", None, TargetError::EncodedSeparator),
            (b"/a%0ab//c/./%61", "/a%0Ab/c/a", None, TargetError::EncodedControl),
            (b"/a;b=1", "/a%3Bb=1", None, TargetError::PathParameter),
            (b"/%FF", "/%FF", None, TargetError::Utf8),
            (b"/%252e%252e/x", "/%252e%252e/x", None, TargetError::DoubleEncoding),
        ] {
            let shown = raw.escape_ascii().to_string();
            assert_eq!(Target::parse(raw).unwrap_err(), error, "{shown}");
            let target = Target::parse_tolerant(raw, ALL).unwrap();
            assert_eq!((target.path(), target.query()), (path, query), "{shown}");
            assert_eq!(target.check(Tolerance::default()), Err(error), "{shown}");
            assert_eq!(target.check(ALL), Ok(()), "{shown}");
        }
        let both = Target::parse_tolerant(b"/a%2Fb?\\", ALL).unwrap();
        let check = |query_bytes, encoded_path| both.check(Tolerance { query_bytes, encoded_path });
        assert_eq!(check(true, false), Err(TargetError::EncodedSeparator));
        assert_eq!(check(false, true), Err(TargetError::Byte));
        assert_eq!(check(false, false), Err(TargetError::EncodedSeparator));
        let strict = Target::parse_tolerant(b"/a/../b?c", ALL).unwrap();
        assert_eq!(strict, Target::parse(b"/b?c").unwrap());
    }

    #[test]
    fn what_is_refused_whatever_is_tolerated() {
        for raw in [
            "/a b",
            "/a\t",
            "/a#b",
            "/a?b#c",
            "/a?b c",
            "/a\\b",
            "/%00",
            "/a%00b",
            "/..%2f..",
            "/a/..%5cb",
            "/..;/admin",
            "/%2e%2e%2fadmin",
            "/.%3b/x",
            "/%zz",
            "/..",
            "/\u{e9}",
        ] {
            assert!(Target::parse_tolerant(raw.as_bytes(), ALL).is_err(), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn tolerant_canonicalisation_is_idempotent(raw in "/([ -~]|%[0-9a-fA-F]{2}|\u{e9}){0,30}") {
            if let Ok(once) = Target::parse_tolerant(raw.as_bytes(), ALL) {
                let text = [once.path(), once.query().map_or("", |_| "?"), once.query().unwrap_or_default()].concat();
                let twice = Target::parse_tolerant(text.as_bytes(), ALL).unwrap();
                prop_assert_eq!((once.path(), once.query()), (twice.path(), twice.query()));
                prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'));
                if let Ok(strict) = Target::parse(raw.as_bytes()) {
                    prop_assert_eq!(strict, once);
                }
            }
        }

        #[test]
        fn canonicalisation_is_idempotent(raw in "/[ -~]{0,40}") {
            if let Ok(once) = path(&raw) && !raw.contains('?') {
                prop_assert_eq!(path(&once), Ok(once.clone()));
                prop_assert!(!once.contains("//") && !once.contains("/../") && !once.contains("/./"));
            }
        }

        #[test]
        fn encoding_a_plain_letter_changes_nothing(raw in "/[a-z/.]{0,20}", at in 1usize..20) {
            let encoded: String = raw.char_indices().map(|(i, c)| if i == at && c != '/' { format!("%{:02x}", c as u32) } else { c.to_string() }).collect();
            prop_assert_eq!(path(&raw), path(&encoded));
        }
    }
}
