//! The reference page of `gateway.toml`, generated from the same schema that validates it.

use std::fmt::Write;

use serde_json::Value;

use crate::codes;
use crate::schema::{Node, generated};

/// The page `docs/configuration.md`: every table and field with type, default and meaning.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(INTRODUCTION);
    let about = generated().get("description").and_then(Value::as_str).unwrap_or_default();
    let _ = writeln!(page, "{about}\n");
    page.push_str(VALUES);
    for (name, about, example) in FORMATS {
        let _ = writeln!(page, "| {name} | {about} | {example} |");
    }
    if let Some(root) = Node::root() {
        page.push_str("\n## Tables\n");
        fields(&mut page, root, "");
        sections(&mut page, root, "");
    }
    page.push_str(CODES);
    for (code, about) in codes::ALL {
        let _ = writeln!(page, "| `{code}` | {about} |");
    }
    page
}

const INTRODUCTION: &str = "\
<!-- Generated from crates/config by `UPDATE=1 cargo test -p portcullis-config --test docs`. Do not edit. -->
# Configuration reference

`gateway.toml` is read by `portcullis run`, checked by `portcullis check`, and read again when it changes. The JSON
Schema next to this page, also printed by `portcullis schema`, lets editors complete and check the file: name it in
the first line, as the shipped file does.

";

const VALUES: &str = "\
Variables are replaced in strings only, and what they hold is not searched for further variables. A field that holds
a secret should be nothing but a variable: a secret that stands in the file is refused as soon as a listener is open
to other machines.

## Values

| type | meaning | examples |
|---|---|---|
";

const CODES: &str = "
## Codes

What `portcullis check` reports, errors and warnings:

| code | meaning |
|---|---|
";

/// The formats: name on the page, meaning, examples. The order is the page's.
const FORMATS: &[(&str, &str, &str)] = &[
    (
        "time",
        "Numbers with units `ms`, `s`, `m`, `h`, `d`; a timeout is never zero.",
        "`\"250ms\"`, `\"1m30s\"`",
    ),
    (
        "size",
        "Bytes with a unit: `B`, `KiB`, `MiB`, `GiB` (1024) or `KB`, `MB`, `GB` (1000).",
        "`\"64KiB\"`, `\"10MB\"`",
    ),
    ("rate", "A count for each second, minute, hour or day.", "`\"20/s\"`, `\"100/m\"`"),
    ("network", "A network in CIDR notation or one address.", "`\"10.0.0.0/8\"`, `\"::1\"`"),
    ("socket", "An address and a port to listen on.", "`\"127.0.0.1:8080\"`, `\"[::]:443\"`"),
    ("endpoint", "A host name or address, and a port.", "`\"127.0.0.1:8081\"`, `\"catalogue.internal:80\"`"),
    (
        "host",
        "A host, or `*.` and a domain for all hosts below it.",
        "`\"api.example.com\"`, `\"*.example.com\"`",
    ),
    (
        "origin",
        "A web origin as browsers send it: scheme, host, and a port that is not the scheme's own; with `*.` all hosts below a \
         domain; `\"null\"`; `\"*\"` for all.",
        "`\"https://app.example.com\"`, `\"https://*.example.com\"`",
    ),
    (
        "path",
        "A path; `{name}` takes one segment, a last `{*name}` the rest, which may be empty. It is compared with the \
         normalized path, in which dot segments and double slashes are resolved and each character has one spelling.",
        "`\"/titles/{id}\"`, `\"/files/{*rest}\"`",
    ),
    (
        "path template",
        "A path to send, with parameters of the route's path: `{name}`, and `{*name}` last where the route's path has it.",
        "`\"/titles/{id}\"`, `\"/{*rest}\"`",
    ),
    (
        "template",
        "A text with values of the request: `{name}` from the path, `{query.name}`, `{header.name}`; `{{` and `}}` for \
         braces. Values are percent-encoded in paths and queries; a missing one fails the call.",
        "`\"/titles/{id}\"`, `\"{query.lang}\"`",
    ),
    (
        "regex",
        "A regular expression of linear time, unanchored, in the syntax of the Rust `regex` crate.",
        "`\"^v[0-9]+$\"`",
    ),
    ("name", "1 to 64 letters, digits, `.`, `-`, `_`.", "`\"public\"`"),
    ("rule id", "One rule id or a range of them.", "`942100`, `\"942100-942199\"`"),
    (
        "limit key",
        "What a rate limit counts by.",
        "`\"address\"`, `\"consumer\"`, `\"header:x-api-key\"`, `\"claim:tenant\"`",
    ),
    ("secret", "A string that is never printed. Take it from the environment.", "`\"${SIGNING_KEY}\"`"),
];

