//! Why a rule matched, in words: what the report says of it. Runs only for rules that match and are logged, and for
//! exclusions that take a value away from a rule.

use std::ops::Range;

use super::engine::Engine;
use super::state::{Hit, Item, State};
use super::values::ValueId;
use crate::macros::{Names as _, Text, TxSlot};
use crate::operator::{Op, TextOp};
use crate::program::{Link, Program, Rule, RuleIx};
use crate::report::{Exclusion, Match, Score, snippet};
use crate::rule::Tag;

/// Most values a report names that exclusions kept from rules.
const EXCLUSIONS: usize = 32;
/// Most further variables of a chain that a match names.
const ALSO: usize = 8;

/// What a rule added to a TX variable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Added {
    rule: RuleIx,
    slot: TxSlot,
    amount: i64,
}

/// The values that exclusions kept from rules.
pub(super) fn exclusions(program: &Program, state: &State) -> Vec<Exclusion> {
    let named = state.withheld.iter().filter_map(|(rule, target)| {
        let rule_id = program.rule(*rule)?.id;
        Some(Exclusion { rule_id, target: snippet(state.values.get(*target)) })
    });
    named.collect()
}

impl Engine<'_> {
    /// Remembers what the rule that is being evaluated adds, once for each variable.
    pub(super) fn note_added(&mut self, slot: TxSlot, amount: i64) {
        let Some(rule) = self.state.rule else { return };
        let mut mine = self.state.added.iter_mut().rev().take_while(|added| added.rule == rule);
        match mine.find(|added| added.slot == slot) {
            Some(added) => added.amount = added.amount.saturating_add(amount),
            None => self.state.added.push(Added { rule, slot, amount }),
        }
    }

    /// The first of the removals (of the overlay, then of `ctl`s) that takes this target away from the rule.
    pub(super) fn removal(&self, index: RuleIx, item: &Item) -> Option<usize> {
        let names = &self.program.names;
        let key = match item.slot {
            Some(slot) => names.tx(slot).as_bytes(),
            None => self.state.values.get(item.key),
        };
        self.state.removals.iter().position(|removal| {
            removal.rules.contains(index) && removal.exclusion.covers(item.var, key, names)
        })
    }

    /// Notes that a rule did not look at a value that would have matched.
    pub(super) fn withhold(&mut self, index: RuleIx, item: &Item) {
        if self.state.withheld.len() < EXCLUSIONS {
            let name = self.hit_name(Hit { item: *item, number: None });
            if !self.state.withheld.contains(&(index, name)) {
                self.state.withheld.push((index, name));
            }
        }
    }

    pub(super) fn report(&mut self, rule: &Rule) -> Match {
        let mut text = Vec::new();
        if let Some(logdata) = &rule.meta.logdata {
            self.expand(logdata, &mut text);
        }
        let hit = self.state.matched.filter(|_| !self.state.matched_all.is_empty());
        let (variable, value) = match hit {
            Some(hit) => (self.hit_name(hit), self.hit_value(hit)),
            None => (ValueId::NONE, ValueId::NONE),
        };
        let program = self.program;
        // The last link that looks at something is the one that matched last: all of them have.
        let link = hit.and_then(|_| program.links(rule).iter().rfind(|link| !link.unconditional));
        let operator = link.map(|link| {
            let not = if link.negated { "!" } else { "" };
            format!("{not}{}", link.written.operator)
        });
        let lane = link.and_then(|link| program.lanes.get(link.lane.0 as usize));
        let chain = lane.map(|lane| lane.chain.iter().map(|transform| transform.info().name).collect());
        Match {
            rule_id: rule.id,
            phase: rule.phase,
            msg: self.show(rule.meta.msg.as_ref()),
            logdata: snippet(&text),
            severity: rule.meta.severity,
            tags: rule.meta.tags.iter().map(|tag| self.tag(tag)).collect(),
            ver: rule.meta.ver.clone(),
            rev: rule.meta.rev.clone(),
            maturity: rule.meta.maturity,
            accuracy: rule.meta.accuracy,
            variable: snippet(self.state.values.get(variable)),
            also: self.also_matched(variable),
            operator: operator.unwrap_or_default(),
            parameter: link.map(|link| link.written.argument.to_string()).unwrap_or_default(),
            transforms: chain.unwrap_or_default(),
            snippet: snippet(self.state.values.get(value)),
            offset: link.and_then(|link| self.offset(link, value)),
            scores: self.scores(),
            file: rule.file.clone(),
            line: rule.line,
            audit: rule.audit_log,
        }
    }

    fn tag(&mut self, tag: &Tag) -> Box<str> {
        let Some(macros) = &tag.macros else { return tag.written.clone() };
        let mut text = Vec::new();
        self.expand(macros, &mut text);
        snippet(text.trim_ascii()).into()
    }

    /// The other variables that the chain matched, in order.
    fn also_matched(&mut self, last: ValueId) -> Vec<String> {
        let mut names = vec![last];
        for at in 0..self.state.matched_all.len() {
            let Some(&hit) = self.state.matched_all.get(at) else { break };
            let name = self.hit_name(hit);
            if !names.contains(&name) && names.len() <= ALSO {
                names.push(name);
            }
        }
        names.iter().skip(1).map(|name| snippet(self.state.values.get(*name))).collect()
    }

    /// What the rule that is being evaluated added to scores: the TX variables with `score` in their name.
    fn scores(&self) -> Vec<Score> {
        let mine = self.state.added.iter().filter(|added| Some(added.rule) == self.state.rule);
        let named = mine.map(|added| (self.program.names.tx(added.slot), added.amount));
        named
            .filter(|(name, _)| name.contains("score"))
            .map(|(name, amount)| Score { name: name.into(), amount })
            .collect()
    }

    /// Where in the value the operator found what it looks for. A negated one found nothing.
    fn offset(&mut self, link: &Link, value: ValueId) -> Option<Range<usize>> {
        if link.negated {
            return None;
        }
        let mut argument = Vec::new();
        if let Op::Text(_, text) = &link.op {
            self.expand(text, &mut argument);
        }
        let bytes = self.state.values.get(value);
        let (whole, wanted) = (0..bytes.len(), argument.len());
        match &link.op {
            Op::Rx(id) | Op::Pm(id) | Op::Checksum(_, id) => {
                let groups = self.program.pattern(*id)?.groups(*id, self.caches, bytes)?;
                let (start, end) = groups.first().copied().flatten()?;
                Some(start as usize..end as usize)
            }
            Op::Text(TextOp::BeginsWith, _) => Some(0..wanted),
            Op::Text(TextOp::EndsWith, _) => Some(bytes.len().checked_sub(wanted)?..bytes.len()),
            Op::Text(TextOp::Contains | TextOp::ContainsWord, _) => {
                let at = memchr::memmem::find(bytes, &argument)?;
                Some(at..at + wanted)
            }
            Op::ByteRange(allowed) => {
                let at = bytes.iter().position(|byte| !allowed.contains(*byte))?;
                Some(at..at + 1)
            }
            Op::Utf8 => {
                let at = std::str::from_utf8(bytes).err().map(|error| error.valid_up_to());
                Some(at.map_or(whole, |at| at..at + 1))
            }
            // Compiled for each value, and not kept.
            Op::RxText(_) => None,
            _ => Some(whole),
        }
    }

    /// Text for people: macros expanded, escaped, but not cut (messages are written by operators).
    pub(super) fn show(&mut self, text: Option<&Text>) -> String {
        let mut bytes = Vec::new();
        if let Some(text) = text {
            self.expand(text, &mut bytes);
        }
        match String::from_utf8(bytes) {
            Ok(text) if !text.chars().any(char::is_control) => text,
            Ok(text) => text.escape_default().to_string(),
            Err(error) => error.as_bytes().escape_ascii().to_string(),
        }
    }
}
