use proptest::prelude::*;

use super::*;

#[derive(Debug, Default, PartialEq, Eq)]
struct Collect(Vec<String>, usize);

impl Parts for Collect {
    fn header(&mut self, part: &[u8], line: &[u8]) {
        self.0.push(format!("H {}: {}", part.escape_ascii(), line.escape_ascii()));
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.0.push(format!("{}={}", name.escape_ascii(), value.escape_ascii()));
        self.1 += 1;
        self.1 < 50
    }

    fn file(&mut self, name: &[u8], file_name: &[u8], extended: Option<&[u8]>, size: usize) -> bool {
        let extended = extended.map(|name| format!(" ({})", name.escape_ascii())).unwrap_or_default();
        self.0.push(format!("{}@{}{extended} {size}", name.escape_ascii(), file_name.escape_ascii()));
        self.1 += 1;
        self.1 < 50
    }
}

const TYPE: &str = "multipart/form-data; boundary=xYz";

fn parse(content_type: &str, body: &[u8], piece: usize) -> (Collect, Outcome) {
    let mut parser = Parser::new(content_type.as_bytes(), 3);
    let mut out = Collect::default();
    for piece in body.chunks(piece.max(1)) {
        parser.push(piece, &mut out);
    }
    let outcome = parser.finish(false, &mut out);
    (out, outcome)
}

/// Fields and files, then the flags, then the error.
fn shown(body: &str) -> String {
    let (out, outcome) = parse(TYPE, body.as_bytes(), usize::MAX);
    let mut words: Vec<String> = out.0.into_iter().filter(|line| !line.starts_with("H ")).collect();
    words.extend(flags(&outcome));
    words.join(" ")
}

fn flags(outcome: &Outcome) -> Vec<String> {
    let all = [
        Flag::BoundaryQuoted,
        Flag::BoundaryWhitespace,
        Flag::DataBefore,
        Flag::DataAfter,
        Flag::HeaderFolding,
        Flag::LfLine,
        Flag::MissingSemicolon,
        Flag::InvalidQuoting,
        Flag::InvalidPart,
        Flag::InvalidHeaderFolding,
        Flag::FileLimitExceeded,
    ];
    let mut words: Vec<String> =
        all.iter().filter(|flag| outcome.flags.has(**flag)).map(|flag| format!("+{flag:?}")).collect();
    if outcome.unmatched_boundary != 0 {
        words.push(format!("unmatched{}", outcome.unmatched_boundary));
    }
    words.extend(outcome.error.map(|error| format!("!{}", error.trim_start_matches("Multipart: "))));
    words
}

/// One part with this Content-Disposition and the body `v`.
fn disposition(value: &str) -> String {
    shown(&format!("--xYz\r\nContent-Disposition: {value}\r\n\r\nv\r\n--xYz--\r\n"))
}

#[test]
fn bodies() {
    let field = "Content-Disposition: form-data; name=\"a\"\r\n";
    for (body, expected) in [
        (format!("--xYz\r\n{field}\r\nv\r\n--xYz--\r\n"), "a=v"),
        (format!("--xYz\r\n{field}\r\nv\r\n--xYz--"), "a=v"),
        (format!("--xYz\r\n{field}\r\n\r\n--xYz--\r\n\r\n"), "a="),
        (format!("--xYz\r\n{field}\r\n--xYz--\r\n"), "a="),
        (
            format!("--xYz\r\n{field}\r\nl1\r\n\r\nl2\n\r\n--xYz\r\n{field}\r\nw\r\n--xYz--\r\n"),
            r"a=l1\r\n\r\nl2\n a=w",
        ),
        (format!("--xYz\n{}\nv\n--xYz--\n", field.replace('\r', "")), "a=v +LfLine"),
        (format!("x\r\n--xYz\r\n{field}\r\nv\r\n--xYz--\r\ny"), "a=v +DataBefore +DataAfter"),
        (format!("--xYz\r\n{field}\r\nv\r\n"), r"a=v\r\n unmatched1 !Final boundary missing."),
        ("hello".to_owned(), "+DataBefore unmatched1 !No boundaries found in payload."),
        (String::new(), "unmatched1 !No boundaries found in payload."),
        (format!("--xYz\r\n{field}\r\n--xY\r\n--xYz--\r\n"), "a=--xY unmatched2"),
        (format!("--xYz\r\n{field}\r\n.--xYz\r\n--xYz--\r\n"), "a=.--xYz unmatched2"),
        (format!("--xYz\r\n{field}\r\nv\r\n--xYz \r\n--xYz--\r\n"), r"a=v\r\n !Invalid boundary."),
        (
            format!("--xYz\r\n{field}\r\nv\r\n-- xYz\r\n--xYz--\r\n"),
            r"a=v\r\n unmatched1 !Invalid boundary (whitespace).",
        ),
        (
            format!("--xYz\r\n{field}\r\nv\r\n--\"xYz\"\r\n--xYz--\r\n"),
            r"a=v\r\n unmatched1 !Invalid boundary (quotes).",
        ),
        (format!("--xYz\r\n{field}--xYz--\r\n"), "+InvalidPart"),
        (
            "--xYz\r\n\r\nv\r\n--xYz--\r\n".to_owned(),
            "+InvalidPart !Part missing Content-Disposition header.",
        ),
        ("--xYz\r\nA b: c\r\n".to_owned(), "+InvalidPart !Invalid part header (contains invalid character)."),
        ("--xYz\r\nabc\r\n".to_owned(), "+InvalidPart !Invalid part header (colon missing)."),
        ("--xYz\r\n: c\r\n".to_owned(), "+InvalidPart !Invalid part header (header name missing)."),
        ("--xYz\r\n a: c\r\n".to_owned(), "+InvalidPart !Invalid part header (folding error)."),
        ("--xYz\r\na: \0\r\n".to_owned(), "+InvalidPart !Nul byte in part headers."),
        (format!("--xYz\r\n{field}content-disposition: x\r\n"), "+InvalidPart !Duplicate part header."),
        (format!("--xYz\r\na: {}\r\n", "x".repeat(5000)), "+InvalidPart !Part header too long."),
        (
            "--xYz\r\nContent-Disposition: form-data;\r\n name=\"a\"\r\n\r\nv\r\n--xYz--\r\n".to_owned(),
            "a=v +HeaderFolding",
        ),
    ] {
        assert_eq!(shown(&body), expected, "{body:?}");
    }
}

