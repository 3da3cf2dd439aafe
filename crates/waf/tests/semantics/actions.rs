//! Section 8: disruptive actions, `allow`, detection only; what outlives a request.

use portcullis_waf::OverlaySettings;

use crate::common::{check, get, post, program, send, try_program, verdict};
use crate::table;

#[test]
fn how_far_allow_reaches() {
    // Coraza allow.go asks the same.
    let rules = r#"
        SecRule REQUEST_URI "/allow_me" "id:1,phase:1,allow"
        SecRule REQUEST_URI "/allow_me" "id:2,phase:1,deny"
        SecRule REQUEST_URI "/allow_me" "id:3,phase:2,deny"
        SecRule REQUEST_URI "/allow_me" "id:4,phase:3,deny"
        SecRule REQUEST_URI "/allow_me" "id:5,phase:4,deny"
        SecRule REQUEST_URI "/allow_me" "id:6,phase:5"
        SecRule REQUEST_URI "/partial" "id:11,phase:1,allow:phase"
        SecRule REQUEST_URI "/partial" "id:12,phase:1,deny"
        SecRule REQUEST_URI "/partial" "id:22,phase:2,deny,status:500"
        SecRule REQUEST_URI "/request" "id:31,phase:1,allow:request"
        SecRule REQUEST_URI "/request" "id:32,phase:1,deny"
        SecRule REQUEST_URI "/request" "id:33,phase:2,deny"
        SecRule REQUEST_URI "/request" "id:42,phase:3,deny,status:500"
        SecRule REQUEST_URI "/late" "id:50,phase:1,allow:phase"
        SecRule REQUEST_BODY "late" "id:51,phase:2,deny,status:500"
        SecRule REQUEST_URI "/late" "id:61,phase:3,allow"
        SecRule REQUEST_URI "/three" "id:70,phase:3,allow:request"
        SecRule REQUEST_URI "/three" "id:71,phase:3"
        SecRule REQUEST_URI "/three" "id:72,phase:4"
    "#;
    for (path, expected) in [
        ("/allow_me", "1 6"),
        ("/partial", "11 22 deny 500@2"),
        ("/request", "31 42 deny 500@3"),
        ("/late", "50 51 deny 500@2"),
        ("/three", "70 72"),
    ] {
        let mut message = post("text/plain", path).answered(200, "text/plain", "x");
        message.target = path.to_owned();
        check(path, rules, &message, expected);
    }
}

#[test]
fn detection_only() {
    let rules = |rest: &str| format!("SecRuleEngine DetectionOnly\n{rest}");
    for (name, rest, expected) in [
        (
            "the first that would have interrupted is told",
            "SecAction \"id:1,phase:1,deny,status:401\"\nSecAction \"id:2,phase:1,drop\"",
            "1 2 (deny 401@1)",
        ),
        ("allow allows nothing", "SecAction \"id:1,phase:1,allow\"\nSecAction \"id:2,phase:1\"", "1 2"),
        (
            "jumps are made",
            "SecAction \"id:1,phase:1,deny,skipAfter:E\"\nSecAction \"id:2,phase:1\"\nSecMarker E",
            "1 (deny 403@1)",
        ),
        (
            "variables are set",
            "SecAction \"id:1,phase:1,setvar:tx.a=1\"\nSecRule TX:a \"@eq 1\" \"id:2\"",
            "1 2",
        ),
        (
            "rules may turn blocking on for a request",
            "SecAction \"id:1,phase:1,ctl:ruleEngine=On\"\nSecAction \"id:2,phase:1,deny\"",
            "1 2 deny 403@1",
        ),
    ] {
        check(name, &rules(rest), &get("/"), expected);
    }
}

#[test]
fn what_is_not_offered() {
    for (action, name) in [
        ("exec:/bin/true", "exec"),
        ("proxy:http://x/", "proxy"),
        ("pause:10", "pause"),
        ("append:x", "append"),
    ] {
        let error = try_program(&format!("SecAction \"id:1,{action}\"")).unwrap_err();
        assert!(error.contains(&format!("`{name}` is not supported")), "{error}");
    }
}

