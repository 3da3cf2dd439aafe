//! Section 12: the edges of operators.

use crate::common::{check, get, post, program};
use crate::table;

/// Whether an operator matches a value that is sent percent-encoded.
fn matches(operator: &str, value: &[u8]) -> bool {
    let encoded: String = value.iter().map(|byte| format!("%{byte:02x}")).collect();
    let rules = format!("SecRule ARGS:q \"{operator}\" \"id:1\"");
    let overlay = portcullis_waf::OverlaySettings::default();
    let (report, _) = crate::common::send(&program(&rules), &overlay, &get(&format!("/?q={encoded}")), 9);
    !report.matches.is_empty()
}

fn rows(operator: &str, matching: &[&[u8]], others: &[&[u8]]) {
    for value in matching {
        assert!(matches(operator, value), "{operator} of {}", value.escape_ascii());
    }
    for value in others {
        assert!(!matches(operator, value), "{operator} of {}", value.escape_ascii());
    }
}

#[test]
fn patterns_are_of_bytes() {
    rows("@rx ^a.b$", &[b"a\nb", b"a\0b", b"a\xffb"], &[b"a\n\nb", b"xa.b", b"a\xc3\xa9b"]);
    rows("@rx ^b", &[b"b"], &[b"a\nb"]);
    rows("@rx a$", &[b"a"], &[b"a\n", b"a\nb"]);
    rows(r"@rx ^\x{e2}\x{80}", &[b"\xe2\x80\x98"], &["\u{e2}\u{80}".as_bytes()]);
    rows(r"@rx [\x{80}-\x{ff}]", &[b"\xff", "\u{e9}".as_bytes()], &[b"a"]);
    rows(r"@rx ^\w$", &[b"a", b"_"], &[b"\xe9"]);
    rows(r"@rx (?i)STRASSE", &[b"strasse"], &["stra\u{df}e".as_bytes()]);
    rows(r"@rx (?i)k", &[b"K"], &["\u{212a}".as_bytes()]);
    rows("@rx ", &[b"", b"a"], &[]);
    rows("@rx é", &["é".as_bytes(), b"x\xc3\xa9"], &[b"\xe9"]);
    rows(r"@rx \bon\w+=", &[b"a onload="], &[b"xonload="]);
}

#[test]
fn phrases() {
    rows("@pm Foo bar", &[b"xfOOx", b"BAR"], &[b"fo o", b"ba"]);
    rows("@pm |61 62|c x|41|", &[b"ABC", b"xa"], &[b"ab"]);
    rows("@pm ( )", &[b"(", b")"], &[b" "]);
    // What libmodsecurity's automaton misses.
    rows("@pm secrets.json .env", &[b"secrets.env", b"secrets.secrets.json"], &[b"secrets.en"]);
}

#[test]
fn text() {
    rows("@within GET,POST", &[b"GET", b"ET,P", b""], &[b"get", b"PUT"]);
    rows("@contains aB", &[b"xaBx"], &[b"ab", b""]);
    rows("@beginsWith aB", &[b"aBc"], &[b"abc", b"xaB"]);
    rows("@endsWith aB", &[b"xaB"], &[b"aBx", b"ab"]);
    rows("@streq aB", &[b"aB"], &[b"ab", b"aB "]);
    rows("@contains ", &[b"", b"x"], &[]);
    rows("@containsWord cat", &[b"a cat.", b"cat"], &[b"concat", b"cats"]);
    rows("@strmatch aB", &[b"xaBx"], &[b"xyx"]);
    table(&[(
        "with macros",
        r#"SecAction "id:9,phase:1,nolog,setvar:'tx.allowed=GET HEAD OPTIONS'"
               SecRule REQUEST_METHOD "!@within %{tx.allowed}" "id:1"
               SecRule REQUEST_METHOD "@within %{tx.allowed}" "id:2"
               SecRule ARGS:a "@streq %{ARGS.b}" "id:3"
               SecRule ARGS:a "@beginsWith %{tx.none}" "id:4""#,
        get("/?a=x&b=x"),
        "2 3 4",
    )]);
}

