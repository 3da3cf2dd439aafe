//! Digests and the length. MD5 and SHA-1 serve as fingerprints in rules, never as protection.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use std::io::Write as _;

pub(super) fn length(input: &[u8], out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{}", input.len());
}

pub(super) fn sha1(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, input).as_ref());
}

const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// RFC 1321 with its sine table computed (aws-lc has no MD5 in its safe interface).
pub(super) fn md5(input: &[u8], out: &mut Vec<u8>) {
    let mut state = [0x6745_2301u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut message = input.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&(input.len() as u64).wrapping_mul(8).to_le_bytes());
    let (blocks, _) = message.as_chunks::<64>();
    for block in blocks {
        md5_block(&mut state, block);
    }
    out.extend(state.iter().flat_map(|word| word.to_le_bytes()));
}

fn md5_block(state: &mut [u32; 4], block: &[u8; 64]) {
    let (words, _) = block.as_chunks::<4>();
    let word = |index: u32| words.get(index as usize).map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let [mut a, mut b, mut c, mut d] = *state;
    for step in 0..64u32 {
        let (mix, index) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
            2 => (b ^ c ^ d, (3 * step + 5) % 16),
            _ => (c ^ (b | !d), (7 * step) % 16),
        };
        let sine = ((f64::from(step) + 1.0).sin().abs() * 4_294_967_296.0) as u32;
        let shift = SHIFTS
            .get((step / 16) as usize)
            .and_then(|row| row.get((step % 4) as usize))
            .copied()
            .unwrap_or_default();
        let sum = a.wrapping_add(mix).wrapping_add(sine).wrapping_add(word(index));
        (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(shift)));
    }
    for (total, part) in state.iter_mut().zip([a, b, c, d]) {
        *total = total.wrapping_add(part);
    }
}
