//! Bodies as a sequence of frames.

use crate::Fields;
use bytes::Bytes;
use std::fmt;

/// One piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// Payload bytes, free of any transfer coding; never empty.
    Data(Bytes),
    /// The trailer section; nothing follows it.
    Trailers(Fields),
}

/// Why a body ended before its end. Says nothing of which side it came from: the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The bytes break the framing they declared.
    Malformed,
    /// The connection ended, or the stream was reset, before the body did.
    Incomplete,
    /// Nothing came for too long, or too little.
    Timeout,
    /// More bytes than the cap allows.
    TooLarge,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::Malformed => "the body breaks its framing",
            BodyError::Incomplete => "the body ended before its end",
            BodyError::Timeout => "the body came too slowly",
            BodyError::TooLarge => "the body is larger than allowed",
        })
    }
}

impl std::error::Error for BodyError {}
