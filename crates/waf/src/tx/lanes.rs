//! Lanes at work: gathered once, transformed once, scanned once, however many rules look at them.
//!
//! What is known of all values of a lane together (their bytes, the longest length, the union of their candidate sets)
//! rejects most rules without a look at any value.

use std::ops::Range;

use super::engine::Engine;
use super::state::Item;
use crate::byteset::ByteSet;
use crate::operator::PatternId;
use crate::prefilter::has_bit;
use crate::program::{Lane, LaneId};
use crate::rule::Phase;

/// The values of a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathered {
    start: u32,
    len: u32,
    /// The transformations that leave every value alone.
    identities: u64,
    /// The bytes that occur in any of them.
    pub(super) bytes: ByteSet,
    /// Length of the longest.
    pub(super) longest: u32,
    scan: Option<Scan>,
}

/// What the prefilter found in the values of a lane.
#[derive(Clone, Copy, Debug)]
struct Scan {
    /// Where the union of the values' candidate sets starts.
    union: u32,
    /// Where the places of the single sets start, one for each value.
    rows: u32,
}

impl Gathered {
    pub(super) fn items(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// No place in `State::gathered`.
pub(super) const NOT_GATHERED: u32 = u32::MAX;

impl Engine<'_> {
    /// Forgets lanes that are out of date, and all scans when the other prefilter's turn has come.
    pub(super) fn begin(&mut self, phase: Phase) {
        let state = &mut *self.state;
        if state.side != phase.side() {
            state.side = phase.side();
            state.gathered.iter_mut().for_each(|gathered| gathered.scan = None);
        }
        let changed = std::mem::take(&mut state.changed);
        for (place, lane) in state.lanes.iter_mut().zip(&self.program.lanes) {
            if lane.sources.intersects(changed) {
                *place = NOT_GATHERED;
            }
        }
    }

    /// The values of a stable lane, as a place in `State::gathered`: gathered on first use, then kept until something
    /// they come from changes.
    pub(super) fn lane(&mut self, id: LaneId, lane: &Lane) -> u32 {
        let known = self.state.lanes.get(id.0 as usize).copied().unwrap_or(NOT_GATHERED);
        if known != NOT_GATHERED {
            return known;
        }
        let program = self.program;
        let base = lane.base.and_then(|base| Some((base, program.lanes.get(base.0 as usize)?)));
        let place = match base {
            Some((base, base_lane)) => self.derived(base, base_lane, lane),
            None => {
                let mut items = std::mem::take(&mut self.state.items);
                items.clear();
                self.gather(lane, &mut items);
                self.keep(items)
            }
        };
        if let Some(known) = self.state.lanes.get_mut(id.0 as usize) {
            *known = place;
        }
        place
    }

    /// A lane's values from those of the lane with the same targets and no transformations: the very same ones when
    /// the transformations leave all of them alone, which is what happens to ordinary traffic.
    fn derived(&mut self, base: LaneId, base_lane: &Lane, lane: &Lane) -> u32 {
        let place = self.lane(base, base_lane);
        let Some(gathered) = self.state.gathered.get(place as usize) else { return place };
        if gathered.identities & lane.mask == lane.mask {
            return place;
        }
        let mut items = std::mem::take(&mut self.state.items);
        items.clear();
        items.extend_from_slice(self.state.lane_items.get(gathered.items()).unwrap_or_default());
        self.transform(lane, &mut items);
        self.keep(items)
    }

    /// Puts gathered values where they stay, and gives the buffer back.
    fn keep(&mut self, items: Vec<Item>) -> u32 {
        let mut gathered = Gathered {
            start: self.state.lane_items.len() as u32,
            len: items.len() as u32,
            identities: u64::MAX,
            bytes: ByteSet::EMPTY,
            longest: 0,
            scan: None,
        };
        for item in &items {
            let (len, bytes, identities) = self.state.values.outline(item.value);
            gathered.identities &= identities;
            gathered.bytes = gathered.bytes.union(&bytes);
            gathered.longest = gathered.longest.max(len);
        }
        self.state.lane_items.extend_from_slice(&items);
        self.state.items = items;
        self.state.gathered.push(gathered);
        self.state.gathered.len() as u32 - 1
    }

    /// The values among which a pattern's matches are, as places of their candidate sets; `None`: it matches none.
    pub(super) fn rows(&mut self, place: u32, pattern: PatternId) -> Option<Range<usize>> {
        let gathered = *self.state.gathered.get(place as usize)?;
        let scan = match gathered.scan {
            Some(scan) => scan,
            None => self.scan(place, &gathered)?,
        };
        let words = self.program.patterns.len().div_ceil(64);
        let union = self.state.lane_bits.get(scan.union as usize..)?.get(..words)?;
        let rows = scan.rows as usize;
        has_bit(union, pattern).then_some(rows..rows + gathered.len as usize)
    }

    fn scan(&mut self, place: u32, gathered: &Gathered) -> Option<Scan> {
        let state = &mut *self.state;
        let filter = self.program.prefilters.get(state.side)?;
        let scan = Scan { union: state.lane_bits.len() as u32, rows: state.lane_rows.len() as u32 };
        state.lane_bits.resize(state.lane_bits.len() + self.program.patterns.len().div_ceil(64), 0);
        let union = state.lane_bits.get_mut(scan.union as usize..)?;
        for item in state.lane_items.get(gathered.items())? {
            let row = state.values.row(item.value, state.side, filter);
            for (word, more) in union.iter_mut().zip(state.values.candidates(row)) {
                *word |= more;
            }
            state.lane_rows.push(row);
        }
        state.gathered.get_mut(place as usize)?.scan = Some(scan);
        Some(scan)
    }

    /// Takes values through a lane's transformations.
    pub(super) fn transform(&mut self, lane: &Lane, out: &mut Vec<Item>) {
        if lane.chain.is_empty() {
            return;
        }
        if !lane.every_form {
            for item in out.iter_mut() {
                item.value =
                    self.state.values.transformed(item.value, lane.chain_number, &lane.chain, lane.mask);
            }
            return;
        }
        let mut forms = std::mem::take(&mut self.state.forms);
        forms.clear();
        for item in out.iter() {
            let mut form = *item;
            forms.push(form);
            for transform in &lane.chain {
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
