//! A transaction: one request and its response on their way through the rules.

mod arguments;
mod clock;
mod effects;
mod engine;
mod explain;
mod forecast;
mod gather;
mod inspect;
mod lanes;
mod memo;
mod nominate;
mod request;
mod request_body;
mod state;
mod store;
mod values;
mod watch;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use forecast::Forecast;

use engine::Engine;
use state::{State, TxValue, with_caches};
use watch::Watcher;

use crate::overlay::Overlay;
use crate::program::{KnownSlots, Program};
use crate::report::{Action, Interruption, Report};
use crate::rule::{LimitAction, Mode, Phase};
use crate::trace::{Trace, Watch};
use crate::variable::Var;

/// Where reports of transactions go that are dropped before [`Transaction::finish`], as when a client goes away.
pub trait ReportSink: Send + Sync {
    /// Takes the report. Called once at most for each transaction, from its destructor.
    fn abandoned(&self, report: Report);
}

/// One request/response pair seen by the firewall.
///
/// Feed it in the order of the methods below; each `check_…` runs a phase and says whether to go on. Phases that do not
/// apply (a request that is answered locally has no response) are left out. [`Transaction::finish`] runs phase 5.
///
/// After an interruption no rule runs any more but those of phase 5.
pub struct Transaction {
    program: Arc<Program>,
    overlay: Arc<Overlay>,
    /// `None` once finished.
    state: Option<Box<State>>,
    sink: Option<Arc<dyn ReportSink>>,
    watcher: Option<Box<Watcher>>,
}

impl fmt::Debug for Transaction {
    /// Says nothing of the request: a transaction's values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("mode", &self.mode()).finish_non_exhaustive()
    }
}

impl Transaction {
    /// Begins a transaction. `unique_id` is the request id, which rules see as `UNIQUE_ID`.
    #[must_use]
    pub fn new(program: Arc<Program>, overlay: Arc<Overlay>, unique_id: &str) -> Self {
        let mut state = State::take(&program, &overlay);
        state.set_scalar(Var::UniqueId, unique_id.as_bytes());
        Self { program, overlay, state: Some(state), sink: None, watcher: None }
    }

    /// Sends the report to `sink` should the transaction be dropped unfinished.
    #[must_use]
    pub fn with_sink(mut self, sink: Arc<dyn ReportSink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Has everything that rules do written down for [`Transaction::finish_watched`]. Slow; its verdicts are the same.
    #[must_use]
    pub fn watched(mut self, watch: Watch) -> Self {
        self.watcher = Some(Box::new(Watcher::new(watch, self.overlay.removals.len())));
        self
    }

    /// Whether any rule runs. When not, nothing needs to be fed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode() != Mode::Off
    }

