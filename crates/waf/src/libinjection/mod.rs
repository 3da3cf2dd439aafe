//! SQL injection and cross-site scripting found by tokenizing, with the verdicts of libinjection (BSD-3-Clause).
//!
//! [`sqli`] reads a value as SQL in several contexts (as it is, inside single or double quotes), folds the tokens to at
//! most five, writes their kinds down as a [`Fingerprint`] and looks it up among the known ones. [`xss`] reads a value
//! as HTML in five contexts and looks for tags, attributes and URLs that run scripts. Both take bytes as they are, do
//! not allocate and cost time linear in the value's length.
//!
//! This is an implementation of its own, from libinjection's published vectors and data, held to its verdicts by
//! `tests/libinjection_verdicts.rs`: also where they look odd, since rule sets were tuned on them. It differs only
//! where the reference reads past the end of its input, or past the end of a value at the end of the input: here,
//! nothing follows.
//!
//! ```
//! use portcullis_waf::libinjection::{sqli, xss};
//!
//! let fingerprint = sqli(b"1' UNION SELECT password FROM users").expect("an attack");
//! assert_eq!(fingerprint.as_str(), "sUEnk");
//! assert!(sqli(b"the union of two sets").is_none());
//! assert!(xss(b"<a href=\"&#x6a;avascript:alert(1)\">"));
//! assert!(!xss(b"<a href=\"/java.html\">"));
//! ```

use crate::byteset::ByteSet;

mod sqli;
pub mod trace;
mod xss;

pub use sqli::Fingerprint;

/// A value without any of these bytes is no XSS: tags and comments begin with the one, attributes have values because
/// of the other.
pub(crate) const XSS_NEEDS: ByteSet = ByteSet::of(b"<=");

/// Whether the value reads as SQL injection; the fingerprint under which it is known.
pub fn sqli(input: &[u8]) -> Option<Fingerprint> {
    sqli::detect(input)
}

/// Whether the value reads as HTML or as a part of it that runs a script.
pub fn xss(input: &[u8]) -> bool {
    xss::detect(input)
}
