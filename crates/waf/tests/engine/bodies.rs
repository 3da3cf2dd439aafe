//! Request bodies beyond the four processors' own grammar: limits, bodies that are cut off, and arguments that are taken
//! apart.

use std::sync::Arc;

use portcullis_waf::{Overlay, OverlaySettings, Parsers, Report, Transaction};
use proptest::prelude::*;

use crate::common::{Message, check, get, post, program, send, verdict};

const ALL: Parsers = Parsers { json: true, graphql: true };

/// Every argument as rules see it with these parsers, and why the body was not taken apart to its end.
fn arguments(parsers: Parsers, message: &Message) -> String {
    // A rule reports its last match: all of them are gathered first.
    let rules = r#"SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:1,phase:1,nolog,pass,ctl:requestBodyProcessor=JSON"
        SecRule ARGS "@rx .*" "id:2,pass,nolog,setvar:'tx.all=%{tx.all} %{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
        SecAction "id:3,logdata:'%{tx.all}'"
        SecRule REQBODY_ERROR "@eq 1" "id:4,logdata:'%{REQBODY_ERROR_MSG}'""#;
    let settings = OverlaySettings { parsers, ..OverlaySettings::default() };
    let (report, _) = send(&program(rules), &settings, message, usize::MAX);
    let all = report.matches.iter().map(|found| found.logdata.trim().replace("ARGS:", ""));
    all.collect::<Vec<_>>().join(" | ")
}

