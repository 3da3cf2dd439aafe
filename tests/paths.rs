//! Part F of the attack matrix: every form of a target gets the one verdict that stands in `tests/data/paths.txt`, over
//! HTTP/1 and HTTP/2, and what passes is no protected path to any reader of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::corpus::unescape;
use portcullis_testkit::{Answer, Backend, Gateway, H2Client, Origin, RawClient, Response, Server, suite};
use std::net::SocketAddr;
use std::path::Path;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

enum Verdict {
    Denied,
    Refused(String),
    Passes(String),
}

struct Form {
    place: String,
    target: Vec<u8>,
    verdict: Verdict,
}

fn forms() -> Vec<Form> {
    let text = std::fs::read_to_string(Path::new(ROOT).join("tests/data/paths.txt")).unwrap();
    let mut row = String::new();
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("paths.txt:{} {row}", number + 1);
        let words: Vec<&str> = line.split(' ').collect();
        let (target, verdict) = match words[..] {
            [""] | ["#", ..] => continue,
            ["%", name, ..] => {
                row = name.to_owned();
                continue;
            }
            ["denied", target] => (target, Verdict::Denied),
            ["refused", reason, target] => (target, Verdict::Refused(reason.to_owned())),
            ["passes", target, forwarded] => (target, Verdict::Passes(forwarded.to_owned())),
            _ => panic!("{place}: {line}"),
        };
        all.push(Form { target: unescape(&place, target), place, verdict });
    }
    all
}

fn gateway(upstream: SocketAddr) -> Gateway {
    Gateway::builder(BINARY).start(|ports| {
        let route = |name: &str, path: &str, more: &str| {
            format!("[[route]]\nname = \"{name}\"\nmatch = {{ path = \"{path}\" }}\nupstream = \"backend\"\n{more}\n")
        };
        let deny = "addresses = { deny = [\"127.0.0.0/8\"] }";
        format!(
            "admin.listen = \"{}\"\nfirewall.mode = \"off\"\n[[listener]]\nname = \"public\"\naddress = \"{}\"\n\
             [upstream.backend]\nendpoints = [{{ address = \"{upstream}\" }}]\n{}{}{}{}{}{}",
            ports.admin,
            ports.public,
            route("admin", "/admin", deny),
            route("below-admin", "/admin/{*rest}", deny),
            route("kept", "/kept/{*rest}", "target.encoded_path = \"keep\""),
            route("query", "/query/{*rest}", "target.query_bytes = \"encode\""),
            route("rewritten", "/r/{name}", "rewrite = \"/in/{name}\""),
            route("rest", "/{*rest}", ""),
        )
    })
}

