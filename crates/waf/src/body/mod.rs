//! Request bodies: parsers that turn them into arguments.

pub(crate) mod json;
pub(crate) mod multipart;
pub(crate) mod urlencoded;
pub(crate) mod xml;

/// Where parsed arguments go.
pub(crate) trait Sink {
    /// Takes one argument. `false`: no more are wanted.
    fn argument(&mut self, name: &[u8], value: &[u8]) -> bool;
}

/// The media type of a Content-Type value, without parameters and white space.
pub(crate) fn media_type(content_type: &[u8]) -> &[u8] {
    content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}
