//! What is refused, and in which words.

use portcullis_waf::BuildOptions;

use crate::common::{program_with, try_program};

/// The findings of a rule file: code, message, place and suggestion of each.
fn findings(rules: &str) -> Vec<String> {
    let text = match try_program(rules) {
        Ok((_, warnings)) => {
            return warnings.iter().map(|finding| format!("{} {}", finding.code, finding.message)).collect();
        }
        Err(text) => text,
    };
    let is_head = |line: &&str| line.starts_with("error[") || line.starts_with("warning[");
    text.lines().filter(is_head).map(str::to_owned).collect()
}

/// One mistake each, and the finding it leads to.
const MISTAKES: &[(&str, &str)] = &[
    (r#"SecRule ARGZ "@rx a" "id:1""#, "error[SEC0101]: unknown variable `ARGZ`"),
    (r#"SecRule JSON:a "@rx a" "id:1""#, "error[SEC0102]: variable `JSON` is not supported"),
    (r#"SecRule ARGS "@rxx a" "id:1""#, "error[SEC0103]: unknown operator `@rxx`"),
    (r#"SecRule ARGS "@inspectFile a" "id:1""#, "error[SEC0104]: operator `@inspectFile` is not supported"),
    (r#"SecRule ARGS "@rx (a" "id:1""#, "error[SEC0105]: unclosed group"),
    (
        r#"SecRule ARGS "@rx (a+)\1" "id:1""#,
        "error[SEC0121]: patterns run in linear time: a back-reference must be to a word and be a word, as in `\\b(\\w+)\\b=\\b\\1\\b`; otherwise split the rule into a chain",
    ),
    (
        r#"SecRule ARGS "@ipMatch 10.0.0.300" "id:1""#,
        "error[SEC0105]: `10.0.0.300` is neither an IP address nor a network such as 10.0.0.0/8",
    ),
    (
        r#"SecRule ARGS "@validateByteRange 1-300" "id:1""#,
        "error[SEC0105]: `300` is not a byte value from 0 to 255",
    ),
    (
        r#"SecRule ARGS "@pm a %{tx.b}" "id:1""#,
        "error[SEC0105]: macros are not expanded in `@pm`; use `@contains` or `@within`",
    ),
    (r#"SecRule ARGS "@pm" "id:1""#, "error[SEC0105]: `@pm` needs at least one phrase"),
    (r#"SecRule ARGS "@rx a" "id:1,t:lowercas""#, "error[SEC0106]: unknown transformation `lowercas`"),
    (r#"SecRule ARGS "@rx a" "id:1,dney""#, "error[SEC0107]: unknown action `dney`"),
    (r#"SecAction "id:1,exec:/bin/sh""#, "error[SEC0108]: action `exec` is not supported"),
    (r#"SecAction "id:x""#, "error[SEC0109]: `x` is no value for `id`"),
    (r#"SecAction "id:1,phase:6""#, "error[SEC0109]: `6` is no value for `phase`"),
    (
        r#"SecAction "id:1,setvar:args.a=1""#,
        "error[SEC0109]: `args` is no collection that can be set; there are tx, global, ip, resource, session and user",
    ),
    (r#"SecAction "id:1,ctl:ruleRemoveByID""#, "error[SEC0109]: `` is no value for `ctl:ruleRemoveByID`"),
    (r#"SecAction "id:1,ctl:ruleEngin=On""#, "error[SEC0107]: unknown ctl `ruleEngin`"),
    (r#"SecAction "pass""#, "error[SEC0110]: the rule has no id"),
    ("SecAction \"id:1\"\nSecAction \"id:1\"", "error[SEC0111]: two rules have the id 1"),
    (r#"SecRule ARGS "@rx a" "id:1,chain""#, "error[SEC0112]: the chain of rule 1 ends without a last rule"),
    (
        "SecRule ARGS \"@rx a\" \"id:1,chain\"\nSecRule ARGS \"@rx b\" \"deny\"",
        "error[SEC0112]: `deny` belongs to the first rule of the chain of 1",
    ),
    (r#"SecAction "id:1,skipAfter:END""#, "error[SEC0113]: there is no marker `END` after this rule"),
    (
        "SecMarker END\nSecAction \"id:1,skipAfter:END\"",
        "error[SEC0113]: the marker `END` does not come after this rule",
    ),
    (
        r#"SecRule ARGS "@pmFromFile none.data" "id:1""#,
        "error[SEC0115]: the data file `none.data` cannot be read: No such file or directory (os error 2)",
    ),
    (r#"SecAction "id:1,msg:'%{REMOTE_ADR}'""#, "error[SEC0117]: unknown variable `REMOTE_ADR` in a macro"),
    ("SecRuleEngine Maybe", "error[SEC0118]: `Maybe` is no value for `SecRuleEngine`"),
    (
        r#"SecRule ARGS:/(/ "@rx a" "id:1""#,
        "error[SEC0119]: the selector's pattern is broken: unclosed group",
    ),
    (
        r#"SecRule REQUEST_URI:x "@rx a" "id:1""#,
        "error[SEC0119]: `REQUEST_URI` is a single value and takes no selector",
    ),
    (
        r#"SecAction "id:1,ctl:responseBodyLimit=1""#,
        "error[SEC0108]: `ctl:responseBodyLimit` is not supported",
    ),
    (
        r#"SecAction "id:1,ctl:requestBodyLimit=1k""#,
        "error[SEC0109]: `1k` is no value for `ctl:requestBodyLimit`",
    ),
    (
        r#"SecRule ARGS "@rsub foo/bar/" "id:1""#,
        "error[SEC0105]: `@rsub` wants `s/PATTERN/REPLACEMENT/`, with `i` or `d` behind it where wanted",
    ),
    (
        r#"SecRule ARGS "@rsub" "id:1""#,
        "error[SEC0105]: `@rsub` wants `s/PATTERN/REPLACEMENT/`, with `i` or `d` behind it where wanted",
    ),
    (
        r#"SecRule ARGS "@rsub s/foo/bar" "id:1""#,
        "error[SEC0105]: the replacement of `@rsub` does not end: `/` must follow it",
    ),
    (
        r#"SecRule ARGS "@rsub s/foo/bar/g" "id:1""#,
        "error[SEC0105]: `g` is no flag of `@rsub`: there are `i` and `d`",
    ),
    (
        r#"SecAction "id:1,tag:'at/%{REMOTE_ADR}'""#,
        "error[SEC0117]: unknown variable `REMOTE_ADR` in a macro",
    ),
    (
        r#"SecAction "id:1,deprecatevar:ip.a=5""#,
        "error[SEC0109]: `deprecatevar` wants a variable, an amount and seconds, as in `ip.score=5/60`",
    ),
    (
        r#"SecRule ARGS "@validateNid fr a" "id:1""#,
        "error[SEC0105]: `fr` is no country that is known here: there are `cl` and `us`",
    ),
    ("SecRuleScript a.lua \"id:1,deny\"", "error[SEC0122]: `SecRuleScript` is not supported"),
    ("SecRuleEngin On", "error[SEC0100]: unknown directive `SecRuleEngin`"),
];

#[test]
fn every_mistake_is_an_error_of_its_own() {
    for (rules, expected) in MISTAKES {
        assert_eq!(findings(rules), [*expected], "{rules}");
    }
}

#[test]
fn what_is_taken_without_effect_is_said() {
    for (rules, expected) in [
        (
            "SecDebugLogLevel 3",
            "SEC0114 `SecDebugLogLevel` is accepted but has no effect: the gateway's log level governs",
        ),
        (
            r#"SecAction "id:1,xmlns:a=urn:x""#,
            "SEC0114 `xmlns` is accepted but has no effect: paths are matched without namespaces",
        ),
        (
            r#"SecRule REMOTE_ADDR "@rbl dnsbl.example" "id:1""#,
            "SEC0114 `@rbl` is accepted but never matches: no request waits for an answer from DNS; the gateway's IP lists refuse addresses",
        ),
        (
            r#"SecRule STREAM_OUTPUT_BODY "@rsub s/a/b/" "id:1""#,
            "SEC0114 `@rsub` matches where its pattern does, but replaces nothing: rules do not rewrite bodies",
        ),
        ("SecRuleRemoveById 7", "SEC0116 `SecRuleRemoveById` selects no rule"),
    ] {
        assert_eq!(findings(rules), [expected], "{rules}");
    }
}

#[test]
fn all_at_once_with_places_and_suggestions() {
    let rules = "SecRule ARGS|REQEST_URI \"@contians x\" \\\n    \"id:1,t:urlDecodUni,phase:2\"\n";
    insta::assert_snapshot!(try_program(rules).unwrap_err());
}

/// With `allow_unsupported`, what one rule wants and the engine has not leaves out that rule alone, and is listed.
#[test]
fn what_is_not_supported_can_be_left_out() {
    let rules = r#"
        SecRule ARGS "@inspectFile x" "id:1,deny,chain"
            SecRule ARGS "@rx b" ""
        SecRule ARGS "@rx a" "id:2,deny,chain"
            SecRule ARGS:a|NO_SUCH "@rx b" "t:none"
        SecRule ARGS "@rx (a|b)\1" "id:3,deny"
        SecRule ARGS "@rx a" "id:4,deny,exec:/bin/true"
        SecNothing On
        SecRule ARGS "@rx c" "id:5,deny"
    "#;
    assert_eq!(try_program(rules).unwrap_err().matches("error[").count(), 5);
    let options = BuildOptions { allow_unsupported: true };
    let (program, warnings) = program_with(rules, options).unwrap();
    assert_eq!(program.rules().map(|rule| rule.id).collect::<Vec<_>>(), [5]);
    let said: Vec<_> = warnings.iter().flat_map(|finding| finding.notes.clone()).collect();
    assert_eq!(
        said,
        [
            "rule 1 is left out",
            "the chain of rule 2 is left out",
            "rule 4 is left out",
            "the directive is left out",
            "rule 3 is left out"
        ]
    );
    // What is wrong stays wrong.
    assert!(program_with(r#"SecRule ARGS "@rx (" "id:1""#, options).is_err());
}

/// Every finding as people see it: file, line, column, the place marked, what to do.
#[test]
fn every_finding_in_full() {
    let names: String = (0..65_536).map(|number| format!(",setvar:tx.n{number}=1")).collect();
    let too_many_names = format!("SecAction \"id:1{names}\"");
    let more = [
        "SecRuleRemoveById 7",
        "SecDebugLogLevel 3",
        r#"SecAction "id:1,deprecatevr:ip.a=5""#,
        r#"SecRule ARGS "@rx a" "id:1,t:base64decod""#,
        r#"SecRule ARGS "@rx a" "id:1,ctl:ruleRemoveTargetById=1;ARGZ""#,
        "SecGeoLookupDb none.mmdb",
        r#"SecRule STREAM_OUTPUT_BODY "@rsub s/(a/b/" "id:1""#,
        &too_many_names,
        r#"SecAction "id:1,skipAfter:ENDE"
SecMarker END"#,
    ];
    let mut page = String::new();
    for rules in MISTAKES.iter().map(|(rules, _)| *rules).chain(more) {
        let text = match try_program(rules) {
            Ok((_, warnings)) => {
                let mut sources = portcullis_diag::SourceMap::new();
                sources.add("test.conf", rules);
                warnings.to_text(&sources)
            }
            Err(text) => text,
        };
        page.push_str(&text);
        page.push('\n');
    }
    let codes = include_str!("../../src/codes.rs");
    for code in codes.split('"').filter(|word| word.starts_with("SEC01")) {
        assert!(page.contains(code), "{code} is not shown");
    }
    insta::assert_snapshot!(page);
}
