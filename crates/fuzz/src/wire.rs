//! HTTP/1 heads, the chunked coding and the framing of whole streams.

use crate::pieces;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::rt::{Read, ReadBufCursor, Write};
use portcullis_http::{Fields, Framing, Rejection, RequestHead, ResponseHead, Target};
use portcullis_wire::chunked::Decoder;
use portcullis_wire::head::{BadResponse, HeadLimits, HeadReader};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub use crate::proxy::header as proxy;

/// Caps small enough to be met, and those of the product.
fn limits() -> [HeadLimits; 2] {
    [HeadLimits { bytes: 160, fields: 4, target: 24 }, HeadLimits::default()]
}

/// Name and value of each field.
fn list(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Reads from growing prefixes, as a connection does.
fn grow<T, E>(
    data: &[u8],
    round: u64,
    mut read: impl FnMut(&[u8]) -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let mut seen = 0;
    for piece in pieces(data, round) {
        seen += piece.len();
        match read(&data[..seen]) {
            Ok(None) => {}
            decided => return decided,
        }
    }
    read(&data[..seen])
}

/// A request's head: pieces do not matter, what is accepted reads the same when it is written and read again, and
/// httparse reads it so, too.
pub fn request(data: &[u8]) {
    for limits in limits() {
        let mut head = RequestHead::default();
        let whole = HeadReader::default().request(data, &limits, &mut head);
        for round in 0..3 {
            let (mut reader, mut again) = (HeadReader::default(), RequestHead::default());
            let outcome = grow(data, round, |bytes| reader.request(bytes, &limits, &mut again));
            assert_eq!(status(&outcome), status(&whole), "cut into pieces, the verdict is another");
            if let Ok(Some(_)) = whole {
                assert_eq!(list(&again.fields), list(&head.fields));
                assert_eq!(again.framing, head.framing);
            }
        }
        let Ok(Some(length)) = whole else { continue };
        assert!(length <= limits.bytes && head.fields.len() <= limits.fields);
        assert!(head.raw_target().len() <= limits.target);
        let text = written(&head);
        let mut again = RequestHead::default();
        let reread = HeadReader::default().request(&text, &HeadLimits::default(), &mut again);
        assert_eq!(status(&reread), Ok(Some(text.len())), "what was accepted is not, written again");
        assert_eq!((again.method_text(), again.raw_target()), (head.method_text(), head.raw_target()));
        assert_eq!((again.version, again.framing), (head.version, head.framing));
        assert_eq!(list(&again.fields), list(&head.fields));
        if head.raw_target().is_ascii() {
            agrees_with_httparse(&data[..length], &head);
        } else {
            // These are the target's to judge: refused unless a route takes them, and sent on percent-encoded then.
            assert!(Target::parse(head.raw_target()).is_err());
        }
    }
}

fn status(outcome: &Result<Option<usize>, Rejection>) -> Result<Option<usize>, u16> {
    outcome.as_ref().map(|length| *length).map_err(Rejection::status)
}

/// The head as a sender writes it.
fn written(head: &RequestHead) -> Vec<u8> {
    let mut out = [head.method_text(), head.raw_target(), head.version.as_str().as_bytes()].join(&b' ');
    out.extend(b"\r\n");
    for (name, value) in head.fields.iter() {
        out.extend([name, b": ", value, b"\r\n"].concat());
    }
    out.extend(b"\r\n");
    out
}

fn agrees_with_httparse(text: &[u8], head: &RequestHead) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(text), Ok(httparse::Status::Complete(text.len())));
    assert_eq!(theirs.method.unwrap().as_bytes(), head.method_text());
    assert_eq!(theirs.path.unwrap().as_bytes(), head.raw_target());
    same_fields(theirs.headers, &head.fields);
}

fn same_fields(theirs: &[httparse::Header<'_>], ours: &Fields) {
    let theirs: Vec<_> =
        theirs.iter().map(|field| (field.name.as_bytes().to_vec(), field.value.to_vec())).collect();
    assert_eq!(theirs, list(ours));
}

/// A response's head: pieces do not matter, and httparse reads what we accept as we do.
pub fn response(data: &[u8]) {
    for (limits, to_head) in limits().into_iter().zip([true, false]) {
        let mut head = ResponseHead::default();
        let whole = HeadReader::default().response(data, &limits, to_head, &mut head);
        for round in 0..3 {
            let (mut reader, mut again) = (HeadReader::default(), ResponseHead::default());
            let outcome: Result<_, BadResponse> =
                grow(data, round, |bytes| reader.response(bytes, &limits, to_head, &mut again));
            assert_eq!(outcome, whole, "cut into pieces, the verdict is another");
            if let Ok(Some(_)) = whole {
                assert_eq!(list(&again.fields), list(&head.fields));
                assert_eq!((again.status, again.framing), (head.status, head.framing));
            }
        }
        let Ok(Some(length)) = whole else { continue };
        assert!(length <= limits.bytes && head.fields.len() <= limits.fields);
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut theirs = httparse::Response::new(&mut fields);
        assert_eq!(theirs.parse(&data[..length]), Ok(httparse::Status::Complete(length)));
        assert_eq!(theirs.code, Some(head.status));
        same_fields(theirs.headers, &head.fields);
    }
}

/// What reading a chunked body came to.
#[derive(Debug, PartialEq)]
struct Decoded {
    payload: Vec<u8>,
    trailers: Vec<u8>,
    /// Where the body ended; `None` if it did not, or broke.
    end: Option<usize>,
    broken: bool,
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::default();
    let mut out = Decoded { payload: Vec::new(), trailers: Vec::new(), end: None, broken: false };
    let mut at = 0;
    'pieces: for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() && !decoder.is_done() {
            let Ok(step) = decoder.step(rest) else {
                out.broken = true;
                break 'pieces;
            };
            let used = step.skip + step.data;
            assert!(used > 0 && used <= rest.len(), "a step that takes nothing never ends");
            out.payload.extend(&rest[step.skip..used]);
            rest = &rest[used..];
            at += used;
        }
    }
    out.trailers = decoder.trailers().to_vec();
    out.end = decoder.is_done().then_some(at);
    out
}

