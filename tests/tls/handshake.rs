//! Versions, names and protocols: what a handshake settles, and what it leaves open (matrix B8, E2 to E4).

use crate::support::{BINARY, gateway, h2, hello, wait_for_failures};
use portcullis_testkit::{Authority, Gateway, H2Client, PREFACE, RawClient};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// One GET over TLS with these versions only: the version spoken, and what came back.
fn over_tls(
    address: SocketAddr,
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<(rustls::ProtocolVersion, String)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("a.test").unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(address)?);
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    // An end without close_notify would be an error.
    stream.read_to_string(&mut text)?;
    Ok((stream.conn.protocol_version().unwrap(), text))
}

#[test]
fn tls_1_2_and_1_3() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (spoken, text) = over_tls(gateway.tls(), &authority, &[version]).unwrap();
        assert_eq!(spoken, version.version);
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
    }
    assert_eq!(origin.requests()[0].header("x-forwarded-proto"), Some("https"));
    assert_eq!(origin.requests()[0].header("x-forwarded-port"), Some("443"));
}

#[test]
fn tls_1_2_can_be_refused() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = Gateway::builder(BINARY);
    let identity = authority.issue(&["a.test"]);
    let gateway = gateway.file("a.crt", &identity.certificate_pem).file("a.key", &identity.key_pem);
    let gateway = gateway.start(|ports| {
        format!(
            r#"
            admin.listen = "{}"
            firewall.mode = "off"
            [[listener]]
            name = "tls"
            address = "{}"
            tls = {{ certificates = [{{ certificate = "a.crt", key = "a.key" }}], min_version = "1.3" }}
            [upstream.origin]
            endpoints = [{{ address = "{}" }}]
            [[route]]
            name = "all"
            match = {{ path = "/{{*rest}}" }}
            upstream = "origin"
            "#,
            ports.admin,
            ports.tls,
            origin.address()
        )
    });
    assert!(over_tls(gateway.tls(), &authority, &[&rustls::version::TLS12]).is_err());
    assert!(over_tls(gateway.tls(), &authority, &[&rustls::version::TLS13]).is_ok());
    assert_eq!(origin.count(), 1);
}

#[test]
fn sni_chooses_the_certificate() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    // Each name is verified by the client, so that a handshake which succeeds got the right certificate.
    for name in ["a.test", "A.Test", "b.test", "wild.test", "x.wild.test", "default.test"] {
        let mut client = RawClient::connect_tls(gateway.tls(), name, &authority, &[]).unwrap();
        client.send(format!("GET /x HTTP/1.1\r\nhost: {name}\r\n\r\n")).unwrap();
        assert_eq!(client.response().unwrap().status(), 200, "{name}");
    }
    for name in ["other.test", "x.y.wild.test", "x.a.test"] {
        assert!(RawClient::connect_tls(gateway.tls(), name, &authority, &[]).is_err(), "{name}");
    }
}

