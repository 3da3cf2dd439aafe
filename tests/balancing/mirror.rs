//! Mirrors.

use super::*;
use portcullis_testkit::H2Origin;

/// A route of `main` that is mirrored, in front of two origins.
fn mirrored(origins: &[Origin; 2], mirror: &str) -> Gateway {
    let tables = upstream("main", [(&origins[0], "")], "") + &upstream("mirror", [(&origins[1], "")], "");
    let mirror = format!("[route.mirror]\nupstream = \"mirror\"\n{mirror}");
    start(Gateway::builder(BINARY), &(tables + &all("main", &mirror)))
}

fn outcome(outcome: &str) -> String {
    format!("portcullis_mirrored_requests_total{{outcome=\"{outcome}\",route=\"all\"}}")
}

#[test]
fn a_mirror_gets_what_the_upstream_gets() {
    let origins = two();
    let gateway = mirrored(&origins, "host_suffix = \"-shadow\"");
    let response = request(gateway.public(), "POST /a?b=c", &["x-test: 1"], "pay attention");
    assert_eq!(response.text(), "0");
    assert_eq!(get(gateway.public(), "/plain").text(), "0");
    let (sent, copies) = (origins[0].wait_for(2), origins[1].wait_for(2));
    let (name, port) = sent[0].header("host").unwrap().split_once(':').unwrap();
    assert_eq!(copies[0].header("host"), Some(format!("{name}-shadow:{port}").as_str()));
    for (sent, copy) in sent.iter().zip(&copies) {
        let without_host = |head: String| -> BTreeSet<String> {
            head.lines()
                .filter(|line| !line.to_ascii_lowercase().starts_with("host:"))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(without_host(sent.head_text()), without_host(copy.head_text()));
        assert_eq!((&sent.body, sent.method()), (&copy.body, copy.method()));
    }
    gateway.wait_for_sample(&outcome("answered"), |count| count == 2.0);
    assert_eq!(
        gateway.sample("portcullis_upstream_responses_total{status_class=\"2xx\",upstream=\"mirror\"}"),
        Some(2.0)
    );
    let idle = gateway.sample("portcullis_upstream_connections_open{upstream=\"mirror\"}");
    assert!(idle <= Some(2.0), "connections are used again: {idle:?}");
}

#[test]
fn a_mirror_neither_delays_nor_fails_anything() {
    let gate = Gate::default();
    let hanging = || {
        let gate = gate.clone();
        Origin::start(move |_| Answer::steps([Step::Until(gate.clone())]).then(ok()))
    };
    let origins = [Origin::start(Answer::echo), hanging()];
    let gateway = mirrored(&origins, "max_concurrent = 3\ntimeout = \"20s\"");
    let mut client = client(&gateway);
    let began = Instant::now();
    for _ in 0..50 {
        client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody").unwrap();
        let response = client.response().unwrap();
        assert_eq!((response.status(), response.text().as_str()), (200, "body"));
    }
    // The mirror has answered nothing yet, and would have taken twenty seconds for each.
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(gateway.sample(&outcome("dropped")), Some(47.0));
    // What copies hold is accounted for, as long as they hold it.
    gateway.wait_for_sample("portcullis_buffered_body_bytes", |held| held == 12.0);
    gate.open();
    gateway.wait_for_sample(&outcome("answered"), |count| count == 3.0);
    gateway.wait_for_sample("portcullis_buffered_body_bytes", |held| held == 0.0);

    let dead = [Origin::answering(Answer::ok("0")), Origin::answering(Answer::close())];
    let gateway = mirrored(&dead, "");
    (0..5).for_each(|_| assert_eq!(get(gateway.public(), "/x").text(), "0"));
    gateway.wait_for_sample(&outcome("failed"), |count| count == 5.0);
    let slow = [Origin::answering(Answer::ok("0")), Origin::answering(Answer::hang())];
    let gateway = mirrored(&slow, "timeout = \"100ms\"");
    assert_eq!(get(gateway.public(), "/x").text(), "0");
    gateway.wait_for_sample(&outcome("timeout"), |count| count == 1.0);
}

#[test]
fn a_share_of_requests_is_mirrored_and_what_is_not_held_is_not() {
    let origins = two();
    let gateway = mirrored(&origins, "share = \"25%\"");
    let mut client = client(&gateway);
    (0..400).for_each(|_| assert_eq!(ask(&mut client, "").status(), 200));
    gateway.wait_for_sample(&outcome("answered"), |count| (50.0..150.0).contains(&count));
    let origins = two();
    let body = "upgrade = [\"websocket\"]\nbody = { limit = \"1KiB\", over = \"inspect_prefix\" }";
    let tables = upstream("main", [(&origins[0], "")], "") + &upstream("mirror", [(&origins[1], "")], "");
    let route = all("main", &format!("{body}\nmirror = {{ upstream = \"mirror\" }}"));
    let gateway = start(Gateway::builder(BINARY), &(tables + &route));
    assert_eq!(request(gateway.public(), "POST /x", &[], "x".repeat(100_000)).text(), "0");
    let fields = [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    assert_eq!(request(gateway.public(), "GET /x", &fields, "").status(), 200);
    assert_eq!(gateway.sample(&outcome("streamed")), Some(2.0));
    assert_eq!(origins[1].count(), 0);
}

#[test]
fn a_copy_is_sent_once() {
    let retry = "retry = { on = [\"connect-failure\", \"gateway-error\", \"reset-before-response\"] }";
    for bad in [Answer::status(503).body("no"), Answer::close()] {
        let (main, shadows) =
            (Origin::answering(Answer::ok("0")), [(); 2].map(|()| Origin::answering(bad.clone())));
        let tables = upstream("main", [(&main, "")], "") + &upstream("mirror", plain(&shadows), retry);
        let route = "[route.mirror]\nupstream = \"mirror\"\n[route.retry]\nattempts = 5\n\
                     on = [\"gateway-error\", \"reset-before-response\"]\nhedge_delay = \"1ms\"";
        let gateway = start(Gateway::builder(BINARY), &(tables + &all("main", route)));
        for _ in 0..4 {
            assert_eq!(get(gateway.public(), "/x").text(), "0");
        }
        let ended =
            || gateway.sample(&outcome("answered")).unwrap() + gateway.sample(&outcome("failed")).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while ended() < 4.0 {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(shadows.iter().map(Origin::count).sum::<usize>(), 4, "four copies, four tries");
    }
}

#[test]
fn a_copy_lacks_what_it_should_and_has_its_own_time() {
    let origins = two();
    let tables = upstream("main", [(&origins[0], "")], "") + &upstream("mirror", [(&origins[1], "")], "");
    let mirror = "timeouts.total = \"20s\"\n[route.mirror]\nupstream = \"mirror\"\ntimeout = \"7s\"\n\
                  remove_headers = [\"Authorization\", \"cookie\"]";
    let tables = tables + &all("main", mirror);
    let gateway = Gateway::builder(BINARY).start(|ports| {
        ports.opening("firewall.mode = \"off\"\nserver.deadline_header = \"x-wait-ms\"", "") + &tables
    });
    let fields =
        ["authorization: Bearer secret", "cookie: session=secret", "x-wait-ms: 999999999", "x-kept: yes"];
    assert_eq!(request(gateway.public(), "GET /x", &fields, "").text(), "0");
    gateway.wait_for_sample(&outcome("answered"), |count| count == 1.0);
    let (sent, copy) = (origins[0].requests().remove(0), origins[1].requests().remove(0));
    assert_eq!(
        (sent.header("authorization"), sent.header("cookie")),
        (Some("Bearer secret"), Some("session=secret"))
    );
    assert!(sent.header("x-wait-ms").unwrap().parse::<u64>().unwrap() <= 20_000);
    assert!(!copy.head_text().contains("secret"), "{}", copy.head_text());
    assert_eq!((copy.header("x-kept"), copy.header("x-wait-ms")), (Some("yes"), Some("7000")));
}

#[test]
fn a_copy_for_whose_body_there_is_no_room_is_dropped() {
    let (main, shadow) = (Origin::start(Answer::echo), Origin::answering(Answer::ok("1")));
    let tables = upstream("main", [(&main, "")], "") + &upstream("mirror", [(&shadow, "")], "");
    let route = "body.limit = \"64KiB\"\nmirror = { upstream = \"mirror\" }";
    let top = "firewall = { mode = \"off\", request_body_limit = \"64KiB\", response_body_limit = \"64KiB\" }\n\
               server.body_budget = \"100KiB\"";
    let tables = tables + &all("main", route);
    let gateway = Gateway::builder(BINARY).start(|ports| ports.opening(top, "") + &tables);
    let body = "x".repeat(60 << 10);
    assert!(request(gateway.public(), "POST /x", &[], &body).text() == body);
    gateway.wait_for_sample(&outcome("dropped"), |count| count == 1.0);
    assert_eq!(request(gateway.public(), "POST /x", &[], "small").text(), "small");
    gateway.wait_for_sample(&outcome("answered"), |count| count == 1.0);
    assert_eq!(shadow.count(), 1);
}

#[test]
fn of_a_mirrors_answer_so_much_is_read_and_no_more() {
    let main = Origin::answering(Answer::ok("0"));
    let endless = Origin::start(|_| {
        Answer::status(200).chunks((0..64).map(|_| vec![b'x'; 64 << 10]), Some(Step::Hang))
    });
    let tables = upstream("main", [(&main, "")], "") + &upstream("mirror", [(&endless, "")], "");
    let route = all("main", "mirror = { upstream = \"mirror\", timeout = \"60s\" }");
    let gateway = start(Gateway::builder(BINARY), &(tables + &route));
    assert_eq!(get(gateway.public(), "/x").text(), "0");
    // It never ends; that it is done with shows that nobody reads on.
    gateway.wait_for_sample(&outcome("answered"), |count| count == 1.0);
    gateway.wait_for_sample("portcullis_upstream_connections_open{upstream=\"mirror\"}", |open| open == 0.0);
}

#[test]
fn a_mirror_may_speak_http2() {
    let (main, shadow) =
        (Origin::answering(Answer::ok("0")), H2Origin::start(None, |_| http::Response::default()));
    let mirror = format!(
        "[upstream.mirror]\nprotocol = \"http2\"\nendpoints = [{{ address = \"{}\" }}]\n",
        shadow.address()
    );
    let tables =
        upstream("main", [(&main, "")], "") + &mirror + &all("main", "mirror = { upstream = \"mirror\" }");
    let gateway = start(Gateway::builder(BINARY), &tables);
    let fields = ["x-test: 1", "te: trailers", "connection: x-hop", "x-hop: 1"];
    for at in 0..20 {
        assert_eq!(request(gateway.public(), &format!("POST /a?{at}"), &fields, "pay attention").text(), "0");
    }
    assert_eq!(get(gateway.public(), "/plain").text(), "0");
    gateway.wait_for_sample(&outcome("answered"), |count| count == 21.0);
    let copies = shadow.requests();
    let targets: BTreeSet<&str> =
        copies.iter().map(|copy| copy.uri().path_and_query().unwrap().as_str()).collect();
    assert_eq!(targets.len(), 21, "each once");
    for copy in &copies {
        let is_post = copy.method() == http::Method::POST;
        assert_eq!(copy.body().as_ref(), if is_post { &b"pay attention"[..] } else { b"" });
        assert_eq!(copy.headers().get("x-test").is_some(), is_post);
        assert!(copy.headers().get("x-hop").is_none() && copy.headers().get("connection").is_none());
        assert!(copy.uri().authority().is_some());
    }
    assert_eq!(shadow.connections(), 1);
}

#[test]
fn a_large_body_is_copied_whole_however_it_came() {
    let origins = [Origin::answering(Answer::ok("0")), Origin::answering(Answer::ok("1"))];
    let gateway = {
        let tables = upstream("main", [(&origins[0], "")], "") + &upstream("mirror", [(&origins[1], "")], "");
        let route = all("main", "body.limit = \"8MiB\"\nmirror = { upstream = \"mirror\" }");
        start(Gateway::builder(BINARY), &(tables + &route))
    };
    let large: Vec<u8> = (0..4_000_000u32).map(|at| (at % 251) as u8).collect();
    assert_eq!(request(gateway.public(), "POST /whole", &[], large.clone()).text(), "0");
    // In pieces, without a length, as it is made.
    let mut client = client(&gateway);
    client.send("POST /streamed HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    for piece in large.chunks(300_000) {
        client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    client.send("0\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "0");
    gateway.wait_for_sample(&outcome("answered"), |count| count == 2.0);
    for copy in origins[1].requests() {
        let sent = origins[0].requests().into_iter().find(|sent| sent.target() == copy.target()).unwrap();
        assert_eq!((copy.digest.clone(), copy.complete), (sent.digest.clone(), true), "{}", copy.target());
    }
    // Nothing of it is held any more.
    gateway.wait_for_sample("portcullis_buffered_body_bytes", |held| held == 0.0);
}
