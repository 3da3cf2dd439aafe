//! What stands between hyper and the socket.
//!
//! [`Guard`] reads what hyper does not tell of: the heads of all frames, for a budget on those that ask for nothing, and
//! the header blocks, for what hyper forgets of them. What a request's head must know of these is appended to its block as
//! a field of ours ([`Note`]).

use super::note::Note;
use super::streams::{Order, Streams};
use crate::http2::budget::Budget;
use crate::http2::filter::{Filter, Judge, Section, Verdict};
use crate::http2::frames::{
    DATA, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS, Head, PREFACE, Piece, RST_STREAM,
    STREAM_CLOSED,
};
use crate::timer::Wait;
use bytes::Buf as _;
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
/// Requests of which the end is not known. Where we reset a stream, the client may go on for a while, or say no more.
const MAX_UNENDED: usize = 1024;

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

/// What a client may say.
#[derive(Debug)]
struct Requests {
    budget: Budget,
    streams: Streams,
    /// The last stream that the client opened.
    last: u32,
    /// The header block at hand opens that stream.
    opens: bool,
    /// Those whose request it has not ended.
    unended: BTreeSet<u32>,
}

impl Requests {
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
}

impl Judge for Requests {
    fn frame(&mut self, head: &Head) -> Result<(), u32> {
        if !self.budget.admits(head) {
            return Err(ENHANCE_YOUR_CALM);
        }
        match head.kind {
            DATA => self.goes_on(head),
            _ => Ok(()),
        }
    }

    fn begins(&mut self, head: &Head) -> Result<(), u32> {
        self.opens = head.stream > self.last;
        if !self.opens {
            return self.goes_on(head);
        }
        self.last = head.stream;
        if head.flags & END_STREAM == 0 {
            self.unended.insert(head.stream);
            if self.unended.len() > MAX_UNENDED {
                self.unended.pop_first();
            }
        }
        Ok(())
    }

    fn resets(&mut self, stream: u32) -> bool {
        self.streams.sent(stream, 0, true);
        self.unended.remove(&stream);
        // A request that its client takes back has no proper end, whatever came of it.
        false
    }

    fn section(&mut self, section: &Section) -> Result<Verdict, u32> {
        let Section { stream, block, .. } = *section;
        Ok(if !self.opens && block.pseudo {
            // hyper drops them unseen.
            Verdict::Malformed
        } else if !self.opens {
            Verdict::Pass
        } else if block.connect && block.length {
            // hyper ends the whole connection for it.
            Verdict::Malformed
        } else {
            Verdict::With(Note { stream, scheme: block.scheme, fragment: block.fragment }.to_literal())
        })
    }
}

/// A client's connection, as hyper sees it.
#[derive(Debug)]
pub(super) struct Guard<IO> {
    io: IO,
    incoming: Filter<Requests>,
    outgoing: Frames,
    patience: Patience,
    read_wait: Wait,
    write_wait: Wait,
    /// Its time is over; until when we listen no more.
    dismissed: Option<Pin<Box<Sleep>>>,
}

impl<IO> Guard<IO> {
    /// Takes a connection of which nothing was read yet, not even the preface.
    pub(super) fn new(io: IO, streams: Streams, patience: Patience) -> Self {
        let requests =
            Requests { budget: Budget::new(), streams, last: 0, opens: false, unended: BTreeSet::new() };
        Guard {
            io,
            incoming: Filter::new(requests, PREFACE),
            outgoing: Frames::new(0),
            patience,
            read_wait: Wait::default(),
            write_wait: Wait::default(),
            dismissed: None,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Guard<IO> {
    /// Says why the connection ends, if that can be said now: between two frames, and without waiting. hyper hears
    /// nothing more of it but the end.
    fn dismiss(&mut self, cx: &mut Context<'_>, code: u32) {
        self.dismissed = Some(Box::pin(tokio::time::sleep(DISMISSAL)));
        if !self.outgoing.is_between() {
            return;
        }
        let mut frame = Head { length: 8, kind: GOAWAY, flags: 0, stream: 0 }.to_bytes().to_vec();
        frame.extend_from_slice(&self.incoming.judge.last.to_be_bytes());
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
        if self.incoming.is_between() {
            self.read_wait.end();
            return Poll::Pending;
        }
        let patience = if self.incoming.kind() == DATA { self.patience.data } else { self.patience.frame };
        self.read_wait.poll_expired(cx, patience)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut scratch = [const { MaybeUninit::uninit() }; READ];
        while this.incoming.ready.is_empty() && this.dismissed.is_none() {
            if this.incoming.is_between()
                && let Poll::Ready(order) = this.incoming.judge.streams.poll_order(cx)
            {
                match order {
                    Order::Reset(stream) => this.incoming.reset(stream),
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
            if this.incoming.is_between() || this.incoming.kind() == DATA {
                this.read_wait.end();
            }
            if let Err(code) = this.incoming.take(read.filled()) {
                this.dismiss(cx, code);
            }
        }
        if this.dismissed.is_some() {
            return this.poll_gone(cx);
        }
        let ready = &mut this.incoming.ready;
        let count = ready.len().min(buf.remaining());
        buf.put_slice(ready.get(..count).unwrap_or_default());
        ready.advance(count);
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
                let Requests { budget, streams, .. } = &mut self.incoming.judge;
                budget.sends(&head);
                match head.kind {
                    DATA => streams.sent(head.stream, head.length, head.flags & END_STREAM != 0),
                    HEADERS => streams.sent(head.stream, 0, head.flags & END_STREAM != 0),
                    RST_STREAM => streams.sent(head.stream, 0, true),
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
        self.incoming.judge.streams.end();
    }
}
