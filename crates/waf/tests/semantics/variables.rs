//! Section 9: what the variables of a request hold.

use crate::common::{Message, check, get, post};
use crate::table;

/// All values of the targets, in order, as `name=value`.
fn values(targets: &str, message: &Message, expected: &str) {
    let rules = format!(
        "SecRule {targets} \"@unconditionalMatch\" \"id:1,nolog,setvar:'tx.all=%{{tx.all}} %{{MATCHED_VAR_NAME}}=%{{MATCHED_VAR}}'\"\n\
         SecAction \"id:2,phase:5,logdata:'%{{tx.all}}'\""
    );
    check(targets, &rules, message, &format!("2= {expected}"));
}

#[test]
fn the_target_and_its_parts() {
    for (target, uri, filename, basename, query) in [
        ("/", "/", "/", "", ""),
        ("/a/b.php?x=1#f", "/a/b.php?x=1", "/a/b.php", "b.php", "x=1"),
        ("/a%2fb%20c", "/a%2fb%20c", "/a/b c", "b c", ""),
        (r"/a\b", r"/a\b", r"/a\b", "b", ""),
        ("/a/?", "/a/?", "/a/", "", ""),
        ("/a?b?c", "/a?b?c", "/a", "a", "b?c"),
        ("/%zz%4", "/%zz%4", "/%zz%4", "%zz%4", ""),
        ("/a+b", "/a+b", "/a+b", "a+b", ""),
        ("http://h:80/a?b", "/a?b", "/a", "a", "b"),
        ("https://h", "/", "/", "", ""),
        ("*", "*", "*", "*", ""),
    ] {
        let rules = "SecAction \"id:1,logdata:'%{REQUEST_URI} %{REQUEST_FILENAME} %{REQUEST_BASENAME} %{QUERY_STRING} %{REQUEST_URI_RAW}'\"";
        let expected = format!("1={uri} {filename} {basename} {query} {target}");
        check(target, rules, &get(target), &expected.replace('\\', "\\\\"));
    }
}

#[test]
fn arguments() {
    for (query, expected) in [
        ("a=1&b=2", "ARGS:a=1 ARGS:b=2"),
        ("a", "ARGS:a="),
        ("a=", "ARGS:a="),
        ("=x", "ARGS:=x"),
        ("&&a=1&", "ARGS:a=1"),
        ("a=b=c", "ARGS:a=b=c"),
        ("a=1;b=2", "ARGS:a=1;b=2"),
        ("b=1&a=2&b=3", "ARGS:b=1 ARGS:a=2 ARGS:b=3"),
        ("a%3d=%26+%2B", "ARGS:a==& +"),
        ("a=%u0041%4%zz", "ARGS:a=%u0041%4%zz"),
        ("a[]=1&a[]=2", "ARGS:a[]=1 ARGS:a[]=2"),
    ] {
        values("ARGS", &get(&format!("/?{query}")), expected);
    }
    table(&[
        (
            "a separator of one's own",
            "SecArgumentSeparator ;\nSecRule ARGS:b \"@streq 2&c\" \"id:1\"",
            get("/?a=1;b=2&c"),
            "1",
        ),
        (
            "names in any case for selectors, as sent for values",
            "SecRule ARGS:foo \"@streq 1\" \"id:1,logdata:'%{MATCHED_VAR_NAME}'\"\nSecRule ARGS_NAMES \"@streq FOO\" \"id:2\"",
            get("/?FOO=1"),
            "1=ARGS:FOO 2",
        ),
        (
            "a query that cannot be decoded is marked and kept",
            "SecRule URLENCODED_ERROR \"@eq 1\" \"id:1\"\nSecRule ARGS:a \"@streq %zz\" \"id:2\"",
            get("/?a=%zz"),
            "1 2",
        ),
        (
            "their size: of names and values, decoded",
            "SecRule ARGS_COMBINED_SIZE \"@eq 6\" \"id:1\"",
            get("/?a%41=%20%20&bc"),
            "1",
        ),
        (
            "too many: marked, and the rule of the recommended configuration sees them",
            "SecArgumentsLimit 3\nSecRule &ARGS \"@ge 3\" \"id:200007,deny,status:400\"",
            get("/?a&b&c&d&e"),
            "200007 deny 400@2",
        ),
    ]);
    let mut names = post("application/x-www-form-urlencoded", "c=3&a=4");
    names.target = "/?a=1&b=2".to_owned();
    values("ARGS_NAMES", &names, "ARGS_NAMES:a=a ARGS_NAMES:b=b ARGS_NAMES:c=c ARGS_NAMES:a=a");
    values(
        "ARGS_GET_NAMES|ARGS_POST",
        &names,
        "ARGS_GET_NAMES:a=a ARGS_GET_NAMES:b=b ARGS_POST:c=3 ARGS_POST:a=4",
    );
}

#[test]
fn fields() {
    let message = get("/").field("Host", "h").field("X-B", "1").field("x-a", "2").field("X-b", "3");
    values(
        "REQUEST_HEADERS",
        &message,
        "REQUEST_HEADERS:Host=h REQUEST_HEADERS:X-B=1 REQUEST_HEADERS:x-a=2 REQUEST_HEADERS:X-b=3",
    );
    values("REQUEST_HEADERS:x-B", &message, "REQUEST_HEADERS:X-B=1 REQUEST_HEADERS:X-b=3");
    values(
        "REQUEST_HEADERS_NAMES:/^x-/",
        &message,
        "REQUEST_HEADERS_NAMES:X-B=X-B REQUEST_HEADERS_NAMES:x-a=x-a REQUEST_HEADERS_NAMES:X-b=X-b",
    );
    values(
        "REQUEST_PROTOCOL|REQUEST_LINE",
        &message,
        "REQUEST_PROTOCOL=HTTP/1.1 REQUEST_LINE=GET / HTTP/1.1",
    );
}

#[test]
fn cookies() {
    for (fields, expected) in [
        (&["a=1; b=2"][..], "REQUEST_COOKIES:a=1 REQUEST_COOKIES:b=2"),
        (&["a=1", "b=2;a=3"], "REQUEST_COOKIES:a=1 REQUEST_COOKIES:b=2 REQUEST_COOKIES:a=3"),
        (&["a=%41+b"], "REQUEST_COOKIES:a=%41+b"),
        (&["a=\"x\""], "REQUEST_COOKIES:a=\"x\""),
        (&["a=b=c"], "REQUEST_COOKIES:a=b=c"),
        (&["a"], "REQUEST_COOKIES:a="),
        (&["=x; ; a=1"], "REQUEST_COOKIES:a=1"),
        (&["$Version=1; a=1"], "REQUEST_COOKIES:$Version=1 REQUEST_COOKIES:a=1"),
        (&["a=1,b=2"], "REQUEST_COOKIES:a=1,b=2"),
    ] {
        let message = fields.iter().fold(get("/"), |message, value| message.field("Cookie", value));
        values("REQUEST_COOKIES", &message, expected);
    }
    let message = get("/").field("cOOkie", "pHpMyAdmin=test");
    values(
        "REQUEST_COOKIES:PHPMYADMIN|REQUEST_COOKIES_NAMES",
        &message,
        "REQUEST_COOKIES:pHpMyAdmin=test REQUEST_COOKIES_NAMES:pHpMyAdmin=pHpMyAdmin",
    );
}