    /// The mode the transaction is in now; rules can change it (`ctl:ruleEngine`).
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.state.as_ref().map_or(Mode::Off, |state| state.mode)
    }

    /// Who talks to whom.
    pub fn connection(&mut self, client: IpAddr, client_port: u16, server: IpAddr, server_port: u16) {
        let Some(state) = self.active() else { return };
        let client = state.address(client);
        state.set_scalar_id(Var::RemoteAddr, client);
        state.set_scalar_id(Var::RemoteHost, client);
        state.set_number(Var::RemotePort, u64::from(client_port));
        let server = state.address(server);
        state.set_scalar_id(Var::ServerAddr, server);
        state.set_number(Var::ServerPort, u64::from(server_port));
    }

    /// The request line: the method, the target with all its bytes as sent, and the protocol as `HTTP/1.1`, `HTTP/2.0`.
    pub fn request_line(&mut self, method: &[u8], raw_target: &[u8], protocol: &[u8]) {
        let program = Arc::clone(&self.program);
        let Some(state) = self.active() else { return };
        state.fill_request_line(method, raw_target, protocol, &program.settings);
    }

    /// One field of the request's head, in order. HTTP/2's `:authority` is to be given as `Host`.
    pub fn request_header(&mut self, name: &[u8], value: &[u8]) {
        if let Some(state) = self.active() {
            state.add_request_header(name, value);
        }
    }

    /// Phase 1: the head of the request is complete.
    pub fn check_request_headers(&mut self) -> Option<Interruption> {
        self.active()?.choose_processor();
        self.run(Phase::RequestHeaders)
    }

    /// Whether the body's bytes are wanted (now or more of them).
    #[must_use]
    pub fn wants_request_body(&self) -> bool {
        self.state.as_ref().is_some_and(|state| {
            state.mode != Mode::Off
                && state.interruption.is_none()
                && state.request_body_access
                && !state.request_body_full
                && state.allowed_until < 2
        })
    }

    /// Takes bytes of the request body, in any pieces. Beyond the limit the transaction is interrupted with 413, or
    /// only what fits is kept (`SecRequestBodyLimitAction ProcessPartial`, and always in detect mode); rules see that
    /// as `INBOUND_DATA_ERROR`.
    pub fn write_request_body(&mut self, bytes: &[u8]) -> Option<Interruption> {
        if !self.wants_request_body() {
            return None;
        }
        let action = self.program.settings.request_body_limit_action;
        let state = self.active()?;
        let room = state.request_body_limit.saturating_sub(state.request_body.len());
        state.request_body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if bytes.len() <= room {
            return None;
        }
        state.cut_request_body();
        self.over_limit(action, Phase::RequestBody, 413, "request body longer than the limit")
    }

    /// Says that the body goes on beyond what was written and that nobody will see the rest: as if it had reached its
    /// limit under `ProcessPartial`.
    pub fn cut_request_body(&mut self) {
        if self.wants_request_body()
            && let Some(state) = self.active()
        {
            state.cut_request_body();
        }
    }

    /// Phase 2: the request is complete. To be called for requests without a body as well.
    pub fn check_request_body(&mut self) -> Option<Interruption> {
        let program = Arc::clone(&self.program);
        self.active()?.process_body(&program);
        self.run(Phase::RequestBody)
    }

    /// The status of the response.
    pub fn response_status(&mut self, status: u16) {
        if let Some(state) = self.active() {
            state.fill_response_status(status);
        }
    }

    /// One field of the response's head, in order.
    pub fn response_header(&mut self, name: &[u8], value: &[u8]) {
        if let Some(state) = self.active() {
            state.add_response_header(name, value);
        }
    }

    /// Phase 3: the head of the response is complete and not yet sent.
    pub fn check_response_headers(&mut self) -> Option<Interruption> {
        self.run(Phase::ResponseHeaders)
    }

    /// Whether the body's bytes are wanted: response bodies are read at all, the media type is one that is inspected,
    /// and there is a rule that would look. Never for `text/event-stream` and gRPC, which must not be held.
    #[must_use]
    pub fn wants_response_body(&self) -> bool {
        let Some(state) = &self.state else { return false };
        if state.mode == Mode::Off
            || state.interruption.is_some()
            || !state.response_body_access
            || state.response_body_full
            || state.allowed_until >= 4
            || self.program.order(Phase::ResponseBody).is_empty()
        {
            return false;
        }
        let media_type = state.response_media_type();
        let grpc = media_type.get(..16).is_some_and(|head| head.eq_ignore_ascii_case(b"application/grpc"));
        let is = |name: &str| media_type.eq_ignore_ascii_case(name.as_bytes());
        let listed = self.program.settings.response_mime_types.iter().any(|name| is(name));
        listed && !grpc && !is("text/event-stream")
    }

    /// Takes bytes of the response body, in any pieces. Beyond the limit the transaction is interrupted with 502, or
    /// only what fits is kept (`ProcessPartial`, the default, and always in detect mode).
    pub fn write_response_body(&mut self, bytes: &[u8]) -> Option<Interruption> {
        if !self.wants_response_body() {
            return None;
        }
        let settings = &self.program.settings;
        let (limit, action) = (settings.response_body_limit, settings.response_body_limit_action);
        let state = self.active()?;
        let room = limit.saturating_sub(state.response_body.len());
        state.response_body.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if bytes.len() <= room {
            return None;
        }
        state.response_body_full = true;
        state.set_scalar(Var::OutboundDataError, b"1");
        self.over_limit(action, Phase::ResponseBody, 502, "response body longer than the limit")
    }

    /// Phase 4: the response is complete and nothing of it sent yet.
    pub fn check_response_body(&mut self) -> Option<Interruption> {
        self.active()?.fill_response_body();
        self.run(Phase::ResponseBody)
    }

    /// Whether a rule that is logged has matched so far.
    #[must_use]
    pub fn has_matches(&self) -> bool {
        self.state.as_ref().is_some_and(|state| !state.matches.is_empty())
    }

    /// The request's body as far as the rules look at it.
    #[must_use]
    pub fn request_body(&self) -> &[u8] {
        self.state.as_ref().map_or(&[], |state| &state.request_body)
    }

    /// The response's body as far as the rules look at it.
    #[must_use]
    pub fn response_body(&self) -> &[u8] {
        self.state.as_ref().map_or(&[], |state| &state.response_body)
    }

    /// The fields of the response's head, in order.
    pub fn response_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let state = self.state.iter();
        state.flat_map(|state| {
            let entries = state.response_headers.iter();
            entries.map(|entry| (state.values.get(entry.key), state.values.get(entry.value)))
        })
    }

    /// Phase 5, and what the transaction came to.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.conclude()
    }

    /// [`Transaction::finish`], with what was written down; nothing where it is not [watched](Transaction::watched).
    #[must_use]
    pub fn finish_watched(mut self) -> (Report, Trace) {
        let report = self.conclude();
        (report, self.watcher.take().map(|watcher| watcher.trace).unwrap_or_default())
    }

    /// The state, unless the transaction is over or its rules are off.
    fn active(&mut self) -> Option<&mut Box<State>> {
        self.state.as_mut().filter(|state| state.mode != Mode::Off && state.interruption.is_none())
    }

    fn run(&mut self, phase: Phase) -> Option<Interruption> {
        let program = &*self.program;
        let state = self.state.as_mut()?;
        if state.mode == Mode::Off || state.interruption.is_some() || state.allowed_until >= phase.number() {
            return None;
        }
        let watcher = self.watcher.as_deref_mut();
        let interruption = run(program, &self.overlay, state, watcher, phase);
        state.interruption.clone_from(&interruption);
        if interruption.is_none() && state.values.overflowed() {
            // What could not be stored was not inspected: that must not pass as clean.
            return self.over_limit(
                LimitAction::Reject,
                phase,
                413,
                "more data than the rules can be asked about",
            );
        }
        interruption
    }

    fn over_limit(
        &mut self,
        action: LimitAction,
        phase: Phase,
        status: u16,
        msg: &str,
    ) -> Option<Interruption> {
        let state = self.state.as_mut()?;
        if action == LimitAction::ProcessPartial {
            return None;
        }
        let interruption =
            Interruption { action: Action::Deny, status, rule_id: 0, phase, msg: msg.to_owned() };
        if state.mode == Mode::Detect {
            state.would_interrupt.get_or_insert(interruption);
            return None;
        }
        state.interruption = Some(interruption.clone());
        Some(interruption)
    }

    /// Runs phase 5 and takes everything out of the state.
    fn conclude(&mut self) -> Report {
        let Some(mut state) = self.state.take() else { return empty_report() };
        let program = &*self.program;
        if state.mode != Mode::Off {
            let state = &mut *state;
            // Nothing can be blocked any more; an interruption there is not one.
            let _ = run(program, &self.overlay, state, self.watcher.as_deref_mut(), Phase::Logging);
        }
        let (inbound_score, outbound_score) = scores(&state, &program.known);
        let level = |slot| match state.tx(slot) {
            TxValue::Unset => None,
            value => Some(state.int(value)),
        };
        let blocking_paranoia = level(program.known.blocking_paranoia);
        let detection_paranoia = level(program.known.detection_paranoia);
        let exclusions = explain::exclusions(program, &state);
        let report = Report {
            unique_id: String::from_utf8_lossy(state.values.get(state.stored_scalar(Var::UniqueId)))
                .into_owned(),
            mode: state.mode,
            matches: std::mem::take(&mut state.matches),
            interruption: state.interruption.take(),
            would_interrupt: state.would_interrupt.take(),
            inbound_score,
            outbound_score,
            blocking_paranoia,
            detection_paranoia,
            exclusions,
            removed_rules: state.removed.count(),
            notes: std::mem::take(&mut state.notes),
            audit_engine: state.audit_engine,
            audit_parts: state.audit_parts,
            finished: true,
        };
        state.give_back();
        report
    }
}

