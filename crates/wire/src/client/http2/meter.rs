//! What stands between hyper and an upstream's socket.
//!
//! hyper swallows any number of interim answers and answers any number of PING and SETTINGS frames; the message that a
//! stream carries may have no end, or the fields of a request, and it does not mind. [`Meter`] does.

use super::super::{MAX_INTERIM, MAX_INTERIM_BYTES};
use crate::http2::budget::Budget;
use crate::http2::filter::{Filter, Judge, Section, Verdict};
use crate::http2::frames::{
    DATA, END_STREAM, ENHANCE_YOUR_CALM, Frames, HEADERS, Head, PREFACE, Piece, RST_STREAM,
};
use bytes::Buf as _;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room for each read of the socket.
const READ: usize = 16 * 1024;

/// An answer that has not ended.
#[derive(Debug, Default)]
struct Answer {
    interim: u32,
    interim_bytes: usize,
    /// Its final head has come.
    final_head: bool,
}

/// What an upstream may say.
#[derive(Debug)]
struct Answers {
    budget: Budget,
    /// By stream, from the request's head to the answer's end.
    open: HashMap<u32, Answer>,
}

impl Answers {
    /// We send this frame.
    fn sends(&mut self, head: &Head) {
        self.budget.sends(head);
        match head.kind {
            HEADERS => {
                self.open.entry(head.stream).or_default();
            }
            RST_STREAM => {
                self.open.remove(&head.stream);
            }
            _ => {}
        }
    }
}

impl Judge for Answers {
    fn frame(&mut self, head: &Head) -> Result<(), u32> {
        if head.kind == DATA {
            if head.flags & END_STREAM != 0 {
                self.open.remove(&head.stream);
            }
            return Ok(());
        }
        if self.budget.admits(head) { Ok(()) } else { Err(ENHANCE_YOUR_CALM) }
    }

    fn begins(&mut self, _head: &Head) -> Result<(), u32> {
        Ok(())
    }

    fn resets(&mut self, stream: u32) -> bool {
        self.open.remove(&stream).is_none()
    }

    fn section(&mut self, section: &Section) -> Result<Verdict, u32> {
        let Section { stream, ends, length, block } = *section;
        let Some(answer) = self.open.get_mut(&stream) else { return Ok(Verdict::Pass) };
        let is_sound = if answer.final_head {
            // hyper drops them unseen.
            !block.pseudo
        } else {
            match block.status {
                // There is none in HTTP/2 (RFC 9113 §8.6).
                Some(101) => false,
                Some(100..=199) => {
                    answer.interim += 1;
                    answer.interim_bytes += length;
                    !ends && answer.interim <= MAX_INTERIM && answer.interim_bytes <= MAX_INTERIM_BYTES
                }
                _ => {
                    answer.final_head = true;
                    !block.asks
                }
            }
        };
        if ends {
            self.open.remove(&stream);
        }
        Ok(if is_sound { Verdict::Pass } else { Verdict::Malformed })
    }
}

/// An upstream's connection, as hyper sees it.
#[derive(Debug)]
pub(super) struct Meter<IO> {
    io: IO,
    incoming: Filter<Answers>,
    outgoing: Frames,
    heard: Arc<AtomicU64>,
}

impl<IO> Meter<IO> {
    /// Takes a connection on which nothing was said yet. `heard` counts the times that the other side was heard.
    pub(super) fn new(io: IO, heard: Arc<AtomicU64>) -> Self {
        let answers = Answers { budget: Budget::new(), open: HashMap::new() };
        Meter { io, incoming: Filter::new(answers, 0), outgoing: Frames::new(PREFACE), heard }
    }

    fn sent(&mut self, count: usize, bufs: &[IoSlice<'_>]) {
        let mut left = count;
        for buf in bufs {
            let mut bytes = buf.get(..left.min(buf.len())).unwrap_or_default();
            left -= bytes.len();
            while let Some(piece) = self.outgoing.next(&mut bytes) {
                if let Piece::Head(head) = piece {
                    self.incoming.judge.sends(&head);
                }
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Meter<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut scratch = [const { MaybeUninit::uninit() }; READ];
        while this.incoming.ready.is_empty() {
            let mut read = ReadBuf::uninit(&mut scratch);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.heard.fetch_add(1, Ordering::Relaxed);
            if let Err(code) = this.incoming.take(read.filled()) {
                tracing::debug!(code, "an upstream breaks HTTP/2");
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        let ready = &mut this.incoming.ready;
        let count = ready.len().min(buf.remaining());
        buf.put_slice(ready.get(..count).unwrap_or_default());
        ready.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Meter<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = polled {
            self.sent(count, &[IoSlice::new(buf)]);
        }
        polled
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
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
