//! The firewall's place in the pipeline: one transaction for each request, fed as the request becomes known, and beside
//! it one for the rules on trial.

use crate::aside;
use crate::plan::{FirewallLogPlan, FirewallPlan, ShadowPlan};
use portcullis_http::{Exchange, Rejection, ResponseHead, Version};
use portcullis_telemetry::{AuditParts, Evidence, FirewallAction, MAX_AUDITED_BODY, Metrics, RuleMatch};
use portcullis_waf::{Action, Interruption, Match, Overlay, Program, Report, Transaction};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the firewall does with one request.
pub(crate) struct Inspection {
    pair: Option<Pair>,
    /// Whether the request was left out of the sample.
    left_out: bool,
}

/// A transaction by the rules in force, and one by those on trial.
struct Pair {
    live: Box<Transaction>,
    shadow: Option<(Box<Transaction>, Arc<ShadowPlan>)>,
    /// Whether phase 2 was reached.
    complete: bool,
}

/// A phase.
type Phase = fn(&mut Transaction) -> Option<Interruption>;

impl Pair {
    /// Runs a phase by both. Only what the rules in force say counts.
    fn run(&mut self, phase: Phase) -> Option<Interruption> {
        self.feed(|transaction| {
            phase(transaction);
        });
        phase(&mut self.live)
    }

    /// Hands the rules on trial what those in force get.
    fn feed(&mut self, with: impl FnOnce(&mut Transaction)) {
        if let Some((shadow, _)) = &mut self.shadow {
            with(shadow);
        }
    }
}

impl Inspection {
    /// No firewall.
    pub(crate) fn none() -> Self {
        Inspection { pair: None, left_out: false }
    }

    /// Begins the transaction of a request: connection, request line and fields.
    pub(crate) fn begin(plan: Option<&FirewallPlan>, exchange: &Exchange) -> Self {
        let Some(plan) = plan else { return Inspection::none() };
        let left_out = !plan.sample.takes();
        let overlay = if left_out { plan.rest.as_ref() } else { Some(&plan.overlay) };
        let pair = overlay.map(|overlay| Pair {
            live: transaction(&plan.program, overlay, exchange),
            shadow: plan
                .shadow
                .as_ref()
                .filter(|shadow| shadow.sample.takes())
                .map(|shadow| (transaction(&shadow.program, &shadow.overlay, exchange), shadow.clone())),
            complete: false,
        });
        Inspection { pair, left_out }
    }

    /// Phase 1.
    ///
    /// # Errors
    /// What a rule decided.
    pub(crate) async fn request_headers(&mut self, exchange: &Exchange) -> Result<(), Rejection> {
        if self.pair.is_none() {
            return Ok(());
        }
        let fields = exchange.received.iter().map(|(name, value)| name.len() + value.len());
        let size = exchange.request.raw_target().len() + fields.sum::<usize>();
        self.judge_sized(size, Transaction::check_request_headers).await
    }

    /// Phase 2, over the whole body that is inspected; without one where the body streams. `cut`: it is the beginning
    /// of a longer one.
    ///
    /// # Errors
    /// What a rule decided.
    pub(crate) async fn request_body(&mut self, body: &[u8], cut: bool) -> Result<(), Rejection> {
        let Some(pair) = &mut self.pair else { return Ok(()) };
        pair.feed(|shadow| {
            let _ = shadow.write_request_body(body);
        });
        if let Some(interruption) = pair.live.write_request_body(body) {
            return refuse(interruption);
        }
        if cut {
            pair.feed(Transaction::cut_request_body);
            pair.live.cut_request_body();
        }
        pair.complete = true;
        self.judge_sized(body.len(), Transaction::check_request_body).await
    }

    /// Phase 3.
    ///
    /// # Errors
    /// What a rule decided.
    pub(crate) fn response_headers(&mut self, head: &ResponseHead) -> Result<(), Rejection> {
        let Some(pair) = &mut self.pair else { return Ok(()) };
        let tell = |transaction: &mut Transaction| {
            transaction.response_status(head.status);
            for (name, value) in head.fields.iter() {
                transaction.response_header(name, value);
            }
        };
        pair.feed(tell);
        tell(&mut pair.live);
        self.judge(Transaction::check_response_headers)
    }

