//! From a normalized request to its route: the most specific one wins.
//!
//! Host patterns are tried exact, then wildcard (the longest suffix first), then any. Within a host, a tree of path
//! segments tries a literal before a parameter before the rest of the path. Routes of one path are ordered by
//! whether they name a method, then by how many header and query conditions they have; what would still tie is
//! refused when the configuration is loaded. A lookup's cost depends on the path's length, not on the number of
//! routes.

use crate::cors;
use portcullis_config::{HostPattern, Match, PathPattern, PathSegment};
use portcullis_http::{Exchange, Method, Params, Rejection};
use regex::bytes::Regex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Finds routes by their place in the configuration.
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: HashMap<String, Node>,
    /// Suffixes with their leading dot, the longest first.
    wildcard: Vec<(String, Node)>,
    any: Node,
}

#[derive(Debug, Default)]
struct Node {
    literal: BTreeMap<String, Node>,
    param: Option<Box<Node>>,
    rest: Vec<Candidate>,
    here: Vec<Candidate>,
}

#[derive(Clone, Debug)]
struct Candidate {
    route: usize,
    methods: Vec<String>,
    conditions: Arc<[Condition]>,
    names: Names,
}

/// What each segment of a path pattern binds, if anything.
type Names = Arc<[Option<Arc<str>>]>;

#[derive(Debug)]
struct Condition {
    place: Place,
    name: String,
    test: Test,
}

#[derive(Debug)]
enum Place {
    Header,
    Query,
}

/// What is asked of a value.
#[derive(Debug)]
pub(crate) enum Test {
    Is(String),
    Present(bool),
    Matches(Regex),
}

/// What a route without `methods` says that it takes: the methods of RFC 9110 and RFC 5789. It takes other registered ones,
/// too.
const COMMON_METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

impl Router {
    /// Adds the route at this place of the configuration.
    ///
    /// # Errors
    /// A regular expression that does not compile, as text.
    pub(crate) fn add(&mut self, route: usize, matches: &Match) -> Result<(), String> {
        let candidate = Candidate {
            route,
            methods: matches.methods.iter().map(|m| m.as_str().to_owned()).collect(),
            conditions: conditions(matches)?,
            names: matches.path.segments().iter().map(binding).collect(),
        };
        if matches.hosts.is_empty() {
            self.any.add(&matches.path, candidate);
            return Ok(());
        }
        for host in &matches.hosts {
            self.host(host).add(&matches.path, candidate.clone());
        }
        Ok(())
    }

    fn host(&mut self, pattern: &HostPattern) -> &mut Node {
        let Some(suffix) = pattern.wildcard_suffix() else {
            return self.exact.entry(pattern.as_str().to_owned()).or_default();
        };
        let at = match self.wildcard.iter().position(|(known, _)| known == suffix) {
            Some(at) => at,
            None => {
                let at = self.wildcard.partition_point(|(known, _)| known.len() >= suffix.len());
                self.wildcard.insert(at, (suffix.to_owned(), Node::default()));
                at
            }
        };
        self.wildcard.get_mut(at).map_or(&mut self.any, |(_, node)| node)
    }

    /// The route of this request; binds the path's parameters in the exchange.
    ///
    /// # Errors
    /// 404, or 405 with the methods that the path does take.
    pub(crate) fn find(&self, exchange: &mut Exchange) -> Result<usize, Rejection> {
        let found = self.search(exchange, Wanted::Itself);
        Self::settle(exchange, found)
    }

    /// The route of the request that a CORS preflight asks about: it has the method that the preflight names, and
    /// fields of which only the names are known. Where no route takes that method, another one of its path.
    pub(crate) fn find_announced(&self, exchange: &mut Exchange) -> Option<usize> {
        cors::announced_method(&exchange.request)?;
        let found = self.search(exchange, Wanted::Announced);
        let found = found.or_else(|_| self.search(exchange, Wanted::AnnouncedPath));
        Self::settle(exchange, found).ok()
    }

