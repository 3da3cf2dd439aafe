//! Section 11: the edges of transformations.

use portcullis_waf::transform::{Transform, apply};

fn transformed(name: &str, input: &[u8]) -> String {
    let transform = Transform::by_name(name).unwrap_or_else(|| panic!("{name}"));
    let mut out = Vec::new();
    match apply(transform, input, &mut out) {
        portcullis_waf::transform::Changed::Yes => out.escape_ascii().to_string(),
        portcullis_waf::transform::Changed::No => input.escape_ascii().to_string(),
    }
}

fn rows(name: &str, rows: &[(&[u8], &str)]) {
    for (input, expected) in rows {
        assert_eq!(transformed(name, input), *expected, "{name} of {}", input.escape_ascii());
    }
}

#[test]
fn letters_lengths_and_digests() {
    rows("lowercase", &[(b"AbZ\xc0", r"abz\xc0")]);
    rows("uppercase", &[(b"aZ\xe0", r"AZ\xe0")]);
    rows("length", &[(b"", "0"), (b"a\0b", "3")]);
    rows("md5", &[(b"", r"\xd4\x1d\x8c\xd9\x8f\x00\xb2\x04\xe9\x80\t\x98\xec\xf8B~")]);
    rows("hexEncode", &[(b"\0\xffA", "00ff41")]);
    rows("hexDecode", &[(b"00ff41", r"\x00\xffA")]);
    let mut raw = Vec::new();
    apply(Transform::by_name("sha1").unwrap(), b"abc", &mut raw);
    assert_eq!(raw.len(), 20);
    assert_eq!(transformed("hexEncode", &raw), "a9993e364706816aba3e25717850c26c9cd0d89d");
}

#[test]
fn percent_encoding() {
    rows(
        "urlDecode",
        &[
            (b"a+b%20c", "a b c"),
            (b"%4", "%4"),
            (b"%zz%41", "%zzA"),
            (b"%u0041", "%u0041"),
            (b"%2541", "%41"),
            (b"%", "%"),
        ],
    );
    rows(
        "urlDecodeUni",
        &[
            (b"a+b", "a b"),
            (b"%u0041%U0042", "AB"),
            (b"%uff1c%uFF41", "<a"),
            (b"%u2018", "\\'"),
            (b"%u00", "%u00"),
            (b"%uzzzz%41", "%uzzzzA"),
            (b"%4", "%4"),
            (b"%%41", "%A"),
        ],
    );
    rows("urlEncode", &[(b"a b/c\xff", "a+b%2fc%ff")]);
}

#[test]
fn entities() {
    rows(
        "htmlEntityDecode",
        &[
            (b"&lt;&GT;&amp;&quot;", "<>&\\\""),
            (b"&#60;&#x3c;&#X3C;", "<<<"),
            (b"&#60&#x3c", "<<"),
            (b"&#0000000000060;&#x000000000003c;", "<<"),
            (b"&ltfoo", "<foo"),
            (b"&nbsp;", r"\xa0"),
            (b"&lpar;&colon;&Tab;&NewLine;&bsol;", "(:\\t\\n\\\\"),
            (b"&none;&;&#;&#x;&", "&none;&;&#;&#x;&"),
            (b"&#160;", r"\xa0"),
        ],
    );
}

#[test]
fn backslashes() {
    rows(
        "jsDecode",
        &[
            (br"\u003c\uff1c", "<<"),
            (br"\x3c\x3", "<x3"),
            (br"\74\474", "<\\'4"),
            (br"\n\t\a\v", r"\n\t\x07\x0b"),
            (br"\q\'", r"q\'"),
            (br"a\", r"a\\"),
        ],
    );
    rows(
        "cssDecode",
        &[
            (br"\3c script", "<script"),
            (br"\00003cx", "<x"),
            (br"ja\76 a", "java"),
            (b"a\\\nb", "ab"),
            (br"\q", "q"),
            (br"a\", "a"),
            (br"\ff1c ", "<"),
        ],
    );
    rows(
        "escapeSeqDecode",
        &[(br"\x41\101", "AA"), (br"\n", r"\n"), (br"\q", "q"), (br"\?\'", r"?\'"), (br"a\", r"a\\")],
    );
}

#[test]
fn commands_and_paths() {
    rows(
        "cmdLine",
        &[
            (br#"c^m"d'\"#, "cmd"),
            (b"A,B;C\t\r\nD", "a b c d"),
            (b"cat  /etc", "cat/etc"),
            (b"f (x)", "f(x)"),
        ],
    );
    for (input, expected) in [
        ("/a/../b", "/b"),
        ("/a/./b//c", "/a/b/c"),
        ("a/../../b", "../b"),
        ("/../a", "/a"),
        ("/a/b/", "/a/b/"),
        ("../../a", "../../a"),
        ("/a/..", "/"),
        (r"\a\..\b", r"\\a\\..\\b"),
    ] {
        for name in ["normalizePath", "normalisePath"] {
            assert_eq!(transformed(name, input.as_bytes()), expected, "{name} of {input}");
        }
    }
    rows("normalizePathWin", &[(br"c:\a\..\b", "c:/b"), (br"\a\.\b", "/a/b")]);
}

#[test]
fn white_space_and_nul() {
    rows("removeNulls", &[(b"a\0b\0", "ab")]);
    rows("replaceNulls", &[(b"a\0b", "a b")]);
    rows("removeWhitespace", &[(b" a\t\n\x0bb\xc2\xa0c", "abc")]);
    rows("compressWhitespace", &[(b"a \t\n b", "a b"), (b"a\tb", "a b"), (b"a\xa0 b", "a b")]);
    rows("trim", &[(b" \ta b\r\n", "a b")]);
    rows("trimLeft", &[(b"  a ", "a ")]);
    rows("trimRight", &[(b" a  ", " a")]);
}

#[test]
fn comments() {
    rows("replaceComments", &[(b"a/*x*/b", "a b"), (b"a/*x", "a "), (b"a*/b", "a*/b"), (b"/**//**/", "  ")]);
    rows("removeComments", &[(b"a/*x*/b", "ab"), (b"a<!--x-->b", "ab")]);
    rows("removeCommentsChar", &[(b"a/*x*/b<!--y-->c--d#e", "axbycde")]);
}

#[test]
fn encodings() {
    rows(
        "utf8toUnicode",
        &[
            ("a\u{e9}\u{20ac}".as_bytes(), "a%u00e9%u20ac"),
            (b"\xff\xc0\xaf", r"\xff\xc0\xaf"),
            ("\u{1f600}".as_bytes(), "%u1f600"),
        ],
    );
    rows(
        "base64Decode",
        &[(b"YWJj", "abc"), (b"YW\r\nJj", "abc"), (b"YWJj!YWJj", "abc"), (b"YQ==YQ==", "a"), (b"YWI", "ab")],
    );
    rows("base64DecodeExt", &[(b"Y!W.J j", "abc")]);
    rows("base64Encode", &[(b"abc", "YWJj"), (b"a", "YQ==")]);
    rows("sqlHexDecode", &[(b"0x616263", "abc"), (b"a0x41b", "aAb"), (b"0xzz", "0xzz")]);
}
