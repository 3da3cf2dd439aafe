//! Sessions that are resumed, and what they must not carry over (matrix E5, E9).

use crate::clients::client;
use crate::support::{BINARY, gateway, gateway_with, hello};
use portcullis_testkit::{Authority, Gateway, Identity, RawClient};
use rustls::HandshakeKind;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

const SUCCESS: &str = "portcullis_reloads_total{result=\"success\"}";

/// What came of one GET: how the handshake went, and the status.
fn get(
    address: SocketAddr,
    name: &str,
    path: &str,
    config: &Arc<rustls::ClientConfig>,
) -> std::io::Result<(HandshakeKind, u16)> {
    let server_name = name.to_owned().try_into().map_err(std::io::Error::other)?;
    let session =
        rustls::ClientConnection::new(Arc::clone(config), server_name).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(address)?);
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n").as_bytes())?;
    // Tickets come with the answer.
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    assert!(stream.conn.early_data().is_none() && !stream.conn.is_early_data_accepted(), "0-RTT is off");
    Ok((stream.conn.handshake_kind().unwrap(), status))
}

/// A client for one version that would send early data if it could.
fn config(
    server: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
    identity: Option<&Identity>,
) -> Arc<rustls::ClientConfig> {
    let mut config = server.client_config_for(&[version]);
    if let Some(identity) = identity {
        config.client_auth_cert_resolver = server.client_config_as(identity, &[]).client_auth_cert_resolver;
    }
    config.enable_early_data = true;
    Arc::new(config)
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn e9_sessions_are_resumed_also_after_a_reload() {
    let (origin, server) = (hello(), Authority::new());
    let gateway = gateway(&origin, &server, "");
    for version in VERSIONS {
        let config = config(&server, version, None);
        let ask = |name: &str| get(gateway.tls(), name, "/x", &config).unwrap();
        assert_eq!(ask("a.test"), (HandshakeKind::Full, 200));
        assert_eq!(ask("a.test"), (HandshakeKind::Resumed, 200));
        // RFC 6066, 3: never under another name. The client's store is by name as well.
        assert_eq!(ask("b.test"), (HandshakeKind::Full, 200));
        let reloads = gateway.sample(SUCCESS).unwrap();
        let text = std::fs::read_to_string(gateway.folder().join("gateway.toml")).unwrap();
        gateway.replace("gateway.toml", format!("{text}\n# {}", version.version.as_str().unwrap()));
        gateway.wait_for_sample(SUCCESS, |count| count > reloads);
        assert_eq!(ask("a.test"), (HandshakeKind::Resumed, 200), "tickets survive a reload");
    }
}

#[test]
fn e9_a_ticket_is_no_good_under_another_name() {
    let (origin, server) = (hello(), Authority::new());
    let gateway = gateway(&origin, &server, "");
    for version in VERSIONS {
        // A client that keeps one ticket for all names.
        let mut client = rustls::ClientConfig::clone(&config(&server, version, None));
        client.resumption = rustls::client::Resumption::store(Arc::new(OneForAll::default()));
        let client = Arc::new(client);
        assert_eq!(get(gateway.tls(), "a.test", "/x", &client).unwrap(), (HandshakeKind::Full, 200));
        assert_eq!(get(gateway.tls(), "b.test", "/x", &client).unwrap(), (HandshakeKind::Full, 200));
        assert_eq!(get(gateway.tls(), "b.test", "/x", &client).unwrap(), (HandshakeKind::Resumed, 200));
    }
}

/// A gateway that asks for certificates and tells upstreams whose they are.
fn mutual(clients: &Authority, server: &Authority, origin: &portcullis_testkit::Origin) -> Gateway {
    let files = [("clients.crt", clients.pem()), ("revoked.crl", &clients.revocation_list(&[666], 2100))];
    let tls =
        "client_auth = { mode = \"optional\", ca_file = \"clients.crt\", crl_files = [\"revoked.crl\"] }";
    gateway_with(origin, server, &files, ["", tls, "auth.client_certificate = {}"])
}

#[test]
fn e9_a_resumed_session_knows_its_client_and_outlives_no_revocation() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let gateway = mutual(&clients, &server, &origin);
    let mut reloads = 1.0;
    for version in VERSIONS {
        let serial = if version.version == rustls::ProtocolVersion::TLSv1_2 { 12 } else { 13 };
        let uri = format!("spiffe://example.test/{serial}");
        let identity = clients.issue_as(&client(Some(&uri), serial));
        let config = config(&server, version, Some(&identity));
        let ask = || get(gateway.tls(), "a.test", "/x", &config);
        assert_eq!(ask().unwrap(), (HandshakeKind::Full, 200));
        assert_eq!(ask().unwrap(), (HandshakeKind::Resumed, 200));
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.header("x-consumer-subject"), Some(uri.as_str()), "the same client");
        // A connection that is open, too.
        let mut open = RawClient::connect_with(gateway.tls(), "a.test", Arc::clone(&config)).unwrap();
        open.send("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
        assert_eq!(open.response().unwrap().status(), 200);
        gateway.replace("revoked.crl", clients.revocation_list(&[666, serial], 2100));
        reloads += 1.0;
        gateway.wait_for_sample(SUCCESS, |count| count >= reloads);
        assert!(ask().is_err(), "its certificate is revoked");
        assert!(ask().is_err(), "and stays so");
        open.send("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
        assert_eq!(open.response().unwrap().status(), 421, "the open connection is for it no more");
        let other = clients.issue_as(&client(None, serial + 100));
        let other = self::config(&server, version, Some(&other));
        assert_eq!(get(gateway.tls(), "a.test", "/x", &other).unwrap(), (HandshakeKind::Full, 200));
    }
}

/// The configuration's listener `tls` a second time, at the other port and with `client_auth`, before the first of its routes.
fn with_second_listener(text: &str, address: SocketAddr, client_auth: &str) -> String {
    let listener = format!(
        "[[listener]]\nname = \"second\"\naddress = \"{address}\"\n[listener.tls]\n{client_auth}\n\
         certificates = [{{ certificate = \"exact.crt\", key = \"exact.key\" }}]\n"
    );
    text.replacen("[upstream.origin]", &format!("{listener}[upstream.origin]"), 1)
}

#[test]
fn e9_a_ticket_is_no_good_at_another_listener() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let first = gateway_with(&origin, &server, &[("clients.crt", clients.pem())], ["", "", ""]);
    let ports = first.ports();
    let text = std::fs::read_to_string(first.folder().join("gateway.toml")).unwrap();
    let second = "client_auth.ca_file = \"clients.crt\"";
    let text = with_second_listener(&text, ports.public, second);
    let gateway = ["default", "exact", "wild"].into_iter().fold(Gateway::builder(BINARY), |builder, name| {
        let read = |end: &str| std::fs::read(first.folder().join(format!("{name}.{end}"))).unwrap();
        builder.file(&format!("{name}.crt"), read("crt")).file(&format!("{name}.key"), read("key"))
    });
    let gateway = gateway.file("clients.crt", clients.pem());
    drop(first);
    let gateway = gateway.start_at(ports, &text);
    for version in VERSIONS {
        let mut client = rustls::ClientConfig::clone(&config(&server, version, None));
        client.resumption = rustls::client::Resumption::store(Arc::new(OneForAll::default()));
        let client = Arc::new(client);
        assert_eq!(get(gateway.tls(), "a.test", "/x", &client).unwrap(), (HandshakeKind::Full, 200));
        // There, a session without a certificate would be a way around it.
        assert!(get(gateway.public(), "a.test", "/x", &client).is_err());
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn e9_a_session_does_not_outlive_its_authority() {
    let (origin, server) = (hello(), Authority::new());
    let (old, new) = (Authority::new(), Authority::new());
    let gateway = mutual(&old, &server, &origin);
    let identity = old.issue_as(&client(None, 1));
    let config = config(&server, &rustls::version::TLS13, Some(&identity));
    let ask = || get(gateway.tls(), "a.test", "/x", &config);
    assert_eq!([ask().unwrap().0, ask().unwrap().0], [HandshakeKind::Full, HandshakeKind::Resumed]);
    let text = std::fs::read_to_string(gateway.folder().join("gateway.toml")).unwrap();
    gateway.replace("new.crt", new.pem());
    gateway.replace(
        "gateway.toml",
        text.replace("clients.crt", "new.crt").replace(", crl_files = [\"revoked.crl\"]", ""),
    );
    gateway.wait_for_sample(SUCCESS, |count| count >= 2.0);
    assert!(ask().is_err());
}

#[test]
fn e5_tickets_are_short_lived_and_allow_no_early_data() {
    let (origin, server) = (hello(), Authority::new());
    let gateway = gateway(&origin, &server, "");
    let address = gateway.tls().to_string();
    let shown = |version: &str| {
        let script = format!(
            "(printf 'GET /x HTTP/1.1\\r\\nhost: a.test\\r\\nconnection: close\\r\\n\\r\\n'; sleep 0.5) | openssl s_client -connect {address} -servername a.test -{version} -sess_out {version}.session 2>&1"
        );
        let run =
            std::process::Command::new("sh").args(["-c", &script]).current_dir(gateway.folder()).output();
        String::from_utf8_lossy(&run.unwrap().stdout).into_owned()
    };
    for version in ["tls1_2", "tls1_3"] {
        let text = shown(version);
        let hint =
            text.lines().find_map(|line| line.trim().strip_prefix("TLS session ticket lifetime hint: "));
        let seconds: u32 =
            hint.unwrap_or_else(|| panic!("{text}")).split(' ').next().unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&seconds), "{version}: {seconds}");
    }
    let text = shown("tls1_3");
    assert!(text.contains("Max Early Data: 0"), "{text}");
    // openssl offers early data where the session allows it, and says so.
    std::fs::write(gateway.folder().join("early"), "GET /early HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    let early = std::process::Command::new("sh")
        .args(["-c", &format!("sleep 0.5 | openssl s_client -connect {address} -servername a.test -sess_in tls1_3.session -early_data early 2>&1")])
        .current_dir(gateway.folder())
        .output()
        .unwrap();
    let early = String::from_utf8_lossy(&early.stdout).into_owned();
    assert!(
        early.contains("Early data was not sent") || early.contains("Early data was rejected"),
        "{early}"
    );
    assert!(origin.requests().iter().all(|seen| seen.target() != "/early"));
}

/// A client's store that gives out its last ticket for whatever name.
#[derive(Debug, Default)]
struct OneForAll(std::sync::Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    tls12: Option<rustls::client::Tls12ClientSessionValue>,
    tls13: Option<rustls::client::Tls13ClientSessionValue>,
}

impl rustls::client::ClientSessionStore for OneForAll {
    fn set_kx_hint(&self, _: rustls::pki_types::ServerName<'static>, _: rustls::NamedGroup) {}

    fn kx_hint(&self, _: &rustls::pki_types::ServerName<'_>) -> Option<rustls::NamedGroup> {
        None
    }

    fn set_tls12_session(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        value: rustls::client::Tls12ClientSessionValue,
    ) {
        self.0.lock().unwrap().tls12 = Some(value);
    }

    fn tls12_session(
        &self,
        _: &rustls::pki_types::ServerName<'_>,
    ) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.0.lock().unwrap().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &rustls::pki_types::ServerName<'static>) {
        self.0.lock().unwrap().tls12 = None;
    }

    fn insert_tls13_ticket(
        &self,
        _: rustls::pki_types::ServerName<'static>,
        value: rustls::client::Tls13ClientSessionValue,
    ) {
        self.0.lock().unwrap().tls13 = Some(value);
    }

    fn take_tls13_ticket(
        &self,
        _: &rustls::pki_types::ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.0.lock().unwrap().tls13.take()
    }
}
