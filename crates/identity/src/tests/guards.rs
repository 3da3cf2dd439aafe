//! The two guards on exchanges, without sockets.

use super::forge::{self, claims, good, token};
use crate::{
    Algorithm, Authenticator, Authorizer, AuthorizerError, AuthorizerSettings, ClaimRule, InvalidRealm,
    Moment,
};
use portcullis_http::{
    AuthFailure, Client, ClientAddress, Exchange, Guard as _, Host, Malformed, Method, Principal, Rejection,
    RequestHead, RequestId, Scheme, Target, TraceContext, Version,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn exchange(fields: &[(&str, &str)]) -> Exchange {
    let mut head = RequestHead::default();
    head.set_line(b"GET", b"/?access_token=x", Version::Http11);
    assert_eq!(head.method, Method::Get);
    for (name, value) in fields {
        head.fields.append(name, value).unwrap();
    }
    let peer = "127.0.0.1:1".parse().unwrap();
    let client = Client {
        peer,
        local: peer,
        address: ClientAddress { ip: peer.ip(), peer_trusted: false },
        scheme: Scheme::Https,
        server_name: None,
        certificate: None,
        listener: "public".into(),
    };
    let trace = TraceContext::continue_from(None, false);
    let target = Target::parse(b"/?access_token=x").unwrap();
    Exchange::new(head, target, Host::default(), client, RequestId::random(), trace)
}

fn guard(required: bool) -> Authenticator {
    let provider = Arc::new(forge::provider(&[Algorithm::EdDSA]));
    Authenticator::new([provider], required, "api").unwrap()
}

fn check(guard: &Authenticator, fields: &[(&str, &str)]) -> Result<Option<Arc<Principal>>, Rejection> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut exchange = exchange(fields);
    runtime.block_on(guard.check(&mut exchange)).map(|()| exchange.principal)
}

/// A token that is recalled because it was believed a moment ago is judged by its times as before.
#[tokio::test]
async fn g6_a_token_that_was_believed_expires() {
    let now = Moment::now();
    let guard = guard(true);
    let bearer = format!("Bearer {}", good(Algorithm::EdDSA, None, now.unix));
    let failure = |outcome: Result<(), Rejection>| match outcome {
        Err(Rejection::Unauthenticated { failure, .. }) => failure,
        other => panic!("{other:?}"),
    };
    for _ in 0..2 {
        let mut exchange = exchange(&[("Authorization", &bearer)]);
        guard.check_at(&mut exchange, now).await.unwrap();
        let first = exchange.principal.clone().unwrap();
        guard.check_at(&mut exchange, now).await.unwrap();
        assert!(Arc::ptr_eq(&first, exchange.principal.as_ref().unwrap()), "it was not taken apart again");
        let later = now.after(Duration::from_secs(300 + 60));
        assert_eq!(failure(guard.check_at(&mut exchange, later).await), AuthFailure::Expired);
        let earlier = Moment { unix: now.unix - 61, ..now };
        assert_eq!(failure(guard.check_at(&mut exchange, earlier).await), AuthFailure::NotYetValid);
        assert!(exchange.principal.is_none());
    }
}

/// Another guard with a provider of the same settings, as a reload makes one, does not rest on what the first believed.
#[tokio::test]
async fn g_what_one_provider_believed_another_does_not() {
    let now = Moment::now();
    let bearer = format!("Bearer {}", good(Algorithm::EdDSA, None, now.unix));
    let mut exchange = exchange(&[("Authorization", &bearer)]);
    guard(true).check_at(&mut exchange, now).await.unwrap();
    let other = Arc::new(forge::provider(&[Algorithm::ES256]));
    let other = Authenticator::new([other], true, "api").unwrap();
    assert!(other.check_at(&mut exchange, now).await.is_err());
}

fn challenge(failure: AuthFailure, rest: &str) -> Rejection {
    Rejection::Unauthenticated { failure, challenge: format!("Bearer realm=\"api\"{rest}") }
}

