//! Walks the file's TOML tree along the JSON Schema.
//!
//! Everything that is wrong with the shape is reported at its place, and the walk goes on: what is wrong is
//! replaced by a placeholder that fits the types, so that the checks of meaning still run over the rest of the
//! file. The paths that were replaced are kept as *poisoned*; no check reports anything about them.

use portcullis_diag::{Code, Diagnostic, Diagnostics, SourceId, Span, suggest};
use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use crate::codes;
use crate::env::{Env, EnvError, expand};
use crate::schema::Node;
use crate::spans::Spans;
use crate::value::check_format;

/// What a walk gives.
pub(crate) struct Walked {
    /// The configuration as JSON, variables replaced; fits the types.
    pub(crate) json: Value,
    /// Where the fields stand.
    pub(crate) spans: Spans,
    /// What was wrong.
    pub(crate) found: Diagnostics,
    /// Paths of which the value is a placeholder.
    pub(crate) poisoned: Vec<String>,
    /// Paths of secrets whose text stands in the file.
    pub(crate) open_secrets: Vec<String>,
}

/// Walks a document.
pub(crate) fn walk(document: &Spanned<DeTable<'_>>, source: SourceId, text: &str, env: &dyn Env) -> Walked {
    let mut walker = Walker {
        source,
        text,
        env,
        spans: Spans::default(),
        found: Diagnostics::new(),
        poisoned: Vec::new(),
        open_secrets: Vec::new(),
    };
    let start = Span::new(source, 0, 0);
    let json = match Node::root() {
        Some(root) => walker.table(document.get_ref(), start, root, ""),
        None => json!({}),
    };
    let Walker { spans, found, poisoned, open_secrets, .. } = walker;
    Walked { json, spans, found, poisoned, open_secrets }
}

struct Walker<'a> {
    source: SourceId,
    text: &'a str,
    env: &'a dyn Env,
    spans: Spans,
    found: Diagnostics,
    poisoned: Vec<String>,
    open_secrets: Vec<String>,
}

