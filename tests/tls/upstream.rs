//! The gateway's own certificate for its upstreams: replaced while requests run.

use crate::support::BINARY;
use portcullis_testkit::{Authority, Gateway, Identity, RawClient, everything_to, get};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A server that asks for certificates: who has connected, and how many of each still are.
#[derive(Default)]
struct Guests {
    seen: Mutex<Vec<CertificateDer<'static>>>,
    first: AtomicUsize,
    second: AtomicUsize,
}

fn asking(server: &Identity, clients: &Authority) -> Arc<rustls::ServerConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let chain = CertificateDer::pem_slice_iter(server.certificate_pem.as_bytes());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            chain.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).unwrap(),
        )
        .unwrap()
        .into()
}

fn serve(config: Arc<rustls::ServerConfig>, first: CertificateDer<'static>) -> (SocketAddr, Arc<Guests>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, guests) = (listener.local_addr().unwrap(), Arc::<Guests>::default());
    let known = Arc::clone(&guests);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (config, first, guests) = (config.clone(), first.clone(), Arc::clone(&known));
            std::thread::spawn(move || drop(entertain(socket.unwrap(), config, &first, &guests)));
        }
    });
    (address, guests)
}

/// Serves one connection until it is closed.
fn entertain(
    socket: TcpStream,
    config: Arc<rustls::ServerConfig>,
    first: &CertificateDer<'static>,
    guests: &Guests,
) -> std::io::Result<()> {
    let session = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(session, socket);
    stream.conn.complete_io(&mut stream.sock)?;
    let shown = stream.conn.peer_certificates().unwrap()[0].clone().into_owned();
    let open = if shown == *first { &guests.first } else { &guests.second };
    guests.seen.lock().unwrap().push(shown);
    open.fetch_add(1, Ordering::SeqCst);
    let mut request = [0; 4096];
    while let Ok(1..) = stream.read(&mut request) {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
    }
    open.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

fn certificate(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()
}

#[test]
fn a_client_certificate_is_replaced_under_load() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let (old, new) = (clients.issue(&["gateway.test"]), clients.issue(&["gateway.test"]));
    let server = servers.issue(&["127.0.0.1"]);
    let (address, guests) = serve(asking(&server, &clients), certificate(&old));
    let both = |identity: &Identity| format!("{}{}", identity.certificate_pem, identity.key_pem);
    let gateway = Gateway::builder(BINARY)
        .file("ca.crt", servers.pem())
        .file("client.pem", both(&old))
        .start(|ports| {
            let tls = r#"tls = { ca_file = "ca.crt", certificate = "client.pem", key = "client.pem", min_version = "1.3" }"#;
            ports.opening("firewall.mode = \"off\"", "") + &everything_to(&[address], tls, "sensitive = true")
        });
    assert_eq!(get(gateway.public(), "/x").status(), 200);
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (stop, address) = (Arc::clone(&stop), gateway.public());
            std::thread::spawn(move || {
                let mut client = RawClient::connect(address).unwrap();
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
                    let response = client.response().unwrap();
                    assert_eq!(response.status(), 200);
                    count += 1;
                    // After its thousandth request.
                    if response.header("connection") == Some("close") {
                        client = RawClient::connect(address).unwrap();
                    }
                }
                count
            })
        })
        .collect();
    let soon = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}:\n{}", gateway.log().join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    soon("connections", &|| guests.first.load(Ordering::SeqCst) > 0);
    // A certificate without its key changes nothing.
    gateway.replace("client.pem", &new.certificate_pem);
    gateway.wait_for_sample("portcullis_reloads_total{result=\"failure\"}", |count| count >= 1.0);
    gateway.replace("client.pem", both(&new));
    gateway.wait_for_sample("portcullis_reloads_total{result=\"success\"}", |count| count >= 2.0);
    soon("the new one is shown", &|| guests.second.load(Ordering::SeqCst) > 0);
    soon("connections with the old one are let go", &|| guests.first.load(Ordering::SeqCst) == 0);
    let so_far = guests.seen.lock().unwrap().len();
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let answered: usize = load.into_iter().map(|client| client.join().expect("no request failed")).sum();
    assert!(answered > 0);
    let seen = guests.seen.lock().unwrap();
    assert!(seen.contains(&certificate(&old)) && seen.contains(&certificate(&new)));
    assert!(seen[so_far..].iter().all(|shown| *shown == certificate(&new)), "nobody shows the old one again");
}
