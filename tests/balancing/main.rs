//! Which endpoint, which upstream: balancing, hashing, sticky cookies, priorities; canaries and mirrors in modules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod canary;
mod late;
mod mirror;

use portcullis_testkit::{
    Answer, Gate, Gateway, GatewayBuilder, Origin, RawClient, Response, Step, free_port, get, request,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const KEY: &str = "a-secret-of-this-test-that-is-long-enough";

/// A gateway with one worker and these tables.
fn start(builder: GatewayBuilder, tables: &str) -> Gateway {
    builder.start(|ports| ports.opening("firewall.mode = \"off\"\nserver.threads = 1", "") + tables)
}

/// An upstream of endpoints, each with more of its table.
fn upstream<'o>(
    name: &str,
    endpoints: impl IntoIterator<Item = (&'o Origin, &'static str)>,
    more: &str,
) -> String {
    let endpoints: Vec<String> = endpoints
        .into_iter()
        .map(|(origin, more)| format!("{{ address = \"{}\"{more} }}", origin.address()))
        .collect();
    format!("[upstream.{name}]\nendpoints = [{}]\n{more}\n", endpoints.join(", "))
}

/// A route that takes everything.
fn all(upstream: &str, more: &str) -> String {
    format!("[[route]]\nname = \"all\"\nmatch.path = \"/{{*rest}}\"\nupstream = \"{upstream}\"\n{more}\n")
}

fn origins(count: usize) -> Vec<Origin> {
    (0..count).map(|at| Origin::answering(Answer::ok(at.to_string()))).collect()
}

fn plain(origins: &[Origin]) -> impl Iterator<Item = (&Origin, &'static str)> {
    origins.iter().map(|origin| (origin, ""))
}

/// Ends an origin, and waits until nobody listens there any more.
fn end(origin: Origin) {
    let address = origin.address();
    drop(origin);
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One request on a connection that is kept.
fn ask(client: &mut RawClient, fields: &str) -> Response {
    client.send(format!("GET /x HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n")).unwrap();
    client.response().unwrap()
}

fn client(gateway: &Gateway) -> RawClient {
    RawClient::connect(gateway.public()).unwrap()
}

#[test]
fn every_balance_honours_weights() {
    let hash = "[upstream.u.hash]\nby = \"header:x-key\"";
    for (balance, more) in
        [("round_robin", ""), ("random", ""), ("power_of_two", ""), ("peak_ewma", ""), ("ring_hash", hash)]
    {
        let origins = origins(2);
        let endpoints = origins.iter().zip([", weight = 1", ", weight = 3"]);
        let tables = upstream("u", endpoints, &format!("balance = \"{balance}\"\n{more}")) + &all("u", "");
        let gateway = start(Gateway::builder(BINARY), &tables);
        let mut client = client(&gateway);
        for at in 0..800 {
            assert_eq!(ask(&mut client, &format!("x-key: {at}\r\n")).status(), 200);
        }
        let light = origins[0].count();
        // By latency, differences that the loopback interface makes count too.
        let wanted = match balance {
            "round_robin" => 200..=200,
            "peak_ewma" => 40..=500,
            _ => 140..=260,
        };
        assert!(wanted.contains(&light), "{balance}: {light} of 800");
        let address = origins[0].address();
        let series =
            format!("portcullis_upstream_endpoint_requests_total{{endpoint=\"{address}\",upstream=\"u\"}}");
        assert_eq!(gateway.sample(&series), Some(light as f64));
        assert_eq!(gateway.sample(&series), Some(light as f64), "asking again counts nothing twice");
    }
}

#[test]
fn peak_ewma_avoids_the_slow_endpoint_and_the_failing_one() {
    for bad in [Answer::ok("slow").after(Duration::from_millis(200)), Answer::close()] {
        let (fast, bad) = (origins(2), Origin::answering(bad));
        let endpoints = plain(&fast).chain([(&bad, "")]);
        let tables = upstream("u", endpoints, "balance = \"peak_ewma\"") + &all("u", "");
        let gateway = start(Gateway::builder(BINARY), &tables);
        let mut client = client(&gateway);
        let failures = (0..200).filter(|_| ask(&mut client, "").status() != 200).count();
        assert!(bad.count() <= 2 && failures <= 2, "{} {failures}", bad.count());
        assert!(fast.iter().all(|origin| origin.count() > 30));
    }
}

/// The index of the origin that answered.
fn index(response: &Response) -> usize {
    assert_eq!(response.status(), 200, "{}", response.text());
    response.text().parse().unwrap()
}

#[test]
fn the_same_key_goes_to_the_same_endpoint() {
    for (by, field) in [
        ("header:x-key", "x-key: "),
        ("cookie:sid", "cookie: other=1; sid="),
        ("address", "x-forwarded-for: 203.0.113."),
    ] {
        let mut origins = origins(5);
        let tables = "server.trusted_proxies = [\"127.0.0.1\"]\n".to_owned();
        let more = format!("balance = \"ring_hash\"\nhash = {{ by = \"{by}\" }}");
        let gateway = Gateway::builder(BINARY).start(|ports| {
            let top = format!("firewall.mode = \"off\"\n{tables}");
            ports.opening(&top, "") + &upstream("u", plain(&origins), &more) + &all("u", "")
        });
        let mut client = client(&gateway);
        let mut owners = |keys: u32| -> Vec<usize> {
            (0..keys).map(|key| index(&ask(&mut client, &format!("{field}{key}\r\n")))).collect()
        };
        let before = owners(100);
        assert_eq!(before, owners(100), "{by}");
        assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 5, "{by}: keys are spread");
        // Where one goes, its keys move, and no others.
        end(origins.remove(2));
        let after = owners(100);
        for (before, after) in before.iter().zip(&after) {
            assert!(if *before == 2 { *after != 2 } else { before == after }, "{by}");
        }
        // Without a key, any.
        let without: BTreeSet<usize> = (0..100).map(|_| index(&get(gateway.public(), "/x"))).collect();
        assert!(by == "address" || without.len() >= 4, "{by}: {without:?}");
    }
}

