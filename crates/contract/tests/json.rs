//! The JSON validator against cases in the manner of nst/JSONTestSuite, and against serde_json.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_contract::{DuplicateKeys, JsonShape};
use portcullis_http::ContractFailure;
use proptest::prelude::*;

fn check(document: impl AsRef<[u8]>) -> Result<(), ContractFailure> {
    JsonShape::default().check(document.as_ref())
}

/// `y_`: every parser must accept.
#[test]
fn accepts_what_must_be_accepted() {
    let cases: &[&str] = &[
        "[[]   ]",
        "[\"\"]",
        "[]",
        "[\"a\"]",
        "[false]",
        "[null, 1, \"1\", {}]",
        "[null]",
        "[1\n]",
        " [1]",
        "[1,null,null,null,2]",
        "[2] ",
        "[123e65]",
        "[0e+1]",
        "[0e1]",
        "[ 4]",
        "[-0.000000000000000000000000000000000000000000000000000000001]",
        "[20e1]",
        "[-0]",
        "[-123]",
        "[-1]",
        "[1E22]",
        "[1E-2]",
        "[1E+2]",
        "[123e45]",
        "[123.456e78]",
        "[1e-2]",
        "[1e+2]",
        "[123]",
        "[123.456789]",
        "{\"asd\":\"sdf\", \"dfg\":\"fgh\"}",
        "{\"asd\":\"sdf\"}",
        "{}",
        "{\"\":0}",
        "{\"foo\\u0000bar\": 42}",
        "{ \"min\": -1.0e+28, \"max\": 1.0e+28 }",
        "{\"x\":[{\"id\": \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}], \"id\": \"x\"}",
        "{\"a\":[]}",
        "{\"title\":\"\\u041f\\u043e\\u043b\" }",
        "{\n\"a\": \"b\"\n}",
        "[\"\\u0060\\u012a\\u12AB\"]",
        "[\"\\uD801\\udc37\"]",
        "[\"\\ud83d\\ude39\\ud83d\\udc8d\"]",
        "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]",
        "[\"\\\\u0000\"]",
        "[\"\\\"\"]",
        "[\"a/*b*/c/*d//e\"]",
        "[\"\\\\a\"]",
        "[\"\\\\n\"]",
        "[\"\\u0012\"]",
        "[\"\\uFFFF\"]",
        "[\"asd\"]",
        "[ \"asd\"]",
        "[\"\\uDBFF\\uDFFF\"]",
        "[\"new\\u00A0line\"]",
        "[\"\u{10ffff}\"]",
        "[\"\u{ffff}\"]",
        "[\"\\u0000\"]",
        "[\"\\u002c\"]",
        "[\"π\"]",
        "[\"\u{1bfff}\"]",
        "\" \"",
        "[\"\\uD834\\uDd1e\"]",
        "[\"\\u0821\"]",
        "[\"\u{2028}\"]",
        "[\"\u{2029}\"]",
        "[\"\\u0061\\u30af\\u30EA\\u30b9\"]",
        "[\"new\\u000Aline\"]",
        "[\"\u{7f}\"]",
        "[\"\\uA66D\"]",
        "[\"\\u005C\"]",
        "[\"\u{2342}\u{3248}\u{2342}\"]",
        "[\"\\u200B\"]",
        "[\"\\u2064\"]",
        "[\"\\uFDD0\"]",
        "[\"\\uFFFE\"]",
        "[\"\\u0022\"]",
        "[\"a\u{7f}a\"]",
        "false",
        "42",
        "-0.1",
        "null",
        "\"asd\"",
        "true",
        "\"\"",
        "[\"a\"]\n",
        "[true]",
        " [] ",
        "\t[\r\n1 ]",
    ];
    for case in cases {
        assert_eq!(check(case), Ok(()), "{case}");
        serde_json::from_str::<serde_json::Value>(case).unwrap_or_else(|e| panic!("{case}: {e}"));
    }
}

