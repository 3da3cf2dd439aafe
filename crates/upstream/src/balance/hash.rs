//! The hash of keys and endpoints.

/// A hash that is the same on every machine, in every process and in every version: gateways beside each other send
/// one key to one endpoint. FNV-1a with the finalizer of MurmurHash3, which FNV lacks: its high bits, by which a ring
/// is entered, hardly change with a short key's last byte.
///
/// It is no defence against callers that choose their keys so that all fall on one endpoint; a bound on each
/// endpoint's load ([`Balance::RingHash`](crate::Balance::RingHash)) is.
#[must_use]
pub fn hash_key(key: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mixed(key.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// MurmurHash3's finalizer for 64 bits: every bit of the input changes every bit of the output with a chance of a half.
pub(crate) fn mixed(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        // FNV-1a of "" and "a" (Fowler, Noll and Vo's test vectors), finalized.
        assert_eq!(hash_key(b""), mixed(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash_key(b"a"), mixed(0xaf63_dc4c_8601_ec8c));
        assert_eq!(hash_key(b"foobar"), mixed(0x8594_4171_f739_67e8));
        // fmix64 of 1 (SMHasher's reference implementation).
        assert_eq!(mixed(1), 0xb456_bcfc_34c2_cb2c);
    }
}
