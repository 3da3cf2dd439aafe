//! Floods over HTTP/2: each is cut after a stated number of frames, with GOAWAY, while others are served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, FrameStep, Gateway, H2Client, Origin, RawClient, code_name, frame_steps, suite,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
/// Frames that are sent before the client looks whether it was cut off.
const BATCH: usize = 10;
const BREATH: Duration = Duration::from_millis(3);
/// What no flood may come to.
const FAR_TOO_MANY: usize = 3_000;

struct Flood {
    name: &'static str,
    /// What comes before it.
    first: &'static str,
    /// One round of it; `{n}` is a new stream, `{m}` the last one.
    round: &'static str,
    /// Rounds after which it must be over.
    most: usize,
    /// Requests of it that may reach the upstream.
    upstream: usize,
    /// The codes of GOAWAY that may end it.
    codes: &'static [&'static str],
}

const CALM: &[&str] = &["ENHANCE_YOUR_CALM"];
const CALM_OR_PROTOCOL: &[&str] = &["ENHANCE_YOUR_CALM", "PROTOCOL_ERROR"];

/// A request that the upstream holds.
const HOLD: &str = "> HEADERS {n} ES EH\nget /hold\n";
const UPLOAD: &str = "> HEADERS {n} EH\npost /hold\n";

const FLOODS: &[Flood] = &[
    Flood {
        name: "B11 rapid reset",
        first: "",
        round: "> HEADERS {n} ES EH\nget /hold\n> RST_STREAM {n}\nhex 00 00 00 08",
        most: 500,
        upstream: 400,
        codes: CALM,
    },
    Flood {
        name: "B12 MadeYouReset: a window opened by nothing",
        first: "",
        round: "> HEADERS {n} ES EH\nget /hold\n> WINDOW_UPDATE {n}\nhex 00 00 00 00",
        most: 1024,
        upstream: 400,
        codes: CALM_OR_PROTOCOL,
    },
    Flood {
        name: "B12 MadeYouReset: a window that overflows",
        first: "",
        round: "> HEADERS {n} ES EH\nget /hold\n> WINDOW_UPDATE {n}\nhex 7f ff ff ff\n> WINDOW_UPDATE {n}\nhex 7f ff ff ff",
        most: 1024,
        upstream: 400,
        codes: CALM,
    },
    Flood {
        name: "B12 MadeYouReset: data behind the end",
        first: "",
        round: "> HEADERS {n} ES EH\nget /hold\n> DATA {n} ES\n\"x\"",
        most: 1024,
        upstream: 400,
        codes: &["STREAM_CLOSED"],
    },
    Flood {
        name: "B12 MadeYouReset: a request that depends on itself",
        first: "",
        round: "> HEADERS {n} ES EH\nget /hold\n> PRIORITY {n}\nself {n}",
        most: 1024,
        upstream: 400,
        codes: CALM,
    },
    Flood {
        name: "B12 MadeYouReset: another length than announced",
        first: "",
        round: "> HEADERS {n} EH\npost /hold\ncontent-length = 2\n> DATA {n} ES\n\"longer\"",
        most: 1024,
        upstream: 400,
        codes: CALM,
    },
    Flood {
        name: "B12 MadeYouReset: malformed trailers",
        first: "",
        round: "> HEADERS {n} EH\npost /hold\n> HEADERS {n} ES EH\n:path = /",
        most: 1024,
        upstream: 400,
        codes: CALM,
    },
    Flood {
        name: "B12 malformed requests",
        first: "",
        round: "> HEADERS {n} ES EH\nget /hold\nconnection = close",
        most: 1024,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B13 CONTINUATION",
        first: "> HEADERS {n} ES\nget /hold",
        round: "> CONTINUATION {m}\nx = y",
        most: 10,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B13 CONTINUATION without a byte",
        first: "> HEADERS {n} ES\nget /hold",
        round: "> CONTINUATION {m}",
        most: 10,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B14 HPACK: one entry, again and again",
        first: "> HEADERS {n} ES EH\nget /x\nhex 40 01 78 7f 81 1e\nfill 3968 61",
        round: "> HEADERS {n} ES EH\nget /hold\nfill 8000 be",
        most: 10,
        upstream: 1,
        codes: CALM,
    },
    Flood {
        name: "B15 empty DATA",
        first: UPLOAD,
        round: "> DATA {m}",
        most: 1000,
        upstream: 1,
        codes: CALM,
    },
    Flood {
        name: "B15 DATA of one byte",
        first: UPLOAD,
        round: "> DATA {m}\n\"x\"",
        most: 1000,
        upstream: 1,
        codes: CALM,
    },
    Flood {
        name: "B15 DATA of padding",
        first: UPLOAD,
        round: "> DATA {m} PAD\nhex 08 00 00 00 00 00 00 00 00",
        most: 1000,
        upstream: 1,
        codes: CALM,
    },
    Flood {
        name: "B15 empty DATA on many streams",
        first: "",
        round: "> HEADERS {n} EH\npost /hold\n> DATA {n}\n> DATA {n}\n> DATA {n}\n> DATA {n}\n> DATA {n}",
        most: 200,
        upstream: 200,
        codes: CALM,
    },
    Flood {
        name: "B16 PING",
        first: "",
        round: "> PING 0\nhex 00 00 00 00 00 00 00 00",
        most: 1000,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B16 PING acknowledged unasked",
        first: "",
        round: "> PING 0 ACK\nhex 00 00 00 00 00 00 00 00",
        most: 1000,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B16 SETTINGS",
        first: "",
        round: "> SETTINGS 0\nhex 00 04 00 00 ff ff",
        most: 1000,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B16 SETTINGS without content",
        first: "",
        round: "> SETTINGS 0",
        most: 1000,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B16 SETTINGS acknowledged unasked",
        first: "",
        round: "> SETTINGS 0 ACK",
        most: 1000,
        upstream: 0,
        codes: CALM_OR_PROTOCOL,
    },
    Flood {
        name: "B16 PRIORITY",
        first: HOLD,
        round: "> PRIORITY {m}\nhex 00 00 00 00 10",
        most: 1000,
        upstream: 1,
        codes: CALM,
    },
    Flood {
        name: "B16 PRIORITY of idle streams",
        first: "",
        round: "> PRIORITY 0x7fffffff\nhex 00 00 00 00 10",
        most: 1000,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B16 WINDOW_UPDATE",
        first: "",
        round: "> WINDOW_UPDATE 0\nhex 00 00 00 01",
        most: 1000,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B16 WINDOW_UPDATE of a stream",
        first: HOLD,
        round: "> WINDOW_UPDATE {m}\nhex 00 00 00 01",
        most: 1000,
        upstream: 1,
        codes: CALM,
    },
    Flood {
        name: "B16 unknown frames",
        first: "",
        round: "> 0x42 0\n\"whatever\"",
        most: 1000,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B16 PRIORITY_UPDATE",
        first: "",
        round: "> 0x10 0\nhex 00 00 00 01\n\"u=1\"",
        most: 1000,
        upstream: 0,
        codes: CALM,
    },
    Flood {
        name: "B16 RST_STREAM of idle streams",
        first: "",
        round: "> RST_STREAM {n}\nhex 00 00 00 08",
        most: BATCH,
        upstream: 0,
        codes: CALM_OR_PROTOCOL,
    },
    Flood {
        name: "B16 RST_STREAM of one stream",
        first: HOLD,
        round: "> RST_STREAM {m}\nhex 00 00 00 08",
        most: 1000,
        upstream: 1,
        codes: CALM,
    },
    Flood {
        name: "B17 streams over the limit",
        first: "",
        round: "> HEADERS {n} EH\npost /hold",
        most: 1200,
        upstream: 100,
        codes: CALM,
    },
    Flood {
        name: "B18 a window opened byte by byte",
        first: "> SETTINGS 0\nhex 00 04 00 00 00 00\n> HEADERS {n} ES EH\nget /large",
        round: "> WINDOW_UPDATE {m}\nhex 00 00 00 01",
        most: 1000,
        upstream: 1,
        codes: CALM,
    },
];

