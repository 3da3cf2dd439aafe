//! Action lists, and the table of actions.

use portcullis_diag::{Diagnostic, Span, suggest};
use portcullis_seclang as ast;

use super::{CtlDef, SkipDef, Validator};
use crate::codes;
use crate::macros::{Num, Text};
use crate::rule::{AllowScope, Disruptive, Meta, Phase, SEVERITIES, SetVar, TxChange, TxTarget};
use crate::transform::{self, Transform};
use crate::variable::Var;

/// What an action does; the name of the group is what the reference page sorts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Says what the rule is.
    Meta,
    /// Decides what becomes of the transaction.
    Disruptive,
    /// Decides how the value is read and which rule comes next.
    Flow,
    /// Changes variables or the engine.
    Effect,
    /// Decides what is reported.
    Logging,
    /// Taken without effect; the text says who does it instead.
    Accepted(&'static str),
    /// Refused; the text says why.
    Unsupported(&'static str),
}

/// One row of the action table.
#[derive(Debug)]
pub struct ActionInfo {
    /// The name as rules write it (compared case-insensitively).
    pub name: &'static str,
    /// What it is for.
    pub kind: ActionKind,
    /// What it does, one sentence.
    pub doc: &'static str,
}

macro_rules! table {
    ($($name:literal $kind:expr, $doc:literal;)*) => {
        /// Every action, by name.
        pub const TABLE: &[ActionInfo] = &[$(ActionInfo { name: $name, kind: $kind, doc: $doc }),*];
    };
}

use ActionKind::{Accepted, Disruptive as D, Effect, Flow, Logging, Meta as M, Unsupported};

table! {
    "accuracy" M, "How accurate the rule is, 0 to 9.";
    "allow" D, "Lets the transaction pass the remaining phases but 5; `allow:phase`, `allow:request` reach less far.";
    "append" Unsupported("responses are not rewritten by rules"), "Not supported.";
    "auditlog" Logging, "Makes the transaction worth an audit entry.";
    "block" D, "Does what the phase's SecDefaultAction does.";
    "capture" Flow, "Puts what the operator captured into TX:0 to TX:9.";
    "chain" Flow, "The next rule must match as well.";
    "ctl" Effect, "Changes the engine for the rest of the transaction.";
    "deny" D, "Answers with the status, 403 by default.";
    "deprecatevar" Effect, "Lets a variable of a persistent collection go down: `ip.score=5/60` by 5 each 60 seconds, to 0 at last.";
    "drop" D, "Closes the connection.";
    "exec" Unsupported("running programs on requests is not offered"), "Not supported.";
    "expirevar" Effect, "Lets a variable of a persistent collection go after so many seconds.";
    "id" M, "The rule's number; every rule has one of its own.";
    "initcol" Effect, "Opens a persistent collection under a key: `ip=%{REMOTE_ADDR}`.";
    "log" Logging, "Reports matches.";
    "logdata" M, "What the report quotes, with macros.";
    "maturity" M, "How mature the rule is, 0 to 9.";
    "msg" M, "What the rule found, with macros.";
    "multiMatch" Flow, "Asks the operator before and after each transformation that changes the value.";
    "noauditlog" Logging, "Does not make the transaction worth an audit entry.";
    "nolog" Logging, "Does not report matches.";
    "pass" D, "Goes on.";
    "pause" Unsupported("held connections serve the attacker; `limits` slows clients down"), "Not supported.";
    "phase" M, "When the rule runs: 1 to 5, `request`, `response`, `logging`; 2 by default.";
    "prepend" Unsupported("responses are not rewritten by rules"), "Not supported.";
    "proxy" Unsupported("where requests go, the routes say; write `deny`"), "Not supported.";
    "redirect" D, "Answers with a redirection to the address, 302 by default.";
    "rev" M, "The rule's revision.";
    "sanitiseArg" Accepted("the gateway's log never holds values in full"), "Hides an argument in the audit log.";
    "sanitiseMatched" Accepted("the gateway's log never holds values in full"), "Hides the match in the audit log.";
    "sanitiseMatchedBytes" Accepted("the gateway's log never holds values in full"), "Hides the match in the audit log.";
    "sanitiseRequestHeader" Accepted("the gateway's log never holds values in full"), "Hides a field in the audit log.";
    "sanitiseResponseHeader" Accepted("the gateway's log never holds values in full"), "Hides a field in the audit log.";
    "setenv" Accepted("nothing reads the environment of a request"), "Sets an environment variable.";
    "setrsc" Effect, "Opens the collection RESOURCE under a key.";
    "setsid" Effect, "Opens the collection SESSION under a key.";
    "setuid" Effect, "Opens the collection USER under a key.";
    "setvar" Effect, "Sets, adds to, subtracts from or removes a TX variable.";
    "severity" M, "How severe a match is: EMERGENCY (0) to DEBUG (7).";
    "skip" Flow, "Skips so many rules.";
    "skipAfter" Flow, "Goes on after the marker.";
    "status" D, "The status of a denial or redirection.";
    "t" Flow, "A transformation; `t:none` forgets those before it.";
    "tag" M, "A word to find the rule by, as written; reports expand its macros.";
    "ver" M, "The rule set's version.";
    "xmlns" Accepted("paths are matched without namespaces"), "An XML name space.";
}

/// A list of actions, checked but not yet merged with the defaults.
#[derive(Clone, Debug, Default)]
pub(super) struct ActionSet {
    pub(super) id: Option<(u32, Span)>,
    pub(super) phase: Option<Phase>,
    pub(super) meta: Meta,
    pub(super) transforms: Vec<Transform>,
    /// `t:none` was among them: defaults do not apply.
    pub(super) transforms_reset: bool,
    pub(super) disruptive: Option<Disruptive>,
    pub(super) status: Option<u16>,
    pub(super) log: Option<bool>,
    pub(super) audit_log: Option<bool>,
    pub(super) capture: bool,
    pub(super) multi_match: bool,
    pub(super) chain: bool,
    pub(super) setvars: Vec<SetVar>,
    pub(super) ctls: Vec<CtlDef>,
    pub(super) skip: Option<SkipDef>,
}

impl ActionSet {
    /// Actions whose values are numbers or one of a few words; the error says what would have been right.
    fn checked(&mut self, name: &str, word: &str, span: Span) -> Result<(), &'static str> {
        match name {
            "id" => self.id = Some((number(word, 1..=u64::from(u32::MAX))? as u32, span)),
            "phase" => self.phase = Some(Phase::parse(word).ok_or("1 to 5, request, response or logging")?),
            "severity" => self.meta.severity = Some(severity(word)?),
            "maturity" => self.meta.maturity = Some(number(word, 0..=9)? as u8),
            "accuracy" => self.meta.accuracy = Some(number(word, 0..=9)? as u8),
            "status" => self.status = Some(number(word, 100..=599)? as u16),
            "skip" => self.skip = Some(SkipDef::Rules(number(word, 1..=1_000_000)? as u32)),
            "allow" => {
                let scope = match word {
                    "phase" => AllowScope::Phase,
                    "request" => AllowScope::Request,
                    _ => return Err("`phase` or `request`"),
                };
                self.disruptive = Some(Disruptive::Allow(scope));
            }
            _ => return Err("no value"),
        }
        Ok(())
    }
}

