//! The command line: what each command prints, where, and with which exit code it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gateway, Origin, free_port, get};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const TEST_SECRET: &str = "a-secret-of-this-test-that-is-long-enough";

/// What a command did.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the binary in a folder, with the shell's words for its arguments.
fn portcullis(folder: impl AsRef<Path>, arguments: &str) -> Done {
    let output = Command::new(BINARY)
        .args(arguments.split_ascii_whitespace())
        .current_dir(folder.as_ref())
        .env("PORTCULLIS_TEST_SECRET", TEST_SECRET)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A folder with a configuration and one rule file.
fn folder(config: &str, rules: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("rules")).unwrap();
    fs::write(folder.path().join("gateway.toml"), config).unwrap();
    fs::write(folder.path().join("rules/own.conf"), rules).unwrap();
    folder
}

const SOUND: &str = r#"
[[listener]]
name = "public"
address = "127.0.0.1:1"
[upstream.backend]
endpoints = [{ address = "127.0.0.1:2" }]
[identity.dev]
issuer = "https://issuer.test"
audiences = ["api"]
algorithms = ["HS256"]
keys = [{ kid = "k1", algorithm = "HS256", secret = "${PORTCULLIS_TEST_SECRET}" }]
[[route]]
name = "all"
match = { path = "/{*rest}" }
upstream = "backend"
auth = { providers = ["dev"], any_caller = true }
"#;
const SOUND_RULES: &str =
    "SecRuleEngine On\nSecRule ARGS \"@contains x\" \"id:1,phase:2,deny,log,msg:'One',tag:'attack-sqli'\"\n";

/// Every line has a mistake of its own, except where a comment says otherwise.
const BAD: &str = r#"
[server]
grase = "30s"
[[listener]]
name = "public"
address = "127.0.0.1"
[upstream.backend]
endpoints = [{ address = "127.0.0.1:2", wieght = 2 }]
[identity.dev]
issuer = "https://issuer.test"
algorithms = ["HS257"]
keys = [{ kid = "k1", algorithm = "HS256", secret = "${PORTCULLIS_TEST_NOT_SET}" }]
[[route]]
name = "one"
match = { path = "/a/{id}" }
upstream = "bakcend"
"#;
const BAD_RULES: &str = r#"SecRuleEngin On
SecRule ARGS "@contians x" "id:1,phase:2,deny"
SecRule ARGZ "@rx x" "id:2,phase:2,deny"
SecRule ARGS "@rx (" "id:3,phase:2,deny"
SecRule ARGS "@rx x" "id:4,phase:2,denny"
SecRule ARGS "@rx x" "id:5,phase:2,deny,t:lowercas"
SecRule ARGS "@rx x" "phase:2,deny"
SecRule ARGS "@rx x" "id:5,phase:2,deny"
"#;

#[test]
fn help_and_version() {
    let help = portcullis(ROOT, "--help");
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    for word in ["run", "check", "demo", "token", "rules", "schema", "probe", "Exit codes:"] {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
    let version = portcullis(ROOT, "--version");
    assert_eq!(version.code, Some(0));
    assert_eq!(version.out, format!("portcullis {}\n", env!("CARGO_PKG_VERSION")));
    for command in [
        "run",
        "check",
        "demo",
        "token",
        "rules",
        "rules check",
        "rules list",
        "rules dump",
        "rules test",
        "rules bench",
        "schema",
        "probe",
        "demo-service",
    ] {
        let help = portcullis(ROOT, &format!("{command} --help"));
        assert_eq!(help.code, Some(0), "{command}");
        assert!(help.out.contains("Usage:") && help.err.is_empty(), "{command}");
    }
}

#[test]
fn a_wrong_command_line_is_2_and_says_why() {
    for (arguments, said) in [
        ("", "Usage:"),
        ("chekc", "check"),
        ("run --confg x", "--config"),
        ("demo --without princing", "pricing"),
        ("token --ttl soon", "--ttl"),
        ("token --claim x", "NAME=VALUE"),
        ("demo-service", "<SERVICE>"),
        ("probe", "<URL>"),
    ] {
        let done = portcullis(ROOT, arguments);
        assert_eq!(done.code, Some(2), "{arguments}");
        assert!(done.err.contains(said) && done.out.is_empty(), "{arguments}: {}", done.err);
    }
}

#[test]
fn check_is_content_with_what_we_ship() {
    let done = portcullis(ROOT, "check -c gateway.toml");
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("routes") && done.out.contains("firewall rules"), "{}", done.out);
    let from_elsewhere = portcullis("/", &format!("check -c {ROOT}/gateway.toml"));
    assert_eq!(
        from_elsewhere.code,
        Some(0),
        "files are relative to the configuration: {}",
        from_elsewhere.err
    );
}

