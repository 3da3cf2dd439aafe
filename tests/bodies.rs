//! Request bodies on their way through the gateway with the shipped rules: compressed ones, such as are longer than what
//! is inspected, documents that are none, and GraphQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use portcullis_testkit::{Answer, Gateway, Origin, Response, request};
use std::io::Write as _;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules");

const ATTACK: &str = r#"{"comment":"x' union select password from users -- "}"#;
const GOOD: &str = r#"{"comment":"a union of workers selects its speaker from among them"}"#;
/// `ATTACK` as Google's brotli has it.
const ATTACK_BR: &[u8] = include_bytes!("data/attack.br");
/// `ATTACK` as Facebook's zstd has it.
const ATTACK_ZSTD: &[u8] = include_bytes!("data/attack.zst");

fn gateway(origin: &Origin) -> Gateway {
    let upstream = origin.address();
    Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            admin.listen = "{admin}"
            firewall.rules = ["{RULES}/*.conf"]
            [[listener]]
            name = "public"
            address = "{public}"
            [upstream.origin]
            endpoints = [{{ address = "{upstream}" }}]
            [[route]]
            name = "all"
            match = {{ path = "/all" }}
            upstream = "origin"
            [[route]]
            name = "plain"
            match = {{ path = "/plain" }}
            upstream = "origin"
            body.content_encodings = []
            [[route]]
            name = "prefix"
            match = {{ path = "/prefix" }}
            upstream = "origin"
            body = {{ limit = "4KiB", over = "inspect_prefix" }}
            [[route]]
            name = "graphql"
            match = {{ path = "/graphql" }}
            upstream = "origin"
            firewall.parsers = ["graphql", "json"]
            "#,
            admin = ports.admin,
            public = ports.public,
        )
    })
}

fn hello() -> Origin {
    Origin::answering(Answer::ok("hello"))
}

fn post(
    gateway: &Gateway,
    path: &str,
    media_type: &str,
    fields: &[&str],
    body: impl AsRef<[u8]>,
) -> Response {
    let content_type = format!("Content-Type: {media_type}");
    let agent = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    let fields: Vec<&str> =
        [agent, "Accept: */*", &content_type].into_iter().chain(fields.iter().copied()).collect();
    request(gateway.public(), &format!("POST {path}"), &fields, body)
}

