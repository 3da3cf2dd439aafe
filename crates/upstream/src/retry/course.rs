//! The tries of one request: after each, whether there is another.

use super::RetryPolicy;
use super::policy::Done;
use crate::Outcome;
use portcullis_http::{RequestHead, UpstreamFailure};
use std::time::Duration;

/// Why a request that could have been tried again was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It had all its tries.
    Attempts,
    /// The upstream's budget is spent.
    Budget,
    /// Its time would have been over.
    Deadline,
    /// The upstream asked for a longer wait (`Retry-After`) than is waited.
    RetryAfter,
    /// Nobody vouches that it may be done twice.
    Method,
}

impl Denied {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Denied::Attempts => "attempts",
            Denied::Budget => "budget",
            Denied::Deadline => "deadline",
            Denied::RetryAfter => "retry_after",
            Denied::Method => "method",
        }
    }
}

/// What is known when a try has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// The connection had served before and ended without a byte of an answer: most likely it was closed while idle.
    pub(crate) stale: bool,
    /// Whether there is an endpoint that was not tried.
    pub(crate) others: bool,
    /// What is left until the request's deadline.
    pub(crate) left: Option<Duration>,
    /// What the answer's `Retry-After` asks for.
    pub(crate) retry_after: Option<Duration>,
}

/// What follows a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its outcome counts. `Some` where it could have been tried again but for this.
    Over(Option<Denied>),
    /// It is tried again after this time, where there is one at an endpoint that was not tried.
    Again(Duration),
}

/// The course of one request.
#[derive(Debug)]
pub(crate) struct Course<'p> {
    policy: &'p RetryPolicy,
    may_repeat: bool,
    is_idempotent: bool,
    /// Tries so far that have ended.
    tries: u32,
    /// Repetitions of what an endpoint may have seen.
    repetitions: u32,
}

impl<'p> Course<'p> {
    pub(crate) fn new(policy: &'p RetryPolicy, head: &RequestHead) -> Self {
        Course {
            policy,
            may_repeat: policy.may_repeat(head),
            is_idempotent: head.method.is_idempotent() && head.upgrade.is_none(),
            tries: 0,
            repetitions: 0,
        }
    }

    /// The course of a request of which so many tries are made or under way; only the last is judged.
    pub(crate) fn after(policy: &'p RetryPolicy, head: &RequestHead, made: usize) -> Self {
        let before = u32::try_from(made).unwrap_or(u32::MAX).saturating_sub(1);
        Course { tries: before, repetitions: before, ..Course::new(policy, head) }
    }

