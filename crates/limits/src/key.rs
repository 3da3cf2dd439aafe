//! Whose requests count together.

use portcullis_http::{Exchange, Principal};
use std::borrow::Cow;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};

/// What a limit counts by. Where the request does not have it, it is counted by address instead: a caller
/// that leaves a header out must not be counted with nobody.
///
/// Nothing of the path is part of a key, so no other spelling of the same resource has its own count. What
/// the client writes freely (`Field`) it can also vary freely: put a limit by address beside one by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The client's address; for IPv6 its /64, which is the least one customer gets.
    Address,
    /// The authenticated caller: identity provider and subject together.
    Consumer,
    /// A request header field's first value; the name compares without case.
    Field(String),
    /// A claim of the caller's token, by name or dotted path, counted apart per identity provider.
    Claim(String),
}

/// One of the parts a limit divides requests into: those that count together.
#[derive(Clone, Hash, PartialEq, Eq)]
pub enum Partition<'a> {
    /// An IPv4 address, or an IPv6 network's first address.
    Address(IpAddr),
    /// A consumer.
    Consumer {
        /// The identity provider that vouched for it.
        provider: &'a str,
        /// Its name there.
        subject: &'a str,
    },
    /// A field's value.
    Field(&'a [u8]),
    /// A claim's value.
    Claim {
        /// The identity provider that vouched for it.
        provider: &'a str,
        /// The value as text.
        value: Cow<'a, str>,
    },
}

impl std::fmt::Debug for Partition<'_> {
    /// Without field values and claims, which may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Partition::Address(ip) => write!(f, "address {ip}"),
            Partition::Consumer { provider, subject } => write!(f, "consumer {provider}/{subject}"),
            Partition::Field(_) => f.write_str("field"),
            Partition::Claim { provider, .. } => write!(f, "claim of {provider}"),
        }
    }
}

impl Partition<'_> {
    /// That of an address: for IPv6 its /64, which is the least one customer gets; an IPv4-mapped one counts as IPv4.
    #[must_use]
    pub fn of_address(ip: IpAddr) -> Self {
        Partition::Address(network(ip))
    }

    /// Feeds a hasher with what tells it from all others: in few pieces, since each costs. What comes before must be UTF-8.
    pub(crate) fn feed(&self, hasher: &mut impl Hasher) {
        // No part of UTF-8, so that texts of two places cannot read as others of the same.
        const END: u8 = 0xff;
        match self {
            Partition::Address(IpAddr::V4(ip)) => {
                let [a, b, c, d] = ip.octets();
                hasher.write(&[END, 4, a, b, c, d]);
            }
            Partition::Address(IpAddr::V6(ip)) => {
                hasher.write(&[END, 6]);
                hasher.write(&ip.octets());
            }
            Partition::Consumer { provider, subject } => {
                hasher.write(&[END, 1]);
                hasher.write(provider.as_bytes());
                hasher.write(&[END]);
                hasher.write(subject.as_bytes());
            }
            Partition::Field(value) => {
                hasher.write(&[END, 2]);
                hasher.write(value);
            }
            Partition::Claim { provider, value } => {
                hasher.write(&[END, 3]);
                hasher.write(provider.as_bytes());
                hasher.write(&[END]);
                hasher.write(value.as_bytes());
            }
        }
    }
}

impl Key {
    /// The partition that the exchange belongs to.
    #[must_use]
    pub fn of<'a>(&self, exchange: &'a Exchange) -> Partition<'a> {
        let principal = exchange.principal.as_deref();
        let named = match self {
            Key::Address => None,
            Key::Consumer => principal.map(consumer),
            Key::Field(name) => exchange.request.fields.get(name).map(Partition::Field),
            Key::Claim(name) => principal.and_then(|principal| claim(principal, name)),
        };
        named.unwrap_or_else(|| Partition::of_address(exchange.client.address.ip))
    }
}

fn consumer(principal: &Principal) -> Partition<'_> {
    Partition::Consumer { provider: &principal.provider, subject: &principal.subject }
}

fn claim<'a>(principal: &'a Principal, name: &str) -> Option<Partition<'a>> {
    let value = match principal.claim(name)?.as_str() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(principal.claim_text(name)?),
    };
    Some(Partition::Claim { provider: &principal.provider, value })
}

/// The address that stands for all that one customer can use as it likes.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
    }
}