fn token(gateway: &Gateway, subject: &str, tenant: &str) -> String {
    let done = Command::new(BINARY)
        .args(["token", "-c", "gateway.toml", "--sub", subject, "--claim", &format!("tenant={tenant}")])
        .current_dir(gateway.folder())
        .env("TOKEN_KEY", KEY)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

#[test]
fn claims_and_consumers_are_keys_too() {
    let (by_claim, by_consumer) = (origins(4), origins(4));
    let hash = |by: &str| format!("balance = \"ring_hash\"\nhash = {{ by = \"{by}\" }}");
    let tables = [
        "[identity.i]\nissuer = \"i\"\naudiences = [\"a\"]\nalgorithms = [\"HS256\"]\n\
         keys = [{ algorithm = \"HS256\", secret = \"${TOKEN_KEY}\" }]\n"
            .to_owned(),
        upstream("claim", plain(&by_claim), &hash("claim:tenant")),
        upstream("consumer", plain(&by_consumer), &hash("consumer")),
        all("claim", "auth.providers = [\"i\"]"),
        "[[route]]\nname = \"consumer\"\nmatch.path = \"/consumer\"\nupstream = \"consumer\"\nauth.providers = [\"i\"]\n"
            .to_owned(),
    ];
    let gateway = start(Gateway::builder(BINARY).env("TOKEN_KEY", KEY), &tables.concat());
    let ask = |path: &str, token: &str| {
        index(&request(
            gateway.public(),
            &format!("GET {path}"),
            &[&format!("authorization: Bearer {token}")],
            "",
        ))
    };
    let mut owners: [BTreeMap<u32, BTreeSet<usize>>; 2] = Default::default();
    for person in 0..24 {
        let tenant = person % 6;
        let token = token(&gateway, &format!("person-{person}"), &format!("tenant-{tenant}"));
        owners[0].entry(tenant).or_default().insert(ask("/x", &token));
        owners[1].entry(person).or_default().extend([ask("/consumer", &token), ask("/consumer", &token)]);
    }
    for owners in owners {
        assert!(owners.values().all(|of_one| of_one.len() == 1), "{owners:?}");
        assert!(owners.values().flatten().collect::<BTreeSet<_>>().len() > 1, "{owners:?}");
    }
}

#[test]
fn a_popular_key_takes_no_more_than_the_bound() {
    let gate = Gate::default();
    let held = |gate: &Gate| {
        let gate = gate.clone();
        Origin::start(move |_| Answer::steps([Step::Until(gate.clone())]).then(ok()))
    };
    let origins: Vec<Origin> = (0..4).map(|_| held(&gate)).collect();
    let more = "balance = \"ring_hash\"\nhash = { by = \"header:x-key\" }";
    let tables = upstream("u", plain(&origins), more) + &all("u", "");
    let gateway = start(Gateway::builder(BINARY), &tables);
    let waiting: Vec<_> = (1..=40)
        .map(|sent| {
            let mut client = client(&gateway);
            client.send("GET /x HTTP/1.1\r\nhost: a\r\nx-key: popular\r\n\r\n").unwrap();
            // Each is under way before the next comes.
            let deadline = Instant::now() + Duration::from_secs(30);
            while origins.iter().map(Origin::connections).sum::<usize>() < sent {
                assert!(Instant::now() < deadline);
                std::thread::sleep(Duration::from_millis(2));
            }
            client
        })
        .collect();
    let mut loads: Vec<usize> = origins.iter().map(Origin::connections).collect();
    loads.sort_unstable();
    // Each went to the first on the ring that had less than 1.25 times its share of all, rounded up.
    let mut wanted = [0; 4];
    for all in 1..=40usize {
        let place = wanted.iter().position(|load| *load < (125 * all).div_ceil(400));
        wanted[place.unwrap()] += 1;
    }
    wanted.sort_unstable();
    assert_eq!(loads, wanted);
    gate.open();
    for mut client in waiting {
        assert_eq!(client.response().unwrap().status(), 200);
    }
}

fn ok() -> [Step; 1] {
    [Step::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec())]
}

