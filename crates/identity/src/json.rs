//! JSON read strictly: one meaning or none.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The text is no JSON object in UTF-8, is followed by something, is nested too deeply, or names a key twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotOneObject;

/// Reads one JSON object. A key that stands twice, at any depth, is refused: readers disagree on which of the
/// two counts (RFC 8259 §4), so a signed `{"sub":"a","sub":"b"}` would be two callers (RFC 7519 §4 lets us
/// reject it). Depth is bounded by `serde_json`'s own limit of 128.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, NotOneObject> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut reader).map_err(|_| NotOneObject)?;
    reader.end().map_err(|_| NotOneObject)?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(NotOneObject),
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict)?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("a key stands twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn g7_one_meaning_or_none() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        for bad in [
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":[{"b":1,"\u0062":1}]}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1} "#.trim_end().trim_end_matches('}'),
            r#"{"a":1}x"#,
            r#"{"a":1e999}"#,
            "[]",
            "1",
            "",
            "\u{feff}{}",
            &deep,
        ] {
            assert_eq!(object(bad.as_bytes()), Err(NotOneObject), "{bad}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(NotOneObject));
        assert!(object(br#" {"a":{"b":1},"b":1} "#).is_ok());
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_writes(keys in proptest::collection::btree_map(".*", any::<i64>(), 0..8)) {
            let text = serde_json::to_vec(&keys).unwrap();
            let read = object(&text).unwrap();
            prop_assert_eq!(read.len(), keys.len());
            for (key, number) in keys {
                prop_assert_eq!(read.get(&key), Some(&Value::from(number)));
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = object(&bytes);
        }
    }
}
