//! Content codings of request bodies: what other encoders made, matrix row I1 (bombs, layers, broken data), and that
//! no cap is passed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use portcullis_contract::{Coding, Contract, End, InflateError, InflateLimits};
use portcullis_http::{Budget, Framing, Rejection, RequestHead, Version};
use proptest::prelude::*;
use std::io::Write as _;

const TEXT: &str = r#"{"user":"anna","comment":"hello ' or 1=1 -- hello hello ' or 1=1 -- hello hello ' or 1=1 -- hello hello ' or 1=1 -- hello "}"#;

/// `TEXT` as CPython's gzip and zlib, Google's brotli and Facebook's zstd have it.
const FOREIGN: [(Coding, &str); 7] = [
    (
        Coding::Gzip,
        "1f8b0800000000000203ab562a2d4e2d52b2524acccb4b54d2514acecfcd4dcd2b010a64a4e6e4e42ba82be4172918da1a2ae8ea2a4044a825ae540b00185867af7c000000",
    ),
    (
        Coding::Deflate,
        "789cab562a2d4e2d52b2524acccb4b54d2514acecfcd4dcd2b010a64a4e6e4e42ba82be4172918da1a2ae8ea2a4044a825ae540b002722249d",
    ),
    (
        Coding::Brotli,
        "1b7b00081c07b9d9e82a480b7ea67746a87490cda53a56ccc6687b1085d7f36ce9292b161dd88003e6064c65a6c1ce89a59385cbc8e7376ccd947c11c7b97b09f6922520d45b3f",
    ),
    // A window of 1 KiB.
    (
        Coding::Brotli,
        "a1d80340e038c8cd4657415af033bd3342a5836c2ed5b1623646db8328bc9e674b4f59b1e8c0061c3037602a330d764e2c9d2c5c463ebf616ba6e48b38cedd4bb0972c01a1defa01",
    ),
    // In one segment, with a checksum.
    (
        Coding::Zstd,
        "28b52ffd247cc50100e4027b2275736572223a22616e6e61222c22636f6d6d656e74223a2268656c6c6f2027206f7220313d31202d2d20227d0200b513011636cb1bf3ca16",
    ),
    // As a stream.
    (
        Coding::Zstd,
        "28b52ffd0058c50100e4027b2275736572223a22616e6e61222c22636f6d6d656e74223a2268656c6c6f2027206f7220313d31202d2d20227d0200b513011636cb",
    ),
    (Coding::Gzip, ""),
];

/// The stream above with a window of 128 MiB, which no content coding has (RFC 9659).
const WIDE: &str = "28b52ffd0088c50100e4027b2275736572223a22616e6e61222c22636f6d6d656e74223a2268656c6c6f2027206f7220313d31202d2d20227d0200b513011636cb";
/// 10 MiB of zeros.
const BROTLI_BOMB: &str = "cbffff3ff82700e2b14020f7fe2fffff3ff04f00c4611180eefd07";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const WIDE_OPEN: InflateLimits = InflateLimits { output: 1 << 20, ratio: 1000 };

/// What came out, and how it ended.
fn run(coding: Coding, body: &[u8], limits: InflateLimits) -> Result<(Vec<u8>, End), InflateError> {
    let budget = Budget::new(64 << 20);
    let inflated = coding.inflate(body, limits, &budget)?;
    assert!(budget.used() >= inflated.bytes.len(), "what is held is accounted for");
    let result = (inflated.bytes, inflated.end);
    drop(inflated.held);
    assert_eq!(budget.used(), 0);
    Ok(result)
}

fn encoded(coding: Coding, content: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Brotli => uncompressed_brotli(content),
        Coding::Zstd => {
            ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
        }
    }
}

/// Brotli's simplest form (RFC 7932 §9.2): meta-blocks of raw bytes, and an empty last one.
fn uncompressed_brotli(content: &[u8]) -> Vec<u8> {
    let (mut out, mut pending, mut count) = (Vec::new(), 0_u32, 0);
    let mut put = |value: u32, bits: u32, out: &mut Vec<u8>, align: bool| {
        pending |= value << count;
        count += bits;
        while count >= 8 || (align && count > 0) {
            out.push(pending as u8);
            pending >>= 8;
            count = count.saturating_sub(8);
        }
    };
    put(0, 1, &mut out, false);
    for block in content.chunks(1 << 16) {
        // ISLAST 0, MNIBBLES 4, MLEN - 1, ISUNCOMPRESSED.
        put(0, 3, &mut out, false);
        put(block.len() as u32 - 1, 16, &mut out, false);
        put(1, 1, &mut out, true);
        out.extend_from_slice(block);
    }
    put(3, 2, &mut out, true);
    out
}

