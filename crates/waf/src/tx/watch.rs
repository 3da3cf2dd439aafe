//! The rule loop for a transaction that is watched: the same rules in the same order with the same effects as in
//! `engine.rs`, which stays free of all this.

use std::time::Instant;

use super::engine::{Engine, Verdict};
use super::state::{Hit, Item};
use crate::operator::PatternId;
use crate::prefilter::has_bit;
use crate::program::{Ctl, Link, Rule, RuleBits, RuleIx};
use crate::report::{Interruption, snippet};
use crate::rule::{Mode, Phase};
use crate::trace::{
    ConditionTrace, Remover, RuleOutcome, RuleTrace, Seen, Trace, VALUES, ValueOutcome, Watch,
};

/// What is written down while a transaction runs.
#[derive(Debug)]
pub(super) struct Watcher {
    watch: Watch,
    pub(super) trace: Trace,
    /// Target removals that were there before any rule ran: those of the overlay.
    of_overlay: usize,
    /// The rules that made the removals behind those.
    removers: Vec<u32>,
    /// Who removed which rules.
    removed: Vec<(RuleBits, u32)>,
}

impl Watcher {
    pub(super) fn new(watch: Watch, of_overlay: usize) -> Self {
        Self { watch, trace: Trace::default(), of_overlay, removers: Vec::new(), removed: Vec::new() }
    }

    /// Who took a rule away.
    fn remover(&self, rule: RuleIx) -> Remover {
        let by = self.removed.iter().find(|(rules, _)| rules.contains(rule));
        by.map_or(Remover::Overlay, |(_, by)| Remover::Rule(*by))
    }

    /// Who made the removal at this place of the state's list.
    fn target_remover(&self, at: usize) -> Remover {
        let by = at.checked_sub(self.of_overlay).and_then(|at| self.removers.get(at));
        by.map_or(Remover::Overlay, |by| Remover::Rule(*by))
    }

    /// Notes what a condition of the rule `by` takes away now that it holds.
    fn note_ctls(&mut self, link: &Link, by: u32) {
        for ctl in &link.ctls {
            match ctl {
                Ctl::RemoveRules(rules) => self.removed.push((rules.clone(), by)),
                Ctl::RemoveTargets(_) => self.removers.push(by),
                _ => {}
            }
        }
    }

    fn set(&mut self, place: usize, change: impl FnOnce(&mut RuleTrace)) {
        if let Some(rule) = self.trace.rules.get_mut(place) {
            change(rule);
        }
    }
}

