//! What must not be read in a log.

use std::borrow::Cow;
use std::fmt;

/// What stands in a secret's place.
pub const MASK: &str = "[redacted]";

/// A value that formats as [`MASK`], whatever it holds.
///
/// ```
/// use portcullis_telemetry::Redacted;
///
/// let key = Redacted("s3cr3t");
/// assert_eq!(format!("{key} {key:?}"), "[redacted] [redacted]");
/// assert_eq!(*key.expose(), "s3cr3t");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Redacted<T>(pub T);

impl<T> Redacted<T> {
    /// The value itself, to be used and not shown.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Parts of names that say that the value is a secret, in lower case without `-` and `_`.
const SECRET_NAMES: &[&str] = &[
    "token",
    "secret",
    "passw",
    "pwd",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "credential",
    "session",
    "cookie",
    "signature",
    "assertion",
    "jwt",
    "otp",
];

/// Whole names that say so.
const SECRET_NAMES_WHOLE: &[&str] = &["key", "auth", "sid", "sig", "code", "pin", "pass", "state", "nonce"];

/// Whether a field, parameter or cookie of this name holds a secret: `Authorization`, `X-Api-Key`,
/// `access_token`, `client-secret`, `code`.
#[must_use]
pub fn is_secret_name(name: &[u8]) -> bool {
    /// Longer names are compared by their beginning alone.
    const LONGEST: usize = 64;
    let mut buffer = [0_u8; LONGEST];
    let mut len = 0;
    let letters = name.iter().filter(|b| !matches!(b, b'-' | b'_' | b'.' | b'[' | b']'));
    for (slot, letter) in buffer.iter_mut().zip(letters) {
        *slot = letter.to_ascii_lowercase();
        len += 1;
    }
    let Some(plain) = buffer.get(..len) else { return true };
    SECRET_NAMES_WHOLE.iter().any(|whole| whole.as_bytes() == plain)
        || SECRET_NAMES.iter().any(|part| plain.windows(part.len()).any(|window| window == part.as_bytes()))
}

/// Whether a value looks like a credential wherever it stands: a JSON Web Token, or a prefix that the large
/// issuers give theirs so that scanners find them.
#[must_use]
pub fn is_secret_value(value: &[u8]) -> bool {
    const PREFIXES: &[&str] = &[
        "ghp_",
        "gho_",
        "ghs_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "xoxp-",
        "sk_live_",
        "rk_live_",
        "AKIA",
        "ASIA",
        "AIza",
        "npm_",
        "pypi-",
    ];
    let jwt = value.starts_with(b"eyJ") && value.iter().filter(|b| **b == b'.').count() >= 2;
    jwt || value.len() >= 20 && PREFIXES.iter().any(|prefix| value.starts_with(prefix.as_bytes()))
}

/// A query, or a body of a form, with the values of secret parameters masked. Names are judged after percent
/// decoding; borrowed where there is nothing to mask.
///
/// ```
/// use portcullis_telemetry::redact_query;
///
/// assert_eq!(redact_query(b"q=1&api%5Fkey=abc"), &b"q=1&api%5Fkey=[redacted]"[..]);
/// ```
#[must_use]
pub fn redact_query(query: &[u8]) -> Cow<'_, [u8]> {
    let secret = |pair: &[u8]| {
        let (name, value) = split_pair(pair);
        value.is_some_and(|value| is_secret_name(&percent_decode(name)) || is_secret_value(value))
    };
    if !query.split(is_separator).any(secret) {
        return Cow::Borrowed(query);
    }
    let mut out = Vec::with_capacity(query.len() + MASK.len());
    let mut rest = query;
    loop {
        let end = rest.iter().position(is_separator).unwrap_or(rest.len());
        let (pair, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        if secret(pair) {
            out.extend_from_slice(split_pair(pair).0);
            out.push(b'=');
            out.extend_from_slice(MASK.as_bytes());
        } else {
            out.extend_from_slice(pair);
        }
        let Some((separator, next)) = after.split_first() else { return Cow::Owned(out) };
        out.push(*separator);
        rest = next;
    }
}

/// A path with the segments masked that are credentials.
#[must_use]
pub fn redact_path(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.split(|b| *b == b'/').any(is_secret_value) {
        return Cow::Borrowed(path);
    }
    let masked = |segment| if is_secret_value(segment) { MASK.as_bytes() } else { segment };
    Cow::Owned(path.split(|b| *b == b'/').map(masked).collect::<Vec<_>>().join(&b'/'))
}

/// What a firewall rule matched in `variable` (`ARGS:q`, `REQUEST_HEADERS:Cookie`), fit for a log.
#[must_use]
pub fn redact_matched<'a>(variable: &str, value: &'a [u8]) -> Cow<'a, [u8]> {
    let (collection, name) = variable.split_once(':').unwrap_or((variable, ""));
    let names_only = collection.ends_with("_NAMES");
    if !names_only && (collection == "REQUEST_COOKIES" || is_secret_name(name.as_bytes())) {
        return Cow::Borrowed(MASK.as_bytes());
    }
    if is_secret_value(value) {
        return Cow::Borrowed(MASK.as_bytes());
    }
    match collection {
        "QUERY_STRING" => redact_query(value),
        "REQUEST_BODY" | "FULL_REQUEST" | "RESPONSE_BODY" => match redact_json(value) {
            Cow::Borrowed(value) => redact_query(value),
            Cow::Owned(value) => Cow::Owned(redact_query(&value).into_owned()),
        },
        // A URL, whole or in a header or argument: its query may hold what its own name does not tell.
        _ if value.contains(&b'?') => redact_query(value),
        _ => Cow::Borrowed(value),
    }
}

