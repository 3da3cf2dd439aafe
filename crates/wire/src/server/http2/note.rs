//! What the guard in front of the socket tells of a request to whoever reads its head behind hyper.

use http::HeaderName;
use portcullis_http::Scheme;

/// The field that carries it. What a client says under this name comes before what we append, and is dropped.
pub(super) static NAME: HeaderName = HeaderName::from_static("portcullis-stream");
/// How long that is.
const NAME_LENGTH: u8 = 17;
/// Bytes of its value that are the stream's number.
const DIGITS: usize = 8;
/// Bytes of its value.
const VALUE: usize = DIGITS + 2;

/// What hyper does not tell of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Its stream.
    pub(super) stream: u32,
    /// `:scheme`, if it is one of ours.
    pub(super) scheme: Option<Scheme>,
    /// `:path` held a fragment.
    pub(super) fragment: bool,
}

impl Note {
    /// As an HPACK literal without indexing, so that the tables of both sides stay as they are (RFC 7541 §6.2.2).
    pub(super) fn to_literal(self) -> Vec<u8> {
        let mut literal = Vec::with_capacity(3 + usize::from(NAME_LENGTH) + VALUE);
        // Both lengths are below 127 and so one byte each.
        literal.extend_from_slice(&[0, NAME_LENGTH]);
        literal.extend_from_slice(NAME.as_str().as_bytes());
        literal.push(VALUE as u8);
        // Four bits of the number in each byte, which any value may hold.
        literal.extend((0..DIGITS).rev().map(|at| b'0' + (self.stream >> (4 * at) & 0xf) as u8));
        literal.push(match self.scheme {
            Some(Scheme::Http) => b'h',
            Some(Scheme::Https) => b's',
            None => b'-',
        });
        literal.push(if self.fragment { b'1' } else { b'0' });
        literal
    }

    /// Finds it in a head, and how many fields of its name there are.
    pub(super) fn find(fields: &http::HeaderMap) -> Option<(Self, usize)> {
        let values = fields.get_all(&NAME);
        let count = values.iter().count();
        let (digits, [scheme, fragment]) = values
            .iter()
            .next_back()?
            .as_bytes()
            .split_last_chunk::<2>()
            .filter(|(d, _)| d.len() == DIGITS)?;
        let stream = digits.iter().fold(0, |number, digit| number << 4 | u32::from(digit.wrapping_sub(b'0')));
        let scheme = match scheme {
            b'h' => Some(Scheme::Http),
            b's' => Some(Scheme::Https),
            _ => None,
        };
        Some((Note { stream, scheme, fragment: *fragment == b'1' }, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_counts_and_the_client_s_does_not() {
        for (stream, scheme, fragment) in [
            (0x7fff_ffff, Some(Scheme::Https), true),
            (1, Some(Scheme::Http), false),
            (0x1234_56a7, None, true),
        ] {
            let note = Note { stream, scheme, fragment };
            let literal = note.to_literal();
            let (name, value) = literal[2..].split_at(NAME.as_str().len());
            assert_eq!(literal[..2], [0, NAME.as_str().len() as u8]);
            assert_eq!((name, usize::from(value[0])), (NAME.as_str().as_bytes(), value.len() - 1));
            let mut fields = http::HeaderMap::new();
            assert_eq!(Note::find(&fields), None);
            fields.append(&NAME, http::HeaderValue::from_static("00000005s0"));
            fields.append(&NAME, http::HeaderValue::from_bytes(&value[1..]).unwrap());
            assert_eq!(Note::find(&fields), Some((note, 2)));
        }
    }
}
