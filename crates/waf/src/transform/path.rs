//! Path normalization: `//`, `/./` and `/../`.

/// As [`normalize`], where a backslash is a slash too.
pub(super) fn normalize_win(input: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr2(b'/', b'\\', input).is_none() {
        return one_segment(input, out);
    }
    resolve(input, |byte| matches!(byte, b'/' | b'\\'), out);
}

/// Resolves empty, `.` and `..` segments. A relative path keeps the `..` it cannot resolve, an absolute one drops
/// them; a trailing slash stays.
pub(super) fn normalize(input: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr(b'/', input).is_none() {
        return one_segment(input, out);
    }
    resolve(input, |byte| byte == b'/', out);
}

/// A segment alone is not resolved unless it is a single dot.
fn one_segment(input: &[u8], out: &mut Vec<u8>) {
    if input != b"." {
        out.extend_from_slice(input);
    }
}

fn resolve(input: &[u8], is_slash: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    let absolute = input.first().is_some_and(|&byte| is_slash(byte));
    let trailing = input.last().is_some_and(|&byte| is_slash(byte));
    if absolute {
        out.push(b'/');
    }
    let root = out.len();
    // Length of `out` up to which only unresolvable `..` segments stand.
    let mut floor = root;
    for segment in input.split(|&byte| is_slash(byte)) {
        match segment {
            b"" | b"." => {}
            b".." if out.len() > floor => {
                let parent = out.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                out.truncate(parent.max(floor));
            }
            b".." if absolute => {}
            _ => {
                if out.len() > root {
                    out.push(b'/');
                }
                out.extend_from_slice(segment);
                if segment == b".." {
                    floor = out.len();
                }
            }
        }
    }
    if trailing && out.len() > root {
        out.push(b'/');
    }
}
