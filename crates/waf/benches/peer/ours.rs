//! Our engine's side of the conversation: what `modsecurity.c` does, by this crate.

use std::hint::black_box;
use std::io::BufRead as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use portcullis_diag::SourceMap;
use portcullis_seclang::{Disk, load};
use portcullis_waf::{FileSystem, Overlay, OverlaySettings, Program, Transaction, build};
use rustix::time::{ClockId, clock_gettime};

use crate::corpus::{self, Request};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

/// Loads the rules and answers until standard input ends.
pub(crate) fn serve(rules: &Path) {
    let start = cpu_time();
    let mut sources = SourceMap::new();
    let loaded = load(&[rules.to_owned()], &Disk, &mut sources);
    let (program, _) = build(&loaded.directives, &sources, &FileSystem)
        .unwrap_or_else(|found| panic!("{}", found.to_text(&sources)));
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics.to_text(&sources));
    drop((loaded, sources));
    let program = Arc::new(program);
    let mut overlays = vec![overlay(&program, None)];
    let rules = program.rule_count();
    println!("portcullis {}\t{rules}\t{}", env!("CARGO_PKG_VERSION"), (cpu_time() - start).as_micros());

    let requests = corpus::requests();
    let mut counter = Instructions::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (what, count) = line.split_once(' ').unwrap();
        let count: u64 = count.parse().unwrap();
        if what == "routes" {
            // A route with an exclusion of its own, as tuned routes have.
            overlays.reserve(count as usize);
            let memory =
                measure(|| overlays.extend((0..count).map(|_| overlay(&program, Some("ARGS:comment")))));
            println!("{}", memory.bytes_current);
            continue;
        }
        let request = &requests[what.parse::<usize>().unwrap()];
        let mut status = 0;
        let mut nanoseconds = 0;
        let mut instructions = None;
        let memory = measure(|| {
            let before = counter.read();
            let start = cpu_time();
            for _ in 0..count {
                status = transaction(&program, &overlays[0], request);
            }
            nanoseconds = (cpu_time() - start).as_nanos();
            instructions = counter.read().zip(before).map(|(after, before)| after - before);
        });
        let instructions = instructions.map_or_else(|| "-".to_owned(), |count| count.to_string());
        println!("{status}\t{nanoseconds}\t{}\t{instructions}", memory.count_total);
    }
}

fn overlay(program: &Arc<Program>, target: Option<&str>) -> Arc<Overlay> {
    let exclusions = target.map(|target| portcullis_waf::ExclusionSettings {
        rules: portcullis_waf::RuleSelection::Id(942_100),
        target: Some(target.to_owned()),
    });
    let settings =
        OverlaySettings { exclusions: exclusions.into_iter().collect(), ..OverlaySettings::default() };
    Arc::new(Overlay::compile(program, &settings).unwrap())
}

/// One whole transaction, its report included: the status of the refusal, or 0.
#[inline(never)]
fn transaction(program: &Arc<Program>, overlay: &Arc<Overlay>, request: &Request) -> u16 {
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "0194c1f2a7");
    transaction.connection(CLIENT, 40_000, SERVER, 443);
    transaction.request_line(request.method.as_bytes(), request.uri.as_bytes(), b"HTTP/1.1");
    for (name, value) in &request.headers {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    let refused = transaction
        .check_request_headers()
        .or_else(|| transaction.write_request_body(&request.body))
        .or_else(|| transaction.check_request_body())
        .or_else(|| {
            transaction.response_status(200);
            transaction.response_header(b"Content-Type", b"text/html");
            transaction.check_response_headers()
        })
        .or_else(|| transaction.check_response_body());
    black_box(transaction.finish());
    refused.map_or(0, |interruption| interruption.status)
}

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Instructions of this thread in user space, where the platform counts them. They are what the crate counts unless
/// it is told something else.
struct Instructions(#[cfg(target_os = "linux")] Option<perf_event::Counter>);

#[cfg(target_os = "linux")]
impl Instructions {
    fn new() -> Self {
        let counter = perf_event::Builder::new().build();
        Self(counter.ok().and_then(|mut counter| counter.enable().is_ok().then_some(counter)))
    }

    fn read(&mut self) -> Option<u64> {
        self.0.as_mut()?.read().ok()
    }
}

#[cfg(not(target_os = "linux"))]
impl Instructions {
    fn new() -> Self {
        Self()
    }

    fn read(&mut self) -> Option<u64> {
        None
    }
}
