//! Path normalization: `//`, `/./` and `/../`.

pub(super) fn normalize_win(input: &[u8], out: &mut Vec<u8>) {
    let slashes: Vec<u8> = input.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    normalize(&slashes, out);
}

/// Resolves empty, `.` and `..` segments. A relative path keeps the `..` it cannot resolve, an absolute one drops
/// them; a trailing slash stays.
pub(super) fn normalize(input: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr(b'/', input).is_none() {
        // One segment, which is not resolved unless it is a single dot.
        if input != b"." {
            out.extend_from_slice(input);
        }
        return;
    }
    let absolute = input.first() == Some(&b'/');
    let trailing = input.last() == Some(&b'/');
    if absolute {
        out.push(b'/');
    }
    let root = out.len();
    // Length of `out` up to which only unresolvable `..` segments stand.
    let mut floor = root;
    for segment in input.split(|&byte| byte == b'/') {
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
