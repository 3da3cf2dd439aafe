//! What a request costs here and in libmodsecurity, side by side: `cargo bench -p portcullis-waf --bench peer`.
//!
//! Both engines load the same text (ModSecurity's recommended configuration, then CRS 4) in a process of their own and
//! run the same whole transactions: phases 1 to 5, with an empty response. They take turns, request by request and
//! round by round, so that a slow moment of the machine hits both; the least CPU time of all rounds counts.
//!
//! Options behind `--`: `--rounds=N`, `--milliseconds=N` of CPU for one sample, `--at-least=RATIO` to fail below it.
//! Needs a C compiler and libmodsecurity (Debian: `apt-get install gcc libmodsecurity-dev`), and CRS in
//! `../shared/data/crs` or `$CRS_DIR`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "../corpus/mod.rs"]
mod corpus;
mod engine;
mod ours;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use corpus::Request;
use engine::{Engine, Sample};

/// Loads of each engine, of which the fastest counts.
const LOADS: usize = 3;
/// Routes whose memory is measured at once.
const ROUTES: u64 = 1000;

/// What one engine needs for one request.
struct Cost {
    status: u16,
    microseconds: f64,
    allocations: Option<u64>,
    instructions: Option<u64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, rules] = arguments.as_slice()
        && role == "ours"
    {
        return ours::serve(Path::new(rules));
    }
    let option = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name));
    let number = |name: &str, default: f64| option(name).map_or(default, |text| text.parse().unwrap());
    let rounds = number("--rounds=", 20.0) as usize;
    let nanoseconds = number("--milliseconds=", 20.0) * 1e6;
    let at_least = number("--at-least=", 0.0);

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer");
    std::fs::create_dir_all(&folder).unwrap();
    let Some(crs) = crs() else { return };
    let Some((timed, counting)) = drivers(&folder) else { return };
    let requests = corpus::requests();
    let flat = folder.join("requests");
    write_flat(&flat, &requests);
    println!("{}; {rounds} rounds of {} ms; CPU time, the least", machine(), nanoseconds / 1e6);

    let mut sound = true;
    let mut least = f64::INFINITY;
    for paranoia in [1, 4] {
        let rules = write_rules(&folder, &crs, paranoia);
        let start_ours = || Engine::start(&std::env::current_exe().unwrap(), &[Path::new("ours"), &rules]);
        let start_peer = |driver: &Path| Engine::start(driver, &[&rules, &flat]);
        let (mut us, mut peer) = (fastest(start_ours), fastest(|| start_peer(&timed)));
        let mut costs = measure([&mut us, &mut peer], requests.len(), rounds, nanoseconds);
        let mut counting = start_peer(&counting);
        for (index, [_, peer]) in costs.iter_mut().enumerate() {
            counting.ask(index, 1);
            peer.allocations = counting.ask(index, 1).allocations;
        }
        println!("\nparanoia level {paranoia}");
        sound &= table(&requests, &costs, paranoia, &mut least);
        loads(&mut us, &mut peer);
    }
    println!("\nleast ratio of the four figures: {least:.1}");
    if !sound || least < at_least {
        eprintln!("peer: a verdict is not the expected one, or the ratio is below {at_least}");
        std::process::exit(1);
    }
}

/// Where CRS is.
fn crs() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/crs");
    let crs = std::env::var_os("CRS_DIR").map_or(shared, PathBuf::from);
    if !crs.join("rules").is_dir() {
        println!("SKIPPED: there is no CRS in {}; name its folder in CRS_DIR", crs.display());
        return None;
    }
    Some(crs.canonicalize().unwrap())
}

/// Builds the peer's driver: one to be timed, one that counts allocations.
fn drivers(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/modsecurity.c");
    let build = |name: &str, flags: &[&str]| {
        let program = folder.join(name);
        let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        command.arg("-O2").args(flags).arg("-o").arg(&program).arg(&source).arg("-lmodsecurity");
        command.status().is_ok_and(|status| status.success()).then_some(program)
    };
    let built = build("modsecurity", &[]).zip(build("modsecurity-counting", &["-DCOUNT_ALLOCATIONS"]));
    if built.is_none() {
        println!("SKIPPED: the peer does not build; apt-get install gcc libmodsecurity-dev");
    }
    built
}

/// The requests as the driver reads them.
fn write_flat(path: &Path, requests: &[Request]) {
    let mut out = Vec::new();
    for request in requests {
        writeln!(out, "{} {}", request.headers.len(), request.body.len()).unwrap();
        writeln!(out, "{}\n{}", request.method, request.uri).unwrap();
        for (name, value) in &request.headers {
            writeln!(out, "{name}\n{value}").unwrap();
        }
        out.extend_from_slice(&request.body);
        out.push(b'\n');
    }
    std::fs::write(path, out).unwrap();
}