impl Engine<'_> {
    /// Runs the rules of a phase and writes down what happens.
    pub(super) fn run_watched(&mut self, phase: Phase, watcher: &mut Watcher) -> Option<Interruption> {
        self.begin(phase);
        let program = self.program;
        let order = program.order(phase);
        let first = watcher.trace.rules.len();
        let rules = order.iter().filter_map(|index| program.rule(*index));
        watcher.trace.rules.extend(rules.map(RuleTrace::not_reached));
        let mut at = 0;
        while let Some(&index) = order.get(at) {
            let place = first + at;
            at += 1;
            if self.state.mode == Mode::Off {
                return None;
            }
            if self.state.removed.contains(index) {
                let by = watcher.remover(index);
                watcher.set(place, |rule| rule.outcome = RuleOutcome::Removed(by));
                continue;
            }
            let Some(rule) = program.rule(index) else { continue };
            if !self.watched(index, rule, watcher, place) {
                continue;
            }
            let next = rule.skip.from(at);
            for skipped in at..next.min(order.len()) {
                watcher.set(first + skipped, |trace| trace.outcome = RuleOutcome::Skipped(rule.id));
            }
            at = next;
            match self.full_match(rule) {
                Verdict::Continue => {}
                Verdict::EndPhase => return None,
                Verdict::Interrupt(interruption) => return Some(interruption),
            }
        }
        None
    }

    /// Evaluates one rule, which stands at `place` of the trace.
    fn watched(&mut self, index: RuleIx, rule: &Rule, watcher: &mut Watcher, place: usize) -> bool {
        let (mut conditions, mut nanoseconds) = (Vec::new(), 0);
        let matched = if watcher.watch == Watch::Costs {
            let start = Instant::now();
            let matched = self.rule(index, rule);
            nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            matched
        } else {
            self.state.matched_all.clear();
            self.state.rule = Some(index);
            self.program.links(rule).iter().all(|link| {
                let condition = self.condition(index, link, watcher);
                let matched = condition.matched;
                conditions.push(condition);
                if matched {
                    watcher.note_ctls(link, rule.id);
                }
                matched
            })
        };
        let outcome = if matched { RuleOutcome::Matched } else { RuleOutcome::NotMatched };
        watcher.set(place, |trace| {
            (trace.outcome, trace.conditions, trace.nanoseconds) = (outcome, conditions, nanoseconds);
        });
        matched
    }

    /// Asks a condition, having looked at what it will see: what it does may change that.
    fn condition(&mut self, index: RuleIx, link: &Link, watcher: &Watcher) -> ConditionTrace {
        let program = self.program;
        let lane = program.lanes.get(link.lane.0 as usize).filter(|_| !link.unconditional);
        let mut items = Vec::new();
        if let Some(lane) = lane {
            self.gather(lane, &mut items);
        }
        let before = self.state.matched_all.len();
        let matched = self.link(index, link);
        let hits: Vec<Hit> = self.state.matched_all.get(before..).unwrap_or_default().to_vec();
        let is_hit = |item: &Item| {
            hits.iter().any(|Hit { item: hit, number }| {
                let same = (hit.var, hit.counted, hit.slot, hit.key)
                    == (item.var, item.counted, item.slot, item.key);
                same && (number.is_some() || hit.value == item.value)
            })
        };
        let mut values = Vec::new();
        for item in &items {
            let outcome =
                if is_hit(item) { ValueOutcome::Matched } else { self.unmatched(index, link, item, watcher) };
            if values.len() >= VALUES && outcome != ValueOutcome::Matched {
                continue;
            }
            let variable = self.hit_name(Hit { item: *item, number: None });
            values.push(Seen {
                variable: snippet(self.state.values.get(variable)),
                value: snippet(self.state.values.get(item.value)),
                outcome,
            });
        }
        let not = if link.negated { "!" } else { "" };
        ConditionTrace {
            targets: lane.map(|lane| lane.targets.show(&program.names)).unwrap_or_default(),
            transformations: lane
                .map(|lane| lane.chain.iter().map(|transform| transform.info().name).collect())
                .unwrap_or_default(),
            operator: lane.map(|_| format!("{not}{}", link.written.operator)).unwrap_or_default(),
            argument: lane.map(|_| link.written.argument.to_string()).unwrap_or_default(),
            more: items.len() - values.len(),
            values,
            matched,
        }
    }

    /// Why a value did not match.
    fn unmatched(&mut self, index: RuleIx, link: &Link, item: &Item, watcher: &Watcher) -> ValueOutcome {
        if let Some(at) = self.removal(index, item) {
            return ValueOutcome::Excluded(watcher.target_remover(at));
        }
        let pattern = link.op.pattern().filter(|_| !link.negated);
        pattern.map_or(ValueOutcome::NotMatched, |pattern| self.pattern_outcome(pattern, item))
    }

    fn pattern_outcome(&mut self, id: PatternId, item: &Item) -> ValueOutcome {
        let Some(pattern) = self.program.pattern(id) else { return ValueOutcome::NotMatched };
        // The sets of candidates that are kept forget patterns that were asked in vain.
        if let Some(filter) = self.program.prefilters.get(self.state.side) {
            let mut candidates = Vec::new();
            filter.scan(self.state.values.get(item.value), &mut candidates);
            if !has_bit(&candidates, id) {
                return ValueOutcome::Prefiltered;
            }
        }
        let bytes = self.state.values.get(item.value);
        if !pattern.facts.allow(bytes.len(), &self.state.values.byte_set(item.value)) {
            return ValueOutcome::Impossible;
        }
        ValueOutcome::NotMatched
    }
}
