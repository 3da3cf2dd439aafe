//! The language's semantics, paragraph by paragraph of `seclang-semantics.md`.

use portcullis_waf::OverlaySettings;

use crate::common::{Message, check, get, post, program, send, try_program, verdict};

fn table(rows: &[(&str, &str, Message, &str)]) {
    for (name, rules, message, expected) in rows {
        check(name, rules, message, expected);
    }
}

#[test]
fn phases_and_order() {
    let all = r#"
        SecAction "id:5,phase:logging"
        SecAction "id:4,phase:response"
        SecAction "id:3,phase:3"
        SecAction "id:2"
        SecAction "id:1,phase:1"
    "#;
    let deny = r#"
        SecAction "id:1,phase:1"
        SecAction "id:2,phase:1,deny,status:418"
        SecAction "id:3,phase:1"
        SecAction "id:4,phase:2"
        SecAction "id:5,phase:5,deny"
    "#;
    let args = r#"
        SecRule ARGS "@rx ." "id:1,phase:1,logdata:'%{MATCHED_VAR_NAME}'"
        SecRule ARGS "@rx ." "id:2,phase:2,logdata:'%{MATCHED_VAR_NAME}'"
    "#;
    let mut form = post("application/x-www-form-urlencoded", "b=2");
    form.target = "/?a=1".to_owned();
    table(&[
        ("phase order, not file order", all, get("/").answered(200, "text/plain", ""), "1 2 3 4 5"),
        ("no response, no response phases", all, get("/"), "1 2 5"),
        ("an interruption skips all but phase 5", deny, get("/"), "1 2 5 deny 418@1"),
        ("phase 1 knows the query, phase 2 the body", args, form, "1=ARGS:a 2=ARGS:b"),
    ]);
}

