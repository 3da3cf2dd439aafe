//! SecLang's text.

use portcullis_diag::{RenderOptions, SourceMap, Span, render};
use portcullis_seclang::{Directive, Parsed};

pub(crate) fn parsed(text: &[u8]) -> (SourceMap, Parsed) {
    let mut sources = SourceMap::new();
    let id = sources.add_bytes("fuzz.conf", text);
    let parsed = portcullis_seclang::parse(&sources, id);
    (sources, parsed)
}

/// Any bytes: parsing ends, findings point into the text, and a directive without one means the same when it is
/// printed and parsed again.
pub fn parse(data: &[u8]) {
    let (sources, parsed) = parsed(data);
    let (_, source) = sources.iter().next().unwrap();
    let inside = |span: Span| assert!(source.text().get(span.range()).is_some(), "{span:?} is outside");
    for finding in &parsed.diagnostics {
        finding.span.into_iter().for_each(inside);
        finding.labels.iter().for_each(|label| inside(label.span));
    }
    let _ = render(parsed.diagnostics.iter(), &sources, RenderOptions::default());
    if !parsed.diagnostics.is_empty() {
        return;
    }
    for directive in &parsed.directives {
        inside(directive.span);
        let printed = directive.to_string();
        let (again, reparsed) = self::parsed(printed.as_bytes());
        assert_eq!(reparsed.diagnostics.to_text(&again), "", "{printed:?}");
        assert_eq!(reparsed.directives.len(), 1, "{printed:?}");
        assert_eq!(values(&reparsed.directives[0]), values(directive), "{printed:?}");
        assert_eq!(reparsed.directives[0].to_string(), printed);
    }
}

/// The directive without its places.
fn values(directive: &Directive) -> String {
    let debug = format!("{directive:?}");
    let (mut out, mut rest) = (String::new(), debug.as_str());
    // Spans print as `0:12..34`, texts as `"value"@0:12..34`.
    while let Some(at) = rest.find("0:") {
        out.push_str(&rest[..at]);
        rest = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    }
    out + rest
}
