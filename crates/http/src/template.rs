//! Texts with values of the request in them.

use crate::percent::form_decode;
use crate::{Fields, Params, Target, percent_encode_query, percent_encode_segment};
use std::borrow::Cow;

/// The values of a request that a [`Template`] may name.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// What the route's path pattern bound.
    pub params: &'a Params,
    /// The query as it was sent, without the `?`.
    pub query: Option<&'a str>,
    /// The request's fields, less what hygiene dropped.
    pub fields: &'a Fields,
}

/// One piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    /// This text: in a path as it stands, so it must be a canonical path's; elsewhere encoded like a value.
    Text(String),
    /// The route's path parameter of this name.
    Param(String),
    /// The first query parameter of this name.
    Query(String),
    /// The first request header of this name.
    Header(String),
}

/// A text with values of the request in it: the path of a rewrite, or a path, query parameter or header of a
/// composition's part. Values mean only themselves: they are encoded for the place they stand in.
///
/// ```
/// use portcullis_http::{Fields, Params, Piece, Template, Values};
///
/// let template = Template::from(vec![Piece::Text("/titles/".into()), Piece::Param("id".into())]);
/// let mut params = Params::default();
/// params.push("id".into(), "7".into());
/// let values = Values { params: &params, query: None, fields: &Fields::default() };
/// assert_eq!(template.path(&values).as_deref(), Some("/titles/7"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Template(Vec<Piece>);

impl From<Vec<Piece>> for Template {
    fn from(pieces: Vec<Piece>) -> Self {
        Template(pieces)
    }
}

impl Template {
    /// The path, if each value is there and means nothing but itself: the whole is what [`Target::parse`] finds
    /// canonical. A path parameter is canonical already; one that took the rest of a path keeps its slashes and may be
    /// empty. No other value may.
    #[must_use]
    pub fn path(&self, values: &Values<'_>) -> Option<String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Param(name) => out.push_str(values.params.get(name)?),
                _ => {
                    let value = value(piece, values).filter(|value| !value.is_empty())?;
                    percent_encode_segment(&value, &mut out);
                }
            }
        }
        let target = Target::parse(out.as_bytes()).ok()?;
        (target.path() == out && target.query().is_none()).then_some(out)
    }

    /// Appends a query value; `None`, with part of it appended, where one is missing. An empty value is a value.
    pub fn query(&self, values: &Values<'_>, out: &mut String) -> Option<()> {
        for piece in &self.0 {
            percent_encode_query(&value(piece, values)?, out);
        }
        Some(())
    }

    /// The bytes of a header's value, if each value is there; whether they may stand there is for the fields to say.
    #[must_use]
    pub fn header(&self, values: &Values<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for piece in &self.0 {
            out.extend_from_slice(&value(piece, values)?);
        }
        Some(out)
    }

    /// Its pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether its text is the beginning of an absolute path.
    #[must_use]
    pub fn is_path(&self) -> bool {
        matches!(self.0.first(), Some(Piece::Text(text)) if text.starts_with('/'))
    }
}

/// A piece's value, free of any encoding.
fn value<'a>(piece: &'a Piece, values: &Values<'a>) -> Option<Cow<'a, [u8]>> {
    match piece {
        Piece::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
        Piece::Param(name) => values.params.get(name).map(|value| form_decode(value, false)),
        Piece::Query(name) => crate::target::query_value(values.query?, name),
        Piece::Header(name) => values.fields.get(name).map(Cow::Borrowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with<T>(param: &str, query: &str, header: &str, check: impl FnOnce(&Values<'_>) -> T) -> T {
        let mut params = Params::default();
        params.push("p".into(), param.to_owned());
        let mut fields = Fields::default();
        if !header.is_empty() {
            fields.append("x-h", header).unwrap();
        }
        check(&Values { params: &params, query: Some(query), fields: &fields })
    }

    fn template(piece: Piece) -> Template {
        vec![Piece::Text("/a/".into()), piece].into()
    }

    fn query_path(query: &str) -> Option<String> {
        with("", query, "", |input| template(Piece::Query("q".into())).path(input))
    }

    #[test]
    fn path_values_mean_only_themselves() {
        for (query, path) in [
            ("q=x", Some("/a/x")),
            ("q=x+y", Some("/a/x%20y")),
            ("q=x%20y", Some("/a/x%20y")),
            ("q=a%3Fb%23c", Some("/a/a%3Fb%23c")),
            ("q=%C3%A9", Some("/a/%C3%A9")),
            ("q=a:b@c", Some("/a/a:b@c")),
            ("x=1&q=2&q=3", Some("/a/2")),
            ("%71=2", Some("/a/2")),
            ("q=..", None),
            ("q=.", None),
            ("q=..%2f", None),
            ("q=../x", None),
            ("q=%2e%2e", None),
            ("q=..%252f", None),
            ("q=x%2Fy", None),
            ("q=x/y", None),
            ("q=x;y", None),
            ("q=x%5Cy", None),
            ("q=%0d%0aX:1", None),
            ("q=%00", None),
            ("q=%ff", None),
            ("q=", None),
            ("q", None),
            ("r=1", None),
            ("", None),
        ] {
            assert_eq!(query_path(query).as_deref(), path, "{query}");
        }
    }

    #[test]
    fn path_parameters_are_canonical_already() {
        let path = |param: &str| with(param, "", "", |input| template(Piece::Param("p".into())).path(input));
        assert_eq!(path("x%20y").as_deref(), Some("/a/x%20y"));
        assert_eq!(path("b/c").as_deref(), Some("/a/b/c"));
        assert_eq!(path("").as_deref(), Some("/a/"));
        for bad in ["..", "b/../c", "b//c", "x?y", "x#y", "x y", "%2e%2e", "a%2fb"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn query_and_header_values() {
        let query = |param: &str, query: &str| {
            with(param, query, "", |input| {
                let mut out = String::new();
                Template::from(vec![
                    Piece::Param("p".into()),
                    Piece::Text("&".into()),
                    Piece::Query("q".into()),
                ])
                .query(input, &mut out)
                .map(|()| out)
            })
        };
        assert_eq!(query("x%20y", "q=1%262%3D").as_deref(), Some("x%20y%261%262%3D"));
        assert_eq!(query("", "q=").as_deref(), Some("%26"));
        assert_eq!(query("x", "q=100%").as_deref(), Some("x%26100%25"));
        assert_eq!(query("x", ""), None);
        let header = |value: &str| {
            with("", "", value, |input| Template::from(vec![Piece::Header("X-H".into())]).header(input))
        };
        assert_eq!(header("de, en").as_deref(), Some(&b"de, en"[..]));
        assert_eq!(header(""), None);
    }

    proptest! {
        #[test]
        fn a_query_value_comes_back_as_it_was(value in proptest::collection::vec(any::<u8>(), 0..30)) {
            let mut encoded = "q=".to_owned();
            percent_encode_query(&value, &mut encoded);
            let out = with("", &encoded, "", |input| {
                let mut out = "q=".to_owned();
                Template::from(vec![Piece::Query("q".into())]).query(input, &mut out).map(|()| out)
            });
            prop_assert_eq!(out, Some(encoded));
        }

        #[test]
        fn a_path_value_stays_one_segment(value in "\\PC{0,20}") {
            let mut query = "q=".to_owned();
            percent_encode_query(value.as_bytes(), &mut query);
            if let Some(path) = query_path(&query) {
                prop_assert_eq!(path.matches('/').count(), 2);
                prop_assert!(!path.contains(['?', '#', ' ']));
            }
        }
    }
}
