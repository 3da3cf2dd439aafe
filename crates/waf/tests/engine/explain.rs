//! What a report says of each match: where, by which operator, for how much, and what was left out.

use portcullis_waf::{ExclusionSettings, Match, OverlaySettings, Report, RuleSelection};

use crate::common::{Message, get, program, send};

fn report(rules: &str, message: &Message) -> Report {
    send(&program(rules), &OverlaySettings::default(), message, 9).0
}

fn only(rules: &str, message: &Message) -> Match {
    let mut matches = report(rules, message).matches;
    assert_eq!(matches.len(), 1, "{matches:?}");
    matches.remove(0)
}

/// The offset is what ModSecurity v3 writes as `o` in `[ref "o1,10v9,11t:urlDecodeUni,…"]`; this one is from BunkerWeb's
/// page on rule 932160 and `/?id=/etc/passwd`.
#[test]
fn a_match_is_found_in_its_transformed_value() {
    let rule = r#"SecRule ARGS "@pmFromFile names.data" "id:1,phase:1,t:urlDecodeUni,t:cmdLine,t:normalizePath,t:lowercase""#;
    let rule = rule.replace("@pmFromFile names.data", "@pm etc/passwd bin/sh");
    let found = only(&rule, &get("/?id=/etc/passwd"));
    assert_eq!((found.offset.clone(), found.snippet.as_str()), (Some(1..11), "/etc/passwd"));
    assert_eq!(found.transforms, ["urlDecodeUni", "cmdLine", "normalizePath", "lowercase"]);
    assert_eq!((found.operator.as_str(), found.parameter.as_str()), ("pm", "etc/passwd bin/sh"));
}

