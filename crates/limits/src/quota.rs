//! The generic cell rate algorithm.

use std::fmt;
use std::time::Duration;

/// How much of something is allowed: a sustained rate and a burst above it, judged by the generic cell rate
/// algorithm (GCRA; ITU-T I.371 annex A, as virtual scheduling).
///
/// One number is kept per caller: the *theoretical arrival time* (TAT), when the next request would be due if
/// requests came evenly. With the emission interval `T = per / count` and the tolerance `tau = (burst - 1) * T`,
/// a request at time `t` is admitted if and only if `max(TAT, t) - t <= tau`; the TAT then becomes
/// `max(TAT, t) + T`. A refused request changes nothing. So in any interval of length `L`, however requests
/// arrive, at most `burst + L / T` pass, and a caller that waits `T` always has one more. There are no windows
/// and so no edges of windows to come twice at.
///
/// `T` is rounded up to whole nanoseconds: the limit errs by refusing.
///
/// ```
/// use portcullis_limits::Quota;
/// use std::time::Duration;
///
/// let quota = Quota::new(100, Duration::from_secs(60), 10).unwrap();
/// assert_eq!((quota.burst(), quota.interval()), (10, Duration::from_millis(600)));
/// assert!(Quota::new(0, Duration::from_secs(1), 1).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    interval: u64,
    burst: u64,
}

/// Why a rate and a burst make no quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// The count, the period or the burst is zero.
    Zero,
    /// More than one request per nanosecond.
    TooFast,
    /// The burst takes longer than ten years to be allowed again.
    TooSlow,
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            QuotaError::Zero => {
                "a limit's count, period and burst are at least 1: to refuse all, deny the route"
            }
            QuotaError::TooFast => {
                "a limit of more than one request per nanosecond limits nothing: lower the count"
            }
            QuotaError::TooSlow => {
                "the burst would take more than ten years to refill: lower it or the period"
            }
        })
    }
}

impl std::error::Error for QuotaError {}

/// Ten years in nanoseconds, so that no sum of times overflows.
const HORIZON: u64 = 10 * 366 * 86_400 * 1_000_000_000;

/// What a quota says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub admitted: bool,
    /// How many more could pass at once, after this one.
    pub remaining: u64,
    /// How long until the next could pass; zero while some remain.
    pub retry_after: Duration,
    /// How long until the whole burst is there again.
    pub reset_after: Duration,
}

impl Quota {
    /// `count` requests per `per` in the long run, at most `burst` of them at once.
    ///
    /// # Errors
    /// A [`QuotaError`] that says what to change.
    pub fn new(count: u64, per: Duration, burst: u64) -> Result<Self, QuotaError> {
        if count == 0 || per.is_zero() || burst == 0 {
            return Err(QuotaError::Zero);
        }
        let per = per.as_nanos();
        if u128::from(count) > per {
            return Err(QuotaError::TooFast);
        }
        let interval = u64::try_from(per.div_ceil(u128::from(count))).map_err(|_| QuotaError::TooSlow)?;
        match interval.checked_mul(burst) {
            Some(refill) if refill <= HORIZON => Ok(Quota { interval, burst }),
            _ => Err(QuotaError::TooSlow),
        }
    }

    /// How many may pass at once after a rest.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// The emission interval: one more may pass each time it is over.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// How long a spent burst takes to be there again: `burst * interval`.
    #[must_use]
    pub fn refill(&self) -> Duration {
        Duration::from_nanos(self.refill_nanos())
    }

    fn refill_nanos(&self) -> u64 {
        self.interval.saturating_mul(self.burst)
    }

    /// Judges a request at `now` whose caller's TAT is `tat` (both in a [`Clock`](crate::Clock)'s nanoseconds;
    /// an unknown caller's TAT is 0). With the decision comes the TAT to keep if the request is charged, or if
    /// it is less than `tat`, charged or not: then a slower quota of the same name wrote `tat`, before a reload.
    /// A store that keeps the number elsewhere calls this, or does the same where the number is.
    #[must_use]
    pub fn judge(&self, tat: u64, now: u64) -> (Decision, u64) {
        // No TAT that this quota wrote lies further ahead; one that a former, slower quota of the same name
        // wrote may, and would lock its caller out for longer than this quota can.
        let tat = tat.clamp(now, now.saturating_add(self.refill_nanos()));
        let tolerance = self.refill_nanos() - self.interval;
        let admitted = tat - now <= tolerance;
        let after = if admitted { tat.saturating_add(self.interval) } else { tat };
        let ahead = after - now;
        let remaining = (self.refill_nanos() - ahead.min(self.refill_nanos())) / self.interval;
        let decision = Decision {
            admitted,
            remaining,
            retry_after: Duration::from_nanos(ahead.saturating_sub(tolerance)),
            reset_after: Duration::from_nanos(ahead),
        };
        (decision, after)
    }
}