impl Validator<'_> {
    pub(super) fn action_set(&mut self, actions: &ast::Actions) -> ActionSet {
        let mut set = ActionSet::default();
        for action in &actions.items {
            self.action(&mut set, action);
        }
        set
    }

    fn action(&mut self, set: &mut ActionSet, action: &ast::Action) {
        let name = action.name.to_ascii_lowercase();
        let Some(info) = TABLE.iter().find(|info| info.name.eq_ignore_ascii_case(&name)) else {
            let known = TABLE.iter().map(|info| info.name);
            let message = format!("unknown action `{}`", action.name.as_str());
            let diagnostic = Diagnostic::error(codes::UNKNOWN_ACTION, message).at(action.name.span);
            self.diagnostics.push(diagnostic.suggest(suggest(&name, known)));
            return;
        };
        match info.kind {
            Accepted(instead) => {
                let message = format!("`{}` is accepted but has no effect: {instead}", info.name);
                self.warn(codes::NO_EFFECT, action.span, message);
            }
            Unsupported(why) => {
                let message = format!("action `{}` is not supported", info.name);
                let diagnostic = Diagnostic::error(codes::UNSUPPORTED_ACTION, message).at(action.span);
                self.diagnostics.push(diagnostic.help(why));
            }
            Logging => {
                let on = !name.starts_with("no");
                if name.ends_with("auditlog") {
                    set.audit_log = Some(on);
                } else {
                    set.log = Some(on);
                    set.audit_log = Some(on);
                }
            }
            Flow | D if action.value.is_none() => self.bare(set, action, &name),
            M | D | Flow | Effect => {
                let Some(value) = &action.value else {
                    let message = format!("`{}` needs a value, as in `{}:...`", info.name, info.name);
                    self.error(codes::ACTION_VALUE, action.span, message);
                    return;
                };
                self.valued(set, &name, value);
            }
        }
    }

    /// Actions that stand alone.
    fn bare(&mut self, set: &mut ActionSet, action: &ast::Action, name: &str) {
        match name {
            "allow" => set.disruptive = Some(Disruptive::Allow(AllowScope::All)),
            "block" => set.disruptive = Some(Disruptive::Block),
            "deny" => set.disruptive = Some(Disruptive::Deny),
            "drop" => set.disruptive = Some(Disruptive::Drop),
            "pass" => set.disruptive = Some(Disruptive::Pass),
            "capture" => set.capture = true,
            "multimatch" => set.multi_match = true,
            "chain" => set.chain = true,
            _ => self.error(codes::ACTION_VALUE, action.span, format!("`{name}` needs a value")),
        }
    }

    fn valued(&mut self, set: &mut ActionSet, name: &str, value: &ast::Text) {
        let word = value.as_str().trim();
        match name {
            "msg" => set.meta.msg = Some(self.text(value)),
            "logdata" => set.meta.logdata = Some(self.text(value)),
            "tag" => set.meta.tags.push(self.tag(value)),
            "ver" => set.meta.ver = Some(word.into()),
            "rev" => set.meta.rev = Some(word.into()),
            "redirect" => set.disruptive = Some(Disruptive::Redirect(self.text(value))),
            "skipafter" => set.skip = Some(SkipDef::After(word.into(), value.span)),
            "t" => self.transformation(set, value),
            "setvar" => self.setvar(set, value),
            "expirevar" => self.expirevar(set, value),
            "deprecatevar" => self.deprecatevar(set, value),
            "initcol" | "setrsc" | "setsid" | "setuid" => self.collection(set, name, value),
            "ctl" => self.ctl(set, value),
            _ => {
                if let Err(expected) = set.checked(name, word, value.span) {
                    let message = format!("`{word}` is no value for `{name}`");
                    let diagnostic = Diagnostic::error(codes::ACTION_VALUE, message).at(value.span);
                    self.diagnostics.push(diagnostic.label(format!("expected {expected}")));
                }
            }
        }
    }

    fn transformation(&mut self, set: &mut ActionSet, value: &ast::Text) {
        let name = value.as_str().trim();
        if name.eq_ignore_ascii_case("none") {
            set.transforms.clear();
            set.transforms_reset = true;
            return;
        }
        match Transform::by_name(name) {
            Some(transform) => set.transforms.push(transform),
            None => {
                let known = transform::TABLE.iter().map(|info| info.name).chain(["none"]);
                let message = format!("unknown transformation `{name}`");
                let diagnostic = Diagnostic::error(codes::UNKNOWN_TRANSFORMATION, message).at(value.span);
                self.diagnostics.push(diagnostic.suggest(suggest(name, known)));
            }
        }
    }

    /// `tx.a`, `!tx.a`, `tx.a=b`, `tx.a=+1`, `tx.a=-1`, with macros on both sides.
    fn setvar(&mut self, set: &mut ActionSet, value: &ast::Text) {
        let text = value.as_str();
        let (unset, body_start) = if text.starts_with('!') { (true, 1) } else { (false, 0) };
        let body = text.get(body_start..).unwrap_or_default();
        let name_end = body_start + body.find('=').unwrap_or(body.len());
        let (collection, name) =
            match text.get(body_start..name_end).and_then(|full| full.split_once(['.', ':'])) {
                Some(parts) => parts,
                None => {
                    self.error(
                        codes::ACTION_VALUE,
                        value.span,
                        "`setvar` wants a collection and a name, as in `tx.score=1`",
                    );
                    return;
                }
            };
        let place = value.locate(body_start..body_start + collection.len());
        let (name, operand) = (name.trim().to_owned(), text.get(name_end + 1..));
        let Some(name) = self.part(value, &name, name_end - name.len().min(name_end)) else { return };
        let Some(target) = self.set_target(collection, name, place) else { return };
        let change = match (unset, operand) {
            (true, _) => Some(TxChange::Unset),
            (false, None) => Some(TxChange::SetInt(1)),
            (false, Some(operand)) => self.change(value, operand, name_end + 1),
        };
        set.setvars.extend(change.map(|change| SetVar { target, change }));
    }

    fn set_target(&mut self, collection: &str, name: Text, place: Span) -> Option<TxTarget> {
        match Var::by_name(collection.trim()) {
            Some(Var::Tx) => Some(match name.literal() {
                Some(bytes) => TxTarget::Slot(self.set.names.intern(&String::from_utf8_lossy(bytes))),
                None => TxTarget::Named(name),
            }),
            Some(var) if var.is_persistent() => Some(TxTarget::Stored(var, name)),
            _ => {
                let message = format!(
                    "`{collection}` is no collection that can be set; there are tx, global, ip, resource, session and user"
                );
                self.error(codes::ACTION_VALUE, place, message);
                None
            }
        }
    }

    /// `ip.counter=60`: seconds until the variable goes.
    fn expirevar(&mut self, set: &mut ActionSet, value: &ast::Text) {
        let parts =
            value.split_once('=').and_then(|(full, seconds)| Some((full.split_once(['.', ':'])?, seconds)));
        let Some(((collection, name), seconds)) = parts else {
            self.error(
                codes::ACTION_VALUE,
                value.span,
                "`expirevar` wants a variable and seconds, as in `ip.counter=60`",
            );
            return;
        };
        let (Some(name), Some(seconds)) = (
            self.part(value, name.trim(), collection.len() + 1),
            self.part(value, seconds, value.len() - seconds.len()),
        ) else {
            return;
        };
        let target = self.set_target(collection, name, value.span);
        set.setvars
            .extend(target.map(|target| SetVar { target, change: TxChange::Expire(Num::new(seconds)) }));
    }

    /// `ip.score=5/60`: 5 less each 60 seconds.
    fn deprecatevar(&mut self, set: &mut ActionSet, value: &ast::Text) {
        let parts = value.split_once('=').and_then(|(full, rate)| {
            let (collection, name) = full.split_once(['.', ':'])?;
            let (amount, seconds) = rate.split_once('/')?;
            Some((collection, name, amount, seconds))
        });
        let Some((collection, name, amount, seconds)) = parts else {
            let message = "`deprecatevar` wants a variable, an amount and seconds, as in `ip.score=5/60`";
            self.error(codes::ACTION_VALUE, value.span, message);
            return;
        };
        let rate = value.len() - amount.len() - seconds.len() - 1;
        let (Some(name), Some(amount), Some(seconds)) = (
            self.part(value, name.trim(), collection.len() + 1),
            self.part(value, amount, rate),
            self.part(value, seconds, value.len() - seconds.len()),
        ) else {
            return;
        };
        let target = self.set_target(collection, name, value.span);
        let change = TxChange::Decay(Num::new(amount), Num::new(seconds));
        set.setvars.extend(target.map(|target| SetVar { target, change }));
    }

    /// `initcol:ip=%{REMOTE_ADDR}`, `setsid:%{REQUEST_COOKIES.session}`: opens a persistent collection.
    fn collection(&mut self, set: &mut ActionSet, action: &str, value: &ast::Text) {
        let text = value.as_str();
        let (var, key) = match action {
            "setrsc" => (Some(Var::Resource), text),
            "setsid" => (Some(Var::Session), text),
            "setuid" => (Some(Var::User), text),
            _ => {
                let (name, key) = text.split_once('=').unwrap_or((text, ""));
                (Var::by_name(name.trim()).filter(|var| var.is_persistent()), key)
            }
        };
        let Some(var) = var.filter(|_| !key.is_empty()) else {
            let message =
                "`initcol` wants global, ip, resource, session or user and a key, as in `ip=%{REMOTE_ADDR}`";
            self.error(codes::ACTION_VALUE, value.span, message);
            return;
        };
        if let Some(key) = self.part(value, key, text.len() - key.len()) {
            let target = TxTarget::Stored(var, Text::default());
            set.setvars.push(SetVar { target, change: TxChange::Open(key) });
        }
    }

    fn change(&mut self, value: &ast::Text, operand: &str, offset: usize) -> Option<TxChange> {
        if let Some(amount) = operand.strip_prefix('+') {
            return Some(TxChange::Add(Num::new(self.part(value, amount, offset + 1)?)));
        }
        // `=-1` subtracts, as in the other engines: there are no negative literals.
        if let Some(amount) = operand.strip_prefix('-') {
            return Some(TxChange::Subtract(Num::new(self.part(value, amount, offset + 1)?)));
        }
        let text = self.part(value, operand, offset)?;
        let number = text.literal().and_then(canonical_integer);
        Some(number.map_or(TxChange::Set(text), TxChange::SetInt))
    }

    /// Resolves the macros of a part of an action's value.
    fn part(&mut self, whole: &ast::Text, part: &str, offset: usize) -> Option<Text> {
        match Text::parse(part, &mut self.set.names) {
            Ok(text) => Some(text),
            Err(error) => {
                let place = whole.locate(offset + error.range.start..offset + error.range.end);
                let diagnostic = Diagnostic::error(codes::MACRO, error.message).at(place);
                self.diagnostics.push(diagnostic.suggest(error.suggestion));
                None
            }
        }
    }
}

/// The integer that a text is the usual form of, so that it can be kept as an integer and still read back the same.
fn canonical_integer(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, &'static str> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or(match range.end() {
        9 => "a number from 0 to 9",
        599 => "a status from 100 to 599",
        _ => "a positive number",
    })
}

fn severity(text: &str) -> Result<u8, &'static str> {
    let by_name = SEVERITIES.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = by_name.or_else(|| text.parse().ok().filter(|&number: &usize| number < SEVERITIES.len()));
    number
        .map(|number| number as u8)
        .ok_or("EMERGENCY, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG or 0 to 7")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].name.to_lowercase() < pair[1].name.to_lowercase(), "{}", pair[1].name);
        }
    }

    #[test]
    fn integers_keep_their_form() {
        assert_eq!(canonical_integer(b"5"), Some(5));
        assert_eq!(canonical_integer(b"05"), None);
        assert_eq!(canonical_integer(b"5 "), None);
    }
}