/// The tables inside `node`, each a section; depth first, in the order of the fields.
fn sections(page: &mut String, node: Node, path: &str) {
    for (name, field) in node.properties() {
        let Some(table) = Table::of(field) else { continue };
        let path = match (path, table.shape) {
            ("", Shape::Named) => format!("{name}.NAME"),
            ("", _) => name.to_owned(),
            (_, Shape::Named) => format!("{path}.{name}.NAME"),
            _ => format!("{path}.{name}"),
        };
        let heading = if table.shape == Shape::Many { format!("[[{path}]]") } else { format!("[{path}]") };
        let about = table.node.text("description").unwrap_or_default();
        let _ = write!(page, "\n### `{heading}`\n\n{about}\n");
        fields(page, table.node, &path);
        sections(page, table.node, &path);
    }
}

/// A field that is a table with known fields, in one of three forms.
struct Table {
    node: Node,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    Many,
    Named,
}

impl Table {
    fn of(field: Node) -> Option<Self> {
        let has_fields = |node: &Node| node.properties().next().is_some();
        let node = |node: Option<Node>, shape| node.filter(has_fields).map(|node| Self { node, shape });
        node(Some(field.target()), Shape::One)
            .or_else(|| node(field.items().map(Node::target), Shape::Many))
            .or_else(|| node(field.entries().map(Node::target), Shape::Named))
    }
}

/// The table of a table's fields.
fn fields(page: &mut String, node: Node, path: &str) {
    page.push_str("\n| field | type | default | meaning |\n|---|---|---|---|\n");
    for (name, field) in node.properties() {
        let table = Table::of(field);
        let default = match (field.get("default"), &table) {
            (Some(_), Some(table)) if table.shape == Shape::One => "see below".to_owned(),
            (Some(default), _) => format!("`{}`", toml(default)),
            (None, _) if node.requires(name) => "**required**".to_owned(),
            (None, _) => "–".to_owned(),
        };
        let mut about = field.text("description").unwrap_or_default().to_owned();
        for (choice, what) in field.choices_anywhere() {
            let _ = write!(about, "<br>`\"{choice}\"`: {what}");
        }
        let kind = kind(field, table.as_ref(), name, path).replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{name}` | {kind} | {default} | {} |",
            about.replace('|', "\\|").replace("\n\n", "<br>")
        );
    }
}

/// A field's type in the words of the page.
fn kind(field: Node, table: Option<&Table>, name: &str, path: &str) -> String {
    if let Some(table) = table {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        return match table.shape {
            Shape::One => format!("table [`[{path}]`](#{})", anchor(&path)),
            Shape::Many => format!("tables [`[[{path}]]`](#{})", anchor(&path)),
            Shape::Named => format!("tables [`[{path}.NAME]`](#{})", anchor(&format!("{path}.NAME"))),
        };
    }
    if !field.choices().is_empty() {
        return "choice".to_owned();
    }
    let words = field.types().into_iter().map(|name| match (name, field.text("format")) {
        (_, Some("rule-selector")) => "rule id".to_owned(),
        ("string", Some(format)) => format_name(format).to_owned(),
        ("integer", _) => bounds(field),
        ("boolean", _) => "boolean".to_owned(),
        ("array", _) => match field.items() {
            Some(item) => format!("list of {}s", kind(item, None, "", "")),
            None => "list".to_owned(),
        },
        ("object", _) => match field.entries() {
            Some(entry) => format!("names, each with a {}", kind(entry, None, "", "")),
            None => "table".to_owned(),
        },
        _ => "string".to_owned(),
    });
    let mut words: Vec<_> = words.collect();
    words.dedup();
    words.join(" or ")
}

fn bounds(field: Node) -> String {
    let bound = |keyword| field.get(keyword).and_then(Value::as_i64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!("integer, {least} to {most}"),
        (Some(least), None) => format!("integer, {least} or more"),
        _ => "integer".to_owned(),
    }
}

fn format_name(format: &str) -> &'static str {
    match format {
        "time-span" | "timeout" => "time",
        "byte-size" => "size",
        "rate" => "rate",
        "cidr" => "network",
        "socket-address" => "socket",
        "host-port" => "endpoint",
        "host-pattern" => "host",
        "origin-pattern" => "origin",
        "path-pattern" => "path",
        "path-template" => "path template",
        "template" => "template",
        "rust-regex" => "regex",
        "name" => "name",
        "rate-key" => "limit key",
        "secret" => "secret",
        _ => "string",
    }
}

/// The anchor that Markdown renderers make of a heading.
fn anchor(path: &str) -> String {
    path.chars()
        .filter(|c| c.is_alphanumeric() || *c == '_' || *c == '-')
        .flat_map(char::to_lowercase)
        .collect()
}

/// A default as it would be written in the file.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        plain => plain.to_string(),
    }
}
