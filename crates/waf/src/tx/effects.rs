//! What matches bring about: variables set, the engine changed, macros expanded.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use super::state::{State, TxValue, push_number};
use super::store;
use super::values::ValueId;
use crate::macros::{Num, Part, Text};
use crate::operator::atoi;
use crate::program::{Ctl, Link};
use crate::rule::{SetVar, TxChange, TxTarget};
use crate::target::{Key, Target};
use crate::variable::{Shape, Var};

/// Said in the report when a persistent variable could not be set.
const NOTE_STORE: &str = "a variable of a persistent collection was not kept: too many, or too long";

/// What the keys of collections begin with that belong to transactions on trial.
const ON_TRIAL: &[u8] = b"\0on trial\0";

impl Engine<'_> {
    pub(super) fn setvars(&mut self, link: &Link) {
        for setvar in &link.setvars {
            self.setvar(setvar);
        }
    }

    fn setvar(&mut self, setvar: &SetVar) {
        let place = match &setvar.target {
            TxTarget::Slot(slot) => Place::Slot(*slot),
            TxTarget::Named(name) => self.named_place(name),
            TxTarget::Stored(var, name) => return self.set_stored(*var, name, &setvar.change),
        };
        self.state.stirred |= match place {
            Place::Slot(slot) => self.forecast.concerns(slot),
            Place::Named(index) => {
                let name = self.state.tx_named.get(index).map_or(ValueId::NONE, |(name, _)| *name);
                self.forecast.concerns_name(self.state.values.get(name))
            }
        };
        let current = match place {
            Place::Slot(slot) => self.tx(slot),
            Place::Named(index) => self.state.tx_named.get(index).map_or(TxValue::Unset, |(_, value)| *value),
        };
        let value = match &setvar.change {
            TxChange::Unset => TxValue::Unset,
            // Variables of a transaction go with it.
            TxChange::Expire(_) | TxChange::Decay(..) | TxChange::Open(_) => return,
            TxChange::SetInt(number) => TxValue::Int(*number),
            TxChange::Set(text) => self.set_text(text),
            TxChange::Add(amount) => {
                let amount = self.amount(amount);
                self.add(place, current, amount)
            }
            TxChange::Subtract(amount) => {
                let amount = self.amount(amount).saturating_neg();
                self.add(place, current, amount)
            }
        };
        match place {
            Place::Slot(slot) => self.state.set_tx(slot, value),
            Place::Named(index) => {
                if let Some((_, place)) = self.state.tx_named.get_mut(index) {
                    *place = value;
                }
            }
        }
    }

    fn add(&mut self, place: Place, current: TxValue, amount: i64) -> TxValue {
        if let Place::Slot(slot) = place {
            self.note_added(slot, amount);
        }
        TxValue::Int(self.state.int(current).saturating_add(amount))
    }

    /// Opens a persistent collection, or changes a variable of one that is open.
    fn set_stored(&mut self, var: Var, name: &Text, change: &TxChange) {
        let mut text = Vec::new();
        if let TxChange::Open(key) = change {
            if self.state.on_trial {
                text.extend_from_slice(ON_TRIAL);
            }
            self.expand(key, &mut text);
            self.state.set_scalar(var, &text);
            return;
        }
        let opened = self.state.stored_scalar(var);
        if !opened.is_some() {
            return;
        }
        let mut name_bytes = Vec::new();
        self.expand(name, &mut name_bytes);
        name_bytes.make_ascii_lowercase();
        let amount = match change {
            TxChange::Add(amount) | TxChange::Expire(amount) | TxChange::Decay(amount, _) => {
                self.amount(amount)
            }
            TxChange::Subtract(amount) => self.amount(amount).saturating_neg(),
            TxChange::SetInt(number) => *number,
            TxChange::Set(value) => {
                self.expand(value, &mut text);
                0
            }
            TxChange::Unset | TxChange::Open(_) => 0,
        };
        let period = match change {
            TxChange::Decay(_, seconds) => u64::try_from(self.amount(seconds)).unwrap_or(0),
            _ => 0,
        };
        let timeout = Duration::from_secs(u64::from(self.program.settings.collection_timeout));
        let key = self.state.values.get(opened);
        if matches!(change, TxChange::Expire(_)) {
            store::expire(var, key, &name_bytes, Duration::from_secs(u64::try_from(amount).unwrap_or(0)));
            return;
        }
        if matches!(change, TxChange::Decay(..)) {
            store::decay(var, key, &name_bytes, amount, Duration::from_secs(period));
            return;
        }
        let kept = store::update(var, key, &name_bytes, timeout, |current| match change {
            TxChange::Add(_) | TxChange::Subtract(_) => {
                Some(atoi(current).saturating_add(amount).to_string().into_bytes())
            }
            TxChange::SetInt(_) => Some(amount.to_string().into_bytes()),
            TxChange::Set(_) => Some(text),
            TxChange::Unset | TxChange::Expire(_) | TxChange::Decay(..) | TxChange::Open(_) => None,
        });
        if !kept {
            self.state.note(NOTE_STORE);
        }
    }

    /// A name with macros: one that was known at load time has a slot, another gets a place of its own.
    fn named_place(&mut self, name: &Text) -> Place {
        let names = &self.program.names;
        let found = self.expanded(name, |state, bytes| {
            bytes.make_ascii_lowercase();
            names.find(bytes).ok_or_else(|| state.values.intern(bytes))
        });
        let key = match found {
            Ok(slot) => return Place::Slot(slot),
            Err(key) => key,
        };
        let state = &mut *self.state;
        Place::Named(*state.tx_places.entry(key).or_insert_with(|| {
            state.tx_named.push((key, TxValue::Unset));
            state.tx_named.len() - 1
        }))
    }

    fn set_text(&mut self, text: &Text) -> TxValue {
        // Copying another variable as a whole is common in score rules and needs no text.
        if let [Part::Tx(slot)] = &*text.parts
            && let TxValue::Int(number) = self.tx(*slot)
        {
            return TxValue::Int(number);
        }
        self.expanded(text, |state, bytes| TxValue::Bytes(state.values.store(bytes)))
    }

    fn amount(&mut self, amount: &Num) -> i64 {
        match amount {
            Num::Fixed(number) => *number,
            Num::Text(text) => {
                if let [Part::Tx(slot)] = &*text.parts {
                    let value = self.tx(*slot);
                    return self.state.int(value);
                }
                self.expanded(text, |_, bytes| atoi(bytes))
            }
        }
    }

    /// Hands text with its macros expanded to `take`, in a buffer that is used again.
    fn expanded<R>(&mut self, text: &Text, take: impl FnOnce(&mut State, &mut [u8]) -> R) -> R {
        let mut bytes = std::mem::take(&mut self.state.text);
        bytes.clear();
        self.expand(text, &mut bytes);
        let result = take(self.state, &mut bytes);
        self.state.text = bytes;
        result
    }

    /// Appends text with its macros expanded; what is unset expands to nothing.
    pub(super) fn expand(&mut self, text: &Text, out: &mut Vec<u8>) {
        for part in &text.parts {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Tx(slot) => match self.tx(*slot) {
                    TxValue::Unset => {}
                    TxValue::Int(number) => push_number(out, number),
                    TxValue::Bytes(span) => out.extend_from_slice(self.state.values.span_bytes(span)),
                },
                Part::Var(var, key) => self.expand_var(*var, key.as_deref(), out),
            }
        }
    }

    fn expand_var(&mut self, var: Var, key: Option<&[u8]>, out: &mut Vec<u8>) {
        if var.info().shape == Shape::Scalar {
            let value = self.scalar(var);
            out.extend_from_slice(self.state.values.get(value));
            return;
        }
        // The first value under the key, or of the collection.
        let key = key.map_or(Key::Any, |key| Key::Exact(key.into()));
        let target = Target { var, counted: false, key };
        let mut items = Vec::new();
        self.collect(&target, &[], &mut items);
        if let Some(first) = items.first() {
            out.extend_from_slice(self.state.values.get(first.value));
        }
    }

    pub(super) fn ctls(&mut self, link: &Link) {
        for ctl in &link.ctls {
            self.state.stirred |= match ctl {
                Ctl::Engine(_) | Ctl::RemoveRules(_) => true,
                // What is foreseen looks at nothing else.
                Ctl::RemoveTargets(removal) => removal.exclusion.var == Var::Tx,
                _ => false,
            };
            match ctl {
                Ctl::Engine(mode) => self.state.mode = *mode,
                Ctl::AuditEngine(engine) => self.state.audit_engine = *engine,
                Ctl::AuditParts(change) => self.state.audit_parts = self.state.audit_parts.with(*change),
                Ctl::RemoveRules(rules) => self.state.removed.union_with(rules),
                Ctl::RemoveTargets(removal) => {
                    self.state.touched.union_with(&removal.rules);
                    self.state.removals.push(Arc::clone(removal));
                }
                Ctl::BodyProcessor(processor) => {
                    self.state.processor = Some(*processor);
                    self.state.set_scalar(Var::ReqbodyProcessor, processor.name().as_bytes());
                }
                Ctl::ForceBody(on) => self.state.force_body = *on,
                Ctl::RequestBodyLimit(limit) => self.state.request_body_limit = *limit,
                Ctl::RequestBodyAccess(on) => self.state.request_body_access = *on,
                Ctl::ResponseBodyAccess(on) => self.state.response_body_access = *on,
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Place {
    Slot(crate::macros::TxSlot),
    Named(usize),
}
