//! What the rules of a route do that ask about nothing but TX variables: found out once, when the route's overlay is
//! compiled, by running them.
//!
//! Most rules of a rule set that are visited in any case preset scores and thresholds, and skip the rules of higher
//! paranoia levels. What they do is the same for every request, for as long as no other rule has changed a TX variable or
//! gone elsewhere: then the phase, and those after it, go on rule by rule.

use super::engine::Engine;
use super::explain::Added;
use super::memo::Memo;
use super::state::{Hit, State, TxValue};
use crate::macros::{Num, Part, Text, TxSlot};
use crate::nominations::{has, set};
use crate::operator::{Caches, Op};
use crate::overlay::Overlay;
use crate::program::{Link, Program, Rule, RuleIx};
use crate::rule::{Disruptive, Phase, SetVar, TxChange, TxTarget};
use crate::target::{Key, Target};
use crate::variable::Var;

/// What is foreseen of all phases.
#[derive(Debug, Default)]
pub(crate) struct Forecast {
    phases: [Course; 5],
    /// The TX variables that what is foreseen depends on or writes, one bit each.
    slots: Box<[u64]>,
    /// The keys of what it depends on besides, for variables whose names are made at run time.
    keys: Box<[Key]>,
}

/// What is foreseen of a phase.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// The places of the rules that are reached and cannot be foreseen, one bit each.
    pub(crate) live: Box<[u64]>,
    /// The places of all rules that are reached, removed ones included.
    reached: Box<[u64]>,
    /// The parts of the message, by their number in the phase's nominations, that live rules look at, one bit each.
    asked: Box<[u64]>,
    /// What the others do.
    pub(crate) steps: Box<[Step]>,
}

impl Course {
    /// Whether rules that cannot be foreseen look at a part of the message, by its number in the phase's nominations.
    pub(super) fn asks(&self, part: usize) -> bool {
        has(&self.asked, part)
    }

    /// What is left of `steps` when the rules are gone on with at a place, of so many; `None` where this is not what was
    /// foreseen.
    pub(super) fn steps_from<'s>(&self, place: usize, rules: usize, steps: &'s [Step]) -> Option<&'s [Step]> {
        let passed = steps.iter().take_while(|step| (step.place as usize) < place).count();
        let (passed, left) = steps.split_at_checked(passed)?;
        let reached = place >= rules || has(&self.reached, place);
        // What was matched last is not asked about by what is foreseen.
        (reached && passed.iter().all(|step| step.writes.is_empty() && step.added.is_empty())).then_some(left)
    }
}

/// What a rule does that is foreseen.
#[derive(Debug)]
pub(crate) struct Step {
    place: u32,
    /// What it matched last.
    hit: Option<Hit>,
    writes: Box<[(TxSlot, Constant)]>,
    added: Box<[Added]>,
}

/// What a TX variable is set to.
#[derive(Debug)]
enum Constant {
    Unset,
    Int(i64),
    Text(Box<[u8]>),
}

/// How a rule went whose conditions are foreseen.
struct Rehearsed {
    matched: bool,
    step: Option<Step>,
}

impl Forecast {
    /// Finds out what is foreseen of transactions under an overlay.
    pub(crate) fn new(program: &Program, overlay: &Overlay) -> Self {
        let mut state = State::take(program, overlay);
        let (mut caches, mut memo) = (Caches::for_program(program.uid), Memo::default());
        let none = Self::default();
        let mut engine =
            Engine { program, state: &mut state, caches: &mut caches, memo: &mut memo, forecast: &none };
        let mut slots = Slots { bits: vec![0; program.names.len().div_ceil(64)], keys: Vec::new() };
        let phases = Phase::ALL.map(|phase| engine.foresee(phase, &mut slots));
        state.give_back();
        Self { phases, slots: slots.bits.into(), keys: slots.keys.into() }
    }

    /// Whether something is foreseen that depends on a TX variable or writes it.
    pub(super) fn concerns(&self, slot: TxSlot) -> bool {
        has(&self.slots, usize::from(slot.0))
    }

    /// Whether something is foreseen that depends on a TX variable whose name was made at run time.
    pub(super) fn concerns_name(&self, name: &[u8]) -> bool {
        self.keys.iter().any(|key| key.matches(name))
    }

