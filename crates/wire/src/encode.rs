//! Writing heads and chunk sizes. Messages are built anew: nothing is copied from a wire to a wire but the fields that pass,
//! and those together only where they came as the lines that they would be written as.

use portcullis_http::{Fields, Framing, RequestHead, ResponseHead, Upgrade, push_decimal, reason_phrase};
use std::io::Write as _;

/// A request's head for an upstream: its own target, `Host` first, and the framing of the body to come.
pub(crate) fn request(head: &RequestHead, framing: Framing, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method_text());
    out.push(b' ');
    out.extend_from_slice(head.raw_target());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(&head.fields, out);
    length(framing, out);
    if head.upgrade == Some(Upgrade::WebSocket) {
        out.extend_from_slice(SWITCH);
    } else if head.accepts_trailers {
        out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// What asks for WebSocket, and what grants it (RFC 6455 §4).
const SWITCH: &[u8] = b"connection: upgrade\r\nupgrade: websocket\r\n";

/// The head of the answer that ends HTTP on this connection.
pub(crate) fn switching(head: &ResponseHead, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    fields(&head.fields, out);
    out.extend_from_slice(SWITCH);
    out.extend_from_slice(b"\r\n");
}

/// The last chunk and the trailer section behind it (RFC 9112 §7.1.2).
pub(crate) fn trailers(trailers: &Fields, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    fields(trailers, out);
    out.extend_from_slice(b"\r\n");
}

/// A response's head for a client. `close` says that the connection ends with it.
pub(crate) fn response(head: &ResponseHead, framing: Framing, close: bool, out: &mut Vec<u8>) {
    if head.status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(u64::from(head.status), out);
        out.push(b' ');
        out.extend_from_slice(reason_phrase(head.status).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    fields(&head.fields, out);
    // An answer that can never have a body says no length (RFC 9110 §8.6).
    if head.status >= 200 && head.status != 204 {
        if framing == Framing::None && head.status != 304 {
            length(Framing::Length(0), out)
        } else {
            length(framing, out)
        }
    }
    if close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn fields(fields: &Fields, out: &mut Vec<u8>) {
    // What stands around them too, and the lines that follow.
    out.reserve(fields.size() + 4 * fields.len() + 128);
    fields.write_lines(out);
}

fn length(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            push_decimal(length, out);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None | Framing::Close => {}
    }
}

/// The line before a chunk's data.
pub(crate) fn chunk_size(size: usize, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{size:x}\r\n");
}
