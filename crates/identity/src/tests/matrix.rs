//! Part G of the attack matrix: tokens.

use super::forge::{self, ISSUER, b64, claims, good, token};
use crate::{
    Algorithm, KeyMaterial, MAX_TOKEN, Moment, Provider, Secret, SigningKey, StaticKey, TokenError, mint,
};
use portcullis_http::AuthFailure;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
const T: u64 = 1_800_000_000;

fn at(unix: u64) -> Moment {
    Moment { unix, steady: Instant::now() }
}

fn judge(provider: &Provider, token: &str) -> Result<String, TokenError> {
    judge_at(provider, token, T)
}

fn judge_at(provider: &Provider, token: &str, unix: u64) -> Result<String, TokenError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(provider.verify(token, at(unix))).map(|principal| principal.subject)
}

fn with(name: &str, value: Value) -> String {
    let mut all = claims(T);
    all[name] = value;
    all.to_string()
}

fn without(name: &str) -> String {
    let mut all = claims(T);
    all.as_object_mut().unwrap().remove(name);
    all.to_string()
}

/// A token of these claims with a good signature.
fn signed(claims: &str) -> String {
    token(Algorithm::EdDSA, r#"{"alg":"EdDSA"}"#, claims)
}

/// A token of this header with a good signature.
fn headed(header: &str) -> String {
    token(Algorithm::EdDSA, header, &claims(T).to_string())
}

static ED: LazyLock<Provider> = LazyLock::new(|| forge::provider(&[Algorithm::EdDSA]));

#[test]
fn every_algorithm_verifies_what_it_signed_and_nothing_else() {
    for algorithm in ALL {
        let provider = forge::provider(&[algorithm]);
        let good = good(algorithm, None, T);
        assert_eq!(judge(&provider, &good).as_deref(), Ok("alice"), "{algorithm:?}");
        let (input, _) = good.rsplit_once('.').unwrap();
        let other = forge::signature(algorithm, b"something else");
        assert_eq!(judge(&provider, &format!("{input}.{}", b64(other))), Err(TokenError::Signature));
    }
}

/// RFC 9864 gives `EdDSA` with this curve a name of its own.
#[test]
fn ed25519_by_its_own_name() {
    let token = headed(r#"{"alg":"Ed25519"}"#);
    assert_eq!(judge(&ED, &token).as_deref(), Ok("alice"));
    assert_eq!(crate::parse_algorithm("Ed25519"), Some(Algorithm::EdDSA));
    for none in ["none", "rs256", "ES512", "Ed448", ""] {
        assert_eq!(crate::parse_algorithm(none), None, "{none}");
    }
}

#[test]
fn minted_tokens_verify() {
    for algorithm in ALL {
        let key = match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                SigningKey::from_secret(&Secret::new(forge::SECRET), algorithm)
            }
            _ => SigningKey::from_pem(&Secret::new(forge::private_pem(algorithm)), algorithm),
        };
        let key = key.unwrap();
        let Value::Object(mut claims) = claims(0) else { panic!("an object") };
        claims.insert("exp".into(), 1.into());
        let token = mint(&key, claims, Duration::from_secs(60), at(T)).unwrap();
        assert_eq!(judge(&forge::provider(&[algorithm]), &token).as_deref(), Ok("alice"), "{algorithm:?}");
        assert!(!format!("{key:?}").contains(&String::from_utf8_lossy(forge::SECRET)[..8]));
    }
}