/// `n_`: every parser must refuse.
#[test]
fn refuses_what_must_be_refused() {
    let cases: &[&[u8]] = &[
        b"[1 true]",
        b"[a\xe5]",
        b"[\"\": 1]",
        b"[\"\"],",
        b"[,1]",
        b"[1,,2]",
        b"[\"x\",,]",
        b"[\"x\"]]",
        b"[\"\",]",
        b"[\"x\"",
        b"[x",
        b"[3[4]]",
        b"[\xff]",
        b"[1:2]",
        b"[,]",
        b"[-]",
        b"[   , \"\"]",
        b"[\"a\",\n4\n,1,",
        b"[1,]",
        b"[1,,]",
        b"[\"\x0ba\"\\f]",
        b"[*]",
        b"[\"\"",
        b"[1,",
        b"[1,\n1\n,1",
        b"[{}",
        b"[fals]",
        b"[nul]",
        b"[tru]",
        b"123\0",
        b"[++1234]",
        b"[+1]",
        b"[+Inf]",
        b"[-01]",
        b"[-1.0.]",
        b"[-2.]",
        b"[-NaN]",
        b"[.-1]",
        b"[.2e-3]",
        b"[0.1.2]",
        b"[0.3e+]",
        b"[0.3e]",
        b"[0.e1]",
        b"[0E+]",
        b"[0E]",
        b"[0e+]",
        b"[0e]",
        b"[1.0e+]",
        b"[1.0e-]",
        b"[1.0e]",
        b"[1 000.0]",
        b"[1eE2]",
        b"[2.e+3]",
        b"[2.e-3]",
        b"[2.e3]",
        b"[9.e+]",
        b"[Inf]",
        b"[NaN]",
        b"[\xef\xbc\x91]",
        b"[1+2]",
        b"[0x1]",
        b"[0x42]",
        b"[Infinity]",
        b"[0e+-1]",
        b"[-123.123foo]",
        b"[123\xe5]",
        b"[1e1\xe5]",
        b"[0\xe5]\n",
        b"[-Infinity]",
        b"[-foo]",
        b"[- 1]",
        b"[-012]",
        b"[-.123]",
        b"[-1x]",
        b"[1ea]",
        b"[1e\xe5]",
        b"[1.]",
        b"[.123]",
        b"[1.2a-3]",
        b"[1.8011670033376514H-308]",
        b"[012]",
        b"[\"x\", truth]",
        b"{[: \"x\"}\n",
        b"{\"x\", null}",
        b"{\"x\"::\"b\"}",
        b"{\xf0\x9f\x87\xa8}",
        b"{\"a\":\"a\" 123}",
        b"{key: 'value'}",
        b"{\"\xb9\":\"0\",}",
        b"{\"a\" b}",
        b"{:\"b\"}",
        b"{\"a\" \"b\"}",
        b"{\"a\":",
        b"{\"a\"",
        b"{1:1}",
        b"{9999E9999:1}",
        b"{null:null,null:null}",
        b"{\"id\":0,,,,,}",
        b"{'a':0}",
        b"{\"id\":0,}",
        b"{\"a\":\"b\"}/**/",
        b"{\"a\":\"b\"}/**//",
        b"{\"a\":\"b\"}//",
        b"{\"a\":\"b\"}/",
        b"{\"a\":\"b\",,\"c\":\"d\"}",
        b"{a: \"b\"}",
        b"{\"a\":\"a",
        b"{ \"foo\" : \"bar\", \"a\" }",
        b"{\"a\":\"b\"}#",
        b" ",
        b"[\"\\uD800\\\"]",
        b"[\"\\uD800\\u\"]",
        b"[\"\\uD800\\u1\"]",
        b"[\"\\uD800\\u1x\"]",
        b"[\xc3\xa9]",
        b"[\"\\\x00\"]",
        b"[\"\\\\\\\"]",
        b"[\"\\x00\"]",
        b"[\"\\\t\"]",
        b"[\"\\\xf0\x9f\x8c\x80\"]",
        b"[\"\\\"]",
        b"[\"\\u00A\"]",
        b"[\"\\uD834\\uDd\"]",
        b"[\"\\uD800\\uD800\\x\"]",
        b"[\"\\u\xe5\"]",
        b"[\"\\a\"]",
        b"[\"\\uqqqq\"]",
        b"[\"\\\xe5\"]",
        b"[\\u0020\"asd\"]",
        b"[\\n]",
        b"\"",
        b"['single quote']",
        b"abc",
        b"[\"\\",
        b"[\"a\0a\"]",
        b"[\"new\nline\"]",
        b"[\"\t\"]",
        b"\"\\UA66D\"",
        b"\"\"x",
        b"<.>",
        b"[<null>]",
        b"[1]x",
        b"[1]]",
        b"[\"asd]",
        b"a\xc3\xa5",
        b"[True]",
        b"1]",
        b"{\"x\": true,",
        b"[][]",
        b"]",
        b"\xef\xbb{}",
        b"\xe5",
        b"[",
        b"",
        b"[\0]",
        b"2@",
        b"{}}",
        b"{\"\":",
        b"{\"a\":/*comment*/\"b\"}",
        b"{\"a\": true} \"x\"",
        b"['",
        b"[,",
        b"[{",
        b"[\"a",
        b"[\"a\"",
        b"{",
        b"{]",
        b"{,",
        b"{[",
        b"{\"a",
        b"{'a'",
        b"[\"\\{[\"\\{[\"\\{[\"\\{",
        b"*",
        b"{\"a\":\"b\"}#{}",
        b"[\\u000A\"\"]",
        b"[1",
        b"[ false, nul",
        b"[ true, fals",
        b"[ false, tru",
        b"{\"asd\":\"asd\"",
        b"\xc3\xa5",
        b"[\xe2\x81\xa0]",
        b"\xef\xbb\xbf",
        b"[\x0c]",
        b"true false",
        b"{\"a\":1}\n{\"a\":2}\n",
        b"[\"\x1f\"]",
        b"[1]\xc2\xa0",
        b"nan",
        b"tru",
        b"-",
        b"[\"\\u00zz\"]",
    ];
    for case in cases {
        assert_eq!(check(case), Err(ContractFailure::Syntax), "{}", String::from_utf8_lossy(case));
    }
}

