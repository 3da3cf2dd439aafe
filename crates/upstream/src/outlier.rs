//! Passive outlier ejection: endpoints that answer worse than the others get no requests for a while.
//!
//! Names, defaults and the algorithm are Envoy's (`envoy.config.cluster.v3.OutlierDetection`): an endpoint is ejected
//! at once after so many server errors in a row, and at each sweep where its success rate is more than so many
//! standard deviations below the mean of all that were asked often enough, or where too large a share of its requests
//! failed, whatever the others do. It stays out for the base time multiplied
//! by how often it was ejected; each sweep that finds it in service takes one of these back. A cap bounds how many are
//! out at a time. Ended ejections are noticed by the sweep and by [`Detector::readmit`], whichever is sooner.
//!
//! A success costs one increment, and a store where an error went before it. What is beyond is behind the group's
//! lock and happens at ejections and sweeps only.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// When an endpoint is ejected and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierSettings {
    /// Answers of 500 to 599, and tries without an answer, in a row; 0 does not count them.
    pub consecutive_5xx: u32,
    /// Answers of 502, 503 and 504, and tries without an answer, in a row; 0 does not count them.
    pub consecutive_gateway_failure: u32,
    /// Between two sweeps.
    pub interval: Duration,
    /// How long the first ejection is.
    pub base_ejection_time: Duration,
    /// The longest that an ejection may be; never less than the base.
    pub max_ejection_time: Duration,
    /// The largest share of endpoints that may be out at a time, in percent; one may always be.
    pub max_ejection_percent: u8,
    /// Endpoints with enough requests in the last interval below which success rates are not compared; 0 never
    /// compares them.
    pub success_rate_minimum_hosts: u32,
    /// Requests in the last interval from which an endpoint's success rate counts.
    pub success_rate_request_volume: u32,
    /// How far below the mean is too far, in thousandths of a standard deviation.
    pub success_rate_stdev_factor: u32,
    /// The share of failures in the last interval, in percent, from which an endpoint is ejected; `None` does not look at
    /// it.
    pub failure_percentage_threshold: Option<u8>,
    /// Endpoints with enough requests in the last interval below which failure percentages are not looked at.
    pub failure_percentage_minimum_hosts: u32,
    /// Requests in the last interval from which an endpoint's failure percentage counts.
    pub failure_percentage_request_volume: u32,
}

impl Default for OutlierSettings {
    /// Envoy's. (Its threshold of 85 % is not enforced by default, so there is none here.)
    fn default() -> Self {
        OutlierSettings {
            consecutive_5xx: 5,
            consecutive_gateway_failure: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 10,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            failure_percentage_threshold: None,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
        }
    }
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EjectionCause {
    /// Too many server errors in a row.
    Consecutive5xx,
    /// Too many gateway errors in a row.
    ConsecutiveGatewayFailure,
    /// A success rate far below the others'.
    SuccessRate,
    /// Too large a share of failures.
    FailurePercentage,
}

impl EjectionCause {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EjectionCause::Consecutive5xx => "consecutive_5xx",
            EjectionCause::ConsecutiveGatewayFailure => "consecutive_gateway_failure",
            EjectionCause::SuccessRate => "success_rate",
            EjectionCause::FailurePercentage => "failure_percentage",
        }
    }
}

/// How one try ended, as far as outliers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    Success,
    /// A server error that no gateway makes, such as 500.
    ServerError,
    /// 502, 503, 504 or no answer.
    GatewayError,
}

/// One failure among the requests of an interval.
const FAILURE: u64 = 1 << 32;

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    /// Requests since the last sweep in the lower half, failures among them in the upper.
    interval: AtomicU64,
    /// When it may return, in milliseconds of the process's clock; 0 if it is not ejected.
    until: AtomicU64,
    /// By what the base time is multiplied next time, less one.
    times: AtomicU32,
}

impl Ejection {
    /// Counts a try; the cause where the endpoint should go.
    pub(crate) fn note(&self, sample: Sample, settings: &OutlierSettings) -> Option<EjectionCause> {
        if sample == Sample::Success {
            self.interval.fetch_add(1, Ordering::Relaxed);
            for run in [&self.errors, &self.gateway_errors] {
                if run.load(Ordering::Relaxed) != 0 {
                    run.store(0, Ordering::Relaxed);
                }
            }
            return None;
        }
        self.interval.fetch_add(FAILURE + 1, Ordering::Relaxed);
        let reaches = |run: &AtomicU32, limit: u32| {
            let run = run.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            limit > 0 && run >= limit
        };
        let gateway = if sample == Sample::GatewayError {
            reaches(&self.gateway_errors, settings.consecutive_gateway_failure)
        } else {
            self.gateway_errors.store(0, Ordering::Relaxed);
            false
        };
        let server = reaches(&self.errors, settings.consecutive_5xx);
        match (server, gateway) {
            (_, true) => Some(EjectionCause::ConsecutiveGatewayFailure),
            (true, false) => Some(EjectionCause::Consecutive5xx),
            (false, false) => None,
        }
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// When it may return, in milliseconds of the process's clock.
    pub(crate) fn until(&self) -> Option<u64> {
        Some(self.until.load(Ordering::Relaxed)).filter(|until| *until != 0)
    }

    /// In service again, with nothing held against it but how often it was out.
    pub(crate) fn end(&self) {
        self.until.store(0, Ordering::Relaxed);
        self.errors.store(0, Ordering::Relaxed);
        self.gateway_errors.store(0, Ordering::Relaxed);
    }
}

/// An endpoint that was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ejected {
    /// Which of those given.
    pub(crate) index: usize,
    pub(crate) cause: EjectionCause,
    pub(crate) time: Duration,
}

