//! SQL injection: lexer, folding, fingerprint, and the exceptions for what only looks like an attack.
//!
//! A value is read up to five times: as it is, and as if a single or a double quote stood before it, since that is
//! where it may land in a statement; and again in MySQL's dialect where that reads comments otherwise.

mod benign;
mod fingerprint;
mod fingerprint_data;
mod fold;
mod keyword_data;
mod lexer;
mod literals;
mod token;
mod words;

pub use fingerprint::Fingerprint;

use fold::Folded;
use lexer::{Dialect, Lexer};

/// The fingerprint of the first reading that is an attack.
pub(super) fn detect(input: &[u8]) -> Option<Fingerprint> {
    let has = |quote| memchr::memchr(quote, input).is_some();
    either(input, None)
        .or_else(|| has(b'\'').then(|| either(input, Some(b'\'')))?)
        .or_else(|| has(b'"').then(|| attack(input, &mut Folded::read(input, Some(b'"'), Dialect::Mysql)))?)
}

/// Reads in the ANSI dialect, and in MySQL's if that makes a difference.
fn either(input: &[u8], inside: Option<u8>) -> Option<Fingerprint> {
    let mut folded = Folded::read(input, inside, Dialect::Ansi);
    let found = attack(input, &mut folded);
    if found.is_some() || !folded.is_ambiguous() {
        return found;
    }
    attack(input, &mut Folded::read(input, inside, Dialect::Mysql))
}

fn attack(input: &[u8], folded: &mut Folded<'_>) -> Option<Fingerprint> {
    folded.settle();
    let fingerprint = folded.fingerprint();
    (fingerprint.is_known() && !benign::is_benign(input, folded)).then_some(fingerprint)
}

/// The tokens of an input as it is, as text.
pub(super) fn trace(input: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    Lexer::new(input, None, Dialect::Ansi).for_each(|token| token.write(&mut text));
    text
}

/// The tokens an input as it is folds to, as text.
pub(super) fn trace_folded(input: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    Folded::read(input, None, Dialect::Ansi).tokens().iter().for_each(|token| token.write(&mut text));
    text
}
