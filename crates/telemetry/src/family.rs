//! Prometheus' vectors, with the number of labels in their type: a lookup cannot name too few or too many,
//! which is the only way in which the library's own lookup fails.

use crate::catalogue::{DURATION_BUCKETS, Family};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    Result,
};

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
