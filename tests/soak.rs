//! A mix of requests of all kinds, with attacks among them, over reloads of all kinds: every answer is the expected one,
//! and what the process holds is the same afterwards. The quick form takes seconds; with `PORTCULLIS_FULL=1` it is five
//! million requests (or `SOAK_REQUESTS`) against the release build (`SOAK_BINARY`, else `target/release/portcullis`), and
//! memory is judged.
//!
//! The clients are wrk and h2load, so that the gateway has more to do than they; the origin is nginx.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Authority, Gateway, Ports, RawClient, absent, everything_to, free_port, ftw, get, suite,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const SUCCESS: &str = r#"portcullis_reloads_total{result="success"}"#;

/// How much of it there is.
struct Form {
    binary: PathBuf,
    requests: u64,
    round: Duration,
    reload_every: Duration,
}

impl Form {
    fn new() -> Self {
        if std::env::var_os("PORTCULLIS_FULL").is_none() {
            let (round, reload_every) = (Duration::from_secs(6), Duration::from_millis(1500));
            return Form { binary: BINARY.into(), requests: 1, round, reload_every };
        }
        let binary = std::env::var_os("SOAK_BINARY")
            .map_or_else(|| Path::new(ROOT).join("target/release/portcullis"), PathBuf::from);
        let (round, reload_every) = (Duration::from_secs(30), Duration::from_secs(10));
        let requests = std::env::var("SOAK_REQUESTS").map_or(5_000_000, |count| count.parse().unwrap());
        Form { binary, requests, round, reload_every }
    }

    fn is_full(&self) -> bool {
        self.requests > 1
    }
}

/// The origin: nginx, at two addresses.
struct Nginx {
    child: Child,
    addresses: [SocketAddr; 2],
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses = [free_port(), free_port()];
        fs::create_dir(folder.path().join("www")).unwrap();
        let text = "A page that is worth compressing. ".repeat(100);
        fs::write(folder.path().join("www/page.gz"), gzip(text.as_bytes())).unwrap();
        let text = format!(
            "daemon off; pid {path}/pid; error_log stderr crit; worker_processes 1;
             events {{ worker_connections 4096; }}
             http {{
               access_log off; keepalive_requests 1000000000; client_body_temp_path {path}/body; proxy_temp_path {path}/p;
               fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;
               server {{
                 listen {a}; listen {b};
                 location = /gz {{ root {path}/www; default_type text/html; try_files /page.gz =404; add_header content-encoding gzip; }}
                 location / {{ default_type application/json; return 200 '{{\"title\": \"A quiet place\", \"id\": 7}}\\n'; }}
               }}
             }}",
            path = folder.path().display(),
            a = addresses[0],
            b = addresses[1],
        );
        fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let child = Command::new("nginx")
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .stdout(Stdio::null())
            .spawn()
            .expect("nginx; tests/run installs it");
        let nginx = Nginx { child, addresses, _folder: folder };
        while std::net::TcpStream::connect(addresses[1]).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A configuration with the shipped rules; `more` comes behind the routes.
fn config(ports: Ports, origins: &[SocketAddr], more: &str) -> String {
    let route = r#"
        [[route.rate_limit]]
        rate = "1000000/s"
        [[route]]
        name = "compressed"
        match = { path = "/gz" }
        upstream = "origin"
        response = { streaming = true }
        "#;
    ports.opening("log.access = false\nfirewall.rules = [\"rules/*.conf\"]", "")
        + &ports.tls_listener("limits = { max_requests_per_connection = 4000000000 }")
        + &everything_to(origins, "idle_connection_timeout = \"2s\"", &format!("{route}{more}"))
}

/// Requests of the shipped rules' own tests that one critical rule of paranoia level 1 must find, so that each is refused.
fn attacks() -> Vec<Vec<u8>> {
    let critical = critical_rules();
    let folders = ["200-sqli", "300-xss", "400-lfi", "500-rce"];
    let files =
        folders.iter().flat_map(|folder| ftw::load(&Path::new(ROOT).join("rules/tests").join(folder)));
    let tests = files.flat_map(|file| file.tests);
    tests
        .filter_map(|test| match test.stages.as_slice() {
            [stage] if stage.output.log.expect_ids.iter().any(|id| critical.contains(id)) => {
                Some(stage.input.clone())
            }
            _ => None,
        })
        .filter(|input| input.request().method == b"GET" && is_plain(&input.request().target))
        .map(|input| input.wire())
        .collect()
}

/// Whether a target reaches the rules: most of the odd ones get 400 before.
fn is_plain(target: &[u8]) -> bool {
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    let (path, query) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(byte);
    path.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'/') && query.iter().all(is_allowed)
}