#[test]
fn what_other_encoders_made() {
    for (coding, hex) in FOREIGN {
        let content = if hex.is_empty() { "" } else { TEXT };
        let result = run(coding, &bytes(hex), WIDE_OPEN);
        assert_eq!(result, Ok((content.as_bytes().to_vec(), End::Complete)), "{coding:?}");
    }
}

#[test]
fn names() {
    for (name, coding) in [
        ("gzip", Some(Coding::Gzip)),
        ("X-GZIP", Some(Coding::Gzip)),
        ("Deflate", Some(Coding::Deflate)),
        ("br", Some(Coding::Brotli)),
        ("zstd", Some(Coding::Zstd)),
        ("compress", None),
        ("identity", None),
        ("", None),
        ("gzip ", None),
    ] {
        assert_eq!(Coding::named(name.as_bytes()), coding, "{name}");
    }
}

#[test]
fn members_and_frames_one_after_the_other_are_one_body() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let twice = [encoded(coding, b"first "), encoded(coding, b"second")].concat();
        assert_eq!(run(coding, &twice, WIDE_OPEN), Ok((b"first second".to_vec(), End::Complete)));
    }
}

#[test]
fn broken_data() {
    for coding in Coding::ALL {
        let good = encoded(coding, TEXT.as_bytes());
        // Cut off anywhere, what there is comes out and the end is missing.
        for length in 1..good.len() {
            let (content, end) = run(coding, &good[..length], WIDE_OPEN).unwrap();
            assert_eq!(end, End::Incomplete, "{coding:?} cut at {length}");
            assert!(TEXT.as_bytes().starts_with(&content), "{coding:?} cut at {length}");
        }
        let junk = [good.as_slice(), b"trailing junk"].concat();
        assert_eq!(run(coding, &junk, WIDE_OPEN), Err(InflateError::Malformed), "{coding:?}: junk");
        assert_eq!(
            run(coding, TEXT.as_bytes(), WIDE_OPEN),
            Err(InflateError::Malformed),
            "{coding:?}: not coded at all"
        );
    }
    // Checksums.
    for coding in [Coding::Gzip, Coding::Deflate] {
        let mut wrong = encoded(coding, TEXT.as_bytes());
        let last = wrong.len() - if coding == Coding::Gzip { 5 } else { 1 };
        wrong[last] ^= 1;
        assert_eq!(run(coding, &wrong, WIDE_OPEN), Err(InflateError::Malformed), "{coding:?}: checksum");
    }
    let mut wrong = bytes(FOREIGN[4].1);
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(run(Coding::Zstd, &wrong, WIDE_OPEN), Err(InflateError::Malformed));
    // `deflate` without zlib's wrapping, which some senders and readers have.
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
    raw.write_all(TEXT.as_bytes()).unwrap();
    assert_eq!(run(Coding::Deflate, &raw.finish().unwrap(), WIDE_OPEN), Err(InflateError::Malformed));
    // Labels that lie.
    for (coding, other) in [(Coding::Gzip, Coding::Deflate), (Coding::Zstd, Coding::Gzip)] {
        let body = encoded(coding, TEXT.as_bytes());
        assert_eq!(run(other, &body, WIDE_OPEN), Err(InflateError::Malformed), "{coding:?} as {other:?}");
    }
    let skippable = [b"\x50\x2a\x4d\x18\x04\0\0\0abcd".as_slice(), &encoded(Coding::Zstd, b"x")].concat();
    assert_eq!(run(Coding::Zstd, &skippable, WIDE_OPEN), Err(InflateError::Malformed));
    assert_eq!(run(Coding::Zstd, &bytes(WIDE), WIDE_OPEN), Err(InflateError::Malformed));
}

