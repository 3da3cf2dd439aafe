//! What stands between an upstream's calls and its endpoints: caps, breakers and ejection. Where none is configured a
//! call pays one look at a flag.

use crate::breaker::{Breaker, BreakerState, Pass};
use crate::caps::{Cap, Load, Taken};
use crate::condition::now;
use crate::endpoint::Endpoint;
use crate::members::Members;
use crate::outbound::Outcome;
use crate::outlier::{Detector, EjectionCause, OutlierSettings, Sample};
use crate::upstream::Group;
use crate::{BreakerScope, BreakerSettings, Caps, HealthCheckSettings, UpstreamSettings};
use portcullis_http::UpstreamFailure;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How often something happened to an upstream since the process started.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) checks: [AtomicU64; 2],
    pub(crate) ejections: [AtomicU64; 4],
    /// Of the upstream's own breaker and of its endpoints', by the state that was entered.
    pub(crate) transitions: [[AtomicU64; 3]; 2],
}

/// What an upstream has that outlives its configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lasting {
    pub(crate) load: Arc<Load>,
    pub(crate) totals: Arc<Totals>,
    detector: Arc<Detector>,
    /// Whether the configuration in force ejects: a request that ends on an older one does not, since nobody would
    /// readmit.
    ejects: Arc<AtomicBool>,
    /// Its endpoints are others, or one was ejected.
    pub(crate) changed: Arc<Notify>,
    /// A connection ended, or rests.
    pub(crate) freed: Arc<Notify>,
}

/// One upstream's settings and state.
#[derive(Debug)]
pub(crate) struct Supervision {
    pub(crate) health_check: Option<HealthCheckSettings>,
    pub(crate) outlier: Option<OutlierSettings>,
    pub(crate) caps: Caps,
    pub(crate) endpoint_caps: Caps,
    pub(crate) breaker: Option<Arc<Breaker>>,
    pub(crate) endpoint_breaker: Option<BreakerSettings>,
    pub(crate) slow_start: Duration,
    pub(crate) panic_threshold: u8,
    pub(crate) lasting: Lasting,
    /// Whether each call is to be admitted and reported.
    is_strict: bool,
}

impl Supervision {
    pub(crate) fn new(settings: &UpstreamSettings, previous: Option<&Supervision>) -> Self {
        let circuit = &settings.circuit_breaker;
        let (of_upstream, of_endpoints) = match circuit.scope {
            BreakerScope::Both => (true, true),
            BreakerScope::Upstream => (true, false),
            BreakerScope::Endpoint => (false, true),
        };
        let breaker = circuit.breaker.filter(|_| of_upstream).map(|settings| {
            let known = previous.and_then(|previous| previous.breaker.as_ref());
            match known.filter(|breaker| breaker.settings == settings) {
                Some(breaker) => Arc::clone(breaker),
                None => Arc::new(Breaker::new(settings)),
            }
        });
        Supervision {
            health_check: settings.health_check.clone(),
            outlier: settings.outlier_detection,
            caps: circuit.caps,
            endpoint_caps: circuit.endpoint_caps,
            breaker,
            endpoint_breaker: circuit.breaker.filter(|_| of_endpoints),
            slow_start: settings.slow_start,
            panic_threshold: settings.panic_threshold,
            is_strict: settings.outlier_detection.is_some()
                || circuit.breaker.is_some()
                || circuit.caps.max_requests.is_some()
                || circuit.endpoint_caps.max_requests.is_some(),
            lasting: previous.map(|previous| previous.lasting.clone()).unwrap_or_default(),
        }
    }

    /// Brings the endpoints' state in line with the settings that are in force from now on.
    pub(crate) fn activate(&self, members: &Members) {
        self.lasting.ejects.store(self.outlier.is_some(), Ordering::Release);
        for endpoint in members.iter() {
            let condition = &endpoint.condition;
            if self.health_check.is_none() {
                condition.forget_checks();
            }
            if self.outlier.is_none() {
                condition.forget_ejection();
            }
            condition.set_breaker(self.endpoint_breaker.as_ref());
        }
        self.lasting.changed.notify_one();
    }
}

/// A connection that counts under caps until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    taken: SmallVec<[Taken; 2]>,
    lasting: Lasting,
}

impl Slot {
    /// Where requests of its upstream wait for a connection: what to tell when there is one.
    pub(crate) fn wanted(&self) -> Option<&Arc<Notify>> {
        (self.lasting.load.now(Cap::Pending) > 0).then_some(&self.lasting.freed)
    }

    /// Whether it counts for this upstream.
    pub(crate) fn is_of(&self, lasting: &Lasting) -> bool {
        Arc::ptr_eq(&self.lasting.load, &lasting.load)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.taken.clear();
        self.lasting.freed.notify_waiters();
    }
}

