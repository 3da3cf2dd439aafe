//! Files of endpoints.

use portcullis_upstream::{DocumentFormat, EndpointSettings, parse_endpoints};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A file of endpoints: what it names can be connected to, and reads the same when it is written again, in either form;
/// serde_json counts as many; what is refused is refused at a place.
pub fn endpoints(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for format in [DocumentFormat::Json, DocumentFormat::Toml] {
        match parse_endpoints(text, format) {
            Ok(endpoints) => {
                sound(&endpoints);
                written_is_read(&endpoints);
                if format == DocumentFormat::Json {
                    counted_by_serde(text, endpoints.len());
                }
            }
            Err(error) => {
                assert!((1..=text.matches('\n').count() + 1).contains(&error.line), "{error}");
                assert!(error.column >= 1 && !error.message.is_empty(), "{error}");
            }
        }
    }
}

fn sound(endpoints: &[EndpointSettings]) {
    let distinct: BTreeSet<String> = endpoints.iter().map(EndpointSettings::address).collect();
    assert_eq!(distinct.len(), endpoints.len(), "one stands twice");
    for EndpointSettings { host, port, weight, priority } in endpoints {
        assert!(*port > 0 && *weight > 0 && *weight <= 65_535 && *priority <= 65_535);
        let is_name = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte));
        assert!(host.parse::<IpAddr>().is_ok() || is_name, "{host:?}");
    }
}

fn written_is_read(endpoints: &[EndpointSettings]) {
    let entry = |one: &EndpointSettings| json!({ "address": one.address(), "weight": one.weight, "priority": one.priority });
    let written = json!({ "endpoints": endpoints.iter().map(entry).collect::<Vec<_>>() }).to_string();
    assert_eq!(parse_endpoints(&written, DocumentFormat::Json).as_deref(), Ok(endpoints), "{written}");
    let table = |one: &EndpointSettings| {
        format!(
            "[[endpoints]]\naddress = \"{}\"\nweight = {}\npriority = {}\n",
            one.address(),
            one.weight,
            one.priority
        )
    };
    let mut written: String = endpoints.iter().map(table).collect();
    if endpoints.is_empty() {
        written.push_str("endpoints = []");
    }
    assert_eq!(parse_endpoints(&written, DocumentFormat::Toml).as_deref(), Ok(endpoints), "{written}");
}

fn counted_by_serde(text: &str, count: usize) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value: Value = serde_json::from_str(text).expect("serde_json reads what we read");
    let list = value.get("endpoints").unwrap_or(&value);
    assert_eq!(list.as_array().map(Vec::len), Some(count));
}
