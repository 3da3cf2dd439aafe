//! What the detectors see, as text: for explanations, and for the published vectors, which are written in this form.

use super::{sqli, xss};

/// The SQL tokens of a value read as it is, in the ANSI dialect, one a line: its kind's letter and its text.
pub fn sqli_tokens(input: &[u8]) -> Vec<u8> {
    sqli::trace(input)
}

/// The same after folding: the at most five tokens whose kinds are the fingerprint.
pub fn sqli_folded(input: &[u8]) -> Vec<u8> {
    sqli::trace_folded(input)
}

/// The HTML tokens of a value read as document text, one a line: kind, length in bytes, text.
pub fn html_tokens(input: &[u8]) -> Vec<u8> {
    xss::trace(input)
}
