//! What the gateway forwards, read by real servers: each must see exactly the requests that the gateway sent, no more, no
//! fewer and no others, and the client must get exactly their answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::corpus::{self, Case};
use portcullis_testkit::{
    Backend, Forwarded, Gateway, Journaled, Judge, Pieces, Server, converse, in_parallel, own_address, suite,
};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Connections at once.
const THREADS: usize = 16;

fn gateway(upstream: SocketAddr, body: &str) -> Gateway {
    Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            admin.listen = "{}"
            firewall.mode = "off"
            [[listener]]
            name = "public"
            address = "{}"
            [upstream.backend]
            endpoints = [{{ address = "{upstream}" }}]
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "backend"
            body = {{ mode = "{body}", limit = "1MiB" }}
            "#,
            ports.admin, ports.public
        )
    })
}

fn cases() -> Vec<Case> {
    let folder = Path::new(ROOT).join("tests/data/http1");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(corpus::read).collect()
}

/// What the gateway forwards of each case, as the judge saw it.
fn forwarded(cases: &[Case], body: &str, pieces: impl Fn(usize) -> Pieces + Sync) -> Vec<Vec<Forwarded>> {
    let judge = Judge::start();
    let gateway = gateway(judge.address(), body);
    let seen = std::sync::Mutex::new(vec![Vec::new(); cases.len()]);
    let numbers: Vec<usize> = (0..cases.len()).collect();
    let failures = in_parallel(THREADS, &numbers, |&at| {
        let from = own_address();
        converse(gateway.public(), from, &cases[at], &pieces(at))?;
        seen.lock().unwrap()[at] = judge.take(&from.to_string());
        Ok(())
    });
    assert!(failures.is_empty() && judge.dirty().is_empty(), "{failures:?} {:?}", judge.dirty());
    seen.into_inner().unwrap()
}

/// Whether the backend's journal of one connection and the client's answers agree with what was forwarded. A backend may
/// refuse a method that it does not know; then it has not read a request, and said so.
fn agree(sent: &[Forwarded], read: &[Journaled], handled: usize) -> Result<(), String> {
    let lines = || {
        let sent: Vec<String> =
            sent.iter().map(|one| format!("{} {} {}", one.method, one.target, one.body.len())).collect();
        format!("forwarded {sent:?}, read {read:?}, {handled} answers")
    };
    if read.len() != handled {
        return Err(lines());
    }
    let mut rest = sent.iter();
    for one in read {
        let same = |sent: &&Forwarded| {
            let digest = || portcullis_testkit::sha256(&sent.body);
            let body =
                one.body.as_ref().is_none_or(|(length, sum)| *length == sent.body.len() && *sum == digest());
            sent.method == one.method && target(&sent.target) == target(&one.target) && body
        };
        rest.by_ref().find(same).ok_or_else(lines)?;
    }
    Ok(())
}

/// ASGI does not say whether an empty query was there.
fn target(text: &str) -> &str {
    text.trim_end_matches('?')
}

/// Puts every case through the gateway to this server; what disagrees.
fn behind(
    backend: &Backend,
    body: &str,
    cases: &[Case],
    sent: &[Vec<Forwarded>],
    pieces: impl Fn(usize) -> Pieces + Sync,
) -> Vec<String> {
    let gateway = gateway(backend.address(), body);
    let answers = std::sync::Mutex::new(HashMap::new());
    let numbers: Vec<usize> = (0..cases.len()).collect();
    let mut failures = in_parallel(THREADS, &numbers, |&at| {
        let from = own_address();
        let got = converse(gateway.public(), from, &cases[at], &pieces(at))?;
        // Only the application behind the server's parser says this.
        let handled = got.iter().filter(|answer| answer.header("x-admin").is_some()).count();
        answers.lock().unwrap().insert(from.to_string(), (at, handled));
        Ok(())
    });
    // The journals are complete once the servers have ended their answers, which a request of its own comes after.
    let journal = settled(backend);
    let mut by_client: HashMap<String, Vec<Journaled>> = HashMap::new();
    for one in journal {
        by_client.entry(one.client.clone()).or_default().push(one);
    }
    for (client, (at, handled)) in answers.into_inner().unwrap() {
        let read = by_client.remove(&client).unwrap_or_default();
        if let Err(why) = agree(&sent[at], &read, handled) {
            failures.push(format!("{} {}: {why}", cases[at].row, cases[at].name));
        }
    }
    failures.extend(by_client.into_iter().map(|(client, read)| format!("from nobody ({client}): {read:?}")));
    failures
}

/// The journal, once it has not grown for a moment.
fn settled(backend: &Backend) -> Vec<Journaled> {
    let mut before = backend.journal();
    loop {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = backend.journal();
        if now.len() == before.len() {
            return now;
        }
        before = now;
    }
}

#[test]
fn a_what_is_forwarded_is_what_real_servers_read() {
    let cases = cases();
    let full = std::env::var_os("PORTCULLIS_FULL").is_some();
    // Bodies held or streamed, and in pieces of about how many bytes; 0 for whole.
    let quick = [("buffer", 0), ("stream", 0)];
    let more = [("buffer", 7), ("stream", 7), ("buffer", 1), ("stream", 1)];
    let rounds: Vec<(&str, usize)> = quick.into_iter().chain(more.into_iter().filter(|_| full)).collect();
    let (mut failures, mut ran, mut absent, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (body, size) in rounds {
        let pieces = |at: usize| match size {
            0 => Pieces::Whole,
            _ => Pieces::Each((size + at % size).max(cases[at].bytes.len() / 512)),
        };
        let sent = forwarded(&cases, body, pieces);
        // One that answers before it has read a body cannot say whether it came.
        let servers = Server::ALL.into_iter().filter(|server| body == "buffer" || server.reads_bodies());
        for server in servers {
            let Some(backend) = start(server) else {
                absent.push(server);
                continue;
            };
            let failed = behind(&backend, body, &cases, &sent, pieces);
            failures.extend(failed.into_iter().map(|why| format!("{server:?} ({body}): {why}")));
            count += cases.len();
            let name = format!("{server:?}");
            if !ran.contains(&name) {
                ran.push(name);
            }
        }
    }
    let counts = format!(
        "{} messages behind {}: {count} runs, {} discrepancies",
        cases.len(),
        ran.join(", "),
        failures.len()
    );
    suite("HTTP/1 behind real servers", &counts);
    if !absent.is_empty() {
        eprintln!("SKIPPED: {absent:?} are absent");
    }
    assert!(failures.is_empty(), "{}", failures[..failures.len().min(60)].join("\n"));
}

fn start(server: Server) -> Option<Backend> {
    let root = Path::new(ROOT);
    Backend::start(
        server,
        &root.join("tests/backends"),
        &root.join(".tools/venv"),
        &root.join("target/debian/apache"),
    )
}
