//! What HTTP/2 says below the messages that hyper makes of it, for both sides.

pub(crate) mod budget;
pub(crate) mod filter;
pub(crate) mod frames;
pub(crate) mod hpack;
mod huffman;
