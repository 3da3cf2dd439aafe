//! Each syntax error as its author sees it, and the corners of the grammar.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_diag::SourceMap;
use portcullis_seclang::{DirectiveKind, Rule, Selector, parse};

fn findings(text: &str) -> String {
    let mut sources = SourceMap::new();
    let id = sources.add("t.conf", text);
    parse(&sources, id).diagnostics.to_text(&sources)
}

fn rule(text: &str) -> Rule {
    let mut sources = SourceMap::new();
    let id = sources.add("t.conf", text);
    let parsed = parse(&sources, id);
    assert_eq!(parsed.diagnostics.to_text(&sources), "");
    let DirectiveKind::Rule(rule) = parsed.directives[0].kind.clone() else { panic!("{parsed:?}") };
    *rule
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once() {
    let text = r#"SecRul ARGS "x" "id:1"
SecRule ARGS "@rx foo
SecRule ARGS "say "hello"" "id:2"
SecRule ARGS
SecRule ARGS||REQUEST_URI "x" "id:3"
SecRule ARGS:/open "x" "id:4"
SecRule ARGS:/a/b "x" "id:5"
SecRule ARGS: "x" "id:6"
SecRule AR-GS "x" "id:7"
SecRule ARGS "@ x" "id:8"
SecRule ARGS "x" "id:9,,msg:'oops,deny"
SecRule ARGS "x" "id:10,msg:'a' b,:x,de ny"
SecRule ARGS "x" "id:11" more
SecRuleRemoveById 12 x9 20-10
SecRuleUpdateActionById 1:z "deny"
SecMarker
<IfModule mod_security2.c>
Include
SecAction "id:14,msg:'nothing comes after it"
SecAction "id:13,nolog" \"#;
    insta::assert_snapshot!(findings(text));
}

#[test]
fn variables() {
    let rule = rule(
        r#"SecRule ARGS|!ARGS:/^a|b\/c$/|&REQUEST_HEADERS:Host|REQUEST_COOKIES:'/S O|x/'|XML:/*|XML://@*|TX:'a b' "x""#,
    );
    let shown: Vec<String> = rule.variables.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "ARGS",
            r"!ARGS:/^a|b\/c$/",
            "&REQUEST_HEADERS:Host",
            "REQUEST_COOKIES:/S O|x/",
            "XML:/*",
            "XML://@*",
            "TX:'a b'"
        ]
    );
    assert!(matches!(&rule.variables[1].selector, Some(Selector::Regex(p)) if &**p == "^a|b/c$"));
    assert!(matches!(&rule.variables[4].selector, Some(Selector::Path(p)) if &**p == "/*"));
    assert!(matches!(&rule.variables[6].selector, Some(Selector::Key(k)) if &**k == "a b"));
}

#[test]
fn operators() {
    let cases = [
        (r#""@rx a b""#, false, true, "rx", "a b"),
        (r#""a b""#, false, false, "rx", "a b"),
        (r#""!a""#, true, false, "rx", "a"),
        (r#""!@eq 0""#, true, true, "eq", "0"),
        (r#""! @eq  0 ""#, true, true, "eq", "0"),
        (r#""@pm ( )""#, false, true, "pm", "( )"),
        (r#""@contains #""#, false, true, "contains", "#"),
        (r#""@streq GET /""#, false, true, "streq", "GET /"),
        (r#""@rx a\"b\\""#, false, true, "rx", r#"a"b\\"#),
        (r#""@rx \d+\.\s""#, false, true, "rx", r"\d+\.\s"),
        (r#""@rx a\ ""#, false, true, "rx", r"a\ "),
        (r#"'@rx say "x"'"#, false, true, "rx", r#"say "x""#),
        (r#""@detectSQLi""#, false, true, "detectSQLi", ""),
        (r#""""#, false, false, "rx", ""),
        ("^a$", false, false, "rx", "^a$"),
    ];
    for (text, negated, explicit, name, argument) in cases {
        let operator = rule(&format!("SecRule ARGS {text} \"id:1\"")).operator;
        assert_eq!(
            (operator.negated, operator.explicit, &*operator.name, &*operator.argument),
            (negated, explicit, name, argument),
            "{text}"
        );
    }
}

#[test]
fn actions() {
    let rule = rule(
        "secrule ARGS x \"id: 5 , PHASE:2,msg:'it\\'s, \\\"quoted\\\": yes',setvar:tx.a='b,c',ctl:ruleRemoveTargetById=1;ARGS:q,chain\"",
    );
    let actions: Vec<(String, Option<String>)> = rule
        .actions
        .items
        .iter()
        .map(|action| (action.name.to_string(), action.value.as_ref().map(ToString::to_string)))
        .collect();
    let expected = [
        ("id", Some("5")),
        ("PHASE", Some("2")),
        ("msg", Some("it's, \"quoted\": yes")),
        ("setvar", Some("tx.a='b,c'")),
        ("ctl", Some("ruleRemoveTargetById=1;ARGS:q")),
        ("chain", None),
    ];
    assert_eq!(actions, expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
    assert_eq!(rule.actions.named("phase").count(), 1);
}

#[test]
fn continued_lines_join_without_a_space_and_skip_comments() {
    let text = "SecRule ARGS \\\r\n  # in between\r\n  \"@rx a\\\r\n   b\" \\\r\n  \"id:1,\\\r\n  deny\"\r\n";
    let mut sources = SourceMap::new();
    let id = sources.add("t.conf", text);
    let parsed = parse(&sources, id);
    assert_eq!(parsed.diagnostics.to_text(&sources), "");
    let DirectiveKind::Rule(rule) = &parsed.directives[0].kind else { panic!() };
    assert_eq!(&*rule.operator.argument, "ab");
    assert_eq!(sources.text(rule.operator.argument.locate(1..2)), "b");
    assert_eq!(sources.position(rule.actions.items[1].span).unwrap().line, 6);
}

#[test]
fn places_survive_escaped_quotes() {
    let text = r#"SecRule ARGS "@rx \"\"(x" "id:1""#;
    let mut sources = SourceMap::new();
    let id = sources.add("t.conf", text);
    let parsed = parse(&sources, id);
    let DirectiveKind::Rule(rule) = &parsed.directives[0].kind else { panic!() };
    assert_eq!(&*rule.operator.argument, "\"\"(x");
    assert_eq!(sources.text(rule.operator.argument.locate(2..3)), "(");
    assert_eq!(sources.text(rule.operator.argument.locate(0..4)), r#"\"\"(x"#.strip_prefix('\\').unwrap());
}

#[test]
fn a_file_of_noise_ends_with_one_note() {
    let text = "noise\n".repeat(2000);
    let mut sources = SourceMap::new();
    let id = sources.add("t.conf", text);
    let parsed = parse(&sources, id);
    assert_eq!(parsed.diagnostics.len(), 501);
    assert_eq!(parsed.diagnostics.iter().last().unwrap().code.as_str(), "SEC0013");
}

#[test]
fn bytes_that_are_no_utf8_have_a_place() {
    let mut sources = SourceMap::new();
    let id = sources.add_bytes("t.conf", b"SecRule ARGS \"@rx \xe9\" \"id:1\"");
    let text = parse(&sources, id).diagnostics.to_text(&sources);
    assert!(text.starts_with("error[SEC0012]: the file is not UTF-8\n --> t.conf:1:19\n"), "{text}");
}