    /// Leaves the parameters of the route that was found with the exchange, or none.
    fn settle(
        exchange: &mut Exchange,
        found: Result<(usize, Params), Rejection>,
    ) -> Result<usize, Rejection> {
        match found {
            Ok((route, params)) => {
                exchange.params = params;
                Ok(route)
            }
            Err(why) => {
                exchange.params = Params::default();
                Err(why)
            }
        }
    }

    fn search(&self, exchange: &Exchange, wanted: Wanted) -> Result<(usize, Params), Rejection> {
        let mut search = Search { exchange, wanted, allowed: BTreeSet::new(), found: None };
        if let Some(path) = exchange.target.path().strip_prefix('/') {
            let host = exchange.host.name();
            let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
            let wildcard = self
                .wildcard
                .iter()
                .filter(|(suffix, _)| host.ends_with(suffix.as_str()) && host.len() > suffix.len());
            let trees = exact.into_iter().chain(wildcard.map(|(_, node)| node)).chain([&self.any]);
            for tree in trees {
                if tree.search(path, &mut search)
                    && let Some((route, names)) = search.found
                {
                    return Ok((route, bind(path, names)));
                }
            }
        }
        if search.allowed.is_empty() {
            return Err(Rejection::NoRoute);
        }
        let allow: Vec<&str> = search.allowed.iter().map(String::as_str).collect();
        Err(Rejection::MethodNotAllowed { allow: allow.join(", ") })
    }
}

/// Which request a route is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The one that came.
    Itself,
    /// The one that a preflight announces.
    Announced,
    /// One that a preflight announces, whatever its method.
    AnnouncedPath,
}

struct Search<'a> {
    exchange: &'a Exchange,
    wanted: Wanted,
    allowed: BTreeSet<String>,
    found: Option<(usize, &'a Names)>,
}

impl<'a> Search<'a> {
    /// Takes the first of these candidates whose method and conditions hold.
    fn judge(&mut self, candidates: &'a [Candidate]) -> bool {
        for candidate in candidates {
            if !candidate.conditions.iter().all(|condition| self.holds(condition)) {
                continue;
            }
            if self.takes(candidate) {
                self.found = Some((candidate.route, &candidate.names));
                return true;
            }
            if candidate.methods.is_empty() {
                self.allowed.extend(COMMON_METHODS.map(str::to_owned));
            }
            for method in &candidate.methods {
                self.allowed.insert(method.clone());
                if method == "GET" {
                    self.allowed.insert("HEAD".to_owned());
                }
            }
        }
        false
    }

    fn takes(&self, candidate: &Candidate) -> bool {
        let request = &self.exchange.request;
        match self.wanted {
            Wanted::Itself => candidate.takes(request.method_text()),
            Wanted::Announced => {
                cors::announced_method(request).is_some_and(|method| candidate.takes(method))
            }
            Wanted::AnnouncedPath => true,
        }
    }

    /// Of a field that is only announced the value is not known.
    fn holds(&self, condition: &Condition) -> bool {
        let announced = self.wanted != Wanted::Itself
            && matches!(condition.place, Place::Header)
            && cors::announces_field(&self.exchange.request, &condition.name);
        if announced { condition.test.takes_any() } else { condition.holds(self.exchange) }
    }
}

impl Node {
    fn add(&mut self, path: &PathPattern, candidate: Candidate) {
        let mut node = self;
        for segment in path.segments() {
            node = match segment {
                PathSegment::Literal(text) => node.literal.entry(text.clone()).or_default(),
                PathSegment::Param(_) => node.param.get_or_insert_default(),
                PathSegment::Rest(_) => return insert(&mut node.rest, candidate),
            };
        }
        insert(&mut node.here, candidate);
    }

