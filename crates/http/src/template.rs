//! Path templates: `/titles/{id}`.

use crate::Params;
use std::fmt;

/// A path with parameters, filled in for each request: the target of a rewrite or of a composition's part.
///
/// What is filled in is a canonical path text: `{name}` takes exactly one segment and `{*name}` the rest of the
/// path, so that a template's output is again a canonical path and can mean nothing else.
///
/// ```
/// use portcullis_http::{Params, Template};
///
/// let template = Template::parse("/titles/{id}").unwrap();
/// let mut params = Params::default();
/// params.push("id".into(), "7".into());
/// assert_eq!(template.expand(&params).as_deref(), Some("/titles/7"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Segment(String),
    Rest(String),
}

/// What is wrong with a template, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte offset into the template.
    pub at: usize,
    /// What is wrong.
    pub message: &'static str,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.message, self.at)
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Reads a template. `{*rest}` may stand at the end only.
    ///
    /// # Errors
    /// A [`TemplateError`] that says what and where.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let fail = |at, message| Err(TemplateError { at, message });
        if !text.starts_with('/') {
            return fail(0, "a path template starts with `/`");
        }
        let mut pieces = Vec::new();
        let (mut rest, mut at) = (text, 0);
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            at += before.len();
            let Some((name, tail)) = after.split_once('}') else {
                return fail(at, "`{` without `}`");
            };
            let (name, whole) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return fail(at, "a parameter's name is made of letters, digits and `_`");
            }
            if whole && !tail.is_empty() {
                return fail(at, "`{*name}` stands at the end");
            }
            pieces.push(if whole { Piece::Rest(name.to_owned()) } else { Piece::Segment(name.to_owned()) });
            at += after.len() - tail.len() + 1;
            rest = tail;
        }
        if let Some(stray) = rest.find('}') {
            return fail(at + stray, "`}` without `{`");
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    /// The names of the parameters it needs.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Segment(name) | Piece::Rest(name) => Some(name.as_str()),
        })
    }

    /// The path with its parameters filled in; `None` where one is missing or empty, or would not stay the one
    /// segment it stands for.
    #[must_use]
    pub fn expand(&self, params: &Params) -> Option<String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Segment(name) => {
                    let value = params.get(name).filter(|value| is_one_segment(value))?;
                    out.push_str(value);
                }
                Piece::Rest(name) => out.push_str(params.get(name)?),
            }
        }
        // What was filled in is canonical already; the whole must be so too.
        let whole = crate::Target::parse(out.as_bytes()).ok()?;
        (whole.path() == out).then_some(out)
    }
}

fn is_one_segment(value: &str) -> bool {
    !value.is_empty() && !value.contains(['/', '?']) && !matches!(value, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let mut params = Params::default();
        for (name, value) in pairs {
            params.push((*name).into(), (*value).to_owned());
        }
        params
    }

    #[test]
    fn expands_and_refuses_what_would_mean_something_else() {
        let template = Template::parse("/a/{id}/b").unwrap();
        assert_eq!(template.expand(&params(&[("id", "x%20y")])).as_deref(), Some("/a/x%20y/b"));
        for bad in ["", ".", "..", "x/y", "x?y", "%2e%2e", "x;y", "a%2Fb"] {
            assert_eq!(template.expand(&params(&[("id", bad)])), None, "{bad}");
        }
        assert_eq!(template.expand(&params(&[])), None);
        let rest = Template::parse("/{*rest}").unwrap();
        assert_eq!(rest.expand(&params(&[("rest", "x/y")])).as_deref(), Some("/x/y"));
        assert_eq!(rest.expand(&params(&[("rest", "../y")])), None);
        assert_eq!(rest.expand(&params(&[("rest", "")])).as_deref(), Some("/"));
    }

    #[test]
    fn errors_say_where() {
        for (text, at) in [("x", 0), ("/a{b", 2), ("/a}b", 2), ("/{a b}", 1), ("/{*a}/b", 1), ("/{}", 1)] {
            assert_eq!(Template::parse(text).unwrap_err().at, at, "{text}");
        }
    }
}
