//! A running gateway takes up changed files: at once, whole or not at all, and without losing a request.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use portcullis_testkit::{Answer, Authority, Gate, Gateway, Identity, Origin, Ports, RawClient, Step, get};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const SUCCESS: &str = r#"portcullis_reloads_total{result="success"}"#;
const FAILURE: &str = r#"portcullis_reloads_total{result="failure"}"#;

/// Rules that refuse requests with this word in an argument.
fn rules_against(word: &str) -> String {
    format!(
        "SecRuleEngine On\n\
         SecRule ARGS \"@contains {word}\" \"id:1099001,phase:2,deny,status:403,log,msg:'A word'\"\n"
    )
}

/// A gateway's configuration; `rest` are further tables.
fn config(ports: Ports, upstream: SocketAddr, rest: &str) -> String {
    format!(
        r#"
        admin.listen = "{admin}"
        [[listener]]
        name = "public"
        address = "{public}"
        [upstream.backend]
        endpoints = [{{ address = "{upstream}" }}]
        [firewall]
        rules = ["rules/*.conf"]
        [[route]]
        name = "all"
        match = {{ path = "/all/{{*rest}}", methods = ["GET"] }}
        upstream = "backend"
        {rest}
        "#,
        admin = ports.admin,
        public = ports.public,
    )
}

/// A gateway in front of one origin, refusing `first`.
fn gateway(origin: &Origin) -> Gateway {
    let upstream = origin.address();
    Gateway::builder(BINARY)
        .file("rules/test.conf", rules_against("first"))
        .start(|ports| config(ports, upstream, ""))
}

/// Asks until the answer has this status.
fn until_status(address: SocketAddr, path: &str, status: u16) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = get(address, path).status();
        if now == status {
            return;
        }
        assert!(Instant::now() < deadline, "{path} still answers {now}, not {status}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn readiness(gateway: &Gateway) -> Value {
    let answer = get(gateway.admin(), "/readyz");
    assert_eq!(answer.status(), 200, "a reload that fails does not end readiness: {}", answer.text());
    answer.json()
}

/// SIGHUP, and waits until it has had its effect.
fn hang_up(gateway: &Gateway) {
    let before = gateway.sample(SUCCESS).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_sample(SUCCESS, |now| now > before);
}

/// What a client under load has seen.
#[derive(Default)]
struct Tally {
    count: usize,
    /// The statuses, of equal ones in a row only the first.
    statuses: Vec<u16>,
    failures: Vec<String>,
}

impl Tally {
    fn add(&mut self, status: u16) {
        self.count += 1;
        if self.statuses.last() != Some(&status) {
            self.statuses.push(status);
        }
    }
}

/// Clients that ask without a pause until told to stop: some keep their connections, one does not.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Load {
    fn start(address: SocketAddr, path: &'static str) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let client = |keep: bool| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) && tally.failures.is_empty() {
                    if let Err(error) = ask(address, path, keep, &stop, &mut tally) {
                        tally.failures.push(format!("after {}: {error}", tally.count));
                    }
                }
                tally
            })
        };
        let clients = [true, true, true, false].map(client).into_iter().collect();
        Load { stop, clients }
    }

    /// Ends it; what each client has seen.
    fn end(self) -> Vec<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().unwrap()).collect()
    }
}

