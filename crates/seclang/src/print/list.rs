//! Lists of variables and of actions, written so that they read as what they are.
//!
//! A backslash before a quote means another thing within quotes than without, and a list has up to two kinds of quotes
//! around each of its elements. So each way to write one is tried on the parser, the plainest first: whatever was read
//! from a text has one, the way in which it stood there.

use std::fmt;

use portcullis_diag::{Diagnostics, SourceMap};

use super::{escape, is_plain};
use crate::ast::{Action, Selector, Variable};
use crate::lexer::{Cursor, Word};
use crate::line::Lines;

/// What stands around a list.
type Quote = Option<char>;

/// An element of a list.
pub(super) trait Element: Sized {
    /// Between two elements.
    const SEPARATOR: &'static str;

    /// The list at the beginning of a line.
    fn read(cursor: &mut Cursor<'_, '_>) -> Option<Vec<Self>>;

    /// Whether both are the same, wherever they stand.
    fn is_same(&self, other: &Self) -> bool;

    /// The element in each way to write it in a list with this quote around it, the preferred one first.
    fn ways(&self, around: Quote) -> Vec<String>;

    /// The quotes to put around a list, the preferred one first. `bare` is the list without any.
    fn quotes(bare: &str) -> [Quote; 3];
}

/// Writes the list in the first way that reads as it does.
pub(super) fn write<E: Element>(f: &mut fmt::Formatter<'_>, elements: &[E]) -> fmt::Result {
    let bare = join::<E>(elements.iter().filter_map(|element| element.ways(None).into_iter().next()));
    let quotes = E::quotes(&bare);
    let written = quotes.into_iter().find_map(|quote| list(elements, quote));
    // Only a list that no text reads as has no way at all.
    f.write_str(&written.unwrap_or_else(|| within(&bare, quotes[0])))
}

/// Writes an element that stands in no list, so without quotes around it.
pub(super) fn write_element<E: Element>(f: &mut fmt::Formatter<'_>, element: &E) -> fmt::Result {
    f.write_str(&way(element, None).or_else(|| element.ways(None).into_iter().next()).unwrap_or_default())
}

/// The first way to write it in a list with this quote around it that reads as it does.
fn way<E: Element>(element: &E, around: Quote) -> Option<String> {
    let is_read = |way: &String| reads_as(&within(way, around), std::slice::from_ref(element));
    element.ways(around).into_iter().find(is_read)
}

fn list<E: Element>(elements: &[E], quote: Quote) -> Option<String> {
    let ways: Option<Vec<_>> = elements.iter().map(|element| way(element, quote)).collect();
    let list = within(&join::<E>(ways?), quote);
    reads_as(&list, elements).then_some(list)
}

fn join<E: Element>(ways: impl IntoIterator<Item = String>) -> String {
    ways.into_iter().collect::<Vec<_>>().join(E::SEPARATOR)
}

fn within(text: &str, quote: Quote) -> String {
    quote.map_or_else(|| text.to_owned(), |quote| format!("{quote}{text}{quote}"))
}

fn reads_as<E: Element>(text: &str, elements: &[E]) -> bool {
    let mut sources = SourceMap::new();
    let source = sources.add("", text);
    let Some(line) = Lines::new(text, source).next() else { return elements.is_empty() };
    let mut diagnostics = Diagnostics::default();
    let mut cursor = Cursor::new(&line, &mut diagnostics);
    let read = E::read(&mut cursor);
    let whole = cursor.at_end() && !line.cut_short && diagnostics.is_empty();
    whole
        && read.is_some_and(|read| {
            read.len() == elements.len()
                && read.iter().zip(elements).all(|(read, element)| read.is_same(element))
        })
}

/// Backslashes before what the parser takes them away from again in a value with these `inner` delimiters.
fn escaped(text: &str, inner: &str, around: Quote) -> String {
    let text = inner.chars().fold(text.to_owned(), |text, quote| escape(&text, quote));
    around.filter(|quote| !inner.contains(*quote)).map_or_else(|| text.clone(), |quote| escape(&text, quote))
}

impl Element for Variable {
    const SEPARATOR: &'static str = "|";

    fn read(cursor: &mut Cursor<'_, '_>) -> Option<Vec<Self>> {
        let word = cursor.variable_word()?;
        Some(cursor.variables(word))
    }

    fn is_same(&self, other: &Self) -> bool {
        let selector = |variable: &Self| match &variable.selector {
            None => (0, String::new()),
            Some(Selector::Key(text)) => (1, text.to_string()),
            Some(Selector::Regex(text)) => (2, text.to_string()),
            Some(Selector::Path(text)) => (3, text.to_string()),
        };
        *self.name == *other.name
            && (self.excluded, self.counted) == (other.excluded, other.counted)
            && selector(self) == selector(other)
    }

    fn ways(&self, around: Quote) -> Vec<String> {
        let prefix = match (self.excluded, self.counted) {
            (false, false) => "",
            (true, false) => "!",
            (false, true) => "&",
            (true, true) => "!&",
        };
        let name = format!("{prefix}{}", &*self.name);
        match &self.selector {
            None => vec![name],
            Some(Selector::Regex(pattern)) => vec![
                format!("{name}:/{}/", escaped(pattern, "/", around)),
                format!("{name}:'/{}/'", escaped(pattern, "/'", around)),
            ],
            Some(Selector::Key(text) | Selector::Path(text)) => {
                let bare = format!("{name}:{}", escaped(text, "", around));
                let quoted = format!("{name}:'{}'", escaped(text, "'", around));
                if text.bytes().all(|b| b.is_ascii_graphic()) {
                    vec![bare, quoted]
                } else {
                    vec![quoted, bare]
                }
            }
        }
    }

    fn quotes(bare: &str) -> [Quote; 3] {
        if bare.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
            [None, Some('"'), Some('\'')]
        } else {
            [Some('"'), None, Some('\'')]
        }
    }
}

impl Element for Action {
    const SEPARATOR: &'static str = ",";

    fn read(cursor: &mut Cursor<'_, '_>) -> Option<Vec<Self>> {
        let word: Word = cursor.word()?;
        Some(cursor.actions(word).items)
    }

    fn is_same(&self, other: &Self) -> bool {
        *self.name == *other.name && self.value.as_deref() == other.value.as_deref()
    }

    fn ways(&self, around: Quote) -> Vec<String> {
        let name = &*self.name;
        let Some(value) = &self.value else { return vec![name.to_owned()] };
        let bare = format!("{name}:{}", escaped(value, "", around));
        let quoted = format!("{name}:'{}'", escaped(value, "'", around));
        if is_plain(value) { vec![bare, quoted] } else { vec![quoted, bare] }
    }

    fn quotes(_: &str) -> [Quote; 3] {
        [Some('"'), None, Some('\'')]
    }
}
