//! Request bodies: parsers that turn them into arguments.

pub(crate) mod graphql;
pub(crate) mod json;
pub(crate) mod multipart;
pub(crate) mod urlencoded;
pub(crate) mod xml;

/// Where parsed arguments go.
pub(crate) trait Sink {
    /// Takes one argument. `false`: no more are wanted.
    fn argument(&mut self, name: &[u8], value: &[u8]) -> bool;
}

/// Takes everything and keeps nothing: for finding out whether there will be an error.
pub(crate) struct Discard;

impl Sink for Discard {
    fn argument(&mut self, _name: &[u8], _value: &[u8]) -> bool {
        true
    }
}

/// The media type of a Content-Type value, without parameters and white space.
pub(crate) fn media_type(content_type: &[u8]) -> &[u8] {
    content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}
