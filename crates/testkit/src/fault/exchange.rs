//! Faults of HTTP/1 exchanges: each request is taken whole, served by the origin, and its answer played by the script.

use super::script::{Act, FaultScript, Until};
use super::{Shared, hang, reset};
use crate::answer::chunk;
use crate::message::{BodyEnd, Buffered, body_end, field};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;

const END: &[u8] = b"\r\n\r\n";

pub(super) fn serve(shared: &Shared, near: &TcpStream) -> io::Result<()> {
    let mut client = Buffered::new(near);
    let mut origin: Option<Buffered<TcpStream>> = None;
    let mut served = 0;
    while let Some(head) = client.until(END)? {
        let script = shared.fault(served);
        served += 1;
        let script = script.as_deref();
        let body = match script {
            Some(script) if script.early => Vec::new(),
            _ => body(&mut client, &head)?,
        };
        let mut request = head;
        request.extend_from_slice(&body);
        if let Some(count) = script.and_then(|script| script.cut_request) {
            let mut far = shared.connect(None)?;
            far.write_all(&request[..count.min(request.len())])?;
            // Until the origin has given it up, so that it has not done so too late for whoever counts.
            far.shutdown(Shutdown::Write)?;
            let _ = far.read_to_end(&mut Vec::new());
        }
        let passes = script.is_none_or(|script| !script.unpassed && script.cut_request.is_none());
        if !passes {
            shared.withheld.fetch_add(1, Ordering::SeqCst);
        }
        let answer = if passes { ask(shared, &mut origin, &request)? } else { Vec::new() };
        let goes_on = match script {
            None => {
                let mut near = near;
                near.write_all(&answer)?;
                true
            }
            Some(script) => play(script, near, answer)?,
        };
        if !goes_on {
            return Ok(());
        }
    }
    Ok(())
}

/// A request's body as it is passed on.
fn body(client: &mut Buffered<&TcpStream>, head: &[u8]) -> io::Result<Vec<u8>> {
    let end = body_end(head, BodyEnd::None);
    if field(head, "expect").is_some() {
        let mut near = client.stream;
        near.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    if !client.body(end, &mut |data| body.extend_from_slice(data))? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if end == BodyEnd::Chunked {
        let mut chunks = if body.is_empty() { Vec::new() } else { chunk(&body) };
        chunks.extend(chunk(b""));
        return Ok(chunks);
    }
    Ok(body)
}

/// Has a request served; the answer, head and body.
fn ask(shared: &Shared, origin: &mut Option<Buffered<TcpStream>>, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut far = match origin.take() {
        Some(far) => far,
        None => Buffered::new(shared.connect(None)?),
    };
    far.stream.write_all(request)?;
    let mut answer = far.until(END)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let end = body_end(&answer, BodyEnd::None);
    assert!(end != BodyEnd::Chunked, "the origins behind a fault proxy say how long their answers are");
    let mut body = Vec::new();
    if !request.starts_with(b"HEAD ") && !far.body(end, &mut |data| body.extend_from_slice(data))? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    answer.extend_from_slice(&body);
    *origin = Some(far);
    Ok(answer)
}

/// Plays an answer; whether the connection goes on.
fn play(script: &FaultScript, mut near: &TcpStream, mut answer: Vec<u8>) -> io::Result<bool> {
    if script.length != 0 {
        answer = relabelled(&answer, script.length);
    }
    let head = answer.windows(END.len()).position(|window| window == END).map_or(0, |at| at + END.len());
    let mut sent = 0;
    // What follows each other without a pause leaves in one write: whether it is read at once must not be chance.
    let mut pending = Vec::new();
    for act in &script.acts {
        if !matches!(act, Act::Answer(_) | Act::Bytes(_)) {
            near.write_all(&std::mem::take(&mut pending))?;
        }
        match act {
            Act::Answer(until) => {
                let end = match until {
                    Until::Byte(count) => (*count).min(answer.len()),
                    Until::Head => head,
                    Until::End => answer.len(),
                };
                pending.extend_from_slice(&answer[sent.min(end)..end]);
                sent = end;
            }
            Act::Drip(size, gap) => {
                for piece in answer[sent..].chunks(*size) {
                    near.write_all(piece)?;
                    thread::sleep(*gap);
                }
                sent = answer.len();
            }
            Act::Bytes(bytes) => pending.extend_from_slice(bytes),
            Act::Frames(_) => panic!("no frames in HTTP/1"),
            Act::Pause(time) => thread::sleep(*time),
            Act::Close => {
                near.shutdown(Shutdown::Both)?;
                return Ok(false);
            }
            Act::Reset => {
                reset(near)?;
                return Ok(false);
            }
            Act::Hang => {
                hang(near);
                return Ok(false);
            }
            Act::HalfClose => {
                near.shutdown(Shutdown::Write)?;
                hang(near);
                return Ok(false);
            }
        }
    }
    near.write_all(&pending)?;
    // What was not read of a request would be taken for the next one.
    if script.early {
        near.shutdown(Shutdown::Both)?;
    }
    Ok(!script.early)
}

/// The answer with another `Content-Length`.
fn relabelled(answer: &[u8], by: i64) -> Vec<u8> {
    let text = field(answer, "content-length").expect("the origin says how long its answer is").to_owned();
    let wrong = text.parse::<i64>().expect("a length is a number") + by;
    let line = format!("content-length: {text}\r\n").into_bytes();
    let at = answer.windows(line.len()).position(|window| window.eq_ignore_ascii_case(&line));
    let at = at.expect("the field stands in the head");
    [&answer[..at], format!("content-length: {wrong}\r\n").as_bytes(), &answer[at + line.len()..]].concat()
}
