//! Hostile and broken upstreams: the cases of `tests/data/origin` behind the binary, asked over HTTP/1.1 and HTTP/2.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Authority, Case, FrameOrigin, Gateway, H2Client, Origin, RawClient, Step, below_its_name, bytes,
    cases, suite,
};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const HTTP1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/origin/http1");
const HTTP2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/origin/http2");
/// Cases at once; most of the time of some is a deadline.
const AT_ONCE: usize = 12;

/// What a case expects.
#[derive(Clone, Debug, Default)]
struct Expected {
    method: String,
    outcomes: Vec<String>,
    fresh: Option<bool>,
    with: Vec<String>,
    without: Vec<String>,
}

/// Splits a case into what the upstream does and what must come of it.
fn read(case: &Case) -> (Vec<String>, Expected) {
    let mut expected = Expected { method: "GET".to_owned(), ..Expected::default() };
    let mut script = Vec::new();
    for line in &case.lines {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("ask", method) => method.clone_into(&mut expected.method),
            ("=", outcomes) => {
                expected.outcomes = outcomes.split('|').map(|outcome| outcome.trim().to_owned()).collect();
            }
            ("fresh", "") => expected.fresh = Some(true),
            ("reused", "") => expected.fresh = Some(false),
            ("with", name) => expected.with.push(name.to_owned()),
            ("without", name) => expected.without.push(name.to_owned()),
            _ => script.push(line.clone()),
        }
    }
    assert!(!expected.outcomes.is_empty(), "{}: nothing is expected", case.place);
    (script, expected)
}

fn steps(script: &[String], place: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut repeat = 1;
    for line in script {
        if let Some(bytes) = bytes(line) {
            steps.push(Step::Bytes(bytes.repeat(std::mem::replace(&mut repeat, 1))));
            continue;
        }
        match line.split_once(' ').unwrap_or((line, "")) {
            ("repeat", count) => repeat = count.parse().unwrap(),
            ("pause", time) => steps.push(Step::Wait(Duration::from_millis(time.parse().unwrap()))),
            ("close", _) => steps.push(Step::Close),
            ("reset", _) => steps.push(Step::Reset),
            ("hang", _) => steps.push(Step::Hang),
            _ => panic!("{place}: what is `{line}`?"),
        }
    }
    steps
}

/// The upstream of one case for one of the clients' protocols.
enum Upstream {
    Http1(Origin),
    Http2(FrameOrigin, bool),
}

impl Upstream {
    fn http1(script: &[String], place: &str) -> Self {
        let answer = Answer::steps(steps(script, place));
        Upstream::Http1(Origin::start(move |request| {
            if request.target().ends_with("/case") { answer.clone() } else { Answer::ok("clean") }
        }))
    }

    fn http2(script: &[String]) -> Self {
        Upstream::Http2(FrameOrigin::start(script), script.iter().any(|line| line == "request"))
    }

    fn address(&self) -> SocketAddr {
        match self {
            Upstream::Http1(origin) => origin.address(),
            Upstream::Http2(origin, _) => origin.address(),
        }
    }

    fn protocol(&self) -> &'static str {
        if matches!(self, Upstream::Http1(_)) { "http1" } else { "http2" }
    }

    fn connections(&self) -> usize {
        match self {
            Upstream::Http1(origin) => origin.connections(),
            Upstream::Http2(origin, _) => origin.connections(),
        }
    }

    fn be_hostile(&self, hostile: bool) {
        if let Upstream::Http2(origin, _) = self {
            origin.be_hostile(hostile);
        }
    }

    /// Whether what it says to a new connection is part of the case.
    fn greets(&self) -> bool {
        matches!(self, Upstream::Http2(_, true))
    }
}

/// What a client sees of an answer.
#[derive(Clone, Debug)]
enum Seen {
    Whole(u16, Vec<u8>, Vec<u8>),
    Cut,
}

