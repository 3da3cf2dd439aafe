//! Values that other ports of libinjection judge otherwise than it does, with names. These tests need no data beside the
//! checkout. Most are among the recorded verdicts; the others follow from how the reference reads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_waf::libinjection::{sqli, trace, xss};

#[test]
fn sql() {
    for (what, input, fingerprint) in [
        ("INTO in any case", &b"1 into outfile 'asd'"[..], Some("1ks")),
        ("INTO alone is English", b"2 into outfi2", None),
        (
            "a keyword in longer ones is no English",
            b"1' IN BOOLEAN MODE) RLIKE (SELECT (CASE HEN (7449=7449) ",
            Some("sk)o("),
        ),
        (
            "a phrase of three words",
            b"' or MATCH username AGAINST ('+admin -a' IN BOOLEAN MODE); -- -a",
            Some("s&knk"),
        ),
        ("NUL is white space", b"1\0UNION\0SELECT\x002--", Some("1UE1c")),
        ("NUL ends words", b"SELECT\0table_name\0FROM\0all_tab_tables", None),
        ("Latin-1's space is white space", b"1\xa0UNION\xa0SELECT\xa02--", Some("1UE1c")),
        ("a comment that MySQL runs", b"1.e(as/*!cii)", Some("X")),
        ("a comment in a comment", b"1 /* /* */ */ 2", Some("X")),
        ("a comment whose end looks like a beginning", b"1 /* /*/ 2", Some("X")),
        ("an exponent without digits", b"1.e(ascii)", None),
        ("dollar quotes", b"$$pgsql evade$$ union select * from foo", Some("sUEok")),
        ("Oracle's quotes", b"q'[foo]'", None),
        ("a collation", b"user'collate`u$tf8mb4_general_ci`-x", Some("sAton")),
        ("hidden from the audit log", b"x'--sp_password", Some("sc")),
        ("a hash sign behind a number", b"4#", None),
        ("a comment behind a number", b"1--", Some("1c")),
        ("a number that does not begin the value", b" 12345--", None),
        ("a value between quotes", b"A' + 'B", Some("sos")),
    ] {
        let found = sqli(input).map(|fingerprint| fingerprint.to_string());
        assert_eq!(found.as_deref(), fingerprint, "{what}");
    }
}

#[test]
fn html() {
    for (what, input, attack) in [
        ("an event", &b" onerror=p"[..], true),
        ("what begins like an event", b" onerrorx=p", true),
        ("NUL ends the name of an attribute", b"test 100_15 <img src=x onerror\0=\"alert(1)\">", true),
        ("NULs in a tag do not count", b"<scr\0ipt>confirm(0);</scr\0ipt>", true),
        ("an attribute without a value", b"<a onload", false),
        ("a reference without an end", b"<a href=&#106ava", true),
        ("a value that ends in a reference's beginning", b"<a href=&#", false),
        ("the same in hexadecimal", b"<a href=&#x", false),
        ("a reference far beyond all characters", b"<a href=&#99999999999999999999;ava", false),
        ("a name given as a value", b"<set attributename=onclick", true),
        ("a CDATA section with brackets", b"<![CDATA[<foobar]]]", false),
        ("a comment that ends with a bang", b"<!-- --!><script>", true),
        ("a comment of Internet Explorer", b"<% foo><x foo=\"%><script>", true),
        ("a conditional comment", b"<!--[if<im.", true),
        ("many slashes", &[&b"<a "[..], &[b'/'; 100_000]].concat(), false),
    ] {
        assert_eq!(xss(input), attack, "{what}");
    }
}

#[test]
fn traces_show_what_was_read() {
    let input = b"'x' UNION /**/ ALL select @@version";
    assert_eq!(trace::sqli_tokens(input), b"s 'x'\nU UNION\nc /**/\nn ALL\nE select\nv @@version\n");
    assert_eq!(trace::sqli_folded(input), b"s 'x'\nU UNION ALL\nE select\nv @@version\n");
    assert_eq!(
        trace::html_tokens(b"a<b c='d'/>"),
        b"DATA_TEXT,1,a\nTAG_NAME_OPEN,1,b\nATTR_NAME,1,c\nATTR_VALUE,1,d\nTAG_NAME_SELFCLOSE,2,/>\n"
    );
}
