//! Leak masking: published test numbers, near misses, every kind in the forms it travels in, any split.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_contract::{Kind, Kinds, LeakGuard, LeakMode, Leaked, MAX_HELD, Masker};
use portcullis_http::{Rejection, ResponseHead};
use proptest::prelude::*;
use std::sync::LazyLock;

static ALL: LazyLock<LeakGuard> = LazyLock::new(|| LeakGuard::new(Kinds::ALL, LeakMode::Mask).unwrap());

static EACH: LazyLock<Vec<LeakGuard>> = LazyLock::new(|| {
    Kind::ALL.map(|kind| LeakGuard::new([kind].into_iter().collect(), LeakMode::Mask).unwrap()).into()
});

/// The body after masking, and what was found.
fn mask(text: &str) -> (String, Vec<Kind>) {
    let mut masker = ALL.masker();
    let mut out = Vec::new();
    masker.push(text.as_bytes(), &mut out).unwrap();
    masker.finish(&mut out).unwrap();
    assert_eq!(out.len(), text.len(), "{text}");
    (String::from_utf8(out).unwrap(), masker.found().iter().collect())
}

fn untouched(text: &str) {
    let (out, found) = mask(text);
    assert_eq!((out.as_str(), found.len()), (text, 0));
}

fn gone(kind: Kind, text: &str, secret: &str) {
    for (before, after) in
        [("", ""), ("{\"a\":\"", "\"}"), ("see ", ", then"), ("<b>", "</b>"), ("a\n", "\nb")]
    {
        let whole = format!("{before}{text}{after}");
        let (out, found) = mask(&whole);
        assert!(found.contains(&kind), "{whole} gave {found:?}");
        assert!(!out.contains(secret), "{whole} gave {out}");
        assert!(out.starts_with(before) && out.ends_with(after), "{whole} gave {out}");
    }
}

/// Test numbers that Stripe, PayPal, Adyen, Braintree and Worldpay publish.
const CARDS: [&str; 38] = [
    "4242424242424242",
    "4000056655665556",
    "4111111111111111",
    "4012888888881881",
    "4222222222222",
    "4917610000000000",
    "4462030000000000",
    "5555555555554444",
    "5105105105105100",
    "5200828282828210",
    "2223003122003222",
    "2223000048400011",
    "2720990000000007",
    "378282246310005",
    "371449635398431",
    "378734493671000",
    "6011111111111117",
    "6011000990139424",
    "6011981111111113",
    "3056930009020004",
    "36227206271667",
    "30569309025904",
    "38520000023237",
    "36006666333344",
    "6555900000604105",
    "3566002020360505",
    "3530111333300000",
    "6200000000000005",
    "6200000000000047",
    "6205500000000000004",
    "6759649826438453",
    "6771798021000008",
    "5000550000000029",
    "6304000000000000",
    "5019717010103742",
    "2200000000000053",
    "6771830000000000006",
    "4000000000000000006",
];

#[test]
fn published_card_numbers() {
    for card in CARDS {
        let shown = &card[card.len() - 4..];
        let (out, found) = mask(&format!("{{\"pan\":\"{card}\"}}"));
        assert_eq!(found, [Kind::PaymentCard], "{card}");
        assert_eq!(out, format!("{{\"pan\":\"{}{shown}\"}}", "*".repeat(card.len() - 4)));
        gone(Kind::PaymentCard, card, &card[..card.len() - 4]);
        for separator in [" ", "-"] {
            let parts: Vec<&str> = match card.len() {
                15 => vec![&card[..4], &card[4..10], &card[10..]],
                14 => vec![&card[..4], &card[4..10], &card[10..]],
                n => (0..n).step_by(4).map(|at| &card[at..n.min(at + 4)]).collect(),
            };
            gone(Kind::PaymentCard, &parts.join(separator), &parts[..3].join(separator));
        }
    }
    assert_eq!(mask("3782 822463 10005").0, "**** ****** *0005");
    assert_eq!(mask("4222 2222 2222 2").0, "**** **** *222 2");
    assert_eq!(mask(r"a\n4242424242424242\u003c").0, r"a\n************4242\u003c");
    assert_eq!(mask(r"\u003e4242424242424242").0, r"\u003e************4242");
    assert_eq!(mask("[4242424242424242,1,4242424242424242]").0, "[************4242,1,************4242]");
    assert_eq!(mask("order 2024 4242 4242 4242 4242 ok").0, "order 2024 **** **** **** 4242 ok");
}