/// The cookie that an answer sets: its pair, and its attributes.
fn set_cookie(response: &Response) -> Option<(String, String)> {
    let (pair, attributes) = response.header("set-cookie")?.split_once("; ")?;
    Some((pair.to_owned(), attributes.to_owned()))
}

#[test]
fn a_cookie_keeps_a_client_with_its_endpoint() {
    let mut origins = origins(4);
    let tables = upstream("u", plain(&origins), "sticky = {}") + &all("u", "");
    let gateway = start(Gateway::builder(BINARY), &tables);
    let mut client = client(&gateway);
    for _ in 0..8 {
        let first = ask(&mut client, "");
        let (pair, attributes) = set_cookie(&first).unwrap();
        assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax");
        let owner = index(&first);
        let port = origins[owner].address().port().to_string();
        assert!(pair.starts_with("portcullis_endpoint=") && !pair.contains(&port), "{pair}");
        for _ in 0..6 {
            let again = ask(&mut client, &format!("cookie: a=b; {pair}; c=d\r\n"));
            assert_eq!((index(&again), set_cookie(&again)), (owner, None), "it is not set again");
            let seen = origins[owner].requests().pop().unwrap();
            assert!(seen.header("cookie").unwrap().contains(&pair), "the upstream gets it, too");
        }
    }
    // What we did not issue names nobody.
    for forged in ["", "0", "127.0.0.1", &"0".repeat(32), &"f".repeat(32), &"x".repeat(5_000)] {
        let response = ask(&mut client, &format!("cookie: portcullis_endpoint={forged}\r\n"));
        assert!(set_cookie(&response).is_some());
    }
    // A reload keeps it: the key is the process's own.
    let owner = index(&ask(&mut client, ""));
    let pair = (0..4).map(|_| ask(&mut client, "")).find(|one| index(one) == owner);
    let pair = set_cookie(&pair.unwrap()).unwrap().0;
    gateway.replace(
        "gateway.toml",
        std::fs::read_to_string(gateway.folder().join("gateway.toml")).unwrap() + "\n#\n",
    );
    gateway.wait_for_sample("portcullis_reloads_total{result=\"success\"}", |count| count >= 2.0);
    let again = ask(&mut client, &format!("cookie: {pair}\r\n"));
    assert_eq!((index(&again), set_cookie(&again)), (owner, None));
    // Its endpoint dies: another takes over, and says so.
    end(origins.remove(owner));
    let moved = ask(&mut client, &format!("cookie: {pair}\r\n"));
    let (next, _) = set_cookie(&moved).unwrap();
    assert_ne!((index(&moved), &next), (owner, &pair));
    let again = ask(&mut client, &format!("cookie: {next}\r\n"));
    assert_eq!((index(&again), set_cookie(&again)), (index(&moved), None));
}

