//! Lexes and parses SecLang into a spanned syntax tree; never fails, returns diagnostics.
#![forbid(unsafe_code)]

mod ast;
pub mod codes;

pub use ast::{
    Action, Actions, Directive, DirectiveKind, IdRange, Include, Operator, Parsed, Rule, RuleSelector,
    Selector, Text, UpdateAction, UpdateTarget, Variable,
};