impl Seen {
    fn is(&self, expected: &str) -> bool {
        match (self, expected.split_once(' ')) {
            (Seen::Whole(status, body, _), Some((code, text))) => {
                code.parse() == Ok(*status) && *body == bytes(text).unwrap()
            }
            (Seen::Whole(status, body, _), None) => {
                // An answer of the gateway's own.
                let wanted = if expected == "refused" { "502" } else { expected };
                status.to_string() == wanted && body.windows(6).any(|window| window == b"\"code\"")
            }
            (Seen::Cut, _) => matches!(expected, "cut" | "refused"),
        }
    }
}

fn over_http1(gateway: &Gateway, method: &str, path: &str) -> Result<Seen, String> {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send(format!("{method} {path} HTTP/1.1\r\nhost: a.test\r\n\r\n")).unwrap();
    if method == "HEAD" {
        let head = client.head().map_err(|error| format!("no head: {error}"))?;
        let status = String::from_utf8_lossy(&head[9..12]).parse().unwrap();
        client.wait_at_most(Duration::from_millis(50)).unwrap();
        let more = client.rest().unwrap_or_default();
        return Ok(Seen::Whole(status, more, head));
    }
    let answer = client.response().map_err(|error| format!("no answer: {error}"))?;
    let whole = Seen::Whole(answer.status(), answer.body.clone(), answer.head.clone());
    Ok(if answer.complete { whole } else { Seen::Cut })
}

fn over_http2(gateway: &Gateway, method: &str, path: &str) -> Result<Seen, String> {
    let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    let stream = client.request(method, "a.test", path, &[], true).unwrap();
    let seen = client.answer(stream).map_err(|error| format!("no answer: {error}"))?;
    if let (true, Some(status)) = (seen.ended, seen.status) {
        return Ok(Seen::Whole(status, seen.body, Vec::new()));
    }
    Ok(Seen::Cut)
}

type Ask = fn(&Gateway, &str, &str) -> Result<Seen, String>;

const CLIENTS: [(&str, Ask); 2] = [("HTTP/1.1", over_http1), ("HTTP/2", over_http2)];

/// One case asked over one protocol.
fn run(
    gateway: &Gateway,
    upstream: &Upstream,
    path: &str,
    expected: &Expected,
    ask: Ask,
) -> Result<(), String> {
    // Most connections have served before.
    if !upstream.greets() {
        let before = ask(gateway, "GET", &format!("{path}/before"))?;
        if !before.is("200 \"clean\"") {
            return Err(format!("before it: {before:?}"));
        }
    }
    upstream.be_hostile(true);
    let seen = ask(gateway, &expected.method, &format!("{path}/case"))?;
    upstream.be_hostile(false);
    if !expected.outcomes.iter().any(|wanted| seen.is(wanted)) {
        let shown: String = format!("{seen:?}").chars().take(300).collect();
        return Err(format!("{shown} instead of {:?}", expected.outcomes));
    }
    if let Seen::Whole(_, _, head) = &seen
        && !head.is_empty()
    {
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        let has = |name: &String| head.contains(&format!("\r\n{name}:"));
        if !expected.with.iter().all(has) || expected.without.iter().any(has) {
            return Err(format!("the client got {head}"));
        }
    }
    // What comes late has come.
    thread::sleep(Duration::from_millis(150));
    let connections = upstream.connections();
    for _ in 0..2 {
        let next = ask(gateway, "GET", &format!("{path}/next"))?;
        if !next.is("200 \"clean\"") {
            return Err(format!("{seen:?}, and then {next:?}"));
        }
    }
    let is_fresh = upstream.connections() > connections;
    match expected.fresh {
        Some(fresh) if fresh != is_fresh => Err(format!(
            "{seen:?}, and then {}",
            if is_fresh { "a new connection" } else { "the same connection" }
        )),
        _ => Ok(()),
    }
}

/// A gateway with a route for each upstream, all connections of each on one thread.
fn gateway(upstreams: &[(String, Upstream)]) -> Gateway {
    Gateway::builder(BINARY).start(|ports| {
        let top = "server.threads = 1\nfirewall.mode = \"off\"";
        let mut config = ports.opening(top, "limits = { max_requests_per_connection = 1000000 }");
        for (name, upstream) in upstreams {
            let more = format!(
                "protocol = \"{}\"\nresponse_timeout = \"500ms\"\nidle_timeout = \"500ms\"",
                upstream.protocol()
            );
            config += &below_its_name(name, &[upstream.address()], &more);
        }
        config
    })
}

