//! What is remembered of a request while it is served, for its log line and the metrics.

use crate::answer::Sent;
use crate::connection::Connection;
use crate::inspection::Verdict;
use crate::snapshot::Snapshot;
use portcullis_http::{Exchange, Method, Rejection, RequestHead, RequestId, TargetError};
use portcullis_telemetry::{
    AccessRecord, FirewallEvent, FirewallRecord, RouteMetrics, RuleMatch, ShadowRecord, TryRecord,
    UpstreamRecord,
};
use portcullis_upstream::{Denied, Outcome, Trail, Try};
use portcullis_waf::Mode;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The facts that stages leave behind.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) began: Instant,
    pub(crate) metrics: Option<RouteMetrics>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) status: u16,
    pub(crate) aborted: bool,
    pub(crate) upstream: Option<Called>,
    pub(crate) partial: Vec<Arc<str>>,
    pub(crate) rejection: Option<Rejection>,
    /// What its target would have been refused for, where the route only detects.
    pub(crate) target_would_refuse: Option<TargetError>,
}

/// The call to an upstream.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) name: Arc<str>,
    pub(crate) trail: Trail,
}

impl Called {
    /// Its tries; none where there was one, of which the rest of the record tells.
    fn tries(&self) -> Vec<TryRecord<'_>> {
        let tries = self.trail.tries();
        if tries.len() > 1 { tries.iter().map(try_record).collect() } else { Vec::new() }
    }

    fn record<'a>(&'a self, tries: &'a [TryRecord<'a>]) -> UpstreamRecord<'a> {
        UpstreamRecord {
            tries,
            denied: self.trail.denied().map(Denied::as_str),
            name: &self.name,
            endpoint: self.trail.endpoint().unwrap_or_default(),
            duration: self.trail.elapsed(),
            attempts: u32::try_from(self.trail.tries().len()).unwrap_or(u32::MAX),
        }
    }
}

fn try_record(one: &Try) -> TryRecord<'_> {
    let (outcome, status) = match one.outcome {
        Some(Outcome::Answered { status }) => ("answered", Some(status)),
        Some(outcome) => (outcome.reason(), None),
        None => (Outcome::Cancelled.reason(), None),
    };
    TryRecord { endpoint: &one.endpoint, outcome, status, duration: one.duration, hedge: one.hedge }
}

impl Record {
    pub(crate) fn begin() -> Self {
        Record {
            began: Instant::now(),
            metrics: None,
            bytes_in: 0,
            bytes_out: 0,
            status: 0,
            aborted: false,
            upstream: None,
            partial: Vec::new(),
            rejection: None,
            target_would_refuse: None,
        }
    }

    pub(crate) fn sent(&mut self, sent: Sent) {
        self.status = if sent.cut { 0 } else { sent.status };
        self.bytes_out += sent.bytes;
        self.aborted |= sent.cut;
    }

    /// The status that was answered; 499, as nginx has it, when the client went away before there was one.
    pub(crate) fn answered(&self) -> u16 {
        if self.status == 0 { 499 } else { self.status }
    }

