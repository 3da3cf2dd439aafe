use proptest::prelude::*;

use super::*;

/// What the path finds, then the error.
fn find(path: &str, body: &[u8]) -> String {
    find_in(path, body, false)
}

fn find_in(path: &str, body: &[u8], cut: bool) -> String {
    let paths = [Path::parse(path).unwrap()];
    let mut found = Vec::new();
    let result = parse(body, &paths, cut, &mut |_, value| {
        found.push(String::from_utf8_lossy(value).into_owned());
    });
    found.extend(result.err().map(|error| format!("!{}", error)));
    found.join("|")
}

const ORDER: &str = r#"<?xml version="1.0"?>
<s:order xmlns:s="urn:x" id="1"><item n="a&lt;b">one<b>two</b></item><item n='c'>&#x33;<![CDATA[<4>]]><!-- no --></item></s:order>"#;

#[test]
fn paths() {
    for (path, expected) in [
        ("/*", "onetwo3<4>"),
        ("//@*", "urn:x|1|a<b|c"),
        ("//@n", "a<b|c"),
        ("/order/@id", "1"),
        ("/x:order/item", "onetwo|3<4>"),
        ("/order/item/text()", "onetwo|3<4>"),
        ("//b", "two"),
        ("/order//b", "two"),
        ("/order/b", ""),
        ("/*/*/*", "two"),
        ("/order/item//@*", "a<b|c"),
        ("//*", "two|onetwo|3<4>|onetwo3<4>"),
        ("/item", ""),
    ] {
        assert_eq!(find(path, ORDER.as_bytes()), expected, "{path}");
    }
    for broken in
        ["", "a", "/", "//", "/@a", "/a[1]", "/a/@b/c", "/text()", "/a/text()/b", "count(/a)", "/a/b()"]
    {
        assert!(Path::parse(broken).is_err(), "{broken}");
    }
}

#[test]
fn documents() {
    for (body, expected) in [
        ("<a>x</a>", "x"),
        ("<a>x</a>\n<!-- c -->", "x"),
        ("<a>&lt;&gt;&amp;&apos;&quot;&#65;</a>", "<>&'\"A"),
        ("<a>kept<b>too</a>", "kepttoo|!not well-formed."),
        ("<a>kept", "kept|!the document ends too early."),
        ("", "!the document ends too early."),
        ("hello", "!text outside of the root element."),
        ("<a/>x", "|!text outside of the root element."),
        ("<a/><b/>", "|!more than one root element."),
        ("<!DOCTYPE a><a>x</a>", "!document types are not accepted."),
        ("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "!document types are not accepted."),
        ("<a>k&x;</a>", "k|!an entity that the document would have to declare."),
        ("<a>&#0;</a>", "|!broken character reference."),
        ("<a>k &; </a>", "k |!an entity that the document would have to declare."),
        ("<a b=c/>", "|!broken attribute."),
        ("<a b='1' b='2'/>", "|!broken attribute."),
        ("<a b='&x;'/>", "|!broken reference in an attribute."),
        ("<a(1)/>", "!a name with characters that names do not have."),
        ("<a <script>x</script>", "|!broken attribute."),
        ("<?xml version='1.0' encoding='UTF-16'?><a/>", "!an encoding that is not accepted."),
        ("<\0a/>", "!NUL byte in the document (or an encoding of more than one byte)."),
    ] {
        assert_eq!(find("/*", body.as_bytes()), expected, "{body}");
    }
    assert_eq!(find("/*", b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9 x</a>"), "\u{fffd} x");
    assert_eq!(find("/*", b"<a>\xe9 x</a>"), "\u{fffd} x|!the document is not in the encoding it declares.");
}

/// A document that goes on where nobody looks is not broken, wherever that is, and its text so far is handed over.
#[test]
fn cut_off() {
    for length in 0..ORDER.len() {
        let found = find_in("/*", &ORDER.as_bytes()[..length], true);
        assert!(!found.contains('!'), "{}: {found}", &ORDER[..length]);
    }
    assert_eq!(find_in("/*", b"<a>\xe2\x82", true), "\u{fffd}");
    for (body, expected) in [
        ("<a><b>evil", "evil|evil"),
        ("<a>x</b>", "x|!not well-formed."),
        ("<a>x<!DOCTYPE", "x|!not well-formed."),
        ("<a>x<!junk and more", "x|!not well-formed."),
        ("<a>x&amp and more", "x|!not well-formed."),
        ("<a>\u{e9}", "\u{e9}"),
    ] {
        assert_eq!(find_in("//*", body.as_bytes(), true), expected, "{body}");
    }
    let hidden = format!("<a b='{}", "evil ".repeat(300));
    assert!(find_in("//@*", hidden.as_bytes(), true).ends_with("!not well-formed."));
}

#[test]
fn limits() {
    assert!(find("/*", "<a>".repeat(300).as_bytes()).ends_with("!nested too deeply."));
    let many: String = (0..300).map(|number| format!(" a{number}=''")).collect();
    assert!(find("/*", format!("<a{many}/>").as_bytes()).ends_with("!too many attributes."));
    let long = format!("{}{}{}", "<a>".repeat(200), "x".repeat(100_000), "</a>".repeat(200));
    assert!(find("//a", long.as_bytes()).ends_with("!the same text under too many paths."));
    let wide = format!("<a>{}</a>", "<b/>".repeat(200_001));
    assert!(find("/*", wide.as_bytes()).ends_with("!too many elements and attributes."));
}

proptest! {
    #[test]
    fn any_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        find("//@*", &body);
    }

    #[test]
    fn any_markup(words in prop::collection::vec(prop::sample::select(vec![
        "<a>", "</a>", "<a ", "b=\"", "\"", "/>", "<![CDATA[", "]]>", "<!--", "-->", "<?x", "?>", "&", "lt;", "#65;",
        "<!DOCTYPE", "[", "text", "'", "<", ">",
    ]), 0..30)) {
        find("//*", words.concat().as_bytes());
    }

    /// Text survives being written as XML.
    #[test]
    fn text_comes_back(text in "[ -~]{0,60}") {
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        prop_assert_eq!(find("/a/b", format!("<a><b>{escaped}</b></a>").as_bytes()), text.clone());
        prop_assert_eq!(find("//@c", format!("<a><b c=\"{escaped}\"/></a>").as_bytes()), text);
    }
}
