//! The PROXY protocol: whom a load balancer announces is the client, everywhere; who does not announce, or may not, is
//! not served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Authority, Gateway, H2Client, Origin, RawClient, absent, everything_to, free_port, suite,
};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\x12\x67\x01\xbb";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const GET: &[u8] = b"GET /a HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

/// A gateway whose listeners, one in clear and one over TLS, are a load balancer's; `listener` goes into both.
fn gateway(origin: &Origin, authority: &Authority, top: &str, listener: &str) -> Gateway {
    let identity = authority.issue(&["a.test", "127.0.0.1"]);
    let builder =
        Gateway::builder(BINARY).file("a.crt", &identity.certificate_pem).file("a.key", &identity.key_pem);
    builder.start(|ports| {
        ports.opening(&format!("firewall.mode = \"off\"\n{top}"), listener)
            + &ports.tls_listener(listener)
            + &everything_to(&[origin.address()], "", "")
    })
}

const TRUSTED: &str = r#"proxy_protocol = { from = ["127.0.0.0/8"] }"#;

fn hello() -> Origin {
    Origin::answering(Answer::ok("hello"))
}

fn refused(gateway: &Gateway, listener: &str, reason: &str) -> f64 {
    let series = "portcullis_client_connections_refused_total";
    gateway.sample(&format!("{series}{{listener=\"{listener}\",reason=\"{reason}\"}}")).unwrap()
}

