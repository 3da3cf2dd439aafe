//! Which addresses are welcome.

use ipnet::IpNet;
use portcullis_http::{Exchange, Guard, Rejection};
use std::net::IpAddr;

/// A set of networks: sorted, disjoint ranges, so that asking costs a binary search however many they are.
///
/// IPv4 and IPv6 are apart: `::/0` holds no IPv4 address. An IPv4-mapped address or network
/// (`::ffff:0:0/96` and narrower) is the IPv4 one it stands for.
///
/// ```
/// use portcullis_limits::AddressSet;
///
/// let set: AddressSet = ["10.0.0.0/8", "10.1.0.0/16"].map(|net| net.parse().unwrap()).into_iter().collect();
/// assert!(set.contains("::ffff:10.9.9.9".parse().unwrap()));
/// assert!(!set.contains("11.0.0.1".parse().unwrap()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl FromIterator<IpNet> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            let (first, last) = (network.network(), network.broadcast());
            match (first, last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                        (Some(first), Some(last)) => v4.push((first.to_bits(), last.to_bits())),
                        _ => v6.push((first.to_bits(), last.to_bits())),
                    }
                }
                _ => {}
            }
        }
        AddressSet { v4: disjoint(v4), v6: disjoint(v6) }
    }
}

/// Sorts ranges and joins those that overlap.
fn disjoint<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let inside = next.0 <= kept.1;
        if inside {
            kept.1 = kept.1.max(next.1);
        }
        inside
    });
    ranges.into_boxed_slice()
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= value);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| value <= *last)
}

impl AddressSet {
    /// Whether the address is in one of the networks.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => holds(&self.v6, ip.to_bits()),
        }
    }

    /// Whether no network is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// The guard of a route's allow and deny lists. A denied address is refused though it be allowed; where there is
/// an allow list, so is every address that is not on it. It judges the client's address as resolved through
/// trusted proxies, not what a field claims.
#[derive(Clone, Debug, Default)]
pub struct AddressList {
    allow: Option<AddressSet>,
    deny: AddressSet,
}

impl AddressList {
    /// A guard. `allow: None` allows all but the denied; an empty allow list allows nobody.
    #[must_use]
    pub fn new(allow: Option<AddressSet>, deny: AddressSet) -> Self {
        AddressList { allow, deny }
    }

    /// Whether the address may pass.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        !self.deny.contains(address) && self.allow.as_ref().is_none_or(|allow| allow.contains(address))
    }
}

impl Guard for AddressList {
    async fn check(&self, exchange: &mut Exchange) -> Result<(), Rejection> {
        if self.admits(exchange.client.address.ip) { Ok(()) } else { Err(Rejection::AddressDenied) }
    }
}
