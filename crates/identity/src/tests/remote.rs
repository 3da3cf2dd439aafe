//! Key sets from a URL: part G12 of the attack matrix, and G3 and G4 as far as they reach the network.

use super::forge::{self, ISSUER, b64, claims, good, jwk, signature, token};
use super::guards::exchange;
use super::server::{Answer, Server};
use crate::{Algorithm, Authenticator, JwksSource, KeyStatus, KeyStore, Moment, Provider, TokenError};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn set_of(keys: &[Value]) -> Answer {
    Answer::Body(json!({"keys": keys}).to_string())
}

fn es256() -> Answer {
    set_of(&[jwk(Algorithm::ES256, "k1")])
}

fn provider_of(store: &KeyStore, url: &str) -> Arc<Provider> {
    let mut settings =
        forge::settings(&[Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256, Algorithm::HS256]);
    settings.jwks = Some(JwksSource::Url { url: url.to_owned(), allow_http_loopback: true });
    Arc::new(Provider::new(settings, store).unwrap())
}

fn store() -> KeyStore {
    KeyStore::new(None).unwrap()
}

fn bearer(algorithm: Algorithm, kid: &str, now: Moment) -> String {
    good(algorithm, Some(kid), now.unix)
}

async fn verdict(provider: &Provider, token: &str, now: Moment) -> Result<(), TokenError> {
    provider.verify(token, now).await.map(|_| ())
}