impl Walker<'_> {
    fn span<T>(&self, spanned: &Spanned<T>) -> Span {
        Span::new(self.source, spanned.span().start, spanned.span().end)
    }

    /// Reports a value that cannot be used and gives what stands in for it.
    fn bad(&mut self, path: &str, node: Node, diagnostic: Diagnostic) -> Value {
        self.found.push(diagnostic);
        self.poisoned.push(path.to_owned());
        placeholder(node)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, node: Node, path: &str) -> Value {
        let span = self.span(value);
        let types = node.types();
        let is_choice = !node.choices().is_empty();
        match value.get_ref() {
            DeValue::String(text) if is_choice || types.contains(&"string") => {
                self.string(text, span, node, path)
            }
            DeValue::Integer(number) if types.contains(&"integer") => self.integer(number, span, node, path),
            DeValue::Boolean(flag) if types.contains(&"boolean") => Value::Bool(*flag),
            DeValue::Array(items) if types.contains(&"array") => self.array(items, span, node, path),
            DeValue::Table(table) if types.contains(&"object") => self.table(table, span, node, path),
            other => {
                let diagnostic = wrong_type(other, node, path).at(span);
                self.bad(path, node, diagnostic)
            }
        }
    }

    fn string(&mut self, raw: &str, span: Span, node: Node, path: &str) -> Value {
        let expanded = match expand(raw, self.env) {
            Ok(expanded) => expanded,
            Err(errors) => {
                for error in errors {
                    self.unresolved(raw, span, error);
                }
                self.poisoned.push(path.to_owned());
                return placeholder(node);
            }
        };
        if node.text("format") == Some("secret") && expanded.has_own_text {
            self.open_secrets.push(path.to_owned());
        }
        let text = expanded.text;
        let choices = node.choices();
        if !choices.is_empty() {
            if choices.iter().any(|(name, _)| *name == text) {
                return Value::String(text);
            }
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            let diagnostic = Diagnostic::error(codes::BAD_VALUE, format!("`{path}` cannot be `{text}`"))
                .at(span)
                .label(format!("one of {}", names.join(", ")))
                .suggest(
                    suggest(&text, choices.iter().map(|(name, _)| *name)).map(|name| format!("\"{name}\"")),
                );
            return self.bad(path, node, diagnostic);
        }
        if node
            .get("minLength")
            .and_then(Value::as_u64)
            .is_some_and(|least| (text.chars().count() as u64) < least)
        {
            let diagnostic = Diagnostic::error(codes::BAD_VALUE, format!("`{path}` is empty")).at(span);
            return self.bad(path, node, diagnostic);
        }
        match node.text("format").map_or(Ok(()), |format| check_format(format, &text)) {
            Ok(()) => Value::String(text),
            Err(error) => {
                let mut diagnostic = Diagnostic::error(codes::BAD_VALUE, format!("bad value for `{path}`"))
                    .at(span)
                    .label(error.message);
                diagnostic.help = error.help;
                self.bad(path, node, diagnostic)
            }
        }
    }

    /// Reports a reference to the environment at its own bytes, where the string has no escapes.
    fn unresolved(&mut self, raw: &str, span: Span, error: EnvError) {
        let written = self.text.get(span.range()).unwrap_or_default();
        let at = match written.find(raw) {
            Some(offset) => {
                let start = span.range().start + offset;
                Span::new(self.source, start + error.range.start, start + error.range.end)
            }
            None => span,
        };
        self.found.push(Diagnostic::error(codes::UNRESOLVED, error.message).at(at).help(error.help));
    }

    fn integer(&mut self, number: &DeInteger<'_>, span: Span, node: Node, path: &str) -> Value {
        let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let least = node.get("minimum").and_then(Value::as_i64).unwrap_or(i64::MIN);
        let width = match node.text("format") {
            Some("uint8") => i64::from(u8::MAX),
            Some("uint16") => i64::from(u16::MAX),
            Some("uint32" | "rule-selector") => i64::from(u32::MAX),
            _ => i64::MAX,
        };
        let most = node.get("maximum").and_then(Value::as_i64).unwrap_or(i64::MAX).min(width);
        match parsed {
            Some(number) if (least..=most).contains(&number) => Value::from(number),
            _ => {
                let diagnostic = Diagnostic::error(codes::BAD_VALUE, format!("`{path}` is out of range"))
                    .at(span)
                    .label(format!("must be from {least} to {most}"));
                self.bad(path, node, diagnostic)
            }
        }
    }

    fn array(&mut self, items: &DeArray<'_>, span: Span, node: Node, path: &str) -> Value {
        let least = node.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let most = node.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let count = items.len() as u64;
        if count < least || count > most {
            let message = match count {
                0 => format!("`{path}` is empty"),
                _ => format!("`{path}` has {count} items"),
            };
            let bound = if count < least { format!("at least {least}") } else { format!("at most {most}") };
            self.found
                .push(Diagnostic::error(codes::BAD_VALUE, message).at(span).label(format!("{bound} wanted")));
            self.poisoned.push(path.to_owned());
        }
        let Some(item) = node.items() else { return json!([]) };
        let walk_item = |(index, value): (usize, &Spanned<DeValue<'_>>)| {
            let path = format!("{path}[{index}]");
            let span = self.span(value);
            self.spans.insert(path.clone(), span, span);
            self.value(value, item, &path)
        };
        Value::Array(items.iter().enumerate().map(walk_item).collect())
    }

    fn table(&mut self, table: &DeTable<'_>, span: Span, node: Node, path: &str) -> Value {
        let mut out = Map::new();
        let fields: Vec<_> = node.properties().collect();
        // The tree is sorted by key; reports should come in the order of the file.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let known = fields.iter().find(|(field, _)| *field == name).map(|(_, node)| *node);
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            self.spans.insert(path.clone(), self.span(key), self.span(value));
            match known.or_else(|| node.entries()) {
                Some(node_of_value) => {
                    if known.is_none() {
                        self.entry_name(name, self.span(key), node, &path);
                    }
                    let json = self.value(value, node_of_value, &path);
                    out.insert(name.to_owned(), json);
                }
                None => {
                    let span = self.span(key);
                    self.unknown(name, span, &fields, table, &path);
                }
            }
        }
        for (name, field) in fields {
            if node.requires(name) && !table.contains_key(name) {
                let about = field.text("description").unwrap_or_default();
                let inside = if path.is_empty() { "the file".to_owned() } else { format!("`{path}`") };
                let diagnostic = Diagnostic::error(codes::MISSING_FIELD, format!("{inside} has no `{name}`"))
                    .at(span)
                    .note(format!("`{name}`: {about}"));
                let value = self.bad(&format!("{path}.{name}"), field, diagnostic);
                out.insert(name.to_owned(), value);
            }
        }
        Value::Object(out)
    }

    /// Checks the name of an entry of a table whose names are free.
    fn entry_name(&mut self, name: &str, span: Span, node: Node, path: &str) {
        let format = node.get("propertyNames").and_then(|names| names.get("format")).and_then(Value::as_str);
        if let Some(Err(error)) = format.map(|format| check_format(format, name)) {
            let mut diagnostic = Diagnostic::error(codes::BAD_VALUE, format!("bad name in `{path}`"))
                .at(span)
                .label(error.message);
            diagnostic.help = error.help;
            self.found.push(diagnostic);
            self.poisoned.push(path.to_owned());
        }
    }

    fn unknown(
        &mut self,
        name: &str,
        span: Span,
        fields: &[(&'static str, Node)],
        table: &DeTable<'_>,
        path: &str,
    ) {
        self.poisoned.push(path.to_owned());
        let free = fields.iter().map(|(field, _)| *field).filter(|field| !table.contains_key(*field));
        let diagnostic =
            Diagnostic::error(codes::UNKNOWN_FIELD, format!("there is no field `{path}`")).at(span);
        self.found.push(match suggest(name, free) {
            Some(similar) => diagnostic.suggest(Some(similar)),
            None => {
                let names: Vec<_> = fields.iter().map(|(field, _)| format!("`{field}`")).collect();
                diagnostic.help(format!("the fields here are {}", names.join(", ")))
            }
        });
    }
}

/// A value that fits the node's type, in place of one that did not.
fn placeholder(node: Node) -> Value {
    if let Some((name, _)) = node.choices().first() {
        return Value::from(*name);
    }
    if let Some(default) = node.get("default") {
        return default.clone();
    }
    if node.text("format") != Some("secret")
        && let Some(example) = node.list("examples").first()
    {
        return example.clone();
    }
    match node.types().first() {
        Some(&"integer") => node.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some(&"boolean") => json!(false),
        Some(&"array") => json!([]),
        Some(&"object") => {
            let required = node.properties().filter(|(name, _)| node.requires(name));
            Value::Object(required.map(|(name, field)| (name.to_owned(), placeholder(field))).collect())
        }
        _ => json!("placeholder"),
    }
}

fn wrong_type(value: &DeValue<'_>, node: Node, path: &str) -> Diagnostic {
    let wanted = wanted(node);
    let is = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    let diagnostic = typed(codes::WRONG_TYPE, path, &wanted).label(format!("this is {is}"));
    let types = node.types();
    let help = match value {
        DeValue::Table(_) if types.contains(&"array") => {
            Some(format!("write `[[{path}]]`, since there can be several, or `{path} = [{{ … }}]`"))
        }
        DeValue::Array(_) if types.contains(&"object") => {
            Some(format!("write `[{path}]`, since there is only one"))
        }
        DeValue::String(text) if types.contains(&"array") => Some(format!("write `[\"{text}\"]`")),
        DeValue::String(text) if types.contains(&"integer") && text.parse::<i64>().is_ok() => {
            Some(format!("write `{text}` without quotes"))
        }
        DeValue::String(text) if types.contains(&"boolean") && matches!(text.as_ref(), "true" | "false") => {
            Some(format!("write `{text}` without quotes"))
        }
        DeValue::Integer(number) if types.contains(&"string") => example_of(node, number.as_str()),
        _ => None,
    };
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

fn typed(code: Code, path: &str, wanted: &str) -> Diagnostic {
    Diagnostic::error(code, format!("`{path}` must be {wanted}"))
}

/// The type a node wants, in words.
pub(crate) fn wanted(node: Node) -> String {
    if !node.choices().is_empty() {
        return "a string".to_owned();
    }
    let words = node.types().into_iter().map(|name| match (name, node.text("format")) {
        ("string", Some("time-span" | "timeout")) => "a length of time, such as \"10s\"",
        ("string", Some("byte-size")) => "a number of bytes, such as \"64KiB\"",
        ("string", Some("share")) => "a percentage, such as \"10%\"",
        ("string", _) => "a string",
        ("integer", _) => "an integer",
        ("boolean", _) => "`true` or `false`",
        ("array", _) => "an array",
        ("object", _) => "a table",
        _ => "a number",
    });
    words.collect::<Vec<_>>().join(" or ")
}

fn example_of(node: Node, number: &str) -> Option<String> {
    match node.text("format")? {
        "time-span" | "timeout" => Some(format!("write \"{number}s\" for seconds")),
        "byte-size" => Some(format!("write \"{number}B\" for bytes")),
        "rate" => Some(format!("write \"{number}/s\" for requests a second")),
        _ => None,
    }
}
