//! The compiled program as text.

use crate::common::program;

#[test]
fn dump() {
    let program = program(
        r#"SecRuleEngine On
SecDefaultAction "phase:2,log,pass,t:lowercase"
SecAction "id:1,phase:1,nolog,setvar:tx.score=0,ctl:ruleRemoveTargetByTag=sqli;ARGS:note"
SecRule TX:paranoia "@lt 2" "id:2,phase:2,nolog,skipAfter:END"
SecRule ARGS|ARGS_NAMES|!ARGS:/^x-/ "@rx (?i)union\s+(?:all\s+)?select" \
    "id:3,phase:2,t:none,t:urlDecodeUni,t:lowercase,block,capture,multiMatch,tag:sqli,severity:CRITICAL,\
    msg:'found %{tx.0} in %{MATCHED_VAR_NAME}',setvar:'tx.score=+%{tx.critical}',chain"
    SecRule MATCHED_VARS "@pm users passwords" "setvar:'tx.seen_%{MATCHED_VAR_NAME}=1'"
SecRule REQUEST_HEADERS:User-Agent "!@within %{tx.agents}" "id:4,phase:1,deny,status:406,t:none"
SecMarker END
SecRule TX:score "@ge 5" "id:5,phase:2,deny"
"#,
    );
    insta::assert_snapshot!(program.dump());
    let rules: Vec<_> = program.rules().map(|rule| (rule.id, rule.line, rule.links)).collect();
    assert_eq!(rules, [(1, 3, 1), (2, 4, 1), (3, 5, 2), (4, 9, 1), (5, 11, 1)]);
}