    /// Whether phase 4 wants to see the body, which then has to be held. Rules on trial hold nothing: they see what
    /// those in force do.
    pub(crate) fn wants_response_body(&self) -> bool {
        self.pair.as_ref().is_some_and(|pair| pair.live.wants_response_body())
    }

    /// Phase 4.
    ///
    /// # Errors
    /// What a rule decided.
    pub(crate) async fn response_body(&mut self, body: &[u8]) -> Result<(), Rejection> {
        let Some(pair) = &mut self.pair else { return Ok(()) };
        pair.feed(|shadow| {
            let _ = shadow.write_response_body(body);
        });
        if let Some(interruption) = pair.live.write_response_body(body) {
            return refuse(interruption);
        }
        self.judge_sized(body.len(), Transaction::check_response_body).await
    }

    /// Phase 5, in every case, and what came of it all. `status` is the one that was answered.
    pub(crate) fn finish(self, log: Option<&FirewallLogPlan>, status: u16) -> Option<Verdict> {
        let Some(Pair { live, shadow, complete }) = self.pair else {
            return self.left_out.then(|| Verdict::new(Report::default(), false));
        };
        let wanted = log.and_then(|log| log.wants_evidence(status, live.has_matches()));
        let evidence = wanted.map(|parts| evidence(&live, parts));
        let mut verdict = Verdict::new(live.finish(), !self.left_out);
        verdict.evidence = evidence;
        verdict.shadow = shadow.map(|(mut shadow, plan)| {
            if verdict.report.interruption.is_some() && !complete {
                // Rule sets add up first and decide in phase 2. Let it decide by what those in force had seen.
                let _ = shadow.check_request_body();
            }
            ShadowVerdict { report: shadow.finish(), plan }
        });
        Some(verdict)
    }

    fn judge(&mut self, phase: Phase) -> Result<(), Rejection> {
        self.pair.as_mut().and_then(|pair| pair.run(phase)).map_or(Ok(()), refuse)
    }

    /// Runs a phase over so many new bytes where it does least harm.
    async fn judge_sized(&mut self, size: usize, phase: Phase) -> Result<(), Rejection> {
        if size <= aside::LARGE {
            return self.judge(phase);
        }
        let Some(mut pair) = self.pair.take() else { return Ok(()) };
        let (pair, interruption) = aside::run(move || {
            let interruption = pair.run(phase);
            (pair, interruption)
        })
        .await?;
        self.pair = Some(pair);
        interruption.map_or(Ok(()), refuse)
    }
}

fn transaction(program: &Arc<Program>, overlay: &Arc<Overlay>, exchange: &Exchange) -> Box<Transaction> {
    let mut transaction = Transaction::new(program.clone(), overlay.clone(), exchange.id.as_str());
    let client = &exchange.client;
    transaction.connection(client.address.ip, client.peer.port(), client.local.ip(), client.local.port());
    let request = &exchange.request;
    transaction.request_line(request.method_text(), request.raw_target(), protocol(request.version));
    for (name, value) in exchange.received.iter() {
        transaction.request_header(name, value);
    }
    Box::new(transaction)
}

/// What an audit entry of these parts quotes.
fn evidence(transaction: &Transaction, parts: AuditParts) -> Evidence {
    let cut = |wanted: bool, body: &[u8]| match body.get(..MAX_AUDITED_BODY).unwrap_or(body) {
        body if wanted => body.to_vec(),
        _ => Vec::new(),
    };
    let fields = transaction.response_headers().filter(|_| parts.response_fields);
    Evidence {
        request_body: cut(parts.request_body, transaction.request_body()),
        response_fields: fields.map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        response_body: cut(parts.response_body, transaction.response_body()),
    }
}

/// The protocol as rules know it.
fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
        Version::Http2 => b"HTTP/2.0",
    }
}

