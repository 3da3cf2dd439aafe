//! What operators without a compiled pattern do.

use std::net::IpAddr;

use ipnet::IpNet;

use super::TextOp;
use crate::transform::{hex_value, is_space};

/// An integer as C's `atoi` reads it: leading white space, a sign, digits; the rest is ignored, nothing gives 0,
/// too much saturates.
pub(crate) fn atoi(text: &[u8]) -> i64 {
    let start = text.iter().position(|&byte| !is_space(byte)).unwrap_or(text.len());
    let text = text.get(start..).unwrap_or_default();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(0i64, |number, byte| {
        let digit = i64::from(byte - b'0');
        let shifted = number.saturating_mul(10);
        if negative { shifted.saturating_sub(digit) } else { shifted.saturating_add(digit) }
    })
}

pub(crate) fn text_matches(op: TextOp, value: &[u8], argument: &[u8]) -> bool {
    match op {
        TextOp::BeginsWith => value.starts_with(argument),
        TextOp::Contains => contains(value, argument),
        TextOp::ContainsWord => contains_word(value, argument),
        TextOp::EndsWith => value.ends_with(argument),
        TextOp::Equal => value == argument,
        TextOp::Within => contains(argument, value),
    }
}

/// Short texts are compared place by place, because making a searcher takes longer than that.
fn contains(text: &[u8], part: &[u8]) -> bool {
    if text.len() > 64 {
        return memchr::memmem::find(text, part).is_some();
    }
    let Some((&first, _)) = part.split_first() else { return true };
    memchr::memchr_iter(first, text).any(|at| text.get(at..).is_some_and(|rest| rest.starts_with(part)))
}

fn contains_word(value: &[u8], word: &[u8]) -> bool {
    if word.is_empty() {
        return true;
    }
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    memchr::memmem::find_iter(value, word).any(|start| {
        let before = start.checked_sub(1).and_then(|index| value.get(index));
        !is_word(before) && !is_word(value.get(start + word.len()))
    })
}

/// Whether the value writes an address of one of the networks. An IPv4-mapped IPv6 address is the IPv4 address.
pub(crate) fn ip_match(networks: &[IpNet], value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let Ok(address) = text.trim().parse::<IpAddr>() else { return false };
    let address = address.to_canonical();
    networks.iter().any(|net| net.contains(&address))
}

pub(crate) fn url_encoding_is_invalid(mut value: &[u8]) -> bool {
    while let Some(start) = memchr::memchr(b'%', value) {
        match value.get(start + 1..) {
            Some([high, low, rest @ ..]) if hex_value(*high).is_some() && hex_value(*low).is_some() => {
                value = rest
            }
            _ => return true,
        }
    }
    false
}

/// Overlong forms, surrogates and code points above U+10FFFF are invalid too.
pub(crate) fn utf8_is_invalid(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_c_reads_them() {
        for (text, number) in [
            ("12abc", 12),
            ("", 0),
            ("abc", 0),
            (" -7", -7),
            ("+3", 3),
            ("99999999999999999999", i64::MAX),
            ("-99999999999999999999", i64::MIN),
            ("--1", 0),
        ] {
            assert_eq!(atoi(text.as_bytes()), number, "{text:?}");
        }
    }

    #[test]
    fn mapped_addresses_are_what_they_map() {
        let nets = ["10.0.0.0/8".parse().unwrap()];
        assert!(ip_match(&nets, b"::ffff:10.1.2.3"));
        assert!(!ip_match(&nets, b"not an address"));
    }
}
