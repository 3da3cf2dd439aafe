//! Requests that are sent again.

use super::Checker;
use crate::codes;
use crate::model::Route;
use crate::value::Method;

/// Methods that may be sent again in any case (RFC 9110 §9.2.2), and those that are repeated only where somebody vouches
/// for them.
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"];
const OTHERS: [&str; 2] = ["POST", "PATCH"];

impl Checker<'_> {
    /// `path` is the table's.
    pub(super) fn retry_methods(&mut self, path: &str, methods: &[Method]) {
        for (at, method) in methods.iter().enumerate() {
            let at = format!("{path}.methods[{at}]");
            if IDEMPOTENT.contains(&method.as_str()) {
                let message = format!("{} is tried again in any case", method.as_str());
                let diagnostic = self.error(codes::UNUSED, &at, message);
                self.push(&[&at], diagnostic.help("leave it out: it is idempotent"));
            } else if !OTHERS.contains(&method.as_str()) {
                let message = format!("{} is never tried again", method.as_str());
                let diagnostic = self.error(codes::BAD_VALUE, &at, message);
                self.push(&[&at], diagnostic.help("POST and PATCH are the methods that can be listed"));
            }
        }
    }

    /// A field that says something else already cannot say when a request's time is over.
    pub(super) fn deadline_header(&mut self) {
        let Some(header) = &self.config.server.deadline_header else { return };
        let taken = [
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "te",
            "trailer",
            "upgrade",
            "expect",
        ];
        let name = header.as_str();
        if taken.contains(&name) || ["authorization", "cookie", "grpc-timeout"].contains(&name) {
            let at = "server.deadline_header";
            let diagnostic = self.error(codes::CONFLICT, at, format!("`{name}` has another meaning"));
            self.push(&[at], diagnostic.help("choose a field of its own, such as \"x-request-timeout-ms\""));
        }
    }

    pub(super) fn route_retry(&mut self, path: &str, route: &Route) {
        let Some(retry) = &route.retry else { return };
        let path = format!("{path}.retry");
        if route.compose.is_some() {
            let diagnostic = self.error(codes::CONFLICT, &path, "a composition has no retries of its own");
            self.push(
                &[&path],
                diagnostic.help("give `[upstream.NAME.retry]` for the upstreams of its parts"),
            );
        }
        self.retry_methods(&path, retry.methods.as_deref().unwrap_or_default());
    }
}