#[test]
fn offsets_of_operators() {
    for (operator, value, expected) in [
        (r"@rx b+", "abbc", Some(1..3)),
        (r"!@rx x", "abbc", None),
        (r"@contains bc", "abc", Some(1..3)),
        (r"@containsWord bc", "a bc", Some(2..4)),
        (r"@beginsWith ab", "abc", Some(0..2)),
        (r"@endsWith bc", "abc", Some(1..3)),
        (r"@streq abc", "abc", Some(0..3)),
        (r"@within abcd", "abc", Some(0..3)),
        (r"@ge 5", "12", Some(0..2)),
        (r"@ipMatch 10.0.0.0/8", "10.1.2.3", Some(0..8)),
        (r"@validateByteRange 97-122", "ab0c", Some(2..3)),
        (r"@validateUtf8Encoding", "ab%ffc", Some(2..3)),
        (r"@verifyCC \d{16}", "x4111111111111111", Some(1..17)),
        (r"@unconditionalMatch", "abc", Some(0..3)),
    ] {
        let rule = format!(r#"SecRule ARGS "{operator}" "id:1,phase:1""#);
        let found = only(&rule, &get(&format!("/?x={value}")));
        assert_eq!(found.offset, expected, "{operator}");
        let word = operator.split(' ').next().unwrap();
        assert_eq!(found.operator, word.replace('@', ""), "{operator}");
        assert_eq!(found.parameter, operator[word.len()..].trim_start(), "{operator}");
    }
}

#[test]
fn the_last_link_of_a_chain_is_reported_and_the_others_are_named() {
    let rules = r#"
        SecRule REQUEST_METHOD "@streq GET" "id:1,phase:1,chain"
          SecRule ARGS "@rx b" "t:lowercase""#;
    let found = only(rules, &get("/?x=aB"));
    assert_eq!((found.variable.as_str(), found.offset), ("ARGS:x", Some(1..2)));
    assert_eq!(found.also, ["REQUEST_METHOD"]);
    assert_eq!((found.operator.as_str(), found.transforms), ("rx", vec!["lowercase"]));
}

#[test]
fn an_action_has_no_variable() {
    let found = only(r#"SecAction "id:1,phase:1,log,msg:'x'""#, &get("/"));
    assert_eq!((found.variable.as_str(), found.operator.as_str(), found.offset), ("", "", None));
    assert!(found.also.is_empty() && found.parameter.is_empty());
}

/// As CRS scores: for each value that matches, into one score for the level and one for the kind of attack.
#[test]
fn scores_by_rule() {
    let rules = r#"
        SecAction "id:1,phase:1,nolog,setvar:tx.critical=5"
        SecRule ARGS "@rx a" "id:2,phase:1,setvar:tx.n=+1,setvar:'tx.sql_injection_score=+%{tx.critical}',setvar:'tx.inbound_anomaly_score_pl1=+%{tx.critical}'"
        SecRule ARGS "@rx never" "id:3,phase:1,setvar:tx.inbound_anomaly_score_pl1=+5"
        SecRule ARGS:x "@rx a" "id:4,phase:1,setvar:tx.inbound_anomaly_score_pl1=-2""#;
    let report = report(rules, &get("/?x=a&y=a&z=b"));
    let scores = |at: usize| {
        let scores = &report.matches[at].scores;
        scores.iter().map(|score| (&*score.name, score.amount)).collect::<Vec<_>>()
    };
    assert_eq!(scores(0), [("sql_injection_score", 10), ("inbound_anomaly_score_pl1", 10)]);
    assert_eq!(scores(1), [("inbound_anomaly_score_pl1", -2)]);
    assert_eq!(report.inbound_score, 8);
}

#[test]
fn what_a_rule_says_of_itself() {
    let rules = r#"SecRule ARGS "@rx a" "id:1,phase:1,msg:'m',severity:ERROR,ver:'OWASP_CRS/4.0.0',rev:'2',maturity:7,accuracy:8,tag:t,logdata:'%{MATCHED_VAR}'""#;
    let found = only(rules, &get("/?x=a"));
    assert_eq!((found.ver.as_deref(), found.rev.as_deref()), (Some("OWASP_CRS/4.0.0"), Some("2")));
    assert_eq!((found.maturity, found.accuracy, found.severity), (Some(7), Some(8), Some(3)));
}

#[test]
fn paranoia_and_exclusions_that_applied() {
    let rules = r#"
        SecRule ARGS|REQUEST_COOKIES "@rx a" "id:10,phase:2,tag:one"
        SecRule ARGS "@rx a" "id:11,phase:2,tag:two"
        SecRule REQUEST_URI "@rx ^/quiet" "id:12,phase:1,nolog,ctl:ruleRemoveTargetById=11;ARGS:x""#;
    let settings = OverlaySettings {
        paranoia: Some(2),
        detection_paranoia: Some(3),
        exclusions: vec![
            ExclusionSettings { rules: RuleSelection::Id(10), target: Some("ARGS:json.*.note".to_owned()) },
            ExclusionSettings { rules: RuleSelection::Id(12), target: Some("REQUEST_HEADERS".to_owned()) },
        ],
        ..OverlaySettings::default()
    };
    let report = send(&program(rules), &settings, &get("/quiet?x=a&json.0.note=a&json.1.note=a"), 9).0;
    assert_eq!((report.blocking_paranoia, report.detection_paranoia), (Some(2), Some(3)));
    let applied: Vec<_> =
        report.exclusions.iter().map(|exclusion| (exclusion.rule_id, exclusion.target.as_str())).collect();
    assert_eq!(applied, [(10, "ARGS:json.0.note"), (10, "ARGS:json.1.note"), (11, "ARGS:x")]);
    assert_eq!(report.removed_rules, 0);

    let whole = ExclusionSettings { rules: RuleSelection::Range(10, 11), target: None };
    let settings = OverlaySettings { exclusions: vec![whole], ..OverlaySettings::default() };
    let report = send(&program(rules), &settings, &get("/?x=a"), 9).0;
    assert_eq!((report.removed_rules, report.exclusions.len(), report.matches.len()), (2, 0, 0));
}

/// What is only tried out counts for itself, and what is in force does not see it.
#[test]
fn transactions_on_trial_have_collections_of_their_own() {
    let rules = r#"
        SecAction "id:1,phase:1,nolog,initcol:ip=explain-on-trial"
        SecAction "id:2,phase:1,nolog,setvar:ip.seen=+1"
        SecRule IP:seen "@ge 1" "id:3,phase:1,logdata:'%{MATCHED_VAR}'""#;
    let program = program(rules);
    let seen = |on_trial| {
        let settings = OverlaySettings { on_trial, ..OverlaySettings::default() };
        send(&program, &settings, &get("/"), 9).0.matches[0].logdata.clone()
    };
    assert_eq!([seen(true), seen(true), seen(false), seen(true), seen(false)], ["1", "2", "1", "3", "2"]);
}
