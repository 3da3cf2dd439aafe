//! Transactions that are watched visit every rule. The others visit the rules that values nominate, do what is foreseen
//! and remember values: the reports must be the same, for values never seen before and for values seen often.

use std::sync::Arc;

use portcullis_waf::trace::Watch;
use portcullis_waf::{
    ExclusionSettings, Mode, Overlay, OverlaySettings, Program, Report, RuleSelection, Transaction,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::common::try_program;

const TARGETS: [&str; 29] = [
    "ARGS",
    "ARGS|!ARGS:b",
    "ARGS:a|ARGS_NAMES",
    "ARGS:/^[ab]$/",
    "ARGS_GET|REQUEST_FILENAME",
    "ARGS_POST_NAMES|REQUEST_BODY",
    "REQUEST_HEADERS",
    "REQUEST_HEADERS|!REQUEST_HEADERS:Host|!REQUEST_HEADERS:/^content/",
    "REQUEST_HEADERS:X",
    "REQUEST_HEADERS_NAMES",
    "REQUEST_COOKIES|REQUEST_COOKIES_NAMES",
    "REQUEST_URI|QUERY_STRING",
    "REQUEST_LINE|REQUEST_METHOD",
    "REQBODY_PROCESSOR",
    "ARGS_COMBINED_SIZE",
    "REMOTE_ADDR|UNIQUE_ID",
    "RESPONSE_HEADERS|RESPONSE_BODY",
    "RESPONSE_STATUS",
    "&ARGS",
    "&REQUEST_HEADERS:x",
    "&REQUEST_HEADERS|!REQUEST_HEADERS:x",
    "&REQUEST_COOKIES:none|&REQUEST_METHOD",
    "&TX:s",
    "TX:s",
    "TX:t",
    "TX:/^s/",
    "TX:0",
    "MATCHED_VAR",
    "MATCHED_VARS_NAMES|HIGHEST_SEVERITY",
];
const OPERATORS: [&str; 25] = [
    "@rx a",
    "@rx ^(a+)b?",
    "!@rx ^[a-z0-9/=&]*$",
    "@rx (?i)union.{1,9}select",
    "@pm ab cd <script",
    "!@pm ab cd",
    "@contains b",
    "@beginsWith a",
    "@endsWith b",
    "@within a ab abc",
    "!@within a ab abc",
    "@streq %{tx.t}",
    "@contains %{tx.t}",
    "@rx ^%{tx.t}",
    "@eq 1",
    "@ge 2",
    "@lt 2",
    "@gt %{tx.s}",
    "!@eq 0",
    "@detectSQLi",
    "@detectXSS",
    "@validateByteRange 32-126",
    "@validateUrlEncoding",
    "@ipMatch 192.0.2.0/24",
    "@unconditionalMatch",
];
const TRANSFORMATIONS: [&str; 8] = [
    "t:none",
    "t:none,t:lowercase",
    "t:none,t:urlDecodeUni,t:lowercase",
    "t:none,t:urlDecodeUni,t:removeWhitespace,multiMatch",
    "t:none,t:uppercase,t:lowercase,multiMatch",
    "t:none,t:length",
    "t:none,t:htmlEntityDecode,t:compressWhitespace",
    "t:none,capture",
];
const EFFECTS: [&str; 22] = [
    "nolog",
    "nolog,setvar:tx.s=1",
    "nolog,setvar:tx.s=+1",
    "nolog,setvar:tx.s=-1",
    "nolog,setvar:!tx.s",
    "nolog,setvar:tx.t=a",
    "nolog,setvar:tx.t=%{tx.s}",
    "nolog,setvar:tx.t=%{matched_var}",
    "nolog,setvar:tx.t=%{tx.0}",
    "nolog,setvar:tx.seen_%{matched_var_name}=+1",
    "nolog,setvar:tx.s=+%{tx.s}",
    "nolog,skip:1",
    "nolog,skipAfter:MIDDLE",
    "nolog,skipAfter:END",
    "log,msg:'%{tx.t} %{tx.s} %{matched_var_name}',logdata:'%{tx.0}'",
    "log,severity:3,msg:'%{tx.1} %{highest_severity}',setvar:tx.s=+2",
    "nolog,ctl:ruleRemoveById=106",
    "nolog,ctl:ruleRemoveTargetById=107;ARGS:a",
    "nolog,ctl:requestBodyProcessor=JSON",
    "nolog,ctl:ruleEngine=DetectionOnly",
    "log,allow:phase",
    "log,deny",
];
const VALUES: [&str; 14] =
    ["a", "b", "ab", "aab", "A+B", "%41b", "cd", "1", "2", "", "1+UNION+SELECT+a", "<script>", "x%", "a%00"];

fn rule() -> impl Strategy<Value = String> {
    let effects = || select(&EFFECTS[..]);
    // Most are as rule sets have them: log, or gates.
    let effects = prop_oneof![3 => effects(), 1 => select(&EFFECTS[..15])];
    let condition = (select(&TARGETS[..]), select(&OPERATORS[..]), select(&TRANSFORMATIONS[..]));
    let second = prop::option::weighted(0.25, (condition.clone(), select(&EFFECTS[1..11])));
    let kind = 0..10u8;
    (kind, 1..6u8, condition, effects, second).prop_map(|(kind, phase, first, effects, second)| {
        let phase = if phase == 5 { 2 } else { phase };
        let (targets, operator, form) = first;
        if kind == 0 {
            return format!("SecAction \"id:ID,phase:{phase},pass,{effects}\"");
        }
        let disruptive = if effects.contains("deny") || effects.contains("allow") { "" } else { "pass," };
        let chain = if second.is_some() { ",chain" } else { "" };
        let mut text = format!(
            "SecRule {targets} \"{operator}\" \"id:ID,phase:{phase},{disruptive}{form},{effects}{chain}\""
        );
        if let Some(((targets, operator, form), effects)) = second {
            let effects = effects.trim_start_matches("nolog,");
            text += &format!("\nSecRule {targets} \"{operator}\" \"{form},{effects}\"");
        }
        text
    })
}

/// Rules with ids from 101 on, between them a marker, and another behind them.
fn rules() -> impl Strategy<Value = String> {
    prop::collection::vec(rule(), 3..16).prop_map(|rules| {
        let middle = rules.len() / 2;
        let mut text = String::new();
        for (at, rule) in rules.iter().enumerate() {
            if at == middle {
                text += "SecMarker MIDDLE\n";
            }
            let rule = if at >= middle { rule.replace("MIDDLE", "END") } else { rule.clone() };
            text += &rule.replace("id:ID", &format!("id:{}", 101 + at));
            text += "\n";
        }
        text + "SecMarker END\nSecAction \"id:106000,phase:5,pass,log,msg:'%{tx.s} %{tx.t} %{tx.0} %{matched_var}'\"\n"
    })
}

#[derive(Clone, Debug)]
struct Message {
    target: String,
    fields: Vec<(&'static str, String)>,
    body: String,
}

fn message() -> impl Strategy<Value = Message> {
    let value = || select(&VALUES[..]);
    let pairs = |most| prop::collection::vec((select(&["a", "b", "c"][..]), value()), 0..most);
    let join = |pairs: Vec<(&str, &str)>| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    };
    (pairs(4), pairs(3), prop::option::of(value()), any::<bool>(), any::<Index>()).prop_map(
        move |(query, body, field, cookie, kind)| {
            let mut fields = vec![("Host", "example.org".to_owned())];
            fields.extend(field.map(|value| ("X", value.to_owned())));
            if cookie {
                fields.push(("Cookie", "a=ab; sid=1".to_owned()));
            }
            let body = join(body);
            if kind.index(2) == 0 {
                fields.push(("Content-Type", "application/x-www-form-urlencoded".to_owned()));
            }
            Message { target: format!("/a?{}", join(query)), fields, body }
        },
    )
}

fn report(program: &Arc<Program>, overlay: &Arc<Overlay>, message: &Message, watched: bool) -> Report {
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "a1");
    if watched {
        transaction = transaction.watched(Watch::Costs);
    }
    transaction.connection("192.0.2.7".parse().unwrap(), 40000, "192.0.2.1".parse().unwrap(), 443);
    transaction.request_line(b"POST", message.target.as_bytes(), b"HTTP/1.1");
    for (name, value) in &message.fields {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    let mut blocked = transaction.check_request_headers();
    if blocked.is_none() {
        blocked = transaction.write_request_body(message.body.as_bytes());
    }
    if blocked.is_none() {
        blocked = transaction.check_request_body();
    }
    if blocked.is_none() {
        transaction.response_status(200);
        transaction.response_header(b"Content-Type", b"text/plain");
        blocked = transaction.check_response_headers();
    }
    // What has no body skips a phase.
    if blocked.is_none() && !message.body.is_empty() {
        let _ = transaction.write_response_body(message.body.as_bytes());
        let _ = transaction.check_response_body();
    }
    transaction.finish()
}

fn overlays(program: &Program) -> Vec<Arc<Overlay>> {
    let plain = OverlaySettings::default();
    let detect =
        OverlaySettings { mode: Some(Mode::Detect), paranoia: Some(2), ..OverlaySettings::default() };
    let exclusions = vec![
        ExclusionSettings { rules: RuleSelection::Id(102), target: None },
        ExclusionSettings { rules: RuleSelection::Range(101, 103), target: Some("ARGS:a".to_owned()) },
        ExclusionSettings { rules: RuleSelection::Id(101), target: Some("TX".to_owned()) },
    ];
    let excluding = OverlaySettings { exclusions, ..OverlaySettings::default() };
    let all = [plain, detect, excluding];
    all.iter().map(|settings| Arc::new(Overlay::compile(program, settings).unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn watched_or_not_the_report_is_the_same(
        rules in rules(),
        messages in prop::collection::vec(message(), 1..4),
    ) {
        let rules = format!(
            "SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess On\n\
             SecResponseBodyMimeType text/plain\n{rules}"
        );
        let (program, _) = try_program(&rules).unwrap_or_else(|found| panic!("{found}"));
        for overlay in overlays(&program) {
            let expected: Vec<_> =
                messages.iter().map(|message| report(&program, &overlay, message, true)).collect();
            for turn in 0..3 {
                for (message, expected) in messages.iter().zip(&expected) {
                    let got = report(&program, &overlay, message, false);
                    prop_assert_eq!(&got, expected, "turn {}: {}", turn, message.target);
                }
            }
        }
    }
}