/// Asks on one connection until the server says that it closes it.
fn ask(
    address: SocketAddr,
    path: &str,
    keep: bool,
    stop: &AtomicBool,
    tally: &mut Tally,
) -> std::io::Result<()> {
    let mut client = RawClient::connect(address)?;
    let close = if keep { "" } else { "connection: close\r\n" };
    loop {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n{close}\r\n"))?;
        let answer = client.response()?;
        if !answer.complete {
            return Err(std::io::Error::other("the answer was cut short"));
        }
        tally.add(answer.status());
        let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if closes || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

#[test]
fn a_rule_edited_under_load_changes_the_verdict_and_fails_no_request() {
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = gateway(&origin);
    let (innocent, second) = (
        Load::start(gateway.public(), "/all/x?q=innocent"),
        Load::start(gateway.public(), "/all/x?q=second"),
    );
    let wrk = Command::new("wrk")
        .args(["-t1", "-c8", "-d3s", &format!("http://{}/all/wrk", gateway.public())])
        .stdout(Stdio::piped())
        .spawn();

    assert_eq!(get(gateway.public(), "/all/x?q=first").status(), 403);
    gateway.replace("rules/test.conf", rules_against("second"));
    until_status(gateway.public(), "/all/x?q=second", 403);
    assert_eq!(get(gateway.public(), "/all/x?q=first").status(), 200);
    gateway.replace("rules/test.conf", "SecRule ARGS \"@contians second\" \"id:1,phase:2,deny\"\n");
    gateway.wait_for_sample(FAILURE, |count| count >= 1.0);
    gateway.replace("rules/test.conf", rules_against("second"));
    gateway.wait_for_sample("portcullis_config_last_reload_successful", |value| value == 1.0);
    for _ in 0..30 {
        hang_up(&gateway);
    }

    match wrk {
        Ok(wrk) => {
            let said = String::from_utf8(wrk.wait_with_output().unwrap().stdout).unwrap();
            assert!(said.contains("requests in"), "{said}");
            assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "wrk: {error}");
            eprintln!("SKIP: wrk is not installed; tests/run installs it");
        }
    }
    for tally in innocent.end() {
        assert_eq!(tally.failures, [""; 0], "of {}", tally.count);
        assert_eq!(tally.statuses, [200], "of {}", tally.count);
    }
    for tally in second.end() {
        assert_eq!(tally.failures, [""; 0], "of {}", tally.count);
        assert_eq!(tally.statuses, [200, 403], "one change, and none back, of {}", tally.count);
    }
}

/// Waits for a reload that fails for this reason, and checks that it changed nothing.
fn assert_refused(gateway: &Gateway, hash: &Value, place: &str, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let ready = readiness(gateway);
        assert_eq!(ready["status"], "ready");
        assert_eq!(&ready["config"]["hash"], hash, "the old configuration is in force");
        let last = &ready["config"]["last_reload"];
        if last["error"].as_str().is_some_and(|error| error.contains(place) && error.contains(what)) {
            assert_eq!(last["successful"], false);
            break;
        }
        assert!(Instant::now() < deadline, "no {place} and {what} in {last}");
        thread::sleep(Duration::from_millis(10));
    }
    gateway.wait_for_sample(FAILURE, |count| count >= 1.0);
    assert_eq!(gateway.sample("portcullis_config_last_reload_successful"), Some(0.0));
    let _ = gateway
        .wait_for_line(|line| line.contains("\"ERROR\"") && line.contains(place) && line.contains(what));
    assert_eq!(get(gateway.public(), "/all/x?q=first").status(), 403);
    assert_eq!(get(gateway.public(), "/all/x?q=second").status(), 200);
}

/// Checks that the last reload went well and refuses `second` now.
fn assert_taken_up(gateway: &Gateway, hash: &Value) {
    until_status(gateway.public(), "/all/x?q=second", 403);
    gateway.wait_for_sample("portcullis_config_last_reload_successful", |value| value == 1.0);
    let ready = readiness(gateway);
    assert_ne!(&ready["config"]["hash"], hash);
    assert_eq!(ready["config"]["last_reload"]["successful"], true);
    assert!(ready["config"]["last_reload"].get("error").is_none(), "{ready}");
    let info = format!("portcullis_config_info{{hash={}}}", ready["config"]["hash"]);
    assert_eq!(gateway.sample(&info), Some(1.0));
}

#[test]
fn broken_rules_leave_the_old_ones_in_force_and_repaired_ones_are_taken_up() {
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = gateway(&origin);
    let hash = readiness(&gateway)["config"]["hash"].clone();
    let broken = rules_against("second").replace("@contains", "@contians");
    gateway.replace("rules/test.conf", broken);
    assert_refused(&gateway, &hash, "rules/test.conf:2:16", "contains");
    let unclosed = format!("{}SecRule ARGS \"@rx (\" \"id:1099002,phase:2,deny\"\n", rules_against("second"));
    gateway.replace("rules/test.conf", unclosed);
    assert_refused(&gateway, &hash, "rules/test.conf:3:", "error");
    gateway.replace("rules/test.conf", rules_against("second"));
    assert_taken_up(&gateway, &hash);
}