fn critical_rules() -> Vec<u32> {
    let mut ids = Vec::new();
    for file in fs::read_dir(Path::new(ROOT).join("rules")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        for rule in fs::read_to_string(path).unwrap().split("\n\n") {
            if rule.contains("severity:'CRITICAL'") && rule.contains("paranoia-level/1'") {
                let id = rule.split("id:").nth(1).and_then(|rest| rest.split(',').next());
                ids.extend(id.and_then(|id| id.parse::<u32>().ok()));
            }
        }
    }
    ids
}

fn fields(more: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!(
        "host: localhost\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64)\r\naccept: */*\r\n{more}{length}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn message(line: &str, more: &str, body: &[u8]) -> Vec<u8> {
    [format!("{line} HTTP/1.1\r\n").as_bytes(), &fields(more, body)].concat()
}

fn gets() -> Vec<Vec<u8>> {
    let targets = [
        "/",
        "/titles/7",
        "/titles?id=7&lang=en",
        "/search?q=quiet+place&page=3",
        "/a/b/c.html",
        "/o%27reilly",
    ];
    targets.iter().map(|target| message(&format!("GET {target}"), "", b"")).collect()
}

fn json() -> String {
    let item = |at: usize| format!(r#"{{"id": {}, "title": "A quiet place {at}"}}"#, at * 7919 % 1009);
    format!("[{}]", (0..40).map(item).collect::<Vec<_>>().join(", "))
}

fn posts() -> Vec<Vec<u8>> {
    let json = json();
    let form: Vec<String> = (0..20).map(|at| format!("field{at}=some+words+of+text+{at}")).collect();
    vec![
        message("POST /orders", "content-type: application/json\r\n", json.as_bytes()),
        message(
            "POST /reviews",
            "content-type: application/x-www-form-urlencoded\r\n",
            form.join("&").as_bytes(),
        ),
    ]
}

fn compressed() -> Vec<Vec<u8>> {
    let json = gzip(json().as_bytes());
    vec![
        message("POST /orders", "content-type: application/json\r\ncontent-encoding: gzip\r\n", &json),
        message("GET /gz", "accept-encoding: gzip\r\n", b""),
    ]
}

/// One kind of clients, by wrk: each with a thread of its own, so that a script knows which answer is to which request.
struct Load {
    name: &'static str,
    clients: usize,
    /// To be answered with 200.
    good: Vec<Vec<u8>>,
    /// To be answered with 403; every so many requests there is one of them.
    attacks: Vec<Vec<u8>>,
    tls: bool,
}

/// Of the plain requests every fifteenth is an attack: with those over HTTP/2 and TLS, about one in twenty of all.
const ATTACK_EVERY: usize = 15;

fn loads(attacks: Vec<Vec<u8>>) -> Vec<Load> {
    let fresh = vec![message("GET /titles/7", "connection: close\r\n", b"")];
    vec![
        Load {
            name: "plain",
            clients: 12,
            good: [gets(), posts(), compressed()].concat(),
            attacks,
            tls: false,
        },
        Load { name: "new TLS connections", clients: 2, good: fresh, attacks: Vec::new(), tls: true },
    ]
}

fn lua_list(requests: &[Vec<u8>]) -> String {
    let mut list = String::from("{\n");
    for request in requests {
        list.push('"');
        for byte in request {
            let _ = write!(list, "\\{byte:03}");
        }
        list.push_str("\",\n");
    }
    list + "}"
}

/// Starts wrk with a script that sends these requests in turn and says what came of them.
fn wrk(load: &Load, folder: &Path, ports: Ports, seconds: u64) -> Child {
    let script = format!(
        "local good, attacks, every = {}, {}, {ATTACK_EVERY}
         local at, expected, threads = 0, 0, {{}}
         count, refused, odd = 0, 0, 0
         function setup(thread) thread:set('first', #threads * 17) table.insert(threads, thread) end
         function init() at = first end
         function request()
           at = at + 1
           if #attacks > 0 and at % every == 0 then
             expected = 403
             return attacks[(at / every) % #attacks + 1]
           end
           expected = 200
           return good[at % #good + 1]
         end
         function response(status)
           count = count + 1
           if status ~= expected then odd = odd + 1 elseif status == 403 then refused = refused + 1 end
         end
         function done(summary)
           local e, total, r, o = summary.errors, 0, 0, 0
           for _, thread in ipairs(threads) do
             total, r, o = total + thread:get('count'), r + thread:get('refused'), o + thread:get('odd')
           end
           io.write(string.format('RESULT %d %d %d %d\\n', total, r, o, e.connect + e.read + e.write + e.timeout))
         end
         ",
        lua_list(&load.good),
        lua_list(&load.attacks),
    );
    let path = folder.join(format!("{}.lua", load.name.replace(' ', "-")));
    fs::write(&path, script).unwrap();
    let url = if load.tls { format!("https://{}/", ports.tls) } else { format!("http://{}/", ports.public) };
    let clients = load.clients.to_string();
    Command::new("wrk")
        .args(["--timeout", "20s", "-t", &clients, "-c", &clients, "-d", &format!("{seconds}s"), "-s"])
        .arg(path)
        .arg(url)
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk; tests/run installs it")
}

/// Answers, those of them that refused an attack, and all that is not as expected.
fn wrk_result(load: &Load, output: &Output) -> (u64, u64, Vec<String>) {
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers: Vec<u64> = numbers.unwrap_or_default().split(' ').filter_map(|n| n.parse().ok()).collect();
    let [answers, refused, odd, failed] = numbers[..] else { panic!("wrk, {}: {text}", load.name) };
    let mut wrong = Vec::new();
    if odd + failed > 0 {
        wrong.push(format!(
            "{}: of {answers} answers {odd} with another status, {failed} requests failed",
            load.name
        ));
    }
    (answers, refused, wrong)
}

fn h2load(ports: Ports, seconds: u64) -> Child {
    Command::new("h2load")
        .args(["-c2", "-m4", "-t1", "--rps=400", "-D", &seconds.to_string()])
        .arg(format!("https://{}/titles?id=7&lang=en", ports.tls))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("h2load; tests/run installs nghttp2-client")
}

fn h2load_result(output: &Output) -> (u64, Vec<String>) {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    let count = |line: &str, word: &str| {
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse::<u64>().ok())
    };
    let (requests, codes) = (line("requests:"), line("status codes:"));
    let good = count(&codes, "2xx").unwrap_or_else(|| panic!("h2load: {text}"));
    let others = ["3xx", "4xx", "5xx"].iter().filter_map(|kind| count(&codes, kind)).sum::<u64>();
    let failed =
        ["failed", "errored", "timeout"].iter().filter_map(|kind| count(&requests, kind)).sum::<u64>();
    let mut wrong = Vec::new();
    if others + failed > 0 {
        wrong.push(format!("HTTP/2: {requests}; {codes}"));
    }
    (good, wrong)
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Holds {
    rss_kib: u64,
    descriptors: usize,
    threads: usize,
}

fn holds(pid: u32) -> Holds {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    Holds {
        rss_kib: rss.trim().trim_end_matches(" kB").parse().unwrap(),
        descriptors: count("fd"),
        threads: count("task"),
    }
}

/// Waits until nothing is under way and what was opened for it is closed again.
fn settled(gateway: &Gateway, start: Holds) -> Holds {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = holds(gateway.pid());
        // Threads for work that would hold up others end when there was none for ten seconds.
        let idle = gateway.sample("portcullis_requests_in_flight") == Some(0.0);
        if idle && now.descriptors <= start.descriptors && now.threads <= start.threads {
            return now;
        }
        assert!(Instant::now() < deadline, "{now:?} and not {start:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Changes something else each time and waits until it is in force.
fn reload(gateway: &Gateway, authority: &Authority, origins: &[SocketAddr; 2], at: usize) {
    let before = gateway.sample(SUCCESS).unwrap();
    match at % 5 {
        0 => gateway.replace(
            "rules/999-more.conf",
            format!("SecAction \"id:{},phase:1,pass,nolog\"\n", 1_099_000 + at % 1000),
        ),
        1 => {
            let folder = gateway.folder().join("new");
            fs::create_dir_all(&folder).unwrap();
            let (certificate, key) = authority.issue(&["localhost"]).write(&folder, "a");
            fs::rename(key, gateway.folder().join("a.key")).unwrap();
            fs::rename(certificate, gateway.folder().join("a.crt")).unwrap();
        }
        2 => gateway.replace("gateway.toml", config(gateway.ports(), &origins[..1], "")),
        3 => {
            let other = "[[route]]\nname = \"other\"\nmatch = { path = \"/other\" }\nupstream = \"origin\"\n";
            gateway.replace("gateway.toml", config(gateway.ports(), origins, other));
        }
        _ => gateway.signal("HUP"),
    }
    gateway.wait_for_sample(SUCCESS, |now| now > before);
}

/// KiB by which memory grows with each million requests: the slope of the line through the samples that fits them best.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let (x, y) =
        (samples.iter().map(|s| s.0).sum::<f64>() / count, samples.iter().map(|s| s.1).sum::<f64>() / count);
    let covariance: f64 = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum();
    let variance: f64 = samples.iter().map(|s| (s.0 - x).powi(2)).sum();
    covariance / variance
}

#[test]
fn every_answer_is_as_expected_and_nothing_is_left_behind() {
    let form = Form::new();
    if absent(&form.binary) {
        assert!(!form.is_full(), "{}: cargo build --release", form.binary.display());
        return;
    }
    let (nginx, authority) = (Nginx::start(), Authority::new());
    let attacks = attacks();
    assert!(attacks.len() >= 100, "{}", attacks.len());
    let known = attacks.len();
    let builder = Gateway::builder(&form.binary);
    let _ = authority.issue(&["localhost"]).write(builder.folder(), "a");
    let copied =
        Command::new("cp").arg("-r").arg(Path::new(ROOT).join("rules")).arg(builder.folder()).status();
    assert!(copied.unwrap().success());
    let gateway = builder.start(|ports| config(ports, &nginx.addresses, ""));
    let ports = gateway.ports();
    assert_eq!(get(ports.public, "/titles/7").status(), 200);
    let loads = loads(attacks);
    // Each request once by itself, so that one that is answered otherwise is named.
    for load in loads.iter().filter(|load| !load.tls) {
        let good = load.good.iter().map(|request| (request, 200));
        for (request, expected) in good.chain(load.attacks.iter().map(|request| (request, 403))) {
            let mut client = RawClient::connect(ports.public).unwrap();
            client.send(request).unwrap();
            let answer = client.response().unwrap();
            let request = String::from_utf8_lossy(request);
            assert_eq!(answer.status(), expected, "{request}\n{}", answer.text());
        }
    }
    // What is opened once and stays: a first reload, too.
    reload(&gateway, &authority, &nginx.addresses, 4);
    let start =
        settled(&gateway, Holds { descriptors: usize::MAX, threads: usize::MAX, ..holds(gateway.pid()) });
    thread::sleep(Duration::from_secs(3));
    let start = Holds { threads: start.threads, ..settled(&gateway, start) };

    let seconds = form.round.as_secs();
    let (mut by_kind, mut wrong) = (BTreeMap::<&str, u64>::new(), Vec::new());
    let (mut samples, mut reloads, began) = (Vec::new(), 0, Instant::now());
    let total = |by_kind: &BTreeMap<&str, u64>| by_kind.values().sum::<u64>();
    while total(&by_kind) < form.requests && wrong.is_empty() {
        let clients: Vec<Child> =
            loads.iter().map(|load| wrk(load, gateway.folder(), ports, seconds)).collect();
        let h2 = h2load(ports, seconds);
        let round = Instant::now();
        while round.elapsed() + form.reload_every / 2 < form.round {
            thread::sleep(form.reload_every / 2);
            reload(&gateway, &authority, &nginx.addresses, reloads);
            reloads += 1;
            thread::sleep(form.reload_every / 2);
        }
        for (load, client) in loads.iter().zip(clients) {
            let (answers, refused, odd) = wrk_result(load, &client.wait_with_output().unwrap());
            *by_kind.entry(load.name).or_default() += answers - refused;
            *by_kind.entry("attacks").or_default() += refused;
            wrong.extend(odd);
        }
        let (requests, odd) = h2load_result(&h2.wait_with_output().unwrap());
        *by_kind.entry("HTTP/2").or_default() += requests;
        wrong.extend(odd);
        thread::sleep(Duration::from_secs(1));
        let now = holds(gateway.pid());
        samples.push((total(&by_kind) as f64 / 1e6, now.rss_kib as f64));
        eprintln!("{:>9} requests, {:?}: {now:?}", total(&by_kind), began.elapsed());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let count = total(&by_kind);
    let share = 100.0 * by_kind["attacks"] as f64 / count as f64;
    assert!((2.0..12.0).contains(&share), "{share:.1} % attacks: {by_kind:?}");
    assert!(reloads >= 3, "{reloads}");
    let odd: Vec<String> = gateway
        .log()
        .into_iter()
        .filter(|line| line.contains("\"ERROR\"") || line.contains("\"WARN\""))
        .collect();
    assert_eq!(odd, [""; 0]);
    let end = settled(&gateway, start);
    let mut memory = format!("{} KiB at the end", end.rss_kib);
    if form.is_full() {
        // The first fifth warms up: caches, pools and the allocator find their size.
        let warm = &samples[samples.len() / 5..];
        let slope = slope(warm);
        let _ = write!(memory, ", growing by {slope:.0} KiB per million after {:.1} million", warm[0].0);
        assert!(slope <= 1024.0, "{memory}: {samples:?}");
    }
    suite(
        "soak",
        &format!(
            "{count} requests ({share:.1} % of {known} attacks) in {:.0} s, {reloads} reloads, 0 not as expected; {memory}; \
             descriptors {} of {}, threads {} of {}; {by_kind:?}",
            began.elapsed().as_secs_f64(),
            end.descriptors,
            start.descriptors,
            end.threads,
            start.threads,
        ),
    );
}
