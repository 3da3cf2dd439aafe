//! What the guard in front of the socket tells of a request to whoever reads its head behind hyper.

use portcullis_http::Scheme;

/// The field that carries it. What a client says under this name comes before what we append, and is dropped.
const NAME: &str = "portcullis-stream";

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
        let scheme = self.scheme.map_or("-", Scheme::as_str);
        let value = format!("{} {scheme} {}", self.stream, u8::from(self.fragment));
        let mut literal = vec![0, NAME.len() as u8];
        literal.extend_from_slice(NAME.as_bytes());
        // Both lengths are below 127 and so one byte each.
        literal.push(value.len() as u8);
        literal.extend_from_slice(value.as_bytes());
        literal
    }

    /// Takes it from a head.
    pub(super) fn take(fields: &mut http::HeaderMap) -> Option<Self> {
        let last = fields.get_all(NAME).iter().next_back().cloned();
        fields.remove(NAME);
        let value = last?;
        let mut words = value.to_str().ok()?.split(' ');
        let (stream, scheme, fragment) = (words.next()?, words.next()?, words.next()?);
        let scheme = match scheme {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        };
        Some(Note { stream: stream.parse().ok()?, scheme, fragment: fragment == "1" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_counts_and_the_client_s_does_not() {
        let note = Note { stream: 0x7fff_ffff, scheme: Some(Scheme::Https), fragment: true };
        let literal = note.to_literal();
        let (name, value) = literal[2..].split_at(NAME.len());
        assert_eq!((name, usize::from(value[0])), (NAME.as_bytes(), value.len() - 1));
        let mut fields = http::HeaderMap::new();
        fields.append(NAME, http::HeaderValue::from_static("1 http 0"));
        assert_eq!(
            Note::take(&mut fields),
            Some(Note { stream: 1, scheme: Some(Scheme::Http), fragment: false })
        );
        fields.append(NAME, http::HeaderValue::from_static("1 http 0"));
        fields.append(NAME, http::HeaderValue::from_bytes(&value[1..]).unwrap());
        assert_eq!(Note::take(&mut fields), Some(note));
        assert!(fields.is_empty() && Note::take(&mut fields).is_none());
    }
}
