//! Section 7 and the directives that remove and update: what changes rules at run time and at load time.

use crate::common::{check, get, post, try_program};
use crate::table;

#[test]
fn which_rules_a_ctl_removes() {
    let rules = |ctl: &str| {
        format!(
            r#"SecAction "id:5,phase:1,tag:a,msg:'m'"
               SecAction "id:1,phase:1,nolog,{ctl}"
               SecAction "id:10,phase:1,tag:a,tag:'OWASP_CRS/X',msg:'found it'"
               SecAction "id:11,phase:1,tag:b,msg:'found'"
               SecAction "id:20,phase:2,tag:a""#
        )
    };
    // Rules that have run already are not undone.
    for (ctl, expected) in [
        ("ctl:ruleRemoveById=10", "5 11 20"),
        ("ctl:ruleRemoveById=10-19", "5 20"),
        ("ctl:ruleRemoveById=1-999999", "5"),
        ("ctl:ruleRemoveById=10,ctl:ruleRemoveById=20", "5 11"),
        ("ctl:ruleRemoveByTag=a", "5 11"),
        ("ctl:ruleRemoveByTag=OWASP", "5 10 11 20"),
        ("ctl:ruleRemoveByTag=/^OWASP_CRS/", "5 11 20"),
        ("ctl:ruleRemoveByMsg=found", "5 10 20"),
        ("ctl:'ruleRemoveByMsg=found it'", "5 11 20"),
        ("ctl:ruleRemoveByMsg=/^found/", "5 20"),
        ("ctl:ruleEngine=Off", "5"),
    ] {
        check(ctl, &rules(ctl), &get("/"), expected);
    }
}

#[test]
fn which_targets_a_ctl_removes() {
    let rules = |ctl: &str| {
        format!(
            r#"SecAction "id:1,phase:1,nolog,ctl:{ctl}"
               SecRule ARGS|ARGS_NAMES "@rx ^x" "id:10,phase:1,tag:t,msg:'m',logdata:'%{{tx.ten}}',setvar:'tx.ten=%{{tx.ten}} %{{MATCHED_VAR_NAME}}'"
               SecRule ARGS_GET "@rx ^x" "id:11,phase:1,tag:t,setvar:tx.n=+1,logdata:'%{{tx.n}}'""#
        )
    };
    for (ctl, expected) in [
        ("auditEngine=Off", "10= ARGS:xa ARGS:xb ARGS:c ARGS_NAMES:xa ARGS_NAMES:xb 11=3"),
        ("ruleRemoveTargetById=10;ARGS", "10= ARGS_NAMES:xa ARGS_NAMES:xb 11=3"),
        ("ruleRemoveTargetById=10;ARGS:XA", "10= ARGS:xb ARGS:c ARGS_NAMES:xa ARGS_NAMES:xb 11=3"),
        // A pattern is searched in the key, in any case, and need not name all of it.
        ("ruleRemoveTargetById=10;ARGS:/^X/", "10= ARGS:c ARGS_NAMES:xa ARGS_NAMES:xb 11=3"),
        (r"ruleRemoveTargetById=10;ARGS:/^\S$/", "10= ARGS:xa ARGS:xb ARGS_NAMES:xa ARGS_NAMES:xb 11=3"),
        ("ruleRemoveTargetById=10-11;ARGS_GET:/./", "10= ARGS:xa ARGS:xb ARGS:c ARGS_NAMES:xa ARGS_NAMES:xb"),
        ("ruleRemoveTargetByTag=t;ARGS_NAMES", "10= ARGS:xa ARGS:xb ARGS:c 11=3"),
        (
            "ruleRemoveTargetByTag=/^t/;ARGS_GET:xa",
            "10= ARGS:xa ARGS:xb ARGS:c ARGS_NAMES:xa ARGS_NAMES:xb 11=2",
        ),
        ("ruleRemoveTargetByMsg=m;ARGS_NAMES:xa", "10= ARGS:xa ARGS:xb ARGS:c ARGS_NAMES:xb 11=3"),
        ("ruleRemoveTargetById=12;ARGS", "10= ARGS:xa ARGS:xb ARGS:c ARGS_NAMES:xa ARGS_NAMES:xb 11=3"),
    ] {
        check(ctl, &rules(ctl), &get("/?xa=x1&xb=x2&c=x3"), expected);
    }
    table(&[
        (
            "fields by pattern, as libmodsecurity's users ask for (its issue 3505)",
            r#"SecAction "id:1,phase:1,nolog,ctl:ruleRemoveTargetById=10;REQUEST_HEADERS:/^x-trace-/"
               SecRule REQUEST_HEADERS "@contains select" "id:10,phase:1,logdata:'%{MATCHED_VAR_NAME}'""#,
            get("/").field("Y", "select").field("X-Trace-Id", "select"),
            "10=REQUEST_HEADERS:Y",
        ),
        (
            "a TX variable",
            r#"SecAction "id:1,phase:1,nolog,setvar:tx.a=1,setvar:tx.b=1,ctl:ruleRemoveTargetById=10;TX:a"
               SecRule TX:a "@eq 1" "id:10,phase:1"
               SecRule TX:/^[ab]$/ "@eq 1" "id:11,phase:1,logdata:'%{MATCHED_VAR_NAME}'""#,
            get("/"),
            "11=TX:b",
        ),
        (
            "of every link of the chain",
            r#"SecAction "id:1,phase:1,nolog,ctl:ruleRemoveTargetByTag=t;ARGS:b"
               SecRule ARGS:a "@rx ." "id:10,phase:1,tag:t,chain"
               SecRule ARGS "@streq 2""#,
            get("/?a=1&b=2"),
            "",
        ),
        (
            "when the ctl's own rule matches, not otherwise",
            r#"SecRule REQUEST_FILENAME "@streq /login" "id:1,phase:1,nolog,ctl:ruleRemoveTargetById=10;ARGS:pass"
               SecRule ARGS "@rx select" "id:10,phase:2""#,
            get("/other?pass=select"),
            "10",
        ),
    ]);
}

