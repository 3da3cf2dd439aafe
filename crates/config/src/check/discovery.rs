//! Where endpoints come from.

use super::Checker;
use crate::codes;
use crate::model::{Discovery, DiscoveryKind, Upstream};

impl Checker<'_> {
    /// Exactly one place says what the endpoints are.
    pub(super) fn endpoints(&mut self, path: &str, upstream: &Upstream) {
        let (endpoints, discovery) = (format!("{path}.endpoints"), format!("{path}.discovery"));
        match &upstream.discovery {
            None if upstream.endpoints.is_empty() => {
                let diagnostic = self
                    .error(codes::MISSING_FIELD, path, "the upstream has no endpoints")
                    .help(format!("give `endpoints`, or `[{discovery}]` to learn them"));
                self.push(&[path], diagnostic);
            }
            None => {}
            Some(found) => {
                if self.spans.contains(&endpoints) {
                    let message = "`endpoints` and `discovery` exclude each other";
                    let diagnostic = self.error(codes::CONFLICT, &endpoints, message);
                    let diagnostic = self.also(diagnostic, &discovery, "the other one");
                    self.push(&[&endpoints, &discovery], diagnostic);
                }
                self.discovery(&discovery, found);
            }
        }
    }

    fn discovery(&mut self, path: &str, discovery: &Discovery) {
        let kind = match discovery.kind {
            DiscoveryKind::Dns => "dns",
            DiscoveryKind::Srv => "srv",
            DiscoveryKind::File => "file",
        };
        let by_name = discovery.kind != DiscoveryKind::File;
        let fields = [
            ("name", by_name, discovery.name.is_some()),
            ("port", discovery.kind == DiscoveryKind::Dns, discovery.port.is_some()),
            ("path", !by_name, discovery.path.is_some()),
        ];
        for (field, needed, given) in fields {
            let at = format!("{path}.{field}");
            if needed && !given {
                let message = format!("discovery of type \"{kind}\" needs `{field}`");
                let diagnostic = self.error(codes::MISSING_FIELD, path, message);
                self.push(&[path, &at], diagnostic);
            } else if given && !needed {
                let message = format!("discovery of type \"{kind}\" has no `{field}`");
                let diagnostic = self.error(codes::CONFLICT, &at, message);
                let diagnostic = self.also(diagnostic, &format!("{path}.type"), "the type");
                self.push(&[&at], diagnostic.help("take it out"));
            }
        }
        for field in ["nameservers", "ip_family", "min_ttl", "max_ttl"] {
            let at = format!("{path}.{field}");
            if !by_name && self.spans.contains(&at) {
                let diagnostic =
                    self.warning(codes::UNUSED, &at, format!("`{field}` is about names, and a file is read"));
                self.push(&[&at], diagnostic);
            }
        }
        if discovery.min_ttl > discovery.max_ttl {
            let (least, most) = (format!("{path}.min_ttl"), format!("{path}.max_ttl"));
            let message = format!("`min_ttl` is longer than `max_ttl` ({})", discovery.max_ttl);
            let diagnostic = self.error(codes::CONFLICT, &least, message);
            let diagnostic = self.also(diagnostic, &most, "the longest time");
            self.push(&[&least, &most], diagnostic);
        }
        if let (DiscoveryKind::File, Some(file)) = (discovery.kind, &discovery.path) {
            let known = file.extension().is_some_and(|extension| extension == "json" || extension == "toml");
            if !known {
                let at = format!("{path}.path");
                let message = format!("`{}` does not say what it is written in", file.display());
                let diagnostic = self.error(codes::BAD_VALUE, &at, message);
                self.push(&[&at], diagnostic.help("give it a name that ends in `.json` or `.toml`"));
            }
        }
    }

    /// A route that is sensitive goes over TLS, whichever upstream a request of it takes.
    pub(super) fn sensitive(&mut self) {
        let config = self.config;
        for (at, route) in config.route.iter().enumerate().filter(|(_, route)| route.sensitive) {
            let path = format!("route[{at}]");
            for (at, name) in route.all_upstreams(&path) {
                let plain = config.upstream.get(name).is_some_and(|upstream| upstream.tls.is_none());
                if !plain {
                    continue;
                }
                let (other, mark) = (format!("upstream.{name}"), format!("{path}.sensitive"));
                let message = format!(
                    "the route `{}` is sensitive, and the upstream `{name}` speaks clear text",
                    route.name
                );
                let diagnostic = self.error(codes::UNSAFE, &at, message);
                let diagnostic = self.also(diagnostic, &other, "this one has no TLS");
                let diagnostic = self.also(diagnostic, &mark, "this asks for it");
                self.push(
                    &[&at, &other],
                    diagnostic
                        .help(format!("add `[{other}.tls]`, with `ca_file` where its authority is your own")),
                );
            }
        }
    }
}
