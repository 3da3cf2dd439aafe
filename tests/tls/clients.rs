//! Client certificates: what listeners ask for, what routes want, what upstreams are told (matrix E3, E6).

use crate::support::{BINARY, gateway_with, get, h2, hello, wait_for_failures};
use portcullis_testkit::rcgen::{CertificateParams, DnType, SanType, SerialNumber};
use portcullis_testkit::{Authority, Gateway, Identity, Origin, RawClient};
use std::sync::Arc;

const OPTIONAL: &str = "client_auth = { mode = \"optional\", ca_file = \"clients.crt\" }";

/// Parameters of a client's certificate: its URI if there is one, and its serial number.
pub(crate) fn client(uri: Option<&str>, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "robot");
    params.subject_alt_names = uri.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap())).collect();
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

/// A gateway whose clients are the holders of `clients`' certificates.
fn gateway(origin: &Origin, server: &Authority, clients: &Authority, tls: &str, route: &str) -> Gateway {
    gateway_with(origin, server, &[("clients.crt", clients.pem())], ["", tls, route])
}

fn config(server: &Authority, identity: Option<&Identity>) -> Arc<rustls::ClientConfig> {
    Arc::new(match identity {
        Some(identity) => server.client_config_as(identity, &["http/1.1"]),
        None => server.client_config(&["http/1.1"]),
    })
}

#[test]
fn e7_a_listener_that_requires_a_certificate_takes_no_other_handshake() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let tls = "client_auth.ca_file = \"clients.crt\"";
    let gateway = gateway(&origin, &server, &clients, tls, "");
    let good = clients.issue_as(&client(None, 1));
    assert_eq!(get(gateway.tls(), "a.test", "/x", &config(&server, Some(&good))).unwrap().0, 200);
    assert!(get(gateway.tls(), "a.test", "/x", &config(&server, None)).is_err());
    let strange = Authority::new().issue_as(&client(None, 1));
    assert!(get(gateway.tls(), "a.test", "/x", &config(&server, Some(&strange))).is_err());
    wait_for_failures(&gateway, "certificate", |count| count == 2.0);
    assert_eq!(origin.count(), 1);
}

#[test]
fn e3_a_route_wants_a_certificate_and_a_listener_only_asks() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let route = r#"
        [[route]]
        name = "closed"
        match = { path = "/closed" }
        upstream = "origin"
        auth.client_certificate = {}
        [[route]]
        name = "listed"
        match = { path = "/listed" }
        upstream = "origin"
        auth.client_certificate = { uris = ["spiffe://example.test/billing"] }
        [[route]]
        name = "claimed"
        match = { path = "/claimed" }
        upstream = "origin"
        auth = { client_certificate = {}, claims = { "san.uri" = "spiffe://example.test/billing" } }
        [[route]]
        name = "told"
        match = { path = "/told" }
        upstream = "origin"
        auth.client_certificate = { required = false, forward = "certificate" }
    "#;
    let gateway = gateway(&origin, &server, &clients, OPTIONAL, route);
    let billing = clients.issue_as(&client(Some("spiffe://example.test/billing"), 1));
    let other = clients.issue_as(&client(Some("spiffe://example.test/other"), 2));
    for (identity, path, status) in [
        (None, "/x", 200),
        (None, "/closed", 403),
        (None, "/listed", 403),
        (None, "/claimed", 403),
        (None, "/told", 200),
        (Some(&billing), "/x", 200),
        (Some(&billing), "/closed", 200),
        (Some(&billing), "/listed", 200),
        (Some(&billing), "/claimed", 200),
        (Some(&other), "/closed", 200),
        (Some(&other), "/listed", 403),
        (Some(&other), "/claimed", 403),
        (Some(&other), "/told", 200),
    ] {
        let (answered, body) = get(gateway.tls(), "a.test", path, &config(&server, identity)).unwrap();
        assert_eq!(answered, status, "{path}: {body}");
        if identity.is_none() && status == 403 {
            assert!(body.contains("certificate_required"), "{body}");
        }
    }
    // On one connection, and on one without a certificate that is meant for another authority.
    let anonymous = server.client_config(&["h2"]);
    let mut client = h2(gateway.tls(), "a.test", anonymous).unwrap();
    for (host, path, status) in
        [("a.test", "/x", 200), ("a.test", "/closed", 403), ("b.test", "/closed", 421)]
    {
        assert_eq!(client.get(host, path).unwrap().status, Some(status), "{host}{path}");
    }
}