/// Whether a finding stands at `place` and its text, up to the next finding, says all of these.
fn has_finding(printed: &str, place: &str, said: &[&str]) -> bool {
    printed.split("\n\n").any(|finding| {
        finding.contains(&format!("{place}\n")) && said.iter().all(|word| finding.contains(word))
    })
}

#[test]
fn check_prints_every_mistake_with_its_place_and_what_was_meant() {
    let folder = folder(BAD, BAD_RULES);
    let done = portcullis(&folder, "check");
    assert_eq!(done.code, Some(1));
    assert_eq!(done.out, "");
    for (place, said) in [
        ("gateway.toml:3:1", &["grase", "grace"][..]),
        ("gateway.toml:6:11", &["127.0.0.1"]),
        ("gateway.toml:8:41", &["wieght", "weight"]),
        ("gateway.toml:11:15", &["HS257", "HS256"]),
        ("gateway.toml:12:54", &["PORTCULLIS_TEST_NOT_SET"]),
        ("gateway.toml:16:12", &["bakcend", "backend"]),
        ("rules/own.conf:1:1", &["SecRuleEngin", "SecRuleEngine"]),
        ("rules/own.conf:2:16", &["contians", "contains"]),
        ("rules/own.conf:3:9", &["ARGZ", "ARGS"]),
        ("rules/own.conf:5:36", &["denny", "deny"]),
        ("rules/own.conf:6:43", &["lowercas", "lowercase"]),
    ] {
        assert!(has_finding(&done.err, place, said), "{place} {said:?}:\n{}", done.err);
    }
    for line in [4, 7, 8] {
        assert!(done.err.contains(&format!("rules/own.conf:{line}:")), "line {line}:\n{}", done.err);
    }
    assert!(!done.err.contains(TEST_SECRET));
}

/// With `firewall.allow_unsupported` what the engine does not have is listed and left out.
#[test]
fn rules_that_are_not_supported_can_be_left_out() {
    let rules = "SecRule ARGS \"@inspectFile x\" \"id:1,deny\"\nSecRule ARGS \"@rx x\" \"id:2,deny\"\n";
    let strict = portcullis(folder(SOUND, rules), "check");
    assert_eq!(strict.code, Some(1), "{}", strict.err);
    assert!(
        has_finding(&strict.err, "rules/own.conf:1:15", &["error[SEC0104]", "@inspectFile"]),
        "{}",
        strict.err
    );
    let config = format!("{SOUND}\n[firewall]\nallow_unsupported = true\n");
    let lenient = portcullis(folder(&config, rules), "check");
    assert_eq!(lenient.code, Some(0), "{}", lenient.err);
    let said = lenient.out + &lenient.err;
    assert!(has_finding(&said, "rules/own.conf:1:15", &["warning[SEC0104]", "rule 1 is left out"]), "{said}");
}

