//! Settings that are wrong, keys that are weak, secrets that stay secret.

use super::forge::{self, b64, claims, good};
use crate::keys::VerificationKey;
use crate::{
    Algorithm, JwksSource, KeyError, KeyMaterial, KeyStore, KeyStoreError, MintError, Moment, Provider,
    ProviderSettings, Secret, SigningKey, StaticKey,
};
use serde_json::json;

fn problems(settings: ProviderSettings) -> Vec<String> {
    let store = KeyStore::new(None).unwrap();
    let Err(errors) = Provider::new(settings, &store) else { return Vec::new() };
    errors.iter().map(ToString::to_string).collect()
}

fn static_key(pem: &str) -> StaticKey {
    StaticKey { kid: None, algorithm: None, material: KeyMaterial::PublicPem(pem.into()) }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let errors = problems(ProviderSettings::new("", ""));
    for part in ["name must", "issuer is empty", "audiences is empty", "algorithms is empty", "keys is empty"]
    {
        assert!(errors.iter().any(|error| error.contains(part)), "{part}: {errors:?}");
    }
}

#[test]
fn keys_that_do_not_fit_are_named() {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    for (key, problem) in [
        (static_key(&forge::private_pem(Algorithm::RS256)), "private key"),
        (static_key(&forge::private_pem(Algorithm::ES256)), "private key"),
        (static_key(&certificate), "certificate"),
        (static_key("x"), "no public key in PEM"),
        (static_key("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "no public key in PEM"),
        (static_key(&forge::public_pem(Algorithm::ES384)), "none of the algorithms"),
        (
            StaticKey {
                algorithm: Some(Algorithm::ES256),
                ..static_key(&forge::public_pem(Algorithm::RS256))
            },
            "none of the algorithms",
        ),
        (
            StaticKey { material: KeyMaterial::Secret(Secret::new([1; 31])), ..forge::secret_key() },
            "shorter than its hash",
        ),
    ] {
        let mut settings = forge::settings(&[Algorithm::RS256, Algorithm::ES256, Algorithm::HS256]);
        settings.keys = vec![forge::secret_key(), key];
        let errors = problems(settings);
        assert_eq!(errors.len(), 1, "{problem}: {errors:?}");
        assert!(errors[0].contains("keys[1]") && errors[0].contains(problem), "{problem}: {errors:?}");
    }
    let mut settings = forge::settings(&[Algorithm::HS512]);
    let material = KeyMaterial::Secret(Secret::new([7; 63]));
    settings.keys = vec![StaticKey { kid: None, algorithm: None, material }];
    assert!(problems(settings)[0].contains("shorter than its hash"));
}

#[test]
fn urls_of_key_sets() {
    for (url, allow, problem) in [
        ("https://idp.example/jwks", false, None),
        ("https://idp.example/jwks", true, None),
        ("http://127.0.0.1:1/jwks", true, None),
        ("http://[::1]:1/jwks", true, None),
        ("http://localhost/jwks", true, None),
        ("http://127.0.0.1/jwks", false, Some("explicitly")),
        ("http://idp.example/jwks", true, Some("must be https")),
        ("http://127.0.0.1.evil.example/jwks", true, Some("must be https")),
        ("http://169.254.169.254/jwks", true, Some("must be https")),
        ("http://0.0.0.0/jwks", true, Some("must be https")),
        ("ftp://localhost/jwks", true, Some("must be https")),
        ("file:///etc/passwd", true, Some("names no host")),
        ("https://user:secret@idp.example/", false, Some("user name or password")),
        ("jwks.json", false, Some("is no URL")),
    ] {
        let mut settings = forge::settings(&[Algorithm::RS256]);
        settings.jwks = Some(JwksSource::Url { url: url.into(), allow_http_loopback: allow });
        let errors = problems(settings);
        match problem {
            None => assert!(errors.is_empty(), "{url}: {errors:?}"),
            Some(part) => assert!(errors.len() == 1 && errors[0].contains(part), "{url}: {errors:?}"),
        }
    }
    let mut settings = forge::settings(&[Algorithm::HS256]);
    let url = "https://idp.example/jwks".into();
    settings.jwks = Some(JwksSource::Url { url, allow_http_loopback: false });
    assert!(problems(settings)[0].contains("all symmetric"));
}

#[tokio::test]
async fn key_sets_in_files_may_hold_secrets() {
    let name = format!("portcullis-identity-{}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    let secret = json!({"kty": "oct", "kid": "h", "k": b64(forge::SECRET)});
    let set = json!({"keys": [secret, forge::jwk(Algorithm::RS256, "r")]});
    std::fs::write(&path, set.to_string()).unwrap();
    let mut settings = forge::settings(&[Algorithm::HS256]);
    settings.jwks = Some(JwksSource::File(path.clone()));
    let now = Moment::now();
    let provider = forge::make(settings.clone());
    assert!(provider.verify(&good(Algorithm::HS256, Some("h"), now.unix), now).await.is_ok());
    settings.algorithms = vec![Algorithm::EdDSA];
    assert!(problems(settings.clone())[0].contains("no key that is usable"));
    std::fs::write(&path, "<html>").unwrap();
    assert!(problems(settings.clone())[0].contains("no JWK set"));
    std::fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
    assert!(problems(settings.clone())[0].contains("larger than 1 MiB"));
    std::fs::remove_file(&path).unwrap();
    assert!(problems(settings)[0].contains(&path.display().to_string()));
}

/// Each listed point is shown to be weak by what weakness means: without any private key there are signatures
/// that hold for some messages (S = 0, R of small order as well).
#[test]
fn g6_points_of_small_order_are_refused() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let canonical = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ]
    .map(hex);
    for point in &canonical {
        let forgeable = (0..64_u8).any(|message| {
            canonical.iter().any(|r| {
                let signature = [r.as_slice(), &[0; 32]].concat();
                let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, point);
                key.verify(&[message], &signature).is_ok()
            })
        });
        assert!(forgeable, "{point:02x?}");
        assert_eq!(VerificationKey::from_ed25519(point).err(), Some(KeyError::SmallOrder), "{point:02x?}");
    }
    for other in [
        "0100000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ] {
        assert!(VerificationKey::from_ed25519(&hex(other)).is_err(), "{other}");
    }
}

