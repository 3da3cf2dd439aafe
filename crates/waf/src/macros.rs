//! Macros: `%{tx.score}` in messages, `setvar` and operator arguments, resolved to ids when rules are loaded.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use crate::operator::atoi;
use crate::variable::{Shape, TABLE, Var};

/// A TX variable with a name known when the rules were loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TxSlot(pub(crate) u16);

/// What a dump needs to name things.
pub(crate) trait Names {
    /// The name of a TX slot.
    fn tx(&self, slot: TxSlot) -> &str;
}

/// The TX names of a program, lower-cased, each with its slot. Slots 0 to 9 are the captures.
#[derive(Clone, Debug)]
pub(crate) struct TxNames {
    names: Vec<Box<str>>,
    slots: HashMap<Box<str>, TxSlot>,
}

impl Default for TxNames {
    fn default() -> Self {
        let mut names = Self { names: Vec::new(), slots: HashMap::new() };
        for capture in 0..10 {
            names.intern(&capture.to_string());
        }
        names
    }
}

impl TxNames {
    pub(crate) fn intern(&mut self, name: &str) -> TxSlot {
        let name = name.to_ascii_lowercase();
        if let Some(slot) = self.slots.get(name.as_str()) {
            return *slot;
        }
        let slot = TxSlot(u16::try_from(self.names.len()).unwrap_or(u16::MAX));
        self.names.push(name.clone().into());
        self.slots.insert(name.into(), slot);
        slot
    }

    /// The slot of a name, lower-cased by the caller.
    pub(crate) fn find(&self, name: &[u8]) -> Option<TxSlot> {
        self.slots.get(std::str::from_utf8(name).ok()?).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TxSlot, &str)> {
        (0u16..).map(TxSlot).zip(self.names.iter().map(AsRef::as_ref))
    }
}

impl Names for TxNames {
    fn tx(&self, slot: TxSlot) -> &str {
        self.names.get(usize::from(slot.0)).map_or("?", AsRef::as_ref)
    }
}

/// Text with macros, as parts in order. No part: empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Text {
    pub(crate) parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Literal(Box<[u8]>),
    Tx(TxSlot),
    /// A variable, with the key in it when it is a collection.
    Var(Var, Option<Box<[u8]>>),
}

/// An integer that is known at load time or computed from text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Num {
    Fixed(i64),
    Text(Text),
}

impl Num {
    pub(crate) fn new(text: Text) -> Self {
        match text.literal() {
            Some(bytes) => Self::Fixed(atoi(bytes)),
            None => Self::Text(text),
        }
    }

    pub(crate) fn show(&self, names: &dyn Names) -> String {
        match self {
            Self::Fixed(number) => number.to_string(),
            Self::Text(text) => text.show(names),
        }
    }
}

/// A macro that cannot be resolved: where in the text, why, and what may have been meant.
#[derive(Debug)]
pub(crate) struct MacroError {
    pub(crate) range: Range<usize>,
    pub(crate) message: String,
    pub(crate) suggestion: Option<&'static str>,
}

impl Text {
    /// The bytes, when there is no macro among them.
    pub(crate) fn literal(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Literal(bytes)] => Some(bytes),
            _ => None,
        }
    }

    /// Resolves the macros of `text`. A `%{` that is never closed is text.
    pub(crate) fn parse(text: &str, names: &mut TxNames) -> Result<Self, MacroError> {
        let mut parts = Vec::new();
        let mut rest = 0;
        while let Some(found) = text.get(rest..).and_then(|tail| tail.find("%{")) {
            let start = rest + found;
            let Some(length) = text.get(start..).and_then(|tail| tail.find('}')) else { break };
            push_literal(&mut parts, text.get(rest..start).unwrap_or_default());
            let inner = text.get(start + 2..start + length).unwrap_or_default();
            parts.push(reference(inner, names).map_err(|mut error| {
                error.range = start..start + length + 1;
                error
            })?);
            rest = start + length + 1;
        }
        push_literal(&mut parts, text.get(rest..).unwrap_or_default());
        Ok(Self { parts: parts.into() })
    }

    pub(crate) fn show(&self, names: &dyn Names) -> String {
        let mut shown = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(bytes) => shown.push_str(&bytes.escape_ascii().to_string()),
                Part::Tx(slot) => shown.push_str(&format!("%{{tx.{}}}", names.tx(*slot))),
                Part::Var(var, None) => shown.push_str(&format!("%{{{}}}", var.info().name)),
                Part::Var(var, Some(key)) => {
                    shown.push_str(&format!("%{{{}.{}}}", var.info().name, key.escape_ascii()));
                }
            }
        }
        shown
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.as_bytes().into()));
    }
}

fn reference(inner: &str, names: &mut TxNames) -> Result<Part, MacroError> {
    let (name, key) = match inner.split_once(['.', ':']) {
        Some((name, key)) => (name.trim(), Some(key.trim())),
        None => (inner.trim(), None),
    };
    let fail = |message: String, suggestion| Err(MacroError { range: 0..0, message, suggestion });
    let Some(var) = Var::by_name(name) else {
        let known = TABLE.iter().map(|info| info.name);
        return fail(format!("unknown variable `{name}` in a macro"), portcullis_diag::suggest(name, known));
    };
    match (var, key, var.info().shape) {
        (Var::Tx, Some(key), _) => Ok(Part::Tx(names.intern(key))),
        (Var::Tx, None, _) => fail("`%{tx}` needs a name, as in `%{tx.score}`".to_owned(), None),
        (Var::Env, None, _) => fail("`%{env}` needs a name, as in `%{env.HOME}`".to_owned(), None),
        (_, _, Shape::Planned(why)) => fail(format!("variable `{name}` is not supported: {why}"), None),
        (_, key, _) => Ok(Part::Var(var, key.map(|key| key.as_bytes().into()))),
    }
}

impl fmt::Display for TxSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tx#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_and_shown() {
        let mut names = TxNames::default();
        let text =
            Text::parse("a %{TX.Score} of %{matched_var_name}%{args._method}%{open", &mut names).unwrap();
        assert_eq!(text.show(&names), "a %{tx.score} of %{MATCHED_VAR_NAME}%{ARGS._method}%{open");
        assert_eq!(Text::parse("%{tx.0}", &mut names).unwrap().parts[0], Part::Tx(TxSlot(0)));
        assert_eq!(Text::parse("plain", &mut names).unwrap().literal(), Some(&b"plain"[..]));
        assert_eq!(Text::default().literal(), Some(&b""[..]));
    }

    #[test]
    fn unknown_names_are_errors_with_a_place() {
        let error = Text::parse("x %{REMOTE_ADR}", &mut TxNames::default()).unwrap_err();
        assert_eq!((error.range, error.suggestion), (2..15, Some("REMOTE_ADDR")));
    }
}
