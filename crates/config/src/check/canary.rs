//! Canaries and mirrors.

use super::Checker;
use crate::codes;
use crate::model::{Mirror, Route};
use crate::value::{HashKey, Share};

impl Checker<'_> {
    pub(super) fn canaries(&mut self, path: &str, route: &Route) {
        let upstreams = &self.config.upstream;
        for (at, name) in route.upstreams(path).skip(usize::from(route.upstream.is_some())) {
            self.defined("upstream", name, &at, upstreams.keys());
        }
        for (at, canary) in route.canary.iter().enumerate() {
            let at = format!("{path}.canary[{at}]");
            self.canary_does_something(&at, route, canary);
            let headers = canary.headers.iter().map(|one| (&one.value, one.present, &one.regex));
            self.one_test_each(&format!("{at}.headers"), headers);
            let cookies = canary.cookies.iter().map(|one| (&one.value, one.present, &one.regex));
            self.one_test_each(&format!("{at}.cookies"), cookies);
        }
        self.canary_shares(path, route);
        if let Some(key) = &route.canary_by {
            let at = format!("{path}.canary_by");
            self.hash_key_of_route(&at, key, path, route);
            if route.canary.iter().all(|canary| canary.share == Share::NONE) {
                let diagnostic = self.warning(codes::UNUSED, &at, "no canary of this route has a share");
                self.push(
                    &[&at, &format!("{path}.canary")],
                    diagnostic.help("give one `share`, or leave it out"),
                );
            }
        }
        self.mirror(path, route);
    }

    fn canary_does_something(&mut self, at: &str, route: &Route, canary: &crate::model::Canary) {
        if route.compose.is_some() {
            let diagnostic = self.error(codes::CONFLICT, at, "a composition has no canaries");
            self.push(&[at], diagnostic.help("leave it out, or give the route an `upstream`"));
        }
        let share = format!("{at}.share");
        if route.upstream.as_ref() == Some(&canary.upstream) && canary.share != Share::NONE {
            let message = "the route's own upstream has what the canaries leave, and no share";
            let diagnostic = self.error(codes::CONFLICT, &share, message);
            self.push(&[&share, at], diagnostic.help("leave `share` out, or name another upstream"));
        }
        if canary.share == Share::NONE && canary.headers.is_empty() && canary.cookies.is_empty() {
            let diagnostic = self.warning(codes::UNUSED, at, "no request goes to this canary");
            self.push(&[at], diagnostic.help("give it a `share`, `headers` or `cookies`"));
        }
    }

    fn canary_shares(&mut self, path: &str, route: &Route) {
        let sum: u64 = route.canary.iter().map(|canary| u64::from(canary.share.parts())).sum();
        if sum > u64::from(Share::WHOLE) {
            let at = format!("{path}.canary");
            let last = format!("{path}.canary[{}].share", route.canary.len().saturating_sub(1));
            let percent = sum as f64 * 100.0 / f64::from(Share::WHOLE);
            let message = format!("the shares of the route's canaries are {percent}% together");
            let diagnostic = self.error(codes::CONFLICT, &last, message);
            self.push(&[&at], diagnostic.help("together they may be 100%"));
        }
    }

    fn mirror(&mut self, path: &str, route: &Route) {
        let Some(mirror) = &route.mirror else { return };
        let at = format!("{path}.mirror");
        if route.compose.is_some() {
            let diagnostic = self.error(codes::CONFLICT, &at, "the calls of a composition are not mirrored");
            self.push(&[&at], diagnostic.help("leave it out, or give the route an `upstream`"));
        } else if !route.holds_bodies() {
            let message = "bodies that stream are not mirrored: nothing is held that could be sent twice";
            let diagnostic = self.error(codes::CONFLICT, &at, message);
            let streams = if route.grpc { format!("{path}.grpc") } else { format!("{path}.body.mode") };
            let diagnostic = self.also(diagnostic, &streams, "they stream because of this");
            self.push(
                &[&at, &streams],
                diagnostic.help(format!("write `mode = \"buffer\"` in `[{path}.body]`")),
            );
        }
        self.mirror_of_itself(path, route, mirror);
        for (index, name) in mirror.remove_headers.iter().enumerate() {
            if ["host", "content-length", "content-type", "transfer-encoding"].contains(&name.as_str()) {
                let at = format!("{at}.remove_headers[{index}]");
                let message = format!("without `{}` a copy is no request like the client's", name.as_str());
                let diagnostic = self.error(codes::BAD_VALUE, &at, message);
                self.push(&[&at], diagnostic.help("leave it out"));
            }
        }
    }

    /// What is mirrored to where it is served is done twice there.
    fn mirror_of_itself(&mut self, path: &str, route: &Route, mirror: &Mirror) {
        let served = || route.upstreams(path).filter(|(at, _)| !at.ends_with(".mirror.upstream"));
        if let Some((other, name)) = served().find(|(_, name)| *name == mirror.upstream) {
            let at = format!("{path}.mirror.upstream");
            let message = format!("`{name}` serves this route, and does what is mirrored twice");
            let diagnostic = self.warning(codes::UNSAFE, &at, message);
            let diagnostic = self.also(diagnostic, &other, "requests go here");
            self.push(&[&at, &other], diagnostic.help("mirror to an upstream of its own"));
        }
    }

    /// Exactly one of the three says what is asked of a value.
    pub(super) fn one_test_each<'v, R: 'v>(
        &mut self,
        path: &str,
        conditions: impl Iterator<Item = (&'v Option<String>, Option<bool>, &'v Option<R>)>,
    ) {
        let counts: Vec<usize> = conditions
            .map(|(value, present, regex)| {
                usize::from(value.is_some()) + usize::from(present.is_some()) + usize::from(regex.is_some())
            })
            .collect();
        for (at, count) in counts.into_iter().enumerate().filter(|(_, count)| *count != 1) {
            let at = format!("{path}[{at}]");
            let says = if count == 0 { "nothing" } else { "several things" };
            let diagnostic = self
                .error(codes::CONFLICT, &at, format!("the condition says {says}"))
                .help("give exactly one of `value`, `present` and `regex`");
            self.push(&[&at], diagnostic);
        }
    }

    /// A key that callers have who are identified needs a route that identifies them.
    pub(super) fn hash_key_of_route(&mut self, at: &str, key: &HashKey, path: &str, route: &Route) {
        if key.needs_auth() && route.auth.is_none() {
            let message = format!("nobody is identified on the route `{}`, so it has no `{key}`", route.name);
            let diagnostic = self.error(codes::CONFLICT, at, message);
            let auth = format!("{path}.auth");
            self.push(&[at, &auth], diagnostic.help("add `[route.auth]`, or go by \"address\""));
        }
    }
}
