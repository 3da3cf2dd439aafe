//! What stands between hyper and the socket.
//!
//! [`Guard`] reads what hyper does not tell of: the heads of all frames, for a budget on those that ask for nothing, and
//! the header blocks, for what hyper forgets of them. A block that is malformed in a way that hyper does not see is made
//! malformed in one that it does; what a request's head must know is appended to it as a field of ours ([`Note`]).

use super::budget::Budget;
use super::frames::{
    COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR,
    Frames, GOAWAY, HAS_PRIORITY, HEAD, HEADERS, Head, MAX_PAYLOAD, PADDED, PREFACE, PRIORITY,
    PROTOCOL_ERROR, PUSH_PROMISE, Piece, RST_STREAM, STREAM_CLOSED,
};
use super::hpack::Decoder;
use super::note::Note;
use super::streams::{Order, Streams};
use crate::timer::Wait;
use bytes::{Buf, BytesMut};
use std::collections::BTreeSet;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a dismissed client's bytes are still taken, so that our last words are not lost to a reset.
const DISMISSAL: Duration = Duration::from_millis(100);
/// Room for each read of the socket.
const READ: usize = 16 * 1024;
/// A header block in all its frames. hyper ends a connection for less; this bounds what is kept until it has.
const MAX_BLOCK: usize = 128 * 1024;
/// Requests of which the end is not known. Where we reset a stream, the client may go on for a while, or say no more.
const MAX_UNENDED: usize = 1024;
/// What makes any block malformed: a field of HTTP/1's connections (RFC 9113 §8.2.2), as a literal without indexing.
const MALFORMED: &[u8] = b"\x00\x0aconnection\x05close";

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From the first byte of a frame, or of a header block, to its last.
    pub(super) frame: Duration,
    /// Between bytes of a frame of DATA.
    pub(super) data: Duration,
    /// For taking anything that we send.
    pub(super) write: Duration,
}

/// A header block of which more is to come.
#[derive(Debug)]
struct Open {
    stream: u32,
    trailers: bool,
    /// It depends on itself (RFC 9113 §5.3.1).
    malformed: bool,
    block: Vec<u8>,
}

/// A client's connection, as hyper sees it.
#[derive(Debug)]
pub(super) struct Guard<IO> {
    io: IO,
    incoming: Frames,
    outgoing: Frames,
    /// The frame of a header block that is read now, held back until it is whole.
    held: Option<(Head, Vec<u8>)>,
    open: Option<Open>,
    decoder: Decoder,
    /// What hyper is to read next.
    ready: BytesMut,
    budget: Budget,
    streams: Streams,
    /// The last stream that the client opened.
    last: u32,
    /// Those whose request it has not ended.
    unended: BTreeSet<u32>,
    patience: Patience,
    read_wait: Wait,
    write_wait: Wait,
    /// The kind of frame that is read now.
    kind: u8,
    /// Its time is over; until when we listen no more.
    dismissed: Option<Pin<Box<Sleep>>>,
}

impl<IO> Guard<IO> {
    /// Takes a connection of which nothing was read yet, not even the preface.
    pub(super) fn new(io: IO, streams: Streams, patience: Patience) -> Self {
        Guard {
            io,
            incoming: Frames::new(PREFACE),
            outgoing: Frames::new(0),
            held: None,
            open: None,
            decoder: Decoder::new(),
            ready: BytesMut::new(),
            budget: Budget::new(),
            streams,
            last: 0,
            unended: BTreeSet::new(),
            patience,
            read_wait: Wait::default(),
            write_wait: Wait::default(),
            kind: DATA,
            dismissed: None,
        }
    }

