//! Routes and compositions.

use std::collections::BTreeMap;

use portcullis_diag::suggest;
use portcullis_http::Piece;

use super::Checker;
use crate::codes;
use crate::model::{Auth, Compose, RateLimit, Route};
use crate::value::{PathTemplate, RateKey, Template};

impl Checker<'_> {
    pub(super) fn routes(&mut self) {
        let config = self.config;
        let names = config
            .route
            .iter()
            .enumerate()
            .map(|(at, route)| (format!("route[{at}].name"), route.name.clone()));
        self.unique("the route", names);
        for (at, route) in config.route.iter().enumerate() {
            let path = format!("route[{at}]");
            self.action(&path, route);
            self.conditions(&path, route);
            self.canaries(&path, route);
            if let Some(auth) = &route.auth {
                self.auth(&path, auth);
            }
            self.rate_limits(&path, route);
            self.body(&path, route);
            self.route_firewall(&format!("{path}.firewall"), &route.firewall);
            self.header_names(&format!("{path}.response.headers.set"), route.response.headers.set.keys());
            self.cors(&path, route);
            self.head_limits(&path, route);
            self.protocols(&path, route);
            self.route_retry(&path, route);
        }
    }

    fn action(&mut self, path: &str, route: &Route) {
        let upstreams = &self.config.upstream;
        match (&route.upstream, &route.compose) {
            (Some(upstream), None) => {
                self.defined("upstream", upstream, &format!("{path}.upstream"), upstreams.keys())
            }
            (None, Some(compose)) => self.compose(path, route, compose),
            (None, None) => {
                let message = format!("the route `{}` does nothing", route.name);
                let diagnostic = self.error(codes::MISSING_FIELD, path, message);
                self.push(&[path], diagnostic.help("give `upstream` or `[route.compose]`"));
            }
            (Some(_), Some(_)) => {
                let (one, other) = (format!("{path}.upstream"), format!("{path}.compose"));
                let diagnostic =
                    self.error(codes::CONFLICT, &one, "`upstream` and `compose` exclude each other");
                let diagnostic = self.also(diagnostic, &other, "the other one");
                self.push(&[&one, &other], diagnostic);
            }
        }
        let Some(rewrite) = &route.rewrite else { return };
        let at = format!("{path}.rewrite");
        if route.compose.is_some() {
            let diagnostic = self.error(codes::CONFLICT, &at, "a composition has nothing to rewrite");
            self.push(&[&at], diagnostic.help("each part has its own `path`"));
        }
        self.path_template(&at, rewrite, route);
    }

    fn compose(&mut self, path: &str, route: &Route, compose: &Compose) {
        let part_path = |at: usize| format!("{path}.compose.part[{at}]");
        let parts = || compose.part.iter().enumerate();
        self.unique(
            "the part",
            parts().map(|(at, part)| (format!("{}.name", part_path(at)), part.name.clone())),
        );
        let field =
            compose.partial_field.clone().map(|field| (format!("{path}.compose.partial_field"), field));
        let groups =
            parts().filter_map(|(at, part)| Some((format!("{}.into", part_path(at)), part.into.clone()?)));
        self.unique("the member", field.into_iter().chain(groups));
        for (at, part) in parts() {
            let path = part_path(at);
            self.defined(
                "upstream",
                &part.upstream,
                &format!("{path}.upstream"),
                self.config.upstream.keys(),
            );
            let at = format!("{path}.path");
            if let Err(error) = part.path.check_path() {
                let mut diagnostic = self.error(codes::BAD_VALUE, &at, format!("bad value for `{at}`"));
                diagnostic.label = error.message;
                diagnostic.help = error.help;
                self.push(&[&at], diagnostic);
            }
            self.references(&at, &part.path, route);
            for (what, templates) in [("query", &part.query), ("headers", &part.headers)] {
                for (name, template) in templates {
                    self.references(&format!("{path}.{what}.{name}"), template, route);
                }
            }
            self.header_names(&format!("{path}.headers"), part.headers.keys());
        }
        let methods = format!("{path}.match.methods");
        let is_get = |method: &crate::value::Method| matches!(method.as_str(), "GET" | "HEAD");
        if route.matches.methods.is_empty() || !route.matches.methods.iter().all(is_get) {
            let diagnostic = self.error(codes::CONFLICT, &methods, "a composition answers GET only");
            self.push(&[&methods], diagnostic.help("write `methods = [\"GET\"]` in the route's `match`"));
        }
        if route.is_streaming() {
            let path = format!("{path}.compose");
            let diagnostic = self.error(codes::CONFLICT, &path, "a composition is held and cannot stream");
            self.push(&[&path], diagnostic);
        }
    }

    /// The parameters of a template that becomes a path: known, and one segment or the rest as in the route's
    /// path.
    fn path_template(&mut self, path: &str, template: &PathTemplate, route: &Route) {
        for (name, is_rest) in template.params() {
            let (message, right) = match (route.matches.path.takes_rest(name), is_rest) {
                (None, _) => {
                    self.unknown_param(path, name, route);
                    continue;
                }
                (Some(true), false) => {
                    ("one segment, but the route's path takes the rest there", format!("{{*{name}}}"))
                }
                (Some(false), true) => {
                    ("the rest, but the route's path takes one segment there", format!("{{{name}}}"))
                }
                _ => continue,
            };
            let diagnostic = self.error(codes::CONFLICT, path, format!("`{name}` stands here for {message}"));
            self.push(&[path], diagnostic.help(format!("write `{right}`")));
        }
    }

    /// The parameters that a template names must be in the route's path.
    fn references(&mut self, path: &str, template: &Template, route: &Route) {
        for piece in template.pieces() {
            let Piece::Param(name) = piece else { continue };
            if route.matches.path.takes_rest(name).is_none() {
                self.unknown_param(path, name, route);
            }
        }
    }

    fn unknown_param(&mut self, path: &str, name: &str, route: &Route) {
        let pattern = &route.matches.path;
        let message = format!("the path `{pattern}` has no parameter `{name}`");
        let diagnostic = self.error(codes::UNDEFINED, path, message);
        let pattern_path = format!("{}.match.path", path.split('.').next().unwrap_or_default());
        let diagnostic = self.also(diagnostic, &pattern_path, "the route's path");
        let diagnostic = match suggest(name, pattern.params()) {
            Some(similar) => diagnostic.help(format!("did you mean `{{{similar}}}`?")),
            None => diagnostic,
        };
        self.push(&[path, &pattern_path], diagnostic);
    }

    fn conditions(&mut self, path: &str, route: &Route) {
        let headers = route.matches.headers.iter().map(|one| (&one.value, one.present, &one.regex));
        self.one_test_each(&format!("{path}.match.headers"), headers);
        let query = route.matches.query.iter().map(|one| (&one.value, one.present, &one.regex));
        self.one_test_each(&format!("{path}.match.query"), query);
    }

    fn auth(&mut self, path: &str, auth: &Auth) {
        for (at, provider) in auth.providers.iter().enumerate() {
            self.defined(
                "identity",
                provider,
                &format!("{path}.auth.providers[{at}]"),
                self.config.identity.keys(),
            );
        }
        self.scopes(path, auth);
        self.client_certificate(path, auth);
        if auth.providers.is_empty() {
            return;
        }
        let asks = [
            ("scopes", !auth.scopes.is_empty()),
            ("any_scope", !auth.any_scope.is_empty()),
            ("roles", !auth.roles.is_empty()),
            ("claims", !auth.claims.is_empty()),
            ("audience", auth.audience.is_some()),
        ];
        let narrows = asks.iter().any(|(field, asked)| *asked && *field != "audience");
        if auth.required {
            if auth.audience.is_some() && !narrows && !auth.any_caller {
                let at = format!("{path}.auth.audience");
                let diagnostic = self
                    .warning(codes::UNUSED, &at, "this route lets nobody pass")
                    .note("a route that declares an audience denies whatever it does not allow")
                    .help("give `scopes`, `any_scope`, `roles` or `claims`, or `any_caller = true`");
                self.push(&[&at, &format!("{path}.auth")], diagnostic);
            }
            return;
        }
        for (field, _) in asks.into_iter().filter(|(_, asked)| *asked) {
            let (at, required) = (format!("{path}.auth.{field}"), format!("{path}.auth.required"));
            let message = format!("`{field}` means nothing where callers without a token pass");
            let diagnostic = self.error(codes::UNSAFE, &at, message);
            let diagnostic = self.also(diagnostic, &required, "this lets them pass");
            self.push(&[&at, &required], diagnostic);
        }
    }

    /// Somebody must be able to say who calls, and what only tokens have must not be asked of certificates.
    fn client_certificate(&mut self, path: &str, auth: &Auth) {
        let providers = format!("{path}.auth.providers");
        let Some(certificate) = &auth.client_certificate else {
            if auth.providers.is_empty() {
                let at = format!("{path}.auth");
                let message = "nothing says how callers prove who they are";
                let diagnostic = self.error(codes::MISSING_FIELD, &at, message);
                self.push(&[&at], diagnostic.help("give `providers` or `client_certificate`"));
            }
            return;
        };
        let at = format!("{path}.auth.client_certificate");
        let asks = |listener: &crate::model::Listener| {
            listener.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some())
        };
        if !self.config.listener.iter().any(asks) {
            let diagnostic = self
                .error(codes::CONFLICT, &at, "no listener asks for client certificates")
                .help("add `[listener.tls.client_auth]` with `mode = \"optional\"` and a `ca_file`");
            self.push(&[&at, "listener"], diagnostic);
        }
        if !auth.providers.is_empty() {
            return;
        }
        let tokens = [
            ("scopes", !auth.scopes.is_empty()),
            ("any_scope", !auth.any_scope.is_empty()),
            ("roles", !auth.roles.is_empty()),
            ("audience", auth.audience.is_some()),
        ];
        for (field, _) in tokens.into_iter().filter(|(_, asked)| *asked) {
            let field = format!("{path}.auth.{field}");
            let diagnostic = self
                .error(codes::CONFLICT, &field, "only tokens have this, and the route takes none")
                .help("give `providers`, or ask by `claims` or `client_certificate`");
            self.push(&[&field, &providers], diagnostic);
        }
        if !certificate.required && !auth.claims.is_empty() {
            let (claims, required) = (format!("{path}.auth.claims"), format!("{at}.required"));
            let message = "`claims` means nothing where callers without a certificate pass";
            let diagnostic = self.error(codes::UNSAFE, &claims, message);
            let diagnostic = self.also(diagnostic, &required, "this lets them pass");
            self.push(&[&claims, &required], diagnostic);
        }
    }

    /// Scopes by RFC 6749 (3.3): visible ASCII without space, quote and backslash.
    fn scopes(&mut self, path: &str, auth: &Auth) {
        for (field, scopes) in [("scopes", &auth.scopes), ("any_scope", &auth.any_scope)] {
            for (at, scope) in scopes.iter().enumerate() {
                let is_scope = !scope.is_empty()
                    && scope.bytes().all(|byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~'));
                if !is_scope {
                    let at = format!("{path}.auth.{field}[{at}]");
                    let diagnostic = self.error(codes::BAD_VALUE, &at, format!("`{scope}` is not a scope"));
                    self.push(
                        &[&at],
                        diagnostic.help("a scope has no spaces, quotes and backslashes; list several"),
                    );
                }
            }
        }
    }

    fn rate_limits(&mut self, path: &str, route: &Route) {
        let limit_path = |at: usize| format!("{path}.rate_limit[{at}]");
        for (at, limit) in route.rate_limit.iter().enumerate() {
            let needs_auth = matches!(limit.key, RateKey::Consumer | RateKey::Claim(_));
            if needs_auth && route.auth.is_none() {
                let at = format!("{}.key", limit_path(at));
                let message =
                    format!("nobody is identified on this route, so `{}` counts nothing", limit.key);
                let diagnostic = self.error(codes::CONFLICT, &at, message);
                self.push(
                    &[&at, &format!("{path}.auth")],
                    diagnostic.help("add `[route.auth]`, or count by \"address\""),
                );
            }
        }
        let named = |(at, limit): (usize, &RateLimit)| {
            Some((format!("{}.name", limit_path(at)), limit.name.clone()?))
        };
        self.unique("the rate limit", route.rate_limit.iter().enumerate().filter_map(named));
    }

    fn body(&mut self, path: &str, route: &Route) {
        for (at, kind) in route.body.content_types.iter().enumerate() {
            let is_token = |text: &str| {
                !text.is_empty()
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
            };
            let is_type = kind.split_once('/').is_some_and(|(kind, sub)| {
                let sub_is = sub == "*" || is_token(sub.strip_prefix("*+").unwrap_or(sub));
                if kind == "*" { sub == "*" } else { is_token(kind) && sub_is }
            });
            if !is_type {
                let at = format!("{path}.body.content_types[{at}]");
                let diagnostic = self
                    .error(codes::BAD_VALUE, &at, format!("`{kind}` is not a media type"))
                    .help("write type and subtype without parameters, such as \"application/json\", \"image/*\" or \"application/*+json\"");
                self.push(&[&at], diagnostic);
            }
        }
        let unseen = BTreeMap::from([("json", "JSON limits see"), ("over", "`over` is about")]);
        for (field, what) in unseen {
            let at = format!("{path}.body.{field}");
            if !route.holds_bodies() && self.spans.contains(&at) {
                let diagnostic =
                    self.warning(codes::UNUSED, &at, format!("{what} held bodies only, and these stream"));
                let diagnostic = self.also(diagnostic, &format!("{path}.body.mode"), "this lets them stream");
                self.push(&[&at], diagnostic);
            }
        }
    }

    fn head_limits(&mut self, path: &str, route: &Route) {
        let listeners = || self.config.listener.iter().map(|listener| &listener.limits);
        let head = route.limits.max_head.filter(|head| listeners().all(|limits| *head > limits.max_head));
        let fields =
            route.limits.max_fields.filter(|fields| listeners().all(|limits| *fields > limits.max_fields));
        for (field, is_idle) in [("max_head", head.is_some()), ("max_fields", fields.is_some())] {
            if is_idle && !self.config.listener.is_empty() {
                let at = format!("{path}.limits.{field}");
                let diagnostic =
                    self.warning(codes::UNUSED, &at, "every listener has a smaller limit already");
                self.push(&[&at, "listener"], diagnostic);
            }
        }
    }
}
