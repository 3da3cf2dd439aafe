//! Routes that take the same requests with equal right.

use super::Checker;
use crate::codes;
use crate::model::{Match, Route};
use crate::value::Regex;

impl Checker<'_> {
    pub(super) fn ties(&mut self) {
        let routes = &self.config.route;
        for (at, route) in routes.iter().enumerate() {
            for (before, other) in routes.iter().take(at).enumerate() {
                if ties(&route.matches, &other.matches) {
                    self.tie((at, route), (before, other));
                }
            }
        }
    }

    fn tie(&mut self, (at, route): (usize, &Route), (before, other): (usize, &Route)) {
        let (here, there) = (format!("route[{at}].match"), format!("route[{before}].match"));
        let message = format!("the routes `{}` and `{}` take the same requests", other.name, route.name);
        let diagnostic = self.error(codes::ROUTE_TIE, &format!("{here}.path"), message);
        let diagnostic = diagnostic.label(format!("`{}` is as specific as …", route.name));
        let diagnostic = self.also(diagnostic, &format!("{there}.path"), &format!("… `{}`", other.name));
        let diagnostic =
            diagnostic.help("make one of them more specific by host, path, method, header or query");
        self.push(&[&here, &there], diagnostic);
    }
}

/// Whether one request can match both, with the same specificity. Paths of different shape never tie: the
/// first segment that differs decides.
fn ties(one: &Match, other: &Match) -> bool {
    let hosts_meet = match (one.hosts.is_empty(), other.hosts.is_empty()) {
        (true, true) => true,
        (false, false) => one.hosts.iter().any(|host| other.hosts.contains(host)),
        _ => false,
    };
    let methods_meet = match (one.methods.is_empty(), other.methods.is_empty()) {
        (true, true) => true,
        (false, false) => one.methods.iter().any(|method| other.methods.contains(method)),
        _ => false,
    };
    let count = |matches: &Match| matches.headers.len() + matches.query.len();
    hosts_meet
        && one.path.shape() == other.path.shape()
        && methods_meet
        && count(one) == count(other)
        && !conditions(one).any(|one| conditions(other).any(|other| one.excludes(&other)))
}

/// A header or query condition.
struct Condition<'a> {
    kind: &'static str,
    name: &'a str,
    value: Option<&'a str>,
    present: Option<bool>,
    regex: Option<&'a Regex>,
}

fn conditions(matches: &Match) -> impl Iterator<Item = Condition<'_>> {
    let headers = matches.headers.iter().map(|one| Condition {
        kind: "header",
        name: one.name.as_str(),
        value: one.value.as_deref(),
        present: one.present,
        regex: one.regex.as_ref(),
    });
    let query = matches.query.iter().map(|one| Condition {
        kind: "query",
        name: &one.name,
        value: one.value.as_deref(),
        present: one.present,
        regex: one.regex.as_ref(),
    });
    headers.chain(query)
}

impl Condition<'_> {
    /// Whether no request fulfils both. Whether two expressions meet is not worked out: different ones on one
    /// field are taken as meant to be apart, and the earlier route wins where they are not.
    fn excludes(&self, other: &Self) -> bool {
        let is_absent = |one: &Self| one.present == Some(false);
        if self.kind != other.kind || self.name != other.name {
            return false;
        }
        match (self.value, other.value) {
            (Some(one), Some(other)) => one != other,
            _ if is_absent(self) != is_absent(other) => true,
            (Some(_), None) => other.regex.is_some(),
            (None, Some(_)) => self.regex.is_some(),
            (None, None) => self.regex.is_some() && other.regex.is_some() && self.regex != other.regex,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(toml: &str) -> Match {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn what_ties() {
        for (one, other, is_tie) in [
            ("path = '/a'", "path = '/a'", true),
            ("path = '/{a}'", "path = '/{b}'", true),
            ("path = '/{a}'", "path = '/{*b}'", false),
            ("path = '/a/{x}'", "path = '/{y}/b'", false),
            ("path = '/a'", "path = '/a/'", false),
            ("path = '/a'\nmethods = ['GET']", "path = '/a'", false),
            ("path = '/a'\nmethods = ['GET']", "path = '/a'\nmethods = ['POST']", false),
            ("path = '/a'\nmethods = ['GET', 'PUT']", "path = '/a'\nmethods = ['PUT']", true),
            ("path = '/a'\nhosts = ['a.b']", "path = '/a'", false),
            ("path = '/a'\nhosts = ['a.b', '*.c']", "path = '/a'\nhosts = ['*.C']", true),
            ("path = '/a'\nhosts = ['*.b.c']", "path = '/a'\nhosts = ['*.c']", false),
            (
                "path = '/a'\nheaders = [{name='x', value='1'}]",
                "path = '/a'\nheaders = [{name='X', value='2'}]",
                false,
            ),
            (
                "path = '/a'\nheaders = [{name='x', value='1'}]",
                "path = '/a'\nheaders = [{name='y', value='2'}]",
                true,
            ),
            (
                "path = '/a'\nheaders = [{name='x', value='1'}]",
                "path = '/a'\nquery = [{name='x', value='2'}]",
                true,
            ),
            (
                "path = '/a'\nquery = [{name='x', present=true}]",
                "path = '/a'\nquery = [{name='x', present=false}]",
                false,
            ),
            (
                "path = '/a'\nquery = [{name='x', regex='1'}]",
                "path = '/a'\nquery = [{name='x', regex='2'}]",
                false,
            ),
            (
                "path = '/a'\nquery = [{name='x', regex='1'}]",
                "path = '/a'\nquery = [{name='x', regex='1'}]",
                true,
            ),
            (
                "path = '/a'\nquery = [{name='x', value='1'}]",
                "path = '/a'\nquery = [{name='x', present=true}]",
                true,
            ),
        ] {
            assert_eq!(ties(&matches(one), &matches(other)), is_tie, "{one} | {other}");
            assert_eq!(ties(&matches(other), &matches(one)), is_tie, "{other} | {one}");
        }
    }
}
