//! Which addresses the gateway itself may connect to (server-side request forgery: CWE-918, matrix J1).
//!
//! Whoever answers for a name decides where the gateway connects to. So what a name stands for, or a file of endpoints
//! says, is judged address by address before it is used, and it is that address that is connected to: nothing is
//! looked up a second time (DNS rebinding). Addresses that stand in the configuration are the operator's own word and
//! are not judged.

use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forbidden {
    /// The operator denies its network.
    Denied,
    /// This machine: `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`, and the site-local addresses that came before private ones, `fec0::/10`.
    LinkLocal,
    /// A cloud's metadata service, which hands out credentials.
    Metadata,
    /// `0.0.0.0/8`, `::`. Systems connect to themselves by it.
    Unspecified,
    /// More than one machine: `224.0.0.0/4`, `255.255.255.255`, `ff00::/8`.
    Multicast,
    /// Addresses that no server has: `240.0.0.0/4`, `192.0.0.0/24`, `100::/64`, the local translation prefix
    /// `64:ff9b:1::/48` (RFC 8215), whose embedded addresses nobody but the operator can read.
    Reserved,
    /// Private networks (RFC 1918, 4193, 6598; benchmarks, RFC 2544), where the policy does not take them.
    Private,
}

impl Forbidden {
    /// The reason in a word, for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Forbidden::Denied => "denied",
            Forbidden::Loopback => "loopback",
            Forbidden::LinkLocal => "link-local",
            Forbidden::Metadata => "metadata service",
            Forbidden::Unspecified => "unspecified",
            Forbidden::Multicast => "multicast",
            Forbidden::Reserved => "reserved",
            Forbidden::Private => "private",
        }
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which addresses a name may stand for.
///
/// An IPv6 address that carries an IPv4 one (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP) is judged by
/// both: a network that translates delivers it to the one it carries.
///
/// ```
/// use portcullis_http::{DestinationPolicy, Forbidden};
///
/// let policy = DestinationPolicy::default();
/// let check = |address: &str| policy.check(address.parse().unwrap());
/// assert_eq!(check("10.0.0.7"), Ok(()));
/// assert_eq!(check("169.254.169.254"), Err(Forbidden::Metadata));
/// assert_eq!(check("64:ff9b::7f00:1"), Err(Forbidden::Loopback));
///
/// let local = DestinationPolicy::new(["127.0.0.0/8".parse().unwrap()], [], true);
/// assert_eq!(local.check("127.0.0.1".parse().unwrap()), Ok(()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationPolicy {
    allow: Box<[IpNet]>,
    deny: Box<[IpNet]>,
    private: bool,
}

impl Default for DestinationPolicy {
    /// Nothing special; private networks, where nearly all endpoints are.
    fn default() -> Self {
        DestinationPolicy { allow: Box::default(), deny: Box::default(), private: true }
    }
}

impl DestinationPolicy {
    /// A policy: `deny` goes before `allow`, which goes before what is refused by default. `private` says whether
    /// private networks may be connected to.
    #[must_use]
    pub fn new(
        allow: impl IntoIterator<Item = IpNet>,
        deny: impl IntoIterator<Item = IpNet>,
        private: bool,
    ) -> Self {
        DestinationPolicy { allow: allow.into_iter().collect(), deny: deny.into_iter().collect(), private }
    }

