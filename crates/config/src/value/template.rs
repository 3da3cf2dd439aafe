//! Texts with references to the request: `/titles/{id}`, `{query.lang}`.

use std::fmt;
use std::str::FromStr;

use portcullis_http::Piece;

use super::pattern::{canonical, is_name};
use super::{HeaderName, ValueError, string_value};

/// A text with references in braces: `{name}` is a parameter of the route's path, `{query.name}` a query
/// parameter, `{header.name}` a request header. `{{` and `}}` stand for the braces themselves. What is put in
/// is percent-encoded where it lands in a path or a query; a reference without a value fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

/// A path with parameters of the route's path: `{name}` is exactly one segment or a part of one, a last
/// `{*name}` the rest of the path. The literals are kept in the spelling of normalized paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathTemplate {
    text: String,
    params: Vec<(String, bool)>,
    pieces: Vec<Piece>,
}

impl Template {
    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Texts and references, in order; two texts never stand side by side.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// As requests fill it in.
    #[must_use]
    pub fn compiled(&self) -> portcullis_http::Template {
        self.pieces.clone().into()
    }

    /// Whether the template makes a path: it begins with a slash and its literals are spelled as in normalized
    /// paths.
    ///
    /// # Errors
    /// Says what cannot stand in a path, or how it is spelled.
    pub fn check_path(&self) -> Result<(), ValueError> {
        if !self.text.starts_with('/') {
            return Err(ValueError::new(format!("the path \"{}\" does not begin with a slash", self.text)));
        }
        if self.text.contains("//") || self.text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(ValueError::new(format!("the path \"{}\" has empty or dot segments", self.text)));
        }
        let literals = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text),
            _ => None,
        });
        for segment in literals.flat_map(|text| text.split('/')).filter(|text| !matches!(*text, "." | "..")) {
            let spelled = canonical(segment)?;
            if spelled != segment {
                return Err(ValueError::new(format!("\"{segment}\" is not spelled as in a normalized path"))
                    .help(format!("write \"{spelled}\"")));
            }
        }
        Ok(())
    }
}

fn reference(text: &str) -> Result<Piece, ValueError> {
    // `{*rest}` may be written as in the route's path; it is the same value.
    let bare = text.strip_prefix('*').unwrap_or(text);
    match text.split_once('.') {
        Some(("query", name)) if !name.is_empty() => Ok(Piece::Query(name.to_owned())),
        Some(("header", name)) => {
            name.parse::<HeaderName>().map(|name| Piece::Header(name.as_str().to_owned()))
        }
        None if is_name(bare) => Ok(Piece::Param(bare.to_owned())),
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
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(value);
                rest = after;
            } else {
                return Err(ValueError::new(format!("a brace in \"{text}\" has no partner"))
                    .help("write {{ or }} for the brace itself"));
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }
}

impl PathTemplate {
    /// The template, its literals in the spelling of normalized paths.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As requests fill it in.
    #[must_use]
    pub fn compiled(&self) -> portcullis_http::Template {
        self.pieces.clone().into()
    }

    /// The parameters it needs, in order, each with whether it takes the rest of the path.
    pub fn params(&self) -> impl Iterator<Item = (&str, bool)> {
        self.params.iter().map(|(name, is_rest)| (name.as_str(), *is_rest))
    }
}

impl FromStr for PathTemplate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let path = text.strip_prefix('/').ok_or_else(|| {
            ValueError::new(format!("the path \"{text}\" does not begin with a slash"))
                .help(format!("write \"/{text}\""))
        })?;
        let mut out =
            Self { text: String::with_capacity(text.len()), params: Vec::new(), pieces: Vec::new() };
        let count = path.split('/').count();
        for (at, segment) in path.split('/').enumerate() {
            out.push("/");
            let is_last = at + 1 == count;
            if segment.is_empty() && !is_last {
                return Err(ValueError::new(format!("the path \"{text}\" has an empty segment (`//`)")));
            }
            out.segment(segment, is_last)?;
        }
        Ok(out)
    }
}

impl PathTemplate {
    /// Appends text, joined to the text before it.
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(before)) => before.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    fn segment(&mut self, segment: &str, is_last: bool) -> Result<(), ValueError> {
        let mut rest = segment;
        while let Some((before, after)) = rest.split_once('{') {
            self.push(&canonical(before)?);
            let (name, tail) = after
                .split_once('}')
                .ok_or_else(|| ValueError::new(format!("a brace in \"{segment}\" has no partner")))?;
            let (bare, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
            if !is_name(bare) {
                return Err(ValueError::new(format!("\"{{{name}}}\" is not a parameter"))
                    .help("a path takes parameters of the route's path only, such as \"{id}\" or a last \"{*rest}\""));
            }
            if is_rest && !(is_last && tail.is_empty() && before.is_empty()) {
                return Err(ValueError::new(format!("\"{{{name}}}\" is the last segment or none")));
            }
            self.text.push_str(&format!("{{{name}}}"));
            self.params.push((bare.to_owned(), is_rest));
            self.pieces.push(Piece::Param(bare.to_owned()));
            rest = tail;
        }
        self.push(&canonical(rest)?);
        Ok(())
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

string_value!(PathTemplate, "path-template", r"^/", ["/titles/{id}", "/{*rest}"]);

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
        let template: Template = "/a/{id}{{x}}/{rest}".parse().unwrap();
        assert_eq!(
            template.pieces(),
            [
                Piece::Text("/a/".into()),
                Piece::Param("id".into()),
                Piece::Text("{x}/".into()),
                Piece::Param("rest".into()),
            ]
        );
        let template: Template = "{query.q} {header.Accept}".parse().unwrap();
        assert_eq!(template.pieces().len(), 3);
        for text in ["{", "}", "{}", "{a", "{1}", "{query.}", "{header.a b}", "{cookie.a}"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }

    #[test]
    fn templates_that_make_paths() {
        let check = |text: &str| text.parse::<Template>().unwrap().check_path();
        for text in ["/a/{id}", "/a/{query.q}/{*rest}", "/{a}.{b}", "/a%20b"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["a", "", "/a?b={id}", "/a//b", "/../a", "{id}", "/{{a}}"] {
            assert!(check(text).is_err(), "{text}");
        }
        assert_eq!(check("/a b/{id}").unwrap_err().help.as_deref(), Some("write \"a%20b\""));
    }

    #[test]
    fn paths() {
        let template: PathTemplate = "/a b/{id}.json/{*rest}".parse().unwrap();
        assert_eq!(template.as_str(), "/a%20b/{id}.json/{*rest}");
        assert_eq!(template.params().collect::<Vec<_>>(), [("id", false), ("rest", true)]);
        for text in ["/", "/a/", "/{*rest}", "/%C3%A9"] {
            assert_eq!(text.parse::<PathTemplate>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "a",
            "/a?b={id}",
            "/a//b",
            "/../a",
            "{id}",
            "/{",
            "/}",
            "/{}",
            "/{query.q}",
            "/{*rest}/a",
            "/x{*rest}",
        ] {
            assert!(text.parse::<PathTemplate>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[{}a-z.*/]{0,20}") {
            drop(text.parse::<Template>());
            if let Ok(template) = format!("/{text}").parse::<PathTemplate>() {
                prop_assert_eq!(template.as_str().parse::<PathTemplate>(), Ok(template));
            }
        }
    }
}
