//! `portcullis rules bench`.

use super::NamedRules;
use super::counters::{self, Instructions};
use super::message::{Request, Response};
use crate::commands::print;
use crate::plan;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use portcullis_waf::{Overlay, OverlaySettings, Program, Transaction};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// The response that every request gets: about 1 KiB of JSON, as the peers' benchmark has it.
const ITEM: &str =
    r#"{"id": 48121, "name": "blue cotton shirt", "price": {"amount": 19.9, "currency": "EUR"}},"#;
const ITEMS: usize = 11;
/// Transactions whose instructions are counted.
const COUNTED: usize = 5;

/// Options of `portcullis rules bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Times are CPU time of this thread. Instructions are counted where the kernel offers hardware counters, allocations \
    by a program that was built with `--features count-allocations` (the counting costs every allocation a little); both \
    are `null` otherwise. The exit code is 1 if a verdict is not the expected one.\n\nWith three arguments instead of --corpus, each entry is a \
    line `id, status, iterations, nanoseconds per transaction of each round`, separated by tabs; status 0 is let through."
)]
pub(crate) struct Bench {
    /// The corpus: one JSON object a line with id, class, expect (pass or block), method, uri, headers ([[name,
    /// value], …]) and body_b64.
    #[arg(long, value_name = "FILE.jsonl", required_unless_present = "peer")]
    corpus: Option<PathBuf>,
    /// Corpus, milliseconds of CPU for a sample, rounds: as scripts that compare engines call it.
    #[arg(num_args = 3, value_names = ["CORPUS", "MILLISECONDS", "ROUNDS"], conflicts_with_all = ["corpus", "json", "milliseconds", "rounds"])]
    peer: Vec<String>,
    #[command(flatten)]
    rules: NamedRules,
    /// Milliseconds of CPU for one sample of one entry; 0: one transaction.
    #[arg(long, default_value_t = 20)]
    milliseconds: u64,
    /// Samples of each entry; the least counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Paranoia level, instead of that of the configuration or of the rule files.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    paranoia: Option<u8>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One line of the corpus.
#[derive(Debug, Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    class: String,
    #[serde(default)]
    expect: Option<Expected>,
    method: String,
    uri: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body_b64: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Pass,
    Block,
}

/// What was measured of one entry.
#[derive(Debug, Serialize)]
struct Measured {
    id: String,
    class: String,
    expect: Option<Expected>,
    /// Whether the verdict is the expected one; `null` where none is.
    as_expected: Option<bool>,
    /// 0 for let through, else the status of the refusal.
    status: u16,
    /// The rule that refused.
    rule: Option<u32>,
    /// Transactions in each sample.
    iterations: u64,
    /// CPU time of one transaction in the best sample.
    microseconds: f64,
    /// Nanoseconds of CPU for one transaction, by sample.
    nanoseconds: Vec<u64>,
    /// Instructions of one transaction in user space; `null` where the platform does not count them.
    instructions: Option<u64>,
    /// Allocations of one transaction after others of its kind; `null` where the program was built without
    /// `count-allocations`.
    allocations: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Results {
    rules: usize,
    load_milliseconds: u128,
    entries: Vec<Measured>,
    as_expected: usize,
    differing: usize,
}

impl Bench {
    pub(super) fn run(self) -> Result<(), String> {
        let (corpus, milliseconds, rounds) = match (self.peer.as_slice(), &self.corpus) {
            ([corpus, milliseconds, rounds], _) => (
                PathBuf::from(corpus),
                milliseconds.parse().map_err(|error| format!("MILLISECONDS `{milliseconds}`: {error}"))?,
                rounds.parse().map_err(|error| format!("ROUNDS `{rounds}`: {error}"))?,
            ),
            (_, Some(corpus)) => (corpus.clone(), self.milliseconds, self.rounds),
            (_, None) => return Err("no corpus is named".to_owned()),
        };
        let entries = read(&corpus)?;
        let start = Instant::now();
        let (program, config) = self.rules.load()?;
        let load_milliseconds = start.elapsed().as_millis();
        let mut settings =
            config.map_or_else(OverlaySettings::default, |config| plan::firewall(&config.firewall));
        settings.paranoia = self.paranoia.or(settings.paranoia);
        let overlay = Overlay::compile(&program, &settings).map_err(|error| error.to_string())?;
        let rules = program.rules().count();
        let mut bench = Engine {
            program,
            overlay: Arc::new(overlay),
            response: response(),
            instructions: Instructions::new(),
        };
        let entries = bench.measure(&entries, Duration::from_millis(milliseconds), rounds);
        let results = Results::new(rules, load_milliseconds, entries);
        if self.json {
            let text = serde_json::to_string_pretty(&results).map_err(|error| error.to_string())?;
            print(&format!("{text}\n"))?;
        } else if self.corpus.is_none() {
            // Standard error names the engine, as the script expects, which judges verdicts by itself.
            let _ = writeln!(std::io::stderr(), "{}", results.engine());
            return print(&results.lines());
        } else {
            print(&results.table())?;
        }
        if results.differing == 0 { Ok(()) } else { Err(results.differences()) }
    }
}

/// Reads a corpus.
fn read(path: &Path) -> Result<Vec<(Entry, Request)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let place = || format!("{}:{}", path.display(), index + 1);
            let entry: Entry = serde_json::from_str(line).map_err(|error| format!("{}: {error}", place()))?;
            let body = STANDARD
                .decode(&entry.body_b64)
                .map_err(|error| format!("{}: body_b64: {error}", place()))?;
            let request = entry.request(body);
            Ok((entry, request))
        })
        .collect()
}

