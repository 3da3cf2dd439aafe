//! Cross-origin resource sharing.

use super::Checker;
use crate::codes;
use crate::model::{Cors, Route};

impl Checker<'_> {
    pub(super) fn cors(&mut self, path: &str, route: &Route) {
        let Some(cors) = &route.cors else { return };
        let at = format!("{path}.cors");
        self.with_credentials(&at, cors);
        let any = cors.origins.iter().position(|origin| origin.is_any());
        if let Some(any) = any.filter(|_| cors.origins.len() > 1) {
            let at = format!("{at}.origins[{any}]");
            let diagnostic = self.error(codes::CONFLICT, &at, "`\"*\"` is every origin already");
            self.push(&[&at], diagnostic.help("write `origins = [\"*\"]`, or leave it out"));
        }
        let global =
            self.config.response_headers.set.keys().map(|name| format!("response_headers.set.{name}"));
        let own = route.response.headers.set.keys().map(|name| format!("{path}.response.headers.set.{name}"));
        for field in global.chain(own) {
            let name = field.rsplit('.').next().unwrap_or_default();
            if name.to_ascii_lowercase().starts_with("access-control-") {
                let message = format!("`{name}` stands against `cors` of the route `{}`", route.name);
                let diagnostic = self.error(codes::CONFLICT, &field, message);
                let diagnostic = self.also(diagnostic, &at, "this sets it");
                self.push(&[&field, &at], diagnostic.help("leave the header to `cors`"));
            }
        }
    }

    /// With credentials, `*` is no wildcard to a browser (Fetch standard, CORS protocol and credentials), and what stands
    /// for everybody would lend everybody the user's cookies.
    fn with_credentials(&mut self, at: &str, cors: &Cors) {
        if !cors.credentials {
            return;
        }
        let credentials = format!("{at}.credentials");
        let mut wrong = Vec::new();
        for (index, origin) in cors.origins.iter().enumerate() {
            if origin.is_any() {
                wrong.push((format!("{at}.origins[{index}]"), "every page of the web could act for the user", "name the origins, such as \"https://app.example.com\" or \"https://*.example.com\", or leave `credentials` out"));
            } else if origin.is_null() {
                wrong.push((
                    format!("{at}.origins[{index}]"),
                    "any page can have the origin `null`, by a sandboxed frame",
                    "name the origins, or leave `credentials` out",
                ));
            }
        }
        let stars = [
            ("methods", cors.methods.iter().flatten().position(|one| one.as_str() == "*")),
            ("headers", cors.headers.iter().position(|one| one.as_str() == "*")),
            ("expose_headers", cors.expose_headers.iter().position(|one| one.as_str() == "*")),
        ];
        for (field, index) in stars {
            if let Some(index) = index {
                wrong.push((
                    format!("{at}.{field}[{index}]"),
                    "`\"*\"` is no wildcard where credentials are sent",
                    "name them",
                ));
            }
        }
        for (field, message, help) in wrong {
            let diagnostic = self.error(codes::UNSAFE, &field, message);
            let diagnostic = self.also(diagnostic, &credentials, "credentials are allowed here");
            self.push(&[&field, &credentials], diagnostic.help(help));
        }
    }
}
