//! What operators see: metrics and log lines, complete, truthful, and out of the reach of clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Authority, Gateway, Origin, RawClient, Response, free_port, get, request};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const RULES: &str = "SecRuleEngine On\n\
    SecRequestBodyAccess On\n\
    SecRule ARGS|ARGS_NAMES|REQUEST_HEADERS|REQUEST_COOKIES|REQUEST_URI|REQUEST_URI_RAW|REQUEST_LINE|QUERY_STRING|REQUEST_BODY \
    \"@contains attack\" \"id:1099001,phase:2,pass,log,msg:'A word'\"\n\
    SecRule ARGS:q \"@streq refuse\" \"id:1099002,phase:2,deny,status:403,log,msg:'Refused'\"\n";
/// Of an endpoint that a discovered upstream may not have.
const ENDPOINTS: &str = r#"{"endpoints": ["127.0.0.1:9"]}"#;

/// A gateway with a route of each kind. `/dead` has an upstream that is not there.
fn gateway(origin: &Origin) -> (Gateway, Authority) {
    let authority = Authority::new();
    let certificate = authority.issue(&["gateway.test"]);
    let (upstream, dead) = (origin.address(), free_port());
    let (dead_too, dead_as_well) = (free_port(), free_port());
    let gateway = Gateway::builder(BINARY)
        .file("rules/test.conf", RULES)
        .file("endpoints.json", ENDPOINTS)
        .file("tls/a.crt", &certificate.certificate_pem)
        .file("tls/a.key", &certificate.key_pem)
        .file("tls/ca.crt", authority.pem())
        .file("tls/ca.crl", authority.revocation_list(&[], 2100))
        .start(|ports| {
            format!(
                r#"
                admin.listen = "{admin}"
                [[listener]]
                name = "public"
                address = "{public}"
                [[listener]]
                name = "secure"
                address = "{tls}"
                tls.certificates = [{{ certificate = "tls/a.crt", key = "tls/a.key" }}]
                tls.client_auth = {{ mode = "optional", ca_file = "tls/ca.crt", crl_files = ["tls/ca.crl"] }}
                [listener.tls.acme]
                directory_url = "https://{dead}/directory"
                domains = ["gate.example"]
                terms_of_service_agreed = true
                storage = "acme"
                [upstream.backend]
                endpoints = [{{ address = "{upstream}" }}]
                [upstream.dead]
                endpoints = [{{ address = "{dead}" }}]
                [upstream.watched]
                discovery = {{ type = "file", path = "endpoints.json" }}
                health_check = {{ type = "tcp" }}
                outlier_detection = {{}}
                circuit_breaker = {{ max_requests = 100, failure_rate_threshold = 50 }}
                [upstream.failing]
                endpoints = [{{ address = "{dead}" }}, {{ address = "{dead_too}" }}, {{ address = "{dead_as_well}" }}]
                retry = {{ attempts = 2 }}
                [firewall]
                rules = ["rules/*.conf"]
                log = {{ error_log = "error.log", audit_log = "audit.json" }}
                shadow = {{}}
                [[route]]
                name = "all"
                match = {{ path = "/all/{{*rest}}" }}
                upstream = "backend"
                target.mode = "detect"
                [[route]]
                name = "dead"
                match = {{ path = "/dead" }}
                upstream = "dead"
                canary = [{{ upstream = "backend", headers = [{{ name = "x-canary", value = "always" }}] }}]
                mirror = {{ upstream = "backend", share = "0%" }}
                [[route]]
                name = "watched"
                match = {{ path = "/watched" }}
                upstream = "watched"
                [[route]]
                name = "failing"
                match = {{ path = "/failing" }}
                upstream = "failing"
                [[route]]
                name = "limited"
                match = {{ path = "/limited" }}
                upstream = "backend"
                rate_limit = [{{ name = "few", rate = "1/h", burst = 1 }}]
                [[route]]
                name = "composed"
                match = {{ path = "/composed", methods = ["GET"] }}
                compose.part = [
                  {{ name = "there", upstream = "backend", path = "/json" }},
                  {{ name = "missing", upstream = "dead", path = "/", into = "missing", required = false }},
                ]
                "#,
                admin = ports.admin,
                public = ports.public,
                tls = ports.tls,
            )
        });
    (gateway, authority)
}

