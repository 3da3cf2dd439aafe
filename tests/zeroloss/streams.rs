//! WebSockets and answers that stream, over reloads.

use crate::BINARY;
use portcullis_testkit::{Answer, Gate, Gateway, H2Client, Origin, Ports, RawClient, Step};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

const SUCCESS: &str = r#"portcullis_reloads_total{result="success"}"#;

/// A WebSocket server that sends every message back, and tells how each connection ended.
fn echo() -> (SocketAddr, mpsc::Receiver<Option<CloseCode>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, ends) = mpsc::channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (socket, ended) = (socket.unwrap(), ended.clone());
            thread::spawn(move || {
                let Ok(mut socket) = tungstenite::accept(socket) else { return };
                let end = loop {
                    match socket.read() {
                        Ok(Message::Close(frame)) => break frame.map(|frame| frame.code),
                        Ok(message) if message.is_text() => socket.send(message).unwrap(),
                        Ok(_) => {}
                        Err(_) => break None,
                    }
                };
                let _ = ended.send(end);
            });
        }
    });
    (address, ends)
}

/// A configuration with a route for WebSockets and streams at `path`, and what it has besides.
fn config(ports: Ports, upstream: SocketAddr, path: &str, route: &str) -> String {
    format!(
        r#"
        {opening}
        [identity.local]
        issuer = "test"
        audiences = ["test"]
        algorithms = ["HS256"]
        keys = [{{ algorithm = "HS256", secret = "${{ZEROLOSS_KEY}}" }}]
        [upstream.origin]
        endpoints = [{{ address = "{upstream}" }}]
        [[route]]
        name = "streams"
        match = {{ path = "{path}" }}
        upstream = "origin"
        upgrade = ["websocket"]
        response = {{ streaming = true }}
        {route}
        "#,
        opening = ports.opening("firewall.mode = \"off\"\nserver.stream_grace = \"700ms\"", ""),
    )
}

fn start(upstream: SocketAddr) -> Gateway {
    Gateway::builder(BINARY)
        .env("ZEROLOSS_KEY", "0123456789abcdef0123456789abcdef")
        .start(|ports| config(ports, upstream, "/s/{*rest}", ""))
}

fn reload(gateway: &Gateway, config: String) {
    let before = gateway.sample(SUCCESS).unwrap();
    gateway.replace("gateway.toml", config);
    gateway.wait_for_sample(SUCCESS, |now| now > before);
}

