//! What is told about a request: the verdict, and the rules that are worth telling of. The JSON of `--json`.

use crate::commands::rules::subject::{Exchange, Subject};
use portcullis_waf::trace::{ConditionTrace, Remover, RuleOutcome, RuleTrace, Seen, Trace, ValueOutcome};
use portcullis_waf::{Action, Interruption, Mode, Report, RuleInfo};
use serde::Serialize;
use std::collections::HashMap;

#[derive(Debug, Serialize)]
pub(super) struct Account {
    pub(super) request: RequestLine,
    pub(super) route: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) counts: Counts,
    /// Nanoseconds that all rules took.
    pub(super) nanoseconds: u64,
    pub(super) rules: Vec<Rule>,
    /// Rules that were taken away as a whole.
    pub(super) removed: Vec<Removal>,
    /// Values that were kept from rules.
    pub(super) excluded: Vec<Removal>,
    /// Chains of which some conditions held, but not all.
    pub(super) partly: Vec<Partly>,
}

#[derive(Debug, Serialize)]
pub(super) struct Removal {
    /// The rule that did it; `null` for an exclusion of the route's.
    pub(super) by: Option<u32>,
    /// What was kept from the rules; `null` where they did not run at all.
    pub(super) variable: Option<String>,
    pub(super) rules: Vec<u32>,
}

