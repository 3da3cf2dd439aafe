//! Address lists.

use portcullis_limits::AddressSet;
use std::net::IpAddr;

/// Networks and addresses, one a line: the set holds what one of its networks holds.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = || text.lines().map(str::trim).take(64);
    let networks: Vec<ipnet::IpNet> = lines().filter_map(|line| line.parse().ok()).collect();
    let set: AddressSet = networks.iter().copied().collect();
    assert_eq!(set.is_empty(), networks.is_empty());
    let ends = networks.iter().flat_map(|network| [network.network(), network.broadcast()]);
    for address in lines().filter_map(|line| line.parse::<IpAddr>().ok()).chain(ends) {
        let canonical = address.to_canonical();
        let mapped = match canonical {
            IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
            IpAddr::V6(_) => canonical,
        };
        // An IPv4-mapped network is the IPv4 one; `::/0` and other networks around all of them are not.
        let holds = networks.iter().any(|network| match (network, canonical) {
            (ipnet::IpNet::V6(network), IpAddr::V4(_)) => {
                network.prefix_len() >= 96 && ipnet::IpNet::V6(*network).contains(&mapped)
            }
            _ => network.contains(&canonical),
        });
        assert_eq!(set.contains(address), holds, "{address} in {networks:?}");
    }
}