#[test]
fn g10_exactly_one_bearer_token() {
    let now = Moment::now().unix;
    let good = good(Algorithm::EdDSA, None, now);
    let guard = guard(true);
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer ", "Bearer   "] {
        let caller = check(&guard, &[("Authorization", &format!("{scheme} {good}"))]).unwrap().unwrap();
        assert_eq!((caller.subject.as_str(), caller.provider.as_str()), ("alice", "idp"), "{scheme:?}");
        assert_eq!(caller.scopes, ["a:read", "b:read"]);
        assert_eq!(caller.roles, ["editor"]);
    }
    let bearer = format!("Bearer {good}");
    let twice = Err(Rejection::Malformed(Malformed::Duplicate));
    for fields in [
        &[("Authorization", bearer.as_str()), ("authorization", bearer.as_str())][..],
        &[("Authorization", &bearer), ("Authorization", "Basic eDp5")],
        &[("Authorization", &format!("{bearer}, {bearer}"))],
        &[("Authorization", &format!("{bearer},x"))],
    ] {
        assert_eq!(check(&guard, fields).map(|_| ()), twice);
    }
    let missing = Err(challenge(AuthFailure::Missing, ""));
    for fields in [
        &[][..],
        &[("Authorization", "Basic eDp5")],
        &[("Authorization", &good)],
        &[("Authorization", &format!("Bearer\t{good}"))],
        &[("Authorization", "")],
        &[("Cookie", &format!("access_token={good}"))],
        &[("X-Authorization", &bearer)],
        &[("Proxy-Authorization", &bearer)],
    ] {
        assert_eq!(check(&guard, fields).map(|_| ()), missing, "{fields:?}");
    }
    let malformed = ", error=\"invalid_token\", error_description=\"The access token is malformed\"";
    for value in ["Bearer", "Bearer x y", "Bearer \"x\"", "Bearer é", "Bearer a.b"] {
        let verdict = check(&guard, &[("Authorization", value)]).map(|_| ());
        assert_eq!(verdict, Err(challenge(AuthFailure::Malformed, malformed)), "{value}");
    }
}

#[test]
fn the_challenge_says_what_kind_of_wrong_and_no_more() {
    let now = Moment::now().unix;
    let guard = guard(true);
    for (name, value, failure, description) in [
        ("exp", json!(now - 100), AuthFailure::Expired, "has expired"),
        ("nbf", json!(now + 100), AuthFailure::NotYetValid, "is not valid yet"),
        ("aud", json!("x"), AuthFailure::Invalid, "is invalid"),
        ("iss", json!("https://other.example"), AuthFailure::Invalid, "is invalid"),
    ] {
        let mut all = claims(now);
        all[name] = value;
        let token = token(Algorithm::EdDSA, r#"{"alg":"EdDSA"}"#, &all.to_string());
        let rejection = check(&guard, &[("Authorization", &format!("Bearer {token}"))]).unwrap_err();
        let rest = format!(", error=\"invalid_token\", error_description=\"The access token {description}\"");
        assert_eq!(rejection, challenge(failure, &rest));
        assert_eq!(rejection.status(), 401);
        let mut fields = portcullis_http::Fields::default();
        rejection.write_fields(&mut fields);
        assert!(fields.get_str("www-authenticate").unwrap().starts_with("Bearer realm=\"api\", error="));
    }
}

#[test]
fn an_optional_token_may_be_missing_but_not_bad() {
    let guard = guard(false);
    for fields in [&[][..], &[("Authorization", "Basic eDp5")]] {
        assert!(check(&guard, fields).unwrap().is_none());
    }
    assert_eq!(check(&guard, &[("Authorization", "Bearer a.b.c")]).unwrap_err().status(), 401);
}

#[test]
fn the_issuer_chooses_the_provider_and_each_has_its_own_keys() {
    let now = Moment::now().unix;
    let first = Arc::new(forge::provider(&[Algorithm::EdDSA]));
    let mut settings = forge::settings(&[Algorithm::ES256]);
    settings.name = "second".into();
    settings.keys = vec![forge::public_key(Algorithm::ES256)];
    let same_issuer = Arc::new(forge::make(settings.clone()));
    settings.name = "third".into();
    settings.issuer = "https://third.example".into();
    let third = Arc::new(forge::make(settings));
    let guard = Authenticator::new([first, same_issuer, third], true, "api").unwrap();
    let bearer = |algorithm: Algorithm, issuer: &str| {
        let mut all = claims(now);
        all["iss"] = issuer.into();
        format!("Bearer {}", token(algorithm, &json!({"alg": algorithm}).to_string(), &all.to_string()))
    };
    for (algorithm, issuer, provider) in [
        (Algorithm::EdDSA, forge::ISSUER, Some("idp")),
        (Algorithm::ES256, forge::ISSUER, Some("second")),
        (Algorithm::ES256, "https://third.example", Some("third")),
        (Algorithm::EdDSA, "https://third.example", None),
        (Algorithm::EdDSA, "https://fourth.example", None),
    ] {
        let verdict = check(&guard, &[("Authorization", &bearer(algorithm, issuer))]);
        let name = verdict.ok().flatten().map(|caller| caller.provider.clone());
        assert_eq!(name.as_deref(), provider, "{algorithm:?} {issuer}");
    }
}

#[test]
fn a_guard_forgets_whom_others_named() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut exchange = exchange(&[]);
    exchange.principal = Some(Arc::new(caller(json!({}))));
    runtime.block_on(guard(false).check(&mut exchange)).unwrap();
    assert!(exchange.principal.is_none());
}

