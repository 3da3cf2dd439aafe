//! Lanes and their segments: what rules look at, each distinct thing once.

use super::Compiler;
use crate::macros::TxNames;
use crate::program::{Lane, LaneId, Segment, SegmentId};
use crate::sources::Sources;
use crate::target::{Exclusion, Target, TargetSet};
use crate::transform::Transform;
use crate::variable::Var;

impl Compiler<'_> {
    /// The lane for these targets in this form; equal ones are one lane.
    pub(super) fn lane(
        &mut self,
        mut targets: TargetSet,
        chain: Vec<Transform>,
        every_form: bool,
        names: &TxNames,
    ) -> LaneId {
        let key = targets.show(names) + &form(&chain, every_form);
        if let Some(known) = self.lane_ids.get(&key) {
            return *known;
        }
        self.collect_xml_paths(&targets);
        let of_tx = targets.includes.iter_mut().filter(|target| target.var == Var::Tx);
        of_tx.for_each(|target| target.key.resolve(names));
        let segments: Box<[SegmentId]> = targets
            .includes
            .iter()
            .map(|target| {
                let excludes = targets.excludes.iter().filter(|exclusion| exclusion.var == target.var);
                let excludes: Vec<Exclusion> = excludes.cloned().collect();
                self.segment(target, excludes, &chain, every_form, names)
            })
            .collect();
        let parts = segments.iter().filter_map(|id| self.segments.get(id.0 as usize));
        let sources = parts.fold(Sources::NONE, |all, segment| all.union(segment.sources));
        let stable = targets.is_stable();
        let id = LaneId(self.lanes.len() as u32);
        self.lanes.push(Lane { targets, chain: chain.into(), every_form, stable, sources, segments });
        self.lane_ids.insert(key, id);
        id
    }

    fn segment(
        &mut self,
        target: &Target,
        excludes: Vec<Exclusion>,
        chain: &[Transform],
        every_form: bool,
        names: &TxNames,
    ) -> SegmentId {
        let mut key = target.show(names);
        for exclusion in &excludes {
            key.push('|');
            key.push_str(&exclusion.show(names));
        }
        key.push_str(&form(chain, every_form));
        if let Some(known) = self.segment_ids.get(&key) {
            return *known;
        }
        let base = (!chain.is_empty()).then(|| self.segment(target, excludes.clone(), &[], false, names));
        let id = SegmentId(self.segments.len() as u32);
        let segment = Segment {
            sources: Sources::of(target.var),
            target: target.clone(),
            excludes: excludes.into(),
            chain: chain.into(),
            chain_number: self.chain_number(chain),
            mask: chain.iter().fold(0, |mask, transform| mask | transform.bit()),
            every_form,
            base,
        };
        self.segments.push(segment);
        self.segment_ids.insert(key, id);
        id
    }

    fn chain_number(&mut self, chain: &[Transform]) -> u16 {
        let known = self.chains.iter().position(|known| **known == *chain);
        let number = known.unwrap_or_else(|| {
            self.chains.push(chain.into());
            self.chains.len() - 1
        });
        // More than that are refused when all rules have been read.
        u16::try_from(number).unwrap_or(u16::MAX)
    }
}

/// The form as a part of a key.
fn form(chain: &[Transform], every_form: bool) -> String {
    let mut text: String = chain.iter().flat_map(|transform| [">", transform.info().name]).collect();
    if every_form {
        text.push('*');
    }
    text
}
