//! Section 4: the rule loop, what a match sets, counting, exclusions, captures, macros, numbers.

use crate::common::{check, get, post};
use crate::table;

#[test]
fn order_of_targets_and_values() {
    table(&[
        (
            "targets as written, values as sent",
            r#"SecRule REQUEST_METHOD|ARGS:b|ARGS "@unconditionalMatch" "id:1,nolog,setvar:'tx.all=%{tx.all} %{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
               SecAction "id:2,logdata:'%{tx.all}'""#,
            get("/?z=1&b=2&a=3&b=4"),
            "2= REQUEST_METHOD=GET ARGS:b=2 ARGS:b=4 ARGS:z=1 ARGS:b=2 ARGS:a=3 ARGS:b=4",
        ),
        (
            "MATCHED_VARS under full names, with what the transformations made of the values",
            r#"SecRule ARGS "@rx ^x" "id:1,t:lowercase,chain,logdata:'%{tx.all}'"
               SecRule MATCHED_VARS "@unconditionalMatch" "setvar:'tx.all=%{tx.all} %{MATCHED_VAR_NAME}=%{MATCHED_VAR}'""#,
            get("/?a=X1&b=y&c=X2"),
            "1= MATCHED_VARS:ARGS:a=x1 MATCHED_VARS:ARGS:c=x2",
        ),
        (
            "MATCHED_VARS by key",
            r#"SecRule ARGS "@rx x" "id:1,chain"
               SecRule MATCHED_VARS:/:c$/ "@streq x2""#,
            get("/?a=x1&c=x2"),
            "1",
        ),
        (
            "the last match outlives its rule, the list does not",
            r#"SecRule ARGS "@rx x" "id:1"
               SecRule ARGS "@rx nothing" "id:2"
               SecRule MATCHED_VAR_NAME "@streq ARGS:c" "id:3"
               SecRule &MATCHED_VARS "@eq 0" "id:4""#,
            get("/?a=x1&c=x2"),
            "1 3 4",
        ),
    ]);
}

#[test]
fn what_is_not_there() {
    table(&[
        (
            "neither an operator nor its negation is asked",
            r#"SecRule ARGS:q "@rx ^$" "id:1"
               SecRule ARGS:q "!@rx x" "id:2"
               SecRule ARGS:q "@unconditionalMatch" "id:3"
               SecRule REQUEST_BODY "!@rx x" "id:4"
               SecRule TX:q "!@streq x" "id:5"
               SecRule &ARGS:q "@eq 0" "id:6"
               SecRule &REQUEST_BODY "@eq 0" "id:7"
               SecRule &TX:q "!@eq 1" "id:8""#,
            get("/"),
            "6 7 8",
        ),
        (
            "there and empty is there",
            r#"SecRule ARGS:q "@rx ^$" "id:1"
               SecRule ARGS:q "!@rx x" "id:2"
               SecRule &ARGS:q "@eq 1" "id:3""#,
            get("/?q"),
            "1 2 3",
        ),
        (
            "an unset variable again",
            r#"SecAction "id:1,nolog,setvar:tx.q=1,setvar:!tx.q"
               SecRule TX:q "@unconditionalMatch" "id:2"
               SecRule &TX:q "@eq 0" "id:3""#,
            get("/"),
            "3",
        ),
    ]);
}

#[test]
fn counts() {
    let message = get("/?a=1&A=2&b=3").field("X-A", "1").field("x-a", "2").field("Cookie", "c=1; C=2");
    for (target, count) in [
        ("&ARGS", 3),
        ("&ARGS:a", 2),
        ("&ARGS:/^[ab]$/", 3),
        ("&REQUEST_HEADERS:x-A", 2),
        ("&REQUEST_HEADERS", 3),
        ("&REQUEST_COOKIES:c", 2),
        ("&ARGS|!ARGS:b", 2),
        ("!ARGS:/a/|&ARGS", 1),
        ("&ARGS|!ARGS", 0),
        ("&ARGS_NAMES|!ARGS:a", 3),
        ("&REQUEST_METHOD", 1),
    ] {
        let rules = format!("SecRule {target} \"@ge 0\" \"id:1,logdata:'%{{MATCHED_VAR}}'\"");
        check(target, &rules, &message, &format!("1={count}"));
    }
}

