//! Content codings of request bodies (RFC 9110 §8.4), taken off so that guards see what the upstream will see.
//!
//! The body is at hand as a whole, and what comes out of it is bounded three times: by the caller's cap, by how many
//! times larger than its input it may get, and by the process's [`Budget`]. One coding is taken off and no second one
//! beneath it.

mod decoders;

use decoders::Decoder;
use portcullis_http::{Budget, Held};
use std::fmt;

/// A content coding that can be taken off.
///
/// ```
/// use portcullis_contract::Coding;
///
/// assert_eq!(Coding::named(b"GZip"), Some(Coding::Gzip));
/// assert_eq!(Coding::named(b"compress"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` or `x-gzip`: RFC 1952, one or more members.
    Gzip,
    /// `deflate`: RFC 1950 around RFC 1951. Without that wrapping, as some senders have it, it is no valid data.
    Deflate,
    /// `br`: RFC 7932.
    Brotli,
    /// `zstd`: RFC 8878 without dictionaries and skippable frames, in windows of at most 8 MiB (RFC 9659).
    Zstd,
}

impl Coding {
    /// All of them.
    pub const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    /// The coding of this name, in any case.
    #[must_use]
    pub fn named(token: &[u8]) -> Option<Self> {
        if token.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Coding::Gzip);
        }
        Self::ALL.into_iter().find(|coding| token.eq_ignore_ascii_case(coding.as_str().as_bytes()))
    }

    /// Its name in `Content-Encoding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    /// Takes the coding off a body.
    ///
    /// The decoder's own window counts against `budget` while this runs, what came out until the answer is dropped.
    ///
    /// # Errors
    /// When the bytes are not of the coding, expand beyond [`InflateLimits::ratio`], or the budget is spent.
    pub fn inflate(
        self,
        body: &[u8],
        limits: InflateLimits,
        budget: &Budget,
    ) -> Result<Inflated, InflateError> {
        let mut held = budget.hold(0).ok_or(InflateError::OverBudget)?;
        // No bytes are no broken ones: some clients name a coding although they send nothing.
        if body.is_empty() {
            return Ok(Inflated { bytes: Vec::new(), end: End::Complete, held });
        }
        let _window = budget.hold(decoders::window(self, body)).ok_or(InflateError::OverBudget)?;
        let allowed = body.len().saturating_mul(limits.ratio).max(RATIO_ALLOWANCE);
        let mut decoder = Decoder::new(self, body);
        let (mut bytes, mut piece) = (Vec::new(), vec![0; PIECE]);
        let end = loop {
            let step = decoder.next(&mut piece)?;
            if !held.grow(step.written) {
                return Err(InflateError::OverBudget);
            }
            bytes.extend_from_slice(piece.get(..step.written).unwrap_or_default());
            if bytes.len() > allowed {
                return Err(InflateError::Ratio);
            }
            if bytes.len() > limits.output {
                bytes.truncate(limits.output);
                break End::TooLarge;
            }
            if let Some(end) = step.end {
                break end;
            }
        };
        Ok(Inflated { bytes, end, held })
    }
}

/// Bytes decoded between two looks at the caps.
const PIECE: usize = 16 * 1024;
/// Bytes that any body may expand to, whatever the ratio: what is so small can expand much by being of one kind.
const RATIO_ALLOWANCE: usize = 64 * 1024;

/// How far a body may expand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InflateLimits {
    /// Most bytes that come out.
    pub output: usize,
    /// Most bytes that come out for each that goes in; up to 64 KiB come out in any case.
    pub ratio: usize,
}

/// A body without its coding.
#[derive(Debug)]
pub struct Inflated {
    /// What came out: all of the body, or its beginning.
    pub bytes: Vec<u8>,
    /// Where it ended.
    pub end: End,
    /// Keeps `bytes` accounted for.
    pub held: Held,
}

/// Where the decoded body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At its end.
    Complete,
    /// At [`InflateLimits::output`]; there is more of it.
    TooLarge,
    /// Where its input did, which is not the end of the coded data.
    Incomplete,
}

/// Why a coding cannot be taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// The bytes are not of the coding, or others follow them.
    Malformed,
    /// They expand beyond the ratio.
    Ratio,
    /// The process holds all the bytes it may.
    OverBudget,
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InflateError::Malformed => "the body is not in the content coding it declares",
            InflateError::Ratio => "the body expands further than allowed",
            InflateError::OverBudget => "the process holds all the bytes it may",
        })
    }
}

impl std::error::Error for InflateError {}
