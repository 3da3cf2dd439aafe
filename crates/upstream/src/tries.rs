//! The tries that a request takes.

use crate::caps::Taken;
use crate::endpoint::Endpoint;
use crate::lease::{Lease, Outgoing};
use crate::outbound::{Outbound, Outcome, Trail, Try};
use crate::retry::{Course, Facts, Hedge, Verdict};
use crate::supervision::Admission;
use crate::{Upstream, connection};
use bytes::Bytes;
use portcullis_http::{Framing, ResponseHead, UpstreamFailure};
use smallvec::SmallVec;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::{sleep, timeout};

/// Ids of the endpoints that were tried.
type Tried = SmallVec<[u64; 4]>;

/// A request, whole.
#[derive(Clone, Copy)]
struct Request<'a> {
    outbound: &'a Outbound<'a>,
    body: Option<&'a Bytes>,
    framing: Framing,
}

/// A try that has ended. Its answer's head stands where the caller wanted it.
struct Attempt {
    /// The exchange, where there was a connection.
    lease: Option<Lease>,
    outcome: Outcome,
    /// The connection had served before and ended without a byte of an answer.
    stale: bool,
    took: Duration,
}

impl Attempt {
    /// What the caller gets of it.
    fn result(self) -> Result<Lease, UpstreamFailure> {
        match (self.outcome, self.lease) {
            (Outcome::Answered { .. }, Some(lease)) => Ok(lease),
            (Outcome::Unreachable(failure) | Outcome::Failed(failure), _) => Err(failure),
            (Outcome::Answered { .. } | Outcome::Cancelled, _) => Err(UpstreamFailure::Closed),
        }
    }

    /// Makes room for another try: it counts under no cap any more, and what failed is given up whole. An answer is kept,
    /// for when there is no other.
    fn make_room(&mut self) {
        if let (Outcome::Answered { .. }, Some(lease)) = (self.outcome, &mut self.lease) {
            lease.leave();
        } else if let Some(lease) = self.lease.take()
            && self.stale
        {
            lease.abandon();
        }
    }

    /// Gives up what it was, for another try.
    fn abandon(mut self) {
        self.make_room();
        if let Some(lease) = self.lease {
            lease.discard();
        }
    }
}

/// What a request was tried at.
#[derive(Default)]
struct Asked {
    all: Tried,
    /// Those of them to which no connection could be made: they are not asked again.
    unreachable: Tried,
}

impl Asked {
    fn note(&mut self, endpoint: &Endpoint, outcome: Outcome) {
        if !self.all.contains(&endpoint.id) {
            self.all.push(endpoint.id);
        }
        if matches!(outcome, Outcome::Unreachable(_)) {
            self.unreachable.push(endpoint.id);
        }
    }
}

impl Upstream {
    /// Begins an exchange whose request body, framed so, the caller will push into the lease while it asks it for the
    /// answer. Where no connection is to be had another endpoint is asked, as the policy allows; nothing else is
    /// repeated: for a request without a body, or with one at hand, [`Upstream::send`] is better.
    ///
    /// # Errors
    /// [`UpstreamFailure`] where no connection is to be had; the last one's.
    pub async fn start(
        &self,
        outbound: &Outbound<'_>,
        framing: Framing,
        trail: &mut Trail,
    ) -> Result<Lease, UpstreamFailure> {
        let mut course = Course::new(&self.retry, outbound.head);
        let mut tried = Tried::new();
        let mut failure = UpstreamFailure::NoEndpoint;
        loop {
            let began = Instant::now();
            let (endpoint, admission) = match self.group.enter(&outbound.pick(&tried)) {
                Ok(entered) => entered,
                // What became of the endpoints that were asked says more than that no other could be.
                Err(why) if tried.is_empty() => return Err(why),
                Err(_) => break,
            };
            tried.push(endpoint.id);
            let at = trail.begin(&endpoint.address, began, false);
            match self.lease(&endpoint, admission, outbound, framing, true, began).await {
                Ok(mut lease) => {
                    lease.awaits_client();
                    return Ok(lease);
                }
                Err(why) => {
                    trail.end(at, Outcome::Unreachable(why));
                    failure = why;
                }
            }
            let facts = Facts {
                outcome: Outcome::Unreachable(failure),
                stale: false,
                others: self.group.has_untried(&tried),
                left: outbound.left(),
                retry_after: None,
            };
            if let Verdict::Over(denied) = course.judge(facts, 0.0, || true) {
                trail.denied = denied;
                break;
            }
        }
        Err(failure)
    }

