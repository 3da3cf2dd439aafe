//! The tree as SecLang again, each directive on one line, in a form that parses to the same tree.

mod list;

use std::fmt;

use crate::ast::{
    Actions, Directive, DirectiveKind, IdRange, Operator, Rule, RuleSelector, Text, UpdateAction,
    UpdateTarget, Variable,
};

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.kind {
            DirectiveKind::Rule(rule) => write!(f, " {rule}"),
            DirectiveKind::Action(actions) | DirectiveKind::DefaultAction(actions) => write!(f, " {actions}"),
            DirectiveKind::Marker(name) => write!(f, " {}", Word(name)),
            DirectiveKind::Remove(rules) => write!(f, " {rules}"),
            DirectiveKind::UpdateTarget(update) => write!(f, " {update}"),
            DirectiveKind::UpdateAction(update) => write!(f, " {update}"),
            DirectiveKind::Include(include) => write!(f, " {}", Word(&include.pattern)),
            DirectiveKind::Setting(arguments) => {
                arguments.iter().try_for_each(|word| write!(f, " {}", Word(word)))
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write(f, &self.variables)?;
        let operator = self.operator.to_string();
        write!(f, " {operator}")?;
        // At the end of a line a backslash would take the next one for its own.
        if self.actions.items.is_empty() && !operator.ends_with('\\') {
            return Ok(());
        }
        write!(f, " {}", self.actions)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if self.negated {
            text.push('!');
        }
        if self.explicit {
            text.push('@');
            text.push_str(&self.name);
            if !self.argument.is_empty() {
                text.push(' ');
            }
        }
        text.push_str(&self.argument);
        f.write_str(&quoted(&text))
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write_element(f, self)
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write(f, &self.items)
    }
}

impl fmt::Display for RuleSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids(ids) => write!(f, "{}", IdList(ids)),
            Self::Tag(text) | Self::Message(text) => write!(f, "{}", Word(text)),
        }
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

struct IdList<'a>(&'a [IdRange]);

impl fmt::Display for IdList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ids.join(","))
    }
}

impl fmt::Display for UpdateTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.rules)?;
        list::write(f, &self.variables)?;
        if self.replaced.is_empty() {
            return Ok(());
        }
        f.write_str(" ")?;
        list::write(f, &self.replaced)
    }
}

impl fmt::Display for UpdateAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", IdList(&self.rules))?;
        if let Some(link) = self.link {
            write!(f, ":{link}")?;
        }
        write!(f, " {}", self.actions)
    }
}

/// A word, quoted only where it must be.
struct Word<'a>(&'a Text);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.0.is_empty()
            && self.0.bytes().all(|b| b.is_ascii_graphic())
            && !self.0.starts_with(['"', '\'', '#'])
            && !self.0.ends_with('\\');
        if plain { f.write_str(self.0) } else { f.write_str(&quoted(self.0)) }
    }
}

/// Whether a value needs no quotes.
fn is_plain(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'\'' | b'\\' | b'"'))
}

/// Whether a quote (or the end of the text) directly follows a backslash that escapes it.
fn misread(text: &str, quote: char) -> bool {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' && characters.next().is_none_or(|next| next == quote) {
            return true;
        }
    }
    false
}

/// Puts quotes around a text: the kind in which its backslashes do not swallow one; none when
/// there is no such kind, which only texts without spaces come to.
fn quoted(text: &str) -> String {
    for quote in ['"', '\''] {
        if !misread(text, quote) {
            return format!("{quote}{}{quote}", escape(text, quote));
        }
    }
    text.to_owned()
}

fn escape(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for character in text.chars() {
        if character == quote {
            out.push('\\');
        }
        out.push(character);
    }
    out
}
