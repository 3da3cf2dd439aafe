//! Properties: nothing panics, pieces do not matter, threads do not matter, the destructor is a net.

use std::sync::{Arc, Mutex};

use portcullis_waf::transform::{Changed, Transform, apply};
use portcullis_waf::{Overlay, OverlaySettings, Report, ReportSink, Transaction};
use proptest::prelude::*;

use crate::common::{Message, get, program, send, try_program};

/// One rule for every operator, transformation, variable and action there is room for.
const ALL: &str = r#"
SecResponseBodyAccess On
SecArgumentsLimit 20
SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:1,phase:1,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "@contains xml" "id:12,phase:1,nolog,ctl:requestBodyProcessor=XML"
SecRule XML:/*|XML://@*|XML://a/b|FILES|FILES_SIZES|MULTIPART_PART_HEADERS|MULTIPART_FILENAME "@rx \w" "id:13,logdata:'%{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
SecRule REQBODY_ERROR|MULTIPART_STRICT_ERROR|MULTIPART_UNMATCHED_BOUNDARY "!@eq 0" "id:14,logdata:'%{REQBODY_ERROR_MSG}'"
SecRule ARGS|ARGS_NAMES|REQUEST_HEADERS|REQUEST_COOKIES|REQUEST_BODY|REQUEST_URI_RAW|XMATCH "@rx (?i)(a|b)+[^c]*\d" "id:2,phase:2,capture,multiMatch,t:none,t:utf8toUnicode,t:urlDecodeUni,t:htmlEntityDecode,t:jsDecode,t:cssDecode,t:removeNulls,t:cmdLine,t:normalizePath,logdata:'%{tx.0} %{MATCHED_VAR}',setvar:'tx.n_%{MATCHED_VAR_NAME}=+1'"
SecRule ARGS "@pm select union |00|" "id:3,capture,t:base64Decode,t:escapeSeqDecode,t:replaceComments,t:compressWhitespace"
SecRule ARGS "!@validateByteRange 32-126" "id:4,t:removeComments,t:hexEncode,t:sha1,t:md5,t:length"
SecRule ARGS "@validateUtf8Encoding" "id:5"
SecRule ARGS "@validateUrlEncoding" "id:6,t:urlEncode,t:trim"
SecRule ARGS "@within a b c" "id:7,t:sqlHexDecode,t:hexDecode"
SecRule ARGS|!ARGS:/a/ "@eq %{tx.0}" "id:8"
SecRule TX:/n_/ "@gt 0" "id:9,chain"
SecRule MATCHED_VARS "@verifyCC \d{3,}" "t:none"
SecRule RESPONSE_BODY|RESPONSE_HEADERS "@contains %{args.a}" "id:10,phase:4"
SecRule REMOTE_ADDR "@ipMatch 192.0.2.0/24" "id:11,phase:5"
"#;

fn all_rules() -> String {
    ALL.replace("|XMATCH", "")
}

fn text(alphabet: &'static [u8], max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![3 => prop::sample::select(alphabet), 1 => any::<u8>()], 0..max)
}

const MEDIA_TYPES: [&str; 4] =
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "text/xml"];

/// Bodies of which some look like multipart or XML.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"--a\r\n",
        b"--a--",
        b"Content-Disposition: form-data; name=\"b\"",
        b"; filename=c",
        b"\r\n",
        b"\r\n\r\n",
        b"<a>",
        b"</a>",
        b"<b c='",
        b"'>",
        b"</b>",
        b"<![CDATA[",
        b"]]>",
        b"&lt;",
        b"text",
        b"\0",
    ];
    let words = prop::collection::vec(prop::sample::select(words), 0..20).prop_map(|words| words.concat());
    prop_oneof![text(SOUP, 120), words]
}

const SOUP: &[u8] = b"ab12%+&=;:/\\.?#'\"<>{}[](),*- \r\n\0u041x";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any bytes anywhere in a message.
    #[test]
    fn any_message(
        method in text(b"GET POST", 8),
        target in text(SOUP, 60),
        fields in prop::collection::vec((text(b"cookie host content-type", 14), text(SOUP, 40)), 0..5),
        media_type in prop::sample::select(MEDIA_TYPES.to_vec()),
        body in body(),
        response in text(SOUP, 40),
    ) {
        let program = program(&all_rules());
        let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
        let mut transaction = Transaction::new(program, overlay, "x");
        transaction.request_line(&method, &target, b"HTTP/1.1");
        for (name, value) in &fields {
            transaction.request_header(name, value);
        }
        transaction.request_header(b"Content-Type", media_type.as_bytes());
        transaction.check_request_headers();
        transaction.write_request_body(&body);
        transaction.check_request_body();
        transaction.response_status(200);
        transaction.response_header(b"Content-Type", b"text/plain");
        transaction.check_response_headers();
        transaction.write_response_body(&response);
        transaction.check_response_body();
        let report = transaction.finish();
        for found in &report.matches {
            prop_assert!(found.snippet.is_ascii() && found.snippet.len() <= portcullis_waf::SNIPPET);
        }
    }

    /// How a body is cut into pieces changes nothing.
    #[test]
    fn pieces_do_not_matter(
        body in body(),
        media_type in prop::sample::select(MEDIA_TYPES.to_vec()),
        chunk in 1usize..20,
    ) {
        let mut message = get("/?a=1").field("Content-Type", media_type).answered(200, "text/plain", "a1");
        message.body = body;
        let program = program(&all_rules());
        let whole = send(&program, &OverlaySettings::default(), &message, usize::MAX);
        let pieces = send(&program, &OverlaySettings::default(), &message, chunk);
        prop_assert_eq!(whole, pieces);
    }

    /// Any rule file compiles or is refused; what compiles runs.
    #[test]
    fn any_rules(
        lines in prop::collection::vec((
            prop::sample::select(vec!["ARGS", "!ARGS:a", "&TX:/x/", "TX:a|ARGS", "MATCHED_VARS", "DURATION", "ARGS:'/a/'", "XML:/*", ""]),
            prop::sample::select(vec!["@rx a|b", "@rx (", "!@streq %{ARGS.a}", "@pm a |4", "@eq x", "@within", "", "@", "!a", "@ipMatch ::1"]),
            prop::sample::select(vec!["id:#", "id:#,chain", "id:#,deny,t:lowercase", "id:#,skip:1", "id:#,skipAfter:1", "block", "id:#,setvar:tx.a=+%{tx.a}", "id:#,multiMatch,t:length,t:sha1", "id:#,ctl:ruleRemoveById=1-9"]),
        ), 1..6),
        noise in "[ -~\\n]{0,30}",
    ) {
        let mut rules = String::new();
        for (number, (variables, operator, actions)) in lines.iter().enumerate() {
            let actions = actions.replace('#', &(number + 1).to_string());
            rules.push_str(&format!("SecRule {variables} \"{operator}\" \"{actions}\"\n"));
        }
        rules.push_str(&noise);
        if let Ok((program, _)) = try_program(&rules) {
            send(&program, &OverlaySettings::default(), &get("/?a=a&b=ab&a=b"), 9);
            prop_assert!(!program.dump().is_empty());
        }
    }
}

/// What the rule would say if nothing were shared, cached or filtered.
fn naive(pattern: &str, chain: &[&str], values: &[Vec<u8>]) -> bool {
    let regex =
        regex::bytes::RegexBuilder::new(pattern).unicode(false).dot_matches_new_line(true).build().unwrap();
    values.iter().any(|value| {
        let mut value = value.clone();
        for name in chain {
            let mut out = Vec::new();
            if apply(Transform::by_name(name).unwrap(), &value, &mut out) == Changed::Yes {
                value = out;
            }
        }
        regex.is_match(&value)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Lanes, shared forms, interned values and the prefilter change no verdict.
    #[test]
    fn sharing_changes_no_verdict(
        rules in prop::collection::vec((
            prop::sample::select(vec![
                "sel", "(?i)SELECT", "a.c", "^b", "%[0-9a-f]{2}", "x|union", "[<>]", r"\s\s", "b$", r"1\b", "^$", "", "(?:ab|cd){2}",
                r"\\", "&", "/etc", r"[^a-z]", "abcdabcd",
            ]),
            prop::collection::vec(prop::sample::select(vec![
                "lowercase", "urlDecodeUni", "compressWhitespace", "removeWhitespace", "htmlEntityDecode", "jsDecode",
                "cmdLine", "normalizePath", "removeNulls", "replaceComments", "length", "base64Decode", "hexEncode",
            ]), 0..4),
        ), 1..9),
        values in prop::collection::vec(
            prop::collection::vec(prop::sample::select(br"abcdSELunion%41&lt;<> \x61/**/../etc1".to_vec()), 0..12),
            0..5,
        ),
    ) {
        let mut text = String::new();
        for (number, (pattern, chain)) in rules.iter().enumerate() {
            let chain: String = chain.iter().map(|name| format!(",t:{name}")).collect();
            text.push_str(&format!("SecRule ARGS \"@rx {pattern}\" \"id:{},t:none{chain}\"\n", number + 1));
        }
        let query: Vec<String> = values
            .iter()
            .map(|value| format!("q={}", value.iter().map(|byte| format!("%{byte:02x}")).collect::<String>()))
            .collect();
        let message = get(&format!("/?{}", query.join("&")));
        let (report, _) = send(&program(&text), &OverlaySettings::default(), &message, 9);
        let fired: Vec<u32> = report.matches.iter().map(|found| found.rule_id).collect();
        let expected: Vec<u32> = (1u32..)
            .zip(&rules)
            .filter(|(_, (pattern, chain))| naive(pattern, chain, &values))
            .map(|(id, _)| id)
            .collect();
        prop_assert_eq!(fired, expected, "{}", text);
    }
}

