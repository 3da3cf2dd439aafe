//! The endpoints of an upstream at one moment.

use crate::balance::{Balancer, PeakEwma, Pick, StickyKey};
use crate::endpoint::Endpoint;
use crate::{Balance, EndpointSettings, SettingsError, TlsSettings};
use std::sync::Arc;

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
        Ok(Members { list: list.into(), balancer })
    }

    fn by_address(&self) -> std::collections::HashMap<Arc<str>, Arc<Endpoint>> {
        self.iter().map(|endpoint| (Arc::clone(&endpoint.address), Arc::clone(endpoint))).collect()
    }

    /// The endpoint for one try, if there is one that was not tried.
    pub(crate) fn choose(&self, pick: &Pick<'_>) -> Option<&Arc<Endpoint>> {
        let index = self.balancer.choose(&self.list, pick)?;
        self.list.get(index).map(|member| &member.endpoint)
    }

    /// All of them, in the order of configuration.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.list.iter().map(|member| &member.endpoint)
    }
}