/// The chunked coding: pieces do not matter, and the payload is what a plain reading of RFC 9112 §7.1 finds.
pub fn chunked(data: &[u8]) {
    let whole = decode([data]);
    for round in 0..3 {
        assert_eq!(decode(pieces(data, round)), whole);
    }
    if whole.end.is_some() {
        assert_eq!(plain_chunks(data).as_ref(), Some(&whole.payload));
    }
}

/// The payload of a chunked body that is whole.
fn plain_chunks(data: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut payload) = (data, Vec::new());
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let digits = std::str::from_utf8(rest[..line].split(|byte| *byte == b';').next()?).ok()?;
        let size = usize::from_str_radix(digits, 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(payload);
        }
        payload.extend(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// One message of a stream as its reader understood it.
#[derive(Debug, PartialEq)]
struct Message {
    method: String,
    target: String,
    /// Sorted by name in lower case, fields of one name in their order; without those of the framing.
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

fn sorted(fields: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fields.collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// A stream of requests, framed by us and by hyper: both see the same messages up to where one of them refuses. A
/// target that has no canonical form is refused by the gateway, too.
pub fn framing(data: &[u8]) {
    let ours = our_messages(data);
    let theirs = hyper_messages(data);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "framed differently");
    }
}

fn our_messages(data: &[u8]) -> Vec<Message> {
    let (mut rest, mut messages) = (data, Vec::new());
    loop {
        let mut head = RequestHead::default();
        let Ok(Some(length)) = HeadReader::default().request(rest, &HeadLimits::default(), &mut head) else {
            return messages;
        };
        if Target::parse(head.raw_target()).is_err() {
            return messages;
        }
        rest = &rest[length..];
        let body = match head.framing {
            Framing::Length(length) => {
                let Some(body) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
                    return messages;
                };
                rest = &rest[body.len()..];
                body.to_vec()
            }
            Framing::Chunked => {
                let decoded = decode([rest]);
                let Some(end) = decoded.end else { return messages };
                rest = &rest[end..];
                decoded.payload
            }
            Framing::None => Vec::new(),
            Framing::Close => panic!("a request does not end with its connection"),
        };
        let name = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase();
        messages.push(Message {
            method: String::from_utf8_lossy(head.method_text()).into_owned(),
            target: path_of(&String::from_utf8_lossy(head.raw_target())),
            fields: sorted(head.fields.iter().map(|(n, value)| (name(n), value.to_vec()))),
            body,
        });
    }
}

/// Path and query: of an absolute target, hyper's type of a URI writes the rest anew.
fn path_of(target: &str) -> String {
    if target.starts_with('/') { target.to_owned() } else { String::new() }
}

/// The client's side: all its bytes at once, then the end of the stream.
struct Client<'a>(&'a [u8]);

impl Read for Client<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, rest) = self.0.split_at(buffer.remaining().min(self.0.len()));
        buffer.put_slice(now);
        self.0 = rest;
        Poll::Ready(Ok(()))
    }
}

impl Write for Client<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn hyper_messages(data: &[u8]) -> Vec<Message> {
    let messages = Rc::new(RefCell::new(Vec::new()));
    let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let messages = Rc::clone(&messages);
        async move {
            let (head, body) = request.into_parts();
            // A body that breaks off is no message.
            let body = body.collect().await?.to_bytes().to_vec();
            let target = if head.uri.scheme().is_some() { String::new() } else { head.uri.to_string() };
            messages.borrow_mut().push(Message {
                method: head.method.to_string(),
                target: path_of(&target),
                fields: sorted(
                    head.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())),
                ),
                body,
            });
            Ok::<_, hyper::Error>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(Client(data), service);
    let mut connection = std::pin::pin!(connection);
    // Nothing here ever waits: a connection that is not over after so many turns never will be.
    for _ in 0..data.len() + 100 {
        if connection.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            break;
        }
    }
    messages.take()
}
