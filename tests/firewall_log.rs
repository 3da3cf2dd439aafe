//! The firewall's own logs, read as fail2ban, CrowdSec, go-ftw and Elastic's integration read ModSecurity's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use portcullis_testkit::{Answer, Gateway, Origin, Ports, RawClient, Response, free_port, get, request};
use regex::{Captures, Regex};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const CRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");
const CRS_CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/crs/gateway.toml");

/// As CRS does it: a score for each match, a rule that decides by the sum.
const RULES: &str = r#"
SecRuleEngine On
SecRequestBodyAccess On
SecComponentSignature "TEST_RULES/1.0"
SecDefaultAction "phase:2,log,auditlog,pass"
SecRule ARGS|REQUEST_HEADERS:Authorization|REQUEST_HEADERS:Referer|REQUEST_COOKIES "@rx (?i)union\s+select" \
    "id:1001,phase:2,pass,t:none,t:urlDecodeUni,capture,msg:'SQL injection',\
    logdata:'Matched Data: %{TX.0} found within %{MATCHED_VAR_NAME}: %{MATCHED_VAR}',\
    severity:CRITICAL,ver:'OWASP_CRS/4.0.0',tag:'attack-sqli',tag:'paranoia-level/1',\
    setvar:tx.inbound_anomaly_score_pl1=+5"
SecRule ARGS "@contains quiet" "id:1002,phase:2,pass,log,noauditlog,msg:'Quiet'"
SecRule REQUEST_HEADERS:Authorization "@rx ^Bearer (.+)" "id:1003,phase:1,pass,nolog,capture,chain"
    SecRule TX:1 "@rx ." "setvar:tx.bearer=1"
SecRule REQUEST_HEADERS:Authorization "@rx ^Bearer (.+)" "id:1004,phase:1,pass,capture,chain,msg:'Token %{TX.1}',logdata:'%{TX.1}'"
    SecRule TX:1 "@rx ."
SecRule TX:inbound_anomaly_score_pl1 "@ge 5" \
    "id:949110,phase:2,deny,status:403,t:none,msg:'Inbound Anomaly Score Exceeded (Total Score: %{TX.inbound_anomaly_score_pl1})'"
"#;

fn start(log: &str) -> (Gateway, Origin) {
    let origin = Origin::start(|_| {
        Answer::status(200).header("x-backend", "b").header("set-cookie", "sid=s3cr3t").body("fine")
    });
    let gateway =
        Gateway::builder(BINARY).file("rules/test.conf", RULES).file("logs/keep", "").start(|ports| {
            format!(
                r#"
            admin.listen = "{admin}"
            [[listener]]
            name = "public"
            address = "{public}"
            [upstream.backend]
            endpoints = [{{ address = "{upstream}" }}]
            [firewall]
            rules = ["rules/*.conf"]
            [firewall.log]
            {log}
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "backend"
            "#,
                admin = ports.admin,
                public = ports.public,
                upstream = origin.address(),
            )
        });
    (gateway, origin)
}

/// The lines of a log once there are so many.
fn lines(gateway: &Gateway, file: &str, count: usize) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = fs::read_to_string(gateway.folder().join(file)).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count && text.ends_with('\n') {
            return lines;
        }
        assert!(Instant::now() < deadline, "{} of {count} lines: {text}", lines.len());
        thread::sleep(Duration::from_millis(10));
    }
}

fn id(answer: &Response) -> &str {
    answer.header("x-request-id").unwrap()
}