impl Supervision {
    /// A place for another connection; `None` where connections are not counted.
    ///
    /// # Errors
    /// [`UpstreamFailure::Overflow`] where there are as many as may be.
    pub(crate) fn slot(&self, endpoint: &Endpoint) -> Result<Option<Slot>, UpstreamFailure> {
        if self.caps.max_connections.is_none() && self.endpoint_caps.max_connections.is_none() {
            return Ok(None);
        }
        let all = self.lasting.load.try_take(Cap::Connections, &self.caps);
        let own = endpoint.condition.load.try_take(Cap::Connections, &self.endpoint_caps);
        let (Some(all), Some(own)) = (all, own) else { return Err(UpstreamFailure::Overflow) };
        Ok(Some(Slot { taken: SmallVec::from_iter([all, own]), lasting: self.lasting.clone() }))
    }
}

/// Seconds for `Retry-After`: rounded up, so that who obeys comes when the wait is over.
fn circuit_open(retry_after: Duration) -> UpstreamFailure {
    let seconds = retry_after.as_millis().div_ceil(1000).max(1);
    UpstreamFailure::CircuitOpen { retry_after: u32::try_from(seconds).unwrap_or(u32::MAX) }
}

/// Leave for one try: it counts under the caps until it is dropped, and holds the breakers' passes until the try's end
/// is reported.
#[derive(Debug, Default)]
pub(crate) struct Admission(Option<Box<Admitted>>);

#[derive(Debug)]
struct Admitted {
    group: Arc<Group>,
    pass: Option<Pass>,
    endpoint_pass: Option<Pass>,
    callers_time: bool,
    _taken: SmallVec<[Taken; 2]>,
}

impl Admission {
    /// Leave of the upstream as a whole.
    pub(crate) fn of(group: &Arc<Group>) -> Result<Self, UpstreamFailure> {
        let supervision = &group.supervision;
        if !supervision.is_strict {
            return Ok(Admission::default());
        }
        let pass = match &supervision.breaker {
            Some(breaker) => {
                let pass = breaker.pass(now()).map_err(|refused| circuit_open(refused.retry_after))?;
                group.note_transition(None, pass.entered);
                Some(pass)
            }
            None => None,
        };
        let taken = supervision.lasting.load.take(Cap::Requests, &supervision.caps);
        let taken = taken.ok_or(UpstreamFailure::Overflow)?;
        let admitted = Admitted {
            group: Arc::clone(group),
            pass,
            endpoint_pass: None,
            callers_time: false,
            _taken: SmallVec::from_iter([taken]),
        };
        Ok(Admission(Some(Box::new(admitted))))
    }

    /// The time that the endpoint has is the caller's: that it was not enough is not the endpoint's fault.
    pub(crate) fn within_callers_time(&mut self, yes: bool) {
        if let Some(admitted) = &mut self.0 {
            admitted.callers_time = yes;
        }
    }

    /// Leave of an endpoint, too.
    pub(crate) fn enter(&mut self, endpoint: &Endpoint) -> Result<(), UpstreamFailure> {
        let Some(admitted) = &mut self.0 else { return Ok(()) };
        let condition = &endpoint.condition;
        let caps = &admitted.group.supervision.endpoint_caps;
        let Some(taken) = condition.load.try_take(Cap::Requests, caps) else {
            admitted.group.supervision.lasting.load.note_overflow(Cap::Requests);
            return Err(UpstreamFailure::Overflow);
        };
        if let Some(breaker) = condition.breaker() {
            let pass = breaker.pass(now()).map_err(|refused| circuit_open(refused.retry_after))?;
            admitted.group.note_transition(Some(endpoint), pass.entered);
            admitted.endpoint_pass = Some(pass);
        }
        admitted._taken.push(taken);
        Ok(())
    }

    /// Whether anybody wants to know how the try ends.
    pub(crate) fn is_watched(&self) -> bool {
        self.0.is_some()
    }

    /// Whether how the try ends counts for or against the endpoint.
    pub(crate) fn judges(&self) -> bool {
        self.0.as_ref().is_some_and(|admitted| {
            admitted.pass.is_some()
                || admitted.endpoint_pass.is_some()
                || admitted.group.supervision.outlier.is_some()
        })
    }

    /// Takes note of how the try ended.
    pub(crate) fn report(&mut self, endpoint: &Endpoint, outcome: Outcome, took: Duration) {
        let Some(admitted) = &mut self.0 else { return };
        let (pass, endpoint_pass) = (admitted.pass.take(), admitted.endpoint_pass.take());
        // A pass without result gives its place back.
        if admitted.callers_time && outcome == (Outcome::Answered { status: 504 }) {
            return;
        }
        let Some(sample) = judged(outcome) else { return };
        let (group, now) = (&admitted.group, now());
        let failed = sample != Sample::Success;
        if let Some(pass) = pass {
            group.note_transition(None, pass.end(failed, took, now));
        }
        if let Some(pass) = endpoint_pass {
            group.note_transition(Some(endpoint), pass.end(failed, took, now));
        }
        if let Some(settings) = &group.supervision.outlier
            && let Some(cause) = endpoint.condition.ejection.note(sample, settings)
        {
            group.eject(endpoint, cause, settings, now);
        }
    }
}