fn response() -> Response {
    let items = ITEM.repeat(ITEMS);
    Response {
        status: 200,
        fields: vec![(b"Content-Type".to_vec(), b"application/json".to_vec())],
        body: format!("{{\"items\": [{}]}}", items.trim_end_matches(',')).into_bytes(),
    }
}

/// CPU time of this thread so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

struct Engine {
    program: Arc<Program>,
    overlay: Arc<Overlay>,
    response: Response,
    instructions: Instructions,
}

impl Engine {
    fn measure(&mut self, corpus: &[(Entry, Request)], sample: Duration, rounds: u32) -> Vec<Measured> {
        let mut measured: Vec<Measured> =
            corpus.iter().map(|(entry, request)| self.prepare(entry, request, sample)).collect();
        // All entries in turn, so that a slow moment of the machine does not hit one of them alone.
        for _ in 0..rounds {
            for ((_, request), measured) in corpus.iter().zip(&mut measured) {
                let start = cpu_time();
                for _ in 0..measured.iterations {
                    self.transaction(request);
                }
                let each = (cpu_time() - start).as_nanos() / u128::from(measured.iterations.max(1));
                measured.nanoseconds.push(u64::try_from(each).unwrap_or(u64::MAX));
            }
        }
        for entry in &mut measured {
            let least = entry.nanoseconds.iter().min().copied().unwrap_or(0);
            entry.microseconds = Duration::from_nanos(least).as_secs_f64() * 1e6;
        }
        measured
    }

    /// The verdict on an entry, and how many transactions make a sample.
    fn prepare(&mut self, entry: &Entry, request: &Request, sample: Duration) -> Measured {
        let refused = self.transaction(request);
        let mut iterations = 1_u64;
        let found = loop {
            let start = cpu_time();
            for _ in 0..iterations {
                self.transaction(request);
            }
            let spent = cpu_time() - start;
            if spent * 4 >= sample {
                let each = spent.as_nanos().max(1) / u128::from(iterations);
                break u64::try_from(sample.as_nanos() / each.max(1)).unwrap_or(1).max(1);
            }
            iterations = iterations.saturating_mul(2);
        };
        let verdict = if refused.is_some() { Expected::Block } else { Expected::Pass };
        Measured {
            id: entry.id.clone(),
            class: entry.class.clone(),
            expect: entry.expect,
            as_expected: entry.expect.map(|expected| expected == verdict),
            status: refused.map_or(0, |(status, _)| status),
            rule: refused.map(|(_, rule)| rule),
            iterations: found,
            microseconds: 0.0,
            nanoseconds: Vec::new(),
            instructions: self.count_instructions(request),
            allocations: counters::allocations(|| {
                self.transaction(request);
            }),
        }
    }