#[test]
fn alpn_alone_chooses_the_protocol() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    let connect = |protocols: &[&str]| RawClient::connect_tls(gateway.tls(), "a.test", &authority, protocols);
    for protocols in [&["h2"][..], &["h2", "http/1.1"], &["http/1.1", "h2"]] {
        let mut client = H2Client::start(connect(protocols).unwrap()).unwrap();
        let seen = client.get("a.test", "/x").unwrap();
        assert_eq!((seen.status, seen.body.as_slice()), (Some(200), &b"hello"[..]), "{protocols:?}");
    }
    for protocols in [&["http/1.1"][..], &[], &["foo", "http/1.1"]] {
        let mut client = connect(protocols).unwrap();
        client.send("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().text(), "hello", "{protocols:?}");
        // E4: nothing is guessed from bytes once ALPN was there to be used.
        let mut client = connect(protocols).unwrap();
        client.send(PREFACE).unwrap();
        assert_eq!(client.response().unwrap().status(), 505);
    }
    for protocols in [&["http/1.0"][..], &["foo", "http/1.0"], &["h2c"], &["spdy/3.1"], &["H2"]] {
        let error = connect(protocols).err().unwrap().to_string();
        assert!(error.contains("NoApplicationProtocol"), "{protocols:?}: {error}");
    }
    // What ALPN chose is not given up for what comes: HTTP/1 where HTTP/2 was agreed on.
    let mut client = connect(&["h2"]).unwrap();
    client.send("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    let answer = client.rest().unwrap_or_default();
    assert!(!answer.windows(5).any(|bytes| bytes == b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
    let only_h1 = crate::support::gateway(&origin, &authority, "http2 = false");
    assert!(RawClient::connect_tls(only_h1.tls(), "a.test", &authority, &["h2"]).is_err());
    let mut client =
        RawClient::connect_tls(only_h1.tls(), "a.test", &authority, &["h2", "http/1.1"]).unwrap();
    client.send("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "hello");
}

#[test]
fn clear_text_and_silence_on_a_tls_port() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "timeouts = { handshake = \"300ms\" }");
    let mut client = RawClient::connect(gateway.tls()).unwrap();
    client.send("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    let answer = client.rest().unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
    // D1: nothing, and half a ClientHello.
    assert!(RawClient::connect(gateway.tls()).unwrap().is_closed());
    let mut client = RawClient::connect(gateway.tls()).unwrap();
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert!(client.is_closed());
    wait_for_failures(&gateway, "timeout", |count| count == 2.0);
    assert_eq!(origin.count(), 0);
}

#[test]
fn e2_a_host_other_than_the_one_in_the_handshake_is_misdirected() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    for (host, status) in [
        ("a.test", 200),
        ("A.TEST", 200),
        ("a.test.", 200),
        ("a.test:443", 200),
        ("b.test", 421),
        ("default.test", 421),
        ("127.0.0.1", 421),
    ] {
        let mut client = RawClient::connect_tls(gateway.tls(), "a.test", &authority, &[]).unwrap();
        client.send(format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n")).unwrap();
        assert_eq!(client.response().unwrap().status(), status, "{host}");
        let raw = RawClient::connect_tls(gateway.tls(), "a.test", &authority, &["h2"]).unwrap();
        let mut client = H2Client::start(raw).unwrap();
        assert_eq!(client.get(host, "/x").unwrap().status, Some(status), "{host} in HTTP/2");
    }
    assert_eq!(origin.count(), 8);
}

#[test]
fn e2_without_sni_only_the_default_certificate_is_there() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    // An address is no SNI.
    for (host, status) in [
        ("default.test", 200),
        ("DEFAULT.test.:8443", 200),
        ("127.0.0.1", 200),
        ("192.0.2.1:443", 200),
        ("[2001:db8::1]", 200),
        ("a.test", 421),
        ("x.wild.test", 421),
        ("anything.test", 421),
        ("localhost", 421),
    ] {
        let mut client = RawClient::connect_tls(gateway.tls(), "127.0.0.1", &authority, &[]).unwrap();
        client.send(format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n")).unwrap();
        assert_eq!(client.response().unwrap().status(), status, "{host}");
        let mut client = h2(gateway.tls(), "127.0.0.1", authority.client_config(&["h2"])).unwrap();
        assert_eq!(client.get(host, "/x").unwrap().status, Some(status), "{host} in HTTP/2");
    }
    let mut client = RawClient::connect_tls(gateway.tls(), "127.0.0.1", &authority, &[]).unwrap();
    client.send("GET /x HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status(), 200, "HTTP/1.0 may name no host");
}

#[test]
fn e3_one_connection_is_for_one_authority() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    // The certificate names both, so that a browser would use the connection for both (RFC 9113, 9.1.1).
    let mut client = h2(gateway.tls(), "a.test", authority.client_config(&["h2"])).unwrap();
    for (host, status) in
        [("a.test", 200), ("b.test", 421), ("a.test", 200), ("wild.test", 421), ("a.test:443", 200)]
    {
        assert_eq!(client.get(host, "/x").unwrap().status, Some(status), "{host}");
    }
    // A wildcard's certificate covers every name below it, and the connection still only the one.
    let mut client = h2(gateway.tls(), "x.wild.test", authority.client_config(&["h2"])).unwrap();
    assert_eq!(client.get("x.wild.test", "/x").unwrap().status, Some(200));
    assert_eq!(client.get("y.wild.test", "/x").unwrap().status, Some(421));
    assert_eq!(origin.count(), 4);
}

#[test]
fn b8_what_comes_over_tls_is_https() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    for (target, status) in [
        ("/x", 200),
        ("https://a.test/x", 200),
        ("HTTPS://a.test/x", 200),
        ("http://a.test/x", 400),
        ("HTTP://a.test:443/x", 400),
        ("ftp://a.test/x", 400),
        ("wss://a.test/x", 400),
        ("https://b.test/x", 400),
    ] {
        let mut client = RawClient::connect_tls(gateway.tls(), "a.test", &authority, &[]).unwrap();
        client.send(format!("GET {target} HTTP/1.1\r\nhost: a.test\r\n\r\n")).unwrap();
        let response = client.response().unwrap();
        assert_eq!(response.status(), status, "{target}");
        assert!(status == 200 || client.is_closed(), "{target}");
    }
    for (scheme, status) in [("https", 200), ("http", 400), ("ftp", 400), ("http://evil/?", 400)] {
        let mut client = h2(gateway.tls(), "a.test", authority.client_config(&["h2"])).unwrap();
        let fields = [(":method", "GET"), (":scheme", scheme), (":authority", "a.test"), (":path", "/x")];
        let stream = client.open(&fields, true).unwrap();
        let answer = client.answer(stream);
        let refused =
            answer.as_ref().map_or(true, |stream| stream.reset.is_some() || stream.status == Some(400));
        let passed = answer.is_ok_and(|stream| stream.status == Some(200));
        assert_eq!((passed, refused), (status == 200, status == 400), "{scheme}");
    }
    assert_eq!(origin.count(), 4);
}