#[test]
fn secrets_do_not_show() {
    let secret = Secret::new("hunter2hunter2hunter2hunter2hunter2");
    let pem = forge::private_pem(Algorithm::EdDSA);
    let signing = SigningKey::from_pem(&Secret::new(pem.clone()), Algorithm::EdDSA).unwrap();
    let key = StaticKey { kid: None, algorithm: None, material: KeyMaterial::Secret(secret.clone()) };
    let mut settings = forge::settings(&[Algorithm::HS256]);
    settings.keys = vec![key.clone()];
    let mistaken = static_key(&pem);
    let compiled = VerificationKey::from_static(&key, &[Algorithm::HS256]).unwrap();
    let shown = format!(
        "{secret:?} {signing:?} {key:?} {settings:?} {compiled:?} {mistaken:?} {:?}",
        forge::make(settings.clone())
    );
    let body = pem.lines().nth(1).unwrap();
    for part in ["hunter2", "104, 117, 110, 116", body] {
        assert!(!shown.contains(part), "{shown}");
    }
}

#[test]
fn minting_refuses_keys_that_do_not_fit() {
    let pem = |algorithm| Secret::new(forge::private_pem(algorithm));
    for (made, error) in [
        (SigningKey::from_secret(&Secret::new([1; 31]), Algorithm::HS256), MintError::ShortSecret),
        (SigningKey::from_secret(&Secret::new([1; 32]), Algorithm::HS512), MintError::ShortSecret),
        (SigningKey::from_secret(&Secret::new([1; 64]), Algorithm::RS256), MintError::Key),
        (SigningKey::from_pem(&pem(Algorithm::ES256), Algorithm::HS256), MintError::Key),
        (SigningKey::from_pem(&pem(Algorithm::ES256), Algorithm::EdDSA), MintError::Key),
        (SigningKey::from_pem(&Secret::new("x"), Algorithm::ES256), MintError::Key),
    ] {
        assert_eq!(made.err(), Some(error));
    }
    let curve = SigningKey::from_pem(&pem(Algorithm::ES384), Algorithm::ES256).unwrap();
    let serde_json::Value::Object(all) = claims(0) else { panic!("an object") };
    let minted = crate::mint(&curve, all, std::time::Duration::from_secs(1), Moment::now());
    assert_eq!(minted, Err(MintError::Signing));
}

#[test]
fn roots_must_be_certificates() {
    for bad in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(KeyStore::new(Some(bad.as_bytes())).err(), Some(KeyStoreError::Roots), "{bad:?}");
    }
}