    /// The least of a few transactions: interrupts of the thread only add.
    fn count_instructions(&mut self, request: &Request) -> Option<u64> {
        let mut least = None;
        for _ in 0..COUNTED {
            let before = self.instructions.read()?;
            self.transaction(request);
            let spent = self.instructions.read()?.saturating_sub(before);
            least = Some(least.map_or(spent, |least: u64| least.min(spent)));
        }
        least
    }

    /// One whole transaction, its report included: status and rule of the refusal.
    fn transaction(&self, request: &Request) -> Option<(u16, u32)> {
        let mut transaction =
            Transaction::new(Arc::clone(&self.program), Arc::clone(&self.overlay), "1a2b3c4d5e6f");
        let refused = request.judge(&mut transaction, CLIENT, Some(&self.response));
        std::hint::black_box(transaction.finish());
        refused.map(|interruption| (interruption.status, interruption.rule_id))
    }
}

impl Entry {
    fn request(&self, body: Vec<u8>) -> Request {
        let bytes = |text: &String| text.as_bytes().to_vec();
        Request {
            method: bytes(&self.method),
            target: bytes(&self.uri),
            version: b"HTTP/1.1".to_vec(),
            fields: self.headers.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
            body,
        }
    }
}

impl Results {
    fn new(rules: usize, load_milliseconds: u128, entries: Vec<Measured>) -> Self {
        let count = |wanted| entries.iter().filter(|entry| entry.as_expected == Some(wanted)).count();
        Results { rules, load_milliseconds, as_expected: count(true), differing: count(false), entries }
    }

    fn engine(&self) -> String {
        format!(
            "portcullis {}: {} rules in {} ms",
            env!("CARGO_PKG_VERSION"),
            self.rules,
            self.load_milliseconds
        )
    }

    /// The entries whose verdict is not the expected one.
    fn differences(&self) -> String {
        let mut text =
            format!("{} of {} verdicts are not the expected ones:", self.differing, self.entries.len());
        for entry in self.entries.iter().filter(|entry| entry.as_expected == Some(false)) {
            let _ = match entry.rule {
                None => write!(text, "\n  {} is let through", entry.id),
                Some(rule) => {
                    write!(text, "\n  {} is refused with {} by rule {rule}", entry.id, entry.status)
                }
            };
        }
        text
    }

    /// One line an entry, separated by tabs.
    fn lines(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            let _ = write!(text, "{}\t{}\t{}", entry.id, entry.status, entry.iterations);
            for nanoseconds in &entry.nanoseconds {
                let _ = write!(text, "\t{nanoseconds}");
            }
            text.push('\n');
        }
        text
    }

    fn table(&self) -> String {
        let width = self.entries.iter().map(|entry| entry.id.len()).max().unwrap_or(0);
        let mut text = String::new();
        for entry in &self.entries {
            let _ = write!(text, "{:width$}  {:>10.1} µs  ", entry.id, entry.microseconds);
            let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
            let _ = write!(
                text,
                "{:>10} instructions {:>5} allocations  ",
                count(entry.instructions),
                count(entry.allocations)
            );
            let _ = match entry.rule {
                None => write!(text, "pass"),
                Some(rule) => write!(text, "block {} by rule {rule}", entry.status),
            };
            text.push_str(if entry.as_expected == Some(false) { "  DIFFERS\n" } else { "\n" });
        }
        let _ =
            writeln!(text, "{}; {} as expected, {} differ", self.engine(), self.as_expected, self.differing);
        text
    }
}