fn gateway(origin: &Origin) -> Gateway {
    Gateway::builder(BINARY).start(|ports| ports.forwarding(origin.address(), ""))
}

fn origin() -> Origin {
    Origin::start(|request| match request.target() {
        "/hold" => Answer::hang(),
        "/large" => Answer::pattern(1 << 20),
        _ => Answer::ok("ok"),
    })
}

/// The frames that a script stands for.
fn frames(script: &str, next: u32) -> Vec<u8> {
    let text =
        script.replace("{n}", &next.to_string()).replace("{m}", &next.saturating_sub(2).max(1).to_string());
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.strip_prefix("self ") {
            Some(stream) => {
                let bytes = stream.parse::<u32>().unwrap().to_be_bytes();
                let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("hex {} 10", hex.join(" "))
            }
            None => line.to_owned(),
        })
        .collect();
    frame_steps(lines.iter().map(String::as_str), "http")
        .into_iter()
        .flat_map(|step| match step {
            FrameStep::Send(bytes) => bytes,
            FrameStep::Other(line) => panic!("what is `{line}`?"),
        })
        .collect()
}

impl Flood {
    fn step(&self) -> u32 {
        if self.round.contains("{n}") { 2 } else { 0 }
    }

    /// Floods a connection until it is cut off; after how many rounds at most that was, and with what code.
    fn run(&self, gateway: &Gateway) -> (usize, Option<u32>) {
        let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
        let mut next = 1;
        if !self.first.is_empty() {
            client.send(&frames(self.first, next)).unwrap();
            next += 2;
        }
        for sent in (BATCH..=FAR_TOO_MANY).step_by(BATCH) {
            let mut batch = Vec::new();
            for _ in 0..BATCH {
                batch.extend(frames(self.round, next));
                next += self.step();
            }
            let is_sent = client.send(&batch).is_ok();
            while client.hears(BREATH) {
                if client.next_frame().is_err() {
                    return (sent, client.goaway.map(|(_, code)| code));
                }
                if client.goaway.is_some() {
                    assert!(client.is_closed(), "{}: GOAWAY, and it goes on", self.name);
                    return (sent, client.goaway.map(|(_, code)| code));
                }
            }
            if !is_sent {
                return (sent, client.goaway.map(|(_, code)| code));
            }
        }
        (FAR_TOO_MANY, None)
    }

