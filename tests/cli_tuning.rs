//! `portcullis rules explain` and `suggest-exclusion`: what they say of a request, and that it is true.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const CRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");

struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `portcullis rules` in a folder.
fn rules(folder: &TempDir, arguments: &[&str], input: &str) -> Done {
    let mut child = Command::new(BINARY)
        .arg("rules")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone before it has all of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Scores as CRS makes them, in small.
const SCORED: &str = r#"
SecRequestBodyAccess On
SecRule REQUEST_HEADERS:Content-Type "@rx ^application/json" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_URI "@beginsWith /open" "id:2,phase:1,pass,nolog,ctl:ruleRemoveById=140,ctl:ruleRemoveTargetById=110;ARGS:free"
SecRule TX:detection_paranoia_level "@lt 2" "id:101,phase:2,pass,nolog,skipAfter:END-PL2"
SecRule ARGS "@rx (?i)never" "id:102,phase:2,pass,log"
SecMarker END-PL2
SecRule ARGS "@rx (?i)union\s+select" "id:110,phase:2,pass,log,t:urlDecodeUni,msg:'SQL',severity:CRITICAL,setvar:tx.inbound_anomaly_score_pl1=+5"
SecRule ARGS "@rx ^[0-9]{30}$" "id:115,phase:2,pass,log"
SecRule ARGS "@contains select" "id:120,phase:2,pass,log,msg:'Word',severity:WARNING,setvar:tx.inbound_anomaly_score_pl1=+3"
SecRule REQUEST_METHOD "@streq POST" "id:130,phase:2,pass,log,msg:'Posted',chain"
    SecRule ARGS:html "@contains <b" "setvar:tx.inbound_anomaly_score_pl1=+5"
SecRule ARGS "@streq forbidden" "id:140,phase:2,deny,status:406,log,msg:'Forbidden'"
SecRule REQUEST_HEADERS:Accept "@streq never" "id:150,phase:2,pass,log"
SecAction "id:900,phase:2,pass,nolog,setvar:tx.blocking_inbound_anomaly_score=%{tx.inbound_anomaly_score_pl1}"
SecRule TX:blocking_inbound_anomaly_score "@ge %{tx.inbound_anomaly_score_threshold}" "id:910,phase:2,deny,status:403,log,msg:'Score %{tx.blocking_inbound_anomaly_score}'"
"#;

const GATEWAY: &str = r#"
[[listener]]
name = "main"
address = "127.0.0.1:8080"

[upstream.backend]
endpoints = [{ address = "127.0.0.1:8081" }]

[firewall]
mode = "block"
paranoia = 1
inbound_threshold = 5
rules = ["rules.conf"]

[[route]]
name = "search"
match = { path = "/{*rest}" }
upstream = "backend"
"#;

fn scored() -> TempDir {
    folder(&[("rules.conf", SCORED), ("gateway.toml", GATEWAY)])
}

/// The account of a request in JSON.
fn explained(folder: &TempDir, arguments: &[&str]) -> Value {
    let done = rules(folder, &[&["explain", "--json"], arguments].concat(), "");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{arguments:?}");
    serde_json::from_str(&done.out).unwrap()
}

fn rule(account: &Value, id: u32) -> &Value {
    account["rules"].as_array().unwrap().iter().find(|rule| rule["id"] == id).unwrap()
}

const ATTACK: &str = "curl 'http://shop.example/find?q=1+union%2520select&x=1' --data-raw 'html=<b>'";

#[test]
fn explain_tells_what_rules_saw_and_what_they_led_to() {
    let folder = scored();
    let done = rules(&folder, &["explain", "--route", "search", "--curl", ATTACK], "");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    for said in [
        "POST /find?q=1+union%2520select&x=1 HTTP/1.1, 5 fields, 8 bytes of body, route `search`\n",
        "110 matched, inbound_anomaly_score_pl1 +5, phase 2, ",
        "  SQL\n  ",
        "rules.conf:8\n  ARGS @rx (?i)union\\s+select  (after urlDecodeUni)\n    matched     ARGS:q = 1 union select\n    and 2 more values without a match\n",
        "  REQUEST_METHOD @streq POST\n    matched     REQUEST_METHOD = POST\n  ARGS:html @contains <b\n    matched     ARGS:html = <b>\n",
        "910 matched, phase 2, ",
        "1 were skipped, 0 removed, 0 not reached; ",
        "score 13 of 5, paranoia level 1\nverdict: deny with 403 by rule 910: Score 13\n",
    ] {
        assert!(done.out.contains(said), "{said}: {}", done.out);
    }
    assert!(!done.out.contains("\n150 "), "what did not match is not told of: {}", done.out);
    let one = rules(&folder, &["explain", "--curl", ATTACK, "--rule", "150", "--rule", "102"], "");
    for said in [
        "102 skipped by rule 101, ",
        "150 no match, phase 2, ",
        "    no match    REQUEST_HEADERS:Accept = */*\n",
    ] {
        assert!(one.out.contains(said), "{said}: {}", one.out);
    }
    assert!(!one.out.contains("\n110 "), "{}", one.out);
}

#[test]
fn explain_tells_of_each_reason_not_to_match() {
    let folder = scored();
    let account =
        explained(&folder, &["--all", "--curl", "curl 'http://a/open?free=union+select&z=forbidden'"]);
    assert_eq!(account["rules"].as_array().unwrap().len(), 12);
    let outcomes: Vec<(&str, &str, Option<u64>)> = rule(&account, 110)["conditions"][0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| {
            let text = |name: &str| value[name].as_str().unwrap();
            (text("variable"), text("outcome"), value["by"].as_u64())
        })
        .collect();
    assert_eq!(outcomes, [("ARGS:free", "excluded", Some(2)), ("ARGS:z", "no literal", None)]);
    assert_eq!(rule(&account, 115)["conditions"][0]["values"][1]["outcome"], "too little");
    assert_eq!((&rule(&account, 140)["outcome"], &rule(&account, 140)["by"]), (&"removed".into(), &2.into()));
    assert_eq!(
        (&rule(&account, 102)["outcome"], &rule(&account, 102)["by"]),
        (&"skipped".into(), &101.into())
    );
    assert_eq!(rule(&account, 150)["conditions"][0]["values"][0]["value"], "*/*");
    assert_eq!(account["verdict"]["action"], "pass");
    assert_eq!(account["removed"][0]["rules"], serde_json::json!([140]));
    assert_eq!(account["excluded"][0]["variable"], "ARGS:free");
    assert!(account["nanoseconds"].as_u64().unwrap() > 0);
    // The route's own exclusions, its paranoia level and its mode.
    let tuned = "firewall = { mode = \"detect\", paranoia = 2, exclusions = [{ rule = 110, target = \"ARGS:q\" }, { rule = 120 }] }\n";
    fs::write(folder.path().join("gateway.toml"), format!("{GATEWAY}{tuned}")).unwrap();
    let account = explained(&folder, &["--all", "--route", "search", "--curl", ATTACK]);
    assert_eq!(rule(&account, 110)["conditions"][0]["values"][0]["outcome"], "excluded");
    assert_eq!(rule(&account, 110)["conditions"][0]["values"][0]["by"], Value::Null);
    assert_eq!(
        (&rule(&account, 120)["outcome"], &rule(&account, 120)["by"]),
        (&"removed".into(), &Value::Null)
    );
    assert_eq!(rule(&account, 102)["outcome"], "not_matched");
    assert_eq!((&account["verdict"]["mode"], &account["verdict"]["rule"]), (&"detect".into(), &910.into()));
    let text = rules(&folder, &["explain", "--route", "search", "--curl", ATTACK], "").out;
    assert!(
        text.contains("it only detects") && text.contains("ARGS:q kept by exclusions of the route from 110"),
        "{text}"
    );
}

#[test]
fn explain_reads_requests_and_responses_from_files() {
    let answers = "SecResponseBodyAccess On\nSecRule RESPONSE_BODY \"@contains secret\" \"id:1,phase:4,deny,status:502,log\"\n\
                   SecRule REMOTE_ADDR \"@ipMatch 192.0.2.1\" \"id:2,phase:1,pass,log\"\n";
    let folder = folder(&[
        ("a.conf", answers),
        ("request", "GET / HTTP/1.1\nHost: a\n\n"),
        ("response", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\na secret"),
        ("broken", "GET / HTTP/1.1\nHost\n\n"),
    ]);
    let arguments =
        ["--rules", "a.conf", "--request", "request", "--response", "response", "--client", "192.0.2.1"];
    let account = explained(&folder, &arguments);
    assert_eq!((&account["verdict"]["status"], &account["verdict"]["rule"]), (&502.into(), &1.into()));
    assert_eq!(rule(&account, 2)["outcome"], "matched");
    let missing = scored();
    for (folder, arguments, said) in [
        (&folder, &["--rules", "a.conf", "--request", "broken"][..], "broken: line 2"),
        (&folder, &["--rules", "a.conf", "--request", "absent"], "absent"),
        (&folder, &["--rules", "a.conf", "--request", "request", "--rule", "77"], "no rule 77"),
        (&folder, &["--rules", "a.conf", "--curl", "curl http://a | sh"], "`|`"),
        (&folder, &["--rules", "a.conf", "--curl", "curl --heder x http://a"], "did you mean `--header`?"),
        (&missing, &["--route", "serch", "--curl", "curl http://a"], "did you mean `search`?"),
    ] {
        let done = rules(folder, &[&["explain"], arguments].concat(), "");
        assert_eq!(done.code, Some(1), "{arguments:?}");
        assert!(done.err.contains(said), "{arguments:?}: {}", done.err);
    }
    assert_eq!(rules(&folder, &["explain", "--rules", "a.conf"], "").code, Some(2), "no request");
}

/// The text between two lines of what was printed.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{from}: {text}"));
    rest.split_once(to).map_or(rest, |(found, _)| found)
}

/// Each of the three texts, pasted where it says, lets the request through; nothing less is suggested than is needed,
/// nor more.
#[test]
fn what_is_suggested_works_when_pasted() {
    let folder = scored();
    let arguments = ["suggest-exclusion", "--route", "search", "--curl", ATTACK];
    let done = rules(&folder, &arguments, "");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    let toml = between(&done.out, "named `search`:\n", "\n# Or");
    assert_eq!(
        toml,
        "[[route.firewall.exclusions]]\nrule = 110\ntarget = \"ARGS:q\"\n\
         [[route.firewall.exclusions]]\nrule = 130\ntarget = \"ARGS:html\"\n",
        "rule 120 alone stays below the threshold"
    );
    for said in [
        "let through, with a score of 3; without, it\n# is refused by rule 910, with a score of 13.",
        "# Given up: rule 110 (SQL) no longer looks at ARGS:q; 3 other rules still do\n",
    ] {
        assert!(done.out.contains(said), "{said}: {}", done.out);
    }
    let verdict =
        || explained(&folder, &["--route", "search", "--curl", ATTACK])["verdict"]["action"].clone();
    assert_eq!(verdict(), "deny");
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write("gateway.toml", format!("{GATEWAY}{toml}"));
    assert_eq!(verdict(), "pass");
    write("gateway.toml", GATEWAY.to_owned());
    let before = between(&done.out, "before the rules, for this path alone:\n", "\n# Or");
    write("rules.conf", format!("{before}{SCORED}"));
    assert_eq!(verdict(), "pass");
    let other = ATTACK.replace("/find", "/other");
    assert_eq!(explained(&folder, &["--curl", &other])["verdict"]["action"], "deny", "for this path alone");
    let after = between(&done.out, "after the rules, for all requests:\n", "\n# Verified");
    write("rules.conf", format!("{SCORED}{after}"));
    assert_eq!(verdict(), "pass");
    assert_eq!(explained(&folder, &["--curl", &other])["verdict"]["action"], "pass");
}

#[test]
fn places_in_arrays_are_left_open() {
    let folder = scored();
    let curl = r#"curl http://a/ --json '{"items": [{"note": "union select"}, {"note": "x union select"}], "a b": "forbidden"}'"#;
    let done = rules(&folder, &["suggest-exclusion", "--curl", curl], "");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    for said in [
        "rule = 110\ntarget = \"ARGS:json.items.*.note\"\n",
        "SecRuleUpdateTargetById 110 \"!ARGS:/^json\\.items\\.\\d+\\.note$/\"\n",
        "target = \"ARGS:json.a b\"\n",
    ] {
        assert_eq!(done.out.matches(said).count(), 1, "{said}: {}", done.out);
    }
    let before = between(&done.out, "before the rules, for this path alone:\n", "\n# Or");
    fs::write(folder.path().join("rules.conf"), format!("{before}{SCORED}")).unwrap();
    assert_eq!(explained(&folder, &["--curl", curl])["verdict"]["action"], "pass", "{before}");
}

#[test]
fn requests_are_found_in_logs() {
    let access = r#"{"timestamp":"x","message":"request","request_id":"0194c1","method":"POST","path":"/find","route":"search","firewall":{"action":"deny","rule":910,"score":13,"matched":3,"rules":[{"id":110,"variable":"ARGS:q","value":"1 union select","message":"SQL"},{"id":910,"variable":"TX:blocking_inbound_anomaly_score","value":"13","message":"Score 13"}]}}
{"timestamp":"x","message":"request","request_id":"0194c2","method":"GET","path":"/","route":"search"}
"#;
    let audit = r#"{"transaction":{"unique_id":"0194c3","request":{"method":"GET","http_version":1.1,"uri":"/find?q=union+select","headers":{"Host":"a"}},"messages":[{"message":"SQL","details":{"match":"Matched \"Operator `Rx' with parameter `(?i)union\\s+select' against variable `ARGS:q' (Value: `union select' )","ruleId":"110"}}]}}
{"transaction":{"unique_id":"0194c4","request":{"method":"GET","http_version":1.1,"uri":"/find?q=%2a%2a%2a","headers":{"Host":"a"}},"messages":[{"message":"SQL","details":{"match":"Matched \"Operator `Rx' with parameter `x' against variable `ARGS:q' (Value: `union select' )","ruleId":"110"}}]}}
"#;
    let folder = scored();
    fs::write(folder.path().join("audit.log"), audit).unwrap();
    let done = rules(&folder, &["suggest-exclusion", "0194c1"], access);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    for said in
        ["named `search`:\n", "rule = 110\ntarget = \"ARGS:q\"\n", "@streq /find\"", "# Not verified: "]
    {
        assert!(done.out.contains(said), "{said}: {}", done.out);
    }
    assert!(!done.out.contains("910"), "rules that judge scores are never excluded: {}", done.out);
    let done = rules(&folder, &["suggest-exclusion", "0194c3", "--log", "audit.log"], "");
    assert!(
        done.out.contains("# Verified: ") && done.out.contains("rule = 110\n"),
        "{}{}",
        done.out,
        done.err
    );
    let masked = rules(&folder, &["suggest-exclusion", "0194c4", "--log", "audit.log"], "");
    assert!(masked.out.contains("# Not verified: "), "what is masked is not what was sent: {}", masked.out);
    for (id, said) in [("0194c2", "found nothing"), ("0194c9", "no request `0194c9`")] {
        let done = rules(&folder, &["suggest-exclusion", id, "--log", "-"], access);
        assert_eq!(done.code, Some(1), "{id}");
        assert!(done.err.contains(said), "{id}: {}", done.err);
    }
}

#[test]
fn suggestions_end_where_nothing_helps_or_nothing_is_wrong() {
    let folder = scored();
    let done = rules(&folder, &["suggest-exclusion", "--curl", "curl http://a/"], "");
    assert_eq!(done.code, Some(0));
    assert!(done.out.contains("is let through as it is (score 0)"), "{}", done.out);
    let always = "SecRequestBodyLimit 4\nSecAction \"id:5,phase:1,deny,log\"\n";
    fs::write(folder.path().join("always.conf"), always).unwrap();
    let done =
        rules(&folder, &["suggest-exclusion", "--rules", "always.conf", "--curl", "curl http://a/"], "");
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("rule 5 refuses"), "{}", done.err);
    fs::write(folder.path().join("always.conf"), always.lines().next().unwrap()).unwrap();
    let long = ["suggest-exclusion", "--rules", "always.conf", "--curl", "curl http://a/ -d aaaaaaaa"];
    let done = rules(&folder, &long, "");
    assert!(done.code == Some(1) && done.err.contains("a limit refuses"), "{}{}", done.out, done.err);
}

