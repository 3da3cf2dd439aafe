//! Section 1: how text becomes rules.

use crate::common::{check, get, try_program};
use crate::table;

#[test]
fn lines() {
    table(&[
        (
            "a continued line is joined without a space, its indent taken away",
            "SecRule ARGS \"@streq ab\" \\\n    \"id:1,\\\n    pass,\\\n    logdata:'x\\\ny'\"",
            get("/?q=ab"),
            "1=xy",
        ),
        (
            "a comment inside a continued line",
            "SecRule ARGS \"@streq a\" \\\n# \"id:9,deny\" \\\n    \"id:1\"",
            get("/?q=a"),
            "1",
        ),
        (
            "lines that end in CR LF",
            "SecRule ARGS \"@streq a\" \\\r\n  \"id:1,\\\r\n  pass\"\r\n",
            get("/?q=a"),
            "1",
        ),
        (
            "names of directives, variables, operators, actions and transformations in any case",
            "secrule args \"@STREQ a\" \"ID:1,PASS,T:LowerCase\"\nSECACTION \"Id:2,PhAsE:2\"",
            get("/?q=A"),
            "1 2",
        ),
    ]);
}

#[test]
fn operators_as_written() {
    for (operator, value, matches) in [
        ("^a$", "a", true),
        ("!^a$", "a", false),
        ("!^a$", "b", true),
        ("!@streq a", "b", true),
        ("! ^a$", "b", true),
        // Nothing after the `!`: the empty pattern, which matches everything (Coraza match.go, rule 2).
        ("!", "b", false),
        ("@rx", "", true),
        ("@streq   a", "a", true),
        ("@streq GET /", "GET%20/", true),
        ("@contains #", "a%23b", true),
        ("@pm ( )", "a)b", true),
        ("@pm ( )", "a%20b", false),
        (r#"@rx "a\"b""#, "%22a%22b%22", true),
        (r"@rx ^\d\.$", "7.", true),
        (r"@rx ^a\\b$", r"a\b", true),
        ("@contains a@b", "a@b", true),
    ] {
        let operator = operator.replace(r#""a\"b""#, r#"\"a\"b\""#);
        let rules = format!("SecRule ARGS \"{operator}\" \"id:1\"");
        check(&operator, &rules, &get(&format!("/?q={value}")), if matches { "1" } else { "" });
    }
}

#[test]
fn quotes_in_actions() {
    for (action, logdata) in [
        ("logdata:plain", "plain"),
        ("logdata:'a,b:c'", "a,b:c"),
        (r"logdata:'it\'s'", "it's"),
        (r#"logdata:'a \"b\"'"#, "a \"b\""),
        ("logdata:'  two '", "  two "),
    ] {
        let rules = format!("SecAction \"id:1 , {action} , pass\"");
        check(action, &rules, &get("/"), &format!("1={logdata}"));
    }
}

#[test]
fn selectors() {
    let message = get("/?a|b=1&c/d=2&ab=3").field("Cookie", "a|b=1");
    for (variables, expected) in [
        ("ARGS:/a|b/", "1=ARGS:ab"),
        (r"ARGS:/^a\|b$/", "1=ARGS:a|b"),
        (r"ARGS:/c\/d/", "1=ARGS:c/d"),
        ("REQUEST_COOKIES:'/^a.b$/'", "1=REQUEST_COOKIES:a|b"),
        ("ARGS:'ab'", "1=ARGS:ab"),
        ("ARGS:ab|XML:/*|XML://@*", "1=ARGS:ab"),
        ("ARGS:none|ARGS:ab", "1=ARGS:ab"),
    ] {
        let rules = format!("SecRule {variables} \"@rx .\" \"id:1,logdata:'%{{MATCHED_VAR_NAME}}'\"");
        check(variables, &rules, &message, expected);
    }
}

#[test]
fn what_is_refused_with_its_place() {
    for (rules, expected) in [
        ("SecRule ARGS \"@rx a\" \"pass\"", "no id"),
        ("SecAction \"id:1\"\nSecAction \"id:1\"", "two rules have the id 1"),
        ("SecRule ARGS \"@rx a\" \"id:1,msg:'open,deny\"", "test.conf:1:"),
        ("SecRule ARGS \"@rx a\" \"id:1", "test.conf:1:"),
        ("SecRul ARGS \"@rx a\" \"id:1\"", "SecRule"),
        ("SecRule ARG \"@rx a\" \"id:1\"", "ARGS"),
        ("SecRule ARGS \"@strqe a\" \"id:1\"", "streq"),
        ("SecRule ARGS \"@rx a\" \"id:1,t:lowercas\"", "lowercase"),
        ("SecRule ARGS \"@rx a\" \"id:1,denny\"", "deny"),
        ("SecRule ARGS \"@rx (\" \"id:1\"", "test.conf:1:"),
        (r#"SecRule ARGS "@rx (a*)\1" "id:1""#, "test.conf:1:"),
        ("SecRule ARGS \"@ipMatch 10.0.0.1/33\" \"id:1\"", "10.0.0.1/33"),
        ("SecRule ARGS \"@pmFromFile none.data\" \"id:1\"", "none.data"),
        ("SecAction \"id:1,skipAfter:NONE\"\nSecMarker NINE", "NONE"),
        ("SecMarker HERE\nSecAction \"id:1,skipAfter:HERE\"", "does not come after"),
        ("SecRule ARGS a \"id:1,chain\"", "chain"),
        ("SecRuleScript a.lua \"id:1\"", "SecRuleScript"),
    ] {
        let findings = try_program(rules).expect_err(rules);
        assert!(findings.contains(expected), "{rules}: {findings}");
    }
}
