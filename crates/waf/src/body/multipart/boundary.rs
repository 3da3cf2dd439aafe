//! The boundary of a `multipart/form-data` Content-Type.

use super::{Error, Flag, Flags};

/// Most bytes of a boundary (RFC 2046, 5.1.1).
const LONGEST: usize = 70;

/// The boundary, or why there is none that every reader would agree on.
pub(super) fn of<'a>(content_type: &'a [u8], flags: &mut Flags) -> Result<&'a [u8], Error> {
    if content_type.len() > 1024 {
        return Err("Multipart: Invalid boundary in C-T (length).");
    }
    let value = content_type.trim_ascii();
    let media = b"multipart/form-data";
    let is_form = value.get(..media.len()).is_some_and(|head| head.eq_ignore_ascii_case(media));
    let Some(parameters) = value.get(media.len()..).filter(|_| is_form) else {
        return Err("Multipart: Invalid MIME type.");
    };
    // One boundary and one only, wherever it stands: readers differ in which of two they take.
    if mentions(parameters) > 1 {
        return Err("Multipart: Multiple boundary parameters in C-T.");
    }
    let parameters = parameters.trim_ascii_start();
    if parameters.is_empty() {
        return Err("Multipart: Boundary not found in C-T.");
    }
    if !parameters.starts_with(b";") {
        flags.raise(Flag::MissingSemicolon);
    }
    let mut found = None;
    for parameter in parameters.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
        if parameter.is_empty() {
            continue;
        }
        let Some(equals) = memchr::memchr(b'=', parameter) else {
            return Err("Multipart: Invalid boundary in C-T (malformed).");
        };
        let name = parameter.get(..equals).unwrap_or_default();
        let value = parameter.get(equals + 1..).unwrap_or_default();
        let bare = name.trim_ascii_end();
        if bare.eq_ignore_ascii_case(b"boundary") {
            if bare.len() < name.len() || value.first().is_some_and(u8::is_ascii_whitespace) {
                flags.raise(Flag::BoundaryWhitespace);
            }
            found = Some(value.trim_ascii());
        } else if !is_token(bare) {
            return Err("Multipart: Invalid boundary in C-T (parameter name).");
        }
    }
    check(found.ok_or("Multipart: Boundary not found in C-T.")?, flags)
}

/// How often `boundary=` occurs, also inside of other values.
fn mentions(parameters: &[u8]) -> usize {
    let is_mention = |at: &usize| {
        let rest = parameters.get(*at..).unwrap_or_default();
        let after = rest.get(8..).unwrap_or_default().trim_ascii_start();
        rest.get(..8).is_some_and(|word| word.eq_ignore_ascii_case(b"boundary")) && after.starts_with(b"=")
    };
    (0..parameters.len()).filter(is_mention).count()
}

fn check<'a>(value: &'a [u8], flags: &mut Flags) -> Result<&'a [u8], Error> {
    let boundary = match value {
        [b'"', inner @ .., b'"'] => {
            flags.raise(Flag::BoundaryQuoted);
            inner
        }
        [b'"', ..] | [.., b'"'] => return Err("Multipart: Invalid boundary in C-T (quote)."),
        bare => bare,
    };
    if boundary.is_empty() {
        return Err("Multipart: Invalid boundary in C-T (empty).");
    }
    if boundary.len() > LONGEST {
        return Err("Multipart: Invalid boundary in C-T (length).");
    }
    // RFC 2046: bchars; a space may not be the last of them.
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    if !boundary.iter().all(allowed) || boundary.ends_with(b" ") {
        return Err("Multipart: Invalid boundary in C-T (characters).");
    }
    Ok(boundary)
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
