//! Buffers that a thread keeps for connections that have something to say: one that waits holds none, and one that goes
//! on allocates none.

use bytes::BytesMut;
use std::cell::RefCell;

/// Buffers of each kind that a thread keeps.
const KEPT: usize = 32;
/// What is larger than this goes back to the allocator: one large message must not be paid for ever after.
const KEPT_BYTES: usize = 16 * 1024;
/// Room of a new one: most heads, and a small body behind them.
pub(crate) const FIRST: usize = 2 * 1024;

thread_local! {
    static INPUT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer to read into, with room for [`FIRST`] bytes.
pub(crate) fn input() -> BytesMut {
    let kept = INPUT.try_with(|kept| kept.try_borrow_mut().ok().and_then(|mut kept| kept.pop()));
    kept.ok().flatten().unwrap_or_else(|| BytesMut::with_capacity(FIRST))
}

/// A buffer to write from.
pub(crate) fn output() -> Vec<u8> {
    let kept = OUTPUT.try_with(|kept| kept.try_borrow_mut().ok().and_then(|mut kept| kept.pop()));
    kept.ok().flatten().unwrap_or_else(|| Vec::with_capacity(FIRST))
}

/// Keeps a buffer, unless somebody still has a part of it.
pub(crate) fn keep_input(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.capacity() <= KEPT_BYTES && buffer.try_reclaim(FIRST) {
        // A thread that ends keeps none.
        let _ = INPUT.try_with(|kept| keep(kept, buffer));
    }
}

/// Keeps a buffer of which nothing is left to write.
pub(crate) fn keep_output(mut buffer: Vec<u8>) {
    buffer.clear();
    if (FIRST..=KEPT_BYTES).contains(&buffer.capacity()) {
        // A thread that ends keeps none.
        let _ = OUTPUT.try_with(|kept| keep(kept, buffer));
    }
}

fn keep<T>(kept: &RefCell<Vec<T>>, buffer: T) {
    if let Ok(mut kept) = kept.try_borrow_mut()
        && kept.len() < KEPT
    {
        kept.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_empty_and_of_one_owner() {
        let mut buffer = input();
        buffer.extend_from_slice(b"secret");
        let place = buffer.as_ptr();
        keep_input(buffer);
        let mut again = input();
        assert!(again.is_empty() && again.capacity() >= FIRST && again.as_ptr() == place);
        again.extend_from_slice(b"a body");
        let body = again.split().freeze();
        keep_input(again);
        assert_ne!(input().as_ptr(), body.as_ptr());
        assert_eq!(body, "a body");
        let mut large = output();
        large.reserve(KEPT_BYTES + 1);
        keep_output(large);
        assert!(output().capacity() <= KEPT_BYTES);
    }
}
