//! Takes secrets out of the text that findings are printed from.
//!
//! A finding shows the line it is about, and that line may hold a signing key. So the source map never gets
//! the file's own text but a copy of the same length in which secrets are asterisks.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::schema::Node;

/// The text with every byte of a secret replaced; spans fit both texts. `broken` says that the text is no TOML, and
/// the document what could be made of it.
pub(crate) fn redact(text: &str, document: &DeTable<'_>, broken: bool) -> String {
    let mut secrets = Vec::new();
    if let Some(root) = Node::root() {
        table(document, root, &mut secrets);
    }
    if broken {
        lines(text, &mut secrets);
    }
    if secrets.is_empty() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for (at, char) in text.char_indices() {
        // Line ends and quotes stay, so that lines keep their numbers and the text still reads as TOML.
        let is_kept = matches!(char, '\n' | '\r' | '"' | '\'');
        if !is_kept && secrets.iter().any(|range: &Range<usize>| range.contains(&at)) {
            out.extend(std::iter::repeat_n('*', char.len_utf8()));
        } else {
            out.push(char);
        }
    }
    out
}

fn is_secret(node: Node) -> bool {
    node.text("format") == Some("secret")
}

fn table(table: &DeTable<'_>, node: Node, secrets: &mut Vec<Range<usize>>) {
    let fields: Vec<_> = node.properties().collect();
    for (key, entry) in table {
        let known = fields.iter().find(|(name, _)| *name == key.get_ref()).map(|(_, field)| *field);
        match known.or_else(|| node.entries()) {
            Some(field) => value(entry, field, secrets),
            // A misspelt `secret` is still one.
            None if fields.iter().any(|(_, field)| is_secret(*field)) => secrets.push(entry.span()),
            None => {}
        }
    }
}

fn value(entry: &Spanned<DeValue<'_>>, node: Node, secrets: &mut Vec<Range<usize>>) {
    match entry.get_ref() {
        DeValue::String(text) if is_secret(node) && is_reference(text) => {}
        _ if is_secret(node) => secrets.push(entry.span()),
        DeValue::Table(inner) => table(inner, node, secrets),
        DeValue::Array(items) => {
            if let Some(item) = node.items() {
                items.iter().for_each(|entry| value(entry, item, secrets));
            }
        }
        _ => {}
    }
}

/// Finds secrets by name alone, since behind a bracket that is never closed no table of the document has them: what
/// follows the name and `=`, up to the end of the line or of a string of several lines that begins there.
fn lines(text: &str, secrets: &mut Vec<Range<usize>>) {
    for name in Node::all().filter(|(_, field)| is_secret(*field)).map(|(name, _)| name) {
        for (at, _) in text.match_indices(name) {
            let after = text.get(at + name.len()..).unwrap_or_default();
            let Some(value) = after.trim_start_matches(['"', '\'', ' ', '\t']).strip_prefix('=') else {
                continue;
            };
            let value = value.trim_start_matches([' ', '\t']);
            let line = value.find('\n').unwrap_or(value.len());
            let several = ["\"\"\"", "'''"].into_iter().filter_map(|quotes| {
                let (opened, inside) = value.split_once(quotes).filter(|(before, _)| before.len() < line)?;
                let closed = inside.find(quotes).unwrap_or(inside.len());
                Some(opened.len() + quotes.len() + closed)
            });
            let start = text.len() - value.len();
            secrets.push(start..start + several.fold(line, usize::max));
        }
    }
}

/// Whether a text is one `${NAME}` and nothing else, which gives nothing away.
fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
    name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}
