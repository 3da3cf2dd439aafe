//! The rules that are to be visited in a phase: those its values concern, and those that stand in any case.

use super::engine::Engine;
use super::forecast::Course;
use super::inspect::possible;
use super::memo::{Open, Place, Seen};
use super::state::{Entry, State};
use super::values::{ValueId, Values};
use crate::macros::Num;
use crate::nominations::{Form, Nominations, Part, Question, has, set};
use crate::operator::{Op, Pattern, PatternId};
use crate::program::{Link, Segment};
use crate::rule::Phase;
use crate::target::Key;
use crate::variable::Var;

/// Values of one phase that are newly remembered at most: a request of a thousand parameters is not to drive out what
/// is known of the others.
const LEARNED: u32 = 64;

/// The rules of a phase that are to be visited.
#[derive(Debug, Default)]
pub(crate) struct Nominees {
    /// Their places in the phase's order, one bit each.
    places: Vec<u64>,
    /// Those that are neither foreseen nor out of reach.
    live: Vec<u64>,
    /// Those among them that have only open questions to speak for them.
    doubtful: Vec<u64>,
    /// For each doubtful place the newest of its candidates; a list, by index.
    heads: Vec<u32>,
    candidates: Vec<Candidate>,
    postponed: Vec<Postponed>,
    asked: Vec<Open>,
    learned: u32,
}

/// A value that may make a rule's first condition hold.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    open: Open,
    /// Before transformations.
    value: ValueId,
    memo: Place,
    next: u32,
}

/// A form of a value that has not been looked at.
#[derive(Clone, Copy, Debug)]
struct Postponed {
    part: usize,
    form: usize,
    value: ValueId,
    /// The first and the last place of the rules that want to look at it.
    first: u32,
    last: u32,
}

const NIL: u32 = u32::MAX;

impl Nominees {
    fn begin(&mut self, standing: &[u64], rules: usize) {
        self.places.clear();
        self.places.extend_from_slice(standing);
        self.doubtful.clear();
        self.doubtful.resize(standing.len(), 0);
        self.live.clear();
        self.live.resize(standing.len(), u64::MAX);
        self.heads.resize(rules, NIL);
        self.candidates.clear();
        self.postponed.clear();
        self.learned = 0;
    }

    /// Leaves the rules out that are foreseen or not reached.
    fn restrict(&mut self, live: &[u64]) {
        self.live.clear();
        self.live.extend_from_slice(live);
    }

    /// Takes them back.
    fn lift(&mut self) {
        self.live.fill(u64::MAX);
    }

    /// Puts off to look at a value until a rule wants it.
    fn postpone(&mut self, rules: &Nominations, number: usize, part: &Part, value: ValueId) {
        for (form, asked) in part.forms.iter().enumerate() {
            let questions = asked.questions().filter_map(|question| rules.questions.get(question as usize));
            let places =
                questions.map(|question| question.place).filter(|place| has(&self.live, *place as usize));
            let span = places.fold((NIL, 0), |(first, last), place| (first.min(place), last.max(place)));
            let (first, last) = span;
            if first <= last {
                self.postponed.push(Postponed { part: number, form, value, first, last });
            }
        }
    }

    /// What must be looked at before it is known that `next` is the first place from `at` on.
    fn due(&mut self, at: usize, next: Option<usize>) -> Option<Postponed> {
        let until = next.unwrap_or(usize::MAX);
        let is_due = |form: &Postponed| form.last as usize >= at && form.first as usize <= until;
        let due = self.postponed.iter().position(is_due)?;
        Some(self.postponed.swap_remove(due))
    }

    /// The first place from `at` on, of those known.
    fn next(&self, at: usize) -> Option<usize> {
        let mut number = at / 64;
        let word = |number: usize| Some(self.places.get(number)? & self.live.get(number)?);
        let mut left = word(number)? & (u64::MAX << (at % 64));
        while left == 0 {
            number += 1;
            left = word(number)?;
        }
        Some(number * 64 + left.trailing_zeros() as usize)
    }