#[test]
fn the_body_under_control() {
    let form = |body: &str| post("application/x-www-form-urlencoded", body);
    let json = || post("application/json", r#"{"a":"evil"}"#);
    table(&[
        (
            "another processor, chosen in phase 1",
            r#"SecAction "id:1,phase:1,nolog,ctl:requestBodyProcessor=JSON"
               SecRule ARGS:json.a "@streq evil" "id:2,logdata:'%{REQBODY_PROCESSOR}'""#,
            json(),
            "2=JSON",
        ),
        (
            "chosen in phase 2 it comes too late",
            r#"SecAction "id:1,phase:2,nolog,ctl:requestBodyProcessor=JSON"
               SecRule ARGS:json.a "@rx ." "id:2""#,
            json(),
            "",
        ),
        (
            "the body kept as text beside the arguments",
            r#"SecAction "id:1,phase:1,nolog,ctl:requestBodyProcessor=JSON,ctl:forceRequestBodyVariable=On"
               SecRule REQUEST_BODY "@contains evil" "id:2"
               SecRule ARGS:json.a "@rx ." "id:3""#,
            json(),
            "2 3",
        ),
        (
            "no body read",
            r#"SecAction "id:1,phase:1,nolog,ctl:requestBodyAccess=Off"
               SecRule ARGS|REQUEST_BODY "@rx ." "id:2"
               SecAction "id:3""#,
            form("a=1"),
            "3",
        ),
        (
            "one that is read after all",
            r#"SecRequestBodyAccess Off
               SecAction "id:1,phase:1,nolog,ctl:requestBodyAccess=On"
               SecRule ARGS "@rx ." "id:2""#,
            form("a=1"),
            "2",
        ),
        (
            "the response's body",
            r#"SecAction "id:1,phase:3,nolog,ctl:responseBodyAccess=On"
               SecRule RESPONSE_BODY "@contains x" "id:2,phase:4""#,
            get("/").answered(200, "text/plain", "xyz"),
            "2",
        ),
        (
            "several at once (Coraza ctl.go)",
            r#"SecAction "id:1,phase:1,ctl:ruleRemoveByTag=test, ctl:ruleRemoveById=444, ctl:ruleRemoveByMsg=test, ctl:ruleRemoveTargetById=5;ARGS_GET:id, ctl:ruleRemoveTargetByTag=test-tag;ARGS_GET:id, ctl:ruleRemoveTargetByMsg=sometest;ARGS_GET:id, ctl:forceRequestBodyVariable=On"
               SecAction "id:2,phase:1,tag:test"
               SecAction "id:3,phase:1,msg:'test'"
               SecRule ARGS_GET "1234" "id:4,phase:1"
               SecRule ARGS_GET "1234" "id:5,phase:1"
               SecRule ARGS_GET "1234" "id:6,phase:1,tag:test-tag"
               SecRule ARGS_GET "1234" "id:7,phase:1,msg:'sometest'"
               SecRule REQBODY_PROCESSOR "URLENCODED" "id:100"
               SecRule REQUEST_BODY "pizza" "id:103"
               SecRule ARGS_POST:pineapple "pizza" "id:105"
               SecAction "id:444""#,
            {
                let mut message = form("pineapple=pizza");
                message.target = "/test.php?id=1234".to_owned();
                message
            },
            "1 4 100 103 105",
        ),
        (
            "what a test of CRS begins with",
            r#"SecRule REQUEST_HEADERS:X-CRS-Test "@rx ^.*$" "id:999999,phase:1,pass,t:none,log,msg:'X-CRS-Test %{MATCHED_VAR}',logdata:'%{MATCHED_VAR}',ctl:ruleRemoveById=1-999999"
               SecAction "id:10,phase:1"
               SecAction "id:11,phase:5""#,
            get("/").field("X-CRS-Test", "942100-1"),
            "999999=942100-1",
        ),
    ]);
    for (ctl, reason) in [
        ("ruleRemoveById=x", "id"),
        ("ruleRemoveTargetById=10", "RULES;VARIABLE"),
        ("ruleRemoveTargetById=10;ARG:x", "ARGS"),
        ("ruleRemoveTargetById=10;ARGS:/(/", "group"),
        ("requestBodyProcessor=YAML", "YAML"),
        ("ruleEngine=Maybe", "Maybe"),
        ("noSuchThing=1", "noSuchThing"),
    ] {
        let error = try_program(&format!("SecAction \"id:1,phase:1,ctl:{ctl}\"")).expect_err(ctl);
        assert!(error.contains(reason), "{ctl}: {error}");
    }
}

#[test]
fn targets_updated_at_load_time() {
    // Coraza directives_ruleexclusions.go and ModSecurity config-update-target-by-*.json ask the same.
    let rules = |update: &str| {
        format!(
            r#"SecRule ARGS:t1 "@rx aaa" "id:10,phase:1,tag:one,msg:'m'"
               SecRule ARGS:t2 "@rx bbb" "id:12,phase:1,tag:two"
               SecRule ARGS:t1|REQUEST_COOKIES "@rx aaa" "id:16,phase:1,tag:two"
               {update}"#
        )
    };
    let message = get("/index.php?t1=aaa&t2=bbb").field("Cookie", "cookie=aaa").field("X", "bbb");
    for (update, expected) in [
        ("", "10 12 16"),
        ("SecRuleUpdateTargetById 10 \"!ARGS:t1\"", "12 16"),
        ("SecRuleUpdateTargetById 10 !ARGS:T1", "12 16"),
        ("SecRuleUpdateTargetById 11-13 \"!ARGS:t2\"", "10 16"),
        ("SecRuleUpdateTargetById 10 12 \"!ARGS:t1|!ARGS:t2\"", "16"),
        ("SecRuleUpdateTargetById 16 \"!ARGS:t1\"", "10 12 16"),
        ("SecRuleUpdateTargetById 16 \"!ARGS:t1|!REQUEST_COOKIES:/^cook/\"", "10 12"),
        ("SecRuleUpdateTargetById 10 \"!ARGS:/^t/\"", "12 16"),
        ("SecRuleUpdateTargetById 12 \"!ARGS:t2|REQUEST_HEADERS:X\"", "10 12 16"),
        ("SecRuleUpdateTargetByTag two \"!ARGS:t2\"", "10 16"),
        ("SecRuleUpdateTargetByTag \"two\" \"!ARGS:t2\"", "10 16"),
        ("SecRuleUpdateTargetByTag tWo \"!ARGS:t2\"", "10 12 16"),
        ("SecRuleUpdateTargetByTag tw \"!ARGS:t2\"", "10 12 16"),
        ("SecRuleUpdateTargetByMsg m \"!ARGS:t1\"", "12 16"),
        ("SecRuleUpdateTargetById 12 REQUEST_COOKIES ARGS:t2", "10 16"),
        ("SecRuleRemoveById 10 12-16", ""),
        ("SecRuleRemoveById \"10\" \"16\"", "12"),
        ("SecRuleRemoveByTag two", "10"),
        ("SecRuleRemoveByTag /^t/", "10"),
        ("SecRuleRemoveByMsg m", "12 16"),
    ] {
        check(update, &rules(update), &message, expected);
    }
}

#[test]
fn actions_updated_at_load_time() {
    // ModSecurity config-update-action-by-id.json and Coraza directives_updateactions.go ask the same.
    let rules = |default: &str, own: &str, update: &str| {
        format!(
            "{default}\nSecRule ARGS \"@contains value1\" \"phase:1,id:4,{own}\"\nSecAction \"phase:1,id:5\"\nSecRuleUpdateActionById {update}"
        )
    };
    for (default, own, update, expected) in [
        ("", "deny", "4 \"allow\"", "4"),
        ("", "deny", "4 \"pass\"", "4 5"),
        ("SecDefaultAction \"phase:1,log,deny\"", "block", "4 \"pass\"", "4 5 deny 403@1"),
        (
            "",
            "block,deny",
            "4 \"redirect:'https://%{request_headers.host}/'\"",
            "4 redirect:https://h.example/ 302@1",
        ),
        (
            "",
            "pass",
            "4 \"redirect:'https://www.example/',status:302\"",
            "4 redirect:https://www.example/ 302@1",
        ),
        ("", "pass", "1-4 \"deny,status:404\"", "4 deny 404@1"),
        ("", "deny", "4 \"nolog\"", "deny 403@1"),
        ("", "pass,t:uppercase", "4 \"t:none\"", "4 5"),
        ("", "pass,t:uppercase", "4 \"t:lowercase\"", "4 5"),
        ("", "pass", "4 \"setvar:tx.a=1,logdata:'%{tx.a}'\"", "4=1 5"),
    ] {
        let message = get("/?param1=value1").field("Host", "h.example");
        check(update, &rules(default, own, update), &message, expected);
    }
    for update in ["4 \"id:9\"", "4 \"phase:2\"", "4 \"chain\""] {
        assert!(try_program(&rules("", "pass", update)).is_err(), "{update}");
    }
}
