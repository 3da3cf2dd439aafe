//! Endpoints that are learnt while the gateway runs: from a real name server, and from files; and what may not be learnt
//! (matrix J1).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Gate, Gateway, GatewayBuilder, NameServer, Origin, Ports, RawClient, Received, Response, Step,
    get, request, suite,
};
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
/// For what happens within a second or two, on a machine that is busy.
const SOON: Duration = Duration::from_secs(20);

/// A gateway with one upstream, whose tables are these.
fn start(builder: GatewayBuilder, upstream: &str) -> Gateway {
    builder.start(|ports| config(ports, upstream))
}

fn config(ports: Ports, upstream: &str) -> String {
    let route = r#"
        [[route]]
        name = "all"
        match = { path = "/{*rest}" }
        upstream = "origin"
        "#;
    ports.opening("firewall.mode = \"off\"\nserver.threads = 1", "") + route + upstream
}

/// An upstream that asks this name server for addresses, and may connect to the loopback.
fn by_name(server: &NameServer, port: u16, more: &str) -> String {
    format!(
        "[upstream.origin]\ndestinations = {{ allow = [\"127.0.0.0/8\", \"::1\"] }}\n\
         [upstream.origin.discovery]\ntype = \"dns\"\nname = \"web.test\"\nport = {port}\nnameservers = [\"{}\"]\n{more}\n",
        server.address()
    )
}

fn by_file(more: &str) -> String {
    format!(
        "[upstream.origin]\ndestinations = {{ allow = [\"127.0.0.0/8\"] }}\n\
         [upstream.origin.discovery]\ntype = \"file\"\npath = \"endpoints.json\"\n{more}\n"
    )
}

/// Origins on these addresses, all on one port; each answers with the last number of its address.
fn origins<const N: usize>(hosts: [u8; N]) -> (u16, [Origin; N]) {
    let free = |port: u16| {
        hosts.iter().all(|host| TcpListener::bind(SocketAddr::from(([127, 0, 0, *host], port))).is_ok())
    };
    let port = (36_000 + u16::from(hosts[0]) * 50..).find(|port| free(*port)).unwrap();
    let at = |host| Origin::builder().at(SocketAddr::from(([127, 0, 0, host], port)));
    (port, hosts.map(|host| at(host).start(move |_| Answer::ok(host.to_string()))))
}

fn answer(gateway: &Gateway) -> String {
    let response = get(gateway.public(), "/x");
    format!("{} {}", response.status(), response.text())
}

fn wait_for(gateway: &Gateway, what: &str) {
    let deadline = Instant::now() + SOON;
    while answer(gateway) != what {
        assert!(
            Instant::now() < deadline,
            "{} instead of {what}:\n{}",
            answer(gateway),
            gateway.log().join("\n")
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn assert_unavailable(response: &Response) {
    assert_eq!(response.status(), 503);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.json()["code"], "upstream_unavailable");
}

fn readiness(gateway: &Gateway) -> serde_json::Value {
    let response = get(gateway.admin(), "/readyz");
    assert_eq!(response.status(), 200);
    response.json()["discovery"][0].clone()
}

fn lookups(result: &str) -> String {
    format!("portcullis_discovery_lookups_total{{result=\"{result}\",upstream=\"origin\"}}")
}

const ENDPOINTS: &str = "portcullis_discovery_endpoints{upstream=\"origin\"}";
const FORBIDDEN: &str = "portcullis_discovery_forbidden_addresses_total{upstream=\"origin\"}";

/// Clients that send one request after the other, GET and POST, on connections that they keep; none may fail.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<BTreeMap<String, usize>>>,
}

impl Load {
    fn on(gateway: &Gateway) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let address = gateway.public();
        let clients = (0..4).map(|client| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut answers = BTreeMap::new();
                let mut connection = RawClient::connect(address).unwrap();
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let message = if number % 2 == 0 {
                        format!("GET /{client}/{number} HTTP/1.1\r\nhost: a\r\n\r\n")
                    } else {
                        format!("POST /{client}/{number} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi")
                    };
                    connection.send(message).unwrap();
                    let response = connection.response().unwrap();
                    assert_eq!(response.status(), 200, "request {number}: {}", response.text());
                    *answers.entry(response.text()).or_default() += 1;
                    if response.header("connection") == Some("close") {
                        connection = RawClient::connect(address).unwrap();
                    }
                }
                answers
            })
        });
        let clients = clients.collect();
        Load { stop, clients }
    }

    /// Ends it; how often which origin answered.
    fn end(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = BTreeMap::new();
        for client in self.clients {
            for (origin, count) in client.join().expect("no request failed") {
                *all.entry(origin).or_default() += count;
            }
        }
        all
    }
}

