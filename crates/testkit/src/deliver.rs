//! Sending a case of a corpus in pieces and judging the answers.

use crate::corpus::{Case, Closing};
use crate::{Forwarded, RawClient, Response};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What follows a case on its connection: refused messages must swallow it, accepted ones must leave it to be read.
pub const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n";

/// How bytes are cut into writes.
#[derive(Clone, Debug)]
pub enum Pieces {
    /// One write.
    Whole,
    /// So many bytes a write.
    Each(usize),
    /// Cut before each of these places, in ascending order.
    At(Vec<usize>),
}

impl Pieces {
    fn of<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        match self {
            Pieces::Whole => vec![bytes],
            Pieces::Each(size) => bytes.chunks(*size).collect(),
            Pieces::At(places) => {
                let ends = places.iter().copied().chain([bytes.len()]);
                let mut start = 0;
                ends.map(|end| {
                    &bytes[std::mem::replace(&mut start, end.min(bytes.len()))..end.min(bytes.len())]
                })
                .collect()
            }
        }
    }
}

/// A loopback address that no other call gave: `X-Real-IP` says by it whose request arrived.
#[must_use]
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [_, a, b, c] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, a + 1, b, c)
}

fn send(server: SocketAddr, from: Ipv4Addr, case: &Case, pieces: &Pieces) -> Result<RawClient, String> {
    let mut client = RawClient::connect_from(IpAddr::V4(from), server).map_err(|error| error.to_string())?;
    let mut bytes = case.bytes.clone();
    if case.closing == Closing::MustNot || (case.is_refused() && case.closing == Closing::Must) {
        bytes.extend_from_slice(PROBE);
    }
    for piece in pieces.of(&bytes) {
        // A server that has said its last word may close before it has read everything.
        if client.send(piece).is_err() {
            break;
        }
        if !matches!(pieces, Pieces::Whole) {
            // Long enough for the server to read it by itself, mostly.
            thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(client)
}

/// Sends the case from this address and reads as many answers as it and its probe should get, or as come.
///
/// # Errors
/// When there is no connection.
pub fn converse(
    server: SocketAddr,
    from: Ipv4Addr,
    case: &Case,
    pieces: &Pieces,
) -> Result<Vec<Response>, String> {
    let mut client = send(server, from, case, pieces)?;
    let to_head = case.answers.iter().map(|expected| expected.to_head);
    let probe = (case.closing == Closing::MustNot).then_some(false);
    Ok(to_head.chain(probe).map_while(|to_head| read(&mut client, to_head).ok()).collect())
}

/// Sends the case from this address and reads what is answered.
///
/// # Errors
/// With what came instead of what the case expects.
pub fn deliver(
    server: SocketAddr,
    from: Ipv4Addr,
    case: &Case,
    pieces: &Pieces,
) -> Result<Vec<Response>, String> {
    let mut client = send(server, from, case, pieces)?;
    let mut answers = Vec::new();
    for expected in &case.answers {
        let answer =
            read(&mut client, expected.to_head).map_err(|error| format!("{}: {error}", said(&answers)))?;
        let fits = expected.statuses.contains(&answer.status());
        answers.push(answer);
        if !fits {
            return Err(said(&answers));
        }
    }
    let last = answers.last().map_or(0, Response::status);
    if last == 101 {
        return Ok(answers);
    }
    if case.is_refused() && last >= 400 {
        refusal(answers.last(), case.closing).map_err(|why| format!("{} {why}", said(&answers)))?;
    }
    match case.closing {
        Closing::Must if !client.is_closed() => return Err(format!("{}, not closed", said(&answers))),
        Closing::MustNot => {
            let probe =
                read(&mut client, false).map_err(|error| format!("{}, probe: {error}", said(&answers)))?;
            if probe.status() != 200 {
                return Err(format!("{}, probe {}", said(&answers), probe.status()));
            }
        }
        _ => {}
    }
    Ok(answers)
}

fn said(answers: &[Response]) -> String {
    format!("answered {:?}", answers.iter().map(Response::status).collect::<Vec<_>>())
}

fn read(client: &mut RawClient, to_head: bool) -> std::io::Result<Response> {
    if to_head {
        client.head().map(|head| Response { head, body: Vec::new(), complete: true })
    } else {
        client.response_or_switch()
    }
}

/// What a refusal looks like: problem details, whole, and nothing behind them.
fn refusal(answer: Option<&Response>, closing: Closing) -> Result<(), String> {
    let Some(answer) = answer else { return Ok(()) };
    match answer.header("content-type") {
        Some("application/problem+json") if answer.complete => match (closing, answer.header("connection")) {
            (Closing::Must, Some("close")) | (Closing::MustNot | Closing::May, _) => Ok(()),
            (_, said) => Err(format!("does not say that it closes: {said:?}")),
        },
        other => Err(format!("is no problem document: {other:?}")),
    }
}

/// Whether what arrived behind the gateway is what the case says.
///
/// # Errors
/// With what arrived instead.
pub fn arrived(case: &Case, seen: &[Forwarded]) -> Result<(), String> {
    let probes = usize::from(case.closing == Closing::MustNot);
    let lines: Vec<String> =
        seen.iter().map(|one| format!("{} {} {}", one.method, one.target, one.body.len())).collect();
    if seen.len() != case.forwarded() + probes {
        return Err(format!("{} requests arrived for {}: {lines:?}", seen.len(), case.forwarded() + probes));
    }
    let own = &seen[..seen.len() - probes];
    for (one, expected) in own.iter().zip(&case.arrives) {
        let same = one.method == expected.method
            && one.target == expected.target
            && expected.length.is_none_or(|length| length == one.body.len());
        if !same {
            return Err(format!("{expected:?} should have arrived: {lines:?}"));
        }
    }
    if !case.arrives.is_empty() && case.arrives.len() != own.len() {
        return Err(format!("{} requests are described: {lines:?}", case.arrives.len()));
    }
    for (name, value) in &case.has {
        let has = own.last().and_then(|one| one.field(name));
        if has.as_deref() != Some(value) {
            return Err(format!("{name} should be {value:?}, is {has:?}"));
        }
    }
    let text: String = own.iter().map(Forwarded::text).collect();
    match case.lacks.iter().find(|word| text.contains(*word)) {
        Some(word) => Err(format!("{word} arrived: {text}")),
        None => Ok(()),
    }
}

/// Does `work` for each item on so many threads; what failed, in no order.
///
/// # Panics
/// When `work` does.
pub fn in_parallel<T: Sync>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<(), String> + Sync,
) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = work(item) {
                        failures.lock().expect("no thread panics with it").push(why);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("no thread panics with it")
}
