//! The search for the smallest set of exclusions.

use super::exclusion::{Exclusion, Target};
use crate::commands::rules::subject::{Exchange, Subject};
use portcullis_waf::trace::{ConditionTrace, RuleOutcome, RuleTrace, Trace, ValueOutcome, Watch};
use portcullis_waf::{Mode, OverlaySettings, Report};
use std::collections::{BTreeSet, HashMap};

pub(super) struct Found {
    pub(super) outcome: Outcome,
    pub(super) before: Judged,
    pub(super) after: Judged,
    /// The rules that matched before.
    pub(super) matched: BTreeSet<u32>,
    /// How many other rules look at what an exclusion is about.
    pub(super) still: HashMap<Exclusion, usize>,
}

pub(super) enum Outcome {
    /// It is let through as it is.
    Passes,
    /// With these it is let through.
    Excluded(Vec<Exclusion>),
    /// Nothing that can be excluded helps; why.
    Helpless(String),
}

/// What came of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judged {
    pub(super) passes: bool,
    pub(super) score: i64,
    /// The rule that refused it; 0 for a limit.
    pub(super) rule: u32,
}

impl Judged {
    fn of(report: &Report) -> Self {
        let refused = report.interruption.as_ref().or(report.would_interrupt.as_ref());
        Self {
            passes: refused.is_none(),
            score: report.inbound_score + report.outbound_score,
            rule: refused.map_or(0, |refused| refused.rule_id),
        }
    }
}

/// Searches what has to be excluded for the exchange to be let through.
///
/// # Errors
/// When the subject's settings do not compile.
pub(super) fn search(subject: &Subject, exchange: &Exchange) -> Result<Found, String> {
    let judge = |exclusions: &[Exclusion]| -> Result<Judged, String> {
        let settings = with(subject, exclusions, Mode::Block);
        Ok(Judged::of(&subject.judge(&subject.overlay(&settings)?, exchange)))
    };
    let before = judge(&[])?;
    // In detect mode nothing ends early: all that any rule finds is seen at once.
    let overlay = subject.overlay(&with(subject, &[], Mode::Detect))?;
    let (report, trace) = subject.watch(&overlay, exchange, Watch::Everything);
    let matched =
        trace.rules.iter().filter(|rule| rule.outcome == RuleOutcome::Matched).map(|rule| rule.id).collect();
    let mut found = Found { outcome: Outcome::Passes, before, after: before, matched, still: HashMap::new() };
    if before.passes {
        return Ok(found);
    }
    let mut chosen = candidates(&report, &trace);
    found.after = judge(&chosen)?;
    if !found.after.passes {
        // A target does not do where the rule matches because something is missing: then it is the rule as a whole.
        let stubborn: Vec<Exclusion> =
            chosen.iter().map(|exclusion| Exclusion { target: None, ..exclusion.clone() }).collect();
        chosen.extend(stubborn);
        chosen.dedup();
        found.after = judge(&chosen)?;
    }
    if !found.after.passes {
        found.outcome = Outcome::Helpless(helpless(&found.after));
        return Ok(found);
    }
    // Exclusions that are not needed go, whole rules first, then those that weigh least.
    let weight = |exclusion: &Exclusion| {
        let of_rule = report.matches.iter().filter(|found| found.rule_id == exclusion.rule);
        of_rule.flat_map(|found| &found.scores).map(|score| score.amount).max().unwrap_or(i64::MAX)
    };
    let mut order: Vec<Exclusion> = chosen.clone();
    order.sort_by_key(|exclusion| (exclusion.target.is_some(), weight(exclusion)));
    for exclusion in order {
        let fewer: Vec<Exclusion> = chosen.iter().filter(|kept| **kept != exclusion).cloned().collect();
        let judged = judge(&fewer)?;
        if judged.passes {
            (chosen, found.after) = (fewer, judged);
        }
    }
    found.still = chosen.iter().map(|exclusion| (exclusion.clone(), others(exclusion, &trace))).collect();
    found.outcome = Outcome::Excluded(chosen);
    Ok(found)
}

fn with(subject: &Subject, exclusions: &[Exclusion], mode: Mode) -> OverlaySettings {
    let mut settings = subject.settings.clone();
    settings.mode = Some(mode);
    settings.exclusions.extend(exclusions.iter().map(Exclusion::settings));
    settings
}

/// Every target of every reported rule. Rules that judge what others found (scores) are left: without them nothing would
/// ever be refused.
fn candidates(report: &Report, trace: &Trace) -> Vec<Exclusion> {
    let mut candidates = Vec::new();
    for rule in trace.rules.iter().filter(|rule| rule.outcome == RuleOutcome::Matched) {
        let Some(found) = report.matches.iter().find(|found| found.rule_id == rule.id) else { continue };
        for target in targets(rule) {
            let exclusion = Exclusion { rule: rule.id, message: found.msg.clone(), target: Some(target) };
            if !candidates.contains(&exclusion) {
                candidates.push(exclusion);
            }
        }
    }
    candidates
}

/// What the first condition matched that looks at the request: without that, a chain does not hold.
fn targets(rule: &RuleTrace) -> Vec<Target> {
    let of = |condition: &ConditionTrace| -> Vec<Target> {
        let matched = condition.values.iter().filter(|seen| seen.outcome == ValueOutcome::Matched);
        matched.map(|seen| Target::of(&seen.variable)).filter(|target| !target.is_own()).collect()
    };
    let keyed = |targets: &&Vec<Target>| targets.iter().any(Target::has_key);
    let all: Vec<Vec<Target>> = rule.conditions.iter().map(of).collect();
    // A chain often begins with the method or the path: an entry of a collection says more.
    all.iter()
        .find(keyed)
        .or_else(|| all.iter().find(|targets| !targets.is_empty()))
        .cloned()
        .unwrap_or_default()
}

/// How many other rules saw what an exclusion is about.
fn others(exclusion: &Exclusion, trace: &Trace) -> usize {
    let Some(target) = &exclusion.target else { return 0 };
    let sees = |rule: &&RuleTrace| {
        let mut seen = rule.conditions.iter().flat_map(|condition| &condition.values);
        rule.id != exclusion.rule
            && seen.any(|seen| {
                !matches!(seen.outcome, ValueOutcome::Excluded(_)) && Target::of(&seen.variable) == *target
            })
    };
    trace.rules.iter().filter(sees).count()
}

fn helpless(after: &Judged) -> String {
    match after.rule {
        0 => "a limit refuses the request (the size of its body, or of all that rules look at): no exclusion helps; \
              raise the limit on the route"
            .to_owned(),
        rule => format!(
            "rule {rule} refuses the request also when all that rules found in it is excluded: it judges no part of the \
             request that could be left out; `portcullis rules explain --rule {rule}` shows what it saw"
        ),
    }
}
