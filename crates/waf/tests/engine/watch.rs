//! What is written down of a watched transaction: why rules did and did not match.

use std::sync::Arc;

use portcullis_waf::trace::{Remover, RuleOutcome, RuleTrace, Trace, ValueOutcome, Watch};
use portcullis_waf::{ExclusionSettings, Overlay, OverlaySettings, Report, RuleSelection, Transaction};

use crate::common::program;

const RULES: &str = r#"
SecAction "id:1,phase:1,pass,nolog,setvar:tx.level=1"
SecRule REQUEST_HEADERS:X-Trusted "@streq yes" "id:2,phase:1,pass,nolog,ctl:ruleRemoveById=12,ctl:ruleRemoveTargetById=13;ARGS:note"
SecRule ARGS "@rx (?i)union\s+select" "id:10,phase:2,pass,log,t:none,t:urlDecodeUni,setvar:tx.inbound_anomaly_score_pl1=+5"
SecRule ARGS:absent|REQUEST_COOKIES "@rx x" "id:11,phase:2,pass,log"
SecRule ARGS "@contains select" "id:12,phase:2,pass,log"
SecRule ARGS "@contains select" "id:13,phase:2,pass,log"
SecRule REQUEST_METHOD "@streq GET" "id:14,phase:2,pass,log,chain"
    SecRule ARGS:q "!@within a b" "t:lowercase"
SecRule TX:level "@lt 2" "id:20,phase:2,pass,nolog,skipAfter:END"
SecRule ARGS "@contains q" "id:21,phase:2,pass,log"
SecMarker END
SecRule ARGS "@rx ^[0-9]{30}$" "id:22,phase:2,pass,log"
SecRule TX:inbound_anomaly_score_pl1 "@ge 5" "id:30,phase:2,deny"
SecRule ARGS "@rx x" "id:31,phase:2,deny"
"#;

