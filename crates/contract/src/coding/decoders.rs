//! One face for the four decoders: bytes of the body in, pieces of its content out.

use super::{Coding, End, InflateError};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use std::io::{ErrorKind, Read};

/// The largest window of zstd as a content coding (RFC 9659 §3).
const ZSTD_WINDOW: u64 = 8 << 20;
/// What inflating takes besides input and output: 32 KiB of window and the tables.
const DEFLATE_STATE: usize = 64 << 10;

/// What one step brought.
pub(super) struct Step {
    pub(super) written: usize,
    pub(super) end: Option<End>,
}

impl Step {
    const fn more(written: usize) -> Self {
        Step { written, end: None }
    }

    const fn last(written: usize, end: End) -> Self {
        Step { written, end: Some(end) }
    }
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;
type Zstd<'a> = StreamingDecoder<&'a [u8], FrameDecoder>;

pub(super) enum Decoder<'a> {
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Deflate {
        state: Decompress,
        rest: &'a [u8],
    },
    Brotli {
        state: Box<Brotli>,
        rest: &'a [u8],
    },
    /// The frame being read, or what is left before the next one.
    Zstd(Result<Box<Zstd<'a>>, &'a [u8]>),
}

impl<'a> Decoder<'a> {
    pub(super) fn new(coding: Coding, body: &'a [u8]) -> Self {
        match coding {
            Coding::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(body))),
            Coding::Deflate => Decoder::Deflate { state: Decompress::new(true), rest: body },
            Coding::Brotli => Decoder::Brotli { state: Box::new(brotli()), rest: body },
            Coding::Zstd => Decoder::Zstd(Err(body)),
        }
    }

    /// Fills `out` as far as it goes. A step that brings nothing is the last one.
    pub(super) fn next(&mut self, out: &mut [u8]) -> Result<Step, InflateError> {
        match self {
            Decoder::Gzip(decoder) => match decoder.read(out) {
                Ok(0) => Ok(Step::last(0, End::Complete)),
                Ok(written) => Ok(Step::more(written)),
                Err(error) => ended(error.kind()),
            },
            Decoder::Deflate { state, rest } => deflate(state, rest, out),
            Decoder::Brotli { state, rest } => unbrotli(state, rest, out),
            Decoder::Zstd(frame) => unzstd(frame, out),
        }
    }
}

/// What an error of a reader over bytes in memory means.
fn ended(kind: ErrorKind) -> Result<Step, InflateError> {
    match kind {
        ErrorKind::UnexpectedEof => Ok(Step::last(0, End::Incomplete)),
        _ => Err(InflateError::Malformed),
    }
}

fn deflate(state: &mut Decompress, rest: &mut &[u8], out: &mut [u8]) -> Result<Step, InflateError> {
    let (before_in, before_out) = (state.total_in(), state.total_out());
    let status = state.decompress(rest, out, FlushDecompress::None).map_err(|_| InflateError::Malformed)?;
    let count = |before: u64, now: u64| usize::try_from(now - before).map_err(|_| InflateError::Malformed);
    let (read, written) = (count(before_in, state.total_in())?, count(before_out, state.total_out())?);
    *rest = rest.get(read..).unwrap_or_default();
    match status {
        Status::StreamEnd if rest.is_empty() => Ok(Step::last(written, End::Complete)),
        Status::StreamEnd => Err(InflateError::Malformed),
        _ if written > 0 => Ok(Step::more(written)),
        _ if rest.is_empty() => Ok(Step::last(0, End::Incomplete)),
        // Neither takes nor gives anything: nothing that comes would change that.
        _ if read == 0 => Err(InflateError::Malformed),
        _ => Ok(Step::more(0)),
    }
}

fn brotli() -> Brotli {
    // Windows beyond RFC 7932's are no part of the content coding.
    BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default())
}