fn origin() -> Origin {
    Origin::start(|request| match request.target() {
        "/json" => Answer::json("{}"),
        "/all/card" => Answer::ok("4111 1111 1111 1111"),
        _ => Answer::ok("fine"),
    })
}

/// The access line of an answer.
fn line_of(gateway: &Gateway, answer: &Response) -> Value {
    let id = answer.header("x-request-id").expect("every answer has a request id");
    let line = gateway.wait_for_line(|line| line.contains(id) && line.contains("\"message\":\"request\""));
    serde_json::from_str(&line).unwrap()
}

/// All series of a metrics page without their values.
fn series(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_metric_of_the_docs_is_served_and_every_metric_served_is_in_the_docs() {
    let origin = origin();
    let (gateway, _) = gateway(&origin);
    for path in [
        "/all/1",
        "/all/1?q=refuse",
        "/all/card",
        "/all/a%252fb",
        "/dead",
        "/watched",
        "/failing",
        "/limited",
        "/limited",
        "/composed",
        "/no",
    ] {
        let _ = get(gateway.public(), path);
    }
    let mut nonsense = RawClient::connect(gateway.tls()).unwrap();
    nonsense.send("GET / HTTP/1.1\r\n\r\n").unwrap();
    let failed = r#"portcullis_tls_handshake_failures_total{listener="secure",reason="protocol"}"#;
    gateway.wait_for_sample(failed, |count| count >= 1.0);
    gateway.wait_for_sample(r#"portcullis_leaks_total{action="mask",kind="card"}"#, |count| count >= 1.0);

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let docs = fs::read_to_string(docs).unwrap();
    let mut documented = BTreeMap::new();
    for row in docs.lines().filter(|line| line.starts_with("| `portcullis_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels: BTreeSet<String> =
            cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned()).collect();
        documented.insert(cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels));
    }
    let page = get(gateway.admin(), "/metrics").text();
    let served: BTreeMap<String, String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let kinds: BTreeMap<String, String> =
        documented.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect();
    assert_eq!(served, kinds);
    for name in series(&page) {
        let (family, labels) = name.split_once('{').unwrap_or((&name, ""));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| family.strip_suffix(suffix));
        let (_, known) = documented.get(family).or_else(|| documented.get(base?)).unwrap();
        for label in
            labels.trim_end_matches('}').split("\",").filter_map(|pair| Some(pair.split_once('=')?.0))
        {
            assert!(label == "le" || known.contains(label), "{name}");
        }
    }
}

#[test]
fn an_access_line_tells_the_whole_story() {
    let origin = origin();
    let (gateway, authority) = gateway(&origin);
    let answer = request(gateway.public(), "POST /all/x?q=1", &["user-agent: tester/1"], "hello");
    assert_eq!(answer.status(), 200);
    let line = line_of(&gateway, &answer);
    let address = gateway.public().to_string();
    for (name, value) in [
        ("level", "INFO"),
        ("listener", "public"),
        ("client", "127.0.0.1"),
        ("protocol", "HTTP/1.1"),
        ("method", "POST"),
        ("host", "127.0.0.1"),
        ("path", "/all/x"),
        ("route", "all"),
        ("user_agent", "tester/1"),
        ("upstream", "backend"),
        ("endpoint", &origin.address().to_string()),
    ] {
        assert_eq!(line[name], value, "{name} at {address}: {line}");
    }
    for (name, value) in [("status", 200), ("bytes_in", 5), ("bytes_out", 4), ("attempts", 1)] {
        assert_eq!(line[name], value, "{name}: {line}");
    }
    assert!(line["duration_ms"].as_f64().unwrap() >= line["upstream_ms"].as_f64().unwrap(), "{line}");
    assert_eq!(line["trace_id"].as_str().map(str::len), Some(32));
    assert!(line.get("rejection").is_none() && line.get("firewall").is_none(), "{line}");

    let refused = line_of(&gateway, &get(gateway.public(), "/all/x?q=refuse"));
    assert_eq!(refused["firewall"]["rule"], 1_099_002);
    assert_eq!(refused["firewall"]["rules"][0]["variable"], "ARGS:q");
    assert_eq!(refused["firewall"]["rules"][0]["value"], "refuse");
    assert!(refused.get("upstream").is_none(), "{refused}");
    let noted = line_of(&gateway, &get(gateway.public(), "/all/x?q=attack"));
    assert_eq!((&noted["status"], &noted["firewall"]["action"]), (&200.into(), &"log".into()), "{noted}");
    let dead = line_of(&gateway, &get(gateway.public(), "/dead"));
    assert_eq!((&dead["status"], &dead["rejection"]["reason"]), (&502.into(), &"connect".into()));
    let partial = line_of(&gateway, &get(gateway.public(), "/composed"));
    assert_eq!(partial["partial"], serde_json::json!(["missing"]));
    let broken = line_of(
        &gateway,
        &request(gateway.public(), "GET /all/x", &["content-length: 1", "content-length: 2"], ""),
    );
    assert_eq!((&broken["status"], &broken["rejection"]["stage"]), (&400.into(), &"framing".into()));

    let mut secure =
        RawClient::connect_tls(gateway.tls(), "gateway.test", &authority, &["http/1.1"]).unwrap();
    secure.send("GET /all/x HTTP/1.1\r\nhost: gateway.test\r\n\r\n").unwrap();
    let secure = line_of(&gateway, &secure.response().unwrap());
    assert_eq!((&secure["listener"], &secure["host"]), (&"secure".into(), &"gateway.test".into()));

    let mut gone = RawClient::connect(gateway.public()).unwrap();
    gone.send("POST /all/gone HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf").unwrap();
    gone.reset().unwrap();
    let gone = gateway.wait_for_line(|line| line.contains("/all/gone"));
    let gone: Value = serde_json::from_str(&gone).unwrap();
    assert!(gone["status"] == 499 || gone["status"] == 400, "{gone}");
}

