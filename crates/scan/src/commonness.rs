//! How often a byte occurs in what people write.

use std::sync::LazyLock;

/// Bytes of texts (English, HTML, JSON, lists of numbers), the most common ones first.
const COMMON: &[u8] = b" etaoinsr\"lhdc,:mu.p0-gf/1bw2_yv\n>=<k53469874;x()EATSICRNO{}DPLMjBFqUH'GzVW[]YK#?&%+JX\\QZ!*@$|~`^\t\r";

static SHARES: LazyLock<[f64; 256]> = LazyLock::new(|| {
    let mut shares = [1e-4; 256];
    for (rank, byte) in COMMON.iter().enumerate() {
        if let Some(share) = shares.get_mut(usize::from(*byte)) {
            *share = 0.09 * (-(rank as f64) / 12.0).exp2();
        }
    }
    shares
});

/// The share of a byte, roughly: that of the most common ones, halved with each dozen of ranks.
pub(crate) fn share(byte: u8) -> f64 {
    SHARES.get(usize::from(byte)).copied().unwrap_or_default()
}