#[test]
fn what_only_looks_like_a_card_number() {
    for near in [
        "4242424242424241",
        "4111111111111112",
        "378282246310006",
        // Longer runs, parts of words, decimals, hyphenated numbers, telephone numbers.
        "42424242424242424242",
        "14242424242424242",
        "4242424242424242a",
        "x4242424242424242",
        "_4242424242424242",
        "0.4242424242424242",
        "4242424242424242.5",
        "1-4242424242424242",
        "4242424242424242-1",
        "+4242424242424242",
        // Issued by nobody, though Luhn agrees.
        "0000000000000000",
        "1234567812345670",
        "9999999999999995",
        "7992739871300000",
        // Identifiers and times.
        "550e8400-e29b-41d4-a716-446655440000",
        "42424242-4242-4242-4242-424242424242",
        "123e4567-e89b-4242-4242-424242424242",
        "2026-11-22T06:12:00.4242424242424242Z",
        "1700000000000",
        "1700000000000000",
        "1700000000000000000",
        "978-3-16-148410-0",
        "9783161484100",
        "979-10-90636-07-1",
        "192.0.2.1 203.0.113.7",
        "4242 4242\n4242 4242",
        "4242  4242  4242  4242",
        "4242-4242 4242-4242",
        "42 42 42 42 42 42 42 42",
        "424 242 424 242 424 2",
        "DE89370400440532013000",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "4242.4242.4242.4242",
    ] {
        untouched(near);
        untouched(&format!("{{\"id\":\"{near}\",\"n\":3}}"));
    }
}