#[derive(Debug, Serialize)]
pub(super) struct Partly {
    pub(super) id: u32,
    pub(super) held: usize,
    pub(super) chain: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct RequestLine {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) version: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body_bytes: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    /// `pass`, `deny`, `drop` or `redirect`; what it would be, where the mode is `detect`.
    pub(super) action: &'static str,
    pub(super) mode: &'static str,
    pub(super) status: Option<u16>,
    /// The rule that refused; 0 for a limit.
    pub(super) rule: Option<u32>,
    pub(super) message: Option<String>,
    pub(super) inbound_score: i64,
    pub(super) outbound_score: i64,
    pub(super) inbound_threshold: Option<u32>,
    pub(super) blocking_paranoia: Option<i64>,
    pub(super) detection_paranoia: Option<i64>,
    pub(super) notes: Vec<&'static str>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) matched: usize,
    pub(super) not_matched: usize,
    pub(super) skipped: usize,
    pub(super) removed: usize,
    pub(super) not_reached: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Rule {
    pub(super) id: u32,
    pub(super) phase: u8,
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) message: String,
    /// `matched`, `not_matched`, `skipped`, `removed` or `not_reached`.
    pub(super) outcome: &'static str,
    /// The rule that skipped or removed it; `null` for an exclusion of the route's.
    pub(super) by: Option<u32>,
    pub(super) nanoseconds: u64,
    pub(super) scores: Vec<(String, i64)>,
    /// How many conditions the rule has; those that were asked follow.
    pub(super) chain: usize,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
pub(super) struct Condition {
    pub(super) matched: bool,
    pub(super) targets: String,
    pub(super) transformations: Vec<&'static str>,
    pub(super) operator: String,
    pub(super) argument: String,
    pub(super) values: Vec<Value>,
    /// Values without a match that are not listed.
    pub(super) more: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Value {
    pub(super) variable: String,
    pub(super) value: String,
    /// `matched`, `no match`, `no literal`, `too little` or `excluded`.
    pub(super) outcome: &'static str,
    /// The rule that excluded it; `null` for an exclusion of the route's.
    pub(super) by: Option<u32>,
}

/// Whether a rule is worth telling of unasked: it was reported, or it decided.
pub(super) fn is_telling(rule: &RuleTrace, report: &Report) -> bool {
    let decided = report.interruption.as_ref().or(report.would_interrupt.as_ref());
    rule.outcome == RuleOutcome::Matched
        && (decided.is_some_and(|interruption| interruption.rule_id == rule.id)
            || report.matches.iter().any(|found| found.rule_id == rule.id))
}

/// The rules that were taken away as a whole, and the values that were kept from rules, by what did it.
fn removals(trace: &Trace) -> (Vec<Removal>, Vec<Removal>) {
    let (mut removed, mut excluded) = (Vec::new(), Vec::new());
    for rule in &trace.rules {
        if let RuleOutcome::Removed(by) = rule.outcome {
            note(&mut removed, remover(by), None, rule.id);
        }
        for seen in rule.conditions.iter().flat_map(|condition| &condition.values) {
            if let ValueOutcome::Excluded(by) = seen.outcome {
                note(&mut excluded, remover(by), Some(&seen.variable), rule.id);
            }
        }
    }
    (removed, excluded)
}

fn note(removals: &mut Vec<Removal>, by: Option<u32>, variable: Option<&str>, rule: u32) {
    let known = removals.iter_mut().find(|known| known.by == by && known.variable.as_deref() == variable);
    match known {
        Some(known) if known.rules.last() == Some(&rule) => {}
        Some(known) => known.rules.push(rule),
        None => removals.push(Removal { by, variable: variable.map(str::to_owned), rules: vec![rule] }),
    }
}

impl Account {
    pub(super) fn new(
        subject: &Subject,
        exchange: &Exchange,
        report: &Report,
        trace: &Trace,
        shows: impl Fn(&RuleTrace) -> bool,
    ) -> Self {
        let mut counts = Counts::default();
        for rule in &trace.rules {
            *match rule.outcome {
                RuleOutcome::Matched => &mut counts.matched,
                RuleOutcome::NotMatched => &mut counts.not_matched,
                RuleOutcome::Skipped(_) => &mut counts.skipped,
                RuleOutcome::Removed(_) => &mut counts.removed,
                RuleOutcome::NotReached => &mut counts.not_reached,
            } += 1;
        }
        let known: HashMap<u32, RuleInfo<'_>> = subject.program.rules().map(|rule| (rule.id, rule)).collect();
        let told = trace.rules.iter().filter(|rule| shows(rule));
        let (removed, excluded) = removals(trace);
        let in_part =
            |rule: &&RuleTrace| rule.outcome == RuleOutcome::NotMatched && rule.conditions.len() > 1;
        let partly = trace.rules.iter().filter(in_part).map(|rule| Partly {
            id: rule.id,
            held: rule.conditions.len() - 1,
            chain: known.get(&rule.id).map_or(rule.conditions.len(), |info| info.links),
        });
        Self {
            request: request_line(exchange),
            route: subject.route.clone(),
            verdict: verdict(subject, report),
            counts,
            nanoseconds: trace.rules.iter().map(|rule| rule.nanoseconds).sum(),
            rules: told.map(|rule| told_rule(rule, known.get(&rule.id), report)).collect(),
            removed,
            excluded,
            partly: partly.collect(),
        }
    }
}

fn request_line(exchange: &Exchange) -> RequestLine {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = &exchange.request;
    RequestLine {
        method: text(&request.method),
        target: text(&request.target),
        version: text(&request.version),
        headers: request.fields.iter().map(|(name, value)| (text(name), text(value))).collect(),
        body_bytes: request.body.len(),
    }
}

fn verdict(subject: &Subject, report: &Report) -> Verdict {
    let decided = report.interruption.as_ref().or(report.would_interrupt.as_ref());
    let action = |interruption: &Interruption| match interruption.action {
        Action::Deny => "deny",
        Action::Drop => "drop",
        Action::Redirect(_) => "redirect",
    };
    Verdict {
        action: decided.map_or("pass", action),
        mode: match subject.mode() {
            Mode::Block => "block",
            Mode::Detect => "detect",
            Mode::Off => "off",
        },
        status: decided.map(|interruption| interruption.status),
        rule: decided.map(|interruption| interruption.rule_id),
        message: decided.map(|interruption| interruption.msg.clone()),
        inbound_score: report.inbound_score,
        outbound_score: report.outbound_score,
        inbound_threshold: subject.settings.inbound_threshold,
        blocking_paranoia: report.blocking_paranoia,
        detection_paranoia: report.detection_paranoia,
        notes: report.notes.clone(),
    }
}

fn told_rule(rule: &RuleTrace, info: Option<&RuleInfo<'_>>, report: &Report) -> Rule {
    let found = report.matches.iter().find(|found| found.rule_id == rule.id && found.phase == rule.phase);
    let message = found.map(|found| found.msg.clone()).or_else(|| info.map(|info| info.msg.clone()));
    let (outcome, by) = match rule.outcome {
        RuleOutcome::Matched => ("matched", None),
        RuleOutcome::NotMatched => ("not_matched", None),
        RuleOutcome::Removed(by) => ("removed", remover(by)),
        RuleOutcome::Skipped(by) => ("skipped", Some(by)),
        RuleOutcome::NotReached => ("not_reached", None),
    };
    Rule {
        id: rule.id,
        phase: rule.phase.number(),
        file: rule.file.to_string(),
        line: rule.line,
        message: message.unwrap_or_default(),
        outcome,
        by,
        nanoseconds: rule.nanoseconds,
        scores: found
            .iter()
            .flat_map(|found| &found.scores)
            .map(|score| (score.name.to_string(), score.amount))
            .collect(),
        chain: info.map_or(1, |info| info.links),
        conditions: rule.conditions.iter().map(condition).collect(),
    }
}

fn condition(condition: &ConditionTrace) -> Condition {
    Condition {
        matched: condition.matched,
        targets: condition.targets.clone(),
        transformations: condition.transformations.clone(),
        operator: condition.operator.clone(),
        argument: condition.argument.clone(),
        values: condition.values.iter().map(value).collect(),
        more: condition.more,
    }
}

fn value(seen: &Seen) -> Value {
    let (outcome, by) = match seen.outcome {
        ValueOutcome::Matched => ("matched", None),
        ValueOutcome::NotMatched => ("no match", None),
        ValueOutcome::Prefiltered => ("no literal", None),
        ValueOutcome::Impossible => ("too little", None),
        ValueOutcome::Excluded(by) => ("excluded", remover(by)),
    };
    Value { variable: seen.variable.clone(), value: seen.value.clone(), outcome, by }
}

fn remover(by: Remover) -> Option<u32> {
    match by {
        Remover::Overlay => None,
        Remover::Rule(id) => Some(id),
    }
}
