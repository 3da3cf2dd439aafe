//! What becomes of a field, by its name.

use crate::fields::bit;

/// What may become of a field, by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Concerns one connection (RFC 9110 §7.6.1) or its framing; never forwarded.
    HopByHop,
    /// Only the gateway may send it to an upstream. What a trusted proxy said in it is read first.
    Ours,
    /// Some backends let a client change method, host or path by it after those were judged (matrix F8), or where their
    /// own calls go (`Proxy`, CVE-2016-5385).
    Rewrite,
    /// Identity that the gateway sets for upstreams (matrix G15), or that backends take from a proxy before them.
    Identity,
    /// What proxies in front say of the client: passes from trusted ones only.
    Claim,
    /// Concerns the whole message or decides who asks; passes, but not as a trailer, and nobody may name it in
    /// `Connection`.
    Essential,
    /// Concerns the whole message; passes, but not as a trailer.
    Head,
}

/// A byte of a name as CGI, WSGI and others read it: some of them take some of what is no letter or digit for `-`.
pub(super) fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

/// Names that have a kind, by their first letter.
const fn names(first: u8) -> &'static [(&'static [u8], Kind)] {
    use Kind::{Claim, Essential, Head, HopByHop, Identity, Ours, Rewrite};
    match first {
        b'a' => &[(b"authorization", Essential)],
        b'c' => &[
            (b"connection", HopByHop),
            (b"content-length", HopByHop),
            (b"client-cert", Ours),
            (b"client-cert-chain", Ours),
            (b"cf-connecting-ip", Claim),
            (b"cf-connecting-ipv6", Claim),
            (b"cookie", Essential),
            (b"content-type", Head),
            (b"content-encoding", Head),
            (b"content-range", Head),
            (b"cache-control", Head),
        ],
        b'e' => &[(b"expect", Ours)],
        b'f' => &[(b"forwarded", Ours), (b"front-end-https", Claim), (b"fastly-client-ip", Claim)],
        b'h' => &[(b"http2-settings", HopByHop), (b"host", Essential)],
        b'k' => &[(b"keep-alive", HopByHop)],
        b'm' => &[(b"max-forwards", Head)],
        b'p' => &[
            (b"proxy-connection", HopByHop),
            (b"proxy-authenticate", HopByHop),
            (b"proxy-authorization", HopByHop),
            (b"proxy", Rewrite),
        ],
        b'r' => &[(b"remote-user", Identity), (b"range", Head)],
        b's' => &[(b"set-cookie", Head)],
        b't' => &[
            (b"te", HopByHop),
            (b"trailer", HopByHop),
            (b"transfer-encoding", HopByHop),
            (b"true-client-ip", Ours),
            (b"traceparent", Ours),
        ],
        b'u' => &[(b"upgrade", HopByHop)],
        b'x' => &[
            (b"x-real-ip", Ours),
            (b"x-client-ip", Ours),
            (b"x-request-id", Ours),
            (b"x-http-method", Rewrite),
            (b"x-http-method-override", Rewrite),
            (b"x-method-override", Rewrite),
            (b"x-original-url", Rewrite),
            (b"x-original-uri", Rewrite),
            (b"x-original-host", Rewrite),
            (b"x-rewrite-url", Rewrite),
            (b"x-override-url", Rewrite),
            (b"x-host", Rewrite),
            (b"x-http-host-override", Rewrite),
            (b"x-http-path-override", Rewrite),
            (b"x-user", Identity),
            (b"x-remote-user", Identity),
            (b"x-auth-user", Identity),
            (b"x-webauth-user", Identity),
            (b"x-scheme", Claim),
            (b"x-url-scheme", Claim),
            (b"x-remote-ip", Claim),
            (b"x-remote-addr", Claim),
            (b"x-originating-ip", Claim),
            (b"x-cluster-client-ip", Claim),
            (b"x-original-forwarded-for", Claim),
            (b"x-appengine-user-ip", Claim),
            (b"x-azure-clientip", Claim),
        ],
        _ => &[],
    }
}

/// For each first letter the lengths of its names, a bit for each: most names are none of them, which shows at once.
static LENGTHS: [u64; 26] = {
    let mut lengths = [0; 26];
    let mut letter = 0;
    #[expect(clippy::indexing_slicing, reason = "beyond the end it would be an error at compile time")]
    while letter < 26 {
        let known = names(b'a' + letter as u8);
        let mut at = 0;
        while at < known.len() {
            lengths[letter] |= 1 << known[at].0.len();
            at += 1;
        }
        letter += 1;
    }
    lengths
};

