//! Handshakes that nobody's library would send (matrix E8), and updates of keys without end (E9).

use crate::support::{gateway, hello};
use portcullis_testkit::{Authority, RawClient, suite};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HANDSHAKE: u8 = 22;

/// A record of TLS.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 1][..], &length, payload].concat()
}

fn prefixed(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u64::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[8 - width..], bytes].concat()
}

fn extension(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &prefixed(2, payload)].concat()
}

/// A ClientHello for TLS 1.2 and 1.3 with these extensions in front of those that it needs.
fn client_hello(ciphers: &[u16], extra: &[Vec<u8>]) -> Vec<u8> {
    let name = [&[0][..], &prefixed(2, b"a.test")].concat();
    let extensions = [
        extra.concat(),
        extension(0, &prefixed(2, &name)),
        extension(10, &prefixed(2, &[0x6a, 0x6a, 0, 23])),
        extension(13, &prefixed(2, &[4, 3, 8, 4])),
        extension(43, &prefixed(1, &[0x7a, 0x7a, 3, 4, 3, 3])),
        extension(51, &prefixed(2, &[0x6a, 0x6a, 0, 1, 0])),
    ]
    .concat();
    let ciphers: Vec<u8> = ciphers.iter().flat_map(|cipher| cipher.to_be_bytes()).collect();
    let body =
        [&[3, 3][..], &[7; 32], &[0], &prefixed(2, &ciphers), &[1, 0], &prefixed(2, &extensions)].concat();
    [&[1][..], &prefixed(3, &body)].concat()
}

const CIPHERS: [u16; 4] = [0x0a0a, 0x1301, 0xc02b, 0x1302];

/// The first record of the answer, by its type and first byte; `None` where the connection ends without one.
fn answer(address: SocketAddr, bytes: &[u8], piece: usize) -> Option<(u8, u8)> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    for piece in bytes.chunks(piece) {
        // It may have seen enough already.
        if socket.write_all(piece).is_err() {
            break;
        }
    }
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while all.len() < 6 {
        match socket.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("it hangs: {error}"),
        }
    }
    let _ = socket.shutdown(Shutdown::Both);
    Some((all[0], all[5]))
}

const SERVER_HELLO: Option<(u8, u8)> = Some((HANDSHAKE, 2));

#[test]
fn e8_odd_client_hellos_get_an_answer_or_an_alert() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "timeouts = { handshake = \"5s\" }");
    let plain = client_hello(&CIPHERS, &[]);
    let cut = |hello: &[u8], size: usize| {
        hello.chunks(size).flat_map(|part| record(HANDSHAKE, part)).collect::<Vec<u8>>()
    };
    let grease: Vec<Vec<u8>> = (0..16).map(|at| extension(0x0a0a + 0x1010 * at, b"")).collect();
    let many: Vec<u16> = (0x2000..0x2fff).chain(CIPHERS).collect();
    let padded = |size: usize| client_hello(&CIPHERS, &[extension(21, &vec![0; size])]);
    let accepted = [
        ("plain", record(HANDSHAKE, &plain), usize::MAX),
        ("byte by byte", record(HANDSHAKE, &plain), 1),
        ("in records of one byte", cut(&plain, 1), usize::MAX),
        ("in records of one byte, byte by byte", cut(&plain, 1), 1),
        ("in records of 7 bytes", cut(&plain, 7), 3),
        ("GREASE", record(HANDSHAKE, &client_hello(&CIPHERS, &grease)), usize::MAX),
        ("4,000 cipher suites", record(HANDSHAKE, &client_hello(&many, &[])), usize::MAX),
        ("padded to 16 KB", cut(&padded(16_000), 16_384), usize::MAX),
        ("padded to 60 KB", cut(&padded(60_000), 16_384), usize::MAX),
        ("padded to 30 KB in records of 100 bytes", cut(&padded(30_000), 100), usize::MAX),
    ];
    for (what, bytes, piece) in &accepted {
        assert_eq!(answer(gateway.tls(), bytes, *piece), SERVER_HELLO, "{what}");
    }
    let nothing = record(HANDSHAKE, &[]);
    let claimed = |length: [u8; 3]| record(HANDSHAKE, &[&[1][..], &length, &[0; 64]].concat());
    let twice = [record(HANDSHAKE, &plain), record(HANDSHAKE, &plain)].concat();
    let shared = vec![extension(0, &prefixed(2, &[&[0][..], &prefixed(2, b"b.test")].concat()))];
    let refused = [
        ("an empty record", [nothing.clone(), record(HANDSHAKE, &plain)].concat()),
        ("a thousand empty records", nothing.repeat(1000)),
        ("a record of 64 KB", [&[22, 3, 1, 0xff, 0xff][..], &[0; 4096]].concat()),
        ("a message of 16 MB", claimed([0xff, 0xff, 0xff])),
        ("no cipher suite", record(HANDSHAKE, &client_hello(&[], &[]))),
        ("none that we have", record(HANDSHAKE, &client_hello(&[0x0005, 0x000a], &[]))),
        ("a name twice", record(HANDSHAKE, &client_hello(&CIPHERS, &shared))),
        ("half of it", record(HANDSHAKE, &plain[..plain.len() / 2])),
        ("an unknown type of record", record(99, &plain)),
        ("application data", record(23, &plain)),
        ("a ServerHello", record(HANDSHAKE, &[&[2][..], &plain[1..]].concat())),
        ("a thousand warnings", record(21, &[1, 90]).repeat(1000)),
        ("a change of cipher", record(20, &[1]).repeat(1000)),
        ("SSL 2", [&[0x80, 0x2e, 1, 3, 1][..], &[0; 64]].concat()),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n".repeat(10)),
        ("zeros", vec![0; 1000]),
    ];
    for (what, bytes) in &refused {
        let got = answer(gateway.tls(), bytes, usize::MAX);
        assert!(matches!(got, None | Some((21, 2))), "{what}: {got:?}");
    }
    // What came behind a ClientHello is not looked at before its time.
    let got = answer(gateway.tls(), &twice, usize::MAX);
    assert!(matches!(got, None | Some((21 | HANDSHAKE, 2))), "{got:?}");
    let mut client = RawClient::connect_tls(gateway.tls(), "a.test", &authority, &[]).unwrap();
    client.send("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status(), 200, "it serves on");
    assert_eq!(origin.count(), 1);
    suite(
        "tls client hellos",
        &format!("{} odd ones answered, {} broken ones refused", accepted.len(), refused.len() + 1),
    );
}