#[test]
fn e6_rfc9440_an_upstream_is_told_by_us_alone() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let between = clients.subordinate(authority());
    let route = r#"
        auth.client_certificate = { required = false, forward = "chain" }
        [[route]]
        name = "silent"
        match = { path = "/silent" }
        upstream = "origin"
        auth.client_certificate = {}
    "#;
    let gateway = gateway(&origin, &server, &clients, OPTIONAL, route);
    let identity =
        between.issue_as(&client(Some("spiffe://example.test/billing"), 1)).with_chain(between.pem());
    let forged = "client-cert: :AAAA:\r\nClient-Cert-Chain: :AAAA:\r\nX-Forwarded-Client-Cert: Hash=1\r\n\
                  X-Client-Cert: forged\r\nX-Client-Cert-Chain: forged\r\nSSL-Client-Cert: forged\r\n\
                  X-SSL-Client-Verify: SUCCESS\r\nX-Consumer-Subject: root\r\n";
    let send = |identity: Option<&Identity>, path: &str| {
        let mut client = RawClient::connect_with(gateway.tls(), "a.test", config(&server, identity)).unwrap();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n{forged}\r\n")).unwrap();
        assert_eq!(client.response().unwrap().status(), 200);
        origin.requests().pop().unwrap()
    };
    let der = |pem: &str| pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    let own = identity.certificate_pem.strip_suffix(between.pem()).unwrap();
    let seen = send(Some(&identity), "/x");
    assert_eq!(seen.header("client-cert"), Some(format!(":{}:", der(own)).as_str()));
    assert_eq!(seen.header("client-cert-chain"), Some(format!(":{}:", der(between.pem())).as_str()));
    assert_eq!(seen.header("x-consumer-subject"), Some("spiffe://example.test/billing"));
    assert_eq!(seen.header("x-consumer-provider"), Some("tls:tls"));
    assert_eq!(seen.header("x-consumer-kind"), Some("certificate"));
    for seen in [seen, send(Some(&identity), "/silent"), send(None, "/x")] {
        let text = seen.head_text().to_lowercase();
        for word in ["aaaa", "forged", "hash=1", "success", "root"] {
            assert!(
                !text.contains(&format!(": {word}")) && !text.contains(&format!(":{word}:")),
                "{word} in {text}"
            );
        }
        assert!(text.matches("client-cert:").count() <= 1, "{text}");
    }
    let silent = &origin.requests()[1];
    assert_eq!((silent.header("client-cert"), silent.header("x-consumer-kind")), (None, Some("certificate")));
    assert_eq!(origin.requests()[2].header("client-cert"), None);
    for line in [
        "Client_Cert: :AAAA:",
        "X_Client_Cert: a",
        "SSL_CLIENT_CERT: a",
        "X_Forwarded_Client_Cert: a",
        "Connection: client-cert",
        "Connection: X-Forwarded-Client-Cert",
    ] {
        let mut client = RawClient::connect_with(gateway.tls(), "a.test", config(&server, None)).unwrap();
        client.send(format!("GET /x HTTP/1.1\r\nhost: a.test\r\n{line}\r\n\r\n")).unwrap();
        assert_eq!(client.response().unwrap().status(), 400, "{line}");
    }
    // As a trailer.
    let mut client = RawClient::connect_with(gateway.tls(), "a.test", config(&server, None)).unwrap();
    let trailer = "0\r\nClient-Cert: :AAAA:\r\n\r\n";
    client
        .send(format!("POST /x HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n{trailer}"))
        .unwrap();
    assert!([200, 400].contains(&client.response().unwrap().status()));
    assert!(origin.requests().iter().all(|seen| !seen.head_text().contains("AAAA")));
}

#[test]
fn a_certificate_is_a_consumer() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let route = r#"
        auth.client_certificate = {}
        rate_limit = [{ rate = "2/h", key = "consumer" }]
    "#;
    let gateway = gateway(&origin, &server, &clients, OPTIONAL, route);
    let ask =
        |identity: &Identity| get(gateway.tls(), "a.test", "/x", &config(&server, Some(identity))).unwrap().0;
    let first = clients.issue_as(&client(Some("spiffe://example.test/one"), 1));
    let second = clients.issue_as(&client(Some("spiffe://example.test/two"), 2));
    // The same caller with a new certificate, as one has every day.
    let again = clients.issue_as(&client(Some("spiffe://example.test/one"), 3));
    assert_eq!([ask(&first), ask(&again), ask(&first), ask(&second)], [200, 200, 429, 200]);
    let line = gateway.wait_for_line(|line| line.contains("spiffe://example.test/two"));
    assert!(line.contains("\"consumer\":\"spiffe://example.test/two\""), "{line}");
}

