//! What survives a reload and what goes.

use crate::support::*;
use portcullis_testkit::{Answer, Authority, Origin};
use portcullis_upstream::{
    EndpointSettings, Protocol, SettingsError, TlsSettings, Upstream, UpstreamSettings, Upstreams,
};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

#[tokio::test]
async fn connections_and_counters_stay() {
    let origin = Origin::answering(Answer::ok("x"));
    let before = Upstreams::build([settings(&[origin.address()])], None).unwrap();
    get(before.get("test").unwrap()).await.unwrap();
    let mut changed = settings(&[origin.address()]);
    changed.endpoints.push(EndpointSettings::new("127.0.0.1", 1));
    changed.endpoints[0].weight = 1000;
    changed.client.response *= 2;
    let after = Upstreams::build([changed], Some(&before)).unwrap();
    drop(before);
    let upstream = after.iter().next().unwrap();
    get(upstream).await.unwrap();
    assert_eq!(origin.connections(), 1);
    assert_eq!((stats(upstream).connects, stats(upstream).reuses), (1, 1));
}

#[tokio::test]
async fn another_identity_has_another_pool() {
    let origin = Origin::answering(Answer::ok("x"));
    let before = to(&origin);
    get(&before).await.unwrap();
    let mut renamed = settings(&[origin.address()]);
    "other".clone_into(&mut renamed.name);
    let mut http2 = settings(&[origin.address()]);
    http2.protocol = Protocol::Http2;
    let mut tls = settings(&[origin.address()]);
    let authorities = Some(Authority::new().pem().as_bytes().to_vec());
    tls.tls = Some(TlsSettings { authorities, ..TlsSettings::default() });
    for changed in [renamed, http2, tls] {
        let after = Upstream::new(changed, Some(&before)).unwrap();
        assert_eq!((stats(&after).connects, stats(&after).idle), (0, 0));
    }
    assert_eq!(stats(&before).idle, 1);
}

#[tokio::test]
async fn an_endpoint_that_goes_takes_its_idle_connections_along() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]).unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        ended.send(socket.read(&mut [0; 1]).unwrap()).unwrap();
    });
    let before = upstream(settings(&[address]));
    get(&before).await.unwrap();
    let after = Upstream::new(settings(&[]), Some(&before)).unwrap();
    assert!(end.try_recv().is_err());
    drop(before);
    eventually("the idle connection is closed", || matches!(end.try_recv(), Ok(0))).await;
    drop(after);
}

#[test]
fn every_error_is_told() {
    let tls = |settings: &mut UpstreamSettings, change: fn(&mut TlsSettings)| {
        let authorities = Some(Authority::new().pem().as_bytes().to_vec());
        let mut tls = TlsSettings { authorities, ..TlsSettings::default() };
        change(&mut tls);
        settings.tls = Some(tls);
    };
    let named = |name: &str| UpstreamSettings::new(name, vec![EndpointSettings::new("127.0.0.1", 1)]);
    let mut twice = named("a");
    twice.endpoints.push(EndpointSettings::new("127.0.0.1", 1));
    let mut name = named("c");
    tls(&mut name, |tls| tls.server_name = Some("not a name".into()));
    let mut authorities = named("d");
    tls(&mut authorities, |tls| tls.authorities = Some(b"no PEM".to_vec()));
    let mut identity = named("e");
    tls(&mut identity, |tls| {
        tls.identity = Some(portcullis_upstream::ClientIdentity {
            certificates: tls.authorities.clone().unwrap(),
            key: b"-----BEGIN SECRET-----".to_vec(),
        });
    });
    assert!(!format!("{identity:?}").contains("SECRET"), "{identity:?}");
    let all = [twice, named("b"), named("b"), name, authorities, identity];
    let errors = Upstreams::build(all, None).unwrap_err();
    assert!(
        matches!(&errors[0], SettingsError::DuplicateEndpoint { address, .. } if address == "127.0.0.1:1")
    );
    assert!(matches!(&errors[1], SettingsError::DuplicateName { upstream } if upstream == "b"));
    assert!(matches!(&errors[2], SettingsError::ServerName { name, .. } if name == "not a name"));
    assert!(matches!(errors[3], SettingsError::Authorities { .. }));
    assert!(matches!(errors[4], SettingsError::Identity { .. }));
    assert_eq!(errors.len(), 5);
    for (error, name) in errors.iter().zip(["a", "b", "c", "d", "e"]) {
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        assert!(!error.to_string().contains("SECRET"));
    }
}
