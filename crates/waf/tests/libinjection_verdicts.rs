//! The verdicts of the reference on 99,740 payloads, fingerprints included.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::io::Read;
use std::path::Path;
use std::time::Instant;

use portcullis_testkit::{absent, suite};
use portcullis_waf::libinjection::{sqli, xss};
use proptest::prelude::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/libinjection/verdicts.txt.xz");

/// Payloads where this engine answers otherwise: only where the reference reads past the end of its input or takes the
/// byte there for a part of it.
const DOCUMENTED: &[(&str, &str)] = &[];

struct Recorded {
    hex: String,
    payload: Vec<u8>,
    /// The fingerprint, if it is an injection.
    sqli: Option<String>,
    xss: bool,
}

fn recorded() -> Option<Vec<Recorded>> {
    let path = Path::new(FILE);
    if absent(path) {
        return None;
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    lzma_rust2::XzReader::new(std::io::BufReader::new(file), true).read_to_string(&mut text).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Some(lines.map(parse).collect())
}

fn parse(line: &str) -> Recorded {
    let fields: Vec<&str> = line.split(' ').collect();
    let [hex, sqli, fingerprint, xss] = fields[..] else { panic!("not four fields: {line}") };
    let digits = hex.as_bytes().chunks(2);
    let payload = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    Recorded {
        hex: hex.to_owned(),
        payload: payload.collect(),
        sqli: (sqli == "1").then(|| fingerprint.to_owned()),
        xss: xss == "1",
    }
}

#[test]
fn verdicts() {
    let Some(all) = recorded() else { return };
    let (mut documented, mut differences) = (0, Vec::new());
    for case in &all {
        let found = (sqli(&case.payload).map(|fingerprint| fingerprint.to_string()), xss(&case.payload));
        if found == (case.sqli.clone(), case.xss) {
            continue;
        }
        if DOCUMENTED.iter().any(|(hex, _)| *hex == case.hex) {
            documented += 1;
        } else {
            let payload = String::from_utf8_lossy(&case.payload);
            differences.push(format!(
                "{payload:?}: expected {:?} {}, got {:?} {} ({})",
                case.sqli, case.xss, found.0, found.1, case.hex
            ));
        }
    }
    let agreed = all.len() - documented - differences.len();
    let counts = format!("{agreed} of {} agree, {documented} differ as documented", all.len());
    suite("libinjection verdicts", &counts);
    let shown = &differences[..differences.len().min(40)];
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), shown.join("\n"));
    assert!(all.len() >= 99_740, "only {} verdicts", all.len());
}

/// Prints what a payload of the recorded ones costs: `cargo test --release -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement, not a test"]
fn cost() {
    let Some(all) = recorded() else { return };
    let measure = |name: &str, detect: &dyn Fn(&[u8]) -> bool| {
        // The best of several rounds: other programs only ever make it slower.
        let rounds = (0..7).map(|_| {
            let start = Instant::now();
            let found = all.iter().filter(|case| detect(&case.payload)).count();
            (start.elapsed().as_nanos() / all.len() as u128, found)
        });
        let (ns, found) = rounds.min().unwrap();
        eprintln!("libinjection cost: {name} {ns} ns a payload, {found} of {} found", all.len());
    };
    measure("sqli", &|payload| sqli(payload).is_some());
    measure("xss", &xss);
}

/// Prints how the cost grows from 32 to 64 KiB of what is hardest to read: about 2 if it is linear.
#[test]
#[ignore = "a measurement, not a test"]
fn growth() {
    let best = |detect: &dyn Fn(), rounds: u32| {
        let round = |_| {
            let start = Instant::now();
            detect();
            start.elapsed().as_nanos()
        };
        (0..rounds).map(round).min().unwrap()
    };
    for (start, repeated) in [
        ("", "1+"),
        ("", "''"),
        ("", "'\\"),
        ("", "<%a%>"),
        ("", "("),
        ("", "$a"),
        ("", "$a "),
        ("", "x'0"),
        ("", "'q' "),
        ("", "<"),
        ("", "</>"),
        ("", "1/**/"),
        ("", "in("),
        ("", "user( "),
        ("", "{a "),
        ("", "a."),
        ("", "`"),
        ("", "&#x20;"),
        ("<a ", "/"),
        ("<!--", "-\0\0"),
        ("<a href=", "&#x20;"),
        ("<a ", "on=a "),
        ("<a ", "b=' "),
        ("<![CDATA[", "]"),
    ] {
        let input =
            |size: usize| start.bytes().chain(repeated.bytes().cycle()).take(size).collect::<Vec<u8>>();
        let (half, full) = (input(32 << 10), input(64 << 10));
        let cost = |input: &[u8]| {
            best(
                &|| {
                    std::hint::black_box(sqli(std::hint::black_box(input)));
                },
                9,
            ) + best(
                &|| {
                    std::hint::black_box(xss(std::hint::black_box(input)));
                },
                9,
            )
        };
        let (half, full) = (cost(&half), cost(&full));
        let growth = full as f64 / half as f64;
        eprintln!(
            "libinjection growth: {start:?} {repeated:?} {:.2} ns a byte, x {growth:.2}",
            full as f64 / 65536.0
        );
    }
}

/// Bytes that mean something to one of the detectors, more often than others.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = vec![
        b"'",
        b"\"",
        b"`",
        b"\\",
        b"--",
        b"#",
        b"/*",
        b"*/",
        b"/*!",
        b"$",
        b"$$",
        b"@",
        b"@@",
        b"0x",
        b"1.e",
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b")",
        b",",
        b";",
        b"q'[",
        b"u&'",
        b"in",
        b"like",
        b"union",
        b"all",
        b"select",
        b"user",
        b"collate",
        b"::",
        b"\0",
        b"\xa0",
        b"\xff",
        b"<",
        b"</",
        b"<!--",
        b"-->",
        b"<![CDATA[",
        b"]]>",
        b"<%",
        b"%>",
        b"<!doctype",
        b">",
        b"/",
        b"=",
        b"&#x",
        b"&#",
        b"on",
        b"href",
        b"java",
        b" ",
        b"a",
        b"1",
    ];
    let piece = prop_oneof![
        4 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_panics(input in soup()) {
        if let Some(fingerprint) = sqli(&input) {
            prop_assert!((1..=5).contains(&fingerprint.as_str().len()));
        }
        xss(&input);
    }
}
