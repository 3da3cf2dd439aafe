//! Whatever the text, parsing ends, points into the text, and printing loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_diag::{Diagnostics, RenderOptions, SourceMap, Span, render};
use portcullis_seclang::{Actions, Directive, DirectiveKind, Parsed, RuleSelector, Text, Variable, parse};
use proptest::prelude::*;

fn parse_text(text: &str) -> (SourceMap, Parsed) {
    let mut sources = SourceMap::new();
    let id = sources.add("random.conf", text);
    let parsed = parse(&sources, id);
    (sources, parsed)
}

fn spans(directive: &Directive) -> Vec<Span> {
    fn text(out: &mut Vec<Span>, text: &Text) {
        out.push(text.span);
        out.extend((0..=text.len()).filter(|at| text.is_char_boundary(*at)).map(|at| text.locate(at..at)));
        out.extend(text.char_indices().map(|(at, c)| text.locate(at..at + c.len_utf8())));
    }
    fn variables(out: &mut Vec<Span>, list: &[Variable]) {
        for variable in list {
            out.push(variable.span);
            text(out, &variable.name);
            if let Some(selector) = &variable.selector {
                text(out, selector.text());
            }
        }
    }
    fn actions(out: &mut Vec<Span>, list: &Actions) {
        out.push(list.span);
        for action in &list.items {
            out.push(action.span);
            text(out, &action.name);
            action.value.iter().for_each(|value| text(out, value));
        }
    }
    fn selector(out: &mut Vec<Span>, rules: &RuleSelector) {
        match rules {
            RuleSelector::Ids(ids) => out.extend(ids.iter().map(|id| id.span)),
            RuleSelector::Tag(name) | RuleSelector::Message(name) => text(out, name),
        }
    }
    let mut out = vec![directive.span];
    text(&mut out, &directive.name);
    match &directive.kind {
        DirectiveKind::Rule(rule) => {
            out.push(rule.variables_span);
            variables(&mut out, &rule.variables);
            out.push(rule.operator.span);
            text(&mut out, &rule.operator.name);
            text(&mut out, &rule.operator.argument);
            actions(&mut out, &rule.actions);
        }
        DirectiveKind::Action(list) | DirectiveKind::DefaultAction(list) => actions(&mut out, list),
        DirectiveKind::Marker(name) => text(&mut out, name),
        DirectiveKind::Remove(rules) => selector(&mut out, rules),
        DirectiveKind::UpdateTarget(update) => {
            selector(&mut out, &update.rules);
            variables(&mut out, &update.variables);
            variables(&mut out, &update.replaced);
        }
        DirectiveKind::UpdateAction(update) => {
            out.extend(update.rules.iter().map(|id| id.span));
            actions(&mut out, &update.actions);
        }
        DirectiveKind::Include(include) => text(&mut out, &include.pattern),
        DirectiveKind::Setting(arguments) => arguments.iter().for_each(|word| text(&mut out, word)),
    }
    out
}

fn check(text: &str) {
    let (sources, parsed) = parse_text(text);
    let inside =
        |span: &Span| assert!(text.get(span.range()).is_some(), "{span:?} of {} bytes: {text:?}", text.len());
    parsed.directives.iter().flat_map(spans).for_each(|span| inside(&span));
    parsed.diagnostics.iter().filter_map(|item| item.span).for_each(|span| inside(&span));
    parsed.diagnostics.iter().flat_map(|item| &item.labels).for_each(|label| inside(&label.span));
    let _ = render(parsed.diagnostics.iter(), &sources, RenderOptions::default());
    if parsed.diagnostics == Diagnostics::new() {
        for directive in &parsed.directives {
            let printed = directive.to_string();
            let (again, reparsed) = parse_text(&printed);
            assert_eq!(reparsed.diagnostics.to_text(&again), "", "{text:?}");
            assert_eq!(reparsed.directives.len(), 1, "{text:?} -> {printed}");
            assert_eq!(values(&reparsed.directives[0]), values(directive), "{text:?} -> {printed}");
        }
    }
}

/// The directive without its places.
fn values(directive: &Directive) -> String {
    let debug = format!("{directive:?}");
    let mut out = String::new();
    let mut rest = debug.as_str();
    // Spans print as `0:12..34`, texts as `"value"@0:12..34`.
    while let Some(at) = rest.find("0:") {
        out.push_str(&rest[..at]);
        rest = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    }
    out.push_str(rest);
    // Whether a key was quoted is not kept, so there is nothing else to leave out.
    out
}

/// Pieces that rules are made of, in an order no one would write.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("SecRule "),
        Just("SecAction "),
        Just("SecMarker "),
        Just("SecRuleRemoveById "),
        Just("Include "),
        Just("SecRuleUpdateTargetById "),
        Just("SecRuleUpdateActionById "),
        Just("SecRuleRemoveByTag "),
        Just("SecDefaultAction "),
        Just("SecRuleEngine "),
        Just("ARGS"),
        Just("XML:/*"),
        Just("|"),
        Just("!"),
        Just("&"),
        Just(":"),
        Just("/"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("\\\n"),
        Just("\n"),
        Just("\r\n"),
        Just(" "),
        Just("\t"),
        Just("@rx "),
        Just("@"),
        Just("#"),
        Just(","),
        Just("id:1"),
        Just("msg:'a, b'"),
        Just("setvar:'tx.a=+1'"),
        Just("t:none"),
        Just("1-2"),
        Just("7"),
        Just("é"),
        Just("x"),
        Just("=")
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A well-formed rule whose variable, pattern and message are arbitrary printable text.
fn rules() -> impl Strategy<Value = String> {
    let word = "[ -~é]{0,12}";
    (word, word, word, any::<bool>()).prop_map(|(key, pattern, message, continued)| {
        let quote =
            |text: &str, quote: char| text.replace('\\', "\\\\").replace(quote, &format!("\\{quote}"));
        let outer = |text: String| text.replace('"', "\\\"");
        let key = format!("k{}", outer(quote(&key, '\'')));
        let pattern = quote(&pattern, '"');
        let message = outer(quote(&message, '\''));
        let gap = if continued { " \\\r\n  # comment\r\n\t" } else { " " };
        format!("SecRule \"ARGS:'{key}'\"{gap}\"@rx x{pattern}x\"{gap}\"id:1,msg:'{message}'\"")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,80}") {
        check(&text);
    }

    #[test]
    fn any_order_of_pieces(text in fragments()) {
        check(&text);
    }

    #[test]
    fn well_formed_rules_have_no_finding(text in rules()) {
        let (sources, parsed) = parse_text(&text);
        prop_assert_eq!(parsed.diagnostics.to_text(&sources), "");
        prop_assert_eq!(parsed.directives.len(), 1);
        check(&text);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut sources = SourceMap::new();
        let id = sources.add_bytes("bytes", &bytes);
        let parsed = parse(&sources, id);
        let text = sources.get(id).unwrap().text();
        for item in &parsed.diagnostics {
            prop_assert!(item.span.is_none_or(|span| text.get(span.range()).is_some()));
        }
    }
}
