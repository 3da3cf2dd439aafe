//! Address lists: against ipnet's own reading, and from fields that clients write (matrix H1).

use crate::common::exchange;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portcullis_http::{Guard, Rejection};
use portcullis_limits::{AddressList, AddressSet};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn set(networks: &[&str]) -> AddressSet {
    networks.iter().map(|net| net.parse::<IpNet>().unwrap()).collect()
}

#[tokio::test]
async fn deny_wins_and_an_allow_list_denies_the_rest() {
    let allow = set(&["192.0.2.0/24", "2001:db8::/32"]);
    let list = AddressList::new(Some(allow), set(&["192.0.2.66/32"]));
    for (ip, admitted) in [
        ("192.0.2.1", true),
        ("192.0.2.66", false),
        ("::ffff:192.0.2.1", true),
        ("::ffff:192.0.2.66", false),
        ("198.51.100.1", false),
        ("2001:db8:1::1", true),
        ("2001:db9::1", false),
        ("0.0.0.0", false),
    ] {
        let expected = if admitted { Ok(()) } else { Err(Rejection::AddressDenied) };
        assert_eq!(list.check(&mut exchange(ip, "/", &[])).await, expected, "{ip}");
    }
    let nobody = AddressList::new(Some(AddressSet::default()), AddressSet::default());
    assert!(!nobody.admits("192.0.2.1".parse().unwrap()));
    assert!(AddressList::default().admits("192.0.2.1".parse().unwrap()));
    let mapped = set(&["::ffff:10.0.0.0/104", "::/0"]);
    assert!(mapped.contains("10.9.9.9".parse().unwrap()) && !mapped.contains("11.0.0.1".parse().unwrap()));
    let whole = set(&["0.0.0.0/0"]);
    assert!(whole.contains("255.255.255.255".parse().unwrap()) && !whole.contains("::1".parse().unwrap()));
}

/// Nothing a client writes moves its own address; what a trusted proxy appends does.
#[tokio::test]
async fn spoofed_forwarding_fields_change_nothing() {
    let list = AddressList::new(None, set(&["203.0.113.0/24"]));
    let denied = Err(Rejection::AddressDenied);
    let hops = vec!["192.0.2.1"; 1000].join(", ");
    for spoof in ["192.0.2.1", "192.0.2.1, 192.0.2.2", "for=192.0.2.1", "[::1]:80", "garbage", hops.as_str()]
    {
        let fields =
            [("X-Forwarded-For", spoof), ("X-Forwarded-For", "192.0.2.9"), ("X-Real-IP", "192.0.2.1")];
        assert_eq!(list.check(&mut exchange("203.0.113.9", "/", &fields)).await, denied, "{spoof}");
        let behind = format!("{spoof}, 203.0.113.9");
        let fields = [("X-Forwarded-For", behind.as_str())];
        assert_eq!(list.check(&mut exchange("10.0.0.1", "/", &fields)).await, denied, "{spoof} by a proxy");
    }
}

/// 10,000 networks: every one found, their neighbours not.
#[test]
fn ten_thousand_networks() {
    let networks = (0..10_000u32).map(|i| Ipv4Net::new(Ipv4Addr::from_bits(i << 14), 20).unwrap());
    let set: AddressSet = networks.map(IpNet::from).collect();
    for i in 0..10_000u32 {
        assert!(set.contains(Ipv4Addr::from_bits((i << 14) + 4095).into()));
        assert!(!set.contains(Ipv4Addr::from_bits((i << 14) + 4096).into()));
    }
}

fn network() -> impl Strategy<Value = IpNet> {
    let v4 = (0u32..8, 0u8..=32).prop_map(|(ip, len)| {
        IpNet::from(Ipv4Net::new(Ipv4Addr::from_bits(ip.wrapping_mul(0x2400_0081)), len).unwrap())
    });
    let v6 = (0u128..8, 0u8..=128).prop_map(|(ip, len)| {
        IpNet::from(Ipv6Net::new(Ipv6Addr::from_bits(ip << 125 | ip << 60 | ip | 1 << 120), len).unwrap())
    });
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn holds_what_its_networks_hold(networks in prop::collection::vec(network(), 0..30), v4: u32, v6: u128, pick: usize) {
        let set: AddressSet = networks.iter().copied().collect();
        let near = networks.get(pick % networks.len().max(1)).map_or([v4.into_ip(); 3], |net| {
            let step = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().wrapping_add(1))),
                IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().wrapping_add(1))),
            };
            [net.network(), net.broadcast(), step(net.broadcast())]
        });
        for ip in near.into_iter().chain([v4.into_ip(), IpAddr::V6(Ipv6Addr::from_bits(v6))]) {
            prop_assume!(ip == ip.to_canonical());
            prop_assert_eq!(set.contains(ip), networks.iter().any(|net| net.contains(&ip)), "{}", ip);
        }
    }
}

trait IntoIp {
    fn into_ip(self) -> IpAddr;
}

impl IntoIp for u32 {
    fn into_ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(self))
    }
}
