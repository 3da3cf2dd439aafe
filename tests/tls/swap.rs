//! Certificates that are replaced under load, well and badly (matrix E10).

use crate::clients::client;
use crate::support::{gateway_with, hello};
use portcullis_testkit::rcgen::{CertificateParams, date_time_ymd};
use portcullis_testkit::{Authority, Identity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const FAILURE: &str = "portcullis_reloads_total{result=\"failure\"}";
const SUCCESS: &str = "portcullis_reloads_total{result=\"success\"}";
const LAST: &str = "portcullis_config_last_reload_successful";

/// A full handshake and one request; the certificate that the server showed.
fn shown(
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
) -> std::io::Result<CertificateDer<'static>> {
    let name = "default.test".try_into().unwrap();
    let session = rustls::ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(address)?);
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: default.test\r\nconnection: close\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"HTTP/1.1 200");
    Ok(stream.conn.peer_certificates().unwrap()[0].clone().into_owned())
}

fn certificate(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()
}

#[test]
fn e10_what_is_wrong_is_not_taken_up_and_nobody_notices() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let files = [("clients.crt", clients.pem()), ("revoked.crl", &clients.revocation_list(&[666], 2100))];
    let tls = "client_auth = { ca_file = \"clients.crt\", crl_files = [\"revoked.crl\"] }";
    let gateway = gateway_with(&origin, &server, &files, ["", tls, ""]);
    let identity = clients.issue_as(&client(None, 1));
    let mut config = server.client_config_as(&identity, &["http/1.1"]);
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            let (config, address) = (Arc::clone(&config), gateway.tls());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    shown(address, &config).expect("every handshake completes");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let first = shown(gateway.tls(), &config).unwrap();
    let read = |name: &str| std::fs::read_to_string(gateway.folder().join(name)).unwrap();
    let dated = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(["default.test".to_owned()]).unwrap();
        change(&mut params);
        server.issue_as(&params)
    };
    let expired = dated(&|params| params.not_after = date_time_ymd(2021, 1, 1));
    let early = dated(&|params| params.not_before = date_time_ymd(2100, 1, 1));
    let (certificate_pem, key_pem) = (read("default.crt"), read("default.key"));
    let half = &certificate_pem[..certificate_pem.len() / 2];
    let not_one = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let both = |identity: &Identity| {
        vec![("default.crt", identity.certificate_pem.clone()), ("default.key", identity.key_pem.clone())]
    };
    let one = |name: &'static str, text: &str| vec![(name, text.to_owned())];
    let broken = [
        (one("default.crt", ""), "default.crt: holds no certificate"),
        (one("default.crt", half), "default.crt: line 1: a PEM section is broken"),
        (one("default.crt", not_one), "default.crt: line 1: this is no X.509 certificate"),
        (one("default.crt", &key_pem), "default.crt: holds no certificate, but a private key"),
        (one("default.key", &certificate_pem), "default.key: holds no private key, but a certificate"),
        (one("default.key", &expired.key_pem), "do not belong together"),
        (both(&expired), "default.crt: the certificate has expired"),
        (both(&early), "default.crt: the certificate is not valid yet"),
        (one("clients.crt", "nothing"), "clients.crt: holds no certificate"),
        (one("revoked.crl", not_one), "revoked.crl: holds no revocation list, but a certificate"),
    ];
    for (files, said) in broken {
        let kept: Vec<(&str, String)> = files.iter().map(|(name, _)| (*name, read(name))).collect();
        let (failed, done) = (gateway.sample(FAILURE).unwrap_or(0.0), gateway.sample(SUCCESS).unwrap());
        for (name, text) in files {
            gateway.replace(name, text);
        }
        let _ = gateway.wait_for_line(|line| line.contains("is not taken up") && line.contains(said));
        gateway.wait_for_sample(FAILURE, |count| count > failed);
        assert_eq!(gateway.sample(LAST), Some(0.0), "{said}");
        assert_eq!(shown(gateway.tls(), &config).unwrap(), first, "{said}: the old one serves on");
        for (name, text) in kept {
            gateway.replace(name, text);
        }
        gateway.wait_for_sample(SUCCESS, |count| count > done);
        gateway.wait_for_sample(LAST, |value| value == 1.0);
    }
    let mut dates = CertificateParams::new(["default.test".to_owned()]).unwrap();
    dates.not_after = date_time_ymd(2099, 1, 1);
    let next = server.issue_as(&dates);
    for (name, text) in both(&next) {
        gateway.replace(name, text);
    }
    let new = certificate(&next);
    while shown(gateway.tls(), &config).unwrap() != new {}
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().unwrap();
    }
    let handshakes = count.load(Ordering::Relaxed);
    assert!(handshakes > 20, "{handshakes}");
    let expiry = |what: &str| {
        gateway.sample(&format!("portcullis_tls_{what}_expiry_timestamp_seconds{{listener=\"tls\"}}"))
    };
    assert_eq!(expiry("certificate"), Some(4_070_908_800.0));
    assert_eq!(expiry("revocation_list"), Some(4_102_444_800.0));
    for reason in ["protocol", "certificate", "timeout"] {
        let series =
            format!("portcullis_tls_handshake_failures_total{{listener=\"tls\",reason=\"{reason}\"}}");
        assert_eq!(gateway.sample(&series).unwrap_or(0.0), 0.0, "{reason} of {handshakes}");
    }
    portcullis_testkit::suite(
        "tls certificate swaps",
        &format!("10 bad ones refused, 0 of {handshakes} handshakes failed"),
    );
}

#[test]
fn e10_a_gateway_starts_with_what_it_has() {
    let (origin, server) = (hello(), Authority::new());
    let mut params = CertificateParams::new(["default.test".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2021, 1, 1);
    let expired = server.issue_as(&params);
    let files =
        [("default.crt", expired.certificate_pem.as_str()), ("default.key", expired.key_pem.as_str())];
    let gateway = gateway_with(&origin, &server, &files, ["", "", ""]);
    let _ = gateway.wait_for_line(|line| line.contains("default.crt: the certificate has expired"));
    // A reload for another reason does not stumble over it.
    let text = std::fs::read_to_string(gateway.folder().join("gateway.toml")).unwrap();
    gateway.replace("gateway.toml", format!("{text}\n#"));
    gateway.wait_for_sample(SUCCESS, |count| count >= 2.0);
}