    /// As fast as it goes: all of it at once.
    fn run_at_once(&self, gateway: &Gateway) {
        let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
        let mut next = 1;
        let mut bytes = Vec::new();
        if !self.first.is_empty() {
            bytes.extend(frames(self.first, next));
            next += 2;
        }
        for _ in 0..FAR_TOO_MANY {
            bytes.extend(frames(self.round, next));
            next += self.step();
        }
        // It may give up on us before we are through.
        let _ = client.send(&bytes);
        assert!(client.is_closed(), "{}: open after {FAR_TOO_MANY} rounds at once", self.name);
    }
}

#[test]
fn b11_to_b18_every_flood_is_cut() {
    let origin = origin();
    let gateway = gateway(&origin);
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut wrong = Vec::new();
    let mut counts = Vec::new();
    let slowest = thread::scope(|scope| {
        // Another client, all the while.
        let other = scope.spawn(|| {
            let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
            let mut slowest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answered = client.get("b.test", "/other").is_ok_and(|answer| answer.status == Some(200));
                if !answered {
                    // So many requests and no more on one connection.
                    client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
                    assert_eq!(client.get("b.test", "/other").unwrap().status, Some(200));
                }
                slowest = slowest.max(asked.elapsed());
                served.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
            slowest
        });
        let only = std::env::var("FLOOD").ok();
        for flood in FLOODS.iter().filter(|flood| only.as_ref().is_none_or(|only| flood.name.contains(only)))
        {
            let held = || {
                let flooded = |seen: &&portcullis_testkit::Received| seen.header("host") == Some("a.test");
                origin.requests().iter().filter(flooded).count()
            };
            let before = held();
            let (rounds, code) = flood.run(&gateway);
            let code = code.map_or_else(|| "nothing".to_owned(), code_name);
            let reached = held() - before;
            counts.push(format!("{} {rounds}", flood.name));
            if rounds > flood.most || !flood.codes.contains(&code.as_str()) || reached > flood.upstream {
                wrong.push(format!(
                    "{}: cut after {rounds} (at most {}) with {code} (one of {:?}), {reached} (at most {}) upstream",
                    flood.name, flood.most, flood.codes, flood.upstream
                ));
            }
            flood.run_at_once(&gateway);
        }
        stop.store(true, Ordering::Relaxed);
        other.join().unwrap()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Whatever they began is over.
    gateway.wait_for_sample("portcullis_requests_in_flight", |count| count == 0.0);
    assert!(served.load(Ordering::Relaxed) > 0);
    suite(
        "http2 floods",
        &format!(
            "{} of {} cut, each paced and at once; rounds before the cut: {}; another client had {} answers meanwhile, \
             the slowest after {slowest:?}",
            counts.len(),
            counts.len(),
            counts.join(", "),
            served.load(Ordering::Relaxed),
        ),
    );
}
