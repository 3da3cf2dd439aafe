//! JSON, written straight into a line.

use crate::escape::{MAX_VALUE, json_string};
use portcullis_http::push_decimal;
use std::fmt::Display;
use std::io::Write as _;

/// A JSON object being written.
pub(crate) struct Object<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Object { out, first: true }
    }

    /// Names are ours and need no escaping.
    pub(crate) fn key(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A key of ours with the comma before and the colon behind it ([`key`]): one piece where three would do.
    #[inline]
    pub(crate) fn joined(&mut self, key: &'static str) {
        self.out.extend_from_slice(key.as_bytes());
    }

    pub(crate) fn text(&mut self, name: &str, value: &[u8]) {
        self.key(name);
        json_string(value, MAX_VALUE, self.out);
    }

    pub(crate) fn optional(&mut self, name: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A value that is JSON as it displays.
    pub(crate) fn plain(&mut self, name: &str, value: impl Display) {
        self.key(name);
        let _ = write!(self.out, "{value}");
    }

    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.key(name);
        push_decimal(value, self.out);
    }

    pub(crate) fn end(self) {
        self.out.push(b'}');
    }
}

/// A key that is not an object's first, as [`Object::joined`] takes it.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(crate) use key;

/// Appends a JSON array.
pub(crate) fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}