fn connect(gateway: &Gateway) -> WebSocket<TcpStream> {
    let socket = TcpStream::connect(gateway.public()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    tungstenite::client("ws://example.com/s/chat", socket).unwrap().0
}

fn says(socket: &mut WebSocket<TcpStream>, text: &str) {
    socket.send(Message::text(text)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text(text));
}

/// What changes and leaves a route's streams alone, and what does not.
const HARMLESS: [&str; 3] =
    ["timeouts.total = \"9s\"", "limits.max_fields = 50", "[[route.rate_limit]]\nrate = \"1000/s\"\n"];

#[test]
fn a_websocket_outlives_reloads_and_gets_a_close_frame_when_its_route_is_gone() {
    let gone = |ports, upstream| config(ports, upstream, "/other", "");
    let closed = |ports, upstream| {
        config(ports, upstream, "/s/{*rest}", "auth = { providers = [\"local\"], any_caller = true }")
    };
    let changes: [&dyn Fn(Ports, SocketAddr) -> String; 2] = [&gone, &closed];
    for change in changes {
        let (upstream, ends) = echo();
        let gateway = start(upstream);
        let mut socket = connect(&gateway);
        says(&mut socket, "one");
        for (at, harmless) in HARMLESS.iter().enumerate() {
            reload(&gateway, config(gateway.ports(), upstream, "/s/{*rest}", harmless));
            says(&mut socket, &format!("after reload {at}"));
        }
        // Longer than the grace: nothing was counted against it.
        thread::sleep(Duration::from_secs(1));
        says(&mut socket, "still there");
        reload(&gateway, change(gateway.ports(), upstream));
        says(&mut socket, "within the grace");
        let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no Close frame") };
        assert_eq!(frame.code, CloseCode::Away);
        assert!(socket.read().is_err());
        assert_eq!(ends.recv_timeout(Duration::from_secs(30)).unwrap(), Some(CloseCode::Away), "upstream");
        let line = gateway.wait_for_line(|line| line.contains("\"path\":\"/s/chat\""));
        assert!(line.contains("\"status\":101") && line.contains("\"route\":\"streams\""), "{line}");
    }
}

#[test]
fn a_websocket_outlives_its_endpoint_in_the_configuration() {
    let ((old, ends), (new, _)) = (echo(), echo());
    let gateway = start(old);
    let mut socket = connect(&gateway);
    says(&mut socket, "before");
    reload(&gateway, config(gateway.ports(), new, "/s/{*rest}", ""));
    // Longer than the grace, and than connections of what is gone are kept.
    thread::sleep(Duration::from_millis(2500));
    says(&mut socket, "after");
    assert!(ends.try_recv().is_err(), "it is still the old one's");
    let mut other = connect(&gateway);
    says(&mut other, "at the new one");
    other.close(None).unwrap();
    assert!(ends.recv_timeout(Duration::from_millis(500)).is_err(), "new ones go to the new one");
    socket.close(None).unwrap();
    assert!(ends.recv_timeout(Duration::from_secs(30)).is_ok());
}

#[test]
fn no_close_frame_is_put_into_another_frame() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    let gateway = start(upstream);
    let server = thread::spawn(move || {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        // A frame of ten bytes, of which three never come.
        std::io::Write::write_all(socket.get_mut(), b"\x82\x0a1234567").unwrap();
        while socket.read().is_ok() {}
    });
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client
        .send(
            "GET /s/x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        )
        .unwrap();
    client.until("1234567").unwrap();
    reload(&gateway, config(gateway.ports(), upstream, "/other", ""));
    assert_eq!(client.rest().unwrap(), b"", "the end, and nothing before it");
    server.join().unwrap();
}

/// Events until the gate is open, and an endless download.
fn streaming_origin(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |request| match request.target() {
        "/s/events" => Answer::status(200).events(&["1", "2"], Some(Step::Until(gate.clone()))),
        _ => Answer::status(200)
            .header("content-type", "application/zip")
            .chunks(["a", "b"], Some(Step::Until(gate.clone()))),
    })
}

fn ask(gateway: &Gateway, path: &str) -> RawClient {
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
    client
}

#[test]
fn streams_outlive_reloads() {
    let gate = Gate::default();
    let origin = streaming_origin(&gate);
    let gateway = start(origin.address());
    let (mut events, mut download) = (ask(&gateway, "/s/events"), ask(&gateway, "/s/download"));
    events.until("data: 1\n\n\r\n").unwrap();
    download.until("1\r\na\r\n").unwrap();
    for harmless in HARMLESS {
        reload(&gateway, config(gateway.ports(), origin.address(), "/s/{*rest}", harmless));
    }
    thread::sleep(Duration::from_secs(1));
    gate.open();
    events.until("data: 2\n\n").unwrap();
    for client in [&mut events, &mut download] {
        client.until("0\r\n\r\n").unwrap();
    }
}

