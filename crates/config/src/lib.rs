//! Turns `gateway.toml` into a validated, typed [`Config`] with spanned errors.
//!
//! The file is described once, by the structs of this crate and their doc comments. From them `schemars` makes
//! the JSON [`schema`], and from the schema come the [`reference()`] page and the validation. A file passes
//! through in five steps, and each reports all it finds:
//!
//! 1. **Parse** to a TOML tree with a span for each key and value.
//! 2. **Redact**: the [`SourceMap`](portcullis_diag::SourceMap) gets the text with secrets replaced by asterisks,
//!    since findings print lines of it.
//! 3. **Walk** the tree along the schema: unknown and missing fields, types, ranges, formats, `${NAME}`. What is
//!    wrong is replaced by something that fits, so that the next steps still see the rest.
//! 4. **Deserialize** by `serde`, which cannot fail after the walk.
//! 5. **Check** the meaning: references, duplicates, routes that tie, templates, files, keys.
//!
//! [`load`] reads a file and looks whether the files it names exist; [`parse`] takes a text.
//!
//! ```
//! use portcullis_config::{PathSegment, parse};
//! use portcullis_diag::SourceMap;
//!
//! let text = r#"
//! [[listener]]
//! name = "public"
//! address = "${LISTEN:-127.0.0.1:8080}"
//!
//! [upstream.catalogue]
//! endpoints = [{ address = "127.0.0.1:8081" }]
//!
//! [[route]]
//! name = "titles"
//! match = { path = "/titles/{id}" }
//! upstream = "catalogue"
//! "#;
//!
//! let mut sources = SourceMap::new();
//! let loaded = parse("gateway.toml", text, &mut sources, &|_: &str| None).unwrap();
//! let route = &loaded.config.route[0];
//! assert_eq!(route.matches.path.segments()[1], PathSegment::Param("id".into()));
//! assert_eq!(route.body_limit().unwrap().get(), 1 << 20);
//!
//! // Everything that is wrong is reported, each at its place.
//! let text = text.replace("upstream = \"catalogue\"", "upstream = \"catalog\"\nrewrit = \"/{id}\"");
//! let found = parse("gateway.toml", &text, &mut sources, &|_: &str| None).unwrap_err();
//! assert_eq!(found.to_text(&sources), "\
//! error[CFG0009]: there is no upstream `catalog`
//!   --> gateway.toml:12:12
//!    |
//! 12 | upstream = \"catalog\"
//!    |            ^^^^^^^^^
//!    |
//!    = help: did you mean `\"catalogue\"`?
//!
//! error[CFG0003]: there is no field `route[0].rewrit`
//!   --> gateway.toml:13:1
//!    |
//! 13 | rewrit = \"/{id}\"
//!    | ^^^^^^
//!    |
//!    = help: did you mean `rewrite`?
//! ");
//! ```
#![forbid(unsafe_code)]

mod check;
mod codes;
mod env;
mod files;
mod load;
mod model;
mod redact;
mod reference;
mod schema;
mod spans;
mod value;
mod walk;

pub use env::{Env, process_env};
pub use files::rule_files;
pub use load::{Loaded, load, parse};
pub use model::*;
pub use reference::reference;
pub use schema::schema;
pub use spans::Spans;
pub use value::*;
