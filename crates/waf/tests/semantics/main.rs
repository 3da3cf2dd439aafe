//! What the rule language means, section by section: small rules, a request, and what comes of it.
//!
//! The sections are those of our notes on how mod_security2, libmodsecurity 3 and Coraza read rules. Where a case is
//! one that another engine's own tests have (Coraza's `testing/engine`, ModSecurity's `test/test-cases/regression`),
//! the row names it; the rules here are written anew. What `tests/engine` shows already is not shown again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod actions;
mod bodies;
mod chains;
#[path = "../engine/common.rs"]
mod common;
mod control;
mod evaluation;
mod logging;
mod operators;
mod parsing;
mod phases;
mod transformations;
mod variables;

use common::{Message, check};

/// Rows of name, rules, request and verdict.
fn table(rows: &[(&str, &str, Message, &str)]) {
    for (name, rules, message, expected) in rows {
        check(name, rules, message, expected);
    }
}
