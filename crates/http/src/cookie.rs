//! Cookies of a request.

use crate::Fields;

/// The value of a request's first cookie of this name, in which case matters, as it stands there (RFC 6265 §4.2.1).
/// HTTP/2 may spread cookies over several fields (RFC 9113 §8.2.3).
///
/// ```
/// use portcullis_http::{Fields, cookie};
///
/// let mut fields = Fields::default();
/// fields.append("cookie", "a=1; session=x=y").unwrap();
/// assert_eq!(cookie(&fields, "session"), Some(&b"x=y"[..]));
/// assert_eq!(cookie(&fields, "Session"), None);
/// ```
#[must_use]
pub fn cookie<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    let pairs = fields.get_all("cookie").flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_of_a_name() {
        let mut fields = Fields::default();
        for value in ["", "ab=0;a=1;a=2; b", "c = 3;d=\t4\t;", ";;e=", "f=\"5\"; a=6"] {
            fields.append_parsed(b"Cookie", value.as_bytes());
        }
        for (name, value) in [
            ("a", Some("1")),
            ("ab", Some("0")),
            ("b", None),
            ("c", None),
            ("d", Some("\t4")),
            ("e", Some("")),
            ("f", Some("\"5\"")),
            ("", None),
        ] {
            assert_eq!(cookie(&fields, name), value.map(str::as_bytes), "{name}");
        }
    }
}
