//! An origin that trusts nobody: it takes only requests of the one form that the gateway may write, and keeps the rest as
//! evidence. Its reader is its own, not the gateway's.

use crate::message::Buffered;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A request that arrived whole, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// Names and values of the fields, in their order.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body without its chunked coding.
    pub body: Vec<u8>,
}

impl Forwarded {
    /// The first field of that name, as text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let field = self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        field.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// Request line and fields in lower case, as `name: value` lines.
    #[must_use]
    pub fn text(&self) -> String {
        let lines =
            self.fields.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)));
        format!("{} {}\n{}", self.method, self.target, lines.collect::<String>()).to_lowercase()
    }
}

/// Bytes that are no canonical request.
#[derive(Clone, Debug)]
pub struct Dirty {
    /// What is wrong with them.
    pub why: String,
    /// They, or their beginning.
    pub bytes: Vec<u8>,
}

/// Fields that belong to one connection and must never arrive (RFC 9110 §7.6.1), besides framing.
const HOP_BY_HOP: [&str; 8] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "trailer",
    "http2-settings",
    "expect",
    "te",
];

/// Fields that may stand once.
const ONCE: [&str; 7] = [
    "host",
    "content-length",
    "transfer-encoding",
    "x-real-ip",
    "x-forwarded-for",
    "content-type",
    "authorization",
];