#[test]
fn a_token_and_a_certificate_can_both_be_wanted() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let route = r#"
        auth = { providers = ["idp"], client_certificate = {} }
        [identity.idp]
        issuer = "https://idp.test"
        audiences = ["api"]
        algorithms = ["HS256"]
        keys = [{ algorithm = "HS256", secret = "0123456789abcdef0123456789abcdef" }]
    "#;
    let gateway = gateway(&origin, &server, &clients, OPTIONAL, route);
    let token = std::process::Command::new(BINARY)
        .args(["token", "-c", "gateway.toml", "--identity", "idp", "--sub", "alice"])
        .current_dir(gateway.folder())
        .output()
        .unwrap();
    let token = String::from_utf8(token.stdout).unwrap();
    let token = token.trim();
    let identity = clients.issue_as(&client(None, 1));
    let ask = |identity: Option<&Identity>, authorization: &str| {
        let mut client = RawClient::connect_with(gateway.tls(), "a.test", config(&server, identity)).unwrap();
        client.send(format!("GET /x HTTP/1.1\r\nhost: a.test\r\n{authorization}\r\n")).unwrap();
        client.response().unwrap().status()
    };
    let bearer = format!("authorization: Bearer {token}\r\n");
    assert_eq!(ask(Some(&identity), &bearer), 200);
    assert_eq!(ask(Some(&identity), ""), 401);
    assert_eq!(ask(None, &bearer), 403);
    let seen = &origin.requests()[0];
    assert_eq!(
        (seen.header("x-consumer-subject"), seen.header("x-consumer-kind")),
        (Some("alice"), Some("token"))
    );
}

#[test]
fn what_cannot_work_is_said_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Authority::new();
    let identity = server.issue(&["a.test"]);
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.crt", &identity.certificate_pem);
    write("a.key", &identity.key_pem);
    write("clients.crt", server.pem());
    let bits = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tls/empty-bit-string.crl");
    std::fs::copy(bits, folder.path().join("bits.crl")).unwrap();
    for (client_auth, auth, said) in [
        ("", "auth.client_certificate = {}", "no listener asks for client certificates"),
        ("", "auth.scopes = [\"a\"]", "nothing says how callers prove who they are"),
        (
            "client_auth.ca_file = \"clients.crt\"",
            "auth = { client_certificate = {}, roles = [\"a\"] }",
            "only tokens have this",
        ),
        (
            "client_auth.ca_file = \"clients.crt\"",
            "auth = { client_certificate = { required = false }, claims = { sub = \"a\" } }",
            "callers without a certificate pass",
        ),
        ("client_auth.ca_file = \"none.crt\"", "", "cannot open `none.crt`"),
        ("client_auth.ca_file = \"a.key\"", "", "a.key: holds no certificate, but a private key"),
        (
            "client_auth = { ca_file = \"clients.crt\", crl_files = [\"a.crt\"] }",
            "",
            "a.crt: holds no revocation list, but a certificate",
        ),
        (
            "client_auth = { ca_file = \"clients.crt\", crl_files = [\"bits.crl\"] }",
            "",
            "bits.crl: line 1: this revocation list cannot be used",
        ),
        (
            "client_auth = { ca_file = \"clients.crt\" }",
            "auth.client_certificate.fingerprints = [\"ab\"]",
            "not a SHA-256 fingerprint",
        ),
    ] {
        let config = format!(
            r#"
            admin.listen = "127.0.0.1:0"
            firewall.mode = "off"
            [[listener]]
            name = "tls"
            address = "127.0.0.1:0"
            [listener.tls]
            certificates = [{{ certificate = "a.crt", key = "a.key" }}]
            {client_auth}
            [upstream.origin]
            endpoints = [{{ address = "127.0.0.1:1" }}]
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "origin"
            {auth}
            "#
        );
        write("gateway.toml", &config);
        let check = std::process::Command::new(BINARY)
            .args(["check", "-c", "gateway.toml"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&check.stderr).into_owned();
        assert_eq!(check.status.code(), Some(1), "{said}: {text}");
        assert!(text.contains(said), "{said}: {text}");
    }
}

/// Parameters of an authority's certificate.
pub(crate) fn authority() -> CertificateParams {
    use portcullis_testkit::rcgen::{BasicConstraints, IsCa};
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "between");
    params
}