/// A false positive of CRS: a title that reads like SQL.
#[test]
fn crs_is_tuned_by_what_is_suggested() {
    if !Path::new(CRS).is_dir() {
        eprintln!("SKIPPED: {CRS} is absent");
        return;
    }
    let folder = folder(&[("empty.conf", "")]);
    let (setup, files) = (format!("{CRS}/crs-setup.conf.example"), format!("{CRS}/rules"));
    let curl = "curl 'http://shop.example/books' -H 'Accept: */*' --data-urlencode \"title=Union select committee: 1' or '1'='1\"";
    let sets = |first: &'static str| {
        [
            "--rules".to_owned(),
            first.to_owned(),
            "--rules".to_owned(),
            setup.clone(),
            "--rules".to_owned(),
            files.clone(),
        ]
    };
    let run = |command: &'static str| {
        let sets = sets("empty.conf");
        let mut arguments = vec![command, "--curl", curl];
        arguments.extend(sets.iter().map(String::as_str));
        rules(&folder, &arguments, "")
    };
    let told = run("explain").out;
    assert!(
        told.contains("942100 matched") && told.contains("verdict: deny with 403 by rule 949110"),
        "{told}"
    );
    let suggested = run("suggest-exclusion").out;
    assert!(suggested.contains("rule = 942100\ntarget = \"ARGS:title\"\n"), "{suggested}");
    assert!(!suggested.contains("949110\n"), "{suggested}");
    let before = between(&suggested, "before the rules, for this path alone:\n", "\n# Or");
    fs::write(folder.path().join("empty.conf"), before).unwrap();
    let told = run("explain").out;
    assert!(told.contains("verdict: pass\n"), "{told}");
}

