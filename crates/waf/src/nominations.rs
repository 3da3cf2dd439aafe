//! Which rules a value can make match. Rules do not look for values that concern them; each value of a message names the
//! rules that it concerns, by the first of their conditions, and the other rules are not visited at all.
//!
//! Rules whose first condition is about something else (variables that change while a phase runs, counts) are visited in
//! any case: they are the standing ones.

use std::collections::BTreeMap;

use crate::macros::Num;
use crate::operator::{Op, PatternId};
use crate::prefilter::set_bit;
use crate::program::{Link, Program, Segment, SegmentId};
use crate::rule::Phase;
use crate::variable::Var;

/// The rules of one phase by what concerns them.
#[derive(Debug, Default)]
pub(crate) struct Nominations {
    /// The places (in the phase's order) of the rules that are visited in any case, one bit each.
    pub(crate) standing: Box<[u64]>,
    /// The places of those whose first condition is about numbers of entries alone, and the index of that condition.
    pub(crate) counts: Box<[(u32, u32)]>,
    /// The parts of the message that the other rules look at.
    pub(crate) parts: Box<[Part]>,
    pub(crate) questions: Box<[Question]>,
}

/// The first condition of a rule, asked about one of its targets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// The rule's, in the phase's order.
    pub(crate) place: u32,
    /// Index of the condition in the program.
    pub(crate) link: u32,
    pub(crate) segment: SegmentId,
    /// The values are the names of the entries.
    pub(crate) names: bool,
}

/// What is asked about the values of one part of a message.
#[derive(Debug)]
pub(crate) struct Part {
    /// The part, as in [`Var::parts`].
    pub(crate) var: Var,
    /// Whether values of it are likely to come again. Bodies are not: they are not remembered, but as they may be long, it
    /// is put off to look at them until the first rule that wants it.
    pub(crate) recurs: bool,
    pub(crate) forms: Box<[Form]>,
}

/// The questions about one form of the values.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) segment: SegmentId,
    /// The patterns of `by_pattern`, one bit each.
    pub(crate) patterns: Box<[u64]>,
    /// Questions that only a pattern's match answers with yes: in the order of the patterns.
    pub(crate) by_pattern: Box<[(PatternId, u32)]>,
    /// All others, behind the index of their condition.
    pub(crate) others: Box<[(u32, u32)]>,
}

impl Form {
    /// All questions about the form.
    pub(crate) fn questions(&self) -> impl Iterator<Item = u32> {
        let by_pattern = self.by_pattern.iter().map(|(_, question)| *question);
        by_pattern.chain(self.others.iter().map(|(_, question)| *question))
    }

    /// The questions that a pattern's match answers.
    pub(crate) fn questions_of(&self, pattern: PatternId) -> impl Iterator<Item = u32> {
        let start = self.by_pattern.partition_point(|(id, _)| *id < pattern);
        let from = self.by_pattern.get(start..).unwrap_or_default().iter();
        from.take_while(move |(id, _)| *id == pattern).map(|(_, question)| *question)
    }
}

impl Nominations {
    pub(crate) fn new(program: &Program, phase: Phase) -> Self {
        let order = program.order(phase);
        let mut standing = vec![0; order.len().div_ceil(64)];
        let (mut questions, mut counts) = (Vec::new(), Vec::new());
        let mut parts: BTreeMap<Var, BTreeMap<SegmentId, Vec<u32>>> = BTreeMap::new();
        for (place, index) in (0u32..).zip(order) {
            let first = program.rule(*index).map_or(0, |rule| rule.links.start);
            let link = program.links.get(first as usize);
            let Some(segments) = link.and_then(|link| asked_of(program, link)) else {
                if link.is_some_and(|link| counts_entries(program, link)) {
                    counts.push((place, first));
                } else {
                    set(&mut standing, place as usize);
                }
                continue;
            };
            for segment in segments {
                let Some(var) = program.segments.get(segment.0 as usize).map(|segment| segment.target.var)
                else {
                    continue;
                };
                for part in var.parts() {
                    let forms = parts.entry(*part).or_default();
                    forms.entry(*segment).or_default().push(questions.len() as u32);
                }
                let names = var.is_names();
                questions.push(Question { place, link: first, segment: *segment, names });
            }
        }
        let part = |(var, forms): (Var, BTreeMap<SegmentId, Vec<u32>>)| Part {
            var,
            recurs: recurs(var),
            forms: forms
                .into_iter()
                .map(|(segment, asked)| form(program, segment, &asked, &questions))
                .collect(),
        };
        let parts = parts.into_iter().map(part).collect();
        Self { standing: standing.into(), counts: counts.into(), parts, questions: questions.into() }
    }
}

