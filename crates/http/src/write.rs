//! Writing values where they stand. What the formatter of the standard library does in general costs ten times as much.

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// Writes a field's value into the buffer it is to stand in. The caller answers for its being one
/// ([`is_value`](crate::is_value)).
pub struct ValueWriter<'a>(pub(crate) &'a mut Vec<u8>);

impl ValueWriter<'_> {
    /// Writes text.
    #[inline]
    pub fn text(&mut self, text: impl AsRef<[u8]>) {
        self.0.extend_from_slice(text.as_ref());
    }

    /// Writes a number.
    pub fn decimal(&mut self, number: u64) {
        push_decimal(number, self.0);
    }

    /// Writes an address, without brackets.
    pub fn address(&mut self, address: IpAddr) {
        push_address(address, self.0);
    }
}

impl fmt::Write for ValueWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

/// Appends a number as text.
pub fn push_decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends an address as text, an IPv6 one without brackets.
pub fn push_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => push_v4(address, out),
        // Writing to a buffer cannot fail.
        IpAddr::V6(address) => {
            let _ = write!(out, "{address}");
        }
    }
}

fn push_v4(address: Ipv4Addr, out: &mut Vec<u8>) {
    // Room for the longest and for a point behind it.
    let mut text = [0; 16];
    let mut length = 0;
    for number in address.octets() {
        let (digits, count) = octet(number);
        if let Some(slot) = text.get_mut(length..).and_then(<[u8]>::first_chunk_mut) {
            *slot = digits;
        }
        length += count + 1;
    }
    out.extend_from_slice(text.get(..length - 1).unwrap_or_default());
}

/// The digits of each octet, a point behind them, and how many digits there are.
static OCTETS: [([u8; 4], u8); 256] = {
    let mut table = [([b'.'; 4], 1); 256];
    let mut at = 0;
    #[expect(clippy::indexing_slicing, reason = "beyond the end it would be an error at compile time")]
    while at < 256 {
        let (length, mut place) = if at < 10 {
            (1, 1)
        } else if at < 100 {
            (2, 10)
        } else {
            (3, 100)
        };
        let mut digit = 0;
        while place > 0 {
            table[at].0[digit] = b'0' + (at / place % 10) as u8;
            (digit, place) = (digit + 1, place / 10);
        }
        table[at].1 = length;
        at += 1;
    }
    table
};

fn octet(number: u8) -> ([u8; 4], usize) {
    let (text, length) = OCTETS.get(usize::from(number)).copied().unwrap_or_default();
    (text, usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_they_are_displayed() {
        for number in (0..=300).chain([9_999, 12_345, u64::from(u32::MAX), 1 << 32, u64::MAX]) {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
        let v4 = (0..=255u8).map(|n| IpAddr::from([n, 255 - n, n / 10, n / 2]));
        let others = ["0.0.0.0", "203.0.113.7", "255.255.255.255", "::1", "2001:db8::1"];
        for address in v4.chain(others.map(|text| text.parse().unwrap())) {
            let mut out = Vec::new();
            push_address(address, &mut out);
            assert_eq!(out, address.to_string().as_bytes());
        }
    }
}