#[test]
fn bombs() {
    let zeros = vec![0; 10 << 20];
    let limits = InflateLimits { output: 1 << 20, ratio: 100 };
    for (coding, bomb) in [
        (Coding::Gzip, encoded(Coding::Gzip, &zeros)),
        (Coding::Deflate, encoded(Coding::Deflate, &zeros)),
        (Coding::Brotli, bytes(BROTLI_BOMB)),
        (Coding::Zstd, encoded(Coding::Zstd, &zeros)),
    ] {
        let result = run(coding, &bomb, limits);
        let refused = matches!(result, Err(InflateError::Ratio) | Ok((_, End::TooLarge)));
        assert!(refused, "{coding:?}: {} bytes", bomb.len());
        let tight = InflateLimits { output: 1000, ratio: 100 };
        assert_eq!(run(coding, &bomb, tight), Ok((vec![0; 1000], End::TooLarge)), "{coding:?}");
        let budget = Budget::new(200_000);
        let wide = InflateLimits { output: usize::MAX, ratio: usize::MAX };
        assert_eq!(coding.inflate(&bomb, wide, &budget).err(), Some(InflateError::OverBudget), "{coding:?}");
        assert_eq!(budget.used(), 0);
    }
    // What is small may be of one kind.
    let small = encoded(Coding::Gzip, &zeros[..60_000]);
    assert!(small.len() * 100 < 60_000);
    assert_eq!(run(Coding::Gzip, &small, limits).unwrap().1, End::Complete);
    // The limit itself is not beyond it.
    let exact = InflateLimits { output: 60_000, ratio: 100 };
    assert_eq!(run(Coding::Gzip, &small, exact).unwrap().1, End::Complete);
}

#[test]
fn heads() {
    let head = |fields: &[&str], framing: Framing| {
        let mut head = RequestHead::default();
        head.set_line(b"POST", b"/", Version::Http11);
        fields.iter().for_each(|value| head.fields.append("Content-Encoding", value).unwrap());
        head.framing = framing;
        head
    };
    let some = Framing::Length(9);
    let contract =
        Contract { inspected: true, codings: vec![Coding::Gzip, Coding::Brotli], ..Contract::default() };
    let refused = Err(Rejection::ContentCoding { accept: "gzip, br".to_owned() });
    for (fields, framing, expected) in [
        (&[][..], some, Ok(None)),
        (&["gzip"], some, Ok(Some(Coding::Gzip))),
        (&["x-gzip"], some, Ok(Some(Coding::Gzip))),
        (&["BR"], Framing::Chunked, Ok(Some(Coding::Brotli))),
        (&["identity"], some, Ok(None)),
        (&["zstd"], some, refused.clone()),
        (&["compress"], some, refused.clone()),
        (&[""], some, refused.clone()),
        (&["gzip, gzip"], some, refused.clone()),
        (&["identity, gzip"], some, refused.clone()),
        (&["gzip,"], some, refused.clone()),
        (&["gzip", "br"], some, refused.clone()),
        (&["zstd"], Framing::None, Ok(None)),
        (&["zstd"], Framing::Length(0), Ok(None)),
    ] {
        assert_eq!(contract.coding(&head(fields, framing)), expected, "{fields:?}");
        assert_eq!(contract.check_head(&head(fields, framing)), expected.map(|_| ()), "{fields:?}");
    }
    let none = Contract { inspected: true, ..Contract::default() };
    let identity = Rejection::ContentCoding { accept: "identity".to_owned() };
    assert_eq!(none.coding(&head(&["gzip"], some)), Err(identity));
    assert_eq!(Contract::default().coding(&head(&["zstd, x"], some)), Ok(None), "nobody looks into it");
}

proptest! {
    /// Any content comes back, and nothing is held beyond the caps on the way.
    #[test]
    fn content_comes_back(content in prop::collection::vec(any::<u8>(), 0..5000), repeat in 1usize..40) {
        let content = content.repeat(repeat);
        for coding in Coding::ALL {
            let body = encoded(coding, &content);
            prop_assert_eq!(run(coding, &body, WIDE_OPEN), Ok((content.clone(), End::Complete)));
            let limits = InflateLimits { output: content.len() / 2, ratio: 1000 };
            if content.len() > 1 {
                let half = (content[..content.len() / 2].to_vec(), End::TooLarge);
                prop_assert_eq!(run(coding, &body, limits), Ok(half));
            }
        }
    }

    /// Any bytes, also such that begin well: no panic, no end without one, and no more than the caps.
    #[test]
    fn any_bytes(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let limits = InflateLimits { output: 100_000, ratio: 100 };
        for coding in Coding::ALL {
            let mut damaged = encoded(coding, TEXT.as_bytes());
            let at = at.index(damaged.len());
            damaged[at] = byte;
            for body in [noise.clone(), damaged.clone(), [damaged, noise.clone()].concat()] {
                if let Ok((content, _)) = run(coding, &body, limits) {
                    prop_assert!(content.len() <= 100_000);
                }
            }
        }
    }
}