    /// Takes what came in.
    ///
    /// # Errors
    /// The code with which the connection ends.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), u32> {
        while let Some(piece) = self.incoming.next(&mut bytes) {
            match piece {
                Piece::Passed(payload) => match &mut self.held {
                    Some((_, held)) => held.extend_from_slice(payload),
                    None => self.ready.extend_from_slice(payload),
                },
                Piece::Head(head) => self.take_head(head)?,
            }
            if self.incoming.is_whole()
                && let Some((head, payload)) = self.held.take()
            {
                self.take_block(head, payload)?;
            }
        }
        Ok(())
    }

    fn take_head(&mut self, head: Head) -> Result<(), u32> {
        if !self.budget.admits(&head) {
            return Err(ENHANCE_YOUR_CALM);
        }
        self.kind = head.kind;
        match head.kind {
            // A client cannot push (RFC 9113 §8.4), and its block would have to be read.
            PUSH_PROMISE => return Err(PROTOCOL_ERROR),
            HEADERS | CONTINUATION if head.length > MAX_PAYLOAD => return Err(FRAME_SIZE_ERROR),
            HEADERS | CONTINUATION => {
                self.held = Some((head, Vec::with_capacity(head.length as usize)));
                return Ok(());
            }
            RST_STREAM => {
                self.streams.sent(head.stream, 0, true);
                self.unended.remove(&head.stream);
            }
            DATA => self.goes_on(&head)?,
            _ => {}
        }
        self.emit(head, &[]);
        Ok(())
    }

    /// A frame of a request that began before.
    ///
    /// # Errors
    /// Where the client has ended that request itself (RFC 9113 §5.1).
    fn goes_on(&mut self, head: &Head) -> Result<(), u32> {
        // Stream 0 and those that never began are hyper's to refuse.
        if head.stream == 0 || head.stream > self.last {
            return Ok(());
        }
        let ends = head.flags & END_STREAM != 0;
        let is_open =
            if ends { self.unended.remove(&head.stream) } else { self.unended.contains(&head.stream) };
        if is_open { Ok(()) } else { Err(STREAM_CLOSED) }
    }

    fn begins(&mut self, head: &Head) {
        self.last = head.stream;
        if head.flags & END_STREAM == 0 {
            self.unended.insert(head.stream);
            if self.unended.len() > MAX_UNENDED {
                self.unended.pop_first();
            }
        }
    }

    fn emit(&mut self, head: Head, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(HEAD);
        head.write(&mut bytes);
        self.ready.extend_from_slice(&bytes);
        self.ready.extend_from_slice(payload);
    }

    /// Takes a frame of a header block. What is wrong with the frames themselves is left for hyper to see.
    fn take_block(&mut self, mut head: Head, payload: Vec<u8>) -> Result<(), u32> {
        let fragment = match (&mut self.open, head.kind) {
            (Some(open), CONTINUATION) if open.stream == head.stream => payload.as_slice(),
            (None, HEADERS) => {
                let (fragment, depends) = strip(&head, &payload).ok_or(PROTOCOL_ERROR)?;
                let (stream, trailers) = (head.stream, head.stream <= self.last);
                if trailers {
                    self.goes_on(&head)?;
                } else {
                    self.begins(&head);
                }
                self.open = Some(Open { stream, trailers, malformed: depends, block: Vec::new() });
                head.flags &= !(PADDED | HAS_PRIORITY);
                fragment
            }
            _ => return Err(PROTOCOL_ERROR),
        };
        let Some(open) = &mut self.open else { return Err(PROTOCOL_ERROR) };
        if open.block.len() + fragment.len() > MAX_BLOCK {
            return Err(ENHANCE_YOUR_CALM);
        }
        head.length = fragment.len() as u32;
        if head.flags & END_HEADERS == 0 {
            open.block.extend_from_slice(fragment);
            self.emit(head, fragment);
            return Ok(());
        }
        let Some(open) = self.open.take() else { return Err(PROTOCOL_ERROR) };
        let block = if open.block.is_empty() {
            self.decoder.read(fragment)
        } else {
            self.decoder.read(&[&open.block, fragment].concat())
        };
        let block = block.map_err(|_| COMPRESSION_ERROR)?;
        let malformed = open.malformed
            // In trailers hyper drops them unseen.
            || (open.trailers && block.pseudo)
            // hyper ends the whole connection for it.
            || (block.connect && block.length);
        let appendix = if malformed {
            MALFORMED.to_vec()
        } else if open.trailers {
            Vec::new()
        } else {
            Note { stream: open.stream, scheme: block.scheme, fragment: block.fragment }.to_literal()
        };
        self.emit_last(head, fragment, &appendix);
        Ok(())
    }

    /// Hands on the last frame of a block with something appended to the block, in a frame of its own if need be.
    fn emit_last(&mut self, mut head: Head, fragment: &[u8], appendix: &[u8]) {
        let length = fragment.len() + appendix.len();
        if length <= MAX_PAYLOAD as usize {
            head.length = length as u32;
            self.emit(head, fragment);
            self.ready.extend_from_slice(appendix);
            return;
        }
        head.flags &= !END_HEADERS;
        self.emit(head, fragment);
        let length = appendix.len() as u32;
        let last = Head { length, kind: CONTINUATION, flags: END_HEADERS, stream: head.stream };
        self.emit(last, appendix);
    }

    /// Has hyper reset a stream: by a frame for which it must (RFC 9113 §5.3.1). Only between frames.
    fn reset(&mut self, stream: u32) {
        let head = Head { length: 5, kind: PRIORITY, flags: 0, stream };
        let [a, b, c, d] = stream.to_be_bytes();
        self.emit(head, &[a, b, c, d, 0]);
    }
}

