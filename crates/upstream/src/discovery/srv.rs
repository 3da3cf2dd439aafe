//! From service records to endpoints (RFC 2782). No IO.

use crate::EndpointSettings;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Shares of one unit of a record's weight: enough for the addresses of a target to split it.
const SHARES: u32 = 60;

/// One service record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Service {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// The host's name, lower case, without the final dot.
    pub(crate) target: String,
}

/// The endpoints that records stand for, by their targets' addresses. A record's weight is shared by its target's
/// addresses. A weight of 0 beside others "should have a very small chance of being selected": the smallest there is.
/// Priorities become ranks, from 0, so that gaps between them say nothing.
pub(crate) fn endpoints<'a>(
    services: &[Service],
    addresses: impl Fn(&str) -> &'a [IpAddr],
) -> Vec<EndpointSettings> {
    let mut ranks: Vec<u16> = services.iter().map(|service| service.priority).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let all_zero =
        |priority: u16| services.iter().all(|other| other.priority != priority || other.weight == 0);
    let mut found: BTreeMap<(IpAddr, u16), (u32, u32)> = BTreeMap::new();
    for service in services {
        let rank =
            u32::try_from(ranks.partition_point(|priority| *priority < service.priority)).unwrap_or(u32::MAX);
        let addresses = addresses(&service.target);
        let among = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let weight = match service.weight {
            0 if all_zero(service.priority) => SHARES / among,
            weight => u32::from(weight) * SHARES / among,
        };
        for address in addresses {
            let (known, sum) = found.entry((*address, service.port)).or_insert((rank, 0));
            // What stands in two ranks belongs to the better one.
            if rank < *known {
                (*known, *sum) = (rank, 0);
            }
            if rank == *known {
                *sum = sum.saturating_add(weight.max(1));
            }
        }
    }
    found
        .into_iter()
        .map(|((address, port), (priority, weight))| EndpointSettings {
            weight,
            priority,
            ..EndpointSettings::new(address.to_string(), port)
        })
        .collect()
}

/// The name that a certificate of these services is for: the one that was asked for, without the service and its
/// protocol (`_https._tcp`). The targets' names came from whoever answered, and prove nothing.
pub(crate) fn domain(name: &str) -> &str {
    let mut rest = name;
    while let Some((label, tail)) = rest.split_once('.')
        && label.starts_with('_')
    {
        rest = tail;
    }
    rest.strip_suffix('.').unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn service(priority: u16, weight: u16, port: u16, target: &str) -> Service {
        Service { priority, weight, port, target: target.to_owned() }
    }

    fn map(services: &[Service]) -> Vec<(String, u32, u32)> {
        let hosts: BTreeMap<&str, Vec<IpAddr>> = [
            ("one", vec!["10.0.0.1"]),
            ("two", vec!["10.0.0.2", "10.0.0.3"]),
            ("none", vec![]),
            ("alias", vec!["10.0.0.1"]),
        ]
        .into_iter()
        .map(|(name, ips)| (name, ips.into_iter().map(|ip| ip.parse().unwrap()).collect()))
        .collect();
        endpoints(services, |name| hosts.get(name).map_or(&[], Vec::as_slice))
            .into_iter()
            .map(|endpoint| (endpoint.address(), endpoint.weight, endpoint.priority))
            .collect()
    }

    #[test]
    fn weights_are_shared_by_a_targets_addresses() {
        assert_eq!(
            map(&[service(10, 1, 80, "one"), service(10, 1, 81, "two"), service(10, 9, 80, "none")]),
            [
                ("10.0.0.1:80".to_owned(), 60, 0),
                ("10.0.0.2:81".to_owned(), 30, 0),
                ("10.0.0.3:81".to_owned(), 30, 0)
            ]
        );
    }

    #[test]
    fn priorities_become_ranks() {
        let found = map(&[service(20, 1, 80, "one"), service(7, 1, 80, "two"), service(9, 1, 1, "one")]);
        let ranks: Vec<_> = found.iter().map(|(address, _, rank)| (address.as_str(), *rank)).collect();
        assert_eq!(ranks, [("10.0.0.1:1", 1), ("10.0.0.1:80", 2), ("10.0.0.2:80", 0), ("10.0.0.3:80", 0)]);
    }

    #[test]
    fn no_weight_is_a_very_small_chance_beside_weights_and_an_equal_one_without() {
        let weights =
            |services: &[Service]| map(services).into_iter().map(|(_, weight, _)| weight).collect::<Vec<_>>();
        assert_eq!(weights(&[service(0, 0, 80, "one"), service(0, 10, 81, "one")]), [1, 600]);
        assert_eq!(
            weights(&[service(0, 0, 80, "one"), service(0, 0, 81, "one"), service(1, 5, 82, "one")]),
            [60, 60, 300]
        );
    }

    #[test]
    fn the_same_server_twice() {
        assert_eq!(
            map(&[service(0, 1, 80, "one"), service(0, 2, 80, "alias")]),
            [("10.0.0.1:80".to_owned(), 180, 0)]
        );
        assert_eq!(
            map(&[service(5, 1, 80, "one"), service(0, 2, 80, "alias")]),
            [("10.0.0.1:80".to_owned(), 120, 0)]
        );
        assert_eq!(
            map(&[service(0, 2, 80, "alias"), service(5, 1, 80, "one")]),
            [("10.0.0.1:80".to_owned(), 120, 0)]
        );
    }

    #[test]
    fn the_domain_of_a_service() {
        for (name, domain) in [
            ("_https._tcp.shop.example.com", "shop.example.com"),
            ("_http._tcp.web.ns.svc.cluster.local.", "web.ns.svc.cluster.local"),
            ("web.service.consul", "web.service.consul"),
            ("_web", "_web"),
        ] {
            assert_eq!(super::domain(name), domain);
        }
    }

    proptest! {
        /// Whatever records say: every address of every target is there once, with a weight, in the best of its ranks.
        #[test]
        fn nothing_is_lost(records in proptest::collection::vec((any::<u16>(), any::<u16>(), 1u16..4, 0usize..3), 0..12)) {
            let services: Vec<Service> = records
                .iter()
                .map(|(priority, weight, port, target)| service(*priority, *weight, *port, ["one", "two", "alias"][*target]))
                .collect();
            let found = map(&services);
            let mut addresses: Vec<_> = found.iter().map(|(address, ..)| address.clone()).collect();
            addresses.dedup();
            prop_assert_eq!(addresses.len(), found.len());
            prop_assert!(found.iter().all(|(_, weight, _)| *weight > 0));
            if !services.is_empty() {
                prop_assert!(found.iter().any(|(.., rank)| *rank == 0));
            }
        }
    }
}