/// Lets a fetch in the background land.
async fn landed(server: &Server, requests: usize, store: &KeyStore, now: Moment) {
    while server.requests() < requests || store.status(now.steady)[0].age.is_none_or(|age| age > MINUTE) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn keys_are_fetched_once_and_kept() {
    let server = Server::start(es256());
    let (store, now) = (store(), Moment::now());
    let provider = provider_of(&store, &server.url());
    assert_eq!(provider.key_status(now), KeyStatus::Unavailable);
    for _ in 0..100 {
        assert_eq!(verdict(&provider, &bearer(Algorithm::ES256, "k1", now), now).await, Ok(()));
    }
    assert_eq!(server.requests(), 1);
    assert_eq!(provider.key_status(now), KeyStatus::Fresh);
    // A reload makes a new provider, which finds the set; and the old one goes.
    let reloaded = provider_of(&store, &server.url());
    drop(provider);
    assert_eq!(verdict(&reloaded, &bearer(Algorithm::ES256, "k1", now), now).await, Ok(()));
    assert_eq!(server.requests(), 1);
    let status = store.status(now.steady);
    assert_eq!((status.len(), status[0].keys, status[0].fetches, status[0].failures), (1, 1, 1, 0));
    drop(reloaded);
    assert!(store.status(now.steady).is_empty(), "a set nobody uses is forgotten");
}

#[tokio::test]
async fn g12_https_with_a_root_of_our_own() {
    let server = Server::start_tls(es256());
    let now = Moment::now();
    let trusting = KeyStore::new(server.certificate.as_deref().map(str::as_bytes)).unwrap();
    let token = bearer(Algorithm::ES256, "k1", now);
    assert_eq!(verdict(&provider_of(&trusting, &server.url()), &token, now).await, Ok(()));
    let unknown = provider_of(&store(), &server.url());
    assert_eq!(verdict(&unknown, &token, now).await, Err(TokenError::KeysUnavailable));
    assert_eq!(server.requests(), 1, "no request before the certificate is proved");
}

#[tokio::test]
async fn g12_cold_start_fails_closed_with_pauses() {
    let server = Server::start(Answer::Status(500, None));
    let (store, now) = (store(), Moment::now());
    let provider = provider_of(&store, &server.url());
    for _ in 0..50 {
        let token = bearer(Algorithm::ES256, "k1", now);
        assert_eq!(verdict(&provider, &token, now).await, Err(TokenError::KeysUnavailable));
    }
    assert_eq!(server.requests(), 1, "a failure is not repeated at once");
    let mut now = now;
    for (pause, requests) in [(1, 2), (1, 2), (1, 3), (4, 4), (8, 5), (16, 6), (29, 6), (1, 7), (30, 8)] {
        now = now.after(Duration::from_secs(pause));
        provider.warm_up(now).await;
        assert_eq!(server.requests(), requests, "after {pause} s more");
    }
    assert_eq!(store.status(now.steady)[0].error.as_deref(), Some("answered with status 500"));
    server.set(es256());
    now = now.after(MINUTE);
    assert_eq!(verdict(&provider, &bearer(Algorithm::ES256, "k1", now), now).await, Ok(()));
    assert_eq!(store.status(now.steady)[0].failures, 0);
}

#[tokio::test]
async fn g12_bad_answers_bring_no_keys_and_lose_none() {
    let inside = Server::start(es256());
    let many: Vec<Value> = (0..101).map(|n| jwk(Algorithm::ES256, &n.to_string())).collect();
    let html = "<!doctype html><title>Sign in</title>";
    for (bad, error) in [
        (Answer::Status(500, None), "status 500"),
        (Answer::Status(404, None), "status 404"),
        (Answer::Status(204, None), "status 204"),
        (Answer::Status(302, Some(inside.url())), "status 302"),
        (Answer::Status(307, Some("http://169.254.169.254/latest/meta-data/".into())), "status 307"),
        (Answer::Body(html.into()), "no JWK set"),
        (Answer::Body(String::new()), "no JWK set"),
        (Answer::Body("[]".into()), "no JWK set"),
        (Answer::Body("{}".into()), "no JWK set"),
        (Answer::Body(r#"{"keys":{}}"#.into()), "no JWK set"),
        (Answer::Body(r#"{"keys":[],"keys":[]}"#.into()), "no JWK set"),
        (Answer::Body(r#"{"keys":[]}"#.into()), "no key"),
        (set_of(&many), "no JWK set"),
        (Answer::Gigabyte { length: true }, "more than 1 MiB"),
        (Answer::Gigabyte { length: false }, "more than 1 MiB"),
        (Answer::Close, "cannot be reached"),
    ] {
        // Cold: nothing to fall back on.
        let server = Server::start(bad.clone());
        let (cold, now) = (store(), Moment::now());
        let token = bearer(Algorithm::ES256, "k1", now);
        let provider = provider_of(&cold, &server.url());
        assert_eq!(verdict(&provider, &token, now).await, Err(TokenError::KeysUnavailable), "{error}");
        let said = cold.status(now.steady)[0].error.clone().unwrap();
        assert!(said.contains(error), "{said:?}, not {error:?}");
        // Warm: the last good set stays, until it is a day old.
        let server = Server::start(es256());
        let warm = store();
        let provider = provider_of(&warm, &server.url());
        assert_eq!(verdict(&provider, &token, now).await, Ok(()), "{error}");
        server.set(bad);
        let hour = now.after(60 * MINUTE);
        assert_eq!(verdict(&provider, &bearer(Algorithm::ES256, "k1", hour), hour).await, Ok(()), "{error}");
        assert_eq!(server.requests(), 2, "{error}");
        assert_eq!(provider.key_status(hour), KeyStatus::Stale(60 * MINUTE), "{error}");
        let day = now.after(24 * 60 * MINUTE + Duration::from_secs(1));
        let verdict = verdict(&provider, &bearer(Algorithm::ES256, "k1", day), day).await;
        assert_eq!(verdict, Err(TokenError::KeysUnavailable), "{error}");
        assert_eq!(provider.key_status(day), KeyStatus::Unavailable, "{error}");
    }
    assert_eq!(inside.requests(), 0, "redirects are not followed");
}

/// Time stands still here unless nobody has anything to do; then it leaps to the next deadline.
#[tokio::test(start_paused = true)]
async fn g12_slow_answers_end_at_the_deadline() {
    for slow in [Answer::Silence, Answer::Drip] {
        let server = Server::start(slow);
        let (store, now) = (store(), Moment::now());
        let provider = provider_of(&store, &server.url());
        let token = bearer(Algorithm::ES256, "k1", now);
        let began = tokio::time::Instant::now();
        assert_eq!(verdict(&provider, &token, now).await, Err(TokenError::KeysUnavailable));
        assert!(began.elapsed() < Duration::from_secs(6));
        assert_eq!(store.status(now.steady)[0].error.as_deref(), Some("took longer than 5 s"));
    }
}

#[tokio::test]
async fn g12_down() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    drop(listener);
    let (store, now) = (store(), Moment::now());
    let token = bearer(Algorithm::ES256, "k1", now);
    let provider = provider_of(&store, &url);
    assert_eq!(verdict(&provider, &token, now).await, Err(TokenError::KeysUnavailable));
    assert_eq!(store.status(now.steady)[0].error.as_deref(), Some("cannot be reached"));
}

#[tokio::test]
async fn g12_rotation_is_found_by_the_unknown_id_and_old_keys_go() {
    let server = Server::start(es256());
    let (store, now) = (store(), Moment::now());
    let provider = provider_of(&store, &server.url());
    assert_eq!(verdict(&provider, &bearer(Algorithm::ES256, "k1", now), now).await, Ok(()));
    server.set(set_of(&[jwk(Algorithm::EdDSA, "k2")]));
    let later = now.after(Duration::from_secs(31));
    assert_eq!(verdict(&provider, &bearer(Algorithm::EdDSA, "k2", later), later).await, Ok(()));
    assert_eq!(server.requests(), 2);
    let verdict = verdict(&provider, &bearer(Algorithm::ES256, "k1", later), later).await;
    assert_eq!(verdict, Err(TokenError::UnknownKey), "the removed key is gone");
}

#[tokio::test]
async fn g12_a_token_that_was_believed_goes_with_its_key() {
    let server = Server::start(es256());
    let (store, now) = (store(), Moment::now());
    let guard = Authenticator::new([provider_of(&store, &server.url())], true, "api").unwrap();
    let bearer = format!("Bearer {}", bearer(Algorithm::ES256, "k1", now));
    let mut exchange = exchange(&[("Authorization", &bearer)]);
    for _ in 0..3 {
        assert_eq!(guard.check_at(&mut exchange, now).await, Ok(()));
    }
    // The same keys fetched anew believe it again, another set does not.
    let due = Moment { steady: now.after(60 * MINUTE).steady, ..now };
    assert_eq!(guard.check_at(&mut exchange, due).await, Ok(()));
    server.set(set_of(&[jwk(Algorithm::EdDSA, "k2")]));
    let later = Moment { steady: now.after(120 * MINUTE).steady, ..now };
    assert!(guard.check_at(&mut exchange, later).await.is_err());
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_due_set_is_used_while_it_is_fetched_and_an_old_one_is_not() {
    let server = Server::start(es256());
    let (store, now) = (store(), Moment::now());
    let provider = provider_of(&store, &server.url());
    provider.warm_up(now).await;
    server.set(set_of(&[jwk(Algorithm::EdDSA, "k2")]));
    // Six minutes: due. The old set still judges, and the new one comes in the background.
    let due = now.after(6 * MINUTE);
    assert_eq!(verdict(&provider, &bearer(Algorithm::ES256, "k1", due), due).await, Ok(()));
    landed(&server, 2, &store, due).await;
    assert_eq!(verdict(&provider, &bearer(Algorithm::EdDSA, "k2", due), due).await, Ok(()));
    // An hour later: a key removed meanwhile must not be believed even once.
    server.set(es256());
    let old = due.after(60 * MINUTE);
    let removed = verdict(&provider, &bearer(Algorithm::EdDSA, "k2", old), old).await;
    assert_eq!(removed, Err(TokenError::UnknownKey));
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn g3_unknown_ids_cost_one_fetch_in_half_a_minute() {
    let server = Server::start(es256());
    let (store, now) = (store(), Moment::now());
    let provider = provider_of(&store, &server.url());
    provider.warm_up(now).await;
    for round in 1..=3_u32 {
        let later = now.after(Duration::from_secs(31) * round);
        for n in 0..1000 {
            let token = bearer(Algorithm::ES256, &format!("unknown-{n}"), later);
            assert_eq!(verdict(&provider, &token, later).await, Err(TokenError::UnknownKey));
        }
        assert_eq!(server.requests(), 1 + round as usize);
        let soon = later.after(Duration::from_secs(29));
        let token = bearer(Algorithm::ES256, "unknown", soon);
        assert_eq!(verdict(&provider, &token, soon).await, Err(TokenError::UnknownKey));
        assert_eq!(server.requests(), 1 + round as usize, "not even 29 s later");
    }
}

#[tokio::test]
async fn rotation_is_found_without_ids_too() {
    let mut stranger = jwk(Algorithm::ES256, "");
    let point = &aws_lc_rs::signature::KeyPair::public_key(&*forge::STRANGER).as_ref()[1..];
    stranger["x"] = b64(&point[..32]).into();
    stranger["y"] = b64(&point[32..]).into();
    let server = Server::start(set_of(&[stranger]));
    let (store, now) = (store(), Moment::now());
    let provider = provider_of(&store, &server.url());
    let token = good(Algorithm::ES256, None, now.unix);
    assert_eq!(verdict(&provider, &token, now).await, Err(TokenError::Signature));
    server.set(es256());
    let later = now.after(Duration::from_secs(30));
    assert_eq!(verdict(&provider, &token, later).await, Ok(()));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn nothing_is_fetched_for_tokens_that_are_refused_anyway() {
    let server = Server::start(es256());
    let (store, now) = (store(), Moment::now());
    let provider = provider_of(&store, &server.url());
    for (name, value) in [
        ("exp", json!(now.unix - 100)),
        ("aud", json!("x")),
        ("iss", json!("x")),
        ("sub", json!("")),
        ("nbf", json!(now.unix + 100)),
    ] {
        let mut all = claims(now.unix);
        all[name] = value;
        let token = token(Algorithm::ES256, r#"{"alg":"ES256","kid":"?"}"#, &all.to_string());
        assert!(verdict(&provider, &token, now).await.is_err(), "{name}");
    }
    let other = good(Algorithm::PS256, None, now.unix);
    assert_eq!(verdict(&provider, &other, now).await, Err(TokenError::Algorithm));
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn g4_keys_in_the_token_are_not_looked_at() {
    let sink = Server::start(es256());
    let provider = forge::provider(&[Algorithm::ES256]);
    let now = Moment::now();
    let (random, stranger) = (aws_lc_rs::rand::SystemRandom::new(), &*forge::STRANGER);
    let point = &aws_lc_rs::signature::KeyPair::public_key(stranger).as_ref()[1..];
    let own_key = json!({"kty": "EC", "crv": "P-256", "x": b64(&point[..32]), "y": b64(&point[32..])});
    for (name, value) in [
        ("jwk", own_key),
        ("jku", json!(sink.url())),
        ("x5u", json!(sink.url())),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
        ("kid", json!(sink.url())),
    ] {
        let header = json!({"alg": "ES256", name: value}).to_string();
        let input = format!("{}.{}", b64(&header), b64(claims(now.unix).to_string()));
        let forged = format!("{input}.{}", b64(stranger.sign(&random, input.as_bytes()).unwrap()));
        assert_eq!(verdict(&provider, &forged, now).await, Err(TokenError::Signature), "{name}");
        let honest = format!("{input}.{}", b64(signature(Algorithm::ES256, input.as_bytes())));
        assert_eq!(verdict(&provider, &honest, now).await, Ok(()), "{name}");
    }
    assert_eq!(sink.requests(), 0);
}

/// What a set may hold that must not be believed.
#[tokio::test]
async fn g2_g12_unusable_keys_of_a_set_are_left_out() {
    let with = |mut key: Value, name: &str, value: Value| {
        key[name] = value;
        key
    };
    let es = || jwk(Algorithm::ES256, "k1");
    let rsa = || jwk(Algorithm::RS256, "k1");
    let now = Moment::now();
    let secret = json!({"kty": "oct", "kid": "k1", "k": b64(forge::SECRET)});
    let cases = [
        (secret.clone(), Algorithm::HS256, false),
        (with(secret, "alg", json!("HS256")), Algorithm::HS256, false),
        (es(), Algorithm::ES256, true),
        (with(es(), "use", json!("sig")), Algorithm::ES256, true),
        (with(es(), "use", json!("enc")), Algorithm::ES256, false),
        (with(es(), "use", json!(["sig"])), Algorithm::ES256, false),
        (with(es(), "key_ops", json!(["verify"])), Algorithm::ES256, true),
        (with(es(), "key_ops", json!(["encrypt"])), Algorithm::ES256, false),
        (with(es(), "alg", json!("ES256")), Algorithm::ES256, true),
        (with(es(), "alg", json!("ES384")), Algorithm::ES256, false),
        (with(es(), "alg", json!("HS256")), Algorithm::ES256, false),
        (with(es(), "alg", json!("none")), Algorithm::ES256, false),
        (with(es(), "crv", json!("P-384")), Algorithm::ES256, false),
        (with(es(), "crv", json!("secp256k1")), Algorithm::ES256, false),
        (with(es(), "x", json!(b64([1; 32]))), Algorithm::ES256, false),
        (with(es(), "d", json!("AA")), Algorithm::ES256, false),
        (with(es(), "kid", json!(1)), Algorithm::ES256, false),
        (rsa(), Algorithm::RS256, true),
        (with(rsa(), "alg", json!("PS256")), Algorithm::RS256, false),
        (with(rsa(), "e", json!("AQ")), Algorithm::RS256, false),
        (with(rsa(), "e", json!("Ag")), Algorithm::RS256, false),
        (with(rsa(), "n", json!(b64([0xff; 64]))), Algorithm::RS256, false),
        (with(rsa(), "n", json!(b64([0xff; 128]))), Algorithm::RS256, false),
        (with(rsa(), "n", json!("=")), Algorithm::RS256, false),
        (jwk(Algorithm::EdDSA, "k1"), Algorithm::EdDSA, true),
        (with(jwk(Algorithm::EdDSA, "k1"), "crv", json!("Ed448")), Algorithm::EdDSA, false),
        (with(jwk(Algorithm::EdDSA, "k1"), "x", json!(b64([0; 32]))), Algorithm::EdDSA, false),
        (json!("x"), Algorithm::ES256, false),
    ];
    // Beside a good key, so that the set as a whole is usable.
    let other = jwk(Algorithm::ES384, "other");
    let server = Server::start(es256());
    for (key, algorithm, usable) in cases {
        server.set(set_of(&[key.clone(), other.clone()]));
        let provider = provider_of(&store(), &server.url());
        let verdict = verdict(&provider, &bearer(algorithm, "k1", now), now).await;
        assert_eq!(verdict, if usable { Ok(()) } else { Err(TokenError::UnknownKey) }, "{key}");
    }
}

#[tokio::test]
async fn g3_ids_that_stand_twice_are_each_tried_and_nameless_tokens_only_with_a_few() {
    let now = Moment::now();
    let mut stranger = jwk(Algorithm::ES256, "k1");
    let point = &aws_lc_rs::signature::KeyPair::public_key(&*forge::STRANGER).as_ref()[1..];
    stranger["x"] = b64(&point[..32]).into();
    stranger["y"] = b64(&point[32..]).into();
    let server = Server::start(set_of(&[stranger.clone(), jwk(Algorithm::ES256, "k1")]));
    let provider = provider_of(&store(), &server.url());
    assert_eq!(verdict(&provider, &bearer(Algorithm::ES256, "k1", now), now).await, Ok(()));
    assert_eq!(verdict(&provider, &good(Algorithm::ES256, None, now.unix), now).await, Ok(()));
    let mut many = vec![stranger; 4];
    many.push(jwk(Algorithm::ES256, "k1"));
    server.set(set_of(&many));
    let provider = provider_of(&store(), &server.url());
    let nameless = verdict(&provider, &good(Algorithm::ES256, None, now.unix), now).await;
    assert_eq!(nameless, Err(TokenError::Signature), "the fifth key is not tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g12_ten_thousand_misses_are_one_fetch() {
    let server = Server::start(es256());
    let (store, now) = (store(), Moment::now());
    let provider = provider_of(&store, &server.url());
    let token: Arc<str> = bearer(Algorithm::ES256, "k1", now).into();
    let tasks: Vec<_> = (0..10_000)
        .map(|_| {
            let (provider, token) = (Arc::clone(&provider), Arc::clone(&token));
            tokio::spawn(async move { provider.verify(&token, now).await.is_ok() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(server.requests(), 1);
}

#[test]
fn runtimes_share_a_fetch_and_survive_each_other() {
    let server = Server::start(Answer::Silence);
    let (store, now) = (store(), Moment::now());
    let provider = provider_of(&store, &server.url());
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The runtime on which the fetch runs goes away in the middle of it.
    let doomed = runtime();
    let waiting = doomed.spawn({
        let provider = Arc::clone(&provider);
        async move { provider.warm_up(now).await }
    });
    doomed.block_on(async {
        while server.requests() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(!waiting.is_finished());
    drop(doomed);
    assert_eq!(store.status(now.steady)[0].error.as_deref(), Some("was abandoned"));
    // The next ones, each on a thread of its own, share one fetch.
    server.set(es256());
    let later = now.after(Duration::from_secs(2));
    let token: Arc<str> = bearer(Algorithm::ES256, "k1", later).into();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (provider, token) = (Arc::clone(&provider), Arc::clone(&token));
            std::thread::spawn(move || runtime().block_on(provider.verify(&token, later)).is_ok())
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn static_keys_serve_while_the_set_is_away() {
    let server = Server::start(Answer::Status(500, None));
    let (store, now) = (store(), Moment::now());
    let mut settings = forge::settings(&[Algorithm::EdDSA, Algorithm::ES256]);
    settings.keys = vec![forge::public_key(Algorithm::EdDSA)];
    settings.jwks = Some(JwksSource::Url { url: server.url(), allow_http_loopback: true });
    let provider = Provider::new(settings, &store).unwrap();
    assert_eq!(verdict(&provider, &good(Algorithm::EdDSA, None, now.unix), now).await, Ok(()));
    assert_eq!(server.requests(), 0);
    let other = verdict(&provider, &good(Algorithm::ES256, None, now.unix), now).await;
    assert_eq!(other, Err(TokenError::KeysUnavailable));
    assert_eq!(provider.issuer(), ISSUER);
}