    /// Sends a request with the whole of its body and reads the answer's head into `answer`; the lease then yields
    /// the answer's body. `None` sends no body and no `Content-Length`; an empty body sends a length of 0.
    ///
    /// What fails is tried again as the upstream's [`RetryPolicy`](crate::RetryPolicy) says; besides, an idempotent
    /// request that a reused connection loses before any of the answer is heard is sent once more, over a new
    /// connection.
    ///
    /// # Errors
    /// [`UpstreamFailure`]: the last try's; nothing of the exchange is left then.
    pub async fn send(
        &self,
        outbound: &Outbound<'_>,
        body: Option<&Bytes>,
        answer: &mut ResponseHead,
        trail: &mut Trail,
    ) -> Result<Lease, UpstreamFailure> {
        let framing = body.map_or(Framing::None, |body| Framing::Length(body.len() as u64));
        let request = Request { outbound, body, framing };
        if let Some(hedge) = self.retry.hedge
            && self.retry.may_repeat(outbound.head)
        {
            return Box::pin(self.hedged(hedge, request, answer, trail)).await;
        }
        let began = Instant::now();
        let (endpoint, admission) = self.group.enter(&outbound.pick(&[]))?;
        let at = trail.begin(&endpoint.address, began, false);
        let attempt = self.attempt(&endpoint, admission, request, true, began, answer).await;
        trail.end_after(at, attempt.outcome, attempt.took);
        if let Outcome::Answered { status } = attempt.outcome
            && !self.retry.refuses(status)
        {
            return attempt.result();
        }
        let mut asked = Asked::default();
        asked.note(&endpoint, attempt.outcome);
        // What succeeds at once needs no room for this.
        Box::pin(self.again(attempt, asked, request, answer, trail)).await
    }

    /// Goes on after a try that is not good enough as it is.
    async fn again(
        &self,
        mut attempt: Attempt,
        mut asked: Asked,
        request: Request<'_>,
        answer: &mut ResponseHead,
        trail: &mut Trail,
    ) -> Result<Lease, UpstreamFailure> {
        let mut course = Course::after(&self.retry, request.outbound.head, trail.tries().len());
        loop {
            let facts = Facts {
                outcome: attempt.outcome,
                stale: attempt.stale,
                others: self.group.has_untried(&asked.all),
                left: request.outbound.left(),
                retry_after: retry_after(attempt.outcome, answer),
            };
            let mut taken = None;
            let withdraw = || {
                taken = self.group.repetition(&self.retry);
                taken.is_some()
            };
            let wait = match course.judge(facts, fastrand::f64(), withdraw) {
                Verdict::Again(wait) => wait,
                Verdict::Over(denied) => {
                    trail.denied = denied;
                    return attempt.result();
                }
            };
            attempt.make_room();
            if !wait.is_zero() {
                sleep(wait).await;
            }
            // One that is not tried yet; where there is none, any that can be connected to.
            let began = Instant::now();
            let enter = |not: &[u64]| self.group.enter(&request.outbound.pick(not));
            let Ok((endpoint, admission)) = enter(&asked.all).or_else(|_| enter(&asked.unreachable)) else {
                return attempt.result();
            };
            tracing::debug!(upstream = %self.name(), outcome = ?attempt.outcome, ?wait, next = %endpoint.address, "trying again");
            let reuse = !attempt.stale;
            attempt.abandon();
            let at = trail.begin(&endpoint.address, began, false);
            attempt = self.attempt(&endpoint, admission, request, reuse, began, answer).await;
            trail.end_after(at, attempt.outcome, attempt.took);
            asked.note(&endpoint, attempt.outcome);
        }
    }

