//! WebSocket, gRPC and trailers.

use std::collections::BTreeSet;

use portcullis_http::hygiene::is_forbidden_trailer;

use super::Checker;
use crate::codes;
use crate::model::{Route, UpstreamProtocol};

impl Checker<'_> {
    pub(super) fn protocols(&mut self, path: &str, route: &Route) {
        self.speaks(path, route, route.is_websocket(), "upgrade", UpstreamProtocol::Http1);
        self.speaks(path, route, route.grpc, "grpc", UpstreamProtocol::Http2);
        let lists = [("request", &route.trailers.request), ("response", &route.trailers.response)];
        for (list, names) in lists {
            for (at, name) in names.iter().enumerate() {
                if is_forbidden_trailer(name.as_str().as_bytes()) {
                    let at = format!("{path}.trailers.{list}[{at}]");
                    let message =
                        format!("`{name}` decides framing, routing or identity, and may be no trailer");
                    let diagnostic = self.error(codes::UNSAFE, &at, message);
                    self.push(&[&at], diagnostic.help("take it out of the list"));
                }
            }
        }
        if let Some(list) = (!route.trailers.request.is_empty() && route.holds_bodies()).then_some("request")
        {
            let at = format!("{path}.trailers.{list}");
            let diagnostic = self.warning(codes::UNUSED, &at, "a body that is held loses its trailers");
            self.push(&[&at], diagnostic.help(format!("write `mode = \"stream\"` in `[{path}.body]`")));
        }
    }

    /// A route with this option needs an upstream, and one that speaks `needed`.
    fn speaks(&mut self, path: &str, route: &Route, asked: bool, field: &str, needed: UpstreamProtocol) {
        if !asked {
            return;
        }
        let at = format!("{path}.{field}");
        let Some(name) = &route.upstream else {
            let diagnostic = self.error(codes::CONFLICT, &at, "a composition answers plain requests only");
            self.push(&[&at], diagnostic.help("give the route an `upstream`"));
            return;
        };
        // What a mirror gets is no such request.
        let canaries = route.canary.iter().map(|canary| &canary.upstream);
        for name in std::iter::once(name).chain(canaries).collect::<BTreeSet<_>>() {
            let spoken = self.config.upstream.get(name).map(|upstream| upstream.protocol);
            if spoken.is_some_and(|spoken| spoken != needed) {
                let version = if needed == UpstreamProtocol::Http1 { "http1" } else { "http2" };
                let other = format!("upstream.{name}");
                let message = format!("`{field}` needs an upstream that speaks {version}");
                let diagnostic = self.error(codes::CONFLICT, &at, message);
                let diagnostic = self.also(diagnostic, &other, "this one does not");
                let help = format!("write `protocol = \"{version}\"` in `[{other}]`");
                self.push(&[&at], diagnostic.help(help));
            }
        }
    }
}
