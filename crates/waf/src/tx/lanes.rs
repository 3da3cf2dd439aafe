//! Lanes at work: gathered once, transformed once, scanned once, however many rules look at them.
//!
//! A lane is made of segments, one for each target, which other lanes have too. What is known of all values of a lane
//! together (their bytes, the longest length, the union of their candidate sets) rejects most rules without a look at
//! any value; what is known of the values of a segment, most segments.

use std::ops::Range;

use super::engine::Engine;
use super::state::Item;
use crate::byteset::ByteSet;
use crate::operator::PatternId;
use crate::prefilter::has_bit;
use crate::program::{Lane, LaneId, Segment, SegmentId};
use crate::rule::Phase;

/// The values of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathered {
    start: u32,
    len: u32,
    /// The transformations that leave every value alone.
    identities: u64,
    outline: Outline,
    scan: Option<Scan>,
    /// For a segment without transformations: the newest of those made of it by some; a list, by place.
    derived: u32,
    /// The next of that list.
    next: u32,
}

/// What is known of several values together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outline {
    /// How many there are.
    pub(super) count: u32,
    /// Length of the longest.
    pub(super) longest: u32,
    /// The bytes that occur in any of them.
    pub(super) bytes: ByteSet,
}

/// What the prefilter found in the values of a segment.
#[derive(Clone, Copy, Debug)]
struct Scan {
    /// Where the union of the values' candidate sets starts.
    union: u32,
    /// Where the places of the single sets start, one for each value.
    rows: u32,
}

/// What is known of all segments of a lane together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(super) outline: Outline,
    /// Where the union of the values' candidate sets starts.
    union: Option<u32>,
}

impl Outline {
    const NOTHING: Self = Self { count: 0, longest: 0, bytes: ByteSet::EMPTY };

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
        self.bytes = self.bytes.union(&other.bytes);
    }
}

impl Gathered {
    pub(super) fn items(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }

    pub(super) fn outline(&self) -> &Outline {
        &self.outline
    }
}

/// No place in `State::gathered` or `State::summaries`.
pub(super) const NOWHERE: u32 = u32::MAX;