#[test]
fn secrets_are_in_no_line_and_no_label() {
    let origin = origin();
    let (gateway, _) = gateway(&origin);
    // Each with the word that a rule looks for, so that the firewall has a reason to log what it saw.
    let secret = "c4Tn1p-attack-Zq8wXv";
    let basic = "YXR0YWNrOnMzY3IzdC1hdHRhY2s=";
    for fields in [
        vec![format!("authorization: Bearer {secret}")],
        vec![format!("authorization: Basic {basic}")],
        vec![format!("proxy-authorization: Bearer {secret}")],
        vec![format!("cookie: session={secret}; theme=dark")],
        vec![format!("x-api-key: {secret}")],
        vec![format!("x-auth-token: {secret}")],
        vec![format!("referer: https://a.test/?access_token={secret}&x=attack")],
    ] {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let line = line_of(&gateway, &request(gateway.public(), "GET /all/x", &fields, ""));
        assert!(
            !line.to_string().contains(secret) && !line.to_string().contains(basic),
            "{fields:?}: {line}"
        );
    }
    for name in ["token", "access_token", "id_token", "password", "api_key", "client_secret", "code", "sig"] {
        let line = line_of(&gateway, &get(gateway.public(), &format!("/all/x?a=attack&{name}={secret}")));
        assert!(!line.to_string().contains(secret), "{name} in the query: {line}");
        assert!(line["firewall"]["rules"].is_array(), "the rule matched: {line}");
        let form = ["content-type: application/x-www-form-urlencoded"];
        let posted = request(gateway.public(), "POST /all/x", &form, format!("a=attack&{name}={secret}"));
        let line = line_of(&gateway, &posted);
        assert!(!line.to_string().contains(secret), "{name} in a form: {line}");
        let json = format!(r#"{{"a":"attack","{name}":"{secret}"}}"#);
        let posted = request(gateway.public(), "POST /all/x", &["content-type: application/json"], json);
        let line = line_of(&gateway, &posted);
        assert!(!line.to_string().contains(secret), "{name} in JSON: {line}");
    }
    let all = gateway.log().join("\n") + &get(gateway.admin(), "/metrics").text();
    assert!(!all.contains(secret) && !all.contains(basic));
}

/// Whether nothing in a line can act on a terminal, begin another line or turn the order of reading.
fn is_inert(line: &str) -> bool {
    !line.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

#[test]
fn j3_no_request_can_forge_or_break_a_line() {
    let origin = origin();
    let (gateway, _) = gateway(&origin);
    let fake = r#"{"message":"request","status":200,"path":"/forged"}"#;
    let mut long = b"user-agent: ".to_vec();
    long.extend(std::iter::repeat_n(b'a', 20_000));
    let agents: [&[u8]; 6] = [
        b"user-agent: a\x80\xff\xfe\xc3(b",
        "user-agent: a\u{2028}b\u{202e}c\u{feff}".as_bytes(),
        b"user-agent: \\r\\n\\u000a\"}",
        &long,
        b"user-agent: a\x1b[2Jb",
        b"user-agent: a\rb",
    ];
    let mut sent = 0;
    for agent in agents {
        for target in
            ["/all/x", "/all/%0d%0a%1b[2J%e2%80%ae", "/all/x?q=attack%0d%0a%1b[31m%e2%80%a8%ff", "/%00"]
        {
            let mut client = RawClient::connect(gateway.public()).unwrap();
            let mut bytes = format!("GET {target} HTTP/1.1\r\nhost: a\r\n").into_bytes();
            bytes.extend_from_slice(agent);
            bytes.extend_from_slice(b"\r\n\r\n");
            client.send(bytes).unwrap();
            let answer = client.response().unwrap();
            let line = line_of(&gateway, &answer);
            assert_eq!(line["status"], answer.status());
            let kept = line["user_agent"].as_str().map_or(0, |kept| kept.chars().count());
            assert!(kept <= 1025, "{kept} characters of a value are kept");
            sent += 1;
        }
    }
    let forged = format!("GET /all/{} HTTP/1.1\r\nhost: a\r\n\r\n", fake.replace('"', "%22"));
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send(forged).unwrap();
    let _ = line_of(&gateway, &client.response().unwrap());
    for line in
        ["G\x1b[2JT /all/x HTTP/1.1\r\nhost: a\r\n\r\n", "GET /all/x HTTP/1.1\r\nhost: a\x1bb\r\n\r\n"]
    {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send(line).unwrap();
        assert_eq!(line_of(&gateway, &client.response().unwrap())["status"], 400);
    }
    let mut huge = RawClient::connect(gateway.public()).unwrap();
    let mut agent = String::from("GET /all/x HTTP/1.1\r\nhost: a\r\nuser-agent: ");
    agent.extend(std::iter::repeat_n('a', 1 << 20));
    // The gateway need not read all of it before it refuses.
    let _ = huge.send(agent);
    if let Ok(answer) = huge.response() {
        assert_eq!(line_of(&gateway, &answer)["status"], 431);
    }
    let lines = gateway.log();
    let requests = lines.iter().filter(|line| line.contains("\"message\":\"request\"")).count();
    assert!(requests >= sent + 3);
    for line in &lines {
        assert!(is_inert(line), "{line:?}");
        assert!(line.len() < 20_000, "{} bytes in one line", line.len());
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_ne!(line["path"], "/forged");
    }
}

/// The `traceparent` that the upstream got with a request, taken apart.
fn traced(gateway: &Gateway, origin: &Origin, fields: &[&str]) -> (Response, [String; 4], String) {
    let before = origin.count();
    let answer = request(gateway.public(), "GET /all/x", fields, "");
    let received = origin.wait_for(before + 1).pop().unwrap();
    let parent = received.header("traceparent").unwrap_or_else(|| panic!("{}", received.head_text()));
    let parts: Vec<String> = parent.split('-').map(str::to_owned).collect();
    let parts: [String; 4] = parts.try_into().unwrap();
    assert_eq!((parts[0].as_str(), parts[1].len(), parts[2].len(), parts[3].len()), ("00", 32, 16, 2));
    assert!(parts[1].chars().any(|c| c != '0') && parts[2].chars().any(|c| c != '0'));
    (answer, parts, received.head_text().to_lowercase())
}

#[test]
fn j5_traces_are_continued_only_where_they_are_sound() {
    let origin = origin();
    let (gateway, _) = gateway(&origin);
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let (answer, parts, _) = traced(&gateway, &origin, &[&format!("traceparent: 00-{trace}-{span}-01")]);
    assert_eq!(parts[1], trace, "the client's trace goes on");
    assert_ne!(parts[2], span, "with a span of ours");
    assert_eq!(line_of(&gateway, &answer)["trace_id"], trace);
    let zero = "0".repeat(32);
    for bad in [
        format!("traceparent: 00-{zero}-{span}-01"),
        format!("traceparent: 00-{trace}-0000000000000000-01"),
        format!("traceparent: ff-{trace}-{span}-01"),
        format!("traceparent: 00-{}-{span}-01", trace.to_uppercase()),
        format!("traceparent: 00-{trace}-{span}"),
        format!("traceparent: 00-{trace}-{span}-01-x"),
        format!("traceparent: {}", "a".repeat(10_000)),
        "traceparent: ".to_owned(),
    ] {
        let fields = [bad.as_str(), "tracestate: a=1"];
        let (answer, parts, head) = traced(&gateway, &origin, &fields);
        let start = &bad[..bad.len().min(80)];
        assert_ne!(parts[1], trace, "{start}");
        assert_eq!(line_of(&gateway, &answer)["trace_id"], parts[1], "{start}");
        assert!(!head.contains("tracestate"), "a state without its trace: {head}");
        assert_eq!(head.matches("traceparent:").count(), 1, "{head}");
    }
    let twice = format!("traceparent: 00-{trace}-{span}-01");
    let (_, parts, _) = traced(&gateway, &origin, &[&twice, &twice.replace("4bf9", "5bf9")]);
    assert!(parts[1] != trace, "two parents are none");
    let members: Vec<String> = (0..100).map(|n| format!("k{n}=v")).collect();
    let state = format!("tracestate: {}", members.join(","));
    let (_, _, head) = traced(&gateway, &origin, &[&twice, &state]);
    assert!(!head.contains("k99=v"), "32 members are the most (W3C Trace Context, 3.3.1.1): {head}");
}

#[test]
fn request_ids_are_ours_and_the_same_everywhere() {
    let origin = origin();
    let (gateway, _) = gateway(&origin);
    let (answer, _, head) = traced(&gateway, &origin, &["x-request-id: chosen-by-the-client"]);
    let id = answer.header("x-request-id").unwrap();
    assert_ne!(id, "chosen-by-the-client", "this client is no trusted proxy");
    assert_eq!(head.matches("x-request-id:").count(), 1, "{head}");
    assert!(head.contains(&format!("x-request-id: {id}")), "{head}");
    assert_eq!(line_of(&gateway, &answer)["request_id"], id);
    let refused = get(gateway.public(), "/all/x?q=refuse");
    assert_eq!(refused.json()["request_id"].as_str(), refused.header("x-request-id"));
    let ids: BTreeSet<String> = (0..200)
        .map(|_| get(gateway.public(), "/nowhere").header("x-request-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 200);
}

#[test]
fn j4_nothing_that_a_client_sends_becomes_a_label() {
    let origin = Origin::start(|request| {
        // A lying upstream is a client of the metrics too.
        let status = request.target().strip_prefix("/all/x/").and_then(|status| status.parse().ok());
        Answer::status(status.unwrap_or(200)).body("fine")
    });
    let (gateway, _) = gateway(&origin);
    let ask = |from: usize, to: usize| {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        for n in from..to {
            let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
            let method = methods.get(n % 8).map_or_else(|| format!("M{n}"), ToString::to_string);
            let path = match n % 4 {
                0 => format!("/all/{n}"),
                1 => format!("/nowhere/{n}"),
                2 => format!("/all/x/{}", 200 + n % 400),
                _ => format!("/all/x?q=attack{n}&p{n}=attack"),
            };
            let mut text =
                format!("{method} {path} HTTP/1.1\r\nhost: h{n}.test\r\nuser-agent: agent/{n}\r\n");
            let _ = write!(text, "x-n{n}: attack\r\ncookie: c{n}=attack\r\ncontent-length: 0\r\n\r\n");
            client.send(text).unwrap();
            let answer = client.response().unwrap();
            if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                client = RawClient::connect(gateway.public()).unwrap();
            }
        }
    };
    ask(0, 1_600);
    gateway.wait_for_sample("portcullis_requests_in_flight", |count| count == 0.0);
    let before = series(&get(gateway.admin(), "/metrics").text());
    ask(1_600, 6_600);
    gateway.wait_for_sample("portcullis_requests_in_flight", |count| count == 0.0);
    let page = get(gateway.admin(), "/metrics").text();
    let after = series(&page);
    let new: Vec<&String> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(after.len() < 500, "{}", after.len());
    assert!(after.iter().any(|series| series.contains(r#"method="OTHER""#)));
    assert!(!page.contains("agent/") && !page.contains(".test"));
}