    /// Visits the nodes that match the rest of the path, the most specific first, until one has the route.
    fn search<'a>(&'a self, path: &str, search: &mut Search<'a>) -> bool {
        let (segment, rest) = match path.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (path, None),
        };
        let step = |node: &'a Node, search: &mut Search<'a>| match rest {
            Some(rest) => node.search(rest, search),
            None => search.judge(&node.here),
        };
        (!self.literal.is_empty() && self.literal.get(segment).is_some_and(|node| step(node, search)))
            || (!segment.is_empty() && self.param.as_deref().is_some_and(|node| step(node, search)))
            || search.judge(&self.rest)
    }
}

/// Keeps candidates of one path in the order in which they are tried.
fn insert(candidates: &mut Vec<Candidate>, candidate: Candidate) {
    let rank = |c: &Candidate| (c.methods.is_empty(), std::cmp::Reverse(c.conditions.len()));
    let at = candidates.partition_point(|other| rank(other) <= rank(&candidate));
    candidates.insert(at, candidate);
}

impl Candidate {
    fn takes(&self, method: &[u8]) -> bool {
        // What an unknown method means, and whether it changes anything, only the route's author can say.
        let any = self.methods.is_empty() && Method::is_registered(method);
        any || self.methods.iter().any(|m| m.as_bytes() == method || (m == "GET" && method == b"HEAD"))
    }
}

fn binding(segment: &PathSegment) -> Option<Arc<str>> {
    match segment {
        PathSegment::Literal(_) => None,
        PathSegment::Param(name) | PathSegment::Rest(name) => Some(name.as_str().into()),
    }
}

fn bind(path: &str, names: &[Option<Arc<str>>]) -> Params {
    let mut params = Params::default();
    for (name, value) in names.iter().zip(path.splitn(names.len(), '/')) {
        if let Some(name) = name {
            params.push(name.clone(), value.to_owned());
        }
    }
    params
}

fn conditions(matches: &Match) -> Result<Arc<[Condition]>, String> {
    let headers = matches.headers.iter().map(|h| {
        Ok(Condition {
            place: Place::Header,
            name: h.name.as_str().to_owned(),
            test: Test::new(h.value.as_ref(), h.present, h.regex.as_ref())?,
        })
    });
    let query = matches.query.iter().map(|q| {
        Ok(Condition {
            place: Place::Query,
            name: q.name.clone(),
            test: Test::new(q.value.as_ref(), q.present, q.regex.as_ref())?,
        })
    });
    headers.chain(query).collect()
}

impl Condition {
    fn holds(&self, exchange: &Exchange) -> bool {
        match self.place {
            Place::Header => self.test.holds(exchange.request.fields.get(&self.name)),
            Place::Query => {
                let value = exchange.target.query_value(&self.name);
                self.test.holds(value.as_deref())
            }
        }
    }
}

impl Test {
    /// The one that is given of the three.
    ///
    /// # Errors
    /// A regular expression that does not compile, as text.
    pub(crate) fn new(
        value: Option<&String>,
        present: Option<bool>,
        regex: Option<&portcullis_config::Regex>,
    ) -> Result<Self, String> {
        match (value, regex) {
            (Some(value), _) => Ok(Test::Is(value.clone())),
            (None, Some(regex)) => {
                Regex::new(regex.as_str()).map(Test::Matches).map_err(|error| error.to_string())
            }
            (None, None) => Ok(Test::Present(present.unwrap_or(true))),
        }
    }

    /// Whether there is a value that passes.
    fn takes_any(&self) -> bool {
        !matches!(self, Test::Present(false))
    }