/// Requests one after the other through the same program.
fn sequence(rules: &str, steps: &[(&str, &str)]) {
    let program = program(rules);
    for (step, (target, expected)) in steps.iter().enumerate() {
        let (report, interruption) = send(&program, &OverlaySettings::default(), &get(target), 9);
        assert_eq!(verdict(&report, interruption.as_ref()), *expected, "{target}, step {step}");
    }
}

#[test]
fn collections_outlive_requests() {
    sequence(
        r#"SecAction "id:1,phase:1,nolog,initcol:ip=sem1_%{REMOTE_ADDR}"
           SecRule ARGS:set "@rx ." "id:2,phase:2,nolog,setvar:'ip.%{ARGS.set}=%{ARGS.to}'"
           SecRule ARGS:add "@rx ." "id:3,phase:2,nolog,setvar:'ip.%{ARGS.add}=+2'"
           SecRule ARGS:drop "@rx ." "id:4,phase:2,nolog,setvar:'!ip.%{ARGS.drop}'"
           SecRule ARGS:age "@rx ." "id:5,phase:2,nolog,expirevar:'ip.%{ARGS.age}=0'"
           SecRule ARGS:stay "@rx ." "id:6,phase:2,nolog,expirevar:'ip.%{ARGS.stay}=3600'"
           SecRule IP "@unconditionalMatch" "id:7,phase:5,nolog,setvar:'tx.all=%{tx.all} %{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
           SecRule &IP "@gt 0" "id:8,phase:5,logdata:'%{tx.all}'""#,
        &[
            ("/", ""),
            ("/?set=A&to=x", "8= IP:a=x"),
            ("/?add=n", "8= IP:a=x IP:n=2"),
            ("/?add=N", "8= IP:a=x IP:n=4"),
            ("/?set=a&to=y", "8= IP:a=y IP:n=4"),
            ("/?stay=a", "8= IP:a=y IP:n=4"),
            ("/?age=n", "8= IP:a=y"),
            ("/?add=n", "8= IP:a=y IP:n=2"),
            ("/?drop=a", "8= IP:n=2"),
            ("/?add=a", "8= IP:n=2 IP:a=2"),
        ],
    );
}

#[test]
fn collections_and_when_they_are_open() {
    sequence(
        r#"SecRule SESSION:n "@rx ." "id:1,phase:1"
           SecRule REQUEST_URI "^/in" "id:2,phase:1,nolog,setsid:sem2,setvar:session.n=+1"
           SecRule SESSION:N "@ge 2" "id:3,phase:1,logdata:'%{session.n}'"
           SecAction "id:4,phase:1,nolog,setuid:sem2,setrsc:sem2"
           SecRule &USER|&RESOURCE "@gt 0" "id:5,phase:1""#,
        // Before it is opened, and in a request that does not open it, a collection is empty.
        &[("/in", ""), ("/in", "3=2"), ("/out", ""), ("/in", "3=3")],
    );
    table(&[
        (
            "what is not open cannot be set",
            r#"SecAction "id:1,phase:1,nolog,setvar:global.sem3=1"
               SecRule &GLOBAL "@eq 0" "id:2,phase:1""#,
            get("/"),
            "2",
        ),
        (
            "an expiry of a variable of the request (ModSecurity action-expirevar.json)",
            r#"SecAction "id:1,phase:1,nolog,initcol:ip=sem4"
               SecRule ARGS "@rx value" "id:2,nolog,setvar:ip.mycount1=100,expirevar:ip.mycount1=60"
               SecRule &IP:mycount1 "@eq 1" "id:3,logdata:'mycount1 is %{ip.mycount1}'""#,
            get("/?key=value"),
            "3=mycount1 is 100",
        ),
    ]);
}
