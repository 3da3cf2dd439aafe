//! Client certificates that are wrong in every way there is (matrix E7).

use crate::clients::{authority, client};
use crate::support::{gateway_with, get, hello, wait_for_failures};
use portcullis_testkit::rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree, NameConstraints, SanType, date_time_ymd,
};
use portcullis_testkit::{Authority, Identity, suite};
use std::process::Command;
use std::sync::Arc;

/// Certificates that must be refused, each with what is wrong with it.
fn hostile(clients: &Authority) -> Vec<(&'static str, Identity)> {
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = client(Some("spiffe://example.test/a"), 1);
        change(&mut params);
        params
    };
    let issued = |change: &dyn Fn(&mut CertificateParams)| clients.issue_as(&with(change));
    let mut all = vec![
        ("expired", issued(&|params| params.not_after = date_time_ymd(2020, 1, 1))),
        ("not yet valid", issued(&|params| params.not_before = date_time_ymd(2100, 1, 1))),
        (
            "for servers",
            issued(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        (
            "for code",
            issued(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
        ),
        ("an authority's", clients.issue_as(&authority())),
        ("of another authority", Authority::new().issue_as(&with(&|_| {}))),
        ("revoked", clients.issue_as(&client(None, 666))),
    ];
    let between = clients.subordinate(authority());
    let uncovered = between.issue_as(&with(&|_| {})).with_chain(between.pem());
    all.push(("of an issuer without a revocation list", uncovered));
    all.push(("without its intermediate", between.issue_as(&with(&|_| {}))));
    let mut constrained = authority();
    constrained.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("good.test".to_owned())],
        excluded_subtrees: vec![GeneralSubtree::DnsName("bad.good.test".to_owned())],
    });
    let constrained = clients.subordinate(constrained);
    for (what, name) in [
        ("outside its authority's names", "evil.test"),
        ("in its authority's excluded names", "x.bad.good.test"),
        ("a wildcard that reaches into excluded names", "*.good.test"),
    ] {
        let named =
            with(&|params| params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())]);
        all.push((what, constrained.issue_as(&named).with_chain(constrained.pem())));
    }
    let leaf = between.issue(&["leaf.test"]);
    let beneath = Authority::new().issue_as(&with(&|_| {}));
    all.push(("of an issuer that is no authority", beneath.with_chain(&leaf.certificate_pem)));
    all.push(("100 deep", deep(clients, 100)));
    let large = with(&|params| {
        let name = |at: usize| SanType::DnsName(format!("{at}.{}.test", "x".repeat(60)).try_into().unwrap());
        params.subject_alt_names = (0..700).map(name).collect();
    });
    let large = between.issue_as(&large);
    all.push(("64 KB long", large.with_chain(&between.pem().repeat(60))));
    let mut garbage = clients.issue_as(&with(&|_| {}));
    let line = garbage.certificate_pem.lines().nth(3).unwrap().to_owned();
    garbage.certificate_pem =
        garbage.certificate_pem.replacen(&line, &line.chars().rev().collect::<String>(), 1);
    all.push(("with bytes turned around", garbage));
    let other = clients.issue_as(&with(&|_| {}));
    let mut stolen = clients.issue_as(&with(&|_| {}));
    stolen.key_pem = other.key_pem;
    all.push(("without its key", stolen));
    all
}

/// A chain so deep, up to an authority that is trusted.
fn deep(clients: &Authority, depth: usize) -> Identity {
    let (mut chain, mut last) = (Vec::new(), None);
    for _ in 0..depth {
        let next = last.as_ref().unwrap_or(clients).subordinate(authority());
        chain.insert(0, next.pem().to_owned());
        last = Some(next);
    }
    let own = last.as_ref().unwrap_or(clients).issue_as(&client(None, 1));
    own.with_chain(&chain.concat())
}

/// Certificates of a trusted authority with digests that are broken, by openssl, since nobody else still makes them.
fn weak() -> (String, Vec<(&'static str, Identity)>) {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let run =
            Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(run.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&run.stderr));
    };
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let key = "-newkey rsa:2048 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 30 -subj /CN=weak"));
    openssl(&format!("req {key} -keyout client.key -out client.csr -subj /CN=client"));
    // Without an extension openssl makes certificates of version 1, which are refused for that alone.
    std::fs::write(folder.path().join("v3"), "extendedKeyUsage = clientAuth\n").unwrap();
    let mut all = Vec::new();
    for (what, digest) in [("SHA-1", "sha1"), ("MD5", "md5")] {
        openssl(&format!(
            "x509 -req -in client.csr -CA ca.crt -CAkey ca.key -set_serial 7 -extfile v3 -days 30 -{digest} -out {digest}.crt"
        ));
        let certificate_pem = read(&format!("{digest}.crt"));
        all.push((what, Identity { certificate_pem, key_pem: read("client.key") }));
    }
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out large.key");
    openssl("req -new -key large.key -out large.csr -subj /CN=large");
    openssl(
        "x509 -req -in large.csr -CA ca.crt -CAkey ca.key -set_serial 8 -extfile v3 -days 30 -sha512 -out large.crt",
    );
    all.push(("P-521", Identity { certificate_pem: read("large.crt"), key_pem: read("large.key") }));
    openssl(
        "x509 -req -in client.csr -CA ca.crt -CAkey ca.key -set_serial 9 -extfile v3 -days 30 -sha256 -out good.crt",
    );
    all.push(("good", Identity { certificate_pem: read("good.crt"), key_pem: read("client.key") }));
    (read("ca.crt"), all)
}

