//! What is written to logs.

use crate::first_line;
use portcullis_http::{RequestId, TraceContext, Version};
use portcullis_telemetry::{
    AccessRecord, FirewallAction, FirewallRecord, MASK, RuleMatch, redact_matched, redact_path, redact_query,
};
use std::time::{Duration, SystemTime};

/// A secret that is in no message of ours.
const SECRET: &str = "Zq7Zq7Zq7";

fn holds_secret(text: &[u8]) -> bool {
    text.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

/// A line of the access log is one line and JSON, whatever the client sent.
pub fn access(data: &[u8]) {
    let (first, rest) = first_line(data);
    let text = String::from_utf8_lossy(first);
    let id = RequestId::random();
    let trace = TraceContext::continue_from(Some(first), true);
    let also = [text.to_string()];
    let matches = [RuleMatch {
        rule: 1,
        variable: &text,
        also: &also,
        value: rest,
        message: &text,
        data: &text,
        parameter: &text,
        file: &text,
        scores: vec![(&text, 5)],
        ..RuleMatch::default()
    }];
    let record = AccessRecord {
        time: SystemTime::UNIX_EPOCH,
        id: &id,
        trace: Some(&trace),
        listener: "main",
        client: "192.0.2.1".parse().unwrap(),
        version: Version::Http11,
        method: first,
        host: &text,
        path: rest,
        query: Some(rest),
        route: Some("route"),
        consumer: Some(&text),
        user_agent: Some(rest),
        status: 200,
        bytes_in: 0,
        bytes_out: 0,
        duration: Duration::from_millis(3),
        upstream: None,
        rejection: None,
        target_would_refuse: None,
        firewall: Some(FirewallRecord {
            action: FirewallAction::Deny,
            rule: Some(1),
            score: 5,
            paranoia: (Some(1), None),
            matches: &matches,
            notes: &[&text],
            exclusions: &[(1, &text)],
            sampled: true,
            shadow: None,
        }),
        partial: &[],
        aborted: false,
    };
    let (mut json, mut human) = (Vec::new(), Vec::new());
    record.write_json(&mut json);
    record.write_human(&mut human);
    for line in [&json, &human] {
        let text = std::str::from_utf8(line).expect("a line is UTF-8");
        let text = text.strip_suffix('\n').expect("a line ends");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let value: serde_json::Value = serde_json::from_slice(&json).expect("a line is JSON");
    assert_eq!(value["status"], 200);
}

/// A secret that follows any text is masked, and masking twice changes nothing.
pub fn redact(data: &[u8]) {
    for once in [redact_query(data), redact_path(data)] {
        assert!(once.len() <= data.len() + (data.len() + 1) * MASK.len());
    }
    let once = redact_query(data);
    assert_eq!(redact_query(&once), once);
    let query = [data, b"&access_token=", SECRET.as_bytes(), b"&x=1"].concat();
    if !holds_secret(data) {
        assert!(!holds_secret(&redact_query(&query)));
        for variable in ["QUERY_STRING", "REQUEST_BODY", "REQUEST_URI", "REQUEST_COOKIES:a", "ARGS:password"]
        {
            let value = [data, b"?api_key=", SECRET.as_bytes()].concat();
            assert!(!holds_secret(&redact_matched(variable, &value)), "{variable} shows a secret");
        }
        let text = String::from_utf8_lossy(data);
        let json = serde_json::json!({ "a": text, "password": SECRET, "list": [{ "b": 1, "client_secret": SECRET }] });
        let shown = redact_matched("REQUEST_BODY", json.to_string().as_bytes()).into_owned();
        assert!(!holds_secret(&shown), "{}", String::from_utf8_lossy(&shown));
    }
    let (variable, value) = first_line(data);
    let _ = redact_matched(&String::from_utf8_lossy(variable), value);
}
