//! Certificates by ACME, from a real authority (pebble, Debian's package) that validates over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Authority, Gateway, Identity, Origin, Ports, RawClient, absent, free_port, get, request, suite,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
/// Debian's package.
const PEBBLE: &str = "/usr/bin/pebble";
const PATIENCE: Duration = Duration::from_secs(60);
const EXPIRY: &str = r#"portcullis_acme_certificate_expiry_timestamp_seconds{domain="a.gate.test"}"#;
const ISSUED: &str = r#"portcullis_acme_orders_total{domain="a.gate.test",result="success"}"#;
const FAILED: &str = r#"portcullis_acme_orders_total{domain="a.gate.test",result="failure"}"#;

/// A child that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An authority, and the DNS it asks, by which every name is this machine.
struct Pebble {
    folder: TempDir,
    authority: Authority,
    ports: Ports,
    directory: SocketAddr,
    management: SocketAddr,
    dns: SocketAddr,
    options: &'static str,
    _dns: Process,
    pebble: Option<Process>,
}

impl Pebble {
    /// Starts one that issues certificates for so many seconds; `options` goes into its configuration.
    fn start(seconds: u32, options: &'static str) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new();
        let Identity { certificate_pem, key_pem } = authority.issue(&["localhost", "127.0.0.1"]);
        fs::write(folder.path().join("own.crt"), certificate_pem).unwrap();
        fs::write(folder.path().join("own.key"), key_pem).unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let ports = Ports { public: free_port(), tls: free_port(), admin: free_port() };
        let (directory, management, dns) = (free_port(), free_port(), free_port());
        let config = format!(
            r#"{{"pebble": {{"listenAddress": "{directory}", "managementListenAddress": "{management}",
            "certificate": "own.crt", "privateKey": "own.key", "httpPort": {}, "tlsPort": {},
            "certificateValidityPeriod": {seconds}{options}}}}}"#,
            ports.public.port(),
            ports.tls.port()
        );
        fs::write(folder.path().join("pebble.json"), config).unwrap();
        let names = Command::new("pebble-challtestsrv")
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", &dns.to_string()])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", ""])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pebble = Pebble {
            folder,
            authority,
            ports,
            directory,
            management,
            dns,
            options,
            _dns: Process(names),
            pebble: None,
        };
        pebble.resume();
        pebble
    }

    /// Starts it again, with everything forgotten.
    fn resume(&mut self) {
        let child = Command::new(PEBBLE)
            .args(["-config", "pebble.json", "-strict", "-dnsserver", &self.dns.to_string()])
            .current_dir(self.folder.path())
            // As a real one: nonces are refused now and then, authorizations reused now and then, nothing is taken on trust.
            .env("PEBBLE_VA_ALWAYS_VALID", "0")
            .env("PEBBLE_VA_SLEEPTIME", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "20")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.pebble = Some(Process(child));
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.directory).is_err() {
            assert!(Instant::now() < deadline, "pebble does not listen {}", self.options);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it: its port refuses from now on.
    fn stop(&mut self) {
        self.pebble = None;
    }

    /// Those whom its certificates are judged by.
    fn roots(&self) -> rustls::RootCertStore {
        let mut client = RawClient::connect_tls(self.management, "localhost", &self.authority, &[]).unwrap();
        client.send("GET /roots/0 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let pem = client.response().unwrap().body;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        roots
    }

    /// A gateway whose certificates come from it.
    fn gateway(&self, origin: &Origin, storage: &Path, acme: &str) -> Gateway {
        Gateway::builder(BINARY)
            .env("ACME_HMAC", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")
            .start_at(self.ports, &self.config(origin, storage, acme))
    }

    fn config(&self, origin: &Origin, storage: &Path, acme: &str) -> String {
        format!(
            r#"
            admin.listen = "{admin}"
            log.format = "json"
            firewall.mode = "off"
            server.grace = "1s"
            [[listener]]
            name = "plain"
            address = "{public}"
            [[listener]]
            name = "secure"
            address = "{tls}"
            [listener.tls.acme]
            directory_url = "https://{directory}/dir"
            contact = ["mailto:ops@example.test"]
            terms_of_service_agreed = true
            ca_file = "{ca}"
            storage = "{storage}"
            retry_interval = "300ms"
            {acme}
            [upstream.origin]
            endpoints = [{{ address = "{upstream}" }}]
            [[route]]
            name = "all"
            match.path = "/{{*rest}}"
            upstream = "origin"
            "#,
            admin = self.ports.admin,
            public = self.ports.public,
            tls = self.ports.tls,
            directory = self.directory,
            ca = self.folder.path().join("ca.pem").display(),
            storage = storage.display(),
            upstream = origin.address(),
        )
    }
}

/// The certificate that a client gets by a handshake with this name, and whether these authorities vouch for it.
fn shown(
    address: SocketAddr,
    name: &str,
    alpn: &[&str],
    roots: &rustls::RootCertStore,
) -> Result<Vec<u8>, String> {
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut socket).map_err(|error| error.to_string())?;
    }
    Ok(session.peer_certificates().unwrap()[0].as_ref().to_vec())
}

