//! Targets: the variables of a rule, with selectors, counts and exclusions.

use std::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder};

use crate::macros::{Names, TxNames, TxSlot};
use crate::variable::Var;

/// Which entries of a collection are meant. Keys compare ASCII case-insensitively.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Any,
    Exact(Box<[u8]>),
    /// A TX variable whose name was known when the rules were loaded.
    Slot(TxSlot),
    Pattern(Box<KeyPattern>),
}

/// A regular expression over keys, with the text it came from.
#[derive(Clone, Debug)]
pub(crate) struct KeyPattern {
    source: String,
    regex: Regex,
    /// The TX variables with a slot whose names match, once these are known.
    slots: Option<Box<[TxSlot]>>,
}

impl Key {
    /// A regular expression searched in keys (unanchored, as rules write it between slashes).
    pub(crate) fn regex(source: &str) -> Result<Self, String> {
        Self::build(&crate::operator::rewrite_pattern(source)?, format!("/{source}/"))
    }

    /// A glob: `*` stands for any run of bytes, `?` for one; the whole key must match.
    pub(crate) fn glob(glob: &str) -> Result<Self, String> {
        let mut pattern = String::from("^");
        for character in glob.chars() {
            match character {
                '*' => pattern.push_str(".*"),
                '?' => pattern.push('.'),
                other => pattern.push_str(&regex_syntax::escape(other.encode_utf8(&mut [0; 4]))),
            }
        }
        pattern.push('$');
        Self::build(&pattern, glob.to_owned())
    }

    fn build(pattern: &str, source: String) -> Result<Self, String> {
        let built = RegexBuilder::new(pattern)
            .unicode(false)
            .case_insensitive(true)
            .dot_matches_new_line(true)
            .size_limit(1 << 20)
            .build();
        match built {
            Ok(regex) => Ok(Self::Pattern(Box::new(KeyPattern { source, regex, slots: None }))),
            Err(regex::Error::Syntax(_)) => {
                let reason = regex_syntax::ParserBuilder::new()
                    .unicode(false)
                    .utf8(false)
                    .build()
                    .parse(pattern)
                    .err();
                Err(match reason {
                    Some(regex_syntax::Error::Parse(error)) => error.kind().to_string(),
                    Some(regex_syntax::Error::Translate(error)) => error.kind().to_string(),
                    _ => "not a regular expression".to_owned(),
                })
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Finds out which of all TX variables with a slot are meant.
    pub(crate) fn resolve(&mut self, names: &TxNames) {
        if let Self::Pattern(pattern) = self {
            let named = names.iter().filter(|(_, name)| pattern.regex.is_match(name.as_bytes()));
            pattern.slots = Some(named.map(|(slot, _)| slot).collect());
        }
    }

    /// What [`Key::resolve`] found out.
    pub(crate) fn slots(&self) -> Option<&[TxSlot]> {
        match self {
            Self::Pattern(pattern) => pattern.slots.as_deref(),
            Self::Any | Self::Exact(_) | Self::Slot(_) => None,
        }
    }

    /// Whether an entry's key is meant. Slots are compared by the caller, who knows their names.
    pub(crate) fn matches(&self, key: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => name.eq_ignore_ascii_case(key),
            Self::Slot(_) => false,
            Self::Pattern(pattern) => pattern.regex.is_match(key),
        }
    }

    fn show(&self, names: &dyn Names, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Any => Ok(()),
            Self::Exact(name) => write!(out, ":{}", name.escape_ascii()),
            Self::Slot(slot) => write!(out, ":{}", names.tx(*slot)),
            Self::Pattern(pattern) => write!(out, ":{}", pattern.source),
        };
    }
}

/// One variable of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) var: Var,
    /// `&`: the number of values.
    pub(crate) counted: bool,
    pub(crate) key: Key,
}

impl Target {
    pub(crate) fn show(&self, names: &dyn Names) -> String {
        let mut out = String::from(if self.counted { "&" } else { "" });
        out.push_str(self.var.info().name);
        self.key.show(names, &mut out);
        out
    }
}

/// Entries that are not looked at: of the variable written, not of others that hold the same values.
#[derive(Clone, Debug)]
pub(crate) struct Exclusion {
    pub(crate) var: Var,
    pub(crate) key: Key,
}

impl Exclusion {
    /// Whether the entry is taken away. `slot_name` resolves a slot's name for TX.
    pub(crate) fn covers(&self, var: Var, key: &[u8], names: &dyn Names) -> bool {
        self.var == var
            && match &self.key {
                Key::Slot(slot) => names.tx(*slot).as_bytes().eq_ignore_ascii_case(key),
                other => other.matches(key),
            }
    }

    pub(crate) fn show(&self, names: &dyn Names) -> String {
        let mut out = format!("!{}", self.var.info().name);
        self.key.show(names, &mut out);
        out
    }
}

/// All the variables of a rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetSet {
    pub(crate) includes: Vec<Target>,
    pub(crate) excludes: Vec<Exclusion>,
}

impl TargetSet {
    /// Whether none of the variables changes while a phase runs.
    pub(crate) fn is_stable(&self) -> bool {
        self.includes.iter().all(|target| target.var.info().stable)
    }

    /// As rules write it; two sets with the same text are the same.
    pub(crate) fn show(&self, names: &dyn Names) -> String {
        let mut out = String::new();
        for target in &self.includes {
            if !out.is_empty() {
                out.push('|');
            }
            out.push_str(&target.show(names));
        }
        for exclusion in &self.excludes {
            out.push('|');
            out.push_str(&exclusion.show(names));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert!(Key::Exact(b"Foo"[..].into()).matches(b"fOO"));
        assert!(Key::regex(r"^_ga(?:_\w+)?$").unwrap().matches(b"_GA_x1"));
        assert!(Key::regex(r"\S").unwrap().matches(b"x"), "\\S keeps its case");
        assert!(Key::regex("(").is_err());
        let glob = Key::glob("json.*.password").unwrap();
        assert!(glob.matches(b"json.users.0.password"));
        assert!(!glob.matches(b"json.users.0.password2"));
        assert!(!glob.matches(b"jsonxusers.password"));
    }
}
