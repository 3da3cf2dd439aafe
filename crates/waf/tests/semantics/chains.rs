//! Sections 5 and 6: chains and `multiMatch`.

use crate::common::{check, get, try_program};
use crate::table;

#[test]
fn the_starter_speaks_for_the_chain() {
    table(&[
        (
            "phase, message, severity and jump are the starter's",
            r#"SecRule ARGS:a "@rx ." "id:1,phase:1,msg:'first',severity:2,logdata:'one',skipAfter:E,chain"
               SecRule ARGS:b "@rx ." "phase:2,msg:'second',severity:5,logdata:'two'"
               SecAction "id:2,phase:1"
               SecMarker E
               SecAction "id:3,phase:1,logdata:'%{HIGHEST_SEVERITY}'""#,
            get("/?a=1&b=2"),
            "1=one 3=2",
        ),
        (
            "a severity of a chain that does not match counts for nothing",
            r#"SecRule ARGS:a "@rx ." "id:1,severity:2,chain"
               SecRule ARGS:b "@rx ."
               SecAction "id:3,logdata:'%{HIGHEST_SEVERITY}'""#,
            get("/?a=1"),
            "3=255",
        ),
        (
            "links of actions alone (Coraza chains.go, rules 1 and 2)",
            r#"SecAction "id:1,chain"
               SecAction "chain"
               SecAction "pass"
               SecAction "id:2,chain"
               SecAction "chain"
               SecRule ARGS "@noMatch""#,
            get("/?a=1"),
            "1",
        ),
        (
            "one message for the chain, expanded after the last link (ModSecurity issue-2423)",
            r#"SecRule ARGS "@rx prepayloadpost" "id:1,logdata:'%{tx.name}: %{MATCHED_VAR}',setvar:'tx.name=%{MATCHED_VAR_NAME}',chain"
               SecRule MATCHED_VAR "@rx pre" "chain"
               SecRule MATCHED_VAR "@rx post""#,
            get("/?Var2=prepayloadpost"),
            "1=ARGS:Var2: prepayloadpost",
        ),
        (
            "the values of all links so far (Coraza match.go, rules 30 and 35)",
            r#"SecRule ARGS "12345" "id:30,chain"
               SecRule ARGS "pineapple" "chain"
               SecRule MATCHED_VARS "12345"
               SecRule ARGS "12345" "id:35,chain"
               SecRule ARGS "pineapple" "chain"
               SecRule MATCHED_VARS_NAMES "ARGS:id"
               SecRule REQUEST_HEADERS "123" "id:40,chain"
               SecRule REQUEST_HEADERS "456" "chain"
               SecRule MATCHED_VARS_NAMES "ARGS:id""#,
            get("/test.php?id=12345&pizza=pineapple").field("test", "123").field("test2", "456"),
            "30 35",
        ),
        (
            "names of what names matched (Coraza chains.go, rule 21)",
            r#"SecRule REQUEST_HEADERS "@rx attack21" "id:21,phase:1,chain"
               SecRule MATCHED_VARS_NAMES "@rx (?i:host)" "chain"
               SecRule MATCHED_VAR_NAME "@rx MATCHED_VARS_NAMES" "block""#,
            get("/").field("Host", "attack21ing.com"),
            "21",
        ),
    ]);
}

#[test]
fn what_the_starter_matched() {
    table(&[
        (
            "not what a rule before it matched (ModSecurity issue 3382)",
            r#"SecRule ARGS "@rx x" "id:1"
               SecRule ARGS "@rx y" "id:2,chain"
               SecRule MATCHED_VARS "@rx ." "setvar:tx.score=+5"
               SecAction "id:3,logdata:'%{tx.score}'""#,
            get("/?a=x&b=xy&c=y"),
            "1 2 3=10",
        ),
        (
            "not even one that a chain before it matched",
            r#"SecRule ARGS "@rx x" "id:1,chain"
               SecRule MATCHED_VARS "@rx x"
               SecRule ARGS "@rx y" "id:2,chain"
               SecRule &MATCHED_VARS "@eq 1""#,
            get("/?a=x&b=y"),
            "1 2",
        ),
    ]);
}

