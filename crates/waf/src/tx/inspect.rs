//! The operators at work: whether a link matches, on which of the values it looks at.

use super::engine::Engine;
use super::lanes::Outline;
use super::state::{Hit, Item, TxValue};
use super::values::{Span, ValueId};
use crate::byteset::ByteSet;
use crate::libinjection;
use crate::macros::{Num, TxSlot};
use crate::operator::{
    Detector, Op, Pattern, PatternId, atoi, ip_match, text_matches, url_encoding_is_invalid, utf8_is_invalid,
};
use crate::program::{Lane, Link, RuleIx};

/// The last of the TX variables that hold groups.
pub(super) const LAST_GROUP: u16 = 9;

/// Bytes beyond ASCII.
const HIGH: ByteSet = ByteSet::EMPTY.with_range(0x80, 0xff);

impl Detector {
    /// A value without any of these bytes holds no attack.
    fn needs(self) -> ByteSet {
        match self {
            Self::Sqli => ByteSet::ALL,
            Self::Xss => libinjection::XSS_NEEDS,
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Sqli => 1,
            Self::Xss => 2,
        }
    }
}

/// Whether an operator can match any of some values with these bytes.
pub(super) fn possible(op: &Op, bytes: &ByteSet) -> bool {
    match op {
        Op::ByteRange(allowed) => allowed.complement().intersects(bytes),
        Op::UrlEncoding => bytes.contains(b'%'),
        Op::Utf8 => bytes.intersects(&HIGH),
        Op::Detect(detector) => bytes.intersects(&detector.needs()),
        _ => true,
    }
}

