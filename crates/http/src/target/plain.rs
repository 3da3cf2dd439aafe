//! Targets that need no work: what most are.

use crate::percent::is_pchar;

/// What a byte of a target may be without a second look: a part of a path, of a query, or of both.
static PLAIN: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0x21u8;
    while at < 0x7f {
        #[expect(clippy::indexing_slicing, reason = "beyond the end it would be an error at compile time")]
        {
            table[at as usize] = match at {
                b'#' | b'\\' => 0,
                b'/' => IN_PATH | IN_QUERY,
                _ if is_pchar(at) => IN_PATH | IN_QUERY,
                _ => IN_QUERY,
            };
        }
        at += 1;
    }
    table
};
const IN_PATH: u8 = 1;
const IN_QUERY: u8 = 2;

/// The ordinary case, settled in one scan: a path that is canonical as it stands, and perhaps a query of which nothing is
/// to be encoded. Its number of bytes.
pub(super) fn plain(raw: &[u8]) -> Option<usize> {
    let is = |byte: u8, part: u8| PLAIN.get(usize::from(byte)).is_some_and(|parts| parts & part != 0);
    let path = canonical_length(raw, |byte| is(byte, IN_PATH))?;
    let query = raw.get(path..)?;
    (matches!(query.first(), None | Some(b'?')) && query.iter().all(|byte| is(*byte, IN_QUERY)))
        .then_some(path)
}

/// How much at the beginning is a path of such characters that has no dot segment and no empty one; `None` where that is
/// none, or ends within such a segment.
fn canonical_length(text: &[u8], is_plain: impl Fn(u8) -> bool) -> Option<usize> {
    if text.first() != Some(&b'/') {
        return None;
    }
    let mut after_slash = false;
    for (at, &byte) in text.iter().enumerate() {
        if after_slash && matches!(byte, b'/' | b'.') {
            return None;
        }
        if !is_plain(byte) {
            return Some(at);
        }
        after_slash = byte == b'/';
    }
    Some(text.len())
}
