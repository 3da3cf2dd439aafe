//! Clients of every kind that ask without a pause and count what goes wrong.

use portcullis_testkit::{Authority, H2Client, RawClient};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a client does.
#[derive(Clone)]
pub(crate) enum Kind {
    /// GET after GET on one connection.
    Keep,
    /// A connection for each GET.
    Fresh,
    /// POST on one connection; half of the body comes a little later.
    Post,
    /// GETs on one connection that take the origin a while.
    Slow,
    /// HTTP/2, four streams at a time, one of them a POST and one slow.
    Http2,
    /// A TLS connection for each GET.
    Tls(Arc<rustls::ClientConfig>),
}

/// What all kinds of clients have seen.
pub(crate) struct Tally {
    /// Good answers, by kind in the order of [`Load::start`].
    pub(crate) good: Vec<usize>,
    /// What went wrong, and after how many good answers of its client.
    pub(crate) failures: Vec<String>,
}

/// Clients under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(Arc<AtomicUsize>, JoinHandle<Option<String>>)>,
}

impl Load {
    /// A client of each kind. Those over TLS go to `tls`.
    pub(crate) fn start(public: SocketAddr, tls: SocketAddr, kinds: &[Kind]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let clients = kinds.iter().map(|kind| {
            let (stop, good, kind) = (Arc::clone(&stop), Arc::<AtomicUsize>::default(), kind.clone());
            let client = Client {
                address: if matches!(kind, Kind::Tls(_)) { tls } else { public },
                kind,
                good: Arc::clone(&good),
                stop,
            };
            (good, thread::spawn(move || client.run()))
        });
        Load { clients: clients.collect(), stop }
    }

    /// Waits until each client has had so many more answers, or has failed.
    pub(crate) fn progress(&self, more: usize) {
        let aims: Vec<usize> =
            self.clients.iter().map(|(good, _)| good.load(Ordering::Relaxed) + more).collect();
        for ((good, client), aim) in self.clients.iter().zip(aims) {
            while good.load(Ordering::Relaxed) < aim && !client.is_finished() {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Ends it.
    pub(crate) fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until each client was told that nobody listens any more.
    pub(crate) fn wait(self) -> Tally {
        let mut tally = Tally { good: Vec::new(), failures: Vec::new() };
        for (good, client) in self.clients {
            tally.failures.extend(client.join().unwrap());
            tally.good.push(good.load(Ordering::Relaxed));
        }
        tally
    }
}

struct Client {
    address: SocketAddr,
    kind: Kind,
    good: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Client {
    /// Asks until it is told to stop, or refused a connection; what else went wrong.
    fn run(self) -> Option<String> {
        while !self.stop.load(Ordering::Relaxed) {
            match self.connection() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return self.refused(),
                Err(error) => {
                    let name = self.name();
                    return Some(format!("{name}, after {}: {error}", self.good.load(Ordering::Relaxed)));
                }
            }
        }
        None
    }

    fn refused(&self) -> Option<String> {
        // Whoever ends the load before the gateway does not count on it.
        (!self.stop.load(Ordering::Relaxed)).then(|| format!("{}: refused", self.name()))
    }

    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Keep => "keep",
            Kind::Fresh => "fresh",
            Kind::Post => "post",
            Kind::Slow => "slow",
            Kind::Http2 => "http2",
            Kind::Tls(_) => "tls",
        }
    }

    /// Uses one connection until the server says that it ends it.
    fn connection(&self) -> io::Result<()> {
        if matches!(self.kind, Kind::Http2) {
            return self.http2();
        }
        let mut client = match &self.kind {
            Kind::Tls(config) => RawClient::connect_with(self.address, "localhost", Arc::clone(config))?,
            _ => RawClient::connect(self.address)?,
        };
        loop {
            let expected = match self.kind {
                Kind::Post => {
                    client.send("POST /post HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\nhalf")?;
                    thread::sleep(Duration::from_millis(5));
                    client.send("half")?;
                    "halfhalf"
                }
                Kind::Slow => {
                    client.send("GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
                    "late"
                }
                Kind::Keep | Kind::Http2 => {
                    client.send("GET /x HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
                    "fine"
                }
                Kind::Fresh | Kind::Tls(_) => {
                    client.send("GET /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
                    "fine"
                }
            };
            let answer = client.response()?;
            if !answer.complete || answer.status() != 200 || answer.text() != expected {
                return Err(io::Error::other(format!("{} {:?}", answer.status(), answer.text())));
            }
            self.good.fetch_add(1, Ordering::Relaxed);
            let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if closes || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn http2(&self) -> io::Result<()> {
        let mut client = H2Client::start(RawClient::connect(self.address)?)?;
        while client.goaway.is_none() && !self.stop.load(Ordering::Relaxed) {
            let post = client.request("POST", "a", "/post", &[("content-length", "8")], false)?;
            let slow = client.request("GET", "a", "/slow", &[], true)?;
            let (one, two) =
                (client.request("GET", "a", "/x", &[], true)?, client.request("GET", "a", "/x", &[], true)?);
            client.data(post, b"half", false)?;
            client.data(post, b"half", true)?;
            for (stream, expected) in [(post, "halfhalf"), (slow, "late"), (one, "fine"), (two, "fine")] {
                let answer = client.answer(stream);
                // What is behind the last stream that the server takes was not looked at, and may be asked elsewhere.
                if client.goaway.is_some_and(|(last, _)| stream > last) {
                    continue;
                }
                let answer = answer?;
                if !answer.ended || answer.status != Some(200) || answer.body != expected.as_bytes() {
                    return Err(io::Error::other(format!("stream {stream}: {answer:?}")));
                }
                self.good.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// A client of each kind.
pub(crate) fn all_kinds(authority: &Authority) -> Vec<Kind> {
    let tls = Arc::new(authority.client_config(&["http/1.1"]));
    vec![
        Kind::Keep,
        Kind::Keep,
        Kind::Fresh,
        Kind::Fresh,
        Kind::Post,
        Kind::Slow,
        Kind::Http2,
        Kind::Tls(tls),
    ]
}
