//! Whatever our parser takes, node's parser reads as the same messages: the corpus of part A, mutated, through both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_http::{Framing, Host, Method, RequestHead, Target};
use portcullis_testkit::{corpus, suite};
use portcullis_wire::chunked::Decoder;
use portcullis_wire::head::{HeadLimits, HeadReader, read_trailers};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Streams that are on their way to node at once.
const BATCH: usize = 500;
/// Larger cases teach nothing that smaller ones do not.
const LARGEST: usize = 1500;

/// A message, each byte of it a character.
#[derive(Debug, PartialEq)]
struct Message {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: String,
    /// It has trailers, some of which node refuses and the gateway drops.
    trailers: bool,
    /// What follows is not HTTP, or not read, for some reader.
    last: bool,
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// What we take of a stream, up to the first thing that we refuse.
fn ours(data: &[u8]) -> Vec<Message> {
    let (mut rest, mut messages) = (data, Vec::new());
    loop {
        // The connection reads over empty lines (RFC 9112 §2.2).
        while let Some(behind) = rest.strip_prefix(b"\r\n") {
            rest = behind;
        }
        let mut head = RequestHead::default();
        let Ok(Some(length)) = HeadReader::default().request(rest, &HeadLimits::default(), &mut head) else {
            return messages;
        };
        // What the gateway refuses behind the framing.
        let Ok(target) = Target::parse(head.raw_target()) else { return messages };
        let host = |text: &str| Host::parse(text).is_none();
        if !Method::is_registered(head.method_text())
            || target.authority().is_some_and(host)
            || head.fields.get_str("host").is_some_and(host)
            || (target.is_asterisk() && head.method != Method::Options)
        {
            return messages;
        }
        rest = &rest[length..];
        let Some((body, used, trailers)) = body(head.framing, rest) else { return messages };
        rest = &rest[used..];
        let lists = |name: &str, word: &str| {
            head.fields.get_all(name).any(|value| latin1(value).to_ascii_lowercase().contains(word))
        };
        // To node the body behind such a head is no HTTP any more. The gateway does not pass the field on.
        if lists("connection", "upgrade") {
            return messages;
        }
        messages.push(Message {
            method: latin1(head.method_text()),
            target: latin1(head.raw_target()),
            fields: head.fields.iter().map(|(name, value)| (latin1(name), latin1(value))).collect(),
            body: latin1(&body),
            trailers,
            // Node heeds `Connection` among trailers, too.
            last: lists("connection", "close") || trailers || head.version.as_str() == "HTTP/1.0",
        });
    }
}

/// The body, how much of the stream it took, and whether trailers end it; `None` where it is not whole or broken.
fn body(framing: Framing, rest: &[u8]) -> Option<(Vec<u8>, usize, bool)> {
    match framing {
        Framing::None => Some((Vec::new(), 0, false)),
        Framing::Length(length) => {
            let length = usize::try_from(length).ok()?;
            Some((rest.get(..length)?.to_vec(), length, false))
        }
        Framing::Chunked => {
            let (mut decoder, mut out, mut at) = (Decoder::default(), Vec::new(), 0);
            while !decoder.is_done() && at < rest.len() {
                let step = decoder.step(&rest[at..]).ok()?;
                out.extend_from_slice(&rest[at + step.skip..at + step.skip + step.data]);
                at += step.skip + step.data;
            }
            let trailers = read_trailers(decoder.trailers())?;
            decoder.is_done().then_some((out, at, !trailers.is_empty()))
        }
        Framing::Close => panic!("a request does not end with its connection"),
    }
}

struct Node {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Node {
    /// `None` where there is no node.
    fn start() -> Option<Self> {
        let script = Path::new(ROOT).join("tests/backends/oracle.js");
        let mut child = Command::new("node")
            .arg("--no-deprecation")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (input, output) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        Some(Node { child, input, output })
    }

