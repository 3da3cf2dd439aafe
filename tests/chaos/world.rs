//! The servers, what is wrong between them and the gateway, and what they did.

use portcullis_testkit::{
    Answer, Authority, Case, FaultProtocol, FaultProxy, FaultScript, H2Origin, Identity, Origin, cases, rcgen,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const FAULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/faults");

/// The length of a body.
pub(crate) const BODY: usize = 2_000;

/// What health checks ask for.
pub(crate) const HEALTH: &str = "/health";

/// A body that is one request's alone.
pub(crate) fn body(id: u64) -> Vec<u8> {
    format!("{id:019} ").into_bytes().repeat(BODY / 20)
}

/// What was done for which request, by the number of the deed.
#[derive(Default)]
pub(crate) struct Journal {
    deeds: Mutex<HashMap<u64, Vec<u64>>>,
    next: AtomicU64,
    /// Requests that came, whole or not.
    pub(crate) seen: AtomicUsize,
}

impl Journal {
    /// Does a request; the number of the deed.
    fn act(&self, id: u64) -> u64 {
        let deed = self.next.fetch_add(1, Ordering::SeqCst);
        self.deeds.lock().unwrap().entry(id).or_default().push(deed);
        deed
    }

    pub(crate) fn deeds(&self, id: u64) -> Vec<u64> {
        self.deeds.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }

    /// The server with this number.
    fn origin(self: &Arc<Self>, number: usize, identity: Option<&Identity>) -> Origin {
        let journal = Arc::clone(self);
        let mut builder = Origin::builder();
        if let Some(identity) = identity {
            builder = builder.tls(identity.server_config(&[]));
        }
        builder.start(move |request| {
            if request.target() == HEALTH {
                return Answer::ok("well");
            }
            journal.seen.fetch_add(1, Ordering::SeqCst);
            let id = request.header("x-id").and_then(|id| id.parse().ok()).unwrap();
            if !request.complete || (request.method() == "POST" && request.body != body(id)) {
                return Answer::close();
            }
            let deed = journal.act(id).to_string();
            let answer = Answer::status(200).header("x-deed", &deed).header("x-server", &number.to_string());
            answer.body(body(id))
        })
    }

    fn http2_origin(self: &Arc<Self>, number: usize) -> H2Origin {
        let journal = Arc::clone(self);
        H2Origin::start(None, move |request| {
            let answer = http::Response::builder();
            if request.uri().path() == HEALTH {
                return answer.body(bytes::Bytes::new()).unwrap();
            }
            journal.seen.fetch_add(1, Ordering::SeqCst);
            let id = request.headers()["x-id"].to_str().unwrap().parse().unwrap();
            let is_whole = request.method() != "POST" || request.body()[..] == body(id)[..];
            if !is_whole {
                return answer.status(400).body(bytes::Bytes::new()).unwrap();
            }
            let deed = journal.act(id).to_string();
            let answer = answer.header("x-deed", deed).header("x-server", number.to_string());
            answer.body(bytes::Bytes::from(body(id))).unwrap()
        })
    }
}

/// A fault, and what may come of it.
pub(crate) struct Fault {
    pub(crate) case: Case,
    pub(crate) name: String,
    pub(crate) protocol: FaultProtocol,
    pub(crate) script: FaultScript,
    pub(crate) expected: BTreeMap<&'static str, BTreeSet<String>>,
    pub(crate) everywhere: bool,
    pub(crate) prefix: bool,
}

impl Fault {
    /// All of them, or the one that the environment variable `CASE` names.
    pub(crate) fn all() -> Vec<Self> {
        let only = std::env::var("CASE").ok();
        let wanted = |case: &Case| only.as_ref().is_none_or(|only| *only == case.name);
        cases(FAULTS).into_iter().filter(wanted).enumerate().map(|(at, case)| Fault::read(at, case)).collect()
    }

    fn read(number: usize, case: Case) -> Self {
        let mut expected: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let (mut everywhere, mut prefix, mut script) = (false, false, Vec::new());
        for line in &case.lines {
            let words = |line: &str| line.split_whitespace().skip(1).map(String::from).collect();
            match line.split(' ').next().unwrap() {
                "get" => drop(expected.insert("GET", words(line))),
                "post" => drop(expected.insert("POST", words(line))),
                "everywhere" => everywhere = true,
                "prefix" => prefix = true,
                _ => script.push(line.as_str()),
            }
        }
        assert_eq!(expected.len(), 2, "{}: for GET and POST", case.place);
        let protocol = match case.place.rsplit('/').next().unwrap().split('.').next().unwrap() {
            "http1" => FaultProtocol::Http1,
            "http2" => FaultProtocol::Http2,
            "tls" => FaultProtocol::Bytes,
            other => panic!("{}: what is {other}?", case.place),
        };
        let script = FaultScript::read(script, &case.place);
        Fault { name: format!("f{number}"), protocol, script, expected, everywhere, prefix, case }
    }
}

/// The servers that are well, and those that prove to be somebody else. The first of each three stands behind a proxy.
pub(crate) struct Backends {
    http1: [Origin; 3],
    http2: [H2Origin; 3],
    tls: [Origin; 3],
    strangers: Vec<(&'static str, Origin)>,
    pub(crate) authority: Authority,
}

impl Backends {
    pub(crate) fn start(journal: &Arc<Journal>) -> Self {
        let (authority, another) = (Authority::new(), Authority::new());
        let good = authority.issue(&["origin.test"]);
        let mut old = rcgen::CertificateParams::new(vec!["origin.test".to_owned()]).unwrap();
        old.not_before = rcgen::date_time_ymd(2020, 1, 1);
        old.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let stranger = |identity| journal.origin(usize::MAX, Some(identity));
        Backends {
            http1: [0, 1, 2].map(|number| journal.origin(number, None)),
            http2: [0, 1, 2].map(|number| journal.http2_origin(number)),
            tls: [0, 1, 2].map(|number| journal.origin(number, Some(&good))),
            strangers: vec![
                ("wrong-name", stranger(&authority.issue(&["other.test"]))),
                ("expired", stranger(&authority.issue_as(&old))),
                ("stranger", stranger(&another.issue(&["origin.test"]))),
                ("plain", journal.origin(usize::MAX, None)),
            ],
            authority,
        }
    }

    fn addresses(&self, protocol: FaultProtocol) -> [SocketAddr; 3] {
        match protocol {
            FaultProtocol::Http1 => self.http1.each_ref().map(Origin::address),
            FaultProtocol::Http2 => self.http2.each_ref().map(H2Origin::address),
            FaultProtocol::Bytes => self.tls.each_ref().map(Origin::address),
        }
    }

    /// Faults, each with what stands before the first server to bring it about.
    pub(crate) fn before(&self, faults: Vec<Fault>) -> Vec<(Fault, FaultProxy)> {
        let proxy = |fault: &Fault| {
            let mut backends = vec![("origin", self.addresses(fault.protocol)[0])];
            backends.extend(self.strangers.iter().map(|(name, origin)| (*name, origin.address())));
            FaultProxy::start(fault.protocol, &backends)
        };
        faults.into_iter().map(|fault| (proxy(&fault), fault)).map(|(proxy, fault)| (fault, proxy)).collect()
    }

    /// The endpoints of an upstream with this fault, in the order of their numbers.
    pub(crate) fn endpoints(&self, fault: &Fault, proxy: &FaultProxy) -> Vec<SocketAddr> {
        let [_, others @ ..] = self.addresses(fault.protocol);
        let mut endpoints = vec![proxy.address()];
        if !fault.everywhere {
            endpoints.extend(others);
        }
        endpoints
    }
}