#[test]
fn run_and_demo_refuse_to_start_on_mistakes() {
    for (config, rules, said) in [
        (BAD, SOUND_RULES, "grase"),
        (SOUND, BAD_RULES, "contians"),
        ("", SOUND_RULES, "listener"),
        ("[[listener]", SOUND_RULES, "gateway.toml:1:"),
    ] {
        let folder = folder(config, rules);
        let checked = portcullis(&folder, "check");
        for command in ["run", "demo", "run -c gateway.toml --log-format json"] {
            let done = portcullis(&folder, command);
            assert_eq!(done.code, Some(1), "{command}");
            assert!(done.err.contains(said), "{command}: {}", done.err);
            assert_eq!(done.err, checked.err, "{command} says what check says");
        }
    }
    let missing = portcullis("/", "run -c /nowhere/gateway.toml");
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("/nowhere/gateway.toml"), "{}", missing.err);
}

#[test]
fn an_address_in_use_is_said_and_ends_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for place in ["public", "admin"] {
        let (public, admin) = match place {
            "public" => (address.clone(), free_port().to_string()),
            _ => (free_port().to_string(), address.clone()),
        };
        let config = SOUND.replace("127.0.0.1:1", &public) + &format!("[admin]\nlisten = \"{admin}\"\n");
        let done = portcullis(folder(&config, SOUND_RULES), "run");
        assert_eq!(done.code, Some(1), "{}", done.err);
        assert!(done.err.contains(place) && done.err.contains(&address), "{}", done.err);
    }
}

#[test]
fn a_variable_that_is_not_set_is_a_mistake_and_never_text() {
    let config = SOUND.replace("${PORTCULLIS_TEST_SECRET}", "${PORTCULLIS_TEST_NOT_SET}");
    let folder = folder(&config, SOUND_RULES);
    for command in ["check", "run", "token"] {
        let done = portcullis(&folder, command);
        assert_eq!(done.code, Some(1), "{command}");
        assert!(done.err.contains("PORTCULLIS_TEST_NOT_SET"), "{command}: {}", done.err);
        assert!(done.err.contains("gateway.toml:11:"), "{command}: {}", done.err);
    }
}

#[test]
fn rules_are_listed_with_id_phase_message_and_place() {
    let folder = folder(SOUND, SOUND_RULES);
    let done = portcullis(&folder, "rules list");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    assert!(done.out.starts_with("1\tphase 2\t"), "{}", done.out);
    assert!(done.out.contains("One") && done.out.trim_end().ends_with("rules/own.conf:2"), "{}", done.out);
    assert_eq!(portcullis(&folder, "rules list --tag attack-xss").out, "");
    let bad = portcullis(self::folder(SOUND, BAD_RULES), "rules list");
    assert_eq!(bad.code, Some(1));
    assert!(bad.err.contains("own.conf:2:16"), "{}", bad.err);

    let ours = portcullis(ROOT, "rules list");
    assert_eq!(ours.code, Some(0));
    let ids: Vec<u32> =
        ours.out.lines().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect();
    assert!(ids.len() > 100 && ids.iter().all(|id| (1_000_000..1_100_000).contains(id)));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "no id twice");
    let named = portcullis(ROOT, "rules list rules/000-setup.conf");
    assert!(named.out.lines().count() < ids.len() && named.code == Some(0), "{}", named.err);
}

#[test]
fn the_schema_is_the_one_in_docs() {
    let printed: Value = serde_json::from_str(&portcullis(ROOT, "schema").out).unwrap();
    let text = fs::read_to_string(Path::new(ROOT).join("docs/gateway.schema.json")).unwrap();
    assert_eq!(printed, serde_json::from_str::<Value>(&text).unwrap());
}

