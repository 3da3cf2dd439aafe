//! Gateways with TLS, and clients that speak it in ways of their own.

use portcullis_testkit::{Answer, Authority, Gateway, H2Client, Origin, RawClient, everything_to};
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

pub(crate) fn hello() -> Origin {
    Origin::answering(Answer::ok("hello"))
}

/// A gateway with three certificates, of which the first is the default: for `default.test` and 127.0.0.1, for `a.test` and
/// `b.test`, for `wild.test` and what is below it. `listener` and `tls` go into the listener, `route` into its only route.
/// `files` are put beside the configuration.
pub(crate) fn gateway_with(
    origin: &Origin,
    authority: &Authority,
    files: &[(&str, &str)],
    [listener, tls, route]: [&str; 3],
) -> Gateway {
    let mut builder = Gateway::builder(BINARY);
    for (file, names) in [
        ("default", ["default.test", "127.0.0.1"]),
        ("exact", ["a.test", "b.test"]),
        ("wild", ["*.wild.test", "wild.test"]),
    ] {
        let identity = authority.issue(&names);
        builder = builder
            .file(&format!("{file}.crt"), &identity.certificate_pem)
            .file(&format!("{file}.key"), &identity.key_pem);
    }
    for (name, content) in files {
        builder = builder.file(name, content);
    }
    builder.start(|ports| {
        format!(
            r#"
            admin.listen = "{admin}"
            firewall.mode = "off"
            [[listener]]
            name = "tls"
            address = "{public}"
            {listener}
            [listener.tls]
            certificates = [
                {{ certificate = "default.crt", key = "default.key" }},
                {{ certificate = "exact.crt", key = "exact.key" }},
                {{ certificate = "wild.crt", key = "wild.key" }},
            ]
            {tls}
            {everything}
            "#,
            admin = ports.admin,
            public = ports.tls,
            everything = everything_to(&[origin.address()], "", route),
        )
    })
}

/// The same without anything of its own but the listener's settings.
pub(crate) fn gateway(origin: &Origin, authority: &Authority, listener: &str) -> Gateway {
    gateway_with(origin, authority, &[], [listener, "", ""])
}

/// One GET of a path by HTTP/1.1 on a connection of its own: status and body.
pub(crate) fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    config: &Arc<rustls::ClientConfig>,
) -> std::io::Result<(u16, String)> {
    let mut client = RawClient::connect_with(address, host, Arc::clone(config))?;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))?;
    let response = client.response()?;
    Ok((response.status(), response.text()))
}

/// An HTTP/2 connection.
pub(crate) fn h2(address: SocketAddr, name: &str, config: rustls::ClientConfig) -> std::io::Result<H2Client> {
    H2Client::start(RawClient::connect_with(address, name, Arc::new(config))?)
}

/// Waits until so many handshakes have failed for this reason.
pub(crate) fn wait_for_failures(gateway: &Gateway, reason: &str, wanted: impl FnMut(f64) -> bool) {
    let series = format!("portcullis_tls_handshake_failures_total{{listener=\"tls\",reason=\"{reason}\"}}");
    gateway.wait_for_sample(&series, wanted);
}
