//! `gateway.toml`, and the certificates, keys and revocation lists that it names.

use portcullis_diag::{RenderOptions, SourceMap, render};
use portcullis_http::is_value;
use portcullis_tls::{
    ClientAuth, ClientAuthSettings, ClientCertFields, HostNames, client_certificate, is_stale, pem, validity,
};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, CertificateRevocationListDer, InvalidSignature,
    SignatureVerificationAlgorithm, UnixTime, alg_id,
};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// What stands for a secret here. It is no text that a message of ours could hold by itself.
const SECRET: &str = "Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7";

/// A configuration of any bytes is read or refused; findings point into the text and can be shown, and a signing key
/// in it is not in what is shown.
pub fn toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    findings(text);
    let key = format!("\n[[identity.fuzz.keys]]\nalgorithm = \"HS256\"\nsecret = \"{SECRET}\"\n");
    let shown = findings(&format!("{text}{key}"));
    assert!(text.contains("Zq7") || !shown.contains(SECRET), "a finding shows a signing key:\n{shown}");
}

/// All findings as they are printed.
fn findings(text: &str) -> String {
    let mut sources = SourceMap::new();
    let env = |name: &str| (name == "A").then(|| "value".to_owned());
    let found = match portcullis_config::parse("gateway.toml", text, &mut sources, &env) {
        Ok(loaded) => loaded.warnings,
        Err(found) => {
            assert!(found.has_errors(), "refused without a reason");
            found
        }
    };
    let length = text.strip_prefix('\u{feff}').unwrap_or(text).len();
    for span in found.iter().flat_map(|one| one.span.into_iter().chain(one.labels.iter().map(|l| l.span))) {
        let range = span.range();
        assert!(range.start <= range.end && range.end <= length, "{range:?} is outside");
    }
    render(found.iter(), &sources, RenderOptions::default())
}

/// 2026-01-01, so that an input is judged the same every time.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));

/// Any bytes are certificates, a key and revocation lists in PEM, or are refused by their line. What is read is read twice
/// from the text that stands twice and the same from PEM that is written anew, and names, dates and verification stay
/// within bounds and agree with webpki's.
pub fn pem(data: &[u8]) {
    let twice = [data, b"\n", data].concat();
    let certificates = pem::certificates(data);
    let lists = pem::revocation_lists(data);
    for error in [certificates.as_ref().err(), lists.as_ref().err()].into_iter().flatten() {
        let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
        assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{error} of {lines}");
    }
    if let Ok(key) = pem::private_key(data) {
        assert!(key.secret_der().len() <= data.len(), "a key that is longer than its text");
    }
    let (certificates, lists) = (certificates.unwrap_or_default(), lists.unwrap_or_default());
    if !certificates.is_empty() {
        assert_eq!(
            pem::certificates(&twice).expect("twice"),
            [&certificates[..], &certificates[..]].concat()
        );
        let anew: String = certificates.iter().map(|der| written("CERTIFICATE", der)).collect();
        assert_eq!(pem::certificates(anew.as_bytes()).expect("anew"), certificates);
    }
    if !lists.is_empty() {
        let anew: String = lists.iter().map(|der| written("X509 CRL", der)).collect();
        assert_eq!(pem::revocation_lists(anew.as_bytes()).expect("anew"), lists);
        assert!(
            lists.iter().all(
                |list| is_stale(list, NOW) || !is_stale(list, UnixTime::since_unix_epoch(Duration::ZERO))
            )
        );
    }
    if let Some(own) = certificates.first() {
        named(own, &certificates);
        verified(&certificates, lists);
    }
}

/// What a certificate says of its holder can stand in a header field, and is what webpki reads.
fn named(own: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) {
    let _ = validity(own, NOW);
    let _ = HostNames::of(own).contain("a.test");
    let Some(client) = client_certificate(chain, "tls:fuzz") else { return };
    let caller = &client.principal;
    assert!(!caller.subject.is_empty() && is_value(caller.subject.as_bytes()), "{:?}", caller.subject);
    if let Ok(parsed) = webpki::EndEntityCert::try_from(own) {
        for name in parsed.valid_dns_names() {
            assert!(
                client.dns_names.contains(&name.to_ascii_lowercase()),
                "{name} of {:?}",
                client.dns_names
            );
        }
    }
    let mut fields = portcullis_http::Fields::default();
    ClientCertFields::Chain.write(&client, &mut fields);
    assert!(fields.iter().all(|(_, value)| is_value(value)));
}

/// Takes every signature for good: what comes behind the signatures is reached then, and faster.
#[derive(Debug)]
struct Gullible(AlgorithmIdentifier, AlgorithmIdentifier);

impl SignatureVerificationAlgorithm for Gullible {
    fn verify_signature(&self, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), InvalidSignature> {
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.0
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.1
    }
}

static GULLIBLE: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    static ALL: &[&dyn SignatureVerificationAlgorithm] = &[
        &Gullible(alg_id::ECDSA_P256, alg_id::ECDSA_SHA256),
        &Gullible(alg_id::ED25519, alg_id::ED25519),
        &Gullible(alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA256),
    ];
    let signature_verification_algorithms = WebPkiSupportedAlgorithms {
        all: ALL,
        mapping: aws_lc_rs::default_provider().signature_verification_algorithms.mapping,
    };
    Arc::new(CryptoProvider { signature_verification_algorithms, ..aws_lc_rs::default_provider() })
});

/// Verification ends, with the chain's own certificates for authorities.
fn verified(chain: &[CertificateDer<'static>], lists: Vec<CertificateRevocationListDer<'static>>) {
    let settings =
        ClientAuthSettings { required: true, authorities: chain.to_vec(), revocation_lists: lists };
    if let Ok(auth) = ClientAuth::new(settings, GULLIBLE.clone()) {
        let _ = auth.verify(chain, NOW);
    }
}

/// A section of PEM (RFC 7468).
fn written(label: &str, der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