#[test]
fn realms_that_would_break_the_challenge_are_refused() {
    for bad in ["a\"b", "a\\b", "a\nb", "ä"] {
        assert_eq!(Authenticator::new([], true, bad).err(), Some(InvalidRealm), "{bad}");
        let authorizer = Authorizer::new(AuthorizerSettings::default(), bad);
        assert_eq!(authorizer.err(), Some(AuthorizerError::Realm), "{bad}");
    }
}

fn caller(extra: Value) -> Principal {
    let mut all = claims(0);
    for (name, value) in extra.as_object().unwrap() {
        all[name] = value.clone();
    }
    let Value::Object(all) = all else { panic!("an object") };
    forge::provider(&[Algorithm::EdDSA]).principal(all)
}

fn status(settings: AuthorizerSettings, caller: Option<Principal>) -> u16 {
    let authorizer = Authorizer::new(settings, "api").unwrap();
    let mut exchange = exchange(&[]);
    exchange.principal = caller.map(Arc::new);
    authorizer.authorize(&exchange).map_or_else(|rejection| rejection.status(), |_permit| 200)
}

fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn conditions_all_hold_or_nobody_passes() {
    let base = AuthorizerSettings::default;
    let claim = |name: &str, any_of: &[&str]| ClaimRule { name: name.into(), any_of: own(any_of) };
    for (settings, expected) in [
        (AuthorizerSettings { scopes: own(&["a:read"]), ..base() }, 200),
        (AuthorizerSettings { scopes: own(&["a:read", "b:read"]), ..base() }, 200),
        (AuthorizerSettings { scopes: own(&["a:read", "c:read"]), ..base() }, 403),
        (AuthorizerSettings { scopes: own(&["A:READ"]), ..base() }, 403),
        (AuthorizerSettings { scopes: own(&["a:"]), ..base() }, 403),
        (AuthorizerSettings { any_scope: own(&["c:read", "b:read"]), ..base() }, 200),
        (AuthorizerSettings { any_scope: own(&["c:read"]), ..base() }, 403),
        (AuthorizerSettings { roles: own(&["admin", "editor"]), ..base() }, 200),
        (AuthorizerSettings { roles: own(&["admin"]), ..base() }, 403),
        (AuthorizerSettings { roles: own(&["editor"]), scopes: own(&["c:read"]), ..base() }, 403),
        (AuthorizerSettings { claims: vec![claim("tenant.id", &["7"])], ..base() }, 200),
        (AuthorizerSettings { claims: vec![claim("tenant.id", &["8"])], ..base() }, 403),
        (AuthorizerSettings { claims: vec![claim("tenant", &["7"])], ..base() }, 403),
        (AuthorizerSettings { claims: vec![claim("amr", &["mfa"])], ..base() }, 200),
        (AuthorizerSettings { claims: vec![claim("verified", &["true"])], ..base() }, 200),
        (AuthorizerSettings { claims: vec![claim("missing", &["", "null"])], ..base() }, 403),
        (AuthorizerSettings { any_caller: true, ..base() }, 200),
        (AuthorizerSettings { audience: Some("api".into()), any_caller: true, ..base() }, 200),
        (AuthorizerSettings { audience: Some("other".into()), any_caller: true, ..base() }, 403),
        (AuthorizerSettings { audience: Some("api".into()), scopes: own(&["a:read"]), ..base() }, 200),
        // Deny by default: an audience alone, or nothing at all, lets nobody pass.
        (AuthorizerSettings { audience: Some("api".into()), ..base() }, 403),
        (base(), 403),
    ] {
        let alice = caller(json!({"tenant": {"id": 7}, "amr": ["pwd", "mfa"], "verified": true}));
        let shown = format!("{settings:?}");
        assert_eq!(status(settings.clone(), Some(alice)), expected, "{shown}");
        assert_eq!(status(settings, None), 401, "{shown}: nobody");
    }
    assert!(Authorizer::new(base(), "api").unwrap().admits_nobody());
    assert!(!Authorizer::open().admits_nobody());
    assert!(Authorizer::open().authorize(&exchange(&[])).is_ok());
}