/// The bits of all names that concern one hop ([`bit`]): most fields have none of them, which shows at once.
pub(super) const HOP_BY_HOP: u64 = {
    let mut bits = 0;
    let mut letter = b'a';
    while letter <= b'z' {
        let known = names(letter);
        let mut at = 0;
        #[expect(clippy::indexing_slicing, reason = "beyond the end it would be an error at compile time")]
        while at < known.len() {
            if matches!(known[at].1, Kind::HopByHop) {
                bits |= bit(known[at].0);
            }
            at += 1;
        }
        letter += 1;
    }
    bits
};

/// Beginnings of names that tell who the caller is.
const IDENTITY: [&[u8]; 9] = [
    b"x-consumer-",
    b"x-authenticated-",
    b"x-client-cert",
    b"x-ssl-",
    b"ssl-client-",
    b"x-client-verify",
    b"x-client-dn",
    b"x-arr-clientcert",
    b"x-amzn-mtls-",
];

/// The kind of a field, by its name as it stands or as it reads folded.
pub(super) fn kind(name: &[u8], folded: bool) -> Option<Kind> {
    let read = |byte: u8| if folded { fold(byte) } else { byte.to_ascii_lowercase() };
    let reads = |text: &[u8], known: &[u8]| {
        if folded {
            text.iter().zip(known).all(|(byte, known)| read(*byte) == *known)
        } else {
            text.get(..known.len()).is_some_and(|text| text.eq_ignore_ascii_case(known))
        }
    };
    let first = read(*name.first()?);
    let lengths = LENGTHS.get(usize::from(first.wrapping_sub(b'a'))).copied().unwrap_or(0);
    if lengths.checked_shr(u32::try_from(name.len()).unwrap_or(u32::MAX)).unwrap_or(0) & 1 == 1 {
        let found = names(first).iter().find(|(known, _)| known.len() == name.len() && reads(name, known));
        if let Some((_, kind)) = found {
            return Some(*kind);
        }
    }
    // The rest goes by how the name begins.
    let (second, third) = (name.get(1).map(|byte| read(*byte)), name.get(2).map(|byte| read(*byte)));
    match (first, second, third) {
        (b'x', Some(b'-'), Some(b'a' | b'c' | b'f' | b'p' | b's')) | (b's', Some(b's'), Some(b'l')) => {}
        _ => return None,
    }
    let begins = |known: &[u8]| name.len() >= known.len() && reads(name, known);
    if begins(b"x-forwarded") {
        let rest = name.get(b"x-forwarded".len()..).unwrap_or_default();
        let is = |known: &[u8]| rest.len() == known.len() && reads(rest, known);
        return match rest.first() {
            None => Some(Kind::Ours),
            Some(_) if [&b"-prefix"[..], b"-path", b"-uri"].into_iter().any(is) => Some(Kind::Rewrite),
            Some(byte) => (read(*byte) == b'-').then_some(Kind::Ours),
        };
    }
    if begins(b"x-portcullis-") {
        return Some(Kind::Ours);
    }
    IDENTITY.into_iter().any(begins).then_some(Kind::Identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_under_their_first_letter() {
        for first in 0..=255 {
            for (name, kind) in names(first) {
                assert_eq!(name[0], first, "{}", name.escape_ascii());
                let upper = name.to_ascii_uppercase();
                assert_eq!(super::kind(&upper, false), Some(*kind));
                let folded: Vec<u8> = name.iter().map(|b| if *b == b'-' { b'_' } else { *b }).collect();
                assert_eq!(super::kind(&folded, true), Some(*kind));
                assert!(*kind != Kind::HopByHop || bit(&upper) & HOP_BY_HOP != 0);
            }
        }
    }

    #[test]
    fn beginnings_are_looked_for_by_their_third_letter() {
        for begin in IDENTITY {
            assert_eq!(
                kind(&[begin, b"a"].concat(), false),
                Some(Kind::Identity),
                "{}",
                begin.escape_ascii()
            );
        }
        assert_eq!(kind(b"X-Portcullis-Any", false), Some(Kind::Ours));
        assert_eq!(kind(b"x_forwarded_any", true), Some(Kind::Ours));
    }

    #[test]
    fn a_long_name_is_none_of_the_short_ones_it_begins_with() {
        let long = format!("x-consumer-{}", "a".repeat(60));
        assert_eq!(kind(long.as_bytes(), false), Some(Kind::Identity));
        assert_eq!(kind("a".repeat(100).as_bytes(), true), None);
        assert_eq!(kind(b"x-forwarded-uris", false), Some(Kind::Ours));
        assert_eq!(kind(b"x-forwardeds", false), None);
        assert_eq!(kind(b"", true), None);
    }
}
