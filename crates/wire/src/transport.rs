//! A socket with one buffer in, one out, and a deadline on each.

use crate::SinkError;
use crate::buffers;
use crate::chunked::Decoder;
use crate::encode;
use crate::head::read_trailers;
use crate::stream::IoStream;
use crate::timer::{Stall, Wait};
use bytes::{Buf, Bytes, BytesMut};
use portcullis_http::{BodyError, Frame, Framing};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Deadlines on the body of one side.
#[derive(Clone, Debug)]
pub struct BodyTimeouts {
    /// The longest wait for the next bytes.
    pub idle: Duration,
    /// The longest wait for the other side to take `write_least` bytes.
    pub write_stall: Duration,
    /// Bytes that it must take within that time; at least one.
    pub write_least: u64,
    /// Bytes of a body that are handed to the kernel at once where it had no room for more before. It takes a whole piece
    /// when it has room for some of it, so that with small ones it shows sooner that the other side takes something.
    pub write_piece: usize,
    /// Bytes a second that must come on average once `rate_grace` is over; 0 asks for none.
    pub min_rate: u32,
    /// How long a body may be slower than that.
    pub rate_grace: Duration,
}

impl Default for BodyTimeouts {
    /// 30 s for the next bytes, 500 bytes a second after 10 s; 2400 bytes to be taken in 10 s, in pieces of 16 KiB from the
    /// first wait on.
    fn default() -> Self {
        BodyTimeouts {
            idle: Duration::from_secs(30),
            write_stall: Duration::from_secs(10),
            write_least: 2400,
            write_piece: 16 * 1024,
            min_rate: 500,
            rate_grace: Duration::from_secs(10),
        }
    }
}

/// A wait that nobody minds: where bytes of another protocol pass both ways, whoever drives both has one deadline.
const UNWATCHED: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl BodyTimeouts {
    /// Both directions may be silent; what is sent must still be taken.
    pub(crate) fn of_tunnel(&self) -> Self {
        BodyTimeouts { idle: UNWATCHED, min_rate: 0, ..self.clone() }
    }

    /// How long a wait may last for a sender of whom `received` bytes have come in `waited` of waiting: the idle
    /// limit, or less where it has been slower than it may be. Time in which nobody asked for its bytes does not
    /// count against it.
    pub(crate) fn patience(&self, received: u64, waited: Duration) -> Duration {
        match received.checked_div(u64::from(self.min_rate)) {
            None => self.idle,
            Some(earned) => {
                self.idle.min((self.rate_grace + Duration::from_secs(earned)).saturating_sub(waited))
            }
        }
    }
}

/// What is left to read of the incoming body.
#[derive(Debug)]
enum Incoming {
    Done,
    Length(u64),
    Chunked(Box<Decoder>),
    UntilClose,
}

/// What is left to send of the outgoing body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outgoing {
    Done,
    Length(u64),
    Chunked,
    UntilClose,
    /// Pushed frames go nowhere: the message has no body.
    Discard,
}

/// Payload up to this size is copied behind what waits to be written; more is written from where it is.
const COPY_BELOW: usize = 8 * 1024;
/// Room asked for before each read of a body.
const BODY_READ: usize = 64 * 1024;
const _: () = assert!(buffers::ROOM > BODY_READ);
/// Windows in which what TLS holds back must have left.
const FLUSH_WINDOWS: u32 = 3;
/// Room for the beginning of a head, which is all of most.
const HEAD_FIRST: usize = buffers::FIRST;
/// Room asked for before each read of what is discarded.
const DISCARD_READ: usize = 8 * 1024;

/// A connection that carries HTTP/1 messages both ways.
#[derive(Debug)]
pub struct Transport<IO> {
    io: IO,
    pub(crate) input: BytesMut,
    incoming: Incoming,
    read_wait: Wait,
    received: u64,
    waited: Duration,
    pub(crate) out: Vec<u8>,
    written: usize,
    payload: Bytes,
    after_payload: &'static [u8],
    outgoing: Outgoing,
    write_wait: Stall,
    /// The kernel had no room for some of this message.
    waited_to_write: bool,
    /// The other side did not take what was written.
    stalled: bool,
    /// All is written, some of it still waits behind TLS.
    flushing: bool,
    /// What comes in cannot be read any further. An answer can still be written.
    unreadable: bool,
    /// What goes out cannot be ended properly.
    broken: bool,
    pub(crate) timeouts: BodyTimeouts,
}