#[test]
fn e7_hostile_certificates_of_clients() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let files =
        [("clients.crt", clients.pem()), ("revoked.crl", &clients.revocation_list(&[666, 667], 2100))];
    let tls =
        "client_auth = { mode = \"optional\", ca_file = \"clients.crt\", crl_files = [\"revoked.crl\"] }";
    let mut gateway = gateway_with(&origin, &server, &files, ["", tls, "auth.client_certificate = {}"]);
    let hostile = hostile(&clients);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (what, identity) in &hostile {
            let mut config = server.client_config_as(identity, &["http/1.1"]);
            config = only(version, &server, config);
            let outcome = get(gateway.tls(), "a.test", "/x", &Arc::new(config));
            assert!(outcome.is_err(), "{what}: {outcome:?}");
        }
    }
    assert_eq!(origin.count(), 0);
    let good = clients.issue_as(&client(None, 5));
    let config = Arc::new(server.client_config_as(&good, &["http/1.1"]));
    assert_eq!(get(gateway.tls(), "a.test", "/x", &config).unwrap().0, 200);
    assert!(gateway.ended().is_none());
    wait_for_failures(&gateway, "certificate", |count| count > 20.0);
    suite("tls client certificates", &format!("{} hostile ones refused over TLS 1.2 and 1.3", hostile.len()));
}

/// The same client with one version only.
fn only(
    version: &'static rustls::SupportedProtocolVersion,
    server: &Authority,
    from: rustls::ClientConfig,
) -> rustls::ClientConfig {
    let mut config = server.client_config_for(&[version]);
    config.client_auth_cert_resolver = from.client_auth_cert_resolver;
    config.alpn_protocols = from.alpn_protocols;
    config
}

#[test]
fn e7_broken_digests_and_long_keys() {
    let (origin, server) = (hello(), Authority::new());
    let (ca, identities) = weak();
    let tls = "client_auth = { mode = \"optional\", ca_file = \"clients.crt\" }";
    let gateway =
        gateway_with(&origin, &server, &[("clients.crt", &ca)], ["", tls, "auth.client_certificate = {}"]);
    for (what, identity) in identities {
        let config = Arc::new(server.client_config_as(&identity, &["http/1.1"]));
        let outcome = get(gateway.tls(), "a.test", "/x", &config);
        let good = ["good", "P-521"].contains(&what);
        assert_eq!(outcome.as_ref().is_ok_and(|(status, _)| *status == 200), good, "{what}: {outcome:?}");
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn e7_an_intermediate_passes_where_all_of_the_chain_is_covered() {
    let (origin, server, clients) = (hello(), Authority::new(), Authority::new());
    let mut middle = authority();
    middle.serial_number = Some(rcgen::SerialNumber::from(40_u64));
    let between = clients.subordinate(middle);
    let lists = [clients.revocation_list(&[666], 2100), between.revocation_list(&[666], 2100)].concat();
    let tls = "client_auth = { ca_file = \"clients.crt\", crl_files = [\"all.crl\"] }";
    let files = [("clients.crt", clients.pem()), ("all.crl", &lists)];
    let gateway = gateway_with(&origin, &server, &files, ["", tls, ""]);
    let ask = |identity: &Identity| {
        get(gateway.tls(), "a.test", "/x", &Arc::new(server.client_config_as(identity, &["http/1.1"])))
            .is_ok()
    };
    let good = || between.issue_as(&client(None, 1)).with_chain(between.pem());
    assert!(ask(&good()));
    assert!(!ask(&between.issue_as(&client(None, 666)).with_chain(between.pem())));
    assert!(ask(&clients.issue_as(&client(None, 1))));
    // The intermediate itself is revoked.
    let lists = [clients.revocation_list(&[40], 2100), between.revocation_list(&[], 2100)].concat();
    gateway.replace("all.crl", lists);
    gateway.wait_for_sample("portcullis_reloads_total{result=\"success\"}", |count| count >= 2.0);
    assert!(!ask(&good()));
    // A list that is past its `nextUpdate` says nothing any more.
    gateway.replace("all.crl", clients.revocation_list(&[666], 2021));
    gateway.wait_for_sample("portcullis_reloads_total{result=\"success\"}", |count| count >= 3.0);
    assert!(!ask(&clients.issue_as(&client(None, 1))));
    let _ = gateway.wait_for_line(|line| line.contains("all.crl") && line.contains("nextUpdate"));
}
