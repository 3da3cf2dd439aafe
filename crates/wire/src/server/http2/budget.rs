//! What a client may say besides requests: a budget on frames that cost us work and it nearly nothing.
//!
//! hyper bounds streams, header lists, CONTINUATION and empty DATA, but answers any number of PING, SETTINGS, PRIORITY
//! and WINDOW_UPDATE frames (CVE-2019-9512, -9513, -9515). [`Metered`] sits between hyper and the socket, reads
//! nothing but frame heads (RFC 9113 §4.1), and ends the connection with ENHANCE_YOUR_CALM once a client has said too
//! much without asking for anything.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Frames beyond requests and their bodies that a client may send at once.
const BURST: u32 = 500;
/// So many more in each of these.
const PERIOD: Duration = Duration::from_secs(10);
/// For so many bytes that we send it may say one frame more: who reads much opens windows often.
const BYTES_FOR_FRAME: u64 = 1024;
/// For each head of an answer as many more: clients open two windows and ping for answers of a few bytes too.
const FRAMES_FOR_ANSWER: u32 = 4;

/// How long a dismissed client's bytes are still taken, so that our last words are not lost to a reset.
const DISMISSAL: Duration = Duration::from_millis(100);

const HEAD: usize = 9;
const PREFACE: u64 = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
/// RFC 9113 §7.
const ENHANCE_YOUR_CALM: u32 = 11;

/// The heads of the frames in a stream of bytes that comes in any pieces.
#[derive(Debug)]
struct Frames {
    /// Bytes to pass over: the preface, or the rest of a payload.
    skip: u64,
    head: [u8; HEAD],
    have: usize,
}

impl Frames {
    fn new(skip: u64) -> Self {
        Frames { skip, head: [0; HEAD], have: 0 }
    }

    /// Calls `each` with kind, payload length and stream of every frame whose head these bytes complete.
    fn scan(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u32, u32)) {
        while !bytes.is_empty() {
            let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= passed as u64;
            bytes = bytes.get(passed..).unwrap_or_default();
            let wanted = self.head.get_mut(self.have..).unwrap_or_default();
            let taken = wanted.len().min(bytes.len());
            for (to, from) in wanted.iter_mut().zip(bytes) {
                *to = *from;
            }
            bytes = bytes.get(taken..).unwrap_or_default();
            self.have += taken;
            if self.have == HEAD {
                let [a, b, c, kind, _, d, e, f, g] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]);
                each(kind, length, u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff);
                (self.have, self.skip) = (0, u64::from(length));
            }
        }
    }

    /// Whether the bytes so far end with a whole frame.
    fn is_between(&self) -> bool {
        self.have == 0 && self.skip == 0
    }
}

/// What a client may still say.
#[derive(Debug)]
struct Budget {
    left: u32,
    since: Instant,
    /// Bytes sent that have earned nothing yet.
    sent: u64,
}

impl Budget {
    /// Takes one frame's worth; false when nothing is left.
    fn take(&mut self) -> bool {
        if self.left == 0 && self.since.elapsed() >= PERIOD {
            (self.left, self.since) = (BURST, Instant::now());
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }

    fn earn(&mut self, sent: usize, answers: u32) {
        self.sent += sent as u64;
        let earned = u32::try_from(self.sent / BYTES_FOR_FRAME).unwrap_or(u32::MAX);
        let earned = earned.saturating_add(answers.saturating_mul(FRAMES_FOR_ANSWER));
        self.sent %= BYTES_FOR_FRAME;
        // What was earned long ago is no leave to flood now.
        self.left = self.left.saturating_add(earned).min(BURST.max(self.left));
    }
}

/// A client's connection, as hyper sees it.
#[derive(Debug)]
pub(super) struct Metered<IO> {
    io: IO,
    incoming: Frames,
    outgoing: Frames,
    budget: Budget,
    /// The last stream that the client opened.
    last: u32,
    /// It has said too much; until when we listen no more.
    dismissed: Option<Pin<Box<Sleep>>>,
}

impl<IO> Metered<IO> {
    /// Takes a connection of which nothing was read yet, not even the preface.
    pub(super) fn new(io: IO) -> Self {
        Metered {
            io,
            incoming: Frames::new(PREFACE),
            outgoing: Frames::new(0),
            budget: Budget { left: BURST, since: Instant::now(), sent: 0 },
            last: 0,
            dismissed: None,
        }
    }