    /// Judges a try that has ended. `chance` is a number from 0 to 1 for the jitter; `withdraw` takes one repetition from
    /// the budget, and is asked last.
    pub(crate) fn judge(&mut self, facts: Facts, chance: f64, withdraw: impl FnOnce() -> bool) -> Verdict {
        self.tries += 1;
        let Facts { outcome, stale, others, left, retry_after } = facts;
        // Whatever the policy says: the server has closed an idle connection, as it may at any time (RFC 9110 §9.2.2,
        // RFC 9112 §9.3.1). Once: the next connection is a new one.
        let is_race = stale
            && outcome == Outcome::Failed(UpstreamFailure::Closed)
            && self.is_idempotent
            && self.repetitions == 0;
        let done = match self.policy.reading(&outcome) {
            Some(done) => done,
            None if is_race => Done::Maybe,
            None => return Verdict::Over(None),
        };
        // To ask again what cannot be connected to is of no use.
        if done == Done::Unsent && !others {
            return Verdict::Over(None);
        }
        if done == Done::Maybe && !self.may_repeat {
            return Verdict::Over(Some(Denied::Method));
        }
        if self.tries >= self.policy.attempts {
            return Verdict::Over(Some(Denied::Attempts));
        }
        if retry_after.is_some_and(|asked| asked > self.policy.retry_after_max) {
            return Verdict::Over(Some(Denied::RetryAfter));
        }
        let jitter = if done == Done::Unsent || is_race {
            Duration::ZERO
        } else {
            self.policy.backoff.wait(self.repetitions + 1, chance)
        };
        let wait = jitter.max(retry_after.unwrap_or_default());
        if left.is_some_and(|left| left <= wait) {
            return Verdict::Over(Some(Denied::Deadline));
        }
        if done != Done::Unsent {
            if !withdraw() {
                return Verdict::Over(Some(Denied::Budget));
            }
            self.repetitions += 1;
        }
        Verdict::Again(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::{Backoff, Conditions, RetryOn};
    use portcullis_http::{Method, Version};
    use proptest::prelude::*;

    const ALL: [RetryOn; 6] = [
        RetryOn::ConnectFailure,
        RetryOn::RefusedStream,
        RetryOn::Reset,
        RetryOn::GatewayError,
        RetryOn::ServerError,
        RetryOn::Timeout,
    ];

    fn all() -> RetryPolicy {
        RetryPolicy { on: Conditions::from_iter(ALL), ..RetryPolicy::default() }
    }

    fn head(method: &str) -> RequestHead {
        let mut head = RequestHead::default();
        head.set_line(method.as_bytes(), b"/", Version::Http11);
        head
    }

    fn facts(outcome: Outcome) -> Facts {
        Facts { outcome, stale: false, others: true, left: None, retry_after: None }
    }

    const CLOSED: Outcome = Outcome::Failed(UpstreamFailure::Closed);
    const REFUSED: Outcome = Outcome::Failed(UpstreamFailure::Refused);
    const UNREACHABLE: Outcome = Outcome::Unreachable(UpstreamFailure::Connect);

    /// What follows one try of a request with this method.
    fn after(policy: &RetryPolicy, method: &str, facts: Facts) -> Verdict {
        Course::new(policy, &head(method)).judge(facts, 1.0, || true)
    }

    fn is_again(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Again(_))
    }

    #[test]
    fn what_may_have_been_done_is_repeated_only_where_that_is_as_good() {
        // RFC 9110 §9.2.2.
        for (method, idempotent) in [
            ("GET", true),
            ("HEAD", true),
            ("PUT", true),
            ("DELETE", true),
            ("OPTIONS", true),
            ("POST", false),
            ("PATCH", false),
            ("BREW", false),
            ("get", false),
        ] {
            for outcome in [
                CLOSED,
                Outcome::Failed(UpstreamFailure::Protocol),
                Outcome::Failed(UpstreamFailure::ResponseTimeout),
                Outcome::Failed(UpstreamFailure::TryTimeout),
                Outcome::Answered { status: 503 },
                Outcome::Answered { status: 500 },
            ] {
                let verdict = after(&all(), method, facts(outcome));
                assert_eq!(is_again(verdict), idempotent, "{method} {outcome:?}");
                if !idempotent {
                    assert_eq!(verdict, Verdict::Over(Some(Denied::Method)));
                }
            }
            for outcome in [UNREACHABLE, REFUSED, Outcome::Unreachable(UpstreamFailure::Tls)] {
                assert!(
                    is_again(after(&RetryPolicy::default(), method, facts(outcome))),
                    "{method} {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn who_vouches_for_a_method_has_it_repeated() {
        let policy = RetryPolicy { methods: vec![Method::Post], ..all() };
        assert!(is_again(after(&policy, "POST", facts(CLOSED))));
        assert!(!is_again(after(&policy, "PATCH", facts(CLOSED))));
        let keyed = RetryPolicy { idempotency_key: true, ..all() };
        let mut request = head("POST");
        assert!(!is_again(Course::new(&keyed, &request).judge(facts(CLOSED), 0.0, || true)));
        request.fields.append("idempotency-key", "\"8e03978e\"").unwrap();
        assert!(is_again(Course::new(&keyed, &request).judge(facts(CLOSED), 0.0, || true)));
        assert!(!is_again(Course::new(&all(), &request).judge(facts(CLOSED), 0.0, || true)));
    }

    #[test]
    fn by_default_only_what_was_not_done() {
        for outcome in
            [CLOSED, Outcome::Answered { status: 503 }, Outcome::Failed(UpstreamFailure::ResponseTimeout)]
        {
            assert_eq!(after(&RetryPolicy::default(), "GET", facts(outcome)), Verdict::Over(None));
        }
        // But for an idle connection that was closed.
        let stale = Facts { stale: true, ..facts(CLOSED) };
        assert_eq!(after(&RetryPolicy::default(), "GET", stale), Verdict::Again(Duration::ZERO));
        assert_eq!(after(&RetryPolicy::default(), "POST", stale), Verdict::Over(None));
        let policy = RetryPolicy::default();
        let request = head("GET");
        let mut course = Course::new(&policy, &request);
        assert!(is_again(course.judge(stale, 0.0, || true)));
        assert_eq!(course.judge(stale, 0.0, || true), Verdict::Over(None), "once");
        let single = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        assert_eq!(after(&single, "GET", stale), Verdict::Over(Some(Denied::Attempts)));
    }

    #[test]
    fn what_cannot_be_connected_to_costs_nothing_and_is_not_asked_again() {
        let policy = all();
        let request = head("POST");
        let mut course = Course::new(&policy, &request);
        let free = || panic!("nothing is withdrawn for it");
        assert_eq!(course.judge(facts(UNREACHABLE), 1.0, free), Verdict::Again(Duration::ZERO));
        assert_eq!(course.judge(facts(UNREACHABLE), 1.0, free), Verdict::Again(Duration::ZERO));
        assert_eq!(course.judge(facts(UNREACHABLE), 1.0, free), Verdict::Over(Some(Denied::Attempts)));
        let alone = Facts { others: false, ..facts(UNREACHABLE) };
        assert_eq!(after(&policy, "GET", alone), Verdict::Over(None));
        for ours in [UpstreamFailure::NoEndpoint, UpstreamFailure::Exhausted] {
            assert_eq!(after(&policy, "GET", facts(Outcome::Unreachable(ours))), Verdict::Over(None));
        }
    }

    #[test]
    fn the_budget_is_asked_last() {
        let never = || panic!("it was over before");
        let policy = all();
        let request = head("GET");
        let course = || Course::new(&policy, &request);
        let late = Facts { left: Some(Duration::from_millis(20)), ..facts(CLOSED) };
        assert_eq!(course().judge(late, 1.0, never), Verdict::Over(Some(Denied::Deadline)));
        let patient = Facts { retry_after: Some(Duration::from_secs(120)), ..facts(CLOSED) };
        assert_eq!(course().judge(patient, 1.0, never), Verdict::Over(Some(Denied::RetryAfter)));
        assert_eq!(course().judge(facts(CLOSED), 1.0, || false), Verdict::Over(Some(Denied::Budget)));
    }

    #[test]
    fn waits_grow_and_retry_after_is_the_least_of_them() {
        let policy = RetryPolicy { attempts: 4, backoff: Backoff::default(), ..all() };
        let request = head("GET");
        let mut course = Course::new(&policy, &request);
        let millis = |verdict| match verdict {
            Verdict::Again(wait) => wait.as_millis(),
            Verdict::Over(why) => panic!("{why:?}"),
        };
        assert_eq!(millis(course.judge(facts(CLOSED), 1.0, || true)), 25);
        assert_eq!(millis(course.judge(facts(CLOSED), 1.0, || true)), 50);
        let asked =
            Facts { retry_after: Some(Duration::from_secs(1)), ..facts(Outcome::Answered { status: 503 }) };
        assert_eq!(millis(course.judge(asked, 1.0, || true)), 1000);
    }

    #[test]
    fn statuses() {
        let policy = |on: &[RetryOn], status_codes: &[u16]| RetryPolicy {
            on: on.iter().copied().collect(),
            status_codes: status_codes.to_vec(),
            ..RetryPolicy::default()
        };
        for (policy, refused) in [
            (policy(&[RetryOn::GatewayError], &[]), &[502, 503, 504][..]),
            (policy(&[RetryOn::ServerError], &[]), &[500, 501, 502, 503, 504, 599]),
            (policy(&[], &[409, 503]), &[409, 503]),
            (policy(&[RetryOn::Reset], &[]), &[]),
        ] {
            for status in [200, 404, 409, 429, 500, 501, 502, 503, 504, 599, 600] {
                assert_eq!(policy.refuses(status), refused.contains(&status), "{policy:?} {status}");
            }
        }
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            (100u16..600).prop_map(|status| Outcome::Answered { status }),
            Just(CLOSED),
            Just(REFUSED),
            Just(UNREACHABLE),
            Just(Outcome::Failed(UpstreamFailure::Protocol)),
            Just(Outcome::Failed(UpstreamFailure::TryTimeout)),
            Just(Outcome::Failed(UpstreamFailure::TooLarge)),
            Just(Outcome::Cancelled),
        ]
    }

    proptest! {
        /// Whatever happens and whatever is configured: no more tries than allowed, each wait within the deadline, and a
        /// request that is not idempotent goes on only from tries of which nothing was done.
        #[test]
        fn no_course_goes_too_far(
            attempts in 1u32..6,
            set in 0usize..64,
            method in prop_oneof![Just("GET"), Just("POST"), Just("DELETE"), Just("PATCH")],
            steps in proptest::collection::vec(
                (any_outcome(), any::<bool>(), any::<bool>(), 0u64..2_000, proptest::option::of(0u64..3_000), any::<bool>()),
                1..12,
            ),
        ) {
            let on = ALL.into_iter().enumerate().filter(|(at, _)| set & (1 << at) != 0).map(|(_, on)| on);
            let policy = RetryPolicy { attempts, on: on.collect(), ..RetryPolicy::default() };
            let request = head(method);
            let mut course = Course::new(&policy, &request);
            for (count, (outcome, stale, others, left, retry_after, budget)) in (1..).zip(steps) {
                let facts = Facts {
                    outcome,
                    stale,
                    others,
                    left: Some(Duration::from_millis(left)),
                    retry_after: retry_after.map(Duration::from_millis),
                };
                let Verdict::Again(wait) = course.judge(facts, 0.7, || budget) else { break };
                prop_assert!(count < attempts);
                prop_assert!(wait < Duration::from_millis(left));
                prop_assert!(wait <= policy.retry_after_max.max(policy.backoff.max));
                let untouched = matches!(outcome, Outcome::Unreachable(_)) || outcome == REFUSED;
                prop_assert!(untouched || request.method.is_idempotent());
                prop_assert!(budget || matches!(outcome, Outcome::Unreachable(_)));
                prop_assert!(others || !matches!(outcome, Outcome::Unreachable(_)));
            }
        }
    }
}