#[test]
fn a_quicker_answer_takes_no_client_from_its_endpoint() {
    let slow = |at: usize| {
        Origin::start(move |request| match request.target() {
            "/x" => Answer::ok(at.to_string()),
            target if target == format!("/slow/{at}") => Answer::hang(),
            _ => Answer::ok(at.to_string()),
        })
    };
    let origins = [slow(0), slow(1)];
    let route = "[route.retry]\nhedge_delay = \"100ms\"";
    let tables = upstream("u", plain(&origins), "sticky = {}") + &all("u", route);
    let gateway = start(Gateway::builder(BINARY), &tables);
    let mut client = client(&gateway);
    let first = ask(&mut client, "");
    let (owner, (pair, _)) = (index(&first), set_cookie(&first).unwrap());
    let cookie = format!("cookie: {pair}");
    let hedged = request(gateway.public(), &format!("GET /slow/{owner}"), &[&cookie], "");
    assert_eq!((index(&hedged), set_cookie(&hedged)), (1 - owner, None), "the other one was quicker");
    let again = ask(&mut client, &format!("{cookie}\r\n"));
    assert_eq!((index(&again), set_cookie(&again)), (owner, None), "its session is where it was");
}

#[test]
fn gateways_with_one_secret_read_each_others_cookies() {
    let origins = origins(3);
    let sticky = "[upstream.u.sticky]\ncookie = \"Route\"\nsecret = \"${TOKEN_KEY}\"\npath = \"/x\"\nmax_age = \"1h\"\n\
                  secure = false\nhttp_only = false\nsame_site = \"strict\"";
    let tables = upstream("u", plain(&origins), sticky) + &all("u", "");
    let start = |key: &str| start(Gateway::builder(BINARY).env("TOKEN_KEY", key), &tables);
    let (one, other, stranger) = (start(KEY), start(KEY), start("another-secret-that-is-long-enough"));
    for _ in 0..6 {
        let first = get(one.public(), "/x");
        let (pair, attributes) = set_cookie(&first).unwrap();
        assert_eq!(attributes, "Path=/x; Max-Age=3600; SameSite=Strict");
        let with = |gateway: &Gateway| request(gateway.public(), "GET /x", &[&format!("cookie: {pair}")], "");
        let second = with(&other);
        assert_eq!((index(&second), set_cookie(&second)), (index(&first), None));
        assert!(set_cookie(&with(&stranger)).is_some());
    }
}

