//! Makes tokens of any content, also such as no library would make.

use crate::{Algorithm, KeyMaterial, KeyStore, Provider, ProviderSettings, Secret, StaticKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::{hmac, rsa};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(super) const ISSUER: &str = "https://issuer.example";
pub(super) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(super) static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
pub(super) static P256: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
pub(super) static P384: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&sig::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
pub(super) static ED: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().unwrap());
/// A key nobody has configured.
pub(super) static STRANGER: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn armor(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

pub(super) fn public_pem(algorithm: Algorithm) -> String {
    let der = match algorithm {
        Algorithm::ES256 => AsDer::<PublicKeyX509Der>::as_der(P256.public_key()).unwrap(),
        Algorithm::ES384 => AsDer::<PublicKeyX509Der>::as_der(P384.public_key()).unwrap(),
        Algorithm::EdDSA => AsDer::<PublicKeyX509Der>::as_der(ED.public_key()).unwrap(),
        _ => AsDer::<PublicKeyX509Der>::as_der(RSA.public_key()).unwrap(),
    };
    armor("PUBLIC KEY", der.as_ref())
}

pub(super) fn private_pem(algorithm: Algorithm) -> String {
    let der = match algorithm {
        Algorithm::ES256 => P256.to_pkcs8v1().unwrap().as_ref().to_vec(),
        Algorithm::ES384 => P384.to_pkcs8v1().unwrap().as_ref().to_vec(),
        Algorithm::EdDSA => AsDer::<Pkcs8V1Der<'_>>::as_der(&*ED).unwrap().as_ref().to_vec(),
        _ => AsDer::<Pkcs8V1Der<'_>>::as_der(&*RSA).unwrap().as_ref().to_vec(),
    };
    armor("PRIVATE KEY", &der)
}

pub(super) fn jwk(algorithm: Algorithm, kid: &str) -> Value {
    let ec = |pair: &EcdsaKeyPair, curve: &str| {
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y), "kid": kid})
    };
    match algorithm {
        Algorithm::ES256 => ec(&P256, "P-256"),
        Algorithm::ES384 => ec(&P384, "P-384"),
        Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(ED.public_key()), "kid": kid}),
        _ => {
            let key: &rsa::PublicKey = RSA.public_key();
            let n = b64(key.modulus().big_endian_without_leading_zero());
            let e = b64(key.exponent().big_endian_without_leading_zero());
            json!({"kty": "RSA", "n": n, "e": e, "kid": kid})
        }
    }
}

/// A signature with our key for that algorithm.
pub(super) fn signature(algorithm: Algorithm, input: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let rsa = |encoding: &'static dyn sig::RsaEncoding| {
        let mut out = vec![0; RSA.public_modulus_len()];
        RSA.sign(encoding, &random, input, &mut out).unwrap();
        out
    };
    let mac = |kind| hmac::sign(&hmac::Key::new(kind, SECRET), input).as_ref().to_vec();
    match algorithm {
        Algorithm::HS256 => mac(hmac::HMAC_SHA256),
        Algorithm::HS384 => mac(hmac::HMAC_SHA384),
        Algorithm::HS512 => mac(hmac::HMAC_SHA512),
        Algorithm::RS256 => rsa(&sig::RSA_PKCS1_SHA256),
        Algorithm::RS384 => rsa(&sig::RSA_PKCS1_SHA384),
        Algorithm::RS512 => rsa(&sig::RSA_PKCS1_SHA512),
        Algorithm::PS256 => rsa(&sig::RSA_PSS_SHA256),
        Algorithm::PS384 => rsa(&sig::RSA_PSS_SHA384),
        Algorithm::PS512 => rsa(&sig::RSA_PSS_SHA512),
        Algorithm::ES256 => P256.sign(&random, input).unwrap().as_ref().to_vec(),
        Algorithm::ES384 => P384.sign(&random, input).unwrap().as_ref().to_vec(),
        Algorithm::EdDSA => ED.sign(input).as_ref().to_vec(),
        other => panic!("no key for {other:?}"),
    }
}

/// A token of exactly this header and these claims, signed as `algorithm` whatever the header says.
pub(super) fn token(algorithm: Algorithm, header: &str, claims: &str) -> String {
    let input = format!("{}.{}", b64(header), b64(claims));
    let signature = signature(algorithm, input.as_bytes());
    format!("{input}.{}", b64(signature))
}

/// Claims that are all right at `now`.
pub(super) fn claims(now: u64) -> Value {
    json!({
        "iss": ISSUER, "aud": "api", "sub": "alice", "exp": now + 300, "iat": now,
        "scope": "a:read b:read", "roles": ["editor"],
    })
}

/// A good token.
pub(super) fn good(algorithm: Algorithm, kid: Option<&str>, now: u64) -> String {
    let mut header = json!({"alg": algorithm});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    token(algorithm, &header.to_string(), &claims(now).to_string())
}

pub(super) fn settings(algorithms: &[Algorithm]) -> ProviderSettings {
    let mut settings = ProviderSettings::new("idp", ISSUER);
    settings.audiences = vec!["api".into(), "other".into()];
    settings.algorithms = algorithms.to_vec();
    settings
}

pub(super) fn secret_key() -> StaticKey {
    StaticKey { kid: None, algorithm: None, material: KeyMaterial::Secret(Secret::new(SECRET)) }
}

pub(super) fn public_key(algorithm: Algorithm) -> StaticKey {
    StaticKey { kid: None, algorithm: None, material: KeyMaterial::PublicPem(public_pem(algorithm)) }
}

/// A provider that allows these algorithms and has our static key for each.
pub(super) fn provider(algorithms: &[Algorithm]) -> Provider {
    let mut settings = settings(algorithms);
    for &algorithm in algorithms {
        let hmac = matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
        settings.keys.push(if hmac { secret_key() } else { public_key(algorithm) });
    }
    make(settings)
}

pub(super) fn make(settings: ProviderSettings) -> Provider {
    Provider::new(settings, &KeyStore::new(None).unwrap()).unwrap()
}