    /// What is foreseen of a phase, if the phases before it, so many, went as foreseen.
    pub(crate) fn course(&self, phase: Phase, foreseen: u8) -> Option<&Course> {
        self.phases.get(phase.index()).filter(|_| foreseen + 1 == phase.number())
    }
}

/// The TX variables that some rules have to do with.
struct Slots {
    bits: Vec<u64>,
    keys: Vec<Key>,
}

impl Slots {
    fn add(&mut self, slot: TxSlot) {
        set(&mut self.bits, usize::from(slot.0));
    }

    fn add_text(&mut self, text: &Text) {
        for part in &text.parts {
            if let Part::Tx(slot) = part {
                self.add(*slot);
            }
        }
    }

    fn add_number(&mut self, number: &Num) {
        if let Num::Text(text) = number {
            self.add_text(text);
        }
    }

    fn add_link(&mut self, program: &Program, link: &Link) {
        let lane = program.lanes.get(link.lane.0 as usize);
        for target in lane.iter().flat_map(|lane| &lane.targets.includes) {
            if let Key::Slot(slot) = &target.key {
                self.add(*slot);
                continue;
            }
            target.key.slots().into_iter().flatten().for_each(|slot| self.add(*slot));
            self.keys.push(target.key.clone());
        }
        match &link.op {
            Op::Text(_, text) | Op::RxText(text) => self.add_text(text),
            Op::Compare(_, number) => self.add_number(number),
            _ => {}
        }
        for setvar in &link.setvars {
            if let TxTarget::Slot(slot) = &setvar.target {
                self.add(*slot);
            }
            match &setvar.change {
                TxChange::Set(text) => self.add_text(text),
                TxChange::Add(amount) | TxChange::Subtract(amount) => self.add_number(amount),
                _ => {}
            }
        }
    }
}

impl Engine<'_> {
    /// Does what is foreseen of the rules before a place; what is left is given back.
    pub(super) fn catch_up<'s>(&mut self, steps: &'s [Step], place: usize) -> &'s [Step] {
        let mut left = steps;
        while let Some((step, rest)) = left.split_first()
            && (step.place as usize) < place
        {
            for (slot, constant) in &step.writes {
                let value = match constant {
                    Constant::Unset => TxValue::Unset,
                    Constant::Int(number) => TxValue::Int(*number),
                    Constant::Text(text) => TxValue::Bytes(self.state.values.store(text)),
                };
                self.state.set_tx(*slot, value);
            }
            self.state.matched = step.hit.or(self.state.matched);
            self.state.added.extend_from_slice(&step.added);
            left = rest;
        }
        left
    }

    /// Goes through a phase in which no rule matches but those that are foreseen.
    fn foresee(&mut self, phase: Phase, slots: &mut Slots) -> Course {
        self.begin(phase);
        let program = self.program;
        let order = program.order(phase);
        let mut live = vec![0; order.len().div_ceil(64)];
        let mut reached = live.clone();
        let mut steps = Vec::new();
        let mut at = 0;
        while let Some(&index) = order.get(at) {
            let place = at;
            at += 1;
            set(&mut reached, place);
            let Some(rule) = program.rule(index).filter(|_| !self.state.removed.contains(index)) else {
                continue;
            };
            let Some(rehearsed) = self.rehearse(index, rule, place) else {
                set(&mut live, place);
                continue;
            };
            steps.extend(rehearsed.step);
            program.links(rule).iter().for_each(|link| slots.add_link(program, link));
            if rehearsed.matched {
                at = rule.skip.from(at);
            }
        }
        let asked = program.nominations.get(phase.index()).map(|rules| rules.parts_of(&live));
        Course {
            live: live.into(),
            reached: reached.into(),
            asked: asked.unwrap_or_default(),
            steps: steps.into(),
        }
    }

    /// Runs a rule whose conditions are foreseen; `None` where they are not, or where the rule does more than to set TX
    /// variables.
    fn rehearse(&mut self, index: RuleIx, rule: &Rule, place: usize) -> Option<Rehearsed> {
        let program = self.program;
        let links = program.links(rule);
        if self.state.touched.contains(index) || !links.iter().all(|link| is_foreseeable(program, link)) {
            return None;
        }
        let (tx, hit, added) = (self.state.tx.clone(), self.state.matched, self.state.added.len());
        self.state.matched = None;
        let matched = self.rule(index, rule);
        let begun = matched || !self.state.matched_all.is_empty();
        let of_message = |hit: Hit| hit.item.key.is_some() || hit.item.value.is_some();
        let more = matched && !is_silent(rule) || begun && links.iter().any(|link| !link.ctls.is_empty());
        if more || self.state.matched.is_some_and(of_message) {
            self.state.tx = tx;
            self.state.captured = None;
            self.state.matched = hit;
            self.state.added.truncate(added);
            return None;
        }
        let writes: Box<[_]> = self.written_since(&tx).collect();
        let added: Box<[_]> = self.state.added.get(added..).unwrap_or_default().into();
        let own = self.state.matched;
        self.state.matched = own.or(hit);
        let idle = own.is_none() && writes.is_empty() && added.is_empty();
        let step = (!idle).then_some(Step { place: place as u32, hit: own, writes, added });
        Some(Rehearsed { matched, step })
    }

    fn written_since(&self, before: &[TxValue]) -> impl Iterator<Item = (TxSlot, Constant)> {
        let values = (0u16..).map(TxSlot).zip(self.state.tx.iter().zip(before));
        values.filter(|(_, (now, before))| now != before).map(|(slot, (now, _))| {
            let constant = match now {
                TxValue::Unset => Constant::Unset,
                TxValue::Int(number) => Constant::Int(*number),
                TxValue::Bytes(span) => Constant::Text(self.state.values.span_bytes(*span).into()),
            };
            (slot, constant)
        })
    }
}