#[test]
fn streams_of_a_route_that_is_gone_end_events_properly_and_others_so_that_it_shows() {
    let origin = streaming_origin(&Gate::default());
    let gateway = start(origin.address());
    let (mut events, mut download) = (ask(&gateway, "/s/events"), ask(&gateway, "/s/download"));
    let mut h2 = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    let h2_events = h2.request("GET", "a", "/s/events", &[], true).unwrap();
    let h2_download = h2.request("GET", "a", "/s/download", &[], true).unwrap();
    h2.until(h2_events, |stream| !stream.body.is_empty()).unwrap();
    h2.until(h2_download, |stream| !stream.body.is_empty()).unwrap();
    events.until("data: 1\n\n\r\n").unwrap();
    download.until("1\r\na\r\n").unwrap();
    reload(&gateway, config(gateway.ports(), origin.address(), "/other", ""));
    assert_eq!(events.until("\r\n\r\n").unwrap(), b"0\r\n\r\n");
    assert!(!download.rest().unwrap_or_default().ends_with(b"0\r\n\r\n"));
    let end = h2.answer(h2_events).unwrap();
    assert!(end.ended && end.reset.is_none(), "{end:?}");
    let end = h2.answer(h2_download).unwrap();
    assert!(!end.ended && end.reset.is_some(), "{end:?}");
}

#[test]
fn a_drain_ends_what_would_never_end_by_itself_before_its_own_end() {
    let (upstream, ends) = echo();
    let mut gateway = start(upstream);
    let mut socket = connect(&gateway);
    says(&mut socket, "one");
    gateway.signal("TERM");
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no Close frame") };
    assert_eq!(frame.code, CloseCode::Away);
    assert_eq!(ends.recv_timeout(Duration::from_secs(30)).unwrap(), Some(CloseCode::Away));
    drop(socket);
    assert_eq!(gateway.wait().code(), Some(0));
    let _ = gateway.wait_for_line(|line| line.contains("\"drained\""));

    let origin = streaming_origin(&Gate::default());
    let mut gateway = start(origin.address());
    let mut events = ask(&gateway, "/s/events");
    events.until("data: 1\n\n\r\n").unwrap();
    gateway.signal("TERM");
    assert_eq!(events.rest().unwrap(), b"0\r\n\r\n");
    assert_eq!(gateway.wait().code(), Some(0));
    let _ = gateway.wait_for_line(|line| line.contains("\"drained\""));
}

/// Memory of the gateway in KiB.
fn rss(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A snapshot with the shipped rules takes 11 MiB: kept by one stream of each reload, they would be 88.
#[test]
fn streams_keep_nothing_of_the_snapshot_that_they_began_with() {
    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let (sockets, _ends) = echo();
    let origin = streaming_origin(&Gate::default());
    let builder = Gateway::builder(BINARY).env("ZEROLOSS_KEY", "0123456789abcdef0123456789abcdef");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(format!("{ROOT}/rules"))
        .arg(builder.folder())
        .status();
    assert!(copied.unwrap().success());
    let firewalled = |ports: Ports| {
        let more = format!(
            "[upstream.sockets]\nendpoints = [{{ address = \"{sockets}\" }}]\n\
             [[route]]\nname = \"sockets\"\nmatch = {{ path = \"/ws\" }}\nupstream = \"sockets\"\nupgrade = [\"websocket\"]\n"
        );
        config(ports, origin.address(), "/s/{*rest}", &more)
            .replace("firewall.mode = \"off\"", "firewall.rules = [\"rules/*.conf\"]")
    };
    let gateway = builder.start(firewalled);
    let change = |at: usize| {
        let before = gateway.sample(SUCCESS).unwrap();
        gateway.replace(
            "rules/999-more.conf",
            format!("SecAction \"id:{},phase:1,pass,nolog\"\n", 1_099_000 + at),
        );
        gateway.wait_for_sample(SUCCESS, |now| now > before);
    };
    // What two snapshots take while one is made beside the other is no growth.
    change(100);
    change(101);
    let before = rss(&gateway);
    let mut open = Vec::new();
    for at in 0..8 {
        let mut events = ask(&gateway, "/s/events");
        events.until("data: 1\n\n").unwrap();
        let socket = TcpStream::connect(gateway.public()).unwrap();
        open.push((events, tungstenite::client("ws://example.com/ws", socket).unwrap().0));
        change(at);
    }
    let grown = rss(&gateway).saturating_sub(before);
    assert!(grown < 44 * 1024, "{grown} KiB more");
    for (_, socket) in &mut open {
        says(socket, "still there");
    }
}