impl Engine<'_> {
    /// Whether a link that is no gate matches.
    pub(super) fn inspect(&mut self, index: RuleIx, link: &Link) -> bool {
        let Some(lane) = self.program.lanes.get(link.lane.0 as usize) else { return false };
        if lane.stable {
            let place = self.lane(link.lane, lane);
            let Some(outline) = self.state.summaries.get(place as usize).map(|summary| &summary.outline)
            else {
                return false;
            };
            if outline.count == 0 || !link.negated && !possible(&link.op, &outline.bytes) {
                return false;
            }
            if let (Op::Rx(id) | Op::Pm(id), false) = (&link.op, link.negated) {
                return self.search(index, link, lane, place, *id);
            }
        }
        let mut items = std::mem::take(&mut self.state.items);
        items.clear();
        if lane.stable {
            for segment in &lane.segments {
                let Some(gathered) = self.gathered(*segment) else { continue };
                items.extend_from_slice(self.state.lane_items.get(gathered.items()).unwrap_or_default());
            }
        } else {
            self.gather(lane, &mut items);
        }
        let matched = self.items(index, link, &items);
        self.state.items = items;
        matched
    }

    /// Asks the operator about every value; each match takes effect at once.
    fn items(&mut self, index: RuleIx, link: &Link, items: &[Item]) -> bool {
        let mut argument = std::mem::take(&mut self.state.argument);
        let number = self.resolve(&link.op, &mut argument);
        let touched = self.state.touched.contains(index);
        let mut matched = false;
        for item in items {
            if touched && self.removal(index, item).is_some() {
                if self.holds(link, item.value, false, Some((&argument, number))) != Some(false) {
                    self.withhold(index, item);
                }
                continue;
            }
            if self.test(link, item, &argument, number) {
                matched = true;
                self.hit(link, Hit { item: *item, number: None });
            }
        }
        self.state.argument = argument;
        matched
    }

    /// Asks a pattern about those values of a lane that the prefilter leaves; each match takes effect at once.
    fn search(&mut self, index: RuleIx, link: &Link, lane: &Lane, place: u32, id: PatternId) -> bool {
        let program = self.program;
        let (Some(pattern), Some(summary)) = (program.pattern(id), self.state.summaries.get(place as usize))
        else {
            return false;
        };
        let allow = |outline: &Outline| pattern.facts.allow(outline.longest as usize, &outline.bytes);
        if !allow(&summary.outline) || !self.lane_has(lane, place, id) {
            return false;
        }
        let touched = self.state.touched.contains(index);
        let mut matched = false;
        for segment in &lane.segments {
            let Some(gathered) = self.gathered(*segment).filter(|gathered| allow(gathered.outline())) else {
                continue;
            };
            let items = gathered.items();
            let Some(rows) = self.rows(*segment, id) else { continue };
            let mut done = 0;
            while let Some(found) = self.next_candidate(rows.start + done..rows.end, id) {
                let at = items.start + done + found;
                done += found + 1;
                let Some(item) = self.state.lane_items.get(at).copied() else { break };
                if touched && self.removal(index, &item).is_some() {
                    if self.pattern(id, pattern, false, item.value) {
                        self.withhold(index, &item);
                    }
                    continue;
                }
                if self.pattern(id, pattern, link.capture, item.value) {
                    matched = true;
                    self.hit(link, Hit { item, number: None });
                }
            }
        }
        matched
    }

    fn next_candidate(&self, rows: std::ops::Range<usize>, id: PatternId) -> Option<usize> {
        self.state.values.position(self.state.lane_rows.get(rows)?, id)
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
        if matches!(link.op, Op::GeoLookup) {
            return self.geo_lookup(item.value) != link.negated;
        }
        let capture = link.capture && !link.negated;
        self.holds(link, item.value, capture, Some((argument, number))).unwrap_or(false)
    }

    /// Whether a condition holds for a value, given its argument as text and as an integer. Without these, `None` where
    /// they have to be known; what they are is up to the transaction. Nothing depends on it and nothing is changed
    /// otherwise, but for captures if these are wanted.
    pub(super) fn holds(
        &mut self,
        link: &Link,
        value: ValueId,
        capture: bool,
        argument: Option<(&[u8], i64)>,
    ) -> Option<bool> {
        let values = &self.state.values;
        let holds = match &link.op {
            Op::Rx(id) | Op::Pm(id) => self.pattern_alone(*id, capture, value),
            Op::Detect(detector) => self.detect(*detector, capture, value),
            Op::GeoLookup => return None,
            Op::Checksum(check, id) => {
                let pattern = self.program.pattern(*id);
                pattern.is_some_and(|pattern| pattern.any_match(values.get(value), |text| check.holds(text)))
            }
            Op::Text(op, text) => {
                let wanted = text.literal().or(argument.map(|(text, _)| text))?;
                text_matches(*op, values.get(value), wanted)
            }
            Op::RxText(_) => self.caches.matches_expanded(argument?.0, values.get(value)),
            Op::Compare(compare, Num::Fixed(number)) => compare.holds(atoi(values.get(value)), *number),
            Op::Compare(compare, Num::Text(_)) => compare.holds(atoi(values.get(value)), argument?.1),
            Op::IpMatch(networks) => ip_match(networks, values.get(value)),
            Op::ByteRange(allowed) => allowed.complement().intersects(&values.byte_set(value)),
            Op::UrlEncoding => url_encoding_is_invalid(values.get(value)),
            Op::Utf8 => utf8_is_invalid(values.get(value)),
            Op::Always => true,
            Op::Never => false,
        };
        Some(holds != link.negated)
    }

    /// Whether a pattern matches a value that nothing is known of yet.
    fn pattern_alone(&mut self, id: PatternId, capture: bool, value: ValueId) -> bool {
        let side = self.state.side;
        let (Some(pattern), Some(filter)) = (self.program.pattern(id), self.program.prefilters.get(side))
        else {
            return false;
        };
        let row = self.state.values.row(value, side, filter);
        crate::prefilter::has_bit(self.state.values.candidates(row), id)
            && self.pattern(id, pattern, capture, value)
    }

    /// Whether a pattern matches a value that its literals let through.
    fn pattern(&mut self, id: PatternId, pattern: &Pattern, capture: bool, value: ValueId) -> bool {
        let bytes = self.state.values.get(value);
        if !pattern.facts.allow(bytes.len(), &self.state.values.byte_set(value)) {
            self.state.values.rule_out(value, self.state.side, id);
            return false;
        }
        let matches =
            if capture { self.capture(id, pattern, value) } else { pattern.is_match(id, self.caches, bytes) };
        if !matches {
            self.state.values.rule_out(value, self.state.side, id);
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
    fn detect(&mut self, detector: Detector, capture: bool, value: ValueId) -> bool {
        let values = &mut self.state.values;
        if values.is_cleared(value, detector.bit()) {
            return false;
        }
        let captured = match detector {
            Detector::Sqli => libinjection::sqli(values.get(value))
                .map(|fingerprint| capture.then(|| values.store(fingerprint.as_bytes()))),
            Detector::Xss => {
                libinjection::xss(values.get(value)).then(|| capture.then(|| values.span(value)))
            }
        };
        let Some(captured) = captured else {
            values.clear(value, detector.bit());
            return false;
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
}