#[test]
fn dispositions() {
    for (value, expected) in [
        ("form-data; name=a", "a=v"),
        ("FORM-DATA; Name=\"a\"", "a=v"),
        (r#"form-data; name="a\"b\\c\d""#, r#"a\"b\\c\\d=v"#),
        ("form-data; name='a'", "a=v +InvalidQuoting"),
        ("form-data; name=\"f\"; filename=\"C:\\dir\\x.php\"", r"f@C:\\dir\\x.php 1"),
        ("form-data; name=\"f\"; filename=\"\"", "f=v"),
        ("form-data; name=\"f\"; filename=\"a\"; filename*=UTF-8''b%2Fc", "f@a (b/c) 1"),
        (
            "form-data; name=\"f\"; filename*=UTF-8''b",
            "f= !Invalid Content-Disposition header (filename* without filename).",
        ),
        (
            "form-data; name=\"a\" filename=\"b\"",
            "a= +MissingSemicolon !Invalid Content-Disposition header (semicolon missing).",
        ),
        (
            "form-data; name=\"a\"b\"",
            "a= +MissingSemicolon !Invalid Content-Disposition header (semicolon missing).",
        ),
        (
            "form-data; name=\"a\"; name=\"b\"",
            "a= !Invalid Content-Disposition header (duplicate parameter).",
        ),
        ("form-data; name=\"a\"; x=y", "a= !Invalid Content-Disposition header (unknown parameter)."),
        ("form-data; name=\"a", "+InvalidPart !Invalid Content-Disposition header (quotes)."),
        ("form-data; name", "+InvalidPart !Invalid Content-Disposition header (parameter without value)."),
        ("form-data", "+InvalidPart !Content-Disposition header missing name field."),
        ("attachment; name=\"a\"", "+InvalidPart !Invalid Content-Disposition header (type)."),
    ] {
        let shown = disposition(value);
        assert!(shown.starts_with(expected), "{value}\n{shown}");
    }
}

#[test]
fn content_types() {
    for (content_type, expected) in [
        ("multipart/form-data; boundary=a", Ok("a")),
        ("Multipart/Form-Data;boundary=\"a b\"", Ok("a b")),
        ("multipart/form-data; charset=utf-8; boundary=a", Ok("a")),
        ("multipart/form-data; boundary=----WebKitFormBoundary7MA", Ok("----WebKitFormBoundary7MA")),
        ("multipart/form-data; x=\"boundary=b\"; boundary=a", Err("Multiple boundary parameters in C-T.")),
        ("multipart/form-data boundary=a", Ok("a")),
        ("multipart/form-data; boundary = a", Ok("a")),
        ("multipart/form-data", Err("Boundary not found in C-T.")),
        ("multipart/form-data; boundary=", Err("Invalid boundary in C-T (empty).")),
        ("multipart/form-data; boundary=\"a", Err("Invalid boundary in C-T (quote).")),
        ("multipart/form-data; boundary=a; boundary=b", Err("Multiple boundary parameters in C-T.")),
        ("multipart/form-data; boundary=\u{e9}", Err("Invalid boundary in C-T (characters).")),
        ("multipart/form-data; boundary=a, b", Err("")),
        ("multipart/mixed; boundary=a", Err("Invalid MIME type.")),
    ] {
        let mut flags = Flags::default();
        match (boundary::of(content_type.as_bytes(), &mut flags), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected.as_bytes(), "{content_type}"),
            (Err(found), Err(expected)) => assert!(found.ends_with(expected), "{content_type}: {found}"),
            (found, _) => assert!(content_type.contains("a, b"), "{content_type}: {found:?}"),
        }
    }
    let long = format!("multipart/form-data; boundary={}", "a".repeat(71));
    assert!(boundary::of(long.as_bytes(), &mut Flags::default()).is_err());
}