impl Engine<'_> {
    /// Forgets what is out of date, and all scans when the other prefilter's turn has come.
    pub(super) fn begin(&mut self, phase: Phase) {
        let (state, program) = (&mut *self.state, self.program);
        if state.side != phase.side() {
            state.side = phase.side();
            state.gathered.iter_mut().for_each(|gathered| gathered.scan = None);
            state.summaries.iter_mut().for_each(|summary| summary.union = None);
        }
        let changed = std::mem::take(&mut state.changed);
        if !state.gathered_from.intersects(changed) {
            return;
        }
        let segments = program.segments.iter().map(|segment| segment.sources);
        let lanes = program.lanes.iter().map(|lane| lane.sources);
        let places = state.segments.iter_mut().zip(segments).chain(state.lanes.iter_mut().zip(lanes));
        for (place, _) in places.filter(|(_, sources)| sources.intersects(changed)) {
            *place = NOWHERE;
        }
    }

    /// What is known of a stable lane, as a place in `State::summaries`; its segments have been gathered then.
    pub(super) fn lane(&mut self, id: LaneId, lane: &Lane) -> u32 {
        let known = self.state.lanes.get(id.0 as usize).copied().unwrap_or(NOWHERE);
        if known != NOWHERE {
            return known;
        }
        let mut outline = Outline::NOTHING;
        for segment in &lane.segments {
            let place = self.segment(*segment);
            if let Some(gathered) = self.state.gathered.get(place as usize) {
                outline.add(&gathered.outline);
            }
        }
        let place = self.state.summaries.len() as u32;
        self.state.summaries.push(Summary { outline, union: None });
        self.state.gathered_from = self.state.gathered_from.union(lane.sources);
        if let Some(known) = self.state.lanes.get_mut(id.0 as usize) {
            *known = place;
        }
        place
    }

    /// The values of a segment, as a place in `State::gathered`: gathered on first use, then kept until something they
    /// come from changes.
    fn segment(&mut self, id: SegmentId) -> u32 {
        let known = self.state.segments.get(id.0 as usize).copied().unwrap_or(NOWHERE);
        let program = self.program;
        let Some(segment) = program.segments.get(id.0 as usize).filter(|_| known == NOWHERE) else {
            return known;
        };
        let place = match segment.base {
            Some(base) => self.derived(base, segment),
            None => {
                let mut items = std::mem::take(&mut self.state.items);
                items.clear();
                self.gather_segment(segment, &mut items);
                self.keep(items)
            }
        };
        if let Some(known) = self.state.segments.get_mut(id.0 as usize) {
            *known = place;
        }
        place
    }

    /// A segment's values from those of the same target without transformations. They are the very same ones when the
    /// transformations leave all of them alone, which is what happens to ordinary traffic, and those of another
    /// segment when other transformations made the same of them.
    fn derived(&mut self, base: SegmentId, segment: &Segment) -> u32 {
        let from = self.segment(base);
        let Some(gathered) = self.state.gathered.get(from as usize).copied() else { return from };
        if gathered.identities & segment.mask == segment.mask {
            return from;
        }
        let mut items = std::mem::take(&mut self.state.items);
        items.clear();
        items.extend_from_slice(self.state.lane_items.get(gathered.items()).unwrap_or_default());
        self.transform(segment, &mut items);
        let mut other = from;
        while let Some(gathered) = self.state.gathered.get(other as usize) {
            let known = self.state.lane_items.get(gathered.items()).unwrap_or_default();
            if known.len() == items.len() && known.iter().zip(&items).all(|(a, b)| a.value == b.value) {
                self.state.items = items;
                return other;
            }
            other = if other == from { gathered.derived } else { gathered.next };
        }
        let place = self.keep(items);
        if let Some(made) = self.state.gathered.get_mut(place as usize) {
            made.next = gathered.derived;
        }
        if let Some(base) = self.state.gathered.get_mut(from as usize) {
            base.derived = place;
        }
        place
    }

    /// Puts gathered values where they stay, and gives the buffer back.
    fn keep(&mut self, items: Vec<Item>) -> u32 {
        let mut identities = u64::MAX;
        let mut outline = Outline { count: items.len() as u32, ..Outline::NOTHING };
        for item in &items {
            let (len, bytes, leave) = self.state.values.outline(item.value);
            identities &= leave;
            outline.longest = outline.longest.max(len);
            outline.bytes = outline.bytes.union(&bytes);
        }
        let start = self.state.lane_items.len() as u32;
        let len = items.len() as u32;
        self.state.lane_items.extend_from_slice(&items);
        self.state.items = items;
        let made = Gathered { start, len, identities, outline, scan: None, derived: NOWHERE, next: NOWHERE };
        self.state.gathered.push(made);
        self.state.gathered.len() as u32 - 1
    }

    fn words(&self) -> usize {
        self.program.patterns.len().div_ceil(64)
    }

    /// Whether the literals of a pattern let it match any value of a lane.
    pub(super) fn lane_has(&mut self, lane: &Lane, place: u32, pattern: PatternId) -> bool {
        let Some(summary) = self.state.summaries.get(place as usize) else { return false };
        let union = match summary.union {
            Some(union) => union,
            None => self.unite(lane, place),
        };
        let start = union as usize;
        let union = self.state.lane_bits.get(start..start + self.words()).unwrap_or_default();
        has_bit(union, pattern)
    }

    fn unite(&mut self, lane: &Lane, place: u32) -> u32 {
        let words = self.words();
        let start = self.state.lane_bits.len();
        self.state.lane_bits.resize(start + words, 0);
        for segment in &lane.segments {
            let Some(scan) = self.scan(*segment) else { continue };
            for word in 0..words {
                let more = self.state.lane_bits.get(scan.union as usize + word).copied().unwrap_or(0);
                if let Some(word) = self.state.lane_bits.get_mut(start + word) {
                    *word |= more;
                }
            }
        }
        if let Some(summary) = self.state.summaries.get_mut(place as usize) {
            summary.union = Some(start as u32);
        }
        start as u32
    }

    /// The values of a (gathered) segment among which a pattern's matches are, as places of their candidate sets.
    pub(super) fn rows(&mut self, id: SegmentId, pattern: PatternId) -> Option<Range<usize>> {
        let scan = self.scan(id)?;
        let union = self.state.lane_bits.get(scan.union as usize..)?.get(..self.words())?;
        let rows = scan.rows as usize;
        has_bit(union, pattern).then_some(rows..rows + self.gathered(id)?.len as usize)
    }

    /// The values of a segment, if they have been gathered.
    pub(super) fn gathered(&self, id: SegmentId) -> Option<&Gathered> {
        let place = self.state.segments.get(id.0 as usize).copied()?;
        self.state.gathered.get(place as usize)
    }

    fn scan(&mut self, id: SegmentId) -> Option<Scan> {
        let place = self.state.segments.get(id.0 as usize).copied()? as usize;
        let gathered = *self.state.gathered.get(place)?;
        if gathered.scan.is_some() {
            return gathered.scan;
        }
        let words = self.words();
        let state = &mut *self.state;
        let filter = self.program.prefilters.get(state.side)?;
        let scan = Scan { union: state.lane_bits.len() as u32, rows: state.lane_rows.len() as u32 };
        state.lane_bits.resize(state.lane_bits.len() + words, 0);
        let union = state.lane_bits.get_mut(scan.union as usize..)?;
        for item in state.lane_items.get(gathered.items())? {
            let row = state.values.row(item.value, state.side, filter);
            for (word, more) in union.iter_mut().zip(state.values.candidates(row)) {
                *word |= more;
            }
            state.lane_rows.push(row);
        }
        state.gathered.get_mut(place)?.scan = Some(scan);
        Some(scan)
    }

    /// Takes values through a segment's transformations.
    pub(super) fn transform(&mut self, segment: &Segment, out: &mut Vec<Item>) {
        if segment.chain.is_empty() {
            return;
        }
        if !segment.every_form {
            let Segment { chain_number, chain, mask, .. } = segment;
            for item in out.iter_mut() {
                item.value = self.state.values.transformed(item.value, *chain_number, chain, *mask);
            }
            return;
        }
        let mut forms = std::mem::take(&mut self.state.forms);
        forms.clear();
        for item in out.iter() {
            let mut form = *item;
            forms.push(form);
            for transform in &segment.chain {
                let next = self.state.values.step(form.value, *transform);
                if next != form.value {
                    form.value = next;
                    forms.push(form);
                }
            }
        }
        out.clear();
        out.extend_from_slice(&forms);
        self.state.forms = forms;
    }
}
