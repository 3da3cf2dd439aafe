//! What variables hold: request, bodies, response.

use portcullis_waf::OverlaySettings;

use crate::common::{Message, check, get, post, program, send, try_program, verdict};

/// All values of a target, in order, as `name=value`, in a phase.
fn values(target: &str, phase: u8, message: &Message) -> String {
    let rules = format!(
        r#"SecResponseBodyAccess On
           SecRule REQUEST_HEADERS:Content-Type "@rx json" "id:3,phase:1,nolog,ctl:requestBodyProcessor=JSON"
           SecRule {target} "@unconditionalMatch" "id:1,phase:{phase},nolog,setvar:'tx.all=%{{tx.all}} %{{MATCHED_VAR_NAME}}=%{{MATCHED_VAR}}'"
           SecAction "id:2,phase:5,logdata:'%{{tx.all}}'""#
    );
    let (report, _) = send(&program(&rules), &OverlaySettings::default(), message, 3);
    report.matches[0].logdata.trim_start().to_owned()
}

#[test]
fn request_line_and_fields() {
    let message = get("http://h.example:81/a%20b/c.php;x=1?q=%41+b&%zz&&=v&n=a=b&q=#frag")
        .field("Host", "h.example:81")
        .field("X-Two", "1")
        .field("x-two", "2")
        .field("Cookie", "a=1; $Version=1;b = \"x y\";;c; =d")
        .field("Cookie", "a=2")
        .field("Authorization", "Basic Zm9vOmJhcg==");
    for (target, expected) in [
        ("REQUEST_METHOD", "REQUEST_METHOD=GET"),
        (
            "REQUEST_URI_RAW",
            "REQUEST_URI_RAW=http://h.example:81/a%20b/c.php;x=1?q=%41+b&%zz&&=v&n=a=b&q=#frag",
        ),
        ("REQUEST_URI", "REQUEST_URI=/a%20b/c.php;x=1?q=%41+b&%zz&&=v&n=a=b&q="),
        ("REQUEST_FILENAME", "REQUEST_FILENAME=/a b/c.php;x=1"),
        ("REQUEST_BASENAME", "REQUEST_BASENAME=c.php;x=1"),
        ("QUERY_STRING", "QUERY_STRING=q=%41+b&%zz&&=v&n=a=b&q="),
        ("REQUEST_PROTOCOL", "REQUEST_PROTOCOL=HTTP/1.1"),
        ("ARGS", "ARGS:q=A b ARGS:%zz= ARGS:=v ARGS:n=a=b ARGS:q="),
        ("ARGS_NAMES", "ARGS_NAMES:q=q ARGS_NAMES:%zz=%zz ARGS_NAMES:= ARGS_NAMES:n=n ARGS_NAMES:q=q"),
        ("ARGS_COMBINED_SIZE", "ARGS_COMBINED_SIZE=13"),
        ("URLENCODED_ERROR", "URLENCODED_ERROR=1"),
        ("REQUEST_HEADERS:X-TWO", "REQUEST_HEADERS:X-Two=1 REQUEST_HEADERS:x-two=2"),
        ("REQUEST_HEADERS_NAMES:/^X/", "REQUEST_HEADERS_NAMES:X-Two=X-Two REQUEST_HEADERS_NAMES:x-two=x-two"),
        ("REQUEST_COOKIES:a", "REQUEST_COOKIES:a=1 REQUEST_COOKIES:a=2"),
        ("REQUEST_COOKIES:$version", "REQUEST_COOKIES:$Version=1"),
        ("REQUEST_COOKIES:/^[bc]/", "REQUEST_COOKIES:b = \"x y\" REQUEST_COOKIES:c="),
        ("&REQUEST_COOKIES", "&REQUEST_COOKIES=5"),
        ("SERVER_NAME", "SERVER_NAME=h.example"),
        ("AUTH_TYPE", "AUTH_TYPE=Basic"),
        (
            "REMOTE_ADDR|REMOTE_PORT|SERVER_ADDR|SERVER_PORT",
            "REMOTE_ADDR=192.0.2.7 REMOTE_PORT=40000 SERVER_ADDR=192.0.2.1 SERVER_PORT=443",
        ),
        ("UNIQUE_ID", "UNIQUE_ID=id-1"),
        ("HIGHEST_SEVERITY", "HIGHEST_SEVERITY=255"),
    ] {
        assert_eq!(values(target, 1, &message), expected, "{target}");
    }
    assert!(values("TIME_YEAR", 1, &message).starts_with("TIME_YEAR=20"));
    assert!(values("ENV:PATH", 1, &message).starts_with("ENV:PATH=/"));
}

