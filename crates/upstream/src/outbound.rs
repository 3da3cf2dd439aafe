//! One request on its way out: what is sent, and the tries that it takes.

use crate::StickyToken;
use crate::balance::Pick;
use crate::retry::Denied;
use portcullis_http::{RequestHead, ResponseHead, UpstreamFailure};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The head of an answer came.
    Answered {
        /// Its status.
        status: u16,
    },
    /// No connection was to be had, so that nothing was sent.
    Unreachable(UpstreamFailure),
    /// The request was sent, or begun, and no answer came.
    Failed(UpstreamFailure),
    /// Nobody waited any more.
    Cancelled,
}

impl Outcome {
    /// What another try was made for, as logs and metrics name it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Outcome::Answered { status: 502..=504 } => "gateway-error",
            Outcome::Answered { status: 500..=599 } => "5xx",
            Outcome::Answered { .. } => "status",
            Outcome::Unreachable(failure) | Outcome::Failed(failure) => failure.as_str(),
            Outcome::Cancelled => "cancelled",
        }
    }

    pub(crate) fn of(result: &Result<(), UpstreamFailure>, answer: &ResponseHead) -> Self {
        match result {
            Ok(()) => Outcome::Answered { status: answer.status },
            Err(failure) => Outcome::Failed(*failure),
        }
    }
}

/// One try.
#[derive(Clone, Debug)]
pub struct Try {
    /// Host and port of the endpoint.
    pub endpoint: Arc<str>,
    /// How it ended; `None` while it is under way, or when nobody waited for its end.
    pub outcome: Option<Outcome>,
    /// From the choice of the endpoint to the head of the answer, or the failure.
    pub duration: Duration,
    /// Whether it was made while another try was under way.
    pub hedge: bool,
    began: Instant,
}

/// The tries of one request, in their order. It is filled as they happen: of a call that is dropped, it tells how far
/// that had come.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    tries: SmallVec<[Try; 1]>,
    /// Why there was no further try, where there could have been one.
    pub(crate) denied: Option<Denied>,
}

impl Trail {
    /// The tries.
    #[must_use]
    pub fn tries(&self) -> &[Try] {
        &self.tries
    }

    /// The endpoint whose outcome counts: that of the last try which was not given up for another.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.counting().map(|one| &*one.endpoint)
    }

    /// Whether the outcome that counts is that of a try that was made while another was under way.
    #[must_use]
    pub fn is_hedged(&self) -> bool {
        self.counting().is_some_and(|one| one.hedge)
    }

    fn counting(&self) -> Option<&Try> {
        let given_up = |one: &&Try| one.outcome == Some(Outcome::Cancelled);
        self.tries.iter().rev().find(|one| !given_up(one)).or(self.tries.last())
    }

    /// Why the last try was not followed by another, where it could have been.
    #[must_use]
    pub fn denied(&self) -> Option<Denied> {
        self.denied
    }

    /// Begins a try; its place.
    pub(crate) fn begin(&mut self, endpoint: &Arc<str>, began: Instant, hedge: bool) -> usize {
        let endpoint = Arc::clone(endpoint);
        self.tries.push(Try { endpoint, outcome: None, duration: Duration::ZERO, hedge, began });
        self.tries.len() - 1
    }

    /// Ends the try under way with what came of waiting for the head of the answer.
    pub fn note(&mut self, result: &Result<(), UpstreamFailure>, answer: &ResponseHead) {
        self.end(self.tries.len().saturating_sub(1), Outcome::of(result, answer));
    }

    /// Ends the try at this place.
    pub(crate) fn end(&mut self, at: usize, outcome: Outcome) {
        if let Some(one) = self.tries.get(at) {
            self.end_after(at, outcome, one.began.elapsed());
        }
    }

    /// Ends the try at this place, which took so long.
    pub(crate) fn end_after(&mut self, at: usize, outcome: Outcome, took: Duration) {
        if let Some(one) = self.tries.get_mut(at) {
            (one.duration, one.outcome) = (took, Some(outcome));
        }
    }

    /// From the first choice of an endpoint to the end of the last try, or to now where that has not ended.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let (Some(first), Some(last)) = (self.tries.first(), self.tries.last()) else {
            return Duration::ZERO;
        };
        match last.outcome {
            Some(_) => last.began.duration_since(first.began) + last.duration,
            None => first.began.elapsed(),
        }
    }
}

/// When a request's time is over, and in which fields the endpoint is told how much of it is left.
#[derive(Clone, Copy, Debug)]
pub struct Deadline<'a> {
    /// When it is over.
    pub at: Instant,
    /// The field that says it in milliseconds.
    pub field: Option<&'a str>,
    /// Whether `grpc-timeout` says it.
    pub grpc: bool,
    /// Whether the caller named it. That an endpoint cannot keep it (504, `DEADLINE_EXCEEDED`) says nothing of the endpoint
    /// then.
    pub callers: bool,
}

/// One request to be sent, and what its endpoint is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// Its head, as it stands.
    pub head: &'a RequestHead,
    /// Where the balance is by hash: requests with the same one go to the same endpoint ([`hash_key`](crate::hash_key)).
    /// Without it, to any.
    pub hash: Option<u64>,
    /// Names the endpoint that the client was sent to before. Where there is no such endpoint any more, or it is not
    /// available, another is chosen.
    pub sticky: Option<StickyToken>,
    /// When its time is over. Nothing is cut off by it: whoever sends the request does that; but what could not be done
    /// in time is not begun.
    pub deadline: Option<Deadline<'a>>,
}

impl<'a> Outbound<'a> {
    /// A request that any endpoint may answer.
    #[must_use]
    pub fn new(head: &'a RequestHead) -> Self {
        Outbound { head, hash: None, sticky: None, deadline: None }
    }

    /// What an endpoint for it is chosen by, beside those that were tried.
    pub(crate) fn pick<'t>(&self, tried: &'t [u64]) -> Pick<'t> {
        Pick { tried, hash: self.hash, sticky: self.sticky, ..Pick::default() }
    }

    /// What is left of its time.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.at.saturating_duration_since(Instant::now()))
    }

    /// The head as an endpoint gets it now: it is told how much time is left for it.
    pub(crate) fn told(&self) -> Cow<'a, RequestHead> {
        let told = self.deadline.filter(|deadline| deadline.grpc || deadline.field.is_some());
        let (Some(deadline), Some(left)) = (told, self.left()) else { return Cow::Borrowed(self.head) };
        let mut head = self.head.clone();
        // At least one, since nothing would be no deadline to some.
        let millis = left.as_millis().max(1);
        if let Some(field) = deadline.field {
            write(&mut head, field, &millis.to_string());
        }
        if deadline.grpc {
            // At most eight digits; in seconds, that is three years.
            let value = if millis < 100_000_000 {
                format!("{millis}m")
            } else {
                format!("{}S", left.as_secs().min(99_999_999))
            };
            write(&mut head, "grpc-timeout", &value);
        }
        Cow::Owned(head)
    }
}

/// Sets a field that the configuration names, which is why it is one.
fn write(head: &mut RequestHead, name: &str, value: &str) {
    head.fields.remove(name);
    head.fields.append_parsed(name.as_bytes(), value.as_bytes());
}