/// The rules of both engines for a paranoia level.
fn write_rules(folder: &Path, crs: &Path, paranoia: u8) -> PathBuf {
    let path = folder.join(format!("pl{paranoia}.conf"));
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/recommended.conf");
    let crs = crs.display();
    let text = format!(
        "Include {}\nInclude {crs}/crs-setup.conf.example\n\
         SecAction \"id:900000,phase:1,pass,t:none,nolog,setvar:tx.blocking_paranoia_level={paranoia}\"\n\
         Include {crs}/rules/*.conf\n",
        base.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// The engine with the best of a few loads.
fn fastest(start: impl Fn() -> Engine) -> Engine {
    let mut engines: Vec<Engine> = (0..LOADS).map(|_| start()).collect();
    engines.sort_by_key(|engine| engine.load_microseconds);
    engines.swap_remove(0)
}

/// Has the engines take turns at every request.
fn measure(
    mut engines: [&mut Engine; 2],
    requests: usize,
    rounds: usize,
    nanoseconds: f64,
) -> Vec<[Cost; 2]> {
    let mut counts = Vec::new();
    let mut costs = Vec::new();
    for index in 0..requests {
        let warm: [Sample; 2] = [0, 1].map(|which| {
            engines[which].ask(index, 2);
            engines[which].ask(index, 2)
        });
        counts.push([0, 1].map(|which| (nanoseconds * 2.0 / warm[which].nanoseconds as f64).ceil() as u64));
        costs.push([0, 1].map(|which| Cost {
            status: warm[which].status,
            microseconds: f64::INFINITY,
            allocations: warm[which].allocations.map(|allocations| allocations / 2),
            instructions: warm[which].instructions.map(|instructions| instructions / 2),
        }));
    }
    for _ in 0..rounds {
        for index in 0..requests {
            for which in [0, 1] {
                let count = counts[index][which];
                let sample = engines[which].ask(index, count);
                let cost = &mut costs[index][which];
                cost.microseconds = cost.microseconds.min(sample.nanoseconds as f64 / count as f64 / 1000.0);
                cost.instructions =
                    sample.instructions.map(|instructions| instructions / count).or(cost.instructions);
            }
        }
    }
    costs
}

/// Prints what each request costs. Whether both engines agree on every verdict, and with the corpus at level 1;
/// `least` takes the lowest ratio of the published figures, which are those of level 1.
fn table(requests: &[Request], costs: &[[Cost; 2]], paranoia: u8, least: &mut f64) -> bool {
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    println!(
        "| {:12} | {:>10} | {:>8} | {:>7} | {:>12} | {:>10} | {:>12} | {:>12} | {:>7} |",
        "request",
        "ModSec. µs",
        "ours µs",
        "ratio",
        "ModSec. all.",
        "ours all.",
        "ModSec. ins.",
        "ours ins.",
        "verdict"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut sound = true;
    for (request, [ours, peer]) in requests.iter().zip(costs) {
        let ratio = peer.microseconds / ours.microseconds;
        if request.class == "figure" && paranoia == 1 {
            *least = least.min(ratio);
        }
        println!(
            "| {:12} | {:>10.1} | {:>8.1} | {ratio:>7.1} | {:>12} | {:>10} | {:>12} | {:>12} | {:>7} |",
            request.id,
            peer.microseconds,
            ours.microseconds,
            count(peer.allocations),
            count(ours.allocations),
            count(peer.instructions),
            count(ours.instructions),
            if ours.status == 0 { "pass".to_owned() } else { ours.status.to_string() }
        );
        let expected = paranoia > 1 || (ours.status != 0) == (request.expect == "block");
        if !expected || ours.status != peer.status {
            sound = false;
            println!("  {}: ModSecurity answers {}, we {}", request.id, peer.status, ours.status);
        }
    }
    sound
}

/// Prints what the engines need for the rules themselves.
fn loads(us: &mut Engine, peer: &mut Engine) {
    for engine in [&*peer, &*us] {
        println!(
            "{}: {} rules loaded in {:.0} ms; {} kB at most resident",
            engine.name,
            engine.rules,
            engine.load_microseconds as f64 / 1000.0,
            engine.peak_memory()
        );
    }
    println!("ours, each further route: {:.2} kB", us.add_routes(ROUTES) as f64 / ROUTES as f64 / 1000.0);
}

/// What the figures were taken on.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores", model.trim_start_matches([' ', '\t', ':']))
}
