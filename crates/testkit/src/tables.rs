//! What configurations of tests have in common, as text.

use crate::Ports;
use std::net::SocketAddr;

impl Ports {
    /// How a configuration begins: the admin listener, and a listener for clients in clear, `public`. `top` stands before all
    /// tables, `listener` is more of the listener's own.
    #[must_use]
    pub fn opening(self, top: &str, listener: &str) -> String {
        format!(
            r#"
            admin.listen = "{}"
            {top}
            [[listener]]
            name = "public"
            address = "{}"
            {listener}
            "#,
            self.admin, self.public
        )
    }

    /// A listener with TLS, by the files `a.crt` and `a.key`, to append.
    #[must_use]
    pub fn tls_listener(self, listener: &str) -> String {
        format!(
            r#"
            [[listener]]
            name = "tls"
            address = "{}"
            tls = {{ certificates = [{{ certificate = "a.crt", key = "a.key" }}] }}
            {listener}
            "#,
            self.tls
        )
    }

    /// A configuration that forwards every request to one upstream, without rules: for tests of what stands before and
    /// behind them. `listener` is more of the listener's own table; what is appended must begin with a table of its own.
    #[must_use]
    pub fn forwarding(self, upstream: SocketAddr, listener: &str) -> String {
        self.opening("firewall.mode = \"off\"", listener) + &everything_to(&[upstream], "", "")
    }
}

/// The upstream `origin` of these endpoints, and the route `all` that sends every request there. `upstream` and `route` are
/// more of their tables; what stands behind `route` is the route's, too, until a table of its own begins.
#[must_use]
pub fn everything_to(endpoints: &[SocketAddr], upstream: &str, route: &str) -> String {
    tables("origin", endpoints, upstream, "all", "/{*rest}") + route + "\n"
}

/// An upstream of these endpoints, and a route of the same name that sends everything below `/NAME/` there; likewise.
#[must_use]
pub fn below_its_name(name: &str, endpoints: &[SocketAddr], upstream: &str) -> String {
    tables(name, endpoints, upstream, name, &format!("/{name}/{{*rest}}"))
}

fn tables(name: &str, endpoints: &[SocketAddr], upstream: &str, route: &str, path: &str) -> String {
    let endpoints: Vec<String> =
        endpoints.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    format!(
        r#"
        [upstream.{name}]
        endpoints = [{}]
        {upstream}
        [[route]]
        name = "{route}"
        match = {{ path = "{path}" }}
        upstream = "{name}"
        "#,
        endpoints.join(", ")
    )
}