fn ready(gateway: &Gateway) -> serde_json::Value {
    get(gateway.admin(), "/readyz").json()
}

fn hello() -> Origin {
    Origin::answering(Answer::ok("hello"))
}

#[test]
fn certificates_are_issued_stored_and_kept_over_a_restart() {
    if absent(PEBBLE) {
        return;
    }
    let origin = hello();
    for challenge in ["http-01", "tls-alpn-01"] {
        let pebble = Pebble::start(3600, "");
        let roots = pebble.roots();
        let storage = pebble.folder.path().join("storage");
        let acme = format!("challenge = \"{challenge}\"\ndomains = [\"a.gate.test\", \"b.gate.test\"]");
        let mut gateway = pebble.gateway(&origin, &storage, &acme);
        gateway.wait_for_sample(ISSUED, |count| count == 1.0);
        let first = shown(gateway.tls(), "a.gate.test", &["h2", "http/1.1"], &roots).unwrap();
        assert_eq!(shown(gateway.tls(), "b.gate.test", &[], &roots).unwrap(), first, "{challenge}");
        // Nothing is left of the challenges.
        assert!(shown(gateway.tls(), "a.gate.test", &["acme-tls/1"], &roots).is_err());
        let expiry = gateway.sample(EXPIRY).unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((now + 3_500.0..now + 3_700.0).contains(&expiry), "{expiry} at {now}");
        let status = &ready(&gateway)["certificates"][0];
        assert_eq!((&status["state"], &status["failures"]), (&"valid".into(), &0.into()), "{status}");
        // Only their owner reads the keys, and no log has any.
        let files: Vec<_> = fs::read_dir(&storage).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 2, "{files:?}");
        for file in &files {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
            let text = fs::read_to_string(file).unwrap();
            let line = text.lines().find(|line| line.contains("key_pkcs8")).or(text.lines().nth(1)).unwrap();
            let key = line.split('"').max_by_key(|part| part.len()).unwrap();
            assert!(key.len() >= 64, "{line}");
            assert!(!gateway.log().join("\n").contains(key), "{file:?}");
        }
        gateway.signal("TERM");
        assert!(gateway.wait().success());
        // The next process orders nothing.
        let next = pebble.gateway(&origin, &storage, &acme);
        assert_eq!(shown(next.tls(), "a.gate.test", &[], &roots).unwrap(), first, "{challenge}");
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!((next.sample(ISSUED), next.sample(FAILED)), (Some(0.0), Some(0.0)));
        assert_eq!(shown(next.tls(), "a.gate.test", &[], &roots).unwrap(), first, "{challenge}");
        suite("acme", &format!("{challenge}: issued by pebble, kept over a restart"));
    }
}

