//! gRPC's health protocol, asked of a real server.

use crate::{BINARY, config, eventually, lines};
use portcullis_testkit::{Authority, Gateway, suite};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/grpc");
const VENV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/venv/bin/python");

/// grpcio's own health service, until it is dropped.
struct GrpcServer {
    process: Child,
    input: Option<ChildStdin>,
    address: SocketAddr,
}

impl GrpcServer {
    fn start(python: &Path, identity: &[PathBuf]) -> Self {
        let mut process = Command::new(python)
            .arg(format!("{SCRIPTS}/health.py"))
            .args(identity)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
        GrpcServer { input: process.stdin.take(), process, address }
    }

    fn says(&mut self, status: &str) {
        writeln!(self.input.as_mut().unwrap(), "{status}").unwrap();
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// A Python that has grpcio's health service; `tests/run` makes one.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(VENV);
    let has_it = Command::new(&python).args(["-c", "import grpc_health"]).output().ok()?.status.success();
    has_it.then_some(python)
}

#[test]
fn grpc_health_is_asked_of_a_real_server() {
    let Some(python) = python() else {
        eprintln!("SKIPPED: there is no Python with grpcio-health-checking");
        return;
    };
    let authority = Authority::new();
    let builder = Gateway::builder(BINARY).file("ca.pem", authority.pem());
    let (certificate, key) = authority.issue(&["localhost"]).write(builder.folder(), "server");
    let (mut plain, mut tls) =
        (GrpcServer::start(&python, &[]), GrpcServer::start(&python, &[certificate, key]));
    let check = "protocol = \"http2\"\nhealth_check = { type = \"grpc\", service = \"test.Echo\", \
                 interval = \"100ms\", unhealthy_interval = \"50ms\" }";
    let gateway = builder.start(|ports| {
        let plain = config(ports, &[plain.address], check);
        format!(
            "{plain}\n[upstream.tls]\nendpoints = [{{ address = \"localhost:{}\" }}]\n{check}\n\
             tls = {{ ca_file = \"ca.pem\" }}\n[[route]]\nname = \"tls\"\nmatch = {{ path = \"/tls\" }}\nupstream = \"tls\"\n",
            tls.address.port()
        )
    });
    // A service that the server does not know is not well.
    let _ = gateway
        .wait_for_line(|line| line.contains("the endpoint is unhealthy") && line.contains("grpc-status 5"));
    let available = |upstream: &str| {
        let series =
            format!("portcullis_upstream_endpoints{{condition=\"available\",upstream=\"{upstream}\"}}");
        gateway.sample(&series)
    };
    for (upstream, server) in [("origin", &mut plain), ("tls", &mut tls)] {
        for (status, expected) in [("SERVING", 1.0), ("NOT_SERVING", 0.0), ("SERVING", 1.0)] {
            server.says(status);
            eventually(&format!("{upstream} is {status}"), || available(upstream) == Some(expected));
        }
    }
    eventually("both were told", || lines(&gateway, "NOT_SERVING") >= 2);
    suite(
        "grpc health",
        "grpcio's own health service, in clear and over TLS: unknown, serving, not serving, serving",
    );
}