#[test]
fn names_move_under_load_and_nothing_fails() {
    let (port, [two, three]) = origins([2, 3]);
    let mut server = NameServer::start("web A 127.0.0.2");
    let gateway = start(Gateway::builder(BINARY), &by_name(&server, port, ""));
    let load = Load::on(&gateway);
    wait_for(&gateway, "200 2");
    server.replace("web A 127.0.0.3");
    wait_for(&gateway, "200 3");
    server.replace("web A 127.0.0.2\nweb A 127.0.0.3");
    gateway.wait_for_sample(ENDPOINTS, |known| known == 2.0);
    thread::sleep(Duration::from_millis(200));
    server.replace("web A 127.0.0.2");
    gateway.wait_for_sample(ENDPOINTS, |known| known == 1.0);
    wait_for(&gateway, "200 2");
    let answers = load.end();
    let total: usize = answers.values().sum();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["2", "3"]);
    // What was asked beside the load was asked with GET /x.
    let asked = |origin: &Origin| origin.requests().iter().filter(|request| request.target() != "/x").count();
    assert_eq!(asked(&two) + asked(&three), total, "each once");
    suite("discovery by name under load", &format!("{total} requests, 0 failed"));
}

#[test]
fn what_goes_is_drained_not_cut() {
    let gate = Gate::default();
    let (port, [_new]) = origins([5]);
    let held = Answer::status(200).chunks(["be", "gun"], Some(Step::Until(gate.clone())));
    let script =
        move |request: &Received| if request.target() == "/held" { held.clone() } else { Answer::ok("4") };
    let old = Origin::builder().at(SocketAddr::from(([127, 0, 0, 4], port))).start(script);
    let mut server = NameServer::start("web A 127.0.0.4");
    let gateway = start(Gateway::builder(BINARY), &by_name(&server, port, ""));
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send("GET /held HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let _ = old.wait_for(1);
    server.replace("web A 127.0.0.5");
    wait_for(&gateway, "200 5");
    gate.open();
    assert_eq!(client.response().unwrap().text(), "begun");
    // Its connection is not kept for an endpoint that is no more.
    gateway.wait_for_sample("portcullis_upstream_connections_open{upstream=\"origin\"}", |open| open <= 1.0);
    assert_eq!(answer(&gateway), "200 5");
}

#[test]
fn times_to_live_are_clamped() {
    let (port, _origins) = origins([6, 7]);
    let mut server = NameServer::start("web 3600 A 127.0.0.6");
    let short = start(Gateway::builder(BINARY), &by_name(&server, port, "max_ttl = \"1s\""));
    let long = start(Gateway::builder(BINARY), &by_name(&server, port, ""));
    let low = start(Gateway::builder(BINARY), &by_name(&server, port, "min_ttl = \"1h\"\nmax_ttl = \"2h\""));
    for gateway in [&short, &long, &low] {
        assert_eq!(answer(gateway), "200 6");
    }
    server.replace("web 1 A 127.0.0.7");
    wait_for(&short, "200 7");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(answer(&long), "200 6", "five minutes at most, and it said an hour");
    assert_eq!(answer(&low), "200 6");
    let asked = |gateway: &Gateway| gateway.sample(&lookups("success")).unwrap();
    assert_eq!((asked(&long), asked(&low)), (1.0, 1.0));
    assert!(asked(&short) >= 2.0);
}

#[test]
fn a_name_that_is_gone_is_believed_after_a_while() {
    let (port, _origins) = origins([8]);
    let mut server = NameServer::start("web A 127.0.0.8");
    let gateway = start(Gateway::builder(BINARY), &by_name(&server, port, "hold_empty = \"4s\""));
    assert_eq!(answer(&gateway), "200 8");
    server.replace("other A 127.0.0.8");
    gateway.wait_for_sample(&lookups("empty"), |count| count >= 1.0);
    assert_eq!(answer(&gateway), "200 8");
    assert!(readiness(&gateway)["error"].as_str().unwrap().contains("no such name"));
    let deadline = Instant::now() + SOON;
    while get(gateway.public(), "/x").status() == 200 {
        assert!(Instant::now() < deadline, "it is held for ever");
        thread::sleep(Duration::from_millis(50));
    }
    assert_unavailable(&get(gateway.public(), "/x"));
    assert_eq!(gateway.sample(ENDPOINTS), Some(0.0));
    // The name is there, and has no addresses of the family.
    server.replace("web TXT \"no address\"");
    server.replace("web A 127.0.0.8");
    wait_for(&gateway, "200 8");
    assert_eq!(readiness(&gateway)["error"], serde_json::Value::Null);
}

#[test]
fn c13_a_name_server_that_is_gone_takes_nothing_with_it() {
    let (port, _origins) = origins([9, 10]);
    let mut server = NameServer::start("web A 127.0.0.9");
    let upstream = by_name(&server, port, "hold_empty = \"0s\"");
    let gateway = start(Gateway::builder(BINARY), &upstream);
    assert_eq!(answer(&gateway), "200 9");
    server.stop();
    gateway.wait_for_sample(&lookups("failure"), |count| count >= 2.0);
    assert_eq!(answer(&gateway), "200 9");
    let state = readiness(&gateway);
    assert_eq!((&state["upstream"], &state["endpoints"]), (&"origin".into(), &1.into()));
    assert_eq!(state["source"], format!("dns web.test:{port}"));
    assert!(state["error"].as_str().unwrap().contains("web.test A"), "{state}");
    // Neither does a reload that changes something else.
    let changed = config(gateway.ports(), &upstream)
        .replace("server.threads = 1", "server.threads = 1\nserver.grace = \"3s\"");
    gateway.replace("gateway.toml", changed);
    gateway.wait_for_sample(r#"portcullis_reloads_total{result="success"}"#, |count| count >= 2.0);
    assert_eq!(answer(&gateway), "200 9");
    server.replace_stopped("web A 127.0.0.10");
    server.resume();
    wait_for(&gateway, "200 10");
    assert_eq!(readiness(&gateway)["error"], serde_json::Value::Null);
}

#[test]
fn the_first_answer_is_waited_for_but_not_for_ever() {
    let (port, _origins) = origins([11]);
    let mut server = NameServer::stopped("web A 127.0.0.11");
    let begun = Instant::now();
    // Nobody answers: it begins without, and lives.
    let gateway = start(Gateway::builder(BINARY), &by_name(&server, port, ""));
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_unavailable(&get(gateway.public(), "/x"));
    server.resume();
    wait_for(&gateway, "200 11");
    // Somebody answers: the first request finds endpoints, after a start and after a reload.
    let again = start(Gateway::builder(BINARY), &by_name(&server, port, ""));
    assert_eq!(answer(&again), "200 11");
    let renamed = by_name(&server, port, "").replace("upstream.origin", "upstream.renamed");
    let changed = config(again.ports(), &renamed).replace("upstream = \"origin\"", "upstream = \"renamed\"");
    let load = Load::on(&again);
    again.replace("gateway.toml", changed);
    again.wait_for_sample("portcullis_discovery_endpoints{upstream=\"renamed\"}", |known| known == 1.0);
    again.wait_for_sample(r#"portcullis_reloads_total{result="success"}"#, |count| count >= 2.0);
    thread::sleep(Duration::from_millis(200));
    assert!(load.end().values().sum::<usize>() > 0);
}

#[test]
fn answers_that_do_not_fit_come_over_tcp() {
    let (port, _origins) = origins([12]);
    let many: String = (1..=200).map(|host| format!("web A 127.0.3.{host}\n")).collect();
    let server = NameServer::start(&many);
    let gateway = start(Gateway::builder(BINARY), &by_name(&server, port, ""));
    assert_eq!(gateway.sample(ENDPOINTS), Some(200.0));
}

#[test]
fn families() {
    let (port, _origins) = origins([13]);
    let _six = Origin::builder().at(format!("[::1]:{port}").parse().unwrap()).start(|_| Answer::ok("six"));
    let server = NameServer::start("web A 127.0.0.13\nweb AAAA ::1\nold A 127.0.0.13\nnew AAAA ::1");
    for (name, family, expected) in [
        ("web", "v4_preferred", &["13"][..]),
        ("web", "v6_preferred", &["six"]),
        ("web", "v4_only", &["13"]),
        ("web", "v6_only", &["six"]),
        ("web", "all", &["13", "six"]),
        ("old", "v6_preferred", &["13"]),
        ("new", "v4_preferred", &["six"]),
        ("new", "v4_only", &[]),
        ("old", "all", &["13"]),
    ] {
        let upstream = by_name(&server, port, &format!("ip_family = \"{family}\""));
        let gateway = start(Gateway::builder(BINARY), &upstream.replace("web.test", &format!("{name}.test")));
        assert_eq!(gateway.sample(ENDPOINTS), Some(expected.len() as f64), "{name} {family}");
        let mut seen: Vec<String> = (0..4)
            .map(|_| get(gateway.public(), "/x"))
            .filter(|response| response.status() == 200)
            .map(|response| response.text())
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, expected, "{name} {family}");
    }
}

#[test]
fn services_have_ports_and_weights() {
    let origin = |name: &'static str, host: u8| {
        Origin::builder().at(SocketAddr::from(([127, 0, 0, host], 0))).start(move |_| Answer::ok(name))
    };
    let (heavy, light, other) = (origin("heavy", 14), origin("light", 15), origin("other", 15));
    let records = |weight: u16| {
        format!(
            "a A 127.0.0.14\nb A 127.0.0.15\n_http._tcp.shop SRV 10 {weight} {} a\n_http._tcp.shop SRV 10 1 {} b\n",
            heavy.address().port(),
            light.address().port()
        )
    };
    let mut server = NameServer::start(&records(3));
    let gateway = start(
        Gateway::builder(BINARY),
        &format!(
            "[upstream.origin]\ndestinations.allow = [\"127.0.0.0/8\"]\n\
             discovery = {{ type = \"srv\", name = \"_http._tcp.shop.test\", nameservers = [\"{}\"], hold_empty = \"0s\" }}\n",
            server.address()
        ),
    );
    let shares = |count: usize| {
        let mut shares: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..count {
            *shares.entry(get(gateway.public(), "/x").text()).or_default() += 1;
        }
        shares.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(shares(16), [("heavy".to_owned(), 12), ("light".to_owned(), 4)]);
    server.replace(&records(1));
    let deadline = Instant::now() + SOON;
    while shares(16) != [("heavy".to_owned(), 8), ("light".to_owned(), 8)] {
        assert!(Instant::now() < deadline, "{:?}", shares(16));
    }
    // Another port of the same host, in the place of both.
    server.replace(&format!("b A 127.0.0.15\n_http._tcp.shop SRV 10 0 {} b", other.address().port()));
    wait_for(&gateway, "200 other");
    assert_eq!(shares(8), [("other".to_owned(), 8)]);
    // `.` says that there is no such service.
    server.replace("_http._tcp.shop SRV 0 0 0 .");
    gateway.wait_for_sample(ENDPOINTS, |known| known == 0.0);
    assert_unavailable(&get(gateway.public(), "/x"));
}

#[test]
fn j1_a_name_that_turns_inward_is_not_followed() {
    let (port, [good, inside]) = origins([16, 17]);
    let mut server = NameServer::start("web A 127.0.0.16");
    let upstream = by_name(&server, port, "ip_family = \"all\"\nmax_ttl = \"1s\"");
    let upstream = upstream.replace("\"127.0.0.0/8\", \"::1\"", "\"127.0.0.16\"");
    let gateway = start(Gateway::builder(BINARY), &upstream);
    assert_eq!(answer(&gateway), "200 16");
    for records in [
        "web A 127.0.0.17",
        "web A 169.254.169.254",
        "web A 0.0.0.0",
        "web AAAA ::ffff:127.0.0.17",
        "web AAAA ::1",
        "web AAAA 64:ff9b::7f00:11",
        "web AAAA fd00:ec2::254",
        "web CNAME inside\ninside A 127.0.0.17",
    ] {
        let _ = gateway.sample(FORBIDDEN);
        let before = gateway.sample(FORBIDDEN).unwrap();
        server.replace(records);
        gateway.wait_for_sample(FORBIDDEN, |count| count > before);
        assert_eq!(answer(&gateway), "200 16", "{records}");
    }
    let state = readiness(&gateway);
    assert!(state["error"].as_str().unwrap().contains("`destinations.allow`"), "{state}");
    // Among good ones it is left out.
    server.replace("web A 127.0.0.17\nweb A 127.0.0.16\nweb A 169.254.169.254");
    thread::sleep(Duration::from_secs(2));
    for _ in 0..8 {
        assert_eq!(answer(&gateway), "200 16");
    }
    assert_eq!(inside.connections(), 0);
    assert!(good.count() > 0);
}

#[test]
fn j1_names_in_plain_endpoints() {
    let (port, [origin]) = origins([1]);
    let plain = |host: &str, more: &str| {
        start(
            Gateway::builder(BINARY),
            &format!("[upstream.origin]\nendpoints = [{{ address = \"{host}:{port}\" }}]\n{more}"),
        )
    };
    // An address, and the one name that is the loopback by definition.
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(answer(&plain(host, "")), "200 1", "{host}");
    }
    // The system's resolver takes these for addresses of the loopback; nobody who means it writes it so.
    let before = origin.connections();
    for host in ["2130706433", "0x7f000001", "0177.0.0.1", "127.1"] {
        let gateway = plain(host, "");
        let response = get(gateway.public(), "/x");
        assert_eq!((response.status(), &response.json()["code"]), (502, &"upstream_error".into()), "{host}");
        let reason = "portcullis_upstream_failures_total{reason=\"forbidden_address\",upstream=\"origin\"}";
        assert!(
            gateway.sample(reason).is_some_and(|count| count >= 1.0),
            "{host}:\n{}",
            gateway.log().join("\n")
        );
    }
    assert_eq!(origin.connections(), before);
    assert_eq!(answer(&plain("2130706433", "destinations.allow = [\"127.0.0.1\"]")), "200 1");
    assert_eq!(
        get(plain("localhost", "destinations.deny = [\"127.0.0.0/8\", \"::1\"]").public(), "/x").status(),
        502
    );
}

#[test]
fn files_are_replaced_under_load_and_nothing_fails() {
    let (port, [two, three]) = origins([18, 19]);
    let list = |hosts: &[u8]| {
        serde_json::json!({"endpoints": hosts.iter().map(|host| format!("127.0.0.{host}:{port}")).collect::<Vec<_>>()}).to_string()
    };
    let gateway = start(Gateway::builder(BINARY).file("endpoints.json", list(&[18])), &by_file(""));
    assert_eq!(answer(&gateway), "200 18");
    let load = Load::on(&gateway);
    let mut slowest = Duration::ZERO;
    for hosts in [19, 18, 19, 18] {
        gateway.replace("endpoints.json", list(&[hosts]));
        let begun = Instant::now();
        wait_for(&gateway, &format!("200 {hosts}"));
        slowest = slowest.max(begun.elapsed());
    }
    gateway.replace("endpoints.json", list(&[18, 19]));
    gateway.wait_for_sample(ENDPOINTS, |known| known == 2.0);
    // Written in place, bit by bit: what is there in between is no list.
    let path = gateway.folder().join("endpoints.json");
    for end in [1, 10, 20] {
        fs::write(&path, &list(&[19])[..end]).unwrap();
        thread::sleep(Duration::from_millis(300));
    }
    fs::write(&path, list(&[19])).unwrap();
    gateway.wait_for_sample(ENDPOINTS, |known| known == 1.0);
    wait_for(&gateway, "200 19");
    let answers = load.end();
    let total: usize = answers.values().sum();
    let asked = |origin: &Origin| origin.requests().iter().filter(|request| request.target() != "/x").count();
    assert_eq!(asked(&two) + asked(&three), total, "each once");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert_eq!(gateway.sample(r#"portcullis_reloads_total{result="success"}"#), Some(1.0), "no reload");
    suite("discovery by file under load", &format!("{total} requests, 0 failed"));
}

#[test]
fn a_cookie_for_an_endpoint_that_is_gone_is_replaced() {
    let (port, origins) = origins([21, 22]);
    let list = |hosts: &[u8]| {
        let hosts: Vec<_> = hosts.iter().map(|host| format!("\"127.0.0.{host}:{port}\"")).collect();
        format!("{{ \"endpoints\": [{}] }}", hosts.join(", "))
    };
    let builder = Gateway::builder(BINARY).file("endpoints.json", list(&[21, 22]));
    let gateway = start(builder, &by_file("[upstream.origin.sticky]"));
    let cookie = |response: &Response| {
        let set = response.header("set-cookie")?;
        Some(format!("cookie: {}", set.split(';').next().unwrap()))
    };
    let first = get(gateway.public(), "/x");
    let (owner, brought) = (first.text(), cookie(&first).unwrap());
    let ask = |cookie: &str| request(gateway.public(), "GET /x", &[cookie], "");
    assert_eq!((ask(&brought).text(), cookie(&ask(&brought))), (owner.clone(), None));
    let other = if owner == "21" { 22 } else { 21 };
    gateway.replace("endpoints.json", list(&[other]));
    gateway.wait_for_sample(ENDPOINTS, |count| count == 1.0);
    let moved = ask(&brought);
    assert_eq!((moved.status(), moved.text()), (200, other.to_string()));
    let next = cookie(&moved).unwrap();
    assert_eq!(cookie(&ask(&next)), None);
    // It comes back, and who has moved stays.
    gateway.replace("endpoints.json", list(&[21, 22]));
    gateway.wait_for_sample(ENDPOINTS, |count| count == 2.0);
    assert_eq!((ask(&next).text(), cookie(&ask(&next))), (other.to_string(), None));
    drop(origins);
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_bad() {
    let (port, _origins) = origins([20, 21]);
    let good = format!("{{\"endpoints\": [\"127.0.0.20:{port}\"]}}");
    let gateway =
        start(Gateway::builder(BINARY).file("endpoints.json", &good), &by_file("hold_empty = \"2s\""));
    assert_eq!(answer(&gateway), "200 20");
    gateway.replace(
        "endpoints.json",
        format!("{{\"endpoints\": [\n  \"127.0.0.21:{port}\",\n  \"127.0.0.21\"\n]}}"),
    );
    let line = gateway.wait_for_line(|line| line.contains("endpoints.json:3:14: "));
    assert!(line.contains("127.0.0.21") && line.contains("it has no port"), "{line}");
    gateway.wait_for_sample(&lookups("failure"), |count| count == 1.0);
    assert!(readiness(&gateway)["error"].as_str().unwrap().contains("endpoints.json:3:14: "));
    assert_eq!(answer(&gateway), "200 20");
    fs::remove_file(gateway.folder().join("endpoints.json")).unwrap();
    gateway.wait_for_sample(&lookups("failure"), |count| count == 2.0);
    assert_eq!(answer(&gateway), "200 20");
    // What is empty is believed after two seconds.
    gateway.replace("endpoints.json", "[]");
    gateway.wait_for_sample(&lookups("empty"), |count| count == 1.0);
    gateway.wait_for_sample(ENDPOINTS, |known| known == 0.0);
    assert_unavailable(&get(gateway.public(), "/x"));
    gateway.replace("endpoints.json", &good);
    wait_for(&gateway, "200 20");
    // Forbidden addresses are left out of it.
    gateway.replace("endpoints.json", format!("[\"127.0.0.21:{port}\", \"169.254.169.254:80\"]"));
    wait_for(&gateway, "200 21");
    assert_eq!(gateway.sample(FORBIDDEN), Some(1.0));
}

#[test]
fn a_file_that_comes_later_and_is_swapped_by_a_link() {
    let (port, _origins) = origins([22, 23]);
    let upstream = by_file("").replace("endpoints.json", "mounted/endpoints.toml");
    let gateway = start(Gateway::builder(BINARY), &upstream);
    assert_unavailable(&get(gateway.public(), "/x"));
    let mounted = gateway.folder().join("mounted");
    for (version, host) in [("..2026_1", 22), ("..2026_2", 23)] {
        fs::create_dir_all(mounted.join(version)).unwrap();
        let text = format!("[[endpoints]]\naddress = \"127.0.0.{host}:{port}\"\n");
        fs::write(mounted.join(version).join("endpoints.toml"), text).unwrap();
    }
    // As the kubelet does: a folder for each version, a link to the current one, links into that.
    symlink("..2026_1", mounted.join("..data")).unwrap();
    symlink("..data/endpoints.toml", mounted.join("endpoints.toml")).unwrap();
    wait_for(&gateway, "200 22");
    symlink("..2026_2", mounted.join("..data_tmp")).unwrap();
    fs::rename(mounted.join("..data_tmp"), mounted.join("..data")).unwrap();
    wait_for(&gateway, "200 23");
}

#[test]
fn many_endpoints_come_and_go() {
    let (port, [origin]) = origins([24]);
    let list = |from: usize| {
        let others =
            (from..from + 5000).map(|n| format!("\"10.{}.{}.{}:80\"", n / 65_536, n / 256 % 256, n % 256));
        let all: Vec<String> = std::iter::once(format!("\"127.0.0.24:{port}\"")).chain(others).collect();
        format!("[{}]", all.join(","))
    };
    let gateway = start(Gateway::builder(BINARY).file("endpoints.json", list(0)), &by_file(""));
    assert_eq!(gateway.sample(ENDPOINTS), Some(5001.0));
    gateway.replace("endpoints.json", list(2500));
    let _ = gateway.wait_for_line(|line| line.contains("endpoints have changed") && line.contains("2500"));
    gateway.replace("endpoints.json", format!("[\"127.0.0.24:{port}\"]"));
    gateway.wait_for_sample(ENDPOINTS, |known| known == 1.0);
    assert_eq!(request(gateway.public(), "GET /x", &[], "").text(), "24");
    assert_eq!(origin.count(), 1);
}
