//! JSON documents of which only as much is read as is needed.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// A value: as it came, or an object that was read.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Raw(&'a RawValue),
    Object(Object<'a>),
    Names(Vec<&'a str>),
}

/// An object's members in their order. Of members with one name the last counts, at the first one's place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Object<'a> {
    /// Reads an object's members; their values stay as they came.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(crate) fn set(&mut self, name: Cow<'a, str>, value: Value<'a>) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name, value)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Sets all members of another object.
    pub(crate) fn merge(&mut self, other: Object<'a>) {
        let mut places = self.names();
        for (name, value) in other.0 {
            self.put(&mut places, name, value);
        }
    }

    fn put(&mut self, places: &mut HashMap<Cow<'a, str>, usize>, name: Cow<'a, str>, value: Value<'a>) {
        let place = *places.entry(name.clone()).or_insert(self.0.len());
        match self.0.get_mut(place) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Where each name stands: objects can have so many members that to look for each would take too long.
    fn names(&self) -> HashMap<Cow<'a, str>, usize> {
        self.0.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect()
    }

    /// Keeps what `keep` makes of each member.
    pub(crate) fn filter_map(self, mut keep: impl FnMut(&str, Value<'a>) -> Option<Value<'a>>) -> Self {
        let kept =
            self.0.into_iter().filter_map(|(name, value)| keep(&name, value).map(|value| (name, value)));
        Object(kept.collect())
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_text(name, out);
            out.push(b':');
            value.write(out);
        }
        out.push(b'}');
    }
}

impl<'a> Value<'a> {
    /// The object that it is.
    pub(crate) fn into_object(self) -> Option<Object<'a>> {
        match self {
            Value::Raw(raw) => Object::read(raw.get()),
            Value::Object(object) => Some(object),
            Value::Names(_) => None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Raw(raw) => out.extend_from_slice(raw.get().as_bytes()),
            Value::Object(object) => object.write(out),
            Value::Names(names) => {
                out.push(b'[');
                for (index, name) in names.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_text(name, out);
                }
                out.push(b']');
            }
        }
    }
}

/// A JSON string. Neither a string nor a vector can fail to be written.
fn write_text(text: &str, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, text);
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Object::default();
        let mut places = HashMap::new();
        while let Some((Name(name), raw)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            members.put(&mut places, name, Value::Raw(raw));
        }
        Ok(members)
    }
}

/// A member's name; borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn through(text: &str) -> Option<String> {
        let mut out = Vec::new();
        Object::read(text)?.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_pass_byte_for_byte() {
        for text in [
            r#"{"n":1e400,"big":123456789012345678901234567890.10,"z":-0,"s":"\u00e9\/é","l":[1, 2,{"a" :1}]}"#,
            "{}",
            r#"{"":null}"#,
        ] {
            assert_eq!(through(text).as_deref(), Some(text));
        }
        assert_eq!(through(r#" { "\u0061" : 1 , "b":2,"a":3 } "#).as_deref(), Some(r#"{"a":3,"b":2}"#));
    }

    #[test]
    fn what_is_no_object() {
        for text in ["", "[]", "1", "{", "{}x", r#"{"a":01}"#, r#"{"a":1,}"#, "{'a':1}", r#"{"a":NaN}"#] {
            assert_eq!(through(text), None, "{text}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(through(&deep), Some(deep));
    }
}
