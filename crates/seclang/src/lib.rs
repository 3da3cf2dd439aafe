//! Lexes and parses SecLang, the rule language of ModSecurity and OWASP CRS, into a spanned
//! syntax tree. It never fails: what is wrong comes back as diagnostics, all at once.
//!
//! A rule's way: its file is cut into logical lines (comments dropped, continued lines joined),
//! a line into words (quoted or not), the words into a [`Directive`] with variables, operator
//! and actions, each with the [`Span`](portcullis_diag::Span) it stands at. Whether an operator,
//! variable or action of that name exists is not judged here but by the crate `waf`, which
//! points into the same spans.
//!
//! [`parse`] takes one text, [`load`] reads files and follows `Include`.
//!
//! ```
//! use portcullis_diag::SourceMap;
//! use portcullis_seclang::{DirectiveKind, parse};
//!
//! let mut sources = SourceMap::new();
//! let id = sources.add("example.conf", r#"
//! ## Comments and continued lines are understood.
//! SecRule ARGS|!ARGS:comment "@rx (?i)union\s+select" \
//!     "id:1000001,phase:2,deny,\
//!     msg:'SQL, as it seems'"
//! "#);
//! let parsed = parse(&sources, id);
//! assert!(parsed.diagnostics.is_empty());
//!
//! let DirectiveKind::Rule(rule) = &parsed.directives[0].kind else { panic!() };
//! assert!(rule.variables[1].excluded);
//! assert_eq!(&*rule.operator.name, "rx");
//! assert_eq!(&*rule.operator.argument, r"(?i)union\s+select");
//! assert_eq!(rule.actions.items[3].value.as_ref().map(|value| value.as_str()), Some("SQL, as it seems"));
//! // Every piece knows where it stands, also after a continued line.
//! let value = rule.actions.items[3].value.as_ref().unwrap();
//! assert_eq!(sources.position(value.span).unwrap().line, 5);
//! ```
#![forbid(unsafe_code)]

mod actions;
mod ast;
pub mod codes;
mod glob;
mod lexer;
mod line;
mod load;
mod parser;
mod print;
mod variables;

pub use ast::{
    Action, Actions, Directive, DirectiveKind, IdRange, Include, Operator, Parsed, Rule, RuleSelector,
    Selector, Text, UpdateAction, UpdateTarget, Variable,
};
pub use load::{Disk, Files, Loaded, load};
pub use parser::{DIRECTIVES, parse};