#[test]
fn json_in_arguments() {
    let json = Parsers { json: true, graphql: false };
    let form = "application/x-www-form-urlencoded";
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n{\"a\":\"x\"}\r\n--b--\r\n";
    for (message, expected) in [
        (get("/?f=%7B%22a%22:%5B1,%7B%22b%22:%22x%22%7D%5D%7D"), "f= f.json.a= f.json.a.0=1 f.json.a.1.b=x"),
        (post(form, "f= [\"x\"]&g=1"), "f= f.json.0=x g=1"),
        (post("multipart/form-data; boundary=b", multipart), "f= f.json.a=x"),
        // In strings of JSON bodies, and in those again; the fourth layer stays as it is.
        (post("application/json", r#"{"p":"{\"a\":\"x\"}"}"#), "json.p= json.p.json.a=x"),
        (
            post("application/json", r#"["[\"[\\\"[\\\\\\\"[1]\\\\\\\"]\\\"]\"]"]"#),
            "json.0= json.0.json.0= json.0.json.0.json.0= json.0.json.0.json.0.json.0=[1]",
        ),
        // Only what is JSON from beginning to end.
        (
            get("/?f=%7Bhello%7D&g=[draft]+text&h=%5B1%5D+x&i=%22x%22&j=1"),
            "f={hello} g=[draft] text h=[1] x i=\"x\" j=1",
        ),
        (get("/?f=%7B%22a%22:%22x"), "f={\"a\":\"x"),
    ] {
        assert_eq!(arguments(json, &message), expected);
    }
    assert_eq!(arguments(Parsers::default(), &get("/?f=[1]&query=%7Ba%7D")), "f=[1] query={a}");
    let deep = format!("/?f={}{}", "[".repeat(600), "]".repeat(600));
    assert!(arguments(json, &get(&deep)).starts_with("f=[[[["));
}

#[test]
fn graphql_in_arguments() {
    let graphql = Parsers { json: false, graphql: true };
    let document = r#"mutation Add($id: ID!) { add(to: $id, text: \"it's\") { id } }"#;
    for (message, expected) in [
        (
            get("/?query=%7Buser(id:%22x%22)%7Bname%7D%7D&variables=%7B%22id%22:%22y%22%7D"),
            "query= query.graphql.user.id=x variables= variables.json.id=y",
        ),
        (
            post("application/json", &format!(r#"{{"query":"{document}","variables":{{"id":"7"}}}}"#)),
            "json.query= json.query.graphql.add.to= json.query.graphql.add.text=it's json.variables.id=7",
        ),
        (
            post("application/json", r#"[{"query":"{a(b:1)}"},{"query":"{a(b:2)}"}]"#),
            "json.0.query= json.0.query.graphql.a.b=1 json.1.query= json.1.query.graphql.a.b=2",
        ),
        (post("application/graphql; charset=utf-8", "{a(b:\"x\")}"), "graphql.a.b=x"),
        (
            post("application/graphql", "{a(b:\"x\""),
            "graphql.a.b=x | GraphQL parsing error: not an executable document, or beyond the limits",
        ),
        // What is none is looked at as it is, and elsewhere nothing is taken for one.
        (get("/?query=winter+jacket&q=%7Ba(b:1)%7D&f=[1]"), "query=winter jacket q={a(b:1)} f=[1]"),
    ] {
        assert_eq!(arguments(graphql, &message), expected);
    }
    let raw = post("application/graphql", "{a(b:\"x\")}");
    assert_eq!(arguments(Parsers::default(), &raw), "", "without the parser it is a body like any other");
}

/// `SecArgumentsLimit` counts what is found inside, and what goes beyond it does not pass unsaid.
#[test]
fn nested_values_count() {
    let rules = r#"SecArgumentsLimit 5
        SecAction "id:9,phase:1,nolog,pass,ctl:requestBodyProcessor=JSON"
        SecRule REQBODY_ERROR "@eq 1" "id:1,deny,status:400"
        SecRule ARGS "@contains evil" "id:2""#;
    let settings = OverlaySettings { parsers: ALL, ..OverlaySettings::default() };
    for (body, expected) in
        [(r#"{"a":"[1,2,3,\"evil\"]"}"#, "2"), (r#"{"a":"[1,2,3,4,\"evil\"]"}"#, "1 deny 400@2")]
    {
        let (report, interruption) = send(&program(rules), &settings, &post("application/json", body), 9);
        assert_eq!(verdict(&report, interruption.as_ref()), expected, "{body}");
    }
}

#[test]
fn bytes_that_are_no_file() {
    let rules = r#"SecRequestBodyNoFilesLimit 150
        SecRule REQBODY_ERROR "@eq 1" "id:1,logdata:'%{REQBODY_ERROR_MSG} %{INBOUND_DATA_ERROR}'""#;
    let form = |field: usize, file: usize| {
        let (field, file) = ("x".repeat(field), "x".repeat(file));
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n{field}\r\n--b\r\n\
             Content-Disposition: form-data; name=f; filename=g\r\n\r\n{file}\r\n--b--\r\n"
        );
        post("multipart/form-data; boundary=b", &body)
    };
    let refused = "1=the body without its files is longer than SecRequestBodyNoFilesLimit 1";
    check("a large file", rules, &form(1, 5000), "");
    check("a large field", rules, &form(100, 1), refused);
    check("a form", rules, &post("application/x-www-form-urlencoded", &"a".repeat(150)), "");
    check("a large form", rules, &post("application/x-www-form-urlencoded", &"a".repeat(151)), refused);
    check("a large text", rules, &post("text/plain", &"a".repeat(151)), refused);
}

/// A body of which only the beginning is inspected is not broken for that; all of the beginning is.
#[test]
fn bodies_that_are_cut_off() {
    let rules = r#"SecRequestBodyLimit 100
        SecRequestBodyLimitAction ProcessPartial
        SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:8,phase:1,nolog,pass,ctl:requestBodyProcessor=JSON"
        SecRule REQUEST_HEADERS:Content-Type "@contains xml" "id:9,phase:1,nolog,pass,ctl:requestBodyProcessor=XML"
        SecRule REQBODY_ERROR "@eq 1" "id:1,logdata:'%{REQBODY_ERROR_MSG}'"
        SecRule MULTIPART_STRICT_ERROR|MULTIPART_UNMATCHED_BOUNDARY "!@eq 0" "id:2"
        SecRule INBOUND_DATA_ERROR "@eq 1" "id:3"
        SecRule ARGS|ARGS_NAMES|XML:/* "@contains evil" "id:4"
        SecRule REQUEST_BODY "@contains evil" "id:5""#;
    let pad = "x".repeat(100);
    let field = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n";
    for (media_type, body, expected) in [
        ("application/json", format!(r#"{{"a":"evil","b":"{pad}"}}"#), "3 4 5"),
        ("application/json", format!(r#"{{"a":"evil{pad}"}}"#), "3 4 5"),
        ("application/json", format!(r#"{{"evil{pad}":1}}"#), "3 4 5"),
        (
            "application/json",
            format!(r#"{{"a":1}} evil {pad}"#),
            "1=JSON parsing error: unexpected byte or end at offset 8 3 5",
        ),
        ("text/xml", format!("<a>evil<b>{pad}</b></a>"), "3 4 5"),
        ("text/xml", format!("<a>evil</b>{pad}"), "1=XML parsing error: not well-formed. 3 4 5"),
        ("multipart/form-data; boundary=b", format!("{field}evil{pad}\r\n--b--\r\n"), "3 4 5"),
        ("application/x-www-form-urlencoded", format!("a=evil&b={pad}"), "3 4 5"),
        ("text/plain", format!("evil {pad}"), "3 5"),
    ] {
        check(&body, rules, &post(media_type, &body), expected);
        let whole = send(&program(rules), &OverlaySettings::default(), &post(media_type, &body), 7).0;
        assert!(
            whole.notes.contains(&"only the beginning of the request body was inspected"),
            "{:?}",
            whole.notes
        );
    }
    let short = send(&program(rules), &OverlaySettings::default(), &post("text/plain", "x"), 7).0;
    assert!(short.notes.is_empty());
}

/// As above, when the caller is who cuts.
#[test]
fn bodies_that_the_caller_cut_off() {
    let program = program(r#"SecRule INBOUND_DATA_ERROR "@eq 1" "id:1""#);
    let run = |cut: bool| -> Report {
        let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
        let mut transaction = Transaction::new(program.clone(), overlay, "x");
        transaction.request_line(b"POST", b"/", b"HTTP/1.1");
        transaction.check_request_headers();
        transaction.write_request_body(b"abc");
        if cut {
            transaction.cut_request_body();
        }
        transaction.check_request_body();
        transaction.finish()
    };
    assert_eq!((run(true).matches.len(), run(true).notes.len()), (1, 1));
    assert_eq!((run(false).matches.len(), run(false).notes.len()), (0, 0));
}

/// Documents with documents in them, some of them broken.
fn nested() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("\"evil\"".to_owned()),
        Just("12".to_owned()),
        "[ -~]{0,12}",
        Just("\"{a(b:\\\"evil\\\")}\"".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            (prop::sample::select(vec!["query", "variables", "a"]), inner.clone())
                .prop_map(|(key, value)| format!("{{\"{key}\":{value}}}")),
            inner.prop_map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// With any parsers, how a body comes in pieces changes nothing, and the arguments stay within their limit.
    #[test]
    fn pieces_do_not_matter(
        body in nested(),
        form in any::<bool>(),
        json in any::<bool>(),
        graphql in any::<bool>(),
        limit in 1usize..80,
        chunk in 1usize..9,
    ) {
        let rules = format!(r#"SecArgumentsLimit 20
            SecRequestBodyLimit {limit}
            SecRequestBodyLimitAction ProcessPartial
            SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:8,phase:1,nolog,pass,ctl:requestBodyProcessor=JSON"
            SecRule &ARGS "@gt 20" "id:1,deny"
            SecRule ARGS|ARGS_NAMES "@rx ." "id:2,pass,nolog,setvar:'tx.all=%{{tx.all}} %{{MATCHED_VAR_NAME}}=%{{MATCHED_VAR}}'"
            SecAction "id:3,logdata:'%{{tx.all}} %{{REQBODY_ERROR}}'""#);
        let program = program(&rules);
        let settings = OverlaySettings { parsers: Parsers { json, graphql }, ..OverlaySettings::default() };
        let message = if form {
            post("application/x-www-form-urlencoded", &format!("query={body}&a={body}"))
        } else {
            post("application/json", &body)
        };
        let whole = send(&program, &settings, &message, usize::MAX);
        prop_assert!(whole.1.is_none());
        prop_assert_eq!(send(&program, &settings, &message, chunk), whole);
    }
}