#[test]
fn renewal_in_time_and_the_old_one_while_the_authority_is_away() {
    if absent(PEBBLE) {
        return;
    }
    let origin = hello();
    let mut pebble = Pebble::start(12, "");
    let storage = pebble.folder.path().join("storage");
    let gateway = pebble.gateway(&origin, &storage, "domains = [\"a.gate.test\"]");
    gateway.wait_for_sample(ISSUED, |count| count >= 1.0);
    let roots = pebble.roots();
    let first = shown(gateway.tls(), "a.gate.test", &[], &roots).unwrap();
    // Handshakes go on while it is renewed.
    let mut handshakes = 0;
    let deadline = Instant::now() + PATIENCE;
    let second = loop {
        let now = shown(gateway.tls(), "a.gate.test", &[], &roots).unwrap();
        handshakes += 1;
        if now != first {
            break now;
        }
        assert!(Instant::now() < deadline, "it is not renewed:\n{}", gateway.log().join("\n"));
        std::thread::sleep(Duration::from_millis(20));
    };
    pebble.stop();
    gateway.wait_for_sample(FAILED, |count| count >= 1.0);
    assert_eq!(shown(gateway.tls(), "a.gate.test", &[], &roots).unwrap(), second);
    let status = ready(&gateway)["certificates"][0].clone();
    assert!(status["failures"].as_u64() >= Some(1) && status["error"].is_string(), "{status}");
    assert_eq!(request(gateway.public(), "GET /x", &[], "").status(), 200);
    // An authority that has forgotten the account gets a new one.
    let issued = gateway.sample(ISSUED).unwrap();
    pebble.resume();
    gateway.wait_for_sample(ISSUED, |count| count > issued);
    let third = shown(gateway.tls(), "a.gate.test", &[], &pebble.roots()).unwrap();
    assert!(third != second && third != first);
    assert_eq!(ready(&gateway)["certificates"][0]["failures"], 0);
    suite("acme", &format!("renewed under {handshakes} handshakes, kept while the authority was away"));
}

#[test]
fn what_is_shown_until_there_is_a_certificate() {
    if absent(PEBBLE) {
        return;
    }
    let origin = hello();
    let mut pebble = Pebble::start(3600, "");
    pebble.stop();
    let own = pebble.authority.issue(&["own.test", "a.gate.test"]);
    let _ = own.write(pebble.folder.path(), "files");
    let files = format!(
        "[[listener.tls.certificates]]\ncertificate = \"{0}/files.crt\"\nkey = \"{0}/files.key\"",
        pebble.folder.path().display()
    );
    let none = rustls::RootCertStore::empty();
    let ours: rustls::RootCertStore = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pebble.authority.pem().as_bytes()).unwrap()).unwrap();
        roots
    };
    for (at, more) in ["", files.as_str()].into_iter().enumerate() {
        let storage = pebble.folder.path().join(format!("storage-{at}"));
        let gateway = pebble.gateway(&origin, &storage, &format!("domains = [\"a.gate.test\"]\n{more}"));
        gateway.wait_for_sample(FAILED, |count| count >= 2.0);
        assert_eq!(gateway.sample(EXPIRY), Some(0.0));
        let status = ready(&gateway)["certificates"][0].clone();
        assert_eq!(status["state"], "pending", "{status}");
        // A handshake comes about all the same; nobody vouches for the stopgap.
        let error = shown(gateway.tls(), "a.gate.test", &[], &none).unwrap_err();
        assert!(error.contains("UnknownIssuer"), "{error}");
        assert_eq!(shown(gateway.tls(), "a.gate.test", &[], &ours).is_ok(), !more.is_empty());
        pebble.resume();
        gateway.wait_for_sample(ISSUED, |count| count == 1.0);
        let issued = shown(gateway.tls(), "a.gate.test", &[], &pebble.roots()).unwrap();
        // A name that no order is for gets the certificate that names it.
        assert_eq!(shown(gateway.tls(), "own.test", &[], &ours).is_ok(), !more.is_empty());
        assert!(!issued.is_empty());
        pebble.stop();
    }
}