/// The names of grok patterns that the parsers below use, in words of our own.
const GROK: &[(&str, &str)] = &[
    ("INT", r"[+-]?[0-9]+"),
    ("NONNEGINT", r"\b[0-9]+\b"),
    ("NUMBER", r"[+-]?[0-9]+(?:\.[0-9]+)?"),
    ("WORD", r"\b\w+\b"),
    ("NOTSPACE", r"\S+"),
    ("DATA", r".*?"),
    ("GREEDYDATA", r".*"),
    ("LOGLEVEL", r"(?:debug|info|notice|warn|error|crit|alert|emerg)"),
    ("IPORHOST", r"(?:[0-9a-fA-F:]*:[0-9a-fA-F:.]*|[0-9A-Za-z][0-9A-Za-z.-]*)"),
    ("URIPATHPARAM", r"(?:/[A-Za-z0-9$.+!*'(){},~:;=@#%&_-]*)+(?:\?\S*)?"),
    ("NGINXERRTIME", r"[0-9]{4}/[01][0-9]/[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9]"),
    (
        "APACHEERRORTIME",
        r"[A-Z][a-z]{2} [A-Z][a-z]{2} [0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9][.0-9]* [0-9]{4}",
    ),
    // What follows is from CrowdSec's hub, `parsers/s01-parse/crowdsecurity/modsecurity.yaml`, `pattern_syntax`.
    (
        "APACHEERRORPREFIX2",
        r"\[%{APACHEERRORTIME:timestamp}\] \[%{NOTSPACE:apacheseverity}\] (\[pid %{INT}(:tid %{INT})?\] )?\[client %{IPORHOST:sourcehost}(:%{INT:source_port})?\] (\[client %{IPORHOST}\])?",
    ),
    (
        "NGINXERRORPREFIX",
        r"%{NGINXERRTIME:time} \[%{LOGLEVEL:loglevel}\] %{NONNEGINT:pid}#%{NONNEGINT:tid}: (\*%{NONNEGINT:cid} )?(\[client %{IPORHOST}\] )?",
    ),
    (
        "NGINXERRORSUFFIX",
        r#"client: %{IPORHOST:remote_addr}, server: %{DATA:target_fqdn}, request: "%{WORD:verb} %{URIPATHPARAM:request} HTTP/%{NUMBER:http_version}", host: "%{IPORHOST}(:%{INT})?""#,
    ),
    (
        "MODSECNGINXPREFIX",
        r"%{NGINXERRORPREFIX}ModSecurity: (%{NOTSPACE:modsecseverity}\. )?%{GREEDYDATA:modsecmessage}",
    ),
    (
        "MODSECPREFIX2",
        r"%{APACHEERRORPREFIX2} ModSecurity: (%{NOTSPACE:modsecseverity}\. )?%{GREEDYDATA:modsecmessage}",
    ),
    ("MODSECRULEFILE2", r#"\[file "%{DATA:rulefile}"\]"#),
    ("MODSECRULELINE2", r#"\[line "%{DATA:ruleline}"\]"#),
    ("MODSECMATCHOFFSET2", r#"\[offset "%{DATA:matchoffset}"\]"#),
    ("MODSECRULEID2", r#"\[id "%{DATA:ruleid}"\]"#),
    ("MODSECRULEREV2", r#"\[rev "%{DATA:rulerev}"\]"#),
    ("MODSECRULEMSG2", r#"\[msg "%{DATA:rulemessage}"\]"#),
    ("MODSECRULEDATA2", r#"\[data "%{DATA:ruledata}"\]"#),
    ("MODSECRULESEVERITY2", r#"\[severity "%{DATA:ruleseverity}"\]"#),
    ("MODSECRULEMATURITY", r#"\[maturity "%{DATA:maturity}"\]"#),
    ("MODSECRULEACCURACY", r#"\[accuracy "%{DATA:accuracy}"\]"#),
    ("MODSECRULEVERS2", r#"\[ver "%{DATA:version}"\]"#),
    (
        "MODSECRULETAGS2",
        r#"(?:\[tag "%{DATA:ruletag0}"\] )?(?:\[tag "%{DATA:ruletag1}"\] )?(?:\[tag "%{DATA:ruletag2}"\] )?(?:\[tag "%{DATA}"\] )*"#,
    ),
    ("MODSECHOSTNAME2", r#"\[hostname ['"]%{DATA:targethost}["']\]"#),
    ("MODSECURI2", r#"\[uri ["']%{DATA:targeturi}["']\]"#),
    ("MODSECUID2", r#"\[unique_id "%{DATA:uniqueid}"\]"#),
    ("MODSECREF2", r#"\[ref "%{DATA:ref}"\]"#),
    (
        "MODSECAPACHEERROR2",
        "%{MODSECPREFIX2} %{MODSECRULEFILE2} %{MODSECRULELINE2} (?:%{MODSECMATCHOFFSET2} )?(?:%{MODSECRULEID2} )?(?:%{MODSECRULEREV2} )?(?:%{MODSECRULEMSG2} )?(?:%{MODSECRULEDATA2} )?(?:%{MODSECRULESEVERITY2} )?(?:%{MODSECRULEVERS2} )?%{MODSECRULETAGS2}%{MODSECHOSTNAME2} %{MODSECURI2} %{MODSECUID2}",
    ),
    (
        "MODSECNGINXERROR",
        "%{MODSECNGINXPREFIX} %{MODSECRULEFILE2} %{MODSECRULELINE2} (?:%{MODSECMATCHOFFSET2} )?(?:%{MODSECRULEID2} )?(?:%{MODSECRULEREV2} )?(?:%{MODSECRULEMSG2} )?(?:%{MODSECRULEDATA2} )?(?:%{MODSECRULESEVERITY2} )?(?:%{MODSECRULEVERS2} )?(?:%{MODSECRULEMATURITY} )?(?:%{MODSECRULEACCURACY} )?%{MODSECRULETAGS2}%{MODSECHOSTNAME2} %{MODSECURI2} %{MODSECUID2} %{MODSECREF2}, %{NGINXERRORSUFFIX}",
    ),
];

/// fail2ban's `filter.d/apache-modsecurity.conf` (1.0.2) with its `_apache_error_client`; it takes the date out of the
/// brackets first.
const FAIL2BAN: &str = r#"^\[\]\s\[(:?error|\S+:\S+)\]( \[pid \d+(:\S+ \d+)?\])? \[client (?P<host>[0-9.]+)(:\d{1,5})?\](?: \[client [^\]]+\])? ModSecurity:\s+(?:\[(?:\w+ "[^"]*"|[^\]]*)\]\s*)*Access denied with code [45]\d\d"#;

/// go-ftw's pattern for the ids of a line (`ftwlog`).
const GO_FTW: &str = r#"\[(?:id |\\?"id\\?":)\\?"(\d+)\\?"\]"#;

/// A grok pattern as a regular expression.
fn grok(name: &str) -> Regex {
    let reference = Regex::new(r"%\{(\w+)(?::(\w+))?\}").unwrap();
    let mut text = format!("%{{{name}}}");
    while reference.is_match(&text) {
        let expand = |captures: &Captures<'_>| {
            let (_, pattern) = GROK.iter().find(|(name, _)| *name == &captures[1]).expect("a known pattern");
            match captures.get(2) {
                Some(field) => format!("(?P<{}>{pattern})", field.as_str()),
                None => format!("(?:{pattern})"),
            }
        };
        text = reference.replace_all(&text, expand).into_owned();
    }
    Regex::new(&text).unwrap()
}

#[test]
fn lines_as_of_nginx() {
    let (gateway, _origin) = start("error_log = \"logs/error.log\"");
    let refused = get(gateway.public(), "/shop/a%20b?id=1%20UNION%20SELECT%22%5D%20%5Bid%20%22949110%22%5D");
    assert_eq!(refused.status(), 403);
    let lines = lines(&gateway, "logs/error.log", 2);
    assert_eq!(lines.len(), 2, "{lines:?}");

    let parser = grok("MODSECNGINXERROR");
    let fields = |line: usize| parser.captures(&lines[line]).unwrap_or_else(|| panic!("{}", lines[line]));
    let (warned, denied) = (fields(0), fields(1));
    for (name, expected) in [
        ("loglevel", "warn"),
        ("modsecseverity", "Warning"),
        (
            "modsecmessage",
            r"Matched \x22Operator `Rx' with parameter `(?i)union\x5cs+select' against variable `ARGS:id' (Value: `1 UNION SELECT\x22] [id \x22949110\x22]' )",
        ),
        ("ruleid", "1001"),
        ("rulerev", ""),
        ("rulemessage", "SQL injection"),
        (
            "ruledata",
            r"Matched Data: UNION SELECT found within ARGS:id: 1 UNION SELECT\x22] [id \x22949110\x22]",
        ),
        ("ruleseverity", "2"),
        ("version", "OWASP_CRS/4.0.0"),
        ("maturity", "0"),
        ("accuracy", "0"),
        ("ruletag0", "attack-sqli"),
        ("ruletag1", "paranoia-level/1"),
        ("targeturi", "/shop/a%20b"),
        ("uniqueid", id(&refused)),
        ("ref", "o2,12t:urlDecodeUni"),
        ("remote_addr", "127.0.0.1"),
        ("verb", "GET"),
        ("request", "/shop/a%20b"),
        ("http_version", "1.1"),
    ] {
        // The quotation mark that v3 opens and never closes.
        let expected = expected.replacen(r"Matched \x22", "Matched \"", 1);
        assert_eq!(&warned[name], expected, "{name} in {}", lines[0]);
    }
    assert!(warned["rulefile"].ends_with("rules/test.conf"), "{}", &warned["rulefile"]);
    assert_eq!(
        &denied["modsecmessage"],
        "Access denied with code 403 (phase 2). Matched \"Operator `Ge' with parameter `5' against variable `TX:inbound_anomaly_score_pl1' (Value: `5' )"
    );
    assert_eq!((&denied["loglevel"], &denied["ruleid"]), ("error", "949110"));
    assert_eq!(&denied["rulemessage"], "Inbound Anomaly Score Exceeded (Total Score: 5)");

    // What an attacker wrote does not pass for another rule.
    let ids = Regex::new(GO_FTW).unwrap();
    let found = |line: &str| ids.captures_iter(line).map(|found| found[1].to_owned()).collect::<Vec<_>>();
    assert_eq!([found(&lines[0]), found(&lines[1])], [vec!["1001"], vec!["949110"]]);
}

#[test]
fn lines_as_of_apache() {
    let (gateway, _origin) = start("error_log = \"logs/error.log\"\nerror_format = \"apache\"");
    assert_eq!(get(gateway.public(), "/?id=1+union+select").status(), 403);
    let lines = lines(&gateway, "logs/error.log", 2);
    let parser = grok("MODSECAPACHEERROR2");
    let fields = |line: usize| parser.captures(&lines[line]).unwrap_or_else(|| panic!("{}", lines[line]));
    let (warned, denied) = (fields(0), fields(1));
    for (name, expected) in [
        ("sourcehost", "127.0.0.1"),
        ("modsecseverity", "Warning"),
        ("ruleid", "1001"),
        ("ruleseverity", "CRITICAL"),
        ("ruletag1", "paranoia-level/1"),
        ("targeturi", "/"),
    ] {
        assert_eq!(&warned[name], expected, "{name} in {}", lines[0]);
    }
    assert_eq!(&denied["ruleid"], "949110");

    let fail2ban = Regex::new(FAIL2BAN).unwrap();
    let dateless = Regex::new(r"^\[[^\]]*\]").unwrap();
    let banned = |line: &String| {
        let line = dateless.replace(line, "[]").into_owned();
        fail2ban.captures(&line).map(|found| found["host"].to_owned())
    };
    assert_eq!(lines.iter().map(banned).collect::<Vec<_>>(), [None, Some("127.0.0.1".to_owned())]);
}

/// What is logged of a secret is that a rule matched in it.
#[test]
fn secrets_are_masked_in_both_logs() {
    let (gateway, _origin) = start(
        "error_log = \"logs/error.log\"\naudit_log = \"logs/audit.json\"\naudit = \"on\"\nparts = \"ABCFHZ\"",
    );
    let fields = [
        "authorization: Bearer s3cr3t union select",
        "cookie: a=s3cr3t union select; b=s3cr3t",
        "x-api-key: s3cr3t",
        "referer: https://a.test/?token=s3cr3t%20union%20select",
        "content-type: application/x-www-form-urlencoded",
    ];
    let answer = request(
        gateway.public(),
        "POST /a?token=s3cr3t&q=1",
        &fields,
        "password=s3cr3t+union+select&comment=seen",
    );
    assert_eq!(answer.status(), 403);
    let audited = lines(&gateway, "logs/audit.json", 1).remove(0);
    // Five values match rule 1001, which is reported once; the token is matched by a chain, captured and quoted.
    let logged = lines(&gateway, "logs/error.log", 3).join("\n");
    for text in [&audited, &logged] {
        assert!(text.contains("[redacted]") && !text.contains("s3cr3t"), "{text}");
    }
    let entry: Value = serde_json::from_str(&audited).unwrap();
    let request = &entry["transaction"]["request"];
    assert_eq!(request["uri"], "/a?token=[redacted]&q=1");
    assert_eq!(request["headers"]["cookie"], "[redacted]");
    assert_eq!(request["headers"]["x-api-key"], "[redacted]");
    assert_eq!(request["headers"]["referer"], "https://a.test/?token=[redacted]");
    assert_eq!(request["body"], "password=[redacted]&comment=seen");
}

/// The shape is that of the log that Elastic's integration tests its pipeline with
/// (`packages/modsecurity/data_stream/auditlog/_dev/test/pipeline/test-audit.log`).
#[test]
fn audit_entries_as_of_modsecurity_3() {
    let (gateway, _origin) = start("audit_log = \"logs/audit.json\"\nrelevant_status = [\"4xx\", \"!404\"]");
    assert_eq!(get(gateway.public(), "/harmless").status(), 200);
    assert_eq!(get(gateway.public(), "/harmless?q=quiet").status(), 200);
    let refused = request(gateway.public(), "GET /?id=1+union+select", &["x-twice: 1", "x-twice: 2"], "");
    let entries = lines(&gateway, "logs/audit.json", 1);
    assert_eq!(entries.len(), 1, "only what is relevant: {entries:?}");
    let entry: Value = serde_json::from_str(&entries[0]).unwrap();
    // By this Elastic's pipeline takes it for nginx's.
    assert!(entry["audit_data"]["server"].as_str().unwrap().to_lowercase().contains("nginx"));
    let transaction = &entry["transaction"];
    assert_eq!(transaction["client_ip"], "127.0.0.1");
    assert_eq!(transaction["host_port"], gateway.public().port());
    assert_eq!(transaction["unique_id"], id(&refused));
    assert!(transaction["client_port"].is_u64());
    // `E MMM dd HH:mm:ss yyyy` and `E MMM  d HH:mm:ss yyyy` are what Elastic's pipeline reads.
    let time =
        Regex::new(r"^[A-Z][a-z]{2} [A-Z][a-z]{2} [ 1-3][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}$").unwrap();
    assert!(time.is_match(transaction["time_stamp"].as_str().unwrap()), "{}", transaction["time_stamp"]);
    let request = &transaction["request"];
    assert_eq!((&request["method"], &request["uri"]), (&"GET".into(), &"/?id=1+union+select".into()));
    assert_eq!(request["http_version"], 1.1);
    assert_eq!(request["headers"]["x-twice"], serde_json::json!(["1", "2"]));
    assert!(request.get("body").is_none(), "bodies are not logged unless asked for");
    assert_eq!(transaction["response"]["http_code"], 403);
    assert_eq!(transaction["producer"]["secrules_engine"], "Enabled");
    assert_eq!(transaction["producer"]["components"], serde_json::json!(["TEST_RULES/1.0"]));
    let message = &transaction["messages"][0];
    assert_eq!(message["message"], "SQL injection");
    let details = &message["details"];
    for (name, expected) in [
        ("reference", "o2,12t:urlDecodeUni"),
        ("ruleId", "1001"),
        ("data", "Matched Data: union select found within ARGS:id: 1 union select"),
        ("severity", "2"),
        ("ver", "OWASP_CRS/4.0.0"),
        ("rev", ""),
        ("maturity", "0"),
        ("accuracy", "0"),
    ] {
        assert_eq!(details[name], expected, "{name}");
    }
    assert_eq!(details["tags"], serde_json::json!(["attack-sqli", "paranoia-level/1"]));
    assert!(
        details["match"].as_str().unwrap().starts_with("Matched \"Operator `Rx' with parameter"),
        "{details}"
    );
    assert!(details["lineNumber"].as_str().unwrap().parse::<u32>().is_ok());
    assert_eq!(transaction["messages"][1]["details"]["ruleId"], "949110");
}

/// `auditlog` alone makes a request relevant; an answer that got through has its fields.
#[test]
fn parts_and_relevance() {
    let (gateway, _origin) = start("audit_log = \"logs/audit.json\"\naudit = \"on\"\nparts = \"AFEZ\"");
    assert_eq!(get(gateway.public(), "/harmless").status(), 200);
    let entry: Value = serde_json::from_str(&lines(&gateway, "logs/audit.json", 1)[0]).unwrap();
    let transaction = &entry["transaction"];
    assert!(transaction.get("messages").is_none() && transaction["request"].get("headers").is_none());
    let response = &transaction["response"];
    assert_eq!((&response["http_code"], &response["headers"]["x-backend"]), (&200.into(), &"b".into()));
    assert_eq!(response["headers"]["set-cookie"], "[redacted]");
    assert_eq!(response["body"], "", "rules look at no response bodies here");

    let (gateway, _origin) = start("audit_log = \"logs/audit.json\"\naudit = \"off\"");
    assert_eq!(get(gateway.public(), "/?id=1+union+select").status(), 403);
    assert!(!gateway.folder().join("logs/audit.json").exists());
}

/// As logrotate does it: rename, then SIGHUP.
#[test]
fn rotation() {
    let (gateway, _origin) = start("error_log = \"logs/error.log\"");
    let attack = || assert_eq!(get(gateway.public(), "/?id=1+union+select").status(), 403);
    attack();
    assert_eq!(lines(&gateway, "logs/error.log", 2).len(), 2);
    let logs = gateway.folder().join("logs");
    fs::rename(logs.join("error.log"), logs.join("error.log.1")).unwrap();
    let reloads = r#"portcullis_reloads_total{result="success"}"#;
    let before = gateway.sample(reloads).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_sample(reloads, |now| now > before);
    attack();
    assert_eq!(lines(&gateway, "logs/error.log", 2).len(), 2);
    assert_eq!(lines(&gateway, "logs/error.log.1", 2).len(), 2);
    assert_eq!(gateway.sample(r#"portcullis_firewall_log_lines_dropped_total{log="error"}"#), Some(0.0));
}

/// A configuration that is wrong does not keep the logs from being rotated.
#[test]
fn rotation_with_a_broken_configuration() {
    let (gateway, _origin) = start("error_log = \"logs/error.log\"");
    gateway.replace("rules/test.conf", "SecRule");
    let failures = r#"portcullis_reloads_total{result="failure"}"#;
    gateway.wait_for_sample(failures, |now| now >= 1.0);
    let logs = gateway.folder().join("logs");
    fs::rename(logs.join("error.log"), logs.join("error.log.1")).unwrap();
    let before = gateway.sample(failures).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_sample(failures, |now| now > before);
    assert_eq!(get(gateway.public(), "/?id=1+union+select").status(), 403);
    assert_eq!(lines(&gateway, "logs/error.log", 2).len(), 2);
}

/// go-ftw's way: a marker before and after a request, both found in the log, and between them the ids of the rules.
#[test]
fn a_runner_of_go_ftw_finds_its_markers() {
    if !Path::new(CRS).is_dir() {
        eprintln!("SKIPPED: {CRS} is absent");
        return;
    }
    let origin = Origin::answering(Answer::ok(""));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("waf.log");
    let ports = Ports { public: free_port(), tls: free_port(), admin: free_port() };
    let gateway = Gateway::builder(BINARY)
        .env("PORT", &ports.public.port().to_string())
        .env("ADMIN_PORT", &ports.admin.port().to_string())
        .env("BACKEND_PORT", &origin.address().port().to_string())
        .env("CRS_DIR", &Path::new(CRS).canonicalize().unwrap().display().to_string())
        .env("WAF_LOG", &log.display().to_string())
        .arguments(&["run", "-c", CRS_CONFIG])
        .start_at(ports, "");
    let send = |target: &str, field: &str| {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client
            .send(format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\r\nAccept: */*\r\n{field}\r\n"
            ))
            .unwrap();
        assert_eq!(client.response().unwrap().status(), 200);
    };
    send("/", "X-CRS-Test: start-4f9a\r\n");
    send("/?id=/etc/passwd", "");
    send("/", "X-CRS-Test: end-4f9a\r\n");

    let deadline = Instant::now() + Duration::from_secs(30);
    let lines = loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if text.contains("X-CRS-Test end-4f9a") {
            break text.lines().map(str::to_owned).collect::<Vec<_>>();
        }
        assert!(Instant::now() < deadline, "{text}");
        thread::sleep(Duration::from_millis(10));
    };
    let marker = |text: &str| {
        let at = lines.iter().position(|line| line.to_lowercase().contains(text)).unwrap();
        assert!(lines[at].contains("[id \"999999\"]"), "{}", lines[at]);
        at
    };
    let between = &lines[marker("start-4f9a") + 1..marker("end-4f9a")];
    let ids = Regex::new(GO_FTW).unwrap();
    let found: Vec<&str> =
        between.iter().filter_map(|line| Some(ids.captures(line)?.get(1)?.as_str())).collect();
    assert!(found.contains(&"930120") && found.contains(&"932160"), "{found:?}");
    // BunkerWeb's page quotes this line of ModSecurity 3: `[ref "o1,10v9,11t:urlDecodeUni,t:cmdLine,t:normalizePath,…"]`.
    let quoted = between.iter().find(|line| line.contains("[id \"932160\"]")).unwrap();
    let same = [
        "with parameter `unix-shell.data' against variable `ARGS:id' (Value: `/etc/passwd' )",
        "[msg \"Remote Command Execution: Unix Shell Code Found\"]",
        "[data \"Matched Data: etc/passwd found within ARGS:id: /etc/passwd\"]",
        "[severity \"2\"]",
        "[ref \"o1,10t:",
    ];
    for part in same {
        assert!(quoted.contains(part), "{part} in {quoted}");
    }
}
