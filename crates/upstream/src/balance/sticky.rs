//! Sticky sessions: a token that names an endpoint to this gateway, and to nobody else.
//!
//! The token is a keyed hash of upstream and address, as HAProxy's `dynamic-cookie-key` makes one: no state is kept,
//! gateways with the same key agree, and who does not have the key can neither tell the address nor make a token for
//! an endpoint that it was not sent to.

use aws_lc_rs::hmac;
use std::fmt;

/// What tokens are made with.
#[derive(Clone)]
pub struct StickyKey(hmac::Key);

/// Names an endpoint: 128 bits of HMAC-SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StickyToken(u128);

impl StickyKey {
    /// A key made from a secret that gateways beside each other share.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        StickyKey(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A key of this process alone: with it, a restart lets all sessions choose anew.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn random() -> Result<Self, std::io::Error> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(std::io::Error::other)?;
        Ok(Self::new(&secret))
    }

    /// The token of an endpoint.
    #[must_use]
    pub(crate) fn token(&self, upstream: &str, address: &str) -> StickyToken {
        let mut context = hmac::Context::with_key(&self.0);
        // A name holds no NUL, so that no two pairs make one text.
        for part in [upstream.as_bytes(), b"\0", address.as_bytes()] {
            context.update(part);
        }
        let tag = context.sign();
        let (bits, _) = tag.as_ref().as_chunks::<16>();
        StickyToken(bits.first().map_or(0, |bits| u128::from_be_bytes(*bits)))
    }
}

impl fmt::Debug for StickyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StickyKey(…)")
    }
}

impl StickyToken {
    /// Reads a token as it was written: 32 hexadecimal digits, in lower case. Anything else is none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let text =
            (text.len() == 32 && text.iter().all(is_digit)).then(|| std::str::from_utf8(text).ok())??;
        u128::from_str_radix(text, 16).ok().map(StickyToken)
    }
}

impl fmt::Display for StickyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StickyToken {
    /// Without the token: who has it chooses the endpoint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StickyToken(…)")
    }
}

/// The tokens of an upstream's endpoints: in order, with the endpoint that each names.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Box<[(StickyToken, u32)]>);

impl Tokens {
    pub(crate) fn new<'a>(key: &StickyKey, upstream: &str, addresses: impl Iterator<Item = &'a str>) -> Self {
        let mut tokens: Box<[_]> = addresses.map(|address| key.token(upstream, address)).zip(0..).collect();
        tokens.sort_unstable();
        Tokens(tokens)
    }

    /// The endpoint that a token names, where there is one.
    pub(crate) fn find(&self, token: StickyToken) -> Option<usize> {
        let at = self.0.binary_search_by_key(&token, |(token, _)| *token).ok()?;
        self.0.get(at).map(|(_, index)| *index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4231_case_2() {
        // Test case 2 of RFC 4231: key "Jefe", data "what do ya want for nothing?".
        let key = StickyKey::new(b"Jefe");
        let tag = hmac::sign(&key.0, b"what do ya want for nothing?");
        assert!(tag.as_ref().starts_with(&[0x5b, 0xdc, 0xc1, 0x46]));
    }

    #[test]
    fn tokens_name_endpoints_and_tell_nothing() {
        let addresses = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
        let key = StickyKey::new(b"one secret for all gateways");
        let tokens = Tokens::new(&key, "shop", addresses.into_iter());
        for (index, address) in addresses.iter().enumerate() {
            let text = key.token("shop", address).to_string();
            assert_eq!(text.len(), 32);
            let read = StickyToken::parse(text.as_bytes()).unwrap();
            assert_eq!(tokens.find(read), Some(index));
            // Another gateway with the same secret, and its endpoints in another order.
            let other =
                Tokens::new(&StickyKey::new(b"one secret for all gateways"), "shop", [*address].into_iter());
            assert_eq!(other.find(read), Some(0));
            // Another key, and another upstream.
            assert_eq!(
                Tokens::new(&StickyKey::random().unwrap(), "shop", addresses.into_iter()).find(read),
                None
            );
            assert_eq!(Tokens::new(&key, "shop2", addresses.into_iter()).find(read), None);
        }
        assert_eq!(format!("{:?}", key.token("shop", "10.0.0.1:80")), "StickyToken(…)");
    }

    #[test]
    fn what_is_no_token() {
        for text in [
            "",
            "0",
            "g0000000000000000000000000000000",
            "+0000000000000000000000000000000",
            "000000000000000000000000000000000",
            "ABCDEF00000000000000000000000000",
        ] {
            assert_eq!(StickyToken::parse(text.as_bytes()), None, "{text}");
        }
        assert!(StickyToken::parse(b"00000000000000000000000000000000").is_some());
    }
}
