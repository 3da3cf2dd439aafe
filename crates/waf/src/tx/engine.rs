//! The rule loop: phases, rules, chains, operators.

use super::forecast::{Forecast, Step};
use super::memo::Memo;
use super::state::{Hit, Item, State, TxValue};
use super::values::ValueId;
use crate::macros::Num;
use crate::operator::{Caches, Op};
use crate::program::{Gate, Link, Program, Rule, RuleIx};
use crate::report::{Action, Interruption};
use crate::rule::{AllowScope, Disruptive, Mode, Phase};
use crate::variable::Var;

/// A program at work on a state, with the thread's caches, for the length of a phase.
pub(super) struct Engine<'a> {
    pub(super) program: &'a Program,
    pub(super) state: &'a mut State,
    pub(super) caches: &'a mut Caches,
    pub(super) memo: &'a mut Memo,
    pub(super) forecast: &'a Forecast,
}

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
        let (program, forecast) = (self.program, self.forecast);
        let (order, rules) = (program.order(phase), program.nominations.get(phase.index())?);
        let mut course = forecast.course(phase, self.state.foreseen);
        let mut steps: &[Step] = course.map_or(&[], |course| &course.steps);
        self.nominate(phase, rules, course);
        let mut at = 0usize;
        while let Some(place) = self.next_place(rules, at) {
            at = place + 1;
            if self.state.mode == Mode::Off {
                return None;
            }
            steps = self.catch_up(steps, place);
            let Some(&index) = order.get(place) else { break };
            if self.state.removed.contains(index) || !self.is_concerned(rules, place) {
                continue;
            }
            let Some(rule) = program.rule(index) else { continue };
            let matched = self.rule(index, rule);
            if matched {
                at = rule.skip.from(at);
            }
            let stirred = std::mem::take(&mut self.state.stirred);
            if let Some(foreseen) = course {
                match foreseen.steps_from(at, order.len(), steps).filter(|_| !stirred) {
                    Some(left) => steps = left,
                    None => {
                        self.nominate_others(phase, rules, foreseen);
                        (course, steps) = (None, &[]);
                    }
                }
            }
            if !matched {
                continue;
            }
            match self.full_match(rule) {
                Verdict::Continue => {}
                Verdict::EndPhase => return None,
                Verdict::Interrupt(interruption) => return Some(interruption),
            }
        }
        if course.is_some() {
            self.catch_up(steps, usize::MAX);
            self.state.foreseen = phase.number();
        }
        None
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
        if self.state.touched.contains(index) && self.removal(index, &item).is_some() {
            self.withhold(index, &item);
            return false;
        }
        self.hit(link, Hit { item, number: Some(number) });
        true
    }

    /// A value matched: it is remembered, and the link's `setvar`s happen.
    pub(super) fn hit(&mut self, link: &Link, hit: Hit) {
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
