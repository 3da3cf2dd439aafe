//! Section 10: bodies, their processors and limits.

use crate::common::{check, get, post};
use crate::table;

/// Everything the rules can see of a body, in few words.
const SEEN: &str = r#"
    SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:91,phase:1,nolog,ctl:requestBodyProcessor=JSON"
    SecRule REQUEST_HEADERS:Content-Type "@contains xml" "id:92,phase:1,nolog,ctl:requestBodyProcessor=XML"
    SecRule ARGS|FILES|XML:/* "@unconditionalMatch" "id:1,nolog,setvar:'tx.all=%{tx.all} %{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
    SecRule &REQUEST_BODY "@eq 1" "id:2,nolog,setvar:'tx.all=%{tx.all} raw'"
    SecRule REQBODY_ERROR "@eq 1" "id:3,nolog,setvar:'tx.all=%{tx.all} error'"
    SecAction "id:9,logdata:'%{REQBODY_PROCESSOR}:%{tx.all}'"
"#;

#[test]
fn processors_by_media_type() {
    for (media_type, body, expected) in [
        ("application/x-www-form-urlencoded", "a=1", "URLENCODED: ARGS:a=1 raw"),
        ("application/x-www-form-urlencoded;charset=utf-8", "a=1", "URLENCODED: ARGS:a=1 raw"),
        ("Application/X-WWW-Form-URLEncoded ; x", "a=1", "URLENCODED: ARGS:a=1 raw"),
        ("application/x-www-form-urlencodedx", "a=1", ": raw"),
        ("text/plain", "a=1", ": raw"),
        ("application/json", "{\"a\":1}", "JSON: ARGS:json.a=1"),
        ("text/xml", "<a>x</a>", "XML: XML:/*=x"),
        ("application/x-www-form-urlencoded", "", "URLENCODED:"),
    ] {
        check(media_type, SEEN, &post(media_type, body), &format!("9={expected}"));
    }
}

#[test]
fn json() {
    for (body, expected) in [
        (r#"{"a":{"b":1},"c":"x"}"#, " ARGS:json.a.b=1 ARGS:json.c=x"),
        (r#"["x","y"]"#, " ARGS:json.0=x ARGS:json.1=y"),
        (r#"{"a":["x","y"]}"#, " ARGS:json.a= ARGS:json.a.0=x ARGS:json.a.1=y"),
        // Every value of a key that is there twice, in order; numbers as they are written.
        (r#"{"a":1e2,"a":"2"}"#, " ARGS:json.a=1e2 ARGS:json.a=2"),
        (r#"{"a":true,"b":null}"#, " ARGS:json.a=true ARGS:json.b="),
        (r#"{"\u0061\n":"\u003c"}"#, " ARGS:json.a\\x0a=<"),
        (r#""root""#, " ARGS:json=root"),
        ("7", " ARGS:json=7"),
        // What came before an error stays, and the text is there as well.
        (r#"{"a":"evil","b":}"#, " ARGS:json.a=evil ARGS:json.b= raw error"),
        (r#"{"a":"evil"#, " ARGS:json.a=evil raw error"),
        (r#"{"a":1}{"b":2}"#, " ARGS:json.a=1 raw error"),
        ("{'a':1}", " raw error"),
    ] {
        check(body, SEEN, &post("application/json", body), &format!("9=JSON:{expected}"));
    }
    table(&[
        (
            "attacks in keys",
            "SecAction \"id:1,phase:1,nolog,ctl:requestBodyProcessor=JSON\"\nSecRule ARGS_NAMES \"@contains <script\" \"id:2\"",
            post("application/json", r#"{"<script>":{}}"#),
            "2",
        ),
        (
            "exclusions name keys",
            "SecAction \"id:1,phase:1,nolog,ctl:requestBodyProcessor=JSON,ctl:ruleRemoveTargetById=2;ARGS:/^json\\.\\d+\\.note$/\"\nSecRule ARGS \"@streq x\" \"id:2,logdata:'%{MATCHED_VAR_NAME}'\"",
            post("application/json", r#"[{"note":"x"},{"other":"x"},{"note":"x"}]"#),
            "2=ARGS:json.1.other",
        ),
        (
            "more arguments than the limit",
            "SecArgumentsLimit 2\nSecAction \"id:1,phase:1,nolog,ctl:requestBodyProcessor=JSON\"\nSecRule REQBODY_ERROR \"@eq 1\" \"id:200002,deny,status:400\"",
            post("application/json", "[1,2,3]"),
            "200002 deny 400@2",
        ),
    ]);
}

#[test]
fn xml() {
    for (body, expected) in [
        ("<a>x<b>y</b> z</a>", " XML:/*=xy z"),
        ("<a><![CDATA[<b>]]></a>", " XML:/*=<b>"),
        ("<a>&lt;&#65;&#x42;</a>", " XML:/*=<AB"),
        ("<a>x<!-- c --><?p i?></a>", " XML:/*=x"),
        ("<?xml version=\"1.0\"?>\n<a>x</a>", " XML:/*=x"),
        ("<a>x", " XML:/*=x raw error"),
        ("<a>x</b>", " XML:/*=x raw error"),
        ("<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>", " raw error"),
        ("<a>&e;</a>", " XML:/*= raw error"),
    ] {
        check(body, SEEN, &post("text/xml", body), &format!("9=XML:{expected}"));
    }
}

/// What calls Java from a style sheet is named in a namespace, and nowhere else.
#[test]
fn xml_namespaces() {
    check(
        "a class named by a namespace",
        r#"SecRule REQUEST_HEADERS:Content-Type "@contains xml" "id:1,phase:1,nolog,ctl:requestBodyProcessor=XML"
           SecRule XML://@* "@contains java.lang.Runtime" "id:2""#,
        &post("text/xml", r#"<a xmlns:rt="http://xml.apache.org/xalan/java/java.lang.Runtime"><b/></a>"#),
        "2",
    );
}

/// A form of parts, each with its head.
fn form(parts: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (head, body) in parts {
        text.push_str(&format!("--b\r\n{head}\r\n\r\n{body}\r\n"));
    }
    text + "--b--\r\n"
}

#[test]
fn multipart() {
    let field = "Content-Disposition: form-data; name=\"a\"";
    let file = "Content-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain";
    for (name, head, body, expected) in [
        ("a field is not decoded", field, "1%41+", " ARGS:a=1%41+"),
        ("an empty one", field, "", " ARGS:a="),
        ("lines of its own", field, "x\r\ny", " ARGS:a=x\\x0d\\x0ay"),
        ("a file is no argument", file, "<?php", " FILES:f=x.txt"),
        ("escapes in names", r#"Content-Disposition: form-data; name="a\"b""#, "1", " ARGS:a\"b=1"),
        ("no name", "Content-Disposition: form-data", "1", " raw error"),
        ("not of a form", "Content-Disposition: attachment; name=\"a\"", "1", " raw error"),
        ("no disposition", "Content-Type: text/plain", "1", " raw error"),
    ] {
        let message = post("multipart/form-data; boundary=b", &form(&[(head, body)]));
        check(name, SEEN, &message, &format!("9=MULTIPART:{expected}"));
    }
}

#[test]
fn multipart_flags() {
    let flags = [
        "BOUNDARY_QUOTED",
        "BOUNDARY_WHITESPACE",
        "DATA_BEFORE",
        "DATA_AFTER",
        "HEADER_FOLDING",
        "LF_LINE",
        "CRLF_LF_LINES",
        "MISSING_SEMICOLON",
        "INVALID_QUOTING",
        "INVALID_PART",
        "INVALID_HEADER_FOLDING",
        "FILE_LIMIT_EXCEEDED",
        "STRICT_ERROR",
        "UNMATCHED_BOUNDARY",
    ];
    let mut rules = String::new();
    for (number, flag) in flags.iter().enumerate() {
        rules.push_str(&format!(
            "SecRule MULTIPART_{flag} \"!@eq 0\" \"id:{},nolog,setvar:'tx.all=%{{tx.all}} {flag}'\"\n",
            number + 1
        ));
    }
    rules.push_str("SecAction \"id:99,logdata:'%{tx.all}'\"");
    let good = form(&[("Content-Disposition: form-data; name=\"a\"", "1")]);
    let plain = "multipart/form-data; boundary=b";
    for (name, media_type, body, expected) in [
        ("nothing", plain, good.clone(), ""),
        ("no body", plain, String::new(), ""),
        (
            "a quoted boundary",
            "multipart/form-data; boundary=\"b\"",
            good.clone(),
            " BOUNDARY_QUOTED STRICT_ERROR",
        ),
        ("data before", plain, format!("x\r\n{good}"), " DATA_BEFORE STRICT_ERROR"),
        ("data after", plain, format!("{good}x"), " DATA_AFTER STRICT_ERROR"),
        ("LF alone", plain, good.replace("\r\n", "\n"), " LF_LINE STRICT_ERROR"),
        ("both line ends", plain, good.replacen("\r\n", "\n", 1), " LF_LINE CRLF_LF_LINES STRICT_ERROR"),
        ("a folded field", plain, good.replace("; name", ";\r\n name"), " HEADER_FOLDING STRICT_ERROR"),
        ("single quotes", plain, good.replace("\"a\"", "'a'"), " INVALID_QUOTING STRICT_ERROR"),
        (
            "a line that looks like a boundary",
            plain,
            good.replace("\r\n1\r\n", "\r\n--x\r\n"),
            " UNMATCHED_BOUNDARY",
        ),
    ] {
        let expected = if expected.is_empty() { "99".to_owned() } else { format!("99={expected}") };
        check(name, &rules, &post(media_type, &body), &expected);
    }
}

#[test]
fn limits() {
    let form = |body: &str| post("application/x-www-form-urlencoded", body);
    let rules = |settings: &str| {
        format!(
            "{settings}\nSecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:1\"\nSecRule ARGS:a \"@rx ^(.*)$\" \"id:2,logdata:'%{{MATCHED_VAR}}'\"\nSecAction \"id:3,phase:5\""
        )
    };
    for (name, settings, body, expected) in [
        ("below", "SecRequestBodyLimit 5", "a=12", "2=12 3"),
        ("exactly", "SecRequestBodyLimit 5", "a=123", "2=123 3"),
        ("above", "SecRequestBodyLimit 5", "a=1234", "3 deny 413@2"),
        (
            "in part",
            "SecRequestBodyLimit 5\nSecRequestBodyLimitAction ProcessPartial",
            "a=1234567",
            "1 2=123 3",
        ),
        (
            "detecting",
            "SecRuleEngine DetectionOnly\nSecRequestBodyLimit 5",
            "a=1234567",
            "1 2=123 3 (deny 413@2)",
        ),
    ] {
        check(name, &rules(settings), &form(body), expected);
    }
}

#[test]
fn response_bodies() {
    let answer = |media_type: &str| get("/").answered(200, media_type, "abcdef");
    let rules = |settings: &str| {
        format!(
            "{settings}\nSecRule RESPONSE_BODY \"@rx .\" \"id:1,phase:4,logdata:'%{{MATCHED_VAR}}'\"\nSecRule OUTBOUND_DATA_ERROR \"@eq 1\" \"id:2,phase:4\""
        )
    };
    let on = "SecResponseBodyAccess On";
    for (name, settings, media_type, expected) in [
        ("off unless asked for", String::new(), "text/html", ""),
        ("a type of the list", on.to_owned(), "text/html", "1=abcdef"),
        ("its parameters do not count", on.to_owned(), "Text/HTML; charset=x", "1=abcdef"),
        ("a type that only begins like one", on.to_owned(), "text/html5", ""),
        (
            "another list",
            format!("{on}\nSecResponseBodyMimeType application/json"),
            "application/json",
            "1=abcdef",
        ),
        (
            "which replaces the first",
            format!("{on}\nSecResponseBodyMimeType application/json"),
            "text/html",
            "",
        ),
        ("none", format!("{on}\nSecResponseBodyMimeTypesClear"), "text/html", ""),
        ("over the limit, in part", format!("{on}\nSecResponseBodyLimit 3"), "text/html", "1=abc 2"),
        (
            "over the limit, refused",
            format!("{on}\nSecResponseBodyLimit 3\nSecResponseBodyLimitAction Reject"),
            "text/html",
            "deny 502@4",
        ),
    ] {
        check(name, &rules(&settings), &answer(media_type), expected);
    }
}
