//! The JSON Schema of `gateway.toml`, generated from the types.

use std::sync::LazyLock;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Map, Value};

use crate::model::Config;

/// The JSON Schema (draft 2020-12) of `gateway.toml`: what `portcullis schema` prints and editors check by.
///
/// TOML has no null, so optional fields are simply not required. Formats that are ours (`timeout`,
/// `byte-size`, …) come with a pattern, so that a validator that does not know them still checks the syntax.
#[must_use]
pub fn schema() -> Value {
    GENERATED.clone()
}

/// The schema, generated once.
pub(crate) fn generated() -> &'static Value {
    &GENERATED
}

static GENERATED: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    RecursiveTransform(without_null).transform(&mut schema);
    RecursiveTransform(one_paragraph).transform(&mut schema);
    schema.insert("title".to_owned(), "gateway.toml, the configuration of Portcullis".into());
    schema.to_value()
});

/// Takes `null` out of types, alternatives and defaults.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    match object.get_mut("default") {
        Some(Value::Null) => drop(object.remove("default")),
        Some(default) => drop_nulls(default),
        None => {}
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(alternatives)) = object.get_mut("anyOf") {
        alternatives.retain(|one| one.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = alternatives.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
}

/// Takes the fields that are not set out of a default.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Joins the lines of each paragraph of a description, as the comments are wrapped for the source file.
fn one_paragraph(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs: Vec<_> = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *text = paragraphs.join("\n\n");
    }
}

/// One object of the schema with its `$ref` followed: keywords next to the reference win, as they are about
/// the field and not the type.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    here: &'static Map<String, Value>,
    target: Option<&'static Map<String, Value>>,
}

impl Node {
    /// The root.
    pub(crate) fn root() -> Option<Node> {
        Node::of(generated())
    }

    /// The fields of all tables, each with its schema.
    pub(crate) fn all() -> impl Iterator<Item = (&'static str, Node)> {
        let types = generated().get("$defs").and_then(Value::as_object).into_iter().flatten();
        types.filter_map(|(_, value)| Node::of(value)).chain(Node::root()).flat_map(|node| node.properties())
    }

    /// The node of a schema value; `None` for `true` and `false`.
    pub(crate) fn of(value: &'static Value) -> Option<Self> {
        let here = value.as_object()?;
        let name = here.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
        let target = name.and_then(|name| generated().get("$defs")?.get(name)?.as_object());
        Some(Self { here, target })
    }

    /// A keyword of the field or else of its type.
    pub(crate) fn get(&self, keyword: &str) -> Option<&'static Value> {
        self.here.get(keyword).or_else(|| self.target?.get(keyword))
    }

    /// A keyword whose value is a string.
    pub(crate) fn text(&self, keyword: &str) -> Option<&'static str> {
        self.get(keyword)?.as_str()
    }

    /// A keyword whose value is an array; empty when absent.
    pub(crate) fn list(&self, keyword: &str) -> &'static [Value] {
        self.get(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The JSON types that are allowed; empty for any.
    pub(crate) fn types(&self) -> Vec<&'static str> {
        match self.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The names and descriptions of an enumeration; empty where the field is none.
    pub(crate) fn choices(&self) -> Vec<(&'static str, &'static str)> {
        let plain = self.list("enum").iter().filter_map(Value::as_str).map(|name| (name, ""));
        let described = self.list("oneOf").iter().flat_map(|one| {
            let about = one.get("description").and_then(Value::as_str).unwrap_or_default();
            let names = one
                .get("const")
                .into_iter()
                .chain(one.get("enum").and_then(Value::as_array).into_iter().flatten());
            names.filter_map(Value::as_str).map(move |name| (name, about))
        });
        plain.chain(described).collect()
    }

    /// The fields of a table, each with its schema.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&'static str, Node)> + use<> {
        let properties = self.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), Node::of(value)?)))
    }

    /// The schema of a table's entries whose names are free, as in `[upstream.NAME]`.
    pub(crate) fn entries(&self) -> Option<Node> {
        self.get("additionalProperties").and_then(Node::of)
    }

    /// The schema of an array's items.
    pub(crate) fn items(&self) -> Option<Node> {
        self.get("items").and_then(Node::of)
    }

    /// The type that the field refers to, without what the field itself says.
    pub(crate) fn target(self) -> Self {
        Self { here: self.target.unwrap_or(self.here), target: None }
    }

    /// The choices of the field or of the items of its list.
    pub(crate) fn choices_anywhere(&self) -> Vec<(&'static str, &'static str)> {
        let own = self.choices();
        if own.is_empty() { self.items().map(|item| item.choices()).unwrap_or_default() } else { own }
    }

    /// Whether the table must have this field.
    pub(crate) fn requires(&self, field: &str) -> bool {
        self.list("required").iter().any(|name| name == field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All schemas inside one, itself included.
    fn all(value: &'static Value, found: &mut Vec<Node>) {
        match value {
            Value::Object(fields) => {
                found.extend(Node::of(value));
                fields.iter().filter(|(name, _)| *name != "default").for_each(|(_, inner)| all(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|item| all(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_format_has_a_parser_that_takes_its_examples() {
        let mut nodes = Vec::new();
        all(generated(), &mut nodes);
        for node in nodes {
            let Some(format) = node.text("format") else {
                assert!(
                    node.text("pattern").is_none(),
                    "the walk checks formats, not patterns: {:?}",
                    node.here
                );
                continue;
            };
            for example in node.list("examples").iter().filter_map(Value::as_str) {
                assert_eq!(crate::value::check_format(format, example), Ok(()), "{format} {example}");
            }
            let takes_all = ["uint8", "uint16", "uint32", "secret"].contains(&format);
            assert_eq!(
                crate::value::check_format(format, "\0{").is_ok(),
                takes_all,
                "{format} has no parser"
            );
        }
    }

    #[test]
    fn every_field_is_documented_and_nothing_is_null() {
        let text = serde_json::to_string(generated()).unwrap();
        let around = |at: usize| text[at.saturating_sub(200)..].chars().take(250).collect::<String>();
        // The value, and the name of a type; as a part of a text it may stand.
        for null in [":null", "[null", ",null", "\"null\""] {
            assert!(!text.contains(null), "{:?}", text.find(null).map(around));
        }
        let defs = generated()["$defs"].as_object().unwrap();
        for (name, def) in
            defs.iter().map(|(name, def)| (name.as_str(), def)).chain([("Config", generated())])
        {
            for (field, node) in Node::of(def).unwrap().properties() {
                assert!(
                    node.here.contains_key("description"),
                    "{name}.{field} has no description of its own"
                );
            }
            assert!(
                def.get("properties").is_none() || def["additionalProperties"] == false,
                "{name} takes unknown fields"
            );
        }
    }
}