    /// Whether the address may be connected to.
    ///
    /// # Errors
    /// [`Forbidden`], why not.
    pub fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        let address = address.to_canonical();
        let listed = |list: &[IpNet], address: IpAddr| list.iter().any(|network| network.contains(&address));
        let carried = carried(address).map(|carried| carried.map(IpAddr::V4));
        let readings = || std::iter::once(address).chain(carried.into_iter().flatten());
        if readings().any(|reading| listed(&self.deny, reading)) {
            return Err(Forbidden::Denied);
        }
        if listed(&self.allow, address) {
            return Ok(());
        }
        let special = |reading| match reading {
            IpAddr::V4(ip) => special_v4(ip),
            IpAddr::V6(ip) => special_v6(ip),
        };
        // What it carries may be worse than what it is.
        let why = readings().filter_map(special).find(|why| *why != Forbidden::Private || !self.private);
        why.map_or(Ok(()), Err)
    }

    /// The same for an address that `name` was found to stand for. `localhost` and what ends in it is the loopback by
    /// definition (RFC 6761, 6.3): who writes it means it.
    ///
    /// # Errors
    /// [`Forbidden`], why not.
    pub fn check_name(&self, name: &str, address: IpAddr) -> Result<(), Forbidden> {
        match self.check(address) {
            Err(Forbidden::Loopback) if is_localhost(name) && address.to_canonical().is_loopback() => Ok(()),
            verdict => verdict,
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

fn special_v4(ip: Ipv4Addr) -> Option<Forbidden> {
    match ip.octets() {
        // Amazon, Google, Azure, Oracle, DigitalOcean; Amazon's for containers; Alibaba; Azure's host; Oracle.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [100, 100, 100, 200]
        | [168, 63, 129, 16]
        | [192, 0, 0, 192] => Some(Forbidden::Metadata),
        [0, ..] => Some(Forbidden::Unspecified),
        [127, ..] => Some(Forbidden::Loopback),
        [169, 254, ..] => Some(Forbidden::LinkLocal),
        [224..=239, ..] | [255, 255, 255, 255] => Some(Forbidden::Multicast),
        [240..=255, ..] | [192, 0, 0, _] => Some(Forbidden::Reserved),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => {
            Some(Forbidden::Private)
        }
        _ => None,
    }
}

fn special_v6(ip: Ipv6Addr) -> Option<Forbidden> {
    match ip.segments() {
        // Amazon's services, and Google's.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254] => Some(Forbidden::Metadata),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Forbidden::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Forbidden::Loopback),
        [0xfe80..=0xfeff, ..] => Some(Forbidden::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Forbidden::Multicast),
        [0x0064, 0xff9b, 1, ..] | [0x0100, 0, 0, 0, ..] => Some(Forbidden::Reserved),
        [0xfc00..=0xfdff, ..] => Some(Forbidden::Private),
        _ => None,
    }
}

/// The IPv4 addresses that an address carries, two at most.
fn carried(address: IpAddr) -> [Option<Ipv4Addr>; 2] {
    let IpAddr::V6(ip) = address else { return [None; 2] };
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)));
    match ip.segments() {
        // `::` and `::1` are no IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None; 2],
        // IPv4-compatible (RFC 4291, 2.5.5.1), IPv4-translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => [v4(high, low), None],
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => [v4(high, low), None],
        // Teredo (RFC 4380): the server, and the client with every bit turned over.
        [0x2001, 0, server, server_low, _, _, high, low] => [v4(server, server_low), v4(!high, !low)],
        // ISATAP (RFC 5214, 6.1), under any prefix.
        [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => [v4(high, low), None],
        _ => [None; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(policy: &DestinationPolicy, address: &str) -> Result<(), Forbidden> {
        policy.check(address.parse().unwrap())
    }

    #[test]
    fn j1_what_no_name_may_stand_for() {
        let policy = DestinationPolicy::default();
        for (address, why) in [
            ("127.0.0.1", Forbidden::Loopback),
            ("127.255.0.9", Forbidden::Loopback),
            ("::1", Forbidden::Loopback),
            ("::ffff:127.0.0.1", Forbidden::Loopback),
            ("::127.0.0.1", Forbidden::Loopback),
            ("::ffff:0:127.0.0.1", Forbidden::Loopback),
            ("64:ff9b::127.0.0.1", Forbidden::Loopback),
            ("2002:7f00:1::", Forbidden::Loopback),
            ("2001:0:7f00:1::", Forbidden::Loopback),
            ("2001:0:c000:201::80ff:fffe", Forbidden::Loopback),
            ("2001:db8::5efe:7f00:1", Forbidden::Loopback),
            ("fe80::200:5efe:7f00:1", Forbidden::LinkLocal),
            ("169.254.0.1", Forbidden::LinkLocal),
            ("fe80::1", Forbidden::LinkLocal),
            ("fec0::1", Forbidden::LinkLocal),
            ("169.254.169.254", Forbidden::Metadata),
            ("169.254.170.2", Forbidden::Metadata),
            ("::ffff:169.254.169.254", Forbidden::Metadata),
            ("64:ff9b::a9fe:a9fe", Forbidden::Metadata),
            ("2002:a9fe:a9fe::", Forbidden::Metadata),
            ("100.100.100.200", Forbidden::Metadata),
            ("168.63.129.16", Forbidden::Metadata),
            ("fd00:ec2::254", Forbidden::Metadata),
            ("fd20:ce::254", Forbidden::Metadata),
            ("0.0.0.0", Forbidden::Unspecified),
            ("0.1.2.3", Forbidden::Unspecified),
            ("::", Forbidden::Unspecified),
            ("::ffff:0.0.0.0", Forbidden::Unspecified),
            ("224.0.0.1", Forbidden::Multicast),
            ("255.255.255.255", Forbidden::Multicast),
            ("ff02::1", Forbidden::Multicast),
            ("250.1.1.1", Forbidden::Reserved),
            ("64:ff9b:1::7f00:1", Forbidden::Reserved),
            ("fd00::5efe:7f00:1", Forbidden::Loopback),
        ] {
            assert_eq!(check(&policy, address), Err(why), "{address}");
        }
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd12::1",
            "93.184.216.34",
            "2606:2800:220:1::1",
            "64:ff9b::93.184.216.34",
            "2002:5db8:d822::1",
        ] {
            assert_eq!(check(&policy, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn lists_and_private_networks() {
        let strict = DestinationPolicy::new([], [], false);
        for address in ["10.0.0.1", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "64:ff9b::10.0.0.1"]
        {
            assert_eq!(check(&strict, address), Err(Forbidden::Private), "{address}");
        }
        let networks = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let policy = DestinationPolicy::new(
            networks(&["10.0.0.0/8", "127.0.0.0/8"]),
            networks(&["10.9.0.0/16", "203.0.113.0/24"]),
            false,
        );
        for (address, verdict) in [
            ("10.1.0.1", Ok(())),
            ("127.0.0.1", Ok(())),
            ("::ffff:127.0.0.1", Ok(())),
            // A translator's loopback is not ours.
            ("64:ff9b::127.0.0.1", Err(Forbidden::Loopback)),
            ("10.9.1.1", Err(Forbidden::Denied)),
            ("64:ff9b::203.0.113.9", Err(Forbidden::Denied)),
            ("192.168.1.1", Err(Forbidden::Private)),
            ("::1", Err(Forbidden::Loopback)),
        ] {
            assert_eq!(check(&policy, address), verdict, "{address}");
        }
    }

    #[test]
    fn localhost_is_the_loopback_and_nothing_else() {
        let policy = DestinationPolicy::default();
        let named = |name: &str, address: &str| policy.check_name(name, address.parse().unwrap());
        for name in ["localhost", "LOCALHOST.", "api.localhost"] {
            assert_eq!(named(name, "127.0.0.1"), Ok(()), "{name}");
            assert_eq!(named(name, "::1"), Ok(()), "{name}");
            assert_eq!(named(name, "169.254.169.254"), Err(Forbidden::Metadata), "{name}");
            assert_eq!(named(name, "64:ff9b::7f00:1"), Err(Forbidden::Loopback), "{name}");
        }
        for name in ["localhost.example.com", "notlocalhost", "2130706433", "0x7f000001", ""] {
            assert_eq!(named(name, "127.0.0.1"), Err(Forbidden::Loopback), "{name}");
        }
    }

    /// Every form of RFC 4291, 6052, 3056, 4380, 5214 and 2765 that an IPv4 address can hide in.
    fn disguises(ip: Ipv4Addr, noise: u64) -> Vec<IpAddr> {
        let (v4, noise) = (u128::from(ip.to_bits()), u128::from(noise));
        let net = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
        vec![
            net("::ffff:0:0") | v4,
            net("::ffff:0:0:0") | v4,
            net("64:ff9b::") | v4,
            net("2002::") | (v4 << 80) | noise,
            net("2001::") | (v4 << 64) | noise,
            net("2001:0:5db8:d822::") | (noise & 0xffff_ffff) << 32 | (!v4 & 0xffff_ffff),
            net("2001:db8::5efe:0:0") | v4,
            net("2001:db8::200:5efe:0:0") | v4,
        ]
        .into_iter()
        .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        .collect()
    }

    fn special() -> impl Strategy<Value = Ipv4Addr> {
        let inside = |net: u32, prefix: u32| {
            any::<u32>().prop_map(move |noise| Ipv4Addr::from_bits(net | (noise & (u32::MAX >> prefix))))
        };
        prop_oneof![
            inside(0x7f00_0000, 8),
            inside(0xa9fe_0000, 16),
            inside(0, 8),
            inside(0xe000_0000, 4),
            inside(0xf000_0000, 4),
            Just(Ipv4Addr::new(169, 254, 169, 254)),
        ]
    }

    proptest! {
        #[test]
        fn no_disguise_helps(ip in special(), noise: u64) {
            let policy = DestinationPolicy::default();
            prop_assert!(policy.check(ip.into()).is_err());
            for disguise in disguises(ip, noise) {
                prop_assert!(policy.check(disguise).is_err(), "{} as {}", ip, disguise);
            }
        }

        #[test]
        fn what_is_denied_is_denied_in_every_form(bits: u32, prefix in 1u8..=32, noise: u64) {
            let ip = Ipv4Addr::from_bits(bits);
            let network = IpNet::new(ip.into(), prefix).unwrap().trunc();
            let everywhere: Vec<IpNet> = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            let policy = DestinationPolicy::new(everywhere, [network], true);
            prop_assert_eq!(policy.check(ip.into()), Err(Forbidden::Denied));
            for disguise in disguises(ip, noise) {
                prop_assert_eq!(policy.check(disguise), Err(Forbidden::Denied), "{} as {}", ip, disguise);
            }
        }

        #[test]
        fn a_stricter_policy_takes_no_more(bits: u128) {
            let ip = IpAddr::V6(Ipv6Addr::from_bits(bits));
            let strict = DestinationPolicy::new([], [], false);
            if strict.check(ip).is_ok() {
                prop_assert!(DestinationPolicy::default().check(ip).is_ok());
            }
        }
    }
}
