//! Spans, source maps and coded diagnostics, shared by both languages operators write
//! (`gateway.toml` and SecLang rule files).
//!
//! A loader adds every text it reads to a [`SourceMap`] and gets a [`SourceId`]. Its parser points
//! at bytes of that text with [`Span`]s, and reports what is wrong as [`Diagnostic`]s in a
//! [`Diagnostics`] list: nothing stops at the first mistake. Whoever owns the terminal turns the
//! list into text with [`render`], or into plain [`Record`]s for JSON.
//!
//! ```
//! use portcullis_diag::{Code, Diagnostic, Diagnostics, RenderOptions, SourceMap, render, suggest};
//!
//! const UNKNOWN_OPERATOR: Code = Code::new("SEC0012");
//!
//! let mut sources = SourceMap::new();
//! let file = sources.add("rules/sqli.conf", "SecRule ARGS \"@contians select\" \"id:1\"\n");
//! let name = sources.span_of(file, "contians").unwrap();
//!
//! let mut found = Diagnostics::new();
//! found.push(
//!     Diagnostic::error(UNKNOWN_OPERATOR, "unknown operator `@contians`")
//!         .at(name)
//!         .label("no operator has this name")
//!         .suggest(suggest("contians", ["contains", "containsWord", "rx"])),
//! );
//!
//! let text = render(found.iter(), &sources, RenderOptions::default());
//! assert_eq!(text, "\
//! error[SEC0012]: unknown operator `@contians`
//!  --> rules/sqli.conf:1:16
//!   |
//! 1 | SecRule ARGS \"@contians select\" \"id:1\"
//!   |                ^^^^^^^^ no operator has this name
//!   |
//!   = help: did you mean `contains`?
//! ");
//! ```
#![forbid(unsafe_code)]

mod diagnostic;
mod record;
mod render;
mod source;
mod suggest;

pub use diagnostic::{Code, Diagnostic, Diagnostics, Label, Severity};
pub use record::Record;
pub use render::{RenderOptions, render};
pub use source::{Position, Source, SourceId, SourceMap, Span};
pub use suggest::suggest;