    /// What node reads in each of these streams.
    fn read(&mut self, streams: &[Vec<u8>]) -> Vec<serde_json::Value> {
        let mut all = Vec::new();
        for stream in streams {
            all.extend_from_slice(&u32::try_from(stream.len()).unwrap().to_be_bytes());
            all.extend_from_slice(stream);
        }
        let (input, output) = (&mut self.input, &mut self.output);
        std::thread::scope(|scope| {
            // Both pipes would fill up otherwise.
            scope.spawn(|| input.write_all(&all).unwrap());
            let mut line = String::new();
            let read = |_| {
                line.clear();
                output.read_line(&mut line).unwrap();
                serde_json::from_str(&line).unwrap()
            };
            streams.iter().map(read).collect()
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn theirs(message: &serde_json::Value) -> Message {
    let text = |name: &str| message[name].as_str().unwrap().to_owned();
    let headers: Vec<String> =
        message["headers"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
    Message {
        method: text("method"),
        target: text("target"),
        fields: headers.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
        body: text("body"),
        trailers: false,
        last: false,
    }
}

/// How many messages both read alike.
fn compare(stream: &[u8], ours: &[Message], node: &serde_json::Value) -> Result<usize, String> {
    let messages = node["messages"].as_array().unwrap();
    for (at, one) in ours.iter().enumerate() {
        match messages.get(at).map(theirs) {
            Some(other) => {
                let other = Message { last: one.last, trailers: one.trailers, ..other };
                if *one != other {
                    return Err(format!("we read {one:?}, node {other:?}"));
                }
            }
            // It knows fewer methods than there are.
            None if node["error"] == "HPE_INVALID_METHOD" => return Ok(at),
            // It takes no tab around a length or a coding, which RFC 9110 §5.5 does.
            None if stream.contains(&b'\t')
                && (node["error"] == "HPE_INVALID_CONTENT_LENGTH"
                    || node["error"] == "HPE_INVALID_TRANSFER_ENCODING") =>
            {
                return Ok(at);
            }
            None if one.trailers && !node["error"].is_null() => return Ok(at),
            None => return Err(format!("we read {one:?}, node nothing: {}", node["error"])),
        }
        if one.last {
            return Ok(at + 1);
        }
    }
    Ok(ours.len())
}

/// Marsaglia's xorshift: seeded, so that a finding can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Pieces that mean something to parsers.
const WORDS: [&[u8]; 40] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\0",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"a\r\n",
    b"1;a=b\r\nx\r\n",
    b"1;a=\"b\"\r\nx\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"content-length:005\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\tchunked \r\n",
    b"transfer-encoding: Chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: Upgrade\r\nUpgrade: foo\r\n",
    b"Host: b\r\n",
    b"X: y\r\n",
    b"X:\r\n",
    b" folded\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT /q HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"\xe9",
    b"\x7f",
    b"\x80",
    b"%2f",
    b"Trailer: T\r\n",
    b"T: v\r\n",
    b"Expect: 100-continue\r\n",
];

/// A stream of one to three seeds, changed in few places.
fn stream(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut data: Vec<u8> = (0..=random.below(3)).flat_map(|_| random.of(seeds).clone()).collect();
    for _ in 0..random.below(4) {
        let at = random.below(data.len() + 1);
        let end = (at + random.below(8)).min(data.len());
        match random.below(6) {
            0 => drop(data.drain(at..end)),
            1 => data.insert(at, random.below(256) as u8),
            2 if at < data.len() => data[at] = random.below(256) as u8,
            3 => {
                let piece = data[at..end].to_vec();
                data.splice(at..at, piece);
            }
            // At the start of a line, where words have their meaning.
            4 => {
                let lines: Vec<usize> =
                    data.windows(2).enumerate().filter(|(_, w)| w == b"\r\n").map(|(at, _)| at + 2).collect();
                let at = if lines.is_empty() { 0 } else { *random.of(&lines) };
                let word = *random.of(&WORDS);
                data.splice(at..at, word.iter().copied());
            }
            _ => {
                let word = *random.of(&WORDS);
                data.splice(at..at, word.iter().copied());
            }
        }
    }
    data
}

#[test]
fn a_node_reads_what_we_take_as_we_do() {
    let Some(mut node) = Node::start() else {
        eprintln!("SKIPPED: node is absent");
        return;
    };
    let folder = Path::new(ROOT).join("tests/data/http1");
    let seeds: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .unwrap()
        .flat_map(|entry| corpus::read(entry.unwrap().path()))
        .map(|case| case.bytes)
        .filter(|bytes| bytes.len() <= LARGEST)
        .collect();
    let full = std::env::var_os("PORTCULLIS_FULL").is_some();
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let count = given("NODE_ORACLE_STREAMS").unwrap_or(if full { 1_000_000 } else { 50_000 }) as usize;
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    let seed = given("NODE_ORACLE_SEED").unwrap_or_else(clock);
    let mut random = Random(seed);
    let (mut taken, mut alike, mut done) = (0, 0, 0);
    let mut streams = seeds.clone();
    while done < count {
        for (stream, read) in streams.iter().zip(node.read(&streams)) {
            let ours = ours(stream);
            taken += usize::from(!ours.is_empty());
            match compare(stream, &ours, &read) {
                Ok(messages) => alike += messages,
                Err(why) => panic!("NODE_ORACLE_SEED={seed}: {why}\n{}", stream.escape_ascii()),
            }
        }
        done += streams.len();
        streams = (0..BATCH).map(|_| stream(&seeds, &mut random)).collect();
    }
    suite(
        "node's parser as oracle",
        &format!(
            "{done} streams, of {taken} some taken: {alike} messages read alike (NODE_ORACLE_SEED={seed})"
        ),
    );
    assert!(taken * 10 > done, "too few streams are taken for the test to say anything: {taken} of {done}");
}