    /// Has a rule visited because of an entry about which a question is open.
    fn propose(&mut self, rules: &Nominations, open: Open, key: ValueId, value: ValueId, memo: Place) {
        let Some(question) = rules.questions.get(open.question() as usize) else { return };
        let place = question.place as usize;
        let doubtful = has(&self.doubtful, place);
        let Some(head) = self.heads.get_mut(place) else { return };
        let next = if doubtful { *head } else { NIL };
        *head = self.candidates.len() as u32;
        let value = if question.names { key } else { value };
        self.candidates.push(Candidate { open, value, memo, next });
        set(&mut self.places, place);
        set(&mut self.doubtful, place);
    }
}

impl Engine<'_> {
    /// Finds the rules of a phase that are to be visited, as far as it is not foreseen what they do or that they are not
    /// reached.
    pub(super) fn nominate(&mut self, phase: Phase, rules: &Nominations, course: Option<&Course>) {
        let program = self.program;
        self.state.nominees.begin(&rules.standing, program.order(phase).len());
        if let Some(course) = course {
            self.state.nominees.restrict(&course.live);
        }
        for (number, part) in rules.parts.iter().enumerate() {
            if course.is_none_or(|course| course.asks(number)) {
                self.consider_part(phase, rules, number, part);
            }
        }
        for (place, link) in &rules.counts {
            if program.links.get(*link as usize).is_some_and(|link| self.counts_hold(link)) {
                set(&mut self.state.nominees.places, *place as usize);
            }
        }
    }

    /// Finds those that were left out because of what was foreseen.
    pub(super) fn nominate_others(&mut self, phase: Phase, rules: &Nominations, course: &Course) {
        self.state.nominees.lift();
        // What was put off was so with regard to the rules that were left out. What has been looked at may be once more:
        // the same rules are found, from what is known.
        self.state.nominees.postponed.clear();
        for (number, part) in rules.parts.iter().enumerate() {
            if !course.asks(number) || !part.recurs {
                self.consider_part(phase, rules, number, part);
            }
        }
    }

    fn consider_part(&mut self, phase: Phase, rules: &Nominations, number: usize, part: &Part) {
        let Some(entries) = self.state.entries(part.var).map(Vec::len) else {
            let value = self.scalar(part.var);
            if !value.is_some() {
                return;
            }
            if part.recurs {
                self.consider(phase, rules, part, ValueId::NONE, value);
            } else {
                self.state.nominees.postpone(rules, number, part, value);
            }
            return;
        };
        for at in 0..entries {
            let entry = self.state.entries(part.var).and_then(|entries| entries.get(at)).copied();
            if let Some(entry) = entry {
                self.consider(phase, rules, part, entry.key, entry.value);
            }
        }
    }

    /// The place of the next rule that is to be visited, from `at` on.
    pub(super) fn next_place(&mut self, rules: &Nominations, at: usize) -> Option<usize> {
        loop {
            let next = self.state.nominees.next(at);
            let Some(due) = self.state.nominees.due(at, next) else { return next };
            let form = rules.parts.get(due.part).and_then(|part| part.forms.get(due.form));
            let mut asked = std::mem::take(&mut self.state.nominees.asked);
            asked.clear();
            if let Some(form) = form {
                self.ask_about(form, ValueId::NONE, due.value, &mut asked);
            }
            for open in &asked {
                self.state.nominees.propose(rules, *open, ValueId::NONE, due.value, Place::NONE);
            }
            self.state.nominees.asked = asked;
        }
    }

    /// Whether a condition about numbers of entries holds.
    fn counts_hold(&mut self, link: &Link) -> bool {
        let program = self.program;
        let (Op::Compare(compare, Num::Fixed(wanted)), Some(lane)) =
            (&link.op, program.lanes.get(link.lane.0 as usize))
        else {
            return true;
        };
        let segments = lane.segments.iter().filter_map(|id| program.segments.get(id.0 as usize));
        let mut counts = segments.map(|segment| self.count(segment));
        counts.any(|count| compare.holds(count, *wanted) != link.negated)
    }

    fn count(&mut self, segment: &Segment) -> i64 {
        let target = &segment.target;
        let count = target.var.parts().iter().map(|part| {
            let Some(entries) = self.state.entries(*part) else {
                let there = self.scalar(*part).is_some();
                return usize::from(there && !self.excluded(target.var, ValueId::NONE, &segment.excludes));
            };
            let counts = |entry: &&Entry| {
                let key = self.state.values.get(entry.key);
                (matches!(target.key, Key::Any) || target.key.matches(key))
                    && (segment.excludes.is_empty()
                        || !self.excluded(target.var, entry.key, &segment.excludes))
            };
            entries.iter().filter(counts).count()
        });
        i64::try_from(count.sum::<usize>()).unwrap_or(i64::MAX)
    }

    /// Notes the rules that an entry of a message (a scalar has no key) concerns.
    fn consider(&mut self, phase: Phase, rules: &Nominations, part: &Part, key: ValueId, value: ValueId) {
        let values = &self.state.values;
        if let Some(memo) = self.memo.find(&seen(values, phase, part.var, key, value)) {
            if self.memo.unsettled(memo) && !self.state.values.overflowed() {
                self.settle(rules, key, value, memo);
            }
            for open in self.memo.open(memo) {
                self.state.nominees.propose(rules, *open, key, value, memo);
            }
            return;
        }
        let mut asked = std::mem::take(&mut self.state.nominees.asked);
        asked.clear();
        self.ask(part, key, value, &mut asked);
        let memo = self.remember(phase, part.var, key, value, &asked);
        for open in &asked {
            self.state.nominees.propose(rules, *open, key, value, memo);
        }
        self.state.nominees.asked = asked;
    }

    /// Answers all open questions about a value that has come again, so that it costs nothing from now on: those about
    /// rules of higher paranoia levels would stay open as long as these are skipped.
    fn settle(&mut self, rules: &Nominations, key: ValueId, value: ValueId, memo: Place) {
        let mut asked = std::mem::take(&mut self.state.nominees.asked);
        asked.clear();
        asked.extend_from_slice(self.memo.open(memo));
        for open in asked.iter().filter(|open| !open.holds()) {
            let Some(question) = rules.questions.get(open.question() as usize) else { continue };
            let answer = self.answer(question, if question.names { key } else { value });
            if let Some(holds) = answer.filter(|_| !self.state.values.overflowed()) {
                self.memo.answer(memo, open.question(), holds);
            }
        }
        self.state.nominees.asked = asked;
    }

    fn remember(&mut self, phase: Phase, part: Var, key: ValueId, value: ValueId, asked: &[Open]) -> Place {
        let State { values, nominees, .. } = &mut *self.state;
        // Of what could not be stored, nothing is known.
        if nominees.learned == LEARNED || values.overflowed() {
            return Place::NONE;
        }
        nominees.learned += 1;
        self.memo.keep(&seen(values, phase, part, key, value), asked)
    }

    /// Finds the questions that the literals and bytes of an entry's forms leave open.
    fn ask(&mut self, part: &Part, key: ValueId, value: ValueId, out: &mut Vec<Open>) {
        for form in &part.forms {
            self.ask_about(form, key, value, out);
        }
    }

    fn ask_about(&mut self, form: &Form, key: ValueId, value: ValueId, out: &mut Vec<Open>) {
        let program = self.program;
        let Some(segment) = program.segments.get(form.segment.0 as usize) else { return };
        let target = &segment.target;
        let whole = matches!(target.key, Key::Any) || !key.is_some();
        if !whole && !target.key.matches(self.state.values.get(key)) {
            return;
        }
        if !segment.excludes.is_empty() && self.excluded(target.var, key, &segment.excludes) {
            return;
        }
        let value = if target.var.is_names() { key } else { value };
        self.each_form(segment, value, |engine, value| {
            engine.ask_form(form, value, out);
            false
        });
    }

    /// Hands over the forms of a value that a segment's rules look at, until one of them is the one that was looked for.
    fn each_form(
        &mut self,
        segment: &Segment,
        value: ValueId,
        mut found: impl FnMut(&mut Self, ValueId) -> bool,
    ) -> bool {
        if !segment.every_form {
            let Segment { chain_number, chain, mask, .. } = segment;
            let value = self.state.values.transformed(value, *chain_number, chain, *mask);
            return found(self, value);
        }
        let mut form = value;
        if found(self, form) {
            return true;
        }
        segment.chain.iter().any(|transform| {
            let before = form;
            form = self.state.values.step(before, *transform);
            form != before && found(self, form)
        })
    }

    fn ask_form(&mut self, form: &Form, value: ValueId, out: &mut Vec<Open>) {
        let program = self.program;
        let len = self.state.values.span(value).len as usize;
        if !form.by_pattern.is_empty()
            && let Some(filter) = program.prefilters.get(self.state.side)
        {
            let row = self.state.values.row(value, self.state.side, filter);
            let candidates = self.state.values.candidates(row).iter().zip(&form.patterns);
            for (number, (found, asked)) in (0u16..).zip(candidates) {
                let mut bits = found & asked;
                while bits != 0 {
                    let id = PatternId(number * 64 + bits.trailing_zeros() as u16);
                    bits &= bits - 1;
                    let allowed =
                        |pattern: &Pattern| pattern.facts.allow(len, &self.state.values.byte_set(value));
                    if program.pattern(id).is_some_and(allowed) {
                        out.extend(form.questions_of(id).map(Open::new));
                    }
                }
            }
        }
        for &(link, question) in &form.others {
            let link = program.links.get(link as usize);
            if link.is_some_and(|link| link.negated || possible(&link.op, &self.state.values.byte_set(value)))
            {
                out.push(Open::new(question));
            }
        }
    }

    /// Whether the first condition of the rule at this place may hold: for one that is there in any case it may; for the
    /// others, the questions that are open are answered, until one with yes.
    pub(super) fn is_concerned(&mut self, rules: &Nominations, place: usize) -> bool {
        let nominees = &self.state.nominees;
        if !has(&nominees.doubtful, place) {
            return true;
        }
        let mut next = nominees.heads.get(place).copied().unwrap_or(NIL);
        while let Some(candidate) = self.state.nominees.candidates.get(next as usize).copied() {
            let number = candidate.open.question();
            let Some(question) = rules.questions.get(number as usize) else { return true };
            if candidate.open.holds() {
                return true;
            }
            let answer = self.answer(question, candidate.value);
            if let Some(holds) = answer
                && !self.state.values.overflowed()
            {
                self.memo.answer(candidate.memo, number, holds);
            }
            if answer != Some(false) {
                return true;
            }
            next = candidate.next;
        }
        false
    }

    /// Whether a condition holds for a value, if that depends on nothing else.
    fn answer(&mut self, question: &Question, value: ValueId) -> Option<bool> {
        let program = self.program;
        let link = program.links.get(question.link as usize)?;
        let segment = program.segments.get(question.segment.0 as usize)?;
        let mut unknown = false;
        let holds =
            self.each_form(segment, value, |engine, value| match engine.holds(link, value, false, None) {
                Some(holds) => holds,
                None => {
                    unknown = true;
                    true
                }
            });
        (!unknown).then_some(holds)
    }
}

fn seen<'a>(values: &'a Values, phase: Phase, part: Var, key: ValueId, value: ValueId) -> Seen<'a> {
    let place = (part as u64) << 3 | u64::from(phase.number());
    let hash = (values.hash(key).rotate_left(23) ^ values.hash(value) ^ place)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        | 1;
    Seen { phase, part, key: values.get(key), value: values.get(value), hash }
}
