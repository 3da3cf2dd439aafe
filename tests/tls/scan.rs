//! What scanners find (matrix E1).

use crate::support::{BINARY, gateway, hello};
use portcullis_testkit::{Authority, Gateway, Origin, absent, suite};
use std::net::SocketAddr;
use std::process::Command;

/// What openssl says of a handshake with these options.
fn s_client(address: SocketAddr, options: &str, input: &str) -> String {
    let script = format!(
        "(printf '{input}'; sleep 1) | openssl s_client -connect {address} -servername a.test {options} 2>&1"
    );
    let run = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// Whether a session came about.
fn agreed(text: &str) -> bool {
    assert!(text.contains("CONNECTED("), "{text}");
    !text.contains("Cipher is (NONE)") && text.contains("Cipher is ")
}

#[test]
fn e1_nothing_old_is_spoken() {
    let (origin, authority) = (hello(), Authority::new());
    let gateway = gateway(&origin, &authority, "");
    let address = gateway.tls();
    assert!(agreed(&s_client(address, "-tls1_2", "Q")));
    assert!(agreed(&s_client(address, "-tls1_3", "Q")));
    for options in [
        "-tls1 -cipher ALL:@SECLEVEL=0",
        "-tls1_1 -cipher ALL:@SECLEVEL=0",
        "-tls1_2 -cipher kRSA:@SECLEVEL=0",
        "-tls1_2 -cipher DHE:!ECDHE:@SECLEVEL=0",
        "-tls1_2 -cipher aNULL:eNULL:@SECLEVEL=0",
        "-tls1_2 -cipher AES128-SHA256:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0",
    ] {
        assert!(!agreed(&s_client(address, options, "Q")), "{options}");
    }
    assert!(s_client(address, "-tls1_2 -comp", "Q").contains("Compression: NONE"));
    // `R` asks for a renegotiation. One that asks again and again is cut off.
    let text = s_client(address, "-tls1_2", "R\\\\n");
    assert!(text.contains("no renegotiation") || text.contains("wrong"), "{text}");
    assert_eq!(origin.count(), 0);
}

/// A gateway as one on the internet would be: with HSTS, and with a certificate of 90 days that says where its issuer's
/// revocation list is.
fn public(origin: &Origin, authority: &Authority) -> Gateway {
    use portcullis_testkit::rcgen::{
        CertificateParams, CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    };
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a.test");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let uris = vec!["http://ca.test/revoked.crl".to_owned()];
    params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
    let now = std::time::SystemTime::now();
    let day = std::time::Duration::from_secs(86_400);
    params.not_before = (now - day).into();
    params.not_after = (now + 89 * day).into();
    let identity = authority.issue_as(&params);
    Gateway::builder(BINARY)
        .file("a.crt", &identity.certificate_pem)
        .file("a.key", &identity.key_pem)
        .file("ca.crt", authority.pem())
        .start(|ports| {
            format!(
                r#"
                admin.listen = "{}"
                firewall.mode = "off"
                [response_headers]
                set = {{ strict-transport-security = "max-age=31536000", x-content-type-options = "nosniff", x-frame-options = "DENY", referrer-policy = "strict-origin-when-cross-origin", content-security-policy = "default-src 'self'" }}
                [[listener]]
                name = "tls"
                address = "{}"
                tls.certificates = [{{ certificate = "a.crt", key = "a.key" }}]
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
        })
}

#[test]
fn e1_testssl_finds_nothing_above_low() {
    const SCANNER: &str = "/usr/bin/testssl";
    if std::env::var_os("PORTCULLIS_FULL").is_none() || absent(SCANNER) {
        return;
    }
    let (origin, authority) = (hello(), Authority::new());
    let gateway = public(&origin, &authority);
    let port = gateway.tls().port();
    let run = Command::new(SCANNER)
        .args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1"])
        .args(["--add-ca", "ca.crt", "--jsonfile", "found.json", &format!("a.test:{port}")])
        .current_dir(gateway.folder())
        .output()
        .unwrap();
    let text = std::fs::read_to_string(gateway.folder().join("found.json")).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
    });
    let found: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let of = |severity: &str| found.iter().filter(|one| one["severity"] == severity).count();
    let severe: Vec<String> = found
        .iter()
        .filter(|one| {
            ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].iter().any(|severity| one["severity"] == *severity)
        })
        .map(|one| format!("{} {}: {}", one["severity"], one["id"], one["finding"]))
        .collect();
    suite(
        "testssl.sh",
        &format!(
            "{} checks, {} ok, {} info, {} low, {} above low",
            found.len(),
            of("OK"),
            of("INFO"),
            of("LOW"),
            severe.len()
        ),
    );
    assert!(found.len() > 100, "{} checks only", found.len());
    assert!(severe.is_empty(), "{}", severe.join("\n"));
}