impl Transport<IoStream> {
    /// Whether the other side has neither said anything nor ended the connection.
    pub(crate) fn is_quiet(&mut self) -> bool {
        // Over TLS there may be something behind the last record that was read.
        let pending = self.poll_fill_head(&mut Context::from_waker(Waker::noop())).is_pending();
        pending && self.io.is_quiet()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Transport<IO> {
    /// Takes a connection over; `input` holds what was read of it already.
    pub fn new(io: IO, input: BytesMut, timeouts: BodyTimeouts) -> Self {
        Transport {
            io,
            input,
            incoming: Incoming::Done,
            read_wait: Wait::default(),
            received: 0,
            waited: Duration::ZERO,
            out: Vec::new(),
            written: 0,
            payload: Bytes::new(),
            after_payload: b"",
            outgoing: Outgoing::Done,
            write_wait: Stall::default(),
            waited_to_write: false,
            stalled: false,
            flushing: false,
            unreadable: false,
            broken: false,
            timeouts,
        }
    }

    pub(crate) fn into_parts(self) -> (IO, BytesMut) {
        (self.io, self.input)
    }

    /// Reads more bytes into the input buffer; `Ok(0)` at the end of the stream.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.input.reserve(room);
        tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input)
    }

    /// Reads what has come of an answer: often all of it, head and body, so that it needs the room that a body needs.
    pub(crate) fn poll_fill_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.input.is_empty() {
            return self.poll_fill_head(cx);
        }
        let mut room = buffers::room();
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, &mut room);
        if room.len() > HEAD_FIRST {
            self.input = room;
        } else {
            self.input.extend_from_slice(&room);
            buffers::keep_input(room);
        }
        read
    }

    pub(crate) fn poll_fill_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            return self.poll_first_bytes(cx);
        }
        // Thousands of connections may have begun a head and not ended it: room grows with what came.
        let full = self.input.len();
        self.poll_fill(cx, if full == self.input.capacity() { full } else { 1 })
    }

    /// Reads the beginning of a head; no buffer is taken before there is one.
    fn poll_first_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() > 0 && self.input.try_reclaim(HEAD_FIRST) {
            return tokio_util::io::poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input);
        }
        let mut room = [const { MaybeUninit::uninit() }; HEAD_FIRST];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        if !read.filled().is_empty() {
            self.input = buffers::input();
        }
        self.input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Gives up the buffers of a connection that may rest for long.
    pub(crate) fn rest(&mut self) {
        if self.input.is_empty() && self.input.capacity() > 0 {
            buffers::keep_input(std::mem::take(&mut self.input));
        }
        if self.out.is_empty() && self.out.capacity() > 0 {
            buffers::keep_output(std::mem::take(&mut self.out));
        }
    }

    /// What a head is written to.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = buffers::output();
        }
        &mut self.out
    }

    // ---- the incoming body

    /// A body with this framing follows in the input.
    pub(crate) fn expect_body(&mut self, framing: Framing) {
        self.incoming = match framing {
            Framing::None | Framing::Length(0) => Incoming::Done,
            Framing::Length(length) => Incoming::Length(length),
            Framing::Chunked => Incoming::Chunked(Box::default()),
            Framing::Close => Incoming::UntilClose,
        };
        self.received = 0;
        self.waited = Duration::ZERO;
    }

    /// From here on both directions carry bytes of another protocol, until either ends.
    pub(crate) fn switch(&mut self) {
        self.expect_body(Framing::Close);
        self.announce_body(Framing::Close, true);
        self.timeouts = self.timeouts.of_tunnel();
    }

    /// Whether the incoming body was read to its end.
    pub(crate) fn body_done(&self) -> bool {
        matches!(self.incoming, Incoming::Done)
    }

    /// Whether reading the incoming body failed.
    pub(crate) fn body_failed(&self) -> bool {
        self.unreadable
    }

    /// Bytes of the incoming body still to come, where that is known.
    pub(crate) fn body_left(&self) -> Option<u64> {
        match self.incoming {
            Incoming::Done => Some(0),
            Incoming::Length(left) => Some(left),
            Incoming::Chunked(_) | Incoming::UntilClose => None,
        }
    }

    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            match self.decode() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.body_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => {
                    self.unreadable = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            if self.input.is_empty() && !self.input.try_reclaim(BODY_READ) {
                self.input = buffers::room();
            }
            match self.poll_fill(cx, BODY_READ) {
                Poll::Ready(Ok(0)) if matches!(self.incoming, Incoming::UntilClose) => {
                    self.incoming = Incoming::Done
                }
                Poll::Ready(Ok(read)) if read > 0 => {
                    self.waited += self.read_wait.lap();
                    self.received += read as u64;
                }
                Poll::Ready(_) => {
                    self.unreadable = true;
                    return Poll::Ready(Some(Err(BodyError::Incomplete)));
                }
                Poll::Pending => {
                    let limit = self.timeouts.patience(self.received, self.waited);
                    ready!(self.read_wait.poll_expired(cx, limit));
                    self.unreadable = true;
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
            }
        }
    }

    /// The next frame that the input already holds.
    fn decode(&mut self) -> Result<Option<Frame>, BodyError> {
        match &mut self.incoming {
            Incoming::Done => Ok(None),
            _ if self.input.is_empty() => Ok(None),
            Incoming::UntilClose => Ok(Some(Frame::Data(self.input.split().freeze()))),
            Incoming::Length(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
                *left -= take as u64;
                if *left == 0 {
                    self.incoming = Incoming::Done;
                }
                Ok(Some(Frame::Data(self.input.split_to(take).freeze())))
            }
            Incoming::Chunked(decoder) => {
                let step = decoder.step(&self.input)?;
                self.input.advance(step.skip);
                if step.data > 0 {
                    return Ok(Some(Frame::Data(self.input.split_to(step.data).freeze())));
                }
                if !decoder.is_done() {
                    return Ok(None);
                }
                let trailers = read_trailers(decoder.trailers()).ok_or(BodyError::Malformed)?;
                self.incoming = Incoming::Done;
                Ok((!trailers.is_empty()).then_some(Frame::Trailers(trailers)))
            }
        }
    }

    // ---- the outgoing message

    /// A body with this framing will be pushed, behind a head that the caller has put into `out`.
    pub(crate) fn announce_body(&mut self, framing: Framing, allowed: bool) {
        self.waited_to_write = false;
        self.outgoing = match framing {
            _ if !allowed => Outgoing::Discard,
            Framing::None | Framing::Length(0) => Outgoing::Done,
            Framing::Length(length) => Outgoing::Length(length),
            Framing::Chunked => Outgoing::Chunked,
            Framing::Close => Outgoing::UntilClose,
        };
    }

    pub(crate) fn push_frame(&mut self, frame: Frame) {
        let data = match frame {
            Frame::Data(data) => data,
            Frame::Trailers(fields) => {
                // Only the chunked coding has a place for them. Nothing waits to be written now but a head.
                if self.outgoing == Outgoing::Chunked {
                    encode::trailers(&fields, &mut self.out);
                    self.outgoing = Outgoing::Done;
                }
                return;
            }
        };
        if data.is_empty() {
            // As a chunk it would be the last one.
            return;
        }
        match self.outgoing {
            Outgoing::Discard => return,
            Outgoing::Done => {
                self.broken = true;
                return;
            }
            Outgoing::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(left) => self.outgoing = Outgoing::Length(left),
                None => {
                    self.broken = true;
                    return;
                }
            },
            Outgoing::Chunked => encode::chunk_size(data.len(), &mut self.out),
            Outgoing::UntilClose => {}
        }
        let end: &[u8] = if self.outgoing == Outgoing::Chunked { b"\r\n" } else { b"" };
        if data.len() < COPY_BELOW {
            self.out.extend_from_slice(&data);
            self.out.extend_from_slice(end);
        } else {
            self.payload = data;
            self.after_payload = if end.is_empty() { b"" } else { b"\r\n" };
        }
    }

    pub(crate) fn finish_body(&mut self) {
        match (self.outgoing, self.after_payload) {
            (Outgoing::Chunked, b"") => self.out.extend_from_slice(b"0\r\n\r\n"),
            (Outgoing::Chunked, b"\n") => self.after_payload = b"\n0\r\n\r\n",
            (Outgoing::Chunked, _) => self.after_payload = b"\r\n0\r\n\r\n",
            (Outgoing::Length(left), _) if left > 0 => self.broken = true,
            _ => {}
        }
        self.outgoing = Outgoing::Done;
    }

    /// Whether the outgoing message was ended properly.
    pub(crate) fn sent_all(&self) -> bool {
        self.outgoing == Outgoing::Done && !self.broken && self.unsent() == 0
    }

    /// Whether the other side took too little for too long.
    pub(crate) fn has_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether some of the outgoing message is still to be sent, now or when it will have been pushed.
    pub(crate) fn is_sending(&self) -> bool {
        !self.broken && (self.outgoing != Outgoing::Done || self.unsent() > 0)
    }

    /// Whether nothing but a head, none of it written yet, waits.
    pub(crate) fn holds_head_only(&self) -> bool {
        self.written == 0
            && self.payload.is_empty()
            && self.after_payload.is_empty()
            && self.out.len() < COPY_BELOW
            && !self.broken
    }

    pub(crate) fn break_off(&mut self) {
        self.broken = true;
    }

    fn unsent(&self) -> usize {
        self.out.len() - self.written + self.payload.len() + self.after_payload.len()
    }

    /// Writes all that waits.
    pub(crate) fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        if self.broken {
            return Poll::Ready(Err(SinkError::Length));
        }
        while self.unsent() > 0 {
            let head = self.out.get(self.written..).unwrap_or_default();
            let (payload, after) = match self.payload.get(..self.timeouts.write_piece) {
                Some(piece) if self.waited_to_write && piece.len() < self.payload.len() => (piece, &b""[..]),
                _ => (&self.payload[..], self.after_payload),
            };
            let io = Pin::new(&mut self.io);
            let polled = if payload.is_empty() && after.is_empty() {
                io.poll_write(cx, head)
            } else {
                io.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(payload), IoSlice::new(after)])
            };
            match polled {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.write_wait.took(count, self.timeouts.write_least);
                    self.wrote(count);
                }
                Poll::Ready(_) => {
                    self.broken = true;
                    return Poll::Ready(Err(SinkError::Closed));
                }
                Poll::Pending => {
                    self.waited_to_write = true;
                    ready!(self.write_wait.poll_expired(cx, self.timeouts.write_stall));
                    (self.broken, self.stalled) = (true, true);
                    return Poll::Ready(Err(SinkError::Timeout));
                }
            }
        }
        if !self.flushing {
            self.write_wait.end();
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, count: usize) {
        let head = count.min(self.out.len() - self.written);
        self.written += head;
        let payload = (count - head).min(self.payload.len());
        self.payload.advance(payload);
        if self.payload.is_empty() {
            buffers::keep_room(std::mem::take(&mut self.payload));
        }
        let after = count - head - payload;
        self.after_payload = self.after_payload.get(after..).unwrap_or_default();
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    /// All that was written reaches the network: TLS holds back records otherwise. How much of them the other side
    /// takes does not show, so that they get more time than a window that counts.
    pub(crate) fn poll_flush_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        ready!(self.poll_write_out(cx))?;
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.flushing = false;
                self.write_wait.end();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => {
                self.broken = true;
                Poll::Ready(Err(SinkError::Closed))
            }
            Poll::Pending => {
                self.flushing = true;
                ready!(self.write_wait.poll_expired(cx, self.timeouts.write_stall * FLUSH_WINDOWS));
                (self.broken, self.stalled) = (true, true);
                Poll::Ready(Err(SinkError::Timeout))
            }
        }
    }

    /// Whether all of both messages has passed, and the event loop has not heard of anything behind them, be it the end.
    pub(crate) fn is_done(&mut self) -> bool {
        self.body_done()
            && self.sent_all()
            && self.input.is_empty()
            && self.poll_fill_head(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Ends our side, then reads and discards for a moment so that the last answer is not lost to a reset.
    pub(crate) async fn linger(&mut self, patience: Duration, most: usize) {
        let (mut left, mut ended) = (most, false);
        let discard = poll_fn(|cx| {
            if !ended && ready!(Pin::new(&mut self.io).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            ended = true;
            loop {
                self.input.clear();
                match ready!(self.poll_fill(cx, DISCARD_READ)) {
                    Ok(read) if read > 0 && read < left => left -= read,
                    _ => return Poll::Ready(()),
                }
            }
        });
        // Too slow or not, the connection is over.
        let _ = tokio::time::timeout(patience, discard).await;
    }
}

impl Transport<IoStream> {
    /// Ends our side; the connection is not used again.
    pub(crate) async fn close(&mut self, patience: Duration) {
        // In clear the close of the descriptor says it.
        if let IoStream::Plain(_) = self.io {
            return;
        }
        let shutdown = poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx));
        // Too slow or not, the connection is over.
        let _ = tokio::time::timeout(patience, shutdown).await;
    }

    /// Ends the connection in a way that cannot be taken for a proper end.
    pub(crate) fn reset(&self) {
        let socket = match &self.io {
            IoStream::Plain(io) => io,
            IoStream::Tls(io) => io.get_ref().0,
        };
        // A socket that refuses this is closed all the same.
        let _ = socket.set_zero_linger();
    }
}
