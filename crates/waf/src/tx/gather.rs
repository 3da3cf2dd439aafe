//! From the variables of a rule to the values it looks at.

use super::engine::Engine;
use super::state::{Hit, Item, TxValue, push_number};
use super::values::ValueId;
use crate::macros::{Names, TxSlot};
use crate::program::{Lane, Segment};
use crate::target::{Exclusion, Key, Target};
use crate::variable::{Shape, Var};

impl Engine<'_> {
    /// Gathers the values of a lane and takes them through its transformations.
    pub(super) fn gather(&mut self, lane: &Lane, out: &mut Vec<Item>) {
        let program = self.program;
        let mut part = Vec::new();
        for segment in lane.segments.iter().filter_map(|id| program.segments.get(id.0 as usize)) {
            if out.is_empty() {
                self.gather_segment(segment, out);
                continue;
            }
            self.gather_segment(segment, &mut part);
            out.append(&mut part);
        }
    }

    /// Gathers the values of one target and takes them through its transformations.
    pub(super) fn gather_segment(&mut self, segment: &Segment, out: &mut Vec<Item>) {
        self.collect(&segment.target, &segment.excludes, out);
        if segment.target.counted {
            let count = out.len();
            out.clear();
            out.push(self.count_item(&segment.target, count));
        }
        self.transform(segment, out);
    }

    fn count_item(&mut self, target: &Target, count: usize) -> Item {
        let value = self.number(i64::try_from(count).unwrap_or(i64::MAX));
        let (slot, key) = match &target.key {
            Key::Slot(slot) => (Some(*slot), ValueId::NONE),
            Key::Exact(name) => (None, self.state.values.intern(name)),
            Key::Any | Key::Pattern(_) => (None, ValueId::NONE),
        };
        Item { var: target.var, counted: true, slot, key, value }
    }

    pub(super) fn collect(&mut self, target: &Target, excludes: &[Exclusion], out: &mut Vec<Item>) {
        let var = target.var;
        match var {
            stored if stored.is_persistent() => self.stored_items(var, &target.key, excludes, out),
            Var::Rule => self.rule_items(&target.key, excludes, out),
            Var::Tx => self.tx_items(&target.key, excludes, out),
            Var::MatchedVars | Var::MatchedVarsNames => self.matched_items(var, &target.key, excludes, out),
            Var::Env => {
                let Key::Exact(name) = &target.key else { return };
                let found = std::str::from_utf8(name).ok().and_then(std::env::var_os);
                if let Some(value) = found {
                    let key = self.state.values.intern(name);
                    let value = self.state.values.intern(value.to_string_lossy().as_bytes());
                    out.push(Item { var, counted: false, slot: None, key, value });
                }
            }
            _ if var.info().shape == Shape::Collection => {
                for part in var.parts() {
                    self.entries(var, *part, &target.key, excludes, out);
                }
            }
            _ => {
                let value = self.scalar(var);
                if value.is_some() && !self.excluded(var, ValueId::NONE, excludes) {
                    out.push(Item { var, counted: false, slot: None, key: ValueId::NONE, value });
                }
            }
        }
    }

    fn entries(&mut self, var: Var, part: Var, key: &Key, excludes: &[Exclusion], out: &mut Vec<Item>) {
        let state = &*self.state;
        let Some(entries) = state.entries(part) else { return };
        let names = var.is_names();
        for entry in entries {
            if !matches!(key, Key::Any) && !key.matches(state.values.get(entry.key)) {
                continue;
            }
            if !excludes.is_empty() && self.excluded(var, entry.key, excludes) {
                continue;
            }
            let value = if names { entry.key } else { entry.value };
            out.push(Item { var, counted: false, slot: None, key: entry.key, value });
        }
    }

    pub(super) fn excluded(&self, var: Var, key: ValueId, excludes: &[Exclusion]) -> bool {
        let key = self.state.values.get(key);
        excludes.iter().any(|exclusion| exclusion.covers(var, key, &self.program.names))
    }

    fn tx_items(&mut self, key: &Key, excludes: &[Exclusion], out: &mut Vec<Item>) {
        if let Key::Slot(slot) = key {
            self.tx_slot_item(*slot, excludes, out);
            return;
        }
        let program = self.program;
        self.settle_captures();
        if let Some(slots) = key.slots() {
            // One that is unset is left out there.
            slots.iter().for_each(|slot| self.tx_slot_item(*slot, excludes, out));
        } else {
            for (slot, name) in program.names.iter() {
                if self.state.tx(slot) != TxValue::Unset && key.matches(name.as_bytes()) {
                    self.tx_slot_item(slot, excludes, out);
                }
            }
        }
        for index in 0..self.state.tx_named.len() {
            let Some(&(name, value)) = self.state.tx_named.get(index) else { break };
            let matches = key.matches(self.state.values.get(name)) && !self.excluded(Var::Tx, name, excludes);
            if let Some(value) = self.tx_value(value).filter(|_| matches) {
                out.push(Item { var: Var::Tx, counted: false, slot: None, key: name, value });
            }
        }
    }

    /// What a persistent collection holds, if a rule has opened it.
    fn stored_items(&mut self, var: Var, key: &Key, excludes: &[Exclusion], out: &mut Vec<Item>) {
        let opened = self.state.stored_scalar(var);
        if !opened.is_some() {
            return;
        }
        for (name, value) in super::store::read(var, self.state.values.get(opened)) {
            if key.matches(&name) {
                let (key, value) = (self.state.values.intern(&name), self.state.values.intern(&value));
                if !self.excluded(var, key, excludes) {
                    out.push(Item { var, counted: false, slot: None, key, value });
                }
            }
        }
    }

    /// What the current rule says about itself. Macros in it stay as they are: a message may well name itself.
    fn rule_items(&mut self, key: &Key, excludes: &[Exclusion], out: &mut Vec<Item>) {
        let program = self.program;
        let Some(rule) = self.state.rule.and_then(|index| program.rule(index)) else { return };
        let meta = &rule.meta;
        let text = |text: &Option<crate::macros::Text>| text.as_ref().map(|text| text.show(&program.names));
        let properties = [
            ("id", Some(rule.id.to_string())),
            ("msg", text(&meta.msg)),
            ("logdata", text(&meta.logdata)),
            ("rev", meta.rev.as_deref().map(str::to_owned)),
            ("severity", meta.severity.map(|severity| severity.to_string())),
            ("ver", meta.ver.as_deref().map(str::to_owned)),
        ];
        for (name, value) in properties {
            let Some(value) = value.filter(|_| key.matches(name.as_bytes())) else { continue };
            let (key, value) =
                (self.state.values.intern(name.as_bytes()), self.state.values.intern(value.as_bytes()));
            if !self.excluded(Var::Rule, key, excludes) {
                out.push(Item { var: Var::Rule, counted: false, slot: None, key, value });
            }
        }
    }

    fn tx_slot_item(&mut self, slot: TxSlot, excludes: &[Exclusion], out: &mut Vec<Item>) {
        let name = self.program.names.tx(slot).as_bytes();
        if excludes.iter().any(|exclusion| exclusion.covers(Var::Tx, name, &self.program.names)) {
            return;
        }
        let current = self.tx(slot);
        if let Some(value) = self.tx_value(current) {
            out.push(Item { var: Var::Tx, counted: false, slot: Some(slot), key: ValueId::NONE, value });
        }
    }

    /// The variable as a value; `None` when it is unset.
    pub(super) fn tx_value(&mut self, value: TxValue) -> Option<ValueId> {
        match value {
            TxValue::Unset => None,
            TxValue::Int(number) => Some(self.number(number)),
            TxValue::Bytes(span) => Some(self.state.values.intern_span(span)),
        }
    }

    pub(super) fn number(&mut self, number: i64) -> ValueId {
        self.state.values.intern_with(|_, out| push_number(out, number))
    }

    fn matched_items(&mut self, var: Var, key: &Key, excludes: &[Exclusion], out: &mut Vec<Item>) {
        for index in 0..self.state.matched_all.len() {
            let Some(&hit) = self.state.matched_all.get(index) else { break };
            let name = self.hit_name(hit);
            if !key.matches(self.state.values.get(name)) || self.excluded(var, name, excludes) {
                continue;
            }
            let value = if var == Var::MatchedVarsNames { name } else { self.hit_value(hit) };
            out.push(Item { var, counted: false, slot: None, key: name, value });
        }
    }

    /// The full name of a value that matched, such as `ARGS:q`.
    pub(super) fn hit_name(&mut self, hit: Hit) -> ValueId {
        let names = &self.program.names;
        self.state.values.intern_with(|values, out| {
            if hit.item.counted {
                out.push(b'&');
            }
            out.extend_from_slice(hit.item.var.info().name.as_bytes());
            if let Some(slot) = hit.item.slot {
                out.push(b':');
                out.extend_from_slice(names.tx(slot).as_bytes());
            } else if hit.item.key.is_some() {
                out.push(b':');
                out.extend_from_slice(values.get(hit.item.key));
            }
        })
    }

    pub(super) fn hit_value(&mut self, hit: Hit) -> ValueId {
        match hit.number {
            Some(number) => self.number(number),
            None => hit.item.value,
        }
    }

    /// The value of a scalar; [`ValueId::NONE`] when it is unset.
    pub(super) fn scalar(&mut self, var: Var) -> ValueId {
        let number = match var {
            Var::ArgsCombinedSize => {
                let entries = self.state.args_get.iter().chain(&self.state.args_post);
                let len = |id: ValueId| i64::from(self.state.values.span(id).len);
                entries.map(|entry| len(entry.key) + len(entry.value)).sum()
            }
            Var::Duration => i64::try_from(self.state.started.elapsed().as_micros()).unwrap_or(i64::MAX),
            Var::HighestSeverity => i64::from(self.state.highest_severity),
            Var::MatchedVar => {
                return self.state.matched.map_or(ValueId::NONE, |hit| self.hit_value(hit));
            }
            Var::MatchedVarName => {
                return self.state.matched.map_or(ValueId::NONE, |hit| self.hit_name(hit));
            }
            Var::Time => {
                let time = super::clock::now();
                return self.state.values.intern_with(|_, out| {
                    let text = format!("{:02}:{:02}:{:02}", time.hour, time.minute, time.second);
                    out.extend_from_slice(text.as_bytes());
                });
            }
            Var::TimeDay => super::clock::now().day,
            Var::TimeEpoch => super::clock::now().epoch,
            Var::TimeHour => super::clock::now().hour,
            Var::TimeMin => super::clock::now().minute,
            Var::TimeMon => super::clock::now().month,
            Var::TimeSec => super::clock::now().second,
            Var::TimeWday => super::clock::now().weekday,
            Var::TimeYear => super::clock::now().year,
            Var::SessionId => return self.state.stored_scalar(Var::Session),
            Var::UserId => return self.state.stored_scalar(Var::User),
            Var::StreamInputBody => return self.state.whole_request_body(),
            Var::StreamOutputBody => return self.state.stored_scalar(Var::ResponseBody),
            stored => return self.state.stored_scalar(stored),
        };
        self.number(number)
    }
}