const JSON: &str = "application/json";

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_inside_of_compressed_bodies_is_inspected() {
    let origin = hello();
    let gateway = gateway(&origin);
    let attack = ATTACK.as_bytes();
    for (coding, body) in [
        ("gzip", gzip(attack)),
        ("x-gzip", gzip(attack)),
        ("deflate", deflate(attack)),
        ("br", ATTACK_BR.to_vec()),
        ("zstd", ATTACK_ZSTD.to_vec()),
    ] {
        let field = format!("Content-Encoding: {coding}");
        assert_eq!(post(&gateway, "/all", JSON, &[&field], body).status(), 403, "{coding}");
    }
    assert_eq!(origin.count(), 0);
    // What passes does so as it came.
    let body = gzip(GOOD.as_bytes());
    assert_eq!(post(&gateway, "/all", JSON, &["Content-Encoding: gzip"], &body).status(), 200);
    let received = &origin.requests()[0];
    assert_eq!(
        (received.header("content-encoding"), received.body.as_slice()),
        (Some("gzip"), body.as_slice())
    );
    // The contract sees the inside as well.
    let twice = gzip(br#"{"a":1,"a":2}"#);
    let refused = post(&gateway, "/all", JSON, &["Content-Encoding: gzip"], twice);
    assert_eq!((refused.status(), refused.json()["code"].as_str()), (400, Some("contract")));
}

#[test]
fn i1_what_cannot_be_taken_off_is_refused() {
    let origin = hello();
    let gateway = gateway(&origin);
    let good = gzip(GOOD.as_bytes());
    let bomb = gzip(&vec![b' '; 100 << 20]);
    assert!(bomb.len() < 200_000);
    for (name, path, fields, body, status) in [
        ("a bomb", "/all", &["Content-Encoding: gzip"][..], bomb.clone(), 413),
        ("within a bomb, a bomb", "/all", &["Content-Encoding: gzip"], gzip(&bomb), 413),
        ("beneath the coding, another", "/all", &["Content-Encoding: gzip"], gzip(&good), 400),
        // Its first 4 KiB are inspected, and how far the rest expands nobody asks.
        ("a bomb where a prefix is inspected", "/prefix", &["Content-Encoding: gzip"], bomb, 200),
        ("not coded", "/all", &["Content-Encoding: gzip"], GOOD.as_bytes().to_vec(), 400),
        ("cut off", "/all", &["Content-Encoding: gzip"], good[..good.len() - 9].to_vec(), 400),
        ("junk behind", "/all", &["Content-Encoding: gzip"], [good.clone(), b"junk".to_vec()].concat(), 400),
        ("another coding", "/all", &["Content-Encoding: deflate"], good.clone(), 400),
        ("unknown", "/all", &["Content-Encoding: compress"], good.clone(), 415),
        ("two", "/all", &["Content-Encoding: gzip, gzip"], gzip(&good), 415),
        ("two fields", "/all", &["Content-Encoding: gzip", "Content-Encoding: gzip"], gzip(&good), 415),
        ("identity", "/all", &["Content-Encoding: identity"], GOOD.as_bytes().to_vec(), 200),
        ("not taken here", "/plain", &["Content-Encoding: gzip"], good, 415),
    ] {
        let response = post(&gateway, path, JSON, fields, body);
        assert_eq!(response.status(), status, "{name}: {}", response.text());
        if status == 415 {
            let accept = if path == "/plain" { "identity" } else { "gzip, deflate, br, zstd" };
            assert_eq!(response.header("accept-encoding"), Some(accept), "{name}");
        }
    }
    assert_eq!(origin.count(), 2);
    for reason in ["coding", "content_coding"] {
        let line = gateway.wait_for_line(|line| line.contains(&format!(r#""reason":"{reason}""#)));
        assert!(line.contains(r#""stage":"contract""#), "{line}");
    }
}

/// A document that is none is the client's mistake; an attack in it is one all the same.
#[test]
fn broken_documents() {
    let origin = hello();
    let gateway = gateway(&origin);
    for (name, media_type, body, status) in [
        ("good", JSON, GOOD, 200),
        ("cut off", JSON, r#"{"a":"b""#, 400),
        ("no JSON", JSON, "hello", 400),
        ("an attack in what is cut off", JSON, &ATTACK[..ATTACK.len() - 1], 403),
        ("an attack", JSON, ATTACK, 403),
        (
            "multipart without its end",
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nv",
            400,
        ),
        (
            "a document type",
            "text/xml",
            r#"<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>"#,
            403,
        ),
        ("XML", "text/xml", "<r>x</r>", 200),
    ] {
        assert_eq!(post(&gateway, "/all", media_type, &[], body).status(), status, "{name}");
    }
}

/// Of a body that is longer than what is inspected, the beginning is, and the log says so.
#[test]
fn long_bodies_are_inspected_in_part() {
    let origin = hello();
    let gateway = gateway(&origin);
    let long =
        |first: &str, last: &str| format!(r#"{{"a":"{first}","b":"{}","c":"{last}"}}"#, "text ".repeat(2000));
    let evil = "x' union select password from users -- ";
    let gzipped = ["Content-Encoding: gzip"];
    assert_eq!(post(&gateway, "/prefix", JSON, &[], long("x", "y")).status(), 200);
    let line = gateway.wait_for_line(|line| line.contains(r#""route":"prefix""#));
    assert!(line.contains(r#""notes":["only the beginning of the request body was inspected"]"#), "{line}");
    assert_eq!(post(&gateway, "/prefix", JSON, &[], long(evil, "y")).status(), 403);
    assert_eq!(post(&gateway, "/prefix", JSON, &[], long("x", evil)).status(), 200, "that is what it says");
    assert_eq!(post(&gateway, "/prefix", JSON, &gzipped, gzip(long("x", "y").as_bytes())).status(), 200);
    assert_eq!(post(&gateway, "/prefix", JSON, &gzipped, gzip(long(evil, "y").as_bytes())).status(), 403);
    // Long as compressed as well: noise in hexadecimal.
    let noise: String = (0..20_000_u32).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    let body = gzip(format!(r#"{{"a":"{evil}","b":"{noise}"}}"#).as_bytes());
    assert!(body.len() > 8 << 10);
    assert_eq!(post(&gateway, "/prefix", JSON, &gzipped, body).status(), 403);
    let body = gzip(format!(r#"{{"a":"x","b":"{noise}"}}"#).as_bytes());
    assert_eq!(post(&gateway, "/prefix", JSON, &gzipped, &body).status(), 200);
    assert_eq!(origin.requests().last().unwrap().body, body);
}

#[test]
fn graphql() {
    let origin = hello();
    let gateway = gateway(&origin);
    let query = |text: &str| {
        let document = format!("mutation Add($id: ID!) {{ add(to: $id, text: {text:?}) {{ id }} }}");
        serde_json::json!({ "query": document, "variables": { "id": "P-1029" } }).to_string()
    };
    assert_eq!(post(&gateway, "/graphql", JSON, &[], query("two shirts, please")).status(), 200);
    assert_eq!(
        post(&gateway, "/graphql", JSON, &[], query("x' union select password from users -- ")).status(),
        403
    );
    let line = gateway.wait_for_line(|line| line.contains(r#""status":403"#));
    assert!(line.contains("ARGS:json.query.graphql.add.text"), "{line}");
    let nested = serde_json::json!({ "data": ATTACK }).to_string();
    assert_eq!(post(&gateway, "/graphql", JSON, &[], nested).status(), 403);
    let line = gateway.wait_for_line(|line| line.contains("ARGS:json.data.json.comment"));
    assert!(line.contains(r#""status":403"#), "{line}");
}