/// `i_`: parsers differ; we take the strict side for texts, and numbers of any magnitude.
#[test]
fn decides_what_is_left_open() {
    let refused: &[&[u8]] = &[
        b"[\"\\uDADA\"]",
        b"[\"\\uD888\\u1234\"]",
        b"[\"\\uD800\\n\"]",
        b"[\"\\uD800\\uD800\\n\"]",
        b"[\"\\ud800\"]",
        b"[\"\\ud800abc\"]",
        b"[\"\\uDd1e\\uD834\"]",
        b"[\"\\uDFAA\"]",
        b"[\"\xe6\x97\xa5\xd1\x88\xfa\"]",
        b"[\"\xff\"]",
        b"[\"\xed\xa0\x80\"]",
        b"[\"\xc0\xaf\"]",
        b"[\"\xf8\x88\x80\x80\x80\"]",
        b"[\"\xf4\xbf\xbf\xbf\"]",
        b"\xff\xfe[\0\"\0\xe9\0\"\0]\0",
        b"\0[\0\"\0\xe9\0\"\0]",
        b"\xef\xbb\xbf{}",
        b"{\"\\uDFAA\":0}",
    ];
    for case in refused {
        assert_eq!(check(case), Err(ContractFailure::Syntax), "{}", String::from_utf8_lossy(case));
    }
    for case in [
        "[123.456e-789]",
        "[0.4e00669999999999999999999999999999999999999999999]",
        "[-1e+9999]",
        "[1.5e+9999]",
        "[-123123e100000]",
        "[123123e100000]",
        "[123e-10000000]",
        "[100000000000000000000]",
    ] {
        assert_eq!(check(case), Ok(()), "{case}");
    }
    assert_eq!(check("[".repeat(500) + &"]".repeat(500)), Err(ContractFailure::Depth));
    assert_eq!(check("[".repeat(1_000_000)), Err(ContractFailure::Depth));
    assert_eq!(check("[{\"\":".repeat(50_000)), Err(ContractFailure::Depth));
}

#[test]
fn duplicate_keys_are_found_however_they_are_written() {
    let twice = [
        r#"{"a":"b","a":"c"}"#,
        r#"{"a":"b","a":"b"}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"\u0061":1,"\u0061":2}"#,
        r#"{"x":{"a":1,"b":2,"a":3}}"#,
        r#"[{"":1,"":2}]"#,
        r#"{"a/":1,"a\/":2}"#,
        r#"{"a":{"a":1},"b":1,"a":2}"#,
        r#"{"\ud83d\ude39":1,"😹":2}"#,
        r#"{"__proto__":1,"b":[{"c":{}}],"__proto__":{}}"#,
    ];
    for case in twice {
        assert_eq!(check(case), Err(ContractFailure::DuplicateKey), "{case}");
        let lax = JsonShape { duplicate_keys: DuplicateKeys::Allow, ..JsonShape::default() };
        assert_eq!(lax.check(case.as_bytes()), Ok(()), "{case}");
    }
    for case in [
        r#"{"a":{"a":{"a":1}}}"#,
        r#"[{"a":1},{"a":1}]"#,
        r#"{"a":1,"A":2,"a ":3,"":4}"#,
        r#"{"\\u0061":1,"a":2}"#,
        r#"{"k":"k","v":["k",{"k":1}]}"#,
    ] {
        assert_eq!(check(case), Ok(()), "{case}");
    }
}