#[test]
fn effects_of_links() {
    table(&[
        (
            "what a link sets is set though a later one fails (CRS 920450)",
            r#"SecRule REQUEST_HEADERS_NAMES "@rx ^(.*)$" "id:1,phase:1,capture,setvar:'tx.header_%{tx.0}=%{tx.0}',chain"
               SecRule TX:/^header_/ "@within nothing"
               SecRule TX:header_x-one "@streq X-One" "id:2,phase:1""#,
            get("/").field("X-One", "1"),
            "2",
        ),
        (
            "the last link's for each of its values, and no more",
            r#"SecRule ARGS "@rx x" "id:1,chain"
               SecRule MATCHED_VARS "@rx [12]" "setvar:tx.score=+5"
               SecAction "id:2,logdata:'%{tx.score}'""#,
            get("/?a=x1&b=x2&c=x3"),
            "1 2=10",
        ),
        (
            "a link's ctl when that link matches",
            r#"SecRule ARGS:a "@rx ." "id:1,ctl:ruleRemoveById=3,chain"
               SecRule ARGS:b "@rx ."
               SecAction "id:3"
               SecAction "id:4""#,
            get("/?a=1"),
            "4",
        ),
        (
            "links do not inherit the starter's transformations",
            r#"SecRule ARGS:a "@streq a" "id:1,t:lowercase,chain"
               SecRule ARGS:a "@streq A""#,
            get("/?a=A"),
            "1",
        ),
    ]);
}

#[test]
fn what_a_link_may_not_say() {
    for action in ["deny", "drop", "redirect:/x", "allow", "status:404", "skip:1", "skipAfter:E", "id:7"] {
        let rules = format!("SecRule ARGS a \"id:1,chain\"\nSecRule ARGS b \"{action}\"\nSecMarker E");
        assert!(try_program(&rules).is_err(), "{action}");
    }
    for action in ["phase:1", "pass", "block", "msg:'x'", "severity:1"] {
        let rules = format!("SecRule ARGS a \"id:1,deny,chain\"\nSecRule ARGS b \"{action}\"");
        check(action, &rules, &get("/?x=ab"), "1 deny 403@2");
    }
}

#[test]
fn multi_match_asks_every_form_that_differs() {
    for (transformations, value, forms) in [
        ("t:none", "A", 1),
        ("t:none,t:lowercase", "A", 2),
        ("t:none,t:lowercase", "a", 1),
        ("t:none,t:lowercase,t:none", "A", 1),
        ("t:lowercase,t:uppercase,t:lowercase", "aB", 4),
        // What changes without getting shorter has changed too (libmodsecurity 3 looks at the length alone).
        ("t:cmdLine", "Ab", 2),
        ("t:cmdLine,t:compressWhitespace", "a%20%20B", 2),
        ("t:urlDecode,t:urlDecode", "%252541", 3),
        ("t:removeNulls,t:htmlEntityDecode", "%26amp;", 2),
    ] {
        let rules = format!(
            "SecRule ARGS \"@unconditionalMatch\" \"id:1,nolog,multiMatch,{transformations},setvar:tx.n=+1\"\n\
             SecAction \"id:2,logdata:'%{{tx.n}}'\""
        );
        check(transformations, &rules, &get(&format!("/?q={value}")), &format!("2={forms}"));
    }
    table(&[(
        "any form may match",
        r#"SecRule ARGS "@streq A%41" "id:1,multiMatch,t:urlDecode,t:lowercase,logdata:'%{MATCHED_VAR}'"
               SecRule ARGS "@streq AA" "id:2,multiMatch,t:urlDecode,t:lowercase"
               SecRule ARGS "@streq aa" "id:3,multiMatch,t:urlDecode,t:lowercase"
               SecRule ARGS "@streq AA" "id:4,t:urlDecode,t:lowercase""#,
        get("/?q=A%2541"),
        "1=A%41 2 3",
    )]);
}