    pub(crate) fn holds(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (Test::Present(wanted), value) => value.is_some() == *wanted,
            (Test::Is(wanted), Some(value)) => wanted.as_bytes() == value,
            (Test::Matches(regex), Some(value)) => regex.is_match(value),
            (_, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_http::{
        Client, ClientAddress, Host, RequestHead, RequestId, Scheme, Target, TraceContext, Version,
    };

    fn exchange(method: &str, host: &str, target: &str, fields: &[(&str, &str)]) -> Exchange {
        let mut head = RequestHead::default();
        head.set_line(method.as_bytes(), target.as_bytes(), Version::Http11);
        for (name, value) in fields {
            head.fields.append(name, value).unwrap();
        }
        let address = "192.0.2.1:1".parse().unwrap();
        let client = Client {
            peer: address,
            local: address,
            address: ClientAddress { ip: address.ip(), peer_trusted: false },
            scheme: Scheme::Http,
            server_name: None,
            certificate: None,
            listener: "public".into(),
        };
        let target = Target::parse(target.as_bytes()).unwrap();
        Exchange::new(
            head,
            target,
            Host::parse(host).unwrap(),
            client,
            RequestId::random(),
            TraceContext::continue_from(None, false),
        )
    }

    fn router(matches: &[&str]) -> Router {
        let mut router = Router::default();
        for (at, text) in matches.iter().enumerate() {
            let matches: Match = toml::from_str(text).unwrap();
            router.add(at, &matches).unwrap();
        }
        router
    }

    #[test]
    fn the_most_specific_route_wins() {
        let router = router(&[
            "path = '/{*rest}'",
            "path = '/a/{id}'",
            "path = '/a/b'",
            "path = '/a/b'\nhosts = ['*.example.com']",
            "path = '/a/b'\nhosts = ['api.example.com']",
            "path = '/a/b'\nmethods = ['POST']",
            "path = '/a/b'\nheaders = [{name = 'x-v', value = '2'}]",
            "path = '/a/{id}/c'",
            "path = '/q'\nquery = [{name = 'k', regex = '^[0-9]+$'}]",
        ]);
        for (method, host, target, fields, expected) in [
            ("GET", "x", "/z/z", &[][..], 0),
            ("GET", "x", "/a/1", &[], 1),
            ("GET", "x", "/a/b", &[], 2),
            ("GET", "w.example.com", "/a/b", &[], 3),
            ("GET", "a.b.example.com", "/a/b", &[], 3),
            ("GET", "example.com", "/a/b", &[], 2),
            ("GET", "api.example.com", "/a/b", &[], 4),
            ("GET", "api.example.com", "/a/x", &[], 1),
            ("POST", "x", "/a/b", &[], 5),
            ("GET", "x", "/a/b", &[("X-V", "2")], 6),
            ("GET", "x", "/a/b/c", &[], 7),
            ("GET", "x", "/a/b/d", &[], 0),
            ("GET", "x", "/", &[], 0),
            ("GET", "x", "/a/", &[], 0),
            ("GET", "x", "/q?k=12", &[], 8),
            ("GET", "x", "/q?k=x", &[], 0),
        ] {
            let mut exchange = exchange(method, host, target, fields);
            assert_eq!(router.find(&mut exchange), Ok(expected), "{method} {host} {target}");
        }
    }

    #[test]
    fn binds_parameters() {
        let router = router(&["path = '/a/{id}/{*rest}'"]);
        let mut exchange = exchange("GET", "x", "/a/7/b/c", &[]);
        assert_eq!(router.find(&mut exchange), Ok(0));
        assert_eq!((exchange.params.get("id"), exchange.params.get("rest")), (Some("7"), Some("b/c")));
        let mut exchange = self::exchange("GET", "x", "/a/7/", &[]);
        assert_eq!(router.find(&mut exchange), Ok(0));
        assert_eq!(exchange.params.get("rest"), Some(""));
    }

    #[test]
    fn not_found_and_not_allowed() {
        let router =
            router(&["path = '/a'\nmethods = ['GET']", "path = '/a'\nmethods = ['PUT']", "path = '/d/'"]);
        assert_eq!(router.find(&mut exchange("HEAD", "x", "/a", &[])), Ok(0));
        assert_eq!(
            router.find(&mut exchange("DELETE", "x", "/a", &[])),
            Err(Rejection::MethodNotAllowed { allow: "GET, HEAD, PUT".into() })
        );
        for target in ["/", "/a/", "/A", "/a/b", "/d"] {
            assert_eq!(
                router.find(&mut exchange("GET", "x", target, &[])),
                Err(Rejection::NoRoute),
                "{target}"
            );
        }
    }
}