#[test]
fn challenges_are_answered_while_an_order_is_pending_and_never_else() {
    if absent(PEBBLE) {
        return;
    }
    let origin = hello();
    let pebble = Pebble::start(3600, "");
    let storage = pebble.folder.path().join("storage");
    // Nothing may come in but the authority, whoever that is.
    let acme = "domains = [\"a.gate.test\"]";
    let config = pebble.config(&origin, &storage, acme).replace(
        "[[listener]]\n            name = \"plain\"",
        "addresses.deny = [\"127.0.0.0/8\"]\n            [[listener]]\n            name = \"plain\"",
    );
    // Two listeners, as for IPv4 and IPv6, and one certificate.
    let (before, secure) = config.split_once("[[listener]]\n            name = \"secure\"").unwrap();
    let (secure, after) = secure.split_once("[upstream.origin]").unwrap();
    let other = free_port();
    let second = secure.replace(&pebble.ports.tls.to_string(), &other.to_string());
    let config = format!(
        "{before}[[listener]]\nname = \"secure\"{secure}[[listener]]\nname = \"second\"{second}[upstream.origin]{after}"
    );
    let gateway = Gateway::builder(BINARY).start_at(pebble.ports, &config);
    gateway.wait_for_sample(ISSUED, |count| count == 1.0);
    let roots = pebble.roots();
    let shown = |address| shown(address, "a.gate.test", &[], &roots).unwrap();
    assert_eq!(shown(gateway.tls()), shown(other));
    assert_eq!(ready(&gateway)["certificates"].as_array().map(Vec::len), Some(1));
    for target in [
        "/.well-known/acme-challenge/x",
        "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge/..%2fx",
    ] {
        let status = request(gateway.public(), &format!("GET {target}"), &[], "").status();
        assert!(matches!(status, 400 | 403), "{target}: {status}");
    }
    assert_eq!((origin.count(), gateway.sample(ISSUED)), (0, Some(1.0)));
    let lines = gateway.log();
    let asked =
        lines.iter().filter(|line| line.contains("acme-challenge") && line.contains("\"status\":200"));
    assert!(asked.count() >= 1, "{}", lines.join("\n"));
}

#[test]
fn an_account_of_the_authoritys_own_and_one_that_is_refused() {
    if absent(PEBBLE) {
        return;
    }
    let origin = hello();
    let bound = r#", "externalAccountBindingRequired": true, "externalAccountMACKeys":
        {"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"},
        "domainBlocklist": ["blocked.test"]"#;
    let pebble = Pebble::start(3600, bound);
    let storage = pebble.folder.path().join("storage");
    let without = pebble.gateway(&origin, &storage, "domains = [\"a.gate.test\"]");
    let line = without.wait_for_line(|line| line.contains("no certificate was issued"));
    assert!(line.contains("externalAccountRequired"), "{line}");
    drop(without);
    let account = "external_account = { kid = \"kid-1\", hmac_key = \"${ACME_HMAC}\" }";
    let gateway = pebble.gateway(&origin, &storage, &format!("domains = [\"a.gate.test\"]\n{account}"));
    gateway.wait_for_sample(ISSUED, |count| count == 1.0);
    assert!(!gateway.log().join("\n").contains("zWNDZM6e"));
    // A reload that asks for other names orders another certificate, and shows the first until then.
    let roots = pebble.roots();
    let first = shown(gateway.tls(), "a.gate.test", &[], &roots).unwrap();
    let other = pebble.config(&origin, &storage, &format!("domains = [\"blocked.test\"]\n{account}"));
    gateway.replace("gateway.toml", other);
    let line = gateway.wait_for_line(|line| line.contains("no certificate was issued"));
    assert!(line.contains("rejectedIdentifier"), "{line}");
    // What is no longer looked after ends nothing.
    assert_eq!(gateway.sample(EXPIRY), Some(0.0));
    // The account learns of another contact with the next order.
    let both = format!("domains = [\"a.gate.test\", \"c.gate.test\"]\n{account}");
    let config = pebble.config(&origin, &storage, &both).replace("ops@example.test", "security@example.test");
    gateway.replace("gateway.toml", &config);
    gateway.wait_for_sample(ISSUED, |count| count == 2.0);
    let second = shown(gateway.tls(), "c.gate.test", &[], &roots).unwrap();
    assert_ne!(first, second);
    // One that asks for what there is goes on with it.
    let accounts = fs::read_dir(&storage).unwrap().map(|entry| entry.unwrap().path());
    let account =
        accounts.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "json")).unwrap();
    let account: serde_json::Value = serde_json::from_slice(&fs::read(account).unwrap()).unwrap();
    assert_eq!(account["contact"], serde_json::json!(["mailto:security@example.test"]));
    gateway.replace("gateway.toml", format!("{config}\n# the same"));
    let _ = gateway.wait_for_line(|line| line.contains("configuration reloaded"));
    assert_eq!(shown(gateway.tls(), "a.gate.test", &[], &roots).unwrap(), second);
    assert_eq!(gateway.sample(ISSUED), Some(2.0));
}

