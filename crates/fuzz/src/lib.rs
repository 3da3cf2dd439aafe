//! What must hold of every parser and decoder of the gateway, whatever bytes it is given.
//!
//! Each function of [`TARGETS`] takes any bytes, hands them to one parser and asserts what must be true of the outcome:
//! that pieces do not matter, that what was accepted reads the same when it is written and read again, that a second
//! reader (httparse, hyper, serde_json, a plain regular expression) reads what we read. A violation panics.
//!
//! `fuzz_targets/` are their binaries for libFuzzer, built with the feature `libfuzzer`; the test `kept_inputs` runs
//! them on the kept corpora without one, so that what a fuzzer once found stays found. How to run one:
//! `crates/ARCHITECTURE.md`, "Fuzzing".
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is test code: what does not hold here must panic, so that the fuzzer sees it"
)]

pub mod config;
pub mod contract;
pub mod ftw;
pub mod http;
pub mod identity;
pub mod limits;
mod proxy;
pub mod seclang;
pub mod seeds;
pub mod telemetry;
pub mod upstream;
pub mod waf;
pub mod wire;

/// One fuzz target: its name, which is also its binary's and its corpus folder's, and what it checks.
pub type Target = (&'static str, fn(&[u8]));

/// Every fuzz target.
pub const TARGETS: &[Target] = &[
    ("config_pem", config::pem),
    ("config_toml", config::toml),
    ("contract_inflate", contract::inflate),
    ("contract_json", contract::json),
    ("contract_leak", contract::leak),
    ("contract_media", contract::media),
    ("ftw_yaml", ftw::yaml),
    ("http_cookie", http::cookies),
    ("http_forwarding", http::forwarding),
    ("http_host", http::host),
    ("http_hygiene", http::hygiene),
    ("http_target", http::target),
    ("http_template", http::template),
    ("identity_keys", identity::keys),
    ("identity_token", identity::token),
    ("limits_address", limits::address),
    ("seclang_parse", seclang::parse),
    ("telemetry_access", telemetry::access),
    ("telemetry_redact", telemetry::redact),
    ("upstream_endpoints", upstream::endpoints),
    ("waf_body", waf::body),
    ("waf_compile", waf::compile),
    ("waf_crs", waf::crs),
    ("waf_exclusion", waf::exclusion),
    ("waf_libinjection", waf::libinjection),
    ("waf_operator", waf::operator),
    ("waf_prefilter", waf::prefilter),
    ("waf_regex", waf::regex),
    ("waf_transform", waf::transform),
    ("wire_chunked", wire::chunked),
    ("wire_framing", wire::framing),
    ("wire_proxy", wire::proxy),
    ("wire_request", wire::request),
    ("wire_response", wire::response),
];

/// Cuts bytes into pieces; differently for each input and `round`, the same way for the same ones.
pub(crate) fn pieces(data: &[u8], round: u64) -> Vec<&[u8]> {
    let seed = data.iter().fold(0xcbf2_9ce4_8422_2325 ^ round, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut random = fastrand::Rng::with_seed(seed);
    let longest = match round {
        0 => 1,
        _ => 1 << random.usize(1..8),
    };
    let (mut rest, mut pieces) = (data, Vec::new());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.usize(1..=longest).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The input's first line, and what follows it.
pub(crate) fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}
