//! The Content-Disposition of a part.

use super::{Error, Flag, Flags};
use crate::transform::hex_value;

/// What a part says it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Disposition {
    pub(super) name: Option<Vec<u8>>,
    pub(super) file_name: Option<Vec<u8>>,
    /// `filename*`, decoded.
    pub(super) extended: Option<Vec<u8>>,
}

impl Disposition {
    /// Whether the part is a file. One with an empty name is a field: that is what browsers send for no choice, and
    /// content under an empty name is to be looked at.
    pub(super) fn is_file(&self) -> bool {
        self.file_name.as_ref().is_some_and(|name| !name.is_empty())
    }

    /// Reads `form-data; name="a"; filename="b"`. What was read before an error stays.
    pub(super) fn read(&mut self, value: &[u8], flags: &mut Flags) -> Result<(), Error> {
        let form = b"form-data";
        let Some(mut rest) = value
            .get(form.len()..)
            .filter(|_| value.get(..form.len()).is_some_and(|head| head.eq_ignore_ascii_case(form)))
        else {
            return Err("Multipart: Invalid Content-Disposition header (type).");
        };
        loop {
            rest = blanks(rest);
            match rest {
                [] => break,
                [b';', tail @ ..] => rest = blanks(tail),
                [b'"' | b'\'', ..] => return Err("Multipart: Invalid Content-Disposition header (quotes)."),
                _ => {
                    flags.raise(Flag::MissingSemicolon);
                    return Err("Multipart: Invalid Content-Disposition header (semicolon missing).");
                }
            }
            rest = self.parameter(rest, flags)?;
        }
        if self.extended.is_some() && self.file_name.is_none() {
            return Err("Multipart: Invalid Content-Disposition header (filename* without filename).");
        }
        Ok(())
    }

    fn parameter<'a>(&mut self, text: &'a [u8], flags: &mut Flags) -> Result<&'a [u8], Error> {
        let end = text.iter().position(|byte| matches!(byte, b'=' | b' ' | b'\t')).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end).unwrap_or((text, b""));
        let [b'=', rest @ ..] = blanks(rest) else {
            return Err("Multipart: Invalid Content-Disposition header (parameter without value).");
        };
        let (value, rest) = match blanks(rest) {
            [quote @ (b'"' | b'\''), inner @ ..] => {
                if *quote == b'\'' {
                    flags.raise(Flag::InvalidQuoting);
                }
                quoted(inner, *quote).ok_or("Multipart: Invalid Content-Disposition header (quotes).")?
            }
            bare => {
                let end = bare.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t' | b'"' | b'\''));
                let (value, rest) = bare.split_at_checked(end.unwrap_or(bare.len())).unwrap_or((bare, b""));
                // `UTF-8''name` is the one place where apostrophes belong outside of quotes.
                if name.eq_ignore_ascii_case(b"filename*") {
                    let end = bare.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t'));
                    let (value, rest) =
                        bare.split_at_checked(end.unwrap_or(bare.len())).unwrap_or((bare, b""));
                    (value.to_vec(), rest)
                } else {
                    if value.is_empty() {
                        return Err("Multipart: Invalid Content-Disposition header (empty value).");
                    }
                    (value.to_vec(), rest)
                }
            }
        };
        let (slot, value) = if name.eq_ignore_ascii_case(b"name") {
            (&mut self.name, value)
        } else if name.eq_ignore_ascii_case(b"filename") {
            (&mut self.file_name, value)
        } else if name.eq_ignore_ascii_case(b"filename*") {
            let decoded =
                extended(&value).ok_or("Multipart: Invalid Content-Disposition header (filename*).")?;
            (&mut self.extended, decoded)
        } else {
            return Err("Multipart: Invalid Content-Disposition header (unknown parameter).");
        };
        if slot.is_some() {
            return Err("Multipart: Invalid Content-Disposition header (duplicate parameter).");
        }
        *slot = Some(value);
        Ok(rest)
    }
}

fn blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// A quoted value up to its closing quote, and what follows. Only the quote and the backslash can be escaped: others
/// keep their backslash, which belongs to paths of old browsers.
fn quoted(mut text: &[u8], quote: u8) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    loop {
        match text {
            [b'\\', escaped, rest @ ..] if *escaped == quote || *escaped == b'\\' => {
                value.push(*escaped);
                text = rest;
            }
            [byte, rest @ ..] if *byte == quote => return Some((value, rest)),
            [byte, rest @ ..] => {
                value.push(*byte);
                text = rest;
            }
            [] => return None,
        }
    }
}

/// RFC 8187's `charset'language'percent-encoded`.
fn extended(value: &[u8]) -> Option<Vec<u8>> {
    let mut parts = value.splitn(3, |byte| *byte == b'\'');
    let (charset, _language, mut encoded) = (parts.next()?, parts.next()?, parts.next()?);
    if !charset.eq_ignore_ascii_case(b"utf-8") && !charset.eq_ignore_ascii_case(b"iso-8859-1") {
        return None;
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    loop {
        match encoded {
            [b'%', high, low, rest @ ..] => {
                decoded.push(hex_value(*high)? << 4 | hex_value(*low)?);
                encoded = rest;
            }
            [byte, rest @ ..] if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(byte) => {
                decoded.push(*byte);
                encoded = rest;
            }
            [] => return Some(decoded),
            _ => return None,
        }
    }
}