#[test]
fn a_broken_configuration_leaves_the_old_one_in_force() {
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = gateway(&origin);
    let hash = readiness(&gateway)["config"]["hash"].clone();
    let sound = config(gateway.ports(), origin.address(), "");
    let cases = [
        (sound.replace("[firewall]", "[firewall"), "gateway.toml:8:", "error"),
        (sound.replace("upstream = \"backend\"", "upstream = \"backent\""), "gateway.toml:13:", "backend"),
        (sound.replace("rules = ", "rulse = "), "gateway.toml:9:9", "rules"),
        (String::new(), "no listener", "add"),
        (
            sound.replace("\"backend\"", "\"${PORTCULLIS_TEST_NOT_SET}\""),
            "gateway.toml:13:",
            "PORTCULLIS_TEST_NOT_SET",
        ),
    ];
    for (text, place, what) in cases {
        gateway.replace("gateway.toml", text);
        assert_refused(&gateway, &hash, place, what);
    }
    fs::remove_file(gateway.folder().join("gateway.toml")).unwrap();
    assert_refused(&gateway, &hash, "gateway.toml", "cannot");
    gateway.replace("rules/test.conf", rules_against("second"));
    gateway.replace("gateway.toml", sound);
    assert_taken_up(&gateway, &hash);
}

#[test]
fn a_mistake_in_a_file_that_is_new_is_noticed_when_it_is_mended() {
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = gateway(&origin);
    let hash = readiness(&gateway)["config"]["hash"].clone();
    fs::create_dir(gateway.folder().join("more")).unwrap();
    gateway.replace("more/extra.conf", "SecRule ARGS @contians second id:1\n");
    let sound = config(gateway.ports(), origin.address(), "");
    gateway
        .replace("gateway.toml", sound.replace("\"rules/*.conf\"", "\"rules/*.conf\", \"more/extra.conf\""));
    assert_refused(&gateway, &hash, "more/extra.conf:1:", "contains");
    gateway.replace("more/extra.conf", rules_against("second").replace("1099001", "1099002"));
    assert_taken_up(&gateway, &hash);
}

#[test]
fn files_that_are_written_in_place_added_linked_and_removed_are_noticed() {
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = gateway(&origin);
    let rules = gateway.folder().join("rules");
    fs::write(rules.join("test.conf"), rules_against("second")).unwrap();
    until_status(gateway.public(), "/all/x?q=second", 403);
    fs::write(rules.join("more.conf"), rules_against("third").replace("1099001", "1099002")).unwrap();
    until_status(gateway.public(), "/all/x?q=third", 403);
    fs::remove_file(rules.join("more.conf")).unwrap();
    until_status(gateway.public(), "/all/x?q=third", 200);
    // As Kubernetes mounts a ConfigMap: a link to a file in a linked folder, and the folder's link is swapped.
    for (folder, word) in [("..1", "fourth"), ("..2", "fifth")] {
        fs::create_dir(rules.join(folder)).unwrap();
        fs::write(rules.join(folder).join("test.conf"), rules_against(word)).unwrap();
    }
    symlink("..1", rules.join("..data")).unwrap();
    symlink("..data/test.conf", rules.join("link")).unwrap();
    fs::rename(rules.join("link"), rules.join("test.conf")).unwrap();
    until_status(gateway.public(), "/all/x?q=fourth", 403);
    symlink("..2", rules.join("..new")).unwrap();
    fs::rename(rules.join("..new"), rules.join("..data")).unwrap();
    until_status(gateway.public(), "/all/x?q=fifth", 403);
    assert_eq!(get(gateway.public(), "/all/x?q=fourth").status(), 200);
}

