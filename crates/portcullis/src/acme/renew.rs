//! When to order: at once where there is no certificate, in time before the one in use ends, and later each time that it
//! fails.

use super::advice::Advice;
use super::certificate::Issued;
use super::order::obtain;
use super::{Managed, Manager};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long one order may take in all.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// The longest pause between two attempts. Authorities limit failed validations by the hour.
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);
/// The longest sleep before the clock is looked at again: it may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// How soon after an order the authority may want another one: a mistake of its must not make it an order a second.
const ADVISED_PAUSE: Duration = Duration::from_secs(3600);

/// Looks after a certificate until it is told to stop.
pub(super) async fn look_after(managed: Arc<Managed>, manager: Arc<Manager>) {
    let domains = &managed.settings.domains;
    let mut random = fastrand::f64();
    let mut advice = Advice::UNASKED;
    let mut ordered: Option<SystemTime> = None;
    loop {
        if let Some(issued) = managed.current() {
            if advice.ask_at <= SystemTime::now() {
                advice = Advice::ask(&managed, &manager, &issued, random).await;
            }
            let (due, now) = (due(&issued, &advice, ordered, random), SystemTime::now());
            if due > now {
                let wait = due.min(advice.ask_at).duration_since(now).unwrap_or_default();
                tokio::time::sleep(wait.clamp(Duration::from_millis(1), LONGEST_SLEEP)).await;
                continue;
            }
        }
        // Another process may have been here.
        let before = managed.current().map(|issued| issued.not_after);
        managed.take_stored();
        if managed.current().map(|issued| issued.not_after) != before {
            managed.publish();
            advice = Advice::UNASKED;
            continue;
        }
        let outcome = tokio::time::timeout(PATIENCE, obtain(&managed, &manager)).await;
        let outcome = outcome.unwrap_or_else(|_| Err("it took longer than ten minutes".to_owned()));
        random = fastrand::f64();
        let outcome = outcome.and_then(|issued| {
            let due = issued.renew_at(random) <= SystemTime::now();
            managed.show(issued);
            managed.publish();
            // Asking again at once would bring another one like it, and another.
            if due {
                Err("what was issued has to be renewed already: is the clock right?".to_owned())
            } else {
                Ok(())
            }
        });
        match outcome {
            Ok(()) => {
                *managed.trouble() = super::Trouble::default();
                managed.metrics.succeeded.inc();
                (advice, ordered) = (Advice::UNASKED, Some(SystemTime::now()));
                tracing::info!(?domains, "a certificate was issued");
            }
            Err(error) => {
                managed.metrics.failed.inc();
                let failures = managed.failed(&error);
                let pause = pause(managed.settings.retry, failures, fastrand::f64());
                let kept = managed.current().is_some();
                tracing::error!(?domains, %error, failures, ?pause, kept, "no certificate was issued");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// When to renew a certificate: when its time has come, or when the authority wants it, if that is earlier.
fn due(issued: &Issued, advice: &Advice, ordered: Option<SystemTime>, random: f64) -> SystemTime {
    let advised = advice.renew_at.map(|at| ordered.map_or(at, |ordered| at.max(ordered + ADVISED_PAUSE)));
    let usual = issued.renew_at(random);
    advised.map_or(usual, |advised| usual.min(advised))
}

/// How long to wait after so many failures: twice as long each time, up to a bound, and up to a fifth more or less.
fn pause(first: Duration, failures: u32, random: f64) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(LONGEST_PAUSE).mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let first = Duration::from_secs(60);
        let minutes = |failures| pause(first, failures, 0.5).as_secs() / 60;
        assert_eq!([1, 2, 3, 4, 20, 40, u32::MAX].map(minutes), [1, 2, 4, 8, 360, 360, 360]);
        assert_eq!(pause(first, 1, 0.0), Duration::from_secs(48));
        assert_eq!(pause(first, 1, 1.0), Duration::from_secs(72));
    }
}