/// Runs the rules of a phase with the thread's caches.
fn run(
    program: &Program,
    overlay: &Overlay,
    state: &mut State,
    watcher: Option<&mut Watcher>,
    phase: Phase,
) -> Option<Interruption> {
    with_caches(program.uid, |caches, memo| {
        let mut engine = Engine { program, state, caches, memo, forecast: &overlay.forecast };
        match watcher {
            None => engine.run(phase),
            Some(watcher) => engine.run_watched(phase, watcher),
        }
    })
}

impl Drop for Transaction {
    /// The net for transactions that never finished: phase 5 runs, and the sink gets the report, marked as unfinished.
    fn drop(&mut self) {
        if self.state.is_none() || std::thread::panicking() {
            return;
        }
        let mut report = self.conclude();
        report.finished = false;
        if let Some(sink) = &self.sink {
            sink.abandoned(report);
        }
    }
}

/// The anomaly scores: the totals if the rules made them, the sums of the levels otherwise.
fn scores(state: &State, known: &KnownSlots) -> (i64, i64) {
    let score = |total, levels: [crate::macros::TxSlot; 4]| {
        let total = state.int(state.tx(total));
        let sum = levels.iter().fold(0i64, |sum, slot| sum.saturating_add(state.int(state.tx(*slot))));
        if total != 0 { total } else { sum }
    };
    (score(known.inbound_score, known.inbound_levels), score(known.outbound_score, known.outbound_levels))
}

fn empty_report() -> Report {
    Report { mode: Mode::Off, ..Report::default() }
}