/// Sends these pieces as segments of their own, and reads to the end.
fn exchange(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut client = RawClient::connect(address).unwrap();
    for piece in pieces {
        client.send(piece).unwrap();
        if pieces.len() > 1 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    String::from_utf8_lossy(&client.rest().unwrap_or_default()).into_owned()
}

#[test]
fn the_announced_client_is_the_client() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "addresses.deny = ['198.51.100.0/24']", TRUSTED);
    let mut count = 0;
    for header in [V1, V2] {
        let whole = [header, GET].concat();
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        let mut cuts: Vec<Vec<&[u8]>> =
            (1..whole.len()).step_by(5).map(|at| vec![&whole[..at], &whole[at..]]).collect();
        cuts.extend([vec![&whole[..]], vec![header, GET], bytes]);
        for pieces in cuts {
            let text = exchange(gateway.public(), &pieces);
            assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
            count += 1;
            let seen = origin.wait_for(count);
            assert_eq!(seen[count - 1].header("x-forwarded-for"), Some("203.0.113.7"));
            assert_eq!(seen[count - 1].target(), "/a");
        }
    }
    let _ = gateway.wait_for_line(|line| line.contains(r#""client":"203.0.113.7""#));
    let denied = exchange(gateway.public(), &[b"PROXY TCP4 198.51.100.1 192.0.2.1 1 2\r\n", GET]);
    assert!(denied.starts_with("HTTP/1.1 403 "), "{denied}");
    for own in [V2_LOCAL, b"PROXY UNKNOWN\r\n"] {
        let text = exchange(gateway.public(), &[&[own, GET].concat()]);
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        count += 1;
        assert_eq!(origin.wait_for(count)[count - 1].header("x-forwarded-for"), Some("127.0.0.1"));
    }
    let mut client = RawClient::connect(gateway.public()).unwrap();
    client.send(b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n").unwrap();
    let mut client = H2Client::start(client).unwrap();
    assert_eq!(client.get("a.test", "/h2").unwrap().status, Some(200));
    let seen = origin.wait_for(count + 1);
    assert_eq!(seen[count].header("x-forwarded-for"), Some("2001:db8::7"));
    suite("PROXY protocol", &format!("{} connections announced in versions 1 and 2, in pieces", count + 2));
}

/// A socket whose first write has something in front of it, in the same segment.
struct Fronted(TcpStream, Vec<u8>);

impl Read for Fronted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Fronted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut bytes = std::mem::take(&mut self.1);
        bytes.extend_from_slice(buf);
        self.0.write_all(&bytes).map(|()| buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn the_header_may_come_with_the_client_hello() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "", TRUSTED);
    for header in [V1, V2] {
        let config = Arc::new(authority.client_config(&["http/1.1"]));
        let session = rustls::ClientConnection::new(config, "a.test".try_into().unwrap()).unwrap();
        let socket = Fronted(TcpStream::connect(gateway.tls()).unwrap(), header.to_vec());
        let mut stream = rustls::StreamOwned::new(session, socket);
        stream.write_all(GET).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
        assert_eq!(origin.requests().last().unwrap().header("x-forwarded-for"), Some("203.0.113.7"));
    }
}

#[test]
fn who_does_not_announce_is_not_served() {
    let (origin, authority) = (hello(), Authority::new());
    let listener = r#"proxy_protocol = { from = ["127.0.0.1"], timeout = "1s" }"#;
    let gateway = gateway(&origin, &authority, "", listener);
    let bad: [&[u8]; 6] = [
        GET,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n",
        b"PROXY TCP4 203.0.113.7\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ];
    for (count, bytes) in bad.into_iter().enumerate() {
        assert_eq!(exchange(gateway.public(), &[bytes]), "", "{}", bytes.escape_ascii());
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        let expected = (count + 1) as f64;
        assert_eq!(refused(&gateway, "public", "proxy_header"), expected);
    }
    // Slowly, or not at all.
    for pieces in [&[][..], &[&V2[..20]], &[b"P", b"R"]] {
        let began = Instant::now();
        assert_eq!(exchange(gateway.public(), pieces), "");
        assert!(began.elapsed() < Duration::from_secs(4));
    }
    assert_eq!(refused(&gateway, "public", "proxy_timeout"), 3.0);
    // From elsewhere.
    let elsewhere = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    elsewhere.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    elsewhere.connect(&gateway.public().into()).unwrap();
    let mut elsewhere = TcpStream::from(elsewhere);
    // It may be closed already.
    let _ = elsewhere.write_all(&[V1, GET].concat());
    let mut answer = Vec::new();
    let _ = elsewhere.read_to_end(&mut answer);
    assert!(answer.is_empty());
    assert_eq!(refused(&gateway, "public", "proxy_peer"), 1.0);
    assert!(origin.requests().is_empty());
}

#[test]
fn d5_connections_are_counted_by_the_announced_client() {
    let (origin, authority) = (hello(), Authority::new());
    let listener = format!("{TRUSTED}\nlimits.max_connections_per_address = 2");
    let gateway = gateway(&origin, &authority, "", &listener);
    let open = |header: &str| {
        let mut client = RawClient::connect(gateway.public()).unwrap();
        client.send(header).unwrap();
        // It may be closed already.
        let _ = client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client.response().ok().map(|response| (response.status(), client))
    };
    let from = |ip: &str| {
        let family = if ip.contains(':') { "TCP6" } else { "TCP4" };
        open(&format!("PROXY {family} {ip} {ip} 1 2\r\n"))
    };
    let held: Vec<_> = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:0:ffff::1"]
        .into_iter()
        .map(|ip| from(ip).unwrap_or_else(|| panic!("{ip}")))
        .collect();
    assert!(held.iter().all(|(status, _)| *status == 200));
    for ip in ["192.0.2.1", "2001:db8::2", "::ffff:192.0.2.1"] {
        assert!(from(ip).is_none(), "{ip} has two already");
    }
    assert!(from("2001:db8:0:1::1").is_some(), "another /64 is another client");
    assert_eq!(refused(&gateway, "public", "address_limit"), 3.0);
    drop(held);
    gateway.wait_for_sample(r#"portcullis_client_connections_open{listener="public"}"#, |open| open == 0.0);
    assert!(from("192.0.2.1").is_some());
}

// ---- load balancers that others have written

/// A server that is ended with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_announces_its_clients() {
    if absent("/usr/sbin/haproxy") {
        return;
    }
    let (origin, authority) = (hello(), Authority::new());
    // What it is told by a balancer before it, it passes on.
    let gateway = gateway(&origin, &authority, "", TRUSTED);
    let options =
        ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"];
    let fronts = options.map(|option| (free_port(), option));
    let sections: String = fronts
        .iter()
        .enumerate()
        .map(|(at, (front, option))| {
            format!(
                "listen l{at}\n  bind {front} accept-proxy\n  mode tcp\n  unique-id-format %rt\n  server g {} {option}\n",
                gateway.public()
            )
        })
        .collect();
    let file = gateway.folder().join("haproxy.cfg");
    std::fs::write(
        &file,
        format!("defaults\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n{sections}"),
    )
    .unwrap();
    let _haproxy = Peer(Command::new("haproxy").arg("-db").arg("-f").arg(&file).spawn().unwrap());
    for (count, (front, option)) in fronts.into_iter().enumerate() {
        until_listening(front);
        let client = format!("198.51.100.{count}");
        let text = exchange(front, &[format!("PROXY TCP4 {client} 192.0.2.1 1 2\r\n").as_bytes(), GET]);
        assert!(text.starts_with("HTTP/1.1 200 "), "{option}: {text}");
        assert_eq!(origin.wait_for(count + 1)[count].header("x-forwarded-for"), Some(&*client), "{option}");
    }
}

/// Waits until somebody listens there.
fn until_listening(balancer: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while RawClient::connect(balancer).is_err() {
        assert!(Instant::now() < deadline, "the load balancer does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn curl_announces_itself() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "", TRUSTED);
    for url in [format!("http://{}/a", gateway.public()), format!("https://{}/a", gateway.tls())] {
        let out = Command::new("curl").args(["-sk", "--haproxy-protocol", &url]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "hello");
    }
    assert_eq!(origin.requests().len(), 2);
}