/// JSON, or a piece of it, with the values of secret members masked.
fn redact_json(text: &[u8]) -> Cow<'_, [u8]> {
    let (mut out, mut rest, mut masked) = (Vec::new(), text, false);
    while let Some((before, quoted)) =
        rest.iter().position(|b| *b == b'"').and_then(|at| rest.split_at_checked(at + 1))
    {
        let (name, after) = quoted.split_at_checked(string_length(quoted)).unwrap_or((quoted, &[]));
        out.extend_from_slice(before);
        out.extend_from_slice(name);
        let Some((quote, after)) = after.split_first() else {
            rest = after;
            break;
        };
        out.push(*quote);
        rest = after;
        let gap = rest.iter().take_while(|b| b.is_ascii_whitespace() || **b == b':').count();
        let Some((colon, value)) = rest.split_at_checked(gap) else { break };
        if !colon.contains(&b':') || !is_secret_name(name) {
            continue;
        }
        let length = match value.split_first() {
            Some((b'"', string)) => string_length(string) + 2,
            // What is nested is judged by its own names.
            Some((b'{' | b'[', _)) => continue,
            _ => value.iter().position(|b| matches!(b, b',' | b'}' | b']')).unwrap_or(value.len()),
        };
        out.extend_from_slice(colon);
        out.extend_from_slice(MASK.as_bytes());
        masked = true;
        rest = value.get(length..).unwrap_or_default();
    }
    if !masked {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// Bytes of a JSON string up to its closing quote, or to the end where it is cut off.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let closes = |byte: &u8| {
        let plain = !std::mem::take(&mut escaped);
        escaped = plain && *byte == b'\\';
        plain && *byte == b'"'
    };
    text.iter().position(closes).unwrap_or(text.len())
}

fn is_separator(byte: &u8) -> bool {
    matches!(byte, b'&' | b';' | b'?')
}

fn split_pair(pair: &[u8]) -> (&[u8], Option<&[u8]>) {
    match pair.iter().position(|b| *b == b'=').and_then(|at| pair.split_at_checked(at)) {
        Some((name, value)) => (name, value.get(1..)),
        None => (pair, None),
    }
}