/// What a try says of the endpoint, if it says anything: not when nobody waited, and not where the gateway itself was
/// at its limits.
fn judged(outcome: Outcome) -> Option<Sample> {
    match outcome {
        Outcome::Answered { status: 502..=504 } => Some(Sample::GatewayError),
        Outcome::Answered { status: 500.. } => Some(Sample::ServerError),
        Outcome::Answered { .. } => Some(Sample::Success),
        Outcome::Unreachable(failure) | Outcome::Failed(failure) => match failure {
            UpstreamFailure::Connect
            | UpstreamFailure::Tls
            | UpstreamFailure::Closed
            | UpstreamFailure::Protocol
            | UpstreamFailure::ConnectTimeout
            | UpstreamFailure::TlsTimeout
            | UpstreamFailure::ResponseTimeout
            | UpstreamFailure::TryTimeout => Some(Sample::GatewayError),
            _ => None,
        },
        Outcome::Cancelled => None,
    }
}

impl Group {
    /// Counts and tells a breaker's change of state: that of the upstream, or of an endpoint.
    pub(crate) fn note_transition(&self, endpoint: Option<&Endpoint>, entered: Option<BreakerState>) {
        let Some(state) = entered else { return };
        if let Some(endpoint) = endpoint {
            endpoint.condition.note_breaker();
        }
        let totals = &self.supervision.lasting.totals.transitions;
        if let Some(total) =
            totals.get(usize::from(endpoint.is_some())).and_then(|totals| totals.get(state as usize))
        {
            total.fetch_add(1, Ordering::Relaxed);
        }
        let (upstream, endpoint) = (&self.name, endpoint.map(|endpoint| &*endpoint.address));
        match state {
            BreakerState::Open => tracing::warn!(%upstream, endpoint, "the circuit breaker opened"),
            BreakerState::HalfOpen => tracing::info!(%upstream, endpoint, "the circuit breaker is half-open"),
            BreakerState::Closed => tracing::info!(%upstream, endpoint, "the circuit breaker closed"),
        }
    }

    /// Ejects an endpoint where that is allowed.
    fn eject(&self, endpoint: &Endpoint, cause: EjectionCause, settings: &OutlierSettings, now: u64) {
        if !self.supervision.lasting.ejects.load(Ordering::Acquire) {
            return;
        }
        let members = self.members();
        let all = members.iter().map(|endpoint| &endpoint.condition.ejection);
        let detector = &self.supervision.lasting.detector;
        if let Some(time) = detector.eject(&endpoint.condition.ejection, all, settings, now) {
            self.note_ejection(endpoint, cause, time);
            // Whoever readmits has to know when.
            self.supervision.lasting.changed.notify_one();
        }
    }

    fn note_ejection(&self, endpoint: &Endpoint, cause: EjectionCause, time: Duration) {
        endpoint.condition.ejected();
        if let Some(total) = self.supervision.lasting.totals.ejections.get(cause as usize) {
            total.fetch_add(1, Ordering::Relaxed);
        }
        tracing::warn!(
            upstream = %self.name, endpoint = %endpoint.address, cause = cause.as_str(), seconds = time.as_secs_f32(),
            "the endpoint is ejected"
        );
    }

    /// Returns the endpoints whose ejection is over.
    pub(crate) fn readmit(&self, members: &Members, now: u64) {
        let endpoints: Vec<&Arc<Endpoint>> = members.iter().collect();
        let all: Vec<_> = endpoints.iter().map(|endpoint| &endpoint.condition.ejection).collect();
        for index in self.supervision.lasting.detector.readmit(&all, now) {
            if let Some(endpoint) = endpoints.get(index) {
                endpoint.condition.readmitted();
                tracing::info!(upstream = %self.name, endpoint = %endpoint.address, "the endpoint's ejection is over");
            }
        }
    }

    /// Compares what the endpoints answered since it was last called.
    pub(crate) fn sweep(&self, members: &Members, settings: &OutlierSettings, now: u64) {
        let endpoints: Vec<&Arc<Endpoint>> = members.iter().collect();
        let all: Vec<_> = endpoints.iter().map(|endpoint| &endpoint.condition.ejection).collect();
        for ejected in self.supervision.lasting.detector.sweep(&all, settings, now) {
            if let Some(endpoint) = endpoints.get(ejected.index) {
                self.note_ejection(endpoint, ejected.cause, ejected.time);
            }
        }
    }
}