#[test]
fn bodies() {
    let form = "application/x-www-form-urlencoded; charset=UTF-8";
    let raw = |name: &str, body: &str| format!("REQBODY_PROCESSOR={name} REQUEST_BODY={body}");
    for (message, target, expected) in [
        (post(form, "a=1&b=%32"), "ARGS_POST", "ARGS_POST:a=1 ARGS_POST:b=2".to_owned()),
        (post(form, "a=1"), "REQBODY_PROCESSOR|REQUEST_BODY", raw("URLENCODED", "a=1")),
        (post("text/plain", "a=1"), "ARGS|REQUEST_BODY", "REQUEST_BODY=a=1".to_owned()),
        (
            post("multipart/form-data; boundary=x", "--x"),
            "REQBODY_PROCESSOR|REQUEST_BODY",
            raw("MULTIPART", "--x"),
        ),
        (
            post("application/json", r#"{"a":[1,{"b":"x"}],"a":null}"#),
            "ARGS|REQUEST_BODY|REQBODY_ERROR",
            "ARGS:json.a= ARGS:json.a.0=1 ARGS:json.a.1.b=x ARGS:json.a= REQBODY_ERROR=0".to_owned(),
        ),
        (
            post("application/json", r#"{"a":1,"#),
            "ARGS|REQBODY_ERROR|REQBODY_PROCESSOR_ERROR|REQBODY_ERROR_MSG",
            "ARGS:json.a=1 REQBODY_ERROR=1 REQBODY_PROCESSOR_ERROR=1 REQBODY_ERROR_MSG=JSON parsing error: unexpected byte or end at offset 7".to_owned(),
        ),
        (
            post(form, "abc"),
            "REQUEST_BODY_LENGTH|INBOUND_DATA_ERROR",
            "REQUEST_BODY_LENGTH=3 INBOUND_DATA_ERROR=0".to_owned(),
        ),
    ] {
        assert_eq!(values(target, 2, &message), expected, "{target}");
    }
    let multipart = post("multipart/form-data; boundary=x", "--x\r\n\r\nevil");
    check("broken: raw", "SecRule REQUEST_BODY \"@rx evil\" \"id:1,deny\"", &multipart, "1 deny 403@2");
    check(
        "forced",
        r#"SecAction "id:9,phase:1,nolog,ctl:requestBodyProcessor=JSON,ctl:forceRequestBodyVariable=On"
           SecRule REQUEST_BODY "@rx evil" "id:1""#,
        &post("application/json", "[\"evil\"]"),
        "1",
    );
}

#[test]
fn limits() {
    let rule = "SecRule ARGS:a \"@rx x\" \"id:1\"\nSecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:2\"\nSecAction \"id:5,phase:5\"";
    let form = |body: &str| post("application/x-www-form-urlencoded", body);
    for (name, settings, body, expected) in [
        ("exactly the limit", "SecRequestBodyLimit 4", "a=xx", "1 5"),
        ("beyond it", "SecRequestBodyLimit 4", "a=xxx", "5 deny 413@2"),
        ("in part", "SecRequestBodyLimit 4\nSecRequestBodyLimitAction ProcessPartial", "a=xxx", "1 2 5"),
        (
            "never in detect mode",
            "SecRuleEngine DetectionOnly\nSecRequestBodyLimit 4",
            "a=xxx",
            "1 2 5 (deny 413@2)",
        ),
        ("no access", "SecRequestBodyAccess Off", "a=x", "5"),
        ("lowered", r#"SecAction "id:9,phase:1,nolog,ctl:requestBodyLimit=4""#, "a=xxx", "5 deny 413@2"),
        (
            "raised",
            "SecRequestBodyLimit 4\nSecAction \"id:9,phase:1,nolog,ctl:requestBodyLimit=5\"",
            "a=xxx",
            "1 5",
        ),
        (
            "lowered, in part",
            "SecRequestBodyLimitAction ProcessPartial\nSecAction \"id:9,phase:1,nolog,ctl:requestBodyLimit=4\"",
            "a=xxx",
            "1 2 5",
        ),
        ("too late", r#"SecAction "id:9,phase:2,nolog,ctl:requestBodyLimit=1""#, "a=xxx", "1 5"),
        ("arguments", "SecArgumentsLimit 2", "b=1&c=2&a=x", "5"),
    ] {
        check(name, &format!("{settings}\n{rule}"), &form(body), expected);
    }
    check(
        "arguments of a body beyond the limit",
        "SecArgumentsLimit 2\nSecRule REQBODY_ERROR \"@eq 1\" \"id:1,deny,status:400\"",
        &form("b=1&c=2&a=x"),
        "1 deny 400@2",
    );
    check(
        "depth",
        r#"SecRequestBodyJsonDepthLimit 2
           SecAction "id:9,phase:1,nolog,ctl:requestBodyProcessor=JSON"
           SecRule REQBODY_ERROR "@eq 1" "id:1,logdata:'%{REQBODY_ERROR_MSG}'""#,
        &post("application/json", "[[[1]]]"),
        "1=JSON parsing error: nested deeper than SecRequestBodyJsonDepthLimit",
    );
}

#[test]
fn response_limits() {
    let rules = r#"SecResponseBodyAccess On
        SecResponseBodyLimit 4
        SecRule RESPONSE_BODY "@rx x$" "id:1,phase:4,deny,status:502"
        SecRule OUTBOUND_DATA_ERROR "@eq 1" "id:2,phase:4""#;
    let answer = |media_type: &str, body: &str| get("/").answered(200, media_type, body);
    check("fits", rules, &answer("text/html; charset=x", "aaax"), "1 deny 502@4");
    check("in part", rules, &answer("text/html", "aaaax"), "2");
    check("other media types are not read", rules, &answer("image/png", "x"), "");
    let streams = format!("{rules}\nSecResponseBodyMimeType text/event-stream");
    check("streams are never held", &streams, &answer("text/event-stream", "x"), "");
    let reject = format!("{rules}\nSecResponseBodyLimitAction Reject");
    check("rejected", &reject, &answer("text/html", "aaaax"), "deny 502@4");
}

#[test]
fn responses() {
    let message = get("/").answered(404, "text/plain", "hello");
    for (target, phase, expected) in [
        ("RESPONSE_STATUS", 3, "RESPONSE_STATUS=404"),
        ("RESPONSE_HEADERS:content-type", 3, "RESPONSE_HEADERS:Content-Type=text/plain"),
        ("RESPONSE_CONTENT_TYPE|STATUS_LINE", 3, "RESPONSE_CONTENT_TYPE=text/plain STATUS_LINE=HTTP/1.1 404"),
        ("RESPONSE_BODY|RESPONSE_CONTENT_LENGTH", 4, "RESPONSE_BODY=hello RESPONSE_CONTENT_LENGTH=5"),
    ] {
        assert_eq!(values(target, phase, &message), expected, "{target}");
    }
}

#[test]
fn reports() {
    let rules = r#"SecRule ARGS "@rx (?i)b" "id:7,deny,t:lowercase,msg:'found %{MATCHED_VAR}',severity:'CRITICAL',tag:'a',tag:'b'""#;
    let (report, interruption) = send(&program(rules), &OverlaySettings::default(), &get("/?q=A%00B"), 9);
    let found = &report.matches[0];
    assert_eq!((found.rule_id, found.severity, found.tags.len()), (7, Some(2), 2));
    assert_eq!((found.variable.as_str(), found.snippet.as_str()), ("ARGS:q", r"a\x00b"));
    assert_eq!((found.operator.as_str(), &*found.file, found.line), ("rx", "test.conf", 1));
    assert!(report.finished);
    assert_eq!(verdict(&report, interruption.as_ref()), "7 deny 403@2");
}

const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1&2\r\n--b\r\n\
    Content-Disposition: form-data; name=\"f\"; filename=\"x.php\"\r\nContent-Type: text/plain\r\n\r\n<?php\r\n--b--\r\n";

#[test]
fn multipart_bodies() {
    let form = post("multipart/form-data; boundary=b", FORM);
    for (target, expected) in [
        ("ARGS|ARGS_POST_NAMES|ARGS_COMBINED_SIZE", "ARGS:a=1&2 ARGS_POST_NAMES:a=a ARGS_COMBINED_SIZE=4"),
        (
            "FILES|FILES_NAMES|FILES_SIZES|FILES_COMBINED_SIZE",
            "FILES:f=x.php FILES_NAMES:f=f FILES_SIZES:f=5 FILES_COMBINED_SIZE=5",
        ),
        (
            "MULTIPART_NAME|MULTIPART_FILENAME",
            "MULTIPART_NAME:a=a MULTIPART_NAME:f=f MULTIPART_FILENAME:f=x.php",
        ),
        ("&MULTIPART_PART_HEADERS:f", "&MULTIPART_PART_HEADERS:f=2"),
        (
            "MULTIPART_STRICT_ERROR|MULTIPART_UNMATCHED_BOUNDARY|MULTIPART_LF_LINE|REQBODY_ERROR|REQUEST_BODY",
            "MULTIPART_STRICT_ERROR=0 MULTIPART_UNMATCHED_BOUNDARY=0 MULTIPART_LF_LINE=0 REQBODY_ERROR=0",
        ),
    ] {
        assert_eq!(values(target, 2, &form), expected, "{target}");
    }
    let mixed = post("multipart/form-data; boundary=b", &FORM.replacen("--b\r\n", "--b\n", 1));
    let target = "MULTIPART_STRICT_ERROR|MULTIPART_LF_LINE|MULTIPART_CRLF_LF_LINES";
    assert_eq!(
        values(target, 2, &mixed),
        "MULTIPART_STRICT_ERROR=1 MULTIPART_LF_LINE=1 MULTIPART_CRLF_LF_LINES=1"
    );
    let broken = post("multipart/form-data; boundary=c", FORM);
    let target = "MULTIPART_STRICT_ERROR|MULTIPART_UNMATCHED_BOUNDARY|REQBODY_ERROR|REQBODY_ERROR_MSG";
    assert_eq!(
        values(target, 2, &broken),
        "MULTIPART_STRICT_ERROR=1 MULTIPART_UNMATCHED_BOUNDARY=1 REQBODY_ERROR=1 \
         REQBODY_ERROR_MSG=Multipart parsing error: Multipart: No boundaries found in payload."
    );
    check(
        "forced",
        r#"SecAction "id:9,phase:1,nolog,ctl:forceRequestBodyVariable=On"
           SecRule REQUEST_BODY "@contains <?php" "id:1""#,
        &form,
        "1",
    );
}

#[test]
fn xml_bodies() {
    let rules = |targets: &str| {
        format!(
            r#"SecAction "id:9,phase:1,nolog,ctl:requestBodyProcessor=XML"
               SecRule {targets} "@rx .*" "id:1,msg:'%{{MATCHED_VAR_NAME}}',logdata:'%{{MATCHED_VAR}}'""#
        )
    };
    let good = "<a b='evil'>x<c>y</c></a>";
    for (targets, body, expected) in [
        ("XML:/*", good, "1=xy"),
        ("XML://@*", good, "1=evil"),
        ("XML:/a/c", good, "1=y"),
        ("XML:/x", good, ""),
        ("&XML://c", good, "1=1"),
        ("REQUEST_BODY", good, ""),
        ("REQBODY_ERROR", good, "1=0"),
        ("REQBODY_ERROR_MSG", "<a>evil", "1=XML parsing error: the document ends too early."),
        ("XML:/*", "<a>evil", "1=evil"),
        ("REQUEST_BODY", "<a>evil", "1=<a>evil"),
        ("REQBODY_ERROR", "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", "1=1"),
    ] {
        check(targets, &rules(targets), &post("text/xml", body), expected);
    }
    for (target, expected) in [("XML", "needs a path"), ("XML:a", "is no path")] {
        let error = try_program(&rules(target)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
