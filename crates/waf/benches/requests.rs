//! What the firewall costs a request: `cargo bench -p portcullis-waf`, or with `-- "CRS PL1"` a part of it. Prints the best of several rounds, because that is
//! what a shared machine disturbs least.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use portcullis_diag::SourceMap;
use portcullis_seclang::{DirectiveKind, Disk, load, parse};
use portcullis_waf::{FileSystem, Overlay, OverlaySettings, Program, Transaction, build};

struct Request {
    name: &'static str,
    method: &'static str,
    target: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

fn requests() -> Vec<Request> {
    let simple =
        vec![("Host", "shop.example"), ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"), ("Accept", "*/*")];
    let browser = vec![
        ("Host", "shop.example"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Referer", "https://shop.example/catalogue?page=3"),
        ("Connection", "keep-alive"),
        ("Cookie", "session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=analytics%3Dno"),
        ("Upgrade-Insecure-Requests", "1"),
        ("Sec-Fetch-Dest", "document"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Cache-Control", "max-age=0"),
    ];
    let mut form = browser.clone();
    form.push(("Content-Type", "application/x-www-form-urlencoded"));
    let mut json = browser.clone();
    json.push(("Content-Type", "application/json"));
    let item = r#"{"id":12345,"title":"A quiet place by the sea","tags":["drama","family"],"price":9.99,"note":"see page 7"}"#;
    let target = "/catalogue/list?category=drama&page=3&sort=title&q=quiet+place";
    let long: Vec<u8> = b"text="
        .iter()
        .copied()
        .chain(b"The quick brown fox jumps. ".iter().copied().cycle().take(10_000))
        .collect();
    let get = |name, target, fields| Request { name, method: "GET", target, fields, body: Vec::new() };
    let post = |name, fields, body| Request { name, method: "POST", target: "/reviews", fields, body };
    vec![
        get("simple GET", "/titles?id=7&lang=en", simple),
        get("browser GET", target, browser),
        post("form POST", form.clone(), b"name=Ada+Lovelace&mail=ada%40example.org&title=Wonderful&stars=5&text=I+liked+it+very+much%2C+thank+you%21&country=GB&city=London&zip=W1&news=no".to_vec()),
        post("JSON 2 kB", json, format!("[{}]", vec![item; 18].join(",")).into_bytes()),
        post("10 kB POST", form.clone(), long),
        get("attack GET", "/search?q=%27%20OR%201%3D1--%20&x=%3Cscript%3Ealert(1)%3C/script%3E", form),
    ]
}

fn rule_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
}

/// A rule set without the variables and operators that are not there yet.
fn compile(files: &[PathBuf], extra: &str) -> Arc<Program> {
    let mut sources = SourceMap::new();
    let extra = sources.add("extra.conf", extra);
    let mut directives = parse(&sources, extra).directives;
    directives.extend(load(files, &Disk, &mut sources).directives);
    for directive in &mut directives {
        let DirectiveKind::Rule(rule) = &mut directive.kind else { continue };
        let missing = ["XML", "FILES", "FILES_NAMES", "FILES_COMBINED_SIZE", "MULTIPART_PART_HEADERS"];
        rule.variables.retain(|variable| !missing.contains(&variable.name.as_str()));
        if rule.operator.name.starts_with("detect") {
            rule.operator.name.value = "noMatch".to_owned();
        }
    }
    let begun = Instant::now();
    let program = build(&directives, &sources, &FileSystem)
        .unwrap_or_else(|found| panic!("{}", found.to_text(&sources)))
        .0;
    println!("  {} rules, compiled in {:?}", program.rule_count(), begun.elapsed());
    Arc::new(program)
}

fn run(program: &Arc<Program>, overlay: &Arc<Overlay>, request: &Request) -> usize {
    let mut transaction = Transaction::new(Arc::clone(program), Arc::clone(overlay), "0194c1f2a7");
    transaction.connection([192, 0, 2, 7].into(), 40000, [192, 0, 2, 1].into(), 443);
    transaction.request_line(request.method.as_bytes(), request.target.as_bytes(), b"HTTP/1.1");
    for (name, value) in &request.fields {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    if transaction.check_request_headers().is_none() {
        transaction.write_request_body(&request.body);
        transaction.check_request_body();
    }
    transaction.finish().matches.len()
}

fn measure(name: &str, program: &Arc<Program>) {
    for paranoia in [1, 4] {
        let settings = OverlaySettings { paranoia: Some(paranoia), ..OverlaySettings::default() };
        let overlay = Arc::new(Overlay::compile(program, &settings).unwrap());
        for request in requests() {
            let row = format!("{name} PL{paranoia} {}", request.name);
            if std::env::args().skip(1).any(|filter| !filter.starts_with('-') && !row.contains(&filter)) {
                continue;
            }
            let mut best = f64::MAX;
            let matches = run(program, &overlay, &request);
            for _ in 0..30 {
                let begun = Instant::now();
                for _ in 0..100 {
                    std::hint::black_box(run(program, &overlay, &request));
                }
                best = best.min(begun.elapsed().as_secs_f64() * 1e4);
            }
            println!("  {row:20} {best:8.1} us  {matches} matches");
        }
    }
}

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    println!("own rules");
    measure("own", &compile(&rule_files(&root.join("rules")), ""));
    let crs = root.join("../shared/data/crs");
    if !crs.is_dir() {
        println!("CRS: SKIPPED, {} is absent", crs.display());
        return;
    }
    println!("CRS");
    let mut files = rule_files(&crs.join("rules"));
    files.insert(0, crs.join("crs-setup.conf.example"));
    let json = "SecRule REQUEST_HEADERS:Content-Type \"@rx ^application/json\" \"id:1,phase:1,nolog,ctl:requestBodyProcessor=JSON\"";
    measure("CRS", &compile(&files, json));
}