fn watch(settings: &OverlaySettings, fields: &[(&str, &str)], watch: Option<Watch>) -> (Report, Trace) {
    let program = program(RULES);
    let overlay = Arc::new(Overlay::compile(&program, settings).unwrap());
    let mut transaction = Transaction::new(program, overlay, "id-1");
    if let Some(watch) = watch {
        transaction = transaction.watched(watch);
    }
    transaction.connection("192.0.2.7".parse().unwrap(), 40000, "192.0.2.1".parse().unwrap(), 443);
    transaction.request_line(b"GET", b"/?q=1+UNION%2520SELECT&note=select&long=1", b"HTTP/1.1");
    for (name, value) in fields {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    if transaction.check_request_headers().is_none() {
        let _ = transaction.check_request_body();
    }
    transaction.finish_watched()
}

fn rule(trace: &Trace, id: u32) -> &RuleTrace {
    trace.rules.iter().find(|rule| rule.id == id).unwrap()
}

/// The values that a rule's last condition saw.
fn seen(trace: &Trace, id: u32) -> Vec<(&str, &str, ValueOutcome)> {
    let condition = rule(trace, id).conditions.last().unwrap();
    condition.values.iter().map(|seen| (&*seen.variable, &*seen.value, seen.outcome)).collect()
}

#[test]
fn each_rule_says_what_it_saw_and_why_it_did_or_did_not_match() {
    let (report, trace) =
        watch(&OverlaySettings::default(), &[("X-Trusted", "yes")], Some(Watch::Everything));
    assert_eq!(report.interruption.as_ref().map(|found| found.rule_id), Some(30));
    let outcomes: Vec<_> = trace.rules.iter().map(|rule| (rule.id, rule.outcome)).collect();
    assert_eq!(
        outcomes,
        [
            (1, RuleOutcome::Matched),
            (2, RuleOutcome::Matched),
            (10, RuleOutcome::Matched),
            (11, RuleOutcome::NotMatched),
            (12, RuleOutcome::Removed(Remover::Rule(2))),
            (13, RuleOutcome::NotMatched),
            (14, RuleOutcome::Matched),
            (20, RuleOutcome::Matched),
            (21, RuleOutcome::Skipped(20)),
            (22, RuleOutcome::NotMatched),
            (30, RuleOutcome::Matched),
            (31, RuleOutcome::NotReached),
        ]
    );
    assert_eq!(
        [seen(&trace, 10)[0], seen(&trace, 10)[2]],
        [("ARGS:q", "1 UNION SELECT", ValueOutcome::Matched), ("ARGS:long", "1", ValueOutcome::Prefiltered)],
        "after transformations; without a text that every match has, the pattern is not asked"
    );
    let condition = &rule(&trace, 10).conditions[0];
    assert_eq!(
        (&*condition.targets, &*condition.operator, &*condition.argument),
        ("ARGS", "rx", r"(?i)union\s+select")
    );
    assert_eq!(condition.transformations, ["urlDecodeUni"]);
    assert!(seen(&trace, 11).is_empty(), "no such variable");
    assert_eq!(
        seen(&trace, 13)[1],
        ("ARGS:note", "select", ValueOutcome::Excluded(Remover::Rule(2))),
        "taken away by the rule"
    );
    assert_eq!(seen(&trace, 14), [("ARGS:q", "1 union%20select", ValueOutcome::Matched)]);
    assert_eq!(rule(&trace, 14).conditions[1].operator, "!within");
    assert_eq!(seen(&trace, 20), [("TX:level", "1", ValueOutcome::Matched)], "why the next is skipped");
    assert_eq!(seen(&trace, 22)[2], ("ARGS:long", "1", ValueOutcome::Impossible), "too short");
    assert!(rule(&trace, 1).conditions[0].targets.is_empty(), "SecAction asks nothing");
    assert!(trace.rules.iter().all(|rule| rule.nanoseconds == 0));
}

#[test]
fn exclusions_of_the_route_are_told_from_those_of_rules() {
    let exclusion = |id, target: Option<&str>| ExclusionSettings {
        rules: RuleSelection::Id(id),
        target: target.map(str::to_owned),
    };
    let settings = OverlaySettings {
        exclusions: vec![exclusion(13, Some("ARGS:long")), exclusion(11, None)],
        ..OverlaySettings::default()
    };
    let (_, trace) = watch(&settings, &[("X-Trusted", "yes")], Some(Watch::Everything));
    assert_eq!(rule(&trace, 11).outcome, RuleOutcome::Removed(Remover::Overlay));
    assert_eq!(rule(&trace, 12).outcome, RuleOutcome::Removed(Remover::Rule(2)));
    let outcomes: Vec<_> = seen(&trace, 13).iter().map(|(.., outcome)| *outcome).collect();
    assert_eq!(
        outcomes,
        [
            ValueOutcome::NotMatched,
            ValueOutcome::Excluded(Remover::Rule(2)),
            ValueOutcome::Excluded(Remover::Overlay)
        ]
    );
}

#[test]
fn who_watches_changes_nothing() {
    for fields in [&[][..], &[("X-Trusted", "yes")]] {
        let [plain, watched, timed] = [None, Some(Watch::Everything), Some(Watch::Costs)]
            .map(|how| watch(&OverlaySettings::default(), fields, how));
        assert_eq!(plain.0, watched.0);
        assert_eq!(plain.0, timed.0);
        assert!(plain.1.rules.is_empty());
        let outcomes = |trace: &Trace| trace.rules.iter().map(|rule| rule.outcome).collect::<Vec<_>>();
        let told: Vec<_> = outcomes(&watched.1);
        let costed: Vec<_> = outcomes(&timed.1);
        // Who removed a rule is not noted while only time is taken.
        assert!(told.iter().zip(&costed).all(|(a, b)| a == b || matches!(a, RuleOutcome::Removed(_))));
        assert!(timed.1.rules.iter().any(|rule| rule.nanoseconds > 0));
        assert!(timed.1.rules.iter().all(|rule| rule.conditions.is_empty()));
    }
}