fn percent_decode(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'%') {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        let decoded = match (byte, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(decoded.unwrap_or(*byte));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    Cow::Owned(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";

    #[test]
    fn names() {
        for secret in [
            "Authorization",
            "Proxy-Authorization",
            "cookie",
            "Set-Cookie",
            "X-Api-Key",
            "access_token",
            "code",
            "client-secret",
            "X-Amz-Signature",
            "PASSWORD",
            "user[password]",
            "X-Amz-Security-Token",
            "PHPSESSIONID",
        ] {
            assert!(is_secret_name(secret.as_bytes()), "{secret}");
        }
        for plain in
            ["q", "id", "title", "Accept", "User-Agent", "keyword", "monkey", "author", "zipcode", "page"]
        {
            assert!(!is_secret_name(plain.as_bytes()), "{plain}");
        }
    }

    #[test]
    fn queries() {
        for (given, expected) in [
            ("q=1&page=2", "q=1&page=2".to_owned()),
            ("token=abc", "token=[redacted]".to_owned()),
            ("q=1&to%6ben=abc&x", "q=1&to%6ben=[redacted]&x".to_owned()),
            ("a=1;api_key=2&b", "a=1;api_key=[redacted]&b".to_owned()),
            (&format!("x={JWT}"), "x=[redacted]".to_owned()),
            ("token", "token".to_owned()),
            ("token=", "token=[redacted]".to_owned()),
            ("", String::new()),
            ("&&=&", "&&=&".to_owned()),
            ("to%6=1&%", "to%6=1&%".to_owned()),
        ] {
            assert_eq!(String::from_utf8_lossy(&redact_query(given.as_bytes())), expected, "{given}");
        }
    }

    #[test]
    fn json() {
        for (given, expected) in [
            (r#"{"a":"attack","token":"x\"y","b":1}"#, r#"{"a":"attack","token":[redacted],"b":1}"#),
            (r#"{ "password" : 123 , "q": "token" }"#, r#"{ "password" : [redacted], "q": "token" }"#),
            (
                r#"{"secret":{"password":"x"},"list":["token"]}"#,
                r#"{"secret":{"password":[redacted]},"list":["token"]}"#,
            ),
            (r#"{"password":"cut off"#, r#"{"password":[redacted]"#),
            (r#"{"password"#, r#"{"password"#),
            (r#"{"password":"#, r#"{"password":[redacted]"#),
            (r#""a":"b""#, r#""a":"b""#),
            ("no json", "no json"),
        ] {
            assert_eq!(String::from_utf8_lossy(&redact_json(given.as_bytes())), expected, "{given}");
        }
        let form = redact_matched("REQUEST_BODY", b"q=1&password=x");
        assert_eq!(form, &b"q=1&password=[redacted]"[..]);
    }

    #[test]
    fn paths_and_matches() {
        assert_eq!(redact_path(format!("/reset/{JWT}/x").as_bytes()), &b"/reset/[redacted]/x"[..]);
        assert_eq!(redact_path(b"/api/titles/1"), &b"/api/titles/1"[..]);
        for (variable, value, expected) in [
            ("ARGS:q", "' OR 1=1--", "' OR 1=1--"),
            ("ARGS:password", "' OR 1=1--", MASK),
            ("REQUEST_HEADERS:Authorization", "Bearer x", MASK),
            ("REQUEST_COOKIES:sid", "x", MASK),
            ("REQUEST_COOKIES_NAMES:sid", "sid", "sid"),
            ("REQUEST_URI", "/a?token=1&q=2", "/a?token=[redacted]&q=2"),
            (
                "REQUEST_HEADERS:referer",
                "https://a.test/?q=2&token=1",
                "https://a.test/?q=2&token=[redacted]",
            ),
            ("ARGS:next", "/a?token=1", "/a?token=[redacted]"),
            ("ARGS:q", "token=1", "token=1"),
            ("ARGS:x", JWT, MASK),
        ] {
            assert_eq!(redact_matched(variable, value.as_bytes()), expected.as_bytes(), "{variable}");
        }
    }
}
