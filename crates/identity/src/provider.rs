//! An identity provider: whose tokens are believed, and under what conditions.

use crate::jwks::{self, MAX_SET, Origin, SetError};
use crate::keys::{KeySet, Proof, StaticKey, VerificationKey};
use crate::recall::{self, Believed, ProviderId, Times};
use crate::store::{Freshness, Held, KeyStore, RemoteKeys};
use crate::token::Token;
use crate::{Moment, TokenError, fetch};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use portcullis_http::{Principal, PrincipalKind, is_value};
use serde_json::{Map, Value};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where a provider's key set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// A file of the operator's, read when the provider is made. It may hold symmetric keys.
    File(PathBuf),
    /// A URL, fetched when first needed and then kept fresh.
    Url {
        /// `https://…`.
        url: String,
        /// Allows `http://` to `localhost`, 127.0.0.0/8 and `[::1]`, for development.
        allow_http_loopback: bool,
    },
}

/// What makes a [`Provider`].
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// The name by which logs, routes and upstreams know it.
    pub name: String,
    /// The exact `iss` of its tokens (RFC 7519 §4.1.1); no slash is added, no case folded.
    pub issuer: String,
    /// Who we are to it: a token's `aud` must hold one of these exactly (RFC 7519 §4.1.3).
    pub audiences: Vec<String>,
    /// The algorithms its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Keys from the configuration.
    pub keys: Vec<StaticKey>,
    /// A set of keys in a file or at a URL, besides those.
    pub jwks: Option<JwksSource>,
    /// How far the issuer's clock may be off.
    pub skew: Duration,
    /// The `typ` tokens must have, such as `at+jwt` (RFC 9068 §2.1). Without it, `JWT`, `at+jwt` and none are
    /// taken, and what says it is something else (`dpop+jwt`, `logout+jwt`) is not (RFC 8725 §3.11).
    pub required_typ: Option<String>,
    /// The claim that holds the scopes: a list joined by spaces (RFC 8693 §4.2), or an array. May be a dotted
    /// path.
    pub scope_claim: String,
    /// The claim that holds the roles: one as a string, or an array. May be a dotted path.
    pub roles_claim: String,
    /// A remote key set older than this is fetched anew in the background.
    pub refresh: Duration,
    /// A remote key set older than this is not used any more, though its source be down.
    pub max_stale: Duration,
}

impl ProviderSettings {
    /// Settings with the usual values: 60 s of skew, claims `scope` and `roles`, sets refreshed every 5 min
    /// and used for 24 h at most when their source is down. Keys, audiences and algorithms are still missing.
    #[must_use]
    pub fn new(name: impl Into<String>, issuer: impl Into<String>) -> Self {
        ProviderSettings {
            name: name.into(),
            issuer: issuer.into(),
            audiences: Vec::new(),
            algorithms: Vec::new(),
            keys: Vec::new(),
            jwks: None,
            skew: Duration::from_secs(60),
            required_typ: None,
            scope_claim: "scope".into(),
            roles_claim: "roles".into(),
            refresh: Duration::from_secs(5 * 60),
            max_stale: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What is wrong with a provider's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    /// The provider's name.
    pub provider: String,
    /// The field of [`ProviderSettings`] that is wrong, such as `audiences` or `keys`.
    pub setting: &'static str,
    /// Which of the field's entries, counted from 0, where it is a list.
    pub index: Option<usize>,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProviderError { provider, setting, index, problem } = self;
        match index {
            Some(index) => write!(f, "provider `{provider}`: {setting}[{index}] {problem}"),
            None => write!(f, "provider `{provider}`: {setting} {problem}"),
        }
    }
}

impl std::error::Error for ProviderError {}

/// The state of a provider's keys, for readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// There are keys, and they are as fresh as wanted (always, if they do not come from a URL).
    Fresh,
    /// The set's source fails; a set of this age is used.
    Stale(Duration),
    /// There is no set that may be used: requests that need it get 503.
    Unavailable,
}

/// An identity provider, compiled: verifies tokens without any lock, and without IO unless its remote keys are
/// missing or due.
pub struct Provider {
    id: ProviderId,
    name: String,
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    fixed: KeySet,
    remote: Option<Arc<RemoteKeys>>,
    freshness: Freshness,
    skew: u64,
    required_typ: Option<String>,
    scope_claim: String,
    roles_claim: String,
}

