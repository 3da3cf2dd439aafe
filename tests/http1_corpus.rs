//! Part A of the attack matrix: every message of `tests/data/http1`, whole, byte by byte and cut at random places, through
//! the gateway and in front of an origin that takes only what the gateway may write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::corpus::{self, Case};
use portcullis_testkit::{Gateway, Judge, Pieces, arrived, deliver, in_parallel, own_address, suite};
use std::time::{SystemTime, UNIX_EPOCH};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/http1");
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules");
/// Connections at once.
const THREADS: usize = 48;
/// Cases up to this size come byte by byte, larger ones in as many pieces, unless everything is asked for.
const BYTES: usize = 2048;
/// And if it is: a larger one would take longer than a request may.
const FULL_BYTES: usize = 128 * 1024;

/// Messages that must be refused or made plain, and those that are odd and valid.
fn cases() -> (Vec<Case>, Vec<Case>) {
    let mut files: Vec<_> = std::fs::read_dir(DATA).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let of = |valid: bool| {
        let files = files
            .iter()
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("valid") == valid);
        files.flat_map(corpus::read).collect::<Vec<_>>()
    };
    (of(false), of(true))
}

/// Everything goes to the judge; `/ws` may switch to WebSocket.
fn gateway(judge: &Judge, body: &str, firewall: &str) -> Gateway {
    let upstream = judge.address();
    Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            admin.listen = "{}"
            {firewall}
            [[listener]]
            name = "public"
            address = "{}"
            [upstream.judge]
            endpoints = [{{ address = "{upstream}" }}]
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "judge"
            body = {{ mode = "{body}", limit = "1MiB" }}
            [[route]]
            name = "websocket"
            match = {{ path = "/ws" }}
            upstream = "judge"
            upgrade = ["websocket"]
            body = {{ mode = "{body}", limit = "1MiB" }}
            "#,
            ports.admin, ports.public
        )
    })
}

/// One gateway with its judge.
struct Bench {
    judge: Judge,
    gateway: Gateway,
    /// Whether bodies are held, so that nothing of a broken one may have left.
    holds: bool,
}

impl Bench {
    fn new(holds: bool) -> Self {
        let judge = Judge::start();
        let gateway = gateway(&judge, if holds { "buffer" } else { "stream" }, "firewall.mode = \"off\"");
        Bench { judge, gateway, holds }
    }

    fn run(&self, case: &Case, pieces: &Pieces) -> Result<(), String> {
        let from = own_address();
        let verdict = deliver(self.gateway.public(), from, case, pieces);
        let seen = self.judge.take(&from.to_string());
        let verdict = verdict.and_then(|_| arrived(case, &seen));
        let how = match pieces {
            Pieces::Whole => String::new(),
            Pieces::Each(size) => format!(" in pieces of {size}"),
            Pieces::At(places) => format!(" cut at {places:?}"),
        };
        let mode = if self.holds { "" } else { " (streamed)" };
        verdict.map_err(|why| {
            let shown: String = case.bytes.escape_ascii().to_string().chars().take(300).collect();
            format!("{} {}{how}{mode}: {why}\n    {shown}", case.row, case.name)
        })
    }

    /// What the judge holds against the gateway.
    fn charges(&self) -> Vec<String> {
        let mut charges: Vec<String> = self
            .judge
            .dirty()
            .iter()
            .map(|dirty| format!("forwarded dirty: {}: {}", dirty.why, dirty.bytes.escape_ascii()))
            .collect();
        if self.holds {
            charges.extend(self.judge.begun().iter().map(|bytes| format!("begun: {}", bytes.escape_ascii())));
        }
        if self.judge.left() > 0 {
            charges.push(format!("{} requests arrived after their answers", self.judge.left()));
        }
        charges
    }
}

fn full() -> bool {
    std::env::var_os("PORTCULLIS_FULL").is_some()
}

/// Small, seeded, good enough to cut bytes (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn seed() -> u64 {
    let given = std::env::var("HTTP1_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1)
}

/// Random cuts of each case; with everything asked for also, where bodies are held, each single one of those that are not
/// long.
fn cuts(cases: &[Case], holds: bool, random: &mut Random) -> Vec<(usize, Pieces)> {
    let mut all = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let length = case.bytes.len();
        for _ in 0..if full() { 60 } else { 3 } {
            let mut places: Vec<usize> = (0..=random.below(4)).map(|_| random.below(length)).collect();
            places.sort_unstable();
            all.push((at, Pieces::At(places)));
        }
        if full() && holds && length <= BYTES / 4 {
            all.extend((1..length).map(|place| (at, Pieces::At(vec![place]))));
        }
    }
    all
}

fn report(failures: Vec<String>) {
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures[..failures.len().min(60)].join("\n")
    );
}

#[test]
fn a_every_message_gets_one_verdict_however_it_comes() {
    let (attacks, valid) = cases();
    let cases: Vec<Case> = attacks.iter().chain(&valid).cloned().collect();
    let seed = seed();
    let mut failures = Vec::new();
    let (mut runs, mut cut) = (0, 0);
    for holds in [true, false] {
        let bench = Bench::new(holds);
        let whole = in_parallel(THREADS, &cases, |case| bench.run(case, &Pieces::Whole));
        let broken = !whole.is_empty();
        failures.extend(whole);
        runs += cases.len();
        // What fails as a whole need not fail three times.
        if !broken {
            failures.extend(in_parallel(THREADS, &cases, |case| {
                let most = if full() { FULL_BYTES } else { BYTES };
                let size = case.bytes.len().div_ceil(most);
                bench.run(case, &Pieces::Each(size))
            }));
            let cuts = cuts(&cases, holds, &mut Random(seed));
            cut += cuts.len();
            runs += cases.len() + cuts.len();
            failures.extend(in_parallel(THREADS, &cuts, |(at, pieces)| bench.run(&cases[*at], pieces)));
        }
        failures.extend(bench.charges());
    }
    suite(
        "HTTP/1 corpus",
        &format!(
            "{} payloads refused or made plain, {} valid but odd; {runs} runs, {cut} of them cut at random (HTTP1_SEED={seed}); {} failed",
            attacks.len(),
            valid.len(),
            failures.len()
        ),
    );
    assert!(attacks.len() >= 400 && valid.len() >= 200, "{} and {} cases", attacks.len(), valid.len());
    report(failures);
}

#[test]
fn what_clients_send_passes_the_shipped_rules() {
    let (_, mut valid) = cases();
    // Which methods there are is policy of the rules, as it is of CRS.
    valid.retain(|case| case.row != "V4");
    let judge = Judge::start();
    let gateway = gateway(&judge, "buffer", &format!("firewall.rules = [\"{RULES}/*.conf\"]"));
    for case in &mut valid {
        if let Some(status) = case.ruled {
            case.answers = vec![corpus::Expected { statuses: vec![status], to_head: false }];
            case.closing = corpus::Closing::May;
        }
    }
    let failures = in_parallel(THREADS, &valid, |case| {
        deliver(gateway.public(), own_address(), case, &Pieces::Whole)
            .map(drop)
            .map_err(|why| format!("{} {}: {why}\n    {}", case.row, case.name, case.bytes.escape_ascii()))
    });
    let ruled = valid.iter().filter(|case| case.ruled.is_some()).count();
    suite(
        "valid messages under the shipped rules",
        &format!("{}: {ruled} refused by policy, {} wrong", valid.len(), failures.len()),
    );
    report(failures);
}