impl Nominations {
    /// The parts, one bit each, that rules at some places look at.
    pub(crate) fn parts_of(&self, places: &[u64]) -> Box<[u64]> {
        let mut parts = vec![0; self.parts.len().div_ceil(64)];
        let is_of = |question: u32| {
            let question = self.questions.get(question as usize);
            question.is_some_and(|question| has(places, question.place as usize))
        };
        for (number, part) in self.parts.iter().enumerate() {
            if part.forms.iter().flat_map(Form::questions).any(is_of) {
                set(&mut parts, number);
            }
        }
        parts.into()
    }
}

/// The segments whose values decide whether a condition can hold, if that is all it depends on.
fn asked_of<'a>(program: &'a Program, link: &Link) -> Option<&'a [SegmentId]> {
    let lane = program.lanes.get(link.lane.0 as usize)?;
    if link.unconditional || link.gate.is_some() || !lane.stable {
        return None;
    }
    let of_message = |id: &SegmentId| {
        let segment = program.segments.get(id.0 as usize);
        segment.is_some_and(|segment| !segment.target.counted && is_of_message(segment.target.var))
    };
    lane.segments.iter().all(of_message).then_some(&*lane.segments)
}

/// Whether a condition is about nothing but numbers of entries of the message.
fn counts_entries(program: &Program, link: &Link) -> bool {
    let of_message = |segment: &Segment| {
        segment.target.counted && segment.chain.is_empty() && is_of_message(segment.target.var)
    };
    let lane = program.lanes.get(link.lane.0 as usize).filter(|lane| lane.stable && !link.unconditional);
    let mut segments = lane.iter().flat_map(|lane| &lane.segments);
    matches!(link.op, Op::Compare(_, Num::Fixed(_)))
        && segments.all(|id| program.segments.get(id.0 as usize).is_some_and(of_message))
        && lane.is_some()
}

/// Whether a (stable) variable's values are what the message had when the phase began. A rule can choose the processor.
const fn is_of_message(var: Var) -> bool {
    !matches!(var, Var::Env | Var::ReqbodyProcessor)
}

const fn recurs(part: Var) -> bool {
    !matches!(
        part,
        Var::RequestBody | Var::StreamInputBody | Var::ResponseBody | Var::StreamOutputBody | Var::UniqueId
    )
}

fn form(program: &Program, segment: SegmentId, asked: &[u32], questions: &[Question]) -> Form {
    let mut patterns = vec![0; program.patterns.len().div_ceil(64)];
    let (mut by_pattern, mut others) = (Vec::new(), Vec::new());
    for &number in asked {
        let Some(index) = questions.get(number as usize).map(|question| question.link) else { continue };
        match program.links.get(index as usize).map(|link| (&link.op, link.negated)) {
            Some((Op::Rx(id) | Op::Pm(id), false)) => {
                set_bit(&mut patterns, *id);
                by_pattern.push((*id, number));
            }
            _ => others.push((index, number)),
        }
    }
    by_pattern.sort_unstable();
    Form { segment, patterns: patterns.into(), by_pattern: by_pattern.into(), others: others.into() }
}

/// Whether the bit of a place is set.
pub(crate) fn has(places: &[u64], place: usize) -> bool {
    places.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 != 0)
}

/// Sets the bit of a place.
pub(crate) fn set(places: &mut [u64], place: usize) {
    if let Some(word) = places.get_mut(place / 64) {
        *word |= 1 << (place % 64);
    }
}