#[test]
fn a_lack_of_scope_names_the_scopes_and_a_lack_of_role_nothing() {
    let settings = AuthorizerSettings {
        scopes: own(&["c:read"]),
        any_scope: own(&["d", "e"]),
        ..AuthorizerSettings::default()
    };
    let mut exchange = exchange(&[]);
    exchange.principal = Some(Arc::new(caller(json!({}))));
    let rejection = Authorizer::new(settings, "api").unwrap().authorize(&exchange).unwrap_err();
    let expected = "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"c:read d e\"";
    assert_eq!(rejection, Rejection::Forbidden { challenge: Some(expected.into()) });
    let settings = AuthorizerSettings { roles: own(&["admin"]), ..AuthorizerSettings::default() };
    let rejection = Authorizer::new(settings, "api").unwrap().authorize(&exchange).unwrap_err();
    assert_eq!(rejection, Rejection::Forbidden { challenge: None });
}

#[test]
fn conditions_that_cannot_be_written_or_met_are_errors() {
    for scope in ["", "a b", "a\"b", "a\\b", "ä", "a\n"] {
        let settings = AuthorizerSettings { scopes: own(&[scope]), ..AuthorizerSettings::default() };
        let error = Authorizer::new(settings, "api").unwrap_err();
        assert_eq!(error, AuthorizerError::Scope(scope.into()));
    }
    let claims = vec![ClaimRule { name: "tenant".into(), any_of: Vec::new() }];
    let settings = AuthorizerSettings { claims, ..AuthorizerSettings::default() };
    assert_eq!(Authorizer::new(settings, "api").unwrap_err(), AuthorizerError::NoValues("tenant".into()));
}

proptest! {
    #[test]
    fn no_field_value_panics_or_passes(value in "(Bearer |bearer  |)[!-~]{0,40}( [!-~]{0,20})?") {
        let fields = [("Authorization", value.trim())];
        prop_assert!(check(&guard(true), &fields).is_err());
    }
}
