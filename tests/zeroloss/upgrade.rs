//! Another process takes over the same addresses.

use crate::load::{Load, all_kinds};
use crate::{BINARY, config, origin, rules_against};
use portcullis_testkit::{
    Answer, Authority, Gateway, GatewayBuilder, Identity, Origin, Ports, absent, free_port, get, suite,
};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

/// A start of another process with the files of the first: the same certificate.
fn successor(identity: &Identity) -> GatewayBuilder {
    let builder = Gateway::builder(BINARY).file("rules/test.conf", rules_against("attack"));
    let _ = identity.write(builder.folder(), "a");
    builder
}

#[test]
fn a_second_process_on_the_same_addresses_takes_over_from_the_first() {
    const TIMES: usize = 6;
    let (origin, authority) = (origin(), Authority::new());
    let identity = authority.issue(&["localhost"]);
    let start = |public, tls, threads: usize| {
        let ports = Ports { public, tls, admin: free_port() };
        let top = format!("server.threads = {threads}");
        successor(&identity).start_at(ports, &config(ports, &[origin.address()], &top, ""))
    };
    let (public, tls) = (free_port(), free_port());
    let mut running = start(public, tls, 4);
    let load = Load::start(public, tls, &all_kinds(&authority));
    for at in 0..TIMES {
        load.progress(5);
        // More threads than before, and fewer.
        let next = start(public, tls, [2, 4, 3][at % 3]);
        running.signal("TERM");
        assert_eq!(running.wait().code(), Some(0));
        let _ = running.wait_for_line(|line| line.contains("\"drained\""));
        running = next;
        load.progress(5);
    }
    let tally = load.end();
    assert_eq!(tally.failures, [""; 0], "{:?}", tally.good);
    let count: usize = tally.good.iter().sum();
    suite("hand-over by SO_REUSEPORT", &format!("{TIMES} times, {count} requests, 0 failed"));
}

/// Runs the rest of its command line with a socket as systemd hands it over.
const LAUNCHER: &str = r#"
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"#;

/// A listening socket that children may have.
fn listening(ports: Ports) -> TcpListener {
    let socket = TcpListener::bind(ports.public).unwrap();
    socket2::SockRef::from(&socket).set_cloexec(false).unwrap();
    socket
}

fn forwarding(ports: Ports, origin: &Origin, more: &str) -> String {
    ports.forwarding(origin.address(), more)
}

#[test]
fn a_restart_on_inherited_sockets_refuses_nobody() {
    const TIMES: usize = 4;
    let (origin, authority) = (origin(), Authority::new());
    let ports = Ports { public: free_port(), tls: free_port(), admin: free_port() };
    let socket = listening(ports);
    let start = |name: &str| {
        let fd = socket.as_raw_fd().to_string();
        let command = ["-c", LAUNCHER, &fd, name, BINARY, "run", "-c", "gateway.toml"];
        let config = forwarding(ports, &origin, "limits.max_requests_per_connection = 100000");
        Gateway::builder("python3").arguments(&command).start_at(ports, &config)
    };
    let mut running = start("public");
    let kinds: Vec<_> = all_kinds(&authority).into_iter().take(7).collect();
    let load = Load::start(ports.public, ports.tls, &kinds);
    for _ in 0..TIMES {
        load.progress(5);
        running.signal("TERM");
        assert_eq!(running.wait().code(), Some(0));
        // Nobody is there now; clients wait in the socket's queue. It is found by its address, too.
        std::thread::sleep(Duration::from_millis(50));
        running = start("");
    }
    load.progress(5);
    let tally = load.end();
    assert_eq!(tally.failures, [""; 0], "{:?}", tally.good);
    let count: usize = tally.good.iter().sum();
    suite("restart on inherited sockets", &format!("{TIMES} times, {count} requests, 0 failed"));
}

#[test]
fn an_inherited_socket_that_no_listener_wants_is_an_error() {
    let origin = Origin::answering(Answer::ok("fine"));
    let ports = Ports { public: free_port(), tls: free_port(), admin: free_port() };
    let socket = listening(Ports { public: free_port(), ..ports });
    let address = socket.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.toml"), forwarding(ports, &origin, "")).unwrap();
    let output = std::process::Command::new("python3")
        .args([
            "-c",
            LAUNCHER,
            &socket.as_raw_fd().to_string(),
            "metrics",
            BINARY,
            "run",
            "-c",
            "gateway.toml",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(&format!("{address} (`metrics`)")) && said.contains("FileDescriptorName="),
        "{said}"
    );
}

#[test]
fn systemd_activates_it() {
    const ACTIVATE: &str = "/usr/bin/systemd-socket-activate";
    if absent(ACTIVATE) {
        return;
    }
    let origin = Origin::answering(Answer::ok("fine"));
    let ports = Ports { public: free_port(), tls: free_port(), admin: free_port() };
    // The first client is what starts it; by name, though the configuration has another address.
    let first = std::thread::spawn(move || {
        while std::net::TcpStream::connect(ports.tls).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        get(ports.tls, "/x").text()
    });
    let listen = ports.tls.to_string();
    let command = ["-l", &listen, "--fdname=public", BINARY, "run", "-c", "gateway.toml"];
    let gateway =
        Gateway::builder(ACTIVATE).arguments(&command).start_at(ports, &forwarding(ports, &origin, ""));
    assert_eq!(first.join().unwrap(), "fine");
    let _ = gateway.wait_for_line(|line| line.contains("another address") && line.contains(&listen));
}
