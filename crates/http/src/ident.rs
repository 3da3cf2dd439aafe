//! Names of a request: its id and its place in a trace.

use std::fmt;

/// A request's id: in every answer, log line and forwarded request. 1 to 64 plain characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    text: [u8; 64],
    len: u8,
}

impl RequestId {
    /// A new random id of 32 hexadecimal digits. Names a request; protects nothing.
    #[must_use]
    pub fn random() -> Self {
        let mut text = [0; 64];
        if let Some(start) = text.first_chunk_mut() {
            *start = hex(fastrand::u128(..));
        }
        RequestId { text, len: 32 }
    }

    /// An id that a trusted proxy has given: 1 to 64 letters, digits, `-`, `_`, `.`. `None` for any other.
    #[must_use]
    pub fn from_trusted(given: &[u8]) -> Option<Self> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let len = u8::try_from(given.len()).ok().filter(|&len| len > 0 && len <= 64)?;
        if !given.iter().all(plain) {
            return None;
        }
        let mut text = [0; 64];
        text.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
        Some(RequestId { text, len })
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The id as the bytes of a field's value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The 32 hexadecimal digits of `value`.
fn hex(value: u128) -> [u8; 32] {
    let mut text = [0; 32];
    let (eights, _) = text.as_chunks_mut::<8>();
    let bytes = value.to_be_bytes();
    let (fours, _) = bytes.as_chunks::<4>();
    for (eight, four) in eights.iter_mut().zip(fours) {
        *eight = hex_eight(u32::from_be_bytes(*four));
    }
    text
}

/// Eight digits, all made together: the halves of a number are moved apart until each byte has four bits; then those that
/// are above nine, to which adding six carries, get what letters are above digits.
fn hex_eight(value: u32) -> [u8; 8] {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let apart = |x: u64, by: u32, mask: u64| (x | x << by) & mask;
    let halves = apart(u64::from(value), 16, 0x0000_ffff_0000_ffff);
    let nibbles = apart(apart(halves, 8, 0x00ff_00ff_00ff_00ff), 4, 0x0f0f_0f0f_0f0f_0f0f);
    let letters = (nibbles + 6 * EACH) >> 4 & EACH;
    (nibbles + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// A W3C trace context (Trace Context, level 1): the trace a request belongs to, and our span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    sampled: bool,
}

impl TraceContext {
    /// Continues the trace that `traceparent` names, or begins one where it is missing or malformed. The
    /// sampling flag is taken over only from a trusted peer: an untrusted one could have us record all.
    #[must_use]
    pub fn continue_from(traceparent: Option<&[u8]>, trusted: bool) -> Self {
        let given = traceparent.and_then(parse_traceparent);
        TraceContext {
            trace_id: given.map_or_else(|| fastrand::u128(1..), |(trace_id, _)| trace_id),
            span_id: fastrand::u64(1..),
            sampled: trusted && given.is_some_and(|(_, sampled)| sampled),
        }
    }

    /// The trace's id, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 32] {
        hex(self.trace_id)
    }

    /// The `traceparent` field's value for the next hop: 55 characters.
    #[must_use]
    pub fn traceparent(&self) -> [u8; 55] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        if let Some(slot) = out.get_mut(3..).and_then(<[u8]>::first_chunk_mut) {
            *slot = hex(self.trace_id);
        }
        if let Some(slot) = out.get_mut(36..).and_then(<[u8]>::first_chunk_mut::<16>)
            && let Some(digits) = hex(u128::from(self.span_id)).last_chunk()
        {
            *slot = *digits;
        }
        if let Some(flag) = out.last_mut() {
            *flag = if self.sampled { b'1' } else { b'0' };
        }
        out
    }
}

/// Trace id and sampling flag of a `traceparent` (version 00: `00-<32 hex>-<16 hex>-<2 hex>`).
fn parse_traceparent(text: &[u8]) -> Option<(u128, bool)> {
    let text = std::str::from_utf8(text).ok().filter(|t| t.len() == 55)?;
    let mut parts = text.split('-');
    let lower_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00"
        || !lower_hex(trace, 32)
        || !lower_hex(span, 16)
        || !lower_hex(flags, 2)
        || parts.next().is_some()
    {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|&id| id != 0)?;
    u64::from_str_radix(span, 16).ok().filter(|&id| id != 0)?;
    Some((trace, u8::from_str_radix(flags, 16).ok()? & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_goes_on_with_a_span_of_ours() {
        let trace = TraceContext::continue_from(Some(PARENT), true);
        let next = trace.traceparent();
        assert_eq!(next[..36], PARENT[..36]);
        assert_ne!(next[36..52], PARENT[36..52]);
        assert_eq!(next[53..], *b"01");
        assert_eq!(TraceContext::continue_from(Some(PARENT), false).traceparent()[53..], *b"00");
    }

    #[test]
    fn j5_malformed_traces_begin_anew() {
        for bad in [
            &b"00-00000000000000000000000000000000-00f067aa0ba902b7-01"[..],
            b"",
            b"x",
            &PARENT[1..],
            b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let next = TraceContext::continue_from(Some(bad), true).traceparent();
            assert_ne!(next[3..35], PARENT[3..35]);
            assert_eq!(next[53..], *b"00");
        }
    }

    #[test]
    fn digits_are_those_of_the_formatter() {
        for value in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, 10 << 124, 9 << 64] {
            assert_eq!(hex(value), format!("{value:032x}").as_bytes());
        }
    }

    #[test]
    fn ids() {
        assert_eq!(RequestId::random().as_str().len(), 32);
        assert_ne!(RequestId::random(), RequestId::random());
        assert_eq!(RequestId::from_trusted(b"a-1").unwrap().as_str(), "a-1");
        for bad in [&b""[..], b"a b", b"\"", &[b'a'; 65]] {
            assert!(RequestId::from_trusted(bad).is_none());
        }
    }
}