/// The origin. It answers each request with 200, and a WebSocket handshake with 101, whereupon it echoes.
pub struct Judge {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<HashMap<String, Vec<Forwarded>>>,
    dirty: Mutex<Vec<Dirty>>,
    /// Requests that broke off, by what had come of them.
    begun: Mutex<Vec<Vec<u8>>>,
    stopped: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Judge {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a judge can listen on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if theirs.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&theirs);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Judge { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What arrived of the client with this address, by the gateway's `X-Real-IP`, since it was last asked.
    #[must_use]
    pub fn take(&self, client: &str) -> Vec<Forwarded> {
        lock(&self.shared.seen).remove(client).unwrap_or_default()
    }

    /// How many requests arrived that nobody has asked about.
    #[must_use]
    pub fn left(&self) -> usize {
        lock(&self.shared.seen).values().map(Vec::len).sum()
    }

    /// All that was no canonical request.
    #[must_use]
    pub fn dirty(&self) -> Vec<Dirty> {
        lock(&self.shared.dirty).clone()
    }

    /// What had come of requests that broke off.
    #[must_use]
    pub fn begun(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.begun).clone()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

/// How reading a request ended.
enum Ended {
    /// Before it began.
    Nothing,
    /// Within it.
    Within,
    Dirty(String),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Ended::Within
    }
}

fn serve(socket: &TcpStream, shared: &Shared) {
    let _ = socket.set_nodelay(true);
    let mut stream = Buffered::new(socket);
    loop {
        let mut raw = Vec::new();
        match read(&mut stream, &mut raw) {
            Ok(request) => {
                let upgrade = request.field("upgrade").is_some();
                let key = request.field("sec-websocket-key").unwrap_or_default();
                let client = request.field("x-real-ip").unwrap_or_default();
                let is_head = request.method == "HEAD";
                lock(&shared.seen).entry(client).or_default().push(request);
                if upgrade {
                    return switch(&mut stream, &key);
                }
                let body = if is_head { "" } else { "ok" };
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}");
                if (&*socket).write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Err(Ended::Nothing) => return,
            Err(Ended::Within) => return lock(&shared.begun).push(raw),
            Err(Ended::Dirty(why)) => {
                raw.extend_from_slice(stream.ahead());
                raw.truncate(4096);
                lock(&shared.dirty).push(Dirty { why, bytes: raw });
                let _ = socket.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

/// Grants a WebSocket handshake (RFC 6455 §4.2.2) and sends back what comes.
fn switch(stream: &mut Buffered<&TcpStream>, key: &str) {
    let accept = crate::message::websocket_accept(key);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    if stream.stream.write_all(head.as_bytes()).is_ok() {
        let mut out = stream.stream;
        let _ = stream.body(crate::message::BodyEnd::Close, &mut |data| {
            let _ = out.write_all(data);
        });
    }
}

fn line(stream: &mut Buffered<&TcpStream>, raw: &mut Vec<u8>) -> Result<Vec<u8>, Ended> {
    let Some(mut line) = stream.until(b"\r\n")? else {
        let nothing = raw.is_empty() && stream.ahead().is_empty();
        raw.extend_from_slice(stream.ahead());
        return Err(if nothing { Ended::Nothing } else { Ended::Within });
    };
    raw.extend_from_slice(&line);
    line.truncate(line.len() - 2);
    if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(Ended::Dirty("CR, LF or NUL within a line".to_owned()));
    }
    Ok(line)
}

fn read(stream: &mut Buffered<&TcpStream>, raw: &mut Vec<u8>) -> Result<Forwarded, Ended> {
    let dirty = |why: &str| Ended::Dirty(why.to_owned());
    let first = line(stream, raw)?;
    let first = String::from_utf8(first).map_err(|_| dirty("request line beyond ASCII"))?;
    let parts: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return Err(dirty("request line")) };
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        return Err(dirty("method"));
    }
    if !target.starts_with('/') || !target.bytes().all(|b| b.is_ascii_graphic() && !b"\\#".contains(&b)) {
        return Err(dirty("target"));
    }
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    loop {
        let text = line(stream, raw)?;
        if text.is_empty() {
            break;
        }
        fields.push(field(&text).map_err(|why| dirty(&why))?);
    }
    let mut request =
        Forwarded { method: method.to_owned(), target: target.to_owned(), fields, body: Vec::new() };
    judge_fields(&request).map_err(|why| dirty(&why))?;
    request.body = body(stream, raw, &request)?;
    Ok(request)
}

/// `name: value` with exactly one space, nothing at the ends of the value, no control character.
fn field(text: &[u8]) -> Result<(String, Vec<u8>), String> {
    let shown = String::from_utf8_lossy(text).into_owned();
    let colon = text.iter().position(|b| *b == b':').ok_or(format!("no colon: {shown}"))?;
    let (name, rest) = text.split_at(colon);
    let tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(b);
    if name.is_empty() || !name.iter().all(tchar) {
        return Err(format!("name: {shown}"));
    }
    let value = rest.strip_prefix(b": ").ok_or(format!("no space behind the colon: {shown}"))?;
    let ends = [value.first(), value.last()];
    if ends.iter().flatten().any(|b| b" \t".contains(b))
        || value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f)
    {
        return Err(format!("value: {shown}"));
    }
    Ok((String::from_utf8_lossy(name).into_owned(), value.to_vec()))
}

fn judge_fields(request: &Forwarded) -> Result<(), String> {
    let names: Vec<String> = request.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let times = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    if let Some(name) = ONCE.iter().find(|name| times(name) > 1) {
        return Err(format!("{name} stands {} times", times(name)));
    }
    if let Some(name) = HOP_BY_HOP.iter().find(|name| times(name) > 0) {
        return Err(format!("{name} is hop-by-hop"));
    }
    let host = request.field("host").ok_or("no host")?;
    if host.is_empty()
        || !host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:[]".contains(&b))
    {
        return Err(format!("host: {host}"));
    }
    if times("content-length") + times("transfer-encoding") > 1 {
        return Err("two framing fields".to_owned());
    }
    let websocket = request.field("upgrade").is_some_and(|value| value == "websocket");
    let connection = request.field("connection");
    if (times("upgrade") > 0 || times("connection") > 0)
        && !(websocket && connection.as_deref() == Some("upgrade"))
    {
        return Err(format!("connection: {connection:?}"));
    }
    Ok(())
}

fn body(stream: &mut Buffered<&TcpStream>, raw: &mut Vec<u8>, request: &Forwarded) -> Result<Vec<u8>, Ended> {
    let dirty = |why: String| Ended::Dirty(why);
    match (request.field("content-length"), request.field("transfer-encoding")) {
        (None, None) => Ok(Vec::new()),
        (Some(text), _) => {
            let length: u64 = text.parse().map_err(|_| dirty(format!("content-length: {text}")))?;
            if length.to_string() != text {
                return Err(dirty(format!("content-length: {text}")));
            }
            exactly(stream, raw, length)
        }
        (None, Some(coding)) if coding == "chunked" => {
            let mut all = Vec::new();
            loop {
                let size = String::from_utf8_lossy(&line(stream, raw)?).into_owned();
                let length =
                    u64::from_str_radix(&size, 16).map_err(|_| dirty(format!("chunk size {size}")))?;
                if format!("{length:x}") != size {
                    return Err(dirty(format!("chunk size {size}")));
                }
                all.extend(exactly(stream, raw, length)?);
                if !line(stream, raw)?.is_empty() {
                    return Err(dirty("a chunk's end, or trailers".to_owned()));
                }
                if length == 0 {
                    return Ok(all);
                }
            }
        }
        (None, Some(coding)) => Err(dirty(format!("transfer-encoding: {coding}"))),
    }
}

fn exactly(stream: &mut Buffered<&TcpStream>, raw: &mut Vec<u8>, length: u64) -> Result<Vec<u8>, Ended> {
    let mut data = Vec::new();
    let whole =
        stream.body(crate::message::BodyEnd::Length(length), &mut |piece| data.extend_from_slice(piece))?;
    raw.extend_from_slice(&data[..data.len().min(4096)]);
    if whole { Ok(data) } else { Err(Ended::Within) }
}