#[test]
fn secrets() {
    // Put together here, so that nothing that scans this file takes them for real.
    let pem = format!(
        "-----BEGIN {0}PRIVATE KEY-----\nMIIEvQIBADANBg+/kqhk\nG9w0BA==\n-----END {0}PRIVATE KEY-----",
        "RSA "
    );
    gone(Kind::Secret, &pem.replace('\n', "\\n"), "kqhk");
    gone(Kind::Secret, &pem, "G9w0BA");
    let (out, _) = mask(&format!("a\n{pem}\nb"));
    assert_eq!(out.lines().count(), 6);
    assert!(out.ends_with("*\nb"), "{out}");
    let cut = mask("{\"key\":\"-----BEGIN EC PRIVATE KEY-----\\nAAAA\",\"next\":1}").0;
    assert!(cut.ends_with("\",\"next\":1}"), "{cut}");
    let escaped = mask(r#""-----BEGIN PRIVATE KEY-----\nAAAA\"",1"#).0;
    assert!(escaped.ends_with(r#"\"",1"#), "{escaped}");
    untouched("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----");
    untouched("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----");

    let long = "aB3".repeat(20);
    for (prefix, length) in [
        ("ghp_", 36),
        ("gho_", 36),
        ("ghs_", 36),
        ("github_pat_", 59),
        ("xoxb-", 24),
        ("xoxp-", 40),
        ("AIza", 35),
        ("sk_live_", 24),
        ("rk_live_", 24),
        ("npm_", 36),
        ("glpat-", 20),
        ("GOCSPX-", 28),
        ("sk-ant-", 40),
    ] {
        let token = format!("{prefix}{}", &long[..length]);
        gone(Kind::Secret, &token, &long[..6]);
        assert_eq!(mask(&token).0, "*".repeat(token.len()));
        untouched(&format!("{prefix}{}", &long[..4]));
        untouched(&format!("a{token}"));
    }
    gone(Kind::Secret, "AKIAIOSFODNN7EXAMPLE", "IOSF");
    untouched("AKIAIOSFODNN7EXAMPLES");
    untouched("AKIAiosfodnn7EXAMPLE");
    let aws = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    gone(Kind::Secret, &format!("aws_secret_access_key = {aws}"), "wJalr");
    let json = mask(&format!("{{\"SecretAccessKey\": \"{aws}\"}}")).0;
    assert_eq!(json, format!("{{\"SecretAccessKey\": \"{}\"}}", "*".repeat(40)));
    gone(
        Kind::WebToken,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
        "dozj",
    );
    untouched("eyJhbGciOiJIUzI1NiJ9 and no more");
}

#[test]
fn internal_addresses() {
    for address in [
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.254",
        "192.168.1.1",
        "169.254.169.254",
        "fe80::1",
        "fd00::1",
        "fd12:3456:789a:1::1",
        "FE80::ABCD",
        "fc00:1:2:3:4:5:6:7",
        "db.internal",
        "ip-10-0-0-5.eu-west-1.compute.internal",
        "printer.local",
        "api.shop.svc.cluster.local",
        "my_host.local",
    ] {
        gone(Kind::InternalAddress, address, address);
        assert_eq!(mask(address).0, "*".repeat(address.len()));
    }
    assert_eq!(mask("http://db.internal:5432/x").0, "http://***********:5432/x");
    assert_eq!(mask("10.0.0.1:8080, 10.0.0.2.").0, "********:8080, ********.");
    assert_eq!(mask(r"\n10.0.0.1\n").0, r"\n********\n");
    for near in [
        "10.0.0",
        "10.0.0.256",
        "110.0.0.1",
        "1.10.0.0.1",
        "10.0.0.1.5",
        "10.0.0.10000",
        "172.15.0.1",
        "172.32.0.1",
        "192.169.1.1",
        "169.253.1.1",
        "8.8.8.8",
        "version 10.0.19041.1",
        "10.5",
        "fd",
        "fc:fb:fa",
        "fdab:cd",
        "2001:db8::1",
        "internal",
        "this.local",
        "x.internal(1)",
        "a.internal=2",
        "a.local.example.com",
        "a.internals",
        "a.localhost",
        ".local",
        "a.local-b",
    ] {
        untouched(near);
    }
}

#[test]
fn stack_traces() {
    let java = "java.lang.NullPointerException: x\n\tat com.acme.shop.Cart.add(Cart.java:42)\n\tat sun.reflect.NativeMethodAccessorImpl.invoke0(Native Method)\n\t... 5 more";
    let (out, found) = mask(java);
    assert_eq!(found, [Kind::StackTrace]);
    assert!(
        !out.contains("Cart") && !out.contains("Native Method") && out.contains("\n\t... 5 more"),
        "{out}"
    );
    for (frame, part) in [
        (r"\n\tat com.acme.Cart.add(Cart.java:42)", "acme"),
        ("    at Object.<anonymous> (/srv/app/index.js:10:15)", "/srv"),
        ("    at async handler (file:///srv/app/index.mjs:10:15)", "/srv"),
        ("    at /srv/app/index.js:10:15", "/srv"),
        ("    at node:internal/main/run_main_module:28:49", "run_main"),
        ("   at Acme.Shop.Cart.Add(String item) in /src/Cart.cs:line 42", "Cart.cs"),
        ("   at System.Web.Http.Controller.Invoke(Object o)", "Controller"),
        ("Traceback (most recent call last)", "Traceback"),
        ("File \\\"/srv/app/main.py\\\", line 12, in handler", "main.py"),
        ("goroutine 1 [running]:", "goroutine"),
        ("\t/srv/app/main.go:12 +0x1d", "main.go"),
        ("#0 /var/www/html/index.php(12): foo()", "/var/www"),
        (r"#3 \/var\/www\/html\/index.php(12): foo()", "www"),
        ("PHP Fatal error:  Uncaught TypeError: x", "Uncaught"),
        ("Warning: y in /var/www/html/index.php on line 12", "/var/www"),
        ("Warning: y in <b>/var/www/html/index.php</b> on line <b>12</b>", "/var/www"),
        ("thread 'main' panicked at src/main.rs:2:5:", "src/main.rs"),
        ("thread 'tokio-runtime-worker' (1234) panicked at src/lib.rs:2:5:", "src/lib.rs"),
    ] {
        let (out, found) = mask(&format!("x {frame}\n"));
        assert_eq!(found, [Kind::StackTrace], "{frame}");
        assert!(!out.contains(part), "{frame} gave {out}");
    }
    let python = mask("  File \"/srv/app/main.py\", line 12, in handler\n    run()\n").0;
    assert!(!python.contains("/srv"), "{python}");
    for near in [
        "Meet me at the station (main hall) at 10.",
        "look  at this (and that).",
        "  at noon, at home",
        "File \"report.pdf\" was saved",
        "#1 in sales (again)",
        "thread 'x' is long",
        "goroutine is a Go word",
        "panicked at the disco",
        "Fatal error: disk full",
        "it is in /usr/share/doc",
        "{\"File\":\"a\",\"line\":1}",
    ] {
        untouched(near);
    }
}

#[test]
fn json_stays_json() {
    let body = serde_json::json!({
        "pan": "4242 4242 4242 4242", "host": "http://db.internal:5432", "ip": ["10.0.0.1"],
        "trace": "E: x\n\tat a.b.C.d(C.java:1)\nFile \"/a.py\", line 1, in f\n",
        "key": "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n\"quoted\"",
        "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "plain": "é ✓",
    });
    for text in [body.to_string(), serde_json::to_string_pretty(&body).unwrap()] {
        let (out, found) = mask(&text);
        let read: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
        assert_eq!(read["plain"], "é ✓");
        assert_eq!(read["pan"], "**** **** **** 4242");
        assert!(read["key"].as_str().unwrap().ends_with("\"quoted\""), "{out}");
        assert_eq!(found.len(), 4);
    }
}

#[test]
fn block_mode_gives_out_nothing_of_the_leak() {
    let guard = LeakGuard::new([Kind::PaymentCard].into_iter().collect(), LeakMode::Block).unwrap();
    let mut masker = guard.masker();
    let mut out = Vec::new();
    masker.push(b"hello 4242424242", &mut out).unwrap();
    assert_eq!(out, b"hello ");
    assert_eq!(masker.push(b"424242 bye", &mut out), Err(Leaked(Kind::PaymentCard)));
    assert_eq!(masker.push(b"more", &mut out), Err(Leaked(Kind::PaymentCard)));
    assert_eq!(masker.finish(&mut out), Err(Leaked(Kind::PaymentCard)));
    assert_eq!((out.as_slice(), masker.held()), (&b"hello "[..], 0));
    assert_eq!(Rejection::from(Leaked(Kind::PaymentCard)), Rejection::Leak);
    let mut other = guard.masker();
    other.push(b"AKIAIOSFODNN7EXAMPLE at 10.0.0.1\n", &mut out).unwrap();
    assert!(other.found().is_empty(), "only the kinds asked for");
}

#[test]
fn events_are_not_held() {
    let mut masker = ALL.masker();
    for event in
        ["data: {\"n\": 1}\n\n", ": keep-alive\n\n", "data: word\r\n\r\n", "id: 4242\ndata: 10.1\n\n", "a\n"]
    {
        let mut out = Vec::new();
        masker.push(event.as_bytes(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), event);
    }
}

#[test]
fn which_responses_are_looked_at() {
    let head = |fields: &[(&str, &str)]| {
        let mut head = ResponseHead::new(200);
        fields.iter().for_each(|(name, value)| head.fields.append(name, value).unwrap());
        head
    };
    for text in [
        "text/html; charset=utf-8",
        "application/json",
        "application/problem+json",
        "image/svg+xml",
        "application/javascript",
        "text/event-stream",
        "application/x-ndjson",
        "nonsense",
    ] {
        assert!(ALL.inspect(&mut head(&[("Content-Type", text)])).unwrap().is_some(), "{text}");
    }
    for other in ["image/png", "application/octet-stream", "application/grpc", "video/mp4", "application/zip"]
    {
        assert!(ALL.inspect(&mut head(&[("Content-Type", other)])).unwrap().is_none(), "{other}");
    }
    assert!(ALL.inspect(&mut head(&[])).unwrap().is_some());
    let coded = &mut head(&[("Content-Type", "text/html"), ("Content-Encoding", "br")]);
    assert_eq!(ALL.inspect(coded).unwrap_err(), Rejection::Leak);
    let coded = &mut head(&[("Content-Type", "image/png"), ("Content-Encoding", "br")]);
    assert!(ALL.inspect(coded).unwrap().is_none());
    let digest = &mut head(&[("Content-Digest", "sha-256=:x:"), ("Content-Length", "5")]);
    ALL.inspect(digest).unwrap();
    assert!(!digest.fields.contains("content-digest") && digest.fields.contains("content-length"));
}

/// Not a test of speed (the machine may be busy) but its measure:
/// `cargo test --release -p portcullis-contract --test leak -- --ignored --nocapture`.
#[test]
#[ignore = "prints a measurement"]
fn throughput() {
    let prose = "The quick brown fox jumps over the lazy dog at the far end of a wide field. ".repeat(900);
    let record = |i: u32| {
        format!(
            "{{\"id\":{i},\"title\":\"Film {i}\",\"price\":{}.99,\"uuid\":\"{:08x}-e29b-41d4-a716-4466554{:05}\",\
             \"at\":\"2026-11-22T06:12:{:02}Z\",\"tags\":[\"drama\",\"new\"],\"url\":\"https://example.com/t/{i}\"}},",
            i % 40,
            i.wrapping_mul(2_654_435_761),
            i % 100_000,
            i % 60
        )
    };
    let json: String = (0..400).map(record).collect();
    let leaky: String = (0..400).map(|i| record(i) + "\"4242424242424242 10.0.0.1\",").collect();
    for (name, text) in [("prose", prose), ("json", json), ("leaky json", leaky)] {
        let chunk = &text.as_bytes()[..65_536.min(text.len())];
        let (rounds, started) = (2_000, std::time::Instant::now());
        let mut out = Vec::with_capacity(chunk.len() * 2);
        let mut masker = ALL.masker();
        for _ in 0..rounds {
            out.clear();
            masker.push(chunk, &mut out).unwrap();
        }
        let rate = (chunk.len() * rounds) as f64 / started.elapsed().as_secs_f64() / 1e6;
        println!("{name}: {rate:.0} MB/s, {:.1} us for 64 KiB", 65_536.0 / rate);
    }
    let shape = portcullis_contract::JsonShape { max_elements: 1 << 20, ..Default::default() };
    let array = format!("[{}0]", (0..400).map(record).collect::<String>());
    let started = std::time::Instant::now();
    (0..2_000).for_each(|_| shape.check(array.as_bytes()).unwrap());
    println!("JSON shape: {:.0} MB/s", (array.len() * 2_000) as f64 / started.elapsed().as_secs_f64() / 1e6);
}

fn in_pieces(text: &[u8], cuts: &[usize]) -> (Vec<u8>, Kinds) {
    let copied = pieces(text, cuts, |masker, piece, out| masker.push(piece, out).unwrap());
    // What passes as it is, is what would have been copied.
    let passed = pieces(text, cuts, |masker, piece, out| match masker.pass(piece) {
        Some(count) => out.extend_from_slice(&piece[..count]),
        None => masker.push(piece, out).unwrap(),
    });
    assert_eq!(copied, passed);
    copied
}

fn pieces(
    text: &[u8],
    cuts: &[usize],
    mut give: impl FnMut(&mut Masker, &[u8], &mut Vec<u8>),
) -> (Vec<u8>, Kinds) {
    let mut masker = ALL.masker();
    let (mut out, mut from) = (Vec::new(), 0);
    for &cut in cuts {
        let to = cut.clamp(from, text.len());
        give(&mut masker, &text[from..to], &mut out);
        assert!(masker.held() <= MAX_HELD, "holds {}", masker.held());
        from = to;
    }
    give(&mut masker, &text[from..], &mut out);
    masker.finish(&mut out).unwrap();
    (out, masker.found())
}

/// Texts in which leaks, beginnings of leaks and near misses stand side by side.
fn body() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "4242424242424242",
        "4242 4242 4242 4242",
        "4242-4242-4242-4242",
        "378282246310005",
        "42",
        "4242",
        " ",
        "-",
        ".",
        "\n",
        "\\n",
        "\"",
        "\\",
        "a",
        "word",
        "10.0.0.1",
        "10.",
        "192.168.1.1",
        "172.16.0.9",
        "169.254.169.254",
        "fe80::1",
        "fd00::1",
        "fd",
        "f",
        "db.internal",
        ".internal",
        ".local",
        ".loc",
        "svc.cluster.local",
        "a.b.c",
        "-----BEGIN ",
        "-----BEGIN RSA PRIVATE KEY-----",
        "MIIE/+==",
        "-----END RSA PRIVATE KEY-----",
        "-----",
        "AKIA",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_",
        "ghp_aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3",
        "xoxb-123456789012",
        "sk_live_",
        "aaaaaaaaaaaaaaaaaaaa",
        "eyJ",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0",
        ".eyJ",
        "SecretAccessKey",
        ": ",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "\tat ",
        "\\tat ",
        "  at ",
        "a.b.C.d(C.java:12)",
        "(/a/b.js:1:2)",
        "/a/b.js:1:2",
        " in /a/b.php on line 3",
        "in /",
        "Traceback (most recent call last)",
        "Traceback (mo",
        "File \"/a.py\", line 3, in f",
        "goroutine 1 [running]:",
        "thread 'main' panicked at ",
        "src/a.rs:1:2",
        "#0 ",
        "/a/b.php(3)",
        "{",
        "}",
        ":",
        ",",
        "\u{e9}",
        "Fatal error: Uncaught X",
        "\t/a/b.go:3 +0x1f",
        "hooks.slack.com/",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_split_gives_the_same(text in body(), mut cuts in prop::collection::vec(0usize..900, 0..12)) {
        cuts.sort_unstable();
        let (whole, kinds) = in_pieces(text.as_bytes(), &[]);
        prop_assert_eq!(whole.len(), text.len());
        prop_assert_eq!(&in_pieces(text.as_bytes(), &cuts), &(whole, kinds));
    }

    #[test]
    fn byte_by_byte_gives_the_same(text in body()) {
        let every: Vec<usize> = (0..text.len()).collect();
        prop_assert_eq!(in_pieces(text.as_bytes(), &every), in_pieces(text.as_bytes(), &[]));
    }

    #[test]
    fn long_runs_are_split_alike(
        unit in prop::sample::select(vec!["a", "a.", "eyJ", "4242 ", "42", "-", "\\", "fd00:", "10.0.", "\tat a", "AAAA/"]),
        count in 1usize..900,
        tail in prop::sample::select(vec![".internal", "", ".eyJaaaaaaaaaa", "4242", "-----END RSA PRIVATE KEY-----x"]),
        head in prop::sample::select(vec!["", "eyJ", "-----BEGIN RSA PRIVATE KEY-----", " "]),
        step in 1usize..400,
    ) {
        let text = format!("{head}{}{tail} end", unit.repeat(count));
        let cuts: Vec<usize> = (0..text.len()).step_by(step).collect();
        prop_assert_eq!(in_pieces(text.as_bytes(), &cuts), in_pieces(text.as_bytes(), &[]));
    }

    #[test]
    fn each_kind_alone_is_split_alike(text in body(), step in 1usize..60, kind in 0usize..5) {
        let guard = &EACH[kind];
        let run = |step: usize| {
            let (mut masker, mut out) = (guard.masker(), Vec::new());
            text.as_bytes().chunks(step).for_each(|chunk| masker.push(chunk, &mut out).unwrap());
            masker.finish(&mut out).unwrap();
            out
        };
        prop_assert_eq!(run(step), run(text.len().max(1)));
    }

    #[test]
    fn any_bytes_keep_their_length(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
        let (out, _) = in_pieces(&bytes, &[cut]);
        prop_assert_eq!(out.len(), bytes.len());
    }
}