    /// Counts and logs the request. It has ended.
    pub(crate) fn close(
        &self,
        snapshot: &Snapshot,
        connection: &Connection,
        subject: Subject<'_>,
        verdict: Option<&Verdict>,
    ) {
        let status = self.answered();
        let duration = self.began.elapsed();
        let metrics = &snapshot.shared.metrics;
        let head = subject.head();
        // What could not be read has no method.
        let method = if head.method_text().is_empty() { Method::Other } else { head.method };
        self.metrics.as_ref().unwrap_or(&snapshot.unmatched).observe(method, status, duration);
        if let Some(rejection) = &self.rejection {
            metrics.rejection(rejection);
        }
        if let Some(verdict) = verdict {
            verdict.count(metrics);
        }
        let exchange = subject.exchange();
        if snapshot.firewall_log.is_none() && snapshot.access_log.is_none() {
            return;
        }
        let now = SystemTime::now();
        let time = now.checked_sub(duration).unwrap_or(now);
        let matches: Vec<RuleMatch<'_>> = verdict.map(Verdict::matches).unwrap_or_default();
        if let (Some(plan), Some(verdict), Some(exchange)) = (&snapshot.firewall_log, verdict, exchange) {
            let event = firewall_event(verdict, &matches, exchange, time, status);
            let audited = plan.audited(&verdict.report, status);
            plan.log.write(&FirewallEvent { audited, ..event });
        }
        let Some(log) = &snapshot.access_log else { return };
        let tries = self.upstream.as_ref().map(Called::tries).unwrap_or_default();
        let exclusions = verdict.map(Verdict::exclusions).unwrap_or_default();
        let difference = verdict.and_then(Verdict::difference);
        let partial: Vec<&str> = self.partial.iter().map(|part| &**part).collect();
        log.write(&AccessRecord {
            time,
            id: subject.id(),
            trace: exchange.map(|x| &x.trace),
            listener: &connection.listener,
            client: exchange.map_or_else(|| connection.peer.ip().to_canonical(), |x| x.client.address.ip),
            version: head.version,
            method: head.method_text(),
            host: exchange.map_or("", |x| x.host.name()),
            path: exchange.map_or_else(|| raw_path(head), |x| x.target.path().as_bytes()),
            query: None,
            route: exchange.and_then(|x| x.route.as_deref()),
            consumer: exchange
                .and_then(|x| x.principal.as_deref())
                .map(|principal| principal.subject.as_str()),
            user_agent: head.fields.get("user-agent"),
            status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration,
            upstream: self.upstream.as_ref().map(|called| called.record(&tries)),
            rejection: self.rejection.as_ref(),
            target_would_refuse: self.target_would_refuse,
            firewall: verdict.filter(|verdict| difference.is_some() || verdict.tells()).map(|verdict| {
                FirewallRecord {
                    action: verdict.action,
                    rule: verdict.rule,
                    score: verdict.score,
                    paranoia: (verdict.report.blocking_paranoia, verdict.report.detection_paranoia),
                    matches: &matches,
                    notes: verdict.notes(),
                    exclusions: &exclusions,
                    sampled: verdict.sampled,
                    shadow: difference.as_ref().map(|difference| ShadowRecord {
                        live_blocks: difference.live_blocks,
                        shadow_blocks: difference.shadow_blocks,
                        rule: difference.rule,
                        score: difference.score,
                        only_live: &difference.only_live,
                        only_shadow: &difference.only_shadow,
                    }),
                }
            }),
            partial: &partial,
            aborted: self.aborted,
        });
    }
}

/// What the firewall's own logs say of a request.
fn firewall_event<'a>(
    verdict: &'a Verdict,
    matches: &'a [RuleMatch<'a>],
    exchange: &'a Exchange,
    time: SystemTime,
    status: u16,
) -> FirewallEvent<'a> {
    let client = &exchange.client;
    FirewallEvent {
        time,
        id: &exchange.id,
        client: SocketAddr::new(client.address.ip, client.peer.port()),
        server: client.local,
        host: exchange.host.name(),
        method: exchange.request.method_text(),
        target: exchange.request.raw_target(),
        version: exchange.request.version,
        fields: &exchange.received,
        status,
        detects: verdict.report.mode == Mode::Detect,
        refused: verdict.report.interruption.as_ref().map(|refused| (refused.rule_id, refused.status)),
        matches,
        audited: None,
        evidence: verdict.evidence.as_ref(),
    }
}

fn raw_path(head: &RequestHead) -> &[u8] {
    head.raw_target().split(|b| *b == b'?').next().unwrap_or_default()
}

/// What a record is about: a request that was read, or one that could not be.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Exchange(&'a Exchange),
    Head(&'a RequestHead, &'a RequestId),
}

impl<'a> Subject<'a> {
    pub(crate) fn head(self) -> &'a RequestHead {
        match self {
            Subject::Exchange(exchange) => &exchange.request,
            Subject::Head(head, _) => head,
        }
    }

    pub(crate) fn exchange(self) -> Option<&'a Exchange> {
        match self {
            Subject::Exchange(exchange) => Some(exchange),
            Subject::Head(..) => None,
        }
    }

    pub(crate) fn id(self) -> &'a RequestId {
        match self {
            Subject::Exchange(exchange) => &exchange.id,
            Subject::Head(_, id) => id,
        }
    }
}
