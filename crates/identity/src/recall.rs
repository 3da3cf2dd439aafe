//! Tokens that were believed a moment ago.
//!
//! A client sends the same token with request after request. What it says and who made it does not change, so that a
//! token need not be taken apart and proved again while the keys are those that proved it; its times are looked at each
//! time. Each thread remembers a few, without a lock; a token is recalled only by all of its bytes.

use crate::store::Held;
use portcullis_http::Principal;
use std::cell::RefCell;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// Tokens that a thread remembers; another that falls on the same place takes it.
const PLACES: usize = 512;
/// Longer tokens are taken apart each time.
const LONGEST: usize = 2048;

/// Nobody outside can choose tokens that fall on one place, or learn from the time it takes how much of a guess is
/// right: a token is compared only where its keyed hash is the same.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static REMEMBERED: RefCell<Vec<Option<Entry>>> = const { RefCell::new(Vec::new()) };
}

/// Names a provider as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProviderId(u64);

impl ProviderId {
    pub(crate) fn new() -> Self {
        ProviderId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A token's times, as seconds since 1970 (RFC 7519 §4.1.4 to §4.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) expires: u64,
    pub(crate) not_before: Option<u64>,
    pub(crate) issued: Option<u64>,
}

/// A token that is believed, and what that rests on.
#[derive(Clone)]
pub(crate) struct Believed {
    pub(crate) principal: Arc<Principal>,
    pub(crate) times: Times,
    /// The remote key set that proved it; `None` where it was the provider's own keys, which never change.
    pub(crate) keys: Option<Arc<Held>>,
}

struct Entry {
    provider: ProviderId,
    hash: u64,
    token: Box<[u8]>,
    believed: Believed,
}

/// A token's keyed hash.
pub(crate) fn hash(token: &[u8]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(token);
    hasher.finish()
}

fn place(provider: ProviderId, hash: u64) -> usize {
    usize::try_from(hash.wrapping_add(provider.0) % PLACES as u64).unwrap_or(0)
}

/// What this thread remembers of a token.
pub(crate) fn recall(provider: ProviderId, hash: u64, token: &[u8]) -> Option<Believed> {
    let recall = |entries: &RefCell<Vec<Option<Entry>>>| {
        let entries = entries.try_borrow().ok()?;
        let entry = entries.get(place(provider, hash))?.as_ref()?;
        let is_it = entry.provider == provider && entry.hash == hash && *entry.token == *token;
        is_it.then(|| entry.believed.clone())
    };
    REMEMBERED.try_with(recall).ok().flatten()
}

/// Has this thread remember a token.
pub(crate) fn remember(provider: ProviderId, hash: u64, token: &[u8], believed: Believed) {
    if token.len() > LONGEST {
        return;
    }
    // A thread that ends remembers nothing.
    let _ = REMEMBERED.try_with(|entries| {
        let Ok(mut entries) = entries.try_borrow_mut() else { return };
        if entries.is_empty() {
            entries.resize_with(PLACES, || None);
        }
        if let Some(entry) = entries.get_mut(place(provider, hash)) {
            *entry = Some(Entry { provider, hash, token: token.into(), believed });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_http::PrincipalKind;

    fn believed(subject: &str) -> Believed {
        let principal = Principal {
            subject: subject.into(),
            provider: "idp".into(),
            kind: PrincipalKind::Token,
            scopes: Vec::new(),
            roles: Vec::new(),
            claims: serde_json::Map::new(),
        };
        let times = Times { expires: 1, not_before: None, issued: None };
        Believed { principal: Arc::new(principal), times, keys: None }
    }

    #[test]
    fn g_a_token_is_recalled_by_all_of_it_and_by_its_provider() {
        let (one, other) = (ProviderId::new(), ProviderId::new());
        remember(one, 7, b"a.b.c", believed("x"));
        assert_eq!(recall(one, 7, b"a.b.c").unwrap().principal.subject, "x");
        assert!(recall(other, 7, b"a.b.c").is_none());
        // Of the same hash, which chance could bring.
        assert!(recall(one, 7, b"a.b.d").is_none());
        assert!(recall(one, 8, b"a.b.c").is_none());
        remember(one, 7 + PLACES as u64, b"d.e.f", believed("y"));
        assert!(recall(one, 7, b"a.b.c").is_none(), "its place was taken");
        let long = "x".repeat(LONGEST + 1);
        remember(one, 9, long.as_bytes(), believed("z"));
        assert!(recall(one, 9, long.as_bytes()).is_none());
    }
}