#[test]
fn e8_server_names_that_are_none() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "timeouts = { handshake = \"5s\" }");
    let named = |name: &[u8]| {
        let list = [&[0][..], &prefixed(2, name)].concat();
        let base = client_hello(&CIPHERS, &[]);
        let real = extension(0, &prefixed(2, &[&[0][..], &prefixed(2, b"a.test")].concat()));
        let at = base.windows(real.len()).position(|window| window == real).unwrap();
        let own = extension(0, &prefixed(2, &list));
        let mut body = [&base[4..at], &own, &base[at + real.len()..]].concat();
        // The length of all extensions.
        let from = 2 + 32 + 1 + 2 + CIPHERS.len() * 2 + 2;
        let extensions = u16::try_from(body.len() - from - 2).unwrap().to_be_bytes();
        body[from..from + 2].copy_from_slice(&extensions);
        record(HANDSHAKE, &[&[1][..], &prefixed(3, &body)].concat())
    };
    for name in [&b"b.test"[..], b"A.TEST", b"a.test.", b"unknown.test", b"127.0.0.1", b"x_y.test"] {
        assert_eq!(answer(gateway.tls(), &named(name), usize::MAX), SERVER_HELLO, "{name:?}");
    }
    for name in [
        &b""[..],
        b".",
        b"a..test",
        b"a.test\0.b",
        b"a b",
        b"[::1]",
        b"\xff\xfe",
        &[b'x'; 300],
        b"a/b",
        b"*.test",
    ] {
        let got = answer(gateway.tls(), &named(name), usize::MAX);
        assert!(matches!(got, None | Some((21, 2)) | SERVER_HELLO), "{name:?}: {got:?}");
    }
}

#[test]
fn e9_updates_of_keys_without_end_are_cut() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    let name = "a.test".try_into().unwrap();
    let config = Arc::new(authority.client_config_for(&[&rustls::version::TLS13]));
    let session = rustls::ClientConnection::new(config, name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(gateway.tls()).unwrap());
    stream.sock.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    let mut sent = 0;
    while sent < 1000 && stream.conn.refresh_traffic_keys().is_ok() && stream.flush().is_ok() {
        sent += 1;
    }
    let mut text = Vec::new();
    // The answer to the request may come first; then it is over.
    let ended = stream.read_to_end(&mut text);
    let goes_on = ended.is_err_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
    });
    assert!(!goes_on, "{sent} updates of keys, and it goes on: {}", String::from_utf8_lossy(&text));
    let mut client = RawClient::connect_tls(gateway.tls(), "a.test", &authority, &[]).unwrap();
    client.send("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status(), 200, "it serves on");
}

/// Handshakes that begin at once.
const BURST: usize = 800;

#[test]
fn e9_a_burst_of_handshakes_does_not_hold_up_open_connections() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    let mut client = RawClient::connect_tls(gateway.tls(), "a.test", &authority, &["http/1.1"]).unwrap();
    let mut ask = || {
        let began = Instant::now();
        client.send("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status(), 200);
        began.elapsed().as_secs_f64() * 1000.0
    };
    let _ = ask();
    let quiet = ask();
    // A ClientHello that was made once costs the sender nothing, and us a key exchange and a signature.
    let session =
        rustls::ClientConnection::new(Arc::new(authority.client_config(&[])), "a.test".try_into().unwrap());
    let mut hello = Vec::new();
    session.unwrap().write_tls(&mut hello).unwrap();
    let mut sockets: Vec<TcpStream> =
        (0..BURST).map(|_| TcpStream::connect(gateway.tls()).unwrap()).collect();
    let began = Instant::now();
    for socket in &mut sockets {
        socket.write_all(&hello).unwrap();
    }
    let answered = |sockets: &[TcpStream]| {
        let is_answered = |socket: &&TcpStream| {
            socket.set_nonblocking(true).unwrap();
            socket.peek(&mut [0]).is_ok()
        };
        sockets.iter().filter(is_answered).count()
    };
    let before = answered(&sockets);
    let beside = ask();
    let waited = answered(&sockets) - before;
    for socket in &mut sockets {
        socket.set_nonblocking(false).unwrap();
        let mut first = [0];
        socket.read_exact(&mut first).unwrap();
        assert_eq!(first, [HANDSHAKE]);
    }
    let all = began.elapsed().as_secs_f64() * 1000.0;
    suite(
        "tls handshake burst",
        &format!(
            "{BURST} at once in {all:.0} ms; a request beside them in {beside:.1} ms (quiet {quiet:.1}), behind {waited}"
        ),
    );
    assert!(waited < BURST / 2, "it waited for {waited} of {BURST} handshakes");
}