#[test]
fn c1_to_c12_nothing_dirty_reaches_a_client_and_nothing_of_it_the_next_one() {
    let only = std::env::var("CASE").ok();
    let wanted = |case: &Case| only.as_ref().is_none_or(|only| *only == case.name);
    let mut all: Vec<(Case, Expected)> = Vec::new();
    let mut upstreams = Vec::new();
    for folder in [HTTP1, HTTP2] {
        for case in cases(folder).into_iter().filter(wanted) {
            let (script, expected) = read(&case);
            for client in 0..CLIENTS.len() {
                let upstream = if folder == HTTP1 {
                    Upstream::http1(&script, &case.place)
                } else {
                    Upstream::http2(&script)
                };
                upstreams.push((format!("c{}-{client}", all.len()), upstream));
            }
            all.push((case, expected));
        }
    }
    let gateway = gateway(&upstreams);
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, upstream)) = upstreams.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let number = upstreams.iter().position(|(other, _)| other == name).unwrap();
                    let (case, expected) = &all[number / CLIENTS.len()];
                    let (client, ask) = CLIENTS[number % CLIENTS.len()];
                    if let Err(what) = run(&gateway, upstream, &format!("/{name}"), expected, ask) {
                        let Case { place, row, name, source, .. } = case;
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{place}: {row} {name} over {client} ({source}): {what}"));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    // Whatever they began is over.
    gateway.wait_for_sample("portcullis_requests_in_flight", |count| count == 0.0);
    let http2 = upstreams.iter().filter(|(_, upstream)| upstream.protocol() == "http2").count();
    suite(
        "hostile origins",
        &format!(
            "{} cases ({} in HTTP/1, {} in HTTP/2), each asked over HTTP/1.1 and HTTP/2: none dirty, none poisoned the next",
            all.len(),
            all.len() - http2 / CLIENTS.len(),
            http2 / CLIENTS.len(),
        ),
    );
}

/// Two upstreams that are one server: what one of them has proven is nothing to the other.
#[test]
fn c13_connections_are_kept_for_each_upstream_and_identity_apart() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = authority.issue(&["inner.test", "127.0.0.1"]);
    let origin = Origin::builder().tls(identity.server_config(&[])).start(|_| Answer::ok("clean"));
    let address = origin.address();
    let builder =
        Gateway::builder(BINARY).file("trusted.pem", authority.pem()).file("stranger.pem", stranger.pem());
    let gateway = builder.start(|ports| {
        let mut config = ports.opening("server.threads = 1\nfirewall.mode = \"off\"", "");
        for (name, tls) in [
            ("named", r#"tls = { ca_file = "trusted.pem", server_name = "inner.test" }"#),
            ("again", r#"tls = { ca_file = "trusted.pem" }"#),
            ("misnamed", r#"tls = { ca_file = "trusted.pem", server_name = "other.test" }"#),
            ("untrusted", r#"tls = { ca_file = "stranger.pem", server_name = "inner.test" }"#),
            ("clear", ""),
        ] {
            config += &below_its_name(name, &[address], tls);
        }
        config
    });
    for round in 1..=3 {
        for (name, expected) in [
            ("named", "200 \"clean\""),
            ("again", "200 \"clean\""),
            ("misnamed", "502"),
            ("untrusted", "502"),
            ("clear", "502"),
        ] {
            let seen = over_http1(&gateway, "GET", &format!("/{name}/x")).unwrap();
            assert!(seen.is(expected), "{name} in round {round}: {seen:?}");
        }
    }
    let used =
        |name: &str| gateway.sample(&format!("portcullis_upstream_connections_idle{{upstream=\"{name}\"}}"));
    assert_eq!((used("named"), used("again")), (Some(1.0), Some(1.0)), "one each, kept");
    assert_eq!(origin.count(), 6);
}
