//! Tokens whose signature has been proved already.

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;
use std::sync::Arc;

/// How many tokens are remembered at most: some 64 KiB for each set of keys.
const SLOTS: usize = 1024;

/// The SHA-256 of tokens that some key of one set has proved. A signature holds or does not, whatever the time,
/// so nothing here expires: claims are judged anew for every request, and the memory is part of its key set
/// and goes with it. The whole digest is compared, so that finding another token that passes for a proved one
/// means breaking SHA-256. Each slot holds the token that was proved last; reading takes no lock.
pub(crate) struct Proved(Box<[ArcSwapOption<[u8; 32]>]>);

/// A token's place and digest.
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of the whole token: header, claims and signature.
    pub(crate) fn of(token: &str) -> Option<Self> {
        digest(&SHA256, token.as_bytes()).as_ref().try_into().ok().map(Fingerprint)
    }
}

impl Proved {
    pub(crate) fn contains(&self, token: &Fingerprint) -> bool {
        self.slot(token).is_some_and(|slot| slot.load().as_deref() == Some(&token.0))
    }

    pub(crate) fn insert(&self, token: Fingerprint) {
        if let Some(slot) = self.slot(&token) {
            slot.store(Some(Arc::new(token.0)));
        }
    }

    fn slot(&self, token: &Fingerprint) -> Option<&ArcSwapOption<[u8; 32]>> {
        let [first, second, ..] = token.0;
        self.0.get(usize::from(u16::from_be_bytes([first, second])) % SLOTS)
    }
}

impl Default for Proved {
    fn default() -> Self {
        Proved((0..SLOTS).map(|_| ArcSwapOption::empty()).collect())
    }
}

impl fmt::Debug for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proved(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_of_a_slot_and_compares_all_of_it() {
        let proved = Proved::default();
        let print = |last: u8| {
            let mut bytes = [7; 32];
            bytes[31] = last;
            Fingerprint(bytes)
        };
        assert!(!proved.contains(&print(1)));
        proved.insert(print(1));
        assert!(proved.contains(&print(1)) && !proved.contains(&print(2)));
        proved.insert(print(2));
        assert!(proved.contains(&print(2)) && !proved.contains(&print(1)));
    }
}
