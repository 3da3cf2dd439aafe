//! How the firewall's cost grows with what it is given: `cargo bench -p portcullis-waf --bench slope`.
//!
//! Each shipped rule and each rule of CRS, alone, against inputs made for it; then whole requests against all rules.
//! Costs are processor time of the thread, the least of several samples; a slope is that of the logarithm of the cost
//! over the logarithm of the size: 1 is linear. What is above the bound at first is measured again, longer, at more sizes.
//! Ends with an error when a slope stays above it.
//!
//! Arguments other than those of cargo select rules and requests by name: `-- 942`, `-- JSON`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod inputs;
mod requests;
mod rules;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use portcullis_waf::{Overlay, Program, Transaction};
use requests::Request;
use rules::Rules;
use rustix::time::{ClockId, clock_gettime};

/// The slope no rule may exceed.
const BOUND: f64 = 1.1;
/// The slope between two sizes from which on more sizes are measured, and longer.
const SUSPECT: f64 = 1.05;
const SIZES: [usize; 5] = [8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];

/// The largest body that is taken by default, with some room for what surrounds the text in it.
const LARGE: usize = (1 << 20) - (8 << 10);

/// What a rule or request costs at each size, in microseconds.
struct Row {
    name: String,
    costs: Vec<(usize, f64)>,
}

impl Row {
    /// The slope of a line through the logarithms.
    fn slope(&self) -> f64 {
        let points: Vec<(f64, f64)> =
            self.costs.iter().map(|(size, cost)| ((*size as f64).ln(), cost.ln())).collect();
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), point| {
            (over + (point.0 - x) * (point.1 - y), under + (point.0 - x).powi(2))
        });
        over / under
    }

    fn at(&self, size: usize) -> f64 {
        self.costs.iter().find(|(at, _)| *at == size).map_or(0.0, |(_, cost)| *cost)
    }
}

fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// The time of one run in microseconds, from a sample of at least `sample` microseconds. Samples of all sizes are equally
/// long: on a shared machine a short one would more often find the neighbours asleep.
fn cost(sample: f64, run: &dyn Fn()) -> f64 {
    let begun = thread_time();
    let mut runs = 0.0;
    loop {
        run();
        runs += 1.0;
        let taken = thread_time() - begun;
        if taken >= sample {
            return (taken / runs).max(0.1);
        }
    }
}

fn send(program: &Arc<Program>, overlay: &Arc<Overlay>, request: &Request) {
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "0194c1f2a7");
    transaction.connection([192, 0, 2, 7].into(), 40000, [192, 0, 2, 1].into(), 443);
    transaction.request_line(b"POST", &request.target, b"HTTP/1.1");
    transaction.request_header(b"Host", b"shop.example");
    for (name, value) in &request.fields {
        transaction.request_header(name, value);
    }
    if transaction.check_request_headers().is_none()
        && transaction.write_request_body(&request.body).is_none()
    {
        transaction.check_request_body();
    }
    std::hint::black_box(transaction.finish());
}

/// Measures at two sizes; when that looks worse than the bound, at all of them, longer and several times: what is not
/// in the rule goes away.
fn measure(name: String, make: impl Fn(usize) -> Request, send: impl Fn(&Request)) -> Row {
    let mut row = Row { name, costs: vec![(SIZES[0], f64::MAX), (SIZES[3], f64::MAX)] };
    let round = |row: &mut Row, sample: f64| {
        for (size, least) in &mut row.costs {
            let request = make(*size);
            send(&request);
            *least = least.min(cost(sample, &|| send(&request)));
        }
    };
    for _ in 0..2 {
        round(&mut row, 300.0);
    }
    if row.slope() > SUSPECT {
        row.costs = SIZES.map(|size| (size, f64::MAX)).to_vec();
        for _ in 0..4 {
            round(&mut row, 3_000.0);
        }
        for _ in 0..16 {
            if row.slope() <= BOUND {
                break;
            }
            round(&mut row, 6_000.0);
        }
    }
    row
}

fn wanted(name: &str) -> bool {
    let mut filters = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    filters.peek().is_none() || filters.any(|filter| name.contains(&filter))
}

fn of_rules(set: &str, rules: &mut Rules) -> Vec<Row> {
    let mut rows = Vec::new();
    for case in rules.cases() {
        for recipe in &case.recipes {
            let name = format!("{set} {} {}", case.id, recipe.name);
            if !wanted(&name) {
                continue;
            }
            let make = |size: usize| {
                let fields = vec![(rules::FIELD.to_vec(), recipe.fill(size))];
                Request { target: b"/".to_vec(), fields, body: Vec::new() }
            };
            rows.push(measure(name, make, |request| send(&case.program, &case.overlay, request)));
        }
    }
    rows
}

fn of_requests(set: &str, rules: &Rules) -> Vec<Row> {
    let (program, overlay) = rules.whole();
    let mut rows = Vec::new();
    for shape in requests::shapes() {
        let name = format!("{set} all rules, {}", shape.name);
        if !wanted(&name) {
            continue;
        }
        let row = measure(name, shape.make, |request| send(&program, &overlay, request));
        // What is not linear would take minutes.
        let large = if row.slope() <= BOUND {
            let request = (shape.make)(LARGE);
            cost(0.0, &|| send(&program, &overlay, &request))
        } else {
            f64::INFINITY
        };
        println!(
            "  {:8.2} ms of 64 KiB, {:8.1} ms of 1 MiB, slope {:.2}: {}",
            row.at(SIZES[3]) / 1e3,
            large / 1e3,
            row.slope(),
            row.name
        );
        rows.push(row);
    }
    rows
}

/// The steepest and the dearest; whether all are within the bound.
fn report(what: &str, mut rows: Vec<Row>) -> bool {
    rows.sort_by(|a, b| b.slope().total_cmp(&a.slope()));
    let above = rows.iter().filter(|row| row.slope() > BOUND).count();
    println!("{what}: {} measured, {above} with a slope above {BOUND}; the steepest:", rows.len());
    for row in rows.iter().take(above.clamp(5, 40)) {
        let costs: Vec<String> =
            row.costs.iter().map(|(size, cost)| format!("{}K {cost:.0}", size >> 10)).collect();
        println!("  {:5.2} {} us, {}", row.slope(), costs.join(" "), row.name);
    }
    rows.sort_by(|a, b| b.at(SIZES[3]).total_cmp(&a.at(SIZES[3])));
    println!("{what}: the dearest at 64 KiB:");
    for row in rows.iter().take(10) {
        println!("  {:8.2} ms {}", row.at(SIZES[3]) / 1e3, row.name);
    }
    above == 0
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sets = vec![("own", Rules::load(&rules::files(&root.join("rules")), ""))];
    let crs = root.join("../shared/data/crs");
    if crs.is_dir() {
        let mut files = rules::files(&crs.join("rules"));
        files.insert(0, crs.join("crs-setup.conf.example"));
        let processors = "SecRule REQUEST_HEADERS:Content-Type \"@rx ^application/json\" \"id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON\"\n\
             SecRule REQUEST_HEADERS:Content-Type \"@rx ^text/xml\" \"id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=XML\"";
        sets.push(("CRS", Rules::load(&files, processors)));
    } else {
        println!("CRS: SKIPPED, {} is absent", crs.display());
    }
    let mut good = true;
    for (name, rules) in &mut sets {
        good &= report(&format!("{name}, rule by rule"), of_rules(name, rules));
        good &= report(&format!("{name}, whole requests"), of_requests(name, rules));
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
