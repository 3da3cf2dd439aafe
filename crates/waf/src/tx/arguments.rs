//! Where arguments go, and what is taken apart on its way there.

use super::state::State;
use crate::body::{Discard, Sink, graphql, json};
use crate::overlay::Parsers;
use crate::settings::Settings;
use crate::sources::Sources;
use crate::variable::Var;

/// JSON in a string in JSON, and so on: beyond this a value is looked at as it is.
const LAYERS: u8 = 3;
/// Bytes of names that nested values may have altogether, beyond what the values have themselves: long names repeated
/// over many short values would take far more memory than the request did.
const NAMES_ALLOWANCE: usize = 64 << 10;
const NAMES_FACTOR: usize = 8;

/// Takes the arguments of the query or of the body until the limit of the whole request is reached.
pub(super) struct Arguments<'a> {
    state: &'a mut State,
    limit: usize,
    depth: usize,
    body: bool,
    parsers: Parsers,
    /// How many values the current one is nested in.
    layer: u8,
    /// Bytes that names of nested values may still take.
    names: usize,
}

/// What a value holds.
#[derive(Clone, Copy)]
enum Nested {
    Json,
    GraphQl,
}

impl<'a> Arguments<'a> {
    /// `size`: bytes that the arguments come from; `body`: those of the request's body.
    pub(super) fn new(state: &'a mut State, settings: &Settings, size: usize, body: bool) -> Self {
        Arguments {
            limit: settings.arguments_limit,
            depth: settings.json_depth_limit,
            body,
            parsers: state.parsers,
            layer: 0,
            names: NAMES_ALLOWANCE + size.saturating_mul(NAMES_FACTOR),
            state,
        }
    }

    fn store(&mut self, name: &[u8], value: &[u8]) {
        let part = Sources::own(if self.body { Var::ArgsPost } else { Var::ArgsGet });
        let entry = self.state.entry_of(part, name, value);
        let list = if self.body { &mut self.state.args_post } else { &mut self.state.args_get };
        list.push(entry);
    }

    fn push(&mut self, name: &[u8], value: &[u8]) -> bool {
        if self.state.args_get.len() + self.state.args_post.len() >= self.limit {
            return false;
        }
        self.store(name, value);
        true
    }

    /// What the value is taken apart as; only what is that from beginning to end.
    fn nested(&self, name: &[u8], value: &[u8]) -> Option<Nested> {
        if self.parsers == Parsers::default() || self.layer >= LAYERS {
            return None;
        }
        if self.parsers.graphql && is_query(name) && graphql::parse(value, b"", &mut Discard).is_ok() {
            return Some(Nested::GraphQl);
        }
        let wanted =
            self.parsers.json || (self.parsers.graphql && matches!(name, b"variables" | b"extensions"));
        let begins = matches!(value.trim_ascii_start().first(), Some(b'{' | b'['));
        (wanted && begins && json::parse(value, b"", self.depth, &mut Discard).is_ok())
            .then_some(Nested::Json)
    }

    /// Hands over what the value holds, and the name alone for the value itself.
    fn take_apart(&mut self, nested: Nested, name: &[u8], value: &[u8]) -> bool {
        if !self.push(name, b"") {
            return false;
        }
        self.layer += 1;
        let complete = match nested {
            Nested::Json => json::parse(value, &[name, b".json"].concat(), self.depth, self).is_ok(),
            Nested::GraphQl => graphql::parse(value, &[name, b".graphql"].concat(), self).is_ok(),
        };
        self.layer -= 1;
        // It was right when it was looked at first: the limits are reached, and what is beyond them is in the whole.
        if !complete {
            self.store(name, value);
        }
        complete
    }
}

/// Where GraphQL over HTTP has its document: a parameter, a member of a JSON body, or of an item of a batch.
fn is_query(name: &[u8]) -> bool {
    let Some(path) = name.strip_prefix(b"json.") else { return name == b"query" };
    let item = path.iter().take_while(|byte| byte.is_ascii_digit()).count();
    path == b"query" || (item > 0 && path.get(item..) == Some(b".query"))
}

impl Sink for Arguments<'_> {
    fn argument(&mut self, name: &[u8], value: &[u8]) -> bool {
        if self.layer > 0 {
            let Some(left) = self.names.checked_sub(name.len()) else { return false };
            self.names = left;
        }
        match self.nested(name, value) {
            Some(nested) => self.take_apart(nested, name, value),
            None => self.push(name, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_queries_are() {
        for name in ["query", "json.query", "json.0.query", "json.12.query"] {
            assert!(is_query(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "q",
            "querys",
            "json",
            "json.a.query",
            "json..query",
            "json.0query",
            "json.0.0.query",
            "a.query",
        ] {
            assert!(!is_query(name.as_bytes()), "{name}");
        }
    }
}