#[test]
fn each_limit_is_exact() {
    let shape = JsonShape {
        max_depth: 2,
        max_keys: 2,
        max_elements: 3,
        max_string: 4,
        max_number: 3,
        max_values: 6,
        duplicate_keys: DuplicateKeys::Reject,
    };
    let check = |text: &str| shape.check(text.as_bytes());
    for good in ["[[]]", r#"{"a":1,"b":2}"#, "[1,2,3]", r#""abcd""#, "123", "[[1,2,3],4]", r#""\u0041"#] {
        // The last is no JSON, whatever its length.
        let expected = if good.ends_with('1') { Err(ContractFailure::Syntax) } else { Ok(()) };
        assert_eq!(check(good), expected, "{good}");
    }
    assert_eq!(check("[[[]]]"), Err(ContractFailure::Depth));
    assert_eq!(check(r#"{"a":{"b":{}}}"#), Err(ContractFailure::Depth));
    for big in [
        r#"{"a":1,"b":2,"c":3}"#,
        "[1,2,3,4]",
        r#""abcde""#,
        r#"{"abcde":1}"#,
        "1234",
        r#""\u0041""#,
        "[[1,2,3],[4,5]]",
    ] {
        assert_eq!(check(big), Err(ContractFailure::Size), "{big}");
    }
    assert_eq!(JsonShape { max_depth: 0, ..shape.clone() }.check(b"1"), Ok(()));
    assert_eq!(JsonShape { max_depth: 0, ..shape.clone() }.check(b"[]"), Err(ContractFailure::Depth));
}

/// Keys chosen to collide, or to share long beginnings, must not make the check slow: it sorts.
#[test]
fn many_keys_are_no_attack() {
    let shape = JsonShape { max_keys: 200_000, max_values: 1_000_000, ..JsonShape::default() };
    let prefix = "k".repeat(200);
    let mut document = String::from("{");
    for i in 0..20_000 {
        document.push_str(&format!("\"{prefix}{i}\":0,"));
    }
    let unique = format!("{document}\"z\":0}}");
    assert_eq!(shape.check(unique.as_bytes()), Ok(()));
    let twice = format!("{document}\"{prefix}77\":0}}");
    assert_eq!(shape.check(twice.as_bytes()), Err(ContractFailure::DuplicateKey));
}

fn json_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u", "d800", "\\udc00", "0", "1", "-", "+", ".", "e",
        "E", "true", "false", "null", " ", "\n", "a", "\"a\"", "\"b\":", "é", "\u{0}", "/", "\u{feff}",
        "12.5e3", "[]", "{}",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_filter_map("finite", |f| serde_json::Number::from_f64(f).map(Into::into)),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn serde_accepts(document: &[u8]) -> bool {
    // IgnoredAny reads the grammar and not the numbers' magnitude, on which the two differ knowingly.
    serde_json::from_slice::<&serde_json::value::RawValue>(document).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_we_accept_serde_accepts(document in json_like()) {
        if check(&document).is_ok() {
            prop_assert!(serde_accepts(document.as_bytes()), "{document}");
        }
    }

    #[test]
    fn what_serde_writes_we_accept(value in json_value(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(check(&text), Ok(()), "{}", text);
    }

    #[test]
    fn one_changed_byte_is_judged_like_serde_judges_it(value in json_value(), at: prop::sample::Index, byte: u8) {
        let mut text = serde_json::to_vec(&value).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        let lax = JsonShape { duplicate_keys: DuplicateKeys::Allow, max_number: 4096, ..JsonShape::default() };
        let ours = lax.check(&text).is_ok();
        // serde's raw value skips strings without reading their escapes' meaning, so it may accept more.
        prop_assert!(!ours || serde_accepts(&text));
        if serde_json::from_slice::<serde_json::Value>(&text).is_ok() {
            prop_assert!(ours, "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = check(&bytes);
    }
}
