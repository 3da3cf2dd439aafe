//! Room for the bodies of answers, handed on from one to the next: what was read and written a moment ago is in the
//! processor's cache, which fresh memory is not.

use bytes::{Bytes, BytesMut};
use std::cell::RefCell;

/// What is read of a body at once, and the head in front of it.
pub(crate) const ROOM: usize = 72 * 1024;

/// Kept by each thread. A body that passes as it comes is read and written before anything else is read; only bodies that
/// their clients take slowly keep their room for longer.
const KEPT: usize = 4;

thread_local! {
    static ROOMS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer of [`ROOM`] bytes.
pub(crate) fn take() -> BytesMut {
    let kept = ROOMS.try_with(|rooms| rooms.borrow_mut().pop()).ok().flatten();
    kept.unwrap_or_else(|| BytesMut::with_capacity(ROOM))
}

/// Takes a buffer back if it is such a one, and nobody else has a part of it. What it holds is forgotten.
pub(crate) fn give(mut buffer: BytesMut) {
    buffer.clear();
    if !buffer.try_reclaim(ROOM) {
        return;
    }
    // Where the thread is about to end, there is nobody to keep it for.
    let _ = ROOMS.try_with(|rooms| {
        let mut rooms = rooms.borrow_mut();
        if rooms.len() < KEPT {
            rooms.push(buffer);
        }
    });
}

/// Takes back what a piece of a body was read into, if this was the last of its pieces.
pub(crate) fn done(piece: Bytes) {
    if let Ok(buffer) = piece.try_into_mut() {
        give(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_body_comes_back_with_its_last_piece() {
        let mut buffer = take();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(&[b'x'; ROOM]);
        let (one, other) = (buffer.split_to(100).freeze(), buffer.split().freeze());
        give(buffer);
        assert_ne!(take().as_ptr(), place, "two pieces are alive");
        done(one);
        assert_ne!(take().as_ptr(), place, "one is");
        done(other);
        let again = take();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (place, 0, ROOM));
    }

    #[test]
    fn small_buffers_are_not_kept() {
        give(BytesMut::with_capacity(10));
        done(Bytes::from_static(b"static"));
        assert!(take().capacity() >= ROOM);
    }
}
