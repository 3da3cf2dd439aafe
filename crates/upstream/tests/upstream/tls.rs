//! TLS to endpoints: whom the gateway believes.

use crate::support::*;
use portcullis_http::UpstreamFailure;
use portcullis_testkit::{Answer, Authority, Identity, Origin};
use portcullis_upstream::{ClientIdentity, Protocol, TlsSettings, UpstreamSettings};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

fn trusting(authority: &Authority, name: Option<&str>, address: SocketAddr) -> UpstreamSettings {
    let mut settings = settings(&[address]);
    settings.tls = Some(TlsSettings {
        server_name: name.map(str::to_owned),
        authorities: Some(authority.pem().as_bytes().to_vec()),
        ..TlsSettings::default()
    });
    settings
}

fn serving(identity: &Identity) -> Origin {
    Origin::builder().tls(identity.server_config(&[])).start(|_| Answer::ok("secret"))
}

#[tokio::test]
async fn a_trusted_name_is_served_and_reused() {
    let authority = Authority::new();
    let origin = serving(&authority.issue(&["backend.test", "127.0.0.1"]));
    for name in [Some("backend.test"), None] {
        let before = origin.connections();
        let upstream = upstream(trusting(&authority, name, origin.address()));
        for _ in 0..3 {
            assert_eq!(get(&upstream).await, Ok((200, b"secret".to_vec())));
        }
        assert_eq!(origin.connections() - before, 1);
    }
}

#[tokio::test]
async fn everybody_else_is_refused_and_told_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let origin = serving(&authority.issue(&["backend.test"]));
    for settings in [
        trusting(&authority, Some("other.test"), origin.address()),
        trusting(&authority, None, origin.address()),
        trusting(&stranger, Some("backend.test"), origin.address()),
        // The operating system's authorities know nothing of the test's.
        UpstreamSettings {
            tls: Some(TlsSettings { server_name: Some("backend.test".into()), ..TlsSettings::default() }),
            ..settings(&[origin.address()])
        },
    ] {
        let upstream = match portcullis_upstream::Upstream::new(settings, None) {
            Ok(upstream) => upstream,
            // A machine without authorities says so at load.
            Err(error) => {
                assert!(error.to_string().contains("ca-certificates"), "{error}");
                continue;
            }
        };
        assert_eq!(get(&upstream).await, Err(UpstreamFailure::Tls));
        assert_eq!(stats(&upstream).open, 0);
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn nothing_is_said_in_clear() {
    let authority = Authority::new();
    let plain = Origin::answering(Answer::ok("in clear"));
    let mut settings = trusting(&authority, Some("backend.test"), plain.address());
    settings.tls_timeout = Duration::from_millis(500);
    // The backend waits for the end of a head, in vain.
    assert_eq!(get(&upstream(settings)).await, Err(UpstreamFailure::TlsTimeout));
    assert_eq!(plain.count(), 0);
}

#[tokio::test]
async fn http2_is_chosen_by_alpn_or_not_at_all() {
    let authority = Authority::new();
    let identity = authority.issue(&["backend.test"]);
    let origin = http2_origin(Some(identity.server_config(&["h2"])), |request| {
        http::Response::new(bytes::Bytes::from(request.uri().to_string()))
    });
    let mut settings = trusting(&authority, Some("backend.test"), origin.address());
    settings.protocol = Protocol::Http2;
    assert_eq!(get(&upstream(settings)).await, Ok((200, b"https://gateway.test/x".to_vec())));
    for protocols in [&[][..], &["http/1.1"]] {
        let origin = Origin::builder().tls(identity.server_config(protocols)).start(|_| Answer::ok("old"));
        let mut settings = trusting(&authority, Some("backend.test"), origin.address());
        settings.protocol = Protocol::Http2;
        assert_eq!(get(&upstream(settings)).await, Err(UpstreamFailure::Tls), "{protocols:?}");
        assert_eq!(origin.count(), 0);
    }
}

#[tokio::test]
async fn the_gateway_shows_who_it_is() {
    let authority = Authority::new();
    let (server, client) = (authority.issue(&["backend.test"]), authority.issue(&["gateway.test"]));
    let origin = Origin::builder().tls(asking(&server, &authority)).start(|_| Answer::ok("known"));
    let mut settings = trusting(&authority, Some("backend.test"), origin.address());
    // TLS 1.3's client is done before the server has judged it.
    let refused = get(&upstream(settings.clone())).await.unwrap_err();
    assert!(matches!(refused, UpstreamFailure::Tls | UpstreamFailure::Closed), "{refused:?}");
    if let Some(tls) = &mut settings.tls {
        tls.identity = Some(ClientIdentity {
            certificates: client.certificate_pem.into_bytes(),
            key: client.key_pem.into_bytes(),
        });
    }
    assert_eq!(get(&upstream(settings)).await, Ok((200, b"known".to_vec())));
    assert_eq!(origin.count(), 1);
}

/// A server that serves only those whom this authority knows.
fn asking(server: &Identity, authority: &Authority) -> std::sync::Arc<rustls::ServerConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.pem().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let chain = CertificateDer::pem_slice_iter(server.certificate_pem.as_bytes());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            chain.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).unwrap(),
        );
    config.unwrap().into()
}