#[test]
fn a_token_says_what_was_asked_and_opens_the_route() {
    let origin = Origin::answering(Answer::ok("in"));
    let upstream = origin.address().to_string();
    let gateway = Gateway::builder(BINARY)
        .file("rules/own.conf", SOUND_RULES)
        .env("PORTCULLIS_TEST_SECRET", TEST_SECRET)
        .start(|ports| {
            let config = SOUND.replace("127.0.0.1:1", &ports.public.to_string());
            config.replace("127.0.0.1:2", &upstream) + &format!("[admin]\nlisten = \"{}\"\n", ports.admin)
        });
    let arguments = "token --sub alice --scope a --scope b:c --claim level=3 --claim team=red --ttl 15m";
    let done = portcullis(gateway.folder(), arguments);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    let token = done.out.trim_end();
    let parts: Vec<&str> = token.split('.').collect();
    let (head, claims) = (decoded(parts[0]), decoded(parts[1]));
    assert_eq!((&head["alg"], &head["kid"]), (&"HS256".into(), &"k1".into()));
    for (name, value) in [
        ("iss", Value::from("https://issuer.test")),
        ("aud", "api".into()),
        ("sub", "alice".into()),
        ("scope", "a b:c".into()),
        ("level", 3.into()),
        ("team", "red".into()),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 15 * 60);
    assert!(!done.out.contains(TEST_SECRET));
    let ask = |fields: &[&str]| portcullis_testkit::request(gateway.public(), "GET /x", fields, "").status();
    assert_eq!(ask(&[]), 401);
    assert_eq!(ask(&[&format!("authorization: Bearer {token}")]), 200);

    let unknown = portcullis(gateway.folder(), "token --identity nobody");
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("nobody") && unknown.err.contains("dev"), "{}", unknown.err);
}

/// Decodes a part of a token (base64url without padding, RFC 7515 §2).
fn decoded(part: &str) -> Value {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => panic!("{part}"),
    };
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for c in part.bytes() {
        held = (held << 6 | u32::from(digit(c))) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn probe_tells_by_its_exit_code() {
    let origin = Origin::start(|request| match request.target() {
        "/readyz" => Answer::ok("ready"),
        "/hang" => Answer::hang(),
        _ => Answer::status(503).body("no"),
    });
    let ask = |path: &str| portcullis(ROOT, &format!("probe {}{path} --timeout 1", origin.url()));
    let ready = ask("/readyz");
    assert_eq!((ready.code, ready.out.as_str(), ready.err.as_str()), (Some(0), "", ""));
    let unready = ask("/other");
    assert!(unready.code == Some(1) && unready.err.contains("503"), "{}", unready.err);
    let hung = ask("/hang");
    assert!(hung.code == Some(1) && hung.err.contains("1 s"), "{}", hung.err);
    for url in [format!("http://{}/", free_port()), "https://a.test/".into(), "nonsense".into()] {
        let done = portcullis(ROOT, &format!("probe {url}"));
        assert_eq!(done.code, Some(1), "{url}");
        assert!(done.err.contains(&url), "{}", done.err);
    }
}

#[test]
fn logs_are_json_unless_a_terminal_or_the_operator_wants_them_otherwise() {
    let origin = Origin::answering(Answer::ok("fine"));
    let start = |arguments: &[&str], log: &str| {
        let upstream = origin.address().to_string();
        let log = log.to_owned();
        let gateway = Gateway::builder(BINARY)
            .file("rules/own.conf", SOUND_RULES)
            .env("PORTCULLIS_TEST_SECRET", TEST_SECRET)
            .arguments(&[&["run"], arguments].concat())
            .start(|ports| {
                let config = SOUND.replace("127.0.0.1:1", &ports.public.to_string());
                config.replace("127.0.0.1:2", &upstream)
                    + &format!("[admin]\nlisten = \"{}\"\n{log}", ports.admin)
            });
        let _ = get(gateway.public(), "/x");
        let _ = gateway.wait_for_line(|line| line.contains("/x"));
        gateway.log()
    };
    let is_json = |lines: &[String]| lines.iter().all(|line| serde_json::from_str::<Value>(line).is_ok());
    let by_itself = start(&[], "");
    assert!(is_json(&by_itself), "{}", by_itself.join("\n"));
    assert!(by_itself.iter().any(|line| line.contains("\"ready\"")));
    assert!(is_json(&start(
        &["--log-format", "json"],
        "log.format = \"human\"\n".replace("log.", "[log]\n").as_str()
    )));
    let human = start(&["--log-format", "human"], "");
    assert!(human.iter().any(|line| line.contains("GET /x 401")), "{}", human.join("\n"));
    assert!(!human.iter().any(|line| line.starts_with('{')), "{}", human.join("\n"));
}
