//! How endpoints are learnt.

use crate::catalogue as c;
use crate::family::{Counters, Gauges};
use prometheus::{IntCounter, IntGauge, Registry, Result};

/// The families of discovery.
#[derive(Clone)]
pub(crate) struct DiscoveryFamilies {
    endpoints: Gauges<1>,
    success: Gauges<1>,
    lookups: Counters<2>,
    forbidden: Counters<1>,
}

/// The discovery of one upstream's endpoints.
#[derive(Clone, Debug)]
pub struct DiscoveryMetrics {
    /// Endpoints that are known.
    pub endpoints: IntGauge,
    /// When the source last gave a good answer, in seconds since 1970.
    pub last_success: IntGauge,
    /// Good answers.
    pub ok: IntCounter,
    /// Answers that there is nothing.
    pub empty: IntCounter,
    /// No answers.
    pub failed: IntCounter,
    /// Addresses that may not be connected to.
    pub forbidden: IntCounter,
}

impl DiscoveryFamilies {
    pub(crate) fn register(registry: &Registry) -> Result<Self> {
        Ok(DiscoveryFamilies {
            endpoints: Gauges::register(registry, &c::DISCOVERY_ENDPOINTS)?,
            success: Gauges::register(registry, &c::DISCOVERY_LAST_SUCCESS_TIMESTAMP)?,
            lookups: Counters::register(registry, &c::DISCOVERY_LOOKUPS)?,
            forbidden: Counters::register(registry, &c::DISCOVERY_FORBIDDEN_ADDRESSES)?,
        })
    }

    /// The handle of the upstream that this label stands for.
    pub(crate) fn of(&self, upstream: &str) -> DiscoveryMetrics {
        DiscoveryMetrics {
            endpoints: self.endpoints.with([upstream]),
            last_success: self.success.with([upstream]),
            ok: self.lookups.with([upstream, "success"]),
            empty: self.lookups.with([upstream, "empty"]),
            failed: self.lookups.with([upstream, "failure"]),
            forbidden: self.forbidden.with([upstream]),
        }
    }
}