#[test]
fn a_data_file_of_a_rule_is_read_again() {
    let origin = Origin::answering(Answer::ok("fine"));
    let upstream = origin.address();
    let gateway = Gateway::builder(BINARY)
        .file("rules/test.conf", rules_against("first").replace("@contains first", "@pmFromFile words.data"))
        .file("rules/words.data", "first\n")
        .start(|ports| config(ports, upstream, ""));
    assert_eq!(get(gateway.public(), "/all/x?q=first").status(), 403);
    let hash = readiness(&gateway)["config"]["hash"].clone();
    gateway.replace("rules/words.data", "second\n");
    assert_taken_up(&gateway, &hash);
    assert_eq!(get(gateway.public(), "/all/x?q=first").status(), 200);
}

#[test]
fn sighup_reloads_also_what_has_not_changed() {
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = gateway(&origin);
    assert_eq!(gateway.sample(SUCCESS), Some(1.0), "the start");
    hang_up(&gateway);
    assert_eq!(gateway.sample(SUCCESS), Some(2.0));
    assert_eq!(readiness(&gateway)["config"]["last_reload"]["successful"], true);
    let _ = gateway.wait_for_line(|line| line.contains("configuration reloaded"));
}

#[test]
fn a_route_that_is_removed_serves_who_is_on_it_and_nobody_else() {
    let gate = Gate::default();
    let slow = gate.clone();
    let origin = Origin::start(move |request| {
        if request.target() == "/slow/1" {
            let late = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate".to_vec();
            Answer::steps([Step::Until(slow.clone()), Step::Bytes(late)])
        } else {
            Answer::ok("fine")
        }
    });
    let upstream = origin.address();
    let route = "[[route]]\nname = \"slow\"\nmatch = { path = \"/slow/{id}\" }\nupstream = \"backend\"\n";
    let gateway = Gateway::builder(BINARY)
        .file("rules/test.conf", rules_against("first"))
        .start(|ports| config(ports, upstream, route));
    let mut busy = RawClient::connect(gateway.public()).unwrap();
    let mut idle = RawClient::connect(gateway.public()).unwrap();
    idle.send("GET /slow/2 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(idle.response().unwrap().status(), 200);
    busy.send("GET /slow/1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let _ = origin.wait_for(2);

    let other = route.replace("/slow/", "/new/").replace("\"slow\"", "\"new\"");
    gateway.replace("gateway.toml", config(gateway.ports(), upstream, &other));
    until_status(gateway.public(), "/new/1", 200);
    idle.send("GET /slow/2 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(idle.response().unwrap().status(), 404, "on the connection that was there before");
    gate.open();
    let answer = busy.response().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "late"));
    busy.send("GET /slow/2 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(busy.response().unwrap().status(), 404);
}

#[test]
fn an_upstream_moves_without_a_failed_request() {
    let old = Origin::answering(Answer::ok("old"));
    let new = Origin::answering(Answer::ok("new"));
    let gateway = gateway(&old);
    let load = Load::start(gateway.public(), "/all/x");
    let _ = old.wait_for(20);
    gateway.replace("gateway.toml", config(gateway.ports(), new.address(), ""));
    let _ = new.wait_for(20);
    for tally in load.end() {
        assert_eq!(tally.failures, [""; 0]);
        assert_eq!(tally.statuses, [200]);
    }
    let asked = old.count();
    assert_eq!(get(gateway.public(), "/all/x").text(), "new");
    assert_eq!(old.count(), asked, "nobody asks the old one any more");
}

#[test]
fn a_reload_keeps_counts_and_connections() {
    let origin = Origin::answering(Answer::ok("fine"));
    let upstream = origin.address();
    let limit = "[[route.rate_limit]]\nname = \"few\"\nrate = \"1/h\"\nburst = 3\n";
    let gateway = Gateway::builder(BINARY)
        .file("rules/test.conf", rules_against("first"))
        .start(|ports| config(ports, upstream, limit));
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let mut ask = || {
        client.send("GET /all/x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        client.response().unwrap().status()
    };
    assert_eq!([ask(), ask()], [200, 200]);
    hang_up(&gateway);
    gateway.replace("rules/test.conf", rules_against("second"));
    gateway.wait_for_sample(SUCCESS, |count| count >= 3.0);
    let statuses = [ask(), ask(), ask()];
    assert!(statuses.contains(&200) && statuses.contains(&429), "the count goes on: {statuses:?}");
    assert_eq!(statuses[2], 429);
    assert_eq!(origin.connections(), 1, "the pool is kept as well");
    let series = r#"portcullis_requests_total{method="GET",route="all",status_class="2xx"}"#;
    assert!(gateway.sample(series).unwrap() >= 3.0, "and so are the metrics");
}

/// A handshake and one request; the certificate that the server showed.
fn shown(address: SocketAddr, authority: &Authority) -> std::io::Result<CertificateDer<'static>> {
    let config = Arc::new(authority.client_config(&["http/1.1"]));
    let name = "gateway.test".try_into().unwrap();
    let session = rustls::ClientConnection::new(config, name).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(address)?);
    stream.write_all(b"GET /all/x HTTP/1.1\r\nhost: gateway.test\r\nconnection: close\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"HTTP/1.1 200");
    Ok(stream.conn.peer_certificates().unwrap()[0].clone().into_owned())
}

fn certificate(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()
}

#[test]
fn a_certificate_is_swapped_without_a_failed_handshake() {
    let origin = Origin::answering(Answer::ok("fine"));
    let upstream = origin.address();
    let authority = Arc::new(Authority::new());
    let (old, new) = (authority.issue(&["gateway.test"]), authority.issue(&["gateway.test"]));
    let gateway = Gateway::builder(BINARY)
        .file("rules/test.conf", rules_against("first"))
        .file("tls/gateway.crt", &old.certificate_pem)
        .file("tls/gateway.key", &old.key_pem)
        .start(|ports| {
            let listener = format!(
                "[[listener]]\nname = \"tls\"\naddress = \"{}\"\n\
                 tls.certificates = [{{ certificate = \"tls/gateway.crt\", key = \"tls/gateway.key\" }}]\n",
                ports.tls
            );
            config(ports, upstream, &listener)
        });
    let mut open = RawClient::connect_tls(gateway.tls(), "gateway.test", &authority, &["http/1.1"]).unwrap();
    let stop = Arc::<AtomicBool>::default();
    let client = {
        let (stop, authority, address) = (Arc::clone(&stop), Arc::clone(&authority), gateway.tls());
        thread::spawn(move || {
            let mut shown_so_far: Vec<CertificateDer<'static>> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let now = shown(address, &authority).expect("every handshake completes");
                if shown_so_far.last() != Some(&now) {
                    shown_so_far.push(now);
                }
            }
            shown_so_far
        })
    };
    assert_eq!(shown(gateway.tls(), &authority).unwrap(), certificate(&old));
    // One file alone is a pair that does not fit: not taken up.
    gateway.replace("tls/gateway.crt", &new.certificate_pem);
    gateway.wait_for_sample(FAILURE, |count| count >= 1.0);
    assert_eq!(shown(gateway.tls(), &authority).unwrap(), certificate(&old));
    gateway.replace("tls/gateway.key", &new.key_pem);
    gateway.wait_for_sample("portcullis_config_last_reload_successful", |value| value == 1.0);
    assert_eq!(shown(gateway.tls(), &authority).unwrap(), certificate(&new));
    stop.store(true, Ordering::Relaxed);
    assert_eq!(client.join().unwrap(), [certificate(&old), certificate(&new)]);
    open.send("GET /all/x HTTP/1.1\r\nhost: gateway.test\r\n\r\n").unwrap();
    assert_eq!(open.response().unwrap().status(), 200, "a connection from before goes on");
    let failed = r#"portcullis_tls_handshake_failures_total{listener="tls",reason="protocol"}"#;
    assert_eq!(gateway.sample(failed).unwrap_or(0.0), 0.0);
}

#[test]
fn what_takes_a_restart_says_so() {
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = gateway(&origin);
    let ports = gateway.ports();
    let moved = Ports { public: ports.tls, ..ports };
    gateway.replace("gateway.toml", config(moved, origin.address(), ""));
    let line = gateway.wait_for_line(|line| line.contains("restart"));
    assert!(line.contains("public"), "{line}");
    assert_eq!(get(gateway.public(), "/all/x").status(), 200, "it serves on where it listens");
}
