//! The endpoints of an upstream at one moment.

use crate::balance::{Balancer, PeakEwma, Pick, StickyKey, Tally, WHOLE};
use crate::condition;
use crate::endpoint::Endpoint;
use crate::{Balance, EndpointSettings, SettingsError, TlsSettings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an upstream says of all its endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) upstream: &'a str,
    pub(crate) balance: Balance,
    pub(crate) tls: Option<&'a TlsSettings>,
    pub(crate) sticky: Option<&'a StickyKey>,
}

/// One endpoint and what this upstream makes of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    /// At least 1.
    pub(crate) weight: u32,
    /// The lowest number comes first.
    pub(crate) priority: u32,
}

/// The endpoints of an upstream, and what choosing among them takes. Immutable: discovery puts another in its place.
#[derive(Debug)]
pub(crate) struct Members {
    list: Box<[Member]>,
    balancer: Balancer,
    /// Whether too few are healthy, and after how many changes of health that was so.
    panic: AtomicU64,
}

impl Members {
    /// Makes the members of an upstream; endpoints that `previous` has keep their state.
    ///
    /// # Errors
    /// An address that stands twice, or a host that can prove no name.
    pub(crate) fn new(
        terms: Terms<'_>,
        wanted: &[EndpointSettings],
        previous: Option<&Members>,
    ) -> Result<Self, SettingsError> {
        let Terms { upstream, balance, tls, sticky } = terms;
        let mut list: Vec<Member> = Vec::with_capacity(wanted.len());
        let mut known = previous.map(Members::by_address).unwrap_or_default();
        let mut seen = std::collections::HashSet::with_capacity(wanted.len());
        for settings in wanted {
            let address = settings.address();
            if !seen.insert(address.clone()) {
                return Err(SettingsError::DuplicateEndpoint { upstream: upstream.to_owned(), address });
            }
            let endpoint = match known.remove(&*address) {
                Some(endpoint) => endpoint,
                None => {
                    let proof = tls.map(|tls| tls.server_name(upstream, &settings.host)).transpose()?;
                    Arc::new(Endpoint::new(settings, proof))
                }
            };
            if balance == Balance::PeakEwma {
                endpoint.latency.get_or_init(PeakEwma::default);
            }
            list.push(Member { endpoint, weight: settings.weight.max(1), priority: settings.priority });
        }
        let balancer = Balancer::new(balance, &list, upstream, sticky);
        Ok(Members { list: list.into(), balancer, panic: AtomicU64::new(0) })
    }

    fn by_address(&self) -> std::collections::HashMap<Arc<str>, Arc<Endpoint>> {
        self.iter().map(|endpoint| (Arc::clone(&endpoint.address), Arc::clone(endpoint))).collect()
    }

    /// The endpoint for one try, if there is one that was not tried.
    pub(crate) fn choose(&self, pick: &Pick<'_>) -> Option<&Arc<Endpoint>> {
        let index = self.balancer.choose(&self.list, pick)?;
        self.list.get(index).map(|member| &member.endpoint)
    }

    /// Whether less than so many percent are healthy, and whether that is news. Counted anew only after a change.
    pub(crate) fn panics(&self, threshold: u8) -> (bool, bool) {
        let (seen, changes) = (self.panic.load(Ordering::Relaxed), condition::changes());
        if seen >> 1 == changes {
            return (seen & 1 == 1, false);
        }
        let panics = self.is_panicking(threshold);
        let before = self.panic.swap(changes << 1 | u64::from(panics), Ordering::Relaxed);
        (panics, (before & 1 == 1) != panics)
    }

    /// Whether less than so many percent are healthy. As in Envoy there is no panic as long as the levels of priority
    /// together can take all requests, however few are healthy in one of them.
    pub(crate) fn is_panicking(&self, threshold: u8) -> bool {
        let mut levels: BTreeMap<u32, Tally> = BTreeMap::new();
        for member in &self.list {
            let level = levels.entry(member.priority).or_default();
            level.total += 1;
            level.available += u64::from(member.endpoint.condition.is_healthy());
        }
        let capacity: u64 = levels.values().map(|level| u64::from(level.capacity())).sum();
        let healthy: u64 = levels.values().map(|level| level.available).sum();
        capacity < u64::from(WHOLE) && healthy * 100 < u64::from(threshold) * self.list.len() as u64
    }

    /// All of them, in the order of configuration.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.list.iter().map(|member| &member.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(priorities: &[u32]) -> Members {
        let endpoint = |(port, priority): (u16, &u32)| EndpointSettings {
            priority: *priority,
            ..EndpointSettings::new("127.0.0.1", port)
        };
        let wanted: Vec<EndpointSettings> = (1..).zip(priorities).map(endpoint).collect();
        let terms = Terms { upstream: "test", balance: Balance::RoundRobin, tls: None, sticky: None };
        Members::new(terms, &wanted, None).unwrap()
    }

    fn eject(members: &Members, count: usize) {
        members.iter().take(count).for_each(|endpoint| endpoint.condition.ejected());
    }

    #[test]
    fn a_panic_is_less_than_the_threshold() {
        let four = members(&[0; 4]);
        for (out, panics) in [(1, false), (2, false), (3, true), (4, true)] {
            eject(&four, out);
            assert_eq!(four.is_panicking(50), panics, "{out} of four are out");
            assert!(!four.is_panicking(0), "never");
        }
    }

    #[test]
    fn levels_that_can_take_all_are_no_panic_however_few_are_healthy() {
        // The four of the first level are out; 3 of 4 of the second can take all (1.4 times 75 %), 2 of 4 cannot.
        let two_levels = members(&[0, 0, 0, 0, 1, 1, 1, 1]);
        eject(&two_levels, 5);
        assert!(!two_levels.is_panicking(50), "three of eight are healthy, and that is enough");
        eject(&two_levels, 6);
        assert!(two_levels.is_panicking(50));
    }
}
