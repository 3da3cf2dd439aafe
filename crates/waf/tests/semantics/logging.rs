//! Section 13: severities, messages, and what a report says.

use portcullis_waf::OverlaySettings;

use crate::common::{check, get, program, send, try_program};

#[test]
fn severities() {
    let names = ["EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"];
    for (number, name) in (0u8..).zip(names) {
        for written in [name.to_owned(), name.to_lowercase(), format!("'{name}'"), number.to_string()] {
            let rules = format!("SecAction \"id:1,phase:1,severity:{written}\"");
            let (report, _) = send(&program(&rules), &OverlaySettings::default(), &get("/"), 9);
            assert_eq!(report.matches[0].severity, Some(number), "{written}");
        }
    }
    assert!(try_program("SecAction \"id:1,severity:8\"").is_err());
    assert!(try_program("SecAction \"id:1,severity:FATAL\"").is_err());
}

#[test]
fn the_highest_severity() {
    for (rules, expected) in [
        ("", 255),
        ("SecAction \"id:1,phase:1,nolog,severity:5\"", 5),
        ("SecAction \"id:1,phase:1,nolog,severity:5\"\nSecAction \"id:2,phase:1,nolog,severity:2\"", 2),
        ("SecAction \"id:1,phase:1,nolog,severity:2\"\nSecAction \"id:2,phase:1,nolog,severity:5\"", 2),
        ("SecRule ARGS \"@rx none\" \"id:1,phase:1,severity:2\"", 255),
    ] {
        let rules = format!("{rules}\nSecAction \"id:9,phase:5,logdata:'%{{HIGHEST_SEVERITY}}'\"");
        check(&rules, &rules, &get("/?a=1"), &format!("9={expected}"));
    }
}

#[test]
fn only_what_is_to_be_logged_is_reported() {
    let rules = r#"
        SecRule TX:level "@lt 2" "id:1,phase:1,nolog,skipAfter:E"
        SecAction "id:2,phase:1,nolog,setvar:tx.a=1"
        SecAction "id:3,phase:1,nolog,deny"
        SecMarker E
        SecAction "id:4,phase:1"
    "#;
    check("an interruption without a report", rules, &get("/"), "deny 403@1");
}

#[test]
fn messages() {
    for (text, expected) in [
        ("plain", "plain"),
        ("in %{MATCHED_VAR_NAME}", "in ARGS:q"),
        ("value %{MATCHED_VAR}", r"value a\x00\x0ab"),
        ("[%{tx.none}]", "[]"),
    ] {
        let rules = format!("SecRule ARGS \"@rx a\" \"id:1,msg:'{text}',logdata:'{text}'\"");
        let (report, _) = send(&program(&rules), &OverlaySettings::default(), &get("/?q=a%00%0ab"), 9);
        assert_eq!(report.matches[0].logdata, expected, "{text}");
        assert!(!report.matches[0].msg.chars().any(char::is_control), "{text}");
    }
    // However long a value is, a report holds little of it.
    let rules = program("SecRule ARGS \"@rx a\" \"id:1,logdata:'%{MATCHED_VAR}'\"");
    let long = format!("/?q={}", "a".repeat(10_000));
    let (report, _) = send(&rules, &OverlaySettings::default(), &get(&long), 9);
    assert!(report.matches[0].logdata.len() < 1000 && report.matches[0].snippet.len() < 1000);
}

/// Macros in tags are expanded when the rule has matched; rules are chosen by the tag as written.
#[test]
fn tags() {
    let rules = r#"
        SecDefaultAction "phase:1,pass,log,tag:'host/%{REQUEST_HEADERS.host}'"
        SecRule ARGS "@rx (a)" "id:1,phase:1,capture,tag:'OWASP_CRS/é',tag:'%{TX.1}/%{MATCHED_VAR_NAME}',tag:'100%'"
        SecRule ARGS "@rx a" "id:2,phase:1,tag:'value/%{MATCHED_VAR}',tag:'%{tx.none}'"
        SecRule ARGS "@rx a" "id:3,phase:1,tag:'odd/%{MATCHED_VAR}'"
        SecRuleRemoveByTag odd/%{MATCHED_VAR}
    "#;
    let program = program(rules);
    let long = format!("/?q=a%00{}", "x".repeat(10_000));
    let (report, _) =
        send(&program, &OverlaySettings::default(), &get(&long).field("Host", "example.org"), 9);
    let tags: Vec<Vec<&str>> =
        report.matches.iter().map(|found| found.tags.iter().map(AsRef::as_ref).collect()).collect();
    assert_eq!(tags[0], ["OWASP_CRS/é", "a/ARGS:q", "100%", "host/example.org"]);
    assert!(
        tags[1][0].starts_with(r"value/a\x00xxx") && tags[1][0].len() <= portcullis_waf::SNIPPET,
        "{:?}",
        tags[1]
    );
    assert_eq!(tags[1][1..], ["", "host/example.org"]);
    assert_eq!(tags.len(), 2);
    let written: Vec<&str> = program.rules().flat_map(|rule| rule.tags).collect();
    assert!(written.contains(&"%{TX.1}/%{MATCHED_VAR_NAME}"), "{written:?}");
}