impl Provider {
    /// Checks the settings and compiles them. A [`JwksSource::File`] is read here; a URL is not fetched yet
    /// ([`Provider::warm_up`]).
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn new(settings: ProviderSettings, store: &KeyStore) -> Result<Self, Vec<ProviderError>> {
        let mut errors = Vec::new();
        let mut fail = |setting, index, problem: &str| {
            let provider = settings.name.clone();
            errors.push(ProviderError { provider, setting, index, problem: problem.to_owned() });
        };
        check_texts(&settings, &mut fail);
        let mut keys = Vec::new();
        for (index, key) in settings.keys.iter().enumerate() {
            match VerificationKey::from_static(key, &settings.algorithms) {
                Ok(key) => keys.push(key),
                Err(error) => fail("keys", Some(index), &format!("is {error}")),
            }
        }
        let mut remote = None;
        match &settings.jwks {
            None if settings.keys.is_empty() => fail("keys", None, "is empty, and there is no `jwks` either"),
            None => {}
            Some(JwksSource::File(path)) => match read_file(path, &settings.algorithms) {
                Ok(set) => keys.extend(set),
                Err(problem) => fail("jwks", None, &problem),
            },
            Some(JwksSource::Url { url, allow_http_loopback }) => {
                if settings.algorithms.iter().all(|a| a.family() == AlgorithmFamily::Hmac) {
                    fail("algorithms", None, "are all symmetric, and the keys of a URL never are");
                }
                match fetch::parse_url(url, *allow_http_loopback) {
                    Ok(url) => remote = Some(store.source(url)),
                    Err(problem) => fail("jwks", None, problem),
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Provider {
            id: ProviderId::new(),
            name: settings.name,
            issuer: settings.issuer,
            audiences: settings.audiences,
            algorithms: settings.algorithms,
            fixed: KeySet::new(keys),
            remote,
            freshness: Freshness { refresh: settings.refresh, max_stale: settings.max_stale },
            skew: settings.skew.as_secs(),
            required_typ: settings.required_typ,
            scope_claim: settings.scope_claim,
            roles_claim: settings.roles_claim,
        })
    }

    /// The name by which logs, routes and upstreams know it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether the provider could judge a token now.
    #[must_use]
    pub fn key_status(&self, now: Moment) -> KeyStatus {
        match self.remote.as_ref().map(|remote| remote.age(now.steady)) {
            None => KeyStatus::Fresh,
            Some(Some(age)) if age <= self.freshness.refresh.saturating_mul(2) => KeyStatus::Fresh,
            Some(Some(age)) if age <= self.freshness.max_stale => KeyStatus::Stale(age),
            Some(_) if self.fixed.len() > 0 => KeyStatus::Fresh,
            Some(_) => KeyStatus::Unavailable,
        }
    }

    /// Fetches the remote keys if they are missing or due, so that the first request need not wait.
    pub async fn warm_up(&self, now: Moment) {
        if let Some(remote) = &self.remote {
            remote.obtain(self.freshness, now.steady).await;
        }
    }

    /// Verifies one token.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn verify(&self, token: &str, now: Moment) -> Result<Principal, TokenError> {
        let token = Token::parse(token)?;
        self.judge(&token, now).await?;
        Ok(self.principal(token.claims))
    }

    /// Judges a token: what its header asks for, its signature, its claims. Nothing is fetched for a token
    /// whose claims would be refused anyway.
    ///
    /// Where it is believed, says by which remote keys; `None` where by the provider's own.
    pub(crate) async fn judge(
        &self,
        token: &Token<'_>,
        now: Moment,
    ) -> Result<Option<Arc<Held>>, TokenError> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(TokenError::Algorithm);
        }
        if !is_type(token.typ.as_deref(), self.required_typ.as_deref()) {
            return Err(TokenError::Type);
        }
        let claims = self.check_claims(&token.claims, now.unix);
        let fixed = self.fixed.prove(token);
        match &self.remote {
            Some(remote) if fixed != Proof::Good => {
                // An unsigned claim of having expired decides nothing but whether we go asking for it.
                claims?;
                self.prove_remotely(remote, token, now).await.map(Some)
            }
            _ => {
                fixed.into_result()?;
                claims.map(|()| None)
            }
        }
    }

    async fn prove_remotely(
        &self,
        remote: &Arc<RemoteKeys>,
        token: &Token<'_>,
        now: Moment,
    ) -> Result<Arc<Held>, TokenError> {
        let held = remote.obtain(self.freshness, now.steady).await.ok_or(TokenError::KeysUnavailable)?;
        let proof = held.keys.prove(token);
        // Keys rotate: one that we do not know, or a signature that names no key, may be of a newer set.
        let may_be_newer = proof == Proof::NoKey || (proof == Proof::Bad && token.kid.is_none());
        if may_be_newer && let Some(newer) = remote.look_again(&held, now.steady).await {
            return newer.keys.prove(token).into_result().map(|()| newer);
        }
        proof.into_result().map(|()| held)
    }

    /// The caller whose token was believed before, where it is to be believed still: its times allow it, and the keys
    /// that proved it are those in use.
    pub(crate) async fn recall(&self, token: &[u8], hash: u64, now: Moment) -> Option<Arc<Principal>> {
        let Believed { principal, times, keys } = recall::recall(self.id, hash, token)?;
        self.check_times(times, now.unix).ok()?;
        if let Some(keys) = keys {
            let held = self.remote.as_ref()?.obtain(self.freshness, now.steady).await?;
            if !Arc::ptr_eq(&held, &keys) {
                return None;
            }
        }
        Some(principal)
    }

    /// Remembers a token that was believed, by the keys that [`Provider::judge`] says, and its caller.
    pub(crate) fn remember(
        &self,
        token: &[u8],
        hash: u64,
        principal: &Arc<Principal>,
        keys: Option<Arc<Held>>,
    ) {
        if let Ok(times) = times(&principal.claims) {
            let believed = Believed { principal: Arc::clone(principal), times, keys };
            recall::remember(self.id, hash, token, believed);
        }
    }

    /// RFC 7519 §4.1, with `exp` and `sub` required as RFC 9068 §2.2 has them.
    fn check_claims(&self, claims: &Map<String, Value>, now: u64) -> Result<(), TokenError> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(TokenError::Issuer);
        }
        if !self.is_for_us(claims.get("aud")) {
            return Err(TokenError::Audience);
        }
        // A subject goes to upstreams in a header field: it must be one exactly, or it would be another there.
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() || !is_value(subject.as_bytes()) {
            return Err(TokenError::Subject);
        }
        self.check_times(times(claims)?, now)
    }

    fn check_times(&self, times: Times, now: u64) -> Result<(), TokenError> {
        let Times { expires, not_before, issued } = times;
        if now >= expires.saturating_add(self.skew) {
            return Err(TokenError::Expired);
        }
        let to_come = |time: Option<u64>| time.is_some_and(|time| time > now.saturating_add(self.skew));
        if to_come(not_before) || to_come(issued) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }

    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        let ours =
            |value: &Value| value.as_str().is_some_and(|name| self.audiences.iter().any(|a| a == name));
        match audience {
            Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(ours),
            Some(value) => ours(value),
            None => false,
        }
    }

    /// The caller that proved claims describe.
    pub(crate) fn principal(&self, claims: Map<String, Value>) -> Principal {
        let mut principal = Principal {
            subject: claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned(),
            provider: self.name.clone(),
            kind: PrincipalKind::Token,
            scopes: Vec::new(),
            roles: Vec::new(),
            claims,
        };
        principal.scopes = names(principal.claim(&self.scope_claim), true);
        principal.roles = names(principal.claim(&self.roles_claim), false);
        principal
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("name", &self.name).finish_non_exhaustive()
    }
}

