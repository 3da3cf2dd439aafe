//! Targets that are refused by default and that a route can take: what its upstream gets then, and that no other route
//! takes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gateway, Origin, RawClient};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// A route for each way of taking odd targets: queries, paths, neither, and neither but only in the log.
fn gateway(origin: &Origin) -> Gateway {
    let upstream = origin.address();
    Gateway::builder(BINARY).start(|ports| {
        let route = |name: &str, target: &str| {
            format!(
                r#"
                [[route]]
                name = "{name}"
                match = {{ path = "/{name}/{{*rest}}" }}
                upstream = "origin"
                {target}
                "#
            )
        };
        format!(
            r#"
            admin.listen = "{admin}"
            log.format = "json"
            firewall.mode = "off"
            [[listener]]
            name = "public"
            address = "{public}"
            [upstream.origin]
            endpoints = [{{ address = "{upstream}" }}]
            {query} {path} {strict} {detect}
            "#,
            admin = ports.admin,
            public = ports.public,
            query = route("query", r#"target.query_bytes = "encode""#),
            path = route("path", r#"target.encoded_path = "keep""#),
            strict = route("strict", ""),
            detect = route("detect", r#"target = { mode = "detect", query_bytes = "encode" }"#),
        )
    })
}

fn ask(gateway: &Gateway, target: &[u8]) -> u16 {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let head = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat();
    client.send(head).unwrap();
    client.response().unwrap().status()
}

#[test]
fn what_a_route_takes_is_forwarded_in_one_form_and_to_no_other_route() {
    let origin = Origin::answering(Answer::ok("hello"));
    let gateway = gateway(&origin);
    let cases: [(&str, &[u8], &str); 8] = [
        ("query", b"x?a=..\\b", "x?a=..%5Cb"),
        ("query", b"x?a=\xe2\x91\xa0&b=\xff", "x?a=%E2%91%A0&b=%FF"),
        ("path", b"a%2fb", "a%2Fb"),
        ("path", b"a%5cb", "a%5Cb"),
        ("path", b"a;v=1/b", "a%3Bv=1/b"),
        ("path", b"foo%0abar", "foo%0Abar"),
        ("path", b"%FF", "%FF"),
        ("path", b"%252e%252e/x", "%252e%252e/x"),
    ];
    for (route, rest, forwarded) in cases {
        let shown = rest.escape_ascii().to_string();
        for other in ["query", "path", "strict"].into_iter().filter(|other| *other != route) {
            let target = [b"/", other.as_bytes(), b"/", rest].concat();
            assert_eq!(ask(&gateway, &target), 400, "{shown} on {other}");
        }
        assert_eq!(ask(&gateway, &[b"/", route.as_bytes(), b"/", rest].concat()), 200, "{shown}");
        let received = origin.requests().pop().unwrap();
        assert_eq!(received.target(), format!("/{route}/{forwarded}"), "{shown}");
    }
    assert_eq!(origin.count(), cases.len());
    // What would lead to another route for a reader that decodes twice, and what nobody takes.
    for target in [
        &b"/path/..%2fstrict/x"[..],
        b"/path/..;/strict/x",
        b"/path/%2e%2e%5cstrict",
        b"/path/a%00b",
        b"/path/a\\b",
        b"/path/\xc3\xa9",
        b"/query/x?a=b c",
        b"/query/x?a=b#c",
        b"/query/x?a=b\x01",
    ] {
        assert_eq!(ask(&gateway, target), 400, "{}", target.escape_ascii());
    }
    assert_eq!(origin.count(), cases.len());
}

#[test]
fn f2_to_f5_what_would_be_refused_is_told_and_counted_and_taken() {
    let origin = Origin::answering(Answer::ok("hello"));
    let gateway = gateway(&origin);
    let cases: [(&[u8], &str, Option<&str>); 10] = [
        (b"a%2fb", "a%2Fb", Some("encoded_separator")),
        (b"a%5cb", "a%5Cb", Some("encoded_separator")),
        (b"a;v=1/b", "a%3Bv=1/b", Some("path_parameter")),
        (b"foo%0abar", "foo%0Abar", Some("encoded_control")),
        (b"%FF", "%FF", Some("path_utf8")),
        (b"%252e%252e/x", "%252e%252e/x", Some("double_encoding")),
        (b"a%2fb?x=\\", "a%2Fb?x=%5C", Some("encoded_separator")),
        // What the route takes anyhow is nothing to report.
        (b"x?a=..\\b", "x?a=..%5Cb", None),
        (b"x//./%61", "x/a", None),
        (b"plain", "plain", None),
    ];
    for (at, (rest, forwarded, reason)) in cases.iter().enumerate() {
        let shown = rest.escape_ascii().to_string();
        assert_eq!(ask(&gateway, &[b"/detect/", *rest].concat()), 200, "{shown}");
        let received = origin.requests().pop().unwrap();
        assert_eq!(
            (received.target(), origin.count()),
            (format!("/detect/{forwarded}").as_str(), at + 1),
            "{shown}"
        );
        let id = received.header("x-request-id").unwrap().to_owned();
        let line = gateway.wait_for_line(|line| line.contains(&format!("\"request_id\":\"{id}\"")));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            line.get("target_would_refuse").and_then(serde_json::Value::as_str),
            *reason,
            "{shown}: {line}"
        );
        assert_eq!(line["status"], 200, "{line}");
    }
    for (reason, count) in [("encoded_separator", 3.0), ("path_parameter", 1.0), ("double_encoding", 1.0)] {
        let series = format!(r#"portcullis_target_would_refuse_total{{reason="{reason}",route="detect"}}"#);
        gateway.wait_for_sample(&series, |value| value == count);
    }
    // What no route may take is refused here too.
    for target in [
        &b"/detect/..%2fstrict/x"[..],
        b"/detect/..;/strict/x",
        b"/detect/%2e%2e%5cstrict",
        b"/detect/a%00b",
        b"/detect/a\\b",
        b"/detect/%zz",
        b"/detect/../../x",
        b"/detect/\xc3\xa9",
        b"/detect/x?a=b c",
        b"/detect/x#b",
    ] {
        assert_eq!(ask(&gateway, target), 400, "{}", target.escape_ascii());
    }
    assert_eq!(origin.count(), cases.len());
}