fn unbrotli(state: &mut Brotli, rest: &mut &[u8], out: &mut [u8]) -> Result<Step, InflateError> {
    let (mut available_in, mut read) = (rest.len(), 0);
    let (mut available_out, mut written, mut total) = (out.len(), 0, 0);
    let result = BrotliDecompressStream(
        &mut available_in,
        &mut read,
        rest,
        &mut available_out,
        &mut written,
        out,
        &mut total,
        state,
    );
    *rest = rest.get(read..).unwrap_or_default();
    match result {
        BrotliResult::ResultSuccess if rest.is_empty() => Ok(Step::last(written, End::Complete)),
        BrotliResult::ResultSuccess | BrotliResult::ResultFailure => Err(InflateError::Malformed),
        BrotliResult::NeedsMoreInput => Ok(Step::last(written, End::Incomplete)),
        BrotliResult::NeedsMoreOutput => Ok(Step::more(written)),
    }
}

fn unzstd<'a>(frame: &mut Result<Box<Zstd<'a>>, &'a [u8]>, out: &mut [u8]) -> Result<Step, InflateError> {
    loop {
        let reader = match frame {
            Ok(reader) => reader,
            Err([]) => return Ok(Step::last(0, End::Complete)),
            Err(rest) => {
                let rest = *rest;
                match zstd_window(rest) {
                    Header::Cut => return Ok(Step::last(0, End::Incomplete)),
                    Header::Window(window) if window <= ZSTD_WINDOW => {}
                    Header::Window(_) | Header::Other => return Err(InflateError::Malformed),
                }
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(ZSTD_WINDOW);
                let reader = StreamingDecoder::new_with_decoder(rest, decoder);
                *frame = Ok(Box::new(reader.map_err(|_| InflateError::Malformed)?));
                continue;
            }
        };
        match reader.read(out) {
            Ok(0) => {
                let decoder = &reader.decoder;
                let declared = decoder.get_checksum_from_data();
                if declared.is_some() && declared != decoder.get_calculated_checksum() {
                    return Err(InflateError::Malformed);
                }
                let rest: &'a [u8] = reader.get_ref();
                *frame = Err(rest);
            }
            Ok(written) => return Ok(Step::more(written)),
            // The decoder does not tell where its input was cut off from where it is wrong.
            Err(_) if reader.get_ref().is_empty() => return Ok(Step::last(0, End::Incomplete)),
            Err(_) => return Err(InflateError::Malformed),
        }
    }
}

/// Bytes that a decoder for this body will take for itself.
pub(super) fn window(coding: Coding, body: &[u8]) -> usize {
    match (coding, body.first()) {
        (Coding::Gzip | Coding::Deflate, _) => DEFLATE_STATE,
        (Coding::Brotli, first) => 1 << brotli_window_bits(first.copied().unwrap_or_default()),
        (Coding::Zstd, _) => match zstd_window(body) {
            Header::Window(window) => usize::try_from(window.min(ZSTD_WINDOW)).unwrap_or(usize::MAX),
            Header::Cut | Header::Other => 0,
        },
    }
}

/// WBITS (RFC 7932 §9.1), from 10 to 24.
fn brotli_window_bits(first: u8) -> u32 {
    if first & 1 == 0 {
        return 16;
    }
    match (first >> 1 & 7, first >> 4 & 7) {
        (0, 0) => 17,
        (0, bits) => 8 + u32::from(bits),
        (bits, _) => 17 + u32::from(bits),
    }
}

/// What the beginning of a zstd frame says.
enum Header {
    /// How large a window it needs.
    Window(u64),
    /// There is not enough of it to say.
    Cut,
    /// It is no frame, or one that no content coding has.
    Other,
}

/// The window of a frame (RFC 8878 §3.1.1).
fn zstd_window(frame: &[u8]) -> Header {
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let Some((magic, rest)) = frame.split_first_chunk::<4>() else {
        return if MAGIC.starts_with(frame) { Header::Cut } else { Header::Other };
    };
    if *magic != MAGIC {
        return Header::Other;
    }
    let Some((descriptor, rest)) = rest.split_first() else { return Header::Cut };
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let Some(window) = rest.first() else { return Header::Cut };
        let base = 1_u64 << (10 + u32::from(window >> 3));
        return Header::Window(base + base / 8 * u64::from(window & 7));
    }
    // The window is the content then. Before its size stands the dictionary's id.
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied().unwrap_or_default();
    let size = 1_usize << (descriptor >> 6);
    let Some(field) = rest.get(dictionary..dictionary + size) else { return Header::Cut };
    let content = field.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    Header::Window(if size == 2 { content + 256 } else { content })
}
