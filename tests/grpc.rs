//! gRPC through the gateway, with gRPC's own implementation (grpcio, by Python) at both ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use portcullis_testkit::{Gateway, free_port};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/grpc");
const VENV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/venv/bin/python");

/// A Python that has grpcio; `tests/run` makes one.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(VENV);
    let has_it = Command::new(&python).args(["-c", "import grpc"]).output().ok()?.status.success();
    has_it.then_some(python)
}

/// A gRPC server, until it is dropped.
struct Server {
    process: Child,
    port: u16,
    lines: mpsc::Receiver<Value>,
}

impl Server {
    fn start(python: &PathBuf) -> Self {
        let mut process = Command::new(python)
            .arg(format!("{SCRIPTS}/server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = out.next().unwrap().unwrap().parse().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in out.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Server { process, port, lines }
    }

    /// What it said of a call of this method.
    fn call(&self, method: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(30)).expect(method);
            if line["method"] == method {
                return line;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn gateway(server: &Server) -> Gateway {
    let rules =
        "SecRuleEngine On\nSecRule REQUEST_HEADERS \"@contains evil\" \"id:1,phase:1,deny,status:403\"\n";
    Gateway::builder(BINARY).file("rules/test.conf", rules).start(|ports| {
        format!(
            r#"
            admin.listen = "{admin}"
            firewall.rules = ["rules/test.conf"]
            [[listener]]
            name = "public"
            address = "{public}"
            [upstream.echo]
            endpoints = [{{ address = "127.0.0.1:{port}" }}]
            protocol = "http2"
            [upstream.down]
            endpoints = [{{ address = "{nobody}" }}]
            protocol = "http2"
            [[route]]
            name = "echo"
            match = {{ path = "/test.Echo/{{method}}", methods = ["POST"] }}
            upstream = "echo"
            grpc = true
            [[route]]
            name = "down"
            match = {{ path = "/test.Down/{{method}}", methods = ["POST"] }}
            upstream = "down"
            grpc = true
            [[route]]
            name = "closed"
            match = {{ path = "/test.Closed/{{method}}", methods = ["POST"] }}
            upstream = "echo"
            grpc = true
            addresses = {{ deny = ["127.0.0.1/32"] }}
            "#,
            admin = ports.admin,
            public = ports.public,
            port = server.port,
            nobody = free_port(),
        )
    })
}

#[test]
fn every_kind_of_call_passes_and_every_refusal_is_a_status() {
    let Some(python) = python() else {
        eprintln!("skipped: {VENV} has no grpcio; tests/run installs it");
        return;
    };
    let server = Server::start(&python);
    let gateway = gateway(&server);
    let port = gateway.public().port().to_string();
    let client = Command::new(&python).arg(format!("{SCRIPTS}/client.py")).arg(port).output().unwrap();
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    let results: Value = serde_json::from_slice(&client.stdout).unwrap();

    // Trailers that are not gRPC's own are dropped.
    assert_eq!(results["unary"], json!({ "answer": "hello", "status": "OK", "trailers": [] }));
    assert_eq!(results["large"], true);
    assert_eq!(results["server_stream"], 1000);
    assert_eq!(results["client_stream"], "2000");
    let turns = json!({ "said": ["ONE", "TWO", "THREE"], "rest": 0, "status": "OK" });
    assert_eq!(results["turns"], turns);
    assert_eq!(results["fail"]["status"], "FAILED_PRECONDITION");
    assert_eq!(results["fail"]["details"], "not yet: grüße");
    assert_eq!(results["slow"]["status"], "DEADLINE_EXCEEDED");
    for (call, status, details) in [
        ("unknown_method", "UNIMPLEMENTED", None),
        ("no_route", "UNIMPLEMENTED", Some("no_route")),
        ("refused", "PERMISSION_DENIED", Some("address_denied")),
        ("down", "UNAVAILABLE", Some("upstream_error")),
        ("firewall", "PERMISSION_DENIED", Some("firewall")),
    ] {
        assert_eq!(results[call]["status"], status, "{call}: {}", results[call]);
        if let Some(details) = details {
            assert_eq!(results[call]["details"], details, "{call}");
        }
    }

    let unary = server.call("Unary");
    assert!(unary["remaining"].as_f64().unwrap() <= 30.0, "{unary}");
    assert_eq!(unary["metadata"]["x-asked"], "1");
    // The caller's deadline is the call's, all the way: the server hears that nobody waits any more.
    // gRPC rounds what it sends up.
    assert!(server.call("Slow")["remaining"].as_f64().unwrap() <= 2.0);
    assert_eq!(server.call("SlowEnded")["cancelled"], true);
}