/// The header block's part of a HEADERS frame, and whether its stream depends on itself; `None` where there is more
/// padding than frame.
fn strip<'a>(head: &Head, mut payload: &'a [u8]) -> Option<(&'a [u8], bool)> {
    let mut padding = 0;
    if head.flags & PADDED != 0 {
        let (first, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*first), rest);
    }
    let mut depends = false;
    if head.flags & HAS_PRIORITY != 0 {
        let (priority, rest) = payload.split_first_chunk::<5>()?;
        let [a, b, c, d, _] = *priority;
        depends = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff == head.stream;
        payload = rest;
    }
    let fragment = payload.get(..payload.len().checked_sub(padding)?)?;
    Some((fragment, depends))
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Guard<IO> {
    /// Says why the connection ends, if that can be said now: between two frames, and without waiting. hyper hears
    /// nothing more of it but the end.
    fn dismiss(&mut self, cx: &mut Context<'_>, code: u32) {
        self.dismissed = Some(Box::pin(tokio::time::sleep(DISMISSAL)));
        if !self.outgoing.is_between() {
            return;
        }
        let mut frame = Vec::new();
        Head { length: 8, kind: GOAWAY, flags: 0, stream: 0 }.write(&mut frame);
        frame.extend_from_slice(&self.last.to_be_bytes());
        frame.extend_from_slice(&code.to_be_bytes());
        // A client that does not read learns of it by the connection's end.
        let _ = Pin::new(&mut self.io).poll_write(cx, &frame);
        let _ = Pin::new(&mut self.io).poll_flush(cx);
    }

    /// Listens a little longer to a client that was told to go.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [0; 1024];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            if self.dismissed.as_mut().is_none_or(|over| over.as_mut().poll(cx).is_ready())
                || ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)).is_err()
                || buf.filled().is_empty()
            {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
    }

    /// Whether the client takes too long for what it has begun to say.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.incoming.is_between() && self.open.is_none() {
            self.read_wait.end();
            return Poll::Pending;
        }
        let is_data = self.kind == DATA && self.open.is_none();
        let patience = if is_data { self.patience.data } else { self.patience.frame };
        self.read_wait.poll_expired(cx, patience)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut scratch = [const { MaybeUninit::uninit() }; READ];
        while this.ready.is_empty() && this.dismissed.is_none() {
            if this.incoming.is_between()
                && this.open.is_none()
                && let Poll::Ready(order) = this.streams.poll_order(cx)
            {
                match order {
                    Order::Reset(stream) => this.reset(stream),
                    Order::Dismiss => this.dismiss(cx, ENHANCE_YOUR_CALM),
                }
                break;
            }
            let mut read = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut this.io).poll_read(cx, &mut read) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    ready!(this.poll_slow(cx));
                    this.dismiss(cx, ENHANCE_YOUR_CALM);
                    break;
                }
            }
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Bytes of DATA are progress; of what must come whole the first one counts.
            if (this.incoming.is_between() && this.open.is_none()) || this.kind == DATA {
                this.read_wait.end();
            }
            if let Err(code) = this.take(read.filled()) {
                this.dismiss(cx, code);
            }
        }
        if this.dismissed.is_some() {
            return this.poll_gone(cx);
        }
        let count = this.ready.len().min(buf.remaining());
        buf.put_slice(this.ready.get(..count).unwrap_or_default());
        this.ready.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<IO> Guard<IO> {
    fn sent(&mut self, count: usize, bufs: &[IoSlice<'_>]) {
        let mut left = count;
        for buf in bufs {
            let mut bytes = buf.get(..left.min(buf.len())).unwrap_or_default();
            left -= bytes.len();
            while let Some(piece) = self.outgoing.next(&mut bytes) {
                let Piece::Head(head) = piece else { continue };
                self.budget.sends(&head);
                match head.kind {
                    DATA => self.streams.sent(head.stream, head.length, head.flags & END_STREAM != 0),
                    HEADERS => self.streams.sent(head.stream, 0, head.flags & END_STREAM != 0),
                    RST_STREAM => self.streams.sent(head.stream, 0, true),
                    _ => {}
                }
            }
        }
    }

    /// What hyper is to hear of an attempt to send: that of a client that takes nothing, not for ever.
    fn patient<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_wait.end();
            return polled;
        }
        ready!(self.write_wait.poll_expired(cx, self.patience.write));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = polled {
            self.sent(count, &[IoSlice::new(buf)]);
        }
        self.patient(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(count)) = polled {
            self.sent(count, bufs);
        }
        self.patient(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.patient(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO> Drop for Guard<IO> {
    fn drop(&mut self) {
        self.streams.end();
    }
}
