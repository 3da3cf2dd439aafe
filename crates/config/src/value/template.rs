//! Texts with references to the request: `/titles/{id}`, `{query.lang}`.

use std::fmt;
use std::str::FromStr;

use super::pattern::{is_name, is_path_byte};
use super::{HeaderName, ValueError, string_value};

/// A text with references in braces: `{name}` is a parameter of the route's path, `{query.name}` a query
/// parameter, `{header.name}` a request header. `{{` and `}}` stand for the braces themselves. What is put in
/// is percent-encoded where it lands in a path or a query; a reference without a value fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

/// One piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Piece {
    /// These bytes as they are.
    Literal(String),
    /// A value of the request.
    Value(Reference),
}

/// Where a [`Piece::Value`] comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// The parameter of this name in the route's path pattern. A `{*rest}` keeps its slashes.
    Param(String),
    /// The first query parameter of this name.
    Query(String),
    /// The request header of this name.
    Header(HeaderName),
}

impl Template {
    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Literals and references, in order; two literals never stand side by side.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The references, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Value(reference) => Some(reference),
        })
    }

    /// Whether the template can be the path of a request: it begins with a slash, and its literals are
    /// normalized path bytes.
    ///
    /// # Errors
    /// Says what cannot stand in a path.
    pub fn check_path(&self) -> Result<(), ValueError> {
        if !self.text.starts_with('/') {
            return Err(ValueError::new(format!("the path \"{}\" does not begin with a slash", self.text)));
        }
        for piece in &self.pieces {
            let Piece::Literal(text) = piece else { continue };
            if let Some(bad) = text.chars().find(|c| !c.is_ascii() || !(is_path_byte(*c as u8) || *c == '/'))
            {
                return Err(ValueError::new(format!("{bad:?} cannot stand in the path \"{}\"", self.text)));
            }
        }
        if self.text.contains("//") || self.text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(ValueError::new(format!("the path \"{}\" has empty or dot segments", self.text)));
        }
        Ok(())
    }
}

fn reference(text: &str) -> Result<Reference, ValueError> {
    let bare = text.strip_prefix('*').unwrap_or(text);
    match text.split_once('.') {
        Some(("query", name)) if !name.is_empty() => Ok(Reference::Query(name.to_owned())),
        Some(("header", name)) => name.parse().map(Reference::Header),
        None if is_name(bare) => Ok(Reference::Param(bare.to_owned())),
        _ => Err(ValueError::new(format!("\"{{{text}}}\" refers to nothing"))
            .help("write \"{name}\" for a path parameter, \"{query.name}\" or \"{header.name}\"")),
    }
}

impl FromStr for Template {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some((name, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}')) {
                let value = reference(name)?;
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Value(value));
                rest = after;
            } else {
                return Err(ValueError::new(format!("a brace in \"{text}\" has no partner"))
                    .help("write {{ or }} for the brace itself"));
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

string_value!(
    Template,
    "template",
    r"^([^{}]|\{\{|\}\}|\{[^{}]+\})*$",
    ["/titles/{id}", "{query.lang}", "{header.accept-language}"]
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces() {
        let template: Template = "/a/{id}{{x}}/{*rest}".parse().unwrap();
        assert_eq!(
            template.pieces(),
            [
                Piece::Literal("/a/".into()),
                Piece::Value(Reference::Param("id".into())),
                Piece::Literal("{x}/".into()),
                Piece::Value(Reference::Param("rest".into())),
            ]
        );
        let template: Template = "{query.q} {header.Accept}".parse().unwrap();
        assert_eq!(template.references().count(), 2);
        for text in ["{", "}", "{}", "{a", "{1}", "{query.}", "{header.a b}", "{cookie.a}"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }

    #[test]
    fn paths() {
        let check = |text: &str| text.parse::<Template>().unwrap().check_path();
        assert!(check("/a/{id}").is_ok());
        for text in ["a", "", "/a?b={id}", "/a//b", "/../{id}", "/a b", "{id}", "/é"] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[{}a-z.*/]{0,20}") {
            drop(text.parse::<Template>());
        }
    }
}
