//! `application/x-www-form-urlencoded`, for query strings and bodies.

use super::Sink;
use crate::operator::url_encoding_is_invalid;
use crate::transform::url_decode;

/// What parsing found besides arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// A `%` without two hexadecimal digits was met (and kept).
    pub(crate) invalid_encoding: bool,
    /// The sink took no more.
    pub(crate) truncated: bool,
}

/// Parses `a=1&b=2`: `+` and `%HH` are decoded, order and duplicates kept, empty pieces skipped, a piece without `=`
/// is a name.
pub(crate) fn parse(
    input: &[u8],
    separator: u8,
    buffers: &mut (Vec<u8>, Vec<u8>),
    sink: &mut dyn Sink,
) -> Outcome {
    let mut outcome = Outcome::default();
    let (name, value) = buffers;
    for piece in input.split(|&byte| byte == separator) {
        if piece.is_empty() {
            continue;
        }
        let (raw_name, raw_value) = match memchr::memchr(b'=', piece) {
            Some(at) => (piece.get(..at).unwrap_or_default(), piece.get(at + 1..).unwrap_or_default()),
            None => (piece, &b""[..]),
        };
        outcome.invalid_encoding |= url_encoding_is_invalid(raw_name) || url_encoding_is_invalid(raw_value);
        name.clear();
        url_decode(raw_name, name);
        value.clear();
        url_decode(raw_value, value);
        if !sink.argument(name, value) {
            outcome.truncated = true;
            break;
        }
    }
    outcome
}