fn refuse(interruption: Interruption) -> Result<(), Rejection> {
    let location = match interruption.action {
        Action::Redirect(location) => Some(location),
        Action::Deny | Action::Drop => None,
    };
    Err(Rejection::Firewall {
        rule: interruption.rule_id,
        phase: interruption.phase.number(),
        status: interruption.status,
        location,
    })
}

/// What the firewall saw of one request, when it has ended.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) action: FirewallAction,
    /// The rule that decided, or would have.
    pub(crate) rule: Option<u32>,
    pub(crate) score: i64,
    /// Whether the request was in the sample that is judged as configured.
    pub(crate) sampled: bool,
    pub(crate) report: Report,
    pub(crate) evidence: Option<Evidence>,
    pub(crate) shadow: Option<ShadowVerdict>,
}

/// What the rules on trial made of it.
#[derive(Debug)]
pub(crate) struct ShadowVerdict {
    report: Report,
    plan: Arc<ShadowPlan>,
}

/// Where the rules on trial differ from those in force.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) live_blocks: bool,
    pub(crate) shadow_blocks: bool,
    pub(crate) rule: Option<u32>,
    pub(crate) score: i64,
    pub(crate) only_live: Vec<u32>,
    pub(crate) only_shadow: Vec<u32>,
}

impl Verdict {
    fn new(report: Report, sampled: bool) -> Self {
        let (action, rule) = match (&report.interruption, &report.would_interrupt) {
            (Some(interruption), _) => (done(&interruption.action), Some(interruption.rule_id)),
            (None, Some(interruption)) => (FirewallAction::Detect, Some(interruption.rule_id)),
            (None, None) => (FirewallAction::Log, None),
        };
        let score = report.inbound_score + report.outbound_score;
        Verdict { action, rule, score, sampled, report, evidence: None, shadow: None }
    }

    /// Counts each rule that matched, and the one that decided by what it did.
    pub(crate) fn count(&self, metrics: &Metrics) {
        for matched in &self.report.matches {
            if Some(matched.rule_id) != self.rule {
                metrics.firewall(matched.rule_id, FirewallAction::Log);
            }
        }
        if let Some(rule) = self.rule {
            metrics.firewall(rule, self.action);
        }
        if let Some(shadow) = &self.shadow {
            let metrics = &shadow.plan.metrics;
            let counter = match (self.blocks(), blocks(&shadow.report)) {
                (false, false) => &metrics.both_pass,
                (false, true) => &metrics.shadow_blocks,
                (true, false) => &metrics.live_blocks,
                (true, true) => &metrics.both_block,
            };
            counter.inc();
        }
    }

    /// Whether there is anything to log of it.
    pub(crate) fn tells(&self) -> bool {
        !self.sampled || !self.report.matches.is_empty() || !self.report.notes.is_empty()
    }

    /// What could not be looked at as it should have been.
    pub(crate) fn notes(&self) -> &[&'static str] {
        &self.report.notes
    }

    /// Whether the rules in force refused the request or its answer, or would have.
    fn blocks(&self) -> bool {
        blocks(&self.report)
    }

    /// What is to be logged of the rules on trial; `None` where they came to the same, or there are none.
    pub(crate) fn difference(&self) -> Option<Difference> {
        let ShadowVerdict { report, plan } = self.shadow.as_ref()?;
        let ids =
            |report: &Report| report.matches.iter().map(|matched| matched.rule_id).collect::<BTreeSet<_>>();
        let (live, shadow) = (ids(&self.report), ids(report));
        let (live_blocks, shadow_blocks) = (self.blocks(), blocks(report));
        let other_rules = plan.compare_rules && live != shadow;
        (live_blocks != shadow_blocks || other_rules).then(|| Difference {
            live_blocks,
            shadow_blocks,
            rule: report.interruption.as_ref().map(|interruption| interruption.rule_id),
            score: report.inbound_score + report.outbound_score,
            only_live: live.difference(&shadow).copied().collect(),
            only_shadow: shadow.difference(&live).copied().collect(),
        })
    }