#[test]
fn bytes_and_encodings() {
    rows("@validateByteRange 32-126", &[b"a\0", b"\xff", b"\n"], &[b"", b"aZ~ "]);
    rows("@validateByteRange 10, 13,32-126", &[b"\t"], &[b"a\r\nb"]);
    rows("@validateByteRange 0-255", &[], &[b"\0\xff"]);
    rows("@validateUrlEncoding", &[b"%", b"%4", b"%zz", b"a%4x"], &[b"", b"%41", b"a b+c"]);
    rows(
        "@validateUtf8Encoding",
        &[b"\xff", b"\xc3", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80"],
        &[b"", b"abc", "é€😀".as_bytes()],
    );
}

#[test]
fn addresses() {
    rows(
        "@ipMatch 10.0.0.0/8, 192.0.2.7,2001:db8::/32",
        &[b"10.1.2.3", b"192.0.2.7", b"2001:DB8::1"],
        &[b"11.0.0.1", b"192.0.2.8", b"x", b""],
    );
    rows("@ipMatch 10.0.0.0/8", &[b"::ffff:10.1.2.3"], &[b"::ffff:11.1.2.3"]);
    check("the client's", "SecRule REMOTE_ADDR \"@ipMatch 192.0.2.0/24\" \"id:1\"", &get("/"), "1");
    check("not the client's", "SecRule REMOTE_ADDR \"!@ipMatch 192.0.2.0/24\" \"id:1\"", &get("/"), "");
}

#[test]
fn always_and_never() {
    rows("@unconditionalMatch", &[b"", b"a"], &[]);
    rows("@noMatch", &[], &[b"", b"a"]);
    rows("!@noMatch", &[b""], &[]);
}

/// The forms are those of ModSecurity's reference manual, of its users (`<\/form>`), and of parsers' tests.
#[test]
fn substitutions() {
    rows("@rsub s/old/new/", &[b"old", b"bold"], &[b"new", b"OLD", b"s/", b"o\nld"]);
    rows("@rsub s/old/new/i", &[b"OLD", b"old"], &[b"new"]);
    rows("@rsub s/o.d//d", &[b"old", b"o\nd"], &[b"o.", b"OLD"]);
    rows(r"@rsub s/<\/form>/<input><\/form>/", &[b"</form>"], &[b"<form>"]);
    rows("@rsub s#^/etc/#/x/#I", &[b"/ETC/passwd"], &[b"/x/etc/"]);
    rows("!@rsub s/old/new/", &[b"new"], &[b"old"]);
    let html = get("/?t=a.c&f=ABC").answered(200, "text/html", "<p>abc</p><!-- a\nb -->");
    let answers = "SecResponseBodyAccess On\nSecResponseBodyMimeType text/html\n";
    for (name, rules, expected) in [
        (
            "comments",
            r#"SecStreamOutBodyInspection On
               SecRule STREAM_OUTPUT_BODY "@rsub s/<!--.*?-->/ /" "phase:4,id:172,t:none,logdata:'%{MATCHED_VAR_NAME}'"
               SecRule STREAM_OUTPUT_BODY "@rx <!--" "phase:4,id:173,t:none""#,
            "172=STREAM_OUTPUT_BODY 173",
        ),
        ("none", r#"SecRule STREAM_OUTPUT_BODY "@rsub s/none/x/" "phase:4,id:1,deny""#, ""),
        ("macros", r#"SecRule STREAM_OUTPUT_BODY "@rsub s/<p>%{ARGS.t}/x/" "phase:4,id:1""#, "1"),
        (
            "macros, as they are",
            r#"SecRule STREAM_OUTPUT_BODY "@rsub s/<p>%{ARGS.t}/x/d" "phase:4,id:1""#,
            "",
        ),
        ("macros and case", r#"SecRule STREAM_OUTPUT_BODY "@rsub s/<p>%{ARGS.f}/x/" "phase:4,id:1""#, ""),
        (
            "macros without case",
            r#"SecRule STREAM_OUTPUT_BODY "@rsub s/<p>%{ARGS.f}/x/i" "phase:4,id:1""#,
            "1",
        ),
    ] {
        check(name, &format!("{answers}{rules}"), &html, expected);
    }
}

/// A stream is the body as it came, whatever its type, and only once it is there.
#[test]
fn streams() {
    let rules = r#"
        SecRule STREAM_INPUT_BODY "@rx ." "id:1,phase:1"
        SecRule STREAM_INPUT_BODY "@rx ^(?:a=%62|\[\"b\"\])$" "id:2,phase:2,logdata:'%{MATCHED_VAR}'"
        SecRule REQUEST_BODY "@rx ." "id:3,phase:2"
        SecRule &STREAM_INPUT_BODY "@eq 1" "id:4,phase:5""#;
    check("form", rules, &post("application/x-www-form-urlencoded", "a=%62"), "2=a=%62 3 4");
    check(
        "JSON",
        &format!("SecAction \"id:9,phase:1,nolog,ctl:requestBodyProcessor=JSON\"{rules}"),
        &post("application/json", "[\"b\"]"),
        "2=[\"b\"] 4",
    );
    check("none", rules, &get("/"), "");
}
