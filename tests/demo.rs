//! `portcullis demo` with the shipped configuration and rules: what its own invitation says to try.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Gateway, Ports, RawClient, Response, free_port, get, request};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The demonstration on ports of its own, which the shipped file takes from the environment. It runs on a copy of
/// what we ship, so that editing rules while tests run disturbs nothing.
fn demo(options: &[&str]) -> Gateway {
    let ports = Ports { public: free_port(), tls: free_port(), admin: free_port() };
    let mut builder = Gateway::builder(BINARY)
        .arguments(&[&["demo"], options].concat())
        .env("PORTCULLIS_LISTEN", &ports.public.to_string())
        .env("PORTCULLIS_ADMIN", &ports.admin.to_string());
    for service in ["CATALOGUE", "PRICING", "ENTITLEMENT"] {
        builder = builder.env(&format!("PORTCULLIS_{service}"), &free_port().to_string());
    }
    copy(&Path::new(ROOT).join("rules"), &builder.folder().join("rules"));
    let shipped = fs::read_to_string(Path::new(ROOT).join("gateway.toml")).unwrap();
    builder.start_at(ports, &shipped)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The access line of an answer, found by the request id that the client got.
fn line_of(gateway: &Gateway, answer: &Response) -> Value {
    let id = answer.header("x-request-id").expect("every answer has a request id");
    let line = gateway.wait_for_line(|line| line.contains(id) && line.contains("\"message\":\"request\""));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["request_id"], id);
    assert_eq!(line["status"], answer.status());
    line
}

/// What `portcullis token` prints, as a header field.
fn bearer(options: &[&str]) -> String {
    let output = Command::new(BINARY).current_dir(ROOT).arg("token").args(options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("authorization: Bearer {}", String::from_utf8(output.stdout).unwrap().trim())
}

fn post(gateway: &Gateway, content_type: &str, body: impl AsRef<[u8]>) -> Response {
    request(gateway.public(), "POST /api/reviews", &[&format!("content-type: {content_type}")], body)
}

#[test]
fn it_says_what_to_try() {
    let gateway = demo(&[]);
    let base = format!("http://{}", gateway.public());
    for command in ["/api/titles/1", "/api/search?q=", "/api/entitlements/1", "/api/prices/3"] {
        let _ =
            gateway.wait_for_line(|line| line.contains("curl") && line.contains(&format!("{base}{command}")));
    }
    let _ = gateway.wait_for_line(|line| line.contains(&format!("http://{}/metrics", gateway.admin())));
}

#[test]
fn a_title_is_one_answer_of_three_services() {
    let gateway = demo(&[]);
    let answer = get(gateway.public(), "/api/titles/1");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-portcullis-partial"), None);
    let title = answer.json();
    assert_eq!((&title["id"], &title["title"]), (&json!(1), &json!("The Portcullis")));
    assert_eq!(title["price"]["currency"], "EUR");
    assert_eq!(title["entitlement"]["watch"], true);
    assert!(title.get("partial").is_none(), "{title}");
    // What the catalogue says of itself stays inside; what protects the browser is added.
    assert_eq!((answer.header("server"), answer.header("x-powered-by")), (None, None));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(line_of(&gateway, &answer)["route"], "title");

    assert_eq!(get(gateway.public(), "/api/catalogue/titles").json().as_array().map(Vec::len), Some(4));
    assert_eq!(get(gateway.public(), "/api/titles/99").status(), 404, "the required part's own answer");
    let refused = request(gateway.public(), "DELETE /api/titles/1", &[], "");
    assert_eq!((refused.status(), refused.header("allow").is_some()), (405, true));
}

#[test]
fn without_pricing_it_degrades_and_says_so() {
    let gateway = demo(&["--without", "pricing"]);
    let answer = get(gateway.public(), "/api/titles/1");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("x-portcullis-partial"), Some("pricing"));
    let title = answer.json();
    assert_eq!(title["title"], "The Portcullis");
    assert_eq!(title["partial"], json!(["pricing"]));
    assert_eq!(title["entitlement"]["watch"], true);
    assert!(title.get("price").is_none(), "{title}");
    assert_eq!(line_of(&gateway, &answer)["partial"], json!(["pricing"]));
    let series = r#"portcullis_composition_part_failures_total{part="pricing",route="title"}"#;
    gateway.wait_for_sample(series, |count| count >= 1.0);
    assert_eq!(get(gateway.public(), "/api/prices/1").status(), 502);
}

#[test]
fn without_both_optional_services_it_names_both() {
    let gateway = demo(&["--without", "entitlement", "--without", "pricing"]);
    let answer = get(gateway.public(), "/api/titles/1");
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("x-portcullis-partial"),
        Some("pricing, entitlement"),
        "in the order of the file"
    );
    assert_eq!(answer.json()["partial"], json!(["pricing", "entitlement"]));
}