fn check_texts(settings: &ProviderSettings, fail: &mut impl FnMut(&'static str, Option<usize>, &str)) {
    if settings.name.is_empty() || !is_value(settings.name.as_bytes()) {
        fail("name", None, "must be a text without control characters");
    }
    if settings.issuer.is_empty() {
        fail("issuer", None, "is empty; give the exact `iss` of the provider's tokens");
    }
    if settings.audiences.is_empty() {
        fail("audiences", None, "is empty; give the `aud` by which the provider's tokens name this gateway");
    }
    if settings.algorithms.is_empty() {
        fail("algorithms", None, "is empty; give the algorithms the provider signs with, such as RS256");
    }
}

fn read_file(path: &Path, allowed: &[Algorithm]) -> Result<Vec<VerificationKey>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let limit = MAX_SET as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() > MAX_SET {
        return Err(format!("{} is larger than 1 MiB", path.display()));
    }
    let set = jwks::read(&bytes, Origin::File).map_err(|error| format!("{} {error}", path.display()))?;
    let keys = set.into_keys().filter_map(|key| key.restricted(|a| allowed.contains(&a)).ok());
    let keys: Vec<_> = keys.collect();
    if keys.is_empty() {
        return Err(format!("{} {}", path.display(), SetError::NoUsableKey));
    }
    Ok(keys)
}

/// Compares media types as RFC 7515 §4.1.9 has it: without case, `application/` left out.
fn is_type(given: Option<&str>, required: Option<&str>) -> bool {
    let short = |typ: &str| {
        let lower = typ.to_ascii_lowercase();
        lower.strip_prefix("application/").map(str::to_owned).unwrap_or(lower)
    };
    match (given.map(short), required.map(short)) {
        (given, Some(required)) => given.is_some_and(|given| given == required),
        (None, None) => true,
        (Some(given), None) => given == "jwt" || given == "at+jwt",
    }
}

/// 9999-12-31T23:59:59Z: what lies beyond is no date but a mistake, such as milliseconds.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// The times that claims name; `exp` they must.
fn times(claims: &Map<String, Value>) -> Result<Times, TokenError> {
    let expires = time(claims.get("exp"))?.ok_or(TokenError::Time)?;
    Ok(Times { expires, not_before: time(claims.get("nbf"))?, issued: time(claims.get("iat"))? })
}

/// A NumericDate (RFC 7519 §2): a number, perhaps with a fraction, which is dropped.
fn time(claim: Option<&Value>) -> Result<Option<u64>, TokenError> {
    let Some(value) = claim else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return if seconds <= LAST_SECOND as u64 { Ok(Some(seconds)) } else { Err(TokenError::Time) };
    }
    match value.as_f64() {
        Some(seconds) if (0.0..=LAST_SECOND).contains(&seconds) => Ok(Some(seconds as u64)),
        _ => Err(TokenError::Time),
    }
}

/// Names in a claim: an array, or a string, which is a list joined by spaces if `joined` and else one name (the
/// role `billing admin` does not make an `admin`). Of any other form there are none, which allows nothing.
fn names(claim: Option<&Value>, joined: bool) -> Vec<String> {
    match claim {
        Some(Value::String(list)) if joined => {
            list.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
