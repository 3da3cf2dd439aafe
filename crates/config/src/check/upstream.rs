//! Upstreams.

use std::collections::BTreeSet;

use super::Checker;
use crate::codes;

impl Checker<'_> {
    pub(super) fn upstreams(&mut self) {
        let config = self.config;
        let routes = config.route.iter().flat_map(|route| route.all_upstreams("").map(|(_, name)| name));
        let used: BTreeSet<&str> = routes.collect();
        for (name, upstream) in &config.upstream {
            let path = format!("upstream.{name}");
            self.endpoints(&path, upstream);
            let endpoints = upstream.endpoints.iter().enumerate();
            self.unique(
                "the endpoint",
                endpoints
                    .map(|(at, one)| (format!("{path}.endpoints[{at}].address"), one.address.to_string())),
            );
            self.balance(&path, name, upstream);
            if let Some(tls) = &upstream.tls {
                self.file(&format!("{path}.tls.ca_file"), tls.ca_file.as_deref());
                self.file(&format!("{path}.tls.certificate"), tls.certificate.as_deref());
                self.file(&format!("{path}.tls.key"), tls.key.as_deref());
                let (given, missing) =
                    if tls.certificate.is_some() { ("certificate", "key") } else { ("key", "certificate") };
                if tls.certificate.is_some() != tls.key.is_some() {
                    let at = format!("{path}.tls.{given}");
                    let message = format!("`{given}` needs `{missing}`");
                    let diagnostic = self.error(codes::CONFLICT, &at, message);
                    self.push(&[&at], diagnostic.help(format!("give both, or neither, in `[{path}.tls]`")));
                }
            }
            self.retry_methods(&format!("{path}.retry"), &upstream.retry.methods);
            self.health(&path, upstream);
            if !used.contains(name.as_str()) {
                self.unused("upstream", name);
            }
        }
    }
}