    /// One try at one endpoint.
    async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        admission: Admission,
        request: Request<'_>,
        reuse: bool,
        began: Instant,
        answer: &mut ResponseHead,
    ) -> Attempt {
        let Request { outbound, body, framing } = request;
        let mut lease = match self.lease(endpoint, admission, outbound, framing, reuse, began).await {
            Ok(lease) => lease,
            Err(why) => {
                let (outcome, took) = (Outcome::Unreachable(why), began.elapsed());
                return Attempt { lease: None, outcome, stale: false, took };
            }
        };
        let result = {
            // Not to be moved from here, so that there is room for it once.
            let transact = pin!(transact(&mut lease, body, answer));
            match self.retry.per_try_timeout {
                None => Ok(transact.await),
                Some(limit) => timeout(limit.saturating_sub(began.elapsed()), transact).await,
            }
        };
        let result = result.unwrap_or_else(|_| Err(lease.fail(UpstreamFailure::TryTimeout)));
        let stale = result == Err(UpstreamFailure::Closed) && lease.was_idle();
        let outcome = Outcome::of(&result, answer);
        let took = lease.took().unwrap_or_else(|| began.elapsed());
        Attempt { lease: Some(lease), outcome, stale, took }
    }

    /// A connection to an endpoint, on which the exchange has begun.
    async fn lease(
        &self,
        endpoint: &Arc<Endpoint>,
        mut admission: Admission,
        outbound: &Outbound<'_>,
        framing: Framing,
        reuse: bool,
        began: Instant,
    ) -> Result<Lease, UpstreamFailure> {
        admission.within_callers_time(outbound.deadline.is_some_and(|deadline| deadline.callers));
        let head = outbound.told();
        let leased = connection::lease(self, endpoint, admission, &head, framing, reuse, began).await;
        leased.inspect_err(|why| {
            tracing::debug!(upstream = %self.name(), endpoint = %endpoint.address, why = why.as_str(), "no connection");
        })
    }

    /// Asks a second endpoint where the first takes longer than it should. The first good answer counts; the other
    /// exchange is given up, and its connection with it.
    async fn hedged(
        &self,
        hedge: Hedge,
        request: Request<'_>,
        answer: &mut ResponseHead,
        trail: &mut Trail,
    ) -> Result<Lease, UpstreamFailure> {
        let began = Instant::now();
        let (first, admission) = self.group.enter(&request.outbound.pick(&[]))?;
        let mut asked = Asked::default();
        let first_at = trail.begin(&first.address, began, false);
        let mut one = pin!(self.attempt_apart(&first, admission, request, began));
        let early = tokio::select! {
            biased;
            ended = &mut one => Some(ended),
            () = wait(hedge.delay(|| self.group.latencies())) => None,
        };
        let second = if early.is_some() { None } else { self.second(request.outbound, &[first.id]) };
        let (attempt, head) = if let Some((second, admission, _taken)) = second {
            let began = Instant::now();
            let second_at = trail.begin(&second.address, began, true);
            let mut two = pin!(self.attempt_apart(&second, admission, request, began));
            let (ended, is_first) = tokio::select! {
                biased;
                ended = &mut one => (ended, true),
                ended = &mut two => (ended, false),
            };
            let (at, other_at) = if is_first { (first_at, second_at) } else { (second_at, first_at) };
            let (which, other_one) = if is_first { (&first, &second) } else { (&second, &first) };
            trail.end(at, ended.0.outcome);
            asked.note(which, ended.0.outcome);
            if self.is_good(&ended.0) {
                trail.end(other_at, Outcome::Cancelled);
                ended
            } else {
                ended.0.abandon();
                let other = if is_first { two.await } else { one.await };
                trail.end(other_at, other.0.outcome);
                asked.note(other_one, other.0.outcome);
                other
            }
        } else {
            let ended = match early {
                Some(ended) => ended,
                None => one.await,
            };
            trail.end(first_at, ended.0.outcome);
            asked.note(&first, ended.0.outcome);
            ended
        };
        if let Hedge::Percentile { .. } = hedge {
            trail.tries().iter().skip(first_at).for_each(|one| self.note_latency(one));
        }
        *answer = head;
        if self.is_good(&attempt) {
            return attempt.result();
        }
        self.again(attempt, asked, request, answer, trail).await
    }

    /// A try that was given up, or came to no answer in its time, took at least that long. One that failed at once says
    /// nothing of how long answers take.
    fn note_latency(&self, one: &Try) {
        if let Some(
            Outcome::Answered { .. }
            | Outcome::Cancelled
            | Outcome::Failed(UpstreamFailure::ResponseTimeout | UpstreamFailure::TryTimeout),
        ) = one.outcome
        {
            self.group.latencies().note(one.duration);
        }
    }

    /// One try, with an answer's head of its own.
    async fn attempt_apart(
        &self,
        endpoint: &Arc<Endpoint>,
        admission: Admission,
        request: Request<'_>,
        began: Instant,
    ) -> (Attempt, ResponseHead) {
        let mut head = ResponseHead::default();
        let attempt = self.attempt(endpoint, admission, request, true, began, &mut head).await;
        (attempt, head)
    }

    /// The endpoint that a request is sent to while another still has it, where there is one and the budget allows it.
    fn second(&self, outbound: &Outbound<'_>, tried: &[u64]) -> Option<(Arc<Endpoint>, Admission, Taken)> {
        if !self.group.has_untried(tried) {
            return None;
        }
        let taken = self.group.repetition(&self.retry)?;
        let (endpoint, admission) = self.group.enter(&outbound.pick(tried)).ok()?;
        Some((endpoint, admission, taken))
    }

    fn is_good(&self, attempt: &Attempt) -> bool {
        matches!(attempt.outcome, Outcome::Answered { status } if !self.retry.refuses(status))
    }
}

async fn transact(
    lease: &mut Lease,
    body: Option<&Bytes>,
    answer: &mut ResponseHead,
) -> Result<(), UpstreamFailure> {
    let mut outgoing = Outgoing::new(body);
    std::future::poll_fn(|cx| lease.poll_transact(cx, &mut outgoing, answer)).await
}

/// Waits for so long, or without end.
async fn wait(delay: Option<Duration>) {
    match delay {
        Some(delay) => sleep(delay).await,
        None => std::future::pending().await,
    }
}

/// How long an answer asks to be left alone (RFC 9110 §10.2.3).
fn retry_after(outcome: Outcome, answer: &ResponseHead) -> Option<Duration> {
    let Outcome::Answered { .. } = outcome else { return None };
    let value = answer.fields.get_str("retry-after")?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let until = httpdate::parse_http_date(value).ok()?;
            Some(until.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}
