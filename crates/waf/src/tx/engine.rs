//! The rule loop: phases, rules, chains, operators.

use super::state::{Hit, Item, State, TxValue};
use super::values::{Span, ValueId};
use crate::libinjection;
use crate::macros::{Num, TxSlot};
use crate::operator::{
    Caches, Detector, Op, Pattern, PatternId, atoi, ip_match, text_matches, url_encoding_is_invalid,
    utf8_is_invalid,
};
use crate::prefilter::has_bit;
use crate::program::{Gate, Link, Program, Rule, RuleIx, Skip};
use crate::report::{Action, Interruption};
use crate::rule::{AllowScope, Disruptive, Mode, Phase};
use crate::variable::Var;

/// A program at work on a state, with the thread's caches, for the length of a phase.
pub(super) struct Engine<'a> {
    pub(super) program: &'a Program,
    pub(super) state: &'a mut State,
    pub(super) caches: &'a mut Caches,
}

/// The last of the TX variables that hold groups.
const LAST_GROUP: u16 = 9;

/// What becomes of the phase after a rule matched.
pub(super) enum Verdict {
    Continue,
    EndPhase,
    Interrupt(Interruption),
}

impl Engine<'_> {
    /// Runs the rules of a phase.
    pub(super) fn run(&mut self, phase: Phase) -> Option<Interruption> {
        self.begin(phase);
        let program = self.program;
        let order = program.order(phase);
        let mut at = 0usize;
        while let Some(&index) = order.get(at) {
            at += 1;
            if self.state.mode == Mode::Off {
                return None;
            }
            if self.state.removed.contains(index) {
                continue;
            }
            let Some(rule) = program.rule(index) else { continue };
            if !self.rule(index, rule) {
                continue;
            }
            match rule.skip {
                Skip::Next => {}
                Skip::Rules(count) => at += count as usize,
                Skip::To(place) => at = place as usize,
            }
            match self.full_match(rule) {
                Verdict::Continue => {}
                Verdict::EndPhase => return None,
                Verdict::Interrupt(interruption) => return Some(interruption),
            }
        }
        None
    }

    pub(super) fn begin(&mut self, phase: Phase) {
        let state = &mut *self.state;
        if std::mem::take(&mut state.dirty) || state.side != phase.side() {
            state.side = phase.side();
            state.epoch += 1;
            state.lane_items.clear();
            state.lane_bits.clear();
        }
    }

    /// Whether all links of the rule match; their effects happen on the way.
    pub(super) fn rule(&mut self, index: RuleIx, rule: &Rule) -> bool {
        self.state.matched_all.clear();
        self.state.rule = Some(index);
        let program = self.program;
        program.links(rule).iter().all(|link| self.link(index, link))
    }

    pub(super) fn link(&mut self, index: RuleIx, link: &Link) -> bool {
        let matched = if link.unconditional {
            self.setvars(link);
            true
        } else if let Some(gate) = link.gate {
            self.gate(index, link, gate)
        } else {
            self.inspect(index, link)
        };
        if matched {
            self.ctls(link);
        }
        matched
    }

    /// One TX variable against an integer, without text.
    fn gate(&mut self, index: RuleIx, link: &Link, gate: Gate) -> bool {
        let Op::Compare(compare, Num::Fixed(argument)) = link.op else { return false };
        let value = self.tx(gate.slot);
        let number = match (gate.counted, value) {
            (true, value) => i64::from(value != TxValue::Unset),
            (false, TxValue::Unset) => return false,
            (false, value) => self.state.int(value),
        };
        if compare.holds(number, argument) == link.negated {
            return false;
        }
        let (slot, key, value) = (Some(gate.slot), ValueId::NONE, ValueId::NONE);
        let item = Item { var: Var::Tx, counted: gate.counted, slot, key, value };
        if self.state.touched.contains(index) && self.removed_target(index, &item) {
            return false;
        }
        self.hit(link, Hit { item, number: Some(number) });
        true
    }

    fn inspect(&mut self, index: RuleIx, link: &Link) -> bool {
        let Some(lane) = self.program.lanes.get(link.lane.0 as usize) else { return false };
        if !lane.stable {
            let mut items = std::mem::take(&mut self.state.items);
            items.clear();
            self.gather(lane, &mut items);
            let matched = self.items(index, link, items.len(), |_, at| items.get(at).copied());
            self.state.items = items;
            return matched;
        }
        let (start, len) = self.lane(link.lane, lane);
        if len == 0 {
            return false;
        }
        if !link.negated
            && let Some(pattern) = link.op.pattern()
            && !self.lane_may_match(link.lane, pattern)
        {
            return false;
        }
        self.items(index, link, len, |state, at| state.lane_items.get(start + at).copied())
    }

    /// Asks the operator about every value; each match takes effect at once.
    fn items(
        &mut self,
        index: RuleIx,
        link: &Link,
        len: usize,
        item: impl Fn(&State, usize) -> Option<Item>,
    ) -> bool {
        let mut argument = std::mem::take(&mut self.state.argument);
        let number = self.resolve(&link.op, &mut argument);
        let touched = self.state.touched.contains(index);
        let mut matched = false;
        for at in 0..len {
            let Some(item) = item(self.state, at) else { break };
            if touched && self.removed_target(index, &item) {
                continue;
            }
            if self.test(link, &item, &argument, number) {
                matched = true;
                self.hit(link, Hit { item, number: None });
            }
        }
        self.state.argument = argument;
        matched
    }

    /// Expands an argument with macros into `buffer`, or reads it as an integer.
    fn resolve(&mut self, op: &Op, buffer: &mut Vec<u8>) -> i64 {
        match op {
            Op::Text(_, text) | Op::RxText(text) if text.literal().is_none() => {
                buffer.clear();
                self.expand(text, buffer);
                0
            }
            Op::Compare(_, Num::Fixed(number)) => *number,
            Op::Compare(_, Num::Text(text)) => {
                buffer.clear();
                self.expand(text, buffer);
                atoi(buffer)
            }
            _ => 0,
        }
    }

    /// Whether the rule matches on this value; captures are set when it does.
    fn test(&mut self, link: &Link, item: &Item, argument: &[u8], number: i64) -> bool {
        let values = &self.state.values;
        let holds = match &link.op {
            Op::Rx(id) | Op::Pm(id) => return self.pattern(*id, link, item.value) != link.negated,
            Op::Detect(detector) => return self.detect(*detector, link, item.value) != link.negated,
            Op::GeoLookup => return self.geo_lookup(item.value) != link.negated,
            Op::Checksum(check, id) => {
                let pattern = self.program.pattern(*id);
                pattern.is_some_and(|pattern| {
                    pattern.any_match(values.get(item.value), |text| check.holds(text))
                })
            }
            Op::Text(op, text) => {
                text_matches(*op, values.get(item.value), text.literal().unwrap_or(argument))
            }
            Op::RxText(_) => self.caches.matches_expanded(argument, values.get(item.value)),
            Op::Compare(compare, _) => compare.holds(atoi(values.get(item.value)), number),
            Op::IpMatch(networks) => ip_match(networks, values.get(item.value)),
            Op::ByteRange(allowed) => allowed.complement().intersects(&values.byte_set(item.value)),
            Op::UrlEncoding => url_encoding_is_invalid(values.get(item.value)),
            Op::Utf8 => utf8_is_invalid(values.get(item.value)),
            Op::Always => true,
            Op::Never => false,
        };
        holds != link.negated
    }

    /// Whether a pattern matches: the prefilter first, the automaton for those it lets through.
    fn pattern(&mut self, id: PatternId, link: &Link, value: ValueId) -> bool {
        let Some(pattern) = self.program.pattern(id) else { return false };
        let side = self.state.side;
        if let Some(filter) = self.program.prefilters.get(side)
            && !has_bit(self.state.values.candidates(value, side, filter), id)
        {
            return false;
        }
        let bytes = self.state.values.get(value);
        if !pattern.facts.allow(bytes.len(), &self.state.values.byte_set(value)) {
            return false;
        }
        let capture = link.capture && !link.negated;
        let matches =
            if capture { self.capture(id, pattern, value) } else { pattern.is_match(id, self.caches, bytes) };
        if !matches {
            self.state.values.rule_out(value, side, id);
        }
        matches
    }

    /// Whether the pattern matches; TX:0 is what it matched. What its groups matched is found out when somebody asks,
    /// which few rules do: no automaton finds groups, and what does takes a hundred times as long.
    fn capture(&mut self, id: PatternId, pattern: &Pattern, value: ValueId) -> bool {
        let base = self.state.values.span(value);
        let Some((start, end)) = pattern.find(id, self.caches, self.state.values.get(value)) else {
            return false;
        };
        let whole = TxValue::Bytes(Span { start: base.start + start, len: end - start });
        self.state.set_tx(TxSlot(0), whole);
        for slot in 1..=LAST_GROUP {
            self.state.set_tx(TxSlot(slot), TxValue::Unset);
        }
        self.state.captured = pattern.has_groups().then_some((id, base));
        true
    }

    /// A TX variable, the groups of the last capture included.
    pub(super) fn tx(&mut self, slot: TxSlot) -> TxValue {
        if (1..=LAST_GROUP).contains(&slot.0) {
            self.settle_captures();
        }
        self.state.tx(slot)
    }

    /// Sets TX:1 to TX:9 to what the last capture's groups matched, if that has not been done.
    pub(super) fn settle_captures(&mut self) {
        let Some((id, base)) = self.state.captured.take() else { return };
        let Some(pattern) = self.program.pattern(id) else { return };
        let groups = pattern.groups(id, self.caches, self.state.values.span_bytes(base)).unwrap_or_default();
        for (slot, group) in (0u16..).zip(groups).skip(1) {
            let captured = group.map_or(TxValue::Unset, |(start, end)| {
                TxValue::Bytes(Span { start: base.start + start, len: end - start })
            });
            self.state.set_tx(TxSlot(slot), captured);
        }
    }

    /// Whether the value reads as an attack; what it is known by is captured.
    fn detect(&mut self, detector: Detector, link: &Link, value: ValueId) -> bool {
        let values = &mut self.state.values;
        let capture = link.capture && !link.negated;
        let captured = match detector {
            Detector::Sqli => {
                let Some(fingerprint) = libinjection::sqli(values.get(value)) else { return false };
                capture.then(|| values.store(fingerprint.as_bytes()))
            }
            Detector::Xss if !libinjection::xss(values.get(value)) => return false,
            Detector::Xss => capture.then(|| values.span(value)),
        };
        if let Some(span) = captured {
            self.state.set_tx(TxSlot(0), TxValue::Bytes(span));
        }
        true
    }

    /// Whether the database knows the address; what it knows becomes `GEO`.
    fn geo_lookup(&mut self, value: ValueId) -> bool {
        let state = &mut *self.state;
        state.geo.clear();
        let Some(database) = self.program.geo.as_ref() else { return false };
        let place = match database.lookup(state.values.get(value)) {
            Ok(Some(place)) => place,
            Ok(None) => return false,
            Err(_) => {
                state.note("the database of addresses is broken");
                return false;
            }
        };
        for (key, value) in place {
            let entry = state.entry(key.as_bytes(), value.as_bytes());
            state.geo.push(entry);
        }
        true
    }

    /// A value matched: it is remembered, and the link's `setvar`s happen.
    fn hit(&mut self, link: &Link, hit: Hit) {
        self.state.matched = Some(hit);
        self.state.matched_all.push(hit);
        self.setvars(link);
    }

    /// All links matched: report, and decide what becomes of the transaction.
    pub(super) fn full_match(&mut self, rule: &Rule) -> Verdict {
        if let Some(severity) = rule.meta.severity {
            self.state.highest_severity = self.state.highest_severity.min(severity);
        }
        if rule.log {
            let reported = self.report(rule);
            self.state.matches.push(reported);
        }
        let (action, status) = match &rule.disruptive {
            Disruptive::Pass | Disruptive::Block => return Verdict::Continue,
            Disruptive::Allow(scope) => return self.allow(*scope),
            Disruptive::Deny => (Action::Deny, 403),
            Disruptive::Drop => (Action::Drop, 403),
            Disruptive::Redirect(address) => {
                let mut text = Vec::new();
                self.expand(address, &mut text);
                (Action::Redirect(String::from_utf8_lossy(&text).into_owned()), 302)
            }
        };
        // A redirection with a status that is none, such as a default's 403, would lead nowhere.
        let fits = |own: &u16| status != 302 || matches!(own, 301 | 302 | 303 | 307 | 308);
        let interruption = Interruption {
            action,
            status: rule.status.filter(fits).unwrap_or(status),
            rule_id: rule.id,
            phase: rule.phase,
            msg: self.show(rule.meta.msg.as_ref()),
        };
        self.interrupt(interruption)
    }

    fn interrupt(&mut self, interruption: Interruption) -> Verdict {
        if interruption.phase == Phase::Logging {
            return Verdict::Continue;
        }
        if self.state.mode == Mode::Detect {
            self.state.would_interrupt.get_or_insert(interruption);
            return Verdict::Continue;
        }
        Verdict::Interrupt(interruption)
    }

    fn allow(&mut self, scope: AllowScope) -> Verdict {
        if self.state.mode == Mode::Detect {
            return Verdict::Continue;
        }
        match scope {
            AllowScope::Phase => {}
            AllowScope::Request => self.state.allowed_until = self.state.allowed_until.max(2),
            AllowScope::All => self.state.allowed_until = 4,
        }
        Verdict::EndPhase
    }
}