/// What decides about ejections of one upstream; one decision at a time, so that the cap holds.
#[derive(Debug, Default)]
pub(crate) struct Detector(Mutex<()>);

impl Detector {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ejects an endpoint unless it is out already or too many are; for how long.
    pub(crate) fn eject<'a>(
        &self,
        target: &Ejection,
        all: impl Iterator<Item = &'a Ejection>,
        settings: &OutlierSettings,
        now: u64,
    ) -> Option<Duration> {
        let _decision = self.lock();
        let (count, out) =
            all.fold((0usize, 0usize), |(count, out), one| (count + 1, out + usize::from(one.is_ejected())));
        let most = (count * usize::from(settings.max_ejection_percent.min(100)) / 100).max(1);
        if target.is_ejected() || out >= most {
            return None;
        }
        let base = settings.base_ejection_time;
        let longest = settings.max_ejection_time.max(base);
        let times = target.times.load(Ordering::Relaxed);
        let time = base.saturating_mul(times.saturating_add(1)).min(longest);
        if time < longest {
            target.times.store(times.saturating_add(1), Ordering::Relaxed);
        }
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        target.until.store(now.saturating_add(millis).max(1), Ordering::Relaxed);
        Some(time)
    }

    /// Returns those whose time is over; their indices.
    pub(crate) fn readmit(&self, all: &[&Ejection], now: u64) -> Vec<usize> {
        let _decision = self.lock();
        let over = |one: &Ejection| one.until().is_some_and(|until| until <= now);
        let returned = all.iter().enumerate().filter(|(_, one)| over(one)).map(|(index, one)| {
            one.end();
            index
        });
        returned.collect()
    }

    /// Takes the interval's counts, forgives those in service one ejection, and ejects those whose success rate is
    /// too far below the mean, or of whose requests too many failed. Call [`Detector::readmit`] before.
    pub(crate) fn sweep(&self, all: &[&Ejection], settings: &OutlierSettings, now: u64) -> Vec<Ejected> {
        let mut counted = Vec::new();
        for (index, one) in all.iter().enumerate() {
            let counts = one.interval.swap(0, Ordering::Relaxed);
            let (requests, failures) = (counts & (FAILURE - 1), counts / FAILURE);
            if one.is_ejected() {
                continue;
            }
            let times = one.times.load(Ordering::Relaxed);
            one.times.store(times.saturating_sub(1), Ordering::Relaxed);
            if requests > 0 {
                counted.push(Counted { index, requests, success_rate: success_rate(requests, failures) });
            }
        }
        let rates = [by_success_rate(&counted, settings), by_failure_percentage(&counted, settings)];
        let causes = [EjectionCause::SuccessRate, EjectionCause::FailurePercentage];
        let outliers = rates.into_iter().zip(causes).flat_map(|(least, cause)| {
            counted
                .iter()
                .filter(move |one| least.is_some_and(|least| least.is_above(one)))
                .map(move |one| (one.index, cause))
        });
        outliers
            .filter_map(|(index, cause)| {
                let time = self.eject(all.get(index)?, all.iter().copied(), settings, now)?;
                Some(Ejected { index, cause, time })
            })
            .collect()
    }
}

/// What an endpoint's interval came to.
#[derive(Clone, Copy, Debug)]
struct Counted {
    index: usize,
    requests: u64,
    /// In percent.
    success_rate: f64,
}

/// The least success rate, in percent, that endpoints with enough requests must have.
#[derive(Clone, Copy, Debug)]
struct Least {
    volume: u32,
    rate: f64,
    /// Whether that rate itself is too low.
    inclusive: bool,
}

impl Least {
    fn is_above(&self, one: &Counted) -> bool {
        let is_low = one.success_rate < self.rate || (self.inclusive && one.success_rate <= self.rate);
        is_low && one.requests >= u64::from(self.volume)
    }
}

/// What the others' success rates ask of each, where there are enough of them.
fn by_success_rate(counted: &[Counted], settings: &OutlierSettings) -> Option<Least> {
    let volume = settings.success_rate_request_volume;
    let enough = counted.iter().filter(|one| one.requests >= u64::from(volume));
    let rates = enough.map(|one| one.success_rate);
    let minimum = settings.success_rate_minimum_hosts as usize;
    (minimum > 0 && rates.clone().count() >= minimum).then(|| {
        let rate = least_rate(rates, settings.success_rate_stdev_factor);
        Least { volume, rate, inclusive: false }
    })
}

/// What the threshold of failures asks of each, where there is one and enough endpoints can be told.
fn by_failure_percentage(counted: &[Counted], settings: &OutlierSettings) -> Option<Least> {
    let volume = settings.failure_percentage_request_volume;
    let enough = counted.iter().filter(|one| one.requests >= u64::from(volume)).count();
    let threshold = settings.failure_percentage_threshold?;
    (enough >= settings.failure_percentage_minimum_hosts as usize).then(|| Least {
        volume,
        rate: 100.0 - f64::from(threshold),
        inclusive: true,
    })
}

/// In percent.
#[allow(clippy::cast_precision_loss, reason = "counts of one interval are far below 2^52")]
fn success_rate(requests: u64, failures: u64) -> f64 {
    100.0 * requests.saturating_sub(failures) as f64 / requests as f64
}

/// The mean less the factor's share of the standard deviation (of the population, as Envoy takes it).
#[allow(clippy::cast_precision_loss, reason = "a number of endpoints is far below 2^52")]
fn least_rate(rates: impl Iterator<Item = f64> + Clone, stdev_factor: u32) -> f64 {
    let count = rates.clone().count().max(1) as f64;
    let mean = rates.clone().sum::<f64>() / count;
    let variance = rates.map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - f64::from(stdev_factor) / 1000.0 * variance.sqrt()
}

#[cfg(test)]
mod tests;