#[test]
fn default_actions() {
    let default = |actions: &str, rules: &str| format!("SecDefaultAction \"phase:2,{actions}\"\n{rules}");
    for (name, rules, expected) in [
        (
            "block is the default's action with its status",
            default("log,deny,status:451", r#"SecAction "id:1,block""#),
            "1 deny 451@2",
        ),
        ("no disruptive action: the default's", default("log,deny", r#"SecAction "id:1""#), "1 deny 403@2"),
        ("pass wins over the default", default("log,deny", r#"SecAction "id:1,pass""#), "1"),
        (
            "only rules after it",
            "SecAction \"id:1,block\"\nSecDefaultAction \"phase:2,log,deny\"".to_owned(),
            "1",
        ),
        (
            "of its phase only",
            "SecDefaultAction \"phase:1,log,deny\"\nSecAction \"id:1,block\"".to_owned(),
            "1",
        ),
        (
            "nolog from the default, log from the rule",
            default("nolog,pass", "SecAction \"id:1\"\nSecAction \"id:2,log\""),
            "2",
        ),
        (
            "transformations apply",
            default(
                "log,pass,t:lowercase",
                "SecRule ARGS \"@streq abc\" \"id:1\"\nSecRule ARGS \"@streq ABC\" \"id:2,t:none\"",
            ),
            "1 2",
        ),
    ] {
        check(name, &rules, &get("/?a=ABC"), expected);
    }
}

#[test]
fn every_value_is_asked() {
    table(&[
        (
            "setvar happens once for each value",
            r#"SecRule ARGS "@rx x" "id:1,setvar:tx.n=+5"
               SecAction "id:2,logdata:'%{tx.n}'""#,
            get("/?a=x&b=y&c=x&a=x"),
            "1 2=15",
        ),
        (
            "the last match is remembered, all are collected",
            r#"SecRule ARGS "@rx x" "id:1,logdata:'%{MATCHED_VAR_NAME}',chain"
               SecRule MATCHED_VARS_NAMES "@streq ARGS:a" "chain"
               SecRule &MATCHED_VARS "@ge 3""#,
            get("/?a=x1&b=y&c=x2"),
            "1=&MATCHED_VARS",
        ),
        (
            "a negated operator asks each value",
            r#"SecRule ARGS "!@streq a" "id:1,logdata:'%{MATCHED_VAR}'""#,
            get("/?x=a&y=b"),
            "1=b",
        ),
        (
            "nothing there, nothing asked",
            r#"SecRule ARGS:q "!@rx x" "id:1"
               SecRule REQUEST_HEADERS:X "!@eq 0" "id:2"
               SecRule TX:q "!@eq 1" "id:4"
               SecRule &ARGS:q "@eq 0" "id:3""#,
            get("/"),
            "3",
        ),
        (
            "counts",
            r#"SecRule &REQUEST_HEADERS:x-a "@eq 2" "id:1,logdata:'%{MATCHED_VAR_NAME}'"
               SecRule &ARGS "@eq 3" "id:2"
               SecRule &TX:/^t_/ "@eq 2" "id:3,phase:2"
               SecAction "id:4,phase:1,nolog,setvar:tx.t_a=1,setvar:tx.T_b=1""#,
            get("/?a&b&a=").field("X-A", "1").field("x-a", "2"),
            "1=&REQUEST_HEADERS:x-a 2 3",
        ),
        (
            "integers as C reads them",
            r#"SecRule ARGS:a "@eq 12" "id:1"
               SecRule ARGS:b "@eq 0" "id:2""#,
            get("/?a=12abc&b=abc"),
            "1 2",
        ),
    ]);
}

#[test]
fn selectors_and_exclusions() {
    let rule = |targets: &str| {
        format!(
            "SecRule {targets} \"@rx .\" \"id:1,setvar:tx.n=+1\"\nSecRule TX:n \"@ge 0\" \"id:2,logdata:'%{{MATCHED_VAR}}'\""
        )
    };
    for (targets, expected) in [
        ("ARGS", "1 2=3"),
        ("ARGS:foo", "1 2=1"),
        ("ARGS:FOO", "1 2=1"),
        ("ARGS|!ARGS:Foo", "1 2=2"),
        ("!ARGS:foo|ARGS", "1 2=2"),
        ("ARGS|!ARGS:/^f\\S+$/", "1 2=1"),
        ("ARGS|!ARGS", ""),
        ("ARGS|ARGS_NAMES|!ARGS:foo", "1 2=5"),
        ("ARGS_GET|!ARGS:foo", "1 2=3"),
        ("ARGS_NAMES:/^F/", "1 2=2"),
        ("ARGS:/o{2}/", "1 2=1"),
        ("REQUEST_COOKIES:/^_ga(?:_\\w+)?$/", "1 2=2"),
    ] {
        let message = get("/?foo=1&far=2&x=3").field("Cookie", "_ga=1; _GA_x=2; other=3");
        check(targets, &rule(targets), &message, expected);
    }
}

#[test]
fn captures() {
    table(&[
        (
            "groups are set, missing ones unset",
            r#"SecAction "id:9,phase:1,nolog,setvar:tx.2=old,setvar:tx.7=old"
               SecRule ARGS "@rx (a)(b)?(c)" "id:1,capture,logdata:'%{tx.0}|%{tx.1}|%{tx.2}|%{tx.3}|%{tx.7}'""#,
            get("/?q=xacx"),
            "1=ac|a||c|",
        ),
        ("not without capture", r#"SecRule ARGS "@rx (a)" "id:1,logdata:'%{tx.1}.'""#, get("/?q=a"), "1=."),
        (
            "kept when nothing matches",
            r#"SecRule ARGS "@rx (a)" "id:1,capture"
               SecRule ARGS "@rx (b)" "id:2,capture"
               SecRule TX:1 "@streq a" "id:3""#,
            get("/?q=a"),
            "1 3",
        ),
        (
            "phrases",
            r#"SecRule ARGS "@pm foo bar" "id:1,capture,logdata:'%{tx.0} %{tx.1}'""#,
            get("/?q=xBARfoo"),
            "1=BAR foo",
        ),
        (
            "the fingerprint of an SQL injection",
            r#"SecRule ARGS "@detectSQLi" "id:1,capture,logdata:'%{tx.0} in %{MATCHED_VAR}'""#,
            get("/?a=union+of+states&b=1'+union+select+password+from+users&c=5"),
            "1=sUEnk in 1' union select password from users",
        ),
        (
            "the value that runs a script",
            r#"SecRule ARGS "@detectXSS" "id:1,capture,logdata:'%{tx.0}'""#,
            get("/?a=1<2&b=x<svg/onload%3Dalert(1)>&c=5"),
            "1=x<svg/onload=alert(1)>",
        ),
        (
            "no capture unless asked for, nor where nothing is found",
            r#"SecRule ARGS "@detectSQLi" "id:1,logdata:'[%{tx.0}]'"
               SecRule ARGS "!@detectSQLi" "id:2,capture"
               SecRule ARGS "!@detectXSS" "id:3,capture,logdata:'[%{tx.0}]'""#,
            get("/?a=1'+or+1%3D1--"),
            "1=[] 3=[]",
        ),
        (
            "later values win",
            r#"SecRule ARGS "@rx ." "id:1,capture,logdata:'%{tx.0}'""#,
            get("/?a=1&b=2"),
            "1=2",
        ),
    ]);
}

#[test]
fn variables_of_the_transaction() {
    table(&[
        (
            "all forms of setvar",
            r#"SecAction "id:1,setvar:tx.a=5,setvar:TX.A=+2,setvar:tx.b=-3,setvar:tx.c,setvar:'tx.d=x%{tx.a}y',setvar:tx.e=1,setvar:!tx.e,setvar:tx.f=abc,setvar:tx.f=+1,setvar:tx.g=+%{tx.a}"
               SecAction "id:2,logdata:'%{tx.a} %{tx.b} %{tx.c} %{tx.d} [%{tx.e}] %{tx.f} %{tx.g}'""#,
            get("/"),
            "1 2=7 -3 1 x7y [] 1 7",
        ),
        (
            "names with macros, found again by pattern and by name",
            r#"SecRule ARGS "@rx ." "id:1,setvar:'tx.Seen_%{MATCHED_VAR_NAME}=+1'"
               SecRule TX:/SEEN_/ "@ge 2" "id:2,logdata:'%{MATCHED_VAR_NAME}'"
               SecRule TX:seen_args:b "@eq 1" "id:3""#,
            get("/?A=1&A=2&b=3"),
            "1 2=TX:seen_args:a 3",
        ),
        (
            "unset expands to nothing",
            r#"SecAction "id:1,logdata:'[%{tx.nothing}%{args.none}]'""#,
            get("/"),
            "1=[]",
        ),
        (
            "macros in arguments",
            r#"SecAction "id:9,nolog,setvar:tx.max=3,setvar:'tx.list=|GET|HEAD|'"
               SecRule &ARGS "@gt %{tx.max}" "id:1"
               SecRule REQUEST_METHOD "!@within %{tx.list}" "id:2"
               SecRule ARGS:a "@streq %{ARGS.b}" "id:3"
               SecRule REQUEST_HEADERS:Referer "@endsWith %{request_headers.host}" "id:4""#,
            get("/?a=1&b=1").field("Host", "h.example").field("Referer", "//h.example"),
            "3 4",
        ),
        (
            "a collection without a key is its first value",
            r#"SecAction "id:1,logdata:'%{ARGS}'""#,
            get("/?a=1&b=2"),
            "1=1",
        ),
    ]);
}

#[test]
fn jumps() {
    let rules = |first: &str| {
        format!(
            r#"SecAction "id:1,phase:2,{first}"
               SecAction "id:2,phase:1"
               SecAction "id:3,phase:2"
               SecRule ARGS "@rx z" "id:4,phase:2,chain"
               SecRule ARGS "@rx z"
               SecMarker END
               SecAction "id:5,phase:2"
               SecMarker END
               SecAction "id:6,phase:3""#
        )
    };
    for (first, expected) in [
        ("pass", "2 1 3 4 5 6"),
        ("skip:1", "2 1 4 5 6"),
        ("skip:2", "2 1 5 6"),
        ("skip:9", "2 1 6"),
        ("skipAfter:END", "2 1 5 6"),
        ("skipAfter:4", "2 1 5 6"),
    ] {
        check(first, &rules(first), &get("/?z=z").answered(200, "text/plain", ""), expected);
    }
}

#[test]
fn chains() {
    table(&[
        (
            "a link's effects stay when a later link fails",
            r#"SecRule ARGS:a "@rx ." "id:1,deny,setvar:tx.n=+1,chain"
               SecRule ARGS:b "@rx ." "setvar:tx.n=+1,chain"
               SecRule ARGS:c "@rx ."
               SecAction "id:2,logdata:'%{tx.n}'""#,
            get("/?a=1&b=1"),
            "2=2",
        ),
        (
            "all match: once reported, macros after the last link",
            r#"SecRule ARGS:a "@rx ." "id:1,deny,logdata:'%{MATCHED_VAR_NAME}',chain"
               SecRule ARGS:b "@rx ." "t:lowercase""#,
            get("/?a=1&b=2"),
            "1=ARGS:b deny 403@2",
        ),
        (
            "links do not inherit transformations",
            r#"SecRule ARGS:a "@streq a" "id:1,t:lowercase,chain"
               SecRule MATCHED_VAR "@streq a" "chain"
               SecRule ARGS:a "@streq A""#,
            get("/?a=A"),
            "1",
        ),
        (
            "MATCHED_VARS holds what the starter matched",
            r#"SecRule ARGS "@rx ^x" "id:1,chain"
               SecRule MATCHED_VARS "@streq x2" "t:none""#,
            get("/?a=x1&b=x2&c=x3"),
            "1",
        ),
        (
            "not across rules",
            r#"SecRule ARGS "@rx ^x" "id:1"
               SecRule MATCHED_VARS "@rx ." "id:2""#,
            get("/?a=x1"),
            "1",
        ),
        (
            "skipAfter of the starter only when the whole chain matched",
            r#"SecRule ARGS "@rx 1" "id:1,skipAfter:E,chain"
               SecRule ARGS "@rx 2"
               SecAction "id:2"
               SecMarker E"#,
            get("/?a=1"),
            "2",
        ),
    ]);
}

#[test]
fn multi_match() {
    let rules = |extra: &str| {
        format!(
            r#"SecRule ARGS "@rx (?i)a" "id:1,t:none,t:lowercase,t:urlDecodeUni,{extra}setvar:tx.n=+1"
               SecAction "id:2,logdata:'%{{tx.n}}'""#
        )
    };
    check("one form", &rules(""), &get("/?q=Ab"), "1 2=1");
    check("each form that changed", &rules("multiMatch,"), &get("/?q=Ab"), "1 2=2");
    check("three forms", &rules("multiMatch,"), &get("/?q=A%2561"), "1 2=3");
    check("no change, one form", &rules("multiMatch,"), &get("/?q=ab"), "1 2=1");
}

#[test]
fn run_time_control() {
    let rules = |ctl: &str| {
        format!(
            r#"SecAction "id:1,phase:1,nolog,pass,ctl:{ctl}"
               SecRule ARGS:a "@rx ." "id:10,phase:2,tag:'x/y',tag:z,msg:'first',deny,status:401"
               SecRule ARGS|ARGS_NAMES:b "@rx ." "id:11,phase:2,tag:z,msg:'second',deny,status:402""#
        )
    };
    for (ctl, expected) in [
        ("auditEngine=Off", "10 deny 401@2"),
        ("ruleRemoveById=10", "11 deny 402@2"),
        ("ruleRemoveById=10-20", ""),
        ("ruleRemoveByTag=x/y", "11 deny 402@2"),
        ("ruleRemoveByTag=z", ""),
        ("ruleRemoveByTag=/^x/", "11 deny 402@2"),
        ("ruleRemoveByMsg=first", "11 deny 402@2"),
        ("ruleRemoveTargetById=10;ARGS:A", "11 deny 402@2"),
        ("ruleRemoveTargetById=10-11;ARGS", "11 deny 402@2"),
        ("ruleRemoveTargetByTag=z;ARGS:/^a$/", "11 deny 402@2"),
        ("ruleRemoveTargetByMsg=first;ARGS:b", "10 deny 401@2"),
        ("ruleEngine=Off", ""),
        ("ruleEngine=DetectionOnly", "10 11 (deny 401@2)"),
    ] {
        check(ctl, &rules(ctl), &get("/?a=1&b=2"), expected);
    }
    check(
        "a target is taken from chained rules too",
        r#"SecAction "id:1,phase:1,nolog,ctl:ruleRemoveTargetById=10;ARGS:a"
           SecRule ARGS:b "@rx ." "id:10,chain"
           SecRule ARGS "@rx ^1$""#,
        &get("/?a=1&b=2"),
        "",
    );
}

#[test]
fn disruptive_actions() {
    let rules = |action: &str| {
        format!(
            r#"SecAction "id:1,phase:1,{action}"
               SecAction "id:2,phase:1"
               SecAction "id:3,phase:2"
               SecAction "id:4,phase:3"
               SecAction "id:5,phase:5""#
        )
    };
    for (action, expected) in [
        ("pass", "1 2 3 4 5"),
        ("deny", "1 5 deny 403@1"),
        ("deny,status:503", "1 5 deny 503@1"),
        ("drop", "1 5 drop 403@1"),
        ("redirect:'/no?%{REQUEST_METHOD}'", "1 5 redirect:/no?GET 302@1"),
        ("allow", "1 5"),
        ("allow:request", "1 4 5"),
        ("allow:phase", "1 3 4 5"),
    ] {
        check(action, &rules(action), &get("/").answered(200, "text/plain", ""), expected);
    }
    for (action, expected) in [("deny", "1 2 3 4 5 (deny 403@1)"), ("allow", "1 2 3 4 5")] {
        let rules = format!("SecRuleEngine DetectionOnly\n{}", rules(action));
        check(action, &rules, &get("/").answered(200, "text/plain", ""), expected);
    }
    check("off", &format!("SecRuleEngine Off\n{}", rules("deny")), &get("/"), "");
}

#[test]
fn updates() {
    let rules = |update: &str| {
        format!(
            r#"{update}
               SecRule ARGS:a "@streq x" "id:10,tag:t1,msg:'m1',chain"
               SecRule ARGS|!ARGS:c "@rx y" "t:none"
               SecRule ARGS "@rx ^Z" "id:11,deny,tag:t2""#
        )
    };
    let message = get("/?a=x&b=y&d=Z");
    for (update, expected) in [
        ("", "10 11 deny 403@2"),
        ("SecRuleRemoveById 11", "10"),
        ("SecRuleRemoveById 10-11", ""),
        ("SecRuleRemoveByTag t1", "11 deny 403@2"),
        ("SecRuleRemoveByMsg m1", "11 deny 403@2"),
        ("SecRuleUpdateTargetById 10 \"!ARGS:b\"", "11 deny 403@2"),
        ("SecRuleUpdateTargetById 11 \"!ARGS:/^D/\"", "10"),
        ("SecRuleUpdateTargetByTag t2 \"!ARGS:d\"", "10"),
        ("SecRuleUpdateTargetById 11 REQUEST_METHOD ARGS", "10"),
        ("SecRuleUpdateActionById 11 \"pass,t:lowercase\"", "10"),
        ("SecRuleUpdateActionById 11 \"status:409\"", "10 11 deny 409@2"),
        ("SecRuleUpdateActionById 10 \"deny,status:410\"", "10 deny 410@2"),
    ] {
        check(update, &rules(update), &message, expected);
    }
}

#[test]
fn patterns_with_macros() {
    let rules = |pattern: &str| {
        format!(
            r#"SecAction "id:1,phase:1,nolog,setvar:'tx.allowed=utf-8|ascii',setvar:'tx.broken=('"
               SecRule ARGS:c "{pattern}" "id:2""#
        )
    };
    for (pattern, target, expected) in [
        ("@rx ^(?:%{tx.allowed})$", "/?c=ascii", "2"),
        ("@rx ^(?:%{tx.allowed})$", "/?c=utf-7", ""),
        ("!@rx ^(?:%{tx.allowed})$", "/?c=utf-7", "2"),
        // What cannot be compiled matches nothing, so that its negation is not silent.
        ("!@rx %{tx.broken}", "/?c=a", "2"),
        // Not the name of a variable, so no macro.
        (r"@rx %{\(", "/?c=%25{(", "2"),
        ("@rx {{.*?}}", "/?c={{7}}", "2"),
    ] {
        check(pattern, &rules(pattern), &get(target), expected);
    }
}

#[test]
fn persistent_collections() {
    let rules = |key: &str| {
        program(&format!(
            r#"SecAction "id:1,phase:1,nolog,initcol:ip={key}_%{{REMOTE_ADDR}},setvar:ip.count=+1"
               SecRule ARGS:reset "@rx ." "id:2,phase:1,nolog,setvar:!ip.count"
               SecRule ARGS:age "@rx ." "id:3,phase:1,nolog,expirevar:ip.count=0"
               SecRule IP:Count "@gt 1" "id:4,logdata:'%{{ip.count}} %{{MATCHED_VAR_NAME}}',deny"
               SecRule &IP:count "@eq 0" "id:5"
               SecRule SESSION "@rx ." "id:6""#
        ))
    };
    let (one, other) = (rules("one"), rules("other"));
    for (program, target, expected) in [
        (&one, "/", ""),
        (&one, "/", "4=2 IP:count deny 403@2"),
        (&other, "/", ""),
        (&one, "/", "4=3 IP:count deny 403@2"),
        (&one, "/?reset=1", "5"),
        (&one, "/", ""),
        (&other, "/?age=1", "5"),
        (&other, "/", ""),
    ] {
        let (report, interruption) = send(program, &OverlaySettings::default(), &get(target), 9);
        assert_eq!(verdict(&report, interruption.as_ref()), expected, "{target}");
    }
    for broken in ["initcol:tx=1", "initcol:ip", "setvar:args.a=1", "expirevar:ip=1", "setvar:geo.a=1"] {
        assert!(try_program(&format!("SecAction \"id:1,{broken}\"")).is_err(), "{broken}");
    }
}

#[test]
fn the_rule_itself() {
    let rules = r#"SecRule ARGS "@rx ." "id:77,msg:'m %{rule.msg}',severity:2,ver:v1,logdata:'%{rule.id} %{RULE.msg} %{rule.severity} %{rule.ver}|%{rule.rev}|'"
                   SecRule RULE:id "@eq 78" "id:78""#;
    check("rule", rules, &get("/?a=1"), "77=77 m %{RULE.msg} 2 v1|| 78");
}

/// Operators that the published vectors do not cover.
#[test]
fn further_operators() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("addresses.txt");
    std::fs::write(&list, "# ours\n10.0.0.0/8\r\n\n2001:db8::1 # one\n").unwrap();
    let addresses = format!("@ipMatchFromFile {}", list.display());
    for (operator, value, matches) in [
        (addresses.as_str(), "10.1.2.3", true),
        (&addresses, "::ffff:10.1.2.3", true),
        (&addresses, "2001:db8::1", true),
        (&addresses, "11.0.0.1", false),
        ("@within /a/ /bc/", "/bc/", true),
        ("@within /a/ /bc/", "/b/", false),
        ("@strmatch b.c", "ab.cd", true),
        ("@strmatch b.c", "abxcd", false),
        ("@containsWord b", "a b.c", true),
        ("@containsWord b", "ab c", false),
        (r"@verifyCC (?<!\d)\d{13,16}(?!\d)", "x 4111111111111111 y", true),
        (r"@verifyCC (?<!\d)\d{13,16}(?!\d)", "x 4111111111111112 y", false),
        (r"@verifyCC (?<!\d)\d{13,16}(?!\d)", "11114111111111111111", false),
        (r"!@rbl dnsbl.example", "192.0.2.1", true),
    ] {
        let rules = format!("SecRule ARGS:a \"{operator}\" \"id:1,pass\"");
        let target: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        check(operator, &rules, &get(&format!("/?a={target}")), if matches { "1" } else { "" });
    }
}

#[test]
fn keys_of_collections() {
    let rules = r#"
        SecAction "id:1,phase:1,nolog,setsid:%{ARGS.s},setuid:u1"
        SecRule SESSIONID "@rx ." "id:2,logdata:'%{SESSIONID} %{USERID}'"
    "#;
    check("keys", rules, &get("/?s=abc"), "2=abc u1");
}