/// What curl itself sends is what is read from its command.
#[test]
fn curl_commands_are_read_as_curl_reads_them() {
    let present = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    if !present("curl") || !present("bash") {
        eprintln!("SKIPPED: there is no curl or no bash");
        return;
    }
    let folder = folder(&[
        ("note.txt", "a note\nof two lines\n"),
        (
            "see.conf",
            "SecRequestBodyAccess On\nSecRule REQUEST_BODY \"@unconditionalMatch\" \"id:1,phase:2,pass,log\"\n",
        ),
    ]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let host = origin.trim_start_matches("http://");
    for command in COMMANDS {
        let command = command.replace("URL", &origin).replace("HOST", host);
        let mut curl = Command::new("bash");
        curl.args(["-c", &format!("{command} --max-time 20 --noproxy '*' -s -o /dev/null")])
            .current_dir(&folder);
        let mut child = curl.spawn().unwrap();
        let sent = receive(&listener.accept().unwrap().0);
        assert!(child.wait().unwrap().success(), "{command}");
        let account = explained(&folder, &["--rules", "see.conf", "--curl", &command]);
        let read = &account["request"];
        let fields: Vec<String> = read["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| format!("{}: {}", field[0].as_str().unwrap(), field[1].as_str().unwrap()))
            .collect();
        let line =
            ["method", "target", "version"].map(|part| read[part].as_str().unwrap().to_owned()).join(" ");
        let ours = plain(&format!("{line}\n{}", fields.join("\n")));
        assert_eq!(ours, plain(&sent.0), "{command}");
        assert_eq!(read["body_bytes"].as_u64().unwrap(), sent.1.len() as u64, "{command}");
        let seen = account["rules"][0]["conditions"][0]["values"][0]["value"].as_str();
        if let Some(body) = seen.filter(|_| !command.contains(" -F ")) {
            assert_eq!(body, escaped(&sent.1), "{command}");
        }
    }
}

const COMMANDS: &[&str] = &[
    "curl URL",
    "curl 'URL/a/./b/../c?x=1#fragment'",
    "curl --path-as-is URL/../../etc/passwd",
    "curl 'URL/p?q=%27' -H 'accept: text/html' -H 'X-Empty;' -H 'User-Agent:' -b 'a=b; c=d' --compressed",
    "curl -X PUT -d a=b -d 'c=d e' URL/1",
    "curl URL --data-urlencode 'q=a b&c' --data-urlencode '=x y' --data-urlencode 'plain text' --data-urlencode n@note.txt",
    "curl -G URL/s?z -d a=b --data-urlencode 'c=100%25 &c'",
    r"curl URL --data-raw $'two\nlines, it\'s \u0021 \x41' -H 'Content-Type: text/plain'",
    r#"curl URL --json '{"a": [1]}'"#,
    r#"curl URL --json '{"a": [1]}' -H 'accept: text/html'"#,
    "curl -u user:pass -A 'My Agent' -e http://ref/ -r 0-9 URL",
    "curl http://user:pw@HOST/x",
    "curl URL -F name=value -F 'file=@note.txt;type=text/x-y' -F 'doc=@note.txt;filename=other.html' -F 'text=<note.txt' --form-string 'raw=@x;y'",
    "curl -I URL",
    "curl -T note.txt URL/up",
    "curl -d @note.txt URL",
    "curl --data-binary @note.txt URL -H 'content-type: application/octet-stream'",
    "curl -sSLk -XDELETE URL/1 -H'X-A: b' -H 'x-a: c'",
    "curl URL -0",
    "curl URL -H 'Host: other.example' -H 'Cookie: a=b' --oauth2-bearer token",
    "curl URL \\\n  -b a=b \\\n  -b c=d",
];

/// Head and body of one request, which is then answered.
fn receive(stream: &TcpStream) -> (String, String) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut stream, mut bytes) = (stream, Vec::new());
    loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the client went away");
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.replace("\r\n", "\n");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            return (head, body.to_owned());
        }
    }
}

/// As accounts escape values; none of the bodies is long enough to be cut.
fn escaped(body: &str) -> String {
    let escape = |byte: u8| match byte {
        b'\\' => "\\\\".to_owned(),
        b' '..=b'~' => char::from(byte).to_string(),
        other => format!("\\x{other:02x}"),
    };
    body.bytes().map(escape).collect()
}

/// A head without what differs from one curl to another.
fn plain(head: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("User-Agent: curl/") {
            return "User-Agent: curl".to_owned();
        }
        if line.starts_with("Accept-Encoding: ") {
            return "Accept-Encoding".to_owned();
        }
        let line = line.trim_end();
        line.split_once("boundary=").map_or_else(|| line.to_owned(), |(start, _)| start.to_owned())
    };
    // Asked for before large uploads, or all of them, as the version has it; rules see nothing of the answer.
    head.lines().filter(|line| !line.starts_with("Expect: ")).map(line).collect::<Vec<_>>().join("\n")
}
