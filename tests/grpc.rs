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
        Self::start_with(python, &[])
    }

    fn start_with(python: &PathBuf, arguments: &[&str]) -> Self {
        let mut process = Command::new(python)
            .arg(format!("{SCRIPTS}/server.py"))
            .args(arguments)
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

/// A gateway before a server that is sick and one that is well, with an upstream and a route for each service.
fn judging(sick: &Server, well: &Server) -> Gateway {
    let both = format!(
        "endpoints = [{{ address = \"127.0.0.1:{}\" }}, {{ address = \"127.0.0.1:{}\" }}]",
        sick.port, well.port
    );
    let ejects = format!(
        "{both}\noutlier_detection = {{ consecutive_5xx = 3, consecutive_gateway_failure = 3, base_ejection_time = \"60s\" }}"
    );
    let breaks = format!(
        "endpoints = [{{ address = \"127.0.0.1:{}\" }}]\n\
         circuit_breaker = {{ failure_rate_threshold = 50, sliding_window_size = 4, scope = \"upstream\" }}",
        sick.port
    );
    Gateway::builder(BINARY).start(|ports| {
        let mut config = format!(
            "admin.listen = \"{}\"\nserver.threads = 1\nfirewall.mode = \"off\"\n\
             [[listener]]\nname = \"public\"\naddress = \"{}\"\n",
            ports.admin, ports.public
        );
        for (name, upstream) in [
            ("Ejected", &ejects),
            ("Broken", &breaks),
            ("Patient", &ejects),
            ("Hasty", &ejects),
            ("Unknown", &ejects),
        ] {
            config.push_str(&format!(
                r#"
                [upstream.{name}]
                protocol = "http2"
                {upstream}
                [[route]]
                name = "{name}"
                match = {{ path = "/test.{name}/{{method}}", methods = ["POST"] }}
                upstream = "{name}"
                grpc = true
                "#
            ));
        }
        for (name, port) in [("Stable", well.port), ("Canary", sick.port)] {
            config.push_str(&format!(
                "[upstream.{name}]\nprotocol = \"http2\"\nendpoints = [{{ address = \"127.0.0.1:{port}\" }}]\n"
            ));
        }
        let condition = "headers = [{ name = \"content-type\", value = \"application/grpc\" }]";
        for (name, which) in [("Shared", "share = \"30%\""), ("Chosen", condition)] {
            config.push_str(&format!(
                r#"
                [[route]]
                name = "{name}"
                match = {{ path = "/test.{name}/{{method}}", methods = ["POST"] }}
                upstream = "Stable"
                grpc = true
                canary = [{{ upstream = "Canary", {which} }}]
                "#
            ));
        }
        config
    })
}

#[test]
fn how_calls_end_is_held_against_their_endpoint() {
    let Some(python) = python() else {
        eprintln!("skipped: {VENV} has no grpcio; tests/run installs it");
        return;
    };
    let (sick, well) = (Server::start_with(&python, &["sick"]), Server::start(&python));
    let gateway = judging(&sick, &well);
    let calls = |method: &str, count: usize, timeout: &[&str]| -> Vec<(String, String)> {
        let (port, count) = (gateway.public().port().to_string(), count.to_string());
        let mut command = Command::new(&python);
        command.arg(format!("{SCRIPTS}/calls.py")).args([&port, method, &count]).args(timeout);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let failed = |calls: &[(String, String)], status: &str| -> usize {
        assert!(calls.iter().all(|(found, _)| found == status || found == "OK"), "{calls:?}");
        calls.iter().filter(|(found, _)| found == status).count()
    };
    let ejections = |name: &str, cause: &str| {
        let labels = format!("{{cause=\"{cause}\",upstream=\"{name}\"}}");
        gateway.sample(&format!("portcullis_upstream_ejections_total{labels}")).unwrap_or_default()
    };

    // UNAVAILABLE, in trailers behind a message: the third in a row is the last, as 503 would be.
    let ended = calls("/test.Ejected/BehindAMessage", 20, &[]);
    assert_eq!(failed(&ended, "UNAVAILABLE"), 3, "{ended:?}");
    assert_eq!(ejections("Ejected", "consecutive_gateway_failure"), 1.0);

    // Without a message before it; the breaker of an upstream that has no other endpoint opens.
    let ended = calls("/test.Broken/InHead", 10, &[]);
    let details: Vec<&str> = ended.iter().map(|(_, details)| details.as_str()).collect();
    assert_eq!(details[..4], ["sick"; 4]);
    assert_eq!(details[4..], ["upstream_unavailable"; 6]);
    let open = "portcullis_upstream_circuit_breaker_state{state=\"open\",upstream=\"Broken\"}";
    assert_eq!(gateway.sample(open), Some(1.0));

    // DEADLINE_EXCEEDED is the endpoint's fault only where the time was not the caller's own.
    assert_eq!(failed(&calls("/test.Patient/Late", 20, &[]), "DEADLINE_EXCEEDED"), 3);
    assert_eq!(failed(&calls("/test.Hasty/Late", 20, &["30"]), "DEADLINE_EXCEEDED"), 10);
    assert_eq!(ejections("Hasty", "consecutive_gateway_failure"), 0.0);

    // A canary of gRPC fails by itself, and gets its share.
    let failures = failed(&calls("/test.Shared/InHead", 100, &[]), "UNAVAILABLE");
    assert!((5..60).contains(&failures), "{failures} of 100 went to the canary that fails, where 30 should");
    assert_eq!(
        failed(&calls("/test.Chosen/BehindAMessage", 5, &[]), "UNAVAILABLE"),
        5,
        "all fulfil its condition"
    );
    let sample = |route: &str, upstream: &str| {
        gateway
            .sample(&format!("portcullis_canary_requests_total{{route=\"{route}\",upstream=\"{upstream}\"}}"))
    };
    assert_eq!(sample("Shared", "Canary"), Some(failures as f64));
    assert_eq!(sample("Shared", "Stable"), Some(100.0 - failures as f64));

    // Callers name methods.
    assert_eq!(failed(&calls("/test.Unknown/Unimplemented", 20, &[]), "UNIMPLEMENTED"), 10);
    assert_eq!(ejections("Unknown", "consecutive_5xx"), 0.0);
}