fn ask(gateway: &Gateway, target: &[u8]) -> Response {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send([b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).unwrap();
    client.response().unwrap()
}

/// The reason in the log line of a refused request.
fn reason(gateway: &Gateway, response: &Response) -> String {
    let id = response.header("x-request-id").unwrap().to_owned();
    let line = gateway.wait_for_line(|line| line.contains(&id));
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    json["rejection"]["reason"].as_str().unwrap_or(&line).to_owned()
}

#[test]
fn f_every_form_has_one_verdict() {
    let origin = Origin::answering(Answer::ok("hello"));
    let gateway = gateway(origin.address());
    let forms = forms();
    let mut failures = Vec::new();
    let (mut denied, mut refused, mut passed) = (0, 0, 0);
    for form in &forms {
        let shown = form.target.escape_ascii();
        let before = origin.count();
        let response = ask(&gateway, &form.target);
        let (status, wanted) = (
            response.status(),
            match &form.verdict {
                Verdict::Denied => 403,
                Verdict::Refused(_) => 400,
                Verdict::Passes(_) => 200,
            },
        );
        let arrived = origin.requests().get(before).map(|one| one.target().to_owned());
        let as_said = match &form.verdict {
            _ if status != wanted => false,
            Verdict::Denied => {
                denied += 1;
                arrived.is_none()
            }
            Verdict::Refused(why) => {
                refused += 1;
                arrived.is_none() && *why == reason(&gateway, &response)
            }
            Verdict::Passes(forwarded) => {
                passed += 1;
                arrived.as_ref() == Some(forwarded)
            }
        };
        if !as_said {
            let why = if status == 400 { reason(&gateway, &response) } else { String::new() };
            failures.push(format!("{}: {shown}: {status} {why} {arrived:?}", form.place));
        }
    }
    suite(
        "path forms",
        &format!(
            "{}: {denied} denied, {refused} refused, {passed} canonical; {} wrong",
            forms.len(),
            failures.len()
        ),
    );
    assert!(forms.len() >= 150 && failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn f_http_2_reads_targets_alike() {
    let origin = Origin::answering(Answer::ok("hello"));
    let gateway = gateway(origin.address());
    for form in forms() {
        let Ok(path) = std::str::from_utf8(&form.target) else { continue };
        // Absolute forms and `*` have other places in HTTP/2, and what breaks a field breaks the stream.
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            continue;
        }
        // hyper resets a stream for these; RFC 3986 has none of them, and browsers encode them.
        if path.contains(['`', '<', '>']) {
            continue;
        }
        let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
        let answer = client.get("a", path).unwrap();
        let allowed: &[u16] = match form.verdict {
            Verdict::Denied => &[403],
            Verdict::Refused(_) => &[400],
            Verdict::Passes(_) => &[200],
        };
        // A refusal may be a reset of the stream instead.
        let reset = answer.status.is_none() && allowed == [400];
        assert!(
            reset || answer.status.is_some_and(|status| allowed.contains(&status)),
            "{}: {path}: {:?}",
            form.place,
            answer.status
        );
    }
}

/// Paths that readers less careful than the gateway make of one.
fn readings(path: &str) -> Vec<String> {
    let without_parameters: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
    let once = decoded(path);
    let twice = decoded(&once);
    let mut all = vec![
        path.to_owned(),
        without_parameters.join("/"),
        once.replace('\\', "/"),
        twice.replace('\\', "/"),
    ];
    let decoded_parameters: Vec<&str> =
        once.split('/').map(|segment| segment.split(';').next().unwrap()).collect();
    all.push(decoded_parameters.join("/"));
    all.iter().map(|path| without_dots(path)).collect()
}

fn decoded(path: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), path.as_bytes());
    while let [first, tail @ ..] = rest {
        let pair =
            tail.get(..2).and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match (first, pair) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn without_dots(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

#[test]
fn f_what_passes_is_protected_to_no_reader() {
    let forms = forms();
    let passing: Vec<(&Form, &String)> = forms
        .iter()
        .filter_map(|form| if let Verdict::Passes(path) = &form.verdict { Some((form, path)) } else { None })
        .collect();
    for (form, forwarded) in &passing {
        let path = forwarded.split('?').next().unwrap();
        for reading in readings(path) {
            assert!(
                reading != "/admin" && !reading.starts_with("/admin/"),
                "{}: {forwarded} reads as {reading}",
                form.place
            );
        }
    }
    let mut ran = Vec::new();
    for server in Server::ALL {
        let root = Path::new(ROOT);
        let (apps, venv) = (root.join("tests/backends"), root.join(".tools/venv"));
        let Some(backend) = Backend::start(server, &apps, &venv, &root.join("target/debian/apache")) else {
            eprintln!("SKIPPED: {server:?} is absent");
            continue;
        };
        let gateway = gateway(backend.address());
        for (form, _) in &passing {
            let response = ask(&gateway, &form.target);
            let admin = response.header("x-admin");
            // A server may refuse what it cannot read; it must not serve what is protected.
            assert!(
                admin == Some("no") || (admin.is_none() && response.status() >= 400),
                "{server:?}: {}: {admin:?} {}",
                form.place,
                response.status()
            );
        }
        ran.push(format!("{server:?}"));
    }
    suite(
        "path forms behind real servers",
        &format!("{} behind {}: none served what is protected", passing.len(), ran.join(", ")),
    );
}
