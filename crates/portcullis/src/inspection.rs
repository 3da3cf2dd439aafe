//! The firewall's place in the pipeline: one transaction for each request, fed as the request becomes known.

use crate::plan::FirewallPlan;
use portcullis_http::{Exchange, Rejection, ResponseHead, Version};
use portcullis_telemetry::{FirewallAction, Metrics, RuleMatch};
use portcullis_waf::{Action, Interruption, Report, Transaction};

/// Heads and bodies above this size are inspected on the blocking pool, so that one of them does not hold up all
/// connections of its thread. The dearest text of this size takes a few milliseconds (`docs/performance.md`); handing it
/// over takes some microseconds.
const LARGE: usize = 16 * 1024;

/// A firewall transaction, or none where the route has no firewall.
pub(crate) struct Inspection(Option<Box<Transaction>>);

impl Inspection {
    /// No firewall.
    pub(crate) fn none() -> Self {
        Inspection(None)
    }

    /// Begins the transaction of a request: connection, request line and fields.
    pub(crate) fn begin(plan: Option<&FirewallPlan>, exchange: &Exchange) -> Self {
        let Some(plan) = plan else { return Inspection(None) };
        let mut transaction =
            Transaction::new(plan.program.clone(), plan.overlay.clone(), exchange.id.as_str());
        let client = &exchange.client;
        transaction.connection(client.address.ip, client.peer.port(), client.local.ip(), client.local.port());
        let request = &exchange.request;
        transaction.request_line(request.method_text(), request.raw_target(), protocol(request.version));
        for (name, value) in exchange.received.iter() {
            transaction.request_header(name, value);
        }
        Inspection(Some(Box::new(transaction)))
    }

    /// Phase 1.
    ///
    /// # Errors
    /// What a rule decided.
    pub(crate) async fn request_headers(&mut self, exchange: &Exchange) -> Result<(), Rejection> {
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
        let Some(transaction) = &mut self.0 else { return Ok(()) };
        if let Some(interruption) = transaction.write_request_body(body) {
            return refuse(interruption);
        }
        if cut {
            transaction.cut_request_body();
        }
        self.judge_sized(body.len(), Transaction::check_request_body).await
    }

    /// Phase 3.
    ///
    /// # Errors
    /// What a rule decided.
    pub(crate) fn response_headers(&mut self, head: &ResponseHead) -> Result<(), Rejection> {
        let Some(transaction) = &mut self.0 else { return Ok(()) };
        transaction.response_status(head.status);
        for (name, value) in head.fields.iter() {
            transaction.response_header(name, value);
        }
        self.judge(Transaction::check_response_headers)
    }

    /// Whether phase 4 wants to see the body, which then has to be held.
    pub(crate) fn wants_response_body(&self) -> bool {
        self.0.as_ref().is_some_and(|transaction| transaction.wants_response_body())
    }

    /// Phase 4.
    ///
    /// # Errors
    /// What a rule decided.
    pub(crate) async fn response_body(&mut self, body: &[u8]) -> Result<(), Rejection> {
        let Some(transaction) = &mut self.0 else { return Ok(()) };
        if let Some(interruption) = transaction.write_response_body(body) {
            return refuse(interruption);
        }
        self.judge_sized(body.len(), Transaction::check_response_body).await
    }

    /// Phase 5, in every case, and what came of it all.
    pub(crate) fn finish(self) -> Option<Verdict> {
        self.0.map(|transaction| Verdict::new(transaction.finish()))
    }

    fn judge(&mut self, phase: fn(&mut Transaction) -> Option<Interruption>) -> Result<(), Rejection> {
        match self.0.as_deref_mut().and_then(phase) {
            None => Ok(()),
            Some(interruption) => refuse(interruption),
        }
    }

    /// Runs a phase over so many new bytes where it does least harm.
    async fn judge_sized(
        &mut self,
        size: usize,
        phase: fn(&mut Transaction) -> Option<Interruption>,
    ) -> Result<(), Rejection> {
        if size <= LARGE { self.judge(phase) } else { self.judge_aside(phase).await }
    }

    async fn judge_aside(
        &mut self,
        phase: fn(&mut Transaction) -> Option<Interruption>,
    ) -> Result<(), Rejection> {
        let Some(mut transaction) = self.0.take() else { return Ok(()) };
        let judged = tokio::task::spawn_blocking(move || {
            let interruption = phase(&mut transaction);
            (transaction, interruption)
        });
        let Ok((transaction, interruption)) = judged.await else { return Err(Rejection::Internal) };
        self.0 = Some(transaction);
        interruption.map_or(Ok(()), refuse)
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
    report: Report,
}

impl Verdict {
    fn new(report: Report) -> Self {
        let (action, rule) = match (&report.interruption, &report.would_interrupt) {
            (Some(interruption), _) => (FirewallAction::Deny, Some(interruption.rule_id)),
            (None, Some(interruption)) => (FirewallAction::Detect, Some(interruption.rule_id)),
            (None, None) => (FirewallAction::Log, None),
        };
        Verdict { action, rule, score: report.inbound_score + report.outbound_score, report }
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
    }

    /// Whether there is anything to log of it.
    pub(crate) fn tells(&self) -> bool {
        !self.report.matches.is_empty() || !self.report.notes.is_empty()
    }

    /// What could not be looked at as it should have been.
    pub(crate) fn notes(&self) -> &[&'static str] {
        &self.report.notes
    }

    /// The rules that matched, for the log.
    pub(crate) fn matches(&self) -> Vec<RuleMatch<'_>> {
        let matches = self.report.matches.iter();
        matches
            .map(|matched| RuleMatch {
                rule: matched.rule_id,
                variable: &matched.variable,
                value: matched.snippet.as_bytes(),
                message: &matched.msg,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_diag::SourceMap;
    use portcullis_waf::{FileSystem, Overlay, OverlaySettings, build};

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
        Inspection(Some(Box::new(transaction)))
    }

    /// Whether the inspection left the thread free while it went on, and what it came to.
    async fn inspected(body: &[u8]) -> (bool, Result<(), Rejection>) {
        let mut inspection = inspection();
        let mut judged = std::pin::pin!(inspection.request_body(body, false));
        let mut left = false;
        let verdict = std::future::poll_fn(|context| {
            let polled = judged.as_mut().poll(context);
            left |= polled.is_pending();
            polled
        })
        .await;
        (left, verdict)
    }

    #[tokio::test]
    async fn large_bodies_are_inspected_beside_the_event_loop() {
        let (left, verdict) = inspected(&vec![b'a'; LARGE]).await;
        assert!(!left && verdict.is_ok());
        let mut body = b"a-".repeat(500_000);
        let (left, verdict) = inspected(&body).await;
        assert!(left && verdict.is_ok());
        body.extend_from_slice(b"a-ba-ba-b!");
        let (left, verdict) = inspected(&body).await;
        assert!(left && matches!(verdict, Err(Rejection::Firewall { rule: 1, phase: 2, .. })));
    }
}