/// An authority that wants a certificate to be renewed before its time says so (RFC 9773). Pebble as packaged does not, so
/// that a scripted one takes its place once the certificate is there.
#[test]
fn an_authority_can_ask_for_an_early_renewal() {
    if absent(PEBBLE) {
        return;
    }
    let origin = hello();
    let mut pebble = Pebble::start(3600, "");
    let roots = pebble.roots();
    let storage = pebble.folder.path().join("storage");
    let acme = "domains = [\"a.gate.test\"]";
    let gateway = pebble.gateway(&origin, &storage, acme);
    gateway.wait_for_sample(ISSUED, |count| count == 1.0);
    let first = shown(gateway.tls(), "a.gate.test", &[], &roots).unwrap();
    drop(gateway);
    pebble.stop();
    let directory = pebble.directory;
    let early = Arc::new(AtomicBool::new(false));
    let answers = early.clone();
    let tls = pebble.authority.issue(&["127.0.0.1"]).server_config(&[]);
    let authority = Origin::builder().at(directory).tls(tls).start(move |asked| {
        let url = |path: &str| format!("https://{directory}/{path}");
        let year = if answers.load(Ordering::SeqCst) { 2001 } else { 2099 };
        match asked.target() {
            "/dir" => Answer::json(format!(
                r#"{{"newNonce": "{}", "newAccount": "{}", "newOrder": "{}", "renewalInfo": "{}"}}"#,
                url("nonce"),
                url("account"),
                url("order"),
                url("ari")
            )),
            "/nonce" => Answer::raw("HTTP/1.1 200 OK\r\nreplay-nonce: n\r\ncontent-length: 0\r\n\r\n"),
            "/order" => Answer::status(429)
                .body(r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "come again"}"#),
            _ => Answer::status(200).header("retry-after", "3600").body(format!(
                r#"{{"suggestedWindow": {{"start": "{year}-01-01T00:00:00Z", "end": "{year}-01-02T00:00:00Z"}}}}"#
            )),
        }
    });
    let asked =
        |target: &str| authority.requests().iter().filter(|one| one.target().starts_with(target)).count();
    let calm = pebble.gateway(&origin, &storage, acme);
    let _ = authority.wait_for(2);
    assert_eq!((asked("/dir"), asked("/ari/"), asked("/order")), (1, 1, 0));
    drop(calm);
    early.store(true, Ordering::SeqCst);
    let hurried = pebble.gateway(&origin, &storage, acme);
    hurried.wait_for_sample(FAILED, |count| count >= 1.0);
    assert!(asked("/order") >= 1);
    // The order fails, and the certificate that is good stays.
    assert_eq!(shown(hurried.tls(), "a.gate.test", &[], &roots).unwrap(), first);
    assert!(hurried.log().join("\n").contains("come again"));
}
