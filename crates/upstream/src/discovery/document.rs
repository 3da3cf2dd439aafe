//! A file of endpoints: its text. No IO.
//!
//! ```json
//! { "endpoints": ["10.0.0.1:8080", { "address": "10.0.0.2:8080", "weight": 2, "priority": 1 }] }
//! ```
//!
//! In JSON the list may also stand alone. TOML holds the same, as `endpoints = [...]` or `[[endpoints]]`.

use crate::EndpointSettings;
use rustls_pki_types::DnsName;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;

/// Endpoints that one file may hold.
const MAX_ENDPOINTS: usize = 65_536;

/// What a file of endpoints is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentFormat {
    /// JSON (RFC 8259).
    Json,
    /// TOML.
    Toml,
}

/// Why a text is no list of endpoints, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Reads the text of a file of endpoints, as discovery by files has it: the endpoints in the order in which they stand.
///
/// # Errors
/// [`DocumentError`] where it is none.
pub fn parse_endpoints(text: &str, format: DocumentFormat) -> Result<Vec<EndpointSettings>, DocumentError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Document(entries) = match format {
        DocumentFormat::Json => serde_json::from_str(text).map_err(|error| json_error(&error))?,
        DocumentFormat::Toml => toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            error_at(text, at, error.message())
        })?,
    };
    let mut seen = BTreeSet::new();
    let mut endpoints = Vec::with_capacity(entries.len());
    for Entry { address, weight, priority } in entries {
        let endpoint = EndpointSettings {
            weight: u32::from(weight.get()),
            priority: u32::from(priority),
            ..EndpointSettings::new(address.host, address.port)
        };
        if !seen.insert(endpoint.address()) {
            let written = format!("\"{}\"", address.written);
            let at = text.match_indices(&written).map(|(at, _)| at).last().unwrap_or(0);
            let message =
                format!("the endpoint {} stands twice; give it a weight instead", endpoint.address());
            return Err(error_at(text, at, message));
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn json_error(error: &serde_json::Error) -> DocumentError {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
    DocumentError { line: error.line().max(1), column: error.column().max(1), message }
}

fn error_at(text: &str, offset: usize, message: impl Into<String>) -> DocumentError {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    DocumentError {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
        message: message.into(),
    }
}

struct Document(Vec<Entry>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(deserialize_with = "entries")]
    endpoints: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct List(#[serde(deserialize_with = "entries")] Vec<Entry>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of endpoints, or a table with the list `endpoints`")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(|table| Document(table.endpoints))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Document, A::Error> {
                List::deserialize(SeqAccessDeserializer::new(list)).map(|list| Document(list.0))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A list with a bound, so that a file that went wrong is refused before it fills the memory.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<Entry>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of endpoints")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Entry>, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = list.next_element()? {
                if entries.len() == MAX_ENDPOINTS {
                    return Err(A::Error::custom(format!("more than {MAX_ENDPOINTS} endpoints")));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_seq(Bounded)
}

struct Entry {
    address: Address,
    weight: NonZeroU16,
    priority: u16,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            address: Address,
            #[serde(default = "one")]
            weight: NonZeroU16,
            #[serde(default)]
            priority: u16,
        }

        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or a table with `address`, `weight`, `priority`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Entry, E> {
                let address = Address::try_from(text.to_owned()).map_err(E::custom)?;
                Ok(Entry { address, weight: one(), priority: 0 })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
                let Full { address, weight, priority } = Full::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Entry { address, weight, priority })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

fn one() -> NonZeroU16 {
    NonZeroU16::MIN
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Address {
    host: String,
    port: u16,
    /// As it stands in the file.
    written: String,
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{written}` is not an address of an endpoint: {why}; write \"10.0.0.1:8080\", \"[fd00::1]:8080\" or \"name:8080\""
            )
        };
        if let Ok(address) = written.parse::<SocketAddr>() {
            if address.port() == 0 {
                return Err(wrong("the port is a number from 1 to 65535"));
            }
            return Ok(Address { host: address.ip().to_string(), port: address.port(), written });
        }
        let (host, port) = written.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let digits = !port.starts_with('+');
        let port = port.parse().ok().filter(|port| digits && *port > 0);
        let port: u16 = port.ok_or_else(|| wrong("the port is a number from 1 to 65535"))?;
        // What ends in a number is read as an address by some, and not as the same one by all (WHATWG URL, 3.5).
        let numeric = host.trim_end_matches('.').rsplit('.').next().is_some_and(|label| {
            let digits = label.strip_prefix("0x").or(label.strip_prefix("0X"));
            label.bytes().all(|byte| byte.is_ascii_digit())
                || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        });
        if numeric || DnsName::try_from(host).is_err() {
            return Err(wrong("the host is neither an address nor a name"));
        }
        Ok(Address { host: host.to_ascii_lowercase(), port, written })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read = Result<Vec<(String, u32, u32)>, (usize, usize, String)>;

    fn read(text: &str, format: DocumentFormat) -> Read {
        match parse_endpoints(text, format) {
            Ok(list) => Ok(list.iter().map(|one| (one.address(), one.weight, one.priority)).collect()),
            Err(DocumentError { line, column, message }) => Err((line, column, message)),
        }
    }

    #[test]
    fn both_formats_say_the_same() {
        let expected = Ok(vec![
            ("10.0.0.1:8080".to_owned(), 1, 0),
            ("[fd00::1]:8080".to_owned(), 2, 1),
            ("catalogue.internal:80".to_owned(), 65_535, 0),
        ]);
        let list = r#"["10.0.0.1:8080", {"address": "[fd00:0::1]:8080", "weight": 2, "priority": 1},
            {"address": "Catalogue.internal:80", "weight": 65535}]"#;
        assert_eq!(read(list, DocumentFormat::Json), expected);
        assert_eq!(read(&format!("\u{feff}{{\"endpoints\": {list}}}\n"), DocumentFormat::Json), expected);
        let toml = r#"
            endpoints = ["10.0.0.1:8080", { address = "[fd00:0::1]:8080", weight = 2, priority = 1 },
                { address = "Catalogue.internal:80", weight = 65535 }]
        "#;
        assert_eq!(read(toml, DocumentFormat::Toml), expected);
        let tables = "[[endpoints]]\naddress = \"10.0.0.1:8080\"\n[[endpoints]]\naddress = \"[fd00::1]:8080\"\nweight = 2\npriority = 1\n[[endpoints]]\naddress = \"catalogue.internal:80\"\nweight = 65535\n";
        assert_eq!(read(tables, DocumentFormat::Toml), expected);
    }

    #[test]
    fn nothing_is_a_list_too() {
        for (text, format) in [
            ("[]", DocumentFormat::Json),
            (r#"{"endpoints":[]}"#, DocumentFormat::Json),
            ("endpoints = []", DocumentFormat::Toml),
        ] {
            assert_eq!(read(text, format), Ok(vec![]), "{text}");
        }
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, format, line, column, message) in [
            ("", DocumentFormat::Json, 1, 1, "EOF while parsing a value"),
            ("", DocumentFormat::Toml, 1, 1, "missing field `endpoints`"),
            (
                "{\"endpoints\": [\n  \"10.0.0.1\"\n]}",
                DocumentFormat::Json,
                2,
                12,
                "`10.0.0.1` is not an address of an endpoint: it has no port",
            ),
            (
                "[\n{\"address\": \"a:1\",\n \"share\": 2}]",
                DocumentFormat::Json,
                3,
                8,
                "unknown field `share`, expected one of `address`, `weight`, `priority`",
            ),
            (
                "[{\"address\": \"a:1\", \"weight\": 0}]",
                DocumentFormat::Json,
                1,
                31,
                "invalid value: integer `0`, expected a nonzero u16",
            ),
            ("[\"a:1\", \"b:1\",\n  \"a:1\"]", DocumentFormat::Json, 2, 3, "the endpoint a:1 stands twice"),
            (
                "endpoints = [\n  \"a:1\",\n  \"a:70000\",\n]",
                DocumentFormat::Toml,
                3,
                3,
                "`a:70000` is not an address of an endpoint: the port",
            ),
            ("endpoints = [\n  \"a:1\"", DocumentFormat::Toml, 2, 8, "unclosed array"),
            ("[1]", DocumentFormat::Json, 1, 2, "invalid type: integer `1`, expected an address, or a table"),
            ("7", DocumentFormat::Json, 1, 1, "invalid type: integer `7`, expected a list of endpoints"),
            ("{\"endpoints\": [\"a:1\"", DocumentFormat::Json, 1, 20, "EOF while parsing a list"),
        ] {
            let (at, by, said) = read(text, format).unwrap_err();
            assert!(said.starts_with(message), "{text}: {said}");
            assert_eq!((at, by), (line, column), "{text}: {said}");
        }
    }

    #[test]
    fn j1_hosts_that_are_read_in_two_ways_are_none() {
        for host in [
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "127.0.0.0x1",
            "1.2.3.4.5",
            "user@host",
            "[::1",
            "::1",
            "a b",
            "",
            "-a",
            "a..b",
            "http://a",
        ] {
            let text = serde_json::json!([format!("{host}:80")]).to_string();
            let (.., message) = read(&text, DocumentFormat::Json).unwrap_err();
            assert!(message.contains("is not an address of an endpoint"), "{host}: {message}");
        }
        for address in ["a:0", "10.0.0.1:0", "[::1]:0", "a:+1", "a:", "a", "a:65536"] {
            assert!(
                read(&serde_json::json!([address]).to_string(), DocumentFormat::Json).is_err(),
                "{address}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_place_in_it(text in "[\\[\\]{}\":,a-z0-9.\n= ]{0,60}") {
            for format in [DocumentFormat::Json, DocumentFormat::Toml] {
                if let Err(error) = parse_endpoints(&text, format) {
                    prop_assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1, "{:?}", error);
                    prop_assert!(error.column >= 1, "{:?}", error);
                }
            }
        }

        #[test]
        fn what_was_written_is_read(list in proptest::collection::btree_map((any::<[u8; 4]>(), 1u16..), (1u16.., any::<u16>()), 0..20)) {
            let entries: Vec<_> = list.iter().map(|((ip, port), (weight, priority))| {
                let address = SocketAddr::from((*ip, *port)).to_string();
                serde_json::json!({"address": address, "weight": weight, "priority": priority})
            }).collect();
            let found = parse_endpoints(&serde_json::Value::from(entries).to_string(), DocumentFormat::Json).unwrap();
            prop_assert_eq!(found.len(), list.len());
            for (endpoint, ((ip, port), (weight, priority))) in found.iter().zip(&list) {
                prop_assert_eq!(endpoint.address(), SocketAddr::from((*ip, *port)).to_string());
                prop_assert_eq!((endpoint.weight, endpoint.priority), (u32::from(*weight), u32::from(*priority)));
            }
        }
    }
}
