//! What the detectors see, as text: for explanations and for the published vectors, which are written in this form.

use super::{sqli, xss};

/// The SQL tokens of a value read as it is, in the ANSI dialect, one a line: its kind's letter and its text.
pub fn sqli_tokens(input: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for token in sqli::tokens(input) {
        token.write(&mut text);
    }
    text
}

/// The same after folding: the at most five tokens whose kinds are the fingerprint.
pub fn sqli_folded(input: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for token in sqli::folded(input).tokens() {
        token.write(&mut text);
    }
    text
}

/// The HTML tokens of a value read as document text, one a line: kind, length in bytes, text.
pub fn html_tokens(input: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for token in xss::tokens(input) {
        token.write(&mut text);
    }
    text
}