#[test]
fn g1_unsigned_tokens_and_wrong_forms() {
    let body = b64(claims(T).to_string());
    for (header, error) in [
        (r#"{"alg":"none"}"#, TokenError::Algorithm),
        (r#"{"alg":"None"}"#, TokenError::Algorithm),
        (r#"{"alg":"nOnE"}"#, TokenError::Algorithm),
        (r#"{"alg":"eddsa"}"#, TokenError::Algorithm),
        (r#"{"alg":""}"#, TokenError::Algorithm),
        (r#"{"alg":null}"#, TokenError::Header),
        (r#"{"alg":["EdDSA"]}"#, TokenError::Header),
        (r"{}", TokenError::Algorithm),
    ] {
        let header = b64(header);
        assert_eq!(judge(&ED, &format!("{header}.{body}.AAAA")), Err(error));
        for unsigned in [format!("{header}.{body}."), format!("{header}.{body}")] {
            assert_eq!(judge(&ED, &unsigned), Err(TokenError::Form), "{unsigned}");
        }
    }
    let good = good(Algorithm::EdDSA, None, T);
    for form in ["", ".", "..", "...", "a", "a.b", ".a.b", "a..b"] {
        assert_eq!(judge(&ED, form), Err(TokenError::Form), "{form:?}");
    }
    for form in [format!("{good}."), format!("{good}.AA"), format!("{good}.AA.AA"), format!(".{good}")] {
        assert_eq!(judge(&ED, &form), Err(TokenError::Form), "{form:?}");
    }
    let (input, _) = good.rsplit_once('.').unwrap();
    assert_eq!(judge(&ED, &format!("{input}.")), Err(TokenError::Form));
    // RFC 7519 §6.1, the unsecured token as printed there.
    let unsecured = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
    assert_eq!(judge(&ED, unsecured), Err(TokenError::Form));
}

/// A token whose header says `said` but whose signature is an HMAC with the public key's PEM, DER or raw text.
#[test]
fn g2_a_public_key_is_never_a_secret() {
    let pem = forge::public_pem(Algorithm::RS256);
    for algorithms in [&[Algorithm::RS256][..], &[Algorithm::RS256, Algorithm::HS256]] {
        let mut settings = forge::settings(algorithms);
        settings.keys = vec![forge::public_key(Algorithm::RS256)];
        let provider = forge::make(settings);
        let input = format!("{}.{}", b64(r#"{"alg":"HS256"}"#), b64(claims(T).to_string()));
        for secret in [pem.as_bytes(), pem.trim_end().as_bytes()] {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
            let mac = aws_lc_rs::hmac::sign(&key, input.as_bytes());
            assert!(judge(&provider, &format!("{input}.{}", b64(mac))).is_err());
        }
    }
    let mut settings = forge::settings(&[Algorithm::HS256]);
    let material = KeyMaterial::Secret(Secret::new(pem));
    settings.keys = vec![StaticKey { kid: None, algorithm: None, material }];
    let store = crate::KeyStore::new(None).unwrap();
    let errors = Provider::new(settings, &store).unwrap_err();
    assert!(errors[0].problem.contains("PEM, but configured as a shared secret"), "{}", errors[0]);
}

#[test]
fn g2_algorithms_do_not_mix() {
    use Algorithm::*;
    let all = forge::provider(&[RS256, ES256, EdDSA]);
    for (signed_as, says) in [
        (PS256, "RS256"),
        (RS256, "PS256"),
        (RS384, "RS256"),
        (RS256, "RS384"),
        (ES256, "ES384"),
        (ES384, "ES256"),
        (ES384, "ES384"),
        (PS256, "PS256"),
        (HS256, "HS256"),
        (EdDSA, "ES256"),
        (ES256, "EdDSA"),
    ] {
        let token = token(signed_as, &json!({"alg": says}).to_string(), &claims(T).to_string());
        assert!(judge(&all, &token).is_err(), "{signed_as:?} as {says}");
    }
    // A key that is pinned to RS256 does not verify PS256, though the provider allows it.
    let mut settings = forge::settings(&[RS256, PS256]);
    settings.keys = vec![StaticKey { algorithm: Some(RS256), ..forge::public_key(RS256) }];
    let pinned = forge::make(settings);
    assert!(judge(&pinned, &good(RS256, None, T)).is_ok());
    assert_eq!(judge(&pinned, &good(PS256, None, T)), Err(TokenError::UnknownKey));
}

#[test]
fn g3_key_ids_are_compared_and_nothing_else() {
    let mut settings = forge::settings(&[Algorithm::EdDSA]);
    settings.keys = vec![StaticKey { kid: Some("k1".into()), ..forge::public_key(Algorithm::EdDSA) }];
    let provider = forge::make(settings);
    for (kid, good) in [
        (json!("k1"), true),
        (json!("K1"), false),
        (json!("k1 "), false),
        (json!("../../dev/null"), false),
        (json!("k1' OR '1'='1"), false),
        (json!("https://evil.example/key"), false),
        (json!("x".repeat(4000)), false),
        (json!(""), false),
        (json!(1), false),
        (json!(["k1"]), false),
        (json!(null), false),
    ] {
        let token = headed(&json!({"alg": "EdDSA", "kid": kid}).to_string());
        assert_eq!(judge(&provider, &token).is_ok(), good, "{kid}");
    }
    assert!(judge(&provider, &headed(r#"{"alg":"EdDSA"}"#)).is_ok(), "a token need not name its key");
}

#[test]
fn g5_g11_what_is_not_understood_is_refused() {
    for extra in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":["b64"],"b64":false"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
        r#""enc":"A128GCM""#,
        r#""cty":"JWT""#,
        r#""kid":{}"#,
        r#""typ":1"#,
    ] {
        let token = headed(&format!(r#"{{"alg":"EdDSA",{extra}}}"#));
        assert_eq!(judge(&ED, &token), Err(TokenError::Header), "{extra}");
    }
    let good = good(Algorithm::EdDSA, None, T);
    let sd_jwt = format!("{good}~WyJzYWx0IiwiYSIsMV0~");
    assert_eq!(judge(&ED, &sd_jwt), Err(TokenError::Encoding));
    let jwe = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.AA.AA.AA.AA";
    assert_eq!(judge(&ED, jwe), Err(TokenError::Form));
}

#[test]
fn g6_zero_signatures_and_weak_keys() {
    let provider = forge::provider(&[Algorithm::ES256]);
    let input = format!("{}.{}", b64(r#"{"alg":"ES256"}"#), b64(claims(T).to_string()));
    // n of P-256: r and s must be below it.
    let n = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let zero = [0; 32];
    for (r, s) in [(zero, zero), (n, zero), (zero, n), (n, n), ([0xff; 32], [0xff; 32])] {
        let signature = b64([r, s].concat());
        assert_eq!(judge(&provider, &format!("{input}.{signature}")), Err(TokenError::Signature));
    }
    let good = forge::signature(Algorithm::ES256, input.as_bytes());
    for wrong in [&good[..63], &good[1..], &[good.as_slice(), &[0]].concat(), &[0; 128]] {
        assert_eq!(judge(&provider, &format!("{input}.{}", b64(wrong))), Err(TokenError::Signature));
    }
}

#[test]
fn g7_one_encoding_only() {
    let good = good(Algorithm::ES256, None, T);
    let provider = forge::provider(&[Algorithm::ES256]);
    assert!(judge(&provider, &good).is_ok());
    let (input, signature) = good.rsplit_once('.').unwrap();
    // 64 bytes are 86 characters, of which the last has two bits that encode nothing.
    let last = signature.chars().last().unwrap();
    let tail = match last {
        'A' => 'B',
        'Q' => 'R',
        'g' => 'h',
        _ => 'x',
    };
    let with_tail = format!("{}{tail}", &signature[..signature.len() - 1]);
    for signature in [
        format!("{signature}=="),
        format!("{signature}="),
        format!("{signature}\n"),
        format!(" {signature}"),
        format!("{}+{}", &signature[..10], &signature[11..]),
        format!("{}/{}", &signature[..10], &signature[11..]),
        with_tail,
    ] {
        assert_eq!(
            judge(&provider, &format!("{input}.{signature}")),
            Err(TokenError::Encoding),
            "{signature}"
        );
    }
    let long = "[".repeat(1000) + &"]".repeat(1000);
    for claims in [
        claims(T).to_string().replacen('{', r#"{"sub":"root","#, 1),
        claims(T).to_string().replacen('{', r#"{"s\u0075b":"root","#, 1),
        claims(T).to_string().replacen('{', r#"{"x":NaN,"#, 1),
        claims(T).to_string().replacen('{', &format!(r#"{{"x":{long},"#), 1),
        format!("{} x", claims(T)),
        "[]".into(),
        "\"x\"".into(),
    ] {
        assert_eq!(judge(&ED, &signed(&claims)), Err(TokenError::Json), "{claims}");
    }
    assert_eq!(judge(&ED, &headed(r#"{"alg":"EdDSA","alg":"none"}"#)), Err(TokenError::Json));
    assert_eq!(judge(&ED, &headed(r#"{"alg":"none","alg":"EdDSA"}"#)), Err(TokenError::Json));
    let input = format!("{}.{}", b64(r#"{"alg":"EdDSA"}"#), b64(b"{\"sub\":\"\xff\"}"));
    let signature = b64(forge::signature(Algorithm::EdDSA, input.as_bytes()));
    assert_eq!(judge(&ED, &format!("{input}.{signature}")), Err(TokenError::Json));
}

#[test]
fn g8_times() {
    for (name, value) in [
        ("exp", json!("1800000300")),
        ("exp", json!(-1)),
        ("exp", json!(9_223_372_036_854_775_808_u64)),
        ("exp", json!(1e308)),
        ("exp", json!(-1e308)),
        ("exp", json!(1_800_000_300_000_u64)),
        ("exp", json!(null)),
        ("exp", json!([1_800_000_300])),
        ("exp", json!(true)),
        ("nbf", json!("0")),
        ("nbf", json!(-1)),
        ("iat", json!("0")),
        ("iat", json!(1e308)),
    ] {
        assert_eq!(judge(&ED, &signed(&with(name, value.clone()))), Err(TokenError::Time), "{name} {value}");
    }
    assert_eq!(judge(&ED, &signed(&without("exp"))), Err(TokenError::Time));
    assert!(judge(&ED, &signed(&without("iat"))).is_ok());
    assert!(
        judge(&ED, &signed(&with("exp", json!(1_800_000_300.5)))).is_ok(),
        "NumericDate may have a fraction"
    );
    let token = signed(&with("exp", json!(T + 300)));
    for (now, expected) in [
        (T + 299, Ok("alice".to_owned())),
        (T + 300, Ok("alice".to_owned())),
        (T + 359, Ok("alice".to_owned())),
        (T + 360, Err(TokenError::Expired)),
        (T + 361, Err(TokenError::Expired)),
        (u64::MAX, Err(TokenError::Expired)),
    ] {
        assert_eq!(judge_at(&ED, &token, now), expected, "{now}");
    }
    for name in ["nbf", "iat"] {
        assert!(judge(&ED, &signed(&with(name, json!(T + 60)))).is_ok(), "{name}");
        assert_eq!(judge(&ED, &signed(&with(name, json!(T + 61)))), Err(TokenError::NotYetValid), "{name}");
        assert!(judge(&ED, &signed(&with(name, json!(0)))).is_ok(), "{name}");
    }
}

#[test]
fn g9_audience_issuer_subject() {
    for (audience, good) in [
        (json!("api"), true),
        (json!(["x", "api"]), true),
        (json!(["other"]), true),
        (json!("API"), false),
        (json!("api "), false),
        (json!("api,x"), false),
        (json!(""), false),
        (json!([]), false),
        (json!(["x"]), false),
        (json!(["api", 1]), false),
        (json!([["api"]]), false),
        (json!({"api": true}), false),
        (json!(null), false),
    ] {
        let verdict = judge(&ED, &signed(&with("aud", audience.clone())));
        assert_eq!(verdict.is_ok(), good, "{audience}");
        assert!(good || verdict == Err(TokenError::Audience), "{audience}");
    }
    assert_eq!(judge(&ED, &signed(&without("aud"))), Err(TokenError::Audience));
    for issuer in [
        json!(format!("{ISSUER}/")),
        json!(ISSUER.to_uppercase()),
        json!("http://issuer.example"),
        json!([ISSUER]),
        json!(""),
        json!(null),
    ] {
        assert_eq!(judge(&ED, &signed(&with("iss", issuer.clone()))), Err(TokenError::Issuer), "{issuer}");
    }
    assert_eq!(judge(&ED, &signed(&without("iss"))), Err(TokenError::Issuer));
    for subject in
        [json!(""), json!(1), json!(null), json!("root\n"), json!(" root"), json!("a\r\nX-Admin: 1")]
    {
        assert_eq!(judge(&ED, &signed(&with("sub", subject.clone()))), Err(TokenError::Subject), "{subject}");
    }
    assert_eq!(judge(&ED, &signed(&without("sub"))), Err(TokenError::Subject));
}

#[test]
fn g9_types() {
    let mut settings = forge::settings(&[Algorithm::EdDSA]);
    settings.keys = vec![forge::public_key(Algorithm::EdDSA)];
    settings.required_typ = Some("at+jwt".into());
    let strict = forge::make(settings);
    for (typ, by_default, when_required) in [
        ("JWT", true, false),
        ("jwt", true, false),
        ("at+jwt", true, true),
        ("application/at+JWT", true, true),
        ("application/application/at+jwt", false, false),
        ("dpop+jwt", false, false),
        ("logout+jwt", false, false),
        ("secevent+jwt", false, false),
        ("JOSE", false, false),
        ("", false, false),
    ] {
        let token = headed(&json!({"alg": "EdDSA", "typ": typ}).to_string());
        for (provider, good) in [(&*ED, by_default), (&strict, when_required)] {
            let expected = if good { Ok("alice".to_owned()) } else { Err(TokenError::Type) };
            assert_eq!(judge(provider, &token), expected, "{typ}");
        }
    }
    assert_eq!(judge(&strict, &headed(r#"{"alg":"EdDSA"}"#)), Err(TokenError::Type));
}

#[test]
fn g10_long_tokens_are_not_looked_at() {
    let fill = |size: usize| signed(&with("x", "x".repeat(size).into()));
    let at_limit = (5000..6200).map(fill).find(|token| token.len() >= MAX_TOKEN - 2).unwrap();
    assert!(at_limit.len() <= MAX_TOKEN);
    assert!(judge(&ED, &at_limit).is_ok());
    for size in [6200, 100_000, 10_000_000] {
        assert_eq!(judge(&ED, &fill(size)), Err(TokenError::TooLong));
    }
}

#[test]
fn scopes_and_roles_are_read_from_configured_claims() {
    let mut settings = forge::settings(&[Algorithm::EdDSA]);
    settings.keys = vec![forge::public_key(Algorithm::EdDSA)];
    settings.scope_claim = "scp".into();
    settings.roles_claim = "realm_access.roles".into();
    let provider = forge::make(settings);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (scp, roles, scopes, expected) in [
        (json!("a  b"), json!(["x", "y z"]), &["a", "b"][..], &["x", "y z"][..]),
        (json!(["a", "b"]), json!("billing admin"), &["a", "b"], &["billing admin"]),
        (json!(1), json!({"admin": true}), &[], &[]),
        (json!(["a", 1, null]), json!([["x"]]), &["a"], &[]),
    ] {
        let mut all = claims(T);
        all["scp"] = scp;
        all["realm_access"] = json!({"roles": roles});
        let caller = runtime.block_on(provider.verify(&signed(&all.to_string()), at(T))).unwrap();
        assert_eq!((caller.scopes, caller.roles), (own(scopes), own(expected)));
    }
}

fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn what_the_caller_learns() {
    for (error, failure) in [
        (TokenError::Form, Some(AuthFailure::Malformed)),
        (TokenError::Signature, Some(AuthFailure::Invalid)),
        (TokenError::UnknownKey, Some(AuthFailure::Invalid)),
        (TokenError::Expired, Some(AuthFailure::Expired)),
        (TokenError::NotYetValid, Some(AuthFailure::NotYetValid)),
        (TokenError::KeysUnavailable, None),
    ] {
        assert_eq!(error.failure(), failure);
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_without_panic(text in "\\PC{0,200}") {
        prop_assert!(judge(&ED, &text).is_err());
    }

    #[test]
    fn arbitrary_parts_are_refused_without_panic(
        header in proptest::collection::vec(any::<u8>(), 1..60),
        body in proptest::collection::vec(any::<u8>(), 1..60),
        signature in proptest::collection::vec(any::<u8>(), 1..80),
    ) {
        let token = format!("{}.{}.{}", b64(header), b64(body), b64(signature));
        prop_assert!(judge(&ED, &token).is_err());
    }

    #[test]
    fn any_one_byte_changed_is_refused(at in any::<proptest::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        let good = good(Algorithm::EdDSA, None, T);
        let at = at.index(good.len());
        let changed = format!("{}{to}{}", &good[..at], &good[at + 1..]);
        prop_assume!(changed != good);
        prop_assert!(judge(&ED, &good).is_ok(), "proved, and so remembered");
        prop_assert!(judge(&ED, &changed).is_err(), "{changed}");
    }

    #[test]
    fn well_signed_odd_claims_never_panic(
        name in "exp|nbf|iat|aud|iss|sub|scope|roles|x",
        number in any::<f64>(),
        text in any::<String>(),
        which in 0..4,
    ) {
        let value = match which {
            0 => json!(number),
            1 => json!(text),
            2 => json!([text, number]),
            _ => json!({text: number}),
        };
        if let Ok(subject) = judge(&ED, &signed(&with(&name, value))) {
            prop_assert!(!subject.is_empty());
        }
    }
}