/// Whether a rule that matches does nothing but what its conditions bring about, and perhaps go elsewhere.
fn is_silent(rule: &Rule) -> bool {
    matches!(rule.disruptive, Disruptive::Pass | Disruptive::Block)
        && !rule.log
        && rule.meta.severity.is_none()
}

/// Whether a condition asks about nothing but TX variables that only rules set, and sets nothing else.
fn is_foreseeable(program: &Program, link: &Link) -> bool {
    let of_tx = |target: &Target| target.var == Var::Tx && is_own_key(&target.key);
    let lane = program.lanes.get(link.lane.0 as usize);
    let asks_tx = lane.is_some_and(|lane| lane.targets.includes.iter().all(of_tx));
    let argument = match &link.op {
        Op::Text(_, text) | Op::RxText(text) => is_own_text(text),
        Op::Compare(_, number) => is_own_number(number),
        Op::GeoLookup => false,
        _ => true,
    };
    (link.unconditional || asks_tx && argument) && link.setvars.iter().all(is_own_setvar)
}

/// TX:0 to TX:9 are set by what matches in a message.
fn is_own_slot(slot: TxSlot) -> bool {
    slot.0 > super::inspect::LAST_GROUP
}

fn is_own_key(key: &Key) -> bool {
    match key {
        Key::Slot(slot) => is_own_slot(*slot),
        Key::Pattern(_) => (b'0'..=b'9').all(|digit| !key.matches(&[digit])),
        Key::Any | Key::Exact(_) => false,
    }
}

fn is_own_text(text: &Text) -> bool {
    text.parts.iter().all(|part| match part {
        Part::Literal(_) => true,
        Part::Tx(slot) => is_own_slot(*slot),
        Part::Var(..) => false,
    })
}

fn is_own_number(number: &Num) -> bool {
    match number {
        Num::Fixed(_) => true,
        Num::Text(text) => is_own_text(text),
    }
}

fn is_own_setvar(setvar: &SetVar) -> bool {
    let TxTarget::Slot(slot) = &setvar.target else { return false };
    is_own_slot(*slot)
        && match &setvar.change {
            TxChange::Set(text) => is_own_text(text),
            TxChange::SetInt(_) | TxChange::Unset => true,
            TxChange::Add(amount) | TxChange::Subtract(amount) => is_own_number(amount),
            TxChange::Expire(_) | TxChange::Decay(..) | TxChange::Open(_) => false,
        }
}
