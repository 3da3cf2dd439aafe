//! Prometheus' vectors, with the number of labels in their type: a lookup cannot name too few or too many,
//! which is the only way in which the library's own lookup fails.

use crate::catalogue::{DURATION_BUCKETS, Family};
use crate::label::{CAP, OTHER};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    Result,
};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

macro_rules! family {
    ($(#[$doc:meta])* $name:ident($vec:ty) of $metric:ty, $opts:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub(crate) struct $name<const N: usize>($vec);

        impl<const N: usize> $name<N> {
            pub(crate) fn register(registry: &Registry, family: &Family<N>) -> Result<Self> {
                let opts = $opts;
                let vec = <$vec>::new(opts(family.name, family.help), &family.labels)?;
                registry.register(Box::new(vec.clone()))?;
                Ok($name(vec))
            }

            pub(crate) fn with(&self, values: [&str; N]) -> $metric {
                self.0.with_label_values(&values)
            }
        }
    };
}

family! {
    /// Counters of one name.
    Counters(IntCounterVec) of IntCounter, |name, help| Opts::new(name, help)
}
family! {
    /// Gauges of one name.
    Gauges(IntGaugeVec) of IntGauge, |name, help| Opts::new(name, help)
}
family! {
    /// Duration histograms of one name.
    Histograms(HistogramVec) of Histogram,
    |name, help| HistogramOpts::new(name, help).buckets(DURATION_BUCKETS.to_vec())
}

impl<const N: usize> Gauges<N> {
    /// Forgets all series.
    pub(crate) fn reset(&self) {
        self.0.reset();
    }
}

/// The one counter of a family without labels.
pub(crate) fn counter(registry: &Registry, family: &Family<0>) -> Result<IntCounter> {
    let counter = IntCounter::new(family.name, family.help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

/// The one gauge of a family without labels.
pub(crate) fn gauge(registry: &Registry, family: &Family<0>) -> Result<IntGauge> {
    let gauge = IntGauge::new(family.name, family.help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// Brings a counter up to a total that is kept elsewhere.
pub(crate) fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Counters that are looked up by a small key while requests run, because the event names them: a read lock
/// and one hash of a few bytes, and the label text is made once for each key. Beyond the cap all keys share
/// the counter whose labels are all `other`.
pub(crate) struct Keyed<K, const N: usize> {
    family: Counters<N>,
    known: RwLock<HashMap<K, IntCounter>>,
}

impl<K: Hash + Eq, const N: usize> Keyed<K, N> {
    pub(crate) fn new(family: Counters<N>) -> Self {
        Keyed { family, known: RwLock::new(HashMap::new()) }
    }

    pub(crate) fn add(&self, key: K, by: u64, make: impl FnOnce(&Counters<N>) -> IntCounter) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = known.get(&key) {
            counter.inc_by(by);
            return;
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CAP && !known.contains_key(&key) {
            drop(known);
            self.family.with([OTHER; N]).inc_by(by);
            return;
        }
        known.entry(key).or_insert_with(|| make(&self.family)).inc_by(by);
    }
}