#[test]
fn transactions_are_independent_of_threads_and_of_each_other() {
    fn is_send<T: Send + 'static>(_: &T) {}
    let program = program("SecRule ARGS \"@rx ^(\\w+)$\" \"id:1,capture,logdata:'%{tx.1}'\"");
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let program = Arc::clone(&program);
            std::thread::spawn(move || {
                for round in 0..50 {
                    let target = format!("/?q=t{thread}r{round}");
                    let (report, _) = send(&program, &OverlaySettings::default(), &get(&target), 9);
                    assert_eq!(report.matches[0].logdata, format!("t{thread}r{round}"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
    let mut first = Transaction::new(Arc::clone(&program), Arc::clone(&overlay), "a");
    let second = Transaction::new(program, overlay, "b");
    is_send(&first);
    first.request_line(b"GET", b"/?q=one", b"HTTP/1.1");
    assert!(second.finish().matches.is_empty());
    first.check_request_body();
    assert_eq!(first.finish().matches[0].logdata, "one");
}

#[test]
fn programs_can_be_swapped_under_traffic() {
    // The caches of one program must not serve another with other patterns under the same numbers.
    let one = program("SecRule ARGS \"@rx ^a\" \"id:1\"");
    let two = program("SecRule ARGS \"@rx b{3,}c\" \"id:2\"\nSecRule ARGS \"@rx (?i)x.y\" \"id:3\"");
    for _ in 0..3 {
        for (program, target, expected) in
            [(&one, "/?q=abbc", 1), (&two, "/?q=abbbc", 2), (&two, "/?q=xYXzY", 3)]
        {
            let (report, _) = send(program, &OverlaySettings::default(), &get(target), 9);
            assert_eq!(report.matches.iter().map(|found| found.rule_id).collect::<Vec<_>>(), [expected]);
        }
    }
}

#[derive(Default)]
struct Sink(Mutex<Vec<Report>>);

impl ReportSink for Sink {
    fn abandoned(&self, report: Report) {
        self.0.lock().unwrap().push(report);
    }
}

#[test]
fn dropping_an_unfinished_transaction_runs_phase_5() {
    let program = program("SecRule ARGS \"@rx .\" \"id:1,phase:1\"\nSecAction \"id:5,phase:5\"");
    let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
    let sink = Arc::new(Sink::default());
    let begin = || {
        let sink: Arc<dyn ReportSink> = Arc::clone(&sink) as _;
        let mut transaction =
            Transaction::new(Arc::clone(&program), Arc::clone(&overlay), "gone").with_sink(sink);
        transaction.request_line(b"GET", b"/?a=1", b"HTTP/1.1");
        transaction.check_request_headers();
        transaction
    };
    assert!(begin().finish().finished);
    assert!(sink.0.lock().unwrap().is_empty());
    drop(begin());
    let reports = sink.0.lock().unwrap();
    let ids: Vec<_> = reports[0].matches.iter().map(|found| found.rule_id).collect();
    assert_eq!(
        (ids.as_slice(), reports[0].finished, reports[0].unique_id.as_str()),
        (&[1, 5][..], false, "gone")
    );
}

#[test]
fn a_message_that_is_never_fed_is_no_problem() {
    let program = program(&all_rules());
    let (report, verdict) = send(&program, &OverlaySettings::default(), &Message::default(), 1);
    assert!(verdict.is_none() && report.finished);
}
