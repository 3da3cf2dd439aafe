//! What people see: each case is a snapshot of a whole message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_diag::{
    Code, Diagnostic, Diagnostics, Position, Record, RenderOptions, SourceMap, Span, render, suggest,
};

const CODE: Code = Code::new("SEC0012");

fn show(sources: &SourceMap, diagnostic: Diagnostic) -> String {
    render([&diagnostic], sources, RenderOptions::default())
}

#[test]
fn several_places_of_several_files() {
    let mut sources = SourceMap::new();
    let first = sources.add("a.conf", "SecAction \"id:7\"\n\n\n\n\n\n\n\n\n# ten\nSecAction \"id:7\"\n");
    let second = sources.add("b.conf", "SecAction \"id:7\"\n");
    let later = Span::new(first, sources.get(first).unwrap().text().rfind("id:7").unwrap(), 0);
    let later = Span::new(first, later.start as usize, later.start as usize + 4);
    let text = show(
        &sources,
        Diagnostic::error(CODE, "id 7 is used three times")
            .at(later)
            .label("again here")
            .also(sources.span_of(first, "id:7").unwrap(), "first used here")
            .also(sources.span_of(second, "id:7").unwrap(), "and here")
            .note("ids are how exclusions name rules")
            .help("give the rule an id of its own"),
    );
    insta::assert_snapshot!(text, @r#"
    error[SEC0012]: id 7 is used three times
      --> a.conf:11:12
       |
     1 | SecAction "id:7"
       |            ---- first used here
    ...
    11 | SecAction "id:7"
       |            ^^^^ again here
       |
      ::: b.conf:1:12
       |
     1 | SecAction "id:7"
       |            ---- and here
       |
       = note: ids are how exclusions name rules
       = help: give the rule an id of its own
    "#);
}

#[test]
fn tabs_and_wide_characters_keep_the_carets_in_place() {
    let mut sources = SourceMap::new();
    let file = sources.add("tab.conf", "\tSecRule\tÄRGS \"x\"\r\nnext");
    let span = sources.span_of(file, "ÄRGS").unwrap();
    assert_eq!(sources.position(span), Some(Position { line: 1, column: 10 }));
    insta::assert_snapshot!(show(&sources, Diagnostic::warning(CODE, "odd").at(span)), @r#"
    warning[SEC0012]: odd
     --> tab.conf:1:10
      |
    1 |     SecRule    ÄRGS "x"
      |                ^^^^
      |
    "#);
}

#[test]
fn the_end_of_a_file_has_a_place() {
    let mut sources = SourceMap::new();
    let file = sources.add("open.conf", "SecRule ARGS \"foo");
    let end = sources.get(file).unwrap().text().len();
    let text = show(
        &sources,
        Diagnostic::error(CODE, "unclosed quote").at(Span::new(file, end, end)).label("expected `\"`"),
    );
    insta::assert_snapshot!(text, @r#"
    error[SEC0012]: unclosed quote
     --> open.conf:1:18
      |
    1 | SecRule ARGS "foo
      |                  ^ expected `"`
      |
    "#);
}

#[test]
fn an_empty_file_and_a_foreign_span_do_not_hurt() {
    let mut sources = SourceMap::new();
    let file = sources.add("empty.conf", "");
    let mut other = SourceMap::new();
    other.add("x", "");
    let foreign = other.add("y", "y");
    let text = show(&sources, Diagnostic::error(CODE, "nothing").at(Span::new(file, 5, 9)));
    insta::assert_snapshot!(text, @r"
    error[SEC0012]: nothing
     --> empty.conf:1:1
      |
    1 |
      | ^
      |
    ");
    assert_eq!(
        show(&sources, Diagnostic::error(CODE, "far").at(Span::new(foreign, 0, 1))),
        "error[SEC0012]: far\n"
    );
}

#[test]
fn long_lines_are_cut_around_the_place() {
    let mut sources = SourceMap::new();
    let line = format!("{}WRONG{}", "a".repeat(5000), "b".repeat(5000));
    let file = sources.add("long.conf", line);
    let span = sources.span_of(file, "WRONG").unwrap();
    let text = render(
        [&Diagnostic::error(CODE, "too far right").at(span)],
        &sources,
        RenderOptions { width: 40, ..RenderOptions::default() },
    );
    insta::assert_snapshot!(text, @r"
    error[SEC0012]: too far right
     --> long.conf:1:5001
      |
    1 | …aaaaaaaaaaaaaWRONGbbbbbbbbbbbbbbbbbbbbbb…
      |               ^^^^^
      |
    ");
    let whole = Span::new(file, 0, 10_005);
    let text = render(
        [&Diagnostic::error(CODE, "all of it").at(whole)],
        &sources,
        RenderOptions { width: 20, ..RenderOptions::default() },
    );
    assert!(text.lines().all(|line| line.chars().count() < 40), "{text}");
}

#[test]
fn a_place_over_several_lines_shows_its_first() {
    let mut sources = SourceMap::new();
    let file = sources.add("two.conf", "SecAction \\\n  \"id:1\"\n");
    let text = show(&sources, Diagnostic::error(CODE, "two lines").at(Span::new(file, 0, 18)));
    insta::assert_snapshot!(text, @r"
    error[SEC0012]: two lines
     --> two.conf:1:1
      |
    1 | SecAction \
      | ^^^^^^^^^^^
      |
    ");
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_reported() {
    let mut sources = SourceMap::new();
    let file = sources.add_bytes("latin1.conf", b"\xEF\xBB\xBFcaf\xE9 \x1b[31m \"\n");
    let source = sources.get(file).unwrap();
    assert_eq!(source.invalid_utf8(), Some(3));
    let text = show(&sources, Diagnostic::error(CODE, "not UTF-8").at(Span::new(file, 3, 6)));
    insta::assert_snapshot!(text, @r#"
    error[SEC0012]: not UTF-8
     --> latin1.conf:1:4
      |
    1 | caf� �[31m "
      |    ^
      |
    "#);
    // Inside a character: the character's own position.
    assert_eq!(sources.position(Span::new(file, 4, 5)), Some(Position { line: 1, column: 4 }));
}

#[test]
fn colours_only_on_request() {
    let mut sources = SourceMap::new();
    let file = sources.add("c.conf", "x");
    let diagnostic = Diagnostic::error(CODE, "m").at(Span::new(file, 0, 1));
    let plain = render([&diagnostic], &sources, RenderOptions::default());
    let coloured = render([&diagnostic], &sources, RenderOptions { colour: true, ..Default::default() });
    assert!(!plain.contains('\u{1b}'));
    assert!(coloured.contains("\u{1b}[1;31merror[SEC0012]\u{1b}[0m"));
}

#[test]
fn records_are_plain() {
    let mut sources = SourceMap::new();
    let file = sources.add("gateway.toml", "[routes]\nupstraem = 1\n");
    let span = sources.span_of(file, "upstraem").unwrap();
    let diagnostic = Diagnostic::error(Code::new("CFG0003"), "unknown key `upstraem`")
        .at(span)
        .label("here")
        .suggest(suggest("upstraem", ["upstream"]));
    let record = Record::new(&diagnostic, &sources);
    assert_eq!((record.code, record.severity), ("CFG0003", "error"));
    assert_eq!(record.file.as_deref(), Some("gateway.toml"));
    assert_eq!((record.line, record.column), (Some(2), Some(1)));
    assert_eq!((record.end_line, record.end_column), (Some(2), Some(9)));
    assert_eq!(record.text, "upstraem");
    assert_eq!(record.suggestion.as_deref(), Some("upstream"));
    assert_eq!(record.notes, ["here"]);
}

#[test]
fn lists_count_and_sort() {
    let mut sources = SourceMap::new();
    let file = sources.add("s", "0123456789");
    let mut list: Diagnostics = [
        Diagnostic::warning(CODE, "c").at(Span::new(file, 5, 6)),
        Diagnostic::error(CODE, "b").at(Span::new(file, 1, 2)),
        Diagnostic::error(CODE, "a"),
    ]
    .into_iter()
    .collect();
    list.sort();
    let order: Vec<&str> = list.iter().map(|item| item.message.as_str()).collect();
    assert_eq!(order, ["a", "b", "c"]);
    assert_eq!(list.summary(), "2 errors and 1 warning");
    assert!(list.has_errors());
}

#[test]
fn slips_are_found_and_strangers_are_not() {
    let names = ["contains", "containsWord", "streq", "rx", "pm", "within"];
    assert_eq!(suggest("contians", names), Some("contains"));
    assert_eq!(suggest("CONTAINS", names), Some("contains"));
    assert_eq!(suggest("strqe", names), Some("streq"));
    assert_eq!(suggest("rxx", names), Some("rx"));
    assert_eq!(suggest("z", names), None);
    assert_eq!(suggest("", names), None);
    assert_eq!(suggest(&"x".repeat(100_000), names), None);
}