#[test]
fn headers_are_told_also_of_broken_parts() {
    let body = b"--xYz\r\nContent-Disposition: form-data; name=a\r\nX: y\r\n\r\nv\r\n--xYz\r\n\x0eX: y\r\n";
    let (out, outcome) = parse(TYPE, body, 3);
    assert_eq!(out.0[0], "H a: Content-Disposition: form-data; name=a");
    assert_eq!(out.0[1..], ["H a: X: y", "a=v", r"H : \x0eX: y"]);
    assert!(outcome.error.is_some());
}

#[test]
fn limits() {
    let part = "--xYz\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\nv\r\n";
    let (_, outcome) = parse(TYPE, format!("{}--xYz--\r\n", part.repeat(4)).as_bytes(), 99);
    assert_eq!(flags(&outcome), ["+FileLimitExceeded"]);
    let (out, outcome) = parse(TYPE, format!("{}--xYz--\r\n", part.repeat(60)).as_bytes(), 99);
    assert_eq!((out.1, outcome.error), (50, Some("Multipart: More parts than SecArgumentsLimit.")));
}

/// A body that goes on where nobody looks is not broken, wherever that is, and all of it that was read is handed over.
#[test]
fn cut_off() {
    let body = "--xYz\r\nContent-Disposition: form-data; name=a\r\n\r\nv1\r\nv2\r\n--xYz\r\n\
        Content-Disposition: form-data; name=f; filename=g\r\nContent-Type: text/plain\r\n\r\nfile\r\n--xYz--\r\n";
    for cut in 7..body.len() {
        let mut parser = Parser::new(TYPE.as_bytes(), 3);
        let mut out = Collect::default();
        parser.push(&body.as_bytes()[..cut], &mut out);
        let outcome = parser.finish(true, &mut out);
        // `--xY` at the end may have become anything.
        assert!(flags(&outcome).is_empty(), "{:?} {outcome:?}", &body[..cut]);
    }
    let broken = "--xYz\r\nContent-Disposition: form-data\r\n\r\nv";
    let mut parser = Parser::new(TYPE.as_bytes(), 3);
    parser.push(broken.as_bytes(), &mut Collect::default());
    assert!(parser.finish(true, &mut Collect::default()).error.is_some());
    let (mut parser, mut out) = (Parser::new(TYPE.as_bytes(), 3), Collect::default());
    parser.push(b"--xYz\r\nContent-Disposition: form-data; name=a\r\n\r\nv1\r\nv2 evil", &mut out);
    parser.finish(true, &mut out);
    assert_eq!(out.0.last().unwrap(), "a=v1\\r\\nv2 evil");
}

/// Bodies made of what matters to the parser.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let words: &[&[u8]] = &[
        b"--xYz\r\n",
        b"--xYz\n",
        b"--xYz--\r\n",
        b"--xYz--",
        b"--",
        b"xYz",
        b"\"",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"Content-Disposition: form-data; name=\"a\"",
        b"; filename=\"f\"",
        b"; filename*=UTF-8''%41",
        b"Content-Disposition:",
        b"form-data;",
        b"name=a",
        b"\\",
        b"\0",
        b"text",
        b":",
    ];
    let words: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
    prop::collection::vec(prop::sample::select(words), 0..30).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same(body in pieces(), piece in 1usize..20) {
        prop_assert_eq!(parse(TYPE, &body, piece), parse(TYPE, &body, usize::MAX));
    }

    #[test]
    fn any_bytes(content_type in ".{0,80}", body in prop::collection::vec(any::<u8>(), 0..300), piece in 1usize..20) {
        parse(&content_type, &body, piece);
        prop_assert_eq!(parse(TYPE, &body, piece), parse(TYPE, &body, usize::MAX));
    }

    /// What a browser would send comes out as it went in.
    #[test]
    fn forms_come_back(fields in prop::collection::vec(("[a-z]{1,8}", "[ -~\r\n]{0,40}"), 0..6)) {
        let mut body = String::new();
        let mut expected = Vec::new();
        for (name, value) in &fields {
            body.push_str(&format!("--b0undary42\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
            expected.push(format!("{name}={}", value.escape_default().to_string().replace("\\'", "'").replace("\\\"", "\"")));
        }
        body.push_str("--b0undary42--\r\n");
        let (out, outcome) = parse("multipart/form-data; boundary=b0undary42", body.as_bytes(), 7);
        let found: Vec<String> = out.0.iter().filter(|line| !line.starts_with("H ")).map(|line| line.replace("\\'", "'").replace("\\\"", "\"")).collect();
        prop_assert_eq!(outcome.error, None);
        prop_assert_eq!(found, expected);
    }
}
