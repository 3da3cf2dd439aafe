//! Real HTTP/2 clients at work: none of what they do is a flood. curl, nghttp and h2load are other people's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Authority, Gateway, Origin, absent, suite};
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

struct Lab {
    gateway: Gateway,
    origin: Origin,
}

fn lab() -> Lab {
    let origin = Origin::start(|request| match request.target() {
        "/large" => Answer::pattern(20_000_000),
        _ => Answer::echo(request),
    });
    let identity = Authority::new().issue(&["localhost", "127.0.0.1"]);
    let upstream = origin.address();
    let builder =
        Gateway::builder(BINARY).file("a.crt", &identity.certificate_pem).file("a.key", &identity.key_pem);
    let limits = "limits = { max_requests_per_connection = 1000000 }";
    let gateway = builder.start(|ports| ports.forwarding(upstream, limits) + &ports.tls_listener(limits));
    Lab { gateway, origin }
}

/// What a program wrote; it must succeed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// Requests that h2load counts as answered well, of all.
fn h2load(arguments: &[&str]) -> (usize, usize) {
    let text = run("h2load", arguments);
    let line = text.lines().find(|line| line.starts_with("requests:")).unwrap_or_else(|| panic!("{text}"));
    let number = |word: &str| -> usize {
        let at = line.split(", ").find(|part| part.contains(word)).unwrap();
        at.split_whitespace().find_map(|word| word.parse().ok()).unwrap()
    };
    let status = text.lines().find(|line| line.starts_with("status codes:")).unwrap();
    assert!(status.contains(" 0 4xx") && status.contains(" 0 5xx"), "{text}");
    (number("succeeded"), number("total"))
}

#[test]
fn many_small_answers_large_ones_and_uploads() {
    if ["/usr/bin/h2load", "/usr/bin/nghttp", "/usr/bin/curl"].into_iter().any(absent) {
        return;
    }
    let Lab { gateway, origin } = lab();
    let (clear, tls) = (format!("http://{}", gateway.public()), format!("https://{}", gateway.tls()));
    let upload = gateway.folder().join("upload");
    std::fs::write(&upload, vec![b'x'; 700]).unwrap();
    let upload = upload.display().to_string();
    // A quarter of it in the quick form.
    let scaled = |count: &'static str| {
        let quick = [("8000", "2000"), ("2000", "500"), ("3000", "750")];
        let is_full = std::env::var_os("PORTCULLIS_FULL").is_some();
        quick.iter().find(|(full, _)| !is_full && *full == count).map_or(count, |(_, quick)| *quick)
    };
    let mut counts = Vec::new();
    for (what, arguments) in [
        ("small answers", vec!["-n", scaled("8000"), "-c", "2", "-m", "100"]),
        ("one after the other", vec!["-n", scaled("2000"), "-c", "1", "-m", "1"]),
        ("small windows", vec!["-n", scaled("2000"), "-c", "2", "-m", "50", "-w", "10", "-W", "12"]),
        ("uploads", vec!["-n", scaled("3000"), "-c", "2", "-m", "50", "-d", &upload]),
    ] {
        for target in [&clear, &tls] {
            let (succeeded, total) = h2load(&[&arguments[..], &[&format!("{target}/x")]].concat());
            assert_eq!(succeeded, total, "{what} from {target}");
        }
        counts.push(format!("{what} {}", arguments[1]));
    }
    // Windows of one kilobyte: a WINDOW_UPDATE for every piece of 20 MB.
    for target in [&clear, &tls] {
        let (succeeded, _) =
            h2load(&["-n", "6", "-c", "1", "-m", "3", "-w", "14", "-W", "14", &format!("{target}/large")]);
        assert_eq!(succeeded, 6, "large answers in small windows from {target}");
        let text =
            run("nghttp", &["-n", "-s", "-m", "4", "-w", "14", "-W", "14", &format!("{target}/large")]);
        assert!(text.contains(" 200 "), "{text}");
        let curl = [
            "-sk",
            "--http2",
            "--http2-prior-knowledge",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{size_download}",
        ];
        let curl =
            if target.starts_with("https") { [&curl[..2], &curl[3..]].concat() } else { curl.to_vec() };
        assert_eq!(run("curl", &[&curl[..], &[&format!("{target}/large")]].concat()), "2 20000000");
    }
    assert!(origin.count() > 7_500);
    suite(
        "http2 clients",
        &format!(
            "h2load, nghttp and curl in clear and over TLS: {}, large answers in windows of 16 KiB: none cut",
            counts.join(", ")
        ),
    );
}