    /// The exclusions that applied, for the log.
    pub(crate) fn exclusions(&self) -> Vec<(u32, &str)> {
        let exclusions = self.report.exclusions.iter();
        exclusions.map(|exclusion| (exclusion.rule_id, exclusion.target.as_str())).collect()
    }

    /// The rules that matched, for the logs.
    pub(crate) fn matches(&self) -> Vec<RuleMatch<'_>> {
        self.report.matches.iter().map(described).collect()
    }
}

fn blocks(report: &Report) -> bool {
    report.interruption.is_some() || report.would_interrupt.is_some()
}

fn done(action: &Action) -> FirewallAction {
    match action {
        Action::Deny => FirewallAction::Deny,
        Action::Drop => FirewallAction::Drop,
        Action::Redirect(_) => FirewallAction::Redirect,
    }
}

fn described(matched: &Match) -> RuleMatch<'_> {
    RuleMatch {
        rule: matched.rule_id,
        phase: matched.phase.number(),
        variable: &matched.variable,
        also: &matched.also,
        value: matched.snippet.as_bytes(),
        offset: matched.offset.as_ref().map(|offset| (offset.start, offset.end)),
        operator: &matched.operator,
        parameter: &matched.parameter,
        transforms: &matched.transforms,
        message: &matched.msg,
        data: &matched.logdata,
        severity: matched.severity,
        version: matched.ver.as_deref().unwrap_or_default(),
        revision: matched.rev.as_deref().unwrap_or_default(),
        maturity: matched.maturity.unwrap_or(0),
        accuracy: matched.accuracy.unwrap_or(0),
        tags: &matched.tags,
        file: &matched.file,
        line: matched.line,
        scores: matched.scores.iter().map(|score| (&*score.name, score.amount)).collect(),
        audit: matched.audit,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_diag::SourceMap;
    use portcullis_waf::{FileSystem, OverlaySettings, build};

    use super::*;

    fn inspection() -> Inspection {
        let mut sources = SourceMap::new();
        let rule = "SecRule REQUEST_BODY \"@rx (?:a.{1,50}b){3}!\" \"id:1,deny\"";
        let file = sources.add("rules.conf", rule);
        let (program, _) =
            build(&portcullis_seclang::parse(&sources, file).directives, &sources, &FileSystem).unwrap();
        let program = Arc::new(program);
        let overlay = Overlay::compile(&program, &OverlaySettings::default()).unwrap();
        let mut transaction = Transaction::new(program, Arc::new(overlay), "id");
        transaction.request_line(b"POST", b"/", b"HTTP/1.1");
        assert_eq!(transaction.check_request_headers(), None);
        let pair = Pair { live: Box::new(transaction), shadow: None, complete: false };
        Inspection { pair: Some(pair), left_out: false }
    }

    /// Whether the inspection left the thread free while it went on, and what it came to. The pool's one thread is busy
    /// until the inspection has been asked once: what waits for it cannot be done by then.
    fn inspected(body: &[u8]) -> (bool, Result<(), Rejection>) {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        runtime.spawn_blocking(move || held.recv());
        let mut inspection = inspection();
        let mut judged = std::pin::pin!(inspection.request_body(body, false));
        let mut left = false;
        let verdict = runtime.block_on(std::future::poll_fn(|context| {
            let polled = judged.as_mut().poll(context);
            left |= polled.is_pending();
            let _ = release.send(());
            polled
        }));
        (left, verdict)
    }

    #[test]
    fn large_bodies_are_inspected_beside_the_event_loop() {
        let (left, verdict) = inspected(&vec![b'a'; aside::LARGE]);
        assert!(!left && verdict.is_ok());
        let mut body = b"a-".repeat(500_000);
        let (left, verdict) = inspected(&body);
        assert!(left && verdict.is_ok());
        body.extend_from_slice(b"a-ba-ba-b!");
        let (left, verdict) = inspected(&body);
        assert!(left && matches!(verdict, Err(Rejection::Firewall { rule: 1, phase: 2, .. })));
    }
}
