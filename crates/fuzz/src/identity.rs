//! Tokens and keys.

use portcullis_http::Principal;
use portcullis_identity::{
    Algorithm, JwksSource, KeyMaterial, KeyStore, Moment, Provider, ProviderSettings, Secret, SigningKey,
    StaticKey, mint,
};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

static STORE: LazyLock<KeyStore> = LazyLock::new(|| KeyStore::new(None).unwrap());

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn settings() -> ProviderSettings {
    let mut settings = ProviderSettings::new("fuzz", "https://issuer.example");
    settings.audiences = vec!["api".to_owned()];
    settings.algorithms = vec![Algorithm::HS256];
    settings
}

/// A provider, a token of its own and a moment at which it holds.
struct Issued {
    provider: Provider,
    token: String,
    now: Moment,
}

static ISSUED: LazyLock<Issued> = LazyLock::new(|| {
    let secret = Secret::new(SECRET);
    let material = KeyMaterial::Secret(secret.clone());
    let mut settings = settings();
    settings.keys = vec![StaticKey { kid: None, algorithm: None, material }];
    let provider = Provider::new(settings, &STORE).unwrap();
    let key = SigningKey::from_secret(&secret, Algorithm::HS256).unwrap();
    let claims = serde_json::json!({ "iss": "https://issuer.example", "aud": "api", "sub": "alice" });
    let now = Moment::now();
    let token = mint(&key, claims.as_object().unwrap().clone(), Duration::from_secs(1 << 20), now).unwrap();
    Issued { provider, token, now }
});

/// Verifies; a provider without a remote key set never waits.
fn verify(token: &str) -> Option<Principal> {
    let verdict = ISSUED.provider.verify(token, ISSUED.now);
    match std::pin::pin!(verdict).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => verdict.ok(),
        Poll::Pending => panic!("waits for nothing"),
    }
}

/// A token of any bytes is refused, and so is a good one that was changed anywhere: the input is read as the token
/// itself, and as places and bytes to write into a good one.
pub fn token(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(verify(text).is_none(), "a token nobody made is believed");
    }
    let mut bytes = ISSUED.token.clone().into_bytes();
    for edit in data.chunks_exact(3).take(40) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        match edit[2] {
            b'\0' if !bytes.is_empty() => drop(bytes.remove(at.min(bytes.len() - 1))),
            byte if edit[1] & 0x80 != 0 => bytes.insert(at, byte),
            byte => *bytes.get_mut(at).unwrap_or(&mut 0) = byte,
        }
    }
    if let Ok(text) = std::str::from_utf8(&bytes) {
        assert_eq!(verify(text).is_some(), text == ISSUED.token, "{text}");
    }
}

/// A file for key sets; one for each process, as fuzzers run several.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("portcullis-fuzz-{}.json", std::process::id())));

/// Keys of any bytes, as PEM and as a JWK set: read or refused.
pub fn keys(data: &[u8]) {
    let all = vec![Algorithm::RS256, Algorithm::PS512, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    if let Ok(text) = std::str::from_utf8(data) {
        let material = KeyMaterial::PublicPem(text.to_owned());
        let keys = vec![StaticKey { kid: None, algorithm: None, material }];
        let _ = Provider::new(ProviderSettings { keys, algorithms: all.clone(), ..settings() }, &STORE);
    }
    if data.first().is_some_and(|first| matches!(first, b'{' | b' ')) && std::fs::write(&*FILE, data).is_ok()
    {
        let algorithms = [all, vec![Algorithm::HS256]].concat();
        let jwks = Some(JwksSource::File(FILE.clone()));
        let _ = Provider::new(ProviderSettings { jwks, algorithms, ..settings() }, &STORE);
    }
}
