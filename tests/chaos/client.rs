//! The clients, and what they saw.

use crate::world::{BODY, Fault, Journal, body};
use crate::{CLIENTS, RECOVERY};
use portcullis_testkit::RawClient;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How late the machine wakes those who sleep: what it adds to every wait is not the gateway's.
#[derive(Default)]
pub(crate) struct Noise(Mutex<Vec<(Instant, Duration)>>);

impl Noise {
    pub(crate) fn watch(&self, over: &AtomicBool) {
        const STEP: Duration = Duration::from_millis(5);
        while !over.load(Ordering::SeqCst) {
            let began = Instant::now();
            thread::sleep(STEP);
            let late = began.elapsed().saturating_sub(STEP);
            if late > STEP {
                self.0.lock().unwrap().push((Instant::now(), late));
            }
        }
    }

    fn since(&self, began: Instant) -> Duration {
        self.0.lock().unwrap().iter().rev().take_while(|(at, _)| *at >= began).map(|(_, late)| *late).sum()
    }
}

/// What a client got.
pub(crate) struct Seen {
    pub(crate) id: u64,
    /// A status, `cut`, or `nothing`.
    pub(crate) outcome: String,
    /// The deed that the answer is of, where it is a whole 2xx.
    pub(crate) deed: Option<u64>,
    /// Which server did it.
    pub(crate) server: Option<usize>,
    pub(crate) took: Duration,
    pub(crate) noise: Duration,
}

pub(crate) struct Run<'a> {
    pub(crate) gateway: SocketAddr,
    pub(crate) journal: &'a Journal,
    pub(crate) noise: &'a Noise,
    pub(crate) next_id: AtomicU64,
}

impl Run<'_> {
    /// Sends one request over the connection, or over a new one where there is none.
    fn ask(&self, client: &mut Option<RawClient>, fault: &Fault, method: &str) -> Result<Seen, String> {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        let content = if method == "POST" { body(id) } else { Vec::new() };
        let length = if content.is_empty() { String::new() } else { format!("content-length: {BODY}\r\n") };
        let mut bytes =
            format!("{method} /{}/{id} HTTP/1.1\r\nhost: a.test\r\nx-id: {id}\r\n{length}\r\n", fault.name)
                .into_bytes();
        bytes.extend_from_slice(&content);
        let mut connection = match client.take() {
            Some(client) => client,
            None => RawClient::connect(self.gateway).map_err(|error| format!("connecting: {error}"))?,
        };
        let began = Instant::now();
        let sent = connection.send(bytes);
        let answer = connection.response();
        let (took, noise) = (began.elapsed(), self.noise.since(began));
        let Ok(answer) = answer else {
            return Err(format!("request {id} got nothing: {:?} (sent: {sent:?})", answer.unwrap_err()));
        };
        if answer.complete && answer.header("connection") != Some("close") {
            *client = Some(connection);
        }
        let outcome = if answer.complete { answer.status().to_string() } else { "cut".to_owned() };
        let (mut deed, mut server) = (None, None);
        if answer.complete && answer.status() == 200 {
            let number = answer.header("x-deed").and_then(|deed| deed.parse().ok());
            let number: u64 = number.ok_or_else(|| format!("request {id}: an answer of nobody's deed"))?;
            let whole = body(id);
            let is_own = if fault.prefix { whole.starts_with(&answer.body) } else { whole == answer.body };
            if !is_own {
                return Err(format!("request {id}: not its own answer: {:?}", answer.text()));
            }
            if self.journal.deeds(id).iter().filter(|deed| **deed == number).count() != 1 {
                return Err(format!("request {id}: deed {number} is not in the journal"));
            }
            deed = Some(number);
            server = answer.header("x-server").and_then(|server| server.parse().ok());
        }
        Ok(Seen { id, outcome, deed, server, took, noise })
    }

    /// So many requests of one method, by several clients at once.
    pub(crate) fn batch(&self, fault: &Fault, method: &str, count: usize) -> Vec<Result<Seen, String>> {
        let left = AtomicUsize::new(count);
        let client = || {
            let (mut connection, mut seen) = (None, Vec::new());
            while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                seen.push(self.ask(&mut connection, fault, method));
            }
            seen
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        })
    }

    /// How long it takes from the fault's end until every endpoint has answered again, and no request fails any more:
    /// ten in a row succeed.
    pub(crate) fn recover(&self, fault: &Fault) -> Result<Duration, String> {
        let began = Instant::now();
        let (mut row, mut well_since, mut connection) = (0, began, None);
        let mut missing = BTreeSet::from_iter(if fault.everywhere { 0..1 } else { 0..3 });
        loop {
            let seen = self.ask(&mut connection, fault, "GET")?;
            let is_first = seen.server.is_some_and(|server| missing.remove(&server));
            row = if seen.outcome == "200" { row + 1 } else { 0 };
            if row == 0 || is_first {
                well_since = Instant::now();
            }
            if row >= 10 && missing.is_empty() {
                return Ok(well_since.duration_since(began));
            }
            if began.elapsed() > RECOVERY + self.noise.since(began) {
                return Err(format!(
                    "not recovered: {row} good in a row, endpoints without an answer: {missing:?}"
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