#[test]
fn captures_of_operators() {
    // Each after TX:0 and TX:1 have been set to `old`.
    for (rule, expected) in [
        (r#"ARGS "@rx (a)(b)" "capture"#, "ab,a,b,"),
        (r#"ARGS "@rx (a)(b)" "pass"#, "old,old,,"),
        (r#"ARGS "@rx (?:a)b" "capture"#, "ab,,,"),
        (r#"ARGS "@rx (x)?b" "capture"#, "b,,,"),
        (r#"ARGS "!@rx x" "capture"#, "old,old,,"),
        (r#"ARGS "@pm zz b a" "capture"#, "a,b,,"),
        (r#"ARGS "@contains ab" "capture"#, "old,old,,"),
        (r#"ARGS "@streq ab" "capture"#, "old,old,,"),
        (r#"ARGS "@within ab cd" "capture"#, "old,old,,"),
        (r#"ARGS "@beginsWith a" "capture"#, "old,old,,"),
        (r#"ARGS "@rx (B)" "capture,t:uppercase"#, "B,B,,"),
    ] {
        let rules = format!(
            "SecAction \"id:9,phase:1,nolog,setvar:tx.0=old,setvar:tx.1=old\"\n\
             SecRule {rule},id:1,logdata:'%{{tx.0}},%{{tx.1}},%{{tx.2}},%{{tx.3}}'\""
        );
        check(rule, &rules, &get("/?q=ab"), &format!("1={expected}"));
    }
    table(&[
        (
            "captures of a link for the next",
            r#"SecRule ARGS:a "@rx ^(\w+)-(\w+)$" "id:1,capture,chain,logdata:'%{tx.1} %{tx.2}'"
               SecRule TX:2 "@streq two" "chain"
               SecRule ARGS:b "@streq %{tx.1}""#,
            get("/?a=one-two&b=one"),
            "1=one two",
        ),
        (
            "the length as text captured (Coraza variables.go, rule 123123)",
            r#"SecRule REQUEST_METHOD "@rx ^.*$" "id:1,phase:1,capture,t:length,setvar:'tx.n=%{tx.0}',chain"
               SecRule TX:n "@eq 4""#,
            post("text/plain", "x"),
            "1",
        ),
    ]);
}

#[test]
fn macros() {
    for (text, expected) in [
        ("%{REQUEST_METHOD}", "GET"),
        ("%{request_method}", "GET"),
        ("%{ARGS.b}%{args.B}", "22"),
        ("%{ARGS}", "1"),
        ("%{REQUEST_HEADERS.x-one}", "h"),
        ("[%{ARGS.none}%{tx.none}%{REQUEST_BODY}]", "[]"),
        ("%{MATCHED_VAR_NAME}=%{MATCHED_VAR}", "ARGS:b=2"),
        ("100%", "100%"),
        ("%{open", "%{open"),
        ("%%{tx.a}%", "%v%"),
        ("%{tx.A}", "v"),
    ] {
        let rules = format!(
            "SecAction \"id:1,phase:1,nolog,setvar:tx.a=v\"\nSecRule ARGS:b \"@unconditionalMatch\" \"id:2,logdata:'{text}'\""
        );
        check(text, &rules, &get("/?a=1&b=2").field("X-One", "h"), &format!("2={expected}"));
    }
}

#[test]
fn numbers_are_read_as_c_reads_them() {
    for (operator, matching) in [
        ("@eq 12", &["12", "12abc", "%20+12", "012", "12.9"][..]),
        ("@eq 0", &["", "abc", "x12", "-0", "0x10"]),
        ("@lt 0", &["-1", "-99999999999999999999"]),
        ("@gt 9223372036854775806", &["9223372036854775807", "99999999999999999999999"]),
        ("@ge 12abc", &["12", "13x"]),
        ("@le %{tx.limit}", &["3", "2z", ""]),
        ("!@eq %{tx.none}", &["1", "-1"]),
    ] {
        for value in matching {
            let rules = format!(
                "SecAction \"id:9,phase:1,nolog,setvar:tx.limit=3\"\nSecRule ARGS:q \"{operator}\" \"id:1\""
            );
            check(&format!("{operator} of {value:?}"), &rules, &get(&format!("/?q={value}")), "1");
        }
    }
}

#[test]
fn setting_variables() {
    for (setvars, expected) in [
        ("setvar:tx.a=5", "5"),
        ("setvar:tx.a", "1"),
        ("setvar:tx.a=", ""),
        ("setvar:tx.a=5,setvar:tx.a=+3", "8"),
        ("setvar:tx.a=5,setvar:tx.a=-8", "-3"),
        ("setvar:tx.a=+3", "3"),
        ("setvar:tx.a=x,setvar:tx.a=+3", "3"),
        ("setvar:tx.a=5x,setvar:tx.a=+1", "6"),
        // An operand that is no number is 0, not the text of it (as Coraza has it).
        ("setvar:tx.a=5,setvar:tx.a=+abc", "5"),
        ("setvar:tx.a=5,setvar:tx.a=+%{tx.none}", "5"),
        ("setvar:tx.a=2,setvar:tx.b=40,setvar:tx.a=+%{tx.b}", "42"),
        ("setvar:tx.a=5,setvar:!tx.a", "unset"),
        ("setvar:TX.A=5", "5"),
        ("setvar:'tx.a=a=b'", "a=b"),
        ("setvar:'tx.a=it is %{REQUEST_METHOD}'", "it is GET"),
        ("setvar:tx.a=007", "007"),
        ("setvar:tx.n=A,setvar:tx.%{tx.n}=x", "x"),
        ("setvar:tx.a=1.5,setvar:tx.a=+1", "2"),
        ("setvar:tx.a=9223372036854775807,setvar:tx.a=+1", "9223372036854775807"),
    ] {
        let rules = format!(
            "SecAction \"id:1,phase:1,nolog,{setvars}\"\n\
             SecRule TX:a \"@unconditionalMatch\" \"id:2,logdata:'%{{MATCHED_VAR}}.'\"\nSecRule &TX:a \"@eq 0\" \"id:3\""
        );
        let expected = if expected == "unset" { "3".to_owned() } else { format!("2={expected}.") };
        check(setvars, &rules, &get("/"), &expected);
    }
    table(&[
        (
            "names made of what matched, counted (Coraza setvar.go; CRS 921170)",
            r#"SecRule ARGS_NAMES "@rx ." "id:1,nolog,setvar:'TX.paramcounter_%{MATCHED_VAR_NAME}=+1'"
               SecRule TX:/paramcounter_.*/ "@eq 2" "id:2,logdata:'%{MATCHED_VAR_NAME}'""#,
            get("/fields?name=foo&var=foo&var=foo2"),
            "2=TX:paramcounter_args_names:var",
        ),
        (
            "in a chain, by each link that matches, for each value (Coraza chains.go)",
            r#"SecRule REQUEST_URI "test" "id:1,chain"
               SecRule REQUEST_URI|REQUEST_BODY|REQUEST_HEADERS:custom_header1 "test" "setvar:'tx.counter=+1'"
               SecRule TX:counter "@eq 3" "id:2""#,
            {
                let mut message = post("application/x-www-form-urlencoded", "test");
                message.target = "/test".to_owned();
                message.field("custom_header1", "test")
            },
            "1 2",
        ),
    ]);
}

#[test]
fn jumps() {
    table(&[
        (
            "to a marker of another phase's rules",
            r#"SecAction "id:1,phase:1,skipAfter:END"
               SecAction "id:2,phase:2"
               SecAction "id:3,phase:1"
               SecMarker END
               SecAction "id:4,phase:1"
               SecAction "id:5,phase:2""#,
            get("/"),
            "1 4 2 5",
        ),
        (
            "over the end of the phase: the next begins at its beginning",
            r#"SecAction "id:1,phase:1,skip:9"
               SecAction "id:2,phase:1"
               SecAction "id:3,phase:2""#,
            get("/"),
            "1 3",
        ),
        (
            "a marker is no rule, a chain is one, rules of other phases are none",
            r#"SecAction "id:1,phase:1,skip:2"
               SecMarker A
               SecAction "id:2,phase:2"
               SecAction "id:3,phase:1,chain"
               SecAction "pass"
               SecAction "id:4,phase:1"
               SecAction "id:5,phase:1""#,
            get("/"),
            "1 5 2",
        ),
        (
            "not when the rule does not match",
            r#"SecRule ARGS "@rx x" "id:1,skipAfter:E"
               SecAction "id:2"
               SecMarker E"#,
            get("/"),
            "2",
        ),
        (
            "a removed rule counts for skip",
            r#"SecAction "id:1,phase:1,ctl:ruleRemoveById=3"
               SecAction "id:2,phase:1,skip:1"
               SecAction "id:3,phase:1"
               SecAction "id:4,phase:1""#,
            get("/"),
            "1 2 4",
        ),
    ]);
}