#[test]
fn without_the_catalogue_there_is_nothing_to_answer() {
    let gateway = demo(&["--without", "catalogue"]);
    let answer = get(gateway.public(), "/api/titles/1");
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], 502);
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
    let catalogue = line_of(&gateway, &answer);
    assert_eq!(catalogue["rejection"]["stage"], "upstream");
    assert!(!answer.text().contains("127.0.0.1"), "no internals: {}", answer.text());
}

#[test]
fn an_attack_is_refused_and_the_log_explains_it() {
    let gateway = demo(&[]);
    let answer = get(gateway.public(), "/api/search?q=%27%20OR%201%3D1--");
    assert_eq!(answer.status(), 403);
    let problem = answer.json();
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
    assert!(!answer.text().contains("10200"), "no rule ids for attackers: {}", answer.text());

    let line = line_of(&gateway, &answer);
    assert_eq!(line["route"], "search");
    assert_eq!(line["rejection"]["stage"], "firewall");
    assert_eq!(line["firewall"]["action"], "deny");
    assert!(line["firewall"]["score"].as_i64().unwrap() >= 5);
    assert!(line["firewall"]["rule"].is_u64(), "{line}");
    let rules = line["firewall"]["rules"].as_array().unwrap();
    let sqli = rules.iter().find(|rule| (1_020_000..1_030_000).contains(&rule["id"].as_u64().unwrap()));
    let sqli = sqli.unwrap_or_else(|| panic!("a rule of SQL injection: {line}"));
    assert_eq!(sqli["variable"], "ARGS:q");
    assert!(!sqli["message"].as_str().unwrap().is_empty());
    assert!(sqli["value"].as_str().unwrap().to_lowercase().contains("or"), "{sqli}");
    assert!(line.get("upstream").is_none(), "nothing was forwarded: {line}");

    let passed = get(gateway.public(), "/api/search?q=o%27reilly+%26+sons");
    assert_eq!(passed.status(), 200, "{}", passed.text());
    assert_eq!(passed.json()["query"], "o'reilly & sons", "as the client meant it");
    assert_eq!(passed.json()["hits"][0]["title"], "O'Reilly & Sons");
}

#[test]
fn entitlements_need_a_token_with_the_scope() {
    let gateway = demo(&[]);
    let ask = |fields: &[&str]| request(gateway.public(), "GET /api/entitlements/1", fields, "");
    let nobody = ask(&[]);
    assert_eq!(nobody.status(), 401);
    assert!(nobody.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    let lacking = ask(&[&bearer(&["--sub", "alice", "--scope", "titles:read"])]);
    assert_eq!(lacking.status(), 403);
    let allowed = ask(&[&bearer(&["--sub", "alice", "--scope", "entitlements:read"])]);
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.json()["watch"], true);
    assert_eq!(line_of(&gateway, &allowed)["consumer"], "alice");
    let several = ask(&[&bearer(&["--scope", "a entitlements:read"])]);
    assert_eq!(several.status(), 200);
    let forged = bearer(&["--scope", "entitlements:read"]);
    let forged = format!("{}AAAA", &forged[..forged.len() - 4]);
    assert_eq!(ask(&[&forged]).status(), 401);
}

#[test]
fn a_loop_is_told_to_wait() {
    let gateway = demo(&[]);
    let mut client = RawClient::connect(gateway.public()).unwrap();
    let answers: Vec<Response> = (0..60)
        .map(|_| {
            client.send("GET /api/prices/1 HTTP/1.1\r\nhost: demo\r\n\r\n").unwrap();
            client.response().unwrap()
        })
        .collect();
    let (passed, limited): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status() == 200);
    assert!(passed.len() >= 20, "the burst passes: {}", passed.len());
    let limited = limited.first().expect("sixty at once are too many");
    assert_eq!(limited.status(), 429);
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert!(limited.header("ratelimit").is_some() && limited.header("ratelimit-policy").is_some());
    assert!(passed[0].header("ratelimit").is_some(), "a client sees what is left");
    assert_eq!(line_of(&gateway, limited)["rejection"]["stage"], "rate");
    assert_eq!(
        get(gateway.public(), "/api/search?q=watch").status(),
        200,
        "other routes are not limited by it"
    );
}