/// What a server of handshakes saw of one.
#[derive(Debug)]
struct Seen {
    kind: rustls::HandshakeKind,
    version: rustls::ProtocolVersion,
    server_name: Option<String>,
}

/// Answers one request for each connection, and tells of each handshake.
fn telling(identity: &Identity, connections: usize) -> (SocketAddr, std::thread::JoinHandle<Vec<Seen>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, config) = (listener.local_addr().unwrap(), identity.server_config(&[]));
    let server = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..connections {
            let (socket, _) = listener.accept().unwrap();
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket);
            let mut request = [0; 1024];
            if stream.read(&mut request).is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                stream.write_all(answer).unwrap();
            }
            if let Some(kind) = stream.conn.handshake_kind() {
                let (version, server_name) =
                    (stream.conn.protocol_version().unwrap(), stream.conn.server_name().map(str::to_owned));
                seen.push(Seen { kind, version, server_name });
            }
        }
        seen
    });
    (address, server)
}

#[tokio::test]
async fn the_second_handshake_resumes_the_session_of_the_first() {
    let authority = Authority::new();
    let subjects = vec!["spiffe://example.org/x".to_owned(), "backend.test".to_owned()];
    for subjects in [vec![], subjects] {
        let (address, server) = telling(&authority.issue(&["backend.test"]), 4);
        let mut settings = trusting(&authority, Some("backend.test"), address);
        settings.tls.as_mut().unwrap().subjects = subjects;
        let first = upstream(settings.clone());
        for _ in 0..2 {
            assert_eq!(get(&first).await, Ok((200, b"ok".to_vec())));
        }
        // So does the first of a reload that changes nothing of it; another identity begins anew.
        let reloaded = portcullis_upstream::Upstream::new(settings.clone(), Some(&first)).unwrap();
        assert_eq!(get(&reloaded).await, Ok((200, b"ok".to_vec())));
        settings.tls.as_mut().unwrap().tls13_only = true;
        let other = portcullis_upstream::Upstream::new(settings, Some(&reloaded)).unwrap();
        assert_eq!(get(&other).await, Ok((200, b"ok".to_vec())));
        let kinds: Vec<_> = server.join().unwrap().into_iter().map(|seen| seen.kind).collect();
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [Full, Resumed, Resumed, Full]);
    }
}

#[tokio::test]
async fn names_that_are_pinned_take_the_place_of_the_hosts() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut params = portcullis_testkit::rcgen::CertificateParams::default();
    let shop = "spiffe://example.org/shop";
    params.subject_alt_names = vec![portcullis_testkit::rcgen::SanType::URI(shop.try_into().unwrap())];
    let origin = serving(&authority.issue_as(&params));
    let pinned = |authority: &Authority, subjects: &[&str]| {
        let mut settings = trusting(authority, None, origin.address());
        settings.tls.as_mut().unwrap().subjects = subjects.iter().map(|&name| name.to_owned()).collect();
        upstream(settings)
    };
    assert_eq!(get(&pinned(&authority, &[shop])).await, Ok((200, b"secret".to_vec())));
    assert_eq!(get(&pinned(&authority, &["other.test", shop])).await, Ok((200, b"secret".to_vec())));
    for upstream in [
        pinned(&authority, &["spiffe://example.org/other"]),
        pinned(&authority, &["spiffe://example.org/shop/x", "127.0.0.1"]),
        pinned(&stranger, &[shop]),
        // Its certificate is for no host.
        pinned(&authority, &[]),
    ] {
        assert_eq!(get(&upstream).await, Err(UpstreamFailure::Tls));
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn the_oldest_version_can_be_set() {
    let authority = Authority::new();
    let identity = authority.issue(&["backend.test"]);
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes());
    let old = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            chain.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let origin = Origin::builder().tls(old.into()).start(|_| Answer::ok("old"));
    let mut settings = trusting(&authority, Some("backend.test"), origin.address());
    assert_eq!(get(&upstream(settings.clone())).await, Ok((200, b"old".to_vec())));
    settings.tls.as_mut().unwrap().tls13_only = true;
    assert_eq!(get(&upstream(settings)).await, Err(UpstreamFailure::Tls));
}

#[tokio::test]
async fn the_name_is_sent_as_sni() {
    let authority = Authority::new();
    let (address, server) = telling(&authority.issue(&["backend.test"]), 1);
    let upstream = upstream(trusting(&authority, Some("backend.test"), address));
    assert_eq!(get(&upstream).await, Ok((200, b"ok".to_vec())));
    let seen = server.join().unwrap();
    assert_eq!(seen[0].server_name.as_deref(), Some("backend.test"));
    assert_eq!(seen[0].version, rustls::ProtocolVersion::TLSv1_3);
}