    /// Counts what came in; false when it was too much.
    fn admit(&mut self, bytes: &[u8]) -> bool {
        let (budget, last) = (&mut self.budget, &mut self.last);
        let mut admitted = true;
        self.incoming.scan(bytes, |kind, _, stream| match kind {
            HEADERS => *last = stream.max(*last),
            // hyper counts those that carry too little.
            DATA => {}
            _ => admitted &= budget.take(),
        });
        admitted
    }
}

impl<IO: AsyncWrite + Unpin> Metered<IO> {
    /// Says why the connection ends, if that can be said now: between two frames, and without waiting.
    fn dismiss(&mut self, cx: &mut Context<'_>) {
        if !self.outgoing.is_between() {
            return;
        }
        let mut frame = vec![0, 0, 8, GOAWAY, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&self.last.to_be_bytes());
        frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        // A client that does not read learns of it by the connection's end.
        let _ = Pin::new(&mut self.io).poll_write(cx, &frame);
        let _ = Pin::new(&mut self.io).poll_flush(cx);
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.dismissed.is_none() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            if self.admit(buf.filled().get(before..).unwrap_or_default()) {
                return Poll::Ready(Ok(()));
            }
            self.dismiss(cx);
            self.dismissed = Some(Box::pin(tokio::time::sleep(DISMISSAL)));
        }
        // hyper hears nothing more of it but the end.
        loop {
            let over = self.dismissed.as_mut().is_none_or(|over| over.as_mut().poll(cx).is_ready());
            buf.set_filled(before);
            if over {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> Metered<IO> {
    fn sent(&mut self, count: usize, bufs: &[io::IoSlice<'_>]) {
        let (mut left, mut answers) = (count, 0);
        for buf in bufs {
            let taken = left.min(buf.len());
            let each = |kind, _, _| answers += u32::from(kind == HEADERS);
            self.outgoing.scan(buf.get(..taken).unwrap_or_default(), each);
            left -= taken;
        }
        self.budget.earn(count, answers);
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = polled {
            self.sent(count, &[io::IoSlice::new(buf)]);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
    }

    fn heads(pieces: &[&[u8]]) -> Vec<(u8, u32, u32)> {
        let (mut frames, mut found) = (Frames::new(PREFACE), Vec::new());
        for piece in pieces {
            frames.scan(piece, |kind, length, stream| found.push((kind, length, stream)));
        }
        assert!(frames.is_between());
        found
    }

    proptest! {
        #[test]
        fn frames_are_found_in_any_pieces(
            sent in prop::collection::vec((any::<u8>(), 0u32..0x7fff_ffff, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut bytes = vec![b'P'; 24];
            for (kind, stream, payload) in &sent {
                bytes.extend(frame(*kind, *stream, payload));
            }
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let expected: Vec<_> = sent
                .iter()
                .map(|(kind, stream, payload)| (*kind, u32::try_from(payload.len()).unwrap(), *stream))
                .collect();
            prop_assert_eq!(heads(&pieces), expected);
        }
    }

    #[test]
    fn frames_that_ask_for_nothing_are_few_unless_we_send() {
        let ping = frame(6, 0, &[0; 8]);
        let mut metered = Metered::new(());
        assert!(metered.admit(&[b'P'; 24]));
        for _ in 0..BURST {
            assert!(metered.admit(&ping));
        }
        assert!(!metered.admit(&ping));
        metered.budget.earn(3 * 1024, 0);
        assert!((0..3).all(|_| metered.admit(&ping)) && !metered.admit(&ping));
        metered.budget.earn(13, 1);
        assert!((0..4).all(|_| metered.admit(&ping)) && !metered.admit(&ping));
        // Requests and their bodies are no part of it.
        assert!(
            (0..2000)
                .all(|_| metered.admit(&frame(HEADERS, 1, b"x")) && metered.admit(&frame(DATA, 1, b"x")))
        );
    }
}