#[test]
fn a_card_number_is_masked() {
    let gateway = demo(&[]);
    let answer = get(gateway.public(), "/api/prices/3");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json()["currency"], "EUR");
    let note = answer.json()["note"].as_str().unwrap().to_owned();
    assert!(note.starts_with("last paid with ") && !note.contains("4111 1111"), "{note}");
    gateway.wait_for_sample(r#"portcullis_leaks_total{action="mask",kind="card"}"#, |count| count >= 1.0);
    let composed = get(gateway.public(), "/api/titles/3");
    assert_eq!(composed.status(), 200);
    assert!(!composed.text().contains("4111 1111"), "also within a composition: {}", composed.text());
}

#[test]
fn reviews_are_json_and_nothing_else() {
    let gateway = demo(&[]);
    let good = json!({ "title": 1, "stars": 5, "text": "It holds what it promises, don't you think?" });
    let made = post(&gateway, "application/json", good.to_string());
    assert_eq!(made.status(), 201, "{}", made.text());
    assert_eq!(made.json()["stars"], 5);
    for (content_type, body, status) in [
        ("text/plain", r#"{"title":1,"stars":5}"#.to_owned(), 415),
        ("application/json", r#"{"title":1,"stars":5,"title":2}"#.to_owned(), 400),
        // What cannot be parsed cannot be inspected: the firewall refuses it before the contract does, and as what it is.
        ("application/json", r#"{"title":1,"stars":5"#.to_owned(), 400),
        ("application/json", "[".repeat(100), 400),
        ("application/json", r#"{"title":1,"text":"' OR 1=1-- "#.to_owned(), 403),
        ("application/json", format!("{}{}", r#"{"a":"#.repeat(9), "1".to_owned() + &"}".repeat(9)), 400),
        ("application/json", json!({ "title": 1, "stars": 5, "text": "a".repeat(70_000) }).to_string(), 413),
        ("application/json", json!({ "title": 1, "stars": 5, "text": "' OR 1=1--" }).to_string(), 403),
    ] {
        let refused = post(&gateway, content_type, &body);
        let start = &body[..body.len().min(60)];
        assert_eq!(refused.status(), status, "{content_type} {start}: {}", refused.text());
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert!(line_of(&gateway, &refused).get("upstream").is_none(), "nothing of {start} was forwarded");
    }
    let around = request(gateway.public(), "POST /api/catalogue/reviews", &[], "{}");
    assert_eq!(around.status(), 405, "no way past the checks");
}

#[test]
fn the_metrics_tell_all_of_it() {
    let gateway = demo(&["--without", "pricing"]);
    for path in [
        "/api/titles/1",
        "/api/search?q=%27%20OR%201%3D1--",
        "/api/entitlements/1",
        "/api/prices/1",
        "/nowhere",
    ] {
        let _ = get(gateway.public(), path);
    }
    let _ = post(&gateway, "text/plain", "x");
    let token = bearer(&["--scope", "entitlements:read"]);
    let _ = request(gateway.public(), "GET /api/entitlements/1", &[&token], "");
    for (series, count) in [
        (r#"portcullis_requests_total{method="GET",route="title",status_class="2xx"}"#, 1.0),
        (r#"portcullis_requests_total{method="GET",route="search",status_class="4xx"}"#, 1.0),
        (r#"portcullis_requests_total{method="GET",route="entitlements",status_class="4xx"}"#, 1.0),
        (r#"portcullis_requests_total{method="GET",route="entitlements",status_class="2xx"}"#, 1.0),
        (r#"portcullis_requests_total{method="GET",route="prices",status_class="5xx"}"#, 1.0),
        (r#"portcullis_requests_total{method="GET",route="unmatched",status_class="4xx"}"#, 1.0),
        (r#"portcullis_requests_total{method="POST",route="reviews",status_class="4xx"}"#, 1.0),
        (r#"portcullis_upstream_responses_total{status_class="2xx",upstream="catalogue"}"#, 1.0),
        (r#"portcullis_upstream_duration_seconds_count{upstream="catalogue"}"#, 1.0),
        (r#"portcullis_upstream_failures_total{reason="connect",upstream="pricing"}"#, 2.0),
        (
            r#"portcullis_rate_limit_decisions_total{limit="entitlements",outcome="passed",route="entitlements"}"#,
            1.0,
        ),
        (r#"portcullis_reloads_total{result="success"}"#, 1.0),
        ("portcullis_config_last_reload_successful", 1.0),
        (r#"portcullis_request_duration_seconds_count{route="title"}"#, 1.0),
    ] {
        gateway.wait_for_sample(series, |value| {
            assert!(value <= count, "{series} is {value}");
            value >= count
        });
    }
    let page = get(gateway.admin(), "/metrics").text();
    let denied = page
        .lines()
        .any(|line| line.starts_with(r#"portcullis_firewall_verdicts_total{action="deny",rule="10"#));
    assert!(denied, "{page}");
}