#[test]
fn the_second_level_takes_what_the_first_lacks() {
    let (mut first, second) = (origins(4), origins(2));
    let endpoints = plain(&first).chain(second.iter().map(|origin| (origin, ", priority = 1")));
    let tables = upstream("u", endpoints, "connect_timeout = \"500ms\"") + &all("u", "");
    let gateway = start(Gateway::builder(BINARY), &tables);
    let mut client = client(&gateway);
    (0..100).for_each(|_| assert_eq!(ask(&mut client, "").status(), 200));
    assert_eq!(second.iter().map(Origin::count).sum::<usize>(), 0);
    // One of four is within the overprovisioning of 1.4.
    end(first.pop().unwrap());
    (0..100).for_each(|_| assert_eq!(ask(&mut client, "").status(), 200));
    std::thread::sleep(Duration::from_millis(150));
    let before = second.iter().map(Origin::count).sum::<usize>();
    (0..100).for_each(|_| assert_eq!(ask(&mut client, "").status(), 200));
    assert_eq!(second.iter().map(Origin::count).sum::<usize>(), before);
    first.into_iter().for_each(end);
    // One request may try three that nobody knows to be dead, and that is all it may.
    let failed = (0..100).filter(|_| ask(&mut client, "").status() != 200).count();
    assert!(failed <= 2, "{failed}");
    assert!(second.iter().all(|origin| origin.count() > 40));
}

fn two() -> [Origin; 2] {
    [Origin::answering(Answer::ok("0")), Origin::answering(Answer::ok("1"))]
}

#[test]
fn compositions_are_balanced_like_routes() {
    let origins: Vec<Origin> =
        (0..4).map(|at| Origin::answering(Answer::json(format!("{{\"at\":{at}}}")))).collect();
    let hash = "balance = \"ring_hash\"\nhash = { by = \"header:x-key\" }\nsticky = {}";
    let tables = upstream("u", plain(&origins), hash)
        + "[[route]]\nname = \"parts\"\nmatch = { path = \"/x\", methods = [\"GET\"] }\n\
           [[route.compose.part]]\nname = \"one\"\nupstream = \"u\"\npath = \"/one\"\ninto = \"one\"\n\
           [[route.compose.part]]\nname = \"two\"\nupstream = \"u\"\npath = \"/two\"\ninto = \"two\"\n";
    let gateway = start(Gateway::builder(BINARY), &tables);
    let mut client = client(&gateway);
    let mut seen = BTreeSet::new();
    for key in 0..40 {
        let mut at = BTreeSet::new();
        for _ in 0..3 {
            let document = ask(&mut client, &format!("x-key: {key}\r\n")).json();
            at.insert(document["one"]["at"].as_u64().unwrap());
        }
        assert_eq!(at.len(), 1, "the key {key} went to {at:?}");
        seen.extend(at);
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn ten_thousand_endpoints() {
    // All of 127.0.0.0/8 is this machine.
    let port = free_port().port();
    let origin = Origin::builder().at(SocketAddr::from(([0, 0, 0, 0], port))).start(|_| Answer::ok("0"));
    let endpoints: Vec<String> = (0..10_000)
        .map(|at| {
            format!("{{ address = \"127.1.{}.{}:{port}\", weight = {} }}", at / 250, at % 250 + 1, 1 + at % 3)
        })
        .collect();
    let mut tables = String::new();
    for (name, more) in [
        ("round_robin", ""),
        ("power_of_two", ""),
        ("peak_ewma", ""),
        ("random", ""),
        ("ring_hash", "hash = { by = \"header:x-key\" }\nsticky = {}"),
    ] {
        tables += &format!(
            "[upstream.{name}]\nendpoints = [{}]\nbalance = \"{name}\"\n{more}\n\
             [[route]]\nname = \"{name}\"\nmatch.path = \"/{name}\"\nupstream = \"{name}\"\n",
            endpoints.join(", ")
        );
    }
    let gateway = start(Gateway::builder(BINARY), &tables);
    for name in ["round_robin", "power_of_two", "peak_ewma", "random", "ring_hash"] {
        for key in 0..20 {
            let response =
                request(gateway.public(), &format!("GET /{name}"), &[&format!("x-key: {key}")], "");
            assert_eq!(response.status(), 200, "{name}");
        }
    }
    assert_eq!(origin.count(), 100);
    assert!(origin.connections() > 80, "{} endpoints were asked", origin.connections());
}
