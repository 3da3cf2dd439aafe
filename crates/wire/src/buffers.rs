//! Buffers that a thread keeps for connections that have something to say: one that waits holds none, and one that goes
//! on allocates none. What was read and written a moment ago is in the processor's cache, besides, which fresh memory is
//! not.

use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::thread::LocalKey;

/// Buffers for heads that a thread keeps, of those to read into and of those to write from.
const KEPT: usize = 32;
/// What is larger than this goes back to the allocator: one large message must not be paid for ever after.
const KEPT_BYTES: usize = 16 * 1024;
/// Room of a new one: most heads, and a small body behind them.
pub(crate) const FIRST: usize = 2 * 1024;

/// What is read of a body at once, and the head in front of it.
pub(crate) const ROOM: usize = 72 * 1024;
/// Rooms that a thread keeps. A body that passes as it comes is read and written before anything else is read; only bodies
/// that their clients take slowly keep their room for longer.
const KEPT_ROOMS: usize = 4;

type Shelf<T> = RefCell<Vec<T>>;

thread_local! {
    static INPUT: Shelf<BytesMut> = const { RefCell::new(Vec::new()) };
    static OUTPUT: Shelf<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static ROOMS: Shelf<BytesMut> = const { RefCell::new(Vec::new()) };
}

/// A buffer to read into, with room for [`FIRST`] bytes.
pub(crate) fn input() -> BytesMut {
    take(&INPUT).unwrap_or_else(|| BytesMut::with_capacity(FIRST))
}

/// A buffer to read a body into, with room for [`ROOM`] bytes.
pub(crate) fn room() -> BytesMut {
    take(&ROOMS).unwrap_or_else(|| BytesMut::with_capacity(ROOM))
}

/// A buffer to write from.
pub(crate) fn output() -> Vec<u8> {
    take(&OUTPUT).unwrap_or_else(|| Vec::with_capacity(FIRST))
}

/// Keeps a buffer that was read into, unless somebody still has a part of it. What it holds is forgotten.
pub(crate) fn keep_input(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(ROOM) {
        if buffer.capacity() <= 2 * ROOM {
            keep(&ROOMS, KEPT_ROOMS, buffer);
        }
    } else if buffer.try_reclaim(FIRST) && buffer.capacity() <= KEPT_BYTES {
        keep(&INPUT, KEPT, buffer);
    }
}

/// Keeps what a piece of a body was read into, if this was the last of its pieces.
pub(crate) fn keep_room(piece: Bytes) {
    if let Ok(buffer) = piece.try_into_mut() {
        keep_input(buffer);
    }
}

/// Keeps a buffer of which nothing is left to write.
pub(crate) fn keep_output(mut buffer: Vec<u8>) {
    buffer.clear();
    if (FIRST..=KEPT_BYTES).contains(&buffer.capacity()) {
        keep(&OUTPUT, KEPT, buffer);
    }
}

// A thread that is about to end has no shelves any more, and needs none.

fn take<T>(shelf: &'static LocalKey<Shelf<T>>) -> Option<T> {
    shelf.try_with(|kept| kept.try_borrow_mut().ok()?.pop()).ok().flatten()
}

fn keep<T>(shelf: &'static LocalKey<Shelf<T>>, most: usize, buffer: T) {
    let _ = shelf.try_with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut()
            && kept.len() < most
        {
            kept.push(buffer);
        }
    });
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

    #[test]
    fn the_room_of_a_body_comes_back_with_its_last_piece() {
        let mut buffer = room();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(&[b'x'; ROOM]);
        let (one, other) = (buffer.split_to(100).freeze(), buffer.split().freeze());
        keep_input(buffer);
        assert_ne!(room().as_ptr(), place, "two pieces are alive");
        keep_room(one);
        assert_ne!(room().as_ptr(), place, "one is");
        keep_room(other);
        let again = room();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (place, 0, ROOM));
    }

    #[test]
    fn what_is_too_small_or_too_large_is_not_kept() {
        keep_input(BytesMut::with_capacity(10));
        keep_room(Bytes::from_static(b"static"));
        keep_input(BytesMut::with_capacity(3 * ROOM));
        assert_eq!((input().capacity(), room().capacity()), (FIRST, ROOM));
    }
}
